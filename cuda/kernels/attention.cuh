// What the attention kernels have in common: which rows and keys a block has, masks, the running softmax, where results go.
#pragma once
#include "attention.h"
#include "device.cuh"

namespace pith::cuda {
namespace {

inline constexpr float kLog2E = 1.44269504088896340736f;

__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// What the rows of a block's tile are, and which keys it looks at.
struct Tile {
    uint32_t index, kv_head, group;
    uint32_t first;               // position of token 0
    uint32_t row, rows;           // first row; rows of all tiles
    uint32_t key_begin, key_end;  // tiles of keys
    uint32_t parts;               // blocks that share the tile's keys
    bool valid;
};

// The tile `index` of a kv head, and which of its keys part `part` has.
__device__ __forceinline__ Tile find_tile(const AttentionParams& p, uint32_t rows, uint32_t keys, uint32_t index, uint32_t kv_head,
                                          uint32_t part) {
    Tile t;
    t.index = index;
    t.kv_head = kv_head;
    t.group = p.heads / p.kv_heads;
    t.first = *p.first;
    t.rows = (p.count ? min(*p.count, p.tokens) : p.tokens) * t.group;
    t.row = t.index * rows;
    t.valid = t.row < t.rows;
    if (!t.valid) return t;
    const uint32_t oldest = t.first + t.row / t.group, newest = t.first + (min(t.row + rows, t.rows) - 1) / t.group;
    const uint32_t begin = (p.window && oldest + 1 > p.window ? oldest + 1 - p.window : 0) / keys, end = newest / keys + 1;
    t.parts = min(p.splits, end - begin);
    t.valid = part < t.parts;
    t.key_begin = begin + static_cast<uint32_t>(uint64_t{end - begin} * part / t.parts);
    t.key_end = begin + static_cast<uint32_t>(uint64_t{end - begin} * (part + 1) / t.parts);
    return t;
}
// This block's. The last tokens see most keys: the longest blocks come first, of as many kv heads after each other as have their keys and
// values in L2 meanwhile.
__device__ __forceinline__ Tile find_tile(const AttentionParams& p, uint32_t rows, uint32_t keys) {
    constexpr uint64_t kNear = 26 << 20;  // bytes; of the 50 MB that an H100 has and others have more or less of
    const uint64_t bytes = (uint64_t{*p.first} + p.tokens) * p.head_dim * 4 * p.kv_heads;
    const uint32_t passes = min(static_cast<uint32_t>(min((bytes + kNear - 1) / kNear, uint64_t{1024})), p.kv_heads);
    const uint32_t most = (p.kv_heads + passes - 1) / passes, before = blockIdx.x / (p.tiles * most) * most;
    const uint32_t at = blockIdx.x - before * p.tiles, heads = min(most, p.kv_heads - before);
    return find_tile(p, rows, keys, p.tiles - 1 - at / heads, before + at % heads, blockIdx.y);
}

// The A fragments of a warp's 16 rows.
template <int kWidth>
__device__ __forceinline__ void load_queries(const AttentionParams& p, const Tile& t, uint32_t warp_row, uint32_t (&q)[kWidth / 16][4]) {
    const uint32_t g = lane_id() / 4, pair = lane_id() % 4 * 2;
#pragma unroll
    for (int side = 0; side < 2; side++) {
        const uint32_t row = t.row + warp_row + g + side * 8;
        const bool in = row < t.rows;
        const uint16_t* at =
            p.q + uint64_t{in ? row / t.group : 0} * p.q_stride + uint64_t{t.kv_head * t.group + row % t.group} * p.head_dim;
#pragma unroll
        for (int j = 0; j < kWidth / 8; j++) {
            const uint32_t c = j * 8 + pair;
            q[j / 2][side + j % 2 * 2] = in && j * 8 < p.head_dim ? *reinterpret_cast<const uint32_t*>(at + c) : 0;
        }
    }
}

// Takes away what a row must not see. position: of the rows' queries; key: of s[0][0] of this lane.
template <int kCount>
__device__ __forceinline__ void mask(const uint32_t (&position)[2], uint32_t window, uint32_t key, float (&s)[kCount / 8][4]) {
#pragma unroll
    for (int n = 0; n < kCount / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t at = key + n * 8 + (i & 1), query = position[i >> 1];
            if (at > query || (window && query - at >= window)) s[n][i] = -INFINITY;
        }
    }
}

// Scores become weights 2^(s scale - max), and `keep` what earlier sums are to be multiplied by. The sum is this lane's part of it.
template <int kCount>
__device__ __forceinline__ void soften(float scale, float (&s)[kCount / 8][4], float (&max)[2], float (&sum)[2], float (&keep)[2]) {
#pragma unroll
    for (int side = 0; side < 2; side++) {
        float top = max[side];
#pragma unroll
        for (int n = 0; n < kCount / 8; n++) top = fmaxf(top, fmaxf(s[n][side * 2], s[n][side * 2 + 1]));
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
        const float base = top == -INFINITY ? 0 : top * scale;
        keep[side] = exp2_fast(max[side] * scale - base);
        max[side] = top;
        float total = 0;
#pragma unroll
        for (int n = 0; n < kCount / 8; n++) {
#pragma unroll
            for (int i = side * 2; i < side * 2 + 2; i++) {
                s[n][i] = exp2_fast(s[n][i] * scale - base);
                total += s[n][i];
            }
        }
        sum[side] = sum[side] * keep[side] + total;
    }
}

template <int kWidth>
__device__ __forceinline__ void rescale(const float (&keep)[2], float (&o)[kWidth / 8][4]) {
#pragma unroll
    for (int n = 0; n < kWidth / 8; n++) {
        o[n][0] *= keep[0], o[n][1] *= keep[0];
        o[n][2] *= keep[1], o[n][3] *= keep[1];
    }
}

// Four neighbouring columns of a row's result.
__device__ __forceinline__ void write_four(const AttentionParams& p, const Tile& t, uint32_t row, uint32_t c, float4 x) {
    if (c >= p.head_dim) return;
    uint16_t* out = p.out + uint64_t{row / t.group} * p.out_stride;
    const uint32_t column = (t.kv_head * t.group + row % t.group) * p.head_dim + c;
    const uint2 four = make_uint2(to_half2_bits(x.x, x.y), to_half2_bits(x.z, x.w));
    if (p.inverse) {
        const uint4 to = *reinterpret_cast<const uint4*>(p.inverse + column);
        out[to.x] = four.x, out[to.y] = four.x >> 16, out[to.z] = four.y, out[to.w] = four.y >> 16;
    } else {
        *reinterpret_cast<uint2*>(out + column) = four;
    }
}

// A warp's 16 rows, by way of 2 KiB of shared memory, so that they leave 16 bytes a lane. row: the warp's first.
template <int kWidth>
__device__ __forceinline__ void write_rows(const AttentionParams& p, const Tile& t, uint32_t row, const float (&o)[kWidth / 8][4],
                                           const float (&factor)[2], uint16_t* stage) {
    const uint32_t lane = lane_id(), g = lane / 4, pair = lane % 4 * 2, rows = row < t.rows ? min(16u, t.rows - row) : 0;
#pragma unroll
    for (int begin = 0; begin < kWidth; begin += 64) {
#pragma unroll
        for (int n = 0; n < 8 && begin + n * 8 < kWidth; n++) {
#pragma unroll
            for (int side = 0; side < 2; side++)
                *reinterpret_cast<uint32_t*>(stage + (g + side * 8) * 64 + (n ^ g) * 8 + pair) =
                    to_half2_bits(o[begin / 8 + n][side * 2] * factor[side], o[begin / 8 + n][side * 2 + 1] * factor[side]);
        }
        __syncwarp();
#pragma unroll 1
        for (uint32_t i = lane; i < rows * 8; i += 32) {
            const uint32_t r = row + i / 8, chunk = i % 8, c = begin + chunk * 8;
            if (c >= p.head_dim) continue;
            const uint4 eight = *reinterpret_cast<const uint4*>(stage + i / 8 * 64 + (chunk ^ (i / 8 & 7)) * 8);
            uint16_t* out = p.out + uint64_t{r / t.group} * p.out_stride;
            const uint32_t column = (t.kv_head * t.group + r % t.group) * p.head_dim + c;
            if (!p.inverse) {
                *reinterpret_cast<uint4*>(out + column) = eight;
                continue;
            }
            const uint4 low = reinterpret_cast<const uint4*>(p.inverse + column)[0],
                        high = reinterpret_cast<const uint4*>(p.inverse + column)[1];
            out[low.x] = eight.x, out[low.y] = eight.x >> 16, out[low.z] = eight.y, out[low.w] = eight.y >> 16;
            out[high.x] = eight.z, out[high.y] = eight.z >> 16, out[high.z] = eight.w, out[high.w] = eight.w >> 16;
        }
        __syncwarp();
    }
}

__device__ __forceinline__ void write_padding(const AttentionParams& p, const Tile& t, uint32_t rows, uint32_t threads, uint32_t thread) {
    const uint32_t used = p.heads * p.head_dim, padding = p.out_stride - used;
    if (!padding || t.kv_head != p.kv_heads - 1) return;
    const uint32_t begin = (t.row + t.group - 1) / t.group,
                   end = (min(t.row + rows, t.rows) + t.group - 1) / t.group;  // tokens that begin here
    for (uint32_t i = thread; i < (end - begin) * padding; i += threads)
        p.out[uint64_t{begin + i / padding} * p.out_stride + used + i % padding] = 0;
}

}  // namespace
}  // namespace pith::cuda
