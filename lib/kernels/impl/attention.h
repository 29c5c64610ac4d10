// Attention with online softmax, for any tier: include after the tier's vec.h.
//
// A row is one query head of one token. A row meets the blocks of keys that it can see, in order, whole blocks at once and the ends
// of its range masked; what it does with a block does not depend on the rows that are computed beside it.
#pragma once
#include "kernels/attention.h"
#include "kernels/impl/elementwise.h"

namespace pith::kernels {
namespace {

// One pass: up to AttentionLayout::tokens tokens of one kv head.
struct Pass {
    const Attention& a;
    AttentionLayout layout;
    float* scratch;
    uint32_t kv_head, heads;  // query heads of this kv head
    uint32_t token_begin, token_end;
    Vec score_scale;  // in powers of two

    uint32_t row(uint32_t token) const { return (token - token_begin) * heads; }
    const float* query(uint32_t r) const {
        return a.q + (token_begin + r / heads) * a.q_stride + (size_t{kv_head} * heads + r % heads) * a.kv.head_dim;
    }
    float* out(uint32_t r) const { return scratch + layout.out + r * layout.padded_dim; }
    float* sum(uint32_t r) const { return scratch + layout.sum + r * 16; }
    float* largest(uint32_t r) const { return scratch + layout.largest + r; }
    float* weights(uint32_t i) const { return scratch + layout.weights + i * kKeyBlock; }
};

template <class Element>
struct Block {
    const Element* k;  // [head_dim][64]
    const Element* v;  // [64][v_stride]
    size_t v_stride;
};

template <int kRows, class Element>
inline void scores(const Pass& p, const Block<Element>& block, uint32_t row) {
    constexpr int kSubs = Tune::kScoreVecs / kRows < 4 ? Tune::kScoreVecs / kRows : 4;  // vectors of 16 keys
    const size_t dim = p.a.kv.head_dim;
    const float* q[kRows];
    unroll<kRows>([&](int r) PITH_KERNEL_INLINE { q[r] = p.query(row + r); });
    for (uint32_t first = 0; first < kKeyBlock; first += kSubs * 16) {
        Vec dot[kRows][kSubs];
        unroll<kRows>([&](int r) PITH_KERNEL_INLINE { unroll<kSubs>([&](int s) PITH_KERNEL_INLINE { dot[r][s] = zero(); }); });
        const Element* k = block.k + first;
        for (size_t d = 0; d < dim; d++, k += kKeyBlock) {
            Vec keys[kSubs];
            unroll<kSubs>([&](int s) PITH_KERNEL_INLINE { keys[s] = load(k + s * 16); });
            unroll<kRows>([&](int r) PITH_KERNEL_INLINE {
                const Vec value = set1(q[r][d]);
                unroll<kSubs>([&](int s) PITH_KERNEL_INLINE { dot[r][s] = fma(keys[s], value, dot[r][s]); });
            });
        }
        unroll<kRows>([&](int r) PITH_KERNEL_INLINE {
            unroll<kSubs>([&](int s) PITH_KERNEL_INLINE { store(p.weights(r) + first + s * 16, mul(dot[r][s], p.score_scale)); });
        });
    }
}

// Scores to weights, for keys [begin, end) of the block; what was summed before is scaled by the result.
inline float softmax_step(const Pass& p, int i, uint32_t row, uint32_t begin, uint32_t end) {
    const Vec masked = set1(bits_float(0xFF800000));
    float* weights = p.weights(i);
    Vec s[4];
    for (uint32_t j = 0; j < 4; j++) {
        s[j] = load(weights + j * 16);
        if (begin > j * 16 || end < j * 16 + 16)
            s[j] = keep(s[j], static_cast<int>(begin) - 16 * static_cast<int>(j), static_cast<int>(end) - 16 * static_cast<int>(j), masked);
    }
    float* largest = p.largest(row);
    const float before = *largest;
    const float block_largest = reduce_max(max(max(s[0], s[1]), max(s[2], s[3])));
    *largest = block_largest > before ? block_largest : before;
    const Vec now = set1(*largest);
    for (int j = 0; j < 4; j++) {
        s[j] = exp2(sub(s[j], now));
        store(weights + j * 16, s[j]);
    }
    const Vec decay = exp2(sub(set1(before), now));
    const Vec total = add(add(s[0], s[1]), add(s[2], s[3]));
    store(p.sum(row), fma(load(p.sum(row)), decay, total));
    return first_lane(decay);
}

// out = out * decay + weights * values, kVecs vectors of the head's dimensions at once.
template <int kRows, int kVecs, class Element>
inline void mix_part(const Pass& p, const Block<Element>& block, uint32_t row, size_t d, uint32_t begin, uint32_t end, const float* decay) {
    Vec out[kRows][kVecs];
    unroll<kRows>([&](int r) PITH_KERNEL_INLINE {
        unroll<kVecs>([&](int c) PITH_KERNEL_INLINE { out[r][c] = mul(load(p.out(row + r) + d + c * 16), set1(decay[r])); });
    });
    const float* weights = p.weights(0);
    const Element* v = block.v + begin * block.v_stride + d;
    for (uint32_t j = begin; j < end; j++, v += block.v_stride) {
        Vec values[kVecs];
        unroll<kVecs>([&](int c) PITH_KERNEL_INLINE { values[c] = load(v + c * 16); });
        unroll<kRows>([&](int r) PITH_KERNEL_INLINE {
            const Vec weight = set1(weights[r * kKeyBlock + j]);
            unroll<kVecs>([&](int c) PITH_KERNEL_INLINE { out[r][c] = fma(values[c], weight, out[r][c]); });
        });
    }
    unroll<kRows>(
        [&](int r) PITH_KERNEL_INLINE { unroll<kVecs>([&](int c) PITH_KERNEL_INLINE { store(p.out(row + r) + d + c * 16, out[r][c]); }); });
}
// Whole rows of V where the registers suffice: memory is then read in order.
template <int kRows, int kVecs, class Element>
inline void mix(const Pass& p, const Block<Element>& block, uint32_t row, size_t d, uint32_t begin, uint32_t end, const float* decay) {
    for (; p.layout.padded_dim - d >= kVecs * 16; d += kVecs * 16) mix_part<kRows, kVecs>(p, block, row, d, begin, end, decay);
    if constexpr (kVecs > 1) mix<kRows, kVecs / 2>(p, block, row, d, begin, end, decay);
}

// Rows [row, row_end), which all see keys [begin, end) of the block and no others of it.
template <int kRows, class Element>
inline void attend(const Pass& p, const Block<Element>& block, uint32_t row, uint32_t row_end, uint32_t begin, uint32_t end) {
    for (; row_end - row >= kRows; row += kRows) {
        float decay[kRows];
        scores<kRows>(p, block, row);
        for (int r = 0; r < kRows; r++) decay[r] = softmax_step(p, r, row + r, begin, end);
        mix<kRows, Tune::kMixVecs / kRows>(p, block, row, 0, begin, end, decay);
    }
    if constexpr (kRows > 1) attend<kRows / 2>(p, block, row, row_end, begin, end);
}

// Tokens that see a block: some of it at both ends, all of it between.
struct Visible {
    uint64_t begin, full_begin, full_end, end;
};

inline Visible visible(const Pass& p, uint64_t first_key) {
    const uint64_t last_key = first_key + kKeyBlock - 1, base = p.a.first_position, window = p.a.window;
    const auto token_at = [&](uint64_t position) {  // clamped
        const uint64_t token = position > base ? position - base : 0;
        return token < p.token_begin ? p.token_begin : token < p.token_end ? token : p.token_end;
    };
    Visible v{};
    v.begin = token_at(first_key);
    v.full_begin = token_at(last_key);
    v.full_end = window ? token_at(first_key + window) : p.token_end;
    v.end = window ? token_at(last_key + window) : p.token_end;
    if (v.full_end < v.full_begin) v.full_begin = v.full_end = v.end;  // a window shorter than the block: nobody sees all of it
    return v;
}

template <class Element>
inline void attend_block(const Pass& p, const Block<Element>& block, uint64_t first_key, const Visible& v) {
    for (uint64_t t = v.begin; t < v.end; t++) {
        if (t == v.full_begin && v.full_begin < v.full_end) {
            attend<kRowsAtOnce>(p, block, p.row(static_cast<uint32_t>(v.full_begin)), p.row(static_cast<uint32_t>(v.full_end)), 0,
                                kKeyBlock);
            t = v.full_end - 1;
            continue;
        }
        const uint64_t position = p.a.first_position + t;
        const uint64_t oldest = p.a.window && position + 1 > p.a.window ? position + 1 - p.a.window : 0;
        const uint64_t begin = oldest > first_key ? oldest - first_key : 0;
        const uint64_t end = position - first_key + 1;
        const uint32_t row = p.row(static_cast<uint32_t>(t));
        attend<kRowsAtOnce>(p, block, row, row + p.heads, static_cast<uint32_t>(begin),
                            static_cast<uint32_t>(end < kKeyBlock ? end : kKeyBlock));
    }
}

// The block as float in scratch, V padded to whole vectors.
inline Block<float> convert(const Pass& p, const uint8_t* k, const uint8_t* v) {
    const KvLayer& kv = p.a.kv;
    float* k_out = p.scratch + p.layout.k;
    float* v_out = p.scratch + p.layout.v;
    to_float(kv.k_type, k, size_t{kKeyBlock} * kv.head_dim, k_out);
    if (p.layout.padded_dim == kv.head_dim) {
        to_float(kv.v_type, v, size_t{kKeyBlock} * kv.head_dim, v_out);
    } else {
        for (size_t j = 0; j < kKeyBlock; j++) {
            float* row = v_out + j * p.layout.padded_dim;
            store(row + p.layout.padded_dim - 16, zero());
            to_float(kv.v_type, v + j * kv.head_dim * element_size(kv.v_type), kv.head_dim, row);
        }
    }
    return {k_out, v_out, p.layout.padded_dim};
}

// Where the 64 keys from first_key on lie.
inline const uint8_t* key_block(const KvLayer& kv, void* const* pages, Type type, uint32_t kv_head, uint64_t first_key) {
    const size_t at = (size_t{kv_head} * kv.page + first_key % kv.page) * kv.head_dim;
    return static_cast<const uint8_t*>(pages[first_key / kv.page]) + at * element_size(type);
}

inline void attend_keys(const Pass& p, uint64_t first_key) {
    const KvLayer& kv = p.a.kv;
    const Visible seen = visible(p, first_key);
    if (seen.begin >= seen.end) return;
    const uint8_t* k = key_block(kv, kv.k_pages, kv.k_type, p.kv_head, first_key);
    const uint8_t* v = key_block(kv, kv.v_pages, kv.v_type, p.kv_head, first_key);
    const bool whole = p.layout.padded_dim == kv.head_dim && kv.k_type == kv.v_type;
    if (whole && kv.k_type == Type::F32) {
        attend_block<float>(p, {reinterpret_cast<const float*>(k), reinterpret_cast<const float*>(v), kv.head_dim}, first_key, seen);
    } else if (whole && kv.k_type == Type::F16) {
        attend_block<uint16_t>(p, {reinterpret_cast<const uint16_t*>(k), reinterpret_cast<const uint16_t*>(v), kv.head_dim}, first_key,
                               seen);
    } else {
        attend_block(p, convert(p, k, v), first_key, seen);
    }
}

// What a span left for a row, or all spans so far: [padded_dim] of output, [16] of sums, the largest score.
struct Part {
    float* out;
    float* sum;
    float* largest;
};
inline Part part_row(float* parts, const AttentionLayout& l, uint32_t r) {
    float* out = parts + r * (l.padded_dim + kPartExtra);
    return {out, out + l.padded_dim, out + l.padded_dim + 16};
}
inline Part total_row(const Pass& p, uint32_t r) { return part_row(p.scratch + p.layout.total, p.layout, r); }

inline void copy(const Pass& p, const Part& from, const Part& to) {
    for (size_t d = 0; d < p.layout.padded_dim; d += 16) store(to.out + d, load(from.out + d));
    store(to.sum, load(from.sum));
    *to.largest = *from.largest;
}
inline void join(const Pass& p, const Part& from, const Part& to) {
    const float largest = *from.largest > *to.largest ? *from.largest : *to.largest;
    const Vec now = set1(largest), before = exp2(sub(set1(*to.largest), now)), added = exp2(sub(set1(*from.largest), now));
    for (size_t d = 0; d < p.layout.padded_dim; d += 16) store(to.out + d, fma(load(from.out + d), added, mul(load(to.out + d), before)));
    store(to.sum, fma(load(from.sum), added, mul(load(to.sum), before)));
    *to.largest = largest;
}
// Adds what row r has of a span to its total; a row joins those spans only of which it sees a key.
inline void join_row(const Pass& p, uint32_t r, uint32_t span, const Part& from) {
    const uint32_t position = p.a.first_position + p.token_begin + r / p.heads;
    const uint32_t first = oldest_key(position, p.a.window) / kKeySpan;
    if (span < first || span > position / kKeySpan) return;
    span == first ? copy(p, from, total_row(p, r)) : join(p, from, total_row(p, r));
}

// Keys [begin, end) that some token of the pass sees, all of one span.
inline void attend_span(const Pass& p, uint32_t begin, uint32_t end) {
    const uint32_t rows = p.row(p.token_end);
    for (size_t i = 0; i < rows * p.layout.padded_dim; i += 16) store(p.out(0) + i, zero());
    for (uint32_t r = 0; r < rows; r++) {
        store(p.sum(r), zero());
        *p.largest(r) = bits_float(0xFF800000);
    }
    for (uint32_t block = begin / kKeyBlock; block <= (end - 1) / kKeyBlock; block++) attend_keys(p, uint64_t{block} * kKeyBlock);
}

inline void finish(const Pass& p) {
    for (uint32_t r = 0; r < p.row(p.token_end); r++) {
        float* to =
            p.a.out + (p.token_begin + r / p.heads) * p.a.out_stride + (size_t{p.kv_head} * p.heads + r % p.heads) * p.a.kv.head_dim;
        const Part total = total_row(p, r);
        const Vec scale = set1(1.0f / reduce_add(load(total.sum)));
        by_16(p.a.kv.head_dim, [&](size_t i, uint32_t count) { store_n(to + i, mul(load(total.out + i), scale), count); });
    }
}

inline Pass pass_of(const Attention& a, uint32_t kv_head, uint32_t token, uint32_t token_end, void* scratch) {
    const uint32_t heads = a.heads / a.kv.heads;
    const AttentionLayout layout = attention_layout(heads, a.kv.head_dim);
    token_end = smaller(token + layout.tokens, token_end);
    return {a, layout, static_cast<float*>(scratch), kv_head, heads, token, token_end, set1(a.scale * kLog2E)};
}
inline Part span_row(const Pass& p, uint32_t r) { return {p.out(r), p.sum(r), p.largest(r)}; }

inline void attention(const Attention& a, uint32_t kv_head, uint32_t token_begin, uint32_t token_end, void* scratch) {
    for (uint32_t token = token_begin; token < token_end;) {
        const Pass p = pass_of(a, kv_head, token, token_end, scratch);
        const uint32_t oldest = oldest_key(a.first_position + token, a.window), end = a.first_position + p.token_end;
        for (uint32_t span = oldest / kKeySpan; span <= (end - 1) / kKeySpan; span++) {
            attend_span(p, larger(oldest, span * kKeySpan), smaller(end, (span + 1) * kKeySpan));
            for (uint32_t r = 0; r < p.row(p.token_end); r++) join_row(p, r, span, span_row(p, r));
        }
        finish(p);
        token = p.token_end;
    }
}

inline void attention_span(const Attention& a, uint32_t kv_head, uint32_t token, uint32_t span, void* scratch, float* part) {
    const Pass p = pass_of(a, kv_head, token, token + 1, scratch);
    const uint32_t end = a.first_position + token + 1;
    attend_span(p, larger(oldest_key(end - 1, a.window), span * kKeySpan), smaller(end, (span + 1) * kKeySpan));
    for (uint32_t r = 0; r < p.heads; r++) copy(p, span_row(p, r), part_row(part, p.layout, r));
}

inline void attention_join(const Attention& a, uint32_t kv_head, uint32_t token, const float* parts, void* scratch) {
    const Pass p = pass_of(a, kv_head, token, token + 1, scratch);
    const uint32_t position = a.first_position + token, first = oldest_key(position, a.window) / kKeySpan;
    float* part = const_cast<float*>(parts);  // only read
    for (uint32_t span = first; span <= position / kKeySpan; span++, part += p.heads * (p.layout.padded_dim + kPartExtra))
        for (uint32_t r = 0; r < p.heads; r++) join_row(p, r, span, part_row(part, p.layout, r));
    finish(p);
}

}  // namespace
}  // namespace pith::kernels
