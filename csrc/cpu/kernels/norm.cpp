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
  for (int i = 0; i < 2; i++) {
#if defined(__AVX512F__)  // GCC 12 would convert by quarters
    out[i] = (VecD)_mm512_maskz_cvtps_pd(0xff, (__m256)half[i]);
#else
    out[i] = __builtin_convertvector(half[i], VecD);
#endif
  }
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

// Two sums per block and channel, kept in double between the rounds.
struct Partial {
  double *first, *second;
  long long channels, pitch;  // pitch: whole vectors may be read beyond the last channel

  Partial(const Channels& size, const Cut& work) : channels(size.c), pitch((size.c + 15) / 16 * 16) {
    first = (double*)scratch(kGeneral, (2 * work.blocks * pitch + 16) * sizeof(double));
    second = first + work.blocks * pitch;
  }
  void put(long long block, long long c, double a, double b) const {
    first[block * pitch + c] = a;
    second[block * pitch + c] = b;
  }
  // From the sums of columns to those of channels c0 .. c1 - 1, each of `each` columns.
  void put(long long block, long long c0, long long c1, long long each, const double* a, const double* b) const {
    for (long long c = c0; c < c1; c++) {
      double s0 = 0, s1 = 0;
      for (long long i = 0; i < each; i++) s0 += *a++, s1 += *b++;
      put(block, c, s0, s1);
    }
  }
  // Sums over the blocks, for channels c0 .. c1 - 1.
  void total(long long blocks, long long c0, long long c1, double* a, double* b) const {
    for (long long c = c0; c < c1; c++) a[c - c0] = first[c], b[c - c0] = second[c];
    for (long long block = 1; block < blocks; block++)
      for (long long c = c0; c < c1; c++) a[c - c0] += first[block * pitch + c], b[c - c0] += second[block * pitch + c];
  }
};

