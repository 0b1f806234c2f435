// Python bindings of kernels/norm.cpp. Results are allocated by the caller.
#include "bindings.h"

TINYGEN_BINDINGS(norm) {
  using namespace tinygen;
  m.def("channel_norm", [](const py::array& x, const py::object& weight, const py::object& bias, double eps,
                           double slope, const py::object& y, const py::object& mean, const py::object& rstd) {
    by_dtype(x, "channel_norm", [&](auto type) {
      using T = decltype(type);
      const T *px = data<T>(x, "channel_norm: x"), *pw = data<T>(weight, "channel_norm: weight");
      const T* pb = data<T>(bias, "channel_norm: bias");
      T *py_ = data<T>(y, "channel_norm: result"), *pm = data<T>(mean, "channel_norm: mean");
      T* pr = data<T>(rstd, "channel_norm: rstd");
      const Channels size = {x.shape(0), x.shape(1), x.shape(2)};
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
      const T *pg = data<T>(g, name), *px = data<T>(x, name), *pw = data<T>(weight, name);
      const T *pb = data<T>(bias, name), *pm = data<T>(mean, name), *pr = data<T>(rstd, name);
      T *pgx = data<T>(gx, name), *pgw = data<T>(gweight, name), *pgb = data<T>(gbias, name);
      const Channels size = {x.shape(0), x.shape(1), x.shape(2)};
      py::gil_scoped_release release;
      pick<T>(table().channel_norm_backward)(size, pg, px, pw, pb, pm, pr, slope, pgx, pgw, pgb);
    });
  });
  m.def("row_norm", [](const py::array& x, double eps, const py::object& y, const py::object& rstd) {
    by_dtype(x, "row_norm", [&](auto type) {
      using T = decltype(type);
      const T* px = data<T>(x, "row_norm: x");
      T *py_ = data<T>(y, "row_norm: result"), *pr = data<T>(rstd, "row_norm: rstd");
      const long long rows = x.shape(0), width = x.shape(1);
      py::gil_scoped_release release;
      pick<T>(table().row_norm)(rows, width, px, eps, py_, pr);
    });
  });
  m.def("row_norm_backward", [](const py::object& g, const py::array& y, const py::object& rstd, const py::object& gx) {
    by_dtype(y, "row_norm_backward", [&](auto type) {
      using T = decltype(type);
      const T *pg = data<T>(g, "row_norm_backward: g"), *py_ = data<T>(y, "row_norm_backward: y");
      const T* pr = data<T>(rstd, "row_norm_backward: rstd");
      T* pgx = data<T>(gx, "row_norm_backward: result");
      const long long rows = y.shape(0), width = y.shape(1);
      py::gil_scoped_release release;
      pick<T>(table().row_norm_backward)(rows, width, pg, py_, pr, pgx);
    });
  });

  auto along_rows = [&](const char* name, auto kernel) {
    m.def(name, [=](const py::array& x, const py::object& y) {
      by_dtype(x, name, [&](auto type) {
        using T = decltype(type);
        const T* px = data<T>(x, name);
        T* py_ = data<T>(y, name);
        const long long width = x.shape(x.ndim() - 1), rows = x.size() / width;
        py::gil_scoped_release release;
        kernel(type)(rows, width, px, py_);
      });
    });
  };
  along_rows("softmax", [](auto type) { return pick<decltype(type)>(table().softmax); });
  along_rows("log_softmax", [](auto type) { return pick<decltype(type)>(table().log_softmax); });
}
