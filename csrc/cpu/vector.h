// Vectors for kernels: GCC/Clang vector extensions, as wide as the instruction set this file is compiled for.
//
// Include inside a kernel file only. `Vector<T>` is one register of T (T = float or double), `lanes<T>` its length. Arithmetic
// is written with operators; a * b + c becomes one fused multiply-add where the machine has it. min/max/load/store live here
// because std:: templates are forbidden in kernel files (see table.h).
#pragma once

#define TINYGEN_INLINE inline __attribute__((always_inline))

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

typedef long long index_t;

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(TINYGEN_VECTOR_BYTES)));
  typedef float unaligned __attribute__((vector_size(TINYGEN_VECTOR_BYTES), aligned(4), may_alias));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(TINYGEN_VECTOR_BYTES)));
  typedef double unaligned __attribute__((vector_size(TINYGEN_VECTOR_BYTES), aligned(8), may_alias));
};

template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
constexpr int lanes = TINYGEN_VECTOR_BYTES / static_cast<int>(sizeof(T));

template <class T>
TINYGEN_INLINE Vector<T> load(const T* from) {  // any address
  return *reinterpret_cast<const typename VectorOf<T>::unaligned*>(from);
}
template <class T>
TINYGEN_INLINE void store(T* to, Vector<T> value) {
  *reinterpret_cast<typename VectorOf<T>::unaligned*>(to) = value;
}
template <class T>
TINYGEN_INLINE Vector<T> splat(T value) {
  return value - Vector<T>{};  // value - 0 keeps the sign of zero
}

TINYGEN_INLINE constexpr index_t min(index_t a, index_t b) { return a < b ? a : b; }
TINYGEN_INLINE constexpr index_t max(index_t a, index_t b) { return a > b ? a : b; }

}  // namespace
}  // namespace TINYGEN_ISA
}  // namespace tinygen
