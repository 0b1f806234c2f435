// Step 1: the definition, seven loops.
//
// One output after the other; each is a sum over channels and taps. The sum is one chain of dependent additions (the
// next waits four cycles for the last), one number wide, and each product is preceded by the question whether the tap
// lies on padding.
#include "tour.h"

extern "C" void convolution(const Layer& l, const float* x, const float* w, float* y, int) {
  for (long n = 0; n < l.images; n++)
    for (long k = 0; k < l.filters; k++)
      for (long p = 0; p < l.out_height; p++)
        for (long q = 0; q < l.out_width; q++) {
          float sum = 0;
          for (long c = 0; c < l.channels; c++)
            for (long r = 0; r < l.size; r++)
              for (long s = 0; s < l.size; s++) {
                long row = l.stride * p + r - l.pad, column = l.stride * q + s - l.pad;
                if (row < 0 || row >= l.height || column < 0 || column >= l.width) continue;
                sum += x[((n * l.channels + c) * l.height + row) * l.width + column] *
                       w[((k * l.channels + c) * l.size + r) * l.size + s];
              }
          y[((n * l.filters + k) * l.out_height + p) * l.out_width + q] = sum;
        }
}
