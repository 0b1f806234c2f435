// Activations, their derivatives, and binary cross entropy on logits: one read of each input, one write.
//
// Contract: `count` elements, all arrays contiguous and not overlapping; g may instead be a single value (one_g), which is what
// the derivative of a sum or a mean passes down. Elementwise, so the result does not depend on the number of threads.
#include "cpu/parallel.h"
#include "cpu/vectormath.h"
#include "cpu/table.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

constexpr long long kCheap = 16384, kCostly = 8192;  // elements per thread below which a second thread costs more than it saves

template <class T, class F>
inline void map(long long count, long long grain, const T* x, T* y, const F& f) {
  split(count, grain, [&](long long i, long long end) {
    for (; i + lanes<T> <= end; i += lanes<T>) store(y + i, f(load(x + i)));
    if (int rest = (int)(end - i)) store_part(y + i, f(load_part(x + i, rest)), rest);
  });
}

template <class T, class F>
inline void map(long long count, long long grain, const T* a, const T* b, T* y, const F& f) {
  split(count, grain, [&](long long i, long long end) {
    for (; i + lanes<T> <= end; i += lanes<T>) store(y + i, f(load(a + i), load(b + i)));
    if (int rest = (int)(end - i)) store_part(y + i, f(load_part(a + i, rest), load_part(b + i, rest)), rest);
  });
}

// gx = f(g, x), where g may be one value.
template <class T, class F>
inline void map_gradient(long long count, long long grain, const T* g, bool one_g, const T* x, T* gx, const F& f) {
  if (!one_g) return map(count, grain, g, x, gx, f);
  const Vector<T> all = splat<T>(*g);
  map(count, grain, x, gx, [&](Vector<T> v) { return f(all, v); });
}

template <class T>
inline Vector<T> sigmoid_of(Vector<T> x) {
  Vector<T> e = exp_negative(-abs(x)), one = splat<T>(1);
  return divide_by_unit(select(x < 0, e, one), one + e);
}

template <class T>
inline Vector<T> softplus_of(Vector<T> x) {
  return max(splat<T>(0), x) + log1p_unit(exp_negative(-abs(x)));
}

}  // namespace

TINYGEN_KERNEL(sigmoid, (long long count, const T* x, T* y)) {
  map(count, kCostly, x, y, [](Vector<T> v) { return sigmoid_of<T>(v); });
}
TINYGEN_KERNEL(sigmoid_backward, (long long count, const T* g, bool one_g, const T* out, T* gx)) {
  map_gradient(count, kCheap, g, one_g, out, gx, [](Vector<T> d, Vector<T> o) { return d * o * (1 - o); });
}

TINYGEN_KERNEL(tanh, (long long count, const T* x, T* y)) {
  map(count, kCostly, x, y, [](Vector<T> v) { return tanh(v); });
}
TINYGEN_KERNEL(tanh_backward, (long long count, const T* g, bool one_g, const T* out, T* gx)) {
  map_gradient(count, kCheap, g, one_g, out, gx, [](Vector<T> d, Vector<T> o) { return d * (1 - o * o); });
}

// Slope 0 must not multiply: 0 * infinity would be NaN.
TINYGEN_KERNEL(leaky_relu, (long long count, const T* x, T* y, double slope)) {
  const Vector<T> s = splat<T>((T)slope), zero = splat<T>(0);
  if (slope == 0) return map(count, kCheap, x, y, [=](Vector<T> v) { return max(zero, v); });
  map(count, kCheap, x, y, [=](Vector<T> v) { return select(v > 0, v, s * v); });
}
TINYGEN_KERNEL(leaky_relu_backward, (long long count, const T* g, bool one_g, const T* x, T* gx, double slope)) {
  const Vector<T> s = splat<T>((T)slope), zero = splat<T>(0);
  if (slope == 0)
    return map_gradient(count, kCheap, g, one_g, x, gx, [=](Vector<T> d, Vector<T> v) { return select(v <= 0, zero, d); });
  map_gradient(count, kCheap, g, one_g, x, gx, [=](Vector<T> d, Vector<T> v) { return select(v > 0, d, s * d); });
}

TINYGEN_KERNEL(elu, (long long count, const T* x, T* y, double alpha, double scale)) {
  const Vector<T> above = splat<T>((T)scale), below = splat<T>((T)alpha), zero = splat<T>(0);
  map(count, kCostly, x, y, [=](Vector<T> v) { return above * select(v > 0, v, below * expm1_negative(min(zero, v))); });
}
TINYGEN_KERNEL(elu_backward, (long long count, const T* g, bool one_g, const T* x, T* gx, double alpha, double scale)) {
  const Vector<T> above = splat<T>((T)scale), below = splat<T>((T)(alpha * scale)), zero = splat<T>(0);
  map_gradient(count, kCostly, g, one_g, x, gx, [=](Vector<T> d, Vector<T> v) {
    return d * select(v > 0, above, below * exp_negative(min(zero, v)));
  });
}

