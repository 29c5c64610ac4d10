// The forward pass: five parallel regions a layer, each followed by the token-wise work ("glue") that the next one needs.
//
// A region is cut in one of two ways. With many tokens a chunk is a tile of tokens and does whole rows, so its glue runs in the chunk;
// with few, a chunk is a range of weight tiles and the glue runs on the caller. Neither changes a bit of the result: every element is
// computed by the same operations in the same order.
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu_session.h"
#include "base/check.h"
#include "base/status.h"
#include "parallel/fp_scope.h"

namespace pith::cpu {
namespace {

using kernels::Activations;
using kernels::kTileRows;
using kernels::Matrix;

constexpr uint32_t kTokenTile = 16;     // a chunk of tokens is a multiple of what the kernels block by
constexpr uint32_t kMostTokens = 64;
constexpr uint32_t kMostPlain = 4;  // tokens; the memory brings weights no faster than these can be multiplied
constexpr uint64_t kLeastChunk = 32 * 1024, kMostChunk = 512 * 1024;  // bytes of weights a chunk claims

// One batch of consecutive tokens on its way through the layers.
struct Pass {
    Session& s;
    const Model& model;
    const Config& config;
    const kernels::Table& kernels;
    uint32_t position;  // of token 0
    uint32_t tokens;
    uint32_t begin = 0;  // the first token that still matters: in the last layer only those whose logits are kept
    bool exact;

