// Ladders of model files that nobody made, and what is asked of those that are taken, under
// sanitizers: ladder SEED COUNT. It compiles the host's own text next to the headers here.

#include "gguf.cpp"
#include "llama-longrope.cpp"
#include "llama-nll.cpp"

#include <cinttypes>
#include <random>
#include <stdexcept>

// A sanitizer ends the program where more is asked for than there is; a program without one has
// this.
void * operator new(size_t n) {
    void * p = n < (size_t) 1 << 30 ? malloc(n ? n : 1) : nullptr;
    if (!p) {
        throw std::bad_alloc();
    }
    return p;
}
void operator delete(void * p) noexcept { free(p); }
void operator delete(void * p, size_t) noexcept { free(p); }

static std::mt19937_64 rng;

static uint32_t below(uint32_t n) { return rng() % n; }

template <typename T> static T any(std::initializer_list<T> values) { return values.begin()[below(values.size())]; }

static void require(bool holds, const char * what) {
    if (!holds) {
        fprintf(stderr, "does not hold: %s\n", what);
        abort();
    }
}

static float factor() {
    if (below(40)) {
        return 1.0f + below(100)/16.0f;
    }
    return any({ 0.0f, -1.0f, 1e-38f, 1e-20f, 1e20f, 1e38f, INFINITY, -INFINITY, NAN, 1e-9f, 1e9f });
}

static uint32_t length(size_t row) {
    if (below(40)) {
        return 128u << (row < 20 ? row : 20);
    }
    return any({ 0u, 1u, 2u, 1u << 31, UINT32_MAX, (uint32_t) INT32_MAX, 256u });
}

// arrays that fit together, but for one here and there
static size_t count(size_t n) { return below(30) ? n : any<size_t>({ 0, n + 1, n - (n > 0), 257, 300000 }); }

static gguf_context * made() {
    gguf_context * meta = gguf_init_empty();
    const std::string prefix = "llama.rope.longrope.";
    const size_t n = below(40) ? 1 + below(6) : any<size_t>({ 0, 256, 257, 3000 });
    const size_t pairs = below(40) ? 1 + below(8) : any<size_t>({ 0, 8192, 8193 });
    if (below(50)) {
        gguf_set_val_u32(meta, (prefix + "version").c_str(), below(50) ? 1 : below(4));
    } else {
        gguf_set_val_f32(meta, (prefix + "version").c_str(), 1);
    }
    auto ints = [&](const char * name, bool lengths) {
        std::vector<uint32_t> v(count(n));
        for (size_t i = 0; i < v.size(); ++i) {
            v[i] = lengths ? length(i) : i ? below(64) : below(40) == 0;
        }
        if (below(60)) {
            gguf_set_arr_data(meta, (prefix + name).c_str(), below(60) ? GGUF_TYPE_UINT32 : GGUF_TYPE_INT32, v.data(), v.size());
        }
    };
    auto floats = [&](const char * name, size_t n) {
        std::vector<float> v(count(n));
        for (auto & x : v) {
            x = factor();
        }
        if (below(60)) {
            gguf_set_arr_data(meta, (prefix + name).c_str(), below(60) ? GGUF_TYPE_FLOAT32 : GGUF_TYPE_UINT32, v.data(), v.size());
        }
    };
    ints("lengths", true);
    ints("start_windows", false);
    floats("attention_factors", n);
    floats("factors", n*pairs);
    return meta;
}

// The file of what was made with some of its bytes changed, as the host reads it; nullptr if it
// does not. The host ends itself at an empty key, which is thrown here.
static gguf_context * changed(const gguf_context * meta) {
    std::vector<int8_t> buf;
    gguf_write_to_buf(meta, buf, true);
    for (uint32_t i = 0, n = below(8); i < n; ++i) {
        buf[below(buf.size() < 600 ? buf.size() : 600)] = any<int>({ (int) below(256), 0, 1, 255, 127 });
    }
    if (below(8) == 0) {
        buf.resize(1 + below(buf.size()));
    }
    FILE * f = fmemopen(buf.data(), buf.size(), "rb");
    gguf_context * res = nullptr;
    try {
        res = gguf_init_from_file_impl(f, { /*.no_alloc =*/ true, /*.ctx =*/ nullptr });
    } catch (const std::logic_error &) {
    }
    fclose(f);
    return res;
}

