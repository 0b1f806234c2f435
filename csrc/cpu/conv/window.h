// The part of the source tensor that a block of outputs reads, copied so that nobody has to check bounds again.
//
// Along each axis, output j meets tap m at source position  step * j + start + move * m  (a Line). A Window holds, for
// a few channels and images and a range of output rows, everything that those outputs can read, zeros included, with
// the columns split by residue: column j * step + e of the source is element [e % step][j + e / step]. So whatever the
// stride, neighbouring outputs read neighbouring elements through every tap: one plain vector load. A tap is one
// number, its offset.
#pragma once

#include "../runtime.h"
#include "../vector.h"
#include "geometry.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

struct Range {
  index_t begin, end;
  index_t size() const { return end - begin; }
};

// The outputs in [begin, end) whose position under tap t lies inside x.
inline Range outputs_inside(const Axis& axis, index_t t, index_t begin, index_t end) {
  index_t zero = axis.dilation * t - axis.pad;  // position of output 0
  index_t from = max(begin, ceil_div(-zero, axis.stride)), to = min(end, floor_div(axis.x - 1 - zero, axis.stride) + 1);
  return {from, max(from, to)};
}

// How outputs along one axis read the source, and where the outputs belong.
struct Line {
  index_t source, outputs;     // lengths
  index_t step, start, move;   // output j reads position step * j + start + move * m through its tap m
  index_t taps, first, every;  // tap m is number first + every * m of the kernel; a tap's source follows that of m - 1
  index_t origin, spacing;     // output j is element origin + spacing * j of the result

  // The taps of output j that fall inside the source: *begin .. *end - 1. Needs move > 0, so that they are neighbours.
  void inside(index_t j, index_t* begin, index_t* end) const {
    index_t at = step * j + start;
    *begin = taps > 0 ? max(0, ceil_div(-at, move)) : 0;
    *end = taps > 0 ? min(taps, ceil_div(source - at, move)) : 0;
    if (*begin >= *end) *begin = *end = 0;
  }
  index_t lowest() const { return taps > 0 ? start + min(0, move * (taps - 1)) : 0; }
  index_t highest() const { return taps > 0 ? start + max(0, move * (taps - 1)) : 0; }
};

// y from x: every output reads all taps, `stride` apart.
inline Line convolution_line(const Axis& axis) {
  return {axis.x, axis.y, axis.stride, -axis.pad, axis.dilation, axis.w, 0, 1, 0, 1};
}

// x from y, phase f: stride 1, and only the taps that reach this phase, the last one first: its source comes first.
inline Line transposed_line(const Axis& axis, index_t f) {
  Line line = {axis.y, axis.count(f), 1, 0, 0, 0, 0, 1, axis.first(f), axis.stride};
  index_t first = 0,
          every = 1;  // the first tap that reaches the phase; the distance to the next one divides the stride
  while (first < axis.w && !axis.reaches(f, first)) first++;
  if (first >= axis.w) return line;
  while (axis.dilation * every % axis.stride) every++;
  line.taps = (axis.w - first + every - 1) / every;
  line.first = first + (line.taps - 1) * every;
  line.every = -every;
  line.start = axis.shift(f, line.first);
  line.move = axis.dilation * every / axis.stride;
  return line;
}

// Layout of a window: pitches in elements, and the range of offsets that it covers on either axis.
struct Window {
  index_t row_step, row_low, rows;  // source row of window row h, output row j0: row_step * j0 + row_low + h
  index_t column_step, column_low;  // likewise
  index_t row_extent;               // highest - lowest offset along the rows
  index_t residues, width;          // columns: [residue][width]
  index_t row_pitch, image_pitch, channel_pitch;

  index_t tap(index_t row_offset, index_t column_offset) const {
    index_t e = column_offset - column_low;
    return (row_offset - row_low) * row_pitch + e % column_step * width + e / column_step;
  }
  index_t pixel(index_t image, index_t row, index_t column) const {  // row counted from the block's first
    return image * image_pitch + row * row_step * row_pitch + column;
  }
};

