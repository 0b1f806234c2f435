// conv_weight_winograd: the weight gradients of 3 x 3 kernels at stride 1 and of 4 x 4 kernels at stride 2, with 4 and
// 2.56 times fewer multiplications.
//
// Contract   w as of conv_weight; float32 or float64; dilation 1, one group, any sizes and pads. Bit-identical results
//            for a fixed number of threads. conv/choose.h says where it pays.
// Idea       That of winograd.cpp, with y as the filter. A tile g of 4 x 4 elements of y and the patch d of x that it
//            meets give r x r weights; patch and transforms have m x m elements, m = r + 3:
//                w = A^T [ sum over tiles of (G g G^T) * (B^T d B) ] A,   * elementwise.
//            The sum over the tiles of all images comes before the inverse transform. So it is a matrix product
//            [k, tile] x [tile, c] for each element ("frequency"), and A is applied once per k and c.
// Stride 2   falls into 2 x 2 phases: taps (2i + a, 2j + b) meet the elements of x whose coordinates are a and b modulo
//            2, and are the 2 x 2 taps of a convolution at stride 1: r = 2, with four times the channels.
// Points     r = 3: 0, +-2/3, +-3/2, infinity, as in winograd.cpp. r = 2: +-1/2, +-3/2, infinity, which round half as
//            coarsely as 0, +-1, 2, infinity, and take fewer operations. What Lagrange's formula divides by is left to
//            A. The sums are longer than those of winograd.cpp, but shorter than conv_weight's, by 16 elements of y:
//            the rms error is 1.2 to 1.4 (r = 3) and 0.9 to 1.5 (r = 2) times conv_weight's (64 to 512 images).
// Mapping    Lanes run over channels. The pieces, with their layouts:
//                transform  x to [frequency][panel: some channels of one phase][tile][channel],
//                           y to [frequency][block of k][tile][k];
//                multiply   one unit = block of k x slice of some panels, with the innermost loop of conv_weight;
//                restore    a unit's inverse transform, and to [k][c][tap].
//            Few sums (sum_rows): a chunk of tiles after the other, whose transforms stay in the caches, is added to
//            all units. Threads share the rows of tiles, each with sums of its own, or else the sums.
//            Many sums of few tiles (sum_slices): all of y, then a slice of x after the other; a unit is restored while
//            its sums are in L2. Threads share the slices.
// Cost       2 m m flops per tile, k, c and phase (direct: 32 r r), and about 250 per tile and channel for transforms.
#include "cpu/conv/weight_tiles.h"
#include "cpu/conv/winograd.h"
#include "cpu/parallel.h"
#include "cpu/runtime.h"
#include "cpu/table.h"
#include "cpu/vector.h"
#include "geometry.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

// Of transformed x and y: as much as the sums that every chunk reads and writes once, within these bounds.
constexpr index_t kLeastChunkBytes = 2 << 20, kMostChunkBytes = 16 << 20;
constexpr index_t kMostSliceBytes = 4 << 20;  // of x alone, transformed by each thread for itself
constexpr index_t kDepth = 128;               // tiles per call of the innermost loop: what it reads of y stays in L1
constexpr index_t kCopyBytes = 128 << 10;     // of x or y as [row][column][lane]
constexpr index_t kAheadPixels = 128;         // of small images: so many are fetched from memory beforehand
constexpr index_t kPrivateBytes = 4 << 20;    // sums that a thread may have for itself
constexpr index_t kSumBytes = 256 << 10;      // of a unit

template <int S>
constexpr int kTapsSide = S == 1 ? 3 : 2;  // of a phase; S: the stride
template <int S>
constexpr int kPatchSide = kSide + kTapsSide<S> - 1;
template <int S>
constexpr int kFrequencies = kPatchSide<S> * kPatchSide<S>;

