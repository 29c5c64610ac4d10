// Four floats at once with the same bits everywhere: SSE2, which every x86-64 has, NEON, which every 64-bit Arm has, or plain C++.
// Compilers don't vectorise these passes reliably.
#pragma once
#include <stdint.h>

#include "sample/impl/exp.h"
#include "sample/scan.h"

#if defined(__SSE2__) || defined(_M_X64)
#    include <emmintrin.h>
#    define PITH_FOUR_SSE2 1
#elif defined(__aarch64__)
#    include <arm_neon.h>
#    define PITH_FOUR_NEON 1
#else
#    include <bit>
#endif

namespace pith {

#ifdef PITH_FOUR_SSE2

struct Four {
    __m128 v;
    static Four load(const float* from) { return {_mm_loadu_ps(from)}; }
    static Four all(float value) { return {_mm_set1_ps(value)}; }
    static Four of(float a, float b, float c, float d) { return {_mm_setr_ps(a, b, c, d)}; }
    void store(float* to) const { _mm_storeu_ps(to, v); }
};
inline Four operator+(Four a, Four b) { return {_mm_add_ps(a.v, b.v)}; }
inline Four operator-(Four a, Four b) { return {_mm_sub_ps(a.v, b.v)}; }
inline Four operator*(Four a, Four b) { return {_mm_mul_ps(a.v, b.v)}; }
inline Four larger(Four a, Four b) { return {_mm_max_ps(a.v, b.v)}; }  // a > b ? a : b, so b where either is NaN
inline Four where_above(Four a, Four b, Four value) { return {_mm_and_ps(_mm_cmpgt_ps(a.v, b.v), value.v)}; }     // a > b ? value : 0
inline uint32_t above(Four a, Four b) { return static_cast<uint32_t>(_mm_movemask_ps(_mm_cmpgt_ps(a.v, b.v))); }  // a bit a lane
inline uint32_t equal(Four a, Four b) { return static_cast<uint32_t>(_mm_movemask_ps(_mm_cmpeq_ps(a.v, b.v))); }
// Collects whether a lane was ever NaN.
struct NanFour {
    __m128 seen = _mm_setzero_ps();
    void look(Four a, Four b) { seen = _mm_or_ps(seen, _mm_cmpunord_ps(a.v, b.v)); }
    bool any() const { return _mm_movemask_ps(seen) != 0; }
};
// value * 2^k, for the low bits k of `shifted` = k + 1.5 * 2^23, -126 <= k <= 0.
inline Four times_power(Four value, Four shifted) {
    const __m128i bits = _mm_slli_epi32(_mm_add_epi32(_mm_castps_si128(shifted.v), _mm_set1_epi32(127 - 0x4b400000)), 23);
    return {_mm_mul_ps(value.v, _mm_castsi128_ps(bits))};
}

#elif defined(PITH_FOUR_NEON)

struct Four {
    float32x4_t v;
    static Four load(const float* from) { return {vld1q_f32(from)}; }
    static Four all(float value) { return {vdupq_n_f32(value)}; }
    static Four of(float a, float b, float c, float d) {
        const float lanes[4] = {a, b, c, d};
        return load(lanes);
    }
    void store(float* to) const { vst1q_f32(to, v); }
};
inline Four operator+(Four a, Four b) { return {vaddq_f32(a.v, b.v)}; }
inline Four operator-(Four a, Four b) { return {vsubq_f32(a.v, b.v)}; }
inline Four operator*(Four a, Four b) { return {vmulq_f32(a.v, b.v)}; }
inline Four larger(Four a, Four b) { return {vbslq_f32(vcgtq_f32(a.v, b.v), a.v, b.v)}; }  // b where either is NaN; vmaxq_f32: NaN
inline Four where_above(Four a, Four b, Four value) {                                      // a > b ? value : 0
    return {vreinterpretq_f32_u32(vandq_u32(vcgtq_f32(a.v, b.v), vreinterpretq_u32_f32(value.v)))};
}
inline uint32_t bits(uint32x4_t mask) {  // a bit a lane
    static constexpr uint32_t kBits[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(mask, vld1q_u32(kBits)));
}
inline uint32_t above(Four a, Four b) { return bits(vcgtq_f32(a.v, b.v)); }
inline uint32_t equal(Four a, Four b) { return bits(vceqq_f32(a.v, b.v)); }
// Collects whether a lane was ever NaN.
struct NanFour {
    uint32x4_t number = vdupq_n_u32(~0u);  // all ones where it never was
    void look(Four a, Four b) { number = vandq_u32(number, vandq_u32(vceqq_f32(a.v, a.v), vceqq_f32(b.v, b.v))); }
    bool any() const { return vminvq_u32(number) == 0; }
};
// value * 2^k, for the low bits k of `shifted` = k + 1.5 * 2^23, -126 <= k <= 0.
inline Four times_power(Four value, Four shifted) {
    const uint32x4_t power = vshlq_n_u32(vaddq_u32(vreinterpretq_u32_f32(shifted.v), vdupq_n_u32(127u - 0x4b400000u)), 23);
    return {vmulq_f32(value.v, vreinterpretq_f32_u32(power))};
}

#else

struct Four {
    float v[4];
    static Four load(const float* from) { return {{from[0], from[1], from[2], from[3]}}; }
    static Four all(float value) { return {{value, value, value, value}}; }
    static Four of(float a, float b, float c, float d) { return {{a, b, c, d}}; }
    void store(float* to) const {
        for (int i = 0; i < 4; i++) to[i] = v[i];
    }
};
template <class F>
inline Four each(F f) {
    return {{f(0), f(1), f(2), f(3)}};
}
inline Four operator+(Four a, Four b) {
    return each([&](int i) { return a.v[i] + b.v[i]; });
}
inline Four operator-(Four a, Four b) {
    return each([&](int i) { return a.v[i] - b.v[i]; });
}
inline Four operator*(Four a, Four b) {
    return each([&](int i) { return a.v[i] * b.v[i]; });
}
inline Four larger(Four a, Four b) {  // b where either is NaN
    return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Four where_above(Four a, Four b, Four value) {
    return each([&](int i) { return a.v[i] > b.v[i] ? value.v[i] : 0.0f; });
}
template <class F>
inline uint32_t bits(F f) {
    return uint32_t{f(0)} | uint32_t{f(1)} << 1 | uint32_t{f(2)} << 2 | uint32_t{f(3)} << 3;
}
inline uint32_t above(Four a, Four b) {  // a bit a lane
    return bits([&](int i) { return a.v[i] > b.v[i]; });
}
inline uint32_t equal(Four a, Four b) {
    return bits([&](int i) { return a.v[i] == b.v[i]; });
}
// Collects whether a lane was ever NaN.
struct NanFour {
    bool seen = false;
    void look(Four a, Four b) {
        for (int i = 0; i < 4; i++) seen |= a.v[i] != a.v[i] || b.v[i] != b.v[i];
    }
    bool any() const { return seen; }
};
// value * 2^k, for the low bits k of `shifted` = k + 1.5 * 2^23, -126 <= k <= 0.
inline Four times_power(Four value, Four shifted) {
    return each(
        [&](int i) { return value.v[i] * std::bit_cast<float>((std::bit_cast<uint32_t>(shifted.v[i]) + (127u - 0x4b400000u)) << 23); });
}

#endif

inline Four weigh(const Weigher& w, Four logits) { return exp_negative((logits - Four::all(w.largest)) * Four::all(w.scale)); }
inline float weigh(const Weigher& w, float logit) {
    float lanes[4];
    weigh(w, Four::all(logit)).store(lanes);
    return lanes[0];
}

}  // namespace pith
