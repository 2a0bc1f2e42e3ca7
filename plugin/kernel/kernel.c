#include "kernel.h"

#include <stdlib.h>
#include <string.h>
#ifndef _WIN32
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

int kernel_open(const char * path, ggml_backend_dev_t * devs, int n) {
#ifdef _WIN32
    return 0;
#else
    void * lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ggml_backend_reg_t (*init)(void) = lib ? (ggml_backend_reg_t (*)(void)) dlsym(lib, "ggml_backend_init") : NULL;
    ggml_backend_reg_t reg = init ? init() : NULL;
    int i = 0;
    for (; reg && i < n && (size_t) i < ggml_backend_reg_dev_count(reg); ++i) {
        devs[i] = ggml_backend_reg_dev_get(reg, i);
    }
    return i;
#endif
}

void kernel_set_threads(ggml_backend_t backend, int n) {
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(ggml_backend_get_device(backend));
    ggml_backend_set_n_threads_t set = (ggml_backend_set_n_threads_t) ggml_backend_reg_get_proc_address(reg, "ggml_backend_set_n_threads");
    if (set) {
        set(backend, n);
    }
}

// the slice of the store that is rotated, see View in cases.go
static struct ggml_tensor * kernel_src(struct ggml_context * ctx, struct ggml_tensor * store, const kernel_params * p) {
    switch (p->view) {
        case 1: {
            // one of three in a fused projection: heads are strided by the head, tokens by the
            // whole projection
            const size_t head = p->head_dim*ggml_type_size(store->type);
            return ggml_view_4d(ctx, store, p->head_dim, p->n_heads, p->n_tokens, p->n_batch, head, store->nb[1], store->nb[2], p->n_heads*head);
        }
        case 2: // heads outside of tokens
            return ggml_permute(ctx, store, 0, 2, 1, 3);
        default:
            return store;
    }
}

static struct ggml_tensor * kernel_plain_op(struct ggml_context * ctx, const kernel_params * p, struct ggml_tensor * a, struct ggml_tensor * b, struct ggml_tensor * c) {
    int sections[GGML_MROPE_SECTIONS];
    for (int i = 0; i < GGML_MROPE_SECTIONS; ++i) {
        sections[i] = p->sections[i];
    }
    if (p->mode & GGML_ROPE_TYPE_MROPE) {
        struct ggml_tensor * (*f)(struct ggml_context *, struct ggml_tensor *, struct ggml_tensor *, struct ggml_tensor *,
            int, int *, int, int, float, float, float, float, float, float) =
            p->back ? ggml_rope_multi_back : p->in_place ? ggml_rope_multi_inplace : ggml_rope_multi;
        return f(ctx, a, b, c, p->n_dims, sections, p->mode, p->n_ctx_orig, p->freq_base, p->freq_scale, p->ext_factor, p->attn_factor, p->beta_fast, p->beta_slow);
    }
    struct ggml_tensor * (*f)(struct ggml_context *, struct ggml_tensor *, struct ggml_tensor *, struct ggml_tensor *,
        int, int, int, float, float, float, float, float, float) =
        p->back ? ggml_rope_ext_back : p->in_place ? ggml_rope_ext_inplace : ggml_rope_ext;
    return f(ctx, a, b, c, p->n_dims, p->mode, p->n_ctx_orig, p->freq_base, p->freq_scale, p->ext_factor, p->attn_factor, p->beta_fast, p->beta_slow);
}

static struct ggml_tensor * kernel_op(struct ggml_context * ctx, const kernel_params * p, struct ggml_tensor * a, struct ggml_tensor * b, struct ggml_tensor * c) {
    if (!p->rows) {
        return kernel_plain_op(ctx, p, a, b, c);
    }
    struct ggml_tensor * pos = ggml_view_1d(ctx, b, p->n_pos - p->n_tokens, 0);
    struct ggml_tensor * op  = kernel_plain_op(ctx, p, a, pos, NULL);
    kernel_add_rows(op, b, c);
    return op;
}

