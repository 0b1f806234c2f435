// Python bindings of kernels/reduce.cpp. Results are allocated by the caller; a derivative that is not wanted is None.
#include <array>

#include "bindings.h"

TINYGEN_BINDINGS(reduce) {
  using namespace tinygen;
  m.def("sum", [](const py::array& x, const std::array<long long, 4>& extents, double scale, const py::object& y) {
    by_dtype(x, "sum", [&](auto type) {
      using T = decltype(type);
      const T* px = data<T>(x, "sum: x");
      T* py_ = data<T>(y, "sum: result");
      const Extents size = {extents[0], extents[1], extents[2], extents[3]};
      py::gil_scoped_release release;
      pick<T>(table().sum)(size, scale, px, py_);
    });
  });
  auto loss = [&](const char* name, auto kernel) {
    m.def(name, [=](const py::array& x, const py::object& target, double scale, const py::object& y,
                    const py::object& slope) {
      by_dtype(x, name, [&](auto type) {
        using T = decltype(type);
        const T *px = data<T>(x, name), *pt = data<T>(target, name);
        T *py_ = data<T>(y, name), *ps = data<T>(slope, name);
        const long long count = x.size();
        py::gil_scoped_release release;
        kernel(type)(count, px, pt, scale, py_, ps);
      });
    });
  };
  loss("squared_error", [](auto type) { return pick<decltype(type)>(table().squared_error); });
  loss("bernoulli_loss", [](auto type) { return pick<decltype(type)>(table().bernoulli_loss); });
  m.def("class_loss", [](const py::array& x, const py::object& labels, double scale, const py::object& y,
                         const py::object& slope) {
    by_dtype(x, "class_loss", [&](auto type) {
      using T = decltype(type);
      const T* px = data<T>(x, "class_loss: x");
      const long long* pl = data<long long>(labels, "class_loss: labels");
      T *py_ = data<T>(y, "class_loss: result"), *ps = data<T>(slope, "class_loss: slope");
      const long long rows = x.shape(0), width = x.shape(1);
      py::gil_scoped_release release;
      pick<T>(table().class_loss)(rows, width, px, pl, scale, py_, ps);
    });
  });
}
