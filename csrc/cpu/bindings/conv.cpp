// Python bindings of the convolution kernels (kernels/conv.cpp, kernels/conv_weight.cpp).
#include <array>

#include "bindings.h"

namespace tinygen {
namespace {

using Shape4 = std::array<long long, 4>;
using Pair = std::array<long long, 2>;

constexpr long long kMostPositions = 1LL << 40;

// Whether sizes and steps along one axis are ones that no index into x can overflow with.
bool sound(const Axis& axis) {
  if (axis.x < 0 || axis.w < 0 || axis.y < 0 || axis.stride < 1 || axis.dilation < 1) return false;
  const long double pad = axis.pad, steps = static_cast<long double>(axis.stride) * axis.y;
  return steps + static_cast<long double>(axis.dilation) * axis.w + (pad < 0 ? -pad : pad) < kMostPositions;
}

Geometry geometry(const Shape4& x, const Shape4& w, const Shape4& y, const Pair& stride, const Pair& dilation,
                  const Pair& pad, long long groups) {
  const Geometry geo = {x[0],
                        x[1],
                        w[0],
                        groups,
                        {x[2], w[2], y[2], stride[0], dilation[0], pad[0]},
                        {x[3], w[3], y[3], stride[1], dilation[1], pad[1]}};
  const bool fits = x[0] >= 0 && x[1] >= 0 && w[0] >= 0 && groups >= 1 && x[0] == y[0] && w[0] == y[1] &&
                    x[1] % groups == 0 && w[0] % groups == 0 && w[1] == x[1] / groups;
  if (!fits || !sound(geo.rows) || !sound(geo.cols)) throw py::value_error("Geometry: the sizes do not fit together");
  return geo;
}

long long count_x(const Geometry& geo) { return geo.n * geo.c * geo.rows.x * geo.cols.x; }
long long count_w(const Geometry& geo) { return geo.k * (geo.c / geo.groups) * geo.rows.w * geo.cols.w; }
long long count_y(const Geometry& geo) { return geo.n * geo.k * geo.rows.y * geo.cols.y; }

}  // namespace
}  // namespace tinygen

