// The Python module tinygen._cpu: settings here, kernels in bindings/.
//
// One translation unit with all of bindings/: the compiler needs 7 s to read pybind11's headers, and did so nine times.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "bindings/bindings.h"
#include "memory.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace tinygen {

static std::vector<void (*)(py::module_&)>& bindings() {
  static std::vector<void (*)(py::module_&)> list;
  return list;
}

void define(void (*binding)(py::module_&)) { bindings().push_back(binding); }

// glibc gives freed arrays of 128 KB and more back to the system, and the next one faults every page in again: for
// NumPy expressions on 3 MB arrays that is most of the time (1.7 ms against 0.6 ms for an addition and a product). So
// keep them. TINYGEN_MALLOC=default leaves memory alone.
static void keep_freed_memory() {
  const char* wish = std::getenv("TINYGEN_MALLOC");
  if (wish && !std::strcmp(wish, "default")) return;
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that glibc accepts
  mallopt(M_TRIM_THRESHOLD, 0x7fffffff);
  mallopt(M_TOP_PAD, 64 << 20);
#endif
  keep_large_arrays();
}

}  // namespace tinygen

#include "bindings/conv.cpp"
#include "bindings/gemm.cpp"
#include "bindings/norm.cpp"
#include "bindings/optimizer.cpp"
#include "bindings/planes.cpp"
#include "bindings/pointwise.cpp"
#include "bindings/probe.cpp"
#include "bindings/reduce.cpp"

PYBIND11_MODULE(_cpu, m) {
  using namespace tinygen;
  m.doc() = "tinygen's CPU kernels; see csrc/cpu/README.md. Call them through tinygen.backends.cpu.";
  select_isa("");
  keep_freed_memory();
  m.def("isa", [] { return std::string(isa()); }, "the instruction set in use");
  m.def(
      "isas",
      [] {
        std::vector<std::string> names;
        for (const char* name : {"baseline", "avx2", "avx512"})
          if (isa_supported(name)) names.emplace_back(name);
        return names;
      },
      "the instruction sets that this machine has, slowest first");
  m.def(
      "select",
      [](const std::string& name) {
        if (const char* wrong = select_isa(name.c_str())) throw py::value_error(wrong);
      },
      py::arg("name"), "uses the kernels of one instruction set; the empty string means the best");
  m.def("get_winograd", &winograd);
  m.def("set_winograd", &set_winograd, py::arg("allowed"));
  m.def("get_num_threads", &threads);
  m.def("set_num_threads", &set_threads, py::arg("count"));
  m.def(
      "sources",
      [] {
        py::dict where;
#define KERNEL(name, arguments) where[#name] = std::string(table().name.file) + ":" + std::to_string(table().name.line);
        TINYGEN_KERNELS(KERNEL)
#undef KERNEL
        return where;
      },
      "kernel name -> file:line of its definition");
  for (auto* binding : bindings()) binding(m);
}
