// The decode kernel's inputs: every block stages the input vector of its next
// product in shared memory, or the columns of it that the block works on: as
// integers in blocks (decode_matvec.cuh), or as halves for matrices of halves.
#pragma once
#include "decode_matvec.cuh"

namespace pith::cuda {

// Four elements of a block of 128 columns, for a lane: its columns are at(0) +
// {0, 1, 8, 9}.
struct Quad {
    float v[4];
};
__device__ __forceinline__ uint32_t quad_column(uint32_t piece) { return piece * 128 + lane_id() / 4 * 16 + lane_id() % 4 * 2; }

template <uint32_t lanes>
__device__ __forceinline__ uint32_t lanes_max(uint32_t v) {
#if __CUDA_ARCH__ >= 800
    if constexpr (lanes == 32) {
        v = __reduce_max_sync(0xffffffffu, v);
    } else
#endif
#pragma unroll
        for (uint32_t m = lanes / 2; m; m >>= 1) v = max(v, __shfl_xor_sync(0xffffffffu, v, m));
    return v;
}
template <uint32_t lanes>
__device__ __forceinline__ int lanes_sum(int v) {
#if __CUDA_ARCH__ >= 800
    if constexpr (lanes == 32) {
        v = __reduce_add_sync(0xffffffffu, v);
    } else
#endif
#pragma unroll
        for (uint32_t m = lanes / 2; m; m >>= 1) v += __shfl_xor_sync(0xffffffffu, v, m);
    return v;
}

// 128 columns as integers, by a warp; piece: counted from the first staged
// column.
template <uint32_t block>
__device__ __forceinline__ void stage_integers(uint32_t piece, const Quad& q) {
    constexpr uint32_t lanes = block / 4;
    constexpr float kMost = 32639;  // 127 * 256 + 127
    const uint32_t lane = lane_id();
    uint32_t bits = 0;
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) bits = max(bits, __float_as_uint(q.v[i]) & 0x7fffffffu);
    bits = lanes_max<lanes>(bits);
    if (bits >= 0x7f800000u) set_poison();
    const float most = __uint_as_float(bits), factor = bits ? __fdividef(kMost, most) : 0.0f;
    // of numbers so small that the factor is infinite nothing is left
    const float usable = factor <= 1e38f ? factor : 0.0f;
    int sum = 0;
    uint32_t high = 0, low = 0;
#pragma unroll
    for (uint32_t n = 0; n < 4; n++) {
        const uint32_t i = n / 2 + n % 2 * 2;  // the bytes' order: 0, 8, 1, 9
        const int x = min(max(__float2int_rn(q.v[i] * usable), -32639), 32639), h = (x + 128) >> 8;
        sum += x;
        high |= (static_cast<uint32_t>(h) & 0xff) << 8 * n;
        low |= (static_cast<uint32_t>(x) & 0xff) << 8 * n;
    }
    sum = lanes_sum<lanes>(sum);
    uint8_t* to = staged_input() + piece * 2 * kPlaneChunk + lane / 16 * kPlaneChunk + lane % 4 * 16 + lane / 4 % 4 * 4;
    *reinterpret_cast<uint32_t*>(to) = high;
    *reinterpret_cast<uint32_t*>(to + kPlane) = low;
    if (lane % lanes == 0) staged_blocks()[piece * (128 / block) + lane / lanes] = {usable > 0 ? most * (1.0f / kMost) : 0.0f, sum};
}
__device__ __forceinline__ void stage_halves(uint32_t piece, const Quad& q) {
    half* input = reinterpret_cast<half*>(staged_input());
    const uint32_t c = quad_column(piece);
    *reinterpret_cast<uint32_t*>(input + input_slot(c)) = to_half2_bits(q.v[0], q.v[1]);
    *reinterpret_cast<uint32_t*>(input + input_slot(c + 8)) = to_half2_bits(q.v[2], q.v[3]);
}
template <uint32_t block>
__device__ __forceinline__ void stage_piece(uint32_t piece, const Quad& q) {
    if constexpr (block == 0) {
        stage_halves(piece, q);
    } else {
        stage_integers<block>(piece, q);
    }
}

inline constexpr uint32_t kHeld = 4;  // pieces of 128 columns that a warp keeps in registers

