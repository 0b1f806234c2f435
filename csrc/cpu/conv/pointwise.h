// Gather with a single tap at stride 1 and no padding: a matrix product per image, lanes over pixels.
//
// Idea       out[m, pixel] = bias[m] + sum over channels of weight[m, channel] * source[channel, pixel]: nothing needs
// to
//            be transposed. A chunk of two vectors of pixels is copied to [channel][pixel], which stays in L1 while all
//            results pass, kPointResults at a time; the sums go straight to the output.
// Memory     Such layers are as much memory as arithmetic, so both run at once: while a tile is computed, prefetches
//            bring the lines of the output that it will write, and the source of the next chunk (pw1x1 of
//            benchmarks/cases.py: 9.7 -> 8.5 ms forward, 9.7 -> 8.1 ms input gradient, 2 threads of a Zen 4).
// Mapping    Threads share the chunks of all images. The last chunk of an image repeats pixels of the one before.
// Cost       2 flops per result, channel and pixel. Bytes: source and output once.
#pragma once

#include "../parallel.h"
#include "gather.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

#if TINYGEN_VECTOR_BYTES == 64
constexpr int kPointResults = 14;  // times two vectors: 28 of 32 registers
#elif TINYGEN_VECTOR_BYTES == 32
constexpr int kPointResults = 6;
#else
constexpr int kPointResults = 4;
#endif

// Whether this way can take the job, and repeats at most a tenth of the pixels in its last chunks.
template <class T>
bool is_pointwise(const Gather<T>& job) {
  auto plain = [](const Axis& axis) { return axis.w == 1 && axis.stride == 1 && axis.pad == 0 && axis.x == axis.y; };
  index_t plane = job.height * job.width, width = 2 * lanes<T>;
  return plain(job.row_axis) && plain(job.column_axis) && plane >= width &&
         (plane + width - 1) / width * width * 10 <= plane * 11;
}

// out[i][j] (pitch: plane) = bias[i] + sum over c of weights[c][i] * source[c][j], for M results and two vectors; the
// biases lie in front of the weights. On the way prefetches what lies at `next`, next_pitch apart.
template <class T, int M>
__attribute__((noinline)) void multiply_pixels(const T* __restrict source, const T* __restrict weights,
                                               index_t channels, const T* next, index_t next_pitch, T* __restrict out,
                                               index_t plane) {
  constexpr int L = lanes<T>;
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) {  // by the time of the stores they are there
    __builtin_prefetch(out + i * plane, 1);
    __builtin_prefetch(out + i * plane + L, 1);
  }
  Vector<T> sum[M][2];
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) sum[i][0] = sum[i][1] = splat(weights[i]);
  for (index_t c = 0; c < channels; c++) {
    weights += M;
    Vector<T> left = load(source), right = load(source + L);
    source += 2 * L;
    __builtin_prefetch(next, 0, 2);
    __builtin_prefetch(next + L, 0, 2);
    next += next_pitch;
    TINYGEN_UNROLL
    for (int i = 0; i < M; i++) {
      Vector<T> factor = splat(weights[i]);
      sum[i][0] += factor * left;
      sum[i][1] += factor * right;
    }
  }
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++, out += plane) {
    store(out, sum[i][0]);
    store(out + L, sum[i][1]);
  }
}

template <class T>
using PixelsFunction = void (*)(const T*, const T*, index_t, const T*, index_t, T*, index_t);

template <class T, int M = kPointResults>
inline PixelsFunction<T> pick_pixels(index_t results) {
  if constexpr (M > 1)
    if (results < M) return pick_pixels<T, M - 1>(results);
  return multiply_pixels<T, M>;
}

template <class T>
void gather_pointwise(const Gather<T>& job, int use) {
  constexpr index_t L = lanes<T>, width = 2 * L;
  index_t plane = job.height * job.width, channels = job.channels, results = job.results;
  index_t blocks = (results + kPointResults - 1) / kPointResults, depth = channels + 1;  // a row of biases in front
  auto block_begin = [&](index_t b) { return results * b / blocks; };
  T* packed = static_cast<T*>(scratch(kPackedWeights, job.groups * results * depth * sizeof(T)));
  // Chunk 0 begins with pixel 0, the others where stores are aligned, if the planes are; the last one ends the plane.
  index_t first = width - static_cast<index_t>(reinterpret_cast<size_t>(job.out) / sizeof(T) % L);
  index_t chunks = 1 + (plane > width ? (plane - first + width - 1) / width : 0);
  parallel(use, [&](int thread, int all) {
    index_t rows = job.groups * blocks;
    for (index_t row = rows * thread / all; row < rows * (thread + 1) / all; row++) {
      index_t g = row / blocks, m0 = block_begin(row % blocks), m1 = block_begin(row % blocks + 1);
      const T* from = job.weights + g * results * channels;
      T* to = packed + (g * results + m0) * depth;
      for (index_t m = m0; m < m1; m++) *to++ = job.bias ? job.bias[g * results + m] : T(0);
      for (index_t c = 0; c < channels; c++)
        for (index_t m = m0; m < m1; m++) *to++ = from[m * job.result_pitch() + c * job.channel_pitch()];
    }
    barrier(all);
    T* chunk = static_cast<T*>(scratch(kWindow, (channels + 1) * width * sizeof(T)));
    index_t units = job.images * job.groups * chunks;
    for (index_t u = units * thread / all; u < units * (thread + 1) / all; u++) {
      index_t plane_number = u / chunks, g = plane_number % job.groups, at = u % chunks;
      index_t p = at == 0 ? 0 : min(first + (at - 1) * width, plane - width);
      const T* source = job.source + plane_number * channels * plane + p;
      const T* next = source + (min(p + width, plane - width) - p);
      for (index_t c = 0; c < channels; c++, source += plane) {
        store(chunk + c * width, load(source));
        store(chunk + c * width + L, load(source + L));
      }
      T* out = job.out + plane_number * results * plane + p;
      for (index_t b = 0; b < blocks; b++) {
        index_t m0 = block_begin(b), count = block_begin(b + 1) - m0;
        pick_pixels<T>(count)(chunk, packed + (g * results + m0) * depth, channels, b == 0 ? next : chunk,
                              b == 0 ? plane : 0, out + m0 * plane, plane);
      }
    }
  });
}

}  // namespace
}  // namespace TINYGEN_ISA
}  // namespace tinygen
