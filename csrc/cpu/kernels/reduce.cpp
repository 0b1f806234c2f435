// Sums along axes, and losses: sums of a function of each element, or of each row, together with its derivative.
//
// Contract: contiguous arrays. What is added up in one piece, and in which order, depends on the shape alone, so the result
// does not depend on the number of threads. Every input is read once.
#include "cpu/parallel.h"
#include "cpu/sums.h"
#include "cpu/table.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

constexpr long long kGrain = 16384;  // elements per thread below which a second thread costs more than it saves
constexpr long long kPiece = 8192;   // least elements of a piece
constexpr int kMostPieces = 16;      // of one sum
constexpr int kColumns = 1024;       // columns that are added up at a time, in L1

constexpr long long grain_of(long long elements_per_item) { return max(1, kGrain / max(1, elements_per_item)); }
constexpr long long pieces_of(long long elements) { return max(1, min(kMostPieces, elements / kPiece)); }

// sum of x[0 .. count)
template <class T>
inline double sum_run(const T* x, long long count) {
  constexpr int L = lanes<T>;
  double total = 0;
  for (long long done = 0; done < count; done += kRun) {
    const long long end = min(count, done + kRun);
    Vector<T> sum[4] = {};
    long long i = done;
    for (; i + 4 * L <= end; i += 4 * L)
      for (int j = 0; j < 4; j++) sum[j] += load(x + i + j * L);
    for (; i + L <= end; i += L) sum[0] += load(x + i);
    if (i < end) sum[1] += load_part(x + i, (int)(end - i));
    total += sum_wide<T>((sum[0] + sum[1]) + (sum[2] + sum[3]));
  }
  return total;
}

// total[i] = sum over j of row(j)[i], 0 <= i < columns <= kColumns, begin <= j < end
template <class T, class Row>
inline void sum_rows(long long begin, long long end, int columns, const Row& row, double* total) {
  constexpr int L = lanes<T>;
  for (int i = 0; i < columns; i++) total[i] = 0;
  auto add = [&](const T* const (&from)[4], int count, T* sum) {
    int i = 0;
    for (; i + L <= columns; i += L) {
      Vector<T> s = load(sum + i);
      for (int j = 0; j < count; j++) s += load(from[j] + i);
      store(sum + i, s);
    }
    if (int rest = columns - i)
      for (int j = 0; j < count; j++) store(sum + i, load(sum + i) + load_part(from[j] + i, rest));
  };
  alignas(64) T sum[kColumns + L];
  for (long long first = begin; first < end; first += kColumnRun) {
    const long long last = min(end, first + kColumnRun);
    for (int i = 0; i < columns; i += L) store(sum + i, Vector<T>{});
    long long j = first;
    for (; j + 4 <= last; j += 4) add({row(j), row(j + 1), row(j + 2), row(j + 3)}, 4, sum);
    for (; j < last; j++) add({row(j), nullptr, nullptr, nullptr}, 1, sum);
    for (int i = 0; i < columns; i++) total[i] += sum[i];
  }
}

// y[k] = scale * sum over the pieces of what piece(k, p, all) returns; `elements` is the size of one sum.
template <class T, class Piece>
inline void sum_pieces(long long sums, long long elements, double scale, T* y, const Piece& piece) {
  const long long pieces = sums >= 8 ? 1 : pieces_of(elements);
  double* partial = (double*)scratch(kGeneral, (sums * pieces + 1) * sizeof(double));
  split(sums * pieces, grain_of(elements / pieces), [&](long long i, long long end) {
    for (; i < end; i++) partial[i] = piece(i / pieces, i % pieces, pieces);
  });
  for (long long k = 0; k < sums; k++) {
    double total = 0;
    for (long long p = 0; p < pieces; p++) total += partial[k * pieces + p];
    y[k] = (T)(scale * total);
  }
}

}  // namespace

// x (r0, k0, r1, k1) is summed over r0 and r1: y[k0, k1] = scale * sum. If k1 is 1 and rows r1 are long, vectors run along a
// row; else along columns that lie side by side in every row, which are k0 * r1 (added up afterwards) or k1.
TINYGEN_KERNEL(sum, (const Extents& size, double scale, const T* x, T* y)) {
  if (size.k1 == 1 && (size.r0 == 1 || size.r1 >= 64))
    return sum_pieces<T>(size.k0, size.r0 * size.r1, scale, y, [&](long long k, long long piece, long long pieces) {
      long long i = size.r0 * size.r1 * piece / pieces;
      const long long end = size.r0 * size.r1 * (piece + 1) / pieces;
      double total = 0;
      while (i < end) {
        const long long row = i / size.r1, from = i % size.r1, count = min(size.r1 - from, end - i);
        total += sum_run(x + (row * size.k0 + k) * size.r1 + from, count);
        i += count;
      }
      return total;
    });

  const bool folds = size.k1 == 1;
  const long long planes = folds ? 1 : size.k0, rows = folds ? size.r0 : size.r0 * size.r1;
  const long long width = folds ? size.k0 * size.r1 : size.k1, each = folds ? size.r1 : 1;
  auto row_at = [&](long long plane, long long j) {
    return x + (folds ? j * width : ((j / size.r1 * size.k0 + plane) * size.r1 + j % size.r1) * width);
  };
  const long long chunk = kColumns / max(1, each) * each, chunks = each > 0 ? (width + chunk - 1) / chunk : 0;
  const long long pieces = planes * chunks >= 8 ? 1 : pieces_of(rows * min(width, chunk));
  auto write = [&](long long plane, long long from, int columns, const double* total) {
    T* to = y + plane * size.k1 + from / each;
    for (int i = 0; i < columns; i += (int)each) {
      double folded = 0;
      for (long long j = 0; j < each; j++) folded += total[i + j];
      *to++ = (T)(scale * folded);
    }
  };
  double* partial = pieces > 1 ? (double*)scratch(kGeneral, planes * chunks * pieces * kColumns * sizeof(double)) : nullptr;
  split(planes * chunks * pieces, grain_of(rows * min(width, chunk) / pieces), [&](long long task, long long end) {
    for (; task < end; task++) {
      const long long piece = task % pieces, at = task / pieces, plane = at / chunks, from = at % chunks * chunk;
      const int columns = (int)min(chunk, width - from);
      double own[kColumns], *total = partial ? partial + task * kColumns : own;
      sum_rows<T>(rows * piece / pieces, rows * (piece + 1) / pieces, columns,
                  [&](long long j) { return row_at(plane, j) + from; }, total);
      if (!partial) write(plane, from, columns, total);
    }
  });
  for (long long at = 0; partial && at < planes * chunks; at++) {
    const long long from = at % chunks * chunk;
    const int columns = (int)min(chunk, width - from);
    double* total = partial + at * pieces * kColumns;
    for (long long piece = 1; piece < pieces; piece++)
      for (int i = 0; i < columns; i++) total[i] += total[piece * kColumns + i];
    write(at / chunks, from, columns, total);
  }
}

