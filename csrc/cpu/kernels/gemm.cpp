// Matrix products: c[i][j] = f(bias[j] + sum over k of a[i][k] b[k][j]), for a batch of them; f is leaky_relu, see Product.
//
// Contract: c is contiguous, (batch, rows, columns); a and b have any strides of which one is 1 (or belongs to an axis of
// length 1), so a transposed matrix is read where it lies; nothing overlaps c. The order of summation depends on the shapes
// alone: every number of threads gives the same bits. 2 rows columns depth flops.
//
// One operand is spread over lanes, `wide`, the other is broadcast element by element, `tall`. Which is which is free, since
// c^T = b^T a^T. A block of results, kRows x 3 vectors, stays in registers while the depth runs. `wide` is first copied in
// panels as wide as such a block: it is read many times, and its lanes must lie side by side. `tall` is read where it lies,
// unless its depth has a stride: then every step would touch another page of memory, and its rows are copied, too. With both,
// and with copies a cache line apart, a layer's gradients (128 x 512 x 784, one thread of a Zen 4) rise from 62 to 90 GFLOP/s.
//
// The threads share the results out as a grid and never wait for each other: each packs what it needs itself. (They could
// pack together, but where the two cores of a Zen 4 machine had no cache in common, fetching what the other had packed made
// a product of 128 x 512 x 784 take twice as long.) The cheapest orientation and grid are taken (`cost`); a grid that
// divides rows of c lets two threads write the line at the border: 128 x 20 x 400 in halves of columns took 51 us, in halves
// of rows 16, on two such cores.
#include "cpu/conv/tile.h"
#include "cpu/parallel.h"
#include "cpu/table.h"
#include "cpu/vectormath.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

constexpr index_t kDepth = 832;             // of a block of panels: 8 rows of `tall` and this stay in the first cache
constexpr index_t kBlockBytes = 384 << 10;  // of panels: they stay in the second cache while all of `tall` passes
template <class T>
constexpr index_t kLine = 64 / sizeof(T);  // between copies: a power of two between them would put all in one cache set
constexpr index_t kCopiedRows = 8 * kRows;  // of `tall` at a time, so that whole cache lines of it are read once
constexpr index_t kFewRows = 2 * kRows;     // of `tall`, with which copying rows of `wide` does not pay
constexpr index_t kDots = 4;                // as few results along one axis are computed as dot products
constexpr double kGrain = 1e5;              // flops per thread, about 1 us
constexpr double kReading = 4;              // vector operations for a vector of an operand that is not in a thread's cache
constexpr double kSharedLine = 100;         // vector operations lost on a line of results that two threads write

template <class T>
struct Operand {
  const T* at;
  index_t across, along;  // element (i, k), k the summation's index, is at[i * across + k * along]; one of them is 1
};

template <class T>
struct Job {
  Operand<T> tall, wide;
  index_t rows, columns, depth;  // rows of `tall`, columns of `wide`
  T* c;
  index_t c_row, c_column;  // one of them is 1: c_column, or else the results are transposed on their way out
  const T* bias;
  bool bias_along_rows;
  T slope;

  bool transposed() const { return c_column != 1; }
};

// c[i][j] (+)= sum over k < depth of a[i * a_row + k * a_depth] * b[k * b_pitch + j] for M rows and N vectors.
template <class T, int M, int N>
__attribute__((noinline)) void block(index_t depth, const T* __restrict a, index_t a_row, index_t a_depth,
                                     const T* __restrict b, index_t b_pitch, bool first, T* __restrict c,
                                     index_t c_pitch) {
  constexpr int L = lanes<T>;
  Vector<T> sum[M][N];
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) {
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) sum[i][j] = first ? Vector<T>{} : load(c + i * c_pitch + j * L);
  }
  // The results' memory may be in the other core's cache: it comes while the depth runs (784 x 128 x 512, 2 threads of a
  // Zen 4: 513 us instead of 547).
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) {
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) __builtin_prefetch(c + i * c_pitch + j * L, 1);
  }
  const T* from[M];
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) from[i] = a + i * a_row;
  for (index_t k = 0, at = 0; k < depth; k++, at += a_depth) {
    Vector<T> row[N];
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) row[j] = load(b + j * L);
    TINYGEN_UNROLL
    for (int i = 0; i < M; i++) {
      Vector<T> factor = splat(from[i][at]);
      TINYGEN_UNROLL
      for (int j = 0; j < N; j++) sum[i][j] += factor * row[j];
    }
    b += b_pitch;
  }
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) {
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) store(c + i * c_pitch + j * L, sum[i][j]);
  }
}

