// Gather with lanes over images: whatever the size of the image, its borders or its stride, no lane idles and no
// padding is stored or multiplied.
//
// Idea       The source of `lanes` images is transposed to [pixel][channel][image]. An output reads whole vectors at its
//            taps, and only at the taps inside the source: outputs are sorted into classes (row segment x column
//            segment) that meet the same taps. Of a 4 x 4 kernel's nominal work on 8 x 8 pixels, stride 2, that saves 23 %.
// Tile       kImageResults results x 2 outputs of a class stay in registers over the whole reduction. The taps of one
//            row are one run through memory: source [pixel][channel], weights [tap][channel][result].
// Mapping    Per thread and unit (16 images, a band of rows, some blocks of results): pack the source, then for each
//            block of results and a few rows: multiply, transpose the results to the output. The source and a block's
//            weights stream from L2 or L3, in runs so long that hardware prefetching hides it: splitting the channels
//            to fit a cache was slower throughout, by 2 to 10 % (Zen 4).
// Cost       2 flops per tap inside the source; packing about one cycle per element of the source.
#pragma once

#include <cstdlib>
#include "gather.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

#if TINYGEN_VECTOR_BYTES == 64
constexpr int kImageResults = 12;  // times two vectors: 24 of 32 registers
#elif TINYGEN_VECTOR_BYTES == 32
constexpr int kImageResults = 6;
#else
constexpr int kImageResults = 4;
#endif
constexpr index_t kSourceBytes = 4 << 20;  // of a packed band: a thread's share of L3, about
constexpr index_t kGroupPixels = 256;      // outputs whose results wait, in L2, to be transposed together

inline index_t knob(const char* name, index_t other) {
  const char* v = getenv(name);
  return v ? atoll(v) : other;
}
struct Run {  // `length` neighbouring steps
  index_t source, weights, length;
};
struct Spot {  // an output: where its source begins and where its results belong
  index_t source, result;
};

// to[j][i] = init[i] + sum over all steps of all runs of  weights[step][i] * source[step][j],  for M results of N spots.
// Steps of the source and results of a spot are one vector apart. init may be null: zero.
template <class T, int M, int N>
__attribute__((noinline)) void multiply(const T* __restrict source, const T* __restrict weights,
                                        const Run* __restrict runs, index_t count, const Spot* __restrict spots,
                                        const T* __restrict init, T* __restrict to) {
  constexpr int L = lanes<T>;
  const T* from[N];
  Vector<T> sum[M][N];
  TINYGEN_UNROLL
  for (int j = 0; j < N; j++) from[j] = source + spots[j].source;
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) {
    Vector<T> start = init ? splat(init[i]) : Vector<T>{};
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) sum[i][j] = start;
  }
  for (index_t r = 0; r < count; r++) {
    const T* factors = weights + runs[r].weights * M;
    index_t at = runs[r].source;
    for (index_t k = runs[r].length; k > 0; k--) {
      Vector<T> row[N];
      TINYGEN_UNROLL
      for (int j = 0; j < N; j++) row[j] = load(from[j] + at);
      TINYGEN_UNROLL
      for (int i = 0; i < M; i++) {
        Vector<T> factor = splat(factors[i]);
        TINYGEN_UNROLL
        for (int j = 0; j < N; j++) sum[i][j] += factor * row[j];
      }
      factors += M;
      at += L;
    }
  }
  TINYGEN_UNROLL
  for (int j = 0; j < N; j++) {
    TINYGEN_UNROLL
    for (int i = 0; i < M; i++) store(to + spots[j].result + i * L, sum[i][j]);
  }
}

template <class T>
using MultiplyFunction = void (*)(const T*, const T*, const Run*, index_t, const Spot*, const T*, T*);

constexpr int kMostSpots = 8;
// How many spots a tile of `results` takes at most: 2, more where results are so few that registers are left.
constexpr int most_spots(int results) {
  int n = 2;
  while (n < kMostSpots && 2 * n * results <= 2 * kImageResults) n *= 2;
  return n;
}

