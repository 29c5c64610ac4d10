// What the products with several tokens share: scaled fragments of weights, and what becomes of sums.
#pragma once
#include "device.cuh"
#include "matmul.h"

namespace pith::cuda {

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

// GateUp: zeros from the result's width to its stride, for tokens [first, first + count). By one block.
__device__ __forceinline__ void clear_padding(const MatmulParams& p, uint32_t first, uint32_t count) {
    if (p.store != MatmulStore::GateUp) return;
    for (uint64_t n = threadIdx.x, pad = p.y_stride - p.width; n < count * pad; n += blockDim.x)
        if (first + n / pad < p.tokens) static_cast<half*>(p.y)[(first + n / pad) * p.y_stride + p.width + n % pad] = __ushort_as_half(0);
}

}  // namespace pith::cuda
