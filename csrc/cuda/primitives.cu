// Every primitive of device.h once, by one warp, so that a GPU and the emulator can be compared: bits where the result is
// exact, sums to rounding. Nothing else launches it. x: 576 numbers.
//   bits (2, 512): tf32 and bfloat16 of x;  then (5, 32): shuffle, exclusive shuffle, ballot, match, high product;
//        (4, 32): the words of four matrices, read from shared memory back to front
//   sums: c (16, 8) = a (16, 8) b (8, 8) in tf32, c (16, 8) = a (16, 16) b (16, 8) in bfloat16, 64 numbers copied
#include "device.h"

#if defined(TENSOR_CORES) && !defined(DOUBLE)
KERNEL(32, primitives, const float* x, unsigned* bits, float* sums) {
  const int lane = int(threadIdx.x), g = lane / 4, t = lane % 4;
  for (int i = lane; i < 512; i += 32) {
    bits[i] = to_tf32(x[i]);
    bits[512 + i] = to_bf16(x[i]);
  }
  const unsigned mine = bits[lane];
  bits[1024 + lane] = __shfl_sync(kWholeWarp, mine, (lane * 7) & 31);
  bits[1056 + lane] = __shfl_xor_sync(kWholeWarp, mine, 5);
  bits[1088 + lane] = __ballot_sync(kWholeWarp, x[lane] > 0);
  bits[1120 + lane] = __match_any_sync(kWholeWarp, lane % 5);
  bits[1152 + lane] = __umulhi(mine, 0xD2511F53u);

  const float *a = x, *b = x + 128;
  const unsigned ta[4] = {to_tf32(a[g * 8 + t]), to_tf32(a[(g + 8) * 8 + t]), to_tf32(a[g * 8 + t + 4]),
                          to_tf32(a[(g + 8) * 8 + t + 4])};
  const unsigned tb[2] = {to_tf32(b[t * 8 + g]), to_tf32(b[(t + 4) * 8 + g])};
  float c[4] = {0, 0, 0, 0}, d[4] = {0, 0, 0, 0};
  mma_tf32(c, ta, tb);

  const float *p = x + 192, *q = x + 448;
  const auto row = [&](int m, int k) { return to_bf16(p[m * 16 + k]) | unsigned(to_bf16(p[m * 16 + k + 1])) << 16; };
  const auto column = [&](int k, int n) { return to_bf16(q[k * 8 + n]) | unsigned(to_bf16(q[(k + 1) * 8 + n])) << 16; };
  const unsigned pa[4] = {row(g, 2 * t), row(g + 8, 2 * t), row(g, 2 * t + 8), row(g + 8, 2 * t + 8)};
  const unsigned pb[2] = {column(2 * t, g), column(2 * t + 8, g)};
  mma_bf16(d, pa, pb);
  for (int e = 0; e < 4; e++) {
    const int at = (g + e / 2 * 8) * 8 + 2 * t + e % 2;
    sums[at] = c[e], sums[128 + at] = d[e];
  }

  SHARED(float, tile, [64]);
  copy_async(&tile[lane], &x[lane], true);
  copy_commit();
  copy_async(&tile[lane + 32], &x[lane + 32], lane % 3 != 0);
  copy_commit();
  copy_wait<1>();
  __syncthreads();
  sums[256 + lane] = tile[31 - lane];
  copy_wait<0>();
  __syncthreads();
  sums[288 + lane] = tile[63 - lane];

  struct alignas(16) Line {
    float of[4];
  };
  SHARED(Line, lines, [32]);
  for (int i = 0; i < 4; i++) lines[31 - lane].of[i] = x[lane * 4 + i];
  __syncthreads();
  unsigned words[4];
  load_matrices(words, &lines[31 - lane]);
  for (int i = 0; i < 4; i++) bits[1184 + 32 * i + lane] = words[i];
}
#endif
