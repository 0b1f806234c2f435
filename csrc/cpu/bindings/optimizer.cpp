// Python bindings of kernels/optimizer.cpp (everything in place) and kernels/random.cpp (into an array of the caller's).
#include <vector>

#include "bindings.h"

namespace tinygen {
namespace {

using Arrays = std::vector<py::array>;
using Starts = std::vector<long long>;

// Parameters, their gradients, and where the state of each begins in flat arrays of `length` elements.
template <class T>
class GivenPieces {
 public:
  GivenPieces(const Arrays& p, const Arrays& g, const Starts& starts, const std::string& kernel) : start_(starts) {
    if (p.size() != starts.size() || g.size() != starts.size())
      throw py::value_error(kernel + ": as many parameters and gradients as starts are needed");
    const std::string of_p = kernel + ": p", of_g = kernel + ": g";
    long long end = 0;
    for (size_t i = 0; i < p.size(); i++) {
      if (!(p[i].flags() & py::array::c_style) || !p[i].writeable())
        throw py::value_error(kernel + ": an update in place needs contiguous, writeable parameters; copy them first");
      if (p[i].size() != g[i].size())
        throw py::value_error(of_g + ": a gradient has " + std::to_string(g[i].size()) + " elements, its parameter " +
                              std::to_string(p[i].size()));
      size_.push_back(p[i].size());
      p_.push_back(result<T>(p[i], of_p.c_str(), size_[i]));
      g_.push_back(data<T>(g[i], of_g.c_str(), size_[i]));
      sorted_ &= starts[i] >= end && starts[i] < (1LL << 62);  // the end does not overflow
      if (!sorted_) break;
      end = starts[i] + size_[i];
    }
    end_ = end;
    name_ = kernel;
  }
  // A flat array of state; null for None where it may be left out.
  T* state(const py::object& flat, const char* what, bool optional = false) const {
    if (!optional && flat.is_none()) throw py::type_error(std::string(what) + ": expected a NumPy array");
    const bool given = py::isinstance<py::array>(flat);
    if (given) needs_axes(py::reinterpret_borrow<py::array>(flat), what, 1);
    T* at = optional_result<T>(flat, what, given ? py::reinterpret_borrow<py::array>(flat).size() : 0);
    if (!sorted_ || (at && end_ > py::reinterpret_borrow<py::array>(flat).size()))
      throw py::value_error(name_ + ": g: the pieces should lie side by side within the state");
    return at;
  }
  operator Pieces<T>() const { return {(long long)p_.size(), p_.data(), g_.data(), start_.data(), size_.data()}; }

 private:
  std::string name_;
  std::vector<T*> p_;
  std::vector<const T*> g_;
  std::vector<long long> start_, size_;
  bool sorted_ = true;
  long long end_ = 0;
};

// body(pieces) with the pieces' number type.
template <class Body>
void by_pieces(const Arrays& p, const Arrays& g, const Starts& starts, const char* kernel, const Body& body) {
  if (p.empty()) return;
  by_dtype(p[0], kernel, [&](auto type) { body(GivenPieces<decltype(type)>(p, g, starts, kernel), type); });
}

}  // namespace
}  // namespace tinygen

TINYGEN_BINDINGS(optimizer) {
  using namespace tinygen;
  m.def("sgd_step", [](const Arrays& p, const Arrays& g, const Starts& starts, const py::object& buffer, double lr,
                       bool first, double momentum, double dampening, double weight_decay, bool nesterov) {
    by_pieces(p, g, starts, "sgd_step", [&](const auto& pieces, auto type) {
      using T = decltype(type);
      T* pb = pieces.state(buffer, "sgd_step: buffer", true);
      const Sgd how = {momentum, dampening, weight_decay, nesterov};
      py::gil_scoped_release release;
      pick<T>(table().sgd_step)(pieces, pb, lr, first, how);
    });
  });
  m.def("adam_step", [](const Arrays& p, const Arrays& g, const Starts& starts, const py::object& m, const py::object& v,
                        double lr, double step, double beta1, double beta2, double eps, double weight_decay,
                        bool decoupled) {
    by_pieces(p, g, starts, "adam_step", [&](const auto& pieces, auto type) {
      using T = decltype(type);
      T *pm = pieces.state(m, "adam_step: m"), *pv = pieces.state(v, "adam_step: v");
      const Adam how = {beta1, beta2, eps, weight_decay, decoupled};
      py::gil_scoped_release release;
      pick<T>(table().adam_step)(pieces, pm, pv, lr, step, how);
    });
  });
  m.def("rmsprop_step", [](const Arrays& p, const Arrays& g, const Starts& starts, const py::object& v,
                           const py::object& buffer, const py::object& mean, double lr, double alpha, double eps,
                           double weight_decay, double momentum) {
    by_pieces(p, g, starts, "rmsprop_step", [&](const auto& pieces, auto type) {
      using T = decltype(type);
      T* pv = pieces.state(v, "rmsprop_step: v");
      T *pb = pieces.state(buffer, "rmsprop_step: buffer", true), *pm = pieces.state(mean, "rmsprop_step: mean", true);
      const RmsProp how = {alpha, eps, weight_decay, momentum};
      py::gil_scoped_release release;
      pick<T>(table().rmsprop_step)(pieces, pv, pb, pm, lr, how);
    });
  });

  // random_*(seed, stream, offset, result)
  m.def("random_bits", [](std::uint64_t seed, std::uint32_t stream, std::uint64_t offset, const py::array& out) {
    const long long count = out.size();
    std::uint32_t* to = result<std::uint32_t>(out, "random_bits: result", count);
    py::gil_scoped_release release;
    table().random_bits.f32({seed, offset, stream}, count, to);
  });
  auto random = [&](const char* name, auto kernel) {
    m.def(name, [=](std::uint64_t seed, std::uint32_t stream, std::uint64_t offset, const py::array& out) {
      by_dtype(out, name, [&](auto type) {
        using T = decltype(type);
        const long long count = out.size();
        T* to = result<T>(out, name, count);
        py::gil_scoped_release release;
        kernel(type)({seed, offset, stream}, count, to);
      });
    });
  };
  random("random_uniform", [](auto type) { return pick<decltype(type)>(table().random_uniform); });
  random("random_normal", [](auto type) { return pick<decltype(type)>(table().random_normal); });
}
