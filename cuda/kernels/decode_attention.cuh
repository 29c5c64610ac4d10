// The decode kernel's attention: a block takes ranges of cached positions of
// heads, its warps share them, each group of lanes keeps its own online
// softmax; warps are combined in shared memory, blocks by the last of them to
// finish, always in the order of positions.
#pragma once
#include <type_traits>

#include "decode_input.cuh"

namespace pith::cuda {

inline constexpr float kLowest = -1e30f;

// Online softmax of `rows` query heads, over the positions that one group of
// lanes saw; a lane has 8 elements of each output.
template <uint32_t rows>
struct SoftmaxState {
    float largest[rows], sum[rows], out[rows][8];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (uint32_t h = 0; h < rows; h++) {
            largest[h] = kLowest;
            sum[h] = 0;
#pragma unroll
            for (uint32_t e = 0; e < 8; e++) out[h][e] = 0;
        }
    }
};

__device__ __forceinline__ void halves_to_floats(uint4 v, float (&f)[8]) {
    const uint32_t w[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        const float2 t = __half22float2(as_half2(w[i]));
        f[2 * i] = t.x;
        f[2 * i + 1] = t.y;
    }
}

__device__ __forceinline__ float dot8(const float* q, const float (&k)[8]) {
    const float4 a = *reinterpret_cast<const float4*>(q), b = *reinterpret_cast<const float4*>(q + 4);
    return a.x * k[0] + a.y * k[1] + a.z * k[2] + a.w * k[3] + b.x * k[4] + b.y * k[5] + b.z * k[6] + b.w * k[7];
}

// The same for eight query heads on tensor cores: lane (g, t) has heads 2 t and 2 t + 1; of outputs those of tile e are of dimensions
// first(e, g) and second(e, g). Sums are the lane's own until merged.
template <uint32_t dim>
struct GroupState {
    static constexpr uint32_t kTiles = dim / 16;
    float largest[2], sum[2], out[kTiles][4];

    __device__ __forceinline__ void clear() {
        largest[0] = largest[1] = kLowest;
        sum[0] = sum[1] = 0;
        unrolled<kTiles>([&](auto e) { out[e][0] = out[e][1] = out[e][2] = out[e][3] = 0; });
    }
    static __device__ __forceinline__ uint32_t first(uint32_t e, uint32_t g) { return 8 * g + e; }
    static __device__ __forceinline__ uint32_t second(uint32_t e, uint32_t g) { return dim == 128 ? 64 + 8 * g + e : 8 * g + e + 4; }
};

// fixed_lanes: of a warp, that share a position; 0: known only at run time.
// Eight rows: fixed_lanes is an eighth of head_dim (64 or 128).
template <uint32_t rows, uint32_t fixed_lanes>
class Attention {
public:
    __device__ __forceinline__ Attention()
        : p(shared().params), lane(lane_id()), warp(threadIdx.x / 32), threads(p.warps * 32), position(shared().position), ratio(p.ratio) {
        query = reinterpret_cast<float*>(shared_bytes() + p.shared_input);
        new_key = query + rows * d();
        new_value = new_key + d();
        scratch = new_value + d();
        any_lanes = 1;
        while (any_lanes * 8 < d()) any_lanes *= 2;
        element = lane % lanes() * 8;
    }

