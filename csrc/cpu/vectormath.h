// Elementary functions on vectors (vector.h) of floats and doubles, and what tails and reductions need.
//
// float: polynomials fitted for this file by weighted least squares towards equal ripple; infinities and NaN come out as the
// mathematics says. Largest errors found over dense samples of the whole range: exp, expm1 and log 1 ulp, erf 2, tanh 3 ulp
// (tests/test_backends.py holds them to 2 and 4). double: the C library, lane by lane. For kernel files only, see table.h.
#pragma once

#include <cstdint>

#include "vector.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

typedef Vector<float> VecF;
typedef Vector<double> VecD;
typedef float HalfF __attribute__((vector_size(TINYGEN_VECTOR_BYTES / 2)));
typedef std::int32_t MaskF __attribute__((vector_size(TINYGEN_VECTOR_BYTES)));
typedef std::int64_t MaskD __attribute__((vector_size(TINYGEN_VECTOR_BYTES)));
typedef std::uint32_t BitsF __attribute__((vector_size(TINYGEN_VECTOR_BYTES)));

// The first `count` lanes from memory (0 < count < lanes), the others from `rest`: nothing beyond is read.
#if defined(__AVX512F__)
TINYGEN_INLINE VecF load_part(const float* p, int count, VecF rest = VecF{}) {
  return (VecF)_mm512_mask_loadu_ps((__m512)rest, (__mmask16)((1u << count) - 1), p);
}
TINYGEN_INLINE VecD load_part(const double* p, int count, VecD rest = VecD{}) {
  return (VecD)_mm512_mask_loadu_pd((__m512d)rest, (__mmask8)((1u << count) - 1), p);
}
TINYGEN_INLINE void store_part(float* p, VecF v, int count) {
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), (__m512)v);
}
TINYGEN_INLINE void store_part(double* p, VecD v, int count) {
  _mm512_mask_storeu_pd(p, (__mmask8)((1u << count) - 1), (__m512d)v);
}
#elif defined(__AVX2__)
TINYGEN_INLINE MaskF below(int count, VecF) { return MaskF{0, 1, 2, 3, 4, 5, 6, 7} < count; }
TINYGEN_INLINE MaskD below(int count, VecD) { return MaskD{0, 1, 2, 3} < (std::int64_t)count; }
TINYGEN_INLINE VecF load_part(const float* p, int count, VecF rest = VecF{}) {
  MaskF mask = below(count, rest);
  return mask ? (VecF)_mm256_maskload_ps(p, (__m256i)mask) : rest;
}
TINYGEN_INLINE VecD load_part(const double* p, int count, VecD rest = VecD{}) {
  MaskD mask = below(count, rest);
  return mask ? (VecD)_mm256_maskload_pd(p, (__m256i)mask) : rest;
}
TINYGEN_INLINE void store_part(float* p, VecF v, int count) { _mm256_maskstore_ps(p, (__m256i)below(count, v), (__m256)v); }
TINYGEN_INLINE void store_part(double* p, VecD v, int count) { _mm256_maskstore_pd(p, (__m256i)below(count, v), (__m256d)v); }
#else
template <class T>
TINYGEN_INLINE Vector<T> load_part(const T* p, int count, Vector<T> rest = Vector<T>{}) {
  for (int i = 0; i < lanes<T>; i++)
    if (i < count) rest[i] = p[i];
  return rest;
}
TINYGEN_INLINE void store_part(float* p, VecF v, int count) {
  for (int i = 0; i < lanes<float>; i++)
    if (i < count) p[i] = v[i];
}
TINYGEN_INLINE void store_part(double* p, VecD v, int count) {
  for (int i = 0; i < lanes<double>; i++)
    if (i < count) p[i] = v[i];
}
#endif

TINYGEN_INLINE VecF select(MaskF m, VecF a, VecF b) { return m ? a : b; }
TINYGEN_INLINE VecD select(MaskD m, VecD a, VecD b) { return m ? a : b; }
TINYGEN_INLINE VecF abs(VecF x) { return (VecF)((MaskF)x & 0x7fffffff); }
TINYGEN_INLINE VecD abs(VecD x) { return (VecD)((MaskD)x & 0x7fffffffffffffff); }
TINYGEN_INLINE VecF copysign(VecF size, VecF sign) { return (VecF)(((MaskF)size & 0x7fffffff) | ((MaskF)sign & (MaskF)splat<float>(-0.0f))); }

