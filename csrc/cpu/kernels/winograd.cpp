// conv_winograd: convolutions with small kernels, and their adjoints, with 0.25 to 0.4 of the multiplications.
//
// Contract   float32 or float64; one group, dilation 1, any sizes and pads; square kernels, 2 x 2 or 3 x 3 at stride 1,
//            3 x 3 to 6 x 6 at stride 2. transposed = false: y of conv; true: x of conv_transpose. Every output is
//            computed in one order: results do not depend on the number of threads. Rounding: see
//            tinygen.set_winograd. conv/choose.h says where it pays. dirty[n] becomes true (unless dirty is null) where
//            results of image n are infinite or NaN. Every result of a tile meets all of its patch: one infinity there
//            spoils all 16, so the caller computes these images by the definition. A finite result is never wrong.
// Idea       F(4 x 4, 3 x 3) of Lavin and Gray, 2015: a tile of 4 x 4 outputs reads 6 x 6 inputs d through filter g;
//                tile = A^T [ sum over channels of (G g G^T) * (B^T d B) ] A,   * elementwise:
//            36 products where the definition has 144. Element by element ("frequency") the sum is a matrix product.
// Phases     At stride 2 even and odd rows and columns of x meet different taps. So a 4 x 4 kernel is four kernels of
//            2 x 2 taps at stride 1, one for each phase of x: F(4 x 4, 2 x 2), 25 products where the definition has
//            64. conv adds the phases up, as it does with channels; conv_transpose computes one phase of x with each,
//            from the same y, its taps in reverse order. 5 x 5 is 6 x 6, F(4 x 4, 3 x 3), with taps that are zero.
// Mapping    Lanes run over channels, of the input and then of the output. So tiles are taken one by one, and no size
//            of image leaves lanes idle. A panel is some images, or some rows of tiles; its stages are
//                read             NCHW to [pixel][channel], zeros around it
//                transform_patch  [frequency][tile][channel]
//                multiply         [frequency][tile][filter], for a block of filters
//                restore          the inverse transform, and back to NCHW.
// Order      Transformed filters are 4 (stride 1) to 6 times as large as the weights. Where they fit into the last
//            cache, they are transformed once, and each thread takes its panels through all stages. Otherwise, and
//            where panels are few, all panels are transformed first, and each thread takes its blocks of filters
//            through all panels: what it transforms is used while it is in a cache. (Zen 4, one thread, 128 to 256
//            channels, 16 tiles: 1.4 ms instead of 2.3.)
// Cost       2 * products * channels * filters flops per tile; the transforms' about 400 per tile and phase for each
//            channel and each filter.
#include "cpu/conv/winograd.h"

#include "cpu/conv/tile.h"
#include "cpu/parallel.h"
#include "cpu/table.h"
#include "cpu/vector.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

constexpr index_t kMaxStride = 2, kMaxTaps = 36;
constexpr index_t kPanelTiles = 32;  // 16 to 48 are within a tenth of each other (Zen 4, 16 to 512 channels)
constexpr index_t kKeptFilters = 16 << 20, kSharedInputs = 8 << 20;  // bytes

// One axis of a correlation in tiles. Its phases are those of the source (conv) or of the result (conv_transpose);
// either way a phase meets every stride-th tap.
struct TiledAxis {
  index_t source, out;              // lengths
  index_t taps, stride;             // of the convolution
  bool reversed;                    // order of the taps
  index_t source_step, out_step;    // between neighbours of a patch, between neighbours of a tile
  index_t start;                    // where in the source the first tile's window begins, in which all phases are read
  index_t phases, tap[kMaxStride];  // phase f: its first tap,
  index_t from[kMaxStride];         // where in the window its patch begins,
  index_t to[kMaxStride];           // the first result of its first tile

  index_t span() const { return kSide * out_step; }  // from tile to tile, in the result
  index_t tiles() const { return (out + span() - 1) / span(); }
  index_t window(index_t count, index_t patch) const {  // how much of the source `count` tiles read
    index_t last = 0;
    for (index_t f = 0; f < phases; f++) last = max(last, from[f]);
    return ((count - 1) * kSide + patch - 1) * source_step + last + 1;
  }
};

