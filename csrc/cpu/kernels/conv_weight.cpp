// conv_weight: the gradient of a convolution with respect to its weights.
//
// Contract   w[k,c,t] = sum over n,p of x[n, c, stride*p + dilation*t - pad] * y[n,k,p]; NCHW, contiguous, any
//            geometry. The order of summation is fixed by the shapes and the number of threads: no atomics,
//            bit-identical results.
// Idea       A band of images or rows at a time, y is transposed to [pixel][k] and x to [pixel][8 channels]. Lanes run
//            over k; one tap, 8 channels and up to 3 vectors of k stay in registers over all pixels of the band
//            (weight_tiles.h, spread). The pixels where one tap meets the image form a rectangle, so padding is
//            neither copied nor multiplied: of the nominal work of a 4x4 kernel on 8x8 pixels that saves 23 %.
// Dots       With few channels the transposition of y would cost more than it brings, with few k lanes would idle:
//            there lanes run along the pixels, y is read where it is, and each (k, channel, tap) is a vector of partial
//            sums, added up at the end (`dots`). x is copied once per column tap, padded, so that the pixels of a plane
//            are neighbours through every tap.
// Choice     conv/choose.h says which of the two, and where winograd_weight.cpp computes the whole.
// Mapping    Threads share the pixels if the sums are small, each summing for itself; the shares are then added in
//            their order. If they are large, threads share the blocks of k (or the groups): their results are disjoint.
// Cost       2 flops per (k, c, t, n, p) off the padding. Bytes: y and x once or twice from memory, then per (tap,
//            block) from L2.
#include "cpu/conv/choose.h"
#include "cpu/conv/unroll.h"
#include "cpu/conv/weight_tiles.h"
#include "cpu/parallel.h"
#include "cpu/runtime.h"
#include "cpu/table.h"
#include "cpu/vector.h"
#include "geometry.h"

namespace tinygen {
namespace TINYGEN_ISA {

extern const Entry<conv_weight_winograd_t> entry_conv_weight_winograd;  // winograd_weight.cpp

namespace {

constexpr index_t kBandBytes = 192 << 10;   // of y for one block, of x for one block of channels: both stay in L2
constexpr index_t kChunkBytes = 192 << 10;  // of y for all blocks, per tap: read again for each block of channels
constexpr index_t kDotsPixels = 4096;       // of a band: so much of x for a tile stays in L1
constexpr index_t kPrivateBytes = 1 << 20;  // sums that a thread may have for itself

template <class T>
struct Job {
  const T *x, *y;
  T* w;
  Axis rows, columns;
  index_t images, groups, channels, results;  // channels and results (k) per group
  index_t taps, pairs;                        // pairs: of channel and tap

  const T* x_plane(index_t image, index_t group, index_t c) const {
    return x + ((image * groups + group) * channels + c) * rows.x * columns.x;
  }
  Extent<T> x_extent() const { return {x, x + images * groups * channels * rows.x * columns.x}; }
  const T* y_plane(index_t image, index_t group, index_t k) const {
    return y + ((image * groups + group) * results + k) * rows.y * columns.y;
  }
};

struct Plan {
  bool dots;                // else spread
  index_t vectors, blocks;  // of sums per pair and group; blocks of k that they are divided into
  index_t channel_blocks, chunk_blocks;
  index_t band_images, band_rows;
  index_t block_parts, band_parts;  // the threads' shares

