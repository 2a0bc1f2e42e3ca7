#include "session.h"
#include "watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// the errors while a session opens, else the last one, which goes to stderr too
static char session_errors[1024];
static bool session_opening;

static void session_log(enum ggml_log_level level, const char * text, void * user_data) {
    (void) user_data;
    if (level != GGML_LOG_LEVEL_ERROR) {
        return;
    }
    if (session_opening) {
        strncat(session_errors, text, sizeof(session_errors) - strlen(session_errors) - 1);
    } else {
        fputs(text, stderr);
        snprintf(session_errors, sizeof(session_errors), "%s", text);
    }
}

const char * session_error(void) {
    return session_errors;
}

void session_start(void) {
    llama_log_set(session_log, NULL);
    llama_backend_init();
}

static session * session_try(const char * path, int n_ctx, int n_batch, int n_seq, int n_threads, int n_gpu_layers, enum ggml_type type_k, bool flash, bool unified, session_extra extra) {
    struct llama_model_params mp = llama_model_default_params();
    mp.n_gpu_layers = n_gpu_layers;
    ggml_backend_dev_t none[] = { NULL };
    if (n_gpu_layers == 0) {
        mp.devices = none; // else a GPU that is there would take part in large batches
    }
    struct llama_model * model = llama_model_load_from_file(path, mp);
    if (!model) {
        return NULL;
    }

    struct llama_context_params cp = llama_context_default_params();
    cp.n_ctx           = n_ctx*n_seq;
    cp.n_batch         = n_batch*n_seq;
    cp.n_ubatch        = n_batch;
    cp.n_seq_max       = n_seq;
    cp.n_threads       = n_threads;
    cp.n_threads_batch = n_threads;
    cp.flash_attn_type = flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    cp.kv_unified      = unified;
    cp.type_k          = type_k;
    cp.type_v          = flash || ggml_is_quantized(type_k) ? GGML_TYPE_F16 : type_k;
    cp.rope_freq_scale = extra.freq_scale;
    if (extra.hidden) {
        cp.embeddings   = true;
        cp.pooling_type = LLAMA_POOLING_TYPE_NONE;
    }
    session_watch * watch = extra.watch ? calloc(1, sizeof(*watch)) : NULL;
    if (watch) {
        cp.cb_eval           = session_watch_eval;
        cp.cb_eval_user_data = watch;
    }
    struct llama_context * ctx = llama_init_from_model(model, cp);
    if (!ctx) {
        free(watch);
        llama_model_free(model);
        return NULL;
    }

    session * s = malloc(sizeof(*s));
    s->model = model;
    s->ctx   = ctx;
    s->watch = watch;
    return s;
}

session * session_open(const char * path, int n_ctx, int n_batch, int n_seq, int n_threads, int n_gpu_layers, enum ggml_type type_k, bool flash, bool unified, session_extra extra) {
    session_errors[0] = 0;
    session_opening   = true;
    session * s = session_try(path, n_ctx, n_batch, n_seq, n_threads, n_gpu_layers, type_k, flash, unified, extra);
    session_opening   = false;
    return s;
}

void session_close(session * s) {
    llama_free(s->ctx);
    llama_model_free(s->model);
    if (s->watch) {
        session_watch_reset(s->watch);
        free(s->watch);
    }
    free(s);
}

static bool session_aborts(void * data) {
    (void) data;
    return true;
}

void session_abort(session * s, bool abort) {
    llama_set_abort_callback(s->ctx, abort ? session_aborts : NULL, NULL);
}

int session_vocab(const session * s) {
    return llama_vocab_n_tokens(llama_model_get_vocab(s->model));
}

void session_add(struct llama_batch * b, int token, int pos, int seq, int seq2, bool logits) {
    const int i = b->n_tokens++;
    b->token[i]     = token;
    b->pos[i]       = pos;
    b->n_seq_id[i]  = seq2 < 0 ? 1 : 2;
    b->seq_id[i][0] = seq;
    b->seq_id[i][1] = seq2;
    b->logits[i]    = logits;
}

int session_decode(session * s, struct llama_batch b) {
    return llama_decode(s->ctx, b);
}

