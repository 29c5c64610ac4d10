// Embedding, norms, rope with the cache's writes, and SiLU for forwards of several tokens. A block works on one token (rope: on some of
// its heads), so that results don't depend on how many tokens there are.
#include <cuda_fp16.h>

#include "device.cuh"
#include "elementwise.h"
#include "matmul_few_int.cuh"

namespace pith::cuda {
namespace {

__device__ inline uint32_t token_count(const uint32_t* count, uint32_t tokens) { return count ? min(*count, tokens) : tokens; }

__device__ inline float load_as_float(const void* at, ElementType type, uint64_t i) {
    return type == ElementType::F16 ? __half2float(static_cast<const __half*>(at)[i]) : static_cast<const float*>(at)[i];
}

// Four elements; `i` and the address are multiples of 4.
__device__ inline float4 load_four(const void* at, ElementType type, uint64_t i) {
    if (type == ElementType::F32) return *reinterpret_cast<const float4*>(static_cast<const float*>(at) + i);
    const uint2 raw = *reinterpret_cast<const uint2*>(static_cast<const __half*>(at) + i);
    const float2 a = __half22float2(reinterpret_cast<const __half2&>(raw.x)), b = __half22float2(reinterpret_cast<const __half2&>(raw.y));
    return make_float4(a.x, a.y, b.x, b.y);
}

__device__ inline void store_four(__half* at, float4 value) {
    *reinterpret_cast<uint2*>(at) = make_uint2(to_half2_bits(value.x, value.y), to_half2_bits(value.z, value.w));
}

// The same sum in the same order in each thread of the block.
__device__ inline float block_sum(float value) {
    __shared__ float parts[kElementThreads / 32];
    for (int step = 16; step; step >>= 1) value += __shfl_xor_sync(~0u, value, step);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
    __syncthreads();
    float sum = 0;
    for (uint32_t i = 0; i < kElementThreads / 32; i++) sum += parts[i];
    return sum;
}

// Writes value(i), i < width, at out[inverse[i]], and zeros up to stride.
template <class Value>
__device__ inline void write_row(__half* out, const uint32_t* inverse, uint32_t width, uint32_t stride, const Value& value) {
    extern __shared__ __align__(16) uint8_t staged[];
    const bool stage = inverse && stride * 2 <= kStagedBytes;
    __half* to = stage ? reinterpret_cast<__half*>(staged) : out;
    for (uint32_t i = threadIdx.x; i < width; i += kElementThreads) to[inverse ? inverse[i] : i] = to_half(value(i));
    for (uint32_t i = width + threadIdx.x; i < stride; i += kElementThreads) to[i] = __half{};
    if (!stage) return;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < stride / 8; i += kElementThreads)
        reinterpret_cast<uint4*>(out)[i] = reinterpret_cast<const uint4*>(staged)[i];
}

__device__ inline bool aligned16(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

}  // namespace

extern "C" __global__ void __launch_bounds__(kElementThreads) embed_rows(EmbedParams p) {
    const uint32_t t = blockIdx.x;
    griddep_wait();
    griddep_launch();
    if (t >= token_count(p.count, p.tokens)) return;
    const int64_t id = p.ids[t];
    const uint16_t* row = p.rows + id * p.hidden;
    const float scale = p.row_scale ? p.row_scale[id] : 1.0f;
    float* x = p.x + uint64_t{t} * p.hidden;
    if (p.hidden % 8 == 0 && aligned16(p.rows)) {
        for (uint32_t i = threadIdx.x; i < p.hidden / 8; i += kElementThreads) {
            const uint4 raw = reinterpret_cast<const uint4*>(row)[i];
            float2 pair[4];
            for (int j = 0; j < 4; j++) pair[j] = __half22float2(reinterpret_cast<const __half2*>(&raw)[j]);
            float4* to = reinterpret_cast<float4*>(x) + 2 * i;
            to[0] = make_float4(pair[0].x * scale, pair[0].y * scale, pair[1].x * scale, pair[1].y * scale);
            to[1] = make_float4(pair[2].x * scale, pair[2].y * scale, pair[3].x * scale, pair[3].y * scale);
        }
        return;
    }
    for (uint32_t i = threadIdx.x; i < p.hidden; i += kElementThreads) x[i] = __half2float(reinterpret_cast<const __half*>(row)[i]) * scale;
}

// The fast form of a norm: a row in registers, and what does not depend on kernels before loaded before they end.
__device__ inline bool norm_in_registers(const NormParams& p) {
    return p.hidden % 4 == 0 && p.hidden <= kNormVectors * 4 * kElementThreads;
}

// Writes the row at `scattered`, element i at inverse[i], or where there is none at `out`.
template <class RowOf>
__device__ inline bool norm_row_in_registers(const NormParams& p, __half* out, __half* scattered, const RowOf& row_of) {
    const uint32_t vectors = p.hidden / 4;
    float4 x[kNormVectors], weight[kNormVectors];
    uint4 to[kNormVectors];
#pragma unroll
    for (uint32_t j = 0; j < kNormVectors; j++) {
        const uint32_t i = threadIdx.x + j * kElementThreads;
        if (i >= vectors) break;
        weight[j] = reinterpret_cast<const float4*>(p.weight)[i];
        if (p.inverse) to[j] = reinterpret_cast<const uint4*>(p.inverse)[i];
    }
    griddep_wait();
    const float4* from = reinterpret_cast<const float4*>(row_of());
    if (!from) return false;
    float squares = 0;
#pragma unroll
    for (uint32_t j = 0; j < kNormVectors; j++) {
        const uint32_t i = threadIdx.x + j * kElementThreads;
        x[j] = i < vectors ? from[i] : make_float4(0, 0, 0, 0);
    }
#pragma unroll
    for (uint32_t j = 0; j < kNormVectors; j++) squares += x[j].x * x[j].x + x[j].y * x[j].y + (x[j].z * x[j].z + x[j].w * x[j].w);
    const float scale = 1.0f / sqrtf(block_sum(squares) / static_cast<float>(p.hidden) + p.eps);
#pragma unroll
    for (uint32_t j = 0; j < kNormVectors; j++) {
        const uint32_t i = threadIdx.x + j * kElementThreads;
        if (i >= vectors) break;
        const float4 y = make_float4(x[j].x * scale * weight[j].x, x[j].y * scale * weight[j].y, x[j].z * scale * weight[j].z,
                                     x[j].w * scale * weight[j].w);
        if (!p.inverse) {
            store_four(out + 4 * i, y);
            continue;
        }
        scattered[to[j].x] = to_half(y.x);
        scattered[to[j].y] = to_half(y.y);
        scattered[to[j].z] = to_half(y.z);
        scattered[to[j].w] = to_half(y.w);
    }
    return true;
}

__device__ inline const float* norm_row_of(const NormParams& p) {
    const uint32_t tokens = token_count(p.count, p.tokens);
    const uint64_t row = uint64_t{blockIdx.x} + (p.last ? (tokens > p.rows ? tokens - p.rows : 0) : p.first_row);
    return blockIdx.x < p.rows && row < tokens ? p.x + row * p.hidden : nullptr;
}

extern "C" __global__ void __launch_bounds__(kElementThreads) rms_norm_rows(NormParams p) {
    extern __shared__ __align__(16) uint8_t staged[];
    // What follows reads nothing that kernels before wrote until this one has ended.
    griddep_launch();
    __half* out = reinterpret_cast<__half*>(p.out) + uint64_t{blockIdx.x} * p.stride;
    if (norm_in_registers(p)) {
        const bool stage = p.inverse && p.stride * 2 <= kStagedBytes;
        __half* scattered = stage ? reinterpret_cast<__half*>(staged) : out;
        if (!norm_row_in_registers(p, out, scattered, [&] { return norm_row_of(p); })) return;
        for (uint32_t i = p.hidden + threadIdx.x; i < p.stride; i += kElementThreads) scattered[i] = __half{};
        if (!stage) return;
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < p.stride / 8; i += kElementThreads)
            reinterpret_cast<uint4*>(out)[i] = reinterpret_cast<const uint4*>(staged)[i];
        return;
    }
    griddep_wait();
    const float* x = norm_row_of(p);
    if (!x) return;
    float squares = 0;
    for (uint32_t i = threadIdx.x; i < p.hidden; i += kElementThreads) squares += x[i] * x[i];
    const float scale = 1.0f / sqrtf(block_sum(squares) / static_cast<float>(p.hidden) + p.eps);
    write_row(out, p.inverse, p.hidden, p.stride, [&](uint32_t i) { return x[i] * scale * p.weight[i]; });
}

