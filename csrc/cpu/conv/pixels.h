// Gather with lanes along the rows of an image, for few results and few images: there lanes over either would idle.
//
// Idea       What a band of output rows reads is copied into a Window (window.h): padding resolved, columns split by
//            stride. So whatever the stride, neighbouring outputs read neighbouring elements through every tap, and the
//            sums of all results run along the window (slide), nothing else is packed.
// Mapping    A thread takes bands (some images, some output rows). Per band and block of channels: fill the window, add
//            to the sums of each phase; `write_band` interleaves the phases in the output at the end.
#pragma once

#include "../parallel.h"
#include "gather.h"
#include "tile.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

constexpr index_t kWindowBytes = 384 << 10;  // per thread, a good part of L2
constexpr index_t kTileBytes = 512 << 10;

// One phase: its lines, its packed weights [channel][tap][result], and where a band keeps its sums.
struct Phase {
  Line rows, columns;
  index_t taps, weights;                                // weights: offset into those of a group
  index_t block, row_pitch, image_pitch, result_pitch;  // offset and pitches in the band's block of sums
  bool flat;                                            // an image is one stretch, garbage between its rows included
};

struct PixelsPlan {
  index_t phases, row_phases, column_phases;
  index_t band_images, band_rows, image_bands, row_bands;  // band_rows counts rows of a phase
  index_t channel_block;
  index_t row_low, row_high, column_low, column_high, most_rows, most_columns;
  index_t row_step, column_step;

  Window window(index_t images, index_t rows) const {
    return make_window(images, rows, most_columns, row_step, row_low, row_high, column_step, column_low, column_high);
  }
};

template <class T>
PixelsPlan plan_pixels(const Gather<T>& job, Phase* phases, int use) {
  PixelsPlan plan = {};
  plan.row_phases = job.row_phases();
  plan.column_phases = job.column_phases();
  plan.phases = plan.row_phases * plan.column_phases;
  bool any = false;
  index_t pixels = 0, taps = 0;
  for (index_t f = 0; f < plan.phases; f++) {
    Phase& phase = phases[f];
    phase.rows = job.row_line(f / plan.column_phases);
    phase.columns = job.column_line(f % plan.column_phases);
    phase.taps = phase.rows.taps * phase.columns.taps;
    phase.weights = taps * job.channels * job.results;
    taps += phase.taps;
    plan.most_rows = max(plan.most_rows, phase.rows.outputs);
    plan.most_columns = max(plan.most_columns, phase.columns.outputs);
    pixels += phase.rows.outputs * phase.columns.outputs;
    plan.row_step = phase.rows.step;
    plan.column_step = phase.columns.step;
    if (!phase.taps) continue;
    plan.row_low = any ? min(plan.row_low, phase.rows.lowest()) : phase.rows.lowest();
    plan.row_high = any ? max(plan.row_high, phase.rows.highest()) : phase.rows.highest();
    plan.column_low = any ? min(plan.column_low, phase.columns.lowest()) : phase.columns.lowest();
    plan.column_high = any ? max(plan.column_high, phase.columns.highest()) : phase.columns.highest();
    any = true;
  }
  plan.channel_block = max(1, job.channels);

  // Rows per band: all, unless the threads need more bands than there are images or the window would not fit the cache.
  auto window_bytes = [&](index_t images, index_t rows) {
    return plan.channel_block * plan.window(images, rows).channel_pitch * static_cast<index_t>(sizeof(T));
  };
  auto sum_bytes = [&](index_t images, index_t rows) {
    return images * rows * pixels / max(1, plan.most_rows) * job.results * static_cast<index_t>(sizeof(T));
  };
  index_t rows = plan.most_rows, planes = job.images * job.groups;
  if (planes < use) rows = max(1, (rows * planes + use - 1) / use);
  while (rows > 1 && plan.phases > 1 && sum_bytes(1, rows) > kTileBytes) rows = (rows + 1) / 2;
  while (window_bytes(1, rows) > kWindowBytes) {  // fewer channels before the halo outgrows the rows
    bool halo = rows <= 4 * (plan.row_high - plan.row_low);
    if (plan.channel_block > 8 && (halo || rows == 1))
      plan.channel_block = (plan.channel_block + 1) / 2;
    else if (rows > 1)
      rows = (rows + 1) / 2;
    else
      break;
  }
  index_t images = 1;
  if (rows == plan.most_rows) {
    while (images * pixels < 600 * plan.phases && images < job.images &&
           window_bytes(images + 1, rows) <= kWindowBytes && sum_bytes(images + 1, rows) <= kTileBytes)
      images++;
    index_t bands = (job.images + images - 1) / max(1, images);
    if (bands > use)
      bands = (bands + use - 1) / use * use;
    else if (planes >= use)
      bands = max(bands, min(job.images, (use + job.groups - 1) / job.groups));
    images = max(1, (job.images + bands - 1) / max(1, bands));
  }
  plan.band_images = images;
  plan.band_rows = max(1, rows);
  plan.image_bands = (job.images + images - 1) / images;
  plan.row_bands = (plan.most_rows + plan.band_rows - 1) / plan.band_rows;
  return plan;
}

