#pragma once

#include "ggml.h"
#include "llama.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    struct llama_model   * model;
    struct llama_context * ctx;
} session;

typedef struct {
    int32_t * pos;
    float   * data;
} session_cached;

void             session_start(void);
session        * session_open(const char * path, int n_ctx, int n_batch, int n_seq, int n_threads, int n_gpu_layers, enum ggml_type type_k, bool flash, bool unified);
void             session_close(session * s);
int              session_vocab(const session * s);
void             session_add(struct llama_batch * b, int token, int pos, int seq, int seq2, bool logits);
int              session_decode(session * s, struct llama_batch b);
float          * session_logits(session * s, int i);
void             session_clear(session * s);
bool             session_remove(session * s, int seq, int p0, int p1);
void             session_move(session * s, int seq, int p0, int p1, int delta);
session_cached * session_keys(session * s, int seq, int * n, int * width);
void             session_keys_free(session_cached * k);
void             session_copy(session * s, int src, int dst);
size_t           session_state(session * s, int seq, uint8_t * dst, size_t size);
size_t           session_set_state(session * s, int seq, const uint8_t * src, size_t size);
const char     * session_error(void);
