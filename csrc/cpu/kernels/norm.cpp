// Normalisation by statistics over channels or rows, and softmax along rows.
//
// Contract: contiguous arrays. Sums are accumulated in double, in an order that depends on the shape alone, so the result does
// not depend on the number of threads. channel_norm reads x once from memory where a channel fits the cache: the second read,
// which normalises, follows at once on the same channel in the same thread.
#include "cpu/parallel.h"
#include "cpu/table.h"
#include "cpu/vectormath.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

constexpr long long kGrain = 16384;  // elements per thread below which a second thread costs more than it saves

constexpr long long grain_of(long long elements_per_item) {
  return elements_per_item >= kGrain ? 1 : kGrain / (elements_per_item > 0 ? elements_per_item : 1);
}

// ---- sums in double: a float vector is two double vectors

template <class T>
constexpr int kParts = sizeof(double) / sizeof(T);

TINYGEN_INLINE void widen(VecF v, VecD (&out)[2]) {
  HalfF half[2];
  __builtin_memcpy(half, &v, sizeof v);
  out[0] = __builtin_convertvector(half[0], VecD);
  out[1] = __builtin_convertvector(half[1], VecD);
}
TINYGEN_INLINE void widen(VecD v, VecD (&out)[1]) { out[0] = v; }
TINYGEN_INLINE double part_of(double v, int) { return v; }
TINYGEN_INLINE VecD part_of(const VecD* v, int i) { return v[i]; }

template <class T>
struct Sum {
  VecD part[kParts<T>] = {};
  TINYGEN_INLINE void add(Vector<T> v) {
    VecD wide[kParts<T>];
    widen(v, wide);
    for (int i = 0; i < kParts<T>; i++) part[i] += wide[i];
  }
  TINYGEN_INLINE double total() const {
    VecD v = part[0];
    for (int i = 1; i < kParts<T>; i++) v += part[i];
    return sum_lanes(v);
  }
};

// sum += v - shift and square += (v - shift)^2, shift as one number or lane by lane.
template <int parts, class V, class Shift>
TINYGEN_INLINE void add_moments(V v, const Shift& shift, VecD (&sum)[parts], VecD (&square)[parts]) {
  VecD wide[parts];
  widen(v, wide);
  for (int i = 0; i < parts; i++) {
    VecD d = wide[i] - part_of(shift, i);
    sum[i] += d;
    square[i] += d * d;
  }
}

// body(v) for every vector of a row; the last, partial one holds `beyond` beyond the row.
template <class T, class Body>
TINYGEN_INLINE void read_row(const T* x, long long width, Vector<T> beyond, const Body& body) {
  long long i = 0;
  for (; i + lanes<T> <= width; i += lanes<T>) body(load(x + i));
  if (i < width) body(load_part(x + i, (int)(width - i), beyond));
}
// body(v, w), 0 beyond the row.
template <class T, class Body>
TINYGEN_INLINE void read_row(const T* x, const T* y, long long width, const Body& body) {
  long long i = 0;
  for (; i + lanes<T> <= width; i += lanes<T>) body(load(x + i), load(y + i));
  if (int rest = (int)(width - i)) body(load_part(x + i, rest), load_part(y + i, rest));
}
template <class T, class F>
TINYGEN_INLINE void map_row(const T* x, T* y, long long width, const F& f) {
  long long i = 0;
  for (; i + lanes<T> <= width; i += lanes<T>) store(y + i, f(load(x + i)));
  if (int rest = (int)(width - i)) store_part(y + i, f(load_part(x + i, rest)), rest);
}
template <class T, class F>
TINYGEN_INLINE void map_row(const T* a, const T* b, T* y, long long width, const F& f) {
  long long i = 0;
  for (; i + lanes<T> <= width; i += lanes<T>) store(y + i, f(load(a + i), load(b + i)));
  if (int rest = (int)(width - i)) store_part(y + i, f(load_part(a + i, rest), load_part(b + i, rest)), rest);
}

// ---- channels

// How (n, c, s) is cut into work, from the shape alone. Wide rows (s at least a vector): one channel at a time, vectors along s.
// Narrow rows: `group` channels at a time, whose group * s elements of one n lie side by side, vectors along those columns.
// Few channels: n is cut into blocks as well, and statistics and normalisation become two rounds.
constexpr int kColumns = 256;
struct Cut {
  long long group, groups, blocks;
  bool wide;
};
template <class T>
inline Cut cut(const Channels& size) {
  Cut result;
  result.wide = size.s >= 16;
  result.group = result.wide ? 1 : min(index_t(size.c), index_t(kColumns / (size.s > 0 ? size.s : 1)));
  if (result.group < 1) result.group = 1;
  result.groups = (size.c + result.group - 1) / result.group;
  const long long elements = size.n * result.group * size.s;
  result.blocks = result.groups >= 8 ? 1 : max(index_t(1), min(index_t(8), index_t(elements / 4096)));
  if (result.blocks > size.n) result.blocks = size.n > 0 ? size.n : 1;
  return result;
}