// The weights of one group.
template <class T>
void pack_group(const Gather<T>& job, const PixelsPlan& plan, const Phase* phases, index_t group, T* __restrict to) {
  const T* from = job.weights + group * job.results * job.channels * job.kernel();
  for (index_t f = 0; f < plan.phases; f++) {
    const Line &rows = phases[f].rows, &columns = phases[f].columns;
    for (index_t c = 0; c < job.channels; c++)
      for (index_t r = 0; r < rows.taps; r++)
        for (index_t s = 0; s < columns.taps; s++) {
          index_t tap = (rows.first + r * rows.every) * job.column_axis.w + columns.first + s * columns.every;
          for (index_t m = 0; m < job.results; m++)
            *to++ = from[m * job.result_pitch() + c * job.channel_pitch() + tap];
        }
  }
}

// Sums along the window itself, no packing: out[m][i] (pitch out_pitch) for M results and N vectors. weights [channel,
// tap][M].
template <class T, int M, int N>
void slide(const T* __restrict window, index_t channel_pitch, index_t channels, const index_t* __restrict taps,
           index_t count, const T* __restrict weights, const T* __restrict init, bool first, T* __restrict out,
           index_t out_pitch) {
  constexpr int L = lanes<T>;
  Vector<T> sum[M][N];
  TINYGEN_UNROLL
  for (int m = 0; m < M; m++) {
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++)
      sum[m][j] = !first ? load(out + m * out_pitch + j * L) : init ? splat(init[m]) : Vector<T>{};
  }
  for (index_t c = 0; c < channels; c++) {
    for (index_t t = 0; t < count; t++) {
      const T* from = window + taps[t];
      Vector<T> row[N];
      TINYGEN_UNROLL
      for (int j = 0; j < N; j++) row[j] = load(from + j * L);
      TINYGEN_UNROLL
      for (int m = 0; m < M; m++) {
        Vector<T> factor = splat(weights[m]);
        TINYGEN_UNROLL
        for (int j = 0; j < N; j++) sum[m][j] += factor * row[j];
      }
      weights += M;
    }
    window += channel_pitch;
  }
  TINYGEN_UNROLL
  for (int m = 0; m < M; m++) {
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) store(out + m * out_pitch + j * L, sum[m][j]);
  }
}

template <class T>
using SlideFunction = void (*)(const T*, index_t, index_t, const index_t*, index_t, const T*, const T*, bool, T*,
                               index_t);

// slide<T, M, .> for at most `vectors` vectors; `taken` is how many.
template <class T, int M>
SlideFunction<T> pick_slide_width(index_t vectors, index_t* taken) {
  constexpr int most = (kRows * kVectors) / M < 8 ? (kRows * kVectors) / M : 8;  // what leaves the sums in registers
  if (vectors >= most) {
    *taken = most;
    return slide<T, M, most>;
  }
  if constexpr (most > 4)
    if (vectors >= 4) {
      *taken = 4;
      return slide<T, M, 4>;
    }
  if constexpr (most > 2)
    if (vectors >= 2) {
      *taken = 2;
      return slide<T, M, 2>;
    }
  *taken = 1;
  return slide<T, M, 1>;
}