// Channels of a panel: whole vectors, and whole rows of the innermost loop's block (6 with AVX2).
template <class T>
constexpr int kPanelChannels = TINYGEN_VECTOR_BYTES == 32 ? 24 : (lanes<T> > kWeightRows ? lanes<T> : kWeightRows);

// The 1-D transforms, as in winograd.cpp, with x and y in other roles. 6 points: 0, +-p, +-q, infinity, with p q = 1;
// 5 points: +-p, +-q, infinity.
template <int M>
constexpr double p = M == 6 ? 2. / 3 : 1. / 2;
template <int M>
constexpr double q = 3. / 2;

// B^T d: the coefficients of x^i d_i in the products of (x - point) over all other points.
template <class T>
TINYGEN_INLINE void transform_x(const Vector<T> (&d)[6], Vector<T> (&e)[6]) {
  transform_input<T>(d, e);
}
template <class T>
TINYGEN_INLINE void transform_x(const Vector<T> (&d)[5], Vector<T> (&e)[5]) {
  constexpr T P = p<5>, Q = q<5>, both = P * P + Q * Q, all = P * P * Q * Q;
  Vector<T> odd = d[3] - Q * Q * d[1], even = d[2] - Q * Q * d[0];
  e[0] = odd + P * even;
  e[1] = odd - P * even;
  odd = d[3] - P * P * d[1];
  even = d[2] - P * P * d[0];
  e[2] = odd + Q * even;
  e[3] = odd - Q * even;
  e[4] = d[4] - both * d[2] + all * d[0];
}

// G g: the values of the polynomial g at the points.
template <class T, int M>
TINYGEN_INLINE void transform_y(const Vector<T> (&g)[kSide], Vector<T> (&u)[M]) {
  constexpr T P = p<M>, Q = q<M>;
  constexpr int finite = M - 5;  // where +-p, +-q begin
  if constexpr (M == 6) u[0] = g[0];
  Vector<T> even = g[0] + P * P * g[2], odd = P * (g[1] + P * P * g[3]);
  u[finite] = even + odd;
  u[finite + 1] = even - odd;
  even = g[0] + Q * Q * g[2];
  odd = Q * (g[1] + Q * Q * g[3]);
  u[finite + 2] = even + odd;
  u[finite + 3] = even - odd;
  u[M - 1] = g[3];
}

// A^T m: powers of the points, over the products of their distances to the others.
template <class T>
TINYGEN_INLINE void transform_w(const Vector<T> (&m)[6], Vector<T> (&o)[3]) {
  constexpr T P = p<6>, Q = q<6>, at_p = 1 / (2 * P * P * (P * P - Q * Q)), at_q = 1 / (2 * Q * Q * (Q * Q - P * P));
  Vector<T> even_p = at_p * (m[1] + m[2]), even_q = at_q * (m[3] + m[4]);
  o[0] = m[0] + even_p + even_q;
  o[1] = P * at_p * (m[1] - m[2]) + Q * at_q * (m[3] - m[4]);
  o[2] = P * P * even_p + Q * Q * even_q + m[5];
}
template <class T>
TINYGEN_INLINE void transform_w(const Vector<T> (&m)[5], Vector<T> (&o)[2]) {
  constexpr T P = p<5>, Q = q<5>, at_p = 1 / (2 * P * (P * P - Q * Q)), at_q = 1 / (2 * Q * (Q * Q - P * P));
  o[0] = at_p * (m[0] - m[1]) + at_q * (m[2] - m[3]);
  o[1] = P * at_p * (m[0] + m[1]) + Q * at_q * (m[2] + m[3]) + m[4];
}

