// What winograd.cpp and winograd_weight.cpp share, above all the 1-D transforms of Winograd's F(4, taps): 4 results of a
// filter with 2 or 3 taps from 5 or 6 products (Lavin and Gray, 2015). In two dimensions they are applied to columns,
// then to rows.
//
//     results = A^T [ (G g) * (B^T d) ],   * elementwise;  d: the inputs under the taps, g: the filter
//
// evaluates polynomials at some points and at infinity, multiplies there, and interpolates. The points are chosen for
// their rounding error and come in pairs +-p, of which even and odd powers are shared. Root mean square of the error
// over that of the results, float32, normal data, two dimensions, 256 channels:
//     2 taps   +-1/2, +-5/4          0.9e-6        0, +-1, 2    1.9e-6
//     3 taps   0, +-2/3, +-3/2       1.4e-6        0, +-1, +-2  3.2e-6
// The usual points on the right are no cheaper; their powers are of more different sizes. In the worst case the factor
// is four.
#pragma once

#include "../vector.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

constexpr int kSide = 4;  // of a tile of results

namespace two_taps {
constexpr double p = 1. / 2, q = 5. / 4;
}
namespace three_taps {
constexpr double p = 2. / 3, q = 3. / 2;  // p q = 1, so some factors are 1
}

// B^T d: the coefficients of x^i d_i in the products of (x - point) over all other points.
template <class T>
TINYGEN_INLINE void transform_input(const Vector<T> (&d)[5], Vector<T> (&e)[5]) {
  using namespace two_taps;
  constexpr T p2 = p * p, q2 = q * q, both = p * p + q * q, product = p * p * q * q;
  Vector<T> even = d[2] - q2 * d[0], odd = d[3] - q2 * d[1];
  e[0] = odd + T(p) * even;
  e[1] = odd - T(p) * even;
  even = d[2] - p2 * d[0];
  odd = d[3] - p2 * d[1];
  e[2] = odd + T(q) * even;
  e[3] = odd - T(q) * even;
  e[4] = d[4] - both * d[2] + product * d[0];
}

// G g: the filter's polynomial at the points, over the product of the point's distances to the others.
template <class T>
TINYGEN_INLINE void transform_filter(const Vector<T> (&g)[2], Vector<T> (&u)[5]) {
  using namespace two_taps;
  constexpr T at_p = 1 / (2 * p * (p * p - q * q)), at_q = 1 / (2 * q * (q * q - p * p));
  u[0] = at_p * (g[0] + T(p) * g[1]);
  u[1] = -at_p * (g[0] - T(p) * g[1]);
  u[2] = at_q * (g[0] + T(q) * g[1]);
  u[3] = -at_q * (g[0] - T(q) * g[1]);
  u[4] = g[1];
}

// A^T m: powers 0 to 3 of the points.
template <class T>
TINYGEN_INLINE void transform_output(const Vector<T> (&m)[5], Vector<T> (&o)[kSide]) {
  using namespace two_taps;
  constexpr T p2 = p * p, q2 = q * q, p3 = p * p * p, q3 = q * q * q;
  Vector<T> even_p = m[0] + m[1], odd_p = m[0] - m[1], even_q = m[2] + m[3], odd_q = m[2] - m[3];
  o[0] = even_p + even_q;
  o[1] = T(p) * odd_p + T(q) * odd_q;
  o[2] = p2 * even_p + q2 * even_q;
  o[3] = p3 * odd_p + q3 * odd_q + m[4];
}

template <class T>
TINYGEN_INLINE void transform_input(const Vector<T> (&d)[6], Vector<T> (&e)[6]) {
  using namespace three_taps;
  constexpr T p2 = p * p, q2 = q * q, both = p * p + q * q;
  e[0] = d[0] + (d[4] - both * d[2]);
  e[5] = d[1] + (d[5] - both * d[3]);
  Vector<T> even = d[4] - q2 * d[2], odd = d[3] - q2 * d[1];
  e[1] = even + T(p) * odd;
  e[2] = even - T(p) * odd;
  even = d[4] - p2 * d[2];
  odd = d[3] - p2 * d[1];
  e[3] = even + T(q) * odd;
  e[4] = even - T(q) * odd;
}

template <class T>
TINYGEN_INLINE void transform_filter(const Vector<T> (&g)[3], Vector<T> (&u)[6]) {
  using namespace three_taps;
  constexpr T p2 = p * p, q2 = q * q;
  constexpr T at_p = 1 / (2 * p * p * (p * p - q * q)), at_q = 1 / (2 * q * q * (q * q - p * p));
  u[0] = g[0];
  Vector<T> even = g[0] + p2 * g[2], odd = T(p) * g[1];
  u[1] = at_p * (even + odd);
  u[2] = at_p * (even - odd);
  even = g[0] + q2 * g[2];
  odd = T(q) * g[1];
  u[3] = at_q * (even + odd);
  u[4] = at_q * (even - odd);
  u[5] = g[2];
}

template <class T>
TINYGEN_INLINE void transform_output(const Vector<T> (&m)[6], Vector<T> (&o)[kSide]) {
  using namespace three_taps;
  constexpr T p2 = p * p, q2 = q * q, p3 = p * p * p, q3 = q * q * q;
  Vector<T> even_p = m[1] + m[2], odd_p = m[1] - m[2], even_q = m[3] + m[4], odd_q = m[3] - m[4];
  o[0] = m[0] + even_p + even_q;
  o[1] = T(p) * odd_p + T(q) * odd_q;
  o[2] = p2 * even_p + q2 * even_q;
  o[3] = p3 * odd_p + q3 * odd_q + m[5];
}

// At least `count` elements, an odd number of vectors: rows that are so far apart fall into different sets of a cache.
template <class T>
index_t odd_pitch(index_t count) {
  return ((count + lanes<T> - 1) / lanes<T> | 1) * lanes<T>;
}

// rows[i] = the L elements at from + i * pitch, for i < count, else zero; what lies at `end` or beyond is not read.
// Those `ahead` are fetched into the cache, unless it is 0.
template <class T>
TINYGEN_INLINE void load_rows(const T* from, index_t pitch, index_t count, const T* end, Vector<T> (&rows)[lanes<T>],
                              index_t ahead = 0) {
  constexpr int L = lanes<T>;
  bool inside = from + (count - 1) * pitch + L <= end;
  TINYGEN_UNROLL
  for (int i = 0; i < L; i++) {
    rows[i] = Vector<T>{};
    if (i >= count) continue;
    const T* row = from + i * pitch;
    if (ahead) __builtin_prefetch(row + ahead, 0, 2);
    if (inside)
      rows[i] = load(row);
    else
      __builtin_memcpy(&rows[i], row, min(L, end - row) * sizeof(T));
  }
}

}  // namespace
}  // namespace TINYGEN_ISA
}  // namespace tinygen
