// Threads for kernels: static shares, so that a fixed number of threads gives bit-identical results.
//
// Include inside a kernel file only. `parallel(count, body)` calls body(thread, threads) once per thread; `split(count,
// grain, body)` calls body(begin, end) with disjoint ranges that cover [0, count), in one thread if there are fewer
// than 2 * grain.
#pragma once

#include "runtime.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

template <class Body>
inline void parallel(int count, const Body& body) {
  run_region(
      count,
      [](const void* context, int thread, int threads) { (*static_cast<const Body*>(context))(thread, threads); },
      &body);
}

// Waits for all threads of the surrounding parallel().
inline void barrier(int threads) { wait_for_region(threads); }

template <class Body>
inline void split(long long count, long long grain, const Body& body) {
  long long most = count / (grain > 0 ? grain : 1);
  int use = most < threads() ? static_cast<int>(most) : threads();
  if (use <= 1) {
    if (count > 0) body(0LL, count);
    return;
  }
  parallel(use, [&](int thread, int all) {
    long long begin = count * thread / all, end = count * (thread + 1) / all;
    if (begin < end) body(begin, end);
  });
}

}  // namespace
}  // namespace TINYGEN_ISA
}  // namespace tinygen
