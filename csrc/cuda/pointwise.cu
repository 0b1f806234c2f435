// Functions of one element, and their derivatives times the incoming gradient g. The formulas are those of
// tinygen/backends/reference/. Each reads its inputs and writes its result once; g_step is 0 where one g serves all.
#include "device.h"

const double kInverseSqrt2 = 0.70710678118654752440, kInverseSqrt2Pi = 0.39894228040143267794;
// gelu's tanh approximation is x * sigmoid(a x + b x^3)
const double kGeluA = 1.59576912160573071176, kGeluB = 0.044715 * 1.59576912160573071176;

DEVICE real sigmoid_of(real x) {
  const real e = exp(-fabs(x));  // never overflows
  return (x < 0 ? e : real(1)) / (1 + e);
}
DEVICE real larger_than_zero(real x) { return x > 0 || is_nan(x) ? x : real(0); }

KERNEL(256, sigmoid, const real* __restrict__ x, real* __restrict__ y, long long count) {
  each(count, [=](long long i) { y[i] = sigmoid_of(x[i]); });
}
KERNEL(256, sigmoid_backward, const real* __restrict__ g, long long g_step, const real* __restrict__ out,
       real* __restrict__ gx, long long count) {
  each(count, [=](long long i) { gx[i] = g[i * g_step] * out[i] * (1 - out[i]); });
}
KERNEL(256, tanh_forward, const real* __restrict__ x, real* __restrict__ y, long long count) {
  each(count, [=](long long i) { y[i] = tanh(x[i]); });
}
KERNEL(256, tanh_backward, const real* __restrict__ g, long long g_step, const real* __restrict__ out,
       real* __restrict__ gx, long long count) {
  each(count, [=](long long i) { gx[i] = g[i * g_step] * (1 - out[i] * out[i]); });
}

KERNEL(256, leaky_relu, const real* x, real* y, double slope, long long count) {  // y may be x
  const real s = real(slope);
  each(count, [=](long long i) { y[i] = s == 0 ? larger_than_zero(x[i]) : x[i] > 0 ? x[i] : s * x[i]; });
}
KERNEL(256, leaky_relu_backward, const real* g, long long g_step, const real* __restrict__ x, real* gx, double slope,
       long long count) {  // gx may be g
  const real s = real(slope);
  each(count, [=](long long i) {  // at NaN 1 of a ReLU, and the slope of a leaky one, as in torch
    gx[i] = s == 0 ? (x[i] <= 0 ? real(0) : g[i * g_step]) : x[i] > 0 ? g[i * g_step] : s * g[i * g_step];
  });
}
KERNEL(256, elu, const real* __restrict__ x, real* __restrict__ y, double alpha, double scale, long long count) {
  const real a = real(alpha), s = real(scale);
  each(count, [=](long long i) { y[i] = s * (x[i] > 0 ? x[i] : a * expm1(x[i])); });
}
KERNEL(256, elu_backward, const real* __restrict__ g, long long g_step, const real* __restrict__ x,
       real* __restrict__ gx, double alpha, double scale, long long count) {
  const real a = real(alpha), s = real(scale);
  each(count, [=](long long i) { gx[i] = g[i * g_step] * (s * (x[i] > 0 ? real(1) : a * exp(x[i]))); });
}
KERNEL(256, softplus, const real* __restrict__ x, real* __restrict__ y, long long count) {
  each(count, [=](long long i) { y[i] = larger_than_zero(x[i]) + log1p(exp(-fabs(x[i]))); });
}
KERNEL(256, softplus_backward, const real* __restrict__ g, long long g_step, const real* __restrict__ x,
       real* __restrict__ gx, long long count) {
  each(count, [=](long long i) { gx[i] = g[i * g_step] * sigmoid_of(x[i]); });
}
KERNEL(256, silu, const real* __restrict__ x, real* __restrict__ y, long long count) {
  each(count, [=](long long i) { y[i] = x[i] * sigmoid_of(x[i]); });
}
KERNEL(256, silu_backward, const real* __restrict__ g, long long g_step, const real* __restrict__ x,
       real* __restrict__ gx, long long count) {
  each(count, [=](long long i) {
    const real s = sigmoid_of(x[i]);
    gx[i] = g[i * g_step] * (s * (1 + x[i] * (1 - s)));
  });
}

KERNEL(256, gelu, const real* __restrict__ x, real* __restrict__ y, long long approximate, long long count) {
  each(count, [=](long long i) {
    const real v = x[i];
    y[i] = approximate ? v * sigmoid_of(real(kGeluA) * v + real(kGeluB) * v * v * v)
                       : real(0.5) * v * (1 + erf(v * real(kInverseSqrt2)));
  });
}
KERNEL(256, gelu_backward, const real* __restrict__ g, long long g_step, const real* __restrict__ x,
       real* __restrict__ gx, long long approximate, long long count) {
  each(count, [=](long long i) {
    real slope;
    if (approximate) {
      const real v = x[i] < -20 ? real(-20) : x[i] > 20 ? real(20) : x[i];  // constant beyond, where a cube overflows
      const real inner = real(kGeluA) * v + real(kGeluB) * v * v * v, e = exp(-fabs(inner));
      const real bell = e / ((1 + e) * (1 + e));  // sigmoid', without the cancellation of s * (1 - s)
      slope = sigmoid_of(inner) + v * bell * (real(kGeluA) + 3 * real(kGeluB) * v * v);
    } else {
      slope = real(0.5) * (1 + erf(x[i] * real(kInverseSqrt2))) + x[i] * exp(real(-0.5) * x[i] * x[i]) * real(kInverseSqrt2Pi);
    }
    gx[i] = g[i * g_step] * slope;
  });
}
KERNEL(256, erf_forward, const real* __restrict__ x, real* __restrict__ y, long long count) {
  each(count, [=](long long i) { y[i] = erf(x[i]); });
}

KERNEL(256, bce_with_logits, const real* __restrict__ x, const real* __restrict__ target, real* __restrict__ y,
       long long count) {
  each(count, [=](long long i) { y[i] = larger_than_zero(x[i]) - x[i] * target[i] + log1p(exp(-fabs(x[i]))); });
}
KERNEL(256, bce_with_logits_backward, const real* __restrict__ g, long long g_step, const real* __restrict__ x,
       const real* __restrict__ target, real* __restrict__ gx, long long count) {
  each(count, [=](long long i) { gx[i] = g[i * g_step] * (sigmoid_of(x[i]) - target[i]); });
}
