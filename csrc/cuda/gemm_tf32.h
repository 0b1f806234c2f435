// The gather form on tensor cores, float32 arrays, factors in tf32.
//
// terms = 1: both factors rounded to 10 bits, once, when they are stored to shared memory (relative error 5e-4).
// terms = 3: x = high + low, both tf32; high*high + high*low + low*high has float32's accuracy at three times the work
// (CUTLASS, example 27; Ootomo and Yokota 2022).
#pragma once
#include "fragments.h"

#if defined(TENSOR_CORES) && !defined(DOUBLE)
template <int M, int J, int K, int WM, int WJ, int terms>
struct Tf32 : Fragments<J, WM, WJ> {
  static constexpr int kRows = M, kColumns = J, kDepth = K, kThreads = M / WM * (J / WJ) * 32;
  // Rows of M + 8: a fragment's 32 loads, 4 along k and 8 along m, fall into different banks.
  struct alignas(16) Tile {
    float a[K][M + 8], b[K][J + 8];
    static DEVICE float rounded(float x) { return terms == 1 ? __uint_as_float(to_tf32(x)) : x; }
    DEVICE void put_a(int k, int m, float value) { a[k][m] = rounded(value); }
    DEVICE void put_b(int k, int j, float value) { b[k][j] = rounded(value); }
  };
  using Sums = Fragments<J, WM, WJ>;
  using Sums::g, Sums::j0, Sums::m0, Sums::sums, Sums::t, Sums::Sums;
  static DEVICE void split(float x, unsigned& high, unsigned& low) {
    high = terms == 1 ? __float_as_uint(x) : to_tf32(x);
    low = terms == 1 ? 0 : to_tf32(x - __uint_as_float(high));
  }
  DEVICE void multiply(const Tile& tile) {
    UNROLL
    for (int k = 0; k < K; k += 8) {
      unsigned a[WM / 16][4], a_low[WM / 16][4], b[WJ / 8][2], b_low[WJ / 8][2];
      UNROLL
      for (int i = 0; i < WM / 16; i++)
        UNROLL
        for (int e = 0; e < 4; e++) split(tile.a[k + t + e / 2 * 4][m0 + 16 * i + g + e % 2 * 8], a[i][e], a_low[i][e]);
      UNROLL
      for (int j = 0; j < WJ / 8; j++)
        UNROLL
        for (int e = 0; e < 2; e++) split(tile.b[k + t + 4 * e][j0 + 8 * j + g], b[j][e], b_low[j][e]);
      UNROLL
      for (int i = 0; i < WM / 16; i++)
        UNROLL
        for (int j = 0; j < WJ / 8; j++) {
          if (terms == 3) {
            mma_tf32(sums[i][j], a_low[i], b[j]);
            mma_tf32(sums[i][j], a[i], b_low[j]);
          }
          mma_tf32(sums[i][j], a[i], b[j]);
        }
    }
  }
};
#endif
