// A ggml backend whose RoPE is the CUDA kernel, run by the shim in common.cuh, and whose every
// other op is the CPU's.
//
// Its memory is not the host's as far as ggml can tell, so that schedulers copy to and from it as
// they do with a GPU. CUDASHIM_DEVICES is the number of devices, 1 if not set; with
// CUDASHIM_VERBOSE each says how often it rotated when a backend on it ends.
//
// generated.h has, cut out of the patched ggml-cuda.cu, what it answers for RoPE in supports_op
// (cudashim_supports_rope) and when it fuses RoPE with view and set_rows
// (ggml_cuda_should_fuse_rope_set_rows). rope.cpp is rope.cu.
#include "rope.cpp"
#include "generated.h"

#include "ggml-backend-impl.h"

#include <dirent.h>
#include <dlfcn.h>
#include <string>

static const int max_devices = 4;

// the fastest of the host's CPU backends, which lie where libggml-base does
static ggml_backend_dev_t cpu_device() {
    static const ggml_backend_dev_t dev = [] {
        Dl_info info;
        GGML_ASSERT(dladdr((void *) ggml_graph_view, &info));
        const std::string dir(info.dli_fname, strrchr(info.dli_fname, '/'));
        void * best = nullptr;
        int best_score = 0;
        DIR * d = opendir(dir.c_str());
        while (dirent * e = d ? readdir(d) : nullptr) {
            if (strncmp(e->d_name, "libggml-cpu", 11) != 0) {
                continue;
            }
            void * lib = dlopen((dir + "/" + e->d_name).c_str(), RTLD_NOW | RTLD_LOCAL);
            auto score = lib ? (ggml_backend_score_t) dlsym(lib, "ggml_backend_score") : nullptr;
            if (score && score() > best_score) {
                best       = lib;
                best_score = score();
            }
        }
        if (d) {
            closedir(d);
        }
        if (!best) {
            GGML_ABORT("no CPU backend next to %s", info.dli_fname);
        }
        return ggml_backend_reg_dev_get(((ggml_backend_init_t) dlsym(best, "ggml_backend_init"))(), 0);
    }();
    return dev;
}

// memory: the host's, by another name, and full of what no position, row or factor may be

static const size_t  guard  = 256; // bytes behind each tensor
static const uint8_t poison = 0x7f;

static ggml_backend_buffer_t buft_alloc(ggml_backend_buffer_type_t buft, size_t size) {
    ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size);
    if (buffer) {
        buffer->buft = buft;
        ggml_backend_buffer_clear(buffer, poison);
    }
    return buffer;
}

static bool is_rope(const ggml_tensor * t) {
    return t->op == GGML_OP_ROPE || t->op == GGML_OP_ROPE_BACK;
}

struct device_context {
    const char * name;
    int rope, rows, fused;
};

// rope runs the op and sees that nothing was written behind its result
static void rope(ggml_tensor * dst, ggml_tensor * set_rows) {
    const ggml_tensor * out = set_rows ? set_rows : dst;
    while (out->view_src) {
        out = out->view_src;
    }
    const uint8_t * end = (const uint8_t *) out->data + ggml_nbytes(out);
    const uint8_t * top = (const uint8_t *) ggml_backend_buffer_get_base(out->buffer) + ggml_backend_buffer_get_size(out->buffer);
    const std::string behind((const char *) end, std::min(guard, (size_t) (top - end)));

    ggml_backend_cuda_context ctx;
    if (set_rows) {
        ggml_cuda_op_rope_fused(ctx, dst, set_rows);
    } else if (dst->op == GGML_OP_ROPE_BACK) {
        ggml_cuda_op_rope_back(ctx, dst);
    } else {
        ggml_cuda_op_rope(ctx, dst);
    }
    GGML_ASSERT(memcmp(end, behind.data(), behind.size()) == 0 && "the kernel writes behind its result");
}

static ggml_status graph_compute(ggml_backend_t backend, ggml_cgraph * graph, int /*batch_size*/) {
    ggml_backend_t cpu = (ggml_backend_t) backend->context;
    device_context * dev = (device_context *) backend->device->context;
    for (int i = 0; i < graph->n_nodes; ++i) {
        ggml_tensor * node = graph->nodes[i];
        if (is_rope(node)) {
            const bool fused = ggml_can_fuse_subgraph(graph, i, { GGML_OP_ROPE, GGML_OP_VIEW, GGML_OP_SET_ROWS }, { i + 2 }) &&
                ggml_cuda_should_fuse_rope_set_rows(node, graph->nodes[i + 1], graph->nodes[i + 2]);
            dev->rope  += 1;
            dev->rows  += ggml_rope_has_rows(node);
            dev->fused += fused;
            rope(node, fused ? graph->nodes[i + 2] : nullptr);
            i += fused ? 2 : 0;
            continue;
        }
        int end = i + 1;
        while (end < graph->n_nodes && !is_rope(graph->nodes[end])) {
            ++end;
        }
        ggml_cgraph rest = ggml_graph_view(graph, i, end);
        const ggml_status status = ggml_backend_graph_compute(cpu, &rest);
        if (status != GGML_STATUS_SUCCESS) {
            return status;
        }
        i = end - 1;
    }
    return GGML_STATUS_SUCCESS;
}

