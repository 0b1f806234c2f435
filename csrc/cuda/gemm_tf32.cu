// Precision "high": tf32 factors, float32 sums.
#include "gemm_tf32.h"

#if defined(TENSOR_CORES) && !defined(DOUBLE)
typedef Tf32<64, 64, 16, 32, 32, 1> Tf32Small;
typedef Tf32<128, 128, 16, 64, 32, 1> Tf32Large;
GATHER_KERNEL(4, 128, gemm_tf32_64, Tf32Small, false, false)
GATHER_KERNEL(4, 128, gemm_tf32_64_k, Tf32Small, false, true)
GATHER_KERNEL(4, 128, gemm_tf32_64_m, Tf32Small, true, false)
GATHER_KERNEL(2, 256, gemm_tf32_128, Tf32Large, false, false)
GATHER_KERNEL(2, 256, gemm_tf32_128_k, Tf32Large, false, true)
GATHER_KERNEL(2, 256, gemm_tf32_128_m, Tf32Large, true, false)
#endif
