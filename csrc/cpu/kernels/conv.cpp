// conv and conv_transpose: one gather-and-multiply for both.
//
// Contract   conv: y[n,k,p] = bias[k] + sum over c,t of x[n, c, stride*p + dilation*t - pad] * w[k,c,t];
//            conv_transpose: its adjoint in x, plus bias. NCHW, contiguous, any geometry (groups, dilation, stride,
//            pads, empty axes). Every output is summed in a fixed order: results are bit-identical for a fixed number
//            of threads.
// Idea       Both are one Gather (conv/gather.h). A vector of results runs over images, over results or over pixels:
//            see conv/exact.h for the first two, conv/pixels.h and conv/product.h for the last. conv/choose.h says
//            which, and where Winograd's algorithm (winograd.cpp) computes the whole.
// Cost       2 * taps * channels flops per output, taps on padding not counted except over pixels; bytes: source once
//            per band (plus halo), weights once per thread, output once. Nothing of size batch x taps ever exists.
#include "cpu/conv/choose.h"
#include "cpu/conv/exact.h"
#include "cpu/conv/gather.h"
#include "cpu/conv/pixels.h"
#include "cpu/conv/product.h"
#include "cpu/parallel.h"
#include "cpu/table.h"

namespace tinygen {
namespace TINYGEN_ISA {

extern const Entry<conv_winograd_t> entry_conv_winograd;  // winograd.cpp

namespace {

// Images begin .. end - 1 of a job.
template <class T>
Gather<T> part_of(Gather<T> job, index_t begin, index_t end) {
  job.source += begin * job.groups * job.channels * job.height * job.width;
  job.out += begin * job.groups * job.results * job.out_height * job.out_width;
  job.images = end - begin;
  return job;
}

template <class T>
void compute(const Gather<T>& job, const Choice<T>& choice);

// Winograd's algorithm, and the definition for images in which something is infinite or NaN: it must reach only the
// results whose window holds it.
inline void gather_by_winograd(const Geometry& geo, const Gather<float>& job) {
  bool* dirty = static_cast<bool*>(scratch(kDirty, job.images));
  __builtin_memset(dirty, 0, job.images);
  entry_conv_winograd.f32(geo, job.source, job.weights, job.bias, job.transposed, job.out, dirty);
  for (index_t begin = 0, end; begin < job.images; begin = end) {
    for (end = begin + 1; end < job.images && dirty[end] == dirty[begin];) end++;
    const Gather<float> part = part_of(job, begin, end);
    if (dirty[begin]) compute(part, choose_exact(part));
  }
}

// Where there is nothing to add up, all is bias.
template <class T>
void fill(const Gather<T>& job) {
  const index_t planes = job.groups * job.results, plane = job.out_height * job.out_width;
  for (index_t i = 0; i < job.images * planes; i++)
    for (index_t p = 0; p < plane; p++) job.out[i * plane + p] = job.bias ? job.bias[i % planes] : T(0);
}

template <class T>
void gather(const Geometry& geo, const Gather<T>& job) {
  if (job.images == 0 || job.groups * job.results == 0 || job.out_height == 0 || job.out_width == 0) return;
  if (job.channels * job.kernel() * job.height * job.width == 0) return fill(job);
  const Choice<T> choice = choose(job);
  if constexpr (sizeof(T) == sizeof(float))
    if (choice.way == Choice<T>::kWinograd) return gather_by_winograd(geo, job);
  compute(job, choice);
}

template <class T>
void compute(const Gather<T>& job, const Choice<T>& choice) {
  int use = job.flops() < 2e5 ? 1 : threads();  // waking threads takes longer than so little
  if (choice.way == Choice<T>::kProduct) return gather_product(job, use);
  if (choice.over_images > 0) gather_exactly(part_of(job, 0, choice.over_images), true, use);
  const Gather<T> rest = part_of(job, choice.over_images, job.images);
  if (choice.rest == Choice<T>::kResults) gather_exactly(rest, false, use);
  if (choice.rest == Choice<T>::kPixels) gather_over_pixels(rest, use);
}

template <class T>
Gather<T> gather_of(const Geometry& geo, const T* x, const T* w, const T* bias, T* y) {
  return {x,
          w,
          bias,
          y,
          false,
          geo.rows,
          geo.cols,
          geo.n,
          geo.groups,
          geo.c / geo.groups,
          geo.rows.x,
          geo.cols.x,
          geo.k / geo.groups,
          geo.rows.y,
          geo.cols.y};
}

template <class T>
Gather<T> transposed_gather_of(const Geometry& geo, const T* y, const T* w, const T* bias, T* x) {
  return {y,
          w,
          bias,
          x,
          true,
          geo.rows,
          geo.cols,
          geo.n,
          geo.groups,
          geo.k / geo.groups,
          geo.rows.y,
          geo.cols.y,
          geo.c / geo.groups,
          geo.rows.x,
          geo.cols.x};
}

}  // namespace

TINYGEN_KERNEL(conv, (const Geometry& geo, const T* x, const T* w, const T* bias, T* y)) {
  gather(geo, gather_of(geo, x, w, bias, y));
}

TINYGEN_KERNEL(conv_transpose, (const Geometry& geo, const T* y, const T* w, const T* bias, T* x)) {
  gather(geo, transposed_gather_of(geo, y, w, bias, x));
}

TINYGEN_KERNEL(conv_plan, (const Geometry& geo, bool transposed, const char** plan)) {
  constexpr T* none = nullptr;
  const Gather<T> job =
      transposed ? transposed_gather_of<T>(geo, none, none, none, none) : gather_of<T>(geo, none, none, none, none);
  const Choice<T> choice = choose(job);
  bool images = choice.over_images > 0;
  if (choice.way == Choice<T>::kWinograd)
    *plan = "winograd";
  else if (choice.way == Choice<T>::kProduct)
    *plan = is_pointwise(job) ? "product" : "unrolled product";
  else if (choice.rest == Choice<T>::kNone)
    *plan = "images";
  else if (choice.rest == Choice<T>::kResults)
    *plan = images ? "images, results" : "results";
  else
    *plan = images ? "images, pixels" : "pixels";
}

}  // namespace TINYGEN_ISA
}  // namespace tinygen