  index_t first_vector(index_t block) const { return vectors * block / blocks; }
};

// A part of the pixels of y: rows [row, row + rows) of each of some images.
struct Band {
  index_t image, images, row, rows;
};

// The rows of x that outputs [begin, begin + count) read.
inline Range rows_read(const Axis& axis, index_t begin, index_t count) {
  index_t from = max(0, axis.position(begin, 0)), to = min(axis.x, axis.position(begin + count - 1, axis.w - 1) + 1);
  return {from, max(from, to)};
}

// `parts` is the number of threads; returns its largest divisor that is at most `most`.
inline index_t divisor_up_to(index_t parts, index_t most) {
  index_t divisor = min(parts, max(1, most));
  while (parts % divisor) divisor--;
  return divisor;
}

template <class T>
Plan make_plan(const Job<T>& job, index_t use, bool dots) {
  constexpr index_t L = lanes<T>, size = sizeof(T);
  Plan plan;
  plan.dots = dots;
  plan.vectors = plan.dots ? job.results : (job.results + L - 1) / L;
  plan.blocks = plan.dots ? 1 : (plan.vectors + kWeightVectors - 1) / kWeightVectors;
  index_t rows = job.rows.y, columns = job.columns.y;
  // Sharing pixels transposes every input once, but multiplies the sums; sharing blocks of k is the reverse.
  bool share_bands = job.groups == 1 && plan.vectors * L * job.pairs * size <= kPrivateBytes;
  plan.block_parts = share_bands ? 1 : divisor_up_to(use, job.groups * (plan.dots ? 1 : plan.vectors));
  plan.band_parts = min(use / plan.block_parts, job.images * rows);
  if (!plan.dots && job.groups == 1)  // as many blocks for every thread
    plan.blocks = (plan.blocks + plan.block_parts - 1) / plan.block_parts * plan.block_parts;
  auto fits = [&](index_t images, index_t height) {
    index_t pixels = images * height * columns;
    index_t x_pixels =
        images * min(job.rows.x, job.rows.stride * height + job.rows.dilation * job.rows.w) * job.columns.x;
    if (plan.dots) return pixels <= kDotsPixels;
    return pixels * kWeightVectors * L * size <= kBandBytes && x_pixels * kInterleaved * size <= kBandBytes;
  };
  index_t bands = 1;
  while (bands < rows && !fits(1, (rows + bands - 1) / bands)) bands++;
  plan.band_rows = (rows + bands - 1) / bands;
  index_t share = (job.images + plan.band_parts - 1) / plan.band_parts, images = 1;
  while (bands == 1 && images < share && fits(images + 1, rows)) images++;
  bands = (share + images - 1) / images;
  plan.band_images = (share + bands - 1) / bands;
  plan.channel_blocks = 1;
  plan.chunk_blocks = (job.channels + kWeightRows - 1) / kWeightRows;
  index_t x_block = plan.band_images *
                    min(job.rows.x, job.rows.stride * plan.band_rows + job.rows.dilation * job.rows.w) * job.columns.x *
                    kInterleaved * size;
  index_t chunks = min(plan.chunk_blocks, (plan.chunk_blocks * x_block + kChunkBytes - 1) / kChunkBytes);
  plan.chunk_blocks = (plan.chunk_blocks + chunks - 1) / chunks;
  if (plan.dots) {
    index_t bytes = job.columns.w * plan.band_images *
                    (job.rows.stride * plan.band_rows + job.rows.dilation * job.rows.w) * columns * size;
    plan.channel_blocks = min(job.channels, (job.channels * bytes + kBandBytes - 1) / kBandBytes);
  }
  return plan;
}

// to[p][i] = from[i][p] for i < R and p < pixels, zero for i >= rows. R is a power of two: log2(R) perfect shuffles of
// R registers. to_pitch is R unless R is a whole vector.
template <class T, int R>
void interleave(const T* __restrict from, index_t pitch, index_t rows, index_t pixels, T* __restrict to,
                index_t to_pitch, index_t ahead) {
  constexpr int L = lanes<T>;
  if (pixels < L) {
    for (index_t p = 0; p < pixels; p++)
      for (index_t i = 0; i < R; i++) to[p * to_pitch + i] = i < rows ? from[i * pitch + p] : T(0);
    return;
  }
  for (index_t p = 0; p < pixels; p += L) {
    index_t at = min(p, pixels - L);  // the last vector overlaps the one before
    Vector<T> row[R], other[R];
    TINYGEN_UNROLL
    for (int i = 0; i < R; i++) {
      row[i] = i < rows ? load(from + i * pitch + at) : Vector<T>{};
      __builtin_prefetch(from + i * pitch + at + ahead, 0, 2);
    }
    TINYGEN_UNROLL
    for (int done = 1; done < R; done *= 2) {
      TINYGEN_UNROLL
      for (int i = 0; i < R / 2; i++) {
        other[2 * i] = Shuffles<T>::low(row[i], row[i + R / 2]);
        other[2 * i + 1] = Shuffles<T>::high(row[i], row[i + R / 2]);
      }
      TINYGEN_UNROLL
      for (int i = 0; i < R; i++) row[i] = other[i];
    }
    TINYGEN_UNROLL
    for (int i = 0; i < R; i++) store(to + (at + i * L / R) * to_pitch + i * L % R, row[i]);
  }
}

// Adds the pixels of bands to the sums of some blocks of one group, in one of two ways.
template <class T>
struct Task {
  const Job<T>& job;
  const Plan& plan;
  index_t group, b0, b1;  // blocks [b0, b1)
  T* sum;                 // block b at sum + (first_vector(b) - first_vector(b0)) * pairs * lanes, as [pair][vectors]
  bool finish;            // write w when all bands are summed
};

// w[k][pair] of one block from its sums, pairs [from, to).
template <class T>
void finish_block(const Job<T>& job, const Plan& plan, index_t group, index_t block, const T* total, index_t from,
                  index_t to) {
  constexpr index_t L = lanes<T>;
  if (plan.dots) {
    for (index_t k = 0; k < job.results; k++)
      for (index_t pair = from; pair < to; pair++) {
        const T* part = total + ((pair - from) * job.results + k) * L;
        T value = part[0];
        for (index_t lane = 1; lane < L; lane++) value += part[lane];
        job.w[(group * job.results + k) * job.pairs + pair] = value;
      }
    return;
  }
  index_t k = plan.first_vector(block) * L, width = plan.first_vector(block + 1) * L - k;
  transpose_copy(total, width, to - from, min(width, job.results - k),
                 job.w + (group * job.results + k) * job.pairs + from, job.pairs);
}

template <class T>
void spread_band(const Task<T>& task, const Band& band, bool first, bool last) {
  constexpr index_t L = lanes<T>;
  const Job<T>& job = task.job;
  const Plan& plan = task.plan;
  index_t columns = job.columns.y, pixels = band.rows * columns, plane = job.rows.y * columns;
  index_t v0 = plan.first_vector(task.b0), v1 = plan.first_vector(task.b1);
  T* y = static_cast<T*>(scratch(kTransposed, band.images * pixels * (v1 - v0) * L * sizeof(T)));
  Range read = rows_read(job.rows, band.row, band.rows);
  index_t x_pixels = read.size() * job.columns.x;
  index_t chunk = plan.chunk_blocks * kWeightRows, block_size = band.images * x_pixels * kInterleaved;
  T* x = static_cast<T*>(scratch(kWindow, plan.chunk_blocks * block_size * sizeof(T)));
  Patch* patches = static_cast<Patch*>(scratch(kTaps, job.taps * sizeof(Patch)));
  for (index_t r = 0, t = 0; r < job.rows.w; r++) {
    Range js = outputs_inside(job.rows, r, band.row, band.row + band.rows);
    for (index_t s = 0; s < job.columns.w; s++, t++) {
      Range qs = outputs_inside(job.columns, s, 0, columns);
      index_t row = job.rows.position(js.begin, r) - read.begin, column = job.columns.position(qs.begin, s);
      patches[t] = {band.images,
                    js.size(),
                    qs.size(),
                    row * job.columns.x + column,
                    x_pixels,
                    job.rows.stride * job.columns.x,
                    job.columns.stride,
                    (js.begin - band.row) * columns + qs.begin,
                    pixels,
                    columns};
      if (!qs.size() || !js.size()) patches[t].images = 0;
    }
  }
  for (index_t c0 = 0; c0 < job.channels; c0 += chunk) {
    index_t c1 = min(job.channels, c0 + chunk);
    for (index_t c = c0; c < c1; c += kWeightRows)
      for (index_t n = 0; n < band.images; n++)
        interleave<T, kInterleaved>(job.x_plane(band.image + n, task.group, c) + read.begin * job.columns.x,
                                    job.rows.x * job.columns.x, min(kWeightRows, c1 - c), x_pixels,
                                    x + (c - c0) / kWeightRows * block_size + n * x_pixels * kInterleaved, kInterleaved,
                                    band.images > 1 ? job.groups * job.channels * job.rows.x * job.columns.x
                                                    : kInterleaved * job.rows.x * job.columns.x);
    for (index_t b = task.b0; b < task.b1; b++) {
      index_t begin = plan.first_vector(b), vectors = plan.first_vector(b + 1) - begin, width = vectors * L;
      T* block = y + band.images * pixels * (begin - v0) * L;
      if (c0 == 0)
        for (index_t n = 0; n < band.images; n++)
          for (index_t v = 0; v < vectors; v++)
            interleave<T, L>(job.y_plane(band.image + n, task.group, (begin + v) * L) + band.row * columns, plane,
                             job.results - (begin + v) * L, pixels, block + n * pixels * width + v * L, width,
                             L * plane);
      T* out = first && last && task.finish ? task.sum : task.sum + (begin - v0) * job.pairs * L;
      for (index_t c = c0; c < c1; c += kWeightRows) {
        index_t count = min(kWeightRows, c1 - c);
        SpreadFunction<T> tile = pick_spread<T>(count, vectors);
        T* part = out + (first && last && task.finish ? 0 : c * job.taps * width);
        for (index_t t = 0; t < job.taps; t++)
          tile(patches[t], x + (c - c0) / kWeightRows * block_size, block, first, part + t * width, job.taps * width);
        if (last && task.finish) finish_block(job, plan, task.group, b, part, c * job.taps, (c + count) * job.taps);
      }
    }
  }
}

template <class T>
void dots_band(const Task<T>& task, const Band& band, bool first, bool last) {
  constexpr index_t L = lanes<T>;
  const Job<T>& job = task.job;
  index_t plane = job.rows.y * job.columns.y, pixels = band.rows * job.columns.y;
  const T* y = job.y_plane(band.image, task.group, 0) + band.row * job.columns.y;
  Strip<T> strip = {
      band.images, pixels / L, max(0, pixels - L), pixels % L > 0, {}, 0, job.groups * job.results * plane, plane};
  for (index_t lane = 0; lane < L; lane++) strip.mask[lane] = pixels < L ? lane < pixels : lane >= L - pixels % L;
  strip.mask = -strip.mask;
  if (pixels < L) {  // less than a vector: loading a whole one could leave the array
    T* copy = static_cast<T*>(scratch(kTransposed, band.images * job.results * L * sizeof(T)));
    for (index_t n = 0; n < band.images; n++)
      for (index_t k = 0; k < job.results; k++)
        copy_exactly(copy + (n * job.results + k) * L, y + n * strip.y_image + k * plane, pixels);
    y = copy;
    strip.y_image = job.results * L;
    strip.y_channel = L;
  }
  const Unrolled layout =
      unrolled<T>(convolution_line(job.rows), convolution_line(job.columns), band.images, band.rows);
  strip.x_image = layout.per_image;
  index_t most = (job.channels + task.plan.channel_blocks - 1) / task.plan.channel_blocks;
  T* x = static_cast<T*>(scratch(kWindow, most * layout.per_channel * sizeof(T)));
  index_t* offset = static_cast<index_t*>(scratch(kTaps, most * job.taps * sizeof(index_t)));
  for (index_t c = 0, pair = 0; c < most; c++)
    for (index_t r = 0; r < job.rows.w; r++)
      for (index_t s = 0; s < job.columns.w; s++) offset[pair++] = c * layout.per_channel + layout.tap(r, s);
  index_t k_blocks = (job.results + kWeightVectors - 1) / kWeightVectors, pitch = job.results * L;
  for (index_t i = 0; i < task.plan.channel_blocks; i++) {
    index_t c = job.channels * i / task.plan.channel_blocks;
    index_t count = job.channels * (i + 1) / task.plan.channel_blocks - c, pairs = count * job.taps;
    unroll_columns(layout, job.x_plane(band.image, task.group, c), count,
                   job.groups * job.channels * job.rows.x * job.columns.x, band.row, job.x_extent(), x);
    index_t pair_blocks = (pairs + kWeightRows - 1) / kWeightRows;
    for (index_t p = 0; p < pair_blocks; p++) {
      index_t pair = pairs * p / pair_blocks, rows = pairs * (p + 1) / pair_blocks - pair;
      T* out = task.sum + (c * job.taps + pair) * pitch;
      for (index_t b = 0; b < k_blocks; b++) {
        index_t k = job.results * b / k_blocks, width = job.results * (b + 1) / k_blocks - k;
        pick_dots<T>(rows, width)(strip, x, offset + pair, y + k * strip.y_channel, first, out + k * L, pitch);
      }
    }
  }
  if (last && task.finish) finish_block(job, task.plan, task.group, task.b0, task.sum, 0, job.pairs);
}

// Rows [begin, end) of y, counted over all images.
template <class T>
void sum_rows(const Task<T>& task, index_t begin, index_t end) {
  const Job<T>& job = task.job;
  const Plan& plan = task.plan;
  Band band;
  for (index_t row = begin; row < end; row += band.images * band.rows) {
    band.image = row / job.rows.y;
    band.row = row % job.rows.y;
    band.images = 1;
    band.rows = min(min(plan.band_rows, job.rows.y - band.row), end - row);
    if (band.rows == job.rows.y) band.images = min(plan.band_images, (end - row) / job.rows.y);
    bool last = row + band.images * band.rows == end;
    plan.dots ? dots_band(task, band, row == begin, last) : spread_band(task, band, row == begin, last);
  }
}

template <class T>
bool all_finite(const T* values, index_t count) {
  constexpr index_t L = lanes<T>;
  Vector<T> check[4] = {}, zero = {};  // four chains of additions; NaN once a value is infinite or NaN
  T rest = 0;
  index_t i = 0;
  for (; i + 4 * L <= count; i += 4 * L) {
    TINYGEN_UNROLL
    for (int j = 0; j < 4; j++) check[j] += load(values + i + j * L) * zero;
  }
  for (; i < count; i++) rest += values[i] * 0;
  check[0] += check[1] + (check[2] + check[3]);
  for (int j = 0; j < L; j++) rest += check[0][j];
  return rest == 0;
}

}  // namespace

TINYGEN_KERNEL(conv_weight, (const Geometry& geo, const T* x, const T* y, T* w)) {
  constexpr index_t L = lanes<T>;
  index_t taps = geo.rows.w * geo.cols.w, channels = geo.c / geo.groups;
  const Job<T> job = {
      x, y, w, geo.rows, geo.cols, geo.n, geo.groups, channels, geo.k / geo.groups, taps, channels * taps};
  index_t all = geo.k * job.pairs, rows = geo.n * geo.rows.y;
  if (all == 0) return;
  if (rows * geo.cols.y == 0 || geo.rows.x * geo.cols.x == 0) {
    for (index_t i = 0; i < all; i++) w[i] = 0;
    return;
  }
  WeightWay way = choose_weight<T>(geo);
  if constexpr (sizeof(T) == sizeof(float))
    if (way == WeightWay::kWinograd) {
      entry_conv_weight_winograd.f32(geo, x, y, w);
      if (all_finite(w, all)) return;
      way = choose_exact_weight<T>(geo);  // an infinity or NaN must reach only the weights that meet it
    }
  // Waking threads takes longer than so little.
  int use = 2.0 * static_cast<double>(rows * geo.cols.y) * all < 2e5 ? 1 : threads();
  const Plan plan = make_plan(job, use, way == WeightWay::kDots);
  // Sums: [share][group][block][pair][vectors]
  index_t blocks = geo.groups * plan.blocks, group_sums = plan.vectors * job.pairs * L, sums = geo.groups * group_sums;
  T* sum = static_cast<T*>(scratch(kAccumulator, plan.band_parts * sums * sizeof(T)));
  auto block_at = [&](index_t block) {
    return block / plan.blocks * group_sums + plan.first_vector(block % plan.blocks) * job.pairs * L;
  };
  auto work = [&](index_t begin, index_t end, index_t share) {  // blocks counted over all groups
    while (begin < end) {
      index_t group = begin / plan.blocks, stop = min(end, (group + 1) * plan.blocks), first = group * plan.blocks;
      Task<T> task = {
          job, plan, group, begin - first, stop - first, sum + share * sums + block_at(begin), plan.band_parts == 1};
      sum_rows(task, rows * share / plan.band_parts, rows * (share + 1) / plan.band_parts);
      begin = stop;
    }
  };
  index_t units = plan.block_parts * plan.band_parts;
  parallel(use, [&](int thread, int running) {
    for (index_t u = units * thread / running; u < units * (thread + 1) / running; u++) {
      index_t part = u / plan.band_parts;
      work(blocks * part / plan.block_parts, blocks * (part + 1) / plan.block_parts, u % plan.band_parts);
    }
    if (plan.band_parts == 1) return;
    barrier(running);
    index_t pairs = blocks * job.pairs;  // (block, pair), shared among the threads
    for (index_t pair = pairs * thread / running, end = pairs * (thread + 1) / running; pair < end;) {
      index_t block = pair / job.pairs, from = pair - block * job.pairs, to = min(job.pairs, end - block * job.pairs);
      index_t local = block % plan.blocks, width = (plan.first_vector(local + 1) - plan.first_vector(local)) * L;
      T* total = sum + block_at(block) + from * width;
      for (index_t share = 1; share < plan.band_parts; share++)
        for (index_t i = 0; i < (to - from) * width; i++) total[i] += total[share * sums + i];
      finish_block(job, plan, block / plan.blocks, local, total, from, to);
      pair = block * job.pairs + to;
    }
  });
}

TINYGEN_KERNEL(conv_weight_plan, (const Geometry& geo, const char** plan)) {
  const WeightWay way = choose_weight<T>(geo);
  *plan = way == WeightWay::kWinograd ? "winograd" : way == WeightWay::kDots ? "dots" : "spread";
}

}  // namespace TINYGEN_ISA
}  // namespace tinygen
