// Which algorithm computes a convolution: the one place where this is decided, from the geometry alone.
//
// choose         of conv and conv_transpose: Winograd's algorithm, a matrix product, or what the lanes run over
// choose_weight  of conv_weight: Winograd's algorithm, or the innermost loop
//
// All limits are measured; TUNING.md has the figures. Winograd's algorithm rounds more coarsely: float32 alone, and not
// after tinygen.set_winograd(False).
#pragma once

#include "../runtime.h"
#include "gather.h"
#include "product.h"
#include "tile.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

template <class T>
bool winograd_allowed() {
  return sizeof(T) == sizeof(float) && winograd();
}

// Tiles of 4 x 4 results over one image, and the results inside them.
struct Tiling {
  index_t tiles, inside;

  Tiling(index_t height, index_t width) : tiles((height + 3) / 4 * ((width + 3) / 4)), inside(height * width) {}
  bool holds(index_t results) const { return inside >= results * tiles; }  // in the mean tile
};

// Winograd's algorithm takes 2x2 and 3x3 kernels at stride 1, 4x4 to 6x6 at stride 2; 3x3 at stride 2 is no faster. Few
// channels leave lanes idle, small images leave most of a tile outside, and few tiles do not pay for the transformation
// of the filters.
template <class T>
bool winograd_wins(const Gather<T>& job) {
  const Axis &rows = job.row_axis, &columns = job.column_axis;
  index_t kernel = rows.w, stride = rows.stride;
  if (job.groups != 1 || rows.dilation != 1 || columns.dilation != 1) return false;
  if (columns.w != kernel || columns.stride != stride) return false;
  if (stride == 1 ? kernel != 2 && kernel != 3 : stride != 2 || kernel < 4 || kernel > 6) return false;
  if (job.flops() < 3e6) return false;
  // At stride 2 each phase of conv_transpose's results has tiles of its own.
  index_t phases = job.transposed ? stride : 1;
  const Tiling tiling((job.out_height + phases - 1) / phases, (job.out_width + phases - 1) / phases);
  index_t all = job.images * tiling.tiles, pairs = job.channels * job.results;
  if (stride == 1) return min(job.channels, job.results) >= 16 && all >= 4 && tiling.holds(kernel == 3 ? 9 : 11);
  if (job.transposed) return min(job.channels, job.results) >= 12 && pairs >= 256 && all >= 16 && tiling.holds(11);
  return job.results >= 16 && pairs >= 128 && all >= 4 && tiling.holds(11);
}

template <class T>
struct Choice {
  enum { kWinograd, kProduct, kLanes } way;  // of all images
  index_t over_images;                       // lanes: how many images are computed with lanes over images,
  enum { kNone, kResults, kPixels } rest;    // and what they run over for the remaining ones
};

// Among the ways that compute by the definition.
template <class T>
Choice<T> choose_exact(const Gather<T>& job) {
  constexpr index_t L = lanes<T>;
  // A matrix product per image needs no transposition.
  if (is_product(job)) return {Choice<T>::kProduct, 0, Choice<T>::kNone};
  // Images fill whole vectors whatever the shape. A last vector that is nearly full is taken too; of 24 images 16 are
  // computed so, and 8 in another way.
  index_t whole = job.images / L * L, left = job.images - whole;
  if (left * 8 >= L * 7) return {Choice<T>::kLanes, job.images, Choice<T>::kNone};
  if (left == 0) return {Choice<T>::kLanes, whole, Choice<T>::kNone};
  // Few results leave lanes over results idle; more than 4 are worth lanes over pixels only where few of these idle at
  // the ends of rows.
  index_t columns = 0, extent = 0;
  for (index_t f = 0; f < job.column_phases(); f++) {
    Line line = job.column_line(f);
    columns = max(columns, line.outputs);
    extent = max(extent, line.highest() - line.lowest());
  }
  index_t padded = (columns + L - 1) / L * L;
  bool strided = !job.transposed && job.row_axis.stride * job.column_axis.stride > 1;
  index_t walked = strided ? padded : min(padded, columns + extent);
  bool few = job.results <= 4 || (job.results <= kRows && walked * 3 <= columns * 4);
  return {Choice<T>::kLanes, whole, few ? Choice<T>::kPixels : Choice<T>::kResults};
}

template <class T>
Choice<T> choose(const Gather<T>& job) {
  if (winograd_allowed<T>() && winograd_wins(job)) return {Choice<T>::kWinograd, 0, Choice<T>::kNone};
  return choose_exact(job);
}

// That of Geometry::flops, which where it is not inlined would be a weak symbol.
inline double work_of(const Geometry& geo) {
  return 2.0 * geo.n * geo.k * (geo.c / geo.groups) * geo.rows.w * geo.cols.w * geo.rows.y * geo.cols.y;
}

// Winograd's algorithm for weights takes 3x3 kernels at stride 1 and 4x4 at stride 2. What counts is how much of the
// tiles lies inside.
inline bool winograd_weight_wins(const Geometry& geo) {
  const Axis &rows = geo.rows, &columns = geo.cols;
  index_t kernel = rows.w, stride = rows.stride;
  if (geo.groups != 1 || rows.dilation != 1 || columns.dilation != 1) return false;
  if (columns.w != kernel || columns.stride != stride) return false;
  if (stride == 1 ? kernel != 3 : stride != 2 || kernel != 4) return false;
  const Tiling tiling(rows.y, columns.y);
  index_t all = geo.n * tiling.tiles;
  if (min(geo.c, geo.k) < 12) return false;
  if (stride == 1) return all >= 8 && tiling.holds(9) && work_of(geo) >= 5e6;
  return all >= 12 && tiling.holds(11) && work_of(geo) >= 1.7e7;
}

enum class WeightWay { kWinograd, kDots, kSpread };

// Between dots and spread (conv_weight.cpp): cycles per pixel of y, one fused multiply-add a cycle.
template <class T>
WeightWay choose_exact_weight(const Geometry& geo) {
  constexpr double L = lanes<T>;
  constexpr index_t kDotsBytes = 256 << 10;
  const Axis &rows = geo.rows, &columns = geo.cols;
  index_t channels = geo.c / geo.groups, results = geo.k / geo.groups, pairs = channels * rows.w * columns.w;
  double pixels = static_cast<double>(rows.y * columns.y), met_rows = 0, met_columns = 0;
  for (index_t r = 0; r < rows.w; r++) met_rows += outputs_inside(rows, r, 0, rows.y).size();
  for (index_t s = 0; s < columns.w; s++) met_columns += outputs_inside(columns, s, 0, columns.y).size();
  index_t vectors = (results + lanes<T> - 1) / lanes<T>;
  double idle = (pixels + L - 1) / pixels;  // lanes beyond the end of a plane
  double spread_cost = (channels * met_rows * met_columns / pixels + 10) * vectors;
  bool large = pairs * results * sizeof(T) * lanes<T> > kDotsBytes;
  double dots_cost = pairs * results / L * idle * (large ? 1.6 : 1.1);
  return dots_cost < spread_cost ? WeightWay::kDots : WeightWay::kSpread;
}

template <class T>
WeightWay choose_weight(const Geometry& geo) {
  if (winograd_allowed<T>() && winograd_weight_wins(geo)) return WeightWay::kWinograd;
  return choose_exact_weight<T>(geo);
}

}  // namespace
}  // namespace TINYGEN_ISA
}  // namespace tinygen