template <class T>
using Block = void (*)(index_t, const T*, index_t, index_t, const T*, index_t, bool, T*, index_t);

template <class T, int M = kRows>
inline Block<T> pick_block(index_t rows, index_t vectors) {
  if constexpr (M > 1)
    if (rows < M) return pick_block<T, M - 1>(rows, vectors);
#if TINYGEN_VECTOR_BYTES == 64
  if (vectors == 3) return block<T, M, 3>;
#endif
  return vectors == 2 ? block<T, M, 2> : block<T, M, 1>;
}

// ---------------------------------------------------------------------------------------------- panels

// `count` columns of `wide` for `depth` steps, as rows of whole vectors.
template <class T>
void pack(const Operand<T>& wide, index_t column, index_t count, index_t from, index_t depth, T* to) {
  constexpr int L = lanes<T>;
  const index_t pitch = (count + L - 1) / L * L;
  const T* source = wide.at + column * wide.across + from * wide.along;
  if (pitch != count) __builtin_memset(to, 0, depth * pitch * sizeof(T));
  if (wide.across == 1)
    for (index_t k = 0; k < depth; k++) copy_exactly(to + k * pitch, source + k * wide.along, count);
  else
    transpose_copy(source, wide.across, count, depth, to, pitch);
}

// `count` panels of `width` columns, whole vectors, of a `wide` whose columns lie side by side: a row is read at once, since
// the next one may lie in another page of memory.
template <class T>
void pack_side_by_side(const Operand<T>& wide, index_t column, index_t count, index_t width, index_t from, index_t depth,
                       T* to, index_t panel_size) {
  constexpr int L = lanes<T>;
  const T* source = wide.at + column + from * wide.along;
  for (index_t k = 0; k < depth; k++, source += wide.along, to += width)
    for (index_t p = 0; p < count; p++)
      for (index_t j = 0; j < width; j += L) store(to + p * panel_size + j, load(source + p * width + j));
}

// Of kRows rows of `tall`, copied for `depth` steps.
template <class T>
constexpr index_t band_size(index_t depth) {
  return depth * kRows + kLine<T>;
}

// `rows` rows of `tall`, which lie side by side, for `depth` steps: bands of kRows rows, each (depth, kRows).
template <class T>
void pack_rows(const Operand<T>& tall, index_t row, index_t rows, index_t from, index_t depth, T* to) {
  const T* source = tall.at + row + from * tall.along;
  for (index_t k = 0; k < depth; k++, source += tall.along, to += kRows) {
    index_t i = 0;
    T* at = to;
    for (; i + kRows <= rows; i += kRows, at += band_size<T>(depth)) __builtin_memcpy(at, source + i, kRows * sizeof(T));
    for (; i < rows; i++) *at++ = source[i];
  }
}

// ---------------------------------------------------------------------------------------------- bias and activation

// c = f(c + bias) on `rows` rows of `columns` results, of which the first is (row, column) of the product.
template <class T, class F>
void finish(const Job<T>& job, index_t row, index_t rows, index_t column, index_t columns, T* c, index_t pitch,
            const F& f) {
  constexpr int L = lanes<T>;
  for (index_t i = 0; i < rows; i++, c += pitch)
    for (index_t j = 0; j < columns; j += L) {
      Vector<T> value = load(c + j);
      if (job.bias) {
        const T* bias = job.bias + column + j;
        const index_t rest = columns - j;
        value += job.bias_along_rows ? splat(job.bias[row + i])
                 : rest >= L         ? load(bias)
                                     : load_part(bias, static_cast<int>(rest));
      }
      store(c + j, f(value));
    }
}

template <class T>
void finish(const Job<T>& job, index_t row, index_t rows, index_t column, index_t columns, T* c, index_t pitch) {
  const Vector<T> zero = {}, slope = splat(job.slope);
  if (job.slope == 1) {
    if (job.bias) finish(job, row, rows, column, columns, c, pitch, [](Vector<T> v) { return v; });
  } else if (job.slope == 0) {  // must not multiply: 0 * infinity would be NaN
    finish(job, row, rows, column, columns, c, pitch, [=](Vector<T> v) { return max(zero, v); });
  } else {
    finish(job, row, rows, column, columns, c, pitch, [=](Vector<T> v) { return select(v > 0, v, slope * v); });
  }
}

// ---------------------------------------------------------------------------------------------- dot products

