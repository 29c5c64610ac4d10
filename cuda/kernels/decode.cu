// One decoded token: embedding, all layers, head. See decode.h.
#include "decode.h"

#include "decode_attention.cuh"

namespace pith::cuda {
namespace {

template <bool small>
class Decoder {
   public:
    __device__ __forceinline__ Decoder(const DecodeParams& params, const Place& place, const Memory& memory, uint32_t the_position, uint32_t shared)
        : p(params),
          at(place),
          mem(memory),
          position(the_position),
          barrier(reinterpret_cast<unsigned long long*>(memory.work + params.at_counters), place.sms),
          stream(params, place, the_position, shared) {
        x[0] = reinterpret_cast<float*>(mem.work + p.at_x);
        x[1] = x[0] + (p.hidden + 3) / 4 * 4;
    }

    __device__ __forceinline__ void run() {
#pragma unroll 1
        for (uint32_t i = 0; i < p.slots; i++) stream.feeder.issue(stream.ring);
        embed();
#pragma unroll 1
        for (uint32_t l = 0; l < 2 && l < p.layer_count; l++) copy_layer(mem.layers + l, p.layers + l);
        barrier.arrive();
        barrier.wait();
        stream.feeder.layers_here = mem.layers;
        stream.feeder.resident = min(2u, p.layer_count);
#pragma unroll 1
        for (uint32_t l = 0; l < p.layer_count; l++) {
            const DecodeLayer& layer = mem.layers[l % 2];
            project(layer, l);
            barrier.arrive();
            barrier.wait();
            if (p.head_rows == 1) {
                attend<1>(p, layer, mem, at, position, stream);
            } else if (p.head_rows == 4) {
                attend<4>(p, layer, mem, at, position, stream);
            } else {
                attend<8>(p, layer, mem, at, position, stream);
            }
            trace();
            barrier.arrive();
            barrier.wait();
            stage_copy(halves_at(p.at_attention), p.heads * p.head_dim, mem);
            trace();
            run_job<small>(p, layer.jobs[kJobO], rows_target(kJobO), mem, at, stream);
            gate_up(layer);
            down(layer);
        }
        head();
    }

   private:
    const DecodeParams& p;
    const Place& at;
    const Memory& mem;
    const uint32_t position;
    Barrier barrier;
    Stream stream;
    float* x[2];  // 0: before attention and after the MLP; 1: between them

    __device__ __forceinline__ half* halves_at(uint64_t offset) const { return reinterpret_cast<half*>(mem.work + offset); }
    __device__ __forceinline__ Target rows_target(uint32_t job) const { return {Output::Rows, sums_of(p, job), nullptr, nullptr, 0, parts_of(p, job, at)}; }

    // Each block brings its piece of the token's row.
    __device__ __forceinline__ void embed() {
        const uint32_t token = p.token ? *p.token : p.token_value, begin = at.sm * p.hidden / at.sms, end = (at.sm + 1) * p.hidden / at.sms;
        const half* row = reinterpret_cast<const half*>(p.embedding) + static_cast<uint64_t>(token) * p.hidden;
        const float scale = p.embedding_scale ? p.embedding_scale[token] : 1.0f;
#pragma unroll 1
        for (uint32_t i = begin + threadIdx.x; i < end; i += blockDim.x) x[0][i] = __half2float(row[i]) * scale;
    }

    // Jobs [from, to) of a layer, which read rmsnorm(x + y). The last of the blocks' sums y is awaited if plan.meet.
    __device__ __noinline__ void normed_jobs(const DecodeLayer& layer, uint32_t from, uint32_t to, NormPlan plan, const Rows& y, bool gate_up) {
        if (plan.next) stream.feeder.resident++;  // true once all have met
        bool staged = false;
#pragma unroll 1
        for (uint32_t i = from; i < to; i++) {
            const DecodeJob& j = layer.jobs[i];
            if (!j.matrix.data) continue;
            if (staged) __syncthreads();
            if (!staged || plan.inverse != j.inverse) {
                plan.inverse = j.inverse;
                stage_norm(p, plan, y, mem, at, barrier);
                plan.meet = false;
                plan.next = nullptr;
                staged = true;
            }
            Target target = rows_target(i);
            if (gate_up) target = {Output::GateUp, nullptr, halves_at(p.at_hidden), layer.jobs[kJobDown].inverse, p.intermediate, parts_of(p, i, at)};
            run_job<small>(p, j, target, mem, at, stream);
        }
    }

    __device__ __forceinline__ void project(const DecodeLayer& layer, uint32_t l) {
        const Rows y = rows_of(p, mem.layers[(l + 1) % 2], kJobDown, at);  // the layer before
        const DecodeLayer* next = l && l + 1 < p.layer_count ? p.layers + l + 1 : nullptr;
        normed_jobs(layer, kJobQkv, kJobO, {x[0], layer.attention_norm, x[1], nullptr, l != 0, l != 0, next, mem.layers + (l + 1) % 2}, y, false);
    }

    __device__ __forceinline__ void gate_up(const DecodeLayer& layer) {
        normed_jobs(layer, kJobGateUp, kJobDown, {x[1], layer.mlp_norm, x[0], nullptr, true, true, nullptr, nullptr}, rows_of(p, layer, kJobO, at), !layer.gate_apart);
    }

