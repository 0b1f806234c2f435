// Gather without padding: lanes run over images or over results, never over pixels, so that an output multiplies
// exactly the taps that lie inside the source, whatever the size of the image, its borders or its stride.
//
// Idea       The source is transposed to [pixel][channel] (lanes over images: [pixel][channel][image]). Outputs are
//            sorted into classes, row segment x column segment, that meet the same taps. Of the nominal work of a 4 x 4
//            kernel on 8 x 8 pixels, stride 2, padding 1, that saves 23 %.
// Tile       All sums of some results and some outputs of a class stay in registers over the whole reduction. The taps
//            of one row are one run through memory, for the source and for the weights [tap][channel][result].
//            Lanes over images: weights are broadcast, kImageResults results x 2 outputs of `lanes` images each.
//            Lanes over results: the source is broadcast, 6 outputs x kResultVectors vectors of results.
// Mapping    Per thread and unit (some images, a band of rows, some blocks of results): pack the source, then for each
//            block of results and a few rows: multiply, transpose the sums to the output. The source and the block's
//            weights stream from L2 or L3, in runs so long that hardware prefetching hides it: splitting the channels
//            to fit a cache was slower throughout, by 2 to 10 % (Zen 4).
// Cost       2 flops per tap inside the source; packing takes about one cycle per element of the source.
#pragma once

#include "../parallel.h"
#include "gather.h"
#include "tile.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

#if TINYGEN_VECTOR_BYTES == 64
constexpr int kImageResults = 14;  // times two vectors: 28 of 32 registers
constexpr int kResultVectors = 4;  // times six spots
#elif TINYGEN_VECTOR_BYTES == 32
constexpr int kImageResults = 6, kResultVectors = 2;
#else
constexpr int kImageResults = 4, kResultVectors = 2;
#endif
constexpr index_t kSourceBytes = 4 << 20;  // of a packed band: a thread's share of L3, about
constexpr index_t kUnitPixels = 128;       // a unit has at least so many outputs, if images suffice: weights are reused
constexpr index_t kGroupPixels = 256;      // outputs whose sums wait, in L2, to be transposed together

struct Run {  // `length` neighbouring steps (channels, or channels of neighbouring taps)
  index_t source, weights, length;
};
struct Spot {  // an output: where its source begins and where its sums belong
  index_t source, sum;
};

// sum[j][i] = bias[i] + over all steps of all runs  weights[step][i] * source[step][j],  for M results and N spots of
// `lanes` images; bias are the first M weights. Steps of the source and sums of a spot are one vector apart.
template <class T, int M, int N>
__attribute__((noinline)) void multiply_images(const T* __restrict source, const T* __restrict weights,
                                               const Run* __restrict runs, index_t count, const Spot* __restrict spots,
                                               T* __restrict sums) {
  constexpr int L = lanes<T>;
  const T* from[N];
  Vector<T> sum[M][N];
  TINYGEN_UNROLL
  for (int j = 0; j < N; j++) from[j] = source + spots[j].source;
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) {
    Vector<T> bias = splat(weights[i]);
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) sum[i][j] = bias;
  }
  for (index_t r = 0; r < count; r++) {
    const T* factors = weights + runs[r].weights;
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
    for (int i = 0; i < M; i++) store(sums + spots[j].sum + i * L, sum[i][j]);
  }
}

// The same for M spots of one image and N vectors of results: weights and sums are N vectors a step and a spot.
template <class T, int M, int N>
__attribute__((noinline)) void multiply_results(const T* __restrict source, const T* __restrict weights,
                                                const Run* __restrict runs, index_t count, const Spot* __restrict spots,
                                                T* __restrict sums) {
  constexpr int L = lanes<T>;
  const T* from[M];
  Vector<T> sum[M][N];
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) from[i] = source + spots[i].source;
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) {
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) sum[i][j] = load(weights + j * L);
  }
  for (index_t r = 0; r < count; r++) {
    const T* factors = weights + runs[r].weights;
    index_t at = runs[r].source;
    for (index_t k = runs[r].length; k > 0; k--) {
      Vector<T> row[N];
      TINYGEN_UNROLL
      for (int j = 0; j < N; j++) row[j] = load(factors + j * L);
      TINYGEN_UNROLL
      for (int i = 0; i < M; i++) {
        Vector<T> factor = splat(from[i][at]);
        TINYGEN_UNROLL
        for (int j = 0; j < N; j++) sum[i][j] += factor * row[j];
      }
      factors += N * L;
      at++;
    }
  }
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) {
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) store(sums + spots[i].sum + j * L, sum[i][j]);
  }
}

