//go:build !stock

#include "kernel.h"

void kernel_add_rows(struct ggml_tensor * op, struct ggml_tensor * pos, struct ggml_tensor * rows) {
    ggml_rope_add_rows(op, pos, rows);
}
