// What the products with several tokens share: scaled fragments of weights, and what becomes of sums.
#pragma once
#include "device.cuh"
#include "matmul.h"

namespace pith::cuda {

__device__ __forceinline__ uint32_t half2_mul(uint32_t a, uint32_t b) {
    uint32_t r;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}

// The A fragment of one code word. scale: half2 of rows g and g + 8; zero: a byte of two zero points, if there may be any.
template <bool kZeros = true>
__device__ __forceinline__ void scaled_fragment(const Matrix& m, uint32_t word, uint32_t scale, uint32_t zero, uint32_t (&a)[4]) {
    uint32_t low = kZeroLow8, high = kZeroHigh8;
    if (kZeros && m.zeros) low = zero_low((zero & 15) + m.zero_offset), high = zero_high((zero >> 4 & 15) + m.zero_offset);
    decode_q4(word, low, high, a);
    const half2 s = as_half2(scale), sg = __low2half2(s), sh = __high2half2(s);
    a[0] = as_bits(__hmul2(as_half2(a[0]), sg));
    a[1] = as_bits(__hmul2(as_half2(a[1]), sh));
    a[2] = as_bits(__hmul2(as_half2(a[2]), sg));
    a[3] = as_bits(__hmul2(as_half2(a[3]), sh));
}

__device__ __forceinline__ void put(const MatmulParams& p, uint32_t token, uint32_t row, float v) {
    const uint64_t at = token * p.y_stride + row;
    if (p.store == MatmulStore::Half)
        static_cast<half*>(p.y)[at] = to_half(v);
    else if (p.store == MatmulStore::Float)
        static_cast<float*>(p.y)[at] = v;
    else
        static_cast<float*>(p.y)[at] += v;
}

// The sums of a row tile and kColumns times 8 tokens, from token `first` on.
template <uint32_t kColumns>
__device__ __forceinline__ void store_tile(const MatmulParams& p, uint32_t tile, uint32_t first, const float (&c)[kColumns][4]) {
    const Matrix& m = p.matrix;
    const uint32_t g = lane_id() / 4, t = lane_id() % 4, row = tile * kTileRows + g;
    const float s0 = m.row_scale ? m.row_scale[row] : 1.0f, s1 = m.row_scale ? m.row_scale[row + 8] : 1.0f;
    const float b0 = m.bias ? m.bias[row] : 0.0f, b1 = m.bias ? m.bias[row + 8] : 0.0f;
#pragma unroll
    for (uint32_t n = 0; n < kColumns; n++)
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            const uint32_t token = first + n * 8 + t * 2 + i;
            if (token >= p.tokens) continue;
            const float low = c[n][i] * s0 + b0, high = c[n][2 + i] * s1 + b1;
            if (p.store == MatmulStore::GateUp) {
                const uint32_t e = tile * 8 + g;
                if (e >= p.width) continue;
                static_cast<half*>(p.y)[token * p.y_stride + (p.inverse ? p.inverse[e] : e)] = to_half(low / (1.0f + __expf(-low)) * high);
            } else {
                if (row < m.rows) put(p, token, row, low);
                if (row + 8 < m.rows) put(p, token, row + 8, high);
            }
        }
}

// A block's results on their way through shared memory, where a token has kResultPitch floats: no bank is met twice.
inline constexpr uint32_t kResultRows = 128, kResultPitch = kResultRows + 4;