// transform along both axes: From x From vectors load(i, j) to To x To, store(i, j, value).
template <class T, int From, int To, class Transform, class Load, class Store>
TINYGEN_INLINE void along_both(const Transform& transform, const Load& load_at, const Store& store_at) {
  Vector<T> half[To][From], in[From], out[To];
  TINYGEN_UNROLL
  for (int j = 0; j < From; j++) {
    TINYGEN_UNROLL
    for (int i = 0; i < From; i++) in[i] = load_at(i, j);
    transform(in, out);
    TINYGEN_UNROLL
    for (int i = 0; i < To; i++) half[i][j] = out[i];
  }
  TINYGEN_UNROLL
  for (int i = 0; i < To; i++) {
    transform(half[i], out);
    TINYGEN_UNROLL
    for (int j = 0; j < To; j++) store_at(i, j, out[j]);
  }
}

// x or y: NCHW.
template <class T>
struct Images {
  const T* data;
  index_t count, channels, height, width;
  index_t row_pad, column_pad;  // before the first element that the first tile meets
};

template <class T>
struct Job {
  Images<T> x, y;
  T* w;
};

struct Plan {
  index_t tile_rows, tile_columns;         // of an image
  index_t rows, chunk_rows, chunk_tiles;   // rows of tiles in all and per chunk
  index_t vectors, blocks, block_vectors;  // of k; vectors of the largest block
  index_t groups, slice_groups, slices;    // groups of channels, a panel per phase; how many a slice has; slices
  index_t x_pitch, y_pitch, sum_pitch;     // from one frequency to the next
  index_t shares, share_sums;              // of the rows, each with sums of its own; from one share's to the next
  bool sliced;                             // sum_slices, else sum_rows

  index_t units() const { return blocks * slices; }  // a unit: the sums of a block of k and a slice
  index_t first_vector(index_t block) const { return vectors * block / blocks; }
};

// The largest of equal shares of at most `limit`, or of 1.
inline index_t equal_share(index_t count, index_t limit) { return ceil_div(count, ceil_div(count, max(1, limit))); }

template <class T, int S>
Plan make_plan(const Job<T>& job, int use) {
  constexpr index_t L = lanes<T>, G = kPanelChannels<T>, size = sizeof(T);
  Plan plan = {};
  plan.tile_rows = ceil_div(job.y.height, kSide);
  plan.tile_columns = ceil_div(job.y.width, kSide);
  plan.rows = job.y.count * plan.tile_rows;
  plan.vectors = ceil_div(job.y.channels, L);
  plan.blocks = ceil_div(plan.vectors, kWeightVectors);
  plan.block_vectors = ceil_div(plan.vectors, plan.blocks);
  plan.groups = ceil_div(job.x.channels, G);
  index_t group_size = S * S * G, group_sums = group_size * plan.block_vectors * L;
  plan.slice_groups = equal_share(plan.groups, kSumBytes / (kFrequencies<S> * group_sums * size));
  plan.slices = ceil_div(plan.groups, plan.slice_groups);
  index_t tiles = plan.rows * plan.tile_columns;
  index_t sum_bytes = kFrequencies<S> * plan.groups * group_size * plan.vectors * L * size;
  index_t y_bytes = kFrequencies<S> * tiles * plan.vectors * L * size;
  // Threads that share rows read each other's sums once, threads that share slices the transformed y.
  bool few_sums = sum_bytes <= kPrivateBytes && sum_bytes < y_bytes;
  plan.shares = few_sums ? min(use, plan.rows) : 1;
  index_t slice_bytes = kFrequencies<S> * tiles * plan.slice_groups * group_size * size;
  bool balanced = 5 * plan.slices >= 4 * ceil_div(plan.slices, use) * use;
  plan.sliced = !few_sums && y_bytes <= kMostChunkBytes && slice_bytes <= kMostSliceBytes && balanced;
  if (plan.sliced) {
    plan.chunk_rows = plan.rows;
  } else {
    index_t row_bytes = kFrequencies<S> * plan.tile_columns * (plan.groups * group_size + plan.vectors * L) * size;
    index_t chunk_bytes = min(max(sum_bytes, kLeastChunkBytes), kMostChunkBytes);
    plan.chunk_rows = equal_share(ceil_div(plan.rows, plan.shares), chunk_bytes / row_bytes);
  }
  plan.chunk_tiles = plan.chunk_rows * plan.tile_columns;
  plan.x_pitch = odd_pitch<T>((plan.sliced ? plan.slice_groups : plan.groups) * group_size * plan.chunk_tiles);
  plan.y_pitch = odd_pitch<T>(plan.vectors * L * plan.chunk_tiles);
  plan.sum_pitch = odd_pitch<T>(plan.slice_groups * group_sums);
  plan.share_sums = plan.units() * kFrequencies<S> * plan.sum_pitch;
  return plan;
}

