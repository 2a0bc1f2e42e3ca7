#pragma once
// What llama-longrope.cpp uses of a model.

#include "llama.h"
#include "llama-longrope.h"

struct llama_model {
    struct {
        enum llama_rope_type rope_type = LLAMA_ROPE_TYPE_NORM;
        uint32_t             n_rot     = 0;
    } hparams;

    std::unique_ptr<llama_longrope> longrope;

    std::string arch_name() const { return "llama"; }
};