static ggml_backend_reg_t reg();

static ggml_backend_device * device(int i) {
    static ggml_backend_device devices[max_devices] = {};
    static device_context contexts[max_devices] = { { "CUDA-shim0" }, { "CUDA-shim1" }, { "CUDA-shim2" }, { "CUDA-shim3" } };
    static ggml_backend_buffer_type types[max_devices] = {};

    ggml_backend_device_i iface = {};
    iface.get_name        = [](ggml_backend_dev_t dev) { return ((device_context *) dev->context)->name; };
    iface.get_description = [](ggml_backend_dev_t) { return "CUDA kernels on the CPU"; };
    iface.get_memory      = [](ggml_backend_dev_t, size_t * free, size_t * total) { *free = *total = (size_t) 8 << 30; };
    iface.get_type        = [](ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_GPU; };
    iface.get_props       = [](ggml_backend_dev_t dev, ggml_backend_dev_props * props) {
        *props = {};
        props->name        = props->id = ggml_backend_dev_name(dev);
        props->description = ggml_backend_dev_description(dev);
        props->library     = "CUDA-shim";
        props->type        = GGML_BACKEND_DEVICE_TYPE_GPU;
        ggml_backend_dev_memory(dev, &props->memory_free, &props->memory_total);
    };
    iface.init_backend    = [](ggml_backend_dev_t dev, const char *) {
        static ggml_guid guid = { 'c', 'u', 'd', 'a', 's', 'h', 'i', 'm' };
        ggml_backend_i iface = {};
        iface.get_name = [](ggml_backend_t backend) { return ggml_backend_dev_name(backend->device); };
        iface.free     = [](ggml_backend_t backend) {
            const auto * dev = (const device_context *) backend->device->context;
            if (getenv("CUDASHIM_VERBOSE")) {
                fprintf(stderr, "%s: %d RoPE, %d with rows, %d fused\n", dev->name, dev->rope, dev->rows, dev->fused);
            }
            ggml_backend_free((ggml_backend_t) backend->context);
            delete backend;
        };
        iface.graph_compute = graph_compute;
        ggml_backend_t cpu = ggml_backend_dev_init(cpu_device(), nullptr);
        auto set_n_threads = (ggml_backend_set_n_threads_t)
            ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu_device()), "ggml_backend_set_n_threads");
        set_n_threads(cpu, 1); // more would spin alongside those of the CPU backend
        return new ggml_backend { &guid, iface, dev, cpu };
    };
    iface.get_buffer_type = [](ggml_backend_dev_t dev) { return &types[dev - devices]; };
    iface.supports_op     = [](ggml_backend_dev_t, const ggml_tensor * op) {
        return is_rope(op) ? cudashim_supports_rope(op) : ggml_backend_dev_supports_op(cpu_device(), op);
    };
    iface.supports_buft   = [](ggml_backend_dev_t dev, ggml_backend_buffer_type_t buft) { return buft == &types[dev - devices]; };

    types[i].device = &devices[i];
    types[i].iface.get_name       = [](ggml_backend_buffer_type_t buft) { return ggml_backend_dev_name(buft->device); };
    types[i].iface.alloc_buffer   = buft_alloc;
    types[i].iface.get_alignment  = [](ggml_backend_buffer_type_t) { return ggml_backend_buft_get_alignment(ggml_backend_cpu_buffer_type()); };
    types[i].iface.get_alloc_size = [](ggml_backend_buffer_type_t, const ggml_tensor * t) { return ggml_nbytes(t) + guard; };
    types[i].iface.is_host        = [](ggml_backend_buffer_type_t) { return false; };
    devices[i] = { iface, reg(), &contexts[i] };
    return &devices[i];
}

static ggml_backend_reg_t reg() {
    static ggml_backend_reg r = [] {
        ggml_backend_reg_i iface = {};
        iface.get_name         = [](ggml_backend_reg_t) { return "CUDA-shim"; };
        iface.get_device_count = [](ggml_backend_reg_t) {
            const char * n = getenv("CUDASHIM_DEVICES");
            return (size_t) std::min(std::max(n ? atoi(n) : 1, 1), max_devices);
        };
        iface.get_device       = [](ggml_backend_reg_t, size_t i) -> ggml_backend_dev_t {
            static ggml_backend_dev_t devices[max_devices] = {};
            return devices[i] ? devices[i] : devices[i] = device((int) i);
        };
        iface.get_proc_address = [](ggml_backend_reg_t, const char *) -> void * { return nullptr; };
        return ggml_backend_reg { GGML_BACKEND_API_VERSION, iface, nullptr };
    }();
    return &r;
}

extern "C" __attribute__((visibility("default"))) ggml_backend_reg_t ggml_backend_init(void) { return reg(); }
