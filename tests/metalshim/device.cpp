// What ggml-metal-device.m and ggml-metal-context.m do with Metal, done with memory and loops.
//
// An op runs when it is dispatched, so nothing here shows a missing barrier. Buffers are memory of
// the host, as on a Mac with unified memory.

#include "shim.h"

#include "ggml-backend-impl.h"
#include "ggml-impl.h"
#include "ggml-metal.h"
#include "ggml-metal-common.h"
#include "ggml-metal-context.h"
#include "ggml-metal-device.h"
#include "ggml-metal-ops.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

// pipelines

struct ggml_metal_cv {
    std::map<int, int> values;
};

ggml_metal_cv_t ggml_metal_cv_init(void) { return new ggml_metal_cv; }
void ggml_metal_cv_free(ggml_metal_cv_t cv) { delete cv; }
void ggml_metal_cv_set_int16(ggml_metal_cv_t cv, int16_t value, int32_t idx) { cv->values[idx] = value; }
void ggml_metal_cv_set_int32(ggml_metal_cv_t cv, int32_t value, int32_t idx) { cv->values[idx] = value; }
void ggml_metal_cv_set_bool (ggml_metal_cv_t cv, bool    value, int32_t idx) { cv->values[idx] = value; }

struct ggml_metal_pipeline {
    metal::rope_kernel * function;
    std::map<int, int>   constants;
};

ggml_metal_pipeline_t ggml_metal_pipeline_init(void) { return new ggml_metal_pipeline{}; }
void ggml_metal_pipeline_free(ggml_metal_pipeline_t pipeline) { delete pipeline; }
int  ggml_metal_pipeline_max_theads_per_threadgroup(ggml_metal_pipeline_with_params) { return 1024; }

struct ggml_metal_library {
    ggml_metal_pipelines_t pipelines = ggml_metal_pipelines_init();
};

ggml_metal_pipeline_with_params ggml_metal_library_get_pipeline(ggml_metal_library_t lib, const char * name) {
    return { ggml_metal_pipelines_get(lib->pipelines, name), 0, 0, 0, 0 };
}

ggml_metal_pipeline_with_params ggml_metal_library_compile_pipeline(ggml_metal_library_t lib, const char * base, const char * name, ggml_metal_cv_t cv) {
    metal::rope_kernel * function = metal::find(base);
    GGML_ASSERT(function && "the shader has no function of this name");
    for (const auto & c : metal::function_constant::all()) {
        GGML_ASSERT(cv && cv->values.count(c.first) && "a function constant of the shader has no value");
    }
    auto * pipeline = new ggml_metal_pipeline{ function, cv->values };
    ggml_metal_pipelines_add(lib->pipelines, name, pipeline);
    return { pipeline, 0, 0, 0, 0 };
}

// encoder

struct ggml_metal_encoder {
    ggml_metal_pipeline_t pipeline;
    std::vector<char>     bytes;
    char *                buffers[8];
};

ggml_metal_encoder_t ggml_metal_encoder_init(ggml_metal_cmd_buf_t, bool) { return new ggml_metal_encoder{}; }
void ggml_metal_encoder_free(ggml_metal_encoder_t encoder) { delete encoder; }
void ggml_metal_encoder_debug_group_push(ggml_metal_encoder_t, const char *) {}
void ggml_metal_encoder_debug_group_pop (ggml_metal_encoder_t) {}
void ggml_metal_encoder_memory_barrier(ggml_metal_encoder_t) {}
void ggml_metal_encoder_end_encoding(ggml_metal_encoder_t) {}
void ggml_metal_encoder_set_threadgroup_memory_size(ggml_metal_encoder_t, size_t, int) {}

void ggml_metal_encoder_set_pipeline(ggml_metal_encoder_t encoder, ggml_metal_pipeline_with_params pipeline) {
    encoder->pipeline = pipeline.pipeline;
}

void ggml_metal_encoder_set_bytes(ggml_metal_encoder_t encoder, void * data, size_t size, int idx) {
    GGML_ASSERT(idx == 0);
    encoder->bytes.assign((char *) data, (char *) data + size);
}

void ggml_metal_encoder_set_buffer(ggml_metal_encoder_t encoder, ggml_metal_buffer_id buffer, int idx) {
    encoder->buffers[idx] = (char *) buffer.metal + buffer.offs;
}

void ggml_metal_encoder_dispatch_threadgroups(ggml_metal_encoder_t encoder, int tg0, int tg1, int tg2, int tptg0, int tptg1, int tptg2) {
    GGML_ASSERT(encoder->bytes.size() == sizeof(ggml_metal_kargs_rope));
    GGML_ASSERT(tptg0 <= 1024 && tptg1 == 1 && tptg2 == 1);
    for (const auto & c : metal::function_constant::all()) {
        c.second.set(c.second.variable, encoder->pipeline->constants.at(c.first));
    }
    auto & args = *(ggml_metal_kargs_rope *) encoder->bytes.data();
    char ** b = encoder->buffers;
    for (metal::uint z = 0; z < (metal::uint) tg2; ++z) {
        for (metal::uint y = 0; y < (metal::uint) tg1; ++y) {
            for (metal::uint x = 0; x < (metal::uint) tg0; ++x) {
                for (int i = 0; i < tptg0; ++i) {
                    encoder->pipeline->function(args, b[1], b[2], b[3], b[4], i, { (metal::ushort) tptg0, 1, 1 }, { x, y, z });
                }
            }
        }
    }
}

