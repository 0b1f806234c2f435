// Elementary functions on vectors (vector.h) of floats and doubles, and what tails and reductions need.
//
// float: polynomials fitted for this file by weighted least squares towards equal ripple; infinities and NaN come out as the
// mathematics says. Largest errors found over dense samples of the whole range: exp, expm1 and log 1 ulp, tanh and erf 2 ulp
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

// The first `count` lanes (0 < count < lanes), 0 in the others.
TINYGEN_INLINE VecF load_part(const float* p, int count) {
#if defined(__AVX512F__)
  return (VecF)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
#else
  VecF v = {};
  __builtin_memcpy(&v, p, count * sizeof(float));
  return v;
#endif
}
TINYGEN_INLINE VecD load_part(const double* p, int count) {
#if defined(__AVX512F__)
  return (VecD)_mm512_maskz_loadu_pd((__mmask8)((1u << count) - 1), p);
#else
  VecD v = {};
  __builtin_memcpy(&v, p, count * sizeof(double));
  return v;
#endif
}
TINYGEN_INLINE void store_part(float* p, VecF v, int count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), (__m512)v);
#else
  __builtin_memcpy(p, &v, count * sizeof(float));
#endif
}
TINYGEN_INLINE void store_part(double* p, VecD v, int count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_pd(p, (__mmask8)((1u << count) - 1), (__m512d)v);
#else
  __builtin_memcpy(p, &v, count * sizeof(double));
#endif
}

TINYGEN_INLINE VecF select(MaskF m, VecF a, VecF b) { return m ? a : b; }
TINYGEN_INLINE VecD select(MaskD m, VecD a, VecD b) { return m ? a : b; }
TINYGEN_INLINE VecF abs(VecF x) { return (VecF)((MaskF)x & 0x7fffffff); }
TINYGEN_INLINE VecD abs(VecD x) { return (VecD)((MaskD)x & 0x7fffffffffffffff); }
TINYGEN_INLINE VecF copysign(VecF size, VecF sign) { return (VecF)(((MaskF)size & 0x7fffffff) | ((MaskF)sign & (MaskF)splat<float>(-0.0f))); }

// max and min return the second argument where either is NaN: max(limit, x) passes a NaN in x on.
TINYGEN_INLINE VecF max(VecF a, VecF b) { return a > b ? a : b; }
TINYGEN_INLINE VecD max(VecD a, VecD b) { return a > b ? a : b; }
TINYGEN_INLINE VecF min(VecF a, VecF b) { return a < b ? a : b; }
TINYGEN_INLINE VecD min(VecD a, VecD b) { return a < b ? a : b; }

TINYGEN_INLINE VecF sqrt(VecF x) {
#if defined(__AVX512F__)  // maskz: the plain ones warn about an uninitialised variable in GCC 12's own header
  return (VecF)_mm512_maskz_sqrt_ps(0xffff, (__m512)x);
#elif defined(__AVX2__)
  return (VecF)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
  return (VecF)_mm_sqrt_ps((__m128)x);
#else
  for (int i = 0; i < lanes<float>; i++) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}
TINYGEN_INLINE VecD sqrt(VecD x) {
#if defined(__AVX512F__)
  return (VecD)_mm512_maskz_sqrt_pd(0xff, (__m512d)x);
#elif defined(__AVX2__)
  return (VecD)_mm256_sqrt_pd((__m256d)x);
#elif defined(__SSE2__)
  return (VecD)_mm_sqrt_pd((__m128d)x);
#else
  for (int i = 0; i < lanes<double>; i++) x[i] = __builtin_sqrt(x[i]);
  return x;
#endif
}

// acc[0] + acc[1] += v, in double.
TINYGEN_INLINE void add_wide(VecD (&acc)[2], VecF v) {
  HalfF low, high;
  __builtin_memcpy(&low, &v, sizeof low);
  __builtin_memcpy(&high, (const char*)&v + sizeof low, sizeof high);
  acc[0] += __builtin_convertvector(low, VecD);
  acc[1] += __builtin_convertvector(high, VecD);
}
TINYGEN_INLINE void add_wide(VecD (&acc)[2], VecD v) { acc[0] += v; }

template <class V>
TINYGEN_INLINE auto sum_lanes(V v) {
  auto total = v[0];
  for (int i = 1; i < (int)(sizeof v / sizeof v[0]); i++) total += v[i];
  return total;
}
template <class V>
TINYGEN_INLINE auto max_lanes(V v) {
  auto best = v[0];
  for (int i = 1; i < (int)(sizeof v / sizeof v[0]); i++) best = v[i] > best ? v[i] : best;
  return best;
}

// ------------------------------------------------------------------------------------------------ float

// x = n ln 2 + r with |r| <= ln 2 / 2: returns r and sets n. Adding 1.5 * 2^23 rounds to an integer that lies in the low bits.
TINYGEN_INLINE VecF split_ln2(VecF x, MaskF& n) {
  const float magic = 12582912.0f;
  VecF shifted = x * 1.44269504f + magic;
  n = (MaskF)shifted - (MaskF)splat<float>(magic);
  VecF k = shifted - magic;
  return (x - k * 0.693359375f) - k * -2.12194440e-4f;
}
// exp(r) - 1 - r for |r| <= ln 2 / 2.
TINYGEN_INLINE VecF exp_tail(VecF r) {
  return r * r * (0.5f + r * (0.166665167f + r * (0.0416662022f + r * (0.00836907327f + r * 0.0013950807f))));
}
TINYGEN_INLINE VecF power_of_two(MaskF n) { return (VecF)((BitsF)(n + 127) << 23); }

TINYGEN_INLINE VecF exp(VecF x) {
  MaskF n;
  VecF r = split_ln2(max(splat<float>(-104.0f), min(splat<float>(89.0f), x)), n);
  VecF y = 1.0f + (r + exp_tail(r));
  MaskF half = n >> 1;  // 2^n in two factors: 2^128 and 2^-149 are then no special cases
  return y * power_of_two(half) * power_of_two(n - half);
}

// exp(x) - 1 for x <= 0.
TINYGEN_INLINE VecF expm1_negative(VecF x) {
  MaskF n;
  VecF r = split_ln2(max(splat<float>(-30.0f), x), n);
  VecF scale = power_of_two(n);
  return scale * (r + exp_tail(r)) + (scale - 1.0f);
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

TINYGEN_INLINE VecF tanh(VecF x) {
  VecF a = abs(x), z = x * x;
  VecF tail = -0.333332837f + z * (0.133314908f + z * (-0.0537434965f + z * (0.0206505787f + z * -0.00571703678f)));
  VecF far = 1.0f - 2.0f / (exp(2.0f * a) + 1.0f);
  return copysign(select(a < 0.625f, a + a * z * tail, far), x);
}

// Below 0.9 an odd polynomial, above 1 - exp(-p(|x|)), which is 1 in float from 4 on.
TINYGEN_INLINE VecF erf(VecF x) {
  VecF a = min(splat<float>(4.0f), abs(x)), z = a * a;
  VecF q = 0.00501622818f + z * -0.000611129159f;
  q = 0.128379151f + z * (-0.376125336f + z * (0.112822302f + z * (-0.0267819576f + z * q)));
  VecF p = 0.00306549994f + a * -0.000198220703f;
  p = 0.000166439073f + a * (1.12779725f + a * (0.636976004f + a * (0.104113743f + a * (-0.0223152488f + a * p))));
  return select(a < 0.9f, x + x * q, copysign(1.0f - exp(-p), x));
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