extern "C" __global__ void __launch_bounds__(kElementThreads) rms_norm_integers(NormIntegerParams p) {
    extern __shared__ __align__(16) uint8_t staged[];
    griddep_launch();
    __half* row = reinterpret_cast<__half*>(staged);
    const bool there = norm_row_in_registers(p.norm, row, row, [&] { return norm_row_of(p.norm); });
    for (uint32_t i = (there ? p.norm.hidden : 0) + threadIdx.x; i < p.pairs * kIntPairCols; i += kElementThreads) row[i] = __half{};
    __syncthreads();
    const uint32_t lane = threadIdx.x % 32, column = lane / 16 * 64 + lane % 4 * 16 + lane / 4 % 4 * 2;
    for (uint32_t pair = threadIdx.x / 32; pair < p.pairs; pair += kElementThreads / 32) {
        const uint32_t* from = reinterpret_cast<const uint32_t*>(row + pair * kIntPairCols + column);
        uint8_t* to = p.integers + uint64_t{pair} * int_pair_bytes(p.integer_tokens, p.block);
        put_integers(to, reinterpret_cast<float4*>(to + int_plane_bytes(p.integer_tokens)), blockIdx.x, p.block, from[0], from[4]);
    }
}

// Four pairs (i, i + head_dim / 2) of a head of q, k or v.
struct RopePairs {
    float4 a, b;
    uint16_t* to;
    bool turned;
};