template <class T, int M, int N>
inline MultiplyFunction<T> pick_multiply_width(index_t spots, index_t* taken) {
  if constexpr (N > 1)
    if (spots < N) return pick_multiply_width<T, M, N / 2>(spots, taken);
  *taken = N;
  return multiply<T, M, N>;
}

// multiply<T, results, .> for at most `spots` spots; `taken` is how many.
template <class T, int M = kImageResults>
inline MultiplyFunction<T> pick_multiply(index_t results, index_t spots, index_t* taken) {
  if constexpr (M > 1)
    if (results < M) return pick_multiply<T, M - 1>(results, spots, taken);
  return pick_multiply_width<T, M, most_spots(M)>(spots, taken);
}

// Neighbouring outputs of one phase along one axis (begin .. end - 1) that meet the same taps (tap .. tap + taps - 1).
struct Segment {
  index_t phase, begin, end, tap, taps;
};

// The segments of the outputs low .. high - 1, counted over all phases; returns how many.
inline index_t find_segments(const Line* lines, index_t phases, index_t low, index_t high, Segment* segments) {
  index_t count = 0;
  for (index_t f = 0; f < phases; f++) {
    const Line& line = lines[f];
    index_t begin = max(0, ceil_div(low - line.origin, line.spacing));
    index_t end = min(line.outputs, ceil_div(high - line.origin, line.spacing));
    for (index_t j = begin; j < end; j++) {
      index_t tap, stop;
      line.inside(j, &tap, &stop);
      Segment* last = segments + count - 1;
      if (j > begin && last->tap == tap && last->taps == stop - tap)
        last->end++;
      else
        segments[count++] = {f, j, j + 1, tap, stop - tap};
    }
  }
  return count;
}

template <class T>
struct ImagesPlan {
  Gather<T> job;
  index_t chunks, bands, blocks, parts;  // chunks of `lanes` images, bands of rows, parts of the blocks of results
  index_t group_rows;                    // output rows that are computed and transposed together
  Line *rows, *columns;                  // of each phase
  index_t *row_base, *column_base;       // how many taps the phases before have
  Segment* column_segments;
  index_t column_count;
  index_t* rank;  // of each kernel element among the packed weights
  T* packed;

  index_t block_begin(index_t b) const { return job.results * b / blocks; }  // as even as possible
  index_t band_begin(index_t b) const {
    index_t spacing = job.row_phases(), rows = (job.out_height + spacing - 1) / spacing;
    return min(job.out_height, rows * b / bands * spacing);
  }
  index_t rank_of(index_t fr, index_t r, index_t fc, index_t s) const {
    return row_base[fr] * job.column_axis.w + rows[fr].taps * column_base[fc] + r * columns[fc].taps + s;
  }
  T* panel(index_t group, index_t m0) const {
    return packed + (group * job.results + m0) * job.channels * job.kernel();
  }
};

// The source rows that output rows low .. high - 1 read.
template <class T>
void source_rows(const ImagesPlan<T>& plan, index_t low, index_t high, index_t* begin, index_t* end) {
  *begin = plan.job.height;
  *end = 0;
  for (index_t f = 0; f < plan.job.row_phases(); f++) {
    const Line& line = plan.rows[f];
    index_t first = max(0, ceil_div(low - line.origin, line.spacing));
    index_t last = min(line.outputs, ceil_div(high - line.origin, line.spacing)) - 1;
    if (line.taps == 0 || first > last) continue;
    *begin = min(*begin, line.step * first + line.lowest());
    *end = max(*end, line.step * last + line.highest() + 1);
  }
  *begin = max(0, *begin);
  *end = max(*begin, min(*end, plan.job.height));
}

