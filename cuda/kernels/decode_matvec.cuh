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
    template <uint32_t offset>
    static __device__ __forceinline__ uint4 load(Address a) {
        return load_shared_16<offset>(a);
    }
};
template <>
struct Input<true> {
    using Address = const uint8_t*;
    static __device__ __forceinline__ Address of(const void* p) { return static_cast<const uint8_t*>(p); }
    template <uint32_t offset>
    static __device__ __forceinline__ uint4 load(Address a) {
        return *reinterpret_cast<const uint4*>(a + offset);
    }
};

// ---- one unit
// ----------------------------------------------------------------------------------------------------------------------------

struct UnitWords {
    uint4 codes[4];     // Q4: of chunk i; F16: of step i
    uint32_t scale[2];  // half2 of (row g, row g + 8), groups 2 t and 2 t + 1 of the unit
    uint32_t zero[2];   // the bytes of their zero points, and more above them
};

// 256 columns of 4-bit codes. The input of the unit's group j is column j of the tensor core's B (lanes g == j), so that sums of different
// groups arrive in different columns: lane (g, t) holds those of groups 2 t and 2 t + 1 and multiplies them by their scales.
// A code c masked out of its word is, as a half, the subnormal number c 2^-24 (16 c 2^-24 in the high nibble), which tensor cores multiply
// exactly; the zero point comes off the sums: sum (c - z) x = sum c x - z sum x. sums: those of every 32 elements of the unit's input.
// form: 0-3: groups of 1, 2, 4, 8 or more whole pairs of steps (32 columns); 4: any number.
template <uint32_t form, bool asymmetric, bool small>
__device__ __forceinline__ void multiply_q4(const UnitWords& w, typename Input<small>::Address input, typename Input<small>::Address zeros,
                                            uint32_t lane, uint32_t first_pair, uint32_t magic, uint32_t zero_offset,
                                            typename Input<small>::Address sums, float& low, float& high) {
    const uint32_t g = lane / 4;
    const uint32_t first = form == 4 ? groups_before(first_pair, magic) : 0;
    float even[4] = {}, odd[4] = {};
    unrolled<8>([&](auto i) {
        const uint32_t group = form == 4 ? groups_before(first_pair + i, magic) - first : form == 3 ? 0 : i >> form;
        const uint4 x = Input<small>::template load<decltype(i)::value * 64>(g == group ? input : zeros);
        const uint4& c = w.codes[i / 2];
        const uint32_t a = i % 2 ? c.z : c.x, b = i % 2 ? c.w : c.y;
        mma_m16n8k16(even, a & 0x000f000f, a & 0x00f000f0, a >> 8 & 0x000f000f, a >> 8 & 0x00f000f0, x.x, x.y);
        mma_m16n8k16(odd, b & 0x000f000f, b & 0x00f000f0, b >> 8 & 0x000f000f, b >> 8 & 0x00f000f0, x.z, x.w);
    });
    // Sums of the input over the lane's two groups.
    const uint32_t t = lane % 4;
    float sum0 = 0, sum1 = 0;
    if constexpr (form <= 1) {
        const uint4 s = Input<small>::template load<0>(sums + (form == 0 ? t / 2 * 16 : t % 2 * 16));
        const float a = __uint_as_float(s.x), b = __uint_as_float(s.y), c = __uint_as_float(s.z), e = __uint_as_float(s.w);
        sum0 = form == 0 ? (t % 2 ? c : a) : a + b;
        sum1 = form == 0 ? (t % 2 ? e : b) : c + e;
    } else {
        const uint4 s = Input<small>::template load<0>(sums), r = Input<small>::template load<16>(sums);
        const float v[8] = {__uint_as_float(s.x), __uint_as_float(s.y), __uint_as_float(s.z), __uint_as_float(s.w),
                            __uint_as_float(r.x), __uint_as_float(r.y), __uint_as_float(r.z), __uint_as_float(r.w)};
        if constexpr (form == 4) {
            unrolled<8>([&](auto i) {
                const uint32_t group = groups_before(first_pair + i, magic) - first;
                sum0 += group == 2 * t ? v[i] : 0.0f;
                sum1 += group == 2 * t + 1 ? v[i] : 0.0f;
            });
        } else {
            sum0 = (v[0] + v[1]) + (v[2] + v[3]);
            sum1 = (v[4] + v[5]) + (v[6] + v[7]);
            if (form == 3) sum0 += sum1;
        }
    }
    constexpr float kLow = 16777216, kHigh = 1048576;
    const float2 s0 = __half22float2(as_half2(w.scale[0])), s1 = __half22float2(as_half2(w.scale[1]));
    float low0 = 8, low1 = 8, high0 = 8, high1 = 8;
    if constexpr (asymmetric) {
        low0 = static_cast<float>((w.zero[0] & 15) + zero_offset), high0 = static_cast<float>((w.zero[0] >> 4 & 15) + zero_offset);
        low1 = static_cast<float>((w.zero[1] & 15) + zero_offset), high1 = static_cast<float>((w.zero[1] >> 4 & 15) + zero_offset);
    }
    low += ((even[0] + odd[0]) * kLow - low0 * sum0) * s0.x + ((even[1] + odd[1]) * kLow - low1 * sum1) * s1.x;
    high += ((even[2] + odd[2]) * kHigh - high0 * sum0) * s0.y + ((even[3] + odd[3]) * kHigh - high1 * sum1) * s1.y;
}