// first(group, block), then second(group, block) for all: interleaved where a group is one block, else in two rounds.
template <class First, class Second>
inline void two_rounds(const Channels& size, const Cut& work, const First& first, const Second& second) {
  const long long grain = grain_of(size.n * size.s * work.group / work.blocks);
  if (work.blocks == 1)
    return split(work.groups, grain, [&](long long i, long long end) {
      for (; i < end; i++) first(i, 0LL), second(i, 0LL);
    });
  auto round = [&](const auto& body) {
    split(work.groups * work.blocks, grain, [&](long long i, long long end) {
      for (; i < end; i++) body(i / work.blocks, i % work.blocks);
    });
  };
  round(first);
  round(second);
}

}  // namespace

// Variance as mean of (x - shift)^2 less (mean - shift)^2, where shift is the channel's first element: with the sums in double,
// nothing cancels unless the spread is 1e-7 of the distance between two elements.
TINYGEN_KERNEL(channel_norm,
               (const Channels& size, const T* x, const T* weight, const T* bias, double eps, T* y, T* mean, T* rstd)) {
  const Cut work = cut<T>(size);
  const long long stride = size.c * size.s;
  // partial[block][channel]: sum of x - shift, and of its square
  double(*partial)[2] = (double(*)[2])scratch(kGeneral, (work.blocks * size.c + 1) * sizeof *partial);
  auto shift_of = [&](long long c) {
    double v = size.n * size.s > 0 ? x[c * size.s] : 0;
    return v - v == 0 ? v : 0;  // infinity and NaN are no shift
  };

  auto statistics = [&](long long g, long long block) {
    const long long begin = size.n * block / work.blocks, end = size.n * (block + 1) / work.blocks;
    const long long c0 = g * work.group, c1 = min(index_t(size.c), index_t(c0 + work.group));
    const T* first = x + c0 * size.s;
    if (work.wide) {
      const double shift = shift_of(c0);
      VecD sum[kParts<T>] = {}, square[kParts<T>] = {};
      for (long long n = begin; n < end; n++)
        read_row(first + n * stride, size.s, splat((T)shift), [&](Vector<T> v) { add_moments(v, shift, sum, square); });
      for (int k = 1; k < kParts<T>; k++) sum[0] += sum[k], square[0] += square[k];
      partial[block * size.c + c0][0] = sum_lanes(sum[0]);
      partial[block * size.c + c0][1] = sum_lanes(square[0]);
      return;
    }
    const int columns = (int)((c1 - c0) * size.s);
    T shift[kColumns];
    double sums[kColumns], squares[kColumns];
    for (int i = 0; i < columns; i++) shift[i] = (T)shift_of(c0 + i / size.s);
    for (int i = 0; i < columns; i += lanes<T>) {
      VecD sum[kParts<T>] = {}, square[kParts<T>] = {}, wide[kParts<T>];
      const int rest = columns - i < lanes<T> ? columns - i : lanes<T>;
      widen(load(shift + i), wide);
      if (rest == lanes<T>)
        for (long long n = begin; n < end; n++) add_moments(load(first + n * stride + i), wide, sum, square);
      else
        for (long long n = begin; n < end; n++) add_moments(load_part(first + n * stride + i, rest), wide, sum, square);
      __builtin_memcpy(sums + i, sum, sizeof sum);
      __builtin_memcpy(squares + i, square, sizeof square);
    }
    for (long long c = c0; c < c1; c++) {
      double s0 = 0, s1 = 0;
      for (long long i = (c - c0) * size.s; i < (c - c0 + 1) * size.s; i++) s0 += sums[i], s1 += squares[i];
      partial[block * size.c + c][0] = s0;
      partial[block * size.c + c][1] = s1;
    }
  };

  auto normalise = [&](long long g, long long block) {
    const long long begin = size.n * block / work.blocks, end = size.n * (block + 1) / work.blocks;
    const long long c0 = g * work.group, c1 = min(index_t(size.c), index_t(c0 + work.group));
    T centre[kColumns], scale[kColumns], offset[kColumns];  // y = (x - centre) * scale + offset
    for (long long c = c0; c < c1; c++) {
      double sum = 0, square = 0;
      for (long long b = 0; b < work.blocks; b++) sum += partial[b * size.c + c][0], square += partial[b * size.c + c][1];
      const double count = (double)size.n * size.s, from_shift = sum / count, average = shift_of(c) + from_shift;
      const double variance = square / count - from_shift * from_shift;
      const double r = 1 / __builtin_sqrt((variance < 0 ? 0 : variance) + eps);
      const T rounded = (T)average;
      if (block == 0) mean[c] = rounded, rstd[c] = (T)r;
      const double a = r * weight[c];
      const int at = (int)((c - c0) * (work.wide ? 1 : size.s));
      for (int i = at; i < at + (work.wide ? 1 : (int)size.s); i++) {
        centre[i] = rounded;
        scale[i] = (T)a;
        offset[i] = (T)(bias[c] - (average - rounded) * a);
      }
    }
    for (long long n = begin; n < end; n++) {
      const T* row = x + n * stride + c0 * size.s;
      T* out = y + n * stride + c0 * size.s;
      if (work.wide) {
        const Vector<T> m = splat(centre[0]), a = splat(scale[0]), b = splat(offset[0]);
        map_row(row, out, size.s, [=](Vector<T> v) { return (v - m) * a + b; });
      } else {
        const int columns = (int)((c1 - c0) * size.s);
        for (int i = 0; i < columns; i++) out[i] = (row[i] - centre[i]) * scale[i] + offset[i];
      }
    }
  };
  two_rounds(size, work, statistics, normalise);
}