template <class T>
ImagesPlan<T> plan_images(const Gather<T>& job, int use) {
  constexpr index_t L = lanes<T>;
  ImagesPlan<T> plan = {};
  plan.job = job;
  index_t row_phases = job.row_phases(), column_phases = job.column_phases();
  char* memory = static_cast<char*>(
      scratch(kPhases, (row_phases + column_phases) * (sizeof(Line) + sizeof(index_t)) +
                           job.out_width * sizeof(Segment) + job.kernel() * sizeof(index_t)));
  plan.rows = reinterpret_cast<Line*>(memory);
  plan.columns = plan.rows + row_phases;
  plan.column_segments = reinterpret_cast<Segment*>(plan.columns + column_phases);
  plan.row_base = reinterpret_cast<index_t*>(plan.column_segments + job.out_width);
  plan.column_base = plan.row_base + row_phases;
  plan.rank = plan.column_base + column_phases;
  for (index_t f = 0, taps = 0; f < row_phases; taps += plan.rows[f++].taps) {
    plan.rows[f] = job.row_line(f);
    plan.row_base[f] = taps;
  }
  for (index_t f = 0, taps = 0; f < column_phases; taps += plan.columns[f++].taps) {
    plan.columns[f] = job.column_line(f);
    plan.column_base[f] = taps;
  }
  for (index_t fr = 0; fr < row_phases; fr++)
    for (index_t fc = 0; fc < column_phases; fc++)
      for (index_t r = 0; r < plan.rows[fr].taps; r++)
        for (index_t s = 0; s < plan.columns[fc].taps; s++) {
          index_t row = plan.rows[fr].first + r * plan.rows[fr].every;
          index_t column = plan.columns[fc].first + s * plan.columns[fc].every;
          plan.rank[row * job.column_axis.w + column] = plan.rank_of(fr, r, fc, s);
        }
  plan.column_count = find_segments(plan.columns, column_phases, 0, job.out_width, plan.column_segments);

  plan.chunks = (job.images + L - 1) / L;
  plan.blocks = (job.results + kImageResults - 1) / kImageResults;
  plan.parts = 1;
  index_t row_bytes = job.width * job.channels * L * static_cast<index_t>(sizeof(T));
  index_t most = max(1, kSourceBytes / max(1, row_bytes)), rows = (job.out_height + row_phases - 1) / row_phases;
  auto units = [&] { return plan.chunks * job.groups * plan.bands * plan.parts; };
  auto uneven = [&] { return units() * 10 < (units() + use - 1) / use * use * 9; };  // threads idle more than 10 %
  plan.bands = min(rows, (job.height + most - 1) / most);
  plan.bands = max(1, plan.bands);
  while (uneven() && plan.bands * 4 <= rows) plan.bands++;
  while (uneven() && plan.parts < plan.blocks) plan.parts++;
  index_t band_rows = (rows + plan.bands - 1) / plan.bands * row_phases;
  index_t groups = max(1, band_rows * job.out_width / kGroupPixels);
  plan.group_rows = max(1, (band_rows / row_phases + groups - 1) / groups) * row_phases;
  return plan;
}

// to[j][i] (pitch: lanes) = from[i][j] for i < count, j < lanes; zero for the other i.
template <class T>
TINYGEN_INLINE void transpose_rows(const T* __restrict from, index_t pitch, index_t count, T* __restrict to) {
  constexpr int L = lanes<T>;
  Vector<T> rows[L];
  TINYGEN_UNROLL
  for (int i = 0; i < L; i++) rows[i] = i < count ? load(from + i * pitch) : Vector<T>{};
  transpose<T>(rows);
  TINYGEN_UNROLL
  for (int i = 0; i < L; i++) store(to + i * L, rows[i]);
}