// device

struct ggml_metal_device {
    ggml_metal_device_props props{};
    ggml_metal_library      library;

    ggml_metal_device() {
        strcpy(props.name, "Metal shader as C++");
        props.max_buffer_size = props.max_working_set_size = size_t(1) << 40;
        props.has_simdgroup_reduction = props.has_simdgroup_mm = props.has_unified_memory = true;
        props.use_shared_buffers = true;
    }
};

ggml_metal_device_t ggml_metal_device_init(void) { return new ggml_metal_device; }
void ggml_metal_device_free(ggml_metal_device_t dev) { delete dev; }

ggml_metal_library_t ggml_metal_device_get_library(ggml_metal_device_t dev) { return &dev->library; }
const ggml_metal_device_props * ggml_metal_device_get_props(ggml_metal_device_t dev) { return &dev->props; }

void ggml_metal_device_get_memory(ggml_metal_device_t dev, size_t * free, size_t * total) {
    *free = *total = dev->props.max_working_set_size;
}

#define ggml_metal_device_supports_op host_supports_op
static
#include "supports_op.inc"
#undef ggml_metal_device_supports_op

bool ggml_metal_device_supports_op(ggml_metal_device_t dev, const ggml_tensor * op) {
    return (op->op == GGML_OP_ROPE || ggml_op_is_empty(op->op)) && host_supports_op(dev, op);
}

// buffers

struct ggml_metal_buffer {
    char * base;
    bool   owned;
};

ggml_metal_buffer_t ggml_metal_buffer_init(ggml_metal_device_t, size_t size, bool) {
    return new ggml_metal_buffer{ (char *) ggml_aligned_malloc(size), true };
}

ggml_metal_buffer_t ggml_metal_buffer_map(ggml_metal_device_t, void * ptr, size_t, size_t) {
    return new ggml_metal_buffer{ (char *) ptr, false };
}

void ggml_metal_buffer_free(ggml_metal_buffer_t buf) {
    if (buf->owned) {
        ggml_aligned_free(buf->base, 0);
    }
    delete buf;
}

void * ggml_metal_buffer_get_base (ggml_metal_buffer_t buf) { return buf->base; }
bool   ggml_metal_buffer_is_shared(ggml_metal_buffer_t)     { return true; }

void ggml_metal_buffer_memset_tensor(ggml_metal_buffer_t, ggml_tensor * tensor, uint8_t value, size_t offset, size_t size) {
    memset((char *) tensor->data + offset, value, size);
}

void ggml_metal_buffer_set_tensor(ggml_metal_buffer_t, ggml_tensor * tensor, const void * data, size_t offset, size_t size) {
    memcpy((char *) tensor->data + offset, data, size);
}

void ggml_metal_buffer_get_tensor(ggml_metal_buffer_t, const ggml_tensor * tensor, void * data, size_t offset, size_t size) {
    memcpy(data, (const char *) tensor->data + offset, size);
}

void ggml_metal_buffer_clear(ggml_metal_buffer_t, uint8_t) {}

ggml_metal_buffer_id ggml_metal_buffer_get_id(ggml_metal_buffer_t buf, const ggml_tensor * t) {
    return { buf->base, (size_t) ((char *) t->data - buf->base) };
}

// context

struct ggml_metal {
    ggml_metal_device_t dev;
};

ggml_metal_t ggml_metal_init(ggml_metal_device_t dev) { return new ggml_metal{ dev }; }
void ggml_metal_free(ggml_metal_t ctx) { delete ctx; }
void ggml_metal_synchronize(ggml_metal_t) {}
void ggml_metal_set_n_cb(ggml_metal_t, int) {}
void ggml_metal_set_abort_callback(ggml_metal_t, ggml_abort_callback, void *) {}
bool ggml_metal_supports_family(ggml_metal_t, int) { return false; }
void ggml_metal_capture_next_compute(ggml_metal_t) {}
void ggml_metal_graph_optimize(ggml_metal_t, ggml_cgraph * gf) { ggml_graph_optimize(gf); }

void ggml_metal_set_tensor_async(ggml_metal_t, ggml_tensor * tensor, const void * data, size_t offset, size_t size) {
    memcpy((char *) tensor->data + offset, data, size);
}

void ggml_metal_get_tensor_async(ggml_metal_t, const ggml_tensor * tensor, void * data, size_t offset, size_t size) {
    memcpy(data, (const char *) tensor->data + offset, size);
}

ggml_status ggml_metal_graph_compute(ggml_metal_t ctx, ggml_cgraph * gf) {
    ggml_metal_op_t op = ggml_metal_op_init(ctx->dev, nullptr, gf, 0, gf->n_nodes, true, true, false, 0, 0);
    for (int i = 0; i < ggml_metal_op_n_nodes(op);) {
        i += ggml_metal_op_encode(op, i);
    }
    ggml_metal_op_free(op);
    return GGML_STATUS_SUCCESS;
}

// what a backend's library is asked for. The name is another one, so that nobody takes results for
// those of a Mac
extern "C" ggml_backend_reg_t ggml_backend_init(void) {
    ggml_backend_reg_t reg = ggml_backend_metal_reg();
    ggml_backend_reg_dev_get(reg, 0)->iface.get_name = [](ggml_backend_dev_t) { return "Metal-shim"; };
    return reg;
}
