#pragma once
// A loader, as far as llama_longrope::read uses it.

#include "gguf.h"

#include <memory>
#include <string>

struct gguf_deleter {
    void operator()(gguf_context * ctx) const { gguf_free(ctx); }
};

struct llama_model_loader {
    std::unique_ptr<gguf_context, gguf_deleter> meta;

    std::string get_arch_name() const { return "llama"; }
};