// With h = (x - mean) * rstd: gbias = sum g, gweight = sum g h, gx = weight * rstd * (g - gbias / count - h * gweight / count).
TINYGEN_KERNEL(channel_norm_backward, (const Channels& size, const T* g, const T* x, const T* weight, const T* mean,
                                       const T* rstd, T* gx, T* gweight, T* gbias)) {
  const Cut work = cut<T>(size);
  const long long stride = size.c * size.s;
  double(*partial)[2] = (double(*)[2])scratch(kGeneral, (work.blocks * size.c + 1) * sizeof *partial);

  auto sums = [&](long long group, long long block) {
    const long long begin = size.n * block / work.blocks, end = size.n * (block + 1) / work.blocks;
    const long long c0 = group * work.group, c1 = min(index_t(size.c), index_t(c0 + work.group));
    const T *first = x + c0 * size.s, *gfirst = g + c0 * size.s;
    if (work.wide) {
      const Vector<T> centre = splat(mean[c0]);
      Sum<T> sum, product;
      for (long long n = begin; n < end; n++)
        read_row(gfirst + n * stride, first + n * stride, size.s, [&](Vector<T> d, Vector<T> v) {
          sum.add(d);
          product.add(d * (v - centre));  // beyond the row d is 0
        });
      partial[block * size.c + c0][0] = sum.total();
      partial[block * size.c + c0][1] = product.total();
      return;
    }
    const int columns = (int)((c1 - c0) * size.s);
    T centre[kColumns];
    double sums[kColumns], products[kColumns];
    for (int i = 0; i < columns; i++) centre[i] = mean[c0 + i / size.s];
    for (int i = 0; i < columns; i += lanes<T>) {
      Sum<T> sum, product;
      const Vector<T> m = load(centre + i);
      const int rest = columns - i < lanes<T> ? columns - i : lanes<T>;
      for (long long n = begin; n < end; n++) {
        const T *at = first + n * stride + i, *gat = gfirst + n * stride + i;
        Vector<T> d = rest == lanes<T> ? load(gat) : load_part(gat, rest);
        sum.add(d);
        product.add(d * ((rest == lanes<T> ? load(at) : load_part(at, rest)) - m));
      }
      __builtin_memcpy(sums + i, sum.part, sizeof sum.part);
      __builtin_memcpy(products + i, product.part, sizeof product.part);
    }
    for (long long c = c0; c < c1; c++) {
      double s0 = 0, s1 = 0;
      for (long long i = (c - c0) * size.s; i < (c - c0 + 1) * size.s; i++) s0 += sums[i], s1 += products[i];
      partial[block * size.c + c][0] = s0;
      partial[block * size.c + c][1] = s1;
    }
  };

  auto gradient = [&](long long group, long long block) {
    const long long begin = size.n * block / work.blocks, end = size.n * (block + 1) / work.blocks;
    const long long c0 = group * work.group, c1 = min(index_t(size.c), index_t(c0 + work.group));
    T centre[kColumns], scale[kColumns], slope[kColumns], offset[kColumns];  // gx = g * scale + (x - centre) * slope + offset
    for (long long c = c0; c < c1; c++) {
      double sum = 0, product = 0;
      for (long long b = 0; b < work.blocks; b++) sum += partial[b * size.c + c][0], product += partial[b * size.c + c][1];
      const double count = (double)size.n * size.s, r = rstd[c], a = r * weight[c];
      if (block == 0) gbias[c] = (T)sum, gweight[c] = (T)(product * r);
      const int at = (int)((c - c0) * (work.wide ? 1 : size.s));
      for (int i = at; i < at + (work.wide ? 1 : (int)size.s); i++) {
        centre[i] = mean[c];
        scale[i] = (T)a;
        slope[i] = (T)(-a * r * r * product / count);
        offset[i] = (T)(-a * sum / count);
      }
    }
    for (long long n = begin; n < end; n++) {
      const T *row = x + n * stride + c0 * size.s, *grow = g + n * stride + c0 * size.s;
      T* out = gx + n * stride + c0 * size.s;
      if (work.wide) {
        const Vector<T> m = splat(centre[0]), a = splat(scale[0]), k = splat(slope[0]), b = splat(offset[0]);
        map_row(grow, row, out, size.s, [=](Vector<T> d, Vector<T> v) { return d * a + ((v - m) * k + b); });
      } else {
        const int columns = (int)((c1 - c0) * size.s);
        for (int i = 0; i < columns; i++) out[i] = grow[i] * scale[i] + ((row[i] - centre[i]) * slope[i] + offset[i]);
      }
    }
  };
  two_rounds(size, work, sums, gradient);
}

