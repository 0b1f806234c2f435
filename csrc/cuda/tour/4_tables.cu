// Step 4: tables instead of divisions. The address of a patch's element is a term of the tap plus a term of the pixel,
// and so is its position in the image: the host writes both into tables, once per geometry
// (tinygen/backends/cuda/gather.py).
//
// A lookup is two loads from the cache, two additions and two bit operations. `inside` is explained in ../gather.h.
#include "tour/tour.h"
#include "gather.h"

KERNEL(256, convolution, LAYER, const int2* __restrict__ of_tap, const int2* __restrict__ of_pixel, long long limit,
       long long signs) {
  SHARED(float, a, [8][68]);
  SHARED(float, b, [8][68]);
  const int t = int(threadIdx.x), m0 = t / 16 * 4, j0 = t % 16 * 4, taps = int(c * size * size);
  const long long pixels = n * p * q, tiles = (pixels + 63) / 64;
  const long long m_base = blockIdx.x / tiles * 64, j_base = blockIdx.x % tiles * 64;
  const long long mine = j_base + t % 64;  // this thread always loads the same pixel
  const int2 pixel_word = of_pixel[mine < pixels ? mine : 0];
  float sums[4][4] = {};
  for (int first = 0; first < taps; first += 8) {
    for (int i = t; i < 512; i += 256) {
      const int depth = i % 8, m = i / 8;
      a[depth][m] = m_base + m < k && first + depth < taps ? w[(m_base + m) * taps + first + depth] : 0.f;
    }
    for (int depth = t / 64; depth < 8; depth += 4) {
      const int2 tap = of_tap[first + depth < taps ? first + depth : 0];
      const bool there = first + depth < taps && inside(tap.y, pixel_word.y, unsigned(limit), unsigned(signs));
      b[depth][t % 64] = there ? x[tap.x + pixel_word.x] : 0.f;
    }
    __syncthreads();
    UNROLL
    for (int depth = 0; depth < 8; depth++)
      UNROLL
      for (int i = 0; i < 4; i++)
        UNROLL
        for (int j = 0; j < 4; j++) sums[i][j] += a[depth][m0 + i] * b[depth][j0 + j];
    __syncthreads();
  }
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) {
      const long long m = m_base + m0 + i, pixel = j_base + j0 + j;
      if (m < k && pixel < pixels) y[(pixel / (p * q) * k + m) * p * q + pixel % (p * q)] = sums[i][j];
    }
}