template <class T>
SlideFunction<T> pick_slide(index_t results, index_t vectors, index_t* taken) {
  switch (results) {
    case 1:
      return pick_slide_width<T, 1>(vectors, taken);
    case 2:
      return pick_slide_width<T, 2>(vectors, taken);
    case 3:
      return pick_slide_width<T, 3>(vectors, taken);
#if TINYGEN_VECTOR_BYTES >= 32
    case 4:
      return pick_slide_width<T, 4>(vectors, taken);
    case 5:
      return pick_slide_width<T, 5>(vectors, taken);
#endif
#if TINYGEN_VECTOR_BYTES == 64
    case 6:
      return pick_slide_width<T, 6>(vectors, taken);
    case 7:
      return pick_slide_width<T, 7>(vectors, taken);
#endif
    default:
      return pick_slide_width<T, kRows>(vectors, taken);
  }
}

// The same for any length: `length` is rounded up to whole vectors, which are read and written.
template <class T>
void slide_along(index_t results, const T* window, index_t channel_pitch, index_t channels, const index_t* taps,
                 index_t count, const T* weights, const T* init, bool first, T* out, index_t out_pitch,
                 index_t length) {
  constexpr index_t L = lanes<T>;
  for (index_t i = 0, taken = 0; i < length; i += taken * L)
    pick_slide<T>(results, (length - i + L - 1) / L, &taken)(window + i, channel_pitch, channels, taps, count, weights,
                                                             init, first, out + i, out_pitch);
}

// Copies the sums of a band to their places in the output.
template <class T>
void write_band(const Gather<T>& job, const PixelsPlan& plan, const Phase* phases, const T* __restrict sums,
                index_t group, index_t image, index_t images, index_t j0, index_t j1) {
  constexpr int L = lanes<T>;
  index_t plane = job.out_height * job.out_width;
  for (index_t n = 0; n < images; n++)
    for (index_t m = 0; m < job.results; m++) {
      T* out = job.out + ((image + n) * job.groups * job.results + group * job.results + m) * plane;
      for (index_t fr = 0; fr < plan.row_phases; fr++) {
        const Phase* row = phases + fr * plan.column_phases;
        index_t end = min(j1, row->rows.outputs);
        if (plan.phases == 1 && row->row_pitch == row->columns.outputs) {
          copy_exactly(out + j0 * job.out_width, sums + m * row->result_pitch + n * row->image_pitch,
                       (end - j0) * row->row_pitch);
          continue;
        }
        for (index_t j = j0; j < end; j++) {
          T* to = out + (row->rows.origin + row->rows.spacing * j) * job.out_width;
          auto from = [&](index_t fc) {
            const Phase& phase = row[fc];
            return sums + phase.block + m * phase.result_pitch + n * phase.image_pitch + (j - j0) * phase.row_pitch;
          };
          index_t q = 0;
          if (plan.column_phases == 1) {
            copy_exactly(to, from(0), row->columns.outputs);
            continue;
          }
          if (plan.column_phases == 2) {
            index_t left = row[1].columns.origin < row[0].columns.origin;  // the phase that comes first
            const T *even = from(left), *odd = from(1 - left);
            index_t pairs = min(row[0].columns.outputs, row[1].columns.outputs);
            for (; q + L <= pairs; q += L) {
              Vector<T> a = load(even + q), b = load(odd + q);
              store(to + 2 * q, Shuffles<T>::low(a, b));
              store(to + 2 * q + L, Shuffles<T>::high(a, b));
            }
          }
          for (index_t fc = 0; fc < plan.column_phases; fc++) {
            const T* part = from(fc);
            const Line& columns = row[fc].columns;
            for (index_t i = q; i < columns.outputs; i++) to[columns.origin + columns.spacing * i] = part[i];
          }
        }
      }
    }
}

