// Python bindings of kernels/probe.cpp: fma_peak and bandwidth of the instruction set and number of threads in use.
#include <chrono>
#include <memory>
#include <vector>

#include "bindings.h"

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// GFLOP/s of multiply-adds in registers: the best of a few calls, which take about `milliseconds` together.
template <class T>
double fma_peak(double milliseconds) {
  using namespace tinygen;
  constexpr int kMostLanes = 16, kMostChains = 16;
  std::vector<T> from(2 + kMostLanes * kMostChains), to(static_cast<size_t>(threads()) * kMostLanes);
  from[0] = T(0.999), from[1] = T(0.001);  // the chains settle at 1: no denormals, no infinities
  for (size_t i = 2; i < from.size(); i++) from[i] = T(1) + T(0.01) * T(i);
  auto* probe = pick<T>(table().fma_probe);
  long long flops = 0, rounds = 10000;
  double best = 0, total = 0;
  const double wanted = 1e-3 * milliseconds;
  for (int calls = 0; calls < 4 || total < wanted; calls++) {  // a disturbed call must not set the length of the others
    const double start = now();
    probe(rounds, from.data(), to.data(), &flops);
    const double seconds = now() - start, rate = static_cast<double>(flops) / (seconds > 1e-7 ? seconds : 1e-7);
    if (rate > best) best = rate;
    total += seconds;
    const double grown = 0.3 * wanted * best / static_cast<double>(flops) * static_cast<double>(rounds);
    if (grown > rounds) rounds = static_cast<long long>(grown);
  }
  return 1e-9 * best;
}

double bandwidth(double megabytes, bool triad) {
  using namespace tinygen;
  const long long count = static_cast<long long>(megabytes * 1e6 / sizeof(float)) + 1;
  auto array = [&] { return std::unique_ptr<float[]>(new float[static_cast<size_t>(count)]); };
  std::unique_ptr<float[]> a = array(), b = triad ? array() : nullptr, c = array();
  auto* run = pick<float>(table().triad);
  for (float* each : {a.get(), b.get()})  // touched by the threads that will read them
    if (each) run(count, 0.0, c.get(), nullptr, each);
  double best = 0;
  for (int i = 0; i < 4; i++) {
    const double start = now();
    run(count, 0.5, a.get(), b.get(), c.get());
    const double rate = 1e-9 * sizeof(float) * (triad ? 3 : 2) * static_cast<double>(count) / (now() - start);
    if (i > 0 && rate > best) best = rate;  // the first pass touches c
  }
  return best;
}

}  // namespace

TINYGEN_BINDINGS(probe) {
  m.def("fma_peak", [](double milliseconds, bool float64) {
    py::gil_scoped_release release;
    return float64 ? fma_peak<double>(milliseconds) : fma_peak<float>(milliseconds);
  }, py::arg("milliseconds") = 10.0, py::arg("float64") = false,
        "GFLOP/s that multiply-adds in registers reach with the instruction set and threads in use");
  m.def("bandwidth", [](double megabytes, const std::string& kind) {
    if (kind != "copy" && kind != "triad") throw py::value_error("bandwidth: kind should be 'copy' or 'triad', got '" + kind + "'");
    py::gil_scoped_release release;
    return bandwidth(megabytes, kind == "triad");
  }, py::arg("megabytes") = 128.0, py::arg("kind") = "triad",
        "GB/s, reads and writes counted once, of c = a ('copy') or c = a + s b ('triad') over arrays of this size");
}
