#pragma once

#include "ggml.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int   mode, view, n_dims, head_dim, n_heads, n_tokens, n_batch, n_pos, n_rows, n_cols, n_ctx_orig;
    bool  f16, back, in_place;
    float freq_base, freq_scale, ext_factor, attn_factor, beta_fast, beta_slow;
    int   sections[GGML_MROPE_SECTIONS];
} kernel_params;

typedef struct {
    ggml_backend_t             backend;
    struct ggml_context      * ctx;
    ggml_backend_buffer_t      buffer;
    struct ggml_cgraph       * graph;
    struct ggml_tensor       * store; // what src is a view of
    struct ggml_tensor       * dst;
    bool                       in_place;
} kernel_graph;

void           kernel_set_threads(ggml_backend_t backend, int n);
// NULL if the device refuses the op
kernel_graph * kernel_new(ggml_backend_t backend, kernel_params p, const float * x, const int32_t * pos, const float * factors);
int            kernel_compute(kernel_graph * g);
void           kernel_output(kernel_graph * g, float * out, size_t n);
void           kernel_free(kernel_graph * g);