// Those of kTokens tokens, by kWarps warps: memory sees whole lines. `thread`: this one's number among theirs.
template <uint32_t kTokens, uint32_t kWarps>
__device__ __forceinline__ void store_results(const MatmulParams& p, const float* results, uint32_t first_tile, uint32_t first_token,
                                              uint32_t thread) {
    const Matrix& m = p.matrix;
    const uint32_t lane = lane_id(), warp = thread / 32;
    const uint32_t tokens = min(kTokens, p.tokens - first_token);
    if (p.store == MatmulStore::GateUp) {
        // Elements 2 lane, 2 lane + 1 of the block's 64.
        const uint32_t tile = lane / 4, row = tile * kTileRows + lane % 4 * 2, e = (first_tile + tile) * 8 + lane % 4 * 2;
        if (first_tile + tile >= m.tiles || e >= p.width) return;
        const uint32_t at = first_tile * kTileRows + row;
        float s[4] = {1, 1, 1, 1}, b[4] = {};
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            if (m.row_scale) s[i] = m.row_scale[at + i % 2 + i / 2 * 8];
            if (m.bias) b[i] = m.bias[at + i % 2 + i / 2 * 8];
        }
        const bool both = e + 1 < p.width, wide = both && !p.inverse && p.y_stride % 2 == 0 && (reinterpret_cast<uint64_t>(p.y) & 3) == 0;
        const uint32_t to0 = p.inverse ? p.inverse[e] : e, to1 = p.inverse && both ? p.inverse[e + 1] : e + 1;
        half* y = static_cast<half*>(p.y) + static_cast<uint64_t>(first_token) * p.y_stride;
#pragma unroll 4
        for (uint32_t t = warp; t < tokens; t += kWarps) {
            const float2 gate = *reinterpret_cast<const float2*>(results + t * kResultPitch + row);
            const float2 up = *reinterpret_cast<const float2*>(results + t * kResultPitch + row + 8);
            const float g0 = gate.x * s[0] + b[0], g1 = gate.y * s[1] + b[1], u0 = up.x * s[2] + b[2], u1 = up.y * s[3] + b[3];
            const float v0 = g0 / (1.0f + __expf(-g0)) * u0, v1 = g1 / (1.0f + __expf(-g1)) * u1;
            half* to = y + t * p.y_stride;
            if (wide) {
                *reinterpret_cast<uint32_t*>(to + e) = to_half2_bits(v0, v1);
            } else {
                to[to0] = to_half(v0);
                if (both) to[to1] = to_half(v1);
            }
        }
        return;
    }
    // Rows 4 lane .. 4 lane + 3 of the block's 128.
    const uint32_t row = first_tile * kTileRows + lane * 4;
    if (row >= m.rows) return;
    float4 s = make_float4(1, 1, 1, 1), b = make_float4(0, 0, 0, 0);
    if (m.row_scale) s = *reinterpret_cast<const float4*>(m.row_scale + row);
    if (m.bias) b = *reinterpret_cast<const float4*>(m.bias + row);
    const uint32_t there = min(4u, m.rows - row);
    const bool whole = there == 4 && p.y_stride % 4 == 0;
    const auto value = [&](uint32_t t) {
        const float4 v = *reinterpret_cast<const float4*>(results + t * kResultPitch + lane * 4);
        return make_float4(v.x * s.x + b.x, v.y * s.y + b.y, v.z * s.z + b.z, v.w * s.w + b.w);
    };
    const uint64_t base = static_cast<uint64_t>(first_token) * p.y_stride + row;
    if (p.store == MatmulStore::Half && whole && (reinterpret_cast<uint64_t>(p.y) & 7) == 0) {
        half* y = static_cast<half*>(p.y) + base;
#pragma unroll 4
        for (uint32_t t = warp; t < tokens; t += kWarps) {
            const float4 v = value(t);
            *reinterpret_cast<uint2*>(y + t * p.y_stride) = make_uint2(to_half2_bits(v.x, v.y), to_half2_bits(v.z, v.w));
        }
    } else if (p.store == MatmulStore::Add && whole && (reinterpret_cast<uint64_t>(p.y) & 15) == 0) {
        float* y = static_cast<float*>(p.y) + base;
        constexpr uint32_t kAhead = 8;  // loads under way
        for (uint32_t t = warp; t < tokens; t += kWarps * kAhead) {
            float4 old[kAhead];
#pragma unroll
            for (uint32_t i = 0; i < kAhead; i++) {
                const uint32_t token = min(t + i * kWarps, tokens - 1);
                old[i] = *reinterpret_cast<const float4*>(y + token * p.y_stride);
            }
#pragma unroll
            for (uint32_t i = 0; i < kAhead; i++) {
                const uint32_t token = t + i * kWarps;
                if (token >= tokens) break;
                const float4 v = value(token);
                *reinterpret_cast<float4*>(y + token * p.y_stride) =
                    make_float4(old[i].x + v.x, old[i].y + v.y, old[i].z + v.z, old[i].w + v.w);
            }
        }
    } else if (p.store == MatmulStore::Float && whole && (reinterpret_cast<uint64_t>(p.y) & 15) == 0) {
        float* y = static_cast<float*>(p.y) + base;
#pragma unroll 4
        for (uint32_t t = warp; t < tokens; t += kWarps) *reinterpret_cast<float4*>(y + t * p.y_stride) = value(t);
    } else {
        for (uint32_t t = warp; t < tokens; t += kWarps) {
            const float4 v = value(t);
            put(p, first_token + t, row, v.x);
            if (there > 1) put(p, first_token + t, row + 1, v.y);
            if (there > 2) put(p, first_token + t, row + 2, v.z);
            if (there > 3) put(p, first_token + t, row + 3, v.w);
        }
    }
}

// GateUp: zeros from the result's width to its stride, for tokens [first, first + count). By one block.
__device__ __forceinline__ void clear_padding(const MatmulParams& p, uint32_t first, uint32_t count) {
    if (p.store != MatmulStore::GateUp) return;
    for (uint64_t n = threadIdx.x, pad = p.y_stride - p.width; n < count * pad; n += blockDim.x)
        if (first + n / pad < p.tokens) static_cast<half*>(p.y)[(first + n / pad) * p.y_stride + p.width + n % pad] = __ushort_as_half(0);
}

}  // namespace pith::cuda
