// Sums for kernels: a run of elements is added up in vectors of T, the sums of runs in double.
//
// Include inside a kernel file only. A float has a quarter of the rounding error to spare: in runs of kRun elements over 16
// lanes and two accumulators the error of a sum stays below 64 roundings, and usually below 8.
#pragma once

#include "vectormath.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

constexpr long long kRun = 2048;  // elements added up in T before their sum is widened to double
constexpr int kColumnRun = 16;    // the same for a column, where each lane has a sum of its own

// A float vector is two double vectors.
template <class T>
constexpr int kParts = sizeof(double) / sizeof(T);

TINYGEN_INLINE void widen(VecF v, VecD (&out)[2]) {
  HalfF half[2];
  __builtin_memcpy(half, &v, sizeof v);
  for (int i = 0; i < 2; i++) {
#if defined(__AVX512F__)  // GCC 12 would convert by quarters
    out[i] = (VecD)_mm512_maskz_cvtps_pd(0xff, (__m256)half[i]);
#else
    out[i] = __builtin_convertvector(half[i], VecD);
#endif
  }
}
TINYGEN_INLINE void widen(VecD v, VecD (&out)[1]) { out[0] = v; }
template <class T>
struct Sum {
  VecD part[kParts<T>] = {};
  TINYGEN_INLINE void add(Vector<T> v) {
    VecD wide[kParts<T>];
    widen(v, wide);
    for (int i = 0; i < kParts<T>; i++) part[i] += wide[i];
  }
  TINYGEN_INLINE double total() const {
    VecD v = part[0];
    for (int i = 1; i < kParts<T>; i++) v += part[i];
    return sum_lanes(v);
  }
};

template <class T>
TINYGEN_INLINE void add_wide(Vector<T> v, double* to) {  // lane by lane
  VecD wide[kParts<T>];
  widen(v, wide);
  for (int i = 0; i < kParts<T>; i++) store(to + i * lanes<double>, load(to + i * lanes<double>) + wide[i]);
}
template <class T>
TINYGEN_INLINE double sum_wide(Vector<T> v) {
  VecD wide[kParts<T>];
  widen(v, wide);
  for (int i = 1; i < kParts<T>; i++) wide[0] += wide[i];
  return sum_lanes(wide[0]);
}

template <class T>
TINYGEN_INLINE Vector<T> first_lanes(Vector<T> v, int count) {
  typename VectorOf<T>::mask lane;
  for (int i = 0; i < lanes<T>; i++) lane[i] = i;
  return select(lane < count, v, Vector<T>{});
}

}  // namespace
}  // namespace TINYGEN_ISA
}  // namespace tinygen
