// Attention over the cache with mma.sync, for every architecture. A warp holds 16 rows' queries and sums in registers; keys and values pass
// through shared memory in tiles, the next one on its way while one is computed. Tiles of 16 rows give each warp its own keys instead.
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

// Where the 16-byte chunk c of a row lies among the row's: eight rows that ldmatrix reads at once fall into different banks.
template <int kWidth>
__device__ __forceinline__ uint32_t swizzle(uint32_t row, uint32_t c) {
    return kWidth == 80 ? c ^ (row >> 2 & 1) : kWidth == 96 ? c ^ (row >> 1 & 3) : c ^ (row & 7);
}

// What the rows of a block's tile are, and which keys it looks at.
struct Tile {
    uint32_t index, kv_head, group;
    uint32_t first;                // position of token 0
    uint32_t row, rows;            // first row; rows of all tiles
    uint32_t key_begin, key_end;   // tiles of keys
    uint32_t parts;                // blocks that share the tile's keys
    bool valid;
};

template <int kRows, int kKeys>
__device__ __forceinline__ Tile find_tile(const AttentionParams& p) {
    Tile t;
    t.index = p.tiles - 1 - blockIdx.x / p.kv_heads;  // the last tokens see most keys: the longest blocks come first
    t.kv_head = blockIdx.x % p.kv_heads;
    t.group = p.heads / p.kv_heads;
    t.first = *p.first;
    t.rows = (p.count ? min(*p.count, p.tokens) : p.tokens) * t.group;
    t.row = t.index * kRows;
    t.valid = t.row < t.rows;
    if (!t.valid) return t;
    const uint32_t oldest = t.first + t.row / t.group, newest = t.first + (min(t.row + kRows, t.rows) - 1) / t.group;
    const uint32_t begin = (p.window && oldest + 1 > p.window ? oldest + 1 - p.window : 0) / kKeys, end = newest / kKeys + 1;
    t.parts = min(p.splits, end - begin);
    t.valid = blockIdx.y < t.parts;
    t.key_begin = begin + static_cast<uint32_t>(uint64_t{end - begin} * blockIdx.y / t.parts);
    t.key_end = begin + static_cast<uint32_t>(uint64_t{end - begin} * (blockIdx.y + 1) / t.parts);
    return t;
}

// kKeys rows of the cache from position `key` on to shared memory.
template <int kWidth, int kKeys, int kThreads>
__device__ __forceinline__ void load_tile(const AttentionParams& p, const uint16_t* head, uint32_t key, uint32_t shared) {
    constexpr uint32_t kChunks = kWidth / 8;
    const uint16_t* from = head + uint64_t{key} * p.head_dim;
#pragma unroll
    for (uint32_t j = 0; j < (kKeys * kChunks + kThreads - 1) / kThreads; j++) {
        const uint32_t i = threadIdx.x + j * kThreads;
        if (kKeys * kChunks % kThreads && i >= kKeys * kChunks) break;
        const uint32_t row = i / kChunks, c = i % kChunks, to = shared + (row * kChunks + swizzle<kWidth>(row, c)) * 16;
        cp_async_16_zero_fill(to, from + row * p.head_dim + (c * 8 < p.head_dim ? c * 8 : 0), c * 8 < p.head_dim ? 16 : 0);
    }
}

// The sums of one warp: rows g and g + 8 of its 16.
template <int kWidth>
struct Sums {
    float o[kWidth / 8][4];
    float max[2], sum[2];
};

template <int kWidth>
__device__ __forceinline__ void load_queries(const AttentionParams& p, const Tile& t, uint32_t warp_row, uint32_t (&q)[kWidth / 16][4]) {
    const uint32_t g = lane_id() / 4, pair = lane_id() % 4 * 2;
#pragma unroll
    for (int side = 0; side < 2; side++) {
        const uint32_t row = t.row + warp_row + g + side * 8;
        const bool in = row < t.rows;
        const uint16_t* at = p.q + uint64_t{in ? row / t.group : 0} * p.q_stride + uint64_t{t.kv_head * t.group + row % t.group} * p.head_dim;
#pragma unroll
        for (int j = 0; j < kWidth / 8; j++) {
            const uint32_t c = j * 8 + pair;
            q[j / 2][side + j % 2 * 2] = in && j * 8 < p.head_dim ? *reinterpret_cast<const uint32_t*>(at + c) : 0;
        }
    }
}