// moves a tensor of a CPU to the end of a page behind which nothing can be read
static void kernel_guard(kernel_graph * g, struct ggml_tensor * t) {
#ifndef _WIN32
    const size_t page = sysconf(_SC_PAGESIZE);
    const size_t size = (ggml_nbytes(t) + page - 1)/page*page;
    g->n_guarded = size + page;
    g->guarded   = mmap(NULL, g->n_guarded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    GGML_ASSERT(g->guarded != MAP_FAILED && mprotect(g->guarded + size, page, PROT_NONE) == 0);
    t->data = g->guarded + size - ggml_nbytes(t);
#endif
}

kernel_backward kernel_backward_of(kernel_params p) {
    const size_t n_nodes = 64;
    struct ggml_init_params params = { ggml_tensor_overhead()*4*n_nodes + ggml_graph_overhead_custom(n_nodes, true), NULL, true };
    struct ggml_context * ctx = ggml_init(params);

    struct ggml_tensor * a = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, p.head_dim, p.n_heads, p.n_tokens);
    struct ggml_tensor * b = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, p.n_pos);
    struct ggml_tensor * c = p.n_rows > 0 ? ggml_new_tensor_2d(ctx, GGML_TYPE_F32, p.n_cols, p.n_rows) : NULL;
    ggml_set_param(a);
    struct ggml_tensor * rope = kernel_op(ctx, &p, a, b, c);
    struct ggml_tensor * loss = ggml_sum(ctx, rope);
    ggml_set_loss(loss);

    struct ggml_cgraph * graph = ggml_new_graph_custom(ctx, n_nodes, true);
    ggml_build_forward_expand(graph, loss);
    ggml_build_backward_expand(ctx, graph, NULL);

    kernel_backward res = { 0 };
    memcpy(res.params, rope->op_params, sizeof(res.params));
    for (int i = 0; i < ggml_graph_n_nodes(graph); ++i) {
        const struct ggml_tensor * node = ggml_graph_node(graph, i);
        if (node->op == GGML_OP_ROPE_BACK) {
            res.found        = true;
            res.same_pos     = node->src[1] == b;
            res.same_factors = node->src[2] == c;
            memcpy(res.back, node->op_params, sizeof(res.back));
        }
    }
    ggml_free(ctx);
    return res;
}

static void kernel_set(struct ggml_tensor * t, const float * x) {
    const size_t n = ggml_nelements(t);
    if (t->type == GGML_TYPE_F32) {
        ggml_backend_tensor_set(t, x, 0, n*sizeof(float));
        return;
    }
    ggml_fp16_t * h = malloc(n*sizeof(ggml_fp16_t));
    ggml_fp32_to_fp16_row(x, h, n);
    ggml_backend_tensor_set(t, h, 0, n*sizeof(ggml_fp16_t));
    free(h);
}

static bool kernel_supports(ggml_backend_t backend, struct ggml_cgraph * graph) {
    for (int i = 0; i < ggml_graph_n_nodes(graph); ++i) {
        if (!ggml_backend_supports_op(backend, ggml_graph_node(graph, i))) {
            return false;
        }
    }
    return true;
}