// max, min: the second argument where either is NaN, so max(limit, x) passes a NaN in x on. (The masked forms of AVX-512 are
// used with full masks: the plain ones make GCC 12 warn about an uninitialised variable in its own header.)
#if defined(__AVX512F__)
TINYGEN_INLINE VecF max(VecF a, VecF b) { return (VecF)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b); }
TINYGEN_INLINE VecD max(VecD a, VecD b) { return (VecD)_mm512_maskz_max_pd(0xff, (__m512d)a, (__m512d)b); }
TINYGEN_INLINE VecF min(VecF a, VecF b) { return (VecF)_mm512_maskz_min_ps(0xffff, (__m512)a, (__m512)b); }
TINYGEN_INLINE VecD min(VecD a, VecD b) { return (VecD)_mm512_maskz_min_pd(0xff, (__m512d)a, (__m512d)b); }
TINYGEN_INLINE VecF sqrt(VecF x) { return (VecF)_mm512_maskz_sqrt_ps(0xffff, (__m512)x); }
TINYGEN_INLINE VecD sqrt(VecD x) { return (VecD)_mm512_maskz_sqrt_pd(0xff, (__m512d)x); }
#elif defined(__AVX2__)
TINYGEN_INLINE VecF max(VecF a, VecF b) { return (VecF)_mm256_max_ps((__m256)a, (__m256)b); }
TINYGEN_INLINE VecD max(VecD a, VecD b) { return (VecD)_mm256_max_pd((__m256d)a, (__m256d)b); }
TINYGEN_INLINE VecF min(VecF a, VecF b) { return (VecF)_mm256_min_ps((__m256)a, (__m256)b); }
TINYGEN_INLINE VecD min(VecD a, VecD b) { return (VecD)_mm256_min_pd((__m256d)a, (__m256d)b); }
TINYGEN_INLINE VecF sqrt(VecF x) { return (VecF)_mm256_sqrt_ps((__m256)x); }
TINYGEN_INLINE VecD sqrt(VecD x) { return (VecD)_mm256_sqrt_pd((__m256d)x); }
#elif defined(__SSE2__)
TINYGEN_INLINE VecF max(VecF a, VecF b) { return (VecF)_mm_max_ps((__m128)a, (__m128)b); }
TINYGEN_INLINE VecD max(VecD a, VecD b) { return (VecD)_mm_max_pd((__m128d)a, (__m128d)b); }
TINYGEN_INLINE VecF min(VecF a, VecF b) { return (VecF)_mm_min_ps((__m128)a, (__m128)b); }
TINYGEN_INLINE VecD min(VecD a, VecD b) { return (VecD)_mm_min_pd((__m128d)a, (__m128d)b); }
TINYGEN_INLINE VecF sqrt(VecF x) { return (VecF)_mm_sqrt_ps((__m128)x); }
TINYGEN_INLINE VecD sqrt(VecD x) { return (VecD)_mm_sqrt_pd((__m128d)x); }
#else
TINYGEN_INLINE VecF max(VecF a, VecF b) { return a > b ? a : b; }
TINYGEN_INLINE VecD max(VecD a, VecD b) { return a > b ? a : b; }
TINYGEN_INLINE VecF min(VecF a, VecF b) { return a < b ? a : b; }
TINYGEN_INLINE VecD min(VecD a, VecD b) { return a < b ? a : b; }
TINYGEN_INLINE VecF sqrt(VecF x) {
  for (int i = 0; i < lanes<float>; i++) x[i] = __builtin_sqrtf(x[i]);
  return x;
}
TINYGEN_INLINE VecD sqrt(VecD x) {
  for (int i = 0; i < lanes<double>; i++) x[i] = __builtin_sqrt(x[i]);
  return x;
}
#endif