// One band: `band_images` images from `image` on, rows j0 .. of every phase.
template <class T>
void compute_band(const Gather<T>& job, const PixelsPlan& plan, Phase* phases, const T* packed, index_t group,
                  index_t image, index_t j0) {
  constexpr index_t L = lanes<T>;
  index_t images = min(plan.band_images, job.images - image), j1 = min(j0 + plan.band_rows, plan.most_rows);
  const Window window = plan.window(images, j1 - j0);
  index_t slack = 2 * L;  // whole vectors may reach beyond the last element
  T* copy = static_cast<T*>(scratch(kWindow, (plan.channel_block * window.channel_pitch + slack) * sizeof(T)));
  // Where each phase keeps its sums. Whole vectors are written: rows rounded up, or images in the window's own row
  // pitch where garbage between the rows costs less than ragged vectors.
  index_t size = 0, most_taps = 1;
  for (index_t f = 0; f < plan.phases; f++) {
    Phase& phase = phases[f];
    index_t rows = max(0, min(j1, phase.rows.outputs) - j0);
    index_t step = window.row_step * window.row_pitch, padded = (phase.columns.outputs + L - 1) / L * L;
    phase.flat = step * 4 <= padded * 5;
    phase.row_pitch = phase.flat ? step : padded;
    phase.image_pitch = (rows * phase.row_pitch + L - 1) / L * L;
    phase.result_pitch = images * phase.image_pitch;
    if (phase.result_pitch % 64 < 16) phase.result_pitch += 16;
    phase.block = size;
    size += job.results * phase.result_pitch;
    most_taps = max(most_taps, phase.taps);
  }
  T* sums = static_cast<T*>(scratch(kTile, (size + slack) * sizeof(T)));
  index_t* taps = static_cast<index_t*>(scratch(kTaps, most_taps * sizeof(index_t)));
  const T* bias = job.bias ? job.bias + group * job.results : nullptr;
  index_t channel = 0;
  do {  // at least once: without channels the result is the bias
    index_t channels = min(plan.channel_block, job.channels - channel);
    fill_window(window, copy, job.source, job.images, job.groups * job.channels, job.height, job.width,
                group * job.channels + channel, channels, image, images, j0);
    for (index_t f = 0; f < plan.phases; f++) {
      const Phase& phase = phases[f];
      index_t rows = min(j1, phase.rows.outputs) - j0, columns = phase.columns.outputs;
      if (rows <= 0 || columns <= 0) continue;
      for (index_t r = 0, t = 0; r < phase.rows.taps; r++)
        for (index_t s = 0; s < phase.columns.taps; s++)
          taps[t++] = window.tap(phase.rows.start + r * phase.rows.move, phase.columns.start + s * phase.columns.move);
      const T* weights = packed + phase.weights + channel * phase.taps * job.results;
      index_t length = phase.flat ? (rows - 1) * phase.row_pitch + columns : columns;
      for (index_t n = 0; n < images; n++)
        for (index_t j = 0; j < (phase.flat ? 1 : rows); j++)
          slide_along(job.results, copy + window.pixel(n, j, 0), window.channel_pitch, channels, taps, phase.taps,
                      weights, bias, channel == 0, sums + phase.block + n * phase.image_pitch + j * phase.row_pitch,
                      phase.result_pitch, length);
    }
    channel += channels;
  } while (channel < job.channels);
  write_band(job, plan, phases, sums, group, image, images, j0, j1);
}

template <class T>
void gather_over_pixels(const Gather<T>& job, int use) {
  size_t phase_bytes = job.row_phases() * job.column_phases() * sizeof(Phase);
  Phase* phases = static_cast<Phase*>(scratch(kPhases, phase_bytes));
  const PixelsPlan plan = plan_pixels(job, phases, use);
  index_t weights = job.channels * job.kernel() * job.results;  // of a group
  T* packed = static_cast<T*>(scratch(kPackedWeights, (job.groups * weights + 1) * sizeof(T)));
  index_t bands = plan.image_bands * plan.row_bands, units = job.groups * bands;
  parallel(use, [&](int thread, int all) {
    for (index_t g = job.groups * thread / all; g < job.groups * (thread + 1) / all; g++)
      pack_group(job, plan, phases, g, packed + g * weights);
    barrier(all);
    Phase* own = static_cast<Phase*>(scratch(kOwnPhases, phase_bytes));
    __builtin_memcpy(own, phases, phase_bytes);
    for (index_t u = units * thread / all; u < units * (thread + 1) / all; u++) {
      index_t band = u % bands, group = u / bands;
      compute_band(job, plan, own, packed + group * weights, group, band / plan.row_bands * plan.band_images,
                   band % plan.row_bands * plan.band_rows);
    }
  });
}

}  // namespace
}  // namespace TINYGEN_ISA
}  // namespace tinygen