static std::vector<float> logits;

float * llama_get_logits_ith(llama_context *, int32_t i) { return i < 0 ? nullptr : logits.data(); }
int32_t llama_vocab_n_tokens(const llama_vocab *) { return logits.size(); }
const llama_vocab * llama_model_get_vocab(const llama_model *) { return nullptr; }
const llama_model * llama_get_model(const llama_context * ctx) { return &ctx->model; }

static void ask(const llama_longrope & lr) {
    const int32_t n = lr.rows.size();
    for (int64_t tokens : { (int64_t) 0, (int64_t) 1, (int64_t) lr.rows[0].length, (int64_t) lr.rows[n - 1].length, (int64_t) INT32_MAX, (int64_t) 1 << 40 }) {
        const int32_t r = lr.rung_for(tokens);
        require(r >= 0 && r < n, "a rung of the ladder");
    }
    for (llama_seq_id s : { -1, 0, LLAMA_MAX_SEQ - 1, LLAMA_MAX_SEQ, INT32_MAX }) {
        for (llama_pos p : { -1, 0, 7, 63, INT32_MAX }) {
            const int32_t r = lr.row_of(s, p);
            require(r >= 0 && r < n && (r == 0 || p >= lr.rows[r].start_window), "a row of the ladder");
            require(std::isfinite(lr.attn_factor(r)), "an attention factor");
        }
    }
    for (float f : lr.data) {
        require(f >= 1e-20f && f <= 1e20f, "factors within bounds");
    }
}

static void score() {
    logits.assign(1 + below(50), 0);
    for (auto & x : logits) {
        x = any({ 0.0f, -INFINITY, 80.0f, -80.0f, (float) below(100), 3e38f });
    }
    llama_context ctx;
    const double nll = llama_get_nll_ith(&ctx, (int32_t) below(3) - 1, (int32_t) below(60) - 5);
    require(std::isnan(nll) || nll > -1e-6, "an NLL");
}

int main(int argc, char ** argv) {
    require(argc == 3, "arguments: SEED COUNT");
    rng.seed(strtoull(argv[1], nullptr, 10));
    const uint64_t n = strtoull(argv[2], nullptr, 10);
    ggml_set_abort_callback([](const char * message) { throw std::logic_error(message); });
    ggml_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    uint64_t none = 0, taken = 0, refused = 0;
    for (uint64_t i = 0; i < n; ++i) {
        score();
        llama_model_loader ml;
        ml.meta.reset(made());
        if (below(2)) {
            ml.meta.reset(changed(ml.meta.get()));
        }
        if (!ml.meta) {
            ++none;
            continue;
        }
        try {
            auto lr = llama_longrope::read(ml);
            if (!lr) {
                ++none;
                continue;
            }
            ++taken;
            llama_context ctx;
            ctx.cparams.n_ctx_seq = any({ 0u, 1u, 512u, UINT32_MAX });
            ctx.model.hparams.n_rot = below(4) ? 2*(lr->n_cols - 1) : below(32);
            ctx.model.hparams.rope_type = below(8) ? LLAMA_ROPE_TYPE_NORM : LLAMA_ROPE_TYPE_NONE;
            // exactly as many numbers as there are: what lies behind them is the sanitizer's
            std::vector<int32_t> lengths, windows;
            for (auto & row : lr->rows) {
                lengths.push_back(row.length);
                windows.push_back(row.start_window);
            }
            const bool fits = !llama_longrope_set(&ctx, lr->data.data(), lengths.data(), windows.data(), lr->rows.size(), lr->n_cols);
            require(fits == (llama_longrope_n_rows(&ctx) > 0), "a ladder in force, or an error");
            require(fits || llama_longrope_error(&ctx)[0] != 0, "an error that is said");
            if (fits) {
                require(llama_longrope_length(&ctx, lr->rows.size() - 1) == lengths.back(), "the lengths given");
                ask(*ctx.longrope);
            }
            ask(*lr);
        } catch (const std::runtime_error & err) {
            require(err.what()[0] != 0, "an error that is said");
            ++refused;
        }
    }
    printf("%" PRIu64 " inputs: %" PRIu64 " ladders taken, %" PRIu64 " refused, %" PRIu64 " files without one\n", n, taken, refused, none);
    return 0;
}
