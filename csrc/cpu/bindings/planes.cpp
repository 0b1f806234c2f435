// Python bindings of kernels/planes.cpp. Results are allocated by the caller.
#include "bindings.h"

namespace tinygen {
namespace {

// Taps that keep the arrays they point into alive.
struct OwnedTaps {
  py::array index, weight;
  Taps taps;
};

OwnedTaps make_taps(const py::array& index, const py::array& weight, long long size) {
  if (index.ndim() != 2 || weight.ndim() != 2 || index.shape(0) != weight.shape(0) || index.shape(1) != weight.shape(1))
    throw py::value_error("Taps: index and weight must both be (outputs, taps)");
  return {index, weight,
          {index.shape(0), index.shape(1), size, data<long long>(index, "Taps: index"), data<double>(weight, "Taps: weight")}};
}

}  // namespace
}  // namespace tinygen

TINYGEN_BINDINGS(planes) {
  using namespace tinygen;
  py::class_<OwnedTaps>(m, "Taps").def(py::init(&make_taps), py::arg("index"), py::arg("weight"), py::arg("size"));

  m.def("resample", [](const py::array& x, const OwnedTaps& rows, const OwnedTaps& cols, const py::object& y) {
    by_dtype(x, "resample", [&](auto type) {
      using T = decltype(type);
      const T* px = data<T>(x, "resample: x");
      T* py_ = data<T>(y, "resample: result");
      const long long planes = x.shape(0) * x.shape(1);
      py::gil_scoped_release release;
      pick<T>(table().resample)(planes, rows.taps, cols.taps, px, py_);
    });
  });
  m.def("max_pool", [](const py::array& x, const OwnedTaps& rows, const OwnedTaps& cols, const py::object& y,
                       const py::object& winners) {
    by_dtype(x, "max_pool", [&](auto type) {
      using T = decltype(type);
      const T* px = data<T>(x, "max_pool: x");
      T* py_ = data<T>(y, "max_pool: values");
      long long* won = data<long long>(winners, "max_pool: winners");
      const long long planes = x.shape(0) * x.shape(1);
      py::gil_scoped_release release;
      pick<T>(table().max_pool)(planes, rows.taps, cols.taps, px, py_, won);
    });
  });
  m.def("take_plane", [](const py::array& x, const py::object& index, const py::array& y) {
    by_dtype(x, "take_plane", [&](auto type) {
      using T = decltype(type);
      const T* px = data<T>(x, "take_plane: x");
      const long long* at = data<long long>(index, "take_plane: index");
      T* py_ = data<T>(y, "take_plane: result");
      const long long planes = x.shape(0) * x.shape(1), size = x.shape(2) * x.shape(3), count = y.shape(2) * y.shape(3);
      py::gil_scoped_release release;
      pick<T>(table().take_plane)(planes, size, count, px, at, py_);
    });
  });
  m.def("put_plane", [](const py::array& y, const py::object& index, const py::array& x) {
    by_dtype(y, "put_plane", [&](auto type) {
      using T = decltype(type);
      const T* py_ = data<T>(y, "put_plane: y");
      const long long* at = data<long long>(index, "put_plane: index");
      T* px = data<T>(x, "put_plane: result");
      const long long planes = y.shape(0) * y.shape(1), size = x.shape(2) * x.shape(3), count = y.shape(2) * y.shape(3);
      py::gil_scoped_release release;
      pick<T>(table().put_plane)(planes, size, count, py_, at, px);
    });
  });
  m.def("scatter_add", [](const py::array& values, const py::array& index, const py::array& out, long long width) {
    by_dtype(values, "scatter_add", [&](auto type) {
      using T = decltype(type);
      const T* from = data<T>(values, "scatter_add: values");
      const long long* at = data<long long>(index, "scatter_add: index");
      T* to = data<T>(out, "scatter_add: result");
      const long long count = index.size(), length = out.shape(0);
      py::gil_scoped_release release;
      pick<T>(table().scatter_add)(count, width, length, from, at, to);
    });
  });
}
