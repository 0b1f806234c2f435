// conv_winograd: 3 x 3 convolutions at stride 1, and their adjoints, with a quarter of the multiplications.
//
// Contract   float32 or float64; stride 1, dilation 1, one group; any sizes and pads. transposed = false: y of conv;
//            true: x of conv_transpose, which is a convolution too, of y, with the taps in reverse order, the channels
//            exchanged and pad 2 - pad. Every output is computed in one order: results do not depend on the
//            number of threads. Rounding: see tinygen.set_winograd. The caller decides where it pays (cpu.py).
// Idea       F(4 x 4, 3 x 3) of Lavin and Gray, 2015: a tile of 4 x 4 outputs reads 6 x 6 inputs d through filter g;
//                tile = A^T [ sum over channels of (G g G^T) * (B^T d B) ] A,   * elementwise:
//            36 products where the definition has 144. Element by element ("frequency") the sum is a matrix product.
// Points     The matrices evaluate polynomials at 0, +-2/3, +-3/2 and infinity. The usual 0, +-1, +-2 and infinity take
//            as many operations, but round twice as coarsely, and four times in the worst case (256 channels, normal
//            data): their powers are of more different sizes. With 2/3 * 3/2 = 1 some factors are 1.
// Mapping    Lanes run over channels, of the input and then of the output. So tiles are taken one by one, and no size
//            of image leaves lanes idle. A thread transforms its share of the filters, then takes one panel (some images,
//            or some rows of tiles) after the other through
//                read             NCHW to [pixel][channel], zeros around it
//                transform_patch  [frequency][tile][channel]
//                multiply         [frequency][tile][filter], a block of filters at a time, in L2
//                restore          the inverse transform, and back to NCHW.
// Cost       72 * channels * filters flops per tile, and about 400 per tile for each channel and each filter; 4 times
//            the weights' bytes for their transforms, which are read once per panel.
#include "cpu/conv/tile.h"
#include "cpu/parallel.h"
#include "cpu/table.h"
#include "cpu/vector.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

constexpr int kSide = 4, kPatch = 6, kFrequencies = kPatch * kPatch;
constexpr index_t kPanelTiles = 32;  // 16 to 96 are within a tenth of each other (Zen 4, 16 to 512 channels)

// The six 1-D polynomials: points 0, +-p, +-q, infinity, where p q = 1.
constexpr double p = 2. / 3, q = 3. / 2;

// B^T d: the coefficients of x^i d_i in the products of (x - point) over all other points.
template <class T>
TINYGEN_INLINE void transform_input(const Vector<T> (&d)[kPatch], Vector<T> (&e)[kPatch]) {
  constexpr T p2 = p * p, q2 = q * q, both = p * p + q * q;
  e[0] = d[0] + (d[4] - both * d[2]);
  e[5] = d[1] + (d[5] - both * d[3]);
  Vector<T> even = d[4] - q2 * d[2], odd = d[3] - q2 * d[1];
  e[1] = even + T(p) * odd;
  e[2] = even - T(p) * odd;
  even = d[4] - p2 * d[2];
  odd = d[3] - p2 * d[1];
  e[3] = even + T(q) * odd;
  e[4] = even - T(q) * odd;
}

// G g: the filter's polynomial at the points, over the product of the point's distances to the others.
template <class T>
TINYGEN_INLINE void transform_filter(const Vector<T> (&g)[3], Vector<T> (&u)[kPatch]) {
  constexpr T p2 = p * p, q2 = q * q;
  constexpr T at_p = 1 / (2 * p * p * (p * p - q * q)), at_q = 1 / (2 * q * q * (q * q - p * p));
  u[0] = g[0];
  Vector<T> even = g[0] + p2 * g[2], odd = T(p) * g[1];
  u[1] = at_p * (even + odd);
  u[2] = at_p * (even - odd);
  even = g[0] + q2 * g[2];
  odd = T(q) * g[1];
  u[3] = at_q * (even + odd);
  u[4] = at_q * (even - odd);
  u[5] = g[2];
}

// A^T m: powers 0 to 3 of the points.
template <class T>
TINYGEN_INLINE void transform_output(const Vector<T> (&m)[kPatch], Vector<T> (&o)[kSide]) {
  constexpr T p2 = p * p, q2 = q * q, p3 = p * p * p, q3 = q * q * q;
  Vector<T> even_p = m[1] + m[2], odd_p = m[1] - m[2], even_q = m[3] + m[4], odd_q = m[3] - m[4];
  o[0] = m[0] + even_p + even_q;
  o[1] = T(p) * odd_p + T(q) * odd_q;
  o[2] = p2 * even_p + q2 * even_q;
  o[3] = p3 * odd_p + q3 * odd_q + m[5];
}