// The weights of one block of results as [tap][channel][result].
template <class T>
void pack_block(const ImagesPlan<T>& plan, index_t group, index_t block) {
  constexpr index_t L = lanes<T>;
  const Gather<T>& job = plan.job;
  index_t kernel = job.kernel(), m0 = plan.block_begin(block), results = plan.block_begin(block + 1) - m0;
  index_t pitch = job.result_pitch();
  const T* from = job.weights + group * job.results * job.channels * kernel + m0 * pitch;
  T* to = plan.panel(group, m0);
  auto place = [&](index_t c, index_t t) { return to + (plan.rank[t] * job.channels + c) * results; };
  // A stretch of weights of one result is contiguous: all channels of a conv, one of a conv_transpose.
  index_t length = job.transposed ? kernel : job.channels * kernel, stretches = job.transposed ? job.channels : 1;
  // Vectors are stored whole where the excess falls on channels that come later.
  index_t last_whole = results <= L ? job.channels - (L + results - 1) / results : -1;
  for (index_t stretch = 0; stretch < stretches; stretch++, from += job.channel_pitch()) {
    if (length < L) {
      for (index_t e = 0; e < length; e++)
        for (index_t m = 0; m < results; m++) place(stretch + e / kernel, e % kernel)[m] = from[m * pitch + e];
      continue;
    }
    for (index_t e = 0; e < length; e += L)
      for (index_t m = 0; m < results; m += L) {
        e = min(e, length - L);  // the last vector repeats what the one before has done
        index_t count = min(L, results - m), c = stretch + e / kernel, t = e % kernel;
        alignas(64) T turned[L * L];
        transpose_rows(from + m * pitch + e, pitch, count, turned);
        for (index_t i = 0; i < L; i++) {
          if (c <= last_whole)
            store(place(c, t), load(turned + i * L));
          else
            copy_exactly(place(c, t) + m, turned + i * L, count);
          if (++t == kernel) t = 0, c++;
        }
      }
  }
}

// Where L elements of [channel][pixel], from number e on, are in [pixel][channel][image].
template <class T>
TINYGEN_INLINE void find_places(index_t e, index_t pixels, index_t channels, index_t* at) {
  constexpr int L = lanes<T>;
  index_t channel = e / pixels, pixel = e % pixels, next = (pixel * channels + channel) * L;
  TINYGEN_UNROLL
  for (int i = 0; i < L; i++) {
    at[i] = next;
    next += channels * L;
    if (++pixel == pixels) {
      pixel = 0;
      next = ++channel * L;
    }
  }
}

// How many elements (1 .. lanes) behind `from` a vector is aligned.
template <class T>
TINYGEN_INLINE index_t to_line(const T* from) {
  constexpr int L = lanes<T>;
  return L - static_cast<index_t>(reinterpret_cast<size_t>(from) / sizeof(T) % L);
}

// A part of [image][channel][pixel] that is walked in vectors of pixels: `stretches` contiguous pieces of `length`.
struct Pieces {
  index_t pixels, stretches, length;
};
inline Pieces pieces_of(index_t channels, index_t pixels, index_t plane) {  // whole planes follow each other
  return pixels == plane ? Pieces{pixels, 1, channels * pixels} : Pieces{pixels, channels, pixels};
}

// Source rows begin .. end - 1 of all channels of a group and a chunk of images, as [pixel][channel][image]. Lanes
// beyond the last image hold the last image once more.
template <class T>
void pack_source(const ImagesPlan<T>& plan, index_t group, index_t image, index_t begin, index_t end,
                 T* __restrict to) {
  constexpr index_t L = lanes<T>;
  const Gather<T>& job = plan.job;
  index_t plane = job.height * job.width, channels = job.channels, image_pitch = job.groups * channels * plane;
  const Pieces pieces = pieces_of(channels, (end - begin) * job.width, plane);
  const T* base = job.source + image * image_pitch + group * channels * plane + begin * job.width;
  index_t offset[L];
  for (index_t i = 0; i < L; i++) offset[i] = min(i, job.images - 1 - image) * image_pitch;
  for (index_t stretch = 0; stretch < pieces.stretches; stretch++, base += plane) {
    index_t start = stretch * pieces.pixels;
    if (pieces.length < L) {
      for (index_t e = 0; e < pieces.length; e++)
        for (index_t i = 0; i < L; i++) {
          index_t c = (start + e) / pieces.pixels, pixel = (start + e) % pieces.pixels;
          to[(pixel * channels + c) * L + i] = base[offset[i] + e];
        }
      continue;
    }
    // From the second vector on they are aligned, so that no line is read twice: the images of a chunk are often a
    // multiple of 4 KB apart, and a line would not survive until its second half is wanted.
    for (index_t e = 0, next; e < pieces.length; e = next) {
      next = e + (e == 0 ? to_line(base) : L);
      e = min(e, pieces.length - L);  // the last vector repeats what the one before has done
      index_t ahead = next < pieces.length ? next : next + plane - pieces.length;
      Vector<T> rows[L];
      index_t at[L];
      TINYGEN_UNROLL
      for (int i = 0; i < L; i++) __builtin_prefetch(base + offset[i] + ahead);
      TINYGEN_UNROLL
      for (int i = 0; i < L; i++) rows[i] = load(base + offset[i] + e);
      find_places<T>(start + e, pieces.pixels, channels, at);
      transpose<T>(rows);
      TINYGEN_UNROLL
      for (int i = 0; i < L; i++) store(to + at[i], rows[i]);
    }
  }
}

