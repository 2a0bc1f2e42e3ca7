#pragma once

#include "ggml.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int   mode, view, n_dims, head_dim, n_heads, n_tokens, n_batch, n_pos, n_rows, n_cols, n_ctx_orig;
    int   n_cells, n_ops;
    bool  f16, back, in_place, cache_f16, norm, rows, guard;
    float freq_base, freq_scale, ext_factor, attn_factor, beta_fast, beta_slow;
    int   sections[GGML_MROPE_SECTIONS];
} kernel_params;

typedef struct {
    ggml_backend_t             backend;
    struct ggml_context      * ctx;
    ggml_backend_buffer_t      buffer;
    struct ggml_cgraph       * graph;
    struct ggml_tensor       * out;
    // what is not written if it is computed as one with what takes it
    struct ggml_tensor       * inner;
    // memory whose last page cannot be accessed, if the factors are to end there
    char                     * guarded;
    size_t                     n_guarded;
} kernel_graph;

// the devices of a backend library, which is not entered into the host's list; 0 if it cannot be
// loaded
int            kernel_open(const char * path, ggml_backend_dev_t * devs, int n);
void           kernel_set_threads(ggml_backend_t backend, int n);
// NULL if the device refuses the op. cells: of the cache for each token, if p.n_cells > 0
kernel_graph * kernel_new(ggml_backend_t backend, kernel_params p, const float * x, const int32_t * pos, const float * factors, const int64_t * cells);
int            kernel_compute(kernel_graph * g);
void           kernel_output(kernel_graph * g, float * out, size_t n);
// whether the device never wrote the op's own result, since it went to the cache at once
bool           kernel_fused(kernel_graph * g);
void           kernel_free(kernel_graph * g);

// gives rows to an op; the unpatched host has none
void kernel_add_rows(struct ggml_tensor * op, struct ggml_tensor * pos, struct ggml_tensor * rows);

// The RoPE op that ggml's backward pass makes of one. Nothing is computed.
typedef struct {
    bool    found, same_pos, same_factors; // as the op that it was made of
    int32_t params[16];                    // op_params of the op that it was made of
    int32_t back[16];                      // its own
} kernel_backward;

kernel_backward kernel_backward_of(kernel_params p);
