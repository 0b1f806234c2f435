// What the steps share: the layer y = conv(x, w), x (n, c, h, width), w (k, c, size, size), y (n, k, p, q), as arguments.
#pragma once
#include "device.h"

#define LAYER                                                                                                         \
  const float *__restrict__ x, const float *__restrict__ w, float *__restrict__ y, long long n, long long c,          \
      long long h, long long width, long long k, long long size, long long stride, long long pad, long long p,        \
      long long q
