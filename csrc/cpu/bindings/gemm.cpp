// Python bindings of kernels/gemm.cpp: strides and the broadcasting of batch axes are worked out here.
#include <vector>

#include "bindings.h"

namespace tinygen {
namespace {

// A stack of matrices, read where it lies if the strides allow it.
struct Matrices {
  py::array array;
  long long rows, columns, row, column;  // lengths and strides (in elements) of the last two axes

  template <class T>
  Matrices(const py::array& given, T) : array(given) {
    if (!array.dtype().equal(py::dtype::of<T>()))
      throw py::type_error("matmul: arrays of " + std::string(py::str(py::dtype::of<T>())) + " and " +
                           std::string(py::str(array.dtype())) + " in one call; convert one of them");
    if (array.ndim() < 2) throw py::value_error("matmul: each array needs at least two axes");
    if (!readable<T>()) {
      array = py::array_t<T, py::array::c_style | py::array::forcecast>::ensure(
          array.attr("copy")());  // C-contiguous and aligned
      readable<T>();
    }
  }

 private:
  template <class T>
  bool readable() {
    const py::ssize_t n = array.ndim(), size = sizeof(T);
    for (py::ssize_t i = 0; i < n; i++)
      if (array.strides(i) % size) return false;
    if (reinterpret_cast<size_t>(array.data()) % size) return false;
    rows = array.shape(n - 2), columns = array.shape(n - 1);
    row = array.strides(n - 2) / size, column = array.strides(n - 1) / size;
    if (row == 1 || column == 1) return true;
    if (columns <= 1)
      column = 1;  // a stride that leads nowhere
    else if (rows <= 1)
      row = 1;
    return row == 1 || column == 1;
  }
};

void matmul(const py::array& left, const py::array& right, const py::object& bias, double slope, const py::array& out) {
  by_dtype(left, "matmul", [&](auto type) {
    using T = decltype(type);
    const Matrices a(left, type), b(right, type);
    T* c = result<T>(out, "matmul: result", out.size());
    const T* pbias = optional_data<T>(bias, "matmul: bias", b.columns);
    const py::ssize_t axes = out.ndim() - 2;
    bool fits = axes >= 0 && a.columns == b.rows && out.shape(axes) == a.rows && out.shape(axes + 1) == b.columns &&
                a.array.ndim() <= out.ndim() && b.array.ndim() <= out.ndim();
    // The offset of each matrix of the batch, the last batch axis running fastest.
    std::vector<long long> a_offset{0}, b_offset{0};
    auto extend = [&](const py::array& array, py::ssize_t axis, std::vector<long long>& offset) {
      const py::ssize_t length = out.shape(axis), own = axis - (out.ndim() - array.ndim());
      if (own >= 0 && array.shape(own) != length && array.shape(own) != 1) fits = false;
      const long long stride = own < 0 || array.shape(own) == 1 ? 0 : array.strides(own) / static_cast<long long>(sizeof(T));
      std::vector<long long> more;
      more.reserve(offset.size() * static_cast<size_t>(length));
      for (long long start : offset)
        for (py::ssize_t i = 0; i < length; i++) more.push_back(start + i * stride);
      offset.swap(more);
    };
    for (py::ssize_t axis = 0; axis < axes && fits; axis++) {
      extend(a.array, axis, a_offset);
      extend(b.array, axis, b_offset);
    }
    if (!fits) throw py::value_error("matmul: the shapes of the arrays do not fit together");
    const Product size = {a.rows,
                          b.columns,
                          a.columns,
                          a.row,
                          a.column,
                          b.row,
                          b.column,
                          static_cast<long long>(a_offset.size()),
                          a_offset.data(),
                          b_offset.data(),
                          slope};
    const T *pa = static_cast<const T*>(a.array.data()), *pb = static_cast<const T*>(b.array.data());
    py::gil_scoped_release release;
    pick<T>(table().matmul)(size, pa, pb, pbias, c);
  });
}

}  // namespace
}  // namespace tinygen

TINYGEN_BINDINGS(gemm) {
  m.def("matmul", &tinygen::matmul, "out = leaky_relu(a b + bias, slope), batch axes broadcast");
}
