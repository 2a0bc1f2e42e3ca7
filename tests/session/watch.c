#include "watch.h"

#include <stdlib.h>
#include <string.h>

// the elements of a tensor in the CPU's memory as floats, in the order of its dimensions
static float * session_floats(const struct ggml_tensor * t) {
    float * out = malloc(ggml_nelements(t)*sizeof(float));
    float * p   = out;
    for (int64_t i3 = 0; i3 < t->ne[3]; ++i3) {
        for (int64_t i2 = 0; i2 < t->ne[2]; ++i2) {
            for (int64_t i1 = 0; i1 < t->ne[1]; ++i1) {
                for (int64_t i0 = 0; i0 < t->ne[0]; ++i0) {
                    const char * e = (const char *) t->data + i0*t->nb[0] + i1*t->nb[1] + i2*t->nb[2] + i3*t->nb[3];
                    *p++ = t->type == GGML_TYPE_F16
                        ? ggml_fp16_to_fp32(*(const ggml_fp16_t *) e) : *(const float *) e;
                }
            }
        }
    }
    return out;
}

// the product of keys and queries that a softmax is taken of, behind scaling and soft caps; mask is
// what is added on the way
static const struct ggml_tensor * session_scores(const struct ggml_tensor * softmax, const struct ggml_tensor ** mask) {
    const struct ggml_tensor * t = softmax->src[0];
    *mask = softmax->src[1];
    while (t && t->op != GGML_OP_MUL_MAT) {
        if (t->op == GGML_OP_ADD && !*mask) {
            *mask = t->src[1];
        }
        t = t->src[0];
    }
    return t;
}

bool session_watch_eval(struct ggml_tensor * t, bool ask, void * user_data) {
    session_watch * w = user_data;

    const bool rope      = t->op == GGML_OP_ROPE;
    // a softmax without a mask and of a single matrix chooses experts
    const struct ggml_tensor * mask, * scores = t->op == GGML_OP_SOFT_MAX ? session_scores(t, &mask) : NULL;
    const bool attention = scores && (t->src[1] || scores->src[0]->ne[2] > 1);
    if (ask) {
        // all nodes before this one have been computed, since each was asked for
        if (rope) {
            w->in = session_floats(t->src[0]);
        }
        return true;
    }
    if (!rope && !attention) {
        return true;
    }

    if (w->n == w->cap) {
        w->cap   = 2*w->cap + 64;
        w->nodes = realloc(w->nodes, w->cap*sizeof(session_node));
    }
    session_node * n = &w->nodes[w->n++];
    memset(n, 0, sizeof(*n));
    n->rope = rope;
    strcpy(n->name, t->name);
    memcpy(n->params, t->op_params, sizeof(n->params));
    memcpy(n->ne, t->ne, sizeof(n->ne));
    if (rope) {
        n->in    = w->in;
        n->out   = session_floats(t);
        n->n_pos = ggml_nelements(t->src[1]);
        n->pos   = malloc(n->n_pos*sizeof(int32_t));
        memcpy(n->pos, t->src[1]->data, n->n_pos*sizeof(int32_t));
        if (t->src[2]) {
            n->factors = session_floats(t->src[2]);
            memcpy(n->f_ne, t->src[2]->ne, sizeof(n->f_ne));
        }
        w->in = NULL;
    } else {
        const struct ggml_tensor * k = scores->src[0];
        n->keys = session_floats(k);
        if (mask) {
            n->mask = session_floats(mask);
            memcpy(n->m_ne, mask->ne, sizeof(n->m_ne));
        }
        memcpy(n->k_ne, (int64_t []) { k->ne[0], k->ne[1], k->ne[2]*k->ne[3] }, sizeof(n->k_ne));
    }
    return true;
}

void session_watch_reset(session_watch * w) {
    for (int i = 0; i < w->n; ++i) {
        session_node * n = &w->nodes[i];
        free(n->in);
        free(n->out);
        free(n->pos);
        free(n->factors);
        free(n->mask);
        free(n->keys);
    }
    free(w->nodes);
    memset(w, 0, sizeof(*w));
}
