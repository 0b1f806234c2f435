// Step 3: sixteen sums per thread. A block computes 64 x 64 outputs, a thread 4 x 4 of them: eight numbers from shared
// memory for sixteen multiplications instead of two for one.
//
// What is left beside the arithmetic is the lookup: two divisions and two remainders for each number of b.
#include "tour/tour.h"

KERNEL(256, convolution, LAYER) {
  SHARED(float, a, [8][68]);
  SHARED(float, b, [8][68]);
  const int t = int(threadIdx.x), m0 = t / 16 * 4, j0 = t % 16 * 4, taps = int(c * size * size);
  const long long pixels = n * p * q, tiles = (pixels + 63) / 64;
  const long long m_base = blockIdx.x / tiles * 64, j_base = blockIdx.x % tiles * 64;
  float sums[4][4] = {};
  for (int first = 0; first < taps; first += 8) {
    for (int i = t; i < 512; i += 256) {
      const int depth = i % 8, m = i / 8;
      a[depth][m] = m_base + m < k && first + depth < taps ? w[(m_base + m) * taps + first + depth] : 0.f;
    }
    for (int i = t; i < 512; i += 256) {
      const int depth = i / 64, j = i % 64, tap = first + depth;
      const int channel = tap / int(size * size), r = tap / int(size) % int(size), s = tap % int(size);
      const long long pixel = j_base + j, image = pixel / (p * q);
      const long long top = pixel / q % p * stride + r - pad, left = pixel % q * stride + s - pad;
      const bool there = pixel < pixels && tap < taps && top >= 0 && top < h && left >= 0 && left < width;
      b[depth][j] = there ? x[((image * c + channel) * h + top) * width + left] : 0.f;
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
