// One decoded token: embedding, all layers, head. See decode.h.
#include "decode.h"

#include "decode_attention.cuh"

namespace pith::cuda {
namespace {

// What both kinds of warps need: parameters, barriers, shares.
__device__ __forceinline__ void begin(const DecodeParams& params) {
#ifdef PITH_TRACE
    if (threadIdx.x == 0) trace_count() = 0;
#endif
    uint4* copy = reinterpret_cast<uint4*>(&shared().params);
    for (uint32_t i = threadIdx.x; i < sizeof(DecodeParams) / 16; i += blockDim.x) copy[i] = reinterpret_cast<const uint4*>(&params)[i];
    for (uint32_t i = threadIdx.x; i < sizeof(DecodeShared::zeros) / 4; i += blockDim.x) reinterpret_cast<uint32_t*>(shared().zeros)[i] = 0;
    __syncthreads();
    const DecodeParams& p = shared().params;
    const Ring ring;
    for (uint32_t i = threadIdx.x; i < p.stages; i += blockDim.x) {
        make_barrier(ring.filled(i), kHasBulkCopy ? 33 : kCopies);  // the bulk copies, and each lane's own
        make_barrier(ring.free(i), p.stage_units);
        ring.set_lap(i, 0);
    }
    if (threadIdx.x < kDecodeLayersHeld) make_barrier(shared_address(&shared().layer_come[threadIdx.x]), kCopies);
    bulk_barriers_made();
    if (threadIdx.x == 0) shared().cut_window = 0xffffffff;
    if (threadIdx.x == 0) shared().at_layer = shared().at_work = shared().known = 0;
    for (uint32_t i = threadIdx.x; i < p.partials; i += blockDim.x)
        reinterpret_cast<uint32_t*>(shared_bytes() + p.shared_partial + p.partials * 64)[i] = 0;
    if (threadIdx.x <= kDecodeJobs && (threadIdx.x == kDecodeJobs || p.layer_count)) {
        const DecodeJob& j = threadIdx.x == kDecodeJobs ? p.head : p.layers[0].jobs[threadIdx.x];
        if (j.matrix.data) find_share(j, threadIdx.x, shared().shares[threadIdx.x]);
    }
    __syncthreads();
}

// Each block brings its piece of the token's row into the first buffer, and remembers what it has of the second.
__device__ __forceinline__ void embed() {
    const DecodeParams& p = shared().params;
    const uint32_t token = p.token ? *p.token : p.token_value, threads = p.warps * 32;
    const uint32_t begin = part(p.hidden, blockIdx.x, gridDim.x), end = part(p.hidden, blockIdx.x + 1, gridDim.x);
    const half* row = reinterpret_cast<const half*>(p.embedding) + static_cast<uint64_t>(token) * p.hidden;
    const float scale = p.embedding_scale ? p.embedding_scale[token] : 1.0f;
    const unsigned long long counts[2] = {shared().counts[0], shared().counts[1]};
#pragma unroll 1
    for (uint32_t i = begin + threadIdx.x; i < end; i += threads)
        own_rows()[i - begin] = whole_sum(load_relaxed(residual(1) + i), counts[1]);
    meet_warps();
#pragma unroll 1
    for (uint32_t i = begin + threadIdx.x; i < end; i += threads) {
        const long long last = whole_sum(load_relaxed(residual(0) + i), counts[0]);
        add_fixed(residual(0) + i, to_fixed(__half2float(row[i]) * scale, kFixedMost) - last);
    }
}

// Position, rotations, the token's row.
__device__ __forceinline__ void begin_token() {
    const DecodeParams& p = shared().params;
    griddep_wait();
    const uint32_t position = p.position ? *p.position : p.position_value;
    if (threadIdx.x == 0) {
        shared().launch = counters()[kMeeting] / gridDim.x + 1;
        shared().counts[0] = counters()[kCounts];
        shared().counts[1] = counters()[kCounts + 1];
        shared().first_tag = static_cast<uint32_t>(counters()[kTag]) + 1;
        shared().position = position;
        __threadfence_block();
        *static_cast<volatile uint32_t*>(&shared().known) = 1;
    }
    meet_warps();
    for (uint32_t i = threadIdx.x; i < p.head_dim / 2; i += p.warps * 32) {
        // The angle may be far beyond what float can tell apart: whole turns are
        // taken off in double.
        constexpr double kTurn = 6.283185307179586476925;
        const double angle = position * p.inverse_frequencies[i];
        float s, c;
        sincosf(static_cast<float>(angle - rint(angle / kTurn) * kTurn), &s, &c);
        shared().rotation[i] = c * p.rope_scale;
        shared().rotation[p.head_dim / 2 + i] = s * p.rope_scale;
    }
    embed();
    if (threadIdx.x == 0) shared().counts[0]++;
    meet_warps();
}

// All blocks meet. A poisoned token has no logits.
__device__ __forceinline__ void finish_logits() {
    const DecodeParams& p = shared().params;
    meet_warps();
    unsigned long long* meeting = const_cast<unsigned long long*>(counters()) + kMeeting;
    if (threadIdx.x == 0) {
        if (blockIdx.x == 0) {  // nobody looks at these before the next launch
            counters()[kCounts] = shared().counts[0];
            counters()[kCounts + 1] = shared().counts[1];
            counters()[kTag] = shared().first_tag - 1 + p.layer_count;
        }
        add_release(meeting, 1);
        for ([[maybe_unused]] uint64_t spins = 0; load_relaxed(meeting) < shared().launch * gridDim.x;) PITH_SPINS(spins);
        fence_acquire();
    }
    meet_warps();
    if (counters()[kPoisoned] != shared().launch) return;
#pragma unroll 1
    for (uint32_t i = blockIdx.x * p.warps * 32 + threadIdx.x; i < p.vocab; i += gridDim.x * p.warps * 32)
        p.logits[i] = __int_as_float(0x7fffffff);
}

// Half a layer at a time: a norm, the products that read it (q, k, v; gate,
// up), attention in the first half, a product (o; down). The head is the norm
// and product of one more half. Written as one loop so that each part's code is
// there once.
template <bool grouped>
__device__ __forceinline__ void compute() {
    constexpr uint32_t kNone = 1;
    begin_token();
    const DecodeParams& p = shared().params;
    RingPlace place{0, 0};
#pragma unroll 1
    for (uint32_t h = 0;; h++) {
        const uint32_t l = h / 2, mlp = h % 2;
        const bool head = l == p.layer_count;
        if (!mlp && !head) {
            if (threadIdx.x == 0) shared().tag = (shared().first_tag + l) & 0xffff;
            wait_barrier(shared_address(&shared().layer_come[l % kDecodeLayersHeld]), l / kDecodeLayersHeld & 1);
        }
        const DecodeLayer& layer = layer_of(l);
        const uint32_t to = head ? kDecodeJobs + 1 : mlp ? kJobDown : kJobO;
        const float* norm = head ? p.final_norm : mlp ? layer.mlp_norm : layer.attention_norm;
        const uint32_t* order = nullptr;
        uint32_t form = kNone;
#pragma unroll 1
        for (uint32_t i = head ? kDecodeJobs : mlp ? kJobGateUp : kJobQkv; i < to; i++) {
            const DecodeJob& j = job_of(i, l);
            if (!j.matrix.data) continue;
            if (form != kNone) meet_warps();  // stragglers may still need what the last job left
            if (form == kNone || order != j.inverse || form != kind_block(j.kind)) {
                order = j.inverse;
                form = kind_block(j.kind);
                stage_norm(norm, order, form, mlp);
            }
            place = run_job(i, l, place);
        }
        if (head) break;
        meet_warps();  // attention uses the staged input's place, which stragglers
                       // may still read
        // All warps are in this layer: of the one before last no description is needed any more.
        if (threadIdx.x == 0) *static_cast<volatile uint32_t*>(&shared().at_layer) = l;
        forward_residual(mlp);
        if (!mlp) {
            place = attend<grouped>(l, place);
        } else if (layer.gate_apart) {
            activate_apart(l);
        }
        const uint32_t last = mlp ? kJobDown : kJobO;
        if (threadIdx.x == 0) shared().counts[1 - mlp] += 1 + layer.jobs[last].per_tile;
        stage_copy(mlp ? hidden_out() : attention_out(), last, l);
        place = run_job(last, l, place);
    }
    finish_logits();
}

template <bool grouped>
__device__ __forceinline__ void decode(const DecodeParams& p) {
    begin(p);
    if (threadIdx.x / 32 == shared().params.warps) {
        Filler().run();
    } else {
        compute<grouped>();
    }
}

}  // namespace

// Two kernels: what one of them never calls takes registers from what it does.
extern "C" __global__ void __launch_bounds__((kDecodeMaxWarps + 1) * 32, 1) pith_decode(const __grid_constant__ DecodeParams p) {
    decode<false>(p);
}
extern "C" __global__ void __launch_bounds__((kDecodeMaxWarps + 1) * 32, 1) pith_decode_grouped(const __grid_constant__ DecodeParams p) {
    decode<true>(p);
}

}  // namespace pith::cuda
