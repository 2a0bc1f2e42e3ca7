// What ROCm 6.1, which the host wants, has and the HIP 5.2 of Debian 12 has not: enough for the
// host's RoPE source.
#pragma once

#include <hip/hip_bfloat16.h>
#include <hip/hip_fp16.h>

typedef hip_bfloat16 __hip_bfloat16;
struct __hip_bfloat162 { __hip_bfloat16 x, y; };

static __device__ inline __half __hmax(__half a, __half b) { return __hgt(a, b) ? a : b; }
static __device__ inline __half2 __shfl_xor(__half2 v, int mask, int width) {
    int i = __shfl_xor(__builtin_bit_cast(int, v), mask, width);
    return __builtin_bit_cast(__half2, i);
}
static __device__ inline __half2 __shfl_up(__half2 v, unsigned delta, int width) {
    int i = __shfl_up(__builtin_bit_cast(int, v), delta, width);
    return __builtin_bit_cast(__half2, i);
}
static __host__ __device__ inline __hip_bfloat16 __float2bfloat16(float x) { return __hip_bfloat16(x); }
static __host__ __device__ inline float __bfloat162float(__hip_bfloat16 x) { return float(x); }
