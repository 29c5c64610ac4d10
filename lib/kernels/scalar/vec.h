// Sixteen lanes in plain C++: the reference that the vector tiers are tested against, and what other instruction sets run.
#pragma once
#include <stdint.h>
#include <string.h>

#include "kernels/impl/exp2.h"
#include "kernels/layout.h"

namespace pith::kernels {
namespace {

struct Vec {
    float v[16];
};
struct Ints {
    int32_t v[16];
};

struct Tune {
    using DenseShape = RegisterShape<1, 1, 2>;
    using ExactShape = RegisterShape<1, 1, 2>;
    using FastShape = RegisterShape<1, 1, 2>;
    static constexpr int kWideTiles = 1;
    // Of attention: registers of scores and of output.
    static constexpr int kScoreVecs = 4, kMixVecs = 4;
};

template <class F>
inline Vec each(const F& f) {
    Vec out;
    for (int i = 0; i < 16; i++) out.v[i] = f(i);
    return out;
}
template <class F>
inline Ints each_int(const F& f) {
    Ints out;
    for (int i = 0; i < 16; i++) out.v[i] = f(i);
    return out;
}

inline void prefetch(const uint8_t*, size_t) {}
inline void prefetch_far(const uint8_t*, size_t) {}
inline Vec set1(float value) {
    return each([=](int) { return value; });
}
inline Vec zero() { return set1(0.0f); }
inline Vec load(const float* from) {
    return each([=](int i) { return from[i]; });
}
inline Vec load(const uint16_t* halves) {
    return each([=](int i) { return half_float(halves[i]); });
}
inline Vec load_bf16(const uint16_t* from) {
    return each([=](int i) { return bf16_float(from[i]); });
}
// The first n lanes; the others are zero.
inline Vec load_n(const float* from, uint32_t n) {
    return each([=](int i) { return static_cast<uint32_t>(i) < n ? from[i] : 0.0f; });
}
inline Vec gather_n(const float* from, const uint32_t* index, uint32_t n) {
    return each([=](int i) { return static_cast<uint32_t>(i) < n ? from[index[i]] : 0.0f; });
}
inline void store(float* to, const Vec& a) { memcpy(to, a.v, sizeof a.v); }
inline void store_n(float* to, const Vec& a, uint32_t n) { memcpy(to, a.v, n * sizeof(float)); }
inline void store_half(uint16_t* to, const Vec& a) {
    for (int i = 0; i < 16; i++) to[i] = float_half(a.v[i]);
}

inline Vec add(const Vec& a, const Vec& b) {
    return each([&](int i) { return a.v[i] + b.v[i]; });
}
inline Vec sub(const Vec& a, const Vec& b) {
    return each([&](int i) { return a.v[i] - b.v[i]; });
}
inline Vec mul(const Vec& a, const Vec& b) {
    return each([&](int i) { return a.v[i] * b.v[i]; });
}
inline Vec div(const Vec& a, const Vec& b) {
    return each([&](int i) { return a.v[i] / b.v[i]; });
}
inline Vec fma(const Vec& a, const Vec& b, const Vec& c) {
    return each([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
}
inline Vec max(const Vec& a, const Vec& b) {
    return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
// Lanes [begin, end) of a, the others of b.
inline Vec keep(const Vec& a, int begin, int end, const Vec& b) {
    return each([&](int i) { return i >= begin && i < end ? a.v[i] : b.v[i]; });
}
inline float first_lane(const Vec& a) { return a.v[0]; }
inline float reduce_add(const Vec& a) {
    float sum = 0.0f;
    for (int i = 0; i < 16; i++) sum += a.v[i];
    return sum;
}
inline float reduce_max(const Vec& a) {
    float largest = a.v[0];
    for (int i = 1; i < 16; i++) largest = a.v[i] > largest ? a.v[i] : largest;
    return largest;
}

// NaN stays NaN; below 2^-126 is zero, from 2^128 on infinity.
inline float exp2_one(float x) {
    constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
    const float clamped = x > 128.0f ? 128.0f : x < -126.0f ? -126.0f : x;
    const float shifted = clamped + kRound;
    const float f = clamped - (shifted - kRound);
    float p = kExp2[5];
    for (int i = 4; i >= 0; i--) p = p * f + kExp2[i];
    const uint32_t exponent = float_bits(shifted) - float_bits(kRound) + 127;
    const float result = (p * f + 1.0f) * bits_float(exponent << 23);
    return x < -126.0f ? 0.0f : result;
}
inline Vec exp2(const Vec& x) {
    return each([&](int i) { return exp2_one(x.v[i]); });
}

inline Ints set1_int(int32_t value) {
    return each_int([=](int) { return value; });
}
inline Ints load_ints(const uint8_t* from) {
    Ints out;
    memcpy(out.v, from, sizeof out.v);
    return out;
}
inline Ints load_bytes(const uint8_t* from) {
    return each_int([=](int i) { return int32_t{from[i]}; });
}
template <int kShift>
inline Ints nibble(const Ints& a) {
    return each_int([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) >> kShift & 15); });
}
inline Vec to_float(const Ints& a) {
    return each([&](int i) { return static_cast<float>(a.v[i]); });
}
inline Ints add(const Ints& a, const Ints& b) {
    return each_int([&](int i) { return a.v[i] + b.v[i]; });
}
// a in 0..16, b in int16
inline Ints times(const Ints& a, int32_t b) {
    return each_int([&](int i) { return a.v[i] * b; });
}
inline int32_t reduce_add(const Ints& a) {
    int32_t sum = 0;
    for (int i = 0; i < 16; i++) sum += a.v[i];
    return sum;
}
// The larger by lane of m and the bits of |x|.
inline Ints max_magnitude(const Ints& m, const Vec& x) {
    return each_int([&](int i) {
        const int32_t bits = static_cast<int32_t>(float_bits(x.v[i]) & 0x7FFFFFFF);
        return bits > m.v[i] ? bits : m.v[i];
    });
}
inline uint32_t reduce_max(const Ints& a) {
    int32_t largest = a.v[0];
    for (int i = 1; i < 16; i++) largest = a.v[i] > largest ? a.v[i] : largest;
    return static_cast<uint32_t>(largest);
}
// |x| <= 128
inline Ints round(const Vec& x) {
    return each_int([&](int i) { return static_cast<int32_t>(float_bits(x.v[i] + 12582912.0f) - float_bits(12582912.0f)); });
}
inline void store_int8(int8_t* to, const Ints& a, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) to[i] = static_cast<int8_t>(a.v[i]);
}

// Where octet o of token t lies: in rows of their own, or interleaved.
template <int kTokens>
inline const int8_t* octet_at(const int8_t* const (&q)[kTokens], int t, uint32_t o) {
    return q[t] + o * 8;
}
inline const int8_t* octet_at(const int8_t* q, int t, uint32_t o) { return q + (o * kTokenLanes + static_cast<uint32_t>(t)) * 8; }

// dot[i][t] += codes of tile i times the int8 activations of token t.
template <int kTiles, int kTokens, class Activation>
inline void dots(Ints (&dot)[kTiles][kTokens], const uint8_t* const (&codes)[kTiles], const Activation& q, uint32_t octets) {
    for (uint32_t o = 0; o < octets; o++) {
        for (int i = 0; i < kTiles; i++) {
            for (int r = 0; r < 16; r++) {
                const uint8_t* row = codes[i] + o * 64 + r * 4;
                for (int t = 0; t < kTokens; t++) {
                    const int8_t* x = octet_at(q, t, o);
                    for (int j = 0; j < 4; j++) dot[i][t].v[r] += (row[j] & 15) * x[j] + (row[j] >> 4) * x[4 + j];
                }
            }
        }
    }
}
template <int kTiles>
inline void wide_dots(Ints (&dot)[kTiles][kTokenLanes], const uint8_t* const (&codes)[kTiles], const int8_t* q, uint32_t octets) {
    dots(dot, codes, q, octets);
}

// dot[i][t] += 8-bit codes of tile i times the int8 activations of token t, kStep bytes an octet.
inline constexpr int kQ8Offset = 0;
template <uint32_t kStep, int kTiles, int kTokens>
inline void dots_q8(Ints (&dot)[kTiles][kTokens], const uint8_t* const (&codes)[kTiles], const int8_t* const (&q)[kTokens], uint32_t octets) {
    for (uint32_t c = 0; c < octets * 2; c++) {
        for (int i = 0; i < kTiles; i++) {
            for (int r = 0; r < 16; r++) {
                const uint8_t* row = codes[i] + c * 64 + r * 4;
                for (int t = 0; t < kTokens; t++) {
                    const int8_t* x = q[t] + c / 2 * kStep + c % 2 * 4;
                    for (int j = 0; j < 4; j++) dot[i][t].v[r] += (row[j] - 128) * x[j];
                }
            }
        }
    }
}

}  // namespace
}  // namespace pith::kernels