// Rows [top, top + rows) of one image and the L channels from `channel` on: copy[row][column][lane] with `columns`
// columns, of which the first is column -max(0, column_pad); zeros outside.
template <class T>
void read(const Images<T>& from, index_t image, index_t channel, index_t top, index_t rows, index_t columns, T* copy) {
  constexpr int L = lanes<T>;
  index_t plane = from.height * from.width, count = min(L, from.channels - channel), left = max(0, from.column_pad);
  index_t begin = min(max(0, top), top + rows), end = max(begin, min(from.height, top + rows));
  auto clear = [&](T* to, index_t pixels) {
    for (index_t i = 0; i < pixels; i++) store(to + i * L, Vector<T>{});
  };
  clear(copy, (begin - top) * columns);
  T* to = copy + (begin - top) * columns * L;
  const T* source = from.data + (image * from.channels + channel) * plane + begin * from.width;
  const T* source_end = from.data + from.count * from.channels * plane;
  index_t pixels = (end - begin) * from.width, gap = columns - from.width, column = 0;
  index_t ahead = pixels == plane ? ceil_div(kAheadPixels, plane) * from.channels * plane : pixels;  // images, or rows
  if (pixels) clear(to, left);
  to += left * L;
  for (index_t i = 0; i < pixels; i += L) {
    Vector<T> pixel[L];
    load_rows(source + i, plane, count, source_end, pixel, ahead);
    transpose<T>(pixel);
    TINYGEN_UNROLL
    for (int j = 0; j < L; j++) {
      if (i + j >= pixels) break;
      store(to, pixel[j]);
      to += L;
      if (++column < from.width) continue;
      column = 0;  // zeros between this row and the next
      clear(to, i + j + 1 < pixels ? gap : gap - left);
      to += gap * L;
    }
  }
  clear(copy + (end - top) * columns * L, (top + rows - end) * columns);
}

// Calls body(vector, image, row, rows, tile) for a thread's share of the rows of tiles [first, first + count) and
// vectors of channels: rows [row, row + rows) of an image, whose first tile is number `tile` of the chunk.
template <class Body>
void share_rows(const Plan& plan, index_t vectors, index_t first, index_t count, index_t most, int thread, int all,
                const Body& body) {
  index_t end = vectors * count * (thread + 1) / all;
  for (index_t i = vectors * count * thread / all; i < end;) {
    index_t row = (first + i % count) % plan.tile_rows;
    index_t rows = min(min(plan.tile_rows - row, count - i % count), min(most, end - i));
    body(i / count, (first + i % count) / plan.tile_rows, row, rows, i % count * plan.tile_columns);
    i += rows;
  }
}

