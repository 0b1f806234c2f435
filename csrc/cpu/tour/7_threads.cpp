// Step 7: threads, each with its own share of the output.
//
// Before: one core. Now the output rows of all blocks of images are dealt out in equal, contiguous shares, one a
// thread; weights and images are packed in shares too. No sum crosses threads: each output is computed as in step 6,
// in the same order, so that results are bit for bit the same for any number of threads.
// Why: a second core has its own registers, L1 and L2. What it does not have is a memory of its own: shares write to
// rows of their own and read the same weights, which costs nothing. The threads come from a pool (pool.h).
// Gained, on Zen 4 with two cores: x 1.96, to 218 GFLOP/s.
#include <cstring>
#include <vector>

#include "../vector.h"
#include "pool.h"
#include "tour.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

typedef Vector<float> V;
constexpr int kLanes = lanes<float>, kVectors = 2, kImages = kVectors * kLanes;
constexpr int kFilters = kLanes == 16 ? 8 : kLanes == 8 ? 6 : 4;

struct Tap {
  long source, weight;  // offsets in a channel of the transposed source and of the packed weights
};

// sum[i, image] = sum over channels and taps; `at` and `w` are those of channel 0.
void tile(long channels, long taps, const Tap* tap, const float* at, long plane, const float* w, long weights,
          float* sum, long pitch) {
  V total[kFilters][kVectors] = {};
  for (long c = 0; c < channels; c++, at += plane, w += weights)
    for (long t = 0; t < taps; t++) {
      const float *from = at + tap[t].source, *weight = w + tap[t].weight;
      V source[kVectors];
      TINYGEN_UNROLL
      for (int j = 0; j < kVectors; j++) source[j] = load(from + j * kLanes);
      TINYGEN_UNROLL
      for (int i = 0; i < kFilters; i++) {
        V factor = splat(weight[i]);
        TINYGEN_UNROLL
        for (int j = 0; j < kVectors; j++) total[i][j] += factor * source[j];
      }
    }
  TINYGEN_UNROLL
  for (int i = 0; i < kFilters; i++) {
    TINYGEN_UNROLL
    for (int j = 0; j < kVectors; j++) store(sum + i * pitch + j * kLanes, total[i][j]);
  }
}

}  // namespace
}  // namespace TINYGEN_ISA
}  // namespace tinygen

extern "C" void convolution(const Layer& l, const float* x, const float* w, float* y, int threads) {
  using namespace tinygen::TINYGEN_ISA;
  const long window = l.size * l.size, plane = l.height * l.width, pitch = plane * kImages,
             out = l.out_height * l.out_width;
  const long filter_blocks = (l.filters + kFilters - 1) / kFilters, image_blocks = (l.images + kImages - 1) / kImages;
  static Scratch memory[2];
  float* packed = memory[0].floats(filter_blocks * l.depth() * kFilters);  // [block][channel][tap][filter]
  float* source = memory[1].floats(image_blocks * l.channels * pitch);     // [block][channel][row][column][image]

  pool().share(threads, filter_blocks, [&](long begin, long end) {
    for (long k = begin * kFilters; k < end * kFilters; k++)
      for (long d = 0; d < l.depth(); d++)
        packed[(k / kFilters * l.depth() + d) * kFilters + k % kFilters] = k < l.filters ? w[k * l.depth() + d] : 0;
  });
  pool().share(threads, image_blocks * l.channels, [&](long begin, long end) {
    for (long i = begin; i < end; i++) {
      const long n = i / l.channels * kImages, c = i % l.channels, per_image = l.channels * plane;
      const long images = min(kImages, l.images - n);
      if (images < kImages) std::memset(source + i * pitch, 0, pitch * sizeof(float));
      transpose_copy(x + n * per_image + c * plane, per_image, images, plane, source + i * pitch, kImages);
    }
  });
  pool().share(threads, image_blocks * l.out_height, [&](long begin, long end) {
    static thread_local Scratch own;
    float* sums = own.floats(filter_blocks * kFilters * l.out_width * kImages);  // [filter][column][image], of a row
    std::vector<Tap> taps(window);
    for (long i = begin; i < end; i++) {
      const long n = i / l.out_height * kImages, p = i % l.out_height;
      for (long q = 0; q < l.out_width; q++) {
        long count = 0;
        for (long t = 0; t < window; t++) {
          long row = l.stride * p + t / l.size - l.pad, column = l.stride * q + t % l.size - l.pad;
          if (row >= 0 && row < l.height && column >= 0 && column < l.width)
            taps[count++] = {(row * l.width + column) * kImages, t * kFilters};
        }
        for (long b = 0; b < filter_blocks; b++)
          tile(l.channels, count, taps.data(), source + n / kImages * l.channels * pitch, pitch,
               packed + b * l.depth() * kFilters, window * kFilters, sums + (b * kFilters * l.out_width + q) * kImages,
               l.out_width * kImages);
      }
      for (long k = 0; k < l.filters; k++)
        transpose_copy(sums + k * l.out_width * kImages, kImages, l.out_width, min(kImages, l.images - n),
                       y + (n * l.filters + k) * out + p * l.out_width, l.filters * out);
    }
  });
}
