// Everything of a token that is not a matrix or attention, for any tier: include after the tier's vec.h.
#pragma once
#include <math.h>

#include "kernels/layout.h"

namespace pith::kernels {
namespace {

inline constexpr float kLog2E = 1.44269504088896340736f;

// Calls f(i, count) for pieces of 16 and one for the rest.
template <class F>
inline void by_16(size_t n, const F& f) {
    size_t i = 0;
    for (; n - i >= 16; i += 16) f(i, 16u);
    if (i < n) f(i, static_cast<uint32_t>(n - i));
}

inline void rms_norm(const float* x, const float* weight, uint32_t n, float eps, float* y) {
    Vec squares = zero();
    by_16(n, [&](size_t i, uint32_t count) {
        const Vec v = load_n(x + i, count);
        squares = fma(v, v, squares);
    });
    const float mean = reduce_add(squares) / static_cast<float>(n);
    const Vec scale = set1(1.0f / sqrtf(mean + eps));
    by_16(n, [&](size_t i, uint32_t count) { store_n(y + i, mul(mul(load_n(x + i, count), scale), load_n(weight + i, count)), count); });
}

inline void silu_mul(const float* gate, const float* up, uint32_t n, float* y) {
    const Vec one = set1(1.0f), minus_log2e = set1(-kLog2E);
    by_16(n, [&](size_t i, uint32_t count) {
        const Vec g = load_n(gate + i, count);
        const Vec silu = div(g, add(one, exp2(mul(g, minus_log2e))));
        store_n(y + i, mul(silu, load_n(up + i, count)), count);
    });
}

inline void add_to(const float* x, uint32_t n, float* y) {
    by_16(n, [&](size_t i, uint32_t count) { store_n(y + i, add(load_n(y + i, count), load_n(x + i, count)), count); });
}

inline void rope(float* x, uint32_t half, const float* cos, const float* sin) {
    by_16(half, [&](size_t i, uint32_t count) {
        const Vec a = load_n(x + i, count), b = load_n(x + half + i, count);
        const Vec c = load_n(cos + i, count), s = load_n(sin + i, count);
        store_n(x + i, sub(mul(a, c), mul(b, s)), count);
        store_n(x + half + i, add(mul(b, c), mul(a, s)), count);
    });
}

inline void q8_row(const Matrix& w, uint32_t row, float* y) {
    const uint8_t* tile = w.data + row / kTileRows * w.tile_bytes;
    const uint8_t* codes = tile + q8_codes(w) + row % kTileRows * 4;
    for (uint32_t k = 0; k < w.cols; k++) {
        float scale;
        memcpy(&scale, tile + (size_t{k / w.group} * kTileRows + row % kTileRows) * sizeof scale, sizeof scale);
        y[k] = scale * static_cast<float>(int32_t{codes[size_t{k / 4} * 64 + k % 4]} - 128);
    }
}
inline void tile_row(const Matrix& w, uint32_t row, float* y) {
    if (w.type == Type::Q8) return q8_row(w, row, y);
    const size_t size = element_size(w.type);
    const uint8_t* at = w.data + row / kTileRows * w.tile_bytes + row % kTileRows * size;
    for (uint32_t k = 0; k < w.cols; k++) y[k] = element_float(w.type, at + k * kTileRows * size);
}

template <Type kType>
inline Vec load_element(const uint8_t* at) {  // sixteen of them
    if constexpr (kType == Type::F32)
        return load(reinterpret_cast<const float*>(at));
    else if constexpr (kType == Type::F16)
        return load(reinterpret_cast<const uint16_t*>(at));
    else
        return load_bf16(reinterpret_cast<const uint16_t*>(at));
}
template <Type kType>
inline void to_float_as(const uint8_t* from, size_t n, float* y) {
    constexpr size_t kSize = kType == Type::F32 ? 4 : 2;
    size_t i = 0;
    for (; n - i >= 16; i += 16) store(y + i, load_element<kType>(from + i * kSize));
    for (; i < n; i++) y[i] = element_float(kType, from + i * kSize);
}
inline void to_float(Type type, const void* from, size_t n, float* y) {
    const uint8_t* bytes = static_cast<const uint8_t*>(from);
    if (type == Type::F32) return to_float_as<Type::F32>(bytes, n, y);
    if (type == Type::F16) return to_float_as<Type::F16>(bytes, n, y);
    to_float_as<Type::BF16>(bytes, n, y);
}

// One token's block to q = round(x * 127 / absmax). A block that is all but zero becomes zero: 127 / absmax would overflow.
inline void quantise_block(const float* x, uint32_t columns, const uint32_t* perm, uint32_t lanes, int8_t* q, float* scale, int32_t* sum) {
    const auto values = [&](size_t i, uint32_t count) { return perm ? gather_n(x, perm + i, count) : load_n(x + i, count); };
    Ints largest = set1_int(0);
    by_16(columns, [&](size_t i, uint32_t count) { largest = max_magnitude(largest, values(i, count)); });
    const uint32_t bits = reduce_max(largest);  // as integers, so that NaN is above all
    const float absmax = bits_float(bits);
    float factor = 0.0f;
    *scale = 0.0f;
    if (bits >= 0x7F800000) {
        *scale = bits_float(0x7FC00000);
    } else if (absmax >= 1.0e-30f) {
        *scale = absmax / 127.0f;
        factor = 127.0f / absmax;
    }
    Ints total = set1_int(0);
    const Vec factors = set1(factor);
    by_16(columns, [&](size_t i, uint32_t count) {
        const Ints rounded = factor == 0.0f ? set1_int(0) : round(mul(values(i, count), factors));
        total = add(total, rounded);
        if (lanes == 1) return store_int8(q + i, rounded, count);
        int8_t bytes[16];
        store_int8(bytes, rounded, 16);
        memcpy(q + i * lanes, bytes, 8);
        if (count > 8) memcpy(q + (i + 8) * lanes, bytes + 8, 8);
    });
    *sum = -reduce_add(total);
}

inline void quantise(const float* x, uint32_t cols, uint32_t block, const uint32_t* perm, uint32_t lanes, int8_t* q, float* scale,
                     int32_t* sum) {
    for (uint32_t column = 0; column < cols; column += block, scale += lanes, sum += lanes) {
        quantise_block(perm ? x : x + column, smaller(block, cols - column), perm ? perm + column : nullptr, lanes,
                       q + size_t{column} * lanes, scale, sum);
    }
}

inline void store_kv(Type type, uint8_t* to, size_t stride, const float* from, uint32_t n) {  // stride in elements
    if (type == Type::F32) {
        float* out = reinterpret_cast<float*>(to);
        for (uint32_t i = 0; i < n; i++) out[i * stride] = from[i];
        return;
    }
    uint16_t* out = reinterpret_cast<uint16_t*>(to);
    by_16(n, [&](size_t i, uint32_t count) {
        uint16_t halves[16];
        store_half(halves, load_n(from + i, count));
        for (uint32_t j = 0; j < count; j++) out[(i + j) * stride] = halves[j];
    });
}

inline void kv_store(const KvLayer& kv, uint32_t position, const float* k, const float* v) {
    uint8_t* k_page = static_cast<uint8_t*>(kv.k_pages[position / kv.page]);
    uint8_t* v_page = static_cast<uint8_t*>(kv.v_pages[position / kv.page]);
    const size_t at = position % kv.page, dim = kv.head_dim;
    for (uint32_t head = 0; head < kv.heads; head++) {
        const size_t first = size_t{head} * kv.page;  // of the head's positions
        store_kv(kv.k_type, k_page + ((first + at / 64 * 64) * dim + at % 64) * element_size(kv.k_type), 64, k + head * dim, kv.head_dim);
        store_kv(kv.v_type, v_page + (first + at) * dim * element_size(kv.v_type), 1, v + head * dim, kv.head_dim);
    }
}

}  // namespace
}  // namespace pith::kernels
