// Kernels with one mistake each, of every class that the emulator must report; and two without. See test_cuda_emulator.py.
#include "device.h"

// y[i] = 3 (x[(i + 1) % 64] + x[(i + 2) % 64]) through shared memory, in two rounds; `missing` leaves out a barrier.
template <int missing>
DEVICE void neighbours(const real* x, real* y) {
  SHARED(real, tile, [64]);
  const int i = int(threadIdx.x);
  for (int round = 0; round < 2; round++) {
    tile[i] = x[i] * real(round + 1);
    if (missing != 1) __syncthreads();
    y[i] = (round ? y[i] : 0) + tile[(i + 1) % 64] + tile[(i + 2) % 64];
    if (missing != 2) __syncthreads();
  }
}
KERNEL(64, sound, const real* x, real* y) { neighbours<0>(x, y); }
KERNEL(64, no_barrier_before_reading, const real* x, real* y) { neighbours<1>(x, y); }
KERNEL(64, no_barrier_before_writing_again, const real* x, real* y) { neighbours<2>(x, y); }

template <bool waits, bool synchronises>
DEVICE void copied(const real* x, real* y) {
  SHARED(float, tile, [64]);
  const int i = int(threadIdx.x);
  copy_async(&tile[i], reinterpret_cast<const float*>(x) + i, true);
  copy_commit();
  if (waits) copy_wait<0>();
  if (synchronises) __syncthreads();
  y[i] = tile[(i + 1) % 64];
  if (!waits) copy_wait<0>();
}
KERNEL(64, sound_copy, const real* x, real* y) { copied<true, true>(x, y); }
KERNEL(64, no_wait_for_a_copy, const real* x, real* y) { copied<false, true>(x, y); }
KERNEL(64, no_barrier_after_a_copy, const real* x, real* y) { copied<true, false>(x, y); }
KERNEL(64, copy_never_awaited, const real* x, real* y) {
  SHARED(float, tile, [64]);
  copy_async(&tile[threadIdx.x], reinterpret_cast<const float*>(x) + threadIdx.x, true);
  y[threadIdx.x] = 0;
}

KERNEL(64, threads_share_a_counter, const real* x, real* y) { y[0] += x[threadIdx.x] * 0 + 1; }
KERNEL(64, blocks_share_a_cell, const real* x, real* y) {
  if (threadIdx.x == 0) y[0] += x[0] * 0 + 1;
}
KERNEL(64, past_shared_memory, const real* x, real* y) {
  SHARED(real, tile, [63]);
  tile[threadIdx.x + x[0] * 0 > 0 ? threadIdx.x : 0] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[0];
}
KERNEL(64, past_a_global_array, const real* x, real* y) { y[threadIdx.x + 1024] = x[threadIdx.x]; }
KERNEL(64, misaligned_vector, const real* x, real* y) {
  const float4 v = *reinterpret_cast<const float4*>(reinterpret_cast<const float*>(x) + 1);
  y[threadIdx.x] = real(v.x);
}
KERNEL(64, return_before_a_barrier, const real* x, real* y) {
  if (threadIdx.x == 3) return;
  __syncthreads();
  y[threadIdx.x] = x[threadIdx.x];
}
KERNEL(64, two_barriers, const real* x, real* y) {
  if (threadIdx.x < 16) {
    __syncthreads();
    y[threadIdx.x] = x[threadIdx.x];
  } else {
    y[threadIdx.x] = 2;
    __syncthreads();
  }
}
KERNEL(64, shuffle_of_half_a_warp, const real* x, real* y) {
  real v = x[threadIdx.x];
  if (threadIdx.x < 8) v = __shfl_xor_sync(kWholeWarp, v, 1);
  y[threadIdx.x] = v;
}
KERNEL(64, mask_of_half_a_warp, const real* x, real* y) { y[threadIdx.x] = __shfl_xor_sync(0xffffu, x[threadIdx.x], 1); }
KERNEL(64, unwritten_result, const real* x, real* y) {
  if (threadIdx.x != 7) y[threadIdx.x] = x[threadIdx.x];
}
KERNEL(32, block_too_large, const real* x, real* y) { y[threadIdx.x] = x[threadIdx.x]; }