__device__ inline RopePairs load_pairs(const RopeParams& p, uint32_t t, uint64_t position, uint32_t head, uint32_t i) {
    const uint32_t d = p.head_dim;
    const bool is_q = head < p.heads, is_k = !is_q && head < p.heads + p.kv_heads;
    const uint32_t kv = head - p.heads - (is_k ? 0 : p.kv_heads);  // of k or v
    const void* from = is_q ? p.q : is_k ? p.k : p.v;
    const uint64_t at = t * (is_q ? p.q_stride : is_k ? p.k_stride : p.v_stride) + uint64_t{is_q ? head : kv} * d + i;
    uint16_t* row = is_q ? p.q_out + uint64_t{t} * p.q_out_stride + uint64_t{head} * d
                         : (is_k ? p.k_cache : p.v_cache) + (uint64_t{kv} * p.capacity + position) * d;
    return {load_four(from, p.type, at), load_four(from, p.type, at + d / 2), row + i, is_q || is_k};
}

extern "C" __global__ void __launch_bounds__(kElementThreads) rope_store(RopeParams p) {
    extern __shared__ __align__(16) uint8_t shared[];
    const uint32_t t = blockIdx.x, half = p.head_dim / 2, quads = half / 4;
    float *cosine = reinterpret_cast<float*>(shared), *sine = cosine + half;
    griddep_wait();
    griddep_launch();
    if (t >= token_count(p.count, p.tokens)) return;
    const uint64_t position = uint64_t{*p.first} + t;
    const uint32_t head_first = blockIdx.y * kRopeHeads, all = p.heads + 2 * p.kv_heads, works = min(kRopeHeads, all - head_first) * quads;
    uint32_t work = threadIdx.x;
    RopePairs pairs{};
    if (work < works) pairs = load_pairs(p, t, position, head_first + work / quads, work % quads * 4);  // on its way during the sines
    for (uint32_t i = threadIdx.x; i < half; i += kElementThreads) {
        // Whole turns are taken off in double: a float angle of 1e5 has two digits after the point.
        const double turns = static_cast<double>(position) * p.inverse_frequency[i] * 0.15915494309189533577;
        float s, c;
        sincospif(static_cast<float>(2 * (turns - rint(turns))), &s, &c);
        cosine[i] = c * p.rope_scale;
        sine[i] = s * p.rope_scale;
    }
    __syncthreads();
    while (work < works) {
        const uint32_t i = work % quads * 4;
        float4 a = pairs.a, b = pairs.b;
        if (pairs.turned) {
            const float4 c = *reinterpret_cast<const float4*>(cosine + i), s = *reinterpret_cast<const float4*>(sine + i), x = a, y = b;
            a = make_float4(x.x * c.x - y.x * s.x, x.y * c.y - y.y * s.y, x.z * c.z - y.z * s.z, x.w * c.w - y.w * s.w);
            b = make_float4(y.x * c.x + x.x * s.x, y.y * c.y + x.y * s.y, y.z * c.z + x.z * s.z, y.w * c.w + x.w * s.w);
        }
        store_four(reinterpret_cast<__half*>(pairs.to), a);
        store_four(reinterpret_cast<__half*>(pairs.to) + half, b);
        work += kElementThreads;
        if (work < works) pairs = load_pairs(p, t, position, head_first + work / quads, work % quads * 4);
    }
}

extern "C" __global__ void __launch_bounds__(kElementThreads) silu_mul_rows(SiluParams p) {
    const uint32_t t = blockIdx.x;
    griddep_wait();
    griddep_launch();
    if (t >= token_count(p.count, p.tokens)) return;
    __half* out = reinterpret_cast<__half*>(p.out) + uint64_t{t} * p.stride;
    write_row(out, p.inverse, p.width, p.stride, [&](uint32_t i) {
        const float gate = load_as_float(p.gate, p.type, t * p.gate_stride + i), up = load_as_float(p.up, p.type, t * p.up_stride + i);
        return gate / (1.0f + __expf(-gate)) * up;
    });
}

}  // namespace pith::cuda
