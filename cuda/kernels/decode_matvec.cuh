// The decode kernel's matrix products: a warp multiplies its units with the staged input and passes on sums of tiles; tiles that several
// warps or blocks share are added in the order of their columns.
#pragma once
#include "decode_ring.cuh"

namespace pith::cuda {

// Where the staged input's element c lies (in halves): of 32 columns, what lane t needs for two steps of 16 is 16 bytes in a row.
__device__ __forceinline__ uint32_t input_slot(uint32_t c) {
    return (c & ~31u) | (c >> 1 & 3) << 3 | (c >> 4 & 1) << 2 | (c >> 3 & 1) << 1 | (c & 1);
}

__device__ __forceinline__ uint8_t* workspace(uint64_t offset) { return shared().params.workspace + offset; }

// The staged input: in shared memory, or (small) in this block's own piece of global memory, which ends with zeros.
template <bool small>
__device__ __forceinline__ half* staged_input() {
    const DecodeParams& p = shared().params;
    return reinterpret_cast<half*>(small ? workspace(p.at_input + blockIdx.x * p.input_stride) : shared_bytes() + p.shared_input);
}
template <bool small>
__device__ __forceinline__ const uint8_t* staged_zeros() {
    const DecodeParams& p = shared().params;
    return small ? workspace(p.at_input + (blockIdx.x + 1) * p.input_stride - 512) : shared().zeros;
}

// Addresses of the staged input: in shared memory, or (small) in global memory.
template <bool small>
struct Input;
template <>
struct Input<false> {
    using Address = uint32_t;
    static __device__ __forceinline__ Address of(const void* p) { return shared_address(p); }
    static __device__ __forceinline__ uint4 load(Address a) { return load_shared_16(a); }
};
template <>
struct Input<true> {
    using Address = const uint8_t*;
    static __device__ __forceinline__ Address of(const void* p) { return static_cast<const uint8_t*>(p); }
    static __device__ __forceinline__ uint4 load(Address a) { return *reinterpret_cast<const uint4*>(a); }
};

// ---- one unit ----------------------------------------------------------------------------------------------------------------------------

struct UnitWords {
    uint4 codes[4];       // Q4: of chunk i; F16: of step i
    uint32_t scale[2];    // half2 of (row g, row g + 8), groups 2 t and 2 t + 1 of the unit
    uint32_t zero[3];     // words of zero points, row g
};

// 256 columns of 4-bit codes. The input of the unit's group j is column j of the tensor core's B (lanes g == j), so that sums of different
// groups arrive in different columns: lane (g, t) holds those of groups 2 t and 2 t + 1 and multiplies them by their scales.
// form: 0-3: groups of 1, 2, 4, 8 or more whole pairs of steps (32 columns); 4: any number.
template <uint32_t form, bool asymmetric, bool small>
__device__ __forceinline__ void multiply_q4(const UnitWords& w, typename Input<small>::Address input, typename Input<small>::Address zeros, uint32_t lane, uint32_t first_pair,
                                            uint32_t magic, uint32_t zero_offset, float& low, float& high) {
    const uint32_t g = lane / 4;
    const uint32_t first = form == 4 || (form == 3 && asymmetric) ? groups_before(first_pair, magic) : 0;
    float even[4] = {}, odd[4] = {};
    uint32_t zero_a = kZeroLow8, zero_b = kZeroHigh8;
    uint32_t before = 0xffffffffu;
#pragma unroll
    for (uint32_t i = 0; i < 8; i++) {
        const uint32_t group = form == 4 ? groups_before(first_pair + i, magic) - first : form == 3 ? 0 : i >> form;
        if (asymmetric && group != before) {
            before = group;
            const uint32_t byte = form == 4 || form == 3 ? first % 4 + group : form == 2 ? (first_pair / 4 & 2) + group : group;
            const uint32_t word = byte < 4 ? w.zero[0] : byte < 8 ? w.zero[1] : w.zero[2];
            const uint32_t z = word >> (byte % 4 * 8);
            zero_a = zero_low((z & 15) + zero_offset);
            zero_b = zero_high((z >> 4 & 15) + zero_offset);
        }
        const uint4 x = Input<small>::load((g == group ? input : zeros) + i * 64);
        const uint4& c = w.codes[i / 2];
        uint32_t a[4];
        decode_q4(i % 2 ? c.z : c.x, zero_a, zero_b, a);
        mma_m16n8k16(even, a[0], a[1], a[2], a[3], x.x, x.y);
        decode_q4(i % 2 ? c.w : c.y, zero_a, zero_b, a);
        mma_m16n8k16(odd, a[0], a[1], a[2], a[3], x.z, x.w);
    }
    const float2 s0 = __half22float2(as_half2(w.scale[0])), s1 = __half22float2(as_half2(w.scale[1]));
    low += (even[0] + odd[0]) * s0.x + (even[1] + odd[1]) * s1.x;
    high += (even[2] + odd[2]) * s0.y + (even[3] + odd[3]) * s1.y;
}

// 64 columns of halves; the input is column 0 of B.
template <bool small>
__device__ __forceinline__ void multiply_f16(const UnitWords& w, typename Input<small>::Address input, typename Input<small>::Address zeros, uint32_t lane, float& low, float& high) {
    float c[4] = {};
    const typename Input<small>::Address source = lane < 4 ? input : zeros;
#pragma unroll
    for (uint32_t i = 0; i < 2; i++) {
        const uint4 x = Input<small>::load(source + i * 64), &a = w.codes[2 * i], &b = w.codes[2 * i + 1];
        mma_m16n8k16(c, a.x, a.y, a.z, a.w, x.x, x.y);
        mma_m16n8k16(c, b.x, b.y, b.z, b.w, x.z, x.w);
    }
    low += c[0] + c[1];
    high += c[2] + c[3];
}

// ---- what becomes of sums ----------------------------------------------------------------------------------------------------------------

// Jobs by number: 0 to kDecodeJobs - 1 are those of the layer at `parity` in shared memory, kDecodeJobs is the head.
__device__ __forceinline__ const DecodeJob& job_of(uint32_t job, uint32_t parity) {
    return job == kDecodeJobs ? shared().params.head : shared().layers[parity].jobs[job];
}
__device__ __forceinline__ float* sums_of(uint32_t job) { return reinterpret_cast<float*>(workspace(shared().params.at_y[job])); }
// Sums of tiles that blocks share: [sms][2][16].
__device__ __forceinline__ float* parts_of(uint32_t job) { return reinterpret_cast<float*>(workspace(shared().params.at_parts)) + job * gridDim.x * 32; }

__device__ __forceinline__ float silu(float v) { return v / (1.0f + __expf(-v)); }

// Row scales and the bias; sums are linear until here, so a part of a tile takes the bias only if it holds the tile's first columns.
__device__ __forceinline__ void scale_tile(const Matrix& m, uint32_t tile, uint32_t lane, bool bias, float& low, float& high) {
    const uint32_t row = tile * 16 + lane / 4;
    if (m.row_scale) {
        low *= m.row_scale[row];
        high *= m.row_scale[row + 8];
    }
    if (m.bias && bias) {
        low += m.bias[row];
        high += m.bias[row + 8];
    }
}

// Sums of a tile's rows g and g + 8, in all four lanes of g, to where the job's results go.
__device__ __noinline__ void finish_tile(uint32_t job, uint32_t parity, uint32_t tile, float low, float high) {
    const DecodeParams& p = shared().params;
    const uint32_t lane = lane_id(), g = lane / 4, t = lane % 4;
    scale_tile(job_of(job, parity).matrix, tile, lane, true, low, high);
    if (job == kJobGateUp && !shared().layers[parity].gate_apart) {
        const uint32_t i = tile * 8 + g;
        if (t || i >= p.intermediate) return;
        const uint32_t* inverse = shared().layers[parity].jobs[kJobDown].inverse;
        reinterpret_cast<half*>(workspace(p.at_hidden))[input_slot(inverse ? inverse[i] : i)] = to_half(silu(low) * high);
    } else if (t < 2) {
        const uint32_t row = tile * 16 + g + 8 * t;
        if (job != kDecodeJobs) {
            sums_of(job)[row] = t ? high : low;
        } else if (row < p.vocab) {
            p.logits[row] = t ? high : low;
        }
    }
}

// ---- a matrix ----------------------------------------------------------------------------------------------------------------------------

// The oldest slot of the ring into registers.
template <uint32_t kind>
__device__ __forceinline__ void load_unit(const Stream& stream, uint32_t lane, uint32_t groups, UnitWords& w) {
    const uint32_t slot = stream.s.get;
    const uint32_t g = lane / 4, t = lane % 4;
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) w.codes[i] = load_shared_16(slot + i * 512 + lane * 16);
    if constexpr (kind != kKindF16) {
        const uint32_t s0 = load_shared_4(slot + 2048 + t * 64 + g * 4), s1 = load_shared_4(slot + 2048 + t * 64 + 32 + g * 4);
        w.scale[0] = 2 * t < groups ? s0 : 0;
        w.scale[1] = 2 * t + 1 < groups ? s1 : 0;
        if constexpr ((kind - kKindQ4) % 2 == 1) {
#pragma unroll
            for (uint32_t i = 0; i < 3; i++) w.zero[i] = load_shared_4(slot + stream.zero_offset() + i * 32 + g * 4);
        }
    }
}

