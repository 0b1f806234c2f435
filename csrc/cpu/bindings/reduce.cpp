// Python bindings of kernels/reduce.cpp. Results are allocated by the caller; a derivative that is not wanted is None.
#include <array>

#include "bindings.h"

TINYGEN_BINDINGS(reduce) {
  using namespace tinygen;
  m.def("sum", [](const py::array& x, const std::array<long long, 4>& extents, double scale, const py::object& y) {
    by_dtype(x, "sum", [&](auto type) {
      using T = decltype(type);
      const Extents size = {extents[0], extents[1], extents[2], extents[3]};
      for (long long extent : extents)  // with these bounds no product overflows
        if (extent < 1 || extent > x.size()) throw py::value_error("sum: the extents do not fit x");
      const long long kept = size.k0 * size.k1;
      if (kept > x.size() || size.r0 > x.size() / kept || size.r1 > x.size() / (size.r0 * kept))
        throw py::value_error("sum: the extents do not fit x");
      const T* px = data<T>(x, "sum: x", size.r0 * kept * size.r1);
      T* py_ = result<T>(y, "sum: result", kept);
      py::gil_scoped_release release;
      pick<T>(table().sum)(size, scale, px, py_);
    });
  });
  auto loss = [&](const char* name, auto kernel) {
    m.def(name, [=](const py::array& x, const py::object& target, double scale, const py::object& y,
                    const py::object& slope) {
      by_dtype(x, name, [&](auto type) {
        using T = decltype(type);
        const long long count = x.size();
        const T *px = data<T>(x, name, count), *pt = data<T>(target, name, count);
        T *py_ = result<T>(y, name, 1), *ps = optional_result<T>(slope, name, count);
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
      needs_axes(x, "class_loss: x", 2);
      const long long rows = x.shape(0), width = x.shape(1);
      const T* px = data<T>(x, "class_loss: x", rows * width);
      const long long* pl = data<long long>(labels, "class_loss: labels", rows);
      T* py_ = result<T>(y, "class_loss: result", 1);
      T* ps = optional_result<T>(slope, "class_loss: slope", rows * width);
      bool outside = false;
      {
        py::gil_scoped_release release;
        pick<T>(table().class_loss)(rows, width, px, pl, scale, py_, ps, &outside);
      }
      if (outside) throw py::index_error("class_loss: a label is outside");
    });
  });
}