kernel_graph * kernel_new(ggml_backend_t backend, kernel_params p, const float * x, const int32_t * pos, const float * factors, const int64_t * cells) {
    const size_t n_nodes = 6*p.n_ops + 8;
    struct ggml_init_params params = { ggml_tensor_overhead()*n_nodes + ggml_graph_overhead_custom(n_nodes, false), NULL, true };
    struct ggml_context * ctx = ggml_init(params);

    const enum ggml_type type = p.f16 ? GGML_TYPE_F16 : GGML_TYPE_F32;
    struct ggml_tensor * store =
        p.view == 1 ? ggml_new_tensor_3d(ctx, type, 3*p.head_dim*p.n_heads, p.n_tokens, p.n_batch) :
        p.view == 2 ? ggml_new_tensor_4d(ctx, type, p.head_dim, p.n_tokens, p.n_heads, p.n_batch) :
                      ggml_new_tensor_4d(ctx, type, p.head_dim, p.n_heads, p.n_tokens, p.n_batch);
    struct ggml_tensor * b = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, p.n_pos);
    struct ggml_tensor * c = p.n_rows > 0 ? ggml_new_tensor_2d(ctx, GGML_TYPE_F32, p.n_cols, p.n_rows) : NULL;

    struct ggml_tensor * weight = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, p.head_dim);
    struct ggml_tensor * cache = NULL, * index = NULL;
    if (p.n_cells > 0) {
        cache = ggml_new_tensor_2d(ctx, p.cache_f16 ? GGML_TYPE_F16 : GGML_TYPE_F32, p.head_dim*p.n_heads, p.n_cells);
        index = ggml_new_tensor_1d(ctx, GGML_TYPE_I64, p.n_tokens);
    }

    struct ggml_cgraph * graph = ggml_new_graph_custom(ctx, n_nodes, false);
    struct ggml_tensor * out = NULL, * rope = NULL, * normed = NULL;
    for (int i = 0; i < p.n_ops; ++i) {
        struct ggml_tensor * src = kernel_src(ctx, store, &p);
        if (p.norm) {
            src = normed = ggml_mul(ctx, ggml_rms_norm(ctx, src, 1e-5f), weight);
        }
        struct ggml_tensor * dst = kernel_op(ctx, &p, src, b, c);
        rope = dst;
        out = p.in_place ? store : dst;
        if (cache) { // as a model stores its keys
            struct ggml_tensor * keys = ggml_view_2d(ctx, dst, p.head_dim*p.n_heads, p.n_tokens, dst->nb[2], 0);
            dst = ggml_set_rows(ctx, cache, keys, index);
            out = cache;
        }
        ggml_build_forward_expand(graph, dst);
    }
    if (!kernel_supports(backend, graph)) {
        ggml_free(ctx);
        return NULL;
    }

    kernel_graph * g = calloc(1, sizeof(*g));
    g->backend = backend;
    g->ctx     = ctx;
    g->buffer  = ggml_backend_alloc_ctx_tensors(ctx, backend);
    g->graph   = graph;
    g->out     = out;
    g->inner   = normed ? normed : rope;

    kernel_set(store, x);
    for (int i = 0; i < p.head_dim; ++i) { // as Case.Normed
        const float w = 0.5f + (float) i/p.head_dim;
        ggml_backend_tensor_set(weight, &w, i*sizeof(w), sizeof(w));
    }
    ggml_backend_tensor_set(b, pos, 0, ggml_nbytes(b));
    if (c && p.guard) {
        kernel_guard(g, c);
    }
    if (c) {
        ggml_backend_tensor_set(c, factors, 0, ggml_nbytes(c));
    }
    if (!p.in_place) {
        // no case rotates to such numbers
        ggml_backend_tensor_memset(rope, 0x7f, 0, ggml_nbytes(rope));
    }
    if (normed) {
        ggml_backend_tensor_memset(normed, 0x7f, 0, ggml_nbytes(normed));
    }
    if (cache) {
        ggml_backend_tensor_memset(cache, 0, 0, ggml_nbytes(cache));
        ggml_backend_tensor_set(index, cells, 0, ggml_nbytes(index));
    }
    return g;
}

int kernel_compute(kernel_graph * g) {
    return ggml_backend_graph_compute(g->backend, g->graph);
}

void kernel_output(kernel_graph * g, float * out, size_t n) {
    struct ggml_tensor * t = g->out;
    if (t->type == GGML_TYPE_F32) {
        ggml_backend_tensor_get(t, out, 0, n*sizeof(float));
        return;
    }
    ggml_fp16_t * h = malloc(n*sizeof(ggml_fp16_t));
    ggml_backend_tensor_get(t, h, 0, n*sizeof(ggml_fp16_t));
    ggml_fp16_to_fp32_row(h, out, n);
    free(h);
}

bool kernel_fused(kernel_graph * g) {
    uint8_t first[2];
    ggml_backend_tensor_get(g->inner, first, 0, sizeof(first));
    return first[0] == 0x7f && first[1] == 0x7f;
}

void kernel_free(kernel_graph * g) {
#ifndef _WIN32
    if (g->guarded) {
        munmap(g->guarded, g->n_guarded);
    }
#endif
    ggml_backend_buffer_free(g->buffer);
    ggml_free(g->ctx);
    free(g);
}