// One correlation  out[n, k] = bias[k] + sum over c of source[n, c] (*) filter[k, c],  out of either direction.
template <class T>
struct Layer {
  const T *source, *w, *bias;
  T* out;
  index_t images, channels, height, width;  // of the source
  index_t results, out_height, out_width;
  index_t row_pad, column_pad;
  index_t result_step, channel_step;  // of w, between filters and between their channels
  bool flipped;                       // taps in reverse order
};

// Sizes of the blocks, chosen once per call.
struct Plan {
  index_t tile_rows, tile_columns;                          // of an image
  index_t panel_images, panel_rows, panel_columns;          // of a panel, at most; rows and columns of tiles
  index_t image_panels, row_panels, column_panels, panels;  // how many of them, and their product
  index_t vectors, block, blocks;                           // vectors and filters per block; number of blocks
  index_t parts;                                            // in how many parts threads share the blocks
  index_t depth;                                            // channels in whole vectors
  index_t filter_pitch;                                     // from one frequency to the next
};

// At least `count` elements, an odd number of vectors: rows that are so far apart fall into different sets of a cache.
template <class T>
index_t odd_pitch(index_t count) {
  return ((count + lanes<T> - 1) / lanes<T> | 1) * lanes<T>;
}

template <class T>
Plan make_plan(const Layer<T>& layer, int use) {
  constexpr index_t L = lanes<T>;
  Plan plan = {};
  plan.tile_rows = (layer.out_height + kSide - 1) / kSide;
  plan.tile_columns = (layer.out_width + kSide - 1) / kSide;
  auto share = [](index_t count, index_t limit) {  // the largest of equal shares of at most `limit`
    index_t shares = (count + limit - 1) / limit;
    return (count + shares - 1) / shares;
  };
  plan.panel_columns = share(plan.tile_columns, kPanelTiles);
  plan.panel_rows = share(plan.tile_rows, max(1, kPanelTiles / plan.panel_columns));
  index_t tiles = plan.tile_rows * plan.tile_columns;
  plan.panel_images = share(layer.images, max(1, kPanelTiles / tiles));
  plan.image_panels = (layer.images + plan.panel_images - 1) / plan.panel_images;
  plan.row_panels = (plan.tile_rows + plan.panel_rows - 1) / plan.panel_rows;
  plan.column_panels = (plan.tile_columns + plan.panel_columns - 1) / plan.panel_columns;
  plan.vectors = vectors_per_block((layer.results + L - 1) / L);
  plan.block = plan.vectors * L;
  plan.blocks = (layer.results + plan.block - 1) / plan.block;
  plan.panels = plan.image_panels * plan.row_panels * plan.column_panels;
  // Few panels: threads share the filters too, though each part transforms its inputs again.
  plan.parts = min(min(plan.blocks, use), max(1, 4 * use / plan.panels));
  plan.depth = (layer.channels + L - 1) / L * L;
  plan.filter_pitch = odd_pitch<T>(layer.channels * plan.block);
  return plan;
}

// rows[i] = the L elements at from + i * pitch, for i < count, else zero; what lies at `end` or beyond is not read.
template <class T>
TINYGEN_INLINE void load_rows(const T* from, index_t pitch, index_t count, const T* end, Vector<T> (&rows)[lanes<T>]) {
  constexpr int L = lanes<T>;
  bool inside = from + (count - 1) * pitch + L <= end;
  TINYGEN_UNROLL
  for (int i = 0; i < L; i++) {
    rows[i] = Vector<T>{};
    if (i >= count) continue;
    const T* row = from + i * pitch;
    if (inside)
      rows[i] = load(row);
    else
      __builtin_memcpy(&rows[i], row, min(L, end - row) * sizeof(T));
  }
}

// Filters number [begin, end) of blocks x channels, transformed: packed[block][frequency][channel][filter].
template <class T>
void transform_filters(const Layer<T>& layer, const Plan& plan, T* packed, index_t begin, index_t end) {
  constexpr int L = lanes<T>, taps = 9;
  const T* w_end = layer.w + layer.results * layer.channels * taps;
  for (index_t i = begin; i < end; i++) {
    index_t block = i / layer.channels, channel = i % layer.channels;
    T* to = packed + block * kFrequencies * plan.filter_pitch + channel * plan.block;
    for (index_t v = 0; v < plan.vectors; v++, to += L) {
      index_t result = block * plan.block + v * L, count = max(0, min(L, layer.results - result));
      Vector<T> g[taps], half[kPatch][3], rows[L], column[3], out[kPatch];
      TINYGEN_UNROLL
      for (int first = 0; first < taps; first += L) {
        load_rows(layer.w + result * layer.result_step + channel * layer.channel_step + first, layer.result_step, count,
                  w_end, rows);
        transpose<T>(rows);
        TINYGEN_UNROLL
        for (int t = 0; t < L; t++)
          if (first + t < taps) g[layer.flipped ? taps - 1 - first - t : first + t] = rows[t];
      }
      TINYGEN_UNROLL
      for (int s = 0; s < 3; s++) {
        TINYGEN_UNROLL
        for (int r = 0; r < 3; r++) column[r] = g[r * 3 + s];
        transform_filter<T>(column, out);
        TINYGEN_UNROLL
        for (int f = 0; f < kPatch; f++) half[f][s] = out[f];
      }
      for (int f = 0; f < kPatch; f++) {
        transform_filter<T>(half[f], out);
        TINYGEN_UNROLL
        for (int h = 0; h < kPatch; h++) store(to + (f * kPatch + h) * plan.filter_pitch, out[h]);
      }
    }
  }
}

