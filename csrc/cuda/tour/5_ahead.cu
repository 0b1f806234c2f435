// Step 5: the next tile on its way while this one is multiplied. Asynchronous copies go from global to shared memory
// without passing through registers; two buffers, and one barrier per tile instead of two.
//
// Before, a block waited for memory at each tile and could only hope that another block had work. ../gemm_simt.cu is the
// next step: the same with 128 x 128 outputs to a block, 8 x 8 to a thread, and 16-byte loads from shared memory;
// ../gemm_tf32.cu puts tensor cores in the place of the innermost loops.
#include "tour/tour.h"
#include "gather.h"

KERNEL(256, convolution, LAYER, const int2* __restrict__ of_tap, const int2* __restrict__ of_pixel, long long limit,
       long long signs) {
  SHARED(float, a, [2][8][68]);
  SHARED(float, b, [2][8][68]);
  const int t = int(threadIdx.x), m0 = t / 16 * 4, j0 = t % 16 * 4, taps = int(c * size * size);
  const long long pixels = n * p * q, tiles = (pixels + 63) / 64;
  const long long m_base = blockIdx.x / tiles * 64, j_base = blockIdx.x % tiles * 64;
  const long long mine = j_base + t % 64;
  const int2 pixel_word = of_pixel[mine < pixels ? mine : 0];
  const auto load = [&](int buffer, int first) {
    for (int i = t; i < 512; i += 256) {
      const int depth = i % 8, m = i / 8;
      const bool there = m_base + m < k && first + depth < taps;
      copy_async(&a[buffer][depth][m], there ? &w[(m_base + m) * taps + first + depth] : w, there);
    }
    for (int depth = t / 64; depth < 8; depth += 4) {
      const int2 tap = of_tap[first + depth < taps ? first + depth : 0];
      const bool there = first + depth < taps && inside(tap.y, pixel_word.y, unsigned(limit), unsigned(signs));
      copy_async(&b[buffer][depth][t % 64], there ? &x[tap.x + pixel_word.x] : x, there);
    }
    copy_commit();
  };
  float sums[4][4] = {};
  load(0, 0);
  for (int first = 0, buffer = 0; first < taps; first += 8, buffer ^= 1) {
    copy_wait<0>();
    __syncthreads();  // this tile is there, and everyone has left the other
    if (first + 8 < taps) load(buffer ^ 1, first + 8);
    UNROLL
    for (int depth = 0; depth < 8; depth++)
      UNROLL
      for (int i = 0; i < 4; i++)
        UNROLL
        for (int j = 0; j < 4; j++) sums[i][j] += a[buffer][depth][m0 + i] * b[buffer][depth][j0 + j];
  }
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) {
      const long long m = m_base + m0 + i, pixel = j_base + j0 + j;
      if (m < k && pixel < pixels) y[(pixel / (p * q) * k + m) * p * q + pixel % (p * q)] = sums[i][j];
    }
}
