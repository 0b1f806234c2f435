// What conv and conv_transpose have in common, and what every way of computing them starts from.
//
// Both are  out[m, j] = bias[m] + sum over channels, taps of  weight[m, channel, tap] * source[channel, step*j +
// offset(tap)]:  conv with step = stride and one phase; conv_transpose with step 1 and stride^2 phases (sub-pixel
// positions), each with its own subset of the taps, never inserting a zero. A Line (window.h) is that map along one
// axis.
#pragma once

#include "window.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

template <class T>
struct Gather {
  const T *source, *weights, *bias;  // bias may be null
  T* out;
  bool transposed;
  Axis row_axis, column_axis;
  index_t images, groups, channels, height, width;  // of the source; channels per group
  index_t results, out_height, out_width;           // results: output channels per group

  index_t row_phases() const { return transposed ? row_axis.stride : 1; }
  index_t column_phases() const { return transposed ? column_axis.stride : 1; }
  Line row_line(index_t f) const { return transposed ? transposed_line(row_axis, f) : convolution_line(row_axis); }
  Line column_line(index_t f) const {
    return transposed ? transposed_line(column_axis, f) : convolution_line(column_axis);
  }
  index_t kernel() const { return row_axis.w * column_axis.w; }  // elements of one filter and channel
  // weights is (result, channel, tap) of conv and (channel, result, tap) of conv_transpose
  index_t result_pitch() const { return transposed ? kernel() : channels * kernel(); }
  index_t channel_pitch() const { return transposed ? results * kernel() : kernel(); }
  double flops() const {  // nominal: taps on padding included
    return 2.0 * images * groups * results * channels * kernel() * row_axis.y * column_axis.y;
  }
};

// How many elements (1 .. lanes) behind `from` a vector is aligned.
template <class T>
TINYGEN_INLINE index_t to_line(const T* from) {
  constexpr int L = lanes<T>;
  return L - static_cast<index_t>(reinterpret_cast<size_t>(from) / sizeof(T) % L);
}

}  // namespace
}  // namespace TINYGEN_ISA
}  // namespace tinygen