// The residual stream's words of a piece (x is padded to 512 columns; padding never changes).
struct RawQuad {
    ulonglong2 low, high;
};
__device__ __forceinline__ RawQuad load_residual(const unsigned long long* x, uint32_t piece, bool wanted) {
    const ulonglong2* at = reinterpret_cast<const ulonglong2*>(x + quad_column(piece));
    return {load_relaxed_if(at, wanted), load_relaxed_if(at + 4, wanted)};
}
// The same without their counts, in units of the words, and whether additions are still to come to one of them. A function of its own, as
// others here: unrolled copies of code that runs but a few times a layer were slower.
struct WholeQuad {
    Quad x;
    uint32_t missing;
};
__device__ __noinline__ WholeQuad whole_quad(RawQuad q, uint32_t piece, unsigned long long count) {
    const uint32_t c = quad_column(piece), hidden = shared().params.hidden;
    const bool low = c < hidden, high = c + 8 < hidden;
    if (!low) q.low.x = q.low.y = count;
    if (!high) q.high.x = q.high.y = count;
    const unsigned long long w[4] = {q.low.x - count, q.low.y - count, q.high.x - count, q.high.y - count};
    WholeQuad r;
    r.missing = 0;
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        r.missing |= static_cast<uint32_t>(w[i]);
        r.x.v[i] = __ll2float_rn(static_cast<long long>(w[i]) >> kCountBits);
    }
    r.missing &= (1u << kCountBits) - 1;
    return r;
}
__device__ __forceinline__ Quad norm_quad(const float* norm, uint32_t piece, uint32_t hidden) {
    const uint32_t c = quad_column(piece);  // hidden is a multiple of 8
    const float2 zero = {0, 0}, *from = reinterpret_cast<const float2*>(norm + c);
    const float2 a = c < hidden ? __ldg(from) : zero, b = c + 8 < hidden ? __ldg(from + 4) : zero;
    return {a.x, a.y, b.x, b.y};
}

// In act-order: halves go to their places first; where integers are wanted,
// each warp then makes them of its pieces where they lie. The places of a
// lane's four elements, 16 bits each:
__device__ __forceinline__ uint2 places_of(const uint32_t* inverse, uint32_t piece, uint32_t hidden) {
    const uint32_t c = quad_column(piece);  // hidden is a multiple of 8
    const uint2 *from = reinterpret_cast<const uint2*>(inverse + c), low = {c, c + 1}, high = {c + 8, c + 9};
    const uint2 a = c < hidden ? __ldg(from) : low, b = c + 8 < hidden ? __ldg(from + 4) : high;
    return {a.x | a.y << 16, b.x | b.y << 16};
}
__device__ __forceinline__ void scatter(uint2 places, uint32_t block, const Quad& q) {
    half* input = reinterpret_cast<half*>(staged_input());
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t to = (i < 2 ? places.x : places.y) >> i % 2 * 16 & 0xffff;
        input[block ? to : input_slot(to)] = to_half(q.v[i]);
    }
}

// A piece times factor and weight to the staged input, where it is or, in order, to its places.
template <uint32_t block, bool ordered = false>
__device__ __noinline__ void put_piece(uint32_t piece, Quad q, Quad weight, float factor, uint2 places = {0, 0}) {
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) q.v[i] *= factor * weight.v[i];
    if constexpr (ordered) {
        scatter(places, block, q);
    } else {
        stage_piece<block>(piece, q);
    }
}

template <uint32_t block>
__device__ __noinline__ void settle(uint32_t pieces) {
    const half* input = reinterpret_cast<const half*>(staged_input());
    const uint32_t warp = threadIdx.x / 32, warps = shared().params.warps;
#pragma unroll 1
    for (uint32_t piece = warp; piece < pieces; piece += warps) {
        const uint32_t c = quad_column(piece);
        Quad q;
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            q.v[i] = __half2float(input[c + i / 2 * 8 + i % 2]);
        }
        __syncwarp();
        put_piece<block>(piece, q, {1, 1, 1, 1}, 1);
    }
}

