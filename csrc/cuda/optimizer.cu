// Optimizer steps, in place on flat arrays (formulas: tinygen/backends/reference/optimizer.py). The learning rate and the count of
// steps are read from the device, so that a captured training step can change them.
#include "device.h"

// flat[start + i] = g[i] for eight arrays of `count` numbers each: gradients, laid side by side as their parameters are.
// The arrays are arguments and not a table on the device, which a captured step would find changed.
#define PIECE(n) const real *__restrict__ g##n, long long start##n, long long count##n
KERNEL(256, join_pieces, real* __restrict__ flat, PIECE(0), PIECE(1), PIECE(2), PIECE(3), PIECE(4), PIECE(5), PIECE(6),
       PIECE(7)) {
#define COPY(n) each(count##n, [=](long long i) { flat[start##n + i] = g##n[i]; })
  COPY(0), COPY(1), COPY(2), COPY(3), COPY(4), COPY(5), COPY(6), COPY(7);
}

// p, g: read and written, read; buffer may be null.
KERNEL(256, sgd_step, real* __restrict__ p, const real* __restrict__ g, real* __restrict__ buffer,
       const double* __restrict__ lr, const double* __restrict__ step, double momentum, double dampening,
       double weight_decay, long long nesterov, long long count) {
  const real rate = real(*lr), decay = real(weight_decay), keep = real(momentum), take = real(1 - dampening);
  const bool first = *step == 1;
  each(count, [=](long long i) {
    real d = decay != 0 ? g[i] + decay * p[i] : g[i];
    if (buffer) {
      const real moving = first ? d : keep * buffer[i] + take * d;
      buffer[i] = moving;
      d = nesterov ? d + keep * moving : moving;
    }
    p[i] -= rate * d;
  });
}

KERNEL(256, adam_step, real* __restrict__ p, const real* __restrict__ g, real* __restrict__ m, real* __restrict__ v,
       const double* __restrict__ lr, const double* __restrict__ step, double beta1, double beta2, double eps,
       double weight_decay, long long decoupled, long long count) {
  SHARED(double, corrections, [2]);  // two powers in double precision: once per block, not per thread
  if (threadIdx.x == 0) {
    corrections[0] = 1 - pow(beta1, *step);
    corrections[1] = sqrt(1 - pow(beta2, *step));
  }
  __syncthreads();
  const real rate = real(*lr / corrections[0]), root = real(corrections[1]), decay = real(weight_decay);
  const real shrink = decoupled ? real(1 - *lr * weight_decay) : real(1), take1 = real(1 - beta1);
  const real keep2 = real(beta2), take2 = real(1 - beta2), small = real(eps);
  each(count, [=](long long i) {
    const real value = p[i] * shrink, d = decay != 0 && !decoupled ? g[i] + decay * value : g[i];
    const real mean = m[i] + take1 * (d - m[i]), square = keep2 * v[i] + take2 * (d * d);
    m[i] = mean, v[i] = square;
    p[i] = value - rate * mean / (sqrt(square) / root + small);
  });
}

// mean and buffer may be null.
KERNEL(256, rmsprop_step, real* __restrict__ p, const real* __restrict__ g, real* __restrict__ v,
       real* __restrict__ buffer, real* __restrict__ mean, const double* __restrict__ lr, double alpha, double eps,
       double weight_decay, double momentum, long long count) {
  const real rate = real(*lr), keep = real(alpha), take = real(1 - alpha), decay = real(weight_decay);
  const real small = real(eps), glide = real(momentum);
  each(count, [=](long long i) {
    const real d = decay != 0 ? g[i] + decay * p[i] : g[i], square = keep * v[i] + take * (d * d);
    v[i] = square;
    real variance = square;
    if (mean) {
      const real centre = mean[i] + take * (d - mean[i]);
      mean[i] = centre;
      variance = square - centre * centre;
    }
    real move = d / (sqrt(variance) + small);
    if (buffer) buffer[i] = move = glide * buffer[i] + move;
    p[i] -= rate * move;
  });
}
