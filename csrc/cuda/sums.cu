// Sums over axes, and losses with their derivative in one pass.
//
// Added up in double precision: a piece of the sum per block, then the pieces in a fixed order. Every number is read once.
#include "device.h"

// x as (r0, k0, r1, k1), r reduced and k kept; pieces (outputs, parts). Along the last axis (k1 = 1): a team per output.
KERNEL(256, sum_rows, const real* __restrict__ x, double* __restrict__ pieces, long long r0, long long k0, long long r1,
       long long parts, long long team) {
  const int teams = 256 / int(team), lane = int(threadIdx.x % team);
  const long long at = (long long)blockIdx.x * teams + threadIdx.x / team, output = at / parts, part = at % parts;
  const long long each = (r0 * r1 + parts - 1) / parts, first = part * each;
  const long long end = output < k0 ? min(first + each, r0 * r1) : 0;  // past the last output: nothing
  double sum = 0;
  each_item(first + lane, end, int(team), r1,
            [&](long long outer, long long inner) { sum += x[(outer * k0 + output) * r1 + inner]; });
  sum = team_reduce(sum, int(team), Sum());
  if (lane == 0 && output < k0) pieces[at] = sum;
}

// Across it: a thread per output, neighbours reading neighbours.
KERNEL(256, sum_columns, const real* __restrict__ x, double* __restrict__ pieces, long long r0, long long k0,
       long long r1, long long k1, long long parts) {
  const long long each = (r0 * r1 + parts - 1) / parts;
  const long long part = blockIdx.x % parts, output = blockIdx.x / parts * 256ll + threadIdx.x;
  if (output >= k0 * k1) return;
  const long long row = output / k1, column = output % k1, first = part * each;
  double sum = 0;
  each_item(first, min(first + each, r0 * r1), 1, r1, [&](long long outer, long long inner) {
    sum += x[((outer * k0 + row) * r1 + inner) * k1 + column];
  });
  pieces[output * parts + part] = sum;
}

KERNEL(256, sum_pieces, const double* __restrict__ pieces, real* __restrict__ y, double scale, long long outputs,
       long long parts, long long team) {
  const long long output = (long long)blockIdx.x * (256 / team) + threadIdx.x / team;
  const int lane = int(threadIdx.x % team);
  double sum = 0;
  for (long long i = lane; output < outputs && i < parts; i += team) sum += pieces[output * parts + i];
  sum = team_reduce(sum, int(team), Sum());
  if (lane == 0 && output < outputs) y[output] = real(scale * sum);
}

// pieces (blocks,): sums of (x - target)^2; slope, unless null: scale * 2 (x - target).
KERNEL(256, squared_error, const real* __restrict__ x, const real* __restrict__ target, real* __restrict__ slope,
       double* __restrict__ pieces, double scale, long long count) {
  double sum = 0;
  each(count, [&](long long i) {
    const real d = x[i] - target[i];
    sum += d * d;
    if (slope) slope[i] = real(2 * scale) * d;
  });
  sum = team_reduce(sum, 256, Sum());
  if (threadIdx.x == 0) pieces[blockIdx.x] = sum;
}

// pieces (blocks,): sums of max(x, 0) - x * target + log1p(exp(-|x|)); slope: scale * (sigmoid(x) - target).
KERNEL(256, bernoulli_loss, const real* __restrict__ x, const real* __restrict__ target, real* __restrict__ slope,
       double* __restrict__ pieces, double scale, long long count) {
  double sum = 0;
  each(count, [&](long long i) {
    const real v = x[i], e = exp(-fabs(v));
    sum += (v > 0 || is_nan(v) ? v : real(0)) - v * target[i] + log1p(e);
    if (slope) slope[i] = real(scale) * ((v < 0 ? e : real(1)) / (1 + e) - target[i]);
  });
  sum = team_reduce(sum, 256, Sum());
  if (threadIdx.x == 0) pieces[blockIdx.x] = sum;
}

// pieces (rows,): -log softmax(x)[row, label]; slope: scale * (softmax(x) - one_hot(label)). A team per row.
KERNEL(256, class_loss, const real* __restrict__ x, const long long* __restrict__ labels, real* __restrict__ slope,
       double* __restrict__ pieces, double scale, long long rows, long long classes, long long team) {
  const long long row = (long long)blockIdx.x * (256 / team) + threadIdx.x / team;
  const int lane = int(threadIdx.x % team), length = row < rows ? int(classes) : 0;
  const real* from = x + row * classes;
  real top = -infinity();
  for (int i = lane; i < length; i += team) top = Maximum()(from[i], top);
  top = team_reduce(top, int(team), Maximum());
  real total = 0;
  for (int i = lane; i < length; i += team) total += exp(from[i] - top);
  total = team_reduce(total, int(team), Sum());
  if (row >= rows) return;
  const long long label = labels[row];
  const bool inside = label >= 0 && label < classes;  // else the loss is NaN
  if (lane == 0) pieces[row] = double(log(total)) - double((inside ? from[label] : infinity() - infinity()) - top);
  if (!slope) return;
  for (int i = lane; i < length; i += team)
    slope[row * classes + i] = real(scale) * (exp(from[i] - top) / total - (i == label ? real(1) : real(0)));
}