// Results [pixel][result of a block][image] of output rows low .. high - 1 to the output; the block begins with m0.
template <class T>
void write_results(const ImagesPlan<T>& plan, index_t group, index_t m0, index_t results, index_t image, index_t low,
                   index_t high, const T* __restrict from) {
  constexpr index_t L = lanes<T>;
  const Gather<T>& job = plan.job;
  index_t plane = job.out_height * job.out_width, image_pitch = job.groups * job.results * plane;
  const Pieces pieces = pieces_of(results, (high - low) * job.out_width, plane);
  index_t count = min(L, job.images - image);
  T* base = job.out + image * image_pitch + (group * job.results + m0) * plane + low * job.out_width;
  for (index_t stretch = 0; stretch < pieces.stretches; stretch++, base += plane) {
    index_t start = stretch * pieces.pixels;
    if (pieces.length < L) {
      for (index_t e = 0; e < pieces.length; e++)
        for (index_t i = 0; i < count; i++) {
          index_t m = (start + e) / pieces.pixels, pixel = (start + e) % pieces.pixels;
          base[i * image_pitch + e] = from[(pixel * results + m) * L + i];
        }
      continue;
    }
    for (index_t e = 0, next; e < pieces.length; e = next) {
      next = e + (e == 0 ? to_line(base) : L);
      e = min(e, pieces.length - L);
      Vector<T> rows[L];
      index_t at[L];
      find_places<T>(start + e, pieces.pixels, results, at);
      TINYGEN_UNROLL
      for (int i = 0; i < L; i++) rows[i] = load(from + at[i]);
      transpose<T>(rows);
      TINYGEN_UNROLL
      for (int i = 0; i < L; i++)
        if (i < count) store(base + i * image_pitch + e, rows[i]);
    }
  }
}

// All outputs of one class, for one block of results. The packed source begins with row source_low, `to` with row low.
template <class T>
void compute_class(const ImagesPlan<T>& plan, const Segment& row, const Segment& column, const T* source,
                   index_t source_low, const T* weights, index_t results, const T* bias, index_t low, T* to,
                   Run* runs) {
  constexpr index_t L = lanes<T>;
  const Gather<T>& job = plan.job;
  const Line &rows = plan.rows[row.phase], &columns = plan.columns[column.phase];
  index_t pixel = job.channels * L, count = 0;  // pixel: elements of the packed source
  for (index_t r = 0; r < row.taps; r++)
    for (index_t s = 0; s < column.taps; s++) {
      index_t at = (r * rows.move * job.width + s * columns.move) * pixel;
      index_t step = plan.rank_of(row.phase, row.tap + r, column.phase, column.tap + s) * job.channels;
      Run* last = runs + count - 1;
      if (count > 0 && last->source + last->length * L == at && last->weights + last->length == step)
        last->length += job.channels;
      else
        runs[count++] = {at, step, job.channels};
    }
  index_t most = most_spots(results), waiting = 0, taken;
  Spot spots[kMostSpots];
  for (index_t j = row.begin; j < row.end; j++) {
    index_t source_row = (rows.step * j + rows.start + row.tap * rows.move - source_low) * job.width;
    index_t out_row = (rows.origin + rows.spacing * j - low) * job.out_width;
    for (index_t q = column.begin; q < column.end; q++) {
      index_t source_column = columns.step * q + columns.start + column.tap * columns.move;
      index_t out_column = columns.origin + columns.spacing * q;
      spots[waiting++] = {count > 0 ? (source_row + source_column) * pixel : 0, (out_row + out_column) * results * L};
      if (waiting < most) continue;
      pick_multiply<T>(results, most, &taken)(source, weights, runs, count, spots, bias, to);
      waiting = 0;
    }
  }
  for (index_t i = 0; i < waiting; i += taken)
    pick_multiply<T>(results, waiting - i, &taken)(source, weights, runs, count, spots + i, bias, to);
}

