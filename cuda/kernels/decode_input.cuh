// The decode kernel's inputs: every block stages the whole input vector of its next product in shared memory as halves. The residual
// stream is float32 in global memory, twice: a norm reads one copy and the sums of the product before, and writes the other.
#pragma once
#include "decode_matvec.cuh"

namespace pith::cuda {

// Where all blocks of the grid meet. The counter grows by the number of blocks each time and is never reset.
__device__ __forceinline__ unsigned long long* barrier_counter() { return reinterpret_cast<unsigned long long*>(workspace(shared().params.at_counters)); }
__device__ __forceinline__ void begin_barrier() {
    if (threadIdx.x == 0) shared().barrier = *static_cast<volatile unsigned long long*>(barrier_counter()) / gridDim.x * gridDim.x;
}
// What this block wrote before is seen by whom barrier_wait() lets go.
__device__ __forceinline__ void barrier_arrive() {
    __syncthreads();
    if (threadIdx.x == 0) add_release(barrier_counter(), 1);
    trace();
}
__device__ __forceinline__ void barrier_wait() {
    if (threadIdx.x == 0) {
        const unsigned long long target = shared().barrier += gridDim.x;
#ifdef PITH_SPIN_LIMIT
        for (uint64_t spins = 0; load_relaxed(barrier_counter()) < target;)
            if (++spins > PITH_SPIN_LIMIT) __trap();
#else
        while (load_relaxed(barrier_counter()) < target) {
        }
#endif
        fence_acquire();
    }
    __syncthreads();
    trace();
}
__device__ __noinline__ void barrier_meet() {
    barrier_arrive();
    barrier_wait();
}

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

__device__ __forceinline__ float square(float4 v) { return v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w; }
__device__ __forceinline__ float4 scaled(float4 v, float4 w, float f) { return {v.x * f * w.x, v.y * f * w.y, v.z * f * w.z, v.w * f * w.w}; }

// Quadruple i of x + y.
__device__ __noinline__ float4 add_quad(const float4* x, uint32_t y_job, uint32_t y_parity, bool add, uint32_t i) {
    float4 v = load_coherent(x + i);
    if (!add) return v;
    const Rows y(y_job, y_parity);
    const uint32_t o = y.owners(i / 4);
    v += load_coherent(reinterpret_cast<const float4*>(y.first_part(o, 4 * i)));
    y.add_parts(v, o, 4 * i);
    return v;
}

// The staged input becomes rmsnorm(x + y) * norm, as halves, in the order `inverse`; x + y is kept in x_out. y is what job y_job of the layer
// at y_parity made (add: false: nothing is added). meet: all blocks meet before y is read; meanwhile layer `next` is brought to shared memory.
template <bool small>
__device__ __noinline__ void stage_norm(const float* the_x, const float* norm, float* x_out, const uint32_t* inverse, uint32_t y_job, uint32_t y_parity, bool add,
                                        bool meet, uint32_t next) {
    const DecodeParams& p = shared().params;
    const Place at;
    const uint32_t quads = p.hidden / 4;
    const float4 *x = reinterpret_cast<const float4*>(the_x), *weight = reinterpret_cast<const float4*>(norm);
    half* input = staged_input<small>();
    if (meet) barrier_arrive();

    float4 held[kHeld], held_weight[kHeld], first[kHeld];
    const float4* from[kHeld];
    uint32_t owners[kHeld];
    const Rows y(y_job, y_parity);
#pragma unroll
    for (uint32_t h = 0; h < kHeld; h++) {
        const uint32_t i = threadIdx.x + h * blockDim.x;
        if (i >= quads) continue;
        held[h] = load_coherent(x + i);
        held_weight[h] = __ldg(weight + i);
        owners[h] = y.owners(i / 4);
        from[h] = reinterpret_cast<const float4*>(y.first_part(owners[h], 4 * i));
    }
    if (next < p.layer_count) {
        const uint4* source = reinterpret_cast<const uint4*>(p.layers + next);
        uint4* to = reinterpret_cast<uint4*>(&shared().layers[next % 2]);
        for (uint32_t i = threadIdx.x; i < sizeof(DecodeLayer) / 16; i += blockDim.x) to[i] = __ldg(source + i);
        if (threadIdx.x == 0) shared().resident = next + 1;
    }
    if (meet) barrier_wait();

    const uint32_t mine = divide(at.sm * quads, p.by_grid), mine_end = divide((at.sm + 1) * quads, p.by_grid);
    float squares = 0;
#pragma unroll
    for (uint32_t h = 0; h < kHeld; h++) {
        const uint32_t i = threadIdx.x + h * blockDim.x;
        first[h] = add && i < quads ? load_coherent(from[h]) : float4{0, 0, 0, 0};
    }
#pragma unroll
    for (uint32_t h = 0; h < kHeld; h++) {
        const uint32_t i = threadIdx.x + h * blockDim.x;
        if (i >= quads) continue;
        held[h] += first[h];
        if (add) y.add_parts(held[h], owners[h], 4 * i);
        squares += square(held[h]);
        if (i >= mine && i < mine_end) reinterpret_cast<float4*>(x_out)[i] = held[h];
    }
#pragma unroll 1
    for (uint32_t i = threadIdx.x + kHeld * blockDim.x; i < quads; i += blockDim.x) {
        const float4 v = add_quad(x, y_job, y_parity, add, i);
        squares += square(v);
        if (i >= mine && i < mine_end) reinterpret_cast<float4*>(x_out)[i] = v;
    }
    squares = warp_sum(squares);
    if (at.lane == 0) shared().sums[at.warp] = squares;
    __syncthreads();
    const float factor = rsqrtf(warp_sum(at.lane < at.warps ? shared().sums[at.lane] : 0.0f) / static_cast<float>(p.hidden) + p.rms_eps);
#pragma unroll
    for (uint32_t h = 0; h < kHeld; h++) {
        const uint32_t i = threadIdx.x + h * blockDim.x;
        if (i < quads) put_input(input, inverse, 4 * i, scaled(held[h], held_weight[h], factor));
    }
#pragma unroll 1
    for (uint32_t i = threadIdx.x + kHeld * blockDim.x; i < quads; i += blockDim.x)
        put_input(input, inverse, 4 * i, scaled(add_quad(x, y_job, y_parity, add, i), __ldg(weight + i), factor));
    clear_input_tail(input, p.hidden);
    __syncthreads();
    trace();
}

// All blocks meet; then a vector that lies in global memory as it will be staged, with its padding, is copied.
// gate_up: it is the output of that job of the layer at `parity`, without the tiles that blocks share: these are completed here.
template <bool small>
__device__ __noinline__ void stage_copy(const half* from, uint32_t cols, bool gate_up, uint32_t parity) {
    constexpr uint32_t kBorders = 4, kPieces = 6;
    const DecodeParams& p = shared().params;
    half* input = staged_input<small>();
    barrier_arrive();

    // Before the others have come: which rows of shared tiles are this thread's. A tile belongs to the first border between blocks in it.
    const Rows y(kJobGateUp, parity);
    const Divisor by_per_tile = shared().layers[parity].jobs[kJobGateUp].by_per_tile;
    const uint32_t* inverse = shared().layers[parity].jobs[kJobDown].inverse;
    uint32_t owners[kBorders], rows[kBorders], at_input[kBorders];
    auto find = [&](uint32_t n, uint32_t& o, uint32_t& row, uint32_t& to) {
        const uint32_t s = n / 8, g = n % 8;
        row = 0xffffffffu;
        if (!gate_up || s == 0 || s >= gridDim.x) return;
        const uint32_t border = share_begin(y.units.divisor, s, p.by_grid), tile = divide(border, by_per_tile), tile_begin = tile * y.per_tile;
        if (border >= y.units.divisor || border == tile_begin || share_begin(y.units.divisor, s - 1, p.by_grid) > tile_begin) return;
        const uint32_t i = tile * 8 + g;
        if (i >= p.intermediate) return;
        row = tile * 16 + g;
        o = y.owners(tile);
        to = input_slot(inverse ? inverse[i] : i);
    };
    auto value = [&](uint32_t o, uint32_t row) {
        float gate = load_coherent(y.first_part(o, row)), up = load_coherent(y.first_part(o, row + 8));
        y.add_parts(gate, o, row);
        y.add_parts(up, o, row + 8);
        return to_half(silu(gate) * up);
    };
#pragma unroll
    for (uint32_t b = 0; b < kBorders; b++) find(threadIdx.x + b * blockDim.x, owners[b], rows[b], at_input[b]);
    barrier_wait();

    const uint4* in = reinterpret_cast<const uint4*>(from);
    uint4* out = reinterpret_cast<uint4*>(input);
    const uint32_t pieces = (cols + 255) / 256 * 32;
#pragma unroll 1
    for (uint32_t i0 = threadIdx.x; i0 < pieces; i0 += kPieces * blockDim.x) {
        uint4 v[kPieces];
#pragma unroll
        for (uint32_t i = 0; i < kPieces; i++)
            if (i0 + i * blockDim.x < pieces) v[i] = load_coherent(in + i0 + i * blockDim.x);
#pragma unroll
        for (uint32_t i = 0; i < kPieces; i++)
            if (i0 + i * blockDim.x < pieces) out[i0 + i * blockDim.x] = v[i];
    }
    if (gate_up) {
        half v[kBorders];
#pragma unroll
        for (uint32_t b = 0; b < kBorders; b++)
            if (rows[b] != 0xffffffffu) v[b] = value(owners[b], rows[b]);
        __syncthreads();
#pragma unroll
        for (uint32_t b = 0; b < kBorders; b++)
            if (rows[b] != 0xffffffffu) input[at_input[b]] = v[b];
#pragma unroll 1
        for (uint32_t n = threadIdx.x + kBorders * blockDim.x; n < gridDim.x * 8; n += blockDim.x) {
            find(n, owners[0], rows[0], at_input[0]);
            if (rows[0] != 0xffffffffu) input[at_input[0]] = value(owners[0], rows[0]);
        }
    }
    __syncthreads();
    trace();
}

// The same where gate and up are two matrices.
template <bool small>
__device__ __noinline__ void stage_gate_up_apart(uint32_t parity) {
    const DecodeParams& p = shared().params;
    half* input = staged_input<small>();
    const uint32_t* inverse = shared().layers[parity].jobs[kJobDown].inverse;
    barrier_meet();
    const Rows gate(kJobGateUp, parity), up(kJobGateUp + 1, parity);
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < p.intermediate; i += blockDim.x) input[input_slot(inverse ? inverse[i] : i)] = to_half(silu(gate.read(i)) * up.read(i));
    clear_input_tail(input, p.intermediate);
    __syncthreads();
    trace();
}

}  // namespace pith::cuda