    __device__ __forceinline__ void down(const DecodeLayer& layer) {
        const DecodeJob& j = layer.jobs[kJobDown];
        const Rows gate = rows_of(p, layer, kJobGateUp, at);
        barrier.arrive();
        barrier.wait();
        if (layer.gate_apart) {
            stage_gate_up_apart(p, gate, rows_of(p, layer, kJobGateUp + 1, at), j.inverse, mem);
        } else {
            stage_copy(halves_at(p.at_hidden), p.intermediate, mem);
            stage_shared_tiles(p, gate, layer.jobs[kJobGateUp].by_per_tile, j.inverse, mem, at);
        }
        trace();
        run_job<small>(p, j, rows_target(kJobDown), mem, at, stream);
    }

    __device__ __forceinline__ void head() {
        const bool any = p.layer_count != 0;
        const Rows y = any ? rows_of(p, mem.layers[(p.layer_count - 1) % 2], kJobDown, at) : Rows(p.head, nullptr, nullptr, at.sms);
        stage_norm(p, {x[0], p.final_norm, x[1], p.head.inverse, any, any, nullptr, nullptr}, y, mem, at, barrier);
        run_job<small>(p, p.head, {Output::Logits, p.logits, nullptr, nullptr, p.vocab, parts_of(p, kDecodeJobs, at)}, mem, at, stream);
        barrier.arrive();
        barrier.wait();
        // The tile that begins here and ends in another block.
        const Rows logits(p.head, nullptr, parts_of(p, kDecodeJobs, at), at.sms);
        const uint32_t begin = share_begin(p.head.units, at.sm, p.by_grid), end = share_begin(p.head.units, at.sm + 1, p.by_grid);
        if (begin == end || threadIdx.x >= 16) return;
        const uint32_t tile = divide(end - 1, p.head.by_per_tile), row = tile * 16 + threadIdx.x;
        if (tile * logits.per_tile < begin || (tile + 1) * logits.per_tile <= end || row >= p.vocab) return;
        const uint32_t owners = logits.owners(tile);
        float v = load_coherent(logits.first_part(owners, row));
        logits.add_parts(v, owners, row);
        p.logits[row] = v;
    }
};

template <bool small>
__device__ __forceinline__ void decode(const DecodeParams& params) {
    extern __shared__ __align__(128) uint8_t shared[];
    // Parameters are read through pointers, which go to shared memory faster than to where a kernel's parameters lie.
    uint4* copy = reinterpret_cast<uint4*>(shared + 512);
    for (uint32_t i = threadIdx.x; i < sizeof(DecodeParams) / 16; i += blockDim.x) copy[i] = reinterpret_cast<const uint4*>(&params)[i];
    __syncthreads();
    const DecodeParams& p = *reinterpret_cast<const DecodeParams*>(copy);
    const Place at = {blockIdx.x, gridDim.x, threadIdx.x / 32, blockDim.x / 32, threadIdx.x % 32};
    Memory mem;
    mem.sums = reinterpret_cast<float*>(shared);
    mem.flags = reinterpret_cast<uint32_t*>(shared + 128);
    mem.layers = reinterpret_cast<DecodeLayer*>(shared + 512 + sizeof(DecodeParams));
    mem.partial = reinterpret_cast<float*>(mem.layers + 2);
    mem.rotation = mem.partial + at.warps * 32;
    mem.overlay = shared + p.shared_input;
    mem.work = p.workspace;
    uint8_t* zeros = shared + p.shared_input - 512;
    mem.input = reinterpret_cast<half*>(mem.overlay);
    if (small) {
        uint8_t* own = p.workspace + p.at_input + at.sm * p.input_stride;
        zeros = own + p.input_stride - 512;
        mem.input = reinterpret_cast<half*>(own);
    }
    mem.zeros = zeros;
    for (uint32_t i = threadIdx.x; i < 128; i += blockDim.x) reinterpret_cast<uint32_t*>(zeros)[i] = 0;

    griddep_wait();
    const uint32_t position = p.position ? *p.position : p.position_value;
    for (uint32_t i = threadIdx.x; i < p.head_dim / 2; i += blockDim.x) {
        // The angle may be far beyond what float can tell apart: whole turns are taken off in double.
        constexpr double kTurn = 6.283185307179586476925;
        const double angle = static_cast<double>(position) * p.inverse_frequencies[i];
        float s, c;
        sincosf(static_cast<float>(angle - rint(angle / kTurn) * kTurn), &s, &c);
        mem.rotation[i] = c * p.rope_scale;
        mem.rotation[p.head_dim / 2 + i] = s * p.rope_scale;
    }
#ifdef PITH_TRACE
    if (threadIdx.x == 0) trace_count() = 0;
    __syncthreads();
#endif
    Decoder<small>(p, at, mem, position, shared_address(shared)).run();
}

}  // namespace

extern "C" __global__ void __launch_bounds__(512, 1) pith_decode(const __grid_constant__ DecodeParams p) { decode<false>(p); }
extern "C" __global__ void __launch_bounds__(512, 1) pith_decode_small(const __grid_constant__ DecodeParams p) { decode<true>(p); }

}  // namespace pith::cuda