    __device__ __forceinline__ RingPlace run(uint32_t l, RingPlace began) {
        const DecodeLayer& layer = layer_of(l);
        const KvCut& cut = shared().cut;
        place = began;
#pragma unroll 1
        for (uint32_t unit = cut.begin; unit < cut.end;) {
            const uint32_t head = unit / cut.per_head, head_unit = head * cut.per_head, stop = min(cut.end, head_unit + cut.per_head);
            stage(layer, head, unit == head_unit);
            const uint32_t last = min(position,
                                      cut.first + (stop - head_unit - 1) * p.kv_unit);  // cached positions end before it
            State state;
            state.clear();
            load_queries();
            if (unit == head_unit && warp == 0) see_new(state);
            uint32_t turn = 0;  // of the warps that use the next two stages
#pragma unroll 1
            for (uint32_t from = cut.first + (max(unit, head_unit + 1) - head_unit - 1) * p.kv_unit; from < last;
                 from += p.stage_units * p.kv_unit) {
                RingPlace values = place;
                values.next(ring);
                if (turn == turn_of(warp)) {
                    const uint32_t mine = from + in_stage() * p.kv_unit;
                    place.wait(ring);  // by warps without a share too, or they could count for what the stage held before
                    values.wait(ring);
                    if (mine < last) see_cached(state, min(p.kv_unit, last - mine), values);
                    place.done(ring);
                    values.done(ring);
                }
                if (++turn == p.groups) turn = 0;
                place.skip(ring, 2);
            }
            // Warps that saw anything: each took a unit before the first took another.
            const uint32_t cached = stop - max(unit, head_unit + 1), active = cached ? min(cached, p.warps) : 1;
            if (warp < active) merge_lanes(state);
            combine(layer, cut, head, unit, stop, active, state);
            unit = stop;
        }
        return place;
    }

private:
    static constexpr bool kGrouped = rows == 8;
    static constexpr uint32_t kDim = fixed_lanes ? fixed_lanes * 8 : 64;
    using Single = SoftmaxState<kGrouped ? 1 : rows>;
    using Group = GroupState<kDim>;
    using State = std::conditional_t<kGrouped, Group, Single>;

    const DecodeParams& p;
    const uint32_t lane, warp, threads, position, ratio;
    uint32_t any_lanes,
        element;  // lanes that share a position; the first element of this lane
    __device__ __forceinline__ uint32_t d() const { return fixed_lanes ? fixed_lanes * 8 : p.head_dim; }
    __device__ __forceinline__ uint32_t in_stage() const { return warp - turn_of(warp) * p.stage_units; }
    __device__ __forceinline__ uint32_t lanes() const { return fixed_lanes ? fixed_lanes : any_lanes; }
    float *query, *new_key, *new_value, *scratch;
    const Ring ring;
    RingPlace place;

    // Query heads of this block of heads, and the first of them.
    __device__ __forceinline__ uint32_t first_head(uint32_t head) const {
        const uint32_t kv = head / p.head_blocks;
        return kv * ratio + (head - kv * p.head_blocks) * rows;
    }
    __device__ __forceinline__ uint32_t head_count(uint32_t head) const { return min(rows, ratio - (head % p.head_blocks) * rows); }

    // Queries (rotated, scaled) and, for the block that has the new position, its
    // key and value, which also go to the cache.
    __device__ __forceinline__ void stage(const DecodeLayer& layer, uint32_t head, bool with_new) {
        const uint32_t half_dim = d() / 2, count = head_count(head), q_first = first_head(head), kv = head / p.head_blocks;
        const float scale = p.attention_scale * 1.44269504088896f;  // softmax is in powers of two
        const uint64_t cache = (static_cast<uint64_t>(kv) * p.kv_positions + position) * d();
        const bool keep = with_new && head == kv * p.head_blocks;
#pragma unroll 1
        for (uint32_t n = threadIdx.x; n < (rows + (with_new ? 2 : 0)) * half_dim; n += threads) {
            const uint32_t row = n / half_dim, i = n - row * half_dim;
            const float c = shared().rotation[i], s = shared().rotation[half_dim + i];
            if (row < rows) {
                float a = 0, b = 0;
                if (row < count) {
                    const uint2* v = sums_of(layer.q_job) + layer.q_row + (q_first + row) * d() + i;
                    const float x = get_tagged(v), y = get_tagged(v + half_dim);
                    a = (x * c - y * s) * scale;
                    b = (y * c + x * s) * scale;
                }
                query[row * d() + i] = a;
                query[row * d() + half_dim + i] = b;
                continue;
            }
            const bool is_key = row == rows;
            const uint2* v = sums_of(is_key ? layer.k_job : layer.v_job) + (is_key ? layer.k_row : layer.v_row) + kv * d() + i;
            const float x = get_tagged(v), y = get_tagged(v + half_dim);
            const half a = to_half(is_key ? x * c - y * s : x), b = to_half(is_key ? y * c + x * s : y);
            float* to = is_key ? new_key : new_value;
            to[i] = __half2float(a);
            to[half_dim + i] = __half2float(b);
            if (keep) {
                uint16_t* out = (is_key ? layer.keys : layer.values) + cache;
                out[i] = __half_as_ushort(a);
                out[half_dim + i] = __half_as_ushort(b);
            }
        }
        meet_warps();
    }

