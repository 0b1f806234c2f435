// The innermost loops: a block of results that stays in registers while the reduction runs.
//
// tile<T, M, N>: M rows x N vectors of  c[i][j] = init[i] + sum over k of  a[k][i] * b[k][j];  per step N vector loads
// of b, M broadcasts of a and M * N fused multiply-adds. The full block is as large as the registers allow: 8 x 3 of 32
// (AVX-512), 6 x 2 of 16 (AVX2, baseline 4 x 2 because it has no fused multiply-add and needs room for products).
#pragma once

#include "../vector.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

#if TINYGEN_VECTOR_BYTES == 64
constexpr int kRows = 8, kVectors = 3;
#elif TINYGEN_VECTOR_BYTES == 32
constexpr int kRows = 6, kVectors = 2;
#else
constexpr int kRows = 4, kVectors = 2;
#endif

// c (row pitch `pitch`, `width` of the N * lanes columns are stored) from a [depth][kRows] and b (row pitch b_pitch).
// `first`: start from init (null: zero); otherwise add to what c holds.
template <class T, int M, int N>
__attribute__((noinline)) void tile(index_t depth, const T* __restrict a, const T* __restrict b, index_t b_pitch,
                                    const T* __restrict init, bool first, T* __restrict c, index_t pitch,
                                    index_t width) {
  constexpr int L = lanes<T>;
  Vector<T> sum[M][N];
  alignas(64) T edge[M * N * L];  // a partial block is loaded and stored through here
  bool whole = width == N * L;
  if (first) {
    TINYGEN_UNROLL
    for (int i = 0; i < M; i++) {
      Vector<T> start = init ? splat(init[i]) : Vector<T>{};
      TINYGEN_UNROLL
      for (int j = 0; j < N; j++) sum[i][j] = start;
    }
  } else {
    const T* from = c;
    index_t step = pitch;
    if (!whole) {
      for (int i = 0; i < M; i++) copy_exactly(edge + i * N * L, c + i * pitch, width);
      from = edge;
      step = N * L;
    }
    TINYGEN_UNROLL
    for (int i = 0; i < M; i++) {
      TINYGEN_UNROLL
      for (int j = 0; j < N; j++) sum[i][j] = load(from + i * step + j * L);
    }
  }
  for (index_t k = 0; k < depth; k++) {
    Vector<T> row[N];
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) row[j] = load(b + j * L);
    TINYGEN_UNROLL
    for (int i = 0; i < M; i++) {
      Vector<T> factor = splat(a[i]);
      TINYGEN_UNROLL
      for (int j = 0; j < N; j++) sum[i][j] += factor * row[j];
    }
    a += kRows;
    b += b_pitch;
  }
  T* to = whole ? c : edge;
  index_t step = whole ? pitch : N * L;
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) {
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) store(to + i * step + j * L, sum[i][j]);
    if (!whole)
      for (int i = 0; i < M; i++) copy_exactly(c + i * pitch, edge + i * N * L, width);
  }
}

template <class T>
using TileFunction = void (*)(index_t, const T*, const T*, index_t, const T*, bool, T*, index_t, index_t);

template <class T, int M>
inline TileFunction<T> pick_tile_width(index_t vectors) {
#if TINYGEN_VECTOR_BYTES == 64
  if (vectors == 3) return tile<T, M, 3>;
#endif
  return vectors == 2 ? tile<T, M, 2> : tile<T, M, 1>;
}

// The tile for `rows` <= kRows and `vectors` <= kVectors.
template <class T>
inline TileFunction<T> pick_tile(index_t rows, index_t vectors) {
  switch (rows) {
    case 1:
      return pick_tile_width<T, 1>(vectors);
    case 2:
      return pick_tile_width<T, 2>(vectors);
    case 3:
      return pick_tile_width<T, 3>(vectors);
#if TINYGEN_VECTOR_BYTES >= 32
    case 4:
      return pick_tile_width<T, 4>(vectors);
    case 5:
      return pick_tile_width<T, 5>(vectors);
#endif
#if TINYGEN_VECTOR_BYTES == 64
    case 6:
      return pick_tile_width<T, 6>(vectors);
    case 7:
      return pick_tile_width<T, 7>(vectors);
#endif
    default:
      return pick_tile_width<T, kRows>(vectors);
  }
}

// How many vectors a block of results gets, for `vectors` in all: 1 .. kVectors, so that blocks are as full as
// possible.
inline index_t vectors_per_block(index_t vectors) {
  index_t best = 1, least = -1;
  for (index_t n = min(kVectors, max(1, vectors)); n > 1 || least < 0; n--) {
    index_t padded = (vectors + n - 1) / n * n;
    if (least < 0 || padded * 16 < least * 15) best = n, least = padded;  // wider blocks are a little faster
  }
  return best;
}

}  // namespace
}  // namespace TINYGEN_ISA
}  // namespace tinygen