TINYGEN_KERNEL(softplus, (long long count, const T* x, T* y)) {
  map(count, kCostly, x, y, [](Vector<T> v) { return softplus_of<T>(v); });
}
TINYGEN_KERNEL(softplus_backward, (long long count, const T* g, bool one_g, const T* x, T* gx)) {
  map_gradient(count, kCostly, g, one_g, x, gx, [](Vector<T> d, Vector<T> v) { return d * sigmoid_of<T>(v); });
}

TINYGEN_KERNEL(silu, (long long count, const T* x, T* y)) {
  map(count, kCostly, x, y, [](Vector<T> v) { return v * sigmoid_of<T>(v); });
}
TINYGEN_KERNEL(silu_backward, (long long count, const T* g, bool one_g, const T* x, T* gx)) {
  map_gradient(count, kCostly, g, one_g, x, gx, [](Vector<T> d, Vector<T> v) {
    Vector<T> s = sigmoid_of<T>(v);
    return d * (s * (1 + v * (1 - s)));
  });
}

// gelu(x) = x/2 * (1 + erf(x / sqrt 2)); its tanh approximation is x * sigmoid(a x + b x^3).
TINYGEN_KERNEL(gelu, (long long count, const T* x, T* y, bool use_tanh)) {
  const T a = (T)1.5957691216057308, b = (T)0.07135481627260025, half = (T)0.5, shrink = (T)0.7071067811865476;
  if (use_tanh) return map(count, kCostly, x, y, [=](Vector<T> v) { return v * sigmoid_of<T>(a * v + b * v * v * v); });
  map(count, kCostly, x, y, [=](Vector<T> v) { return half * v * (1 + erf(v * shrink)); });
}
TINYGEN_KERNEL(gelu_backward, (long long count, const T* g, bool one_g, const T* x, T* gx, bool use_tanh)) {
  const T a = (T)1.5957691216057308, b = (T)0.07135481627260025, half = (T)0.5, shrink = (T)0.7071067811865476;
  const T density = (T)0.3989422804014327;  // 1 / sqrt(2 pi)
  const Vector<T> one = splat<T>(1), limit = splat<T>(20);  // constant beyond, while the cube of a large x overflows
  if (use_tanh)
    return map_gradient(count, kCostly, g, one_g, x, gx, [=](Vector<T> d, Vector<T> v) {
      v = max(-limit, min(limit, v));
      Vector<T> inner = a * v + b * v * v * v, e = exp_negative(-abs(inner)), share = divide_by_unit(one, one + e);
      return d * (select(inner < 0, e, one) * share + v * (e * share * share) * (a + 3 * b * v * v));
    });
  map_gradient(count, kCostly, g, one_g, x, gx, [=](Vector<T> d, Vector<T> v) {
    return d * (half * (1 + erf(v * shrink)) + v * density * exp_negative(-half * v * v));
  });
}

TINYGEN_KERNEL(erf, (long long count, const T* x, T* y)) {
  map(count, kCostly, x, y, [](Vector<T> v) { return erf(v); });
}

TINYGEN_KERNEL(bce_with_logits, (long long count, const T* x, const T* target, T* y)) {
  map(count, kCostly, x, target, y, [](Vector<T> v, Vector<T> t) {
    return max(splat<T>(0), v) - v * t + log1p_unit(exp_negative(-abs(v)));
  });
}
TINYGEN_KERNEL(bce_with_logits_backward, (long long count, const T* g, bool one_g, const T* x, const T* target, T* gx)) {
  if (one_g) {
    const Vector<T> d = splat<T>(*g);
    return map(count, kCostly, x, target, gx, [=](Vector<T> v, Vector<T> t) { return d * (sigmoid_of<T>(v) - t); });
  }
  split(count, kCostly, [&](long long i, long long end) {
    auto step = [](Vector<T> d, Vector<T> v, Vector<T> t) { return d * (sigmoid_of<T>(v) - t); };
    for (; i + lanes<T> <= end; i += lanes<T>) store(gx + i, step(load(g + i), load(x + i), load(target + i)));
    if (int rest = (int)(end - i))
      store_part(gx + i, step(load_part(g + i, rest), load_part(x + i, rest), load_part(target + i, rest)), rest);
  });
}

}  // namespace TINYGEN_ISA
}  // namespace tinygen