    explicit Pass(Session& session, uint32_t first, uint32_t count)
        : s(session), model(*session.model), config(model.file->config), kernels(*model.kernels), position(first), tokens(count),
          exact(session.shape.flags & PITH_SESSION_EXACT) {}
    uint32_t q_width() const { return config.heads * config.head_dim; }
    uint32_t kv_width() const { return config.kv_heads * config.head_dim; }
};

// ---------------------------------------------------------------- inputs
// How many tokens lie interleaved in the int8 inputs: few are read along with weights that come from memory, and want short rows.
uint32_t lanes_of(const Pass& p) { return p.tokens - p.begin > kMostPlain ? p.kernels.lanes : 1; }

// Where the int8 input of a token lies. Rows are counted from the first token that matters.
struct Row {
    uint64_t lanes, group, lane;
    Row(const Pass& p, uint32_t token) : lanes(lanes_of(p)), group((token - p.begin) / lanes * lanes), lane((token - p.begin) % lanes) {}
    uint64_t at(uint64_t stride, uint64_t each) const { return group * stride + lane * each; }
};

void quantise(const Pass& p, const InputForm& form, const Prepared& to, const float* from, uint32_t width, uint32_t token) {
    const Row row(p, token);
    p.kernels.quantise(from, width, form.block, form.perm, static_cast<uint32_t>(row.lanes), to.q + row.at(p.s.q_stride, 8),
                       to.scale + row.at(p.s.block_stride, 1), to.sum + row.at(p.s.block_stride, 1));
}

void prepare(const Pass& p, const Forms& forms, const float* x, uint32_t width, uint32_t token_begin, uint32_t token_end) {
    for (uint32_t f = 0; f < forms.count; f++) {
        const InputForm& form = forms.form[f];
        const Prepared& to = p.s.prepared[f];
        for (uint32_t t = token_begin; t < token_end; t++) {
            const float* from = x + uint64_t{t} * width;
            if (form.quantised) {
                quantise(p, form, to, from, width, t);
                // The last group is filled up with its last token.
                for (uint32_t fill = t + 1; t + 1 == p.tokens && (fill - p.begin) % lanes_of(p); fill++)
                    quantise(p, form, to, from, width, fill);
            } else if (form.perm) {
                float* gathered = to.x + t * p.s.x_stride;
                for (uint32_t i = 0; i < width; i++) gathered[i] = from[form.perm[i]];
            }
        }
    }
}

Activations activations(const Pass& p, const Forms& forms, uint32_t linear, const float* x, uint32_t width) {
    const InputForm& form = forms.form[forms.index[linear]];
    const Prepared& from = p.s.prepared[forms.index[linear]];
    Activations a;
    a.x_stride = form.perm ? p.s.x_stride : width;
    a.x = (form.perm ? from.x : x) + p.begin * a.x_stride;
    if (form.quantised) {
        a.q = from.q;
        a.q_stride = p.s.q_stride;
        a.scale = from.scale;
        a.sum = from.sum;
        a.block_stride = p.s.block_stride;
        a.lanes = lanes_of(p);
    }
    return a;
}

// ---------------------------------------------------------------- regions
struct Job {
    const Linear* linear;
    Activations x;
    float* y;
    size_t y_stride;
};

void multiply(const Pass& p, const Job& job, uint32_t token_begin, uint32_t token_end, uint32_t tile_begin, uint32_t tile_end) {
    const Matrix& w = job.linear->matrix;
    p.kernels.matmul(w, job.x, token_begin - p.begin, token_end - p.begin, tile_begin, tile_end, job.y + p.begin * job.y_stride,
                     job.y_stride);
    if (!job.linear->bias) return;
    const uint32_t row = tile_begin * kTileRows, end = tile_end * kTileRows < w.rows ? tile_end * kTileRows : w.rows;
    for (uint32_t t = token_begin; t < token_end; t++) p.kernels.add(job.linear->bias + row, end - row, job.y + t * job.y_stride + row);
}

// Tokens a chunk takes when a region is cut by tokens; 0: cut it by weights.
uint32_t token_tile(const Pass& p) {
    const uint32_t count = p.tokens - p.begin, width = p.s.crew.width();
    if (count < 2 * width * kTokenTile) return 0;
    const uint32_t even = align_up(ceil_div(count, 4 * width), kTokenTile);
    return even < kMostTokens ? even : kMostTokens;
}

template <class Chunk>
void by_tokens(const Pass& p, uint32_t tile, uint64_t bytes, Chunk chunk) {
    const uint32_t chunks = ceil_div(p.tokens - p.begin, tile);
    auto body = [&](uint32_t c, uint32_t slot) {
        // Later tokens see more keys: the longest chunks go first.
        const uint32_t at = p.begin + (chunks - 1 - c) * tile;
        chunk(at, at + tile < p.tokens ? at + tile : p.tokens, slot);
    };
    p.s.crew.run(chunks, bytes, body);
}

// All tiles of all jobs for tokens [begin, tokens), then glue(token_begin, token_end) for the same tokens.
template <class Glue>
void region(const Pass& p, const Job* jobs, uint32_t count, Glue glue) {
    uint64_t bytes = 0;
    for (uint32_t j = 0; j < count; j++) bytes += uint64_t{jobs[j].linear->matrix.tiles()} * jobs[j].linear->matrix.tile_bytes;
    // A matrix's bytes are read once, its products computed once a token; glue alone counts by what it writes.
    const uint64_t tokens = p.tokens - p.begin, work = count ? bytes * (1 + tokens / 4) : tokens * p.config.hidden * 8;
    if (const uint32_t tile = token_tile(p)) {
        by_tokens(p, tile, work, [&](uint32_t token_begin, uint32_t token_end, uint32_t) {
            for (uint32_t j = 0; j < count; j++) multiply(p, jobs[j], token_begin, token_end, 0, jobs[j].linear->matrix.tiles());
            glue(token_begin, token_end);
        });
        return;
    }
    uint64_t target = bytes / (uint64_t{p.s.crew.width()} * 16);
    target = target < kLeastChunk ? kLeastChunk : target > kMostChunk ? kMostChunk : target;
    uint32_t step[kMaxForms], first[kMaxForms + 1] = {0};
    for (uint32_t j = 0; j < count; j++) {
        const Matrix& w = jobs[j].linear->matrix;
        const uint64_t tiles = target / w.tile_bytes;
        step[j] = tiles < 1 ? 1 : tiles > w.tiles() ? w.tiles() : static_cast<uint32_t>(tiles);
        first[j + 1] = first[j] + ceil_div(w.tiles(), step[j]);
    }
    auto body = [&](uint32_t chunk, uint32_t) {
        uint32_t j = 0;
        while (chunk >= first[j + 1]) j++;
        const uint32_t tiles = jobs[j].linear->matrix.tiles(), at = (chunk - first[j]) * step[j];
        multiply(p, jobs[j], p.begin, p.tokens, at, at + step[j] < tiles ? at + step[j] : tiles);
    };
    p.s.crew.run(first[count], work, body);
    glue(p.begin, p.tokens);
}

bool stopped(const Session& s) { return s.shape.cancel && s.shape.cancel->load(std::memory_order_relaxed); }

// ---------------------------------------------------------------- glue
Forms forms_of_qkv(const Pass& p, const Layer& l) {
    const Linear* linears[] = {&l.q, &l.k, &l.v};
    return collect_forms(linears, 3, p.exact);
}

// x of these tokens through a norm, into the forms that the next matrices want.
void norm_and_prepare(const Pass& p, const float* weight, const Forms& forms, uint32_t token_begin, uint32_t token_end) {
    const uint32_t hidden = p.config.hidden;
    for (uint32_t t = token_begin; t < token_end; t++)
        p.kernels.rms_norm(p.s.x + uint64_t{t} * hidden, weight, hidden, p.config.rms_eps, p.s.normed + uint64_t{t} * hidden);
    prepare(p, forms, p.s.normed, hidden, token_begin, token_end);
}

void add_to_residual(const Pass& p, uint32_t token_begin, uint32_t token_end) {
    const uint64_t hidden = p.config.hidden;
    p.kernels.add(p.s.normed + token_begin * hidden, static_cast<uint32_t>((token_end - token_begin) * hidden), p.s.x + token_begin * hidden);
}

void embed(const Pass& p, const pith_token* ids, uint32_t token_begin, uint32_t token_end) {
    const Matrix& e = p.model.embedding;
    const uint32_t hidden = p.config.hidden;
    for (uint32_t t = token_begin; t < token_end; t++) {
        float* x = p.s.x + uint64_t{t} * hidden;
        const uint32_t id = static_cast<uint32_t>(ids[t]);
        if (e.tile_bytes) {
            p.kernels.tile_row(e, id, x);
        } else {
            const uint64_t row_bytes = uint64_t{hidden} * (e.type == kernels::Type::F32 ? 4 : 2);
            p.kernels.to_float(e.type, e.data + id * row_bytes, hidden, x);
        }
    }
}

void rotate_and_store(const Pass& p, const kernels::KvLayer& kv, uint32_t token_begin, uint32_t token_end) {
    const uint32_t d = p.config.head_dim, half = d / 2;
    for (uint32_t t = token_begin; t < token_end; t++) {
        const float *cos = p.s.cos + uint64_t{t} * half, *sin = p.s.sin + uint64_t{t} * half;
        float* q = p.s.q + uint64_t{t} * p.q_width();
        float* k = p.s.k + uint64_t{t} * p.kv_width();
        for (uint32_t h = 0; h < p.config.heads; h++) p.kernels.rope(q + h * d, half, cos, sin);
        for (uint32_t h = 0; h < p.config.kv_heads; h++) p.kernels.rope(k + h * d, half, cos, sin);
        p.kernels.kv_store(kv, p.position + t, k, p.s.v + uint64_t{t} * p.kv_width());
    }
}

void fill_rope(const Pass& p) {
    const uint32_t half = p.config.head_dim / 2;
    for (uint32_t t = 0; t < p.tokens; t++)
        for (uint32_t i = 0; i < half; i++) {
            const double angle = static_cast<double>(p.position + t) * p.s.inverse_frequencies[i];
            p.s.cos[t * half + i] = static_cast<float>(cos(angle) * p.s.rope_scale);
            p.s.sin[t * half + i] = static_cast<float>(sin(angle) * p.s.rope_scale);
        }
}

// ---------------------------------------------------------------- a layer
kernels::KvLayer kv_of(const Pass& p, uint32_t layer) {
    const uint64_t first = uint64_t{layer} * p.s.pages;
    const auto type = [](uint32_t t) { return t == PITH_KV_F32 ? kernels::Type::F32 : kernels::Type::F16; };
    return {p.s.k_pages + first, p.s.v_pages + first, kPage, p.config.kv_heads, p.config.head_dim, type(p.s.shape.k_type), type(p.s.shape.v_type)};
}

// One token: its heads are few, so that its keys are cut as well.
void attend_by_spans(const Pass& p, const kernels::Attention& a, uint64_t work) {
    const uint32_t token = p.begin, position = p.position + token, heads = p.config.kv_heads;
    const uint32_t first = kernels::oldest_key(position, a.window) / kernels::kKeySpan, spans = position / kernels::kKeySpan - first + 1;
    const size_t floats = kernels::attention_part(p.config.heads / heads, p.config.head_dim);
    const auto scratch = [&](uint32_t slot) { return p.s.attention_scratch + slot * p.s.attention_scratch_bytes; };
    auto body = [&](uint32_t chunk, uint32_t slot) {
        p.kernels.attention_span(a, chunk / spans, token, first + chunk % spans, scratch(slot), p.s.attention_parts + chunk * floats);
    };
    p.s.crew.run(heads * spans, work, body);
    for (uint32_t h = 0; h < heads; h++)
        p.kernels.attention_join(a, h, token, p.s.attention_parts + uint64_t{h} * spans * floats, scratch(0));
}

void attend(const Pass& p, const kernels::KvLayer& kv, const Linear& o) {
    const kernels::Attention a{kv, p.s.q, p.s.attended, p.q_width(), p.q_width(), p.config.heads, p.position, p.config.sliding_window,
                               static_cast<float>(1.0 / sqrt(static_cast<double>(p.config.head_dim)))};
    const Linear* linears[] = {&o};
    const Forms forms = collect_forms(linears, 1, p.exact);
    const uint64_t count = p.tokens - p.begin, keys = p.position + p.tokens;
    const uint64_t work = keys * p.kv_width() * 4 * (1 + count / 4);
    const auto scratch = [&](uint32_t slot) { return p.s.attention_scratch + slot * p.s.attention_scratch_bytes; };
    if (const uint32_t tile = token_tile(p)) {
        by_tokens(p, tile, work, [&](uint32_t token_begin, uint32_t token_end, uint32_t slot) {
            for (uint32_t h = 0; h < p.config.kv_heads; h++) p.kernels.attention(a, h, token_begin, token_end, scratch(slot));
            prepare(p, forms, p.s.attended, p.q_width(), token_begin, token_end);
        });
        return;
    }
    if (count == 1 && p.s.attention_parts) {
        attend_by_spans(p, a, work);
    } else {
        auto body = [&](uint32_t head, uint32_t slot) { p.kernels.attention(a, head, p.begin, p.tokens, scratch(slot)); };
        p.s.crew.run(p.config.kv_heads, work, body);
    }
    prepare(p, forms, p.s.attended, p.q_width(), p.begin, p.tokens);
}

void project_qkv(const Pass& p, const Layer& l, const kernels::KvLayer& kv) {
    const Forms forms = forms_of_qkv(p, l);
    const uint32_t hidden = p.config.hidden;
    const Job jobs[] = {{&l.q, activations(p, forms, 0, p.s.normed, hidden), p.s.q, p.q_width()},
                        {&l.k, activations(p, forms, 1, p.s.normed, hidden), p.s.k, p.kv_width()},
                        {&l.v, activations(p, forms, 2, p.s.normed, hidden), p.s.v, p.kv_width()}};
    region(p, jobs, 3, [&](uint32_t from, uint32_t to) { rotate_and_store(p, kv, from, to); });
}

// o + residual, then the MLP's input.
void project_o(const Pass& p, const Layer& l, const Forms& mlp_forms) {
    const Linear* linears[] = {&l.o};
    const Forms forms = collect_forms(linears, 1, p.exact);
    const Job job{&l.o, activations(p, forms, 0, p.s.attended, p.q_width()), p.s.normed, p.config.hidden};
    region(p, &job, 1, [&](uint32_t from, uint32_t to) {
        add_to_residual(p, from, to);
        norm_and_prepare(p, l.mlp_norm, mlp_forms, from, to);
    });
}

// gate and up, down + residual, then the next layer's input (next == NULL: there is none).
void mlp(const Pass& p, const Layer& l, const Forms& mlp_forms, const Layer* next) {
    const uint32_t hidden = p.config.hidden, inner = p.config.intermediate;
    const Linear* down[] = {&l.down};
    const Forms down_forms = collect_forms(down, 1, p.exact);
    const Job gate_up[] = {{&l.gate, activations(p, mlp_forms, 0, p.s.normed, hidden), p.s.gate, inner},
                           {&l.up, activations(p, mlp_forms, 1, p.s.normed, hidden), p.s.up, inner}};
    region(p, gate_up, 2, [&](uint32_t from, uint32_t to) {
        for (uint32_t t = from; t < to; t++) {
            float* gate = p.s.gate + uint64_t{t} * inner;
            p.kernels.silu_mul(gate, p.s.up + uint64_t{t} * inner, inner, gate);
        }
        prepare(p, down_forms, p.s.gate, inner, from, to);
    });
    if (stopped(p.s)) return;
    const Job job{&l.down, activations(p, down_forms, 0, p.s.gate, inner), p.s.normed, hidden};
    region(p, &job, 1, [&](uint32_t from, uint32_t to) {
        add_to_residual(p, from, to);
        if (next) norm_and_prepare(p, next->attention_norm, forms_of_qkv(p, *next), from, to);
    });
}

// `keep`: the last tokens of this batch whose logits are wanted; their normed hidden states go to s.last from row `row`.
void run_batch(Session& s, uint32_t position, const pith_token* ids, uint32_t count, uint32_t keep, uint32_t row) {
    Pass p(s, position, count);
    const Model& model = p.model;
    const uint32_t layers = p.config.layers, hidden = p.config.hidden;
    fill_rope(p);
    const Forms first = forms_of_qkv(p, model.layers[0]);
    region(p, nullptr, 0, [&](uint32_t from, uint32_t to) {
        embed(p, ids, from, to);
        norm_and_prepare(p, model.layers[0].attention_norm, first, from, to);
    });
    for (uint32_t i = 0; i < layers && !stopped(s); i++) {
        const Layer& l = model.layers[i];
        const kernels::KvLayer kv = kv_of(p, i);
        const Linear* gate_up[] = {&l.gate, &l.up};
        const Forms mlp_forms = collect_forms(gate_up, 2, p.exact);
        project_qkv(p, l, kv);
        if (stopped(s)) return;
        // Of the last layer only keys and values are needed for tokens without logits.
        if (i + 1 == layers) p.begin = count - keep;
        if (p.begin == count) return;
        attend(p, kv, l.o);
        if (stopped(s)) return;
        project_o(p, l, mlp_forms);
        if (stopped(s)) return;
        mlp(p, l, mlp_forms, i + 1 < layers ? &model.layers[i + 1] : nullptr);
    }
    if (stopped(s)) return;
    for (uint32_t t = count - keep; t < count; t++, row++)
        p.kernels.rms_norm(s.x + uint64_t{t} * hidden, model.final_norm, hidden, p.config.rms_eps, s.last + uint64_t{row} * hidden);
}

// Logits of s.last, batch by batch as the prepared inputs allow. Not cut short by a cancel: until here the logits of the forward
// before are untouched, from here on this one succeeds.
void run_head(Session& s, uint32_t rows) {
    const uint32_t batch = s.shape.batch_length;
    for (uint32_t row = 0; row < rows; row += batch) {
        Pass p(s, 0, rows - row < batch ? rows - row : batch);
        const uint32_t hidden = p.config.hidden, vocab = p.config.vocab_size;
        const Linear* linears[] = {&p.model.head};
        const Forms forms = collect_forms(linears, 1, p.exact);
        const float* x = s.last + uint64_t{row} * hidden;
        prepare(p, forms, x, hidden, 0, p.tokens);
        const Job job{&p.model.head, activations(p, forms, 0, x, hidden), s.logits + uint64_t{row} * vocab, vocab};
        region(p, &job, 1, [](uint32_t, uint32_t) {});
    }
}

}  // namespace

pith_status session_forward(void* session, uint32_t length, const pith_token* tokens, uint32_t count, uint32_t rows, pith_error* error) {
    Session& s = *static_cast<Session*>(session);
    const FpScope fp;
    s.crew.begin();
    const uint32_t batch = s.shape.batch_length;
    for (uint32_t at = 0; at < count && !stopped(s); at += batch) {
        const uint32_t n = count - at < batch ? count - at : batch;
        const uint32_t first_kept = count - rows;  // tokens from here on leave logits
        const uint32_t keep = at + n <= first_kept ? 0 : at >= first_kept ? n : at + n - first_kept;
        run_batch(s, length + at, tokens + at, n, keep, at < first_kept ? 0 : at - first_kept);
    }
    const bool cancelled = stopped(s);
    if (!cancelled) {
        s.crew.set_stop(nullptr);
        run_head(s, rows);
        s.crew.set_stop(s.shape.cancel);
    }
    s.crew.settle();
    if (s.crew.take_breaches())
        return fail(error, PITH_E_RUNNER, "the runner broke its contract during forward: an index was called twice, out of range or late, "
                    "or run() returned before its calls had");
    if (cancelled) return fail(error, PITH_E_CANCELLED, "forward of %u tokens was cancelled", count);
    return PITH_OK;
}

}  // namespace pith::cpu
