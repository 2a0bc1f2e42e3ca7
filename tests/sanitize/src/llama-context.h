#pragma once
// What llama-longrope.cpp uses of a context.

#include "llama-cparams.h"
#include "llama-model.h"

struct llama_context {
    llama_model   model;
    llama_cparams cparams = {};
    std::string   longrope_error;

    std::unique_ptr<llama_longrope> longrope;

    const llama_model   & get_model()   const { return model; }
    const llama_cparams & get_cparams() const { return cparams; }

    void set_longrope(std::unique_ptr<llama_longrope> lr) {
        if (lr) {
            lr->init(model, cparams);
        }
        longrope         = std::move(lr);
        cparams.longrope = longrope.get();
    }
};
