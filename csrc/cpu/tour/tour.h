// What every step of the tour computes: one convolution forward, NCHW, float32.
//
//   y[n, k, p, q] = sum over c, r, s of  x[n, c, stride * p + r - pad, stride * q + s - pad] * w[k, c, r, s]
//
// x is 0 outside its array. Each step is a library of its own with one function, `convolution`, for one caller at a
// time.
#pragma once

#include <cstdlib>

struct Layer {
  long images, channels, height, width;                  // of x
  long filters, size, stride, pad;                       // w is filters x channels x size x size
  long out_height, out_width;                            // of y
  long depth() const { return channels * size * size; }  // products per output
};

// Memory with arbitrary contents that is kept from call to call: fresh memory is paid for at its first touch, 16 MB of
// it with 4 of 42 ms (Zen 4, step 6).
class Scratch {
 public:
  ~Scratch() { std::free(data_); }
  float* floats(long count) {
    if (count > size_) {
      std::free(data_);
      data_ = static_cast<float*>(std::aligned_alloc(64, (count * 4 + 63) / 64 * 64));
      size_ = count;
    }
    return data_;
  }

 private:
  float* data_ = nullptr;
  long size_ = 0;
};

extern "C" void convolution(const Layer& layer, const float* x, const float* w, float* y, int threads);
