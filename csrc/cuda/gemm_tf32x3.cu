// float32's accuracy on tensor cores: three tf32 products for each product.
#include "gemm_tf32.h"

#if defined(TENSOR_CORES) && !defined(DOUBLE)
typedef Tf32<64, 64, 16, 32, 32, 3> Tf32x3Small;
typedef Tf32<128, 128, 16, 64, 32, 3> Tf32x3Large;
GATHER_KERNEL(3, 128, gemm_tf32x3_64, Tf32x3Small, false, false)
GATHER_KERNEL(3, 128, gemm_tf32x3_64_k, Tf32x3Small, false, true)
GATHER_KERNEL(3, 128, gemm_tf32x3_64_m, Tf32x3Small, true, false)
GATHER_KERNEL(1, 256, gemm_tf32x3_128, Tf32x3Large, false, false)
GATHER_KERNEL(1, 256, gemm_tf32x3_128_k, Tf32x3Large, false, true)
GATHER_KERNEL(1, 256, gemm_tf32x3_128_m, Tf32x3Large, true, false)
#endif