// The staged input becomes rmsnorm(x) * norm in the order `inverse`, x being
// a buffer of the residual stream once it is complete.
template <uint32_t block, bool ordered>
__device__ __noinline__ void stage_norm_as(const float* norm, const uint32_t* inverse, uint32_t buffer) {
    const DecodeParams& p = shared().params;
    const uint32_t warp = threadIdx.x / 32, warps = p.warps, hidden = p.hidden, pieces = (hidden + 511) / 512 * 4;
    const unsigned long long count = shared().counts[buffer];
    const unsigned long long* const x = residual(buffer);
    Quad weight[kHeld], held[kHeld];
    uint2 places[kHeld] = {};
    unrolled<kHeld>([&](auto h) { weight[h] = norm_quad(norm, warp + h * warps, hidden); });
    if constexpr (ordered) unrolled<kHeld>([&](auto h) { places[h] = places_of(inverse, warp + h * warps, hidden); });
    // A word of each piece first: to look for all of them all the time would take bandwidth from the weights. (All blocks look for the
    // same words at the same time, which costs less than if each had its own.)
    [[maybe_unused]] uint64_t spins = 0;
    const uint32_t first = (warp + lane_id() % kHeld * warps) * 128;
    const unsigned long long* const at = x + (first < hidden ? first : warp * 128 < hidden ? warp * 128 : 0);
    constexpr uint32_t mask = (1u << kCountBits) - 1;
    while (__any_sync(0xffffffffu, ((static_cast<uint32_t>(load_relaxed(at)) ^ static_cast<uint32_t>(count)) & mask) != 0))
        PITH_SPINS(spins);
    RawQuad raw[kHeld];
    float squares;
    uint32_t missing;
    do {
        unrolled<kHeld>([&](auto h) { raw[h] = load_residual(x, warp + h * warps, warp + h * warps < pieces); });
        squares = 0;
        missing = 0;
        auto add = [&](const WholeQuad& q) {
            squares += q.x.v[0] * q.x.v[0] + q.x.v[1] * q.x.v[1] + q.x.v[2] * q.x.v[2] + q.x.v[3] * q.x.v[3];
            missing |= q.missing;
        };
        unrolled<kHeld>([&](auto h) {
            held[h] = {};
            if (warp + h * warps >= pieces) return;
            const WholeQuad q = whole_quad(raw[h], warp + h * warps, count);
            held[h] = q.x;
            add(q);
        });
#pragma unroll 1
        for (uint32_t piece = warp + kHeld * warps; piece < pieces; piece += warps)
            add(whole_quad(load_residual(x, piece, true), piece, count));
        PITH_SPINS(spins);
    } while (__any_sync(0xffffffffu, missing != 0));
    squares = warp_sum(squares);
    if (lane_id() == 0) shared().sums[warp] = squares;
    meet_warps();
    trace();
    constexpr float kUnit = 1.0f / kFixedOne;
    const float mean = warp_sum(lane_id() < warps ? shared().sums[lane_id()] : 0.0f) * kUnit * kUnit / static_cast<float>(hidden);
    const float factor = rsqrtf(mean + p.rms_eps) * kUnit;
    unrolled<kHeld>([&](auto h) {
        if (warp + h * warps < pieces) put_piece<block, ordered>(warp + h * warps, held[h], weight[h], factor, places[h]);
    });
#pragma unroll 1
    for (uint32_t piece = warp + kHeld * warps; piece < pieces; piece += warps)
        put_piece<block, ordered>(piece, whole_quad(load_residual(x, piece, true), piece, count).x, norm_quad(norm, piece, hidden), factor,
                                  ordered ? places_of(inverse, piece, hidden) : uint2{0, 0});
    meet_warps();
    if (ordered && block) {
        settle<block>(pieces);
        meet_warps();
    }
    trace();
}

__device__ __forceinline__ void stage_norm(const float* norm, const uint32_t* inverse, uint32_t block, uint32_t buffer) {
    switch (block) {
        case 128:
            return inverse ? stage_norm_as<128, true>(norm, inverse, buffer) : stage_norm_as<128, false>(norm, inverse, buffer);
        case 64:
            return inverse ? stage_norm_as<64, true>(norm, inverse, buffer) : stage_norm_as<64, false>(norm, inverse, buffer);
        case 32:
            return inverse ? stage_norm_as<32, true>(norm, inverse, buffer) : stage_norm_as<32, false>(norm, inverse, buffer);
        default:
            return inverse ? stage_norm_as<0, true>(norm, inverse, buffer) : stage_norm_as<0, false>(norm, inverse, buffer);
    }
}

inline constexpr uint32_t kCopied = 2;  // pieces that a warp looks for at once

