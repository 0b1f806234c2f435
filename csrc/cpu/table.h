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
#include "arguments.h"

#define TINYGEN_KERNELS(KERNEL)                                                                                          \
  /* kernels/conv.cpp */                                                                                                 \
  KERNEL(conv, (const Geometry& geo, const T* x, const T* w, const T* bias, T* y))                                       \
  KERNEL(conv_transpose, (const Geometry& geo, const T* y, const T* w, const T* bias, T* x))                             \
  KERNEL(conv_plan, (const Geometry& geo, bool transposed, const char** plan))                                           \
  /* kernels/conv_weight.cpp */                                                                                          \
  KERNEL(conv_weight, (const Geometry& geo, const T* x, const T* y, T* w))                                               \
  KERNEL(conv_weight_plan, (const Geometry& geo, const char** plan))                                                     \
  /* kernels/winograd.cpp */                                                                                             \
  KERNEL(conv_winograd, (const Geometry& geo, const T* source, const T* w, const T* bias, bool transposed, T* out,       \
         bool* dirty))                                                                                                  \
  /* kernels/winograd_weight.cpp */                                                                                      \
  KERNEL(conv_weight_winograd, (const Geometry& geo, const T* x, const T* y, T* w))                                      \
  /* kernels/gemm.cpp */                                                                                                 \
  KERNEL(matmul, (const Product& size, const T* a, const T* b, const T* bias, T* c))                                    \
  /* kernels/planes.cpp */                                                                                              \
  KERNEL(resample, (long long planes, const Taps& rows, const Taps& cols, const T* x, T* y))                            \
  KERNEL(max_pool, (long long planes, const Taps& rows, const Taps& cols, const T* x, T* y, long long* winners))        \
  KERNEL(take_plane, (long long planes, long long size, long long count, const T* x, const long long* index, T* y,         \
         bool* outside))                                                                                                \
  KERNEL(put_plane, (long long planes, long long size, long long count, const T* y, const long long* index, T* x,          \
         bool* outside))                                                                                                \
  KERNEL(scatter_add, (long long count, long long width, long long length, const T* values, const long long* index,     \
         T* out, bool* outside))                                                                                        \
  /* kernels/reduce.cpp */                                                                                              \
  KERNEL(sum, (const Extents& size, double scale, const T* x, T* y))                                                    \
  KERNEL(squared_error, (long long count, const T* x, const T* target, double scale, T* y, T* slope))                   \
  KERNEL(bernoulli_loss, (long long count, const T* x, const T* target, double scale, T* y, T* slope))                  \
  KERNEL(class_loss, (long long rows, long long width, const T* x, const long long* labels, double scale, T* y,         \
         T* slope, bool* outside))                                                                                      \
  /* kernels/norm.cpp */                                                                                                \
  KERNEL(channel_norm, (const Channels& size, const T* x, const T* weight, const T* bias, double eps, double slope,     \
         T* y, T* mean, T* rstd))                                                                                       \
  KERNEL(channel_norm_backward, (const Channels& size, const T* g, const T* x, const T* weight, const T* bias,          \
         const T* mean, const T* rstd, double slope, T* gx, T* gweight, T* gbias))                                      \
  KERNEL(row_norm, (long long rows, long long width, const T* x, double eps, T* y, T* rstd))                            \
  KERNEL(row_norm_backward, (long long rows, long long width, const T* g, const T* y, const T* rstd, T* gx))            \
  KERNEL(softmax, (long long rows, long long width, const T* x, T* y))                                                  \
  KERNEL(log_softmax, (long long rows, long long width, const T* x, T* y))                                              \
  /* kernels/pointwise.cpp */                                                                                           \
  KERNEL(sigmoid, (long long count, const T* x, T* y))                                                                  \
  KERNEL(sigmoid_backward, (long long count, const T* g, bool one_g, const T* out, T* gx))                              \
  KERNEL(tanh, (long long count, const T* x, T* y))                                                                     \
  KERNEL(tanh_backward, (long long count, const T* g, bool one_g, const T* out, T* gx))                                 \
  KERNEL(leaky_relu, (long long count, const T* x, T* y, double slope))                                                 \
  KERNEL(leaky_relu_backward, (long long count, const T* g, bool one_g, const T* x, T* gx, double slope))               \
  KERNEL(elu, (long long count, const T* x, T* y, double alpha, double scale))                                          \
  KERNEL(elu_backward, (long long count, const T* g, bool one_g, const T* x, T* gx, double alpha, double scale))        \
  KERNEL(softplus, (long long count, const T* x, T* y))                                                                 \
  KERNEL(softplus_backward, (long long count, const T* g, bool one_g, const T* x, T* gx))                               \
  KERNEL(silu, (long long count, const T* x, T* y))                                                                     \
  KERNEL(silu_backward, (long long count, const T* g, bool one_g, const T* x, T* gx))                                   \
  KERNEL(gelu, (long long count, const T* x, T* y, bool use_tanh))                                                      \
  KERNEL(gelu_backward, (long long count, const T* g, bool one_g, const T* x, T* gx, bool use_tanh))                    \
  KERNEL(erf, (long long count, const T* x, T* y))                                                                      \
  KERNEL(bce_with_logits, (long long count, const T* x, const T* target, T* y))                                         \
  KERNEL(bce_with_logits_backward, (long long count, const T* g, bool one_g, const T* x, const T* target, T* gx))       \
  /* kernels/optimizer.cpp */                                                                                           \
  KERNEL(sgd_step, (const Pieces<T>& all, T* buffer, double lr, bool first, const Sgd& how))                            \
  KERNEL(adam_step, (const Pieces<T>& all, T* m, T* v, double lr, double step, const Adam& how))                        \
  KERNEL(rmsprop_step, (const Pieces<T>& all, T* v, T* buffer, T* mean, double lr, const RmsProp& how))                 \
  /* kernels/random.cpp */                                                                                              \
  KERNEL(random_bits, (const Philox& state, long long count, std::uint32_t* out))                                       \
  KERNEL(random_uniform, (const Philox& state, long long count, T* out))                                                \
  KERNEL(random_normal, (const Philox& state, long long count, T* out))                                                  \
  /* kernels/probe.cpp */                                                                                                \
  KERNEL(fma_probe, (long long rounds, const T* from, T* to, long long* flops))                                          \
  KERNEL(triad, (long long count, double scale, const T* a, const T* b, T* c))

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