// 64 columns of halves; the input is column 0 of B.
template <bool small>
__device__ __forceinline__ void multiply_f16(const UnitWords& w, typename Input<small>::Address input, typename Input<small>::Address zeros,
                                             uint32_t lane, float& low, float& high) {
    float c[4] = {};
    const typename Input<small>::Address source = lane < 4 ? input : zeros;
    const uint4 x = Input<small>::template load<0>(source), y = Input<small>::template load<64>(source);
    mma_m16n8k16(c, w.codes[0].x, w.codes[0].y, w.codes[0].z, w.codes[0].w, x.x, x.y);
    mma_m16n8k16(c, w.codes[1].x, w.codes[1].y, w.codes[1].z, w.codes[1].w, x.z, x.w);
    mma_m16n8k16(c, w.codes[2].x, w.codes[2].y, w.codes[2].z, w.codes[2].w, y.x, y.y);
    mma_m16n8k16(c, w.codes[3].x, w.codes[3].y, w.codes[3].z, w.codes[3].w, y.z, y.w);
    low += c[0] + c[1];
    high += c[2] + c[3];
}

// ---- what becomes of sums
// ----------------------------------------------------------------------------------------------------------------

// Jobs by number: 0 to kDecodeJobs - 1 are those of the layer at `parity` in shared memory, kDecodeJobs is the head.
__device__ __forceinline__ const DecodeJob& job_of(uint32_t job, uint32_t parity) {
    return job == kDecodeJobs ? shared().params.head : shared().layers[parity].jobs[job];
}
__device__ __forceinline__ float* sums_of(uint32_t job) { return reinterpret_cast<float*>(workspace(shared().params.at_y[job])); }
// Sums of tiles that blocks share: [sms][2][16].
__device__ __forceinline__ float* parts_of(uint32_t job) {
    return reinterpret_cast<float*>(workspace(shared().params.at_parts)) + job * gridDim.x * 32;
}

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

// ---- a matrix
// ----------------------------------------------------------------------------------------------------------------------------

// The oldest slot of the ring into registers. first, groups: of the unit's groups.
template <uint32_t kind>
__device__ __forceinline__ void load_unit(const Stream& stream, uint32_t lane, uint32_t first, uint32_t groups, UnitWords& w) {
    const uint32_t slot = stream.s.get, g = lane / 4, t = lane % 4;
    w.codes[0] = load_shared_16<0>(slot + lane * 16);
    w.codes[1] = load_shared_16<512>(slot + lane * 16);
    w.codes[2] = load_shared_16<1024>(slot + lane * 16);
    w.codes[3] = load_shared_16<1536>(slot + lane * 16);
    if constexpr (kind != kKindF16) {
        const uint32_t s0 = load_shared_4<2048>(slot + t * 64 + g * 4), s1 = load_shared_4<2048 + 32>(slot + t * 64 + g * 4);
        w.scale[0] = 2 * t < groups ? s0 : 0;
        w.scale[1] = 2 * t + 1 < groups ? s1 : 0;
        if constexpr ((kind - kKindQ4) % 2 == 1) {
            const uint32_t zero = slot + stream.zero_offset() + g * 4, byte = first % 4 + 2 * t;
            w.zero[0] = load_shared_4(zero + min(byte / 4, 2u) * 32) >> (byte % 4 * 8);
            w.zero[1] = load_shared_4(zero + min((byte + 1) / 4, 2u) * 32) >> ((byte + 1) % 4 * 8);
        }
    }
}

