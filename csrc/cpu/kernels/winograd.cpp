// conv_winograd: convolutions of 3x3 kernels at stride 1 with a quarter of the multiplications.
//
// Contract   float32 or float64, stride 1, dilation 1, one group, any pads and sizes. transposed = false: y of conv;
//            transposed = true: x of conv_transpose, which is the same with the kernel turned around, its channels
//            exchanged and pad 2 - pad. Results do not depend on the number of threads.
// Idea       F(4x4, 3x3) of Lavin and Gray, 2016: a tile of 4 x 4 results reads 6 x 6 of the source, and
//                result = A' [ sum over channels of (G w G') * (B' source B) ] A
//            where * is elementwise. Per channel that is 36 products for 16 results, where the definition takes 144.
//            The sum is 36 independent matrix products [results x channels] [channels x tiles]: one per "frequency" f.
// Mapping    A thread has a share of all tiles (of all images, row by row) and takes them in panels of up to
// kPanelTiles
//            vectors. For each channel: split the rows that the panel reads by column modulo 4 (`split_row`), so that
//            lanes run over neighbouring tiles, put the pieces of all tile rows one behind the other (`gather_tiles`),
//            transform. Then the 36 products with the register tile of tile.h for a block of results, and the way back.
// Cost       36 / 16 * 2 flops per result and channel, and about 500 instructions per channel, 300 per result for each
//            vector of tiles. Bytes: transformed filters (4 x the weights) once per panel, 9/4 of the source per panel.
// Error      rms 1e-6, at most 1.5e-5 of the largest result in float32 (the direct kernels: 2e-7): the coefficients
//            of A, B and G are not small integers only. tests/test_winograd.py measures it against float64.
#include "cpu/conv/tile.h"
#include "cpu/parallel.h"
#include "cpu/table.h"
#include "cpu/vector.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

constexpr index_t kSide = 4, kReach = 6, kFrequencies = kReach * kReach;
constexpr index_t kPanelTiles = kVectors;  // vectors of tiles in a panel: what the register tile takes
constexpr index_t kSumBytes = 224 << 10;   // products of a block of results, in L2
constexpr index_t kApart = 80;             // elements between frequencies: else all fall into one set of L1

template <class T>
struct Problem {
  const T *source, *w, *bias;
  T* out;
  bool transposed;
  index_t images, channels, height, width;  // of the source
  index_t results, out_height, out_width;   // of the result
  index_t row_pad, column_pad;
  index_t tile_rows, tile_columns, tiles;  // tiles: of all images
};

// 1-D transform B' of six values, `from` and `to` apart by their steps.
template <class T>
TINYGEN_INLINE void into_frequencies(const Vector<T>* d, int step, Vector<T>* to, int to_step) {
  Vector<T> four = splat(T(4)), five = splat(T(5)), two = splat(T(2));
  Vector<T> d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
  Vector<T> even = d4 - four * d2, odd = d3 - four * d1, even2 = d4 - d2, odd2 = two * (d3 - d1);
  to[0] = four * d0 - five * d2 + d4;
  to[to_step] = even + odd;
  to[2 * to_step] = even - odd;
  to[3 * to_step] = even2 + odd2;
  to[4 * to_step] = even2 - odd2;
  to[5 * to_step] = four * d1 - five * d3 + d5;
}

// 1-D transform A' of six values to four.
template <class T>
TINYGEN_INLINE void out_of_frequencies(const Vector<T>* m, int step, Vector<T>* to, int to_step) {
  Vector<T> sum1 = m[step] + m[2 * step], difference1 = m[step] - m[2 * step];
  Vector<T> sum2 = m[3 * step] + m[4 * step], difference2 = m[3 * step] - m[4 * step];
  to[0] = m[0] + sum1 + sum2;
  to[to_step] = difference1 + splat(T(2)) * difference2;
  to[2 * to_step] = sum1 + splat(T(4)) * sum2;
  to[3 * to_step] = difference1 + splat(T(8)) * difference2 + m[5 * step];
}