    __device__ __forceinline__ float sum_lanes(float v) const {
        if constexpr (fixed_lanes) {
#pragma unroll
            for (uint32_t m = fixed_lanes / 2; m; m >>= 1) v += __shfl_xor_sync(0xffffffffu, v, m);
        } else {
#pragma unroll 1
            for (uint32_t m = any_lanes / 2; m; m >>= 1) v += __shfl_xor_sync(0xffffffffu, v, m);
        }
        return v;
    }

    // Adds `many` positions with scores s and values v (of which those with a
    // score of kLowest count nothing).
    template <uint32_t many>
    static __device__ __forceinline__ void see_scores(Single& state, float (&s)[rows][many]) {
#pragma unroll
        for (uint32_t h = 0; h < rows; h++) {
            float largest = state.largest[h];
#pragma unroll
            for (uint32_t j = 0; j < many; j++) largest = fmaxf(largest, s[h][j]);
            const float shrink = exp2f(state.largest[h] - largest);
            state.largest[h] = largest;
            float sum = state.sum[h] * shrink;
#pragma unroll
            for (uint32_t j = 0; j < many; j++) {
                s[h][j] = s[h][j] > kLowest ? exp2f(s[h][j] - largest) : 0.0f;
                sum += s[h][j];
            }
            state.sum[h] = sum;
#pragma unroll
            for (uint32_t e = 0; e < 8; e++) state.out[h][e] *= shrink;
        }
    }

    // The new position, by the first group of lanes.
    __device__ __forceinline__ void see_new(Single& state) const {
        float k[8], v[8], s[rows][1];
        const bool active = element < d(), counts = lane < lanes();
#pragma unroll
        for (uint32_t e = 0; e < 8; e++) {
            k[e] = active ? new_key[element + e] : 0.0f;
            v[e] = active ? new_value[element + e] : 0.0f;
        }
#pragma unroll
        for (uint32_t h = 0; h < rows; h++) {
            const float score = sum_lanes(active ? dot8(query + h * d() + element, k) : 0.0f);
            s[h][0] = counts ? score : kLowest;
        }
        see_scores<1>(state, s);
#pragma unroll
        for (uint32_t h = 0; h < rows; h++)
#pragma unroll
            for (uint32_t e = 0; e < 8; e++) state.out[h][e] += s[h][0] * v[e];
    }

    // n positions: keys in this stage of the ring, values in the next.
    __device__ __forceinline__ void see_cached(Single& state, uint32_t n, const RingPlace& value_place) const {
        constexpr uint32_t kMany = rows == 4 ? 2 : 4;  // positions a group of lanes takes at a time
        const uint32_t at = in_stage() * p.kv_unit * d() * 2, keys = ring.at(place.stage) + at, values = ring.at(value_place.stage) + at;
        const uint32_t group = lane / lanes(), at_once = 32 / lanes();
        const bool active = element < d();
#pragma unroll 1
        for (uint32_t first = group; first - group < n; first += kMany * at_once) {
            float s[rows][kMany];
#pragma unroll
            for (uint32_t j = 0; j < kMany; j++) {
                const uint32_t i = first + j * at_once;
                const bool counts = i < n;
                float k[8];
                uint4 bits = {0, 0, 0, 0};
                if (counts && active) bits = load_shared_16(keys + (i * d() + element) * 2);
                halves_to_floats(bits, k);
#pragma unroll
                for (uint32_t h = 0; h < rows; h++) {
                    const float score = sum_lanes(active ? dot8(query + h * d() + element, k) : 0.0f);
                    s[h][j] = counts ? score : kLowest;
                }
            }
            see_scores<kMany>(state, s);
#pragma unroll
            for (uint32_t j = 0; j < kMany; j++) {
                const uint32_t i = first + j * at_once;
                float v[8];
                uint4 bits = {0, 0, 0, 0};
                if (i < n && active) bits = load_shared_16(values + (i * d() + element) * 2);
                halves_to_floats(bits, v);
#pragma unroll
                for (uint32_t h = 0; h < rows; h++)
#pragma unroll
                    for (uint32_t e = 0; e < 8; e++) state.out[h][e] += s[h][j] * v[e];
            }
        }
    }

