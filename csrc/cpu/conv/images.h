// Gather with lanes over images: whatever the size of the image, its borders or its stride, no lane idles and no
// padding is multiplied.
//
// Idea       A chunk of images is transposed to [pixel][channel][image], a block of channels at a time. An output then
//            reads whole vectors at its taps and meets only the taps that lie inside the source: outputs are sorted into
//            classes (row segment x column segment) that the same taps reach, so nothing is padded, masked or
//            multiplied by zero. 24 % of the nominal work of a 4 x 4 kernel on 8 x 8 pixels, stride 2, lies on padding.
// Tile       kImageResults results x 2 vectors (any two outputs of a class) stay in registers over all taps and a block
//            of channels. The taps of one row are one run through memory: source [pixel][channel], weights
//            [tap][channel][result].
// Blocking   Channels inside: sums [pixel][result][image] wait between blocks of channels; the source of a block and
// the
//            sums share L2, the weights of one block of results and channels stay in L1 over all outputs.
// Cost       2 flops per tap inside the source. Packing about 0.3 cycles per element read and written.
#pragma once

#include <cstdlib>

#include "gather.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

#if TINYGEN_VECTOR_BYTES == 64
constexpr int kImageResults = 12;  // of 32 registers, with two vectors each
#elif TINYGEN_VECTOR_BYTES == 32
constexpr int kImageResults = 6;
#else
constexpr int kImageResults = 4;
#endif

inline index_t knob(const char* name, index_t other) {
  const char* v = getenv(name);
  return v ? atoll(v) : other;
}

struct Run {
  index_t source, weights, length;  // length steps: weights counts steps, source elements
};
struct Spot {  // a vector of results: where its source and its sums begin
  index_t source, sum;
};

// sum[i][j] (+)= over all steps of all runs of  weights[step][i] * source[step][j],  for M results and the vectors of N
// spots. Sums of result i are at sums + spot.sum + i * pitch, steps of the source `pitch` apart. `first`: start from
// init (null: zero).
template <class T, int M, int N>
__attribute__((noinline)) void multiply(const T* __restrict source, const T* __restrict weights,
                                        const Run* __restrict runs, index_t count, const Spot* __restrict spots,
                                        index_t pitch, const T* __restrict init, bool first, T* __restrict sums) {
  constexpr int L = lanes<T>;
  const T* from[N];
  Vector<T> sum[M][N];
  TINYGEN_UNROLL
  for (int j = 0; j < N; j++) from[j] = source + spots[j].source;
  TINYGEN_UNROLL
  for (int j = 0; j < N; j++) {
    const T* old = sums + spots[j].sum;
    TINYGEN_UNROLL
    for (int i = 0; i < M; i++) sum[i][j] = !first ? load(old + i * pitch) : init ? splat(init[i]) : Vector<T>{};
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
      at += pitch;
    }
  }
  TINYGEN_UNROLL
  for (int j = 0; j < N; j++) {
    T* to = sums + spots[j].sum;
    TINYGEN_UNROLL
    for (int i = 0; i < M; i++) store(to + i * pitch, sum[i][j]);
  }
  (void)L;
}

