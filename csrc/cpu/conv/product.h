// Gather as a matrix product per image, lanes over pixels, for 1x1 kernels and for few channels: the results go
// straight to their places, nothing is transposed.
//
// Idea       out[m, pixel] = bias[m] + sum over steps of weight[m, step] * row[step, pixel]. A step is a channel and a
//            tap, a row all pixels of a plane, over the ends of the image's own rows. For a 1x1 kernel (stride 1, no
//            padding) that is a plane of the source. Otherwise the source is unrolled by column taps (unroll.h), which
//            pays where each copy then meets many results.
// Tile       Some results x some vectors of pixels stay in registers over all steps. 1x1 kernels may have many
//            channels, far apart: a chunk of two vectors of pixels is copied to [channel][pixel], which stays in L1
//            while all results pass. Unrolled, source and weights are in L1 anyway, and steps are so few that the
//            beginning and end of a tile count: one call computes a block of results for a whole band of pixels.
// Memory     Such layers are as much memory as arithmetic, so both run at once: while a tile is computed, prefetches
//            bring the lines of the output that it will write, and the source of the next chunk (pw1x1 of
//            benchmarks/cases.py: 9.7 -> 8.5 ms forward, 9.7 -> 8.1 ms input gradient, 2 threads of a Zen 4).
// Mapping    Threads share bands of rows. The last vector of a band repeats pixels of the one before.
// Cost       2 flops per result, step and pixel, padding included. Bytes: source and output once.
#pragma once

#include "../parallel.h"
#include "gather.h"
#include "unroll.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

// Most results and vectors of a tile.
#if TINYGEN_VECTOR_BYTES == 64
constexpr int kPointResults = 14, kUnrolledResults = 7, kUnrolledVectors = 4;
#elif TINYGEN_VECTOR_BYTES == 32
constexpr int kPointResults = 6, kUnrolledResults = 6, kUnrolledVectors = 2;
#else
constexpr int kPointResults = 4, kUnrolledResults = 4, kUnrolledVectors = 2;
#endif
constexpr index_t kUnrolledBytes = 256 << 10;  // of a band: a part of L2
constexpr index_t kUnrolledSteps = 96;         // beyond, padding costs more than transposing the results

// 1x1 at stride 1, nothing cropped or padded: rows of the product are planes of the source.
template <class T>
bool is_pointwise(const Gather<T>& job) {
  auto plain = [](const Axis& axis) { return axis.w == 1 && axis.stride == 1 && axis.pad == 0 && axis.x == axis.y; };
  return plain(job.row_axis) && plain(job.column_axis);
}

// Whether this way is the fastest, measured against lanes over images and results: it repeats at most a tenth of the
// pixels, and where it unrolls, no more elements are copied per pixel of the output than that has results.
template <class T>
bool is_product(const Gather<T>& job) {
  constexpr index_t L = lanes<T>;
  index_t plane = job.out_height * job.out_width;
  if (job.row_phases() * job.column_phases() > 1 || plane < 2 * L) return false;
  if ((plane + L - 1) / L * L * 10 > plane * 11) return false;
  // Single images with few results are faster with lanes along rows: their tiles are wider and not as high.
  if (is_pointwise(job)) return job.images >= L || job.results > 4;
  index_t copies = job.channels * job.column_axis.w * min(job.row_axis.w, job.row_line(0).step);
  return job.channels * job.kernel() <= kUnrolledSteps && copies <= job.results;
}

// out[i][j] (pitch: plane) = bias[i] + sum over steps k of weights[k][i] * source[offset[k] + j], for M results and
// `count` times N vectors; the biases lie in front of the weights. kAhead: on the way prefetches what lies at `next`,
// next_pitch apart.
template <class T, int M, int N, bool kAhead>
__attribute__((noinline)) void multiply_pixels(index_t count, const T* __restrict source,
                                               const index_t* __restrict offset, index_t steps,
                                               const T* __restrict weights, const T* next, index_t next_pitch,
                                               T* __restrict out, index_t plane) {
  constexpr int L = lanes<T>, line = 64 / sizeof(T);  // of the cache
  for (; count > 0; count--, source += N * L, out += N * L) {
    Vector<T> sum[M][N];
    const T* factors = weights;
    load_again(factors);  // the biases: the registers are for the sums
    T* place = out;
    TINYGEN_UNROLL
    for (int i = 0; i < M; i++, place += plane) {
      Vector<T> bias = splat(factors[i]);
      TINYGEN_UNROLL
      for (int j = 0; j < N; j++) {
        if (j * L % line == 0) __builtin_prefetch(place + j * L, 1);  // by the time of the stores it is there
        sum[i][j] = bias;
      }
    }
    const T* ahead = next;
    for (index_t k = 0; k < steps; k++, ahead += next_pitch) {
      factors += M;
      Vector<T> row[N];
      TINYGEN_UNROLL
      for (int j = 0; j < N; j++) {
        row[j] = load(source + offset[k] + j * L);
        load_once(row[j]);
        if (kAhead && j * L % line == 0) __builtin_prefetch(ahead + j * L, 0, 2);
      }
      TINYGEN_UNROLL
      for (int i = 0; i < M; i++) {
        Vector<T> factor = splat(factors[i]);
        TINYGEN_UNROLL
        for (int j = 0; j < N; j++) sum[i][j] += factor * row[j];
      }
    }
    place = out;
    TINYGEN_UNROLL
    for (int i = 0; i < M; i++, place += plane) {
      TINYGEN_UNROLL
      for (int j = 0; j < N; j++) store(place + j * L, sum[i][j]);
    }
  }
}