// Phases [begin, end): all of them, or one of conv_transpose's, whose results are then taken for neighbours.
inline TiledAxis tile_axis(const Axis& axis, bool transposed, index_t taps, index_t begin, index_t end) {
  TiledAxis tiled = {};
  index_t last = axis.stride * (taps - 1);  // from a phase's first tap to its last
  tiled.taps = axis.w;
  tiled.stride = axis.stride;
  tiled.reversed = transposed;
  tiled.phases = end - begin;
  if (transposed) {
    tiled.source = axis.y;
    tiled.out = tiled.phases < axis.stride ? axis.count(begin) : axis.x;
    tiled.source_step = 1;
    tiled.out_step = tiled.phases;
    tiled.start = axis.shift(begin, begin + last);
    for (index_t f = begin + 1; f < end; f++) tiled.start = min(tiled.start, axis.shift(f, f + last));
  } else {
    tiled.source = axis.x;
    tiled.out = axis.y;
    tiled.source_step = axis.stride;
    tiled.out_step = 1;
    tiled.start = -axis.pad;
  }
  for (index_t f = begin; f < end; f++) {
    tiled.tap[f - begin] = f;
    tiled.from[f - begin] = transposed ? axis.shift(f, f + last) - tiled.start : f;
    tiled.to[f - begin] = tiled.out_step > 1 ? axis.first(f) : 0;
  }
  return tiled;
}

// One correlation  out[n, k] = bias[k] + sum over c of source[n, c] (*) filter[k, c],  out of either direction.
template <class T>
struct Layer {
  const T *source, *w, *bias;
  T* out;  // the first row that is written
  index_t images, channels, results;
  TiledAxis rows, columns;
  index_t result_step, channel_step;  // of w, between filters and between their channels
  index_t row_step, plane;            // of the result, between rows that are written and between planes
  bool* dirty;                        // of each image, see the contract; or null
  bool transposed;

  index_t phases() const { return rows.phases * columns.phases; }
  index_t written_phases() const { return transposed ? phases() : 1; }
  index_t written(index_t phase) const { return transposed ? phase : 0; }
  // The products that a sum adds up, in order: vectors of channels, and for each of these the phases that are read.
  index_t depth() const { return transposed ? channels : channels * phases(); }
  index_t depth(index_t channel, index_t phase) const {
    if (transposed) return channel;
    index_t first = channel / lanes<T> * lanes<T>;
    return first * phases() + phase * min(lanes<T>, channels - first) + channel - first;
  }
};

// Some images, or some rows of tiles, or a part of one.
struct Panel {
  index_t image, images, row, rows, column, columns;  // rows and columns of tiles
  index_t tiles() const { return images * rows * columns; }
};

// Sizes of the blocks, chosen once per call.
struct Plan {
  index_t panel_images, panel_rows, panel_columns;          // of a panel, at most
  index_t image_panels, row_panels, column_panels, panels;  // how many of them, and their product
  index_t vectors, block, blocks;                           // vectors and filters per block; number of blocks
  index_t frequencies;                                      // of all phases that are written
  index_t depth, tile_pitch, input_pitch;                   // products per sum; inputs from tile to tile, by frequency
  index_t sum_pitch, filter_pitch;                          // sums and filters from one frequency to the next
  index_t inputs, filters;                                  // elements of a panel's inputs, of a block's filters
  bool keep_filters;                                        // all are transformed before any is used
  bool share_inputs;                                        // of so many panels at a time, see Order
  index_t shared;
};

