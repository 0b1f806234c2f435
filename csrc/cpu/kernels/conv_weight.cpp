// conv_weight: the gradient of a convolution with respect to its weights.
//
// Contract   w[k,c,t] = sum over n,p of x[n, c, stride*p + dilation*t - pad] * y[n,k,p]; NCHW, contiguous, any
// geometry. The order
//            of summation is fixed by the shapes and the number of threads: no atomics, bit-identical results.
// Idea       Lanes run over k. y is transposed to [pixel][k] a band at a time; x is read straight from a Window
// (window.h), one
//            scalar broadcast per (channel, tap) and pixel: no im2col at all. kRows (channel, tap) pairs x up to
//            kVectors vectors of k stay in registers over kPixels pixels (tile.h, spread).
// Few        With at most 4 output channels per group lanes over k would idle: there lanes run along the rows of y and
// x, each
//            (k, channel, tap) is a vector of partial sums, added up at the end (`dots`).
// Mapping    Threads share the bands if the sums are small, each summing for itself; the shares are then added in their
// order.
//            If they are large, threads share the blocks of k (or the groups) instead: their results are disjoint.
// Cost       2 flops per (k, c, t, n, p). Bytes: x once per block of k (window), y once, accumulators once per band,
// from L2.
#include "cpu/conv/tile.h"
#include "cpu/conv/window.h"
#include "cpu/parallel.h"
#include "cpu/table.h"
#include "cpu/vector.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

constexpr index_t kWindowBytes = 384 << 10;  // per thread, a good part of L2
constexpr index_t kTransposedBytes = 256 << 10;
constexpr index_t kPrivateBytes = 1 << 20;  // sums that a thread may have for itself
constexpr index_t kPixels = 128;            // per call of a tile: so much of y stays in L1

// A band of y and of the window as `dots` walks them: rows of `vectors` vectors, the last one valid where `mask` is
// set.
template <class T>
struct Rows {
  index_t images, rows, vectors, image_pitch, row_pitch, result_pitch;  // pitches of the window; result_pitch: of y
  typename VectorOf<T>::mask mask;
};

// sum[i][k] (vectors) += y[k] * window[offset[i] + .] over all vectors of all rows, for M pairs and K results. y is
// [k][image, row][vectors * lanes], zero beyond the end of a row; the window is masked there, for it may hold anything.
template <class T, int K, int M>
__attribute__((noinline)) void dots(const T* __restrict window, const index_t* __restrict offset, const Rows<T>& band,
                                    const T* __restrict y, T* __restrict sum) {
  constexpr int L = lanes<T>;
  typedef typename VectorOf<T>::mask Mask;
  Vector<T> total[M][K];
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) {
    TINYGEN_UNROLL
    for (int k = 0; k < K; k++) total[i][k] = load(sum + (i * K + k) * L);
  }
  for (index_t n = 0; n < band.images; n++)
    for (index_t r = 0; r < band.rows; r++) {
      const T* row = window + n * band.image_pitch + r * band.row_pitch;
      for (index_t v = 0; v < band.vectors; v++, y += L) {
        Mask keep = v + 1 < band.vectors ? ~Mask{} : band.mask;
        Vector<T> factor[K];
        TINYGEN_UNROLL
        for (int k = 0; k < K; k++) factor[k] = load(y + k * band.result_pitch);
        TINYGEN_UNROLL
        for (int i = 0; i < M; i++) {
          Vector<T> x = Vector<T>(Mask(load(row + offset[i] + v * L)) & keep);
          TINYGEN_UNROLL
          for (int k = 0; k < K; k++) total[i][k] += factor[k] * x;
        }
      }
    }
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) {
    TINYGEN_UNROLL
    for (int k = 0; k < K; k++) store(sum + (i * K + k) * L, total[i][k]);
  }
}

template <class T>
using DotsFunction = void (*)(const T*, const index_t*, const Rows<T>&, const T*, T*);

// dots<T, K, .> for at most `pairs` pairs; `taken` is how many.
template <class T, int K>
DotsFunction<T> pick_dots_pairs(index_t pairs, index_t* taken) {
  constexpr int most = kRows * kVectors / K < 8 ? kRows * kVectors / K : 8;  // what leaves the sums in registers
  if (pairs >= most) {
    *taken = most;
    return dots<T, K, most>;
  }
  if constexpr (most > 4)
    if (pairs >= 4) {
      *taken = 4;
      return dots<T, K, 4>;
    }
  if constexpr (most > 2)
    if (pairs >= 2) {
      *taken = 2;
      return dots<T, K, 2>;
    }
  *taken = 1;
  return dots<T, K, 1>;
}

