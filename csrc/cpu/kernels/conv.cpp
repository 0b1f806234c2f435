#include "cpu/parallel.h"
#include "cpu/vector.h"
#include "cpu/table.h"

namespace tinygen {
namespace TINYGEN_ISA {

// Placeholder: naive loops, replaced by the blocked kernels.
TINYGEN_KERNEL(conv, (const Geometry& geo, const T* x, const T* w, const T* bias, T* y)) {
  const Axis &a = geo.rows, &b = geo.cols;
  index_t C = geo.c / geo.groups, K = geo.k / geo.groups;
  split(geo.n * geo.k, 1, [&](index_t begin, index_t end) {
    for (index_t i = begin; i < end; i++) {
      index_t n = i / geo.k, k = i % geo.k, g = k / K;
      for (index_t p = 0; p < a.y; p++)
        for (index_t q = 0; q < b.y; q++) {
          T sum = bias ? bias[k] : T(0);
          for (index_t c = 0; c < C; c++)
            for (index_t r = 0; r < a.w; r++)
              for (index_t s = 0; s < b.w; s++) {
                index_t h = a.position(p, r), v = b.position(q, s);
                if (h < 0 || h >= a.x || v < 0 || v >= b.x) continue;
                sum += x[((n * geo.c + g * C + c) * a.x + h) * b.x + v] * w[((k * C + c) * a.w + r) * b.w + s];
              }
          y[(i * a.y + p) * b.y + q] = sum;
        }
    }
  });
}

TINYGEN_KERNEL(conv_transpose, (const Geometry& geo, const T* y, const T* w, const T* bias, T* x)) {
  const Axis &a = geo.rows, &b = geo.cols;
  index_t C = geo.c / geo.groups, K = geo.k / geo.groups;
  split(geo.n * geo.c, 1, [&](index_t begin, index_t end) {
    for (index_t i = begin; i < end; i++) {
      index_t n = i / geo.c, c = i % geo.c, g = c / C;
      for (index_t j = 0; j < a.x * b.x; j++) x[i * a.x * b.x + j] = bias ? bias[c] : T(0);
      for (index_t k = g * K; k < g * K + K; k++)
        for (index_t p = 0; p < a.y; p++)
          for (index_t q = 0; q < b.y; q++)
            for (index_t r = 0; r < a.w; r++)
              for (index_t s = 0; s < b.w; s++) {
                index_t h = a.position(p, r), v = b.position(q, s);
                if (h < 0 || h >= a.x || v < 0 || v >= b.x) continue;
                x[(i * a.x + h) * b.x + v] +=
                    y[((n * geo.k + k) * a.y + p) * b.y + q] * w[((k * C + c % C) * a.w + r) * b.w + s];
              }
    }
  });
}

}  // namespace TINYGEN_ISA
}  // namespace tinygen