// x of the channels in groups [g0, g1) and rows of tiles [first, first + count), a thread's share.
template <class T, int S>
void transform_x_rows(const Job<T>& job, const Plan& plan, index_t g0, index_t g1, index_t first, index_t count,
                      T* packed, int thread, int all) {
  constexpr int L = lanes<T>, G = kPanelChannels<T>, M = kPatchSide<S>, step = S * kSide, halo = S * (M - kSide);
  const Images<T>& x = job.x;
  index_t left = max(0, x.column_pad);
  index_t columns = left + max(x.width, plan.tile_columns * step + halo - x.column_pad);
  index_t most = max(1, kCopyBytes / (step * columns * L * static_cast<index_t>(sizeof(T))));
  T* copy = static_cast<T*>(scratch(kWindow, (most * step + halo) * columns * L * sizeof(T)));
  auto body = [&](index_t vector, index_t image, index_t row, index_t rows, index_t tile) {
    index_t local = vector * L, channel = g0 * G + local;
    read(x, image, channel, row * step - x.row_pad, rows * step + halo, columns, copy);
    T* to = packed + local / G * S * S * plan.chunk_tiles * G + tile * G + local % G;
    for (index_t i = 0; i < rows; i++)
      for (index_t j = 0; j < plan.tile_columns; j++, to += G)
        for (int phase = 0; phase < S * S; phase++) {
          const T* patch = copy + ((i * step + phase / S) * columns + left - x.column_pad + j * step + phase % S) * L;
          T* out = to + phase * plan.chunk_tiles * G;
          along_both<T, M, M>([](const auto& d, auto& e) { transform_x<T>(d, e); },
                              [&](int a, int b) { return load(patch + S * (a * columns + b) * L); },
                              [&](int a, int b, Vector<T> value) { store(out + (a * M + b) * plan.x_pitch, value); });
        }
  };
  share_rows(plan, ceil_div(min(g1 * G, x.channels) - g0 * G, L), first, count, most, thread, all, body);
}

template <class T, int S>
void transform_y_rows(const Job<T>& job, const Plan& plan, index_t first, index_t count, T* packed, int thread,
                      int all) {
  constexpr int L = lanes<T>, M = kPatchSide<S>;
  const Images<T>& y = job.y;
  index_t columns = plan.tile_columns * kSide;
  index_t most = max(1, kCopyBytes / (kSide * columns * L * static_cast<index_t>(sizeof(T))));
  T* copy = static_cast<T*>(scratch(kWindow, most * kSide * columns * L * sizeof(T)));
  auto body = [&](index_t vector, index_t image, index_t row, index_t rows, index_t tile) {
    read(y, image, vector * L, row * kSide, rows * kSide, columns, copy);
    index_t block = ((vector + 1) * plan.blocks - 1) / plan.vectors;
    index_t begin = plan.first_vector(block), width = (plan.first_vector(block + 1) - begin) * L;
    T* to = packed + begin * L * plan.chunk_tiles + tile * width + (vector - begin) * L;
    for (index_t i = 0; i < rows; i++)
      for (index_t j = 0; j < plan.tile_columns; j++, to += width) {
        const T* from = copy + (i * kSide * columns + j * kSide) * L;
        along_both<T, kSide, M>([](const auto& g, auto& u) { transform_y<T>(g, u); },
                                [&](int a, int b) { return load(from + (a * columns + b) * L); },
                                [&](int a, int b, Vector<T> value) { store(to + (a * M + b) * plan.y_pitch, value); });
      }
  };
  share_rows(plan, plan.vectors, first, count, most, thread, all, body);
}