// Band `band` of one chunk (from `image` on) and group, blocks b0 .. b1 - 1.
template <class T>
void compute_images(const ImagesPlan<T>& plan, index_t group, index_t image, index_t band, index_t b0, index_t b1) {
  constexpr index_t L = lanes<T>;
  const Gather<T>& job = plan.job;
  index_t begin, end, band_low = plan.band_begin(band), band_high = plan.band_begin(band + 1);
  source_rows(plan, band_low, band_high, &begin, &end);
  T* source = static_cast<T*>(scratch(kWindow, (end - begin) * job.width * job.channels * L * sizeof(T)));
  T* to = static_cast<T*>(scratch(kTile, plan.group_rows * job.out_width * kImageResults * L * sizeof(T)));
  Run* runs = static_cast<Run*>(scratch(kTaps, job.kernel() * sizeof(Run)));
  Segment* segments = static_cast<Segment*>(scratch(kPixelOffsets, plan.group_rows * sizeof(Segment)));
  pack_source(plan, group, image, begin, end, source);
  for (index_t b = b0; b < b1; b++) {
    index_t m0 = plan.block_begin(b), results = plan.block_begin(b + 1) - m0;
    const T* bias = job.bias ? job.bias + group * job.results + m0 : nullptr;
    for (index_t low = band_low; low < band_high; low += plan.group_rows) {
      index_t high = min(band_high, low + plan.group_rows);
      index_t row_count = find_segments(plan.rows, job.row_phases(), low, high, segments);
      for (index_t r = 0; r < row_count; r++)
        for (index_t s = 0; s < plan.column_count; s++)
          compute_class(plan, segments[r], plan.column_segments[s], source, begin, plan.panel(group, m0), results, bias,
                        low, to, runs);
      write_results(plan, group, m0, results, image, low, high, to);
    }
  }
}

template <class T>
void gather_images(const Gather<T>& job, int use) {
  ImagesPlan<T> plan = plan_images(job, use);
  index_t weights = job.groups * job.results * job.channels * job.kernel();
  plan.packed = static_cast<T*>(scratch(kPackedWeights, (weights + 1) * sizeof(T)));
  index_t blocks = job.groups * plan.blocks, units = plan.chunks * job.groups * plan.bands * plan.parts;
  parallel(use, [&](int thread, int all) {
    for (index_t b = blocks * thread / all; b < blocks * (thread + 1) / all; b++)
      pack_block(plan, b / plan.blocks, b % plan.blocks);
    barrier(all);
    for (index_t u = units * thread / all; u < units * (thread + 1) / all; u++) {
      index_t part = u % plan.parts, rest = u / plan.parts, band = rest % plan.bands;
      index_t group = rest / plan.bands % job.groups, chunk = rest / plan.bands / job.groups;
      compute_images(plan, group, chunk * lanes<T>, band, plan.blocks * part / plan.parts,
                     plan.blocks * (part + 1) / plan.parts);
    }
  });
}

}  // namespace
}  // namespace TINYGEN_ISA
}  // namespace tinygen
