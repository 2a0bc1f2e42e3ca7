//go:build !stock

#include "llama-model.h"

#include "session.h"

extern "C" bool session_rename(session * s, const char * from, const char * to) {
    auto * t = const_cast<ggml_tensor *>(s->model->get_tensor(from));
    if (!t) {
        return false;
    }
    ggml_set_name(t, to);
    return true;
}
