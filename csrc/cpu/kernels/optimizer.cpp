// Optimizer steps: all of an update in one pass, p, g and the buffers read once and written once.
//
// Contract: the parameters are updated where they lie, and read beside their gradients, which lie where backward left them.
// The buffers are flat arrays; those that an optimizer does not have are null. What lies there between two pieces is not
// touched. No two parameters of a call overlap. Formulas as in torch.optim, written out in backends/reference/. Elementwise,
// so the result does not depend on the number of threads.
#include "cpu/parallel.h"
#include "cpu/table.h"
#include "cpu/vectormath.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

constexpr long long kGrain = 8192;
constexpr long long kAhead = 128;  // elements: fetched that early, Adam's step on a million took 331 us, not 353 (Zen 4)

// p = body(p, gradient, load, store) for every vector, the last two for buffers; in the last vector of a piece, they touch
// its elements only. Each thread takes its share of every piece, not of the whole: the part of a matrix whose gradient it has just computed, and
// whose values it reads in the forward pass, as products are divided too.
template <class T, class Body>
inline void each_vector(const Pieces<T>& all, const Body& body) {
  constexpr long long kLine = 64 / sizeof(T);  // no two threads write one cache line
  auto share = [&](int thread, int team) {
    for (long long k = 0; k < all.count; k++) {
      auto part = [&](int n) { return n == team ? all.size[k] : all.size[k] * n / team / kLine * kLine; };
      long long i = all.start[k] + part(thread);
      const long long stop = all.start[k] + part(thread + 1);
      T* p = all.p[k] + part(thread);
      const T* g = all.g[k] + part(thread);
      auto get = [&](const T* a) {
        __builtin_prefetch(a + i + kAhead);
        return load(a + i);
      };
      auto put = [&](T* a, Vector<T> v) { store(a + i, v); };
      for (; i + lanes<T> <= stop; i += lanes<T>, p += lanes<T>, g += lanes<T>) {
        __builtin_prefetch(p + kAhead);
        __builtin_prefetch(g + kAhead);
        store(p, body(load(p), load(g), get, put));
      }
      const int rest = (int)(stop - i);
      auto get_part = [&](const T* a) { return load_part(a + i, rest); };
      auto put_part = [&](T* a, Vector<T> v) { store_part(a + i, v, rest); };
      if (rest > 0) store_part(p, body(load_part(p, rest), load_part(g, rest), get_part, put_part), rest);
    }
  };
  long long elements = 0;
  for (long long k = 0; k < all.count; k++) elements += all.size[k];
  parallel(static_cast<int>(max(1, min(threads(), elements / kGrain))), share);
}

}  // namespace

TINYGEN_KERNEL(sgd_step, (const Pieces<T>& all, T* buffer, double lr, bool first, const Sgd& how)) {
  const T rate = (T)lr, momentum = (T)how.momentum, fresh = (T)(1 - how.dampening), decay = (T)how.weight_decay;
  each_vector<T>(all, [&](Vector<T> w, Vector<T> d, auto get, auto put) -> Vector<T> {
    if (decay != 0) d += decay * w;
    if (buffer) {
      Vector<T> b = first ? d : momentum * get(buffer) + fresh * d;
      put(buffer, b);
      d = how.nesterov ? d + momentum * b : b;
    }
    return w - rate * d;
  });
}

TINYGEN_KERNEL(adam_step, (const Pieces<T>& all, T* m, T* v, double lr, double step, const Adam& how)) {
  const T fresh1 = (T)(1 - how.beta1), fresh2 = (T)(1 - how.beta2), beta2 = (T)how.beta2, eps = (T)how.eps;
  const T rate = (T)(lr / (1 - __builtin_pow(how.beta1, step)));
  const T root = (T)(1 / __builtin_sqrt(1 - __builtin_pow(how.beta2, step)));
  const T shrink = (T)(how.decoupled ? 1 - lr * how.weight_decay : 1), decay = (T)(how.decoupled ? 0 : how.weight_decay);
  each_vector<T>(all, [&](Vector<T> w, Vector<T> d, auto get, auto put) -> Vector<T> {
    Vector<T> mean = get(m);
    w *= shrink;
    if (decay != 0) d += decay * w;
    mean += fresh1 * (d - mean);
    Vector<T> square = beta2 * get(v) + fresh2 * d * d;
    put(m, mean);
    put(v, square);
    return w - rate * mean / (sqrt(square) * root + eps);
  });
}

TINYGEN_KERNEL(rmsprop_step, (const Pieces<T>& all, T* v, T* buffer, T* mean, double lr, const RmsProp& how)) {
  const T alpha = (T)how.alpha, fresh = (T)(1 - how.alpha), eps = (T)how.eps, decay = (T)how.weight_decay;
  const T rate = (T)lr, momentum = (T)how.momentum;
  each_vector<T>(all, [&](Vector<T> w, Vector<T> d, auto get, auto put) -> Vector<T> {
    if (decay != 0) d += decay * w;
    Vector<T> square = alpha * get(v) + fresh * d * d, variance = square;
    put(v, square);
    if (mean) {
      Vector<T> m = get(mean);
      m += fresh * (d - m);
      put(mean, m);
      variance -= m * m;
    }
    d = d / (sqrt(variance) + eps);
    if (buffer) {
      d += momentum * get(buffer);
      put(buffer, d);
    }
    return w - rate * d;
  });
}

}  // namespace TINYGEN_ISA
}  // namespace tinygen
