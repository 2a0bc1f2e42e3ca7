//go:build !stock

#include "kernel.h"

// weak, so that the package links with a host of an older series, which has to be made again
__attribute__((weak)) void ggml_rope_add_rows(
    struct ggml_tensor * a, struct ggml_tensor * b, struct ggml_tensor * c);

void kernel_add_rows(struct ggml_tensor * op, struct ggml_tensor * pos, struct ggml_tensor * rows) {
    if (!ggml_rope_add_rows) {
        GGML_ABORT("the host in build/host has no ggml_rope_add_rows: run make build");
    }
    ggml_rope_add_rows(op, pos, rows);
}
