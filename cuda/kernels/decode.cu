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
#ifdef PITH_TRACE
    if (threadIdx.x == 0) trace_count() = 0;
#endif
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
    const Place at;
    const DecodeLayer* first_layer = p.layers;
    if (at.lane <= kDecodeJobs && (at.lane == kDecodeJobs || p.layer_count)) {
        const DecodeJob& j = at.lane == kDecodeJobs ? p.head : first_layer->jobs[at.lane];
        if (j.matrix.data) find_share(j, shared().shares[at.lane][at.warp], at.warp);
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
    if (threadIdx.x == 0) {
        const KvCut cut(at, 0);
        shared().kv_cut[0] = cut.begin;
        shared().kv_cut[1] = cut.end;
        shared().kv_cut[2] = cut.per_head;
    }
    __syncthreads();
    Stream::begin();
    feed(0, p.slots);
    embed();
    const uint4* source = reinterpret_cast<const uint4*>(p.layers);
    const uint32_t layers = min(2u, p.layer_count);
    for (uint32_t i = threadIdx.x; i < layers * (sizeof(DecodeLayer) / 16); i += blockDim.x)
        reinterpret_cast<uint4*>(shared().layers)[i] = source[i];
    if (threadIdx.x == 0) shared().resident = layers;
    barrier_meet();
}

// The head's tile that begins in this block and ends in another.
__device__ __forceinline__ void finish_logits() {
    const DecodeParams& p = shared().params;
    const Rows logits(kDecodeJobs, 0);
    const uint32_t begin = share_begin(p.head.units, blockIdx.x, p.by_grid), end = share_begin(p.head.units, blockIdx.x + 1, p.by_grid);
    if (begin == end || threadIdx.x >= 16) return;
    const uint32_t tile = divide(end - 1, p.head.by_per_tile), row = tile * 16 + threadIdx.x;
    if (tile * logits.per_tile < begin || (tile + 1) * logits.per_tile <= end || row >= p.vocab) return;
    p.logits[row] = logits.read_as<float>(logits.owners(tile), row);
}

// Half a layer at a time: a norm, the products that read it (q, k, v; gate, up), attention in the first half, a product (o; down). The head
// is the norm and product of one more half. Written as one loop so that each part's code is there once, in the kernel itself: a called
// function would save registers on the stack.
template <bool small>
__device__ __forceinline__ void decode(const DecodeParams& params) {
    begin<small>(params);
    const DecodeParams& p = shared().params;
#pragma unroll 1
    for (uint32_t h = 0;; h++) {
        const uint32_t l = h / 2, mlp = h % 2, parity = l % 2;
        const bool head = l == p.layer_count;
        const DecodeLayer& layer = shared().layers[parity];
        const uint32_t to = head ? kDecodeJobs + 1 : mlp ? kJobDown : kJobO;
        const float* norm = head ? p.final_norm : mlp ? layer.mlp_norm : layer.attention_norm;
        const uint32_t* order = nullptr;
        bool staged = false;
#pragma unroll 1
        for (uint32_t i = head ? kDecodeJobs : mlp ? kJobGateUp : kJobQkv; i < to; i++) {
            const DecodeJob& j = job_of(i, parity);
            if (!j.matrix.data) continue;
            if (staged) __syncthreads();
            if (!staged || order != j.inverse) {
                order = j.inverse;
                stage_norm<small>(residual(mlp), norm, residual(1 - mlp), order, mlp ? kJobO : kJobDown, mlp ? parity : 1 - parity, h != 0,
                                  h && !staged, l && !mlp && !staged ? l + 1 : 0xffffffffu);
                staged = true;
            }
            run_job<small>(i, parity);
        }
        if (!mlp) barrier_meet();
        if (head) break;
        if (!mlp) attend(parity);
        if (mlp && layer.gate_apart) {
            stage_gate_up_apart<small>(parity);
        } else {
            stage_copy<small>(reinterpret_cast<const half*>(workspace(mlp ? p.at_hidden : p.at_attention)),
                              mlp ? p.intermediate : p.heads * p.head_dim, mlp, parity);
        }
        run_job<small>(mlp ? kJobDown : kJobO, parity);
    }
    finish_logits();
}

}  // namespace

extern "C" __global__ void __launch_bounds__(512, 1) pith_decode(const __grid_constant__ DecodeParams p) { decode<false>(p); }
extern "C" __global__ void __launch_bounds__(512, 1) pith_decode_small(const __grid_constant__ DecodeParams p) { decode<true>(p); }

}  // namespace pith::cuda