template <class T>
DotsFunction<T> pick_dots(index_t results, index_t pairs, index_t* taken) {
  switch (results) {
    case 1:
      return pick_dots_pairs<T, 1>(pairs, taken);
    case 2:
      return pick_dots_pairs<T, 2>(pairs, taken);
    case 3:
      return pick_dots_pairs<T, 3>(pairs, taken);
#if TINYGEN_VECTOR_BYTES >= 32
    case 4:
      return pick_dots_pairs<T, 4>(pairs, taken);
    case 5:
      return pick_dots_pairs<T, 5>(pairs, taken);
#endif
#if TINYGEN_VECTOR_BYTES == 64
    case 6:
      return pick_dots_pairs<T, 6>(pairs, taken);
    case 7:
      return pick_dots_pairs<T, 7>(pairs, taken);
#endif
    default:
      return pick_dots_pairs<T, kRows>(pairs, taken);
  }
}

template <class T>
struct Job {
  const T *x, *y;
  T* w;
  index_t images, groups, channels, results;  // channels and results (k) per group
  Axis row_axis, column_axis;
  Line rows, columns;
};

struct Plan {
  bool few;                        // use dots; else spread
  index_t vectors, block, blocks;  // sums per pair, of one block of k; blocks of k per group
  index_t channel_block, band_images, band_rows, image_bands, row_bands;
  index_t band_parts;  // in how many shares the bands are summed
  index_t pairs;       // (channel, tap) pairs
};

template <class T>
Window band_window(const Job<T>& job, index_t images, index_t rows) {
  return make_window(images, rows, job.columns.outputs, job.rows.step, job.rows.lowest(), job.rows.highest(),
                     job.columns.step, job.columns.lowest(), job.columns.highest());
}

template <class T>
Plan make_plan(const Job<T>& job, int use) {
  Plan plan;
  constexpr index_t L = lanes<T>, size = sizeof(T);
  index_t vectors = (job.results + L - 1) / L, taps = job.rows.taps * job.columns.taps;
  plan.pairs = job.channels * taps;
  plan.vectors = vectors_per_block(vectors);
  index_t padded = (job.columns.outputs + L - 1) / L * L;
  plan.few = job.results <= 4 || (job.results <= kRows && padded * 3 <= job.columns.outputs * 4);
  plan.block = (plan.few ? job.results : plan.vectors) * L;
  plan.blocks = plan.few ? 1 : (vectors + plan.vectors - 1) / plan.vectors;
  index_t blocks = plan.blocks * job.groups;
  // Sharing bands copies every input once in all, but multiplies the sums; sharing blocks of k (or groups) is the
  // reverse.
  bool share_bands = job.groups == 1 && blocks * plan.pairs * plan.block * size <= kPrivateBytes;
  plan.band_parts = share_bands ? use : max(1, use / max(1, min(blocks, use)));
  // Channels per window: enough to keep y busy, few enough for the cache.
  index_t rows = job.rows.outputs, columns = job.columns.outputs;
  plan.channel_block = max(1, job.channels);
  auto bytes = [&](index_t images, index_t height) {
    return plan.channel_block * band_window(job, images, height).channel_pitch * size;
  };
  while (plan.channel_block > 16 && bytes(1, rows) > kWindowBytes) plan.channel_block = (plan.channel_block + 1) / 2;
  while (rows > 1 && (bytes(1, rows) > kWindowBytes || rows * columns * plan.block * size > kTransposedBytes))
    rows = (rows + 1) / 2;
  while (job.images * ((job.rows.outputs + rows - 1) / rows) < plan.band_parts && rows > 1) rows = (rows + 1) / 2;
  index_t images = 1;
  if (rows == job.rows.outputs) {
    index_t share = max(1, (job.images + plan.band_parts - 1) / plan.band_parts);
    while (images < share && images * rows * columns < 1024 && bytes(images + 1, rows) <= kWindowBytes &&
           (images + 1) * rows * columns * plan.block * size <= kTransposedBytes)
      images++;
    index_t bands = (share + images - 1) / images;
    images = (share + bands - 1) / bands;
  }
  plan.band_rows = rows;
  plan.band_images = images;
  plan.image_bands = (job.images + images - 1) / images;
  plan.row_bands = (job.rows.outputs + rows - 1) / rows;
  return plan;
}

// y of one band as [image, row, column][block], zeros beyond the last k.
template <class T>
void transpose_y(const Job<T>& job, const Plan& plan, index_t group, index_t k0, index_t image, index_t images,
                 index_t j0, index_t rows, T* __restrict to) {
  index_t plane = job.rows.outputs * job.columns.outputs, pixels = rows * job.columns.outputs;
  index_t count = min(plan.block, job.results - k0);
  for (index_t n = 0; n < images; n++) {
    T* out = to + n * pixels * plan.block;
    if (count < plan.block)
      for (index_t p = 0; p < pixels; p++)
        for (index_t k = count; k < plan.block; k++) out[p * plan.block + k] = 0;
    const T* from =
        job.y + ((image + n) * job.groups * job.results + group * job.results + k0) * plane + j0 * job.columns.outputs;
    transpose_copy(from, plane, count, pixels, out, plan.block);
  }
}

