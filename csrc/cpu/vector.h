// Vectors for kernels: GCC/Clang vector extensions, as wide as the instruction set this file is compiled for.
//
// Include inside a kernel file only. `Vector<T>` is one register of T (T = float or double), `lanes<T>` its length.
// Arithmetic is written with operators; a * b + c becomes one fused multiply-add where the machine has it.
// min/max/load/store live here because std:: templates are forbidden in kernel files (see table.h).
#pragma once

#define TINYGEN_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define TINYGEN_UNROLL _Pragma("unroll")
#else
#define TINYGEN_UNROLL _Pragma("GCC unroll 32")
#endif

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
  typedef int mask __attribute__((vector_size(TINYGEN_VECTOR_BYTES)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(TINYGEN_VECTOR_BYTES)));
  typedef double unaligned __attribute__((vector_size(TINYGEN_VECTOR_BYTES), aligned(8), may_alias));
  typedef long long mask __attribute__((vector_size(TINYGEN_VECTOR_BYTES)));
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

// Has the compiler load `value` into a register once, where it would rather load it again for every product.
template <class V>
TINYGEN_INLINE void load_once(V& value) {
#if defined(__x86_64__)
  __asm__("" : "+v"(value));
#else
  (void)value;
#endif
}

// The reverse: what is read through `from` is not kept in registers over the iterations of a loop.
template <class T>
TINYGEN_INLINE void load_again(const T*& from) {
  __asm__ volatile("" : "+r"(from));
}

TINYGEN_INLINE constexpr index_t min(index_t a, index_t b) { return a < b ? a : b; }
TINYGEN_INLINE constexpr index_t max(index_t a, index_t b) { return a > b ? a : b; }

// Two-register shuffles: the lanes of a are 0 .. L-1, those of b are L .. 2L-1.
#if defined(__clang__)
#define TINYGEN_SHUFFLE(T, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define TINYGEN_SHUFFLE(T, a, b, ...) __builtin_shuffle(a, b, typename VectorOf<T>::mask{__VA_ARGS__})
#endif

template <class T, int L = lanes<T>>
struct Shuffles;
template <class T>
struct Shuffles<T, 2> {
  typedef Vector<T> V;
  static TINYGEN_INLINE V low(V a, V b) { return TINYGEN_SHUFFLE(T, a, b, 0, 2); }
  static TINYGEN_INLINE V high(V a, V b) { return TINYGEN_SHUFFLE(T, a, b, 1, 3); }
  static TINYGEN_INLINE V even(V a, V b) { return TINYGEN_SHUFFLE(T, a, b, 0, 2); }
  static TINYGEN_INLINE V odd(V a, V b) { return TINYGEN_SHUFFLE(T, a, b, 1, 3); }
};
template <class T>
struct Shuffles<T, 4> {
  typedef Vector<T> V;
  static TINYGEN_INLINE V low(V a, V b) { return TINYGEN_SHUFFLE(T, a, b, 0, 4, 1, 5); }
  static TINYGEN_INLINE V high(V a, V b) { return TINYGEN_SHUFFLE(T, a, b, 2, 6, 3, 7); }
  static TINYGEN_INLINE V even(V a, V b) { return TINYGEN_SHUFFLE(T, a, b, 0, 2, 4, 6); }
  static TINYGEN_INLINE V odd(V a, V b) { return TINYGEN_SHUFFLE(T, a, b, 1, 3, 5, 7); }
};
template <class T>
struct Shuffles<T, 8> {
  typedef Vector<T> V;
  static TINYGEN_INLINE V low(V a, V b) { return TINYGEN_SHUFFLE(T, a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
  static TINYGEN_INLINE V high(V a, V b) { return TINYGEN_SHUFFLE(T, a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
  static TINYGEN_INLINE V even(V a, V b) { return TINYGEN_SHUFFLE(T, a, b, 0, 2, 4, 6, 8, 10, 12, 14); }
  static TINYGEN_INLINE V odd(V a, V b) { return TINYGEN_SHUFFLE(T, a, b, 1, 3, 5, 7, 9, 11, 13, 15); }
};
template <class T>
struct Shuffles<T, 16> {
  typedef Vector<T> V;
  static TINYGEN_INLINE V low(V a, V b) {
    return TINYGEN_SHUFFLE(T, a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  }
  static TINYGEN_INLINE V high(V a, V b) {
    return TINYGEN_SHUFFLE(T, a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  }
  static TINYGEN_INLINE V even(V a, V b) {
    return TINYGEN_SHUFFLE(T, a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  }
  static TINYGEN_INLINE V odd(V a, V b) {
    return TINYGEN_SHUFFLE(T, a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  }
};

// rows[i][j] <-> rows[j][i] of an L x L block in registers: log2(L) perfect shuffles.
template <class T>
TINYGEN_INLINE void transpose(Vector<T> (&rows)[lanes<T>]) {
  constexpr int L = lanes<T>;
  Vector<T> other[L];
  TINYGEN_UNROLL
  for (int done = 1; done < L; done *= 2) {
    TINYGEN_UNROLL
    for (int i = 0; i < L / 2; i++) {
      other[2 * i] = Shuffles<T>::low(rows[i], rows[i + L / 2]);
      other[2 * i + 1] = Shuffles<T>::high(rows[i], rows[i + L / 2]);
    }
    TINYGEN_UNROLL
    for (int i = 0; i < L; i++) rows[i] = other[i];
  }
}

// to[0 .. count) = from[0 .. count), touching nothing else; meant for short rows.
template <class T>
TINYGEN_INLINE void copy_exactly(T* __restrict to, const T* __restrict from, index_t count) {
  constexpr int L = lanes<T>;
  index_t i = 0;
  for (; i + L <= count; i += L) store(to + i, load(from + i));
  TINYGEN_UNROLL
  for (int part = L / 2; part > 0; part /= 2)
    if (count & part) {
      __builtin_memcpy(to + i, from + i, part * sizeof(T));
      i += part;
    }
}

// rows x columns of `from` (row pitch from_pitch) into columns x rows of `to` (row pitch to_pitch).
template <class T>
inline void transpose_copy(const T* __restrict from, index_t from_pitch, index_t rows, index_t columns,
                           T* __restrict to, index_t to_pitch) {
  constexpr int L = lanes<T>;
  for (index_t r = 0; r < rows; r += L)
    for (index_t c = 0; c < columns; c += L) {
      const T* source = from + r * from_pitch + c;
      T* target = to + c * to_pitch + r;
      if (r + L <= rows && c + L <= columns) {
        Vector<T> block[L];
        TINYGEN_UNROLL
        for (int i = 0; i < L; i++) block[i] = load(source + i * from_pitch);
        transpose<T>(block);
        TINYGEN_UNROLL
        for (int i = 0; i < L; i++) store(target + i * to_pitch, block[i]);
      } else {
        index_t height = min(L, rows - r), width = min(L, columns - c);
        for (index_t i = 0; i < height; i++)
          for (index_t j = 0; j < width; j++) target[j * to_pitch + i] = source[i * from_pitch + j];
      }
    }
}

}  // namespace
}  // namespace TINYGEN_ISA
}  // namespace tinygen
