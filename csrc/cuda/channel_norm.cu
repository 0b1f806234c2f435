// Normalisation over batch and space: x (N, C, S), statistics of each channel c over n and s.
//
// Two kernels each way. In the first a block reduces one of `parts` pieces of a channel; in the second, as many blocks
// combine the pieces of their channel, in order, and write their piece of the result. x is read three times forward, the
// second and third time mostly from the L2 cache; g and x twice backward. Behind a convolution in tiles its epilogue
// (write_moments in gather_gemm.h) takes the first kernel's place, and forward reads x once.
#include "device.h"

// The piece of a channel that belongs to this block: items [first, end) of N * S, this thread taking every 256th.
struct Piece {
  int c, part, first, end, inner;
  long long outer;  // distance of images

  DEVICE Piece(long long n, long long channels, long long s, long long parts) {
    c = int(blockIdx.x / parts), part = int(blockIdx.x % parts);
    const int items = int(n * s), each = int((items + parts - 1) / parts);
    first = min(part * each, items), end = min(first + each, items);
    inner = int(s), outer = channels * s;
  }
  template <class F>
  DEVICE void for_each(F f) const {
    each_item(first + int(threadIdx.x), end, 256, inner,
              [&](long long image, long long s) { f(image * outer + (long long)c * inner + s); });
  }
};

// statistics (C, parts, 4): number of items, their mean as a sum of two numbers, the sum of squared differences from it.
// The second number is what rounding took off the mean: where it is large beside the deviation, y depends on it.
KERNEL(256, channel_statistics, const real* __restrict__ x, real* __restrict__ statistics, long long n,
       long long channels, long long s, long long parts) {
  const Piece piece(n, channels, s, parts);
  const int count = piece.end - piece.first;
  real sum = 0;
  piece.for_each([&](long long i) { sum += x[i]; });
  const real about = count ? team_reduce(sum, 256, Sum()) / real(count) : real(0);
  real difference = 0, square = 0;  // from `about`
  piece.for_each([&](long long i) {
    const real d = x[i] - about;
    difference += d, square += d * d;
  });
  difference = team_reduce(difference, 256, Sum());
  square = team_reduce(square, 256, Sum());
  if (threadIdx.x) return;
  real* to = statistics + (piece.c * parts + piece.part) * 4;
  const real left = count ? difference / real(count) : real(0);
  to[0] = real(count), to[1] = about, to[2] = left, to[3] = square - difference * left;
}

// The same of whole channels, (C, 4), where there are many pieces: a block for each channel.
KERNEL(256, channel_combine, const real* __restrict__ statistics, real* __restrict__ combined, long long items,
       long long pieces) {
  const real* of = statistics + blockIdx.x * pieces * 4;
  const real about = __ldg(&of[1]);  // of the first piece; all else is relative to it
  real left = 0, square = 0;
  for (int p = int(threadIdx.x); p < pieces; p += 256)
    left += __ldg(&of[4 * p]) / real(items) * (__ldg(&of[4 * p + 1]) - about + __ldg(&of[4 * p + 2]));
  left = team_reduce(left, 256, Sum());
  for (int p = int(threadIdx.x); p < pieces; p += 256) {
    const real apart = __ldg(&of[4 * p + 1]) - about + __ldg(&of[4 * p + 2]) - left;
    square += __ldg(&of[4 * p + 3]) + __ldg(&of[4 * p]) * apart * apart;
  }
  square = team_reduce(square, 256, Sum());
  if (threadIdx.x) return;
  real* to = combined + blockIdx.x * 4;
  to[0] = real(items), to[1] = about, to[2] = left, to[3] = square;
}

