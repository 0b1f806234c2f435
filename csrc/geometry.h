// Shapes of one convolution, and the index maps of its three contractions: written once for host and device.
//
//   T(x, w, y) = sum over n, p, k, c, t of  x[n, c, stride*p + dilation*t - pad] * w[k, c, t] * y[n, k, p]
//
// per axis, x being zero outside its array. conv = dT/dy, conv_transpose = dT/dx, conv_weight = dT/dw. All sizes are
// stored, nothing is re-derived: output padding, ragged strides, asymmetric and negative pads are no special cases.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define TINYGEN_HOST_DEVICE __host__ __device__
#else
#define TINYGEN_HOST_DEVICE
#endif

namespace tinygen {

// Rounded towards minus infinity; b > 0.
TINYGEN_HOST_DEVICE inline constexpr long long floor_div(long long a, long long b) {
  return a >= 0 ? a / b : -((b - 1 - a) / b);
}
TINYGEN_HOST_DEVICE inline constexpr long long ceil_div(long long a, long long b) { return -floor_div(-a, b); }
TINYGEN_HOST_DEVICE inline constexpr long long floor_mod(long long a, long long b) { return a - floor_div(a, b) * b; }

// One spatial axis: sizes of x, w and y along it and how they meet.
struct Axis {
  long long x, w, y;
  long long stride, dilation, pad;  // pad: before the first element, may be negative

  // Position in x that output p meets through tap t; outside [0, x) it reads zero.
  TINYGEN_HOST_DEVICE constexpr long long position(long long p, long long t) const {
    return stride * p + dilation * t - pad;
  }

  // The transposed map falls into `stride` phases. Phase f holds the positions i = first(f) + stride * j, j < count(f);
  // only the taps with dilation * t = f (mod stride) reach it, and each is a plain shift: p = j + shift(f, t).
  TINYGEN_HOST_DEVICE constexpr long long first(long long f) const { return floor_mod(f - pad, stride); }
  TINYGEN_HOST_DEVICE constexpr long long count(long long f) const {
    return first(f) < x ? (x - first(f) + stride - 1) / stride : 0;
  }
  TINYGEN_HOST_DEVICE constexpr bool reaches(long long f, long long t) const {
    return floor_mod(dilation * t - f, stride) == 0;
  }
  TINYGEN_HOST_DEVICE constexpr long long shift(long long f, long long t) const {
    return floor_div(first(f) + pad - dilation * t, stride);
  }
};

// x (n, c, rows.x, cols.x), w (k, c / groups, rows.w, cols.w), y (n, k, rows.y, cols.y), all contiguous.
struct Geometry {
  long long n, c, k, groups;
  Axis rows, cols;

  // Nominal operations of each contraction: two per tap, taps on padding included.
  TINYGEN_HOST_DEVICE constexpr double flops() const {
    return 2.0 * n * k * (c / groups) * rows.w * cols.w * rows.y * cols.y;
  }
};

}  // namespace tinygen
