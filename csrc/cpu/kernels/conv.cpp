// conv and conv_transpose: one blocked gather-and-multiply for both.
//
// Contract   conv: y[n,k,p] = bias[k] + sum over c,t of x[n, c, stride*p + dilation*t - pad] * w[k,c,t];
// conv_transpose: its
//            adjoint in x, plus bias. NCHW, contiguous, any geometry (groups, dilation, stride, pads, empty axes).
//            Every output is summed in a fixed order, channel blocks outside, whatever the number of threads: results
//            are bit-identical.
// Idea       Both are  out[m, j] = sum over channels, taps of  a[m, (channel, tap)] * source[channel, step*j +
// offset(tap)]:
//            conv with step = stride and one phase; conv_transpose with step 1 and stride^2 phases (sub-pixel
//            positions), each with its own subset of the taps, never inserting a zero. A Line (window.h) is that map
//            along one axis.
// Mapping    Work is cut into bands (some images, some output rows), one contiguous share of them per thread. Per band
// and block
//            of channels: copy what the band reads into a Window (padding resolved, columns split by stride), then sum
//            per phase in one of three ways. Results go straight to the output where a band is one contiguous piece of
//            it, else through a per-thread block that `finish` interleaves. Nothing of size batch x taps ever exists.
// kSpread    Lanes run over output channels, pixels are broadcast from the window, no packing (tile.h, spread); the
// sums are
//            transposed at the end. For short rows, output channels that fill their vectors, a long reduction.
// kPanel     Lanes run over pixels: panels of kVectors * lanes pixels are packed [channel, tap][pixel] from the window
// and
//            multiplied with all output channels (tile.h, tile). For everything else.
// kFew       Lanes run along the window itself, no packing (slide). For at most 4 output channels per group: last layer
//            of a generator, depthwise, gradient of an image. Up to kRows where that leaves few lanes idle.
// Cost       2 * taps * channels flops per output; bytes: source once per band (plus halo), weights once per thread,
// output once.
#include <cstdlib>
#include "cpu/parallel.h"
#include "cpu/conv/exact.h"
#include "cpu/conv/gather.h"
#include "cpu/conv/tile.h"
#include "cpu/conv/window.h"
#include "cpu/table.h"
#include "cpu/vector.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

static index_t knob(const char* name, index_t other) {
  const char* v = getenv(name);
  return v ? atoll(v) : other;
}
enum class Mode { kFew, kPanel, kSpread };

constexpr index_t kFewResults = kRows;  // the most output channels per group that kFew takes
constexpr index_t kPanelDepth = 256;   // (channel, tap) pairs per block, about, so that a panel or (kSpread) a block of
constexpr index_t kSpreadDepth = 128;  // weights stays in L1
constexpr index_t kWindowBytes = 384 << 10;  // per thread, a good part of L2
constexpr index_t kTileBytes = 512 << 10;

// One phase: its lines, its packed weights [block of results][channel, tap][result], and where a band keeps its sums.
struct Phase {
  Line rows, columns;
  index_t taps, weights;                                // weights: offset into the packed ones
  index_t block, row_pitch, image_pitch, result_pitch;  // offset and pitches in the band's block of sums
  index_t pixels;                                       // of the band
  bool flat;  // few results: an image is one stretch, garbage between its rows included
};

// Sizes of the blocks, chosen once per call.
struct OldPlan {
  index_t phases, row_phases, column_phases;
  index_t band_images, band_rows, image_bands, row_bands;  // band_rows counts rows of a phase
  index_t channel_block;
  index_t vectors, block;               // results per block of weights: kRows, few, or (kSpread) vectors * lanes
  index_t result_blocks, result_parts;  // how many such blocks; in how many parts threads share them
  index_t group_weights;                // packed weights of one group
  index_t row_low, row_high, column_low, column_high, most_rows, most_columns;
  index_t row_step, column_step;
  Mode mode;
  bool direct;  // kPanel writes to the output itself
};

