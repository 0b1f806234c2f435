// Some rows of the source, unrolled by the column taps: through every tap, neighbouring outputs read neighbouring
// elements, over the ends of rows too, so that loops run along whole planes and no vector is broken at a border.
//
// Idea       x is copied once per column tap instead of once per tap (im2col): rows are shifted by offsets. Called
//            compact lowering by Cho and Brand, "MEC: Memory-efficient Convolution for Deep Neural Network", 2017.
// Layout     [channel][image][column tap][residue of the row][row][column of the outputs], zeros off the source. What
//            output (j, q) of the band meets e rows below that of tap 0 is element q of row j + e / step of residue
//            e % step.
#pragma once

#include "../runtime.h"
#include "../vector.h"
#include "window.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

struct Unrolled {
  Line row, column;
  index_t images, residues, rows;           // of the band; rows of each residue
  index_t per_tap, per_image, per_channel;  // elements, each tap with a vector to spare

  // From the start of a channel and image: where outputs read through a tap.
  index_t tap(index_t r, index_t s) const {
    index_t e = row.move * r;
    return s * per_tap + (e % row.step * rows + e / row.step) * column.outputs;
  }
};

// For `rows` rows of the outputs of some images; all outputs must meet the same taps (one phase).
template <class T>
Unrolled unrolled(const Line& row, const Line& column, index_t images, index_t rows) {
  index_t extent = row.move * (row.taps - 1), residues = min(row.step, extent + 1);
  Unrolled layout = {row, column, images, residues, rows + extent / row.step, 0, 0, 0};
  layout.per_tap = residues * layout.rows * column.outputs + lanes<T>;
  layout.per_image = column.taps * layout.per_tap;
  layout.per_channel = images * layout.per_image;
  return layout;
}

// An array of which whole vectors may be loaded.
template <class T>
struct Extent {
  const T *begin, *end;
};

// masks[v]: all ones in the lanes of vector v where outputs read inside the source through column tap s.
template <class T>
inline void fill_masks(const Line& columns, index_t s, index_t vectors, typename VectorOf<T>::mask* masks) {
  typedef typename VectorOf<T>::mask Mask;
  constexpr int L = lanes<T>;
  index_t start = columns.start + s * columns.move;
  index_t begin = max(0, ceil_div(-start, columns.step));
  index_t end = min(columns.outputs, ceil_div(columns.source - start, columns.step));
  Mask lane;
  TINYGEN_UNROLL
  for (int i = 0; i < L; i++) lane[i] = i;
  auto number = [](index_t n) { return static_cast<decltype(lane[0] + 0)>(n); };
  for (index_t v = 0; v < vectors; v++) masks[v] = (lane >= number(begin - v * L)) & (lane < number(end - v * L));
}

// Fills `to` with rows from output row `first` on of `channels` channels; `source` is the first channel of the first
// image. The rows of a tap are written front to back in whole vectors, so that the excess of one is overwritten by the
// next. At step 1 and 2 rows are loaded as whole vectors and masked wherever that stays inside the array.
template <class T>
void unroll_columns(const Unrolled& layout, const T* source, index_t channels, index_t image_pitch, index_t first,
                    const Extent<T>& array, T* __restrict to) {
  constexpr index_t L = lanes<T>;
  typedef typename VectorOf<T>::mask Mask;
  const Line &rows = layout.row, &columns = layout.column;
  index_t width = columns.outputs, vectors = (width + L - 1) / L, step = columns.step, reach = vectors * L * step;
  Mask* masks = static_cast<Mask*>(scratch(kMasks, columns.taps * vectors * sizeof(Mask)));
  for (index_t s = 0; s < columns.taps; s++) fill_masks<T>(columns, s, vectors, masks + s * vectors);
  auto put = [](T* at, Vector<T> values, Mask mask) { store(at, Vector<T>(Mask(values) & mask)); };
  auto unroll_row = [&](const T* from, bool inside, T* copy) {
    for (index_t s = 0; s < columns.taps; s++, from += columns.move, copy += layout.per_tap) {
      const Mask* mask = masks + s * vectors;
      bool loadable = from >= array.begin && from + reach <= array.end;
      if (!inside) {
        for (index_t v = 0; v < vectors; v++) store(copy + v * L, Vector<T>{});
      } else if (step == 1 && loadable) {
        for (index_t v = 0; v < vectors; v++) put(copy + v * L, load(from + v * L), mask[v]);
      } else if (step == 2 && loadable) {
        bool both = columns.move == 1 && s + 1 < columns.taps;  // the odd elements are those of the next tap
        for (index_t v = 0; v < vectors; v++) {
          Vector<T> low = load(from + 2 * v * L), high = load(from + 2 * v * L + L);
          put(copy + v * L, Shuffles<T>::even(low, high), mask[v]);
          if (both) put(copy + layout.per_tap + v * L, Shuffles<T>::odd(low, high), mask[vectors + v]);
        }
        if (both) s++, from += columns.move, copy += layout.per_tap;
      } else {
        for (index_t q = 0; q < width; q++) copy[q] = mask[q / L][q % L] ? from[q * step] : T(0);
      }
    }
  };
  for (index_t c = 0; c < channels; c++)
    for (index_t n = 0; n < layout.images; n++, to += layout.per_image) {
      const T* plane = source + n * image_pitch + c * rows.source * columns.source + columns.start;
      T* copy = to;
      for (index_t residue = 0; residue < layout.residues; residue++) {
        index_t row = rows.step * first + rows.start + residue;
        for (index_t j = 0; j < layout.rows; j++, row += rows.step, copy += width)
          unroll_row(plane + row * columns.source, row >= 0 && row < rows.source, copy);
      }
    }
}

}  // namespace
}  // namespace TINYGEN_ISA
}  // namespace tinygen
