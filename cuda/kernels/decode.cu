// One decoded token: embedding, all layers, head. See decode.h.
#include "decode.h"

#include "decode_attention.cuh"

namespace pith::cuda {
namespace {

// The residual stream: 0 before attention and after the MLP, 1 between them.
__device__ __forceinline__ float* residual(uint32_t which) {
    const DecodeParams& p = shared().params;
    return reinterpret_cast<float*>(workspace(p.at_x)) + which * ((p.hidden + 3) / 4 * 4);
}

// Each block brings its piece of the token's row.
__device__ __forceinline__ void embed() {
    const DecodeParams& p = shared().params;
    const uint32_t token = p.token ? *p.token : p.token_value;
    const uint32_t begin = divide(blockIdx.x * p.hidden, p.by_grid), end = divide((blockIdx.x + 1) * p.hidden, p.by_grid);
    const half* row = reinterpret_cast<const half*>(p.embedding) + static_cast<uint64_t>(token) * p.hidden;
    const float scale = p.embedding_scale ? p.embedding_scale[token] : 1.0f;
#pragma unroll 1
    for (uint32_t i = begin + threadIdx.x; i < end; i += blockDim.x) residual(0)[i] = __half2float(row[i]) * scale;
}

// Everything that all layers use: parameters, rotations, zeros, the first two layers' descriptions.
template <bool small>
__device__ __forceinline__ void begin(const DecodeParams& params) {
    uint4* copy = reinterpret_cast<uint4*>(&shared().params);
    for (uint32_t i = threadIdx.x; i < sizeof(DecodeParams) / 16; i += blockDim.x) copy[i] = reinterpret_cast<const uint4*>(&params)[i];
    __syncthreads();
    const DecodeParams& p = shared().params;
    uint32_t* zeros = reinterpret_cast<uint32_t*>(const_cast<uint8_t*>(staged_zeros<small>()));
    for (uint32_t i = threadIdx.x; i < 128; i += blockDim.x) zeros[i] = 0;
    griddep_wait();
    const uint32_t position = p.position ? *p.position : p.position_value;
    if (threadIdx.x == 0) {
        shared().position = position;
        shared().resident = 0;
    }
    begin_barrier();
    for (uint32_t i = threadIdx.x; i < p.head_dim / 2; i += blockDim.x) {
        // The angle may be far beyond what float can tell apart: whole turns are taken off in double.
        constexpr double kTurn = 6.283185307179586476925;
        const double angle = position * p.inverse_frequencies[i];
        float s, c;
        sincosf(static_cast<float>(angle - rint(angle / kTurn) * kTurn), &s, &c);
        shared().rotation[i] = c * p.rope_scale;
        shared().rotation[p.head_dim / 2 + i] = s * p.rope_scale;
    }
    __syncthreads();
    Stream::begin();
    feed(0, p.slots);
    embed();
    const uint4* source = reinterpret_cast<const uint4*>(p.layers);
    const uint32_t layers = min(2u, p.layer_count);
    for (uint32_t i = threadIdx.x; i < layers * (sizeof(DecodeLayer) / 16); i += blockDim.x) reinterpret_cast<uint4*>(shared().layers)[i] = source[i];
    if (threadIdx.x == 0) shared().resident = layers;
    barrier_meet();
}

// Jobs [from, to) of the layer at `parity`, which read rmsnorm(x + y), y being what job y_job of the layer at y_parity made.
template <bool small>
__device__ __noinline__ void run_normed(uint32_t from, uint32_t to, uint32_t parity, uint32_t x, uint32_t y_job, uint32_t y_parity, bool add, uint32_t next) {
    const DecodeLayer& layer = shared().layers[parity];
    bool staged = false;
    const uint32_t* order = nullptr;
#pragma unroll 1
    for (uint32_t i = from; i < to; i++) {
        const DecodeJob& j = layer.jobs[i];
        if (!j.matrix.data) continue;
        if (staged) __syncthreads();
        if (!staged || order != j.inverse) {
            order = j.inverse;
            stage_norm<small>(residual(x), x ? layer.mlp_norm : layer.attention_norm, residual(1 - x), order, y_job, y_parity, add, add && !staged,
                              staged ? 0xffffffffu : next);
            staged = true;
        }
        run_job<small>(i, parity);
    }
}

template <bool small>
__device__ __forceinline__ void run_head() {
    const DecodeParams& p = shared().params;
    const bool any = p.layer_count != 0;
    stage_norm<small>(residual(0), p.final_norm, residual(1), p.head.inverse, kJobDown, (p.layer_count + 1) % 2, any, any, 0xffffffffu);
    run_job<small>(kDecodeJobs, 0);
    barrier_meet();
    // The tile that begins here and ends in another block.
    const Rows logits(kDecodeJobs, 0);
    const uint32_t begin = share_begin(p.head.units, blockIdx.x, p.by_grid), end = share_begin(p.head.units, blockIdx.x + 1, p.by_grid);
    if (begin == end || threadIdx.x >= 16) return;
    const uint32_t tile = divide(end - 1, p.head.by_per_tile), row = tile * 16 + threadIdx.x;
    if (tile * logits.per_tile < begin || (tile + 1) * logits.per_tile <= end || row >= p.vocab) return;
    const uint32_t owners = logits.owners(tile);
    float v = load_coherent(logits.first_part(owners, row));
    logits.add_parts(v, owners, row);
    p.logits[row] = v;
}

template <bool small>
__device__ __forceinline__ void decode(const DecodeParams& params) {
    begin<small>(params);
    const DecodeParams& p = shared().params;
#pragma unroll 1
    for (uint32_t l = 0; l < p.layer_count; l++) {
        const uint32_t parity = l % 2;
        run_normed<small>(kJobQkv, kJobO, parity, 0, kJobDown, 1 - parity, l != 0, l ? l + 1 : 0xffffffffu);
        barrier_meet();
        if (p.head_rows == 1) {
            attend<1>(parity);
        } else {
            attend<4>(parity);
        }
        stage_copy<small>(reinterpret_cast<const half*>(workspace(p.at_attention)), p.heads * p.head_dim, false, parity);
        run_job<small>(kJobO, parity);
        run_normed<small>(kJobGateUp, kJobDown, parity, 1, kJobO, parity, true, 0xffffffffu);
        if (shared().layers[parity].gate_apart) {
            stage_gate_up_apart<small>(parity);
        } else {
            stage_copy<small>(reinterpret_cast<const half*>(workspace(p.at_hidden)), p.intermediate, true, parity);
        }
        run_job<small>(kJobDown, parity);
    }
    run_head<small>();
}

}  // namespace

extern "C" __global__ void __launch_bounds__(512, 1) pith_decode(const __grid_constant__ DecodeParams p) { decode<false>(p); }
extern "C" __global__ void __launch_bounds__(512, 1) pith_decode_small(const __grid_constant__ DecodeParams p) { decode<true>(p); }

}  // namespace pith::cuda