// M rows of N results, both operands contiguous along the depth: lanes run along it, nothing is packed.
template <class T, int M, int N>
inline void dots(const Job<T>& job, index_t row, T* c, index_t pitch) {
  constexpr int L = lanes<T>;
  Vector<T> sum[M][N] = {};
  const T *a = job.tall.at + row * job.tall.across, *b = job.wide.at;
  const index_t whole = job.depth / L * L;
  auto step = [&](auto read) {
    Vector<T> other[N];
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) other[j] = read(b + j * job.wide.across);
    TINYGEN_UNROLL
    for (int i = 0; i < M; i++) {
      Vector<T> one = read(a + i * job.tall.across);
      TINYGEN_UNROLL
      for (int j = 0; j < N; j++) sum[i][j] += one * other[j];
    }
  };
  for (index_t k = 0; k < whole; k += L) step([=](const T* p) { return load(p + k); });
  if (int rest = static_cast<int>(job.depth - whole)) step([=](const T* p) { return load_part(p + whole, rest); });
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) {
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) c[i * pitch + j] = sum_lanes(sum[i][j]);
  }
}

// ---------------------------------------------------------------------------------------------- one product

template <class T>
struct Plan {
  index_t panel, panels;  // columns of a panel, number of panels
  bool packed;
  index_t depth_parts, block_panels;  // the depth is summed in so many parts, each for so many panels at a time
  index_t group;                      // rows that are computed before they are written
  index_t copied_rows;                // of `tall`, at a time; 0 where it is read where it lies
};

template <class T>
Plan<T> make_plan(const Job<T>& job) {
  constexpr index_t L = lanes<T>;
  Plan<T> plan;
  plan.panel = vectors_per_block((job.columns + L - 1) / L) * L;
  plan.panels = (job.columns + plan.panel - 1) / plan.panel;
  plan.packed = job.wide.across != 1 || job.rows > kFewRows;
  plan.depth_parts = max(1, (job.depth + kDepth - 1) / kDepth);
  const index_t depth = (job.depth + plan.depth_parts - 1) / plan.depth_parts;
  plan.block_panels = plan.packed ? max(1, kBlockBytes / max(1, depth * plan.panel * sizeof(T))) : plan.panels;
  const index_t block_count = (plan.panels + plan.block_panels - 1) / plan.block_panels;
  plan.block_panels = (plan.panels + block_count - 1) / max(1, block_count);  // no block of a few panels at the end
  plan.group = kRows;
  while (job.transposed() && plan.group % L) plan.group += kRows;  // whole blocks to transpose
  const bool strided = job.tall.along != 1 && plan.block_panels > 1;
  plan.copied_rows = strided ? (kCopiedRows + plan.group - 1) / plan.group * plan.group : 0;
  return plan;
}

// Rows [row, row + group) of one panel, one part of the depth. `copied`: these rows of `tall`, if they were copied; `packed`:
// the panel, if it was packed; `own`: room for results that cannot be computed where they belong, because they are
// transposed or because whole vectors would not fit.
template <class T>
void compute(const Job<T>& job, const Plan<T>& plan, index_t row, index_t panel, index_t part, const T* copied,
             const T* packed, T* own) {
  constexpr index_t L = lanes<T>;
  const index_t from = job.depth * part / plan.depth_parts, depth = job.depth * (part + 1) / plan.depth_parts - from;
  const bool first = part == 0, last = part == plan.depth_parts - 1;
  const index_t column = panel * plan.panel, columns = min(plan.panel, job.columns - column);
  const index_t rows = min(plan.group, job.rows - row), vectors = (columns + L - 1) / L;
  const bool whole = columns == vectors * L, direct = whole && !job.transposed();

  const bool in_place = whole && !plan.packed;
  const T* b = in_place ? job.wide.at + column + from * job.wide.along : packed;
  const index_t b_pitch = in_place ? job.wide.along : vectors * L;

  T* result = job.c + row * job.c_row + column * job.c_column;
  T* c = direct ? result : own;
  const index_t c_pitch = direct ? job.c_row : vectors * L;
  auto copy_rows = [&](T* to, index_t to_pitch, const T* source, index_t pitch) {
    for (index_t i = 0; i < rows; i++) copy_exactly(to + i * to_pitch, source + i * pitch, columns);
  };
  if (!direct && !first) {
    if (job.transposed())
      transpose_copy(result, job.c_column, columns, rows, c, c_pitch);
    else
      copy_rows(c, c_pitch, result, job.c_row);
  }
  const T* a = copied ? copied : job.tall.at + row * job.tall.across + from * job.tall.along;
  const index_t a_row = copied ? 1 : job.tall.across, a_depth = copied ? kRows : job.tall.along;
  const index_t a_band = copied ? band_size<T>(depth) : kRows * job.tall.across;
  for (index_t i = 0; i < rows; i += kRows)
    pick_block<T>(min(kRows, rows - i), vectors)(depth, a + i / kRows * a_band, a_row, a_depth, b, b_pitch, first,
                                                 c + i * c_pitch, c_pitch);
  if (last) finish(job, row, rows, column, columns, c, c_pitch);
  if (job.transposed())
    transpose_copy(c, c_pitch, rows, columns, result, job.c_column);
  else if (!direct)
    copy_rows(result, job.c_row, c, c_pitch);
}