// Adds the products of a chunk's tiles to sum[frequency][panel of the slice, channel][k] of one unit, for frequencies
// [f0, f1). x begins with the slice.
template <class T, int S>
void multiply(const Job<T>& job, const Plan& plan, const T* x, const T* y, index_t tiles, index_t unit, index_t f0,
              index_t f1, bool first, T* sum) {
  constexpr index_t L = lanes<T>, G = kPanelChannels<T>;
  index_t block = unit / plan.slices, slice = unit % plan.slices;
  index_t vectors = plan.first_vector(block + 1) - plan.first_vector(block), width = vectors * L;
  index_t c = slice * plan.slice_groups * G, slice_channels = min(plan.slice_groups * G, job.x.channels - c);
  index_t panels = ceil_div(slice_channels, G) * S * S, parts = ceil_div(tiles, kDepth);
  for (index_t f = f0; f < f1; f++) {
    const T* y_block = y + f * plan.y_pitch + plan.first_vector(block) * L * plan.chunk_tiles;
    for (index_t i = 0; i < parts; i++) {
      index_t tile = tiles * i / parts;
      const Patch patch = {1, 1, tiles * (i + 1) / parts - tile, 0, 0, 0, G / kInterleaved, 0, 0, 0};
      for (index_t panel = 0; panel < panels; panel++) {
        index_t channels = min(G, slice_channels - panel / (S * S) * G), split = ceil_div(channels, kWeightRows);
        const T* from = x + f * plan.x_pitch + (panel * plan.chunk_tiles + tile) * G;
        T* to = sum + f * plan.sum_pitch + panel * G * width;
        for (index_t s = 0; s < split; s++) {
          index_t row = channels * s / split, rows = channels * (s + 1) / split - row;
          pick_spread<T>(rows, vectors)(patch, from + row, y_block + tile * width, first && i == 0, to + row * width,
                                        width);
        }
      }
    }
  }
}

// The inverse transform of one unit, to w.
template <class T, int S>
void restore(const Job<T>& job, const Plan& plan, const T* sum, index_t unit) {
  constexpr index_t L = lanes<T>, G = kPanelChannels<T>;
  constexpr int R = kTapsSide<S>, M = kPatchSide<S>, kernel = S * R, taps = kernel * kernel;
  index_t block = unit / plan.slices, slice = unit % plan.slices;
  index_t k = plan.first_vector(block) * L, width = plan.first_vector(block + 1) * L - k;
  index_t c = slice * plan.slice_groups * G, channels = min(plan.slice_groups * G, job.x.channels - c);
  T* out = static_cast<T*>(scratch(kGeneral, channels * taps * width * sizeof(T)));
  for (index_t i = 0; i < channels; i++)
    for (int phase = 0; phase < S * S; phase++)
      for (index_t v = 0; v < width; v += L) {
        const T* from = sum + ((i / G * S * S + phase) * G + i % G) * width + v;
        T* to = out + (i * taps + phase / S * kernel + phase % S) * width + v;
        auto total = [&](int a, int b) {
          const T* part = from + (a * M + b) * plan.sum_pitch;
          Vector<T> value = load(part);
          for (index_t n = 1; n < plan.shares; n++) value += load(part + n * plan.share_sums);
          return value;
        };
        along_both<T, M, R>([](const auto& m, auto& o) { transform_w<T>(m, o); }, total,
                            [&](int a, int b, Vector<T> value) { store(to + (a * kernel + b) * S * width, value); });
      }
  index_t pairs = job.x.channels * taps;
  for (index_t v = 0; v < min(width, job.y.channels - k); v += L)  // few rows of w at a time
    transpose_copy(out + v, width, channels * taps, min(L, job.y.channels - k - v), job.w + (k + v) * pairs + c * taps,
                   pairs);
}

// The sums of rows of tiles [begin, end), by `all` threads together.
template <class T, int S>
void sum_rows(const Job<T>& job, const Plan& plan, index_t begin, index_t end, T* x, T* y, T* sums, int thread,
              int all) {
  constexpr index_t F = kFrequencies<S>;
  index_t items = plan.units() * F, slice_x = plan.slice_groups * S * S * plan.chunk_tiles * kPanelChannels<T>;
  for (index_t row = begin; row < end; row += plan.chunk_rows) {
    index_t rows = min(plan.chunk_rows, end - row);
    transform_x_rows<T, S>(job, plan, 0, plan.groups, row, rows, x, thread, all);
    transform_y_rows<T, S>(job, plan, row, rows, y, thread, all);
    barrier(all);
    for (index_t i = items * thread / all, stop = items * (thread + 1) / all; i < stop;) {
      index_t unit = i / F, f = i % F, count = min(F - f, stop - i);
      multiply<T, S>(job, plan, x + unit % plan.slices * slice_x, y, rows * plan.tile_columns, unit, f, f + count,
                     row == begin, sums + unit * F * plan.sum_pitch);
      i += count;
    }
    barrier(all);
  }
}

