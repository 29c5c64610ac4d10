// The decode kernel's inputs: every block stages the whole input vector of its next product in shared memory as halves. The residual
// stream is float32 in global memory, twice: a norm reads one copy and the sums of the product before, and writes the other.
#pragma once
#include "decode_matvec.cuh"

namespace pith::cuda {

// Where all blocks of the grid meet. The counter grows by the number of blocks each time and is never reset.
class Barrier {
   public:
    __device__ __forceinline__ Barrier(unsigned long long* the_counter, uint32_t sms) : counter(the_counter), blocks(sms) {
        if (threadIdx.x == 0) target = *static_cast<volatile unsigned long long*>(counter) / blocks * blocks;
    }
    // What this block wrote before is seen by whom wait() lets go.
    __device__ __noinline__ void arrive() {
        __syncthreads();
        if (threadIdx.x == 0) add_release(counter, 1);
        trace();
    }
    __device__ __noinline__ void wait() {
        if (threadIdx.x == 0) {
            target += blocks;
#ifdef PITH_SPIN_LIMIT
            for (uint64_t spins = 0; load_relaxed(counter) < target;)
                if (++spins > PITH_SPIN_LIMIT) __trap();
#else
            while (load_relaxed(counter) < target) {
            }
#endif
            fence_acquire();
        }
        __syncthreads();
        trace();
    }

   private:
    unsigned long long* counter;
    unsigned long long target = 0;
    uint32_t blocks;
};

inline constexpr uint32_t kHeld = 4;  // of a vector's quadruples, that a thread keeps in registers

__device__ __forceinline__ void put_input(half* input, const uint32_t* inverse, uint32_t i, float4 v) {
    if (inverse) {
        const uint4 to = *reinterpret_cast<const uint4*>(inverse + i);
        input[input_slot(to.x)] = to_half(v.x);
        input[input_slot(to.y)] = to_half(v.y);
        input[input_slot(to.z)] = to_half(v.z);
        input[input_slot(to.w)] = to_half(v.w);
    } else {
        *reinterpret_cast<uint32_t*>(input + input_slot(i)) = to_half2_bits(v.x, v.y);
        *reinterpret_cast<uint32_t*>(input + input_slot(i + 2)) = to_half2_bits(v.z, v.w);
    }
}

// Zeros from element `cols` to the end of a unit.
__device__ __forceinline__ void clear_input_tail(half* input, uint32_t cols) {
#pragma unroll 1
    for (uint32_t i = cols + threadIdx.x; i < (cols + 255) / 256 * 256; i += blockDim.x) input[input_slot(i)] = __ushort_as_half(0);
}

// input = halves of rmsnorm(x + y) * weight; x + y is kept in x_out. fetch() may run before the barrier that completes y.
class NormStage {
   public:
    __device__ __forceinline__ NormStage(const DecodeParams& p, const Place& place) : at(place), quads(p.hidden / 4), eps(p.rms_eps), by_grid(p.by_grid) {}

    __device__ __forceinline__ void fetch(const float* the_x, const float* the_weight, const Rows& y, bool add) {
        x = reinterpret_cast<const float4*>(the_x);
        weight = reinterpret_cast<const float4*>(the_weight);
#pragma unroll
        for (uint32_t h = 0; h < kHeld; h++) {
            const uint32_t i = threadIdx.x + h * blockDim.x;
            if (i >= quads) continue;
            held[h] = load_coherent(x + i);
            held_weight[h] = __ldg(weight + i);
            owners[h] = add ? y.owners(i / 4) : 0;
        }
    }

    __device__ __forceinline__ void stage(const Rows& y, bool add, float* x_out, const uint32_t* inverse, const Memory& mem) {
        const uint32_t mine = divide(at.sm * quads, by_grid), mine_end = divide((at.sm + 1) * quads, by_grid);
        float squares = 0;
        float4 first[kHeld] = {};
#pragma unroll
        for (uint32_t h = 0; h < kHeld; h++) {
            const uint32_t i = threadIdx.x + h * blockDim.x;
            if (add && i < quads) first[h] = load_coherent(reinterpret_cast<const float4*>(y.first_part(owners[h], 4 * i)));
        }
#pragma unroll
        for (uint32_t h = 0; h < kHeld; h++) {
            const uint32_t i = threadIdx.x + h * blockDim.x;
            if (i >= quads) continue;
            if (add) {
                held[h] += first[h];
                y.add_parts(held[h], owners[h], 4 * i);
            }
            squares += square(held[h]);
            if (i >= mine && i < mine_end) reinterpret_cast<float4*>(x_out)[i] = held[h];
        }
#pragma unroll 1
        for (uint32_t i = threadIdx.x + kHeld * blockDim.x; i < quads; i += blockDim.x) {
            const float4 v = again(y, add, i);
            squares += square(v);
            if (i >= mine && i < mine_end) reinterpret_cast<float4*>(x_out)[i] = v;
        }
        squares = warp_sum(squares);
        if (at.lane == 0) mem.sums[at.warp] = squares;
        __syncthreads();
        const float factor = rsqrtf(warp_sum(at.lane < at.warps ? mem.sums[at.lane] : 0.0f) / static_cast<float>(4 * quads) + eps);
#pragma unroll
        for (uint32_t h = 0; h < kHeld; h++) {
            const uint32_t i = threadIdx.x + h * blockDim.x;
            if (i < quads) put_input(mem.input, inverse, 4 * i, scaled(held[h], held_weight[h], factor));
        }
#pragma unroll 1
        for (uint32_t i = threadIdx.x + kHeld * blockDim.x; i < quads; i += blockDim.x)
            put_input(mem.input, inverse, 4 * i, scaled(again(y, add, i), __ldg(weight + i), factor));
        clear_input_tail(mem.input, 4 * quads);
        __syncthreads();
    }