template <class T>
Plan make_plan(const Layer<T>& layer, index_t patch, int use) {
  constexpr index_t L = lanes<T>;
  Plan plan = {};
  auto share = [](index_t count, index_t limit) {  // the largest of equal shares of at most `limit`
    index_t shares = (count + limit - 1) / limit;
    return (count + shares - 1) / shares;
  };
  plan.vectors = vectors_per_block((layer.results + L - 1) / L);
  plan.block = plan.vectors * L;
  plan.blocks = (layer.results + plan.block - 1) / plan.block;
  index_t rows = layer.rows.tiles(), columns = layer.columns.tiles();
  // As large as pays, but two panels and blocks of filters for each thread.
  index_t limit = max(kRows, min(kPanelTiles, layer.images * rows * columns * plan.blocks / (2 * use)));
  plan.panel_columns = share(columns, limit);
  plan.panel_rows = share(rows, max(1, limit / plan.panel_columns));
  plan.panel_images = share(layer.images, max(1, limit / (rows * columns)));
  plan.image_panels = (layer.images + plan.panel_images - 1) / plan.panel_images;
  plan.row_panels = (rows + plan.panel_rows - 1) / plan.panel_rows;
  plan.column_panels = (columns + plan.panel_columns - 1) / plan.panel_columns;
  plan.panels = plan.image_panels * plan.row_panels * plan.column_panels;
  index_t tiles = plan.panel_images * plan.panel_rows * plan.panel_columns;
  plan.frequencies = layer.written_phases() * patch * patch;
  plan.depth = layer.depth();
  plan.tile_pitch = odd_pitch<T>(plan.depth + L);
  plan.input_pitch = odd_pitch<T>(tiles * plan.tile_pitch);
  plan.sum_pitch = odd_pitch<T>(tiles * plan.block);
  plan.filter_pitch = odd_pitch<T>(plan.depth * plan.block);
  plan.inputs = plan.frequencies * plan.input_pitch;
  plan.filters = plan.frequencies * plan.filter_pitch;
  index_t bytes = sizeof(T);
  bool fit = plan.blocks * plan.filters * bytes <= kKeptFilters;
  plan.share_inputs = !fit || plan.panels < 4 * use;
  plan.shared = plan.share_inputs ? min(plan.panels, max(1, kSharedInputs / (plan.inputs * bytes))) : 1;
  plan.keep_filters = fit && !(plan.share_inputs && plan.shared == plan.panels && plan.blocks >= use);
  return plan;
}

template <class T>
Panel panel_of(const Layer<T>& layer, const Plan& plan, index_t i) {
  index_t column = i % plan.column_panels * plan.panel_columns;
  index_t row = i / plan.column_panels % plan.row_panels * plan.panel_rows;
  index_t image = i / plan.column_panels / plan.row_panels * plan.panel_images;
  return {image,  min(plan.panel_images, layer.images - image),
          row,    min(plan.panel_rows, layer.rows.tiles() - row),
          column, min(plan.panel_columns, layer.columns.tiles() - column)};
}

// Channels [begin, end) of a block's filters, transformed: packed[written phase][frequency][depth][filter].
template <class T, int kTaps>
void transform_filters(const Layer<T>& layer, const Plan& plan, index_t block, index_t begin, index_t end, T* packed) {
  constexpr int L = lanes<T>, kPatch = kSide + kTaps - 1;
  const TiledAxis &rows = layer.rows, &columns = layer.columns;
  index_t taps = rows.taps * columns.taps;
  const T* w_end = layer.w + layer.results * layer.channels * taps;
  for (index_t v = 0; v < plan.vectors; v++)
    for (index_t channel = begin; channel < end; channel++) {
      index_t result = block * plan.block + v * L, count = max(0, min(L, layer.results - result));
      Vector<T> w[kMaxTaps + L], filter[L], g[kTaps][kTaps], half[kPatch][kTaps], column[kTaps], out[kPatch];
      // Too far apart for the machine to guess: 1.9 ms instead of 3.0 for 8 MB of weights (Zen 4).
      for (index_t i = 0; i < count; i++)
        __builtin_prefetch(layer.w + (result + i) * layer.result_step + (channel + 4) * layer.channel_step, 0, 2);
      for (index_t first = 0; first < taps; first += L) {
        load_rows(layer.w + result * layer.result_step + channel * layer.channel_step + first, layer.result_step, count,
                  w_end, filter);
        transpose<T>(filter);
        TINYGEN_UNROLL
        for (int t = 0; t < L; t++) w[first + t] = filter[t];
      }
      for (index_t phase = 0; phase < layer.phases(); phase++) {
        index_t row_tap = rows.tap[phase / columns.phases], column_tap = columns.tap[phase % columns.phases];
        TINYGEN_UNROLL
        for (int r = 0; r < kTaps; r++) {
          TINYGEN_UNROLL
          for (int s = 0; s < kTaps; s++) {
            index_t i = row_tap + rows.stride * (rows.reversed ? kTaps - 1 - r : r);
            index_t j = column_tap + columns.stride * (columns.reversed ? kTaps - 1 - s : s);
            g[r][s] = i < rows.taps && j < columns.taps ? w[i * columns.taps + j] : Vector<T>{};
          }
        }
        TINYGEN_UNROLL
        for (int s = 0; s < kTaps; s++) {
          TINYGEN_UNROLL
          for (int r = 0; r < kTaps; r++) column[r] = g[r][s];
          transform_filter<T>(column, out);
          TINYGEN_UNROLL
          for (int f = 0; f < kPatch; f++) half[f][s] = out[f];
        }
        T* to = packed + layer.written(phase) * kPatch * kPatch * plan.filter_pitch +
                layer.depth(channel, phase) * plan.block + v * L;
        TINYGEN_UNROLL
        for (int f = 0; f < kPatch; f++) {
          transform_filter<T>(half[f], out);
          TINYGEN_UNROLL
          for (int h = 0; h < kPatch; h++) store(to + (f * kPatch + h) * plan.filter_pitch, out[h]);
        }
      }
    }
}