template <class T>
using PixelsFunction = void (*)(index_t, const T*, const index_t*, index_t, const T*, const T*, index_t, T*, index_t);

// multiply_pixels<T, results, vectors, kAhead>.
template <class T, bool kAhead, int M = kPointResults>
inline PixelsFunction<T> pick_pixels(index_t results, index_t vectors) {
  if constexpr (M > 1)
    if (results < M) return pick_pixels<T, kAhead, M - 1>(results, vectors);
  if constexpr (kUnrolledVectors > 2 && M <= kUnrolledResults && !kAhead)
    if (vectors == kUnrolledVectors) return multiply_pixels<T, M, kUnrolledVectors, false>;
  return vectors == 2 ? multiply_pixels<T, M, 2, kAhead> : multiply_pixels<T, M, 1, kAhead>;
}

struct ProductPlan {
  bool pointwise;  // else unrolled
  Line row, column;
  index_t steps, results, blocks;  // results: of all blocks
  index_t bands;                   // of rows, per image

  index_t block_begin(index_t b) const { return results * b / blocks; }
  index_t band_begin(index_t b) const { return row.outputs * b / bands; }
  index_t panel(index_t group, index_t b) const {  // in the packed weights, which have a row of biases in front
    return (group * results + block_begin(b)) * (steps + 1);
  }
};

template <class T>
ProductPlan plan_product(const Gather<T>& job, int use) {
  bool pointwise = is_pointwise(job);
  index_t most = pointwise ? kPointResults : kUnrolledResults;
  ProductPlan plan = {pointwise,
                      job.row_line(0),
                      job.column_line(0),
                      job.channels * job.kernel(),
                      job.results,
                      (job.results + most - 1) / most,
                      1};
  index_t rows = job.out_height, planes = job.images * job.groups;
  auto fits = [&] {
    index_t height = (rows + plan.bands - 1) / plan.bands, size = sizeof(T);
    return pointwise ||
           unrolled<T>(plan.row, plan.column, 1, height).per_channel * job.channels * size <= kUnrolledBytes;
  };
  auto uneven = [&] {  // do threads idle for more than a tenth of the time?
    index_t units = planes * plan.bands;
    return units * 10 < (units + use - 1) / use * use * 9;
  };
  auto more = [&](index_t vectors) { return rows / (plan.bands + 1) * job.out_width >= vectors * lanes<T>; };
  while (!fits() && more(2)) plan.bands++;  // a tile needs two vectors
  while (uneven() && more(8)) plan.bands++;
  return plan;
}

// The weights of block `b` of a group as [step][result], biases in front.
template <class T>
void pack_weights(const Gather<T>& job, const ProductPlan& plan, index_t group, index_t b, T* to) {
  index_t m0 = plan.block_begin(b), m1 = plan.block_begin(b + 1);
  const T* from = job.weights + group * job.results * job.channels * job.kernel();
  for (index_t m = m0; m < m1; m++) *to++ = job.bias ? job.bias[group * job.results + m] : T(0);
  for (index_t c = 0; c < job.channels; c++)
    for (index_t r = 0; r < plan.row.taps; r++)
      for (index_t s = 0; s < plan.column.taps; s++) {
        index_t tap =
            (plan.row.first + r * plan.row.every) * job.column_axis.w + plan.column.first + s * plan.column.every;
        for (index_t m = m0; m < m1; m++) *to++ = from[m * job.result_pitch() + c * job.channel_pitch() + tap];
      }
}

// Rows of one band, image and group.
template <class T>
struct ProductBand {
  const Gather<T>& job;
  const ProductPlan& plan;
  const T* packed;
  const T* source;  // the first channel of the image and group
  T* out;           // the first pixel
  index_t group, row, rows;

