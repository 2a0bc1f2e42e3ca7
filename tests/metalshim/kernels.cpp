#include "shim.h"

#include <cstring>
#include <type_traits>

namespace metal {

// The mark of an entry point and address spaces mean nothing on a CPU. clang can check that
// pointers keep to their space, as Metal's compiler does. Last, for headers have such names.
#define kernel
#define thread
#ifdef ADDRESS_SPACES
#define device   __attribute__((address_space(1)))
#define constant __attribute__((address_space(2)))
#else
#define device
#define constant
#endif

#include "rope.inc"

typedef decltype(kernel_rope_norm<float>) rope_function;
#ifndef ADDRESS_SPACES
static_assert(std::is_same<rope_function, rope_kernel>::value, "the host's kernels have other parameters");
#endif

rope_kernel * find(const char * name) {
    static const struct {
        const char * name;
        rope_function * function;
    } functions[] = {
#include "functions.inc"
    };
    for (const auto & f : functions) {
        if (strcmp(f.name, name) == 0) {
            return (rope_kernel *) f.function;
        }
    }
    return nullptr;
}

} // namespace metal