// What one image of the panel reads of L channels from `channel` on: copy[row][column][lane], zeros outside the source.
// Whole vectors are written: `copy` needs one of L pixels to spare at its end.
template <class T>
void read(const Layer<T>& layer, const Panel& panel, index_t image, index_t channel, index_t rows, index_t columns,
          T* copy, index_t row_pitch) {
  constexpr int L = lanes<T>;
  index_t height = layer.rows.source, width = layer.columns.source, plane = height * width;
  index_t count = min(L, layer.channels - channel);
  index_t top = panel.row * kSide * layer.rows.source_step + layer.rows.start;
  index_t left = panel.column * kSide * layer.columns.source_step + layer.columns.start;
  index_t begin = min(columns, max(0, -left)), end = max(begin, min(columns, width - left));
  const T* planes = layer.source + (image * layer.channels + channel) * plane;
  const T* source_end = layer.source + layer.images * layer.channels * plane;
  for (index_t h = 0; h < rows; h++, copy += row_pitch) {
    bool outside = top + h < 0 || top + h >= height;
    index_t from = outside ? columns : begin, to = outside ? columns : end;
    for (index_t u = 0; u < from; u++) store(copy + u * L, Vector<T>{});
    for (index_t u = from; u < to; u += L) {
      Vector<T> pixels[L];
      load_rows(planes + (top + h) * width + left + u, plane, count, source_end, pixels);
      transpose<T>(pixels);
      TINYGEN_UNROLL
      for (int i = 0; i < L; i++) store(copy + (u + i) * L, pixels[i]);
    }
    for (index_t u = to; u < columns; u++) store(copy + u * L, Vector<T>{});
  }
}

// B^T d B of one tile and L channels; `pitch` between frequencies.
template <class T, int kPatch>
void transform_patch(const T* __restrict patch, index_t row_pitch, index_t column_pitch, T* __restrict to,
                     index_t pitch) {
  Vector<T> half[kPatch][kPatch], in[kPatch], out[kPatch];
  TINYGEN_UNROLL
  for (int j = 0; j < kPatch; j++) {
    TINYGEN_UNROLL
    for (int i = 0; i < kPatch; i++) in[i] = load(patch + i * row_pitch + j * column_pitch);
    transform_input<T>(in, out);
    TINYGEN_UNROLL
    for (int i = 0; i < kPatch; i++) half[i][j] = out[i];
  }
  TINYGEN_UNROLL
  for (int i = 0; i < kPatch; i++) {
    transform_input<T>(half[i], out);
    TINYGEN_UNROLL
    for (int j = 0; j < kPatch; j++) store(to + (i * kPatch + j) * pitch, out[j]);
  }
}

// M tiles x N vectors of filters of one frequency: c[i][j] = sum over k of a[i][k] * b[k][j]. Unlike that of tile.h's
// loop, a lies tile by tile, as transform_patch wrote it.
template <class T, int M, int N>
__attribute__((noinline)) void multiply(index_t depth, const T* __restrict a, index_t a_pitch, const T* __restrict b,
                                        T* __restrict c) {
  constexpr int L = lanes<T>;
  Vector<T> sum[M][N] = {};
  const T* from[M];
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) from[i] = a + i * a_pitch;
  for (index_t k = 0; k < depth; k++) {
    Vector<T> row[N];
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) row[j] = load(b + (k * N + j) * L);
    TINYGEN_UNROLL
    for (int i = 0; i < M; i++) {
      Vector<T> factor = splat(from[i][k]);
      TINYGEN_UNROLL
      for (int j = 0; j < N; j++) sum[i][j] += factor * row[j];
    }
  }
  TINYGEN_UNROLL
  for (int i = 0; i < M; i++) {
    TINYGEN_UNROLL
    for (int j = 0; j < N; j++) store(c + (i * N + j) * L, sum[i][j]);
  }
}