// How the units of a job are shared in this block.
struct Share {
    uint32_t begin, n;    // of the block
    uint32_t from, stop;  // of the warp

    __device__ __forceinline__ Share(const DecodeJob& j, const Place& at) {
        const DecodeParams& p = shared().params;
        begin = share_begin(j.units, at.sm, p.by_grid);
        n = share_begin(j.units, at.sm + 1, p.by_grid) - begin;
        from = begin + warp_begin(n, at.warp, p.by_warps);
        stop = begin + warp_begin(n, at.warp + 1, p.by_warps);
    }
};

// This warp's units: complete tiles are finished, sums of others go to shared().partial.
template <bool small, uint32_t kind>
__device__ __noinline__ void run_units(uint32_t job, uint32_t parity) {
    const DecodeJob& j = job_of(job, parity);
    const Place at;
    Stream stream;
    const Share share(j, at);
    const uint32_t per_tile = j.per_tile, magic = j.magic, pairs = (j.matrix.cols + 31) / 32, zero_offset = j.matrix.zero_offset;
    constexpr bool dense = kind == kKindF16;
    constexpr uint32_t unit_input = dense ? 128 : 512;  // bytes
    const typename Input<small>::Address input = Input<small>::of(staged_input<small>()) + at.lane % 4 * 16, zeros = Input<small>::of(staged_zeros<small>());

    uint32_t tile = divide(share.from, j.by_per_tile), k = share.from - tile * per_tile;
#pragma unroll 1
    for (uint32_t unit = share.from; unit < share.stop; tile++, k = 0) {
        const uint32_t whole_end = (tile + 1) * per_tile, segment_end = min(share.stop, whole_end);
        const bool continues = k != 0;
        float low = 0, high = 0;
#pragma unroll 1
        for (; unit < segment_end; unit++, k++) {
            UnitWords w;
            const uint32_t groups = dense ? 0 : groups_before(min(8 * k + 8, pairs) - 1, magic) + 1 - groups_before(8 * k, magic);
            stream.wait();
            load_unit<kind>(stream, at.lane, groups, w);
            __syncwarp();
            stream.used();
            stream.issue();
            if constexpr (dense) {
                multiply_f16<small>(w, input + k * unit_input, zeros, at.lane, low, high);
            } else {
                multiply_q4<(kind - kKindQ4) / 2, (kind - kKindQ4) % 2 == 1, small>(w, input + k * unit_input, zeros, at.lane, 8 * k, magic, zero_offset, low, high);
            }
        }
        low += __shfl_xor_sync(0xffffffffu, low, 1);
        high += __shfl_xor_sync(0xffffffffu, high, 1);
        low += __shfl_xor_sync(0xffffffffu, low, 2);
        high += __shfl_xor_sync(0xffffffffu, high, 2);
        if (!continues && segment_end == whole_end) {
            finish_tile(job, parity, tile, low, high);
        } else if (at.lane % 4 == 0) {  // slot 0: a tile that began in another warp or block; slot 1: one that ends there
            float* own = shared().partial[at.warp][continues ? 0 : 1];
            own[at.lane / 4] = low;
            own[at.lane / 4 + 8] = high;
        }
    }
    stream.save();
}

