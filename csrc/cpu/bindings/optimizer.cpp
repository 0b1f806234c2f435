// Python bindings of kernels/optimizer.cpp (everything in place) and kernels/random.cpp (into an array of the caller's).
#include "bindings.h"

TINYGEN_BINDINGS(optimizer) {
  using namespace tinygen;
  m.def("sgd_step", [](const py::array& p, const py::object& g, const py::object& buffer, double lr, bool first,
                       double momentum, double dampening, double weight_decay, bool nesterov) {
    by_dtype(p, "sgd_step", [&](auto type) {
      using T = decltype(type);
      T *pp = data<T>(p, "sgd_step: p"), *pb = data<T>(buffer, "sgd_step: buffer");
      const T* pg = data<T>(g, "sgd_step: g");
      const Sgd how = {momentum, dampening, weight_decay, nesterov};
      const long long count = p.size();
      py::gil_scoped_release release;
      pick<T>(table().sgd_step)(count, pp, pg, pb, lr, first, how);
    });
  });
  m.def("adam_step", [](const py::array& p, const py::object& g, const py::object& m, const py::object& v, double lr,
                        double step, double beta1, double beta2, double eps, double weight_decay, bool decoupled) {
    by_dtype(p, "adam_step", [&](auto type) {
      using T = decltype(type);
      T *pp = data<T>(p, "adam_step: p"), *pm = data<T>(m, "adam_step: m"), *pv = data<T>(v, "adam_step: v");
      const T* pg = data<T>(g, "adam_step: g");
      const Adam how = {beta1, beta2, eps, weight_decay, decoupled};
      const long long count = p.size();
      py::gil_scoped_release release;
      pick<T>(table().adam_step)(count, pp, pg, pm, pv, lr, step, how);
    });
  });
  m.def("rmsprop_step", [](const py::array& p, const py::object& g, const py::object& v, const py::object& buffer,
                           const py::object& mean, double lr, double alpha, double eps, double weight_decay,
                           double momentum) {
    by_dtype(p, "rmsprop_step", [&](auto type) {
      using T = decltype(type);
      T *pp = data<T>(p, "rmsprop_step: p"), *pv = data<T>(v, "rmsprop_step: v");
      T *pb = data<T>(buffer, "rmsprop_step: buffer"), *pm = data<T>(mean, "rmsprop_step: mean");
      const T* pg = data<T>(g, "rmsprop_step: g");
      const RmsProp how = {alpha, eps, weight_decay, momentum};
      const long long count = p.size();
      py::gil_scoped_release release;
      pick<T>(table().rmsprop_step)(count, pp, pg, pv, pb, pm, lr, how);
    });
  });

  // random_*(seed, stream, offset, result)
  m.def("random_bits", [](std::uint64_t seed, std::uint32_t stream, std::uint64_t offset, const py::array& out) {
    std::uint32_t* to = data<std::uint32_t>(out, "random_bits: result");
    const long long count = out.size();
    py::gil_scoped_release release;
    table().random_bits.f32({seed, offset, stream}, count, to);
  });
  auto random = [&](const char* name, auto kernel) {
    m.def(name, [=](std::uint64_t seed, std::uint32_t stream, std::uint64_t offset, const py::array& out) {
      by_dtype(out, name, [&](auto type) {
        using T = decltype(type);
        T* to = data<T>(out, name);
        const long long count = out.size();
        py::gil_scoped_release release;
        kernel(type)({seed, offset, stream}, count, to);
      });
    });
  };
  random("random_uniform", [](auto type) { return pick<decltype(type)>(table().random_uniform); });
  random("random_normal", [](auto type) { return pick<decltype(type)>(table().random_normal); });
}