// 1-D transform G of three values to six.
template <class T>
TINYGEN_INLINE void filter_frequencies(Vector<T> a, Vector<T> b, Vector<T> c, Vector<T>* to, int to_step) {
  Vector<T> ends = splat(T(-1) / 6) * (a + c), middle = splat(T(1) / 6) * b;
  Vector<T> wide = splat(T(1) / 24) * a + splat(T(1) / 6) * c, narrow = splat(T(1) / 12) * b;
  to[0] = splat(T(0.25)) * a;
  to[to_step] = ends - middle;
  to[2 * to_step] = ends + middle;
  to[3 * to_step] = wide + narrow;
  to[4 * to_step] = wide - narrow;
  to[5 * to_step] = c;
}

// Filters of channels [begin, end) as [frequency][block of kRows results][channel][kRows]; `apart` from one frequency
// to the next. Lanes run over results.
template <class T>
void transform_filters(const Problem<T>& job, index_t begin, index_t end, T* __restrict to, index_t apart) {
  constexpr index_t L = lanes<T>;
  index_t padded = (job.results + L - 1) / L * L, blocks = (job.results + kRows - 1) / kRows;
  // w is (result, channel, tap) of conv and (channel, result, tap), taps backwards, of conv_transpose.
  index_t step_result = job.transposed ? 9 : job.channels * 9, step_channel = job.transposed ? job.results * 9 : 9;
  T* taps = static_cast<T*>(scratch(kTransposed, 9 * padded * sizeof(T)));                  // [tap][result]
  T* row = static_cast<T*>(scratch(kWindow, kFrequencies * (padded + kRows) * sizeof(T)));  // [f][result]
  for (index_t i = 0; i < 9 * padded; i++) taps[i] = 0;
  for (index_t i = 0; i < kFrequencies * (padded + kRows); i++) row[i] = 0;
  for (index_t c = begin; c < end; c++) {
    const T* from = job.w + c * step_channel;
    for (index_t k = 0; k < job.results; k++, from += step_result)
      for (index_t t = 0; t < 9; t++) taps[(job.transposed ? 8 - t : t) * padded + k] = from[t];
    for (index_t k = 0; k < padded; k += L) {
      Vector<T> half[18], whole[kFrequencies];
      TINYGEN_UNROLL
      for (int s = 0; s < 3; s++)
        filter_frequencies<T>(load(taps + s * padded + k), load(taps + (3 + s) * padded + k),
                              load(taps + (6 + s) * padded + k), half + s, 3);
      TINYGEN_UNROLL
      for (int i = 0; i < 6; i++)
        filter_frequencies<T>(half[3 * i], half[3 * i + 1], half[3 * i + 2], whole + 6 * i, 1);
      TINYGEN_UNROLL
      for (int f = 0; f < kFrequencies; f++) store(row + f * (padded + kRows) + k, whole[f]);
    }
    for (index_t f = 0; f < kFrequencies; f++)
      for (index_t b = 0; b < blocks; b++)
        __builtin_memcpy(to + f * apart + (b * job.channels + c) * kRows, row + f * (padded + kRows) + b * kRows,
                         kRows * sizeof(T));
  }
}

// What of a panel lies in one row of tiles: `count` tiles from column `first`, the panel's from `at` on.
struct Stretch {
  index_t image, row, first, count, at;
};

// One vector of a padded source row that becomes part of a line.
struct Move {
  index_t from, to;
};

// One panel of tiles and the memory in which it is computed.
template <class T>
struct Panel {
  index_t tiles, vectors, pitch, stretches;
  Stretch* stretch;
  // Of one channel. `padded`: the source rows that the panel reads, row_pitch apart, with their zeros, the first one
  // all zeros; row i + 1 is at source[row[i]]. `lines`: for each of the six rows of a tile the first four columns of
  // all tiles of the panel, one tile behind the other, and then the four columns that follow these (of which two are
  // read).
  index_t rows, row_pitch, line_pitch;
  index_t* row;
  Move* moves;  // those of tile row r are moves[first_move[r]] .. moves[first_move[r + 1] - 1]
  index_t first_move[kReach + 1];
  T *padded, *lines;
  T *values, *sums;  // [frequency][channel][tile], [frequency][result of the block][tile]
  index_t values_apart, sums_apart;
};

