#pragma once

#include "ggml.h"
#include "llama.h"

#include <stdbool.h>
#include <stdint.h>

struct session_watch;

typedef struct {
    struct llama_model   * model;
    struct llama_context * ctx;
    struct session_watch * watch; // NULL if nobody watches
} session;

// what few tests need of a session
typedef struct {
    float freq_scale; // of RoPE, 0: the model's
    bool  hidden;     // outputs are the last hidden states
    bool  watch;
} session_extra;

typedef struct {
    int32_t * pos;
    float   * data;
} session_cached;

void             session_start(void);
session        * session_open(const char * path, int n_ctx, int n_batch, int n_seq, int n_threads, int n_gpu_layers, enum ggml_type type_k, bool flash, bool unified, session_extra extra);
const char     * session_error(void); // of the last session_open, or the last error since
void             session_close(session * s);
// every computation from now on is aborted before its first op, or none
void             session_abort(session * s, bool abort);
int              session_vocab(const session * s);
void             session_add(struct llama_batch * b, int token, int pos, int seq, int seq2, bool logits);
int              session_decode(session * s, struct llama_batch b);
// pos: 4 planes of n
int              session_decode_embd(session * s, int n, float * embd, int32_t * pos, int seq);
float          * session_hidden(session * s, int i, int * n);
float          * session_logits(session * s, int i);
void             session_clear(session * s);
bool             session_remove(session * s, int seq, int p0, int p1);
bool             session_can_move(session * s);
void             session_move(session * s, int seq, int p0, int p1, int delta);
session_cached * session_keys(session * s, int seq, int * n, int * width);
void             session_keys_free(session_cached * k);
void             session_copy(session * s, int src, int dst);
size_t           session_state(session * s, int seq, uint8_t * dst, size_t size);
size_t           session_set_state(session * s, int seq, const uint8_t * src, size_t size);