  // `count` times `vectors` vectors from pixel p on, of all results. next: what to prefetch on the way.
  void multiply(index_t p, index_t count, index_t vectors, const T* from, const index_t* offset,
                const T* next = nullptr) const {
    index_t plane = job.out_height * job.out_width;
    for (index_t b = 0; b < plan.blocks; b++) {
      index_t m0 = plan.block_begin(b), results = plan.block_begin(b + 1) - m0;
      auto pixels = next && b == 0 ? pick_pixels<T, true>(results, vectors) : pick_pixels<T, false>(results, vectors);
      pixels(count, from, offset, plan.steps, packed + plan.panel(group, b), next, job.height * job.width,
             out + m0 * plane + p, plane);
    }
  }

  // From which pixel on (1 .. lanes) stores are aligned, if they are for all results alike.
  index_t aligned() const { return job.out_height * job.out_width % lanes<T> ? lanes<T> : to_line(out); }

  void pointwise() const {
    constexpr index_t L = lanes<T>, width = 2 * L;
    index_t plane = job.height * job.width, pixels = rows * job.width;
    const T* from = source + row * job.width;
    T* chunk = static_cast<T*>(scratch(kWindow, (plan.steps + 1) * width * sizeof(T)));
    index_t* offset = static_cast<index_t*>(scratch(kTaps, plan.steps * sizeof(index_t)));
    for (index_t c = 0; c < plan.steps; c++) offset[c] = c * width;
    for (index_t p = 0, end; p < pixels; p = end) {
      index_t vectors = pixels - p > L ? 2 : 1;
      end = p == 0 ? L + aligned() : p + vectors * L;
      p = min(p, pixels - vectors * L);  // the last chunk repeats pixels of the one before
      for (index_t c = 0; c < plan.steps; c++)
        for (index_t v = 0; v < vectors; v++) store(chunk + c * width + v * L, load(from + c * plane + p + v * L));
      multiply(p, 1, vectors, chunk, offset, from + min(end, pixels - L));
    }
  }

  void unroll() const {
    constexpr index_t L = lanes<T>;
    index_t plane = job.height * job.width, pixels = rows * job.out_width;
    const Unrolled layout = unrolled<T>(plan.row, plan.column, 1, rows);
    T* copy = static_cast<T*>(scratch(kWindow, job.channels * layout.per_channel * sizeof(T)));
    index_t* offset = static_cast<index_t*>(scratch(kTaps, plan.steps * sizeof(index_t)));
    for (index_t c = 0, step = 0; c < job.channels; c++)
      for (index_t r = 0; r < plan.row.taps; r++)
        for (index_t s = 0; s < plan.column.taps; s++) offset[step++] = c * layout.per_channel + layout.tap(r, s);
    const Extent<T> array = {job.source, job.source + job.images * job.groups * job.channels * plane};
    unroll_columns(layout, source, job.channels, 0, row, array, copy);
    index_t p = aligned() % L;
    if (p > 0) multiply(0, 1, 1, copy, offset);
    for (index_t vectors = kUnrolledVectors; vectors > 0; vectors /= 2) {
      index_t count = (pixels - p) / (vectors * L);
      if (count > 0) multiply(p, count, vectors, copy + p, offset);
      p += count * vectors * L;
    }
    if (p < pixels) multiply(pixels - L, 1, 1, copy + pixels - L, offset);  // repeats some
  }
};

template <class T>
void gather_product(const Gather<T>& job, int use) {
  const ProductPlan plan = plan_product(job, use);
  index_t plane = job.height * job.width, out_plane = job.out_height * job.out_width;
  T* packed = static_cast<T*>(scratch(kPackedWeights, plan.panel(job.groups, 0) * sizeof(T)));
  index_t blocks = job.groups * plan.blocks, units = job.images * job.groups * plan.bands;
  parallel(use, [&](int thread, int all) {
    for (index_t i = blocks * thread / all; i < blocks * (thread + 1) / all; i++) {
      index_t group = i / plan.blocks, b = i % plan.blocks;
      pack_weights(job, plan, group, b, packed + plan.panel(group, b));
    }
    barrier(all);
    for (index_t u = units * thread / all; u < units * (thread + 1) / all; u++) {
      index_t at = u / plan.bands, row = plan.band_begin(u % plan.bands), end = plan.band_begin(u % plan.bands + 1);
      const ProductBand<T> band = {job,
                                   plan,
                                   packed,
                                   job.source + at * job.channels * plane,
                                   job.out + at * job.results * out_plane + row * job.out_width,
                                   at % job.groups,
                                   row,
                                   end - row};
      plan.pointwise ? band.pointwise() : band.unroll();
    }
  });
}

}  // namespace
}  // namespace TINYGEN_ISA
}  // namespace tinygen
