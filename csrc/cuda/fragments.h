// The sums of an engine on tensor cores, as mma.sync leaves them in the registers of a warp.
#pragma once
#include "gather_gemm.h"

#if defined(TENSOR_CORES) && !defined(DOUBLE)
// A warp computes WM x WJ of a tile of J columns, in fragments of 16 x 8: see mma_tf32 in device.h.
template <int J, int WM, int WJ>
struct Fragments {
  static constexpr int kOwnRows = WM / 8, kOwnColumns = WJ / 4, kLanes = 4, kWarps = J / WJ;
  float sums[WM / 16][WJ / 8][4];
  int m0, j0, g, t;  // the warp's corner, and the lane's place in a fragment

  DEVICE void place(int thread) {
    m0 = thread / 32 / kWarps * WM, j0 = thread / 32 % kWarps * WJ, g = thread % 32 / 4, t = thread % 4;
  }
  DEVICE explicit Fragments(int thread) {
    place(thread);
    UNROLL
    for (int r = 0; r < kOwnRows; r++)
      UNROLL
      for (int i = 0; i < kOwnColumns; i++) sum(r, i) = 0;
  }
  DEVICE int row(int r) const { return m0 + 16 * (r / 2) + g + 8 * (r % 2); }
  DEVICE int column(int i) const { return j0 + 8 * (i / 2) + 2 * t + i % 2; }
  DEVICE int warp() const { return j0 / WJ; }
  DEVICE float& sum(int r, int i) { return sums[r / 2][i / 2][2 * (r % 2) + i % 2]; }
  DEVICE float sum(int r, int i) const { return sums[r / 2][i / 2][2 * (r % 2) + i % 2]; }
};
#endif