// y of one band as [k][image, row][whole vectors], zeros at the end of each row; returns the distance from k to k.
template <class T>
index_t pad_y(const Job<T>& job, index_t group, index_t image, index_t images, index_t j0, index_t rows,
              T* __restrict to) {
  constexpr index_t L = lanes<T>;
  index_t columns = job.columns.outputs, pitch = (columns + L - 1) / L * L;
  for (index_t k = 0; k < job.results; k++)
    for (index_t n = 0; n < images; n++) {
      const T* from =
          job.y + (((image + n) * job.groups + group) * job.results + k) * job.rows.outputs * columns + j0 * columns;
      for (index_t j = 0; j < rows; j++, from += columns, to += pitch) {
        store(to + pitch - L, Vector<T>{});
        copy_exactly(to, from, columns);
      }
    }
  return images * rows * pitch;
}

// Adds the bands [begin, end) to the sums of blocks [b0, b1) of one group: block b's are at sum + (b - b0) * next, as
// [channel, tap][block].
template <class T>
void accumulate(const Job<T>& job, const Plan& plan, index_t group, index_t b0, index_t b1, index_t begin, index_t end,
                T* __restrict sum, index_t next) {
  constexpr index_t L = lanes<T>;
  index_t taps = job.rows.taps * job.columns.taps;
  for (index_t b = b0; b < b1; b++)
    for (index_t i = 0; i < plan.pairs * plan.block; i++) sum[(b - b0) * next + i] = 0;
  index_t row_vectors = (job.columns.outputs + L - 1) / L, most_rows = plan.band_images * plan.band_rows;
  index_t most_pixels = most_rows * job.columns.outputs, slack = 2 * L;
  index_t most_window = plan.channel_block * band_window(job, plan.band_images, plan.band_rows).channel_pitch;
  index_t y_size = (plan.few ? most_rows * row_vectors : most_pixels) * plan.block;
  T* copy = static_cast<T*>(scratch(kWindow, (most_window + slack) * sizeof(T)));
  T* y = static_cast<T*>(scratch(kTransposed, y_size * (b1 - b0) * sizeof(T)));
  index_t* offsets = static_cast<index_t*>(scratch(kTaps, plan.channel_block * taps * sizeof(index_t)));
  index_t* pixels = static_cast<index_t*>(scratch(kPixelOffsets, most_pixels * sizeof(index_t)));
  for (index_t band = begin; band < end; band++) {
    index_t image = band / plan.row_bands * plan.band_images, j0 = band % plan.row_bands * plan.band_rows;
    index_t images = min(plan.band_images, job.images - image), rows = min(plan.band_rows, job.rows.outputs - j0);
    const Window window = band_window(job, images, rows);
    Rows<T> band_rows = {images, rows, row_vectors, window.image_pitch, window.row_step * window.row_pitch, 0, {}};
    index_t count = 0;
    if (plan.few) {
      band_rows.result_pitch = pad_y(job, group, image, images, j0, rows, y);
      for (index_t lane = 0; lane < L; lane++)
        band_rows.mask[lane] = (row_vectors - 1) * L + lane < job.columns.outputs ? -1 : 0;
    } else {
      for (index_t b = b0; b < b1; b++)
        transpose_y(job, plan, group, b * plan.block, image, images, j0, rows, y + (b - b0) * y_size);
      for (index_t n = 0; n < images; n++)
        for (index_t j = 0; j < rows; j++)
          for (index_t q = 0; q < job.columns.outputs; q++) pixels[count++] = window.pixel(n, j, q);
    }
    for (index_t channel = 0; channel < job.channels; channel += plan.channel_block) {
      index_t channels = min(plan.channel_block, job.channels - channel), pair = 0;
      fill_window(window, copy, job.x, job.images, job.groups * job.channels, job.row_axis.x, job.column_axis.x,
                  group * job.channels + channel, channels, image, images, j0);
      for (index_t c = 0; c < channels; c++)
        for (index_t r = 0; r < job.rows.taps; r++)
          for (index_t s = 0; s < job.columns.taps; s++)
            offsets[pair++] = c * window.channel_pitch +
                              window.tap(job.rows.start + r * job.rows.move, job.columns.start + s * job.columns.move);
      T* out = sum + channel * taps * plan.block;
      if (plan.few) {
        for (index_t i = 0, taken = 0; i < pair; i += taken)
          pick_dots<T>(job.results, pair - i, &taken)(copy, offsets + i, band_rows, y, out + i * plan.block);
        continue;
      }
      index_t parts = (count + kPixels - 1) / kPixels;
      for (index_t b = b0; b < b1; b++)
        for (index_t part = 0; part < parts; part++) {
          index_t p = count * part / parts, length = count * (part + 1) / parts - p;
          for (index_t i = 0, taken = 0; i < pair; i += taken)
            pick_spread<T>(pair - i, plan.vectors, &taken)(copy, offsets + i, pixels + p, length,
                                                           y + (b - b0) * y_size + p * plan.block, nullptr, false,
                                                           out + (b - b0) * next + i * plan.block);
        }
    }
  }
}

}  // namespace