// a / b for 1 <= b <= 2: on AVX-512 an estimate and one Newton step (1 ulp), several times faster than dividing.
TINYGEN_INLINE VecF divide_by_unit(VecF a, VecF b) {
#if defined(__AVX512F__)
  VecF y = (VecF)_mm512_maskz_rcp14_ps(0xffff, (__m512)b);
  y += y * (1.0f - b * y);
  VecF q = a * y;
  return q + y * (a - b * q);
#else
  return a / b;
#endif
}
TINYGEN_INLINE VecD divide_by_unit(VecD a, VecD b) { return a / b; }

// v[i] = base[index[i]]
TINYGEN_INLINE VecF gather(const float* base, MaskF index) {
#if defined(__AVX512F__)
  return (VecF)_mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, (__m512i)index, base, 4);
#elif defined(__AVX2__)
  return (VecF)_mm256_i32gather_ps(base, (__m256i)index, 4);
#else
  VecF v;
  for (int i = 0; i < lanes<float>; i++) v[i] = base[index[i]];
  return v;
#endif
}
TINYGEN_INLINE VecD gather(const double* base, MaskD index) {
  VecD v;
  for (int i = 0; i < lanes<double>; i++) v[i] = base[index[i]];
  return v;
}

// Sum and maximum of the lanes. Each round combines lane i with lane i + half, leaving the results in pairs.
#define TINYGEN_REDUCE(name, T, combined)                                                 \
  TINYGEN_INLINE T name(Vector<T> v) {                                                    \
    for (int count = lanes<T>; count > 1; count /= 2) {                                   \
      const Vector<T> a = Shuffles<T>::low(v, v), b = Shuffles<T>::high(v, v);            \
      v = combined;                                                                       \
    }                                                                                     \
    return v[0];                                                                          \
  }
TINYGEN_REDUCE(sum_lanes, float, a + b)
TINYGEN_REDUCE(sum_lanes, double, a + b)
TINYGEN_REDUCE(max_lanes, float, max(a, b))
TINYGEN_REDUCE(max_lanes, double, max(a, b))
#undef TINYGEN_REDUCE

// ------------------------------------------------------------------------------------------------ float

// x = k ln 2 + r with |r| <= ln 2 / 2: returns r and sets k. Adding and taking off 1.5 * 2^23 rounds to an integer.
TINYGEN_INLINE VecF split_ln2(VecF x, VecF& k) {
  const float magic = 12582912.0f;
  k = x * 1.44269504f + magic;
  k -= magic;
  return (x - k * 0.693359375f) - k * -2.12194440e-4f;
}
// exp(r) - 1 - r for |r| <= ln 2 / 2.
TINYGEN_INLINE VecF exp_tail(VecF r) {
  return r * r * (0.5f + r * (0.166665167f + r * (0.0416662022f + r * (0.00836907327f + r * 0.0013950807f))));
}
TINYGEN_INLINE VecF power_of_two(MaskF n) { return (VecF)((BitsF)(n + 127) << 23); }
// y * 2^k for an integer k. In two factors, because 2^128 and 2^-149 are results but no normal numbers.
TINYGEN_INLINE VecF scale(VecF y, VecF k) {
#if defined(__AVX512F__)
  return (VecF)_mm512_maskz_scalef_ps(0xffff, (__m512)y, (__m512)k);
#else
  MaskF n = __builtin_convertvector(k, MaskF), half = n >> 1;
  return y * power_of_two(half) * power_of_two(n - half);
#endif
}

// exp(x) for x <= 0, and for any x. What rounds to 0 is made 0 and not computed: a result below the normal range costs the
// processor a hundred cycles, and masks make whole rows of minus infinity.
TINYGEN_INLINE VecF exp_negative(VecF x) {
  const MaskF gone = x < -104.0f;
  VecF k, r = split_ln2(select(gone, VecF{}, x), k);
  return select(gone, VecF{}, scale(1.0f + (r + exp_tail(r)), k));
}
TINYGEN_INLINE VecF exp(VecF x) { return exp_negative(min(splat<float>(89.0f), x)); }

// exp(x) - 1 for x <= 0.
TINYGEN_INLINE VecF expm1_negative(VecF x) {
  VecF k, r = split_ln2(max(splat<float>(-30.0f), x), k);
  VecF power = power_of_two(__builtin_convertvector(k, MaskF));
  return power * (r + exp_tail(r)) + (power - 1.0f);
}