// Which rows the panel reads, and how lines are made of them: the same for all channels.
template <class T>
void plan_lines(const Problem<T>& job, Panel<T>& panel) {
  constexpr index_t L = lanes<T>;
  index_t slot[kReach] = {}, count = 0;
  index_t* slots = static_cast<index_t*>(scratch(kTaps, panel.stretches * kReach * sizeof(index_t)));
  panel.rows = 0;
  for (index_t i = 0; i < panel.stretches; i++) {
    const Stretch& part = panel.stretch[i];
    bool below = i > 0 && panel.stretch[i - 1].image == part.image;  // then its first two rows are there already
    for (index_t r = 0; r < kReach; r++) {
      index_t h = kSide * part.row + r - job.row_pad;
      if (below && r < kReach - kSide) {
        slot[r] = slot[r + kSide];
      } else if (h < 0 || h >= job.height) {
        slot[r] = 0;
      } else {
        panel.row[panel.rows++] = (part.image * job.channels * job.height + h) * job.width;
        slot[r] = panel.rows;
      }
      slots[i * kReach + r] = slot[r];
    }
  }
  for (index_t r = 0; r < kReach; r++) {
    panel.first_move[r] = count;
    for (index_t i = 0; i < panel.stretches; i++) {
      const Stretch& part = panel.stretch[i];
      for (index_t u = 0; u < kSide * part.count; u += L)
        panel.moves[count++] = {slots[i * kReach + r] * panel.row_pitch + kSide * part.first + u,
                                2 * r * panel.line_pitch + kSide * part.at + u};
    }
  }
  panel.first_move[kReach] = count;
}

// Transforms channel c of the panel's tiles into `values`.
template <class T>
void transform_source(const Problem<T>& job, const Panel<T>& panel, index_t c) {
  constexpr index_t L = lanes<T>;
  typedef Shuffles<T> S;
  index_t left = max(0, job.column_pad), skip = max(0, -job.column_pad);
  index_t length = min(job.width - skip, kSide * job.tile_columns + 2 - left);
  const T* plane = job.source + c * job.height * job.width + skip;
  if (length > 0)
    for (index_t i = 0; i < panel.rows; i++)
      copy_exactly(panel.padded + (i + 1) * panel.row_pitch + left, plane + panel.row[i], length);
  // Whole vectors, front to back: what one writes too much the next one overwrites.
  for (index_t i = 0; i < panel.first_move[kReach]; i++) {
    const T* from = panel.padded + panel.moves[i].from;
    T* to = panel.lines + panel.moves[i].to;
    store(to, load(from));
    store(to + panel.line_pitch, load(from + kSide));
  }
  for (index_t v = 0; v < panel.vectors; v++) {
    Vector<T> half[kFrequencies];
    TINYGEN_UNROLL
    for (int r = 0; r < kReach; r++) {  // four vectors are four columns of L tiles: tell them apart, transform the row
      const T *line = panel.lines + 2 * r * panel.line_pitch + v * kSide * L, *next = line + panel.line_pitch;
      Vector<T> v0 = load(line), v1 = load(line + L), v2 = load(line + 2 * L), v3 = load(line + 3 * L);
      Vector<T> even0 = S::even(v0, v1), even1 = S::even(v2, v3), odd0 = S::odd(v0, v1), odd1 = S::odd(v2, v3);
      v0 = load(next), v1 = load(next + L), v2 = load(next + 2 * L), v3 = load(next + 3 * L);
      Vector<T> columns[kReach] = {S::even(even0, even1),
                                   S::even(odd0, odd1),
                                   S::odd(even0, even1),
                                   S::odd(odd0, odd1),
                                   S::even(S::even(v0, v1), S::even(v2, v3)),
                                   S::even(S::odd(v0, v1), S::odd(v2, v3))};
      into_frequencies<T>(columns, 1, half + kReach * r, 1);
    }
    T* to = panel.values + c * panel.pitch + v * L;
    TINYGEN_UNROLL
    for (int s = 0; s < kReach; s++) {
      Vector<T> whole[kReach];
      into_frequencies<T>(half + s, kReach, whole, 1);
      TINYGEN_UNROLL
      for (int r = 0; r < kReach; r++) store(to + (kReach * r + s) * panel.values_apart, whole[r]);
    }
  }
}

