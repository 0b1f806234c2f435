// Along the last axis of x (rows, length): softmax and the normalisation of rows.
//
// A team of 32 lanes (short rows, eight teams to a block) or of 256 (long ones) owns a row; sums are taken in a fixed
// order. A row is read once per pass, from the cache after the first, and written once.
#include "device.h"

struct Row {
  int team, lane;
  long long at;  // where the row begins
  int length;    // 0 past the last row: the threads still take part in reductions
  bool there;

  DEVICE Row(long long rows, long long length_, long long team_) : team(int(team_)) {
    const long long row = (long long)blockIdx.x * (256 / team) + threadIdx.x / team;
    lane = int(threadIdx.x) % team;
    there = row < rows;
    at = row * length_;
    length = there ? int(length_) : 0;
  }
  template <class F>
  DEVICE void each(F f) const {
    for (int i = lane; i < length; i += team) f(at + i);
  }
  template <class F>
  DEVICE real sum(F f) const {
    real total = 0;
    each([&](long long i) { total += f(i); });
    return team_reduce(total, team, Sum());
  }
};

KERNEL(256, softmax, const real* __restrict__ x, real* __restrict__ y, long long rows, long long length,
       long long team) {
  const Row row(rows, length, team);
  real top = -infinity();
  row.each([&](long long i) { top = Maximum()(x[i], top); });
  top = team_reduce(top, row.team, Maximum());
  const real total = row.sum([&](long long i) { return exp(x[i] - top); });
  row.each([&](long long i) { y[i] = exp(x[i] - top) / total; });
}

KERNEL(256, log_softmax, const real* __restrict__ x, real* __restrict__ y, long long rows, long long length,
       long long team) {
  const Row row(rows, length, team);
  real top = -infinity();
  row.each([&](long long i) { top = Maximum()(x[i], top); });
  top = team_reduce(top, row.team, Maximum());
  const real log_total = log(row.sum([&](long long i) { return exp(x[i] - top); }));
  row.each([&](long long i) { y[i] = x[i] - top - log_total; });
}

KERNEL(256, row_norm, const real* __restrict__ x, real* __restrict__ y, real* __restrict__ rstd, double eps,
       long long rows, long long length, long long team) {
  const Row row(rows, length, team);
  const real mean = row.sum([&](long long i) { return x[i]; }) / real(length);
  const real variance = row.sum([&](long long i) { return (x[i] - mean) * (x[i] - mean); }) / real(length);
  const real scale = 1 / sqrt(variance + real(eps));
  row.each([&](long long i) { y[i] = (x[i] - mean) * scale; });
  if (row.there && row.lane == 0) rstd[row.at / length] = scale;
}

KERNEL(256, row_norm_backward, const real* __restrict__ g, const real* __restrict__ y, const real* __restrict__ rstd,
       real* __restrict__ gx, long long rows, long long length, long long team) {
  const Row row(rows, length, team);
  const real mean = row.sum([&](long long i) { return g[i]; }) / real(length);
  const real along = row.sum([&](long long i) { return g[i] * y[i]; }) / real(length);
  const real scale = row.there ? rstd[row.at / length] : real(0);
  row.each([&](long long i) { gx[i] = scale * (g[i] - mean - y[i] * along); });
}