// The columns of a product's input that are the block's, as tagged halves in
// global memory, where they lie as they are multiplied.
template <uint32_t block>
__device__ __noinline__ void stage_copy_as(const uint32_t* from, uint32_t job, uint32_t l) {
    const uint32_t warp = threadIdx.x / 32, warps = shared().params.warps;
    const DecodeJob& j = job_of(job, l);
    const DecodeShare s = share_of(j, job);
    const uint32_t begin = s.k0 * kind_columns(j.kind), pieces = s.count ? (s.kn * kind_columns(j.kind) + 127) / 128 : 0;
    const uint32_t columns = j.matrix.cols, tag = shared().tag;
    [[maybe_unused]] uint64_t spins = 0;
#pragma unroll 1
    for (uint32_t first = warp; first < pieces; first += kCopied * warps) {
        {  // a word of each piece first, as in stage_norm_as
            const uint32_t i = first + lane_id() % kCopied * warps, c = begin + i * 128;
            const bool look = i < pieces && c < columns;
            uint32_t found;
            do {
                found = look ? load_relaxed(from + c) >> 16 : tag;
                PITH_SPINS(spins);
            } while (__any_sync(0xffffffffu, found != tag));
        }
        uint2 word[kCopied][2];
        bool missing;
        do {
            missing = false;
            unrolled<kCopied>([&](auto h) {
                const uint32_t c = begin + quad_column(first + h * warps);
                const bool wanted = first + h * warps < pieces;
                word[h][0] = load_relaxed_if(reinterpret_cast<const uint2*>(from + c), wanted);
                word[h][1] = load_relaxed_if(reinterpret_cast<const uint2*>(from + c + 8), wanted);
                // an even number of columns
                missing = missing || (wanted && ((c < columns && (word[h][0].x >> 16 != tag || word[h][0].y >> 16 != tag)) ||
                                                 (c + 8 < columns && (word[h][1].x >> 16 != tag || word[h][1].y >> 16 != tag))));
            });
            PITH_SPINS(spins);
        } while (__any_sync(0xffffffffu, missing));
        unrolled<kCopied>([&](auto h) {
            const auto number = [](uint32_t v) { return __half2float(__ushort_as_half(static_cast<unsigned short>(v))); };
            if (first + h * warps < pieces)
                put_piece<block>(first + h * warps,
                                 {number(word[h][0].x), number(word[h][0].y), number(word[h][1].x), number(word[h][1].y)}, {1, 1, 1, 1}, 1);
        });
    }
    meet_warps();
    trace();
}

__device__ __forceinline__ void stage_copy(const uint32_t* from, uint32_t job, uint32_t l) {
    switch (kind_block(job_of(job, l).kind)) {
        case 128:
            return stage_copy_as<128>(from, job, l);
        case 64:
            return stage_copy_as<64>(from, job, l);
        case 32:
            return stage_copy_as<32>(from, job, l);
        default:
            return stage_copy_as<0>(from, job, l);
    }
}

// The block has read all of `buffer`: its rows of it go to the other one.
__device__ __noinline__ void forward_residual(uint32_t buffer) {
    const DecodeParams& p = shared().params;
    const uint32_t begin = part(p.hidden, blockIdx.x, gridDim.x), end = part(p.hidden, blockIdx.x + 1, gridDim.x);
    const unsigned long long count = shared().counts[buffer];
#pragma unroll 1
    for (uint32_t i = begin + threadIdx.x; i < end; i += p.warps * 32) {
        const long long now = whole_sum(load_relaxed(residual(buffer) + i), count);
        if (now >= kFixedLimit || now <= -kFixedLimit) set_poison();
        long long& last = own_rows()[i - begin];  // of the other buffer
        add_fixed(residual(1 - buffer) + i, now - last);
        last = now;
    }
}

// Where gate and up are two matrices, each block makes its part of their
// product.
__device__ __noinline__ void activate_apart(uint32_t l) {
    const DecodeParams& p = shared().params;
    const uint32_t* inverse = layer_of(l).jobs[kJobDown].inverse;
    const uint2 *gate = sums_of(kJobGateUp), *up = sums_of(kJobGateUp + 1);
#pragma unroll 1
    for (uint32_t i = blockIdx.x * p.warps * 32 + threadIdx.x; i < p.intermediate; i += gridDim.x * p.warps * 32)
        put_tagged(hidden_out() + (inverse ? inverse[i] : i), silu(get_tagged(gate + i)) * get_tagged(up + i));
    meet_warps();
}

}  // namespace pith::cuda
