// Python bindings of kernels/pointwise.cpp. Results are allocated by the caller.
#include "bindings.h"

namespace tinygen {
namespace {

// f(x, y, settings...): y is the result.
template <class... Settings, class Kernel>
void unary(py::module_& m, const char* name, Kernel kernel) {
  m.def(name, [=](const py::array& x, const py::object& y, Settings... settings) {
    by_dtype(x, name, [&](auto type) {
      using T = decltype(type);
      const long long count = x.size();
      const T* px = data<T>(x, name, count);
      T* py_ = result<T>(y, name, count);
      py::gil_scoped_release release;
      kernel(type)(count, px, py_, settings...);
    });
  });
}

// f(g, one_g, x, gx, settings...): gx is the result; one_g says that g has one element, which stands for all.
template <class... Settings, class Kernel>
void gradient(py::module_& m, const char* name, Kernel kernel) {
  m.def(name, [=](const py::object& g, bool one_g, const py::array& x, const py::object& gx, Settings... settings) {
    by_dtype(x, name, [&](auto type) {
      using T = decltype(type);
      const long long count = x.size();
      const T *pg = data<T>(g, name, one_g ? 1 : count), *px = data<T>(x, name, count);
      T* pgx = result<T>(gx, name, count);
      py::gil_scoped_release release;
      kernel(type)(count, pg, one_g, px, pgx, settings...);
    });
  });
}

}  // namespace
}  // namespace tinygen

#define TABLE(kernel) #kernel, [](auto type) { return pick<decltype(type)>(table().kernel); }

TINYGEN_BINDINGS(pointwise) {
  using namespace tinygen;
  unary<>(m, TABLE(sigmoid));
  unary<>(m, TABLE(tanh));
  unary<double>(m, TABLE(leaky_relu));
  unary<double, double>(m, TABLE(elu));
  unary<>(m, TABLE(softplus));
  unary<>(m, TABLE(silu));
  unary<bool>(m, TABLE(gelu));
  unary<>(m, TABLE(erf));
  gradient<>(m, TABLE(sigmoid_backward));
  gradient<>(m, TABLE(tanh_backward));
  gradient<double>(m, TABLE(leaky_relu_backward));
  gradient<double, double>(m, TABLE(elu_backward));
  gradient<>(m, TABLE(softplus_backward));
  gradient<>(m, TABLE(silu_backward));
  gradient<bool>(m, TABLE(gelu_backward));

  m.def("bce_with_logits", [](const py::array& x, const py::object& target, const py::object& y) {
    by_dtype(x, "bce_with_logits", [&](auto type) {
      using T = decltype(type);
      const long long count = x.size();
      const T *px = data<T>(x, "bce_with_logits: x", count), *pt = data<T>(target, "bce_with_logits: target", count);
      T* py_ = result<T>(y, "bce_with_logits: result", count);
      py::gil_scoped_release release;
      pick<T>(table().bce_with_logits)(count, px, pt, py_);
    });
  });
  m.def("bce_with_logits_backward",
        [](const py::object& g, bool one_g, const py::array& x, const py::object& target, const py::object& gx) {
    by_dtype(x, "bce_with_logits_backward", [&](auto type) {
      using T = decltype(type);
      const long long count = x.size();
      const T* pg = data<T>(g, "bce_with_logits_backward: g", one_g ? 1 : count);
      const T* px = data<T>(x, "bce_with_logits_backward: x", count);
      const T* pt = data<T>(target, "bce_with_logits_backward: target", count);
      T* pgx = result<T>(gx, "bce_with_logits_backward: result", count);
      py::gil_scoped_release release;
      pick<T>(table().bce_with_logits_backward)(count, pg, one_g, px, pt, pgx);
    });
  });
}
