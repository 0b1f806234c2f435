// The gather form on tensor cores, float32 arrays, factors in tf32.
//
// terms = 1: both factors rounded to 10 bits, once, when they are stored to shared memory (relative error 5e-4).
// terms = 3: x = high + low, both tf32; high*high + high*low + low*high has float32's accuracy at three times the work
// (CUTLASS, example 27). The unit cuts its sums off instead of rounding them, a bias that would grow with k: so it adds up
// 8 of k at a time, and the ordinary units the rest (Ootomo and Yokota 2022).
#pragma once
#include "fragments.h"

#if defined(TENSOR_CORES) && !defined(DOUBLE)
template <int M, int J, int K, int WM, int WJ, int terms>
struct Tf32 : Fragments<J, WM, WJ> {
  static constexpr int kRows = M, kColumns = J, kDepth = K, kThreads = M / WM * (J / WJ) * 32;
  // Lines of K + 4: the eight rows of a matrix, and the runs that eight neighbouring lanes store, fall into different banks.
  template <int lines>
  struct alignas(16) Side {
    float at[lines][K + 4];
    static DEVICE float rounded(float x) { return terms == 1 ? __uint_as_float(to_tf32(x)) : x; }
    DEVICE void put(int line, int k, float value) { at[line][k] = rounded(value); }
    template <int n>
    DEVICE void put_run(int line, int k, const float (&v)[n]) {
      static_assert(n % 4 == 0, "whole vectors");
      UNROLL
      for (int i = 0; i < n; i += 4)
        *reinterpret_cast<float4*>(&at[line][k + i]) =
            float4{rounded(v[i]), rounded(v[i + 1]), rounded(v[i + 2]), rounded(v[i + 3])};
    }
  };
  struct Tile {
    Side<M> a;
    Side<J> b;
  };
  using Sums = Fragments<J, WM, WJ>;
  using Sums::j0, Sums::m0, Sums::sums, Sums::Sums;

  template <int n>
  static DEVICE void split(unsigned (&high)[n], unsigned (&low)[n]) {
    UNROLL
    for (int i = 0; i < n; i++) {
      const float x = __uint_as_float(high[i]);
      high[i] = (high[i] + 0x1000u) & ~0x1fffu;  // a NaN that overflows here is found in the difference
      low[i] = __float_as_uint(x - __uint_as_float(high[i]));  // mma leaves out 13 bits of it: 2^-21 of x
    }
  }
  DEVICE void multiply(const Tile& tile) {
    UNROLL_BY(terms == 3 ? 1 : K / 8)  // three terms unrolled would want more registers than there are
    for (int k = 0; k < K; k += 8) {
      unsigned b[WJ / 8][2], b_low[WJ / 8][2];
      UNROLL
      for (int j = 0; j < WJ / 8; j += 2) Sums::load_b(b[j], b[j + 1], tile.b, j0 + 8 * j, k);
      if (terms == 3) {
        UNROLL
        for (int j = 0; j < WJ / 8; j++) split(b[j], b_low[j]);
      }
      UNROLL
      for (int i = 0; i < WM / 16; i++) {
        unsigned a[4], a_low[4];
        Sums::load_a(a, tile.a, m0 + 16 * i, k);
        if (terms == 1) {
          UNROLL
          for (int j = 0; j < WJ / 8; j++) mma_tf32(sums[i][j], a, b[j]);
          continue;
        }
        split(a, a_low);
        float part[WJ / 8][4] = {};
        UNROLL
        for (int j = 0; j < WJ / 8; j++) mma_tf32(part[j], a_low, b[j]);
        UNROLL
        for (int j = 0; j < WJ / 8; j++) mma_tf32(part[j], a, b_low[j]);
        UNROLL
        for (int j = 0; j < WJ / 8; j++) mma_tf32(part[j], a, b[j]);
        UNROLL
        for (int j = 0; j < WJ / 8; j++)
          UNROLL
          for (int e = 0; e < 4; e++) sums[i][j][e] += part[j][e];
      }
    }
  }
};
#endif
