// Python bindings of kernels/norm.cpp. Results are allocated by the caller.
#include "bindings.h"

TINYGEN_BINDINGS(norm) {
  using namespace tinygen;
  m.def("channel_norm", [](const py::array& x, const py::object& weight, const py::object& bias, double eps,
                           double slope, const py::object& y, const py::object& mean, const py::object& rstd) {
    by_dtype(x, "channel_norm", [&](auto type) {
      using T = decltype(type);
      needs_axes(x, "channel_norm: x", 3);
      const Channels size = {x.shape(0), x.shape(1), x.shape(2)};
      const T *px = data<T>(x, "channel_norm: x", x.size()), *pw = data<T>(weight, "channel_norm: weight", size.c);
      const T* pb = data<T>(bias, "channel_norm: bias", size.c);
      T *py_ = result<T>(y, "channel_norm: result", x.size()), *pm = result<T>(mean, "channel_norm: mean", size.c);
      T* pr = result<T>(rstd, "channel_norm: rstd", size.c);
      py::gil_scoped_release release;
      pick<T>(table().channel_norm)(size, px, pw, pb, eps, slope, py_, pm, pr);
    });
  });
  m.def("channel_norm_backward", [](const py::object& g, const py::array& x, const py::object& weight,
                                    const py::object& bias, const py::object& mean, const py::object& rstd,
                                    double slope, const py::object& gx, const py::object& gweight,
                                    const py::object& gbias) {
    by_dtype(x, "channel_norm_backward", [&](auto type) {
      using T = decltype(type);
      const char* name = "channel_norm_backward";
      needs_axes(x, name, 3);
      const Channels size = {x.shape(0), x.shape(1), x.shape(2)};
      const long long all = x.size(), c = size.c;
      const T *pg = data<T>(g, name, all), *px = data<T>(x, name, all), *pw = data<T>(weight, name, c);
      const T *pb = data<T>(bias, name, c), *pm = data<T>(mean, name, c), *pr = data<T>(rstd, name, c);
      T *pgx = result<T>(gx, name, all), *pgw = result<T>(gweight, name, c), *pgb = result<T>(gbias, name, c);
      py::gil_scoped_release release;
      pick<T>(table().channel_norm_backward)(size, pg, px, pw, pb, pm, pr, slope, pgx, pgw, pgb);
    });
  });
  m.def("row_norm", [](const py::array& x, double eps, const py::object& y, const py::object& rstd) {
    by_dtype(x, "row_norm", [&](auto type) {
      using T = decltype(type);
      needs_axes(x, "row_norm: x", 2);
      const long long rows = x.shape(0), width = x.shape(1);
      const T* px = data<T>(x, "row_norm: x", rows * width);
      T *py_ = result<T>(y, "row_norm: result", rows * width), *pr = result<T>(rstd, "row_norm: rstd", rows);
      py::gil_scoped_release release;
      pick<T>(table().row_norm)(rows, width, px, eps, py_, pr);
    });
  });
  m.def("row_norm_backward", [](const py::object& g, const py::array& y, const py::object& rstd, const py::object& gx) {
    by_dtype(y, "row_norm_backward", [&](auto type) {
      using T = decltype(type);
      needs_axes(y, "row_norm_backward: y", 2);
      const long long rows = y.shape(0), width = y.shape(1), all = rows * width;
      const T *pg = data<T>(g, "row_norm_backward: g", all), *py_ = data<T>(y, "row_norm_backward: y", all);
      const T* pr = data<T>(rstd, "row_norm_backward: rstd", rows);
      T* pgx = result<T>(gx, "row_norm_backward: result", all);
      py::gil_scoped_release release;
      pick<T>(table().row_norm_backward)(rows, width, pg, py_, pr, pgx);
    });
  });

  auto along_rows = [&](const char* name, auto kernel) {
    m.def(name, [=](const py::array& x, const py::object& y) {
      by_dtype(x, name, [&](auto type) {
        using T = decltype(type);
        if (x.ndim() == 0) throw py::value_error(std::string(name) + ": expected at least one axis");
        const T* px = data<T>(x, name, x.size());
        T* py_ = result<T>(y, name, x.size());
        const long long width = x.shape(x.ndim() - 1), rows = x.size() / (width ? width : 1);
        py::gil_scoped_release release;
        kernel(type)(rows, width, px, py_);
      });
    });
  };
  along_rows("softmax", [](auto type) { return pick<decltype(type)>(table().softmax); });
  along_rows("log_softmax", [](auto type) { return pick<decltype(type)>(table().log_softmax); });
}
