// Helpers of the Python bindings: typed, checked pointers into NumPy arrays, and the jump from dtype to template.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "cpu/runtime.h"
#include "cpu/table.h"

namespace py = pybind11;

namespace tinygen {

void define(void (*binding)(py::module_&));  // adds a function to the list that the module runs when it is imported

// Pointer to the elements of a C-contiguous array of T with `count` elements. A wrong dtype or layout is a TypeError, a
// wrong size a ValueError, both naming `what`: no kernel sees memory that is not there. The table's own checks, which
// are in the words of shapes, come first (backends/arrays.py).
template <class T>
const T* data(const py::object& object, const char* what, long long count) {
  if (!py::isinstance<py::array>(object)) throw py::type_error(std::string(what) + ": expected a NumPy array");
  py::array array = py::reinterpret_borrow<py::array>(object);
  if (!array.dtype().is(py::dtype::of<T>()) && !array.dtype().equal(py::dtype::of<T>()))
    throw py::type_error(std::string(what) + ": expected dtype " + std::string(py::str(py::dtype::of<T>())) + ", got " +
                         std::string(py::str(array.dtype())));
  if (!(array.flags() & py::array::c_style))
    throw py::type_error(std::string(what) + ": the array must be C-contiguous");
  if (array.size() != count)
    throw py::value_error(std::string(what) + ": expected " + std::to_string(count) + " elements, got " +
                          std::to_string(array.size()));
  return static_cast<const T*>(array.data());
}

// The same for an array that is written to: ValueError if it is read-only.
template <class T>
T* result(const py::object& object, const char* what, long long count) {
  const T* at = data<T>(object, what, count);
  if (!py::reinterpret_borrow<py::array>(object).writeable())
    throw py::value_error(std::string(what) + ": the array is read-only");
  return const_cast<T*>(at);
}

// Null for None.
template <class T>
const T* optional_data(const py::object& object, const char* what, long long count) {
  return object.is_none() ? nullptr : data<T>(object, what, count);
}
template <class T>
T* optional_result(const py::object& object, const char* what, long long count) {
  return object.is_none() ? nullptr : result<T>(object, what, count);
}

inline void needs_axes(const py::array& array, const char* what, int axes) {
  if (array.ndim() != axes)
    throw py::value_error(std::string(what) + ": expected " + std::to_string(axes) + " axes, got " +
                          std::to_string(array.ndim()));
}

// Calls body(float{}) or body(double{}) by the dtype of `array`; TypeError naming the kernel and the dtype otherwise.
// Use as
//   by_dtype(x, "scale", [&](auto type) { using T = decltype(type); ... });
template <class Body>
void by_dtype(const py::array& array, const char* kernel, const Body& body) {
  if (array.dtype().equal(py::dtype::of<float>())) return body(float{});
  if (array.dtype().equal(py::dtype::of<double>())) return body(double{});
  throw py::type_error(std::string(kernel) + ": expected float32 or float64, got " +
                       std::string(py::str(array.dtype())) + "; convert the tensor with .float()");
}

// The function of table entry `entry` for T: pick<T>(table().conv)
template <class T, template <class> class Function>
Function<T>* pick(const Entry<Function>& entry) {
  if constexpr (sizeof(T) == sizeof(float))
    return entry.f32;
  else
    return entry.f64;
}

}  // namespace tinygen

// TINYGEN_BINDINGS(pool) { m.def("max_pool", ...); }   once per file of bindings/
#define TINYGEN_BINDINGS(name)             \
  static void bind_##name(py::module_& m); \
  static const bool bound_##name = [] {    \
    tinygen::define(bind_##name);          \
    return true;                           \
  }();                                     \
  static void bind_##name([[maybe_unused]] py::module_& m)
