// A forward pass of several tokens as a stream of kernels, and of one as a single kernel.
#include "session.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

namespace pith::cuda {
namespace {

// FLOPs of one submission for each multiprocessor: under 25 ms on the slowest GPU, thousands of times a launch on the fastest. Two are
// under way at most, so that a cancel takes effect in 50 ms.
constexpr double kSubmission = 12.5e9;

// A batch of consecutive tokens on its way through the layers.
struct Pass {
    Session& s;
    const Config& c;
    uint32_t position, tokens;
    uint32_t keep;      // the last tokens whose logits are wanted
    uint32_t kept_row;  // where they go in at.last
    double work = 0;    // FLOPs since the last gate
    pith_error* error;
};

bool cancelled(const Session& s) { return s.shape.cancel && s.shape.cancel->load(std::memory_order_relaxed); }

double flops(const DecodeLayer& l, uint32_t tokens) {
    double weights = 0;
    for (const DecodeJob& j : l.jobs)
        if (j.matrix.data) weights += static_cast<double>(j.matrix.rows) * j.matrix.cols;
    return 2 * weights * tokens;
}

// Waits until no more than one submission is under way, once enough was enqueued; PITH_E_CANCELLED if the caller wants no more.
pith_status gate(Pass& p, double work) {
    Session& s = p.s;
    p.work += work;
    if (p.work < kSubmission * s.device.facts().multiprocessors) return PITH_OK;
    p.work = 0;
    const Driver& d = s.device.driver();
    PITH_TRY(check(d, d.EventRecord(s.gates[s.gate % 2], s.stream), "a prompt", p.error));
    if (s.gate++) PITH_TRY(wait_for(d, s.gates[s.gate % 2], s.shape.wait, "a prompt", p.error));
    if (cancelled(s)) return fail(p.error, PITH_E_CANCELLED, "forward was cancelled");
    return PITH_OK;
}

// The batch's ids and positions, through one of two pieces of pinned memory.
pith_status upload(Pass& p, const pith_token* tokens) {
    Session& s = p.s;
    const Driver& d = s.device.driver();
    const uint32_t stage = s.stage++ % kStages;
    if (s.stage > kStages) PITH_TRY(wait_for(d, s.staged[stage], s.shape.wait, "a prompt", p.error));
    const BatchHeader header{p.position, p.position + p.tokens - p.keep, {0, 0}};
    memcpy(s.batches[stage], &header, sizeof header);
    memcpy(s.batches[stage] + sizeof header / 4, tokens, p.tokens * sizeof *tokens);
    PITH_TRY(check(d, d.MemcpyHtoDAsync(address(s.at.batch), s.batches[stage], sizeof header + p.tokens * sizeof *tokens, s.stream),
                   "a prompt", p.error));
    s.meter.add_to_device(sizeof header + p.tokens * sizeof *tokens);
    return check(d, d.EventRecord(s.staged[stage], s.stream), "a prompt", p.error);
}

const uint32_t* first_of(const Pass& p) { return p.s.at.batch; }
const uint32_t* first_kept_of(const Pass& p) { return p.s.at.batch + 1; }

NormParams norm_of(const Pass& p, const float* weight, const uint32_t* inverse, uint32_t from, uint32_t rows, uint16_t* out) {
    NormParams n{};
    n.x = p.s.at.x;
    n.weight = weight;
    n.inverse = inverse;
    n.out = out;
    n.hidden = p.c.hidden;
    n.stride = p.s.hidden_stride;
    n.tokens = p.tokens;
    n.rows = rows;
    n.first_row = from;
    n.eps = p.c.rms_eps;
    return n;
}

pith_status norm(Pass& p, const float* weight, const uint32_t* inverse, uint32_t from, uint32_t rows, uint16_t* out) {
    const NormParams n = norm_of(p, weight, inverse, from, rows, out);
    return session_launch(p.s, "rms_norm_rows", norm_shape(n), &n, p.error);
}

// What a matrix reads: F16, or what its product will find as integers.
struct Input {
    const uint16_t* x;
    bool made;
};

pith_status product(Pass& p, const Matrix& m, Input x, uint32_t x_stride, uint32_t tokens, Store store, void* y, uint64_t y_stride,
                    const uint32_t* inverse = nullptr, uint32_t width = 0) {
    const Product made{&m, x.x, x_stride, tokens, store, y, y_stride, inverse, width, x.made};
    return enqueue_product(p.s, made, p.error);
}

// The norm of a matrix that alone reads it; *made: as integers.
pith_status norm_for_one(Pass& p, const DecodeJob& j, const float* weight, uint32_t from, uint32_t rows, bool* made) {
    const IntegerInput to = integer_input(p.s, j.matrix, rows);
    const NormIntegerParams n{norm_of(p, weight, j.inverse, from, rows, nullptr), to.to, to.tokens, to.block, to.pairs, 0};
    *made = to.to && norm_integers_serves(n);
    if (!*made) return norm(p, weight, j.inverse, from, rows, p.s.at.normed[0]);
    return session_launch(p.s, "rms_norm_integers", norm_integer_shape(n), &n, p.error);
}

// Norms for the matrices `first` to `last`, one for each order of the input; where matrix i finds its own.
pith_status norms(Pass& p, const DecodeLayer& l, uint32_t first, uint32_t last, const float* weight, uint32_t from, uint32_t rows,
                  Input* inputs) {
    const uint32_t* orders[3];
    uint32_t count = 0, matrices = 0, only = first;
    for (uint32_t i = first; i < last; i++)
        if (l.jobs[i].matrix.data) matrices++, only = i;
    if (matrices == 1) {
        inputs[only - first].x = p.s.at.normed[0];
        return norm_for_one(p, l.jobs[only], weight, from, rows, &inputs[only - first].made);
    }
    for (uint32_t i = first; i < last; i++) {
        const DecodeJob& j = l.jobs[i];
        if (!j.matrix.data) continue;
        uint32_t at = 0;
        while (at < count && orders[at] != j.inverse) at++;
        if (at == count) {
            orders[count++] = j.inverse;
            PITH_TRY(norm(p, weight, j.inverse, from, rows, p.s.at.normed[at]));
        }
        inputs[i - first] = {p.s.at.normed[at], false};
    }
    return PITH_OK;
}

pith_status project_qkv(Pass& p, const DecodeLayer& l) {
    Session& s = p.s;
    Input inputs[3] = {};
    PITH_TRY(norms(p, l, kJobQkv, kJobQkv + 3, l.attention_norm, 0, p.tokens, inputs));
    uint32_t columns[3] = {}, at = 0;
    for (uint32_t i = 0; i < 3; i++) {
        const Matrix& m = l.jobs[kJobQkv + i].matrix;
        if (!m.data) continue;
        columns[i] = at;
        PITH_TRY(product(p, m, inputs[i], s.hidden_stride, p.tokens, Store::Half, s.at.qkv + at, s.qkv_stride));
        at += m.tiles * kTileRows;
    }
    RopeParams r{};
    r.q = s.at.qkv + columns[l.q_job] + l.q_row;
    r.k = s.at.qkv + columns[l.k_job] + l.k_row;
    r.v = s.at.qkv + columns[l.v_job] + l.v_row;
    r.inverse_frequency = s.at.inverse_frequencies;
    r.q_out = s.at.q;
    r.k_cache = l.keys;
    r.v_cache = l.values;
    r.first = first_of(p);
    r.q_stride = r.k_stride = r.v_stride = s.qkv_stride;
    r.type = ElementType::F16;
    r.heads = p.c.heads;
    r.kv_heads = p.c.kv_heads;
    r.head_dim = p.c.head_dim;
    r.capacity = s.capacity;
    r.tokens = p.tokens;
    r.q_out_stride = s.q_stride;
    r.rope_scale = s.rope_scale;
    return session_launch(s, "rope_store", rope_shape(r), &r, p.error);
}

pith_status attend_in(Pass& p, const DecodeLayer& l, uint32_t index, uint32_t from, const uint32_t* inverse) {
    Session& s = p.s;
    const uint32_t tokens = p.tokens - from;
    AttentionParams a{};
    a.q = s.at.q + uint64_t{from} * s.q_stride;
    a.k = l.keys;
    a.v = l.values;
    a.out = s.at.attended + uint64_t{from} * s.q_stride;
    a.inverse = inverse;
    a.first = from ? first_kept_of(p) : first_of(p);
    a.partial = s.at.attention;
    a.q_stride = a.out_stride = s.q_stride;
    a.heads = p.c.heads;
    a.kv_heads = p.c.kv_heads;
    a.head_dim = p.c.head_dim;
    a.capacity = s.capacity;
    a.tokens = tokens;
    a.window = l.window;
    a.scale = s.decode.attention_scale;
    if (s.wide && wide_attention_serves(tokens, a.heads, a.kv_heads, a.head_dim, s.device.facts().multiprocessors)) {
        const AttentionPlan plan = wide_attention_plan(tokens, a.heads, a.kv_heads, a.head_dim);
        a.rows = plan.rows, a.keys = plan.keys, a.width = plan.width, a.splits = plan.splits, a.tiles = plan.tiles;
        WideAttentionParams w{};
        w.k = s.key_map;
        w.v = s.value_map;
        w.base = a;
        w.cache_row = index * p.c.kv_heads * s.capacity;
        return session_launch(s, plan.width == 64 ? "attention_wide_64" : "attention_wide_128",
                              {plan.grid_x, plan.grid_y, plan.threads, plan.shared}, &w, p.error, from == 0);
    }
    const DeviceFacts& facts = s.device.facts();
    // Splits follow from the length there is, rather than the one there may be: nothing here is captured.
    const AttentionPlan plan =
        attention_plan(tokens, a.heads, a.kv_heads, a.head_dim, p.position + p.tokens, facts.multiprocessors, s.small, facts.shared_block);
    a.rows = plan.rows, a.keys = plan.keys, a.width = plan.width, a.splits = plan.splits, a.tiles = plan.tiles;
    char name[48];
    snprintf(name, sizeof name, "attention_rows%u_%u%s", plan.rows, plan.width, plan.small ? "_small" : "");
    // The kernel reads keys before `first` while the one before it ends. Where `first` is not the forward's, those are of this forward.
    PITH_TRY(session_launch(s, name, {plan.grid_x, plan.grid_y, plan.threads, plan.shared}, &a, p.error, from == 0));
    if (plan.splits < 2) return PITH_OK;
    return session_launch(s, "attention_combine", {plan.combine_grid, 1, plan.combine_threads, 0}, &a, p.error);
}

// Of the tokens from `from` on, in the order that o's matrix wants.
pith_status attend(Pass& p, const DecodeLayer& l, uint32_t index, uint32_t from) {
    Session& s = p.s;
    const uint32_t* inverse = l.jobs[kJobO].inverse;
    ReorderParams r{s.at.attended + uint64_t{from} * s.q_stride, inverse, s.q_stride, p.c.q_width(), p.tokens - from, 0};
    if (!reorders_after(s, r)) return attend_in(p, l, index, from, inverse);
    PITH_TRY(attend_in(p, l, index, from, nullptr));
    return enqueue_reorder(s, r, p.error);
}

pith_status mlp(Pass& p, const DecodeLayer& l, uint32_t from) {
    Session& s = p.s;
    const uint32_t tokens = p.tokens - from;
    Input inputs[2] = {};
    PITH_TRY(norms(p, l, kJobGateUp, kJobGateUp + 2, l.mlp_norm, from, tokens, inputs));
    const DecodeJob& down = l.jobs[kJobDown];
    if (!l.gate_apart) {
        PITH_TRY(product(p, l.jobs[kJobGateUp].matrix, inputs[0], s.hidden_stride, tokens, Store::GateUp, s.at.inner, s.inner_stride,
                         down.inverse, p.c.intermediate));
    } else {
        SiluParams a{};
        uint16_t* halves[2] = {s.at.gate_up, s.at.gate_up + uint64_t{s.shape.batch_length} * s.inner_stride};
        for (uint32_t i = 0; i < 2; i++)
            PITH_TRY(product(p, l.jobs[kJobGateUp + i].matrix, inputs[i], s.hidden_stride, tokens, Store::Half, halves[i], s.inner_stride));
        a.gate = halves[0];
        a.up = halves[1];
        a.inverse = down.inverse;
        a.out = s.at.inner;
        a.gate_stride = a.up_stride = s.inner_stride;
        a.type = ElementType::F16;
        a.width = p.c.intermediate;
        a.stride = s.inner_stride;
        a.tokens = tokens;
        PITH_TRY(session_launch(s, "silu_mul_rows", silu_shape(a), &a, p.error));
    }
    return product(p, down.matrix, {s.at.inner, false}, s.inner_stride, tokens, Store::Add, s.at.x + uint64_t{from} * p.c.hidden, p.c.hidden);
}

pith_status run_layer(Pass& p, uint32_t index) {
    Session& s = p.s;
    const DecodeLayer& l = s.layers[index];
    PITH_TRY(project_qkv(p, l));
    // Of the last layer only keys and values are needed for tokens without logits.
    const uint32_t from = index + 1 == p.c.layers ? p.tokens - p.keep : 0;
    if (from == p.tokens) return PITH_OK;
    PITH_TRY(attend(p, l, index, from));
    PITH_TRY(product(p, l.jobs[kJobO].matrix, {s.at.attended + uint64_t{from} * s.q_stride, false}, s.q_stride, p.tokens - from, Store::Add,
                     s.at.x + uint64_t{from} * p.c.hidden, p.c.hidden));
    PITH_TRY(mlp(p, l, from));
    return gate(p, flops(l, p.tokens));
}

pith_status run_batch(Pass& p, const pith_token* tokens) {
    Session& s = p.s;
    PITH_TRY(upload(p, tokens));
    EmbedParams e{};
    e.ids = reinterpret_cast<const int32_t*>(s.at.batch + sizeof(BatchHeader) / 4);
    e.rows = s.model->embedding.rows;
    e.row_scale = s.model->embedding.row_scale;
    e.x = s.at.x;
    e.hidden = p.c.hidden;
    e.tokens = p.tokens;
    PITH_TRY(session_launch(s, "embed_rows", embed_shape(e), &e, p.error));
    for (uint32_t i = 0; i < p.c.layers; i++) PITH_TRY(run_layer(p, i));
    if (!p.keep) return PITH_OK;
    return norm(p, s.model->final_norm, s.model->head.inverse, p.tokens - p.keep, p.keep,
                s.at.last + uint64_t{p.kept_row} * s.hidden_stride);
}

// Logits of at.last. Not cut short by a cancel: until here the logits of the forward before are untouched.
pith_status run_head(Session& s, uint32_t rows, pith_error* error) {
    const uint32_t vocab = s.model->file->config.vocab_size, most = s.shape.batch_length;
    for (uint32_t row = 0; row < rows; row += most) {
        const Product head{&s.decode.head.matrix,
                           s.at.last + uint64_t{row} * s.hidden_stride,
                           s.hidden_stride,
                           rows - row < most ? rows - row : most,
                           Store::Float,
                           s.at.logits[s.current] + uint64_t{row} * vocab,
                           vocab,
                           nullptr,
                           0};
        PITH_TRY(enqueue_product(s, head, error));
    }
    return PITH_OK;
}

}  // namespace

pith_status enqueue_prompt(Session& s, uint32_t length, const pith_token* tokens, uint32_t count, uint32_t rows, pith_error* error) {
    const Submission work(s.meter, Work::Prompt, count);
    const uint32_t batch = s.shape.batch_length, first_kept = count - rows;
    for (uint32_t at = 0; at < count; at += batch) {
        const uint32_t n = count - at < batch ? count - at : batch;
        const uint32_t keep = at + n <= first_kept ? 0 : at >= first_kept ? n : at + n - first_kept;
        Pass p{s, s.model->file->config, length + at, n, keep, at < first_kept ? 0 : at - first_kept, 0, error};
        PITH_TRY(run_batch(p, tokens + at));
    }
    return run_head(s, rows, error);
}

pith_status enqueue_step(Session& s, pith_token token, uint32_t position, uint32_t buffer, pith_error* error) {
    DecodeParams p = s.decode;
    p.logits = s.at.logits[buffer];
    p.token = token < 0 ? reinterpret_cast<const uint32_t*>(s.at.next) : nullptr;
    p.token_value = static_cast<uint32_t>(token);
    p.position = nullptr;
    p.position_value = position;
    Launch how{};
    const char* const name = decode_kernel(s.decode);
    PITH_TRY(session_kernel(s, name, &how.kernel, error));
    how.grid[0] = p.grid;
    how.block[0] = p.threads;
    how.grid[1] = how.grid[2] = how.block[1] = how.block[2] = 1;
    how.shared = p.shared_bytes;
    how.cooperative = true;
    const Submission work(s.meter, Work::Token, 1);
    return launch(s.device, s.stream, how, &p, name, error);
}

pith_status session_forward(void* session, uint32_t length, const pith_token* tokens, uint32_t count, uint32_t rows, pith_error* error) {
    Session& s = *static_cast<Session*>(session);
    const bool began = s.ahead.on && count == 1 && rows == 1 && s.ahead.length == length && s.ahead.token == tokens[0];
    s.ahead.on = false;
    s.on_host = false;
    if (began) {
        s.current ^= 1;
        s.rows = 1;
        s.length = length + 1;
        return PITH_OK;
    }
    const ContextScope scope(s.device.driver(), s.device.context(), error);
    PITH_TRY(scope.status());
    pith_status status = PITH_OK;
    if (count == 1 && s.decodes)
        status = enqueue_step(s, tokens[0], length, s.current, error);
    else
        status = enqueue_prompt(s, length, tokens, count, rows, error);
    if (status < 0) return status;
    s.rows = rows;
    s.length = length + count;
    return status;
}

}  // namespace pith::cuda
