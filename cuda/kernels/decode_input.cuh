// The decode kernel's inputs: every block stages the whole input vector of its next product in shared memory as halves. The residual
// stream is float32 in global memory, twice: a norm reads one copy and the sums of the product before, and writes the other.
#pragma once
#include "decode_matvec.cuh"

namespace pith::cuda {

// Where all blocks of the grid meet. The counter grows by the number of blocks each time and is never reset.
__device__ __forceinline__ unsigned long long* barrier_counter() {
    return reinterpret_cast<unsigned long long*>(workspace(shared().params.at_counters));
}
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

// threadIdx.x, read anew: what depends on it is not computed before the loop over layers and kept on the stack.
__device__ __forceinline__ uint32_t thread_here() {
    uint32_t v;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(v));
    return v;
}

// Sums of every 32 elements of the staged input, which is complete. Ends with the block's threads together.
template <bool small>
__device__ __forceinline__ void sum_input(uint32_t cols) {
    const uint4* input = reinterpret_cast<const uint4*>(staged_input<small>());
    float* sums = reinterpret_cast<float*>(reinterpret_cast<uint8_t*>(staged_input<small>()) + shared().params.at_sums);
    const uint32_t pieces = (cols + 255) / 256 * 32;
#pragma unroll 2
    for (uint32_t i = threadIdx.x; i < pieces; i += blockDim.x) {
        const uint4 v = input[i];
        const float2 a = __half22float2(as_half2(v.x)), b = __half22float2(as_half2(v.y)), c = __half22float2(as_half2(v.z)),
                     d = __half22float2(as_half2(v.w));
        float sum = ((a.x + a.y) + (b.x + b.y)) + ((c.x + c.y) + (d.x + d.y));
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        if (i % 4 == 0) sums[i / 4] = sum;
    }
    __syncthreads();
}

__device__ __forceinline__ float square(float4 v) { return v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w; }
__device__ __forceinline__ float4 scaled(float4 v, float4 w, float f) {
    return {v.x * f * w.x, v.y * f * w.y, v.z * f * w.z, v.w * f * w.w};
}

// Quadruple i of x + y.
__device__ __forceinline__ float4 add_quad(const float4* x, uint32_t y_job, uint32_t y_parity, bool add, uint32_t i) {
    float4 v = load_coherent(x + i);
    if (!add) return v;
    const Rows y(y_job, y_parity);
    const uint32_t o = y.owners(i / 4);
    return v + y.read_as<float4>(o, 4 * i);
}

