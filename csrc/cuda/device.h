// What every kernel of this folder includes: the KERNEL and SHARED macros, the number type, reductions over a warp and a
// block, and the few PTX instructions that CUDA C++ cannot say, each beside a host twin.
//
// The same .cu files are compiled three ways: by NVRTC (through CuPy, at run time), by nvcc (a check), and by g++, where
// cudacpu.h makes C++ behave like CUDA (see README.md). Rules that follow from it: a kernel's scalar arguments are
// `long long` and `double`, as Python's numbers are; no header but this one; collectives name the whole warp; every
// kernel is compiled once per number type: `real` is double with -DDOUBLE, else float.
#pragma once

#ifdef __CUDACC__
// A kernel for blocks of `threads` or fewer, `blocks` of which should fit one multiprocessor at a time.
#define KERNEL_WITH(blocks, threads, name, ...) \
  extern "C" __global__ void __launch_bounds__(threads, blocks) name(__VA_ARGS__)
#define KERNEL(threads, name, ...) extern "C" __global__ void __launch_bounds__(threads) name(__VA_ARGS__)
#define SHARED(type, name, ...) __shared__ type name __VA_ARGS__
#define UNROLL _Pragma("unroll")
#define ONE_BY_ONE _Pragma("unroll 1")
#define PRAGMA(words) _Pragma(#words)
#define UNROLL_BY(count) PRAGMA(unroll (count))
#define DEVICE __device__ __forceinline__
#else
#include "cudacpu.h"
#define UNROLL
#define ONE_BY_ONE
#define UNROLL_BY(count)
#define DEVICE inline __attribute__((always_inline))
#endif

#ifdef DOUBLE
typedef double real;
#else
typedef float real;
#endif

// Tensor cores with tf32 and bf16 exist from sm_80 on; older GPUs compile everything else.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define TENSOR_CORES 1
#endif

const unsigned kWholeWarp = 0xffffffffu;

DEVICE real infinity() { return __int_as_float(0x7f800000); }
template <class T>
DEVICE bool is_nan(T x) {
  return !(x == x);
}

DEVICE real leaky(real x, real slope) { return x > 0 || slope == 1 || is_nan(x) ? x : slope == 0 ? real(0) : slope * x; }

// f(i) for i in [0, n), the grid's threads taking turns.
template <class F>
DEVICE void each(long long n, F f) {
  const long long step = (long long)gridDim.x * blockDim.x;
  ONE_BY_ONE
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) f(i);
}

// f(outer, inner) for the items first, first + step ... below end of an array (?, length): one division per thread.
template <class F>
DEVICE void each_item(long long first, long long end, int step, long long length, F f) {
  long long outer = first / length, inner = first % length;
  const long long rows = step / length, rest = step % length;
  for (long long i = first; i < end; i += step) {
    f(outer, inner);
    outer += rows, inner += rest;
    if (inner >= length) inner -= length, outer++;
  }
}

// blockIdx.x and threadIdx.x read anew: what follows from them is computed again, and not kept in registers over a loop.
DEVICE int block_again() {
#ifdef __CUDACC__
  int block;
  asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(block));
  return block;
#else
  return int(blockIdx.x);
#endif
}
DEVICE int thread_again() {
#ifdef __CUDACC__
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
#else
  return int(threadIdx.x);
#endif
}

// x in a register: at each use what was computed, and not the computation.
template <class T>
DEVICE T* kept(T* x) {
#ifdef __CUDACC__
  asm volatile("" : "+l"(x));
#endif
  return x;
}
DEVICE int kept(int x) {
#ifdef __CUDACC__
  asm volatile("" : "+r"(x));
#endif
  return x;
}

struct Sum {
  template <class T>
  DEVICE T operator()(T a, T b) const {
    return a + b;
  }
};
struct Maximum {  // NaN wins
  template <class T>
  DEVICE T operator()(T a, T b) const {
    return a > b || is_nan(a) ? a : b;
  }
};

// The combination of one value per lane; every lane receives it. The order is fixed, so it is reproducible.
template <class T, class F>
DEVICE T warp_reduce(T value, F combine) {
  UNROLL
  for (int step = 16; step > 0; step /= 2) value = combine(value, __shfl_xor_sync(kWholeWarp, value, step));
  return value;
}

// The same over a team: the 32 lanes of a warp, or a whole block of 256. Every thread of the block must call it.
template <class T, class F>
DEVICE T team_reduce(T value, int team, F combine) {
  value = warp_reduce(value, combine);
  if (team == 32) return value;
  SHARED(T, of_warp, [8]);
  __syncthreads();  // the last call's values have been read
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  value = of_warp[0];
  UNROLL
  for (int w = 1; w < 8; w++) value = combine(value, of_warp[w]);
  return value;
}

// ---- numbers for tensor cores

// x rounded to tf32 (10 bits of fraction, ties away from zero), as bits of which mma reads the upper 19: half a unit is
// added, and the rest left to it, as CUTLASS does (three instructions; cvt.rna is four). Infinity and NaN stay.
DEVICE unsigned to_tf32(float x) {
  const unsigned bits = __float_as_uint(x);
  return fabs(x) < infinity() ? bits + 0x1000u : bits;
}