// Scores of `kCount` keys from row `key_row` of the tile on: q k^T.
template <int kWidth, int kCount>
__device__ __forceinline__ void score(const uint32_t (&q)[kWidth / 16][4], uint32_t keys, uint32_t key_row, float (&s)[kCount / 8][4]) {
    const uint32_t lane = lane_id(), row = key_row + (lane & 7) + (lane >> 4) * 8, half = lane >> 3 & 1;
#pragma unroll
    for (int n = 0; n < kCount / 8; n++) s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0;
#pragma unroll
    for (int k = 0; k < kWidth / 16; k++) {
        const uint32_t at = keys + (row * (kWidth / 8) + swizzle<kWidth>(row, k * 2 + half)) * 16;
#pragma unroll
        for (int n = 0; n < kCount / 16; n++) {
            uint32_t b[4];
            ldmatrix_x4(b, at + n * kWidth * 32);
            mma_m16n8k16(s[2 * n], q[k][0], q[k][1], q[k][2], q[k][3], b[0], b[1]);
            mma_m16n8k16(s[2 * n + 1], q[k][0], q[k][1], q[k][2], q[k][3], b[2], b[3]);
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

// Scores become weights 2^(s scale - max); what was summed so far is brought to the new maximum.
template <int kWidth, int kCount>
__device__ __forceinline__ void soften(float scale, float (&s)[kCount / 8][4], Sums<kWidth>& sums) {
#pragma unroll
    for (int side = 0; side < 2; side++) {
        float max = sums.max[side];
#pragma unroll
        for (int n = 0; n < kCount / 8; n++) max = fmaxf(max, fmaxf(s[n][side * 2], s[n][side * 2 + 1]));
        max = fmaxf(max, __shfl_xor_sync(~0u, max, 1));
        max = fmaxf(max, __shfl_xor_sync(~0u, max, 2));
        const float base = max == -INFINITY ? 0 : max * scale, keep = exp2_fast(sums.max[side] * scale - base);
        float sum = 0;
#pragma unroll
        for (int n = 0; n < kCount / 8; n++) {
#pragma unroll
            for (int i = side * 2; i < side * 2 + 2; i++) {
                s[n][i] = exp2_fast(s[n][i] * scale - base);
                sum += s[n][i];
            }
        }
        sums.max[side] = max;
        sums.sum[side] = sums.sum[side] * keep + sum;
#pragma unroll
        for (int n = 0; n < kWidth / 8; n++) {
            sums.o[n][side * 2] *= keep;
            sums.o[n][side * 2 + 1] *= keep;
        }
    }
}

// o += weights v.
template <int kWidth, int kCount>
__device__ __forceinline__ void mix(const float (&s)[kCount / 8][4], uint32_t values, uint32_t key_row, Sums<kWidth>& sums) {
    const uint32_t lane = lane_id(), row = key_row + (lane & 15), half = lane >> 4;
#pragma unroll
    for (int k = 0; k < kCount / 16; k++) {
        const uint32_t a0 = as_bits(__floats2half2_rn(s[2 * k][0], s[2 * k][1])), a1 = as_bits(__floats2half2_rn(s[2 * k][2], s[2 * k][3]));
        const uint32_t a2 = as_bits(__floats2half2_rn(s[2 * k + 1][0], s[2 * k + 1][1]));
        const uint32_t a3 = as_bits(__floats2half2_rn(s[2 * k + 1][2], s[2 * k + 1][3]));
#pragma unroll
        for (int n = 0; n < kWidth / 16; n++) {
            uint32_t b[4];
            ldmatrix_x4_trans(b, values + (row * (kWidth / 8) + swizzle<kWidth>(row, n * 2 + half)) * 16 + k * kWidth * 32);
            mma_m16n8k16(sums.o[2 * n], a0, a1, a2, a3, b[0], b[1]);
            mma_m16n8k16(sums.o[2 * n + 1], a0, a1, a2, a3, b[2], b[3]);
        }
    }
}

// ---- results -----------------------------------------------------------------------------------------------------------------------------

// Two neighbouring columns of a row's result, and the zeros after a token's last head.
__device__ __forceinline__ void write_pair(const AttentionParams& p, const Tile& t, uint32_t row, uint32_t c, float x, float y) {
    if (c >= p.head_dim) return;
    uint16_t* out = p.out + uint64_t{row / t.group} * p.out_stride;
    const uint32_t column = (t.kv_head * t.group + row % t.group) * p.head_dim + c;
    if (p.inverse) {
        const uint2 to = *reinterpret_cast<const uint2*>(p.inverse + column);
        reinterpret_cast<half*>(out)[to.x] = to_half(x);
        reinterpret_cast<half*>(out)[to.y] = to_half(y);
    } else {
        *reinterpret_cast<uint32_t*>(out + column) = to_half2_bits(x, y);
    }
}

__device__ __forceinline__ void write_padding(const AttentionParams& p, const Tile& t, uint32_t rows, uint32_t threads) {
    const uint32_t used = p.heads * p.head_dim, padding = p.out_stride - used;
    if (!padding || t.kv_head != p.kv_heads - 1) return;
    const uint32_t begin = (t.row + t.group - 1) / t.group, end = (min(t.row + rows, t.rows) + t.group - 1) / t.group;  // tokens that begin here
    for (uint32_t i = threadIdx.x; i < (end - begin) * padding; i += threads)
        p.out[uint64_t{begin + i / padding} * p.out_stride + used + i % padding] = 0;
}

// A part's sums in p.partial: kRows rows of kWidth floats; after all parts of all blocks, the (max, sum) of their rows.
template <int kWidth, int kRows>
struct Partial {
    float* o;
    float2* scales;
    __device__ __forceinline__ Partial(const AttentionParams& p, const Tile& t, uint32_t part) {
        const uint64_t blocks = uint64_t{p.tiles} * p.kv_heads, at = (uint64_t{t.index} * p.kv_heads + t.kv_head) * p.splits + part;
        o = p.partial + at * kRows * kWidth;
        scales = reinterpret_cast<float2*>(p.partial + blocks * p.splits * kRows * kWidth) + at * kRows;
    }
};

// The last of a tile's blocks to come puts the parts together.
template <int kWidth, int kRows, int kThreads>
__device__ void combine(const AttentionParams& p, const Tile& t, uint8_t* shared) {
    __shared__ uint32_t last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        uint32_t* arrived = p.arrived + t.index * p.kv_heads + t.kv_head;
        last = add_acquire_release(arrived, 1) == t.parts - 1;
        if (last) *arrived = 0;
        __threadfence();
    }
    __syncthreads();
    if (!last) return;
    const uint32_t rows = min(static_cast<uint32_t>(kRows), t.rows - t.row);
    float* weight = reinterpret_cast<float*>(shared);  // [part][kRows]
    const Partial<kWidth, kRows> parts(p, t, 0);
    for (uint32_t row = threadIdx.x; row < rows; row += kThreads) {
        float max = -INFINITY, sum = 0;
        for (uint32_t i = 0; i < t.parts; i++) max = fmaxf(max, load_coherent(parts.scales + i * kRows + row).x);
        for (uint32_t i = 0; i < t.parts; i++) {
            const float2 scale = load_coherent(parts.scales + i * kRows + row);
            const float w = exp2_fast(scale.x - max);
            weight[i * kRows + row] = w;
            sum += scale.y * w;
        }
        for (uint32_t i = 0; i < t.parts; i++) weight[i * kRows + row] /= sum;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < rows * (kWidth / 4); i += kThreads) {
        const uint32_t row = i / (kWidth / 4), c = i % (kWidth / 4) * 4;
        float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 4
        for (uint32_t part = 0; part < t.parts; part++) {
            const float4 o = load_coherent(reinterpret_cast<const float4*>(parts.o + (uint64_t{part} * kRows + row) * kWidth + c));
            const float w = weight[part * kRows + row];
            sum.x += o.x * w, sum.y += o.y * w, sum.z += o.z * w, sum.w += o.w * w;
        }
        write_pair(p, t, t.row + row, c, sum.x, sum.y);
        write_pair(p, t, t.row + row, c + 2, sum.z, sum.w);
    }
    write_padding(p, t, kRows, kThreads);
}

// Tiles of 16 rows: the warps' sums over their own keys become one, in the warps' order. o and scales are in shared memory.
template <int kWidth, int kKeyWarps>
__device__ __forceinline__ void merge_warps(const AttentionParams& p, const Tile& t, Sums<kWidth>& sums, uint8_t* shared) {
    constexpr uint32_t kThreads = kKeyWarps * 32, kPitch = kWidth + 4;
    float* o = reinterpret_cast<float*>(shared);                                 // [warp][16][kPitch]
    float2* scales = reinterpret_cast<float2*>(o + kKeyWarps * 16 * kPitch);     // [warp][16]
    const uint32_t warp = threadIdx.x / 32, g = lane_id() / 4, pair = lane_id() % 4 * 2;
    __syncthreads();
#pragma unroll
    for (int side = 0; side < 2; side++) {
        const uint32_t row = warp * 16 + g + side * 8;
        if (pair == 0) scales[row] = make_float2(sums.max[side] * p.scale * kLog2E, sums.sum[side]);
#pragma unroll
        for (int n = 0; n < kWidth / 8; n++)
            *reinterpret_cast<float2*>(o + row * kPitch + n * 8 + pair) = make_float2(sums.o[n][side * 2], sums.o[n][side * 2 + 1]);
    }
    __syncthreads();
    const uint32_t rows = min(16u, t.rows - t.row);
    const Partial<kWidth, 16> part(p, t, blockIdx.y);
    for (uint32_t i = threadIdx.x; i < rows * (kWidth / 2); i += kThreads) {
        const uint32_t row = i / (kWidth / 2), c = i % (kWidth / 2) * 2;
        float max = -INFINITY, sum = 0;
        for (int w = 0; w < kKeyWarps; w++) max = fmaxf(max, scales[w * 16 + row].x);
        float2 all = make_float2(0, 0);
        for (int w = 0; w < kKeyWarps; w++) {
            const float2 scale = scales[w * 16 + row];
            const float weight = max == -INFINITY ? 0 : exp2_fast(scale.x - max);
            const float2 at = *reinterpret_cast<const float2*>(o + (w * 16 + row) * kPitch + c);
            all.x += at.x * weight, all.y += at.y * weight, sum += scale.y * weight;
        }
        if (t.parts == 1) {
            write_pair(p, t, t.row + row, c, all.x / sum, all.y / sum);
        } else {
            *reinterpret_cast<float2*>(part.o + row * kWidth + c) = all;
            if (c == 0) part.scales[row] = make_float2(max, sum);
        }
    }
}

template <int kWidth, int kRows>
__device__ __forceinline__ void write_sums(const AttentionParams& p, const Tile& t, uint32_t warp_row, const Sums<kWidth>& sums) {
    const uint32_t g = lane_id() / 4, pair = lane_id() % 4 * 2;
    const Partial<kWidth, kRows> part(p, t, blockIdx.y);
#pragma unroll
    for (int side = 0; side < 2; side++) {
        const uint32_t row = warp_row + g + side * 8;
        if (t.row + row >= t.rows) continue;
        if (t.parts > 1) {
            if (pair == 0) part.scales[row] = make_float2(sums.max[side] * p.scale * kLog2E, sums.sum[side]);
#pragma unroll
            for (int n = 0; n < kWidth / 8; n++)
                *reinterpret_cast<float2*>(part.o + row * kWidth + n * 8 + pair) = make_float2(sums.o[n][side * 2], sums.o[n][side * 2 + 1]);
        } else {
            const float inverse_sum = 1.0f / sums.sum[side];
#pragma unroll
            for (int n = 0; n < kWidth / 8; n++)
                write_pair(p, t, t.row + row, n * 8 + pair, sums.o[n][side * 2] * inverse_sum, sums.o[n][side * 2 + 1] * inverse_sum);
        }
    }
}

// ---- the kernel --------------------------------------------------------------------------------------------------------------------------

// kRowWarps warps of 16 rows each, times kKeyWarps (1, or kRowWarps is 1) that share a tile's keys.
template <int kWidth, int kRowWarps, int kKeyWarps, int kKeys>
__device__ __forceinline__ void attend(const AttentionParams& p) {
    extern __shared__ __align__(128) uint8_t shared[];
    constexpr uint32_t kThreads = kRowWarps * kKeyWarps * 32, kRows = kRowWarps * 16, kCount = kKeys / kKeyWarps;
    constexpr uint32_t kTileBytes = kKeys * kWidth * 2;
    griddep_wait();
    griddep_launch();
    const Tile t = find_tile<kRows, kKeys>(p);
    if (!t.valid) return;
    const uint32_t warp = threadIdx.x / 32, warp_row = warp / kKeyWarps * 16, key_row = warp % kKeyWarps * kCount;
    const uint16_t *k = p.k + uint64_t{t.kv_head} * p.capacity * p.head_dim, *v = p.v + uint64_t{t.kv_head} * p.capacity * p.head_dim;
    const uint32_t base = shared_address(shared);
    const auto load = [&](uint32_t tile) {
        const uint32_t to = base + (tile & 1) * 2 * kTileBytes;
        load_tile<kWidth, kKeys, kThreads>(p, k, tile * kKeys, to);
        load_tile<kWidth, kKeys, kThreads>(p, v, tile * kKeys, to + kTileBytes);
        cp_async_commit();
    };
    load(t.key_begin);
    uint32_t q[kWidth / 16][4];
    load_queries<kWidth>(p, t, warp_row, q);
    Sums<kWidth> sums = {};
    sums.max[0] = sums.max[1] = -INFINITY;
    const uint32_t row = min(t.row + warp_row + lane_id() / 4, t.rows - 1), row8 = min(t.row + warp_row + lane_id() / 4 + 8, t.rows - 1);
    const uint32_t position[2] = {t.first + row / t.group, t.first + row8 / t.group};
    const uint32_t oldest = t.first + min(t.row + warp_row, t.rows - 1) / t.group, newest = t.first + min(t.row + warp_row + 15, t.rows - 1) / t.group;
    const bool busy = t.row + warp_row < t.rows;
    const float scale = p.scale * kLog2E;
    for (uint32_t tile = t.key_begin; tile < t.key_end; tile++) {
        cp_async_wait<0>();
        __syncthreads();
        if (tile + 1 < t.key_end) load(tile + 1);
        const uint32_t key = tile * kKeys + key_row, at = base + (tile & 1) * 2 * kTileBytes;
        if (!busy || key > newest) continue;
        float s[kCount / 8][4];
        score<kWidth, kCount>(q, at, key_row, s);
        if (key + kCount - 1 > oldest || (p.window && newest - key >= p.window)) mask<kCount>(position, p.window, key + lane_id() % 4 * 2, s);
        soften<kWidth, kCount>(scale, s, sums);
        mix<kWidth, kCount>(s, at + kTileBytes, key_row, sums);
    }
#pragma unroll
    for (int side = 0; side < 2; side++) {
        sums.sum[side] += __shfl_xor_sync(~0u, sums.sum[side], 1);
        sums.sum[side] += __shfl_xor_sync(~0u, sums.sum[side], 2);
    }
    if constexpr (kKeyWarps > 1) {
        merge_warps<kWidth, kKeyWarps>(p, t, sums, shared);
    } else {
        write_sums<kWidth, kRows>(p, t, warp_row, sums);
    }
    if (t.parts > 1) {
        combine<kWidth, kRows, kThreads>(p, t, shared);
    } else {
        write_padding(p, t, kRows, kThreads);
    }
}

}  // namespace

#define PITH_ATTENTION(name, width, row_warps, key_warps, keys)                                            \
    extern "C" __global__ void __launch_bounds__((row_warps) * (key_warps) * 32) name(AttentionParams p) { \
        attend<width, row_warps, key_warps, keys>(p);                                                      \
    }
#define PITH_ATTENTION_WIDTH(width, suffix, small, keys)                                                              \
    static_assert(attention_keys(width, small) == keys && attention_key_warps(width, small) == keys / 16, "the plan's"); \
    PITH_ATTENTION(attention_rows16_##width##suffix, width, 1, keys / 16, keys)                                       \
    PITH_ATTENTION(attention_rows64_##width##suffix, width, 4, 1, keys)                                               \
    PITH_ATTENTION(attention_rows128_##width##suffix, width, 8, 1, keys)

PITH_ATTENTION_WIDTH(64, , false, 64)
PITH_ATTENTION_WIDTH(80, , false, 64)
PITH_ATTENTION_WIDTH(96, , false, 64)
PITH_ATTENTION_WIDTH(128, , false, 64)
PITH_ATTENTION_WIDTH(256, , false, 32)
PITH_ATTENTION_WIDTH(128, _small, true, 32)
PITH_ATTENTION_WIDTH(256, _small, true, 16)

}  // namespace pith::cuda