// The panel in hand.
struct Panel {
  index_t image, images, row, rows, column, columns;  // of tiles
  index_t tiles() const { return images * rows * columns; }
};

// What one image of the panel reads of L channels from `channel` on: copy[row][column][lane], zeros outside the source.
// Whole vectors are written: `copy` needs one of L pixels to spare at its end.
template <class T>
void read(const Layer<T>& layer, const Panel& panel, index_t image, index_t channel, T* copy, index_t row_pitch) {
  constexpr int L = lanes<T>;
  index_t plane = layer.height * layer.width, count = min(L, layer.channels - channel);
  index_t rows = panel.rows * kSide + 2, columns = panel.columns * kSide + 2;
  index_t top = panel.row * kSide - layer.row_pad, left = panel.column * kSide - layer.column_pad;
  index_t begin = min(columns, max(0, -left)), end = max(begin, min(columns, layer.width - left));
  const T* planes = layer.source + (image * layer.channels + channel) * plane;
  const T* source_end = layer.source + layer.images * layer.channels * plane;
  for (index_t h = 0; h < rows; h++, copy += row_pitch) {
    bool outside = top + h < 0 || top + h >= layer.height;
    index_t from = outside ? columns : begin, to = outside ? columns : end;
    for (index_t u = 0; u < from; u++) store(copy + u * L, Vector<T>{});
    for (index_t u = from; u < to; u += L) {
      Vector<T> pixels[L];
      load_rows(planes + (top + h) * layer.width + left + u, plane, count, source_end, pixels);
      transpose<T>(pixels);
      TINYGEN_UNROLL
      for (int i = 0; i < L; i++) store(copy + (u + i) * L, pixels[i]);
    }
    for (index_t u = to; u < columns; u++) store(copy + u * L, Vector<T>{});
  }
}

