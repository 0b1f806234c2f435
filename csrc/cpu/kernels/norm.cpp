// Normalisation by statistics over channels or rows, and softmax along rows.
//
// Contract: contiguous arrays. Sums are accumulated in double, in an order that depends on the shape alone, so the result does
// not depend on the number of threads. channel_norm reads x once from memory where a channel fits the cache: the second read,
// which normalises, follows at once on the same channel in the same thread.
#include "cpu/parallel.h"
#include "cpu/sums.h"
#include "cpu/table.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

constexpr long long kGrain = 16384;  // elements per thread below which a second thread costs more than it saves

constexpr long long grain_of(long long elements_per_item) {
  return elements_per_item >= kGrain ? 1 : kGrain / (elements_per_item > 0 ? elements_per_item : 1);
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

// How (n, c, s) is cut into work, from the shape alone. A group of channels is read once for its statistics and again, from
// cache, to be normalised. In wide rows (s at least a few vectors) vectors run along s; else along the group * s columns that
// lie side by side in every n. Few channels: n is cut into blocks as well, and statistics and normalisation are two rounds.
constexpr int kColumns = 1024;        // most columns of a group
constexpr long long kCached = 200000;  // bytes of one input that a group may keep in cache
struct Cut {
  long long group, groups, blocks;
  bool wide;
};
template <class T>
inline Cut cut(const Channels& size) {
  Cut result;
  result.wide = size.s >= 64;
  const long long bytes = size.n * size.s * (long long)sizeof(T);
  const long long fits = result.wide ? min(kColumns, kCached / max(1, bytes)) : kColumns / max(1, size.s);
  const long long groups = (size.c + max(1, fits) - 1) / max(1, fits);
  result.groups = max(1, min(size.c, (groups + 7) / 8 * 8));  // so that any usual number of threads gets equal shares
  result.group = max(1, (size.c + result.groups - 1) / result.groups);
  result.groups = (size.c + result.group - 1) / result.group;
  const long long elements = size.n * result.group * size.s;
  result.blocks = result.groups >= 8 ? 1 : max(1, min(8, elements / 4096));
  if (result.blocks > size.n) result.blocks = max(1, size.n);
  return result;
}

// The part of one block in one group: images begin .. end - 1, channels c0 .. c1 - 1.
struct Part {
  long long block, begin, end, c0, c1;
  Part(const Channels& size, const Cut& work, long long group, long long block)
      : block(block),
        begin(size.n * block / work.blocks),
        end(size.n * (block + 1) / work.blocks),
        c0(group * work.group),
        c1(min(size.c, c0 + work.group)) {}
  int channels() const { return (int)(c1 - c0); }
};

// Constants of a group's channels, as vectors: splat for a row, and side by side for columns after `spread`.
template <class T, int count>
struct Constants {
  alignas(64) T value[count][kColumns + 16];

  void spread(int channels, long long each) {  // from one value per channel to one per column, in place
    for (int k = 0; each > 1 && k < count; k++)
      for (long long c = channels; c-- > 0;)
        for (long long i = each; i-- > 0;) value[k][c * each + i] = value[k][c];
  }
  TINYGEN_INLINE void of_row(long long c, Vector<T> (&k)[count]) const {
    for (int i = 0; i < count; i++) k[i] = splat(value[i][c]);
  }
  TINYGEN_INLINE void of_columns(long long at, Vector<T> (&k)[count]) const {
    for (int i = 0; i < count; i++) k[i] = load(value[i] + at);
  }
};

// One vector of each input, or its first `rest` lanes.
template <class T, int inputs>
TINYGEN_INLINE void load_all(const T* const (&in)[inputs], long long at, Vector<T> (&v)[inputs]) {
  for (int i = 0; i < inputs; i++) v[i] = load(in[i] + at);
}
template <class T, int inputs>
TINYGEN_INLINE void load_all(const T* const (&in)[inputs], long long at, int rest, Vector<T> (&v)[inputs]) {
  for (int i = 0; i < inputs; i++) v[i] = load_part(in[i] + at, rest);
}
// Two sums per block and channel, kept in double between the rounds.
struct Partial {
  double *first, *second;
  long long pitch;  // whole vectors may be read beyond the last channel

  Partial(const Channels& size, const Cut& work) : pitch((size.c + 15) / 16 * 16) {
    first = (double*)scratch(kGeneral, (2 * work.blocks * pitch + 16) * sizeof(double));
    second = first + work.blocks * pitch;
  }
  // From the sums of columns to those of channels, each of `each` columns.
  void put(const Part& part, long long each, const double* a, const double* b) const {
    for (long long c = part.c0; c < part.c1; c++) {
      double s0 = 0, s1 = 0;
      for (long long i = 0; i < each; i++) s0 += *a++, s1 += *b++;
      first[part.block * pitch + c] = s0;
      second[part.block * pitch + c] = s1;
    }
  }
  // Sums over the blocks, for all channels of a group.
  void total(long long blocks, const Part& part, double* a, double* b) const {
    for (long long c = part.c0; c < part.c1; c++) {
      double s0 = 0, s1 = 0;
      for (long long block = 0; block < blocks; block++) s0 += first[block * pitch + c], s1 += second[block * pitch + c];
      a[c - part.c0] = s0;
      b[c - part.c0] = s1;
    }
  }
};

// The sums per channel of the two terms f(inputs, constants, term, term), into `partial`.
template <class T, int inputs, int constants, class F>
inline void sum_part(const Channels& size, const Cut& work, const Part& part, const T* const (&in)[inputs],
                     const Constants<T, constants>& k, const F& f, const Partial& partial) {
  constexpr int L = lanes<T>;
  const long long pitch = size.c * size.s, first = part.c0 * size.s;
  alignas(64) double sums[kColumns + 16] = {}, others[kColumns + 16] = {};
  Vector<T> v[inputs], constant[constants], a, b;
  if (work.wide) {
    const long long together = max(1, kRun / size.s);
    for (long long n0 = part.begin; n0 < part.end; n0 += together)
      for (int c = 0; c < part.channels(); c++) {
        k.of_row(c, constant);
        for (long long from = 0; from < size.s; from += kRun) {
          const long long to = min(size.s, from + kRun);
          Vector<T> sum[2] = {}, other[2] = {};
          for (long long n = n0; n < min(part.end, n0 + together); n++) {
            const long long row = n * pitch + first + c * size.s;
            long long i = from;
            for (; i + 2 * L <= to; i += 2 * L)
              for (int j = 0; j < 2; j++) {
                load_all(in, row + i + j * L, v);
                f(v, constant, a, b);
                sum[j] += a, other[j] += b;
              }
            for (; i < to; i += L) {
              const int rest = (int)min(L, to - i);
              load_all(in, row + i, rest, v);
              f(v, constant, a, b);
              sum[0] += first_lanes<T>(a, rest), other[0] += first_lanes<T>(b, rest);
            }
          }
          sums[c] += sum_wide<T>(sum[0] + sum[1]);
          others[c] += sum_wide<T>(other[0] + other[1]);
        }
      }
    return partial.put(part, 1, sums, others);
  }
  const int columns = (int)(part.channels() * size.s);
  auto add_images = [&](long long n, int count, T* sum, T* other) {  // a run of columns in `count` images at once
    for (int i = 0; i < columns; i += L) {
      const int rest = columns - i;
      Vector<T> s = load(sum + i), o = load(other + i);
      k.of_columns(i, constant);
      for (int j = 0; j < count; j++) {
        if (rest >= L)
          load_all(in, (n + j) * pitch + first + i, v);
        else
          load_all(in, (n + j) * pitch + first + i, rest, v);
        f(v, constant, a, b);
        s += a, o += b;
      }
      store(sum + i, s);
      store(other + i, o);
    }
  };
  constexpr int kAtOnce = 4 / inputs;
  for (long long n0 = part.begin; n0 < part.end; n0 += kColumnRun) {
    alignas(64) T sum[kColumns + 16] = {}, other[kColumns + 16] = {};
    const long long end = min(part.end, n0 + kColumnRun);
    long long n = n0;
    for (; n + kAtOnce <= end; n += kAtOnce) add_images(n, kAtOnce, sum, other);
    for (; n < end; n++) add_images(n, 1, sum, other);
    for (int i = 0; i < columns; i += L) {
      add_wide<T>(load(sum + i), sums + i);
      add_wide<T>(load(other + i), others + i);
    }
  }
  partial.put(part, size.s, sums, others);
}

// out = f(inputs, constants)
template <class T, int inputs, int constants, class F>
inline void map_part(const Channels& size, const Cut& work, const Part& part, const T* const (&in)[inputs],
                     const Constants<T, constants>& k, const F& f, T* out) {
  constexpr int L = lanes<T>;
  const long long pitch = size.c * size.s, first = part.c0 * size.s;
  const int rows = work.wide ? part.channels() : 1;
  const long long width = work.wide ? size.s : part.channels() * size.s;
  Vector<T> v[inputs], constant[constants] = {};  // set below in either case, which GCC does not see
  for (long long n = part.begin; n < part.end; n++)
    for (int c = 0; c < rows; c++) {
      const long long row = n * pitch + first + c * width;
      if (work.wide) k.of_row(c, constant);
      for (long long i = 0; i < width; i += L) {
        const int rest = (int)min(L, width - i);
        if (!work.wide) k.of_columns(i, constant);
        if (rest == L) {
          load_all(in, row + i, v);
          store(out + row + i, f(v, constant));
        } else {
          load_all(in, row + i, rest, v);
          store_part(out + row + i, f(v, constant), rest);
        }
      }
    }
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

// What stands behind the normalisation: nothing (slope 1), ReLU (0) or a leaky ReLU. Slope 0 must not multiply: 0 * infinity
// would be NaN.
enum Behind { kNothing, kRelu, kLeaky };
template <Behind value>
struct Chosen {
  static constexpr Behind behind = value;
};
template <class Body>
inline void choose(double slope, const Body& body) {
  if (slope == 1) return body(Chosen<kNothing>());
  if (slope == 0) return body(Chosen<kRelu>());
  body(Chosen<kLeaky>());
}
template <class T, Behind behind>
TINYGEN_INLINE Vector<T> activate(Vector<T> v, Vector<T> slope) {
  if (behind == kRelu) return max(Vector<T>{}, v);
  return behind == kLeaky ? select(v > 0, v, slope * v) : v;
}
template <class T, Behind behind>
TINYGEN_INLINE Vector<T> gate(Vector<T> g, Vector<T> v, Vector<T> slope) {
  if (behind == kRelu) return select(v <= 0, Vector<T>{}, g);
  return behind == kLeaky ? select(v > 0, g, slope * g) : g;
}

}  // namespace

// Variance as mean of (x - shift)^2 less (mean - shift)^2, where shift is the channel's first element: what cancels is
// (mean - shift)^2 against the variance, a few times it, and not mean^2.
TINYGEN_KERNEL(channel_norm, (const Channels& size, const T* x, const T* weight, const T* bias, double eps, double slope, T* y,
                              T* mean, T* rstd)) {
  const Cut work = cut<T>(size);
  const double share = 1 / ((double)size.n * size.s);
  const Partial partial(size, work);  // sums of x - shift and of its square
  const T* const in[1] = {x};
  auto shift_of = [&](long long c) {
    double v = size.n * size.s > 0 ? x[c * size.s] : 0;
    return v - v == 0 ? v : 0;  // infinity and NaN are no shift
  };

  auto statistics = [&](long long group, long long block) {
    const Part part(size, work, group, block);
    Constants<T, 1> shift;
    for (int c = 0; c < part.channels(); c++) shift.value[0][c] = (T)shift_of(part.c0 + c);
    if (!work.wide) shift.spread(part.channels(), size.s);
    auto moments = [](const Vector<T>(&v)[1], const Vector<T>(&k)[1], Vector<T>& a, Vector<T>& b) {
      a = v[0] - k[0];
      b = a * a;
    };
    sum_part(size, work, part, in, shift, moments, partial);
  };

  auto normalise = [&](long long group, long long block) {
    const Part part(size, work, group, block);
    double average[kColumns], square[kColumns];
    partial.total(work.blocks, part, average, square);
    for (int c = 0; c < part.channels(); c += lanes<double>) {
      const VecD from_shift = load(average + c) * share;
      store(average + c, from_shift);
      store(square + c, 1 / sqrt(max(VecD{}, load(square + c) * share - from_shift * from_shift) + eps));
    }
    Constants<T, 3> k;  // y = (x - k0) * k1 + k2
    for (int c = 0; c < part.channels(); c++) {
      const long long channel = part.c0 + c;
      const double exact = shift_of(channel) + average[c], a = square[c] * weight[channel];
      const T centre = (T)exact;
      k.value[0][c] = centre;
      k.value[1][c] = (T)a;
      k.value[2][c] = (T)(bias[channel] - (exact - centre) * a);
      if (block == 0) mean[channel] = centre, rstd[channel] = (T)square[c];
    }
    if (!work.wide) k.spread(part.channels(), size.s);
    const Vector<T> below = splat((T)slope);
    choose(slope, [&](auto chosen) {
      constexpr Behind behind = decltype(chosen)::behind;
      auto f = [=](const Vector<T>(&v)[1], const Vector<T>(&k)[3]) {
        return activate<T, behind>((v[0] - k[0]) * k[1] + k[2], below);
      };
      map_part(size, work, part, in, k, f, y);
    });
  };
  two_rounds(size, work, statistics, normalise);
}

// With h = (x - mean) * rstd and d = g behind the activation: gbias = sum d, gweight = sum d h and
// gx = weight * rstd * (d - gbias / count - h * gweight / count). What the activation saw is computed again from x.
TINYGEN_KERNEL(channel_norm_backward, (const Channels& size, const T* g, const T* x, const T* weight, const T* bias,
                                       const T* mean, const T* rstd, double slope, T* gx, T* gweight, T* gbias)) {
  const Cut work = cut<T>(size);
  const double share = 1 / ((double)size.n * size.s);
  const Partial partial(size, work);  // sums of d and of d * (x - mean)
  const T* const in[2] = {g, x};
  const Vector<T> below = splat((T)slope);

  choose(slope, [&](auto chosen) {
    constexpr Behind behind = decltype(chosen)::behind;
    auto sums = [&](long long group, long long block) {
      const Part part(size, work, group, block);
      Constants<T, 3> k;
      for (int c = 0; c < part.channels(); c++) {
        const long long channel = part.c0 + c;
        k.value[0][c] = mean[channel];
        k.value[1][c] = (T)((double)rstd[channel] * weight[channel]);
        k.value[2][c] = bias[channel];
      }
      if (!work.wide) k.spread(part.channels(), size.s);
      auto terms = [=](const Vector<T>(&v)[2], const Vector<T>(&k)[3], Vector<T>& a, Vector<T>& b) {
        const Vector<T> centred = v[1] - k[0];
        a = gate<T, behind>(v[0], centred * k[1] + k[2], below);
        b = a * centred;
      };
      sum_part(size, work, part, in, k, terms, partial);
    };

    auto gradient = [&](long long group, long long block) {
      const Part part(size, work, group, block);
      double sum[kColumns], product[kColumns];
      partial.total(work.blocks, part, sum, product);
      Constants<T, 5> k;  // gx = d * k1 + (x - k0) * k3 + k4
      for (int c = 0; c < part.channels(); c++) {
        const long long channel = part.c0 + c;
        const double r = rstd[channel], a = r * weight[channel];
        k.value[0][c] = mean[channel];
        k.value[1][c] = (T)a;
        k.value[2][c] = bias[channel];
        k.value[3][c] = (T)(-a * r * r * product[c] * share);
        k.value[4][c] = (T)(-a * sum[c] * share);
        if (block == 0) gbias[channel] = (T)sum[c], gweight[channel] = (T)(product[c] * r);
      }
      if (!work.wide) k.spread(part.channels(), size.s);
      auto f = [=](const Vector<T>(&v)[2], const Vector<T>(&k)[5]) {
        const Vector<T> centred = v[1] - k[0];
        return gate<T, behind>(v[0], centred * k[1] + k[2], below) * k[1] + (centred * k[3] + k[4]);
      };
      map_part(size, work, part, in, k, f, gx);
    };
    two_rounds(size, work, sums, gradient);
  });
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
