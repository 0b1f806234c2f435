// Pooling, resizing, gathering and scattering on planes (H, W) of an (N, C, H, W) array.
//
// Maps along an axis come as taps: index and weight (outputs, taps). One thread computes one output, except where results
// are scattered: there a warp owns a plane or a row and adds what falls to it in order, so sums are reproducible without
// atomics.
#include "device.h"

// y[plane, p, q] = sum over t, u of row_weight[p, t] column_weight[q, u] x[plane, row[p, t], column[q, u]]
KERNEL(256, resample, const real* __restrict__ x, const int* __restrict__ row, const real* __restrict__ row_weight,
       long long row_taps, const int* __restrict__ column, const real* __restrict__ column_weight,
       long long column_taps, real* __restrict__ y, long long height, long long width, long long rows,
       long long columns, long long count) {
  each(count, [=](long long i) {
    const int q = int(i % columns), p = int(i / columns % rows);
    const real* plane = x + i / (rows * columns) * height * width;
    real total = 0;
    for (int t = 0; t < row_taps; t++) {
      const real outer = __ldg(&row_weight[p * row_taps + t]);
      if (outer == 0) continue;  // a tap that is not used must not turn an infinity into NaN
      const real* line = plane + __ldg(&row[p * row_taps + t]) * width;
      real sum = 0;
      for (int u = 0; u < column_taps; u++) {
        const real inner = __ldg(&column_weight[q * column_taps + u]);
        if (inner != 0) sum += inner * line[__ldg(&column[q * column_taps + u])];
      }
      total += outer * sum;
    }
    y[i] = total;
  });
}

// The maximum over the taps of each output and where it was; index -1 is outside. The first maximum wins, NaN over all.
KERNEL(256, max_pool, const real* __restrict__ x, const int* __restrict__ row, long long row_taps,
       const int* __restrict__ column, long long column_taps, real* __restrict__ values,
       long long* __restrict__ winners, long long height, long long width, long long rows, long long columns,
       long long count) {
  each(count, [=](long long i) {
    const int q = int(i % columns), p = int(i / columns % rows);
    const real* plane = x + i / (rows * columns) * height * width;
    real best = -infinity();
    long long winner = -1;
    for (int t = 0; t < row_taps; t++) {
      const int h = __ldg(&row[p * row_taps + t]);
      for (int u = 0; h >= 0 && u < column_taps; u++) {
        const int w = __ldg(&column[q * column_taps + u]);
        if (w < 0) continue;
        const real value = plane[h * width + w];
        if (value > best || winner < 0 || (is_nan(value) && !is_nan(best))) best = value, winner = h * width + w;
      }
    }
    values[i] = best;
    winners[i] = winner < 0 ? 0 : winner;
  });
}

// An index outside the plane reads NaN: a kernel cannot raise, and waiting for one that looks would stop the GPU.
KERNEL(256, take_plane, const real* __restrict__ x, const long long* __restrict__ index, real* __restrict__ y,
       long long size, long long outputs, long long count) {
  each(count, [=](long long i) {
    const bool inside = (unsigned long long)index[i] < (unsigned long long)size;
    y[i] = inside ? x[i / outputs * size + index[i]] : real(infinity() - infinity());
  });
}

// x[plane, index[plane, i]] += y[plane, i], x being zero before, an index outside being left out: a warp per plane, 32 items at a time. Among the 32, the
// first with some index adds all that share it: two shuffles per item.
KERNEL(256, put_plane, const real* __restrict__ y, const long long* __restrict__ index, real* __restrict__ x,
       long long planes, long long size, long long outputs) {
  const int lane = int(threadIdx.x) % 32;
  const long long plane = blockIdx.x * 8ll + threadIdx.x / 32;
  const int items = plane < planes ? int(outputs) : 0;
  real* to = x + plane * size;
  for (int first = 0; first < items; first += 32) {
    const bool there = first + lane < items;
    const long long at = plane * outputs + first + lane;
    const bool inside = there && (unsigned long long)index[at] < (unsigned long long)size;
    const int target = inside ? int(index[at]) : -1;
    const real value = inside ? y[at] : real(0);
    const unsigned peers = __match_any_sync(kWholeWarp, target);
    const bool mine = inside && __ffs(peers) - 1 == lane;
    real sum = mine ? to[target] : real(0);
    for (int from = 0; from < 32; from++) {
      const int other = __shfl_sync(kWholeWarp, target, from);
      const real theirs = __shfl_sync(kWholeWarp, value, from);
      if (other == target) sum += theirs;
    }
    if (mine) to[target] = sum;
    __syncwarp();
  }
}

// out[r, :] = sum over i with index[i] = r of values[i, :], in order of i: a warp per row, which looks at 32 indices at a
// time. Reads the index once per row of out, from the cache: for length * count up to some 10^9.
KERNEL(256, scatter_add, const real* __restrict__ values, const long long* __restrict__ index, real* __restrict__ out,
       long long length, long long count, long long width) {
  const int lane = int(threadIdx.x) % 32;
  const long long row = blockIdx.x * 8ll + threadIdx.x / 32;
  if (row >= length) return;
  for (long long w = lane; w < width; w += 32) out[row * width + w] = 0;
  for (long long first = 0; first < count; first += 32) {
    const long long i = first + lane;
    unsigned hits = __ballot_sync(kWholeWarp, i < count && index[i] == row);
    for (; hits; hits &= hits - 1) {
      const real* from = values + (first + __ffs(hits) - 1) * width;
      for (long long w = lane; w < width; w += 32) out[row * width + w] += from[w];
    }
  }
}
