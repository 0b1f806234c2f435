// Precision "medium": factors rounded to bfloat16 when they are stored to shared memory, float32 sums; arrays stay float32.
//
// Two neighbours along k share a register of a fragment and a word of shared memory, the lower k in the lower half.
#include "fragments.h"

#if defined(TENSOR_CORES) && !defined(DOUBLE)
template <int M, int J, int K, int WM, int WJ>
struct Bf16 : Fragments<J, WM, WJ> {
  static constexpr int kRows = M, kColumns = J, kDepth = K, kThreads = M / WM * (J / WJ) * 32;
  // Lines of K + 8: see gemm_tf32.h.
  template <int lines>
  struct alignas(16) Side {
    unsigned short at[lines][K + 8];
    DEVICE void put(int line, int k, float value) { at[line][k] = to_bf16(value); }
    template <int n>
    DEVICE void put_run(int line, int k, const float (&v)[n]) {
      static_assert(n % 8 == 0, "whole vectors");
      const auto two = [&](int i) { return to_bf16(v[i]) | unsigned(to_bf16(v[i + 1])) << 16; };
      UNROLL
      for (int i = 0; i < n; i += 8)
        *reinterpret_cast<uint4*>(&at[line][k + i]) = uint4{two(i), two(i + 2), two(i + 4), two(i + 6)};
    }
  };
  struct Tile {
    Side<M> a;
    Side<J> b;
  };
  using Sums = Fragments<J, WM, WJ>;
  using Sums::j0, Sums::m0, Sums::sums, Sums::Sums;

  DEVICE void multiply(const Tile& tile) {
    UNROLL
    for (int k = 0; k < K; k += 16) {
      unsigned a[WM / 16][4], b[WJ / 8][2];
      UNROLL
      for (int i = 0; i < WM / 16; i++) Sums::load_a(a[i], tile.a, m0 + 16 * i, k);
      UNROLL
      for (int j = 0; j < WJ / 8; j += 2) Sums::load_b(b[j], b[j + 1], tile.b, j0 + 8 * j, k);
      UNROLL
      for (int i = 0; i < WM / 16; i++)
        UNROLL
        for (int j = 0; j < WJ / 8; j++) mma_bf16(sums[i][j], a[i], b[j]);
    }
  }
};

typedef Bf16<64, 64, 32, 32, 32> Bf16Small;
typedef Bf16<128, 128, 32, 64, 32> Bf16Large;
GATHER_KERNEL(3, 128, gemm_bf16_64, Bf16Small, false, false)
GATHER_KERNEL(3, 128, gemm_bf16_64_k, Bf16Small, false, true)
GATHER_KERNEL(3, 128, gemm_bf16_64_m, Bf16Small, true, false)
GATHER_KERNEL(1, 256, gemm_bf16_128, Bf16Large, false, false)
GATHER_KERNEL(1, 256, gemm_bf16_128_k, Bf16Large, false, true)
GATHER_KERNEL(1, 256, gemm_bf16_128_m, Bf16Large, true, false)
#endif