template <class T>
using MultiplyFunction = void (*)(const T*, const T*, const Run*, index_t, const Spot*, T*);

constexpr int kMostSpots = 8;
// How many spots multiply_images takes at most: 2, more where results are so few that registers are left.
constexpr int most_spots(int results) {
  int n = 2;
  while (n < kMostSpots && 2 * n * results <= 2 * kImageResults) n *= 2;
  return n;
}

template <class T, int M, int N>
inline MultiplyFunction<T> pick_images_width(index_t spots, index_t* taken) {
  if constexpr (N > 1)
    if (spots < N) return pick_images_width<T, M, N / 2>(spots, taken);
  *taken = N;
  return multiply_images<T, M, N>;
}

// multiply_images<T, results, .> for at most `spots` spots; `taken` is how many.
template <class T, int M = kImageResults>
inline MultiplyFunction<T> pick_images(index_t results, index_t spots, index_t* taken) {
  if constexpr (M > 1)
    if (results < M) return pick_images<T, M - 1>(results, spots, taken);
  return pick_images_width<T, M, most_spots(M)>(spots, taken);
}

// How many spots multiply_results takes at most, so that the sums stay in registers.
constexpr int most_result_spots(int vectors) {
  int n = kRows * kVectors / vectors;
  return n < kMostSpots ? n : kMostSpots;
}

template <class T, int M, int N>
inline MultiplyFunction<T> pick_results_spots(index_t spots, index_t* taken) {
  if constexpr (M > 1)
    if (spots < M) return pick_results_spots<T, M == 6 ? 4 : M / 2, N>(spots, taken);
  *taken = M;
  return multiply_results<T, M, N>;
}

// multiply_results<T, ., vectors> for at most `spots` spots; `taken` is how many.
template <class T, int N = kResultVectors>
inline MultiplyFunction<T> pick_results(index_t vectors, index_t spots, index_t* taken) {
  if constexpr (N > 1)
    if (vectors < N) return pick_results<T, N - 1>(vectors, spots, taken);
  return pick_results_spots<T, most_result_spots(N), N>(spots, taken);
}

