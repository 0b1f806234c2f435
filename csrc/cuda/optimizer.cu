// Optimizer steps, in place (formulas: tinygen/backends/reference/optimizer.py). Parameters and gradients lie where they lie,
// the state in flat arrays. The learning rate and the count of steps are read from the device, so that a captured training
// step can change them.
#include "device.h"

// Parameter n, its gradient, where its state begins in the flat arrays, and its length; eight of them to a launch. They are
// arguments and not a table on the device, which a captured step would find changed. What is missing has length 0.
#define PIECE(n) real *__restrict__ p##n, const real *__restrict__ g##n, long long start##n, long long count##n
#define PIECES PIECE(0), PIECE(1), PIECE(2), PIECE(3), PIECE(4), PIECE(5), PIECE(6), PIECE(7)
#define UPDATE(n) each(count##n, [=](long long i) { update(p##n[i], g##n[i], start##n + i); })
#define UPDATE_ALL UPDATE(0), UPDATE(1), UPDATE(2), UPDATE(3), UPDATE(4), UPDATE(5), UPDATE(6), UPDATE(7)

// buffer may be null.
KERNEL(256, sgd_step, PIECES, real* __restrict__ buffer, const double* __restrict__ lr, const double* __restrict__ step,
       double momentum, double dampening, double weight_decay, long long nesterov) {
  const real rate = real(*lr), decay = real(weight_decay), keep = real(momentum), take = real(1 - dampening);
  const bool first = *step == 1;
  auto update = [=](real& p, real g, long long at) {
    real d = decay != 0 ? g + decay * p : g;
    if (buffer) {
      const real moving = first ? d : keep * buffer[at] + take * d;
      buffer[at] = moving;
      d = nesterov ? d + keep * moving : moving;
    }
    p -= rate * d;
  };
  UPDATE_ALL;
}

KERNEL(256, adam_step, PIECES, real* __restrict__ m, real* __restrict__ v, const double* __restrict__ lr,
       const double* __restrict__ step, double beta1, double beta2, double eps, double weight_decay, long long decoupled) {
  SHARED(double, corrections, [2]);  // two powers in double precision: once per block, not per thread
  if (threadIdx.x == 0) {
    corrections[0] = 1 - pow(beta1, *step);
    corrections[1] = sqrt(1 - pow(beta2, *step));
  }
  __syncthreads();
  const real rate = real(*lr / corrections[0]), root = real(corrections[1]), decay = real(weight_decay);
  const real shrink = decoupled ? real(1 - *lr * weight_decay) : real(1), take1 = real(1 - beta1);
  const real keep2 = real(beta2), take2 = real(1 - beta2), small = real(eps);
  auto update = [=](real& p, real g, long long at) {
    const real value = p * shrink, d = decay != 0 && !decoupled ? g + decay * value : g;
    const real mean = m[at] + take1 * (d - m[at]), square = keep2 * v[at] + take2 * d * d;
    m[at] = mean, v[at] = square;
    p = value - rate * mean / (sqrt(square) / root + small);
  };
  UPDATE_ALL;
}

// mean and buffer may be null.
KERNEL(256, rmsprop_step, PIECES, real* __restrict__ v, real* __restrict__ buffer, real* __restrict__ mean,
       const double* __restrict__ lr, double alpha, double eps, double weight_decay, double momentum) {
  const real rate = real(*lr), keep = real(alpha), take = real(1 - alpha), decay = real(weight_decay);
  const real small = real(eps), glide = real(momentum);
  auto update = [=](real& p, real g, long long at) {
    const real d = decay != 0 ? g + decay * p : g, square = keep * v[at] + take * d * d;
    v[at] = square;
    real variance = square;
    if (mean) {
      const real centre = mean[at] + take * (d - mean[at]);
      mean[at] = centre;
      variance = square - centre * centre;
    }
    real move = d / (sqrt(variance) + small);
    if (buffer) buffer[at] = move = glide * buffer[at] + move;
    p -= rate * move;
  };
  UPDATE_ALL;
}