// x rounded to bfloat16 (7 bits of fraction, ties to even; NaN stays NaN).
DEVICE unsigned short to_bf16(float x) {
#if defined(__CUDACC__) && defined(TENSOR_CORES)
  unsigned short half;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(half) : "f"(x));
  return half;
#else
  const unsigned bits = __float_as_uint(x);
  return is_nan(x) ? 0x7fff : (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
#endif
}

// c[16 x 8] += a[16 x 8] b[8 x 8] by one warp: tf32 factors, float sums, cut off towards zero. With g = lane / 4, t = lane % 4 a lane holds
//   c[0..3] = (g, 2t) (g, 2t+1) (g+8, 2t) (g+8, 2t+1),  a[0..3] = (g, t) (g+8, t) (g, t+4) (g+8, t+4),  b = (t, g) (t+4, g).
DEVICE void mma_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifndef __CUDACC__
  struct Operands {
    unsigned a[4], b[2];
  } mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  const Operands* of = cudacpu::exchange(kWholeWarp, mine, __LINE__);
  const int g = cudacpu::lane() / 4, t = cudacpu::lane() % 4;
  for (int e = 0; e < 4; e++) {
    const int row = g + 8 * (e / 2), column = 2 * t + e % 2;
    double sum = c[e];
    for (int k = 0; k < 8; k++)  // the unit does not see the low 13 bits
      sum += double(__uint_as_float(of[row % 8 * 4 + k % 4].a[row / 8 + 2 * (k / 4)] & ~0x1fffu)) *
             __uint_as_float(of[column * 4 + k % 4].b[k / 4] & ~0x1fffu);
    c[e] = cudacpu::cut_off(sum);
  }
#elif defined(TENSOR_CORES)
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// c[16 x 8] += a[16 x 16] b[16 x 8] by one warp: bf16 factors, two to a register (the lower k in the lower half), float
// sums. A lane holds c as above, a[0..3] = (g, 2t) (g+8, 2t) (g, 2t+8) (g+8, 2t+8) and b = (2t, g) (2t+8, g), each with
// its right or lower neighbour.
DEVICE void mma_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifndef __CUDACC__
  struct Operands {
    unsigned a[4], b[2];
  } mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  const Operands* of = cudacpu::exchange(kWholeWarp, mine, __LINE__);
  const int g = cudacpu::lane() / 4, t = cudacpu::lane() % 4;
  const auto half = [](unsigned pair, int k) { return double(__uint_as_float(k % 2 ? pair & 0xffff0000u : pair << 16)); };
  for (int e = 0; e < 4; e++) {
    const int row = g + 8 * (e / 2), column = 2 * t + e % 2;
    double sum = c[e];
    for (int k = 0; k < 16; k++)
      sum += half(of[row % 8 * 4 + k % 8 / 2].a[row / 8 + 2 * (k / 8)], k) * half(of[column * 4 + k % 8 / 2].b[k / 8], k);
    c[e] = cudacpu::cut_off(sum);
  }
#elif defined(TENSOR_CORES)
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// Four matrices of 8 rows of 16 bytes from shared memory, by one warp: lane l says where row l % 8 of matrix l / 8 begins,
// and receives to[i] = word lane % 4 of row lane / 4 of matrix i, which is how mma wants its factors.
DEVICE void load_matrices(unsigned (&to)[4], const void* row) {
#ifndef __CUDACC__
  typedef unsigned __attribute__((may_alias)) Word;
  const void* const* rows = cudacpu::exchange(kWholeWarp, row, __LINE__);
  for (int i = 0; i < 4; i++)
    to[i] = static_cast<const Word*>(rows[8 * i + cudacpu::lane() / 4])[cudacpu::lane() % 4];
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"((unsigned)__cvta_generic_to_shared(row))
               : "memory");
#endif
}

// ---- asynchronous copies, global to shared memory: 4 bytes (zeros where not `there`), done after copy_wait

DEVICE void copy_async(float* to, const float* from, bool there) {
#ifndef __CUDACC__
  cudacpu::copy_later(to, from, there);
#elif defined(TENSOR_CORES)
  const unsigned shared = (unsigned)__cvta_generic_to_shared(to);
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared), "l"(from), "r"(there ? 4 : 0) : "memory");
#else
  *to = there ? *from : 0.f;
#endif
}
DEVICE void copy_commit() {
#ifndef __CUDACC__
  cudacpu::copy_group();
#elif defined(TENSOR_CORES)
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until at most `newest` of this thread's groups are under way. Others see the copies after a barrier.
template <int newest>
DEVICE void copy_wait() {
#ifndef __CUDACC__
  cudacpu::copy_wait(newest);
#elif defined(TENSOR_CORES)
  asm volatile("cp.async.wait_group %0;" ::"n"(newest) : "memory");
#endif
}
