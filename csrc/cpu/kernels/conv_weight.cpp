#include "cpu/parallel.h"
#include "cpu/vector.h"
#include "cpu/table.h"

namespace tinygen {
namespace TINYGEN_ISA {

// Placeholder: naive loops, replaced by the blocked kernel.
TINYGEN_KERNEL(conv_weight, (const Geometry& geo, const T* x, const T* y, T* w)) {
  const Axis &a = geo.rows, &b = geo.cols;
  index_t C = geo.c / geo.groups, K = geo.k / geo.groups;
  split(geo.k * C, 1, [&](index_t begin, index_t end) {
    for (index_t i = begin; i < end; i++) {
      index_t k = i / C, c = i % C + k / K * C;
      for (index_t r = 0; r < a.w; r++)
        for (index_t s = 0; s < b.w; s++) {
          T sum = 0;
          for (index_t n = 0; n < geo.n; n++)
            for (index_t p = 0; p < a.y; p++)
              for (index_t q = 0; q < b.y; q++) {
                index_t h = a.position(p, r), v = b.position(q, s);
                if (h < 0 || h >= a.x || v < 0 || v >= b.x) continue;
                sum += x[((n * geo.c + c) * a.x + h) * b.x + v] * y[((n * geo.k + k) * a.y + p) * b.y + q];
              }
          w[(i * a.w + r) * b.w + s] = sum;
        }
    }
  });
}

}  // namespace TINYGEN_ISA
}  // namespace tinygen
