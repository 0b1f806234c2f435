// Python bindings of kernels/optimizer.cpp (everything in place) and kernels/random.cpp (into an array of the caller's).
#include <vector>

#include "bindings.h"

namespace tinygen {
namespace {

// Gradients in pieces: a list of arrays, and where each begins in the flat array.
template <class T>
class GivenPieces {
 public:
  GivenPieces(const py::array& p, const std::vector<py::array>& pieces, const std::vector<long long>& starts, const char* name)
      : all_(p.size()), start_(starts) {
    if (pieces.size() != starts.size()) throw py::value_error(std::string(name) + ": as many starts as pieces are needed");
    long long end = 0;
    for (size_t i = 0; i < pieces.size(); i++) {
      piece_.push_back(data<T>(pieces[i], name));
      size_.push_back(pieces[i].size());
      if (starts[i] < end || starts[i] + size_[i] > all_)
        throw py::value_error(std::string(name) + ": the pieces should lie side by side within p");
      end = starts[i] + size_[i];
    }
  }
  operator Pieces<T>() const { return {all_, (long long)piece_.size(), piece_.data(), start_.data(), size_.data()}; }

 private:
  long long all_;
  std::vector<const T*> piece_;
  std::vector<long long> start_, size_;
};

using Arrays = std::vector<py::array>;
using Starts = std::vector<long long>;

}  // namespace
}  // namespace tinygen

TINYGEN_BINDINGS(optimizer) {
  using namespace tinygen;
  m.def("sgd_step", [](const py::array& p, const Arrays& g, const Starts& starts, const py::object& buffer, double lr,
                       bool first, double momentum, double dampening, double weight_decay, bool nesterov) {
    by_dtype(p, "sgd_step", [&](auto type) {
      using T = decltype(type);
      T *pp = data<T>(p, "sgd_step: p"), *pb = data<T>(buffer, "sgd_step: buffer");
      const GivenPieces<T> pieces(p, g, starts, "sgd_step: g");
      const Sgd how = {momentum, dampening, weight_decay, nesterov};
      py::gil_scoped_release release;
      pick<T>(table().sgd_step)(pieces, pp, pb, lr, first, how);
    });
  });
  m.def("adam_step", [](const py::array& p, const Arrays& g, const Starts& starts, const py::object& m,
                        const py::object& v, double lr, double step, double beta1, double beta2, double eps,
                        double weight_decay, bool decoupled) {
    by_dtype(p, "adam_step", [&](auto type) {
      using T = decltype(type);
      T *pp = data<T>(p, "adam_step: p"), *pm = data<T>(m, "adam_step: m"), *pv = data<T>(v, "adam_step: v");
      const GivenPieces<T> pieces(p, g, starts, "adam_step: g");
      const Adam how = {beta1, beta2, eps, weight_decay, decoupled};
      py::gil_scoped_release release;
      pick<T>(table().adam_step)(pieces, pp, pm, pv, lr, step, how);
    });
  });
  m.def("rmsprop_step", [](const py::array& p, const Arrays& g, const Starts& starts, const py::object& v,
                           const py::object& buffer, const py::object& mean, double lr, double alpha, double eps,
                           double weight_decay, double momentum) {
    by_dtype(p, "rmsprop_step", [&](auto type) {
      using T = decltype(type);
      T *pp = data<T>(p, "rmsprop_step: p"), *pv = data<T>(v, "rmsprop_step: v");
      T *pb = data<T>(buffer, "rmsprop_step: buffer"), *pm = data<T>(mean, "rmsprop_step: mean");
      const GivenPieces<T> pieces(p, g, starts, "rmsprop_step: g");
      const RmsProp how = {alpha, eps, weight_decay, momentum};
      py::gil_scoped_release release;
      pick<T>(table().rmsprop_step)(pieces, pp, pv, pb, pm, lr, how);
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
