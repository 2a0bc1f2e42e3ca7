#pragma once

#include "session.h"

// A graph node and its result: a RoPE, or the softmax of an attention.
typedef struct {
    bool      rope;
    char      name[GGML_MAX_NAME];
    int32_t   params[16];
    int64_t   ne[4];         // of in and out: [ne3][ne2][ne1][ne0]
    float   * in, * out;     // rope: its argument and its result
    int32_t * pos;           // rope: positions, all planes
    int64_t   n_pos;
    float   * factors;       // rope: [f_ne[1]][f_ne[0]], NULL if it has none
    int64_t   f_ne[2];
    float   * mask;          // attention: [m_ne[1]][m_ne[0]], 0 or -inf; NULL if it has none
    int64_t   m_ne[2];
    float   * keys;          // attention: [k_ne[2]][k_ne[1]][k_ne[0]] = heads, cells, elements
    int64_t   k_ne[3];
} session_node;

typedef struct session_watch {
    int            n, cap;
    session_node * nodes;
    // argument of the RoPE that is about to be computed: it may be computed in place
    float        * in;
} session_watch;

// a ggml_backend_sched_eval_callback; user_data is a session_watch
bool session_watch_eval(struct ggml_tensor * t, bool ask, void * user_data);
void session_watch_reset(session_watch * w);
