// conv and conv_transpose: one gather-and-multiply for both, and the choice of how it is done.
//
// Contract   conv: y[n,k,p] = bias[k] + sum over c,t of x[n, c, stride*p + dilation*t - pad] * w[k,c,t];
//            conv_transpose: its adjoint in x, plus bias. NCHW, contiguous, any geometry (groups, dilation, stride,
//            pads, empty axes). Every output is summed in a fixed order: results are bit-identical for a fixed number
//            of threads.
// Idea       Both are one Gather (conv/gather.h). A vector of results runs over images, over results or over pixels:
//            see `choose` below, conv/exact.h for the first two, conv/pixels.h and conv/product.h for the last.
// Cost       2 * taps * channels flops per output, taps on padding not counted except over pixels; bytes: source once
//            per band (plus halo), weights once per thread, output once. Nothing of size batch x taps ever exists.
#include "cpu/conv/exact.h"
#include "cpu/conv/gather.h"
#include "cpu/conv/pixels.h"
#include "cpu/conv/product.h"
#include "cpu/parallel.h"
#include "cpu/table.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

template <class T>
struct Choice {
  bool product;                            // all images that way
  index_t over_images;                     // else: how many images are computed with lanes over images
  enum { kNone, kResults, kPixels } rest;  // what lanes run over for the remaining ones
};

// Which lanes a gather runs over. Figures: AVX-512, 2 threads of a Zen 4, layers of benchmarks/cases.py.
template <class T>
Choice<T> choose(const Gather<T>& job) {
  constexpr index_t L = lanes<T>;
  // A matrix product per image needs no transposition. 1x1 kernels are 1.1 to 2.5 times as fast as with lanes over
  // images; dc64_d1, with 3 channels, takes 4.2 ms instead of 4.9 (1 thread).
  if (is_product(job)) return {true, 0, Choice<T>::kNone};
  // Images fill whole vectors whatever the shape: 1.05 to 2.5 times as fast as the others. A last vector that is nearly
  // full is taken too; of 24 images 16 are computed so, and 8 in another way.
  index_t whole = job.images / L * L, left = job.images - whole;
  if (left * 8 >= L * 7) return {false, job.images, Choice<T>::kNone};
  if (left == 0) return {false, whole, Choice<T>::kNone};
  // Few results leave lanes over results idle (dc64_g5, 3 results, one image: 0.18 ms over results, 0.04 over pixels);
  // more than 4 are worth it only where few lanes idle at the ends of rows.
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
  return {false, whole, few ? Choice<T>::kPixels : Choice<T>::kResults};
}

// Images begin .. end - 1 of a job.
template <class T>
Gather<T> part_of(Gather<T> job, index_t begin, index_t end) {
  job.source += begin * job.groups * job.channels * job.height * job.width;
  job.out += begin * job.groups * job.results * job.out_height * job.out_width;
  job.images = end - begin;
  return job;
}

template <class T>
void gather(const Gather<T>& job) {
  if (job.images == 0 || job.groups * job.results == 0 || job.out_height == 0 || job.out_width == 0) return;
  double flops =
      2.0 * job.images * job.groups * job.results * job.channels * job.kernel() * job.row_axis.y * job.column_axis.y;
  int use = flops < 2e5 ? 1 : threads();  // waking threads takes longer than so little
  const Choice<T> choice = choose(job);
  if (choice.product) return gather_product(job, use);
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
  gather(gather_of(geo, x, w, bias, y));
}

TINYGEN_KERNEL(conv_transpose, (const Geometry& geo, const T* y, const T* w, const T* bias, T* x)) {
  gather(transposed_gather_of(geo, y, w, bias, x));
}

TINYGEN_KERNEL(conv_plan, (const Geometry& geo, bool transposed, const char** plan)) {
  constexpr T* none = nullptr;
  const Gather<T> job =
      transposed ? transposed_gather_of<T>(geo, none, none, none, none) : gather_of<T>(geo, none, none, none, none);
  const Choice<T> choice = choose(job);
  bool images = choice.over_images > 0;
  if (choice.product)
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
