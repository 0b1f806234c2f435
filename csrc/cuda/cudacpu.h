// CUDA on the CPU: what g++ needs to compile a .cu file of this folder and run it, one fiber per CUDA thread.
//
// A block's threads run in turns from one synchronisation point to the next, in an order that a seed shuffles. What CUDA
// leaves undefined is made to show: shared memory is a heap block of its exact size, filled with NaN (AddressSanitizer
// sees the first byte past it); threads that return before a barrier, meet at different barriers or leave a warp
// collective waiting are reported; an asynchronous copy happens as late as it may; under ThreadSanitizer each CUDA thread
// is a fiber of its own, ordered by CUDA's synchronisation alone, so a missing __syncthreads() is a data race. Not
// emulated, hence not used: cooperative groups, textures, warp collectives of part of a warp, dynamic shared memory.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#define __CUDACPU__ 1
#define __restrict__ __restrict

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace cudacpu {

// One kernel as Python sees it: what to call, and one letter per argument. Pointers to f float, d double, i int, l long
// long, u unsigned, 2 int2, 4 int4; L a long long and D a double by value.
struct Entry {
  void (*call)(void** arguments);
  const char* signature;
  int threads;  // the largest block
};

template <class T>
constexpr char code = 0;
template <> inline constexpr char code<float*> = 'f';
template <> inline constexpr char code<double*> = 'd';
template <> inline constexpr char code<int*> = 'i';
template <> inline constexpr char code<long long*> = 'l';
template <> inline constexpr char code<unsigned*> = 'u';
template <> inline constexpr char code<int2*> = '2';
template <> inline constexpr char code<int4*> = '4';
template <> inline constexpr char code<long long> = 'L';
template <> inline constexpr char code<double> = 'D';

template <class T>
struct Plain {
  typedef T type;
};
template <class T>
struct Plain<const T*> {
  typedef T* type;
};
template <class T>
struct Plain<const T* __restrict__> {
  typedef T* type;
};
template <class T>
struct Plain<T* __restrict__> {
  typedef T* type;
};

template <auto kernel>
struct Caller;
template <class... A, void (*kernel)(A...)>
struct Caller<kernel> {
  static_assert(((code<typename Plain<A>::type> != 0) && ...), "a kernel's arguments: pointers, long long, double");
  static constexpr char signature[] = {code<typename Plain<A>::type>..., 0};
  template <size_t... i>
  static void unpack(void** a, std::index_sequence<i...>) {
    kernel(*static_cast<typename Plain<A>::type*>(a[i])...);
  }
  static void call(void** a) { unpack(a, std::index_sequence_for<A...>()); }
};

// Defined in cudacpu.cpp.
void sync_block(int line, int site);
void* shared_block(const void* key, size_t bytes, size_t alignment);
const void* exchange_bytes(unsigned mask, const void* mine, size_t bytes, int line);
int lane();
void copy_later(float* to, const float* from, bool there);
void copy_group();
void copy_wait(int newest);

// Every lane's value, in order of lanes, once the whole warp has come; valid until the second exchange after this one.
template <class T>
inline const T* exchange(unsigned mask, const T& mine, int line) {
  static_assert(sizeof(T) <= 32, "what one lane can give away");
  struct alignas(alignof(T)) Slot {
    T value;
  };
  return static_cast<const T*>(exchange_bytes(mask, &mine, sizeof(Slot), line));
}

}  // namespace cudacpu

#define KERNEL_WITH(blocks, bound, ...) KERNEL(bound, __VA_ARGS__)
#define KERNEL(bound, name, ...)                                                                                  \
  extern "C" void name(__VA_ARGS__);                                                                              \
  extern "C" const cudacpu::Entry name##_entry;                                                                   \
  const cudacpu::Entry name##_entry = {cudacpu::Caller<&name>::call, cudacpu::Caller<&name>::signature, (bound)}; \
  extern "C" void name(__VA_ARGS__)

// The lambda's static variable is a different one in each instance of a template, as the shared variable is.
#define SHARED(type, name, ...)                                                              \
  using name##_type = type __VA_ARGS__;                                                      \
  name##_type& name = *static_cast<name##_type*>([] {                                        \
    static const char key = 0;                                                               \
    return cudacpu::shared_block(&key, sizeof(name##_type), alignof(name##_type));           \
  }())

#define __syncthreads() cudacpu::sync_block(__LINE__, __COUNTER__)  // two barriers on one line are two barriers
#define __syncwarp() (void)cudacpu::exchange(0xffffffffu, 0, __LINE__)
#define __shfl_sync(mask, value, from) cudacpu::exchange(mask, value, __LINE__)[(from) & 31]
#define __shfl_xor_sync(mask, value, step) cudacpu::exchange(mask, value, __LINE__)[(cudacpu::lane() ^ (step)) & 31]
#define __ballot_sync(mask, vote) cudacpu::ballot(cudacpu::exchange<int>(mask, (vote) ? 1 : 0, __LINE__))
#define __match_any_sync(mask, value) cudacpu::equal_to_mine(cudacpu::exchange<int>(mask, value, __LINE__))

namespace cudacpu {
// x as float, rounded towards zero, as tensor cores do with their sums (Fasi et al. 2021).
inline float cut_off(double x) {
  const float nearest = float(x);
  return std::fabs(double(nearest)) > std::fabs(x) ? std::nextafter(nearest, 0.f) : nearest;
}
inline unsigned ballot(const int* votes) {
  unsigned bits = 0;
  for (int i = 0; i < 32; i++) bits |= unsigned(votes[i]) << i;
  return bits;
}
inline unsigned equal_to_mine(const int* values) {
  unsigned bits = 0;
  for (int i = 0; i < 32; i++) bits |= unsigned(values[i] == values[lane()]) << i;
  return bits;
}
}  // namespace cudacpu

template <class T>
inline T __ldg(const T* p) {
  return *p;
}
template <class To, class From>
inline To cudacpu_bits(From from) {
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}
inline float __int_as_float(int i) { return cudacpu_bits<float>(i); }
inline float __uint_as_float(unsigned i) { return cudacpu_bits<float>(i); }
inline unsigned __float_as_uint(float f) { return cudacpu_bits<unsigned>(f); }
inline double __longlong_as_double(long long i) { return cudacpu_bits<double>(i); }
inline int __ffs(unsigned bits) { return __builtin_ffs(int(bits)); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
template <class T>
inline T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
inline T max(T a, T b) {
  return a < b ? b : a;
}
inline double cospi(double x) { return std::cos(3.14159265358979323846 * x); }
inline double sinpi(double x) { return std::sin(3.14159265358979323846 * x); }
using std::erf;
using std::exp;
using std::expm1;
using std::fabs;
using std::log;
using std::log1p;
using std::pow;
using std::rint;
using std::sqrt;
using std::tanh;
