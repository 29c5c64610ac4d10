// Planning and making a session: the plan is the layout run without memory.
#include "backend/cpu/cpu_session.h"

#include "base/block.h"
#include "base/check.h"
#include "base/status.h"
#include "model/rope.h"

namespace pith::cpu {
namespace {

using kernels::Type;

uint64_t size_of(uint32_t kv_type) { return kv_type == PITH_KV_F32 ? 4 : 2; }

struct Needs {
    uint32_t forms = 1;
    bool quantised = false, gathered = false;
};

Needs survey(const Model& model, bool exact) {
    Needs needs;
    auto look = [&](const Linear* const* linears, uint32_t count) {
        const Forms forms = collect_forms(linears, count, exact);
        if (forms.count > needs.forms) needs.forms = forms.count;
        for (uint32_t i = 0; i < forms.count; i++) {
            needs.quantised |= forms.form[i].quantised;
            needs.gathered |= !forms.form[i].quantised && forms.form[i].perm;
        }
    };
    for (uint32_t i = 0; i < model.file->config.layers; i++) {
        const Layer& l = model.layers[i];
        const Linear *qkv[] = {&l.q, &l.k, &l.v}, *o[] = {&l.o}, *gate_up[] = {&l.gate, &l.up}, *down[] = {&l.down};
        look(qkv, 3);
        look(o, 1);
        look(gate_up, 2);
        look(down, 1);
    }
    const Linear* head[] = {&model.head};
    look(head, 1);
    return needs;
}

// The most spans of keys that one token sees.
uint64_t attention_spans(const Config& c, uint32_t context) {
    const uint64_t all = ceil_div(uint64_t{context}, uint64_t{kernels::kKeySpan});
    const uint64_t seen = c.sliding_window ? c.sliding_window / kernels::kKeySpan + uint64_t{2} : all;
    return seen < all ? seen : all;
}

void lay_out_scratch(Session& s, Block& at) {
    const Model& model = *s.model;
    const Config& c = model.file->config;
    const uint64_t batch = s.shape.batch_length, whole = align_up(batch, uint64_t{kernels::kTokenLanes}), half = c.head_dim / 2;
    const uint64_t q_width = uint64_t{c.heads} * c.head_dim, kv_width = uint64_t{c.kv_heads} * c.head_dim;
    at.take(s.inverse_frequencies, half);
    at.take(s.x, batch, c.hidden);
    at.take(s.normed, batch, c.hidden);
    at.take(s.q, batch, q_width);
    at.take(s.k, batch, kv_width);
    at.take(s.v, batch, kv_width);
    at.take(s.attended, batch, q_width);
    at.take(s.gate, batch, c.intermediate);
    at.take(s.up, batch, c.intermediate);
    at.take(s.cos, batch, half);
    at.take(s.sin, batch, half);

    const Needs needs = survey(model, s.shape.flags & PITH_SESSION_EXACT);
    s.x_stride = s.q_stride = align_up(model.largest_input, uint64_t{64});
    s.block_stride = align_up(ceil_div(model.largest_input, uint64_t{32}), uint64_t{16});
    for (uint32_t i = 0; i < needs.forms; i++) {
        if (needs.gathered) at.take(s.prepared[i].x, batch, s.x_stride);
        if (!needs.quantised) continue;
        at.take(s.prepared[i].q, whole, s.q_stride);
        at.take(s.prepared[i].scale, whole, s.block_stride);
        at.take(s.prepared[i].sum, whole, s.block_stride);
    }
    s.attention_scratch_bytes = align_up(uint64_t{kernels::attention_scratch(c.heads / c.kv_heads, c.head_dim)}, uint64_t{kCacheLine});
    at.take(s.attention_scratch, s.crew.width(), s.attention_scratch_bytes);
    const uint64_t spans = attention_spans(c, s.shape.context_length);
    if (s.crew.width() > 1 && spans > 1)
        at.take(s.attention_parts, c.kv_heads * spans, uint64_t{kernels::attention_part(c.heads / c.kv_heads, c.head_dim)});
    at.take(s.last, s.shape.logit_rows, c.hidden);
    at.take(s.logits, s.shape.logit_rows, c.vocab_size);
}

// Lays out the whole session behind its struct; with base == NULL it counts only.
void lay_out(Session& s, uint8_t* base, Block& at) {
    const Config& c = s.model->file->config;
    lay_out_scratch(s, at);
    s.pages = ceil_div(s.shape.context_length, kPage);
    const uint64_t tables = uint64_t{c.layers} * s.pages, page_elements = uint64_t{c.kv_heads} * c.head_dim * kPage;
    at.take(s.k_pages, tables);
    at.take(s.v_pages, tables);
    uint8_t *k = nullptr, *v = nullptr;
    const uint64_t k_page = page_elements * size_of(s.shape.k_type), v_page = page_elements * size_of(s.shape.v_type);
    at.take(k, tables, k_page);
    at.take(v, tables, v_page);
    if (!base) return;
    for (uint64_t i = 0; i < tables; i++) {
        s.k_pages[i] = k + i * k_page;
        s.v_pages[i] = v + i * v_page;
    }
}

uint64_t struct_bytes() { return align_up(uint64_t{sizeof(Session)}, uint64_t{kCacheLine}); }

pith_status count_bytes(const Model& model, const SessionShape& shape, uint64_t* bytes, pith_error* error) {
    Session counted(&model, shape);
    Block at(nullptr);
    lay_out(counted, nullptr, at);
    if (at.overflow() || at.used() > SIZE_MAX / 2)
        return fail(error, PITH_E_MEMORY, "a session of %u positions, %u tokens a batch and %u rows of logits does not fit in any memory",
                    shape.context_length, shape.batch_length, shape.logit_rows);
    *bytes = struct_bytes() + at.used();
    return PITH_OK;
}

}  // namespace

Forms collect_forms(const Linear* const* linears, uint32_t count, bool exact) {
    Forms forms;
    for (uint32_t i = 0; i < count; i++) {
        const Linear& linear = *linears[i];
        InputForm form;
        form.quantised = (linear.matrix.type == Type::Q4 || linear.matrix.type == Type::Q8) && !exact;
        form.block = form.quantised ? kernels::activation_block(linear.matrix.group) : 0;
        form.perm = linear.perm;
        uint32_t at = 0;
        while (at < forms.count && !(forms.form[at] == form)) at++;
        if (at == forms.count) forms.form[forms.count++] = form;
        forms.index[i] = at;
    }
    return forms;
}

pith_status session_plan(const void* model, const SessionShape* shape, BackendBytes* bytes, pith_error* error) {
    const Model& m = *static_cast<const Model*>(model);
    const uint64_t positions = uint64_t{ceil_div(shape->context_length, kPage)} * kPage * m.file->config.layers;
    bytes->host_kv = positions * m.file->config.kv_heads * m.file->config.head_dim * (size_of(shape->k_type) + size_of(shape->v_type));
    return count_bytes(m, *shape, &bytes->host, error);
}

pith_status session_create(const void* model, const SessionShape* shape, void** session, pith_error* error) {
    const Model& m = *static_cast<const Model*>(model);
    uint64_t bytes = 0;
    PITH_TRY(count_bytes(m, *shape, &bytes, error));
    const pith_allocator& allocator = *shape->allocator;
    uint8_t* block = static_cast<uint8_t*>(allocator.alloc(allocator.user, static_cast<size_t>(bytes), kCacheLine));
    if (!block) return fail_memory(error, "the session", bytes);
    Session* s = new (block) Session(&m, *shape);
    s->bytes = bytes;
    Block at(block + struct_bytes());
    lay_out(*s, block, at);
    s->crew.set_stop(shape->cancel);
    const Config& c = m.file->config;
    s->rope_scale = rope_frequencies(c, shape->context_length, s->inverse_frequencies);
    *session = s;
    return PITH_OK;
}

void session_destroy(void* session) {
    Session* s = static_cast<Session*>(session);
    if (!s) return;
    const pith_allocator allocator = *s->shape.allocator;
    const uint64_t bytes = s->bytes;
    s->~Session();
    allocator.free(allocator.user, s, static_cast<size_t>(bytes), kCacheLine);
}

pith_status session_logits(void* session, const float** logits, pith_error*) {
    *logits = static_cast<Session*>(session)->logits;
    return PITH_OK;
}

}  // namespace pith::cpu
