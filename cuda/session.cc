// Planning and making a session: the plan is the layout run without memory.
#include "session.h"

#include <math.h>
#include <string.h>

#include "base/block.h"
#include "base/check.h"
#include "model/rope.h"

namespace pith::cuda {
namespace {

constexpr uint64_t kDeviceAlignment = 1024;
constexpr uint32_t kSmallShared = 48 << 10;

// Before the weights are loaded their matrices have no address yet, and the plan must not depend on it.
Matrix placed(Matrix m) {
    static constexpr uint8_t kSomewhere = 0;
    if (m.rows && !m.data) m.data = &kSomewhere;
    return m;
}
DecodeJob job_of(const Linear& linear) { return make_decode_job(placed(linear.matrix), linear.inverse); }

// One layer as the kernels are told of it.
DecodeLayer describe(const Session& s, const Layer& from, uint32_t index) {
    const Config& c = s.model->file->config;
    DecodeLayer to{};
    for (uint32_t i = 0; i < 3; i++) to.jobs[kJobQkv + i] = job_of(from.qkv.parts[i]);
    to.jobs[kJobO] = job_of(from.o);
    for (uint32_t i = 0; i < 2; i++) to.jobs[kJobGateUp + i] = job_of(from.gate_up.parts[i]);
    to.jobs[kJobDown] = job_of(from.down);
    to.attention_norm = from.attention_norm;
    to.mlp_norm = from.mlp_norm;
    const uint64_t layer = uint64_t{c.kv_heads} * s.capacity * c.head_dim;
    if (s.at.keys) {
        to.keys = s.at.keys + index * layer;
        to.values = s.at.values + index * layer;
    }
    const bool fused = from.qkv.fused;
    to.q_job = 0;
    to.k_job = fused ? 0 : 1;
    to.v_job = fused ? 0 : 2;
    to.q_row = from.qkv.first_row[0];
    to.k_row = from.qkv.first_row[1];
    to.v_row = from.qkv.first_row[2];
    to.window = c.sliding_window;
    to.gate_apart = !from.gate_up.fused;
    return to;
}

// What follows from the model alone. `layers`: the model's shapes.
void survey(Session& s, const DecodeLayer* layers) {
    const Config& c = s.model->file->config;
    s.capacity = align_up(s.shape.context_length, kKvBlock);
    s.hidden_stride = align_up(c.hidden, 64u);
    s.q_stride = align_up(c.q_width(), 64u);
    s.inner_stride = align_up(c.intermediate, 64u);
    for (uint32_t l = 0; l < c.layers; l++) {
        uint32_t width = 0, orders = 0;
        for (uint32_t i = 0; i < 3; i++) {
            const DecodeJob& j = layers[l].jobs[i];
            if (!j.matrix.data) continue;
            width += j.matrix.tiles * kTileRows;
            orders++;
        }
        if (width > s.qkv_stride) s.qkv_stride = width;
        if (orders > s.orders) s.orders = orders;
        s.apart |= layers[l].gate_apart != 0;
    }
}

void fill_decode(Session& s) {
    const Config& c = s.model->file->config;
    DecodeParams& p = s.decode;
    p.layers = s.at.layers;
    p.final_norm = s.model->final_norm;
    p.embedding = s.model->embedding.rows;
    p.embedding_scale = s.model->embedding.row_scale;
    p.inverse_frequencies = s.at.inverse_frequencies;
    p.head = job_of(s.model->head);
    p.layer_count = c.layers;
    p.hidden = c.hidden;
    p.intermediate = c.intermediate;
    p.heads = c.heads;
    p.kv_heads = c.kv_heads;
    p.head_dim = c.head_dim;
    p.vocab = c.vocab_size;
    p.kv_positions = s.capacity;
    p.rms_eps = c.rms_eps;
    p.rope_scale = s.rope_scale;
    p.attention_scale = static_cast<float>(1 / sqrt(static_cast<double>(c.head_dim)));
}

uint64_t attention_bytes(const Session& s) {
    const Config& c = s.model->file->config;
    const DeviceFacts& facts = s.device.facts();
    uint64_t most = 0;
    for (uint32_t tokens = 1; tokens <= s.shape.batch_length; tokens = tokens < 1024 ? tokens + 1 : s.shape.batch_length + 1) {
        const AttentionPlan plan =
            attention_plan(tokens, c.heads, c.kv_heads, c.head_dim, s.capacity, facts.multiprocessors, s.small, facts.shared_block);
        if (plan.partial_bytes > most) most = plan.partial_bytes;
    }
    return most;
}

uint64_t matmul_workspace(Session& s) {
    MatmulBytes most{};
    const auto look = [&](const Matrix& m, uint32_t tokens) {
        if (!m.data) return;
        const MatmulBytes bytes = matmul_bytes(s.device, m, tokens, s.small);
        if (bytes.counters > most.counters) most.counters = bytes.counters;
        if (bytes.parts > most.parts) most.parts = bytes.parts;
    };
    const Config& c = s.model->file->config;
    for (uint32_t l = 0; l < c.layers; l++)
        for (const DecodeJob& j : s.model->shapes[l].jobs) look(j.matrix, s.shape.batch_length);
    look(s.decode.head.matrix, s.shape.logit_rows < s.shape.batch_length ? s.shape.logit_rows : s.shape.batch_length);
    s.matmul_counters = most.counters;
    return most.counters + most.parts;
}

void lay_out(Session& s, Block& at) {
    const Config& c = s.model->file->config;
    const uint64_t batch = s.shape.batch_length, rows = s.shape.logit_rows;
    const uint64_t cache = uint64_t{c.kv_heads} * c.head_dim;
    at.take(s.at.keys, cache * c.layers, s.capacity);
    at.take(s.at.values, cache * c.layers, s.capacity);
    at.take(s.at.inverse_frequencies, c.head_dim / 2);
    at.take(s.at.layers, c.layers);
    at.take(s.at.x, batch, c.hidden);
    for (uint32_t i = 0; i < s.orders; i++) at.take(s.at.normed[i], batch, s.hidden_stride);
    at.take(s.at.attended, batch, s.q_stride);
    // q, k and v are done with when the MLP begins.
    const uint64_t mark = at.used();
    at.take(s.at.qkv, batch, s.qkv_stride);
    at.take(s.at.q, batch, s.q_stride);
    const uint64_t attention_end = at.used();
    at.rewind(mark);
    at.take(s.at.inner, batch, s.inner_stride);
    if (s.apart) at.take(s.at.gate_up, 2 * batch, s.inner_stride);
    if (at.used() < attention_end) at.rewind(attention_end);
    at.take(s.at.last, rows, s.hidden_stride);
    for (uint32_t i = 0; i < (s.ahead_wanted ? 2u : 1u); i++) at.take(s.at.logits[i], rows, c.vocab_size);
    at.take(s.at.batch, sizeof(BatchHeader) / 4 + batch);
    at.take(s.at.attention, attention_bytes(s) / 4 + 1);
    at.take(s.at.matmul, matmul_workspace(s) + 1);
    if (s.decodes) at.take(s.at.decode, s.decode.workspace_bytes);
    at.take(s.at.sample, sample_workspace(c.vocab_size));
    at.take(s.at.state, 1);
    at.take(s.at.next, 1);
}

void lay_out_pinned(Session& s, Block& at) {
    at.take(s.pinned, 1);
    for (uint32_t*& batch : s.batches) at.take(batch, sizeof(BatchHeader) / 4 + uint64_t{s.shape.batch_length});
    at.take(s.host_logits, s.shape.logit_rows, s.model->file->config.vocab_size);
}

uint64_t layer_bytes(const Model& m) { return align_up(sizeof(DecodeLayer) * uint64_t{m.file->config.layers}, uint64_t{kCacheLine}); }
uint64_t struct_bytes() { return align_up(uint64_t{sizeof(Session)}, uint64_t{kCacheLine}); }

uint64_t host_bytes(const Model& m) { return struct_bytes() + layer_bytes(m) + sizeof(SampleState); }

pith_status refuse(const Model& m, const SessionShape& shape, pith_error* error) {
    const Config& c = m.file->config;
    if (shape.flags & PITH_SESSION_EXACT) return fail(error, PITH_E_UNSUPPORTED, "options.flags: PITH_SESSION_EXACT is the CPU's path");
    if (shape.k_type != PITH_KV_F16 || shape.v_type != PITH_KV_F16)
        return fail(error, PITH_E_UNSUPPORTED, "options.%s_type is PITH_KV_F32: keys and values are F16 on a GPU",
                    shape.k_type != PITH_KV_F16 ? "k" : "v");
    if (c.head_dim % 8 || c.head_dim > kMaxAttentionHeadDim)
        return fail(error, PITH_E_UNSUPPORTED, "head_dim is %u: on a GPU it is a multiple of 8 up to %u", c.head_dim, kMaxAttentionHeadDim);
    return PITH_OK;
}

// Counts everything, allocates nothing.
pith_status count(Session& s, pith_error* error) {
    const SessionShape& shape = s.shape;
    const DeviceFacts& facts = s.device.facts();
    s.small = (shape.cuda.flags | s.model->host.cuda.flags) & PITH_CUDA_SMALL_SHARED;
    s.ahead_wanted = shape.flags & PITH_SESSION_RUN_AHEAD;
    survey(s, s.model->shapes);
    fill_decode(s);
    s.decodes =
        decode_plan(&s.decode, s.model->shapes, facts.multiprocessors, s.small ? kSmallShared : facts.shared_block, kDecodeMaxWarps);
    Block device(nullptr, kDeviceAlignment), pinned(nullptr, kDeviceAlignment);
    lay_out(s, device);
    lay_out_pinned(s, pinned);
    if (device.overflow() || pinned.overflow())
        return fail(error, PITH_E_MEMORY, "a session of %u positions, %u tokens a batch and %u rows of logits does not fit in any memory",
                    shape.context_length, shape.batch_length, shape.logit_rows);
    s.device_bytes = device.used();
    s.pinned_bytes = pinned.used();
    return PITH_OK;
}

pith_status make_stream(Session& s, pith_error* error) {
    const Driver& d = s.device.driver();
    if (s.shape.cuda.stream) {
        s.stream = static_cast<CUstream>(s.shape.cuda.stream);
    } else {
        PITH_TRY(check(d, d.StreamCreateWithPriority(&s.stream, CU_STREAM_NON_BLOCKING, s.shape.cuda.priority), "making a stream", error));
        s.own_stream = true;
    }
    PITH_TRY(s.meter.open(d, s.stream, s.shape.account, error));
    PITH_TRY(make_event(d, s.shape.wait, &s.drawn, error));
    for (CUevent& event : s.staged) PITH_TRY(make_event(d, s.shape.wait, &event, error));
    for (CUevent& event : s.gates) PITH_TRY(make_event(d, s.shape.wait, &event, error));
    return PITH_OK;
}

pith_status make_maps(Session& s, pith_error* error) {
    const Config& c = s.model->file->config;
    const Driver& d = s.device.driver();
    const uint64_t rows = uint64_t{c.layers} * c.kv_heads * s.capacity;
    s.wide = s.device.facts().capability == 90 && !s.small && d.TensorMapEncodeTiled && rows < uint64_t{1} << 31 && c.head_dim <= 128 &&
             s.device.has_kernel("attention_wide_128");
    if (!s.wide) return PITH_OK;
    const WideAttentionMap m = wide_attention_map(c.head_dim, rows);
    const cuuint64_t dims[] = {m.dims[0], m.dims[1]}, strides[] = {m.stride};
    const cuuint32_t box[] = {m.box[0], m.box[1]}, steps[] = {1, 1};
    const auto make = [&](TensorMap& map, uint16_t* data) {
        static_assert(sizeof(TensorMap) == sizeof(CUtensorMap));
        return check(d,
                     d.TensorMapEncodeTiled(reinterpret_cast<CUtensorMap*>(&map), CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2, data, dims, strides,
                                            box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                            CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
                     "describing the cache", error);
    };
    PITH_TRY(make(s.key_map, s.at.keys));
    return make(s.value_map, s.at.values);
}

// The tables that kernels read, and zeros where they count on them.
pith_status fill(Session& s, pith_error* error) {
    const Driver& d = s.device.driver();
    const Config& c = s.model->file->config;
    const auto zero = [&](const void* at, uint64_t bytes) {
        return check(d, d.MemsetD8Async(address(at), 0, static_cast<size_t>(bytes), s.stream), "clearing a session", error);
    };
    const uint64_t cache = 2 * uint64_t{c.layers} * c.kv_heads * s.capacity * c.head_dim;
    PITH_TRY(zero(s.at.keys, cache));
    PITH_TRY(zero(s.at.values, cache));
    PITH_TRY(zero(s.at.sample, sample_workspace(c.vocab_size)));
    PITH_TRY(zero(s.at.matmul, s.matmul_counters + 1));
    PITH_TRY(zero(s.at.attended, uint64_t{s.shape.batch_length} * s.q_stride * 2));
    if (s.decodes) PITH_TRY(zero(s.at.decode, s.decode.workspace_bytes));
    double frequencies[kMaxAttentionHeadDim / 2];
    s.rope_scale = static_cast<float>(rope_frequencies(c, s.shape.context_length, frequencies));
    for (uint32_t l = 0; l < c.layers; l++) s.layers[l] = describe(s, s.model->layers[l], l);
    fill_decode(s);
    s.decode.workspace = s.at.decode;
    PITH_TRY(check(d, d.MemcpyHtoDAsync(address(s.at.inverse_frequencies), frequencies, c.head_dim / 2 * sizeof(double), s.stream),
                   "filling a session", error));
    PITH_TRY(
        check(d, d.MemcpyHtoDAsync(address(s.at.layers), s.layers, c.layers * sizeof(DecodeLayer), s.stream), "filling a session", error));
    return wait_for_all(s, "filling a session", error);  // the copies read this function's memory
}

pith_status make(Session& s, pith_error* error) {
    PITH_TRY(make_stream(s, error));
    PITH_TRY(s.device.allocate(s.device_bytes, "the session", &s.block, error));
    void* pinned = nullptr;
    PITH_TRY(s.device.allocate_host(s.pinned_bytes, "the session's staging", &pinned, &s.pinned_at, error));
    Block device(reinterpret_cast<uint8_t*>(s.block), kDeviceAlignment), host(static_cast<uint8_t*>(pinned), kDeviceAlignment);
    lay_out(s, device);
    lay_out_pinned(s, host);
    memset(pinned, 0, sizeof(Pinned));
    PITH_TRY(fill(s, error));
    s.wide_matmul = has_wide_matmul(s.device, s.small);
    return make_maps(s, error);
}

Session* create_struct(const Model& m, const SessionShape& shape, pith_error* error) {
    const uint64_t bytes = host_bytes(m);
    uint8_t* memory = static_cast<uint8_t*>(shape.allocator->alloc(shape.allocator->user, static_cast<size_t>(bytes), kCacheLine));
    if (!memory) {
        fail_memory(error, "the session", bytes);
        return nullptr;
    }
    Session* s = new (memory) Session(&m, shape);
    s->host_bytes = bytes;
    s->layers = reinterpret_cast<DecodeLayer*>(memory + struct_bytes());
    s->scratch = new (memory + struct_bytes() + layer_bytes(m)) SampleState;
    return s;
}

void free_struct(Session* s) {
    const pith_allocator allocator = s->allocator;
    const uint64_t bytes = s->host_bytes;
    s->~Session();
    allocator.free(allocator.user, s, static_cast<size_t>(bytes), kCacheLine);
}

}  // namespace

pith_status describe_layers(Model& model, pith_error* error) {
    const uint32_t count = model.file->config.layers;
    model.shapes = model.arena.make<DecodeLayer>(count);
    if (!model.shapes) return fail_memory(error, "the model's layers", sizeof(DecodeLayer) * uint64_t{count});
    SessionShape none{};
    none.allocator = model.host.allocator;
    const Session nowhere(&model, none);
    for (uint32_t l = 0; l < count; l++) model.shapes[l] = describe(nowhere, model.layers[l], l);
    return PITH_OK;
}

pith_status session_plan(const void* model, const SessionShape* shape, BackendBytes* bytes, pith_error* error) {
    const Model& m = *static_cast<const Model*>(model);
    PITH_TRY(refuse(m, *shape, error));
    Session counted(&m, *shape);
    PITH_TRY(count(counted, error));
    const Config& c = m.file->config;
    bytes->host = host_bytes(m) + counted.pinned_bytes;
    bytes->device = counted.device_bytes;
    bytes->host_staging = counted.pinned_bytes;
    bytes->device_kv = 2 * sizeof(uint16_t) * uint64_t{c.layers} * c.kv_heads * counted.capacity * c.head_dim;
    return PITH_OK;
}

pith_status session_create(const void* model, const SessionShape* shape, void** session, pith_error* error) {
    const Model& m = *static_cast<const Model*>(model);
    PITH_TRY(refuse(m, *shape, error));
    const ContextScope scope(m.device.driver(), m.device.context(), error);
    PITH_TRY(scope.status());
    Session* s = create_struct(m, *shape, error);
    if (!s) return PITH_E_MEMORY;
    pith_status status = count(*s, error);
    if (status >= 0) status = make(*s, error);
    if (status < 0) {
        session_destroy(s);
        return status;
    }
    *session = s;
    return PITH_OK;
}

void session_destroy(void* session) {
    Session* s = static_cast<Session*>(session);
    if (!s) return;
    {
        const Driver& d = s->device.driver();
        const ContextScope scope(d, s->device.context(), nullptr);
        if (s->stream) d.StreamSynchronize(s->stream);
        s->meter.close();
        s->device.free(s->block);
        s->device.free_host(s->pinned);
        for (const CUevent event : {s->drawn, s->staged[0], s->staged[1], s->gates[0], s->gates[1]})
            if (event) d.EventDestroy(event);
        if (s->own_stream) d.StreamDestroy(s->stream);
    }
    free_struct(s);
}

pith_status session_kernel(Session& s, const char* name, CUfunction* kernel, pith_error* error) {
    for (uint32_t i = 0; i < s.kernel_count; i++)
        if (strcmp(s.kernels[i].name, name) == 0) {
            *kernel = s.kernels[i].function;
            return PITH_OK;
        }
    PITH_TRY(s.device.find_kernel(name, kernel, error));
    if (s.kernel_count < sizeof s.kernels / sizeof *s.kernels && strlen(name) < sizeof s.kernels[0].name) {
        NamedKernel& k = s.kernels[s.kernel_count++];
        memcpy(k.name, name, strlen(name) + 1);
        k.function = *kernel;
    }
    return PITH_OK;
}

pith_status session_launch(Session& s, const char* name, const LaunchShape& shape, const void* params, pith_error* error, bool overlap) {
    Launch how{};
    PITH_TRY(session_kernel(s, name, &how.kernel, error));
    how.grid[0] = shape.grid_x;
    how.grid[1] = shape.grid_y;
    how.grid[2] = 1;
    how.block[0] = shape.threads;
    how.block[1] = how.block[2] = 1;
    how.shared = shape.shared;
    how.overlap = overlap;
    return launch(s.device, s.stream, how, params, name, error);
}

pith_status wait_for_all(Session& s, const char* what, pith_error* error) {
    const Driver& d = s.device.driver();
    PITH_TRY(check(d, d.EventRecord(s.drawn, s.stream), what, error));
    return wait_for(d, s.drawn, s.shape.wait, what, error);
}

}  // namespace pith::cuda