// All of one thread's results. Blocks of panels are packed once and stay in the second cache while the rows pass.
template <class T>
void blocks(const Job<T>& job) {
  const Plan<T> plan = make_plan(job);
  const index_t most_depth = (job.depth + plan.depth_parts - 1) / plan.depth_parts;
  const index_t panel_size = most_depth * plan.panel + kLine<T>;
  T* own = static_cast<T*>(scratch(kTile, plan.group * plan.panel * sizeof(T)));
  T* panels = static_cast<T*>(scratch(kPanel, (plan.packed ? plan.block_panels : 1) * panel_size * sizeof(T) + 64));
  T* copied = static_cast<T*>(scratch(kTransposed, plan.copied_rows / kRows * band_size<T>(most_depth) * sizeof(T)));
  for (index_t begin = 0; begin < plan.panels; begin += plan.block_panels)
    for (index_t part = 0; part < plan.depth_parts; part++) {
      const index_t end = min(begin + plan.block_panels, plan.panels);
      const index_t from = job.depth * part / plan.depth_parts, depth = job.depth * (part + 1) / plan.depth_parts - from;
      index_t p = begin;
      const index_t whole = min(end, job.columns / plan.panel);  // panels of full width
      if (plan.packed && job.wide.across == 1 && plan.panel % lanes<T> == 0 && whole > begin) {
        pack_side_by_side(job.wide, begin * plan.panel, whole - begin, plan.panel, from, depth, panels, panel_size);
        p = whole;
      }
      for (; p < end; p++) {
        const index_t column = p * plan.panel, columns = min(plan.panel, job.columns - column);
        if (plan.packed)
          pack(job.wide, column, columns, from, depth, panels + (p - begin) * panel_size);
        else if (columns % lanes<T>)  // the last one, of a width that may not be loaded in whole vectors
          pack(job.wide, column, columns, from, depth, panels);
      }
      for (index_t row = 0; row < job.rows; row += plan.group) {
        const index_t done = plan.copied_rows ? row % plan.copied_rows : 0;
        if (plan.copied_rows && done == 0)
          pack_rows(job.tall, row, min(plan.copied_rows, job.rows - row), from, depth, copied);
        const T* rows = plan.copied_rows ? copied + done / kRows * band_size<T>(depth) : nullptr;
        for (index_t p = begin; p < end; p++)
          compute(job, plan, row, p, part, rows, panels + (plan.packed ? (p - begin) * panel_size : 0), own);
      }
    }
}

template <class T, int N>
void rows_of_dots(const Job<T>& job, int use) {
  constexpr index_t kPitch = lanes<T> > kDots ? lanes<T> : kDots;
  parallel(use, [&](int thread, int all) {
    T own[kDots * kPitch] = {};
    for (index_t i = job.rows * thread / all, end = job.rows * (thread + 1) / all; i < end;) {
      const index_t rows = end - i >= 4 ? 4 : 1;
      if (rows == 4)
        dots<T, 4, N>(job, i, own, kPitch);
      else
        dots<T, 1, N>(job, i, own, kPitch);
      finish(job, i, rows, 0, N, own, kPitch);
      for (index_t r = 0; r < rows; r++)
        for (index_t j = 0; j < N; j++) job.c[(i + r) * job.c_row + j * job.c_column] = own[r * kPitch + j];
      i += rows;
    }
  });
}

template <class T>
Job<T> exchanged(const Job<T>& job) {
  Job<T> other = job;
  other.tall = job.wide, other.wide = job.tall;
  other.rows = job.columns, other.columns = job.rows;
  other.c_row = job.c_column, other.c_column = job.c_row;
  other.bias_along_rows = !job.bias_along_rows;
  return other;
}

// Rows [row, row_end) and columns [column, column_end) of the results.
template <class T>
Job<T> part_of(const Job<T>& job, index_t row, index_t row_end, index_t column, index_t column_end) {
  Job<T> part = job;
  part.tall.at += row * job.tall.across, part.wide.at += column * job.wide.across;
  part.rows = row_end - row, part.columns = column_end - column;
  part.c += row * job.c_row + column * job.c_column;
  if (part.bias) part.bias += job.bias_along_rows ? row : column;
  return part;
}

