// Step 2: a matrix product in tiles. y (k, pixels) = w (k, taps) times the image's patches (taps, pixels), which nobody
// writes down: their elements are looked up while a tile is loaded.
//
// A block computes 16 x 16 outputs. It loads 16 x 16 of each factor into shared memory, where every number is used 16
// times: memory is read a sixteenth as often. Now shared memory sets the pace, two loads for one multiplication.
#include "tour/tour.h"

KERNEL(256, convolution, LAYER) {
  SHARED(float, a, [16][17]);  // 17: the lanes of a warp fall into different banks
  SHARED(float, b, [16][17]);
  const int tx = int(threadIdx.x) % 16, ty = int(threadIdx.x) / 16, taps = int(c * size * size);
  const long long pixels = n * p * q, tiles = (pixels + 15) / 16;
  const long long filter = blockIdx.x / tiles * 16 + ty, pixel = blockIdx.x % tiles * 16 + tx;
  const long long image = pixel / (p * q), row = pixel / q % p, column = pixel % q;
  float sum = 0;
  for (int first = 0; first < taps; first += 16) {
    a[ty][tx] = filter < k && first + tx < taps ? w[filter * taps + first + tx] : 0.f;
    const int tap = first + ty, channel = tap / int(size * size), r = tap / int(size) % int(size), s = tap % int(size);
    const long long top = row * stride + r - pad, left = column * stride + s - pad;
    const bool there = pixel < pixels && tap < taps && top >= 0 && top < h && left >= 0 && left < width;
    b[ty][tx] = there ? x[((image * c + channel) * h + top) * width + left] : 0.f;
    __syncthreads();
    for (int i = 0; i < 16; i++) sum += a[ty][i] * b[i][tx];
    __syncthreads();
  }
  if (filter < k && pixel < pixels) y[((image * k + filter) * p + row) * q + column] = sum;
}
