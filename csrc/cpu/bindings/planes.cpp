// Python bindings of kernels/planes.cpp. Results are allocated by the caller.
#include "bindings.h"

namespace tinygen {
namespace {

// Taps that keep the arrays they point into alive.
struct OwnedTaps {
  py::array index, weight;
  Taps taps;
  bool inside;  // every tap with a weight looks inside the axis
};

// Index -1 is outside, which only max_pool knows what to do with.
OwnedTaps make_taps(const py::array& index, const py::array& weight, long long size) {
  if (index.ndim() != 2 || weight.ndim() != 2 || index.shape(0) != weight.shape(0) || index.shape(1) != weight.shape(1))
    throw py::value_error("Taps: index and weight must both be (outputs, taps)");
  const long long count = index.size();
  const long long* at = data<long long>(index, "Taps: index", count);
  const double* w = data<double>(weight, "Taps: weight", count);
  bool inside = true;
  for (long long i = 0; i < count; i++) {
    if (at[i] < -1 || at[i] >= size) throw py::index_error("Taps: an index is outside the axis");
    inside = inside && (at[i] >= 0 || w[i] == 0);
  }
  return {index, weight, {index.shape(0), index.shape(1), size, at, w}, inside};
}

// x (N, C, rows, columns): the number of its planes.
long long planes_of(const py::array& x, const OwnedTaps& rows, const OwnedTaps& cols, const char* what) {
  needs_axes(x, what, 4);
  if (x.shape(2) != rows.taps.size || x.shape(3) != cols.taps.size)
    throw py::value_error(std::string(what) + ": the taps are those of an image of another size");
  return x.shape(0) * x.shape(1);
}

void planes_match(const py::array& x, const py::array& y, const char* what) {
  needs_axes(x, what, 4);
  needs_axes(y, what, 4);
  if (x.shape(0) != y.shape(0) || x.shape(1) != y.shape(1))
    throw py::value_error(std::string(what) + ": the arrays have other numbers of planes");
}

}  // namespace
}  // namespace tinygen

TINYGEN_BINDINGS(planes) {
  using namespace tinygen;
  py::class_<OwnedTaps>(m, "Taps").def(py::init(&make_taps), py::arg("index"), py::arg("weight"), py::arg("size"));

  m.def("resample", [](const py::array& x, const OwnedTaps& rows, const OwnedTaps& cols, const py::object& y) {
    by_dtype(x, "resample", [&](auto type) {
      using T = decltype(type);
      const long long planes = planes_of(x, rows, cols, "resample: x");
      if (!rows.inside || !cols.inside) throw py::index_error("resample: a tap with a weight is outside");
      const T* px = data<T>(x, "resample: x", x.size());
      T* py_ = result<T>(y, "resample: result", planes * rows.taps.outputs * cols.taps.outputs);
      py::gil_scoped_release release;
      pick<T>(table().resample)(planes, rows.taps, cols.taps, px, py_);
    });
  });
  m.def("max_pool", [](const py::array& x, const OwnedTaps& rows, const OwnedTaps& cols, const py::object& y,
                       const py::object& winners) {
    by_dtype(x, "max_pool", [&](auto type) {
      using T = decltype(type);
      const long long planes = planes_of(x, rows, cols, "max_pool: x");
      const long long count = planes * rows.taps.outputs * cols.taps.outputs;
      const T* px = data<T>(x, "max_pool: x", x.size());
      T* py_ = result<T>(y, "max_pool: values", count);
      long long* won = result<long long>(winners, "max_pool: winners", count);
      py::gil_scoped_release release;
      pick<T>(table().max_pool)(planes, rows.taps, cols.taps, px, py_, won);
    });
  });
  m.def("take_plane", [](const py::array& x, const py::object& index, const py::array& y) {
    by_dtype(x, "take_plane", [&](auto type) {
      using T = decltype(type);
      planes_match(x, y, "take_plane");
      const T* px = data<T>(x, "take_plane: x", x.size());
      const long long* at = data<long long>(index, "take_plane: index", y.size());
      T* py_ = result<T>(y, "take_plane: result", y.size());
      const long long planes = x.shape(0) * x.shape(1), size = x.shape(2) * x.shape(3), count = y.shape(2) * y.shape(3);
      bool outside = false;
      {
        py::gil_scoped_release release;
        pick<T>(table().take_plane)(planes, size, count, px, at, py_, &outside);
      }
      if (outside) throw py::index_error("take_plane: an index is outside");
    });
  });
  m.def("put_plane", [](const py::array& y, const py::object& index, const py::array& x) {
    by_dtype(y, "put_plane", [&](auto type) {
      using T = decltype(type);
      planes_match(x, y, "put_plane");
      const T* py_ = data<T>(y, "put_plane: y", y.size());
      const long long* at = data<long long>(index, "put_plane: index", y.size());
      T* px = result<T>(x, "put_plane: result", x.size());
      const long long planes = y.shape(0) * y.shape(1), size = x.shape(2) * x.shape(3), count = y.shape(2) * y.shape(3);
      bool outside = false;
      {
        py::gil_scoped_release release;
        pick<T>(table().put_plane)(planes, size, count, py_, at, px, &outside);
      }
      if (outside) throw py::index_error("put_plane: an index is outside");
    });
  });
  m.def("scatter_add", [](const py::array& values, const py::array& index, const py::array& out) {
    by_dtype(values, "scatter_add", [&](auto type) {
      using T = decltype(type);
      const long long axes = out.ndim(), count = index.size(), length = axes ? out.shape(0) : 1;
      if (axes == 0 || values.ndim() != axes) throw py::value_error("scatter_add: values and result differ in their axes");
      long long width = 1;
      for (py::ssize_t axis = 1; axis < axes; axis++) width *= out.shape(axis);
      const T* from = data<T>(values, "scatter_add: values", count * width);
      const long long* at = data<long long>(index, "scatter_add: index", values.shape(0));
      T* to = result<T>(out, "scatter_add: result", length * width);
      bool outside = false;
      {
        py::gil_scoped_release release;
        pick<T>(table().scatter_add)(count, width, length, from, at, to, &outside);
      }
      if (outside) throw py::index_error("scatter_add: an index is outside");
    });
  });
}