// Spreading wins where rows are so short that packing a panel takes many moves, if vectors of results are nearly full
// and the reduction is long enough to pay for the final transposition.
template <class T>
Mode choose_mode(const Gather<T>& job, index_t depth, index_t columns, index_t column_extent) {
  constexpr index_t L = lanes<T>;
  if (knob("K_MODE", 0) == 2) return Mode::kPanel;
  if (knob("K_MODE", 0) == 3) return Mode::kSpread;
  index_t padded = (columns + L - 1) / L * L;
  index_t walked = job.transposed || job.row_axis.stride * job.column_axis.stride == 1
                       ? min(padded, columns + column_extent)
                       : padded;
  if (job.results <= 4 || (job.results <= kFewResults && walked * 3 <= columns * 4)) return Mode::kFew;
  bool full = (job.results + L - 1) / L * L * 7 <= job.results * 8;
  return full && depth >= 64 && columns < 14 ? Mode::kSpread : Mode::kPanel;
}

template <class T>
OldPlan make_old_plan(const Gather<T>& job, Phase* phases, int use) {
  OldPlan plan = {};
  plan.row_phases = job.row_phases();
  plan.column_phases = job.column_phases();
  plan.phases = plan.row_phases * plan.column_phases;
  bool any = false;
  index_t pixels = 0, weights = 0, most_taps = 1;
  for (index_t fr = 0; fr < plan.row_phases; fr++)
    for (index_t fc = 0; fc < plan.column_phases; fc++) {
      Phase& phase = phases[fr * plan.column_phases + fc];
      phase.rows = job.row_line(fr);
      phase.columns = job.column_line(fc);
      phase.taps = phase.rows.taps * phase.columns.taps;
      most_taps = max(most_taps, phase.taps);
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
  plan.mode = choose_mode(job, job.channels * most_taps, plan.most_columns, plan.column_high - plan.column_low);
  plan.vectors = vectors_per_block((job.results + lanes<T> - 1) / lanes<T>);
  plan.block = plan.mode == Mode::kFew ? job.results : plan.mode == Mode::kPanel ? kRows : plan.vectors * lanes<T>;
  plan.result_blocks = (job.results + plan.block - 1) / plan.block;
  for (index_t f = 0; f < plan.phases; f++) {
    phases[f].weights = weights;
    weights += phases[f].taps * job.channels * plan.result_blocks * plan.block;
  }
  plan.group_weights = weights;
  index_t depth = max(1, (plan.mode == Mode::kSpread ? kSpreadDepth : kPanelDepth) / most_taps),
          parts = max(1, (job.channels + depth - 1) / depth);
  plan.channel_block = max(1, (job.channels + parts - 1) / parts);
  if (plan.mode == Mode::kFew) plan.channel_block = max(1, job.channels);

  // Rows per band: all, unless the threads need more bands than there are images or the window would not fit the cache.
  auto window_bytes = [&](index_t images, index_t rows) {
    Window window = make_window(images, rows, plan.most_columns, plan.row_step, plan.row_low, plan.row_high,
                                plan.column_step, plan.column_low, plan.column_high);
    return plan.channel_block * window.channel_pitch * static_cast<index_t>(sizeof(T));
  };
  auto sum_bytes = [&](index_t images, index_t rows) {
    return images * rows * pixels / max(1, plan.most_rows) * job.results * static_cast<index_t>(sizeof(T));
  };
  index_t rows = plan.most_rows, planes = job.images * job.groups;
  if (planes < use) rows = max(1, (rows * planes + use - 1) / use);
  while (rows > 1 && (plan.phases > 1 || plan.mode == Mode::kSpread) && sum_bytes(1, rows) > kTileBytes)
    rows = (rows + 1) / 2;
  while (window_bytes(1, rows) > kWindowBytes) {  // kFew: fewer channels before the halo outgrows the rows
    bool halo = rows <= 4 * (plan.row_high - plan.row_low);
    if (plan.mode == Mode::kFew && plan.channel_block > 8 && (halo || rows == 1))
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
  plan.direct = plan.mode == Mode::kPanel && plan.phases == 1 && images == 1;
  index_t units = plan.image_bands * plan.row_bands * job.groups;
  plan.result_parts =
      units < use && units > 0 && plan.mode != Mode::kFew ? min(plan.result_blocks, (use + units - 1) / units) : 1;
  return plan;
}

// The weights of blocks [begin, end) of all groups, reordered to [block][channel, tap][result of the block], padded
// with zeros.
template <class T>
void pack_weights(const Gather<T>& job, const OldPlan& plan, const Phase* phases, const T* __restrict w,
                  T* __restrict packed, index_t begin, index_t end) {
  index_t kernel = job.kernel(), step_m = job.result_pitch(), step_c = job.channel_pitch();
  T* turned = job.transposed ? static_cast<T*>(scratch(kPanel, kernel * plan.block * sizeof(T))) : nullptr;
  for (index_t block = begin; block < end; block++) {
    index_t g = block / plan.result_blocks, m0 = block % plan.result_blocks * plan.block;
    index_t rows = min(plan.block, job.results - m0);
    const T* from = w + g * job.results * job.channels * kernel + m0 * step_m;
    T* group = packed + g * plan.group_weights;
    if (rows < plan.block)
      for (index_t f = 0; f < plan.phases; f++) {
        index_t depth = job.channels * phases[f].taps;
        T* to = group + phases[f].weights + m0 * depth;
        for (index_t i = 0; i < depth * plan.block; i++) to[i] = 0;
      }
    if (!job.transposed) {
      index_t depth = job.channels * kernel;
      transpose_copy(from, step_m, rows, depth, group + m0 * depth, plan.block);
      continue;
    }
    for (index_t c = 0; c < job.channels; c++) {
      transpose_copy(from + c * step_c, step_m, rows, kernel, turned, plan.block);
      for (index_t f = 0; f < plan.phases; f++) {
        const Phase& phase = phases[f];
        T* to = group + phase.weights + (m0 * job.channels + c * plan.block) * phase.taps;
        for (index_t r = 0; r < phase.rows.taps; r++)
          for (index_t s = 0; s < phase.columns.taps; s++, to += plan.block)
            copy_exactly(to,
                         turned + ((phase.rows.first + r * phase.rows.every) * job.column_axis.w + phase.columns.first +
                                   s * phase.columns.every) *
                                      plan.block,
                         rows);
      }
    }
  }
}

// One vector of consecutive window elements that become consecutive pixels of a panel.
struct Move {
  index_t from, to;
};

// panel[(channel, tap)][pixel], `pitch` pixels a row. Moves copy whole vectors in the order of the pixels: what one
// writes too much is overwritten by the next one or the next row, and the panel has a vector to spare after the last.
template <class T, int Count>
inline void pack_rows(const T* __restrict window, index_t channel_pitch, index_t channels,
                      const index_t* __restrict taps, index_t count, const Move* __restrict moves, int move_count,
                      T* __restrict panel, index_t pitch) {
  int all = Count ? Count : move_count;
  for (index_t c = 0; c < channels; c++, window += channel_pitch)
    for (index_t t = 0; t < count; t++, panel += pitch) {
      const T* from = window + taps[t];
      TINYGEN_UNROLL
      for (int i = 0; i < all; i++) store(panel + moves[i].to, load(from + moves[i].from));
    }
}

template <class T>
inline void pack_panel(const T* window, index_t channel_pitch, index_t channels, const index_t* taps, index_t count,
                       const Move* moves, int move_count, T* panel, index_t pitch) {
  auto* function = move_count == 3 ? pack_rows<T, 3> : move_count == 4 ? pack_rows<T, 4> : pack_rows<T, 0>;
  function(window, channel_pitch, channels, taps, count, moves, move_count, panel, pitch);
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

// Copies the sums of a band (result m0 .. m1 of a group) to their places in the output.
template <class T>
void finish(const Gather<T>& job, const OldPlan& plan, const Phase* phases, const T* __restrict sums, index_t group,
            index_t m0, index_t m1, index_t image, index_t images, index_t j0, index_t j1) {
  constexpr int L = lanes<T>;
  index_t plane = job.out_height * job.out_width;
  for (index_t n = 0; n < images; n++)
    for (index_t m = m0; m < m1; m++) {
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

// One band, result blocks [b0, b1).
template <class T>
void compute_band(const Gather<T>& job, const OldPlan& plan, Phase* phases, const T* packed, index_t group, index_t image,
                  index_t j0, index_t b0, index_t b1) {
  constexpr index_t L = lanes<T>;
  index_t images = min(plan.band_images, job.images - image), j1 = min(j0 + plan.band_rows, plan.most_rows);
  index_t m0 = b0 * plan.block, m1 = min(job.results, b1 * plan.block);
  const Window window = make_window(images, j1 - j0, plan.most_columns, plan.row_step, plan.row_low, plan.row_high,
                                    plan.column_step, plan.column_low, plan.column_high);
  index_t slack = 2 * L;  // whole vectors may reach beyond the last element
  T* copy = static_cast<T*>(scratch(kWindow, (plan.channel_block * window.channel_pitch + slack) * sizeof(T)));

  // Where each phase keeps its sums. Few results: in the window's own row pitch, or rows rounded up to whole vectors.
  index_t size = 0, most_taps = 1, all_pixels = 0, most_pixels = 0;
  for (index_t f = 0; f < plan.phases; f++) {
    Phase& phase = phases[f];
    index_t rows = max(0, min(j1, phase.rows.outputs) - j0), columns = phase.columns.outputs;
    phase.row_pitch = columns;
    phase.image_pitch = rows * columns;
    if (plan.mode == Mode::kFew) {  // whole vectors are written: rows, or images where garbage between rows costs less
                                    // than ragged vectors
      index_t step = window.row_step * window.row_pitch, padded = (columns + L - 1) / L * L;
      phase.flat = step * 4 <= padded * 5;
      phase.row_pitch = phase.flat ? step : padded;
      phase.image_pitch = (rows * phase.row_pitch + L - 1) / L * L;
    }
    phase.result_pitch = images * phase.image_pitch;
    if (phase.result_pitch % 64 < 16) phase.result_pitch += 16;
    phase.block = size;
    size += job.results * phase.result_pitch;
    phase.pixels = images * rows * columns;
    all_pixels += phase.pixels;
    most_pixels = max(most_pixels, phase.pixels);
    most_taps = max(most_taps, phase.taps);
  }
  bool spreading = plan.mode == Mode::kSpread;
  T* sums = plan.direct ? nullptr : static_cast<T*>(scratch(kTile, (size + slack) * sizeof(T)));
  index_t* taps = static_cast<index_t*>(scratch(kTaps, plan.channel_block * most_taps * sizeof(index_t)));
  // kPanel: the panel. kSpread: all sums of the band, [phase][block][pixel][result of the block], and the block's
  // biases.
  index_t panel_size = plan.mode == Mode::kPanel ? plan.channel_block * most_taps * kVectors * L + L
                       : spreading ? all_pixels * plan.result_blocks * plan.block + plan.result_blocks * plan.block
                                   : 0;
  T* panel = static_cast<T*>(scratch(kPanel, panel_size * sizeof(T)));
  const T* bias = job.bias ? job.bias + group * job.results : nullptr;
  index_t* pixel_offsets = nullptr;
  if (spreading) {
    pixel_offsets = static_cast<index_t*>(scratch(kPixelOffsets, most_pixels * sizeof(index_t)));
    for (index_t m = 0; m < plan.result_blocks * plan.block; m++) panel[m] = bias && m < job.results ? bias[m] : T(0);
    bias = panel;
    panel += plan.result_blocks * plan.block;
  }

  index_t channel = 0;
  do {  // at least once: without channels the result is the bias
    index_t channels = min(plan.channel_block, job.channels - channel);
    bool first = channel == 0;
    fill_window(window, copy, job.source, job.images, job.groups * job.channels, job.height, job.width,
                group * job.channels + channel, channels, image, images, j0);
    T* block_sums = panel;  // kSpread
    for (index_t f = 0; f < plan.phases; f++) {
      const Phase& phase = phases[f];
      index_t rows = min(j1, phase.rows.outputs) - j0, columns = phase.columns.outputs;
      if (rows <= 0 || columns <= 0) continue;
      for (index_t r = 0, t = 0; r < phase.rows.taps; r++)
        for (index_t s = 0; s < phase.columns.taps; s++)
          taps[t++] = window.tap(phase.rows.start + r * phase.rows.move, phase.columns.start + s * phase.columns.move);
      const T* weights = packed + group * plan.group_weights + phase.weights;
      if (plan.mode == Mode::kFew) {
        weights += channel * phase.taps * job.results;
        index_t length = phase.flat ? (rows - 1) * phase.row_pitch + columns : columns;
        for (index_t n = 0; n < images; n++)
          for (index_t j = 0; j < (phase.flat ? 1 : rows); j++)
            slide_along(job.results, copy + window.pixel(n, j, 0), window.channel_pitch, channels, taps, phase.taps,
                        weights, bias, first, sums + phase.block + n * phase.image_pitch + j * phase.row_pitch,
                        phase.result_pitch, length);
        continue;
      }
      if (spreading) {
        for (index_t i = phase.taps; i < channels * phase.taps; i++)
          taps[i] = taps[i - phase.taps] + window.channel_pitch;
        index_t p = 0;
        for (index_t n = 0; n < images; n++)
          for (index_t j = 0; j < rows; j++)
            for (index_t q = 0; q < columns; q++) pixel_offsets[p++] = window.pixel(n, j, q);
        for (index_t b = b0; b < b1; b++) {
          const T* factors = weights + (b * job.channels + channel) * phase.taps * plan.block;
          T* to = block_sums + b * p * plan.block;
          for (index_t i = 0, taken = 0; i < p; i += taken)
            pick_spread<T>(p - i, plan.vectors, &taken)(copy, pixel_offsets + i, taps, channels * phase.taps, factors,
                                                        bias + b * plan.block, first, to + i * plan.block);
          if (channel + channels == job.channels)
            transpose_copy(to, plan.block, p, min(plan.block, job.results - b * plan.block),
                           sums + phase.block + b * plan.block * phase.result_pitch, phase.result_pitch);
        }
        block_sums += p * plan.result_blocks * plan.block;
        continue;
      }
      T* out = plan.direct ? job.out + ((image * job.groups + group) * job.results) * job.out_height * job.out_width +
                                 j0 * job.out_width
                           : sums + phase.block;
      index_t pitch = plan.direct ? job.out_height * job.out_width : phase.result_pitch;
      index_t depth = channels * phase.taps, whole_depth = job.channels * phase.taps, pixels = phase.pixels;
      bool joined = window.row_step * window.row_pitch == columns;  // rows follow each other without a gap
      index_t walk_rows = joined ? 1 : rows, walk_columns = joined ? rows * columns : columns;
      index_t n = 0, j = 0, q = 0;  // the pixel that the next panel begins with
      for (index_t p = 0; p < pixels; p += kVectors * L) {
        index_t length = min(kVectors * L, pixels - p), vectors = (length + L - 1) / L;
        // With a single tap and no gap between its pixels a panel lies ready in the window.
        bool ready = phase.taps == 1 && q + length <= walk_columns;
        const T* pixels_of = ready ? copy + taps[0] + window.pixel(n, j, q) : panel;
        index_t panel_pitch = ready ? window.channel_pitch : vectors * L;
        Move moves[kVectors * L];
        int count = 0;
        for (index_t done = 0; done < length;) {
          index_t here = min(walk_columns - q, length - done);
          for (index_t i = 0; i < here; i += L) moves[count++] = {window.pixel(n, j, q) + i, done + i};
          done += here;
          q += here;
          if (q == walk_columns) {
            q = 0;
            if (++j == walk_rows) j = 0, n++;
          }
        }
        if (!ready)
          pack_panel(copy, window.channel_pitch, channels, taps, phase.taps, moves, count, panel, panel_pitch);
        for (index_t b = b0; b < b1; b++) {
          index_t m = b * kRows;
          pick_tile<T>(job.results - m, vectors)(depth, weights + m * whole_depth + channel * phase.taps * kRows,
                                                 pixels_of, panel_pitch, bias ? bias + m : nullptr, first,
                                                 out + m * pitch + p, pitch, length);
        }
      }
    }
    channel += channels;
  } while (channel < job.channels);
  if (!plan.direct) finish(job, plan, phases, sums, group, m0, m1, image, images, j0, j1);
}

template <class T>
void gather(const Gather<T>& job) {
  if (job.images == 0 || job.groups * job.results == 0 || job.out_height == 0 || job.out_width == 0) return;
  index_t phase_count = job.row_phases() * job.column_phases();
  size_t phase_bytes = phase_count * sizeof(Phase);
  Phase* phases = static_cast<Phase*>(scratch(kPhases, phase_bytes));
  int use = threads();
  double flops = 2.0 * job.images * job.groups * job.results * job.channels * job.row_axis.w * job.column_axis.w *
                 job.row_axis.y * job.column_axis.y;
  if (flops < 2e5) use = 1;  // waking the threads would take longer
  if (knob("K_MODE", 1) == 1) return gather_exactly(job, true, use);
  if (knob("K_MODE", 1) == 4) return gather_exactly(job, false, use);
  const OldPlan plan = make_old_plan(job, phases, use);
  T* packed = static_cast<T*>(scratch(kPackedWeights, (job.groups * plan.group_weights + 1) * sizeof(T)));
  index_t blocks = job.groups * plan.result_blocks;
  index_t bands = plan.image_bands * plan.row_bands, units = job.groups * bands * plan.result_parts;
  parallel(use, [&](int thread, int all) {
    pack_weights(job, plan, phases, job.weights, packed, blocks * thread / all, blocks * (thread + 1) / all);
    barrier(all);
    Phase* own = static_cast<Phase*>(scratch(kOwnPhases, phase_bytes));
    __builtin_memcpy(own, phases, phase_bytes);
    for (index_t u = units * thread / all; u < units * (thread + 1) / all; u++) {
      index_t part = u % plan.result_parts, band = u / plan.result_parts % bands, group = u / plan.result_parts / bands;
      compute_band(job, plan, own, packed, group, band / plan.row_bands * plan.band_images,
                   band % plan.row_bands * plan.band_rows, plan.result_blocks * part / plan.result_parts,
                   plan.result_blocks * (part + 1) / plan.result_parts);
    }
  });
}

}  // namespace

TINYGEN_KERNEL(conv, (const Geometry& geo, const T* x, const T* w, const T* bias, T* y)) {
  Gather<T> job = {x, w,         bias,       y,
                   false,      geo.rows,   geo.cols,
                   geo.n,      geo.groups, geo.c / geo.groups,
                   geo.rows.x, geo.cols.x, geo.k / geo.groups,
                   geo.rows.y, geo.cols.y};
  gather(job);
}

TINYGEN_KERNEL(conv_transpose, (const Geometry& geo, const T* y, const T* w, const T* bias, T* x)) {
  Gather<T> job = {y, w,         bias,       x,
                   true,       geo.rows,   geo.cols,
                   geo.n,      geo.groups, geo.k / geo.groups,
                   geo.rows.y, geo.cols.y, geo.c / geo.groups,
                   geo.rows.x, geo.cols.x};
  gather(job);
}

}  // namespace TINYGEN_ISA
}  // namespace tinygen
