//go:build stock

#include "kernel.h"

void kernel_add_rows(struct ggml_tensor * op, struct ggml_tensor * pos, struct ggml_tensor * rows) {
    GGML_ABORT("the unpatched host has no rows");
}