// The first warp of this block that has a share of a tile adds those of the warps that follow.
__device__ __forceinline__ void add_shares(uint32_t job, uint32_t parity) {
    const Place at;
    const DecodeParams& p = shared().params;
    const DecodeJob& j = job_of(job, parity);
    const Share share(j, at);
    if (share.from == share.stop) return;
    const uint32_t per_tile = j.per_tile, g = at.lane / 4, end = share.begin + share.n;
#pragma unroll 1
    for (uint32_t slot = 0; slot < 2; slot++) {
        const uint32_t tile = divide(slot ? share.stop - 1 : share.from, j.by_per_tile);
        const uint32_t tile_begin = tile * per_tile, tile_end = tile_begin + per_tile;
        // slot 0 is a sum to be made here only if no warp of this block came before; slot 1 if the tile begins here and ends elsewhere
        const bool mine = slot ? tile_begin >= share.from && tile_end > share.stop : share.from == share.begin && tile_begin < share.from;
        if (!mine) continue;
        float low = shared().partial[at.warp][slot][g], high = shared().partial[at.warp][slot][g + 8];
        uint32_t from = share.stop;
#pragma unroll 1
        for (uint32_t w = at.warp + 1; w < at.warps && from < tile_end; w++) {
            const uint32_t stop = share.begin + warp_begin(share.n, w + 1, p.by_warps);
            if (from != stop) {
                low += shared().partial[w][0][g];
                high += shared().partial[w][0][g + 8];
            }
            from = stop;
        }
        if (tile_begin >= share.begin && tile_end <= end) {
            finish_tile(job, parity, tile, low, high);
            continue;
        }
        scale_tile(j.matrix, tile, at.lane, tile_begin >= share.begin, low, high);
        if (at.lane % 4 == 0) {
            float* part = parts_of(job) + (at.sm * 2 + (tile_begin < share.begin ? 0 : 1)) * 16;
            part[g] = low;
            part[g + 8] = high;
        }
    }
}

