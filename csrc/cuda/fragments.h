// What engines on tensor cores share: their sums as mma.sync leaves them in a warp's registers, and its factors.
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
  // The factors of a step of 32 bytes along k, from tiles whose lines are rows along k: a of a 16-row fragment, b of two
  // 8-column fragments. What 16 bytes hold is two matrices' affair: 4 numbers of tf32 or 8 of bfloat16.
  template <class Side>
  static DEVICE void load_a(unsigned (&to)[4], const Side& side, int m, int k) {
    const int lane = int(threadIdx.x) % 32, half = 16 / int(sizeof(side.at[0][0]));
    load_matrices(to, &side.at[m + lane % 16][k + lane / 16 * half]);
  }
  template <class Side>
  static DEVICE void load_b(unsigned (&first)[2], unsigned (&second)[2], const Side& side, int j, int k) {
    const int lane = int(threadIdx.x) % 32, half = 16 / int(sizeof(side.at[0][0]));
    unsigned four[4];
    load_matrices(four, &side.at[j + lane / 16 * 8 + lane % 8][k + lane / 8 % 2 * half]);
    first[0] = four[0], first[1] = four[1], second[0] = four[2], second[1] = four[3];
  }
  DEVICE int row(int r) const { return m0 + 16 * (r / 2) + g + 8 * (r % 2); }
  DEVICE int column(int i) const { return j0 + 8 * (i / 2) + 2 * t + i % 2; }
  DEVICE int warp() const { return j0 / WJ; }
  DEVICE float& sum(int r, int i) { return sums[r / 2][i / 2][2 * (r % 2) + i % 2]; }
  DEVICE float sum(int r, int i) const { return sums[r / 2][i / 2][2 * (r % 2) + i % 2]; }
};
#endif