TINYGEN_BINDINGS(conv) {
  using namespace tinygen;
  py::class_<Geometry>(m, "Geometry")
      .def(py::init(&geometry), py::arg("x_shape"), py::arg("w_shape"), py::arg("y_shape"), py::arg("stride"),
           py::arg("dilation"), py::arg("pad"), py::arg("groups"));

  m.def("conv",
        [](const Geometry& geo, const py::array& x, const py::object& w, const py::object& bias, const py::object& y) {
          by_dtype(x, "conv", [&](auto type) {
            using T = decltype(type);
            const T *px = data<T>(x, "conv: x", count_x(geo)), *pw = data<T>(w, "conv: w", count_w(geo));
            const T* pb = optional_data<T>(bias, "conv: bias", geo.k);
            T* py_ = result<T>(y, "conv: result", count_y(geo));
            py::gil_scoped_release release;
            pick<T>(table().conv)(geo, px, pw, pb, py_);
          });
        });
  m.def("conv_transpose",
        [](const Geometry& geo, const py::array& y, const py::object& w, const py::object& bias, const py::object& x) {
          by_dtype(y, "conv_transpose", [&](auto type) {
            using T = decltype(type);
            const T* py_ = data<T>(y, "conv_transpose: y", count_y(geo));
            const T* pw = data<T>(w, "conv_transpose: w", count_w(geo));
            const T* pb = optional_data<T>(bias, "conv_transpose: bias", geo.c);
            T* px = result<T>(x, "conv_transpose: result", count_x(geo));
            py::gil_scoped_release release;
            pick<T>(table().conv_transpose)(geo, py_, pw, pb, px);
          });
        });
  m.def("conv_winograd", [](const Geometry& geo, const py::array& source, const py::object& w, const py::object& bias,
                            bool transposed, const py::object& out) {
    by_dtype(source, "conv_winograd", [&](auto type) {
      using T = decltype(type);
      const Axis &rows = geo.rows, &cols = geo.cols;
      const bool small = rows.stride == 1 ? rows.w == 2 || rows.w == 3 : rows.stride == 2 && rows.w >= 3 && rows.w <= 6;
      if (!small || cols.w != rows.w || cols.stride != rows.stride || rows.dilation * cols.dilation * geo.groups != 1)
        throw py::value_error("conv_winograd: not a kernel that it computes");
      const T* ps = data<T>(source, "conv_winograd: source", transposed ? count_y(geo) : count_x(geo));
      const T* pw = data<T>(w, "conv_winograd: w", count_w(geo));
      const T* pb = optional_data<T>(bias, "conv_winograd: bias", transposed ? geo.c : geo.k);
      T* po = result<T>(out, "conv_winograd: result", transposed ? count_x(geo) : count_y(geo));
      py::gil_scoped_release release;
      pick<T>(table().conv_winograd)(geo, ps, pw, pb, transposed, po, nullptr);
    });
  });
  m.def(
      "conv_plan",
      [](const Geometry& geo, bool transposed, int itemsize) {
        const char* plan = nullptr;
        (itemsize == sizeof(double) ? table().conv_plan.f64 : table().conv_plan.f32)(geo, transposed, &plan);
        return std::string(plan);
      },
      py::arg("geometry"), py::arg("transposed"), py::arg("itemsize") = sizeof(float),
      "how conv or conv_transpose is computed: by \"winograd\" (float32); over \"images\", \"results\" (output "
      "channels) or \"pixels\", which the lanes run over, two of them where the last images are computed in another "
      "way; as a \"product\" (1x1 kernels) or an \"unrolled product\" (few channels), over pixels too");
  m.def(
      "conv_weight_plan",
      [](const Geometry& geo, int itemsize) {
        const char* plan = nullptr;
        (itemsize == sizeof(double) ? table().conv_weight_plan.f64 : table().conv_weight_plan.f32)(geo, &plan);
        return std::string(plan);
      },
      py::arg("geometry"), py::arg("itemsize") = sizeof(float),
      "how conv_weight is computed: by \"winograd\" (float32), \"dots\" (lanes over pixels) or \"spread\" (over k)");
  m.def("conv_weight", [](const Geometry& geo, const py::array& x, const py::object& y, const py::object& w) {
    by_dtype(x, "conv_weight", [&](auto type) {
      using T = decltype(type);
      const T* px = data<T>(x, "conv_weight: x", count_x(geo));
      const T* py_ = data<T>(y, "conv_weight: y", count_y(geo));
      T* pw = result<T>(w, "conv_weight: result", count_w(geo));
      py::gil_scoped_release release;
      pick<T>(table().conv_weight)(geo, px, py_, pw);
    });
  });
  m.def("conv_weight_winograd",
        [](const Geometry& geo, const py::array& x, const py::object& y, const py::object& w) {
          by_dtype(x, "conv_weight_winograd", [&](auto type) {
            using T = decltype(type);
            const Axis &rows = geo.rows, &cols = geo.cols;
            const bool small = rows.stride == 1 ? rows.w == 3 : rows.stride == 2 && rows.w == 4;
            if (!small || cols.w != rows.w || cols.stride != rows.stride ||
                rows.dilation * cols.dilation * geo.groups != 1)
              throw py::value_error("conv_weight_winograd: not a kernel that it computes");
            const T* px = data<T>(x, "conv_weight_winograd: x", count_x(geo));
            const T* py_ = data<T>(y, "conv_weight_winograd: y", count_y(geo));
            T* pw = result<T>(w, "conv_weight_winograd: result", count_w(geo));
            py::gil_scoped_release release;
            pick<T>(table().conv_weight_winograd)(geo, px, py_, pw);
          });
        });
}