template <class T>
using MultiplyFunction = void (*)(index_t, const T*, index_t, const T*, T*);

// multiply<T, rows, vectors>, rows <= kRows, vectors <= kVectors.
template <class T, int M = kRows, int N = kVectors>
MultiplyFunction<T> pick_multiply(index_t rows, index_t vectors) {
  if constexpr (M > 1)
    if (rows < M) return pick_multiply<T, M - 1, N>(rows, vectors);
  if constexpr (N > 1)
    if (vectors < N) return pick_multiply<T, M, N - 1>(rows, vectors);
  return multiply<T, M, N>;
}

// A^T m A + bias of one tile and L filters: pixels to[i * row_pitch + j * column_pitch], i < rows, j < columns.
// `check` stays 0 while all of them are finite, and becomes NaN.
template <class T, int kPatch>
void restore_tile(const T* __restrict from, index_t pitch, Vector<T> bias, T* __restrict to, index_t row_pitch,
                  index_t column_pitch, index_t rows, index_t columns, Vector<T>& check) {
  const Vector<T> zero = {};
  Vector<T> half[kSide][kPatch], in[kPatch], out[kSide];
  TINYGEN_UNROLL
  for (int j = 0; j < kPatch; j++) {
    TINYGEN_UNROLL
    for (int i = 0; i < kPatch; i++) in[i] = load(from + (i * kPatch + j) * pitch);
    transform_output<T>(in, out);
    TINYGEN_UNROLL
    for (int i = 0; i < kSide; i++) half[i][j] = out[i];
  }
  TINYGEN_UNROLL
  for (int i = 0; i < kSide; i++) {
    if (i >= rows) break;
    transform_output<T>(half[i], out);
    TINYGEN_UNROLL
    for (int j = 0; j < kSide; j++) {
      check += out[j] * zero;
      if (j < columns) store(to + i * row_pitch + j * column_pitch, out[j] + bias);
    }
  }
}

// to[c * plane + i] = pixels[i * L + c],  i < length, c < count <= L. Whole vectors are read: `pixels` has one of L
// pixels to spare at its end.
template <class T>
void write(const T* __restrict pixels, index_t length, index_t count, T* __restrict to, index_t plane) {
  constexpr int L = lanes<T>;
  for (index_t u = 0; u < length; u += L) {
    Vector<T> rows[L];
    TINYGEN_UNROLL
    for (int i = 0; i < L; i++) rows[i] = load(pixels + (u + i) * L);
    transpose<T>(rows);
    bool whole = u + L <= length;
    TINYGEN_UNROLL
    for (int c = 0; c < L; c++) {
      if (c >= count) break;
      if (whole) {
        store(to + c * plane + u, rows[c]);
      } else {
        alignas(64) T row[L];
        store(row, rows[c]);
        copy_exactly(to + c * plane + u, row, length - u);
      }
    }
  }
}

// The panel's outputs for the L filters from `result` on. sums[written phase][frequency][tile][filter], `pixels`:
// scratch for one image.
template <class T, int kPatch>
void restore(const Layer<T>& layer, const Plan& plan, const Panel& panel, index_t result, const T* sums, T* pixels) {
  constexpr int L = lanes<T>;
  const TiledAxis &rows = layer.rows, &columns = layer.columns;
  index_t count = min(L, layer.results - result), row_step = rows.out_step, column_step = columns.out_step;
  index_t top = panel.row * rows.span(), left = panel.column * columns.span();
  index_t height = min(panel.rows * rows.span(), rows.out - top);
  index_t width = min(panel.columns * columns.span(), columns.out - left);
  alignas(64) T bias[L] = {};
  if (layer.bias) __builtin_memcpy(bias, layer.bias + result, count * sizeof(T));
  for (index_t n = 0; n < panel.images; n++) {
    Vector<T> check = {};
    for (index_t a = 0; a < panel.rows; a++)
      for (index_t b = 0; b < panel.columns; b++, sums += plan.block)
        for (index_t phase = 0; phase < layer.written_phases(); phase++) {
          index_t i = a * rows.span() + rows.to[phase / columns.phases];
          index_t j = b * columns.span() + columns.to[phase % columns.phases];
          restore_tile<T, kPatch>(sums + phase * kPatch * kPatch * plan.sum_pitch, plan.sum_pitch, load(bias),
                                  pixels + (i * width + j) * L, row_step * width * L, column_step * L,
                                  (height - i + row_step - 1) / row_step, (width - j + column_step - 1) / column_step, check);
        }
    T all = 0;
    for (int i = 0; i < L; i++) all += check[i];
    if (layer.dirty && all != all) __atomic_store_n(layer.dirty + panel.image + n, true, __ATOMIC_RELAXED);
    T* out = layer.out + ((panel.image + n) * layer.results + result) * layer.plane + top * layer.row_step + left;
    if (width == layer.row_step)
      write(pixels, height * width, count, out, layer.plane);
    else
      for (index_t i = 0; i < height; i++)
        write(pixels + i * width * L, width, count, out + i * layer.row_step, layer.plane);
  }
}

