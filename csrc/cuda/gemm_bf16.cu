// Precision "medium": factors rounded to bfloat16 when they are stored to shared memory, float32 sums; arrays stay float32.
//
// Two neighbours along k share a register of a fragment and a word of shared memory, the lower k in the lower half.
#include "fragments.h"

#if defined(TENSOR_CORES) && !defined(DOUBLE)
template <int M, int J, int K, int WM, int WJ>
struct Bf16 : Fragments<J, WM, WJ> {
  static constexpr int kRows = M, kColumns = J, kDepth = K, kThreads = M / WM * (J / WJ) * 32;
  struct alignas(16) Tile {
    unsigned short a[K / 2][M + 8][2], b[K / 2][J + 8][2];
    DEVICE void put_a(int k, int m, float value) { a[k / 2][m][k % 2] = to_bf16(value); }
    DEVICE void put_b(int k, int j, float value) { b[k / 2][j][k % 2] = to_bf16(value); }
    static DEVICE unsigned pair(const unsigned short (&two)[2]) { return two[0] | unsigned(two[1]) << 16; }
  };
  using Sums = Fragments<J, WM, WJ>;
  using Sums::g, Sums::j0, Sums::m0, Sums::sums, Sums::t, Sums::Sums;
  DEVICE void multiply(const Tile& tile) {
    UNROLL
    for (int k = 0; k < K / 2; k += 8) {
      unsigned a[WM / 16][4], b[WJ / 8][2];
      UNROLL
      for (int i = 0; i < WM / 16; i++)
        UNROLL
        for (int e = 0; e < 4; e++) a[i][e] = Tile::pair(tile.a[k + t + e / 2 * 4][m0 + 16 * i + g + e % 2 * 8]);
      UNROLL
      for (int j = 0; j < WJ / 8; j++)
        UNROLL
        for (int e = 0; e < 2; e++) b[j][e] = Tile::pair(tile.b[k + t + 4 * e][j0 + 8 * j + g]);
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