// Multiplies this block's units of a job with the staged input. Results: sums_of(job) (gate and up together: the next product's input; the
// head: the logits); of tiles that blocks share: parts_of(job). At the end stragglers may still read shared().partial.
template <bool small>
__device__ __noinline__ void run_job(uint32_t job, uint32_t parity) {
    switch (job_of(job, parity).kind) {
#define PITH_FORM(form)                                                                             \
    case kKindQ4 + 2 * form: run_units<small, kKindQ4 + 2 * form>(job, parity); break;              \
    case kKindQ4 + 2 * form + 1: run_units<small, kKindQ4 + 2 * form + 1>(job, parity); break
        PITH_FORM(0);
        PITH_FORM(1);
        PITH_FORM(2);
        PITH_FORM(3);
        PITH_FORM(4);
#undef PITH_FORM
        default: run_units<small, kKindF16>(job, parity); break;
    }
    trace();
    __syncthreads();
    add_shares(job, parity);
    trace();
}

// ---- reading results ---------------------------------------------------------------------------------------------------------------------

// How the sums of a finished job lie in memory.
struct Rows {
    const float* rows;
    const float* parts;
    uint32_t per_tile, sms;
    Divisor units;

    __device__ __forceinline__ Rows(uint32_t job, uint32_t parity) : rows(job < kDecodeJobs ? sums_of(job) : nullptr), parts(parts_of(job)), sms(gridDim.x) {
        const DecodeJob& j = job_of(job, parity);
        per_tile = j.per_tile;
        units = j.by_units;
    }

    // The blocks that have a share of a tile: first | last << 16.
    __device__ __forceinline__ uint32_t owners(uint32_t tile) const {
        const uint32_t u = tile * per_tile;
        return owner_of(u, units, sms) | owner_of(u + per_tile - 1, units, sms) << 16;
    }
    // Where a row's sum is, or the first part of it, of a tile of those owners.
    __device__ __forceinline__ const float* first_part(uint32_t owners, uint32_t row) const {
        return (owners & 0xffff) == owners >> 16 ? rows + row : parts + ((owners & 0xffff) * 2 + 1) * 16 + row % 16;
    }
    // Adds the other parts, if there are any.
    template <typename T>
    __device__ __forceinline__ void add_parts(T& v, uint32_t owners, uint32_t row) const {
#pragma unroll 1
        for (uint32_t s = (owners & 0xffff) + 1; s <= owners >> 16; s++) v += load_coherent(reinterpret_cast<const T*>(parts + s * 2 * 16 + row % 16));
    }
    __device__ __forceinline__ float read(uint32_t row) const {
        const uint32_t o = owners(row / 16);
        float v = load_coherent(first_part(o, row));
        add_parts(v, o, row);
        return v;
    }
};

__device__ __forceinline__ void operator+=(float4& a, float4 b) { a.x += b.x, a.y += b.y, a.z += b.z, a.w += b.w; }

}  // namespace pith::cuda