// Channels [begin, end) of a panel: inputs[written phase][frequency][tile][depth].
template <class T, int kPatch>
void transform_inputs(const Layer<T>& layer, const Plan& plan, const Panel& panel, index_t begin, index_t end,
                      T* inputs) {
  constexpr int L = lanes<T>;
  const TiledAxis &rows = layer.rows, &columns = layer.columns;
  index_t window_rows = rows.window(panel.rows, kPatch), window_columns = columns.window(panel.columns, kPatch);
  index_t row_pitch = odd_pitch<T>(window_columns * L);
  T* copy = static_cast<T*>(scratch(kWindow, (window_rows * row_pitch + L * L) * sizeof(T)));
  for (index_t channel = begin; channel < end; channel += L) {
    T* tile = inputs;
    for (index_t n = 0; n < panel.images; n++) {
      read(layer, panel, panel.image + n, channel, window_rows, window_columns, copy, row_pitch);
      for (index_t a = 0; a < panel.rows; a++)
        for (index_t b = 0; b < panel.columns; b++, tile += plan.tile_pitch)
          for (index_t phase = 0; phase < layer.phases(); phase++) {
            index_t i = a * kSide * rows.source_step + rows.from[phase / columns.phases];
            index_t j = b * kSide * columns.source_step + columns.from[phase % columns.phases];
            T* to = tile + layer.written(phase) * kPatch * kPatch * plan.input_pitch + layer.depth(channel, phase);
            transform_patch<T, kPatch>(copy + i * row_pitch + j * L, rows.source_step * row_pitch,
                                       columns.source_step * L, to, plan.input_pitch);
          }
    }
  }
}

// One block of filters for one panel.
template <class T, int kPatch>
void compute_block(const Layer<T>& layer, const Plan& plan, const Panel& panel, index_t block, const T* inputs,
                   const T* filters) {
  constexpr int L = lanes<T>;
  T* sums = static_cast<T*>(scratch(kTile, plan.frequencies * plan.sum_pitch * sizeof(T)));
  T* pixels = static_cast<T*>(scratch(
      kTransposed, (panel.rows * layer.rows.span() * panel.columns * layer.columns.span() + L) * L * sizeof(T)));
  index_t tiles = panel.tiles(), groups = (tiles + kRows - 1) / kRows;  // of tiles, as equal as can be
  for (index_t f = 0; f < plan.frequencies; f++)
    for (index_t g = 0; g < groups; g++) {
      index_t first = tiles * g / groups, count = tiles * (g + 1) / groups - first;
      pick_multiply<T>(count, plan.vectors)(plan.depth, inputs + f * plan.input_pitch + first * plan.tile_pitch,
                                            plan.tile_pitch, filters + f * plan.filter_pitch,
                                            sums + f * plan.sum_pitch + first * plan.block);
    }
  for (index_t v = 0; v < plan.block && block * plan.block + v < layer.results; v += L)
    restore<T, kPatch>(layer, plan, panel, block * plan.block + v, sums + v, pixels);
}