    // One state of the warp's groups of lanes; all groups end with the same.
    __device__ __forceinline__ void merge_lanes(Single& state) const {
#pragma unroll 1
        for (uint32_t m = lanes(); m < 32; m *= 2) {
#pragma unroll
            for (uint32_t h = 0; h < rows; h++) {
                const float other = __shfl_xor_sync(0xffffffffu, state.largest[h], m), largest = fmaxf(other, state.largest[h]);
                const float shrink = exp2f(state.largest[h] - largest), shrink_other = exp2f(other - largest);
                // Both sides add the lower group's share first, so that they agree.
                const bool upper = lane & m;
                const float sum = __shfl_xor_sync(0xffffffffu, state.sum[h], m);
                const float a = state.sum[h] * shrink, b = sum * shrink_other;
                state.sum[h] = upper ? b + a : a + b;
#pragma unroll
                for (uint32_t e = 0; e < 8; e++) {
                    const float o = __shfl_xor_sync(0xffffffffu, state.out[h][e], m);
                    state.out[h][e] = state.out[h][e] * shrink + o * shrink_other;
                }
                state.largest[h] = largest;
            }
        }
    }

    // ---- eight heads on tensor cores

    // Of head g: elements 8 (4 i + t) .. + 8. (Elements may be multiplied in any order: in this one a lane reads 16 bytes of a key.)
    uint4 queries[kGrouped ? kDim / 32 : 1];
    static __device__ __forceinline__ uint4 eight_halves(const float* v) {
        const float4 a = *reinterpret_cast<const float4*>(v), b = *reinterpret_cast<const float4*>(v + 4);
        return {to_half2_bits(a.x, a.y), to_half2_bits(a.z, a.w), to_half2_bits(b.x, b.y), to_half2_bits(b.z, b.w)};
    }
    __device__ __forceinline__ void load_queries() {
        if constexpr (kGrouped)
            unrolled<kDim / 32>([&](auto i) { queries[i] = eight_halves(query + lane / 4 * kDim + 8 * (4 * i + lane % 4)); });
    }