template <class T>
using MultiplyFunction = void (*)(const T*, const T*, const Run*, index_t, const Spot*, index_t, const T*, bool, T*);

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
  index_t vectors, chunk, chunks;      // images of a chunk: vectors * lanes
  index_t band_rows, bands;            // output rows
  index_t blocks, parts;               // blocks of results; in how many parts they are computed
  index_t channel_block;
  Line *rows, *columns;                // by phase
  index_t *row_base, *column_base;     // taps of the phases before
  Segment* column_segments;
  index_t column_count;
  index_t* rank;                       // of each kernel element among the packed weights
  T* packed;

  index_t block_begin(index_t b) const { return job.results * b / blocks; }
  const Line& row(const Segment& s) const { return rows[s.phase]; }
  // The first step, counted in taps, of a phase's packed weights.
  index_t phase_base(index_t fr, index_t fc) const {
    return row_base[fr] * job.column_axis.w + rows[fr].taps * column_base[fc];
  }
  T* panel(index_t group, index_t m0, index_t results, index_t channel) const {
    return packed + (group * job.results * job.channels + m0 * job.channels + channel * results) * job.kernel();
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
  constexpr index_t L = lanes<T>, size = sizeof(T);
  const index_t kSource = knob("K_SOURCE", 256) << 10, kSums = knob("K_SUMS", 512) << 10, kDepth = knob("K_DEPTH", 256);
  ImagesPlan<T> plan = {};
  plan.job = job;
  index_t row_phases = job.row_phases(), column_phases = job.column_phases();
  char* memory = static_cast<char*>(scratch(
      kPhases, (row_phases + column_phases) * (sizeof(Line) + sizeof(index_t)) + job.out_width * sizeof(Segment) +
                   job.kernel() * sizeof(index_t)));
  plan.rows = reinterpret_cast<Line*>(memory);
  plan.columns = plan.rows + row_phases;
  plan.column_segments = reinterpret_cast<Segment*>(plan.columns + column_phases);
  plan.row_base = reinterpret_cast<index_t*>(plan.column_segments + job.out_width);
  plan.column_base = plan.row_base + row_phases;
  plan.rank = plan.column_base + column_phases;
  index_t most_row_taps = 1, most_column_taps = 1;
  for (index_t f = 0, taps = 0; f < row_phases; f++) {
    plan.rows[f] = job.row_line(f);
    plan.row_base[f] = taps;
    taps += plan.rows[f].taps;
    most_row_taps = max(most_row_taps, plan.rows[f].taps);
  }
  for (index_t f = 0, taps = 0; f < column_phases; f++) {
    plan.columns[f] = job.column_line(f);
    plan.column_base[f] = taps;
    taps += plan.columns[f].taps;
    most_column_taps = max(most_column_taps, plan.columns[f].taps);
  }
  for (index_t fr = 0; fr < row_phases; fr++)
    for (index_t fc = 0; fc < column_phases; fc++)
      for (index_t r = 0; r < plan.rows[fr].taps; r++)
        for (index_t s = 0; s < plan.columns[fc].taps; s++)
          plan.rank[(plan.rows[fr].first + r * plan.rows[fr].every) * job.column_axis.w + plan.columns[fc].first +
                    s * plan.columns[fc].every] =
              plan.phase_base(fr, fc) + r * plan.columns[fc].taps + s;
  plan.column_count = find_segments(plan.columns, column_phases, 0, job.out_width, plan.column_segments);

  index_t vectors = (job.images + L - 1) / L;
  plan.vectors = vectors % 2 == 0 && vectors >= 2 * use ? knob("K_VECTORS", 1) : 1;
  plan.chunk = plan.vectors * L;
  plan.chunks = (vectors + plan.vectors - 1) / plan.vectors;
  plan.blocks = (job.results + kImageResults - 1) / kImageResults;
  index_t depth = max(1, kDepth / (most_row_taps * most_column_taps));
  index_t channel_blocks = max(1, (job.channels + depth - 1) / depth);
  plan.channel_block = max(1, (job.channels + channel_blocks - 1) / channel_blocks);
  index_t rows = job.out_height, parts = 1;
  auto source_bytes = [&](index_t count) {
    index_t begin, end, most = 0;
    for (index_t low = 0; low < job.out_height; low += count) {
      source_rows(plan, low, min(low + count, job.out_height), &begin, &end);
      most = max(most, end - begin);
    }
    return most * job.width * plan.channel_block * plan.chunk * size;
  };
  auto sum_bytes = [&](index_t count) {
    index_t results = plan.channel_block >= job.channels ? kImageResults : (job.results + parts - 1) / parts;
    return count * job.out_width * results * plan.chunk * size;
  };
  while (rows > 1 && source_bytes(rows) > kSource) rows = (rows + 1) / 2;
  while (plan.channel_block > 8 && source_bytes(rows) > kSource) plan.channel_block = (plan.channel_block + 1) / 2;
  while (sum_bytes(rows) > kSums && (job.results + parts - 1) / parts >= knob("K_PART", 192)) parts++;
  while (rows > 1 && sum_bytes(rows) > kSums) rows = (rows + 1) / 2;
  index_t units = plan.chunks * job.groups;
  while (rows > 1 && units * ((job.out_height + rows - 1) / rows) < use) rows = (rows + 1) / 2;
  plan.bands = (job.out_height + rows - 1) / rows;
  plan.band_rows = (job.out_height + plan.bands - 1) / plan.bands;
  units *= plan.bands;
  if (units * parts < use) parts = (use + units - 1) / units;
  plan.parts = min(parts, plan.blocks);
  if (getenv("K_PRINT"))
    __builtin_printf("V %lld chunks %lld rows %lld bands %lld cb %lld parts %lld blocks %lld source %lld K sums %lld K\n", plan.vectors, plan.chunks, plan.band_rows, plan.bands, plan.channel_block, plan.parts, plan.blocks, source_bytes(plan.band_rows) >> 10, sum_bytes(plan.band_rows) >> 10);
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

// The weights of one block of results, [channel block][tap][channel][result].
template <class T>
void pack_block(const ImagesPlan<T>& plan, index_t group, index_t block) {
  constexpr index_t L = lanes<T>;
  const Gather<T>& job = plan.job;
  index_t kernel = job.kernel(), m0 = plan.block_begin(block), results = plan.block_begin(block + 1) - m0;
  const T* from = job.weights + group * job.results * job.channels * kernel + m0 * job.result_pitch();
  index_t pitch = job.result_pitch();
  for (index_t c0 = 0; c0 < job.channels; c0 += plan.channel_block) {
    index_t channels = min(plan.channel_block, job.channels - c0);
    T* to = plan.panel(group, m0, results, c0);
    // A stretch of weights of one result is contiguous: all channels of a conv, one of a conv_transpose.
    index_t length = job.transposed ? kernel : channels * kernel, stretches = job.transposed ? channels : 1;
    for (index_t stretch = 0; stretch < stretches; stretch++) {
      const T* source = from + (c0 + stretch) * job.channel_pitch();
      index_t c = stretch, t = 0;
      if (length < L) {
        for (; t < length; t++)
          for (index_t m = 0; m < results; m++) to[(plan.rank[t % kernel] * channels + c + t / kernel) * results + m] = source[m * pitch + t];
        continue;
      }
      for (index_t e = 0; e < length; e += L)
        for (index_t m = 0; m < results; m += L) {
          e = min(e, length - L);  // the last vector repeats what the one before has done
          index_t count = min(L, results - m);
          alignas(64) T turned[L * L];
          transpose_rows(source + m * pitch + e, pitch, count, turned);
          c = stretch + e / kernel;
          t = e % kernel;
          // A whole vector where its excess falls on channels that come later.
          index_t last = results <= L ? channels - (L + results - 1) / results : -1;
          for (index_t i = 0; i < L; i++) {
            T* place = to + (plan.rank[t] * channels + c) * results + m;
            if (c <= last)
              store(place, load(turned + i * L));
            else
              copy_exactly(place, turned + i * L, count);
            if (++t == kernel) t = 0, c++;
          }
        }
    }
  }
}

// Offsets into [pixel][channel][image] (pitch: images) of L elements of [channel][pixel], from number e on.
template <class T>
TINYGEN_INLINE void find_places(index_t e, index_t pixels, index_t channels, index_t pitch, index_t* at) {
  index_t channel = e / pixels, pixel = e % pixels, next = (pixel * channels + channel) * pitch;
  TINYGEN_UNROLL
  for (int i = 0; i < lanes<T>; i++) {
    at[i] = next;
    next += channels * pitch;
    if (++pixel == pixels) {
      pixel = 0;
      next = ++channel * pitch;
    }
  }
}

// Source rows begin .. end - 1 of `channels` channels of a chunk, as [pixel][channel][image]. Lanes beyond the last
// image hold the last image once more.
template <class T>
void pack_source(const ImagesPlan<T>& plan, index_t group, index_t channel, index_t channels, index_t image,
                 index_t begin, index_t end, T* __restrict to) {
  constexpr index_t L = lanes<T>;
  const Gather<T>& job = plan.job;
  index_t plane = job.height * job.width, pixels = (end - begin) * job.width;
  index_t image_pitch = job.groups * job.channels * plane;
  bool whole = pixels == plane;
  index_t stretches = whole ? 1 : channels, length = whole ? channels * pixels : pixels;
  if (length == 0) return;
  for (index_t v = 0; v < plan.vectors; v++, to += L) {
    index_t first = min(image + v * L, job.images - 1);
    const T* base = job.source + first * image_pitch + (group * job.channels + channel) * plane + begin * job.width;
    index_t offset[L];
    for (index_t i = 0; i < L; i++) offset[i] = min(i, job.images - 1 - first) * image_pitch;
    for (index_t stretch = 0; stretch < stretches; stretch++, base += plane) {
      if (length < L) {
        for (index_t e = 0; e < length; e++)
          for (index_t i = 0; i < L; i++) {
            index_t c = stretch + e / pixels;
            to[(e % pixels * channels + c) * plan.chunk + i] = base[offset[i] + e];
          }
        continue;
      }
      for (index_t e = 0; e < length; e += L) {
        e = min(e, length - L);  // the last vector repeats what the one before has done
        Vector<T> rows[L];
        index_t at[L];
        TINYGEN_UNROLL
        for (int i = 0; i < L; i++) rows[i] = load(base + offset[i] + e);
        find_places<T>(stretch * pixels + e, pixels, channels, plan.chunk, at);
        transpose<T>(rows);
        TINYGEN_UNROLL
        for (int i = 0; i < L; i++) store(to + at[i], rows[i]);
      }
    }
  }
}

// The sums [pixel][result of `width`][image] of results m0 .. m0 + results - 1 and output rows low .. high - 1 to the
// output.
template <class T>
void write_results(const ImagesPlan<T>& plan, index_t group, index_t m0, index_t results, index_t image, index_t low,
                   index_t high, const T* __restrict sums, index_t width) {
  constexpr index_t L = lanes<T>;
  const Gather<T>& job = plan.job;
  index_t plane = job.out_height * job.out_width, pixels = (high - low) * job.out_width;
  index_t image_pitch = job.groups * job.results * plane;
  bool whole = pixels == plane;
  index_t stretches = whole ? 1 : results, length = whole ? results * pixels : pixels;
  for (index_t v = 0; v < plan.vectors; v++, sums += L) {
    index_t first = image + v * L, count = min(L, job.images - first);
    T* base = job.out + first * image_pitch + (group * job.results + m0) * plane + low * job.out_width;
    for (index_t stretch = 0; stretch < stretches; stretch++, base += plane) {
      if (length < L) {
        for (index_t e = 0; e < length; e++)
          for (index_t i = 0; i < count; i++) {
            index_t m = stretch + e / pixels;
            base[i * image_pitch + e] = sums[(e % pixels * width + m) * plan.chunk + i];
          }
        continue;
      }
      for (index_t e = 0; e < length; e += L) {
        e = min(e, length - L);
        Vector<T> rows[L];
        index_t at[L];
        find_places<T>(stretch * pixels + e, pixels, width, plan.chunk, at);
        TINYGEN_UNROLL
        for (int i = 0; i < L; i++) rows[i] = load(sums + at[i]);
        transpose<T>(rows);
        TINYGEN_UNROLL
        for (int i = 0; i < L; i++)
          if (i < count) store(base + i * image_pitch + e, rows[i]);
      }
    }
  }
}

// All outputs of one class, for the results of one block.
template <class T>
void compute_class(const ImagesPlan<T>& plan, const Segment& row, const Segment& column, index_t channels,
                   index_t source_low, index_t low, const T* source, const T* weights, index_t results, const T* bias,
                   bool first, T* sums, index_t width, Run* runs) {
  constexpr index_t L = lanes<T>;
  const Gather<T>& job = plan.job;
  const Line &rows = plan.rows[row.phase], &columns = plan.columns[column.phase];
  index_t pixel = channels * plan.chunk, count = 0;  // pixel: elements of the source
  for (index_t r = 0; r < row.taps; r++)
    for (index_t s = 0; s < column.taps; s++) {
      index_t at = (r * rows.move * job.width + s * columns.move) * pixel;
      index_t step = (plan.phase_base(row.phase, column.phase) + (row.tap + r) * columns.taps + column.tap + s) * channels;
      Run* last = runs + count - 1;
      if (count > 0 && last->source + last->length * plan.chunk == at && last->weights + last->length == step)
        last->length += channels;
      else
        runs[count++] = {at, step, channels};
    }
  index_t most = most_spots(results), waiting = 0, taken;
  Spot spots[kMostSpots];
  for (index_t j = row.begin; j < row.end; j++) {
    index_t source_row = (rows.step * j + rows.start + row.tap * rows.move - source_low) * job.width;
    index_t out_row = (rows.origin + rows.spacing * j - low) * job.out_width;
    for (index_t q = column.begin; q < column.end; q++) {
      index_t from = (source_row + columns.step * q + columns.start + column.tap * columns.move) * pixel;
      index_t to = (out_row + columns.origin + columns.spacing * q) * width * plan.chunk;
      for (index_t v = 0; v < plan.vectors; v++) {
        spots[waiting++] = {count > 0 ? from + v * L : 0, to + v * L};
        if (waiting < most) continue;
        pick_multiply<T>(results, most, &taken)(source, weights, runs, count, spots, plan.chunk, bias, first, sums);
        waiting = 0;
      }
    }
  }
  for (index_t i = 0; i < waiting; i += taken)
    pick_multiply<T>(results, waiting - i, &taken)(source, weights, runs, count, spots + i, plan.chunk, bias, first,
                                                   sums);
}

// Output rows low .. high - 1 of one chunk and group, blocks b0 .. b1 - 1.
template <class T>
void compute_images(const ImagesPlan<T>& plan, index_t group, index_t image, index_t low, index_t high, index_t b0,
                    index_t b1) {
  const Gather<T>& job = plan.job;
  index_t begin, end, pixels = (high - low) * job.out_width;
  source_rows(plan, low, high, &begin, &end);
  bool single = plan.channel_block >= job.channels;  // then a block of results is finished at once
  index_t part_begin = plan.block_begin(b0), width = single ? 0 : plan.block_begin(b1) - part_begin;
  T* source = static_cast<T*>(
      scratch(kWindow, (end - begin) * job.width * plan.channel_block * plan.chunk * sizeof(T)));
  T* sums = static_cast<T*>(scratch(kTile, pixels * (single ? kImageResults : width) * plan.chunk * sizeof(T)));
  Run* runs = static_cast<Run*>(scratch(kTaps, job.kernel() * sizeof(Run)));
  Segment* row_segments = static_cast<Segment*>(scratch(kPixelOffsets, (high - low) * sizeof(Segment)));
  index_t row_count = find_segments(plan.rows, job.row_phases(), low, high, row_segments);
  index_t channel = 0;
  do {  // at least once: without channels the result is the bias
    index_t channels = min(plan.channel_block, job.channels - channel);
    pack_source(plan, group, channel, channels, image, begin, end, source);
    for (index_t b = b0; b < b1; b++) {
      index_t m0 = plan.block_begin(b), results = plan.block_begin(b + 1) - m0;
      const T* weights = plan.panel(group, m0, results, channel);
      const T* bias = job.bias ? job.bias + group * job.results + m0 : nullptr;
      if (single) width = results;
      T* block = sums + (single ? 0 : (m0 - part_begin) * plan.chunk);
      for (index_t r = 0; r < row_count; r++)
        for (index_t s = 0; s < plan.column_count; s++)
          compute_class(plan, row_segments[r], plan.column_segments[s], channels, begin, low, source, weights, results,
                        bias, channel == 0, block, width, runs);
      if (channel + channels == job.channels) write_results(plan, group, m0, results, image, low, high, block, width);
    }
    channel += channels;
  } while (channel < job.channels);
}

template <class T>
void gather_images(const Gather<T>& job, int use) {
  ImagesPlan<T> plan = plan_images(job, use);
  plan.packed = static_cast<T*>(
      scratch(kPackedWeights, (job.groups * job.results * job.channels * job.kernel() + 1) * sizeof(T)));
  index_t blocks = job.groups * plan.blocks, units = plan.chunks * job.groups * plan.bands * plan.parts;
  parallel(use, [&](int thread, int all) {
    for (index_t b = blocks * thread / all; b < blocks * (thread + 1) / all; b++)
      pack_block(plan, b / plan.blocks, b % plan.blocks);
    barrier(all);
    for (index_t u = units * thread / all; u < units * (thread + 1) / all; u++) {
      index_t part = u % plan.parts, band = u / plan.parts % plan.bands, group = u / plan.parts / plan.bands % job.groups;
      index_t chunk = u / plan.parts / plan.bands / job.groups, low = band * plan.band_rows;
      compute_images(plan, group, chunk * plan.chunk, low, min(low + plan.band_rows, job.out_height),
                     plan.blocks * part / plan.parts, plan.blocks * (part + 1) / plan.parts);
    }
  });
}

}  // namespace
}  // namespace TINYGEN_ISA
}  // namespace tinygen