template <class T, int kTaps>
void correlate(const Layer<T>& layer) {
  constexpr int kPatch = kSide + kTaps - 1;
  constexpr index_t L = lanes<T>;
  if (layer.images == 0 || layer.results == 0 || layer.rows.out == 0 || layer.columns.out == 0) return;
  int use = threads();
  const Plan plan = make_plan(layer, kPatch, use);
  T *packed = nullptr, *shared = nullptr;
  if (plan.keep_filters) packed = static_cast<T*>(scratch(kPackedWeights, plan.blocks * plan.filters * sizeof(T)));
  if (plan.share_inputs) shared = static_cast<T*>(scratch(kPanel, plan.shared * plan.inputs * sizeof(T)));
  parallel(use, [&](int thread, int all) {
    if (plan.keep_filters) {
      index_t count = plan.blocks * layer.channels, end = count * (thread + 1) / all;
      for (index_t i = count * thread / all, channels; i < end; i += channels) {
        index_t block = i / layer.channels, channel = i % layer.channels;
        channels = min(layer.channels - channel, end - i);
        transform_filters<T, kTaps>(layer, plan, block, channel, channel + channels, packed + block * plan.filters);
      }
    }
    if (!plan.share_inputs) {  // each thread takes its panels through all stages
      barrier(all);
      T* inputs = static_cast<T*>(scratch(kPanel, plan.inputs * sizeof(T)));
      for (index_t i = plan.panels * thread / all; i < plan.panels * (thread + 1) / all; i++) {
        const Panel panel = panel_of(layer, plan, i);
        transform_inputs<T, kPatch>(layer, plan, panel, 0, layer.channels, inputs);
        for (index_t block = 0; block < plan.blocks; block++)
          compute_block<T, kPatch>(layer, plan, panel, block, inputs, packed + block * plan.filters);
      }
      return;
    }
    // All threads transform some panels, then each takes its blocks of filters through them.
    T* own = plan.keep_filters ? nullptr : static_cast<T*>(scratch(kOwnPhases, plan.filters * sizeof(T)));
    index_t groups = (layer.channels + L - 1) / L;  // of channels
    for (index_t first = 0; first < plan.panels; first += plan.shared) {
      index_t panels = min(plan.shared, plan.panels - first), units = panels * groups;
      if (first > 0) barrier(all);
      for (index_t u = units * thread / all; u < units * (thread + 1) / all; u++)
        transform_inputs<T, kPatch>(layer, plan, panel_of(layer, plan, first + u / groups), u % groups * L,
                                    min(layer.channels, (u % groups + 1) * L), shared + u / groups * plan.inputs);
      barrier(all);
      units = plan.blocks * panels;
      index_t ready = -1;  // block whose filters `own` holds
      for (index_t u = units * thread / all; u < units * (thread + 1) / all; u++) {
        index_t block = u / panels, i = u % panels;
        if (own && block != ready) transform_filters<T, kTaps>(layer, plan, ready = block, 0, layer.channels, own);
        compute_block<T, kPatch>(layer, plan, panel_of(layer, plan, first + i), block, shared + i * plan.inputs,
                                 own ? own : packed + block * plan.filters);
      }
    }
  });
}

}  // namespace

TINYGEN_KERNEL(conv_winograd,
               (const Geometry& geo, const T* source, const T* w, const T* bias, bool transposed, T* out, bool* dirty)) {
  index_t stride = geo.rows.stride, taps = (geo.rows.w + stride - 1) / stride, patch = kSide + taps - 1;
  index_t kernel = geo.rows.w * geo.cols.w, bytes = sizeof(T);
  // conv_transpose with large filters: one phase of the rows after the other, which halves what has to stay in caches
  // (Zen 4, 512 to 256 channels, one thread: 23 ms instead of 26).
  bool apart = transposed && geo.c * geo.k * stride * stride * patch * patch * bytes > kKeptFilters;
  index_t together = apart ? 1 : stride;
  Layer<T> layer = {};
  layer.source = source, layer.w = w, layer.bias = bias, layer.out = out;
  layer.images = geo.n;
  layer.channels = transposed ? geo.k : geo.c;
  layer.results = transposed ? geo.c : geo.k;
  layer.columns = tile_axis(geo.cols, transposed, taps, 0, stride);
  layer.result_step = transposed ? kernel : kernel * geo.c;
  layer.channel_step = transposed ? kernel * geo.c : kernel;
  layer.row_step = transposed ? stride / together * geo.cols.x : geo.cols.y;
  layer.plane = transposed ? geo.rows.x * geo.cols.x : geo.rows.y * geo.cols.y;
  layer.transposed = transposed;
  layer.dirty = dirty;
  for (index_t f = 0; f < stride; f += together) {
    layer.rows = tile_axis(geo.rows, transposed, taps, f, f + together);
    if (apart) layer.out = out + geo.rows.first(f) * geo.cols.x;
    if (taps == 2)
      correlate<T, 2>(layer);
    else
      correlate<T, 3>(layer);
  }
}

}  // namespace TINYGEN_ISA
}  // namespace tinygen