// All of it, a slice after the other, with sums that stay in L2: for sums that are large, of few tiles.
template <class T, int S>
void sum_slices(const Job<T>& job, const Plan& plan, T* x, T* y, T* sum, int thread, int all) {
  transform_y_rows<T, S>(job, plan, 0, plan.rows, y, thread, all);
  barrier(all);
  for (index_t slice = plan.slices * thread / all; slice < plan.slices * (thread + 1) / all; slice++) {
    index_t g0 = slice * plan.slice_groups, g1 = min(plan.groups, g0 + plan.slice_groups);
    transform_x_rows<T, S>(job, plan, g0, g1, 0, plan.rows, x, 0, 1);
    for (index_t block = 0; block < plan.blocks; block++) {
      index_t unit = block * plan.slices + slice;
      multiply<T, S>(job, plan, x, y, plan.chunk_tiles, unit, 0, kFrequencies<S>, true, sum);
      restore<T, S>(job, plan, sum, unit);
    }
  }
}

template <class T, int S>
void sum_tiles(const Job<T>& job) {
  int use = threads();
  const Plan plan = make_plan<T, S>(job, use);
  auto space = [](Slot slot, index_t pitch) {
    return static_cast<T*>(scratch(slot, kFrequencies<S> * pitch * sizeof(T)));
  };
  T *common_x = nullptr, *common_y = nullptr, *sums = nullptr;
  if (plan.shares == 1) common_y = space(kTransposed, plan.y_pitch);
  if (plan.shares == 1 && !plan.sliced) common_x = space(kPanel, plan.x_pitch);
  if (!plan.sliced) sums = space(kAccumulator, plan.shares * plan.units() * plan.sum_pitch);
  parallel(use, [&](int thread, int all) {
    if (plan.sliced) {
      T *x = space(kPanel, plan.x_pitch), *sum = space(kTile, plan.sum_pitch);
      sum_slices<T, S>(job, plan, x, common_y, sum, thread, all);
      return;
    }
    if (plan.shares == 1) {
      sum_rows<T, S>(job, plan, 0, plan.rows, common_x, common_y, sums, thread, all);
    } else {
      T *x = space(kPanel, plan.x_pitch), *y = space(kTransposed, plan.y_pitch);
      for (index_t i = plan.shares * thread / all; i < plan.shares * (thread + 1) / all; i++)
        sum_rows<T, S>(job, plan, plan.rows * i / plan.shares, plan.rows * (i + 1) / plan.shares, x, y,
                       sums + i * plan.share_sums, 0, 1);
      barrier(all);
    }
    index_t units = plan.units();
    for (index_t u = units * thread / all; u < units * (thread + 1) / all; u++)
      restore<T, S>(job, plan, sums + u * kFrequencies<S> * plan.sum_pitch, u);
  });
}

}  // namespace

TINYGEN_KERNEL(conv_weight_winograd, (const Geometry& geo, const T* x, const T* y, T* w)) {
  const Axis &rows = geo.rows, &cols = geo.cols;
  index_t all = geo.k * geo.c * rows.w * cols.w;
  if (all == 0) return;
  if (geo.n * rows.y * cols.y == 0) {
    for (index_t i = 0; i < all; i++) w[i] = 0;
    return;
  }
  const Job<T> job = {
      {x, geo.n, geo.c, rows.x, cols.x, rows.pad, cols.pad}, {y, geo.n, geo.k, rows.y, cols.y, 0, 0}, w};
  if (rows.stride == 1)
    sum_tiles<T, 1>(job);
  else
    sum_tiles<T, 2>(job);
}

}  // namespace TINYGEN_ISA
}  // namespace tinygen