// A window for `output_rows` x `output_columns` outputs of `images` images whose taps have offsets in the given ranges.
inline Window make_window(index_t images, index_t output_rows, index_t output_columns, index_t row_step,
                          index_t row_low, index_t row_high, index_t column_step, index_t column_low,
                          index_t column_high) {
  Window window;
  index_t extent = column_high - column_low;
  window.row_step = row_step;
  window.row_low = row_low;
  window.row_extent = row_high - row_low;
  window.rows = row_step * (output_rows - 1) + window.row_extent + 1;
  window.column_step = column_step;
  window.column_low = column_low;
  window.residues = min(column_step, extent + 1);
  window.width = output_columns + extent / column_step;
  window.row_pitch = window.residues * window.width;
  window.image_pitch = window.rows * window.row_pitch;
  window.channel_pitch = images * window.image_pitch;
  if (window.channel_pitch % 64 < 16) window.channel_pitch += 16;  // equal cache sets for all channels would thrash
  return window;
}

// to[u] = row[start + step * u], zero outside [0, size), for u < count.
template <class T>
inline void fill_row(T* __restrict to, index_t count, const T* __restrict row, index_t size, index_t start,
                     index_t step) {
  for (index_t u = 0; u < count; u++) {
    index_t from = start + step * u;
    to[u] = from >= 0 && from < size ? row[from] : T(0);
  }
}

// All ones where vector v of a window row (one residue) has an element of the source, zeros where it has padding.
template <class T>
inline void fill_masks(const Window& window, index_t width, typename VectorOf<T>::mask* masks) {
  constexpr index_t L = lanes<T>;
  for (index_t residue = 0; residue < window.residues; residue++)
    for (index_t u = 0; u < window.width; u += L, masks++)
      for (index_t lane = 0; lane < L; lane++) {
        index_t from = window.column_low + residue + window.column_step * (u + lane);
        (*masks)[lane] = u + lane < window.width && from >= 0 && from < width ? -1 : 0;
      }
}

// Fills `to` for channels [channel, channel + channels) of images [image, image + images) and output rows from j0 on.
// source is (all_images, all_channels, height, width). Rows are written front to back in whole vectors, so that the
// excess of one is overwritten by the next: `to` needs a vector to spare at its end. Rows at stride 1 and 2 are loaded
// as whole vectors and masked wherever that stays inside the array.
template <class T>
inline void fill_window(const Window& window, T* __restrict to, const T* __restrict source, index_t all_images,
                        index_t all_channels, index_t height, index_t width, index_t channel, index_t channels,
                        index_t image, index_t images, index_t j0) {
  constexpr index_t L = lanes<T>;
  typedef typename VectorOf<T>::mask Mask;
  index_t top = window.row_step * j0 + window.row_low, vectors = (window.width + L - 1) / L, step = window.column_step;
  const T* end = source + all_images * all_channels * height * width;
  Mask* masks = static_cast<Mask*>(scratch(kMasks, window.residues * vectors * sizeof(Mask)));
  fill_masks<T>(window, width, masks);
  for (index_t c = 0; c < channels; c++)
    for (index_t n = 0; n < images; n++) {
      const T* plane = source + ((image + n) * all_channels + channel + c) * height * width;
      T* copy = to + c * window.channel_pitch + n * window.image_pitch;
      for (index_t h = 0; h < window.rows; h++) {
        if (h % window.row_step > window.row_extent) continue;  // between the taps: never read
        T* row = copy + h * window.row_pitch;
        index_t from = top + h;
        if (from < 0 || from >= height) {
          for (index_t u = 0; u < window.row_pitch; u += L) store(row + u, Vector<T>{});
          continue;
        }
        const T* start = plane + from * width + window.column_low;
        bool inside = start >= source && start + window.residues + vectors * L * step <= end;
        if (step == 1 && inside) {
          for (index_t v = 0; v < vectors; v++) store(row + v * L, Vector<T>(Mask(load(start + v * L)) & masks[v]));
        } else if (step == 2 && inside) {
          const Mask* mask = masks;
          for (index_t residue = 0; residue < window.residues; residue++, row += window.width, start++)
            for (index_t v = 0; v < vectors; v++, mask++) {
              const T* pair = start + 2 * v * L;
              store(row + v * L, Vector<T>(Mask(Shuffles<T>::even(load(pair), load(pair + L))) & *mask));
            }
        } else {
          for (index_t residue = 0; residue < window.residues; residue++)
            fill_row(row + residue * window.width, window.width, plane + from * width, width,
                     window.column_low + residue, step);
        }
      }
    }
}

}  // namespace
}  // namespace TINYGEN_ISA
}  // namespace tinygen
