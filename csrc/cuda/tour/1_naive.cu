// Step 1: the definition. A thread per output, which loops over channels and taps.
//
// Each product reads two numbers from memory (the cache, mostly), so loads set the pace: two of them, some ten
// instructions of addressing and two comparisons for one multiplication.
#include "tour/tour.h"

KERNEL(256, convolution, LAYER) {
  const long long i = blockIdx.x * 256ll + threadIdx.x;
  if (i >= n * k * p * q) return;
  const int column = int(i % q), row = int(i / q % p), filter = int(i / (q * p) % k), image = int(i / (q * p * k));
  float sum = 0;
  for (int channel = 0; channel < c; channel++)
    for (int r = 0; r < size; r++)
      for (int s = 0; s < size; s++) {
        const long long top = row * stride + r - pad, left = column * stride + s - pad;
        if (top < 0 || top >= h || left < 0 || left >= width) continue;
        sum += x[((image * c + channel) * h + top) * width + left] * w[((filter * c + channel) * size + r) * size + s];
      }
  y[i] = sum;
}
