// The part of CUDA's execution model, of its types and of ggml-cuda's common.cuh and convert.cuh
// that rope.cu uses, for a C++ compiler: a launch is a loop over all threads, one after the other.
#pragma once

#include "ggml.h"
#include "ggml-impl.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#define __global__
#define __device__

using std::max;
using std::min;

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

static dim3 gridDim, blockDim, blockIdx, threadIdx;

// cudashim_launch visits the threads of a launch from the last to the first: CUDA promises no
// order, and code that needs one mostly needs the other.
struct cudashim_launch {
    uint64_t left;

    cudashim_launch(dim3 grid, dim3 block, size_t /*shared*/, void * /*stream*/) :
        left((uint64_t) grid.x*grid.y*grid.z*block.x*block.y*block.z) {
        // the limits of every device that the host is built for
        GGML_ASSERT(grid.x > 0 && grid.x < 0x80000000u && grid.y > 0 && grid.y < 65536 && grid.z > 0 && grid.z < 65536);
        GGML_ASSERT(block.x*block.y*block.z <= 1024 && block.z <= 64);
        gridDim  = grid;
        blockDim = block;
    }

    bool next() {
        if (left == 0) {
            return false;
        }
        uint64_t i = --left;
        auto take = [&](unsigned n) { unsigned k = i % n; i /= n; return k; };
        threadIdx.x = take(blockDim.x); threadIdx.y = take(blockDim.y); threadIdx.z = take(blockDim.z);
        blockIdx.x  = take(gridDim.x);  blockIdx.y  = take(gridDim.y);  blockIdx.z  = take(gridDim.z);
        return true;
    }
};

struct half {
    ggml_fp16_t bits;
    half() = default;
    half(float f) : bits(ggml_fp32_to_fp16(f)) {}
    operator float() const { return ggml_fp16_to_fp32(bits); }
};

struct float2 { float x, y; };
struct half2  { half  x, y; };

static inline float2 make_float2(float x, float y) { return { x, y }; }
static inline half2  make_half2 (half x, half y)   { return { x, y }; }

template<typename dst_t, typename src_t>
static inline dst_t ggml_cuda_cast(src_t x) {
    return dst_t(float(x));
}

template<int nbytes>
static inline void ggml_cuda_memcpy_1(void * dst, const void * src) {
    GGML_ASSERT((uintptr_t) dst % nbytes == 0); // one access of a device, which must be aligned
    memcpy(dst, src, nbytes);
}

typedef void * cudaStream_t;

struct ggml_backend_cuda_context {
    cudaStream_t stream() { return nullptr; }
};