// ---- rows

TINYGEN_KERNEL(row_norm, (long long rows, long long width, const T* x, double eps, T* y, T* rstd)) {
  split(rows, grain_of(width), [&](long long i, long long end) {
    for (; i < end; i++) {
      const T* row = x + i * width;
      Sum<T> sum, square;
      read_row(row, width, Vector<T>{}, [&](Vector<T> v) { sum.add(v); });
      const Vector<T> mean = splat((T)(sum.total() / width));
      read_row(row, width, mean, [&](Vector<T> v) { square.add((v - mean) * (v - mean)); });
      rstd[i] = (T)(1 / __builtin_sqrt(square.total() / width + eps));
      const Vector<T> scale = splat(rstd[i]);
      map_row(row, y + i * width, width, [=](Vector<T> v) { return (v - mean) * scale; });
    }
  });
}

TINYGEN_KERNEL(row_norm_backward, (long long rows, long long width, const T* g, const T* y, const T* rstd, T* gx)) {
  split(rows, grain_of(width), [&](long long i, long long end) {
    for (; i < end; i++) {
      const T *grow = g + i * width, *row = y + i * width;
      Sum<T> sum, product;
      read_row(grow, row, width, [&](Vector<T> d, Vector<T> h) {
        sum.add(d);
        product.add(d * h);
      });
      const Vector<T> average = splat((T)(sum.total() / width)), along = splat((T)(product.total() / width));
      const Vector<T> scale = splat(rstd[i]);
      map_row(grow, row, gx + i * width, width, [=](Vector<T> d, Vector<T> h) { return (d - average - h * along) * scale; });
    }
  });
}

namespace {

template <class T>
inline T row_max(const T* x, long long width) {
  if (width < lanes<T>) return max_lanes(load_part(x, (int)width, splat((T)-__builtin_inf())));
  Vector<T> best = load(x);
  for (long long j = lanes<T>; j + lanes<T> <= width; j += lanes<T>) best = max(best, load(x + j));
  return max_lanes(max(best, load(x + width - lanes<T>)));  // the last vector may overlap the one before
}

// Sum of exp(x - shift) over a row; the terms are stored in `terms` unless it is null.
template <class T>
inline double exp_row(const T* x, long long width, T shift, T* terms) {
  const Vector<T> s = splat(shift);
  Sum<T> sum;
  long long j = 0;
  for (; j + lanes<T> <= width; j += lanes<T>) {
    Vector<T> e = exp_negative(load(x + j) - s);
    sum.add(e);
    if (terms) store(terms + j, e);
  }
  if (int rest = (int)(width - j)) {
    Vector<T> e = exp_negative(load_part(x + j, rest, splat((T)-__builtin_inf())) - s);  // beyond the row: 0
    sum.add(e);
    if (terms) store_part(terms + j, e, rest);
  }
  return sum.total();
}

}  // namespace

TINYGEN_KERNEL(softmax, (long long rows, long long width, const T* x, T* y)) {
  split(rows, grain_of(2 * width), [&](long long i, long long end) {
    for (; i < end; i++) {
      T* out = y + i * width;
      const Vector<T> scale = splat((T)(1 / exp_row(x + i * width, width, row_max(x + i * width, width), out)));
      map_row(out, out, width, [=](Vector<T> v) { return v * scale; });
    }
  });
}

TINYGEN_KERNEL(log_softmax, (long long rows, long long width, const T* x, T* y)) {
  split(rows, grain_of(2 * width), [&](long long i, long long end) {
    for (; i < end; i++) {
      const T* row = x + i * width;
      const T shift = row_max(row, width);
      const Vector<T> top = splat(shift), sum = splat((T)__builtin_log(exp_row(row, width, shift, (T*)nullptr)));
      map_row(row, y + i * width, width, [=](Vector<T> v) { return v - top - sum; });
    }
  });
}

}  // namespace TINYGEN_ISA
}  // namespace tinygen
