// The gather form on the ordinary arithmetic units: every product and sum in `real`. The default for float32, and all
// there is for float64.
//
// A thread keeps TM x TN sums in registers and reads TM + TN numbers of shared memory for TM * TN multiplications: with
// 8 x 8, 16 numbers (four 16-byte loads) for 64, so arithmetic and not shared memory sets the pace.
#include "gather_gemm.h"

// to[0..count) = from[0..count), 16 bytes at a time; from is a multiple of 16 bytes.
template <int count>
DEVICE void load_vectors(float* to, const float* from) {
  UNROLL
  for (int i = 0; i < count; i += 4) {
    const float4 v = *reinterpret_cast<const float4*>(from + i);
    to[i] = v.x, to[i + 1] = v.y, to[i + 2] = v.z, to[i + 3] = v.w;
  }
}
template <int count>
DEVICE void load_vectors(double* to, const double* from) {
  UNROLL
  for (int i = 0; i < count; i += 2) {
    const double2 v = *reinterpret_cast<const double2*>(from + i);
    to[i] = v.x, to[i + 1] = v.y;
  }
}

template <int M, int J, int K, int TM, int TN>
struct Simt {
  static constexpr int kRows = M, kColumns = J, kDepth = K, kThreads = M / TM * (J / TN);
  // Rows of `lines` + 4: the 32 stores of a warp, 8 along k and 4 along the lines, fall into different banks.
  template <int lines>
  struct alignas(16) Side {
    real at[K][lines + 4];
    DEVICE void put(int line, int k, real value) { at[k][line] = value; }
    template <int n>
    DEVICE void put_run(int line, int k, const real (&values)[n]) {
      UNROLL
      for (int i = 0; i < n; i++) at[k + i][line] = values[i];
    }
  };
  struct Tile {
    Side<M> a;
    Side<J> b;
  };
  // A thread's columns are vectors of 16 bytes, neighbours' side by side: a warp reads and writes without gaps.
  static constexpr int kVector = 16 / int(sizeof(real)), kApart = J / TN * kVector;
  static constexpr int kOwnRows = TM, kOwnColumns = TN, kLanes = J / TN, kWarps = 1;
  real sums[TM][TN];
  int m0, j0;

  DEVICE void place(int thread) { m0 = thread / (J / TN) * TM, j0 = thread % (J / TN) * kVector; }
  DEVICE explicit Simt(int thread) {
    place(thread);
    UNROLL
    for (int i = 0; i < TM; i++)
      UNROLL
      for (int j = 0; j < TN; j++) sums[i][j] = 0;
  }
  DEVICE void multiply(const Tile& tile) {
    UNROLL
    for (int k = 0; k < K; k++) {
      real a[TM], b[TN];
      load_vectors<TM>(a, &tile.a.at[k][m0]);
      UNROLL
      for (int i = 0; i < TN; i += kVector) load_vectors<kVector>(b + i, &tile.b.at[k][j0 + i / kVector * kApart]);
      UNROLL
      for (int i = 0; i < TM; i++)
        UNROLL
        for (int j = 0; j < TN; j++) sums[i][j] += a[i] * b[j];
    }
  }
  DEVICE int row(int r) const { return m0 + r; }
  DEVICE int column(int i) const { return j0 + i / kVector * kApart + i % kVector; }
  DEVICE int warp() const { return 0; }
  DEVICE real& sum(int r, int i) { return sums[r][i]; }
  DEVICE real sum(int r, int i) const { return sums[r][i]; }
};

#ifdef DOUBLE
#define RESIDENT 2
#else
#define RESIDENT 4
#endif
typedef Simt<64, 64, 8, 4, 4> Small;
GATHER_KERNEL(RESIDENT, 256, gemm_simt_64, Small, false, false)
GATHER_KERNEL(RESIDENT, 256, gemm_simt_64_k, Small, false, true)
GATHER_KERNEL(RESIDENT, 256, gemm_simt_64_m, Small, true, false)
#ifndef DOUBLE
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
#define RESIDENTK 1  // its 150 registers do not fit into 128 there
#else
#define RESIDENTK 2
#endif
typedef Simt<128, 128, 8, 8, 8> Large;
GATHER_KERNEL(2, 256, gemm_simt_128, Large, false, false)
GATHER_KERNEL(RESIDENTK, 256, gemm_simt_128_k, Large, false, true)
GATHER_KERNEL(2, 256, gemm_simt_128_m, Large, true, false)
#endif