// Of the longest share in a grid, in vector operations: reading the operands, multiply-adds, copying into panels, transposing
// the results, and one shared line for each row of c that is divided.
template <class T>
double cost(const Job<T>& job, index_t grid_rows, index_t grid_columns) {
  const auto share = [](index_t n, index_t unit, index_t parts) {
    return static_cast<double>(((n + unit - 1) / unit + parts - 1) / parts);
  };
  const double rows = share(job.rows, kRows, grid_rows) * kRows, vectors = share(job.columns, lanes<T>, grid_columns);
  const double copying = job.tall.along != 1 ? 2 * rows / kRows : 0;
  const double packing = job.wide.across != 1 ? 6 : rows > kFewRows ? 2 : 0, writing = job.transposed() ? 8 : 1;
  const bool divides = (job.transposed() ? grid_rows : grid_columns) > 1;
  const double shared = divides ? kSharedLine * (job.transposed() ? vectors * lanes<T> : rows) : 0;
  const double depth = static_cast<double>(job.depth), reading = kReading * (rows / lanes<T> + vectors) * depth;
  return reading + copying * depth + vectors * ((rows + packing) * depth + rows * writing) + shared;
}

template <class T>
void in_grid(const Job<T>& job, int use, index_t grid_columns) {
  constexpr index_t L = lanes<T>;
  const index_t grid_rows = use / grid_columns;
  const index_t bands = (job.rows + kRows - 1) / kRows, vectors = (job.columns + L - 1) / L;
  parallel(use, [&](int thread, int all) {
    for (index_t u = use * thread / all; u < use * (thread + 1) / all; u++) {
      const index_t i = u / grid_columns, j = u % grid_columns;
      const Job<T> part =
          part_of(job, bands * i / grid_rows * kRows, min(job.rows, bands * (i + 1) / grid_rows * kRows),
                  vectors * j / grid_columns * L, min(job.columns, vectors * (j + 1) / grid_columns * L));
      if (part.rows > 0 && part.columns > 0) blocks(part);
    }
  });
}

template <class T>
void multiply(const Job<T>& job, int use) {
  const Job<T> ways[] = {job, exchanged(job)};
  if (job.tall.along == 1 && job.wide.along == 1 && min(job.rows, job.columns) <= kDots) {
    const Job<T>& best = ways[job.columns > job.rows];
    switch (best.columns) {
      case 1:
        return rows_of_dots<T, 1>(best, use);
      case 2:
        return rows_of_dots<T, 2>(best, use);
      case 3:
        return rows_of_dots<T, 3>(best, use);
      default:
        return rows_of_dots<T, 4>(best, use);
    }
  }
  const Job<T>* best = ways;
  index_t best_columns = 1;
  double least = -1;
  for (const Job<T>* each = ways; each < ways + 2; each++)
    for (index_t columns = 1; columns <= use; columns++) {
      if (use % columns) continue;
      const double now = cost(*each, use / columns, columns);
      if (least < 0 || now < least) best = each, best_columns = columns, least = now;
    }
  in_grid(*best, use, best_columns);
}

}  // namespace

TINYGEN_KERNEL(matmul, (const Product& size, const T* a, const T* b, const T* bias, T* c)) {
  if (size.rows == 0 || size.columns == 0) return;
  const double flops = 2.0 * static_cast<double>(size.rows) * static_cast<double>(size.columns) *
                       static_cast<double>(max(1, size.depth));
  auto one = [&](index_t n, int use) {
    Job<T> job = {{a + size.a_offset[n], size.a_row, size.a_depth},
                  {b + size.b_offset[n], size.b_column, size.b_depth},
                  size.rows,
                  size.columns,
                  size.depth,
                  c + n * size.rows * size.columns,
                  size.columns,
                  1,
                  bias,
                  false,
                  static_cast<T>(size.slope)};
    multiply(job, use);
  };
  if (size.batch >= threads()) {
    const double least = kGrain / flops;
    split(size.batch, least > 1 ? static_cast<index_t>(least) : 1, [&](index_t n, index_t end) {
      for (; n < end; n++) one(n, 1);
    });
  } else {
    const double most = flops / kGrain;
    const int use = most < 2 ? 1 : most < threads() ? static_cast<int>(most) : threads();
    for (index_t n = 0; n < size.batch; n++) one(n, use);
  }
}

}  // namespace TINYGEN_ISA
}  // namespace tinygen