   private:
    const Place& at;
    const uint32_t quads;
    const float eps;
    const Divisor by_grid;
    const float4* x;
    const float4* weight;
    float4 held[kHeld], held_weight[kHeld];
    uint32_t owners[kHeld];

    static __device__ __forceinline__ float square(float4 v) { return v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w; }
    static __device__ __forceinline__ float4 scaled(float4 v, float4 w, float f) { return {v.x * f * w.x, v.y * f * w.y, v.z * f * w.z, v.w * f * w.w}; }
    __device__ __noinline__ float4 again(const Rows& y, bool add, uint32_t i) const {
        float4 v = load_coherent(x + i);
        if (!add) return v;
        const uint32_t o = y.owners(i / 4);
        v += load_coherent(reinterpret_cast<const float4*>(y.first_part(o, 4 * i)));
        y.add_parts(v, o, 4 * i);
        return v;
    }
};

__device__ __forceinline__ void copy_layer(DecodeLayer* to, const DecodeLayer* from) {
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < sizeof(DecodeLayer) / 16; i += blockDim.x) reinterpret_cast<uint4*>(to)[i] = __ldg(reinterpret_cast<const uint4*>(from) + i);
}

// Where a norm's input comes from and goes to.
struct NormPlan {
    const float* x;
    const float* weight;
    float* x_out;
    const uint32_t* inverse;
    bool add;   // y
    bool meet;  // all blocks meet before y is read
    const DecodeLayer* next;  // brought to shared memory meanwhile, if not NULL
    DecodeLayer* next_to;
};

__device__ __noinline__ void stage_norm(const DecodeParams& p, const NormPlan plan, const Rows y, const Memory& memory, const Place& place, Barrier& barrier) {
    const Place at = place;
    const Memory mem = memory;
    NormStage norm(p, at);
    if (plan.meet) barrier.arrive();
    norm.fetch(plan.x, plan.weight, y, plan.add);
    if (plan.next) copy_layer(plan.next_to, plan.next);
    if (plan.meet) barrier.wait();
    norm.stage(y, plan.add, plan.x_out, plan.inverse, mem);
    trace();
}

// A vector that lies in global memory as it will be staged, with its padding.
__device__ __noinline__ void stage_copy(const half* from, uint32_t cols, const Memory& mem) {
    const uint4* in = reinterpret_cast<const uint4*>(from);
    uint4* out = reinterpret_cast<uint4*>(mem.input);
    const uint32_t pieces = (cols + 255) / 256 * 32;
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < pieces; i += blockDim.x) out[i] = load_coherent(in + i);
    __syncthreads();
}

// silu(gate) * up of the tiles that blocks share, into the staged copy of the others.
__device__ __noinline__ void stage_shared_tiles(const DecodeParams& p, const Rows& y, const Divisor& by_per_tile, const uint32_t* inverse, const Memory& mem, const Place& at) {
#pragma unroll 1
    for (uint32_t n = threadIdx.x; n < at.sms * 8; n += blockDim.x) {
        const uint32_t s = n / 8, g = n % 8;
        if (s == 0) continue;
        const uint32_t border = share_begin(y.units.divisor, s, p.by_grid), tile = divide(border, by_per_tile), tile_begin = tile * y.per_tile;
        if (border >= y.units.divisor || border == tile_begin || share_begin(y.units.divisor, s - 1, p.by_grid) > tile_begin) continue;
        const uint32_t i = tile * 8 + g;
        if (i >= p.intermediate) continue;
        const uint32_t owners = y.owners(tile);
        float gate = load_coherent(y.first_part(owners, tile * 16 + g)), up = load_coherent(y.first_part(owners, tile * 16 + g + 8));
        y.add_parts(gate, owners, g);
        y.add_parts(up, owners, g + 8);
        mem.input[input_slot(inverse ? inverse[i] : i)] = to_half(silu(gate) * up);
    }
    __syncthreads();
}

// The same where gate and up are two matrices.
__device__ __noinline__ void stage_gate_up_apart(const DecodeParams& p, const Rows& gate, const Rows& up, const uint32_t* inverse, const Memory& mem) {
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < p.intermediate; i += blockDim.x)
        mem.input[input_slot(inverse ? inverse[i] : i)] = to_half(silu(gate.read(i)) * up.read(i));
    clear_input_tail(mem.input, p.intermediate);
    __syncthreads();
}

}  // namespace pith::cuda
