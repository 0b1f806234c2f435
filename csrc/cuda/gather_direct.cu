// The gather form without tiles, where a tile of 64 would be mostly empty: few rows or few k (first and last layers,
// depthwise convolutions). All arithmetic in `real`.
#include "gather.h"

// A thread computes `kRowsEach` rows of one column. The block brings 64 k at a time of a and of the table to shared memory,
// where one number serves the whole warp and four lie side by side; b is read from global memory, each number once (from
// L1 where taps overlap). Bytes: the image once per kRowsEach rows, the result once.
template <int kRowsEach>
DEVICE void gather_direct(const Gather g) {
  const int depth = 64;
  struct alignas(16) Rows {
    real a[kRowsEach];
  };
  const Part part(g, kRowsEach);
  const int tid = int(threadIdx.x), j = part.j_tile * 256 + tid, m_base = part.m_tile * kRowsEach;
  const unsigned limit = unsigned(g.limit), signs = unsigned(g.signs);
  if (part.j_tile * 256 >= part.columns) return;  // this phase has fewer columns than the largest
  const int2 column = __ldg(&g.b_j[part.phase.z + min(j, part.columns - 1)]);
  const real* a = g.a + part.group * g.a_group + m_base * g.a_row;
  const real* b = g.b + part.group * g.b_group + column.x;
  const int* a_k = g.a_k + part.phase.x;
  const int2* b_k = g.b_k + part.phase.x;
  const int rows = min(kRowsEach, part.rows - m_base);
  SHARED(Rows, weights, [depth]);
  SHARED(int2, taps, [depth]);
  real sums[kRowsEach];
  UNROLL
  for (int i = 0; i < kRowsEach; i++) sums[i] = 0;
  for (int k0 = 0; k0 < part.count; k0 += depth) {
    const int count = min(depth, part.count - k0);
    __syncthreads();  // the last ones have been read
    for (int i = tid; i < count * kRowsEach; i += 256) {
      const int k = i / kRowsEach, m = i % kRowsEach;
      weights[k].a[m] = m < rows ? __ldg(&a[m * g.a_row + __ldg(&a_k[k0 + k])]) : real(0);
    }
    if (tid < count) taps[tid] = __ldg(&b_k[k0 + tid]);
    __syncthreads();
    for (int k = 0; k < count; k++) {
      const int2 row = taps[k];
      if (!inside(row.y, column.y, limit, signs)) continue;
      const real value = __ldg(&b[row.x]);
      const Rows of_k = weights[k];
      UNROLL
      for (int i = 0; i < kRowsEach; i++) sums[i] += of_k.a[i] * value;
    }
  }
  if (j >= part.columns) return;
  const real slope = real(g.slope), of_column = bias_of_column(g, j);
  real* c = g.c + part.group * g.c_group + m_base * g.c_row + __ldg(&g.c_j[part.phase.z + j]);
  UNROLL
  for (int i = 0; i < kRowsEach; i++)
    if (i < rows) c[i * g.c_row] = leaky(sums[i] + (bias_of_row(g, part.group, m_base + i) + of_column), slope);
}

KERNEL(256, gather_direct_1, GATHER_PARAMETERS) { gather_direct<1>(GATHER_ARGUMENTS); }
KERNEL(256, gather_direct_8, GATHER_PARAMETERS) { gather_direct<8>(GATHER_ARGUMENTS); }

// Few rows and columns, many k (the weights of a depthwise convolution): a block computes one row and `kColumnsEach`
// columns, its threads share out k (a tile of 256 by 256), and the sums meet in a fixed order.
template <int kColumnsEach>
DEVICE void gather_sums_of(const Gather g) {
  const Part part(g, 1);
  const unsigned limit = unsigned(g.limit), signs = unsigned(g.signs);
  const int j_base = part.j_tile * kColumnsEach;
  if (j_base >= part.columns) return;
  const real* x = g.a + part.group * g.a_group + part.m_tile * g.a_row;
  const real* y = g.b + part.group * g.b_group;
  int2 column[kColumnsEach];
  real sums[kColumnsEach];
  UNROLL
  for (int i = 0; i < kColumnsEach; i++) {
    column[i] = __ldg(&g.b_j[part.phase.z + min(j_base + i, part.columns - 1)]);
    sums[i] = 0;
  }
  const int chunk = (part.count + int(g.splits) - 1) / int(g.splits);
  const int k_end = min((part.split + 1) * chunk, part.count);
  for (int k = part.split * chunk + int(threadIdx.x); k < k_end; k += 256) {
    const int2 row = __ldg(&g.b_k[part.phase.x + k]);
    const real factor = __ldg(&x[__ldg(&g.a_k[part.phase.x + k])]);
    UNROLL
    for (int i = 0; i < kColumnsEach; i++)
      if (inside(row.y, column[i].y, limit, signs)) sums[i] += factor * __ldg(&y[row.x + column[i].x]);
  }
  real* c = g.c + part.group * g.c_group + part.split * g.slab + part.m_tile * g.c_row;
  UNROLL
  for (int i = 0; i < kColumnsEach; i++) {
    const real total = team_reduce(sums[i], 256, Sum());
    const int j = j_base + i;
    if (threadIdx.x == 0 && j < part.columns)
      c[__ldg(&g.c_j[part.phase.z + j])] = leaky(total + (bias_of_row(g, part.group, part.m_tile) + bias_of_column(g, j)), real(g.slope));
  }
}
KERNEL(256, gather_sums, GATHER_PARAMETERS) { gather_sums_of<4>(GATHER_ARGUMENTS); }

// The second pass of a product whose k was shared out: result[i] = sum of slabs[s * count + i] in order of s, plus bias
// of channel i / inner % channels, and the leaky ReLU.
KERNEL(256, sum_slabs, const real* __restrict__ slabs, real* __restrict__ result, long long count, long long splits,
       const real* __restrict__ bias, long long inner, long long channels, double slope) {
  each(count, [&](long long i) {
    real total = 0;
    for (int s = 0; s < int(splits); s++) total += __ldg(&slabs[s * count + i]);
    if (bias) total += __ldg(&bias[i / inner % channels]);
    result[i] = leaky(total, real(slope));
  });
}