// log(1 + f) for sqrt(1/2) - 1 <= f <= sqrt(2) - 1.
TINYGEN_INLINE VecF log1p_near(VecF f) {
  VecF q = 0.127615497f + f * -0.0763442963f;
  q = -0.131601945f + f * q;
  q = 0.142017618f + f * q;
  q = -0.166233569f + f * q;
  q = 0.200012267f + f * q;
  q = -0.250008225f + f * q;
  q = 0.333333313f + f * q;
  return f + f * f * (-0.5f + f * q);
}
// log(x) for normal positive x.
TINYGEN_INLINE VecF log(VecF x) {
  MaskF bits = (MaskF)x - 0x3f3504f3;  // sqrt(1/2)
  MaskF exponent = bits >> 23;
  VecF m = (VecF)((bits & 0x7fffff) + 0x3f3504f3);
  VecF k = __builtin_convertvector(exponent, VecF);
  return k * 0.693359375f + (log1p_near(m - 1.0f) + k * -2.12194440e-4f);
}
// log(1 + t) for 0 <= t <= 1: above sqrt(2) - 1 it is ln 2 + log(1 + (t - 1) / 2).
TINYGEN_INLINE VecF log1p_unit(VecF t) {
  MaskF big = t > 0.414213562f;
  VecF y = log1p_near(select(big, 0.5f * t - 0.5f, t));
  return select(big, y + 0.693147181f, y);
}

// -m / (m + 2) with m = exp(-2 |x|) - 1: no cancellation near 0, no overflow far out.
TINYGEN_INLINE VecF tanh(VecF x) {
  VecF m = expm1_negative(-2.0f * abs(x));
  return copysign(divide_by_unit(m, m + 2.0f), x);
}

// Below 0.9 an odd polynomial, above 1 - exp(-p(|x|)), which is 1 in float from 4 on.
TINYGEN_INLINE VecF erf(VecF x) {
  VecF a = min(splat<float>(4.0f), abs(x)), z = a * a;
  VecF q = 0.00501622818f + z * -0.000611129159f;
  q = 0.128379151f + z * (-0.376125336f + z * (0.112822302f + z * (-0.0267819576f + z * q)));
  VecF p = 0.00306549994f + a * -0.000198220703f;
  p = 0.000166439073f + a * (1.12779725f + a * (0.636976004f + a * (0.104113743f + a * (-0.0223152488f + a * p))));
  return select(a < 0.9f, x + x * q, copysign(1.0f - exp_negative(-p), x));
}

// sin and cos of f turns, |f| <= 1/8.
TINYGEN_INLINE void sincos_turn(VecF f, VecF& sin, VecF& cos) {
  VecF z = f * f;
  sin = f * (6.28318548f + z * (-41.3416634f + z * (81.5925522f + z * -75.4020691f)));
  cos = 1.0f + z * (-19.7392082f + z * (64.9393234f + z * (-85.4437408f + z * 59.2459602f)));
}

// ------------------------------------------------------------------------------------------------ double

#define TINYGEN_LANEWISE(name, function)                                    \
  TINYGEN_INLINE VecD name(VecD x) {                                                \
    for (int i = 0; i < lanes<double>; i++) x[i] = function(x[i]);    \
    return x;                                                               \
  }
TINYGEN_LANEWISE(exp, __builtin_exp)
TINYGEN_LANEWISE(exp_negative, __builtin_exp)
TINYGEN_LANEWISE(expm1_negative, __builtin_expm1)
TINYGEN_LANEWISE(log, __builtin_log)
TINYGEN_LANEWISE(log1p_unit, __builtin_log1p)
TINYGEN_LANEWISE(tanh, __builtin_tanh)
TINYGEN_LANEWISE(erf, __builtin_erf)
TINYGEN_LANEWISE(sin_of, __builtin_sin)
TINYGEN_LANEWISE(cos_of, __builtin_cos)
#undef TINYGEN_LANEWISE
TINYGEN_INLINE void sincos_turn(VecD f, VecD& sin, VecD& cos) {
  sin = sin_of(6.283185307179586 * f);
  cos = cos_of(6.283185307179586 * f);
}

}  // namespace
}  // namespace TINYGEN_ISA
}  // namespace tinygen