    // 16 positions, of which the first n count. key(i, r): 8 elements from 8 (4 i + t) on of position g + r; value(c, r): from
    // 8 (g + 8 c) on of position 2 t + r, from byte `at` on (64 dimensions: only two).
    template <typename Key, typename Value>
    __device__ __forceinline__ void see_tile(Group& state, uint32_t n, Key&& key, Value&& value) const {
        const uint32_t g = lane / 4;
        float s[4] = {};
        unrolled<kDim / 32>([&](auto i) {
            const uint4 a = key(i, 0), b = key(i, 8), q = queries[i];
            mma_m16n8k16(s, a.x, b.x, a.y, b.y, q.x, q.y);
            mma_m16n8k16(s, a.z, b.z, a.w, b.w, q.z, q.w);
        });
        float shrink[2];
        unrolled<2>([&](auto j) {
            if (g >= n) s[j] = kLowest;
            if (g + 8 >= n) s[2 + j] = kLowest;
            float largest = fmaxf(s[j], s[2 + j]);
            unrolled<3>([&](auto m) { largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 4 << m)); });
            largest = fmaxf(largest, state.largest[j]);
            shrink[j] = exp2f(state.largest[j] - largest);
            state.largest[j] = largest;
            s[j] = g < n ? exp2f(s[j] - largest) : 0.0f;
            s[2 + j] = g + 8 < n ? exp2f(s[2 + j] - largest) : 0.0f;
            state.sum[j] = state.sum[j] * shrink[j] + (s[j] + s[2 + j]);
        });
        const uint32_t low = transpose(to_half2_bits(s[0], s[1])), high = transpose(to_half2_bits(s[2], s[3]));
        // A tile's rows: dimension 8 g + e, and of 128 also 64 + 8 g + e, of 64 also 8 g + e + 4.
        unrolled<2>([&](auto part) {  // e from 4 * part on of 128 dimensions, 2 * part of 64: half of the registers at a time
            constexpr bool wide = kDim == 128;
            constexpr uint32_t at = decltype(part)::value;
            uint2 a[4], b[4];  // of positions 2 t + {0, 1, 8, 9}
            unrolled<4>([&](auto r) {
                a[r] = value(0, r % 2 + r / 2 * 8, wide ? at * 8 : at * 4);
                b[r] = value(wide ? 1 : 0, r % 2 + r / 2 * 8, wide ? at * 8 : 8 + at * 4);
            });
            unrolled<Group::kTiles / 2>([&](auto i) {
                constexpr uint32_t e = decltype(i)::value;
                const auto pair = [&](const uint2& x, const uint2& y) {
                    return __byte_perm(e / 2 ? x.y : x.x, e / 2 ? y.y : y.x, e % 2 ? 0x7632 : 0x5410);
                };
                float(&out)[4] = state.out[at * (Group::kTiles / 2) + e];
                out[0] *= shrink[0], out[2] *= shrink[0], out[1] *= shrink[1], out[3] *= shrink[1];
                mma_m16n8k16(out, pair(a[0], a[1]), pair(b[0], b[1]), pair(a[2], a[3]), pair(b[2], b[3]), low, high);
            });
        });
    }
    __device__ __forceinline__ void see_new(Group& state) const {
        const uint4 none = {0, 0, 0, 0};
        see_tile(
            state, 1, [&](uint32_t i, uint32_t r) { return lane / 4 + r == 0 ? eight_halves(new_key + 8 * (4 * i + lane % 4)) : none; },
            [&](uint32_t c, uint32_t r, uint32_t at) {
                const float4 v = *reinterpret_cast<const float4*>(new_value + 8 * (lane / 4 + 8 * c) + at / 8 * 4);
                const uint2 first = {to_half2_bits(v.x, v.y), to_half2_bits(v.z, v.w)};
                const bool counts = lane % 4 + r == 0;
                return uint2{counts ? at % 8 ? first.y : first.x : 0, counts ? first.y : 0};
            });
    }
    __device__ __forceinline__ void see_cached(Group& state, uint32_t n, const RingPlace& value_place) const {
        const uint32_t at = in_stage() * p.kv_unit * kDim * 2, keys = ring.at(place.stage) + at + lane % 4 * 16,
                       values = ring.at(value_place.stage) + at + lane / 4 * 16;
#pragma unroll 1
        for (uint32_t first = 0; first < n; first += 16) {
            see_tile(
                state, n - first, [&](uint32_t i, uint32_t r) { return load_shared_16(keys + (first + lane / 4 + r) * kDim * 2 + i * 64); },
                [&](uint32_t c, uint32_t r, uint32_t at) {  // what no position has may be no number
                    const uint32_t position = first + lane % 4 * 2 + r, from = values + position * kDim * 2 + c * 128 + at;
                    uint2 v = {0, 0};
                    if (position >= n) return v;
                    if constexpr (kDim == 128) {
                        v = load_shared_8(from);
                    } else {
                        v.x = load_shared_4(from);
                    }
                    return v;
                });
        }
    }
    __device__ __forceinline__ void merge_lanes(Group& state) const {
        unrolled<2>([&](auto j) { unrolled<3>([&](auto m) { state.sum[j] += __shfl_xor_sync(0xffffffffu, state.sum[j], 4 << m); }); });
    }

    // This warp's results of heads [begin, end), `line` numbers each.
    __device__ __forceinline__ void put_state(float* to, uint32_t line, uint32_t begin, uint32_t end, const Group& state) const {
        const uint32_t g = lane / 4;
        unrolled<2>([&](auto j) {
            const uint32_t h = lane % 4 * 2 + j;
            if (h < begin || h >= end) return;
            float* at = to + (h - begin) * line;
            if (g == 0) at[0] = state.largest[j], at[1] = state.sum[j];
            unrolled<Group::kTiles>([&](auto e) {
                at[2 + Group::first(e, g)] = state.out[e][j];
                at[2 + Group::second(e, g)] = state.out[e][2 + j];
            });
        });
    }
    __device__ __forceinline__ void put_state(float* to, uint32_t line, uint32_t begin, uint32_t end, const Single& state) const {
#pragma unroll
        for (uint32_t h = 0; h < (kGrouped ? 1 : rows); h++) {
            if (h < begin || h >= end) continue;
            float* at = to + (h - begin) * line;
            if (lane == 0) at[0] = state.largest[h], at[1] = state.sum[h];
            if (lane < lanes() && element < d())
#pragma unroll
                for (uint32_t e = 0; e < 8; e++) at[2 + element + e] = state.out[h][e];
        }
    }

    // All warps' states of units [unit, stop) of `head`: to the output if that is
    // the whole head, else to be combined with other blocks'.
    __device__ __forceinline__ void combine(const DecodeLayer& layer, const KvCut& cut, uint32_t head, uint32_t unit, uint32_t stop,
                                            uint32_t active, const State& state) const {
        const uint32_t count = head_count(head), line = d() + 2;
        const uint32_t at_a_time = rows == 1 ? 1 : min(count, p.combined / active);
        const bool begins = unit == head * cut.per_head, whole = begins && stop == (head + 1) * cut.per_head;
        float* partial = reinterpret_cast<float*>(workspace(p.at_partials)) + (blockIdx.x * 2 + (begins ? 1 : 0)) * rows * line;
#pragma unroll 1
        for (uint32_t h0 = 0; h0 < count; h0 += at_a_time) {
            meet_warps();
            if (warp < active) put_state(scratch + warp * at_a_time * line, line, h0, min(h0 + at_a_time, count), state);
            meet_warps();
            const uint32_t now = min(at_a_time, count - h0);
#pragma unroll 1
            for (uint32_t n = threadIdx.x; n < now * d(); n += threads) {
                const uint32_t h = n / d(), e = n - h * d();
                float largest = kLowest, sum = 0, out = 0;
#pragma unroll 4
                for (uint32_t w = 0; w < active; w++) largest = fmaxf(largest, scratch[(w * at_a_time + h) * line]);
#pragma unroll 4
                for (uint32_t w = 0; w < active; w++) {
                    const float* from = scratch + (w * at_a_time + h) * line;
                    const float weight = exp2f(from[0] - largest);
                    sum += weight * from[1];
                    out += weight * from[2 + e];
                }
                if (whole) {
                    put(layer, (first_head(head) + h0 + h) * d() + e, out / sum);
                } else {
                    float* to = partial + (h0 + h) * line;
                    to[2 + e] = out;
                    if (e == 0) to[0] = largest, to[1] = sum;
                }
            }
        }
        meet_warps();
        if (!whole) combine_blocks(layer, cut, head, count);
    }

    __device__ __forceinline__ void put(const DecodeLayer& layer, uint32_t i, float v) const {
        const uint32_t* inverse = layer.jobs[kJobO].inverse;
        put_tagged(attention_out() + (inverse ? inverse[i] : i), v);
    }

    // The last block to come here adds all blocks' parts of the head.
    __device__ __forceinline__ void combine_blocks(const DecodeLayer& layer, const KvCut& cut, uint32_t head, uint32_t count) const {
        uint32_t* counter = reinterpret_cast<uint32_t*>(workspace(p.at_counters + 256)) + head;
        const uint32_t first = kv_owner(cut, head * cut.per_head), last = kv_owner(cut, (head + 1) * cut.per_head - 1);
        if (threadIdx.x == 0) {
            const bool is_last = add_acquire_release(counter, 1) == last - first;
            if (is_last) *counter = 0;
            shared().is_last = is_last;
        }
        meet_warps();
        const bool is_last = shared().is_last;
        meet_warps();
        if (!is_last) return;
        // Largest scores and sums of all blocks into shared memory, then the
        // outputs, several loads at a time.
        const uint32_t line = d() + 2, blocks = last + 1 - first;
        const float* partials = reinterpret_cast<const float*>(workspace(p.at_partials));
        auto partial_of = [&](uint32_t b, uint32_t h) { return partials + (((first + b) * 2 + (b == 0 ? 1 : 0)) * rows + h) * line; };
        float2* ends = reinterpret_cast<float2*>(shared_bytes() + p.shared_input);
#pragma unroll 1
        for (uint32_t n = threadIdx.x; n < blocks * rows; n += threads) {
            const float* from = partial_of(n / rows, n % rows);
            if (n % rows < count) ends[n] = {load_coherent(from), load_coherent(from + 1)};
        }
        meet_warps();
#pragma unroll 1
        for (uint32_t n = threadIdx.x; n < count * d(); n += threads) {
            const uint32_t h = n / d(), e = n - h * d();
            float largest = kLowest, sum = 0, out = 0;
#pragma unroll 1
            for (uint32_t b = 0; b < blocks; b++) largest = fmaxf(largest, ends[b * rows + h].x);
#pragma unroll 1
            for (uint32_t b0 = 0; b0 < blocks; b0 += 8) {
                float v[8];
#pragma unroll
                for (uint32_t i = 0; i < 8; i++) v[i] = b0 + i < blocks ? load_coherent(partial_of(b0 + i, h) + 2 + e) : 0.0f;
#pragma unroll
                for (uint32_t i = 0; i < 8; i++) {
                    if (b0 + i >= blocks) break;
                    const float2 end = ends[(b0 + i) * rows + h];
                    const float weight = exp2f(end.x - largest);
                    sum += weight * end.y;
                    out += weight * v[i];
                }
            }
            put(layer, (first_head(head) + h) * d() + e, out / sum);
        }
        meet_warps();
    }
};

template <uint32_t rows, uint32_t fixed_lanes>
__device__ __noinline__ RingPlace attend_with(uint32_t l, RingPlace place) {
    return Attention<rows, fixed_lanes>().run(l, place);
}

template <bool grouped>
__device__ __forceinline__ RingPlace attend(uint32_t l, RingPlace place) {
    const DecodeParams& p = shared().params;
    if (threadIdx.x == 0) *static_cast<volatile uint32_t*>(&shared().at_work) = l * 8 + kJobO - 1;
    if (shared().cut_window != layer_of(l).window) {  // one for all layers, in most models
        meet_warps();
        if (threadIdx.x == 0) {
            shared().cut = make_kv_cut(layer_of(l).window);
            shared().cut_window = layer_of(l).window;
        }
        meet_warps();
    }
    if constexpr (grouped) {
        place = p.head_dim == 128 ? attend_with<8, 16>(l, place) : attend_with<8, 8>(l, place);
    } else if (p.head_rows == 4) {
        place = attend_with<4, 0>(l, place);
    } else {
        place = p.head_dim == 128 ? attend_with<1, 16>(l, place) : attend_with<1, 0>(l, place);
    }
    trace();
    return place;
}

}  // namespace pith::cuda
