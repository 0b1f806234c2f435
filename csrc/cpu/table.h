// The table of CPU kernels: one function pointer per kernel, for float and double, one table per instruction set.
//
// Adding a kernel takes one line in TINYGEN_KERNELS below and one definition in kernels/<file>.cpp:
//
//     TINYGEN_KERNEL(scale, (const T* x, T* y, long long count)) { ... }
//
// Every file of kernels/ is compiled once per instruction set. Its code lives in namespace tinygen::<isa>, has internal
// linkage, and uses no std templates: the linker would merge such weak symbols across instruction sets, and the baseline
// could end up executing AVX-512. Nothing in these files runs at load time: an entry is a constant, not a constructor.
#pragma once

#include "../geometry.h"

#define TINYGEN_KERNELS(KERNEL)                                                                                          \
  /* kernels/conv.cpp */                                                                                                 \
  KERNEL(conv, (const Geometry& geo, const T* x, const T* w, const T* bias, T* y))                                       \
  KERNEL(conv_transpose, (const Geometry& geo, const T* y, const T* w, const T* bias, T* x))                             \
  /* kernels/conv_weight.cpp */                                                                                          \
  KERNEL(conv_weight, (const Geometry& geo, const T* x, const T* y, T* w))

namespace tinygen {

// For each kernel: its function type, as `conv_t<float>`.
#define KERNEL(name, arguments) \
  template <class T>            \
  using name##_t = void arguments;
TINYGEN_KERNELS(KERNEL)
#undef KERNEL

// One kernel compiled for one instruction set, and where its source is.
template <template <class> class Function>
struct Entry {
  Function<float>* f32;
  Function<double>* f64;
  const char* file;
  int line;
};

struct Table {
#define KERNEL(name, arguments) Entry<name##_t> name;
  TINYGEN_KERNELS(KERNEL)
#undef KERNEL
};

}  // namespace tinygen

#ifdef TINYGEN_ISA  // in a kernel file, inside namespace tinygen::TINYGEN_ISA
#define TINYGEN_KERNEL(name, arguments)                                                            \
  template <class T>                                                                               \
  static void name arguments;                                                                      \
  extern const Entry<name##_t> entry_##name;                                                       \
  const Entry<name##_t> entry_##name = {name<float>, name<double>, __FILE__, __LINE__};            \
  template <class T>                                                                               \
  static void name arguments
#endif