KERNEL(256, channel_normalize, const real* __restrict__ x, const real* __restrict__ weight,
       const real* __restrict__ bias, const real* __restrict__ statistics, real* __restrict__ y,
       real* __restrict__ mean, real* __restrict__ rstd, double eps, double leak, long long pieces, long long n,
       long long channels, long long s, long long parts) {
  const Piece piece(n, channels, s, parts);
  const real* of = statistics + piece.c * pieces * 4;
  const real items = real(n * s), about = __ldg(&of[1]);  // of the first piece; all else is relative to it
  real left = 0, square = 0;
  for (int p = 0; p < pieces; p++)
    left += __ldg(&of[4 * p]) / items * (__ldg(&of[4 * p + 1]) - about + __ldg(&of[4 * p + 2]));
  for (int p = 0; p < pieces; p++) {
    const real apart = __ldg(&of[4 * p + 1]) - about + __ldg(&of[4 * p + 2]) - left;
    square += __ldg(&of[4 * p + 3]) + __ldg(&of[4 * p]) * apart * apart;
  }
  const real scale = 1 / sqrt(square / items + real(eps)), slope = scale * weight[piece.c], shift = bias[piece.c];
  const real leaking = real(leak);
  piece.for_each([&](long long i) { y[i] = leaky((x[i] - about - left) * slope + shift, leaking); });
  if (threadIdx.x || piece.part) return;
  mean[piece.c] = about + left;
  rstd[piece.c] = scale;
}

// The incoming gradient at h = (x - mean) * rstd, behind a leaky_relu of h * weight + bias (slope 1: none).
DEVICE real gradient_at(real g, real h, real weight, real bias, real leak) {
  const real y = h * weight + bias;
  if (leak == 0) return y <= 0 ? real(0) : g;
  return leak == 1 || y > 0 ? g : leak * g;
}

// sums (C, parts, 2): of g, and of g * h with h = (x - mean) * rstd.
KERNEL(256, channel_gradient_sums, const real* __restrict__ g, const real* __restrict__ x,
       const real* __restrict__ weight, const real* __restrict__ bias, const real* __restrict__ mean,
       const real* __restrict__ rstd, real* __restrict__ sums, double leak, long long n, long long channels, long long s,
       long long parts) {
  const Piece piece(n, channels, s, parts);
  const real centre = mean[piece.c], scale = rstd[piece.c], slope = weight[piece.c], shift = bias[piece.c];
  real sum = 0, along = 0;
  piece.for_each([&](long long i) {
    const real h = (x[i] - centre) * scale, d = gradient_at(g[i], h, slope, shift, real(leak));
    sum += d, along += d * h;
  });
  sum = team_reduce(sum, 256, Sum());
  along = team_reduce(along, 256, Sum());
  if (threadIdx.x) return;
  real* to = sums + (piece.c * parts + piece.part) * 2;
  to[0] = sum, to[1] = along;
}

// gx = weight * rstd * (g - avg(g) - h * avg(g * h)); gx may be g.
KERNEL(256, channel_norm_gradient, const real* g, const real* __restrict__ x,
       const real* __restrict__ weight, const real* __restrict__ bias, const real* __restrict__ mean,
       const real* __restrict__ rstd, const real* __restrict__ sums, real* gx, real* __restrict__ gweight,
       real* __restrict__ gbias, double leak, long long n, long long channels, long long s, long long parts) {
  const Piece piece(n, channels, s, parts);
  real sum = 0, along = 0;
  for (int p = 0; p < parts; p++) {
    sum += __ldg(&sums[(piece.c * parts + p) * 2]);
    along += __ldg(&sums[(piece.c * parts + p) * 2 + 1]);
  }
  const real centre = mean[piece.c], scale = rstd[piece.c], items = real(n * s), slope = weight[piece.c];
  const real average = sum / items, projection = along / items, shift = bias[piece.c];
  piece.for_each([&](long long i) {
    const real h = (x[i] - centre) * scale, d = gradient_at(g[i], h, slope, shift, real(leak));
    gx[i] = (d - (average + h * projection)) * (slope * scale);
  });
  if (threadIdx.x || piece.part) return;
  gweight[piece.c] = along;
  gbias[piece.c] = sum;
}