// From one value per channel to one per column, in place.
template <class T>
TINYGEN_INLINE void spread(T* values, long long channels, long long each) {
  for (long long c = channels; each > 1 && c-- > 0;)
    for (long long i = each; i-- > 0;) values[c * each + i] = values[c];
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
  const long long stride = size.c * size.s, each = work.wide ? 1 : size.s;
  const double share = 1 / ((double)size.n * size.s);
  const Partial partial(size, work);  // sums of x - shift and of its square
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
      return partial.put(block, c0, sum_lanes(sum[0]), sum_lanes(square[0]));
    }
    const int columns = (int)((c1 - c0) * size.s);
    T shift[kColumns];
    double sums[kColumns], squares[kColumns];
    for (long long c = c0; c < c1; c++) shift[c - c0] = (T)shift_of(c);
    spread(shift, c1 - c0, each);
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
    partial.put(block, c0, c1, each, sums, squares);
  };

  auto normalise = [&](long long g, long long block) {
    const long long begin = size.n * block / work.blocks, end = size.n * (block + 1) / work.blocks;
    const long long c0 = g * work.group, c1 = min(index_t(size.c), index_t(c0 + work.group));
    const int channels = (int)(c1 - c0);
    double average[kColumns], square[kColumns];
    partial.total(work.blocks, c0, c1, average, square);
    for (int i = 0; i < channels; i += lanes<double>) {
      const VecD from_shift = load(average + i) * share;
      const VecD variance = max(VecD{}, load(square + i) * share - from_shift * from_shift);
      store(average + i, from_shift);
      store(square + i, 1 / sqrt(variance + eps));
    }
    T centre[kColumns], scale[kColumns], offset[kColumns];  // y = (x - centre) * scale + offset
    for (int i = 0; i < channels; i++) {
      average[i] += shift_of(c0 + i);
      const double a = square[i] * weight[c0 + i];
      centre[i] = (T)average[i];
      scale[i] = (T)a;
      offset[i] = (T)(bias[c0 + i] - (average[i] - centre[i]) * a);
    }
    for (int i = 0; block == 0 && i < channels; i++) mean[c0 + i] = centre[i], rstd[c0 + i] = (T)square[i];
    spread(centre, channels, each);
    spread(scale, channels, each);
    spread(offset, channels, each);
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
  const long long stride = size.c * size.s, each = work.wide ? 1 : size.s;
  const double share = 1 / ((double)size.n * size.s);
  const Partial partial(size, work);  // sums of g and of g * (x - mean)

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
      return partial.put(block, c0, sum.total(), product.total());
    }
    const int columns = (int)((c1 - c0) * size.s);
    T centre[kColumns];
    double sums[kColumns], products[kColumns];
    for (long long c = c0; c < c1; c++) centre[c - c0] = mean[c];
    spread(centre, c1 - c0, each);
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
    partial.put(block, c0, c1, each, sums, products);
  };

  auto gradient = [&](long long group, long long block) {
    const long long begin = size.n * block / work.blocks, end = size.n * (block + 1) / work.blocks;
    const long long c0 = group * work.group, c1 = min(index_t(size.c), index_t(c0 + work.group));
    const int channels = (int)(c1 - c0);
    double sum[kColumns], product[kColumns];
    partial.total(work.blocks, c0, c1, sum, product);
    T centre[kColumns], scale[kColumns], slope[kColumns], offset[kColumns];  // gx = g * scale + (x - centre) * slope + offset
    for (int i = 0; i < channels; i++) {
      const double r = rstd[c0 + i], a = r * weight[c0 + i];
      centre[i] = mean[c0 + i];
      scale[i] = (T)a;
      slope[i] = (T)(-a * r * r * product[i] * share);
      offset[i] = (T)(-a * sum[i] * share);
      product[i] *= r;
    }
    for (int i = 0; block == 0 && i < channels; i++) gbias[c0 + i] = (T)sum[i], gweight[c0 + i] = (T)product[i];
    spread(centre, channels, each);
    spread(scale, channels, each);
    spread(slope, channels, each);
    spread(offset, channels, each);
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

// For rows of at least a vector.
template <class T>
inline T row_max(const T* x, long long width) {
  Vector<T> best = load(x);
  for (long long j = lanes<T>; j + lanes<T> <= width; j += lanes<T>) best = max(best, load(x + j));
  return max_lanes(max(best, load(x + width - lanes<T>)));  // the last vector may overlap the one before
}

// A row that fits one vector stays in it: (exp(x - shift), their sum) with the shift the row's maximum, 0 beyond the row.
template <class T>
TINYGEN_INLINE double exp_short_row(const T* x, int width, T& shift, Vector<T>& terms) {
  const Vector<T> v = load_part(x, width, splat((T)-__builtin_inf()));
  shift = max_lanes(v);
  terms = exp_negative(v - splat(shift));
  Sum<T> sum;
  sum.add(terms);
  return sum.total();
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
    for (; width < lanes<T> && i < end; i++) {
      T shift;
      Vector<T> terms;
      const double sum = exp_short_row(x + i * width, (int)width, shift, terms);
      store_part(y + i * width, terms * splat((T)(1 / sum)), (int)width);
    }
    for (; i < end; i++) {
      T* out = y + i * width;
      const Vector<T> scale = splat((T)(1 / exp_row(x + i * width, width, row_max(x + i * width, width), out)));
      map_row(out, out, width, [=](Vector<T> v) { return v * scale; });
    }
  });
}

TINYGEN_KERNEL(log_softmax, (long long rows, long long width, const T* x, T* y)) {
  split(rows, grain_of(2 * width), [&](long long i, long long end) {
    for (; width < lanes<T> && i < end; i++) {
      T shift;
      Vector<T> terms;
      const Vector<T> sum = splat((T)__builtin_log(exp_short_row(x + i * width, (int)width, shift, terms)));
      store_part(y + i * width, load_part(x + i * width, (int)width) - splat(shift) - sum, (int)width);
    }
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
