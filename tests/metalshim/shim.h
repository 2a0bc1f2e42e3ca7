// The part that ggml's RoPE kernels use of the Metal Shading Language, as C++.
//
// A dispatch calls a kernel once for each thread, one after another: right for kernels without
// barriers and shared memory, as these are.

#pragma once

#include "ggml.h"
#include "ggml-metal-impl.h"

#include <cmath>
#include <cstdint>
#include <map>

#define M_PI_F 3.14159265358979323846f

namespace metal {

// the names of <metal_math> are of float, not of double
inline float pow  (float x, float y) { return std::pow(x, y); }
inline float sin  (float x)          { return std::sin(x); }
inline float cos  (float x)          { return std::cos(x); }
inline float log  (float x)          { return std::log(x); }
inline float floor(float x)          { return std::floor(x); }
inline float ceil (float x)          { return std::ceil(x); }
inline float min  (float x, float y) { return std::fmin(x, y); }
inline float max  (float x, float y) { return std::fmax(x, y); }

#ifdef ADDRESS_SPACES
typedef __fp16 half; // clang's, for the methods of a class take objects of one space only
#else
class half {
    ggml_fp16_t bits;

public:
    half(float x) : bits(ggml_fp32_to_fp16(x)) {}
    operator float() const { return ggml_fp16_to_fp32(bits); }
};
#endif

typedef unsigned short ushort;
typedef unsigned int   uint;

template <typename T> struct vec3 {
    T x, y, z;
    T operator[](int i) const { return i == 0 ? x : i == 1 ? y : z; }
};
typedef vec3<ushort> ushort3;
typedef vec3<uint>   uint3;

// A function constant is a variable, registered under its index. A pipeline sets every one before
// it runs: Metal compiles none that leaves one open.
struct function_constant {
    template <typename T> function_constant(int index, T * variable) {
        all()[index] = { [](void * p, int value) { *(T *) p = (T) value; }, variable };
    }
    struct entry {
        void (*set)(void *, int);
        void * variable;
    };
    static std::map<int, entry> & all() {
        static std::map<int, entry> m;
        return m;
    }
};

typedef void rope_kernel(ggml_metal_kargs_rope & args, const char * src0, const char * src1, const char * src2, char * dst,
    ushort thread_index_in_threadgroup, ushort3 threads_per_threadgroup, uint3 threadgroup_position_in_grid);

// the kernel that the host calls by this name, or null
rope_kernel * find(const char * name);

} // namespace metal