namespace {

// *y = scale * sum over i of the loss, slope[i] = scale * its derivative by x[i] (unless slope is null), for
// f(x, target, loss, derivative) on vectors.
template <class T, class F>
inline void sum_loss(long long count, const T* x, const T* target, double scale, T* y, T* slope, const F& f) {
  constexpr int L = lanes<T>;
  const Vector<T> factor = splat((T)scale);
  sum_pieces<T>(1, count, scale, y, [&](long long, long long piece, long long pieces) {
    const long long vectors = (count + L - 1) / L;  // pieces begin at whole vectors
    const long long begin = vectors * piece / pieces * L, end = min(count, vectors * (piece + 1) / pieces * L);
    double total = 0;
    for (long long done = begin; done < end; done += kRun) {
      const long long stop = min(end, done + kRun);
      Vector<T> sum = {}, loss, derivative;
      long long i = done;
      for (; i + L <= stop; i += L) {
        f(load(x + i), load(target + i), loss, derivative);
        sum += loss;
        if (slope) store(slope + i, factor * derivative);
      }
      if (int rest = (int)(stop - i)) {
        f(load_part(x + i, rest), load_part(target + i, rest), loss, derivative);
        sum += first_lanes<T>(loss, rest);
        if (slope) store_part(slope + i, factor * derivative, rest);
      }
      total += sum_wide<T>(sum);
    }
    return total;
  });
}

}  // namespace

TINYGEN_KERNEL(squared_error, (long long count, const T* x, const T* target, double scale, T* y, T* slope)) {
  sum_loss(count, x, target, scale, y, slope, [](Vector<T> v, Vector<T> t, Vector<T>& loss, Vector<T>& derivative) {
    const Vector<T> d = v - t;
    loss = d * d;
    derivative = d + d;
  });
}

TINYGEN_KERNEL(bernoulli_loss, (long long count, const T* x, const T* target, double scale, T* y, T* slope)) {
  sum_loss(count, x, target, scale, y, slope, [](Vector<T> v, Vector<T> t, Vector<T>& loss, Vector<T>& derivative) {
    const Vector<T> e = exp_negative(-abs(v)), one = splat((T)1);
    loss = max(Vector<T>{}, v) - v * t + log1p_unit(e);
    derivative = divide_by_unit(select(v < 0, e, one), one + e) - t;
  });
}

// Row i: log(sum of e^x) - x[label]; derivative softmax(x) - (1 at the label).
TINYGEN_KERNEL(class_loss, (long long rows, long long width, const T* x, const long long* labels, double scale, T* y,
                            T* slope, bool* outside)) {
  constexpr int L = lanes<T>;
  for (long long row = 0; row < rows; row++)
    if (labels[row] < 0 || labels[row] >= width) {
      *outside = true;
      return;
    }
  const Vector<T> least = splat((T)-__builtin_inf());
  sum_pieces<T>(1, rows * width, scale, y, [&](long long, long long piece, long long pieces) {
    double total = 0;
    for (long long row = rows * piece / pieces; row < rows * (piece + 1) / pieces; row++) {
      const T* from = x + row * width;
      Vector<T> top = least;
      Sum<T> sum;
      long long i = 0;
      for (; i + L <= width; i += L) top = max(top, load(from + i));
      if (i < width) top = max(top, load_part(from + i, (int)(width - i), least));
      const T shift = max_lanes(top);
      T* to = slope ? slope + row * width : nullptr;
      for (i = 0; i < width; i += L) {
        const int rest = (int)min(L, width - i);
        const Vector<T> e = exp_negative((rest == L ? load(from + i) : load_part(from + i, rest, least)) - splat(shift));
        sum.add(e);
        if (to) store_part(to + i, e, rest);
      }
      const double all = sum.total();
      total += __builtin_log(all) - ((double)from[labels[row]] - shift);
      if (!to) continue;
      const Vector<T> share = splat((T)(scale / all));
      for (i = 0; i < width; i += L) {
        const int rest = (int)min(L, width - i);
        store_part(to + i, load_part(to + i, rest) * share, rest);
      }
      to[labels[row]] -= (T)scale;
    }
    return total;
  });
}

}  // namespace TINYGEN_ISA
}  // namespace tinygen