// Transforms result k (number j of its block) back and writes it, bias added.
template <class T>
void transform_result(const Problem<T>& job, const Panel<T>& panel, index_t j, index_t k, T* __restrict lines) {
  constexpr index_t L = lanes<T>;
  typedef Shuffles<T> S;
  index_t line_pitch = kSide * panel.pitch;
  Vector<T> bias = splat(job.bias ? job.bias[k] : T(0));
  for (index_t v = 0; v < panel.vectors; v++) {
    Vector<T> m[kFrequencies], half[24], out[16];
    const T* from = panel.sums + j * panel.pitch + v * L;
    TINYGEN_UNROLL
    for (int f = 0; f < kFrequencies; f++) m[f] = load(from + f * panel.sums_apart);
    TINYGEN_UNROLL
    for (int s = 0; s < 6; s++) out_of_frequencies<T>(m + s, 6, half + s, 6);
    TINYGEN_UNROLL
    for (int r = 0; r < 4; r++) out_of_frequencies<T>(half + 6 * r, 1, out + 4 * r, 1);
    TINYGEN_UNROLL
    for (int r = 0; r < 4; r++) {  // four columns of L tiles as a row of 4 L results
      Vector<T> c0 = out[4 * r] + bias, c1 = out[4 * r + 1] + bias, c2 = out[4 * r + 2] + bias;
      Vector<T> c3 = out[4 * r + 3] + bias;
      Vector<T> even0 = S::low(c0, c2), even1 = S::high(c0, c2), odd0 = S::low(c1, c3), odd1 = S::high(c1, c3);
      T* to = lines + r * line_pitch + v * kSide * L;
      store(to, S::low(even0, odd0));
      store(to + L, S::high(even0, odd0));
      store(to + 2 * L, S::low(even1, odd1));
      store(to + 3 * L, S::high(even1, odd1));
    }
  }
  for (index_t i = 0; i < panel.stretches; i++) {
    const Stretch& part = panel.stretch[i];
    index_t column = kSide * part.first, row = kSide * part.row;
    index_t width = min(kSide * part.count, job.out_width - column), height = min(kSide, job.out_height - row);
    T* plane = job.out + (part.image * job.results + k) * job.out_height * job.out_width;
    for (index_t r = 0; r < height; r++)
      copy_exactly(plane + (row + r) * job.out_width + column, lines + r * line_pitch + kSide * part.at, width);
  }
}

