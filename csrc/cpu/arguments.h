// Arguments of kernels that belong together: plain data, shared by the bindings and all instruction sets.
#pragma once

#include <cstdint>

namespace tinygen {

// A sparse linear map along one axis, see backends/geometry.py: y[p] = sum over t of weight[p][t] * x[index[p][t]].
struct Taps {
  long long outputs, taps, size;
  const long long* index;
  const double* weight;
};

// Matrices a (rows x depth) and b (depth x columns), with the strides of their axes in elements.
struct Product {
  long long rows, columns, depth;
  long long a_row, a_depth, b_depth, b_column;
  long long batch;
  const long long *a_offset, *b_offset;  // of each product, in elements
  double slope;                          // of the leaky_relu behind it; 1: nothing, 0: ReLU
};

struct Extents {
  long long r0, k0, r1, k1;  // of a sum: reduced, kept, reduced, kept, from the outermost axis to the innermost
};

struct Channels {
  long long n, c, s;  // x is (n, c, s), statistics per c
};

// What an optimizer updates: parameter i and its gradient, size[i] elements each. The state of parameter i is the elements
// [start[i], start[i] + size[i]) of flat arrays, in ascending order; elements in between belong to nobody.
template <class T>
struct Pieces {
  long long count;
  T* const* p;
  const T* const* g;
  const long long *start, *size;
};

struct Sgd {
  double momentum, dampening, weight_decay;
  bool nesterov;
};
struct Adam {
  double beta1, beta2, eps, weight_decay;
  bool decoupled;
};
struct RmsProp {
  double alpha, eps, weight_decay, momentum;
};

struct Philox {
  std::uint64_t seed, offset;  // offset: the first block of four words
  std::uint32_t stream;
};

}  // namespace tinygen