TINYGEN_KERNEL(conv_weight, (const Geometry& geo, const T* x, const T* y, T* w)) {
  Job<T> job = {x,
                y,
                w,
                geo.n,
                geo.groups,
                geo.c / geo.groups,
                geo.k / geo.groups,
                geo.rows,
                geo.cols,
                convolution_line(geo.rows),
                convolution_line(geo.cols)};
  index_t kernel = geo.rows.w * geo.cols.w, all = geo.k * job.channels * kernel;
  index_t pixels = geo.n * geo.rows.y * geo.cols.y;
  if (all == 0) return;
  if (pixels == 0) {
    for (index_t i = 0; i < all; i++) w[i] = 0;
    return;
  }
  int use =
      2.0 * static_cast<double>(pixels) * all < 2e5 ? 1 : threads();  // waking threads takes longer than so little
  Plan plan = make_plan(job, use);
  index_t blocks = plan.blocks * geo.groups, bands = plan.image_bands * plan.row_bands;
  plan.band_parts = min(plan.band_parts, bands);
  index_t sums = plan.pairs * plan.block;  // of one group and block of k
  T* sum = static_cast<T*>(scratch(kAccumulator, blocks * plan.band_parts * sums * sizeof(T)));  // [block][share][..]
  // w[k][channel, tap] of one block from its sums, pairs [from, to).
  auto finish = [&](index_t block, const T* total, index_t from, index_t to) {
    if (plan.few) {
      for (index_t k = 0; k < job.results; k++)
        for (index_t pair = from; pair < to; pair++) {
          const T* part = total + pair * plan.block + k * lanes<T>;
          T value = part[0];
          for (int lane = 1; lane < lanes<T>; lane++) value += part[lane];
          w[(block * job.results + k) * plan.pairs + pair] = value;
        }
      return;
    }
    index_t group = block / plan.blocks, k0 = block % plan.blocks * plan.block;
    transpose_copy(total + from * plan.block, plan.block, to - from, min(plan.block, job.results - k0),
                   w + (group * job.results + k0) * plan.pairs + from, plan.pairs);
  };
  // Blocks [begin, end), numbered over all groups, of one share of the bands.
  auto sum_blocks = [&](index_t begin, index_t end, index_t share) {
    while (begin < end) {
      index_t group = begin / plan.blocks, stop = min(end, (group + 1) * plan.blocks);
      accumulate(job, plan, group, begin - group * plan.blocks, stop - group * plan.blocks,
                 bands * share / plan.band_parts, bands * (share + 1) / plan.band_parts,
                 sum + (begin * plan.band_parts + share) * sums, plan.band_parts * sums);
      begin = stop;
    }
  };
  // Threads form `block_parts` teams; a team's blocks are summed in band_parts shares of the bands.
  index_t block_parts = max(1, min(blocks, use / plan.band_parts)), units = block_parts * plan.band_parts;
  parallel(use, [&](int thread, int running) {
    for (index_t u = units * thread / running; u < units * (thread + 1) / running; u++) {
      index_t part = u / plan.band_parts;
      sum_blocks(blocks * part / block_parts, blocks * (part + 1) / block_parts, u % plan.band_parts);
    }
    barrier(running);
    index_t rows = blocks * plan.pairs;  // (block, pair), shared among the threads
    for (index_t row = rows * thread / running, end = rows * (thread + 1) / running; row < end;) {
      index_t block = row / plan.pairs, from = row - block * plan.pairs, to = min(plan.pairs, end - block * plan.pairs);
      T* total = sum + block * plan.band_parts * sums;
      for (index_t share = 1; share < plan.band_parts; share++)
        for (index_t i = from * plan.block; i < to * plan.block; i++) total[i] += total[share * sums + i];
      finish(block, total, from, to);
      row = block * plan.pairs + to;
    }
  });
}

}  // namespace TINYGEN_ISA
}  // namespace tinygen