// This warp's units: complete tiles are finished, sums of others go to shared().partial.
template <bool small, uint32_t kind>
__device__ __noinline__ void run_units(uint32_t job, uint32_t parity) {
    const DecodeJob& j = job_of(job, parity);
    const Place at;
    Stream stream;
    const DecodeShare share = share_of(j, job, at.warp);
    const uint32_t per_tile = j.per_tile, magic = j.magic, pairs = (j.matrix.cols + 31) / 32, zero_offset = j.matrix.zero_offset;
    constexpr bool dense = kind == kKindF16;
    constexpr uint32_t unit_input = dense ? 128 : 512;  // bytes
    const typename Input<small>::Address input = Input<small>::of(staged_input<small>()) + at.lane % 4 * 16,
                                         zeros = Input<small>::of(staged_zeros<small>()),
                                         sums = Input<small>::of(staged_input<small>()) + shared().params.at_sums;

    uint32_t tile = share.tile, k = share.k;
#pragma unroll 1
    for (uint32_t unit = share.from; unit < share.stop; tile++, k = 0) {
        const uint32_t whole_end = (tile + 1) * per_tile, segment_end = min(share.stop, whole_end);
        const bool continues = k != 0;
        float low = 0, high = 0;
#pragma unroll 1
        for (; unit < segment_end; unit++, k++) {
            UnitWords w;
            const uint32_t first = dense ? 0 : groups_before(8 * k, magic),
                           groups = dense ? 0 : groups_before(min(8 * k + 8, pairs) - 1, magic) + 1 - first;
            stream.wait();
            load_unit<kind>(stream, at.lane, first, groups, w);
            __syncwarp();
            stream.used();
            stream.issue();
            if constexpr (dense) {
                multiply_f16<small>(w, input + k * unit_input, zeros, at.lane, low, high);
            } else {
                multiply_q4<(kind - kKindQ4) / 2, (kind - kKindQ4) % 2 == 1, small>(w, input + k * unit_input, zeros, at.lane, 8 * k, magic,
                                                                                    zero_offset, sums + k * 32, low, high);
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
    const DecodeShare share = share_of(j, job, at.warp);
    if (share.from == share.stop) return;
    const uint32_t per_tile = j.per_tile, g = at.lane / 4, end = share.begin + share.n;
#pragma unroll 1
    for (uint32_t slot = 0; slot < 2; slot++) {
        const uint32_t tile = slot ? divide(share.stop - 1, j.by_per_tile) : share.tile;
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
#define PITH_FORM(form)                                        \
    case kKindQ4 + 2 * form:                                   \
        run_units<small, kKindQ4 + 2 * form>(job, parity);     \
        break;                                                 \
    case kKindQ4 + 2 * form + 1:                               \
        run_units<small, kKindQ4 + 2 * form + 1>(job, parity); \
        break
        PITH_FORM(0);
        PITH_FORM(1);
        PITH_FORM(2);
        PITH_FORM(3);
        PITH_FORM(4);
#undef PITH_FORM
        default:
            run_units<small, kKindF16>(job, parity);
            break;
    }
    trace();
    __syncthreads();
    add_shares(job, parity);
    trace();
}

// ---- reading results
// ---------------------------------------------------------------------------------------------------------------------

__device__ __forceinline__ float4 operator+(float4 a, float4 b) { return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w}; }

// How the sums of a finished job lie in memory.
struct Rows {
    const float* rows;
    const float* parts;
    uint32_t per_tile, sms;
    Divisor units;

    __device__ __forceinline__ Rows(uint32_t job, uint32_t parity)
        : rows(job < kDecodeJobs ? sums_of(job) : nullptr), parts(parts_of(job)), sms(gridDim.x) {
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
    // The second part, or anything readable if there is none.
    __device__ __forceinline__ const float* second_part(uint32_t owners, uint32_t row) const {
        return parts + (owners >> 16) * 2 * 16 + row % 16;
    }
    // first + second + the other parts, if there are any.
    template <typename T>
    __device__ __forceinline__ T add_parts(T first, T second, uint32_t owners, uint32_t row) const {
        const uint32_t many = (owners >> 16) - (owners & 0xffff);
        if (many == 0) return first;
        if (many == 1) return first + second;
        return add_many(first, owners, row);
    }
    template <typename T>
    __device__ __forceinline__ T add_many(T v, uint32_t owners, uint32_t row) const {
#pragma unroll 1
        for (uint32_t s = (owners & 0xffff) + 1; s <= owners >> 16; s++)
            v = v + load_coherent(reinterpret_cast<const T*>(parts + s * 2 * 16 + row % 16));
        return v;
    }
    // A value or four neighbours.
    template <typename T>
    __device__ __forceinline__ T read_as(uint32_t owners, uint32_t row) const {
        const T first = load_coherent(reinterpret_cast<const T*>(first_part(owners, row))),
                second = load_coherent(reinterpret_cast<const T*>(second_part(owners, row)));
        return add_parts(first, second, owners, row);
    }
    __device__ __forceinline__ float read(uint32_t row) const { return read_as<float>(owners(row / 16), row); }
};

}  // namespace pith::cuda