// The staged input becomes rmsnorm(x + y) * norm, as halves, in the order `inverse`; x + y is kept in x_out. y is what job y_job of the
// layer at y_parity made (add: false: nothing is added). meet: all blocks meet before y is read; meanwhile layer `next` is brought to
// shared memory.
template <bool small>
__device__ __forceinline__ void stage_norm(const float* the_x, const float* norm, float* x_out, const uint32_t* inverse, uint32_t y_job,
                                           uint32_t y_parity, bool add, bool meet, uint32_t next) {
    const DecodeParams& p = shared().params;
    const uint32_t self = thread_here();
    const Place at;
    const uint32_t quads = p.hidden / 4;
    const float4 *x = reinterpret_cast<const float4*>(the_x), *weight = reinterpret_cast<const float4*>(norm);
    half* input = staged_input<small>();
    if (meet) barrier_arrive();

    float4 held[kHeld], part[kHeld];
    uint32_t owners[kHeld];
    const Rows y(y_job, y_parity);
    unrolled<kHeld>([&](auto h) {
        const uint32_t i = min(self + h * blockDim.x, quads - 1);  // beyond the end: anything readable
        held[h] = load_coherent(x + i);
        owners[h] = y.owners(i / 4);
    });
    if (next < p.layer_count) {
        const uint4* source = reinterpret_cast<const uint4*>(p.layers + next);
        uint4* to = reinterpret_cast<uint4*>(&shared().layers[next % 2]);
#pragma unroll 1
        for (uint32_t i = self; i < sizeof(DecodeLayer) / 16; i += blockDim.x) to[i] = __ldg(source + i);
        if (self == 0) shared().resident = next + 1;
    }
    if (meet) barrier_wait();

    const uint32_t mine = divide(at.sm * quads, p.by_grid), mine_end = divide((at.sm + 1) * quads, p.by_grid);
    float squares = 0;
    if (add) {
        // First parts, then second parts: one array in registers at a time.
        unrolled<kHeld>([&](auto h) {
            const uint32_t i = self + h * blockDim.x;
            part[h] = load_coherent(reinterpret_cast<const float4*>(y.first_part(owners[h], i < quads ? 4 * i : 0)));
        });
        unrolled<kHeld>([&](auto h) { held[h] = held[h] + part[h]; });
        uint32_t most = 0;  // parts after the first
        unrolled<kHeld>([&](auto h) { most = max(most, (owners[h] >> 16) - (owners[h] & 0xffff)); });
#pragma unroll 1
        for (uint32_t n = 1; n <= most; n++) {
            unrolled<kHeld>([&](auto h) {
                const uint32_t s = (owners[h] & 0xffff) + n;
                part[h] = {0, 0, 0, 0};
                if (s <= owners[h] >> 16)
                    part[h] = load_coherent(reinterpret_cast<const float4*>(y.parts + s * 32 + 4 * (self + h * blockDim.x) % 16));
            });
            unrolled<kHeld>([&](auto h) { held[h] = held[h] + part[h]; });
        }
    }
    float4 held_weight[kHeld];
    unrolled<kHeld>([&](auto h) { held_weight[h] = __ldg(weight + min(self + h * blockDim.x, quads - 1)); });
    unrolled<kHeld>([&](auto h) {
        const uint32_t i = self + h * blockDim.x;
        if (i < quads) squares += square(held[h]);
        if (i >= mine && i < mine_end) reinterpret_cast<float4*>(x_out)[i] = held[h];
    });
#pragma unroll 1
    for (uint32_t i = self + kHeld * blockDim.x; i < quads; i += blockDim.x) {
        const float4 v = add_quad(x, y_job, y_parity, add, i);
        squares += square(v);
        if (i >= mine && i < mine_end) reinterpret_cast<float4*>(x_out)[i] = v;
    }
    squares = warp_sum(squares);
    if (at.lane == 0) shared().sums[at.warp] = squares;
    __syncthreads();
    const float factor = rsqrtf(warp_sum(at.lane < at.warps ? shared().sums[at.lane] : 0.0f) / static_cast<float>(p.hidden) + p.rms_eps);
    unrolled<kHeld>([&](auto h) {
        const uint32_t i = self + h * blockDim.x;
        if (i < quads) put_input(input, inverse, 4 * i, scaled(held[h], held_weight[h], factor));
    });
#pragma unroll 1
    for (uint32_t i = self + kHeld * blockDim.x; i < quads; i += blockDim.x)
        put_input(input, inverse, 4 * i, scaled(add_quad(x, y_job, y_parity, add, i), __ldg(weight + i), factor));
    clear_input_tail(input, p.hidden);
    __syncthreads();
    sum_input<small>(p.hidden);
    trace();
}