int session_decode_embd(session * s, int n, float * embd, int32_t * pos, int seq) {
    struct llama_batch b = llama_batch_init(n, 0, 1);
    free(b.token);
    llama_pos * own = b.pos;
    b.n_tokens = n;
    b.token    = NULL;
    b.embd     = embd;
    b.pos      = pos;
    for (int i = 0; i < n; ++i) {
        b.n_seq_id[i]  = 1;
        b.seq_id[i][0] = seq;
        b.logits[i]    = i + 1 == n;
    }
    const int res = llama_decode(s->ctx, b);
    b.embd = NULL;
    b.pos  = own;
    llama_batch_free(b);
    return res;
}

float * session_logits(session * s, int i) {
    return llama_get_logits_ith(s->ctx, i);
}

float * session_hidden(session * s, int i, int * n) {
    *n = llama_model_n_embd(s->model);
    return llama_get_embeddings_ith(s->ctx, i);
}

void session_clear(session * s) {
    llama_memory_clear(llama_get_memory(s->ctx), true);
}

bool session_remove(session * s, int seq, int p0, int p1) {
    return llama_memory_seq_rm(llama_get_memory(s->ctx), seq, p0, p1);
}

bool session_can_move(session * s) {
    llama_memory_t mem = llama_get_memory(s->ctx);
    return mem && llama_memory_can_shift(mem);
}

void session_move(session * s, int seq, int p0, int p1, int delta) {
    llama_memory_seq_add(llama_get_memory(s->ctx), seq, p0, p1, delta);
}

#define SESSION_READ(p, v) (memcpy(&(v), p, sizeof(v)), p += sizeof(v))

// The state of a sequence, as llama_kv_cache::state_write has it: streams; of each the cells
// (position and sequences), then layer by layer the type, the size and the data of the keys. Layer
// 0 is the first.
session_cached * session_keys(session * s, int seq, int * n, int * width) {
    const size_t size = llama_state_seq_get_size(s->ctx, seq);
    uint8_t * state = malloc(size);
    if (llama_state_seq_get_data(s->ctx, state, size, seq) != size) {
        free(state);
        return NULL;
    }

    session_cached * k = NULL;
    const uint8_t * p = state;
    uint32_t n_stream, n_cells = 0;
    SESSION_READ(p, n_stream);
    if (n_stream == 0x4c524f50) {
        // of a context with a ladder: the ladder's hash, and a rung for each sequence
        uint64_t hash;
        uint32_t n_rungs;
        SESSION_READ(p, hash);
        SESSION_READ(p, n_rungs);
        p += n_rungs*sizeof(int32_t);
        SESSION_READ(p, n_stream);
    }
    for (uint32_t i = 0; i < n_stream && n_cells == 0; ++i) {
        SESSION_READ(p, n_cells); // a sequence is in one stream, the others say 0
    }
    if (n_cells > 0) {
        k = calloc(1, sizeof(*k));
        k->pos = malloc(n_cells*sizeof(int32_t));
        for (uint32_t i = 0; i < n_cells; ++i) {
            uint32_t n_seq;
            SESSION_READ(p, k->pos[i]);
            SESSION_READ(p, n_seq);
            p += n_seq*sizeof(llama_seq_id);
        }
        uint32_t v_trans, n_layer;
        int32_t  type;
        uint64_t row;
        SESSION_READ(p, v_trans);
        SESSION_READ(p, n_layer);
        SESSION_READ(p, type);
        SESSION_READ(p, row);

        *n     = n_cells;
        *width = row/ggml_type_size(type)*ggml_blck_size(type);
        const size_t elements = (size_t) n_cells * *width;
        k->data = malloc(elements*sizeof(float));
        if (type == GGML_TYPE_F32) {
            memcpy(k->data, p, elements*sizeof(float));
        } else {
            ggml_get_type_traits(type)->to_float(p, k->data, elements);
        }
    }
    free(state);
    return k;
}

void session_keys_free(session_cached * k) {
    free(k->pos);
    free(k->data);
    free(k);
}

void session_copy(session * s, int src, int dst) {
    llama_memory_seq_cp(llama_get_memory(s->ctx), src, dst, -1, -1);
}

size_t session_state(session * s, int seq, uint8_t * dst, size_t size) {
    if (!dst) {
        return seq < 0 ? llama_state_get_size(s->ctx) : llama_state_seq_get_size(s->ctx, seq);
    }
    return seq < 0 ? llama_state_get_data(s->ctx, dst, size) : llama_state_seq_get_data(s->ctx, dst, size, seq);
}

size_t session_set_state(session * s, int seq, const uint8_t * src, size_t size) {
    return seq < 0 ? llama_state_set_data(s->ctx, src, size) : llama_state_seq_set_data(s->ctx, src, size, seq);
}
