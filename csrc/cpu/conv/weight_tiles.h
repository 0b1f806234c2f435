// The innermost loops of conv_weight: a block of sums that stays in registers over all pixels of a band.
//
// Both keep M x N vectors of sums, 8 x 3 with the 32 registers of AVX-512, 6 x 2 of 16 with AVX2 (baseline 4 x 2: it
// has no fused multiply-add and needs room for products). `first`: start from zero; otherwise add to what `sum` holds.
#pragma once

#include "../vector.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

#if TINYGEN_VECTOR_BYTES == 64
constexpr int kWeightRows = 8, kWeightVectors = 3;
#elif TINYGEN_VECTOR_BYTES == 32
constexpr int kWeightRows = 6, kWeightVectors = 2;
#else
constexpr int kWeightRows = 4, kWeightVectors = 2;
#endif
constexpr int kInterleaved = kWeightRows > 4 ? 8 : 4;  // channels of x side by side: a power of two

// Where one tap meets the image: a rectangle of pixels of y in each of some images, and the pixels of x beside it.
struct Patch {
  index_t images, rows, columns;
  index_t x, x_image, x_row, x_column;  // in pixels: the first one, and the steps to the next image, row, column
  index_t y, y_image, y_row;            // likewise; columns of y are neighbours
};

// sum[i][j] (rows `pitch` apart) += x[pixel][i] * y[pixel][j] over the pixels of a patch: lanes run over the output
// channels, x is broadcast. x is [pixel][kInterleaved], y [pixel][N vectors].
template <class T, int M, int N>
__attribute__((noinline)) void spread(const Patch& patch, const T* __restrict x, const T* __restrict y, bool first,
                                      T* __restrict sum, index_t pitch) {
  constexpr int L = lanes<T>;
  Vector<T> total[M][N];
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) {
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) total[i][j] = first ? Vector<T>{} : load(sum + i * pitch + j * L);
  }
  index_t step = patch.x_column * kInterleaved;
  for (index_t n = 0; n < patch.images; n++)
    for (index_t r = 0; r < patch.rows; r++) {
      const T* from = x + (patch.x + n * patch.x_image + r * patch.x_row) * kInterleaved;
      const T* row = y + (patch.y + n * patch.y_image + r * patch.y_row) * (N * L);
      for (index_t q = 0; q < patch.columns; q++) {
        Vector<T> vector[N];
        TINYGEN_UNROLL
        for (int j = 0; j < N; j++) {
          vector[j] = load(row + j * L);
          load_once(vector[j]);
        }
        TINYGEN_UNROLL
        for (int i = 0; i < M; i++) {
          Vector<T> factor = splat(from[i]);
          TINYGEN_UNROLL
          for (int j = 0; j < N; j++) total[i][j] += factor * vector[j];
        }
        from += step;
        row += N * L;
      }
    }
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) {
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) store(sum + i * pitch + j * L, total[i][j]);
  }
}

template <class T>
using SpreadFunction = void (*)(const Patch&, const T*, const T*, bool, T*, index_t);

// spread<T, rows, vectors>, for rows <= M and vectors <= kWeightVectors.
template <class T, int M = kWeightRows>
inline SpreadFunction<T> pick_spread(index_t rows, index_t vectors) {
  if constexpr (M > 1)
    if (rows < M) return pick_spread<T, M - 1>(rows, vectors);
  if constexpr (kWeightVectors > 2)
    if (vectors > 2) return spread<T, M, kWeightVectors>;
  return vectors == 2 ? spread<T, M, 2> : spread<T, M, 1>;
}

// The pixels of a band of y as `dots` walks them, a plane of each image: `whole` vectors, and, if `rest`, one more at
// element `last` of which only the lanes in `mask` count (the others are done already, or beyond the end).
template <class T>
struct Strip {
  index_t images, whole, last;
  bool rest;
  typename VectorOf<T>::mask mask;
  index_t x_image, y_image, y_channel;  // steps in elements
};

template <class T, int M, int N, bool kMasked>
TINYGEN_INLINE void dots_step(const T* const (&x)[M], const T* const (&y)[N], index_t at,
                              typename VectorOf<T>::mask mask, Vector<T> (&total)[M][N]) {
  typedef typename VectorOf<T>::mask Mask;
  Vector<T> vector[N];
  TINYGEN_UNROLL
  for (int j = 0; j < N; j++) {
    vector[j] = load(y[j] + at);
    if constexpr (kMasked) vector[j] = Vector<T>(Mask(vector[j]) & mask);
    load_once(vector[j]);
  }
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) {
    Vector<T> factor = load(x[i] + at);
    if constexpr (kMasked) factor = Vector<T>(Mask(factor) & mask);
    load_once(factor);
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) total[i][j] += factor * vector[j];
  }
}

// sum[i][j] (vectors; rows `pitch` elements apart) += x[offset[i] + .] * y[j][.] over the pixels of a strip: lanes run
// over the pixels, each sum is a vector of partial sums.
template <class T, int M, int N>
__attribute__((noinline)) void dots(const Strip<T>& strip, const T* __restrict x, const index_t* __restrict offset,
                                    const T* __restrict y, bool first, T* __restrict sum, index_t pitch) {
  constexpr int L = lanes<T>;
  Vector<T> total[M][N];
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) {
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) total[i][j] = first ? Vector<T>{} : load(sum + i * pitch + j * L);
  }
  for (index_t n = 0; n < strip.images; n++) {
    const T *px[M], *py[N];
    TINYGEN_UNROLL
    for (int i = 0; i < M; i++) px[i] = x + n * strip.x_image + offset[i];
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) py[j] = y + n * strip.y_image + j * strip.y_channel;
    for (index_t v = 0; v < strip.whole; v++) dots_step<T, M, N, false>(px, py, v * L, strip.mask, total);
    if (strip.rest) dots_step<T, M, N, true>(px, py, strip.last, strip.mask, total);
  }
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) {
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) store(sum + i * pitch + j * L, total[i][j]);
  }
}

template <class T>
using DotsFunction = void (*)(const Strip<T>&, const T*, const index_t*, const T*, bool, T*, index_t);

// dots<T, rows, vectors>, for rows <= M and vectors <= kWeightVectors.
template <class T, int M = kWeightRows>
inline DotsFunction<T> pick_dots(index_t rows, index_t vectors) {
  if constexpr (M > 1)
    if (rows < M) return pick_dots<T, M - 1>(rows, vectors);
  if constexpr (kWeightVectors > 2)
    if (vectors > 2) return dots<T, M, kWeightVectors>;
  return vectors == 2 ? dots<T, M, 2> : dots<T, M, 1>;
}

}  // namespace
}  // namespace TINYGEN_ISA
}  // namespace tinygen
