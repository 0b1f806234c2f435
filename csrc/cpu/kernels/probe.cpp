// Probes: what the machine can do at most, as the yardstick of the benchmarks. They compute nothing useful.
//
// fma_probe: every thread keeps kChains independent chains v = v * a + b in registers, enough to cover the latency of two
// units; no memory is touched inside the loop. from: a, b and the chains' first values (kChains vectors); to: one vector per
// thread, so that nothing can be left out; returns in *flops what was done, two per lane and multiply-add.
// triad: c = a + scale * b, or c = a where b is null, in one pass over arrays that should be larger than every cache.
#include "cpu/parallel.h"
#include "cpu/table.h"
#include "cpu/vector.h"

namespace tinygen {
namespace TINYGEN_ISA {

TINYGEN_KERNEL(fma_probe, (long long rounds, const T* from, T* to, long long* flops)) {
  constexpr int kChains = 12, kUnroll = 4;
  const Vector<T> a = splat(from[0]), b = splat(from[1]);
  int ran = 1;
  parallel(threads(), [&](int thread, int all) {
    Vector<T> v[kChains], sum = {};
    TINYGEN_UNROLL
    for (int i = 0; i < kChains; i++) v[i] = load(from + 2 + i * lanes<T>);
    for (long long r = 0; r < rounds; r++) {
      TINYGEN_UNROLL
      for (int u = 0; u < kUnroll; u++) {
        TINYGEN_UNROLL
        for (int i = 0; i < kChains; i++) v[i] = v[i] * a + b;
      }
    }
    TINYGEN_UNROLL
    for (int i = 0; i < kChains; i++) sum += v[i];
    store(to + thread * lanes<T>, sum);
    if (thread == 0) ran = all;
  });
  *flops = 2LL * rounds * kUnroll * kChains * lanes<T> * ran;
}

TINYGEN_KERNEL(triad, (long long count, double scale, const T* a, const T* b, T* c)) {
  const T factor = (T)scale;
  split(count, 1 << 16, [&](long long i, long long end) {
    for (; i + lanes<T> <= end; i += lanes<T>) {
      Vector<T> v = load(a + i);
      if (b) v += factor * load(b + i);
      store(c + i, v);
    }
    for (; i < end; i++) c[i] = b ? a[i] + factor * b[i] : a[i];
  });
}

}  // namespace TINYGEN_ISA
}  // namespace tinygen
