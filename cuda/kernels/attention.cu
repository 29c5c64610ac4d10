// Attention over the cache with mma.sync, for every architecture. A warp holds 16 rows' queries and sums in registers; keys and values pass
// through shared memory in tiles, the next one on its way while one is computed. Tiles of 16 rows give each warp its own keys instead.
#include "attention.cuh"

namespace pith::cuda {
namespace {

// Where the 16-byte chunk c of a row lies among the row's: eight rows that ldmatrix reads at once fall into different banks.
template <int kWidth>
__device__ __forceinline__ uint32_t swizzle(uint32_t row, uint32_t c) {
    return kWidth == 80 ? c ^ (row >> 2 & 1) : kWidth == 96 ? c ^ (row >> 1 & 3) : c ^ (row & 7);
}

// 16 bytes, or zeros for columns that a head does not have.
__device__ __forceinline__ void load_chunk(uint32_t shared, const uint16_t* from, bool in) {
    if (kHasCpAsync || !in) {
        cp_async_16_zero_fill(shared, from, in ? 16 : 0);
    } else {
        cp_async_16(shared, from);
    }
}

// kKeys rows of the cache from `from` on to shared memory.
template <int kWidth, int kKeys, int kThreads>
__device__ __forceinline__ void load_tile(const uint16_t* from, uint32_t head_dim, uint32_t shared) {
    constexpr uint32_t kChunks = kWidth / 8, kLoads = (kKeys * kChunks + kThreads - 1) / kThreads;
    if constexpr (kThreads % kChunks == 0 && kLoads * kThreads == kKeys * kChunks) {  // a thread stays in its column
        constexpr uint32_t kStep = kThreads / kChunks;
        const uint32_t row = threadIdx.x / kChunks, c = threadIdx.x % kChunks;
        const bool in = c * 8 < head_dim;
        const uint16_t* at = from + row * head_dim + (in ? c * 8 : 0);
#pragma unroll
        for (uint32_t j = 0; j < kLoads; j++) {
            load_chunk(shared + ((row + j * kStep) * kChunks + swizzle<kWidth>(row + j * kStep, c)) * 16, at, in);
            at += kStep * head_dim;
        }
    } else {
#pragma unroll
        for (uint32_t j = 0; j < kLoads; j++) {
            const uint32_t i = threadIdx.x + j * kThreads, row = i / kChunks, c = i % kChunks;
            if (kKeys * kChunks % kThreads && i >= kKeys * kChunks) break;
            const bool in = c * 8 < head_dim;
            load_chunk(shared + (row * kChunks + swizzle<kWidth>(row, c)) * 16, from + row * head_dim + (in ? c * 8 : 0), in);
        }
    }
}

// The sums of one warp: rows g and g + 8 of its 16.
template <int kWidth>
struct Sums {
    float o[kWidth / 8][4];
    float max[2], sum[2];
};

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

// ---- results
// -----------------------------------------------------------------------------------------------------------------------------

// A part's sums in p.partial: p.rows rows of p.width floats; after all parts of all tiles, the (max, sum) of their rows.
struct Partial {
    float* o;
    float2* scales;
    __device__ __forceinline__ Partial(const AttentionParams& p, const Tile& t, uint32_t part) {
        const uint64_t tiles = uint64_t{p.tiles} * p.kv_heads, at = (uint64_t{t.index} * p.kv_heads + t.kv_head) * p.splits + part;
        o = p.partial + at * p.rows * p.width;
        scales = reinterpret_cast<float2*>(p.partial + tiles * p.splits * p.rows * p.width) + at * p.rows;
    }
};

// The sums of warps with keys of their own become one, in the warps' order.
template <int kWidth, int kRowWarps, int kKeyWarps>
__device__ __forceinline__ void merge_warps(const AttentionParams& p, const Tile& t, Sums<kWidth>& sums, uint8_t* shared) {
    constexpr uint32_t kRows = kRowWarps * 16, kThreads = kRowWarps * kKeyWarps * 32, kPitch = kWidth + 4;
    float* o = reinterpret_cast<float*>(shared);                                 // [key warp][kRows][kPitch]
    float2* scales = reinterpret_cast<float2*>(o + kKeyWarps * kRows * kPitch);  // [key warp][kRows]
    const uint32_t warp = threadIdx.x / 32, g = lane_id() / 4, pair = lane_id() % 4 * 2;
    __syncthreads();
#pragma unroll
    for (int side = 0; side < 2; side++) {
        const uint32_t row = warp % kKeyWarps * kRows + warp / kKeyWarps * 16 + g + side * 8;
        if (pair == 0) scales[row] = make_float2(sums.max[side] * p.scale * kLog2E, sums.sum[side]);
#pragma unroll
        for (int n = 0; n < kWidth / 8; n++)
            *reinterpret_cast<float2*>(o + row * kPitch + n * 8 + pair) = make_float2(sums.o[n][side * 2], sums.o[n][side * 2 + 1]);
    }
    __syncthreads();
    const uint32_t rows = min(kRows, t.rows - t.row);
    const Partial part(p, t, blockIdx.y);
#pragma unroll 2
    for (uint32_t row = warp; row < rows; row += kThreads / 32) {
        float max = -INFINITY, sum = 0, weight[kKeyWarps];
#pragma unroll
        for (int w = 0; w < kKeyWarps; w++) max = fmaxf(max, scales[w * kRows + row].x);
#pragma unroll
        for (int w = 0; w < kKeyWarps; w++) {
            weight[w] = max == -INFINITY ? 0 : exp2_fast(scales[w * kRows + row].x - max);
            sum += scales[w * kRows + row].y * weight[w];
        }
        const float factor = t.parts == 1 ? 1 / sum : 1;
        for (uint32_t c = lane_id() * 4; c < kWidth; c += 128) {
            float4 all = make_float4(0, 0, 0, 0);
#pragma unroll
            for (int w = 0; w < kKeyWarps; w++) {
                const float4 at = *reinterpret_cast<const float4*>(o + (w * kRows + row) * kPitch + c);
                all.x += at.x * weight[w], all.y += at.y * weight[w], all.z += at.z * weight[w], all.w += at.w * weight[w];
            }
            all = make_float4(all.x * factor, all.y * factor, all.z * factor, all.w * factor);
            if (t.parts == 1) {
                write_four(p, t, t.row + row, c, all);
            } else {
                *reinterpret_cast<float4*>(part.o + row * kWidth + c) = all;
            }
        }
        if (t.parts > 1 && lane_id() == 0) part.scales[row] = make_float2(max, sum);
    }
}

// A part's sums of a warp's rows.
template <int kWidth>
__device__ __forceinline__ void write_part(const AttentionParams& p, const Tile& t, uint32_t warp_row, const Sums<kWidth>& sums) {
    const uint32_t g = lane_id() / 4, pair = lane_id() % 4 * 2;
    const Partial part(p, t, blockIdx.y);
#pragma unroll
    for (int side = 0; side < 2; side++) {
        const uint32_t row = warp_row + g + side * 8;
        if (t.row + row >= t.rows) continue;
        if (pair == 0) part.scales[row] = make_float2(sums.max[side] * p.scale * kLog2E, sums.sum[side]);
#pragma unroll
        for (int n = 0; n < kWidth / 8; n++)
            *reinterpret_cast<float2*>(part.o + row * kWidth + n * 8 + pair) = make_float2(sums.o[n][side * 2], sums.o[n][side * 2 + 1]);
    }
}

// ---- the kernels
// -------------------------------------------------------------------------------------------------------------------------

// kRowWarps times kKeyWarps warps: 16 rows each, and a part of each tile's keys.
template <int kWidth, int kRowWarps, int kKeyWarps, int kKeys, int kStages>
__device__ __forceinline__ void attend(const AttentionParams& p) {
    extern __shared__ __align__(128) uint8_t shared[];
    constexpr uint32_t kThreads = kRowWarps * kKeyWarps * 32, kRows = kRowWarps * 16, kCount = kKeys / kKeyWarps;
    constexpr uint32_t kTileBytes = kKeys * kWidth * 2;
    const Tile t = find_tile(p, kRows, kKeys);
    if (!t.valid) {
        griddep_wait();
        return;
    }
    const uint32_t warp = threadIdx.x / 32, warp_row = warp / kKeyWarps * 16, key_row = warp % kKeyWarps * kCount;
    const uint16_t *k = p.k + uint64_t{t.kv_head} * p.capacity * p.head_dim, *v = p.v + uint64_t{t.kv_head} * p.capacity * p.head_dim;
    const uint32_t base = shared_address(shared);
    const auto load = [&](uint32_t tile, uint32_t stage) {
        if (tile < t.key_end) {
            const uint32_t to = base + stage * 2 * kTileBytes;
            const uint64_t from = uint64_t{tile} * kKeys * p.head_dim;
            load_tile<kWidth, kKeys, kThreads>(k + from, p.head_dim, to);
            load_tile<kWidth, kKeys, kThreads>(v + from, p.head_dim, to + kTileBytes);
        }
        cp_async_commit();
    };
    // What earlier forwards wrote is there already; the new tokens' keys come with the kernel before this one.
    const uint32_t old = t.first / kKeys;
#pragma unroll
    for (int i = 0; i < kStages - 1; i++) {
        if (t.key_begin + i < old) load(t.key_begin + i, i);
    }
    griddep_wait();
    griddep_launch();
#pragma unroll
    for (int i = 0; i < kStages - 1; i++) {
        if (t.key_begin + i >= old) load(t.key_begin + i, i);
    }
    uint32_t q[kWidth / 16][4];
    load_queries<kWidth>(p, t, warp_row, q);
    Sums<kWidth> sums = {};
    sums.max[0] = sums.max[1] = -INFINITY;
    const uint32_t row = min(t.row + warp_row + lane_id() / 4, t.rows - 1), row8 = min(t.row + warp_row + lane_id() / 4 + 8, t.rows - 1);
    const uint32_t position[2] = {t.first + row / t.group, t.first + row8 / t.group};
    const uint32_t oldest = t.first + min(t.row + warp_row, t.rows - 1) / t.group,
                   newest = t.first + min(t.row + warp_row + 15, t.rows - 1) / t.group;
    const bool busy = t.row + warp_row < t.rows;
    const float scale = p.scale * kLog2E;
    uint32_t stage = 0, next = kStages - 1;
    for (uint32_t tile = t.key_begin; tile < t.key_end; tile++) {
        cp_async_wait<kStages - 2>();
        __syncthreads();
        load(tile + kStages - 1, next);
        const uint32_t key = tile * kKeys + key_row, at = base + stage * 2 * kTileBytes;
        next = stage;
        stage = stage + 1 == kStages ? 0 : stage + 1;
        if (!busy || key > newest) continue;
        float s[kCount / 8][4], keep[2];
        score<kWidth, kCount>(q, at, key_row, s);
        if (key + kCount - 1 > oldest || (p.window && newest - key >= p.window))
            mask<kCount>(position, p.window, key + lane_id() % 4 * 2, s);
        soften<kCount>(scale, s, sums.max, sums.sum, keep);
        if (__any_sync(~0u, keep[0] != 1 || keep[1] != 1)) rescale<kWidth>(keep, sums.o);
        mix<kWidth, kCount>(s, at + kTileBytes, key_row, sums);
    }
#pragma unroll
    for (int side = 0; side < 2; side++) {
        sums.sum[side] += __shfl_xor_sync(~0u, sums.sum[side], 1);
        sums.sum[side] += __shfl_xor_sync(~0u, sums.sum[side], 2);
    }
    if constexpr (kKeyWarps > 1) {
        merge_warps<kWidth, kRowWarps, kKeyWarps>(p, t, sums, shared);
    } else if (t.parts > 1) {
        write_part<kWidth>(p, t, warp_row, sums);
    } else {
        __syncthreads();
        const float factor[2] = {1.0f / sums.sum[0], 1.0f / sums.sum[1]};
        write_rows<kWidth>(p, t, t.row + warp_row, sums.o, factor, reinterpret_cast<uint16_t*>(shared) + warp * 1024);
    }
    if (t.parts == 1) write_padding(p, t, kRows, kThreads, threadIdx.x);
}

// Puts a row's parts together: up to kMaxAttentionSplits, two of their scales a lane. kWarps warps take a share of the parts each.
template <uint32_t kWarps>
__device__ __forceinline__ void combine_row(const AttentionParams& p, const Tile& t, uint32_t row) {
    __shared__ float4 shares[kWarps][kMaxAttentionHeadDim / 4];
    const uint32_t lane = lane_id(), in_tile = row - t.row, warp = kWarps == 1 ? 0 : threadIdx.x / 32;
    const Partial parts(p, t, 0);
    float2 low = make_float2(-INFINITY, 0), high = low;
    if (lane < t.parts) low = parts.scales[uint64_t{lane} * p.rows + in_tile];
    if (lane + 32 < t.parts) high = parts.scales[uint64_t{lane + 32} * p.rows + in_tile];
    const float max = warp_max(fmaxf(low.x, high.x)), low_weight = exp2_fast(low.x - max), high_weight = exp2_fast(high.x - max);
    const float inverse_sum = 1.0f / warp_sum(low.y * low_weight + high.y * high_weight);
    const uint32_t from = t.parts * warp / kWarps, end = t.parts * (warp + 1) / kWarps;
    for (uint32_t c = lane * 4; c - lane * 4 < p.width; c += 128) {
        const bool in = c < p.width;
        const float* o = parts.o + in_tile * p.width + (in ? c : 0);
        float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 8
        for (uint32_t part = from; part < end; part++) {
            const float4 x = *reinterpret_cast<const float4*>(o + uint64_t{part} * p.rows * p.width);
            const float w = __shfl_sync(~0u, part < 32 ? low_weight : high_weight, part % 32);
            sum.x += x.x * w, sum.y += x.y * w, sum.z += x.z * w, sum.w += x.w * w;
        }
        if (kWarps > 1 && in) shares[warp][c / 4] = sum;
        if (kWarps == 1 && in)
            write_four(p, t, row, c, make_float4(sum.x * inverse_sum, sum.y * inverse_sum, sum.z * inverse_sum, sum.w * inverse_sum));
    }
    if (kWarps == 1) return;
    __syncthreads();
    for (uint32_t c = threadIdx.x * 4; c < p.width; c += kWarps * 128) {
        float4 sum = shares[0][c / 4];
#pragma unroll
        for (uint32_t w = 1; w < kWarps; w++) {
            const float4 x = shares[w][c / 4];
            sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w;
        }
        write_four(p, t, row, c, make_float4(sum.x * inverse_sum, sum.y * inverse_sum, sum.z * inverse_sum, sum.w * inverse_sum));
    }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(128) attention_combine(AttentionParams p) {
    const uint32_t warp = threadIdx.x / 32, at = p.splits > kPartsOfWarp ? blockIdx.x : blockIdx.x * 4 + warp;
    const uint32_t token = at / p.heads, head = at % p.heads, group = p.heads / p.kv_heads, row = token * group + head % group;
    const bool in = token < (p.count ? min(*p.count, p.tokens) : p.tokens);
    const Tile t = find_tile(p, p.rows, p.keys, row / p.rows, head / group, 0);
    griddep_wait();
    griddep_launch();
    if (!in || t.parts == 1) return;
    if (p.splits > kPartsOfWarp) {
        combine_row<4>(p, t, row);
    } else {
        combine_row<1>(p, t, row);
    }
    if (head != p.heads - 1) return;
    const uint32_t first = p.splits > kPartsOfWarp ? threadIdx.x : lane_id(), step = p.splits > kPartsOfWarp ? 128 : 32;
    for (uint32_t c = p.heads * p.head_dim + first; c < p.out_stride; c += step) p.out[uint64_t{token} * p.out_stride + c] = 0;
}

#define PITH_ATTENTION(name, width, row_warps, key_warps, keys, stages)                                                        \
    static_assert(attention_key_warps(row_warps * 16, keys) == key_warps && attention_stages(row_warps * 16, width) == stages, \
                  "the plan's");                                                                                               \
    extern "C" __global__ void __launch_bounds__((row_warps) * (key_warps)*32, row_warps == 4 && width <= 128 ? 3              \
                                                                               : width == 64                  ? 2              \
                                                                                                              : 1) name(AttentionParams p) {    \
        attend<width, row_warps, key_warps, keys, stages>(p);                                                                  \
    }
#define PITH_ATTENTION_WIDTH(width, suffix, small, keys, stages)                                  \
    static_assert(attention_keys(width, small) == keys, "the plan's");                            \
    PITH_ATTENTION(attention_rows16_##width##suffix, width, 1, keys / 16, keys, stages)           \
    PITH_ATTENTION(attention_rows32_##width##suffix, width, 2, (keys > 16 ? 2 : 1), keys, stages) \
    PITH_ATTENTION(attention_rows64_##width##suffix, width, 4, 1, keys, 2)                        \
    PITH_ATTENTION(attention_rows128_##width##suffix, width, 8, 1, keys, 2)

PITH_ATTENTION_WIDTH(64, , false, 64, 3)
PITH_ATTENTION_WIDTH(80, , false, 64, 2)
PITH_ATTENTION_WIDTH(96, , false, 64, 2)
PITH_ATTENTION_WIDTH(128, , false, 64, 3)
PITH_ATTENTION_WIDTH(256, , false, 32, 3)
PITH_ATTENTION_WIDTH(128, _small, true, 32, 3)
PITH_ATTENTION_WIDTH(256, _small, true, 16, 3)

}  // namespace pith::cuda