// All blocks meet; then a vector that lies in global memory as it will be staged, with its padding, is copied.
// gate_up: it is the output of that job of the layer at `parity`, without the tiles that blocks share: these are completed here.
template <bool small>
__device__ __forceinline__ void stage_copy(const half* from, uint32_t cols, bool gate_up, uint32_t parity) {
    constexpr uint32_t kBorders = 3, kPieces = 4;
    const DecodeParams& p = shared().params;
    const uint32_t self = thread_here();
    half* input = staged_input<small>();
    barrier_arrive();

    // Before the others have come: which rows of shared tiles are this thread's. A tile belongs to the first border between blocks in it.
    const Rows y(kJobGateUp, parity);
    const Divisor by_per_tile = shared().layers[parity].jobs[kJobGateUp].by_per_tile;
    const uint32_t* inverse = shared().layers[parity].jobs[kJobDown].inverse;
    uint32_t owners[kBorders], rows[kBorders], at_input[kBorders];
    auto find = [&](uint32_t n, uint32_t& o, uint32_t& row, uint32_t& to) {
        const uint32_t s = n / 8, g = n % 8;
        row = 0;  // of no use, but readable
        o = 0;
        to = 0xffffffffu;
        if (!gate_up || s == 0 || s >= gridDim.x) return;
        const uint32_t border = share_begin(y.units.divisor, s, p.by_grid), tile = divide(border, by_per_tile),
                       tile_begin = tile * y.per_tile;
        if (border >= y.units.divisor || border == tile_begin || share_begin(y.units.divisor, s - 1, p.by_grid) > tile_begin) return;
        const uint32_t i = tile * 8 + g;
        if (i >= p.intermediate) return;
        row = tile * 16 + g;
        o = y.owners(tile);
        to = input_slot(inverse ? inverse[i] : i);
    };
    unrolled<kBorders>([&](auto b) { find(self + b * blockDim.x, owners[b], rows[b], at_input[b]); });
    barrier_wait();

    // Everything is loaded before anything is used.
    const uint4* in = reinterpret_cast<const uint4*>(from);
    uint4* out = reinterpret_cast<uint4*>(input);
    const uint32_t pieces = (cols + 255) / 256 * 32;
    float parts[kBorders][4];
    if (gate_up) {
        unrolled<kBorders>([&](auto b) {
            if (at_input[b] == 0xffffffffu) return;
            parts[b][0] = load_coherent(y.first_part(owners[b], rows[b]));
            parts[b][1] = load_coherent(y.second_part(owners[b], rows[b]));
            parts[b][2] = load_coherent(y.first_part(owners[b], rows[b] + 8));
            parts[b][3] = load_coherent(y.second_part(owners[b], rows[b] + 8));
        });
    }
#pragma unroll 1
    for (uint32_t i0 = self; i0 < pieces; i0 += kPieces * blockDim.x) {
        uint4 v[kPieces];
        unrolled<kPieces>([&](auto i) { v[i] = load_coherent(in + min(i0 + i * blockDim.x, pieces - 1)); });
        unrolled<kPieces>([&](auto i) {
            if (i0 + i * blockDim.x < pieces) out[i0 + i * blockDim.x] = v[i];
        });
    }
    if (gate_up) {
        __syncthreads();
        unrolled<kBorders>([&](auto b) {
            if (at_input[b] == 0xffffffffu) return;
            const float gate = y.add_parts(parts[b][0], parts[b][1], owners[b], rows[b]),
                        up = y.add_parts(parts[b][2], parts[b][3], owners[b], rows[b] + 8);
            input[at_input[b]] = to_half(silu(gate) * up);
        });
#pragma unroll 1
        for (uint32_t n = self + kBorders * blockDim.x; n < gridDim.x * 8; n += blockDim.x) {
            find(n, owners[0], rows[0], at_input[0]);
            if (at_input[0] == 0xffffffffu) continue;
            const float gate = y.read_as<float>(owners[0], rows[0]), up = y.read_as<float>(owners[0], rows[0] + 8);
            input[at_input[0]] = to_half(silu(gate) * up);
        }
    }
    __syncthreads();
    sum_input<small>(cols);
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
    for (uint32_t i = threadIdx.x; i < p.intermediate; i += blockDim.x)
        input[input_slot(inverse ? inverse[i] : i)] = to_half(silu(gate.read(i)) * up.read(i));
    clear_input_tail(input, p.intermediate);
    __syncthreads();
    sum_input<small>(p.intermediate);
    trace();
}

}  // namespace pith::cuda