// Tiles [begin, end) of all tiles.
template <class T>
void compute_tiles(const Problem<T>& job, const T* filters, index_t filters_apart, index_t begin, index_t end) {
  constexpr index_t L = lanes<T>;
  index_t panels = (end - begin + kPanelTiles * L - 1) / (kPanelTiles * L);
  if (panels <= 0) return;
  index_t most = (end - begin + panels - 1) / panels, pitch = (most + L - 1) / L * L;
  index_t most_rows = most / job.tile_columns + 2;  // of tiles
  index_t group = kSumBytes / static_cast<index_t>(kFrequencies * pitch * sizeof(T)) / kRows * kRows;
  group = max(kRows, min(group, (job.results + kRows - 1) / kRows * kRows));  // results per block
  Panel<T> panel;
  panel.values_apart = job.channels * pitch + kApart;
  panel.sums_apart = group * pitch + kApart;
  panel.pitch = pitch;
  panel.stretch = static_cast<Stretch*>(scratch(kPixelOffsets, most_rows * sizeof(Stretch)));
  panel.row_pitch = kSide * job.tile_columns + 2 + 2 * L;
  panel.line_pitch = kSide * pitch + L;
  index_t padded_size = (kReach * most_rows + 1) * panel.row_pitch + 2 * L, lines_size = 2 * kReach * panel.line_pitch;
  panel.row = static_cast<index_t*>(scratch(kPhases, kReach * most_rows * sizeof(index_t)));
  index_t most_moves = kReach * (most_rows + kSide * most / L + 1);
  panel.moves = static_cast<Move*>(scratch(kMasks, most_moves * sizeof(Move)));
  panel.padded = static_cast<T*>(scratch(kWindow, (padded_size + lines_size) * sizeof(T)));
  panel.lines = panel.padded + padded_size;
  panel.values = static_cast<T*>(scratch(kPanel, kFrequencies * panel.values_apart * sizeof(T)));
  panel.sums = static_cast<T*>(scratch(Slot::kTile, kFrequencies * panel.sums_apart * sizeof(T)));
  T* lines = static_cast<T*>(scratch(kGeneral, kSide * kSide * pitch * sizeof(T)));
  for (index_t i = 0; i < padded_size + lines_size; i++) panel.padded[i] = 0;  // only what is not zero is written again
  for (index_t p = 0; p < panels; p++) {
    index_t first = begin + (end - begin) * p / panels, last = begin + (end - begin) * (p + 1) / panels;
    panel.tiles = last - first;
    panel.vectors = (panel.tiles + L - 1) / L;
    panel.stretches = 0;
    for (index_t tile = first; tile < last;) {
      index_t row = tile / job.tile_columns, column = tile % job.tile_columns;
      index_t count = min(job.tile_columns - column, last - tile);
      panel.stretch[panel.stretches++] = {row / job.tile_rows, row % job.tile_rows, column, count, tile - first};
      tile += count;
    }
    plan_lines(job, panel);
    for (index_t c = 0; c < job.channels; c++) transform_source(job, panel, c);
    for (index_t k0 = 0; k0 < job.results; k0 += group) {
      index_t k1 = min(job.results, k0 + group);
      for (index_t f = 0; f < kFrequencies; f++)
        for (index_t k = k0; k < k1; k += kRows)
          pick_tile<T>(min(kRows, k1 - k), panel.vectors)(
              job.channels, filters + f * filters_apart + k * job.channels, panel.values + f * panel.values_apart,
              pitch, nullptr, true, panel.sums + f * panel.sums_apart + (k - k0) * pitch, pitch, panel.vectors * L);
      for (index_t k = k0; k < k1; k++) transform_result(job, panel, k - k0, k, lines);
    }
  }
}

}  // namespace

TINYGEN_KERNEL(conv_winograd,
               (const Geometry& geo, const T* source, const T* w, const T* bias, bool transposed, T* out)) {
  const Axis &rows = geo.rows, &columns = geo.cols;
  Problem<T> job = {source, w, bias, out, transposed, geo.n, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  if (transposed) {
    job.channels = geo.k, job.height = rows.y, job.width = columns.y;
    job.results = geo.c, job.out_height = rows.x, job.out_width = columns.x;
    job.row_pad = 2 - rows.pad, job.column_pad = 2 - columns.pad;
  } else {
    job.channels = geo.c, job.height = rows.x, job.width = columns.x;
    job.results = geo.k, job.out_height = rows.y, job.out_width = columns.y;
    job.row_pad = rows.pad, job.column_pad = columns.pad;
  }
  job.tile_rows = (job.out_height + kSide - 1) / kSide;
  job.tile_columns = (job.out_width + kSide - 1) / kSide;
  job.tiles = job.images * job.tile_rows * job.tile_columns;
  if (job.tiles == 0 || job.results == 0) return;
  index_t apart = (job.results + kRows - 1) / kRows * kRows * job.channels + kApart;
  T* filters = static_cast<T*>(scratch(kPackedWeights, kFrequencies * apart * sizeof(T)));
  parallel(threads(), [&](int thread, int all) {
    transform_filters(job, job.channels * thread / all, job.channels * (thread + 1) / all, filters, apart);
    barrier(all);
    compute_tiles(job, filters, apart, job.tiles * thread / all, job.tiles * (thread + 1) / all);
  });
}

}  // namespace TINYGEN_ISA
}  // namespace tinygen