// B^T d B of one tile and L channels; `pitch` between frequencies.
template <class T>
void transform_patch(const T* __restrict patch, index_t row_pitch, T* __restrict to, index_t pitch) {
  constexpr int L = lanes<T>;
  Vector<T> half[kPatch][kPatch], in[kPatch], out[kPatch];
  TINYGEN_UNROLL
  for (int j = 0; j < kPatch; j++) {
    TINYGEN_UNROLL
    for (int i = 0; i < kPatch; i++) in[i] = load(patch + i * row_pitch + j * L);
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

// A^T m A + bias of one tile and L filters: pixels to[i * row_pitch + j], i < rows, j < columns, of L elements each.
template <class T>
void restore_tile(const T* __restrict from, index_t pitch, Vector<T> bias, T* __restrict to, index_t row_pitch,
                  index_t rows, index_t columns) {
  constexpr int L = lanes<T>;
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
    for (int j = 0; j < kSide; j++)
      if (j < columns) store(to + (i * row_pitch + j) * L, out[j] + bias);
  }
}

// The panel's outputs for the L filters from `result` on. sums[frequency][tile][filter], `pixels`: scratch for one
// image.
template <class T>
void restore(const Layer<T>& layer, const Panel& panel, index_t result, const T* sums, index_t tile_pitch,
             index_t pitch, T* pixels) {
  constexpr int L = lanes<T>;
  index_t count = min(L, layer.results - result), plane = layer.out_height * layer.out_width;
  index_t top = panel.row * kSide, left = panel.column * kSide;
  index_t height = min(panel.rows * kSide, layer.out_height - top);
  index_t width = min(panel.columns * kSide, layer.out_width - left);
  alignas(64) T bias[L] = {};
  if (layer.bias) __builtin_memcpy(bias, layer.bias + result, count * sizeof(T));
  for (index_t n = 0; n < panel.images; n++) {
    for (index_t a = 0; a < panel.rows; a++)
      for (index_t b = 0; b < panel.columns; b++, sums += tile_pitch)
        restore_tile<T>(sums, pitch, load(bias), pixels + (a * width + b) * kSide * L, width, height - a * kSide,
                        width - b * kSide);
    T* out = layer.out + ((panel.image + n) * layer.results + result) * plane + top * layer.out_width + left;
    if (width == layer.out_width)
      transpose_copy(pixels, L, height * width, count, out, plane);
    else
      for (index_t i = 0; i < height; i++)
        transpose_copy(pixels + i * width * L, L, width, count, out + i * layer.out_width, plane);
  }
}

// Blocks [b0, b1) of filters for one panel.
template <class T>
void compute_panel(const Layer<T>& layer, const Plan& plan, const T* packed, const Panel& panel, index_t b0,
                   index_t b1) {
  constexpr int L = lanes<T>;
  index_t tiles = panel.tiles(), row_pitch = odd_pitch<T>((panel.columns * kSide + 2) * L);
  index_t input_pitch = odd_pitch<T>(tiles * plan.depth), sum_pitch = odd_pitch<T>(tiles * plan.block);
  T* copy = static_cast<T*>(scratch(kWindow, ((panel.rows * kSide + 2) * row_pitch + L * L) * sizeof(T)));
  T* inputs = static_cast<T*>(scratch(kPanel, kFrequencies * input_pitch * sizeof(T)));
  T* sums = static_cast<T*>(scratch(kTile, kFrequencies * sum_pitch * sizeof(T)));
  T* pixels = static_cast<T*>(scratch(kTransposed, panel.rows * panel.columns * kSide * kSide * L * sizeof(T)));
  for (index_t channel = 0; channel < plan.depth; channel += L) {
    T* to = inputs + channel;
    for (index_t n = 0; n < panel.images; n++) {
      read(layer, panel, panel.image + n, channel, copy, row_pitch);
      for (index_t a = 0; a < panel.rows; a++)
        for (index_t b = 0; b < panel.columns; b++, to += plan.depth)
          transform_patch(copy + a * kSide * row_pitch + b * kSide * L, row_pitch, to, input_pitch);
    }
  }
  index_t groups = (tiles + kRows - 1) / kRows;  // of tiles, as equal as can be
  for (index_t block = b0; block < b1; block++) {
    for (int f = 0; f < kFrequencies; f++) {
      const T* filters = packed + (block * kFrequencies + f) * plan.filter_pitch;
      for (index_t g = 0; g < groups; g++) {
        index_t t = tiles * g / groups, rows = tiles * (g + 1) / groups - t;
        pick_multiply<T>(rows, plan.vectors)(layer.channels, inputs + f * input_pitch + t * plan.depth, plan.depth,
                                             filters, sums + f * sum_pitch + t * plan.block);
      }
    }
    for (index_t v = 0; v < plan.block && block * plan.block + v < layer.results; v += L)
      restore(layer, panel, block * plan.block + v, sums + v, plan.block, sum_pitch, pixels);
  }
}

template <class T>
void correlate(const Layer<T>& layer) {
  if (layer.images == 0 || layer.results == 0 || layer.out_height == 0 || layer.out_width == 0) return;
  int use = threads();
  const Plan plan = make_plan(layer, use);
  index_t units = plan.panels * plan.parts, filters = plan.blocks * layer.channels;
  T* packed =
      static_cast<T*>(scratch(kPackedWeights, (plan.blocks * kFrequencies * plan.filter_pitch + 1) * sizeof(T)));
  parallel(use, [&](int thread, int all) {
    transform_filters(layer, plan, packed, filters * thread / all, filters * (thread + 1) / all);
    barrier(all);
    for (index_t u = units * thread / all; u < units * (thread + 1) / all; u++) {
      index_t part = u / plan.panels, i = u % plan.panels;
      index_t column = i % plan.column_panels * plan.panel_columns;
      index_t row = i / plan.column_panels % plan.row_panels * plan.panel_rows;
      index_t image = i / plan.column_panels / plan.row_panels * plan.panel_images;
      const Panel panel = {image,  min(plan.panel_images, layer.images - image),
                           row,    min(plan.panel_rows, plan.tile_rows - row),
                           column, min(plan.panel_columns, plan.tile_columns - column)};
      compute_panel(layer, plan, packed, panel, plan.blocks * part / plan.parts, plan.blocks * (part + 1) / plan.parts);
    }
  });
}

}  // namespace

TINYGEN_KERNEL(conv_winograd,
               (const Geometry& geo, const T* source, const T* w, const T* bias, bool transposed, T* out)) {
  const Axis &rows = geo.rows, &cols = geo.cols;
  if (transposed)
    correlate(Layer<T>{source, w, bias, out, geo.n, geo.k, rows.y, cols.y, geo.c, rows.x, cols.x, 2 - rows.pad,
                       2 - cols.pad, 9, 9 * geo.c, true});
  else
    correlate(Layer<T>{source, w, bias, out, geo.n, geo.c, rows.x, cols.x, geo.k, rows.y, cols.y, rows.pad, cols.pad,
                       9 * geo.c, 9, false});
}

}  // namespace TINYGEN_ISA
}  // namespace tinygen
