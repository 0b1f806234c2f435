// Python bindings of the convolution kernels (kernels/conv.cpp, kernels/conv_weight.cpp).
#include <array>

#include "bindings.h"

namespace tinygen {
namespace {

using Shape4 = std::array<long long, 4>;
using Pair = std::array<long long, 2>;

Geometry geometry(const Shape4& x, const Shape4& w, const Shape4& y, const Pair& stride, const Pair& dilation,
                  const Pair& pad, long long groups) {
  return {x[0],
          x[1],
          w[0],
          groups,
          {x[2], w[2], y[2], stride[0], dilation[0], pad[0]},
          {x[3], w[3], y[3], stride[1], dilation[1], pad[1]}};
}

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
            const T *px = data<T>(x, "conv: x"), *pw = data<T>(w, "conv: w"), *pb = data<T>(bias, "conv: bias");
            T* py_ = data<T>(y, "conv: result");
            py::gil_scoped_release release;
            pick<T>(table().conv)(geo, px, pw, pb, py_);
          });
        });
  m.def("conv_transpose",
        [](const Geometry& geo, const py::array& y, const py::object& w, const py::object& bias, const py::object& x) {
          by_dtype(y, "conv_transpose", [&](auto type) {
            using T = decltype(type);
            const T *py_ = data<T>(y, "conv_transpose: y"), *pw = data<T>(w, "conv_transpose: w");
            const T* pb = data<T>(bias, "conv_transpose: bias");
            T* px = data<T>(x, "conv_transpose: result");
            py::gil_scoped_release release;
            pick<T>(table().conv_transpose)(geo, py_, pw, pb, px);
          });
        });
  m.def("conv_winograd", [](const Geometry& geo, const py::array& source, const py::object& w, const py::object& bias,
                            bool transposed, const py::object& out) {
    by_dtype(source, "conv_winograd", [&](auto type) {
      using T = decltype(type);
      const T *ps = data<T>(source, "conv_winograd: source"), *pw = data<T>(w, "conv_winograd: w");
      const T* pb = data<T>(bias, "conv_winograd: bias");
      T* po = data<T>(out, "conv_winograd: result");
      py::gil_scoped_release release;
      pick<T>(table().conv_winograd)(geo, ps, pw, pb, transposed, po);
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
      const T *px = data<T>(x, "conv_weight: x"), *py_ = data<T>(y, "conv_weight: y");
      T* pw = data<T>(w, "conv_weight: result");
      py::gil_scoped_release release;
      pick<T>(table().conv_weight)(geo, px, py_, pw);
    });
  });
  m.def("conv_weight_winograd",
        [](const Geometry& geo, const py::array& x, const py::object& y, const py::object& w) {
          by_dtype(x, "conv_weight_winograd", [&](auto type) {
            using T = decltype(type);
            const T *px = data<T>(x, "conv_weight_winograd: x"), *py_ = data<T>(y, "conv_weight_winograd: y");
            T* pw = data<T>(w, "conv_weight_winograd: result");
            py::gil_scoped_release release;
            pick<T>(table().conv_weight_winograd)(geo, px, py_, pw);
          });
        });
}