// How many vectors of results a block gets, for `vectors` in all: as many as registers allow without idle lanes.
inline index_t result_vectors(index_t vectors) {
  index_t best = 1;
  for (index_t n = 2; n <= kResultVectors; n++)
    if ((vectors + n - 1) / n * n * 15 <= (vectors + best - 1) / best * best * 16) best = n;
  return best;
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

// How one call is cut. A slot is what one lane layout holds at a time: `lanes` images, or one image.
template <class T>
struct Plan {
  Gather<T> job;
  bool over_images;                 // else over results
  index_t element, slot_images;     // elements per (pixel, channel), images per slot: both `lanes` or both 1
  index_t slots, chunks;            // slots of a chunk
  index_t bands, group_rows;        // bands of output rows; how many rows are computed before their sums are transposed
  index_t blocks, parts, vectors;   // blocks of results, in how many parts; lanes over results: vectors of a block
  Line *rows, *columns;             // of each phase
  index_t *row_base, *column_base;  // how many taps the phases before have
  Segment* column_segments;
  index_t column_count;
  index_t* rank;  // of each kernel element among the packed weights
  T* packed;

  index_t block_begin(index_t b) const {
    return over_images ? job.results * b / blocks : min(job.results, b * vectors * lanes<T>);
  }
  index_t block_width(index_t b) const {  // in the packed weights
    return over_images ? block_begin(b + 1) - block_begin(b) : vectors * lanes<T>;
  }
  index_t group_weights() const {  // of one group, each block with its biases in front
    return (over_images ? job.results : blocks * vectors * lanes<T>)*(job.channels * job.kernel() + 1);
  }
  T* panel(index_t group, index_t b) const {
    index_t before = over_images ? block_begin(b) : b * vectors * lanes<T>;
    return packed + group * group_weights() + before * (job.channels * job.kernel() + 1);
  }
  index_t band_begin(index_t b) const {
    index_t spacing = job.row_phases(), count = (job.out_height + spacing - 1) / spacing;
    return min(job.out_height, count * b / bands * spacing);
  }
  index_t rank_of(index_t fr, index_t r, index_t fc, index_t s) const {
    return row_base[fr] * job.column_axis.w + rows[fr].taps * column_base[fc] + r * columns[fc].taps + s;
  }
};

// The source rows that output rows low .. high - 1 read.
template <class T>
void source_rows(const Plan<T>& plan, index_t low, index_t high, index_t* begin, index_t* end) {
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

// The lines of all phases, their column segments and the order of the packed taps.
template <class T>
void plan_lines(Plan<T>& plan) {
  const Gather<T>& job = plan.job;
  index_t row_phases = job.row_phases(), column_phases = job.column_phases();
  size_t per_phase = sizeof(Line) + sizeof(index_t);
  char* memory =
      static_cast<char*>(scratch(kPhases, (row_phases + column_phases) * per_phase + job.out_width * sizeof(Segment) +
                                              job.kernel() * sizeof(index_t)));
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
}

template <class T>
Plan<T> make_plan(const Gather<T>& job, bool over_images, int use) {
  constexpr index_t L = lanes<T>;
  Plan<T> plan = {};
  plan.job = job;
  plan_lines(plan);
  plan.over_images = over_images;
  plan.element = plan.slot_images = over_images ? L : 1;
  plan.vectors = result_vectors((job.results + L - 1) / L);
  index_t most_block = over_images ? kImageResults : plan.vectors * L;
  plan.blocks = (job.results + most_block - 1) / most_block;

  index_t spacing = job.row_phases(), rows = (job.out_height + spacing - 1) / spacing;  // counted in `spacing` rows
  index_t all_slots = (job.images + plan.slot_images - 1) / plan.slot_images;
  index_t row_bytes = max(1, job.width * job.channels * plan.element * static_cast<index_t>(sizeof(T)));
  index_t most_slots =
      min(kUnitPixels / (job.out_height * job.out_width), kSourceBytes / (row_bytes * max(1, job.height)));
  plan.slots = max(1, min(most_slots, all_slots / use));
  plan.chunks = (all_slots + plan.slots - 1) / plan.slots;
  plan.bands = max(1, min(rows, job.height * row_bytes / kSourceBytes));
  plan.parts = 1;
  auto uneven = [&] {  // do threads idle for more than a tenth of the time?
    index_t units = plan.chunks * job.groups * plan.bands * plan.parts;
    return units * 10 < (units + use - 1) / use * use * 9;
  };
  while (uneven() && plan.bands * 4 <= rows) plan.bands++;
  while (uneven() && plan.parts < plan.blocks) plan.parts++;
  index_t band_rows = (rows + plan.bands - 1) / plan.bands;
  index_t groups = max(1, plan.slots * band_rows * spacing * job.out_width / kGroupPixels);
  plan.group_rows = max(1, (band_rows + groups - 1) / groups) * spacing;
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

// One block of weights: its biases, then [tap][channel][result].
template <class T>
void pack_block(const Plan<T>& plan, index_t group, index_t block) {
  constexpr index_t L = lanes<T>;
  const Gather<T>& job = plan.job;
  index_t kernel = job.kernel(), pitch = job.result_pitch(), width = plan.block_width(block);
  index_t m0 = plan.block_begin(block), results = plan.block_begin(block + 1) - m0;
  const T* from = job.weights + group * job.results * job.channels * kernel + m0 * pitch;
  T* to = plan.panel(group, block);
  for (index_t m = 0; m < width; m++) *to++ = job.bias && m < results ? job.bias[group * job.results + m0 + m] : T(0);
  auto place = [&](index_t c, index_t t) { return to + (plan.rank[t] * job.channels + c) * width; };
  // A stretch of weights of one result is contiguous: all channels of a conv, one of a conv_transpose.
  index_t length = job.transposed ? kernel : job.channels * kernel, stretches = job.transposed ? job.channels : 1;
  index_t last_whole = width <= L ? job.channels - (L + width - 1) / width : -1;
  for (index_t stretch = 0; stretch < stretches; stretch++, from += job.channel_pitch()) {
    if (length < L) {
      for (index_t e = 0; e < length; e++)
        for (index_t m = 0; m < width; m++)
          place(stretch + e / kernel, e % kernel)[m] = m < results ? from[m * pitch + e] : T(0);
      continue;
    }
    for (index_t e = 0; e < length; e += L)
      for (index_t m = 0; m < width; m += L) {
        e = min(e, length - L);  // the last vector repeats what the one before has done
        index_t c = stretch + e / kernel, t = e % kernel;
        alignas(64) T turned[L * L];
        transpose_rows(from + m * pitch + e, pitch, max(0, min(L, results - m)), turned);
        for (index_t i = 0; i < L; i++) {
          // Whole vectors, if they end in the block or in channels that come later.
          if (m + L <= width || c <= last_whole)
            store(place(c, t) + m, load(turned + i * L));
          else
            copy_exactly(place(c, t) + m, turned + i * L, width - m);
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

// A part of [image][channel][pixel] that is walked in vectors of pixels: `stretches` contiguous pieces of `length`.
struct Pieces {
  index_t pixels, stretches, length;
};
inline Pieces pieces_of(index_t channels, index_t pixels, index_t plane) {  // whole planes follow each other
  return pixels == plane ? Pieces{pixels, 1, channels * pixels} : Pieces{pixels, channels, pixels};
}

// Source rows begin .. end - 1 of all channels of a group and one slot, as [pixel][channel][image]. Lanes beyond the
// last image hold the last image once more.
template <class T>
void pack_source(const Gather<T>& job, bool over_images, index_t group, index_t image, index_t begin, index_t end,
                 T* __restrict to) {
  constexpr index_t L = lanes<T>;
  index_t plane = job.height * job.width, channels = job.channels, image_pitch = job.groups * channels * plane;
  const Pieces pieces = pieces_of(channels, (end - begin) * job.width, plane);
  const T* base = job.source + image * image_pitch + group * channels * plane + begin * job.width;
  if (!over_images) return transpose_copy(base, plane, channels, pieces.pixels, to, channels);
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

// The sums of one slot, [pixel][result of a block][image], of output rows low .. high - 1 to the output; the block has
// `results` results from m0 on, `width` with its padding.
template <class T>
void write_sums(const Gather<T>& job, bool over_images, index_t group, index_t m0, index_t results, index_t width,
                index_t image, index_t low, index_t high, const T* __restrict from) {
  constexpr index_t L = lanes<T>;
  index_t plane = job.out_height * job.out_width, image_pitch = job.groups * job.results * plane;
  const Pieces pieces = pieces_of(results, (high - low) * job.out_width, plane);
  index_t count = min(L, job.images - image);
  T* base = job.out + image * image_pitch + (group * job.results + m0) * plane + low * job.out_width;
  if (!over_images) return transpose_copy(from, width, pieces.pixels, results, base, plane);
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

// Some output rows of all slots of a chunk, for one block of results: what is multiplied together.
template <class T>
struct Group {
  const T *source, *weights;
  T* sums;
  index_t slots, slot_source, slot_sums;  // distances from slot to slot
  index_t source_low, low;                // the first packed source row, the first output row
  index_t width, results;                 // of the block
};

// All outputs of one class.
template <class T>
void compute_class(const Plan<T>& plan, const Group<T>& group, const Segment& row, const Segment& column, Run* runs) {
  const Gather<T>& job = plan.job;
  const Line &rows = plan.rows[row.phase], &columns = plan.columns[column.phase];
  index_t pixel = job.channels * plan.element, count = 0;  // pixel: elements of the packed source
  for (index_t r = 0; r < row.taps; r++)
    for (index_t s = 0; s < column.taps; s++) {
      index_t at = (r * rows.move * job.width + s * columns.move) * pixel;
      index_t step = plan.rank_of(row.phase, row.tap + r, column.phase, column.tap + s) * job.channels + 1;
      Run* last = runs + count - 1;
      if (count > 0 && last->source + last->length * plan.element == at &&
          last->weights + last->length * group.width == step * group.width)
        last->length += job.channels;
      else
        runs[count++] = {at, step * group.width, job.channels};
    }
  index_t most = plan.over_images ? most_spots(static_cast<int>(group.width))
                                  : most_result_spots(static_cast<int>(plan.vectors)),
          waiting = 0, taken;
  index_t sums = group.width * plan.element;  // of one output
  Spot spots[kMostSpots];
  auto multiply = [&](const Spot* some, index_t number) {
    (plan.over_images ? pick_images<T>(group.width, number, &taken) : pick_results<T>(plan.vectors, number, &taken))(
        group.source, group.weights, runs, count, some, group.sums);
  };
  for (index_t slot = 0; slot < group.slots; slot++)
    for (index_t j = row.begin; j < row.end; j++) {
      index_t source_row = (rows.step * j + rows.start + row.tap * rows.move - group.source_low) * job.width;
      index_t out_row = (rows.origin + rows.spacing * j - group.low) * job.out_width;
      for (index_t q = column.begin; q < column.end; q++) {
        index_t source = source_row + columns.step * q + columns.start + column.tap * columns.move;
        index_t out = out_row + columns.origin + columns.spacing * q;
        spots[waiting++] = {count > 0 ? slot * group.slot_source + source * pixel : 0,
                            slot * group.slot_sums + out * sums};
        if (waiting < most) continue;
        multiply(spots, most);
        waiting = 0;
      }
    }
  for (index_t i = 0; i < waiting; i += taken) multiply(spots + i, waiting - i);
}

// Band `band` of one chunk and group, blocks b0 .. b1 - 1.
template <class T>
void compute_unit(const Plan<T>& plan, index_t group, index_t chunk, index_t band, index_t b0, index_t b1) {
  const Gather<T>& job = plan.job;
  index_t begin, end, band_low = plan.band_begin(band), band_high = plan.band_begin(band + 1);
  source_rows(plan, band_low, band_high, &begin, &end);
  index_t image = chunk * plan.slots * plan.slot_images;
  index_t slots = min(plan.slots, (job.images - image + plan.slot_images - 1) / plan.slot_images);
  index_t slot_source = (end - begin) * job.width * job.channels * plan.element;
  index_t most_sums = slots * plan.group_rows * job.out_width * plan.element *
                      (plan.over_images ? kImageResults : plan.vectors * lanes<T>);
  T* source = static_cast<T*>(scratch(kWindow, slots * slot_source * sizeof(T)));
  T* sums = static_cast<T*>(scratch(kTile, most_sums * sizeof(T)));
  Run* runs = static_cast<Run*>(scratch(kTaps, job.kernel() * sizeof(Run)));
  Segment* segments = static_cast<Segment*>(scratch(kPixelOffsets, plan.group_rows * sizeof(Segment)));
  for (index_t slot = 0; slot < slots; slot++)
    pack_source(job, plan.over_images, group, image + slot * plan.slot_images, begin, end, source + slot * slot_source);
  for (index_t b = b0; b < b1; b++)
    for (index_t low = band_low; low < band_high; low += plan.group_rows) {
      index_t high = min(band_high, low + plan.group_rows), m0 = plan.block_begin(b), width = plan.block_width(b);
      index_t slot_sums = (high - low) * job.out_width * width * plan.element;
      const Group<T> here = {source, plan.panel(group, b),        sums, slots, slot_source, slot_sums, begin, low,
                             width,  plan.block_begin(b + 1) - m0};
      index_t row_count = find_segments(plan.rows, job.row_phases(), low, high, segments);
      for (index_t r = 0; r < row_count; r++)
        for (index_t s = 0; s < plan.column_count; s++)
          compute_class(plan, here, segments[r], plan.column_segments[s], runs);
      for (index_t slot = 0; slot < slots; slot++)
        write_sums(job, plan.over_images, group, m0, here.results, width, image + slot * plan.slot_images, low, high,
                   sums + slot * slot_sums);
    }
}

template <class T>
void gather_exactly(const Gather<T>& job, bool over_images, int use) {
  Plan<T> plan = make_plan(job, over_images, use);
  plan.packed = static_cast<T*>(scratch(kPackedWeights, job.groups * plan.group_weights() * sizeof(T)));
  index_t blocks = job.groups * plan.blocks, units = plan.chunks * job.groups * plan.bands * plan.parts;
  parallel(use, [&](int thread, int all) {
    for (index_t b = blocks * thread / all; b < blocks * (thread + 1) / all; b++)
      pack_block(plan, b / plan.blocks, b % plan.blocks);
    barrier(all);
    for (index_t u = units * thread / all; u < units * (thread + 1) / all; u++) {
      index_t part = u % plan.parts, rest = u / plan.parts, band = rest % plan.bands;
      index_t group = rest / plan.bands % job.groups, chunk = rest / plan.bands / job.groups;
      compute_unit(plan, group, chunk, band, plan.blocks * part / plan.parts, plan.blocks * (part + 1) / plan.parts);
    }
  });
}

}  // namespace
}  // namespace TINYGEN_ISA
}  // namespace tinygen
