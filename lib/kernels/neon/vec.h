// Sixteen lanes in four NEON registers: what every 64-bit Arm has, conversions of halves included. dots() is in a file of its own for
// each level of integer products.
#pragma once
#include <arm_neon.h>

#include "kernels/impl/exp2.h"
#include "kernels/layout.h"

namespace pith::kernels {
namespace {

struct Vec {
    float32x4_t v[4];  // lanes 0..3, 4..7, 8..11, 12..15
};
struct Ints {
    int32x4_t v[4];
};

template <class F>
PITH_KERNEL_INLINE inline Vec each(const F& f) {
    return {{f(0), f(1), f(2), f(3)}};
}
template <class F>
PITH_KERNEL_INLINE inline Ints each_int(const F& f) {
    return {{f(0), f(1), f(2), f(3)}};
}

// Forced inline: GCC takes a function that only prefetches for one without effect, and drops the call.
PITH_KERNEL_INLINE inline void prefetch(const uint8_t* at, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(at + i);
}
PITH_KERNEL_INLINE inline void prefetch_far(const uint8_t* at, size_t bytes) {  // to the second level: the first is full
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(at + i, 0, 2);
}
inline Vec set1(float value) {
    return each([=](int) PITH_KERNEL_INLINE { return vdupq_n_f32(value); });
}
inline Vec zero() { return set1(0.0f); }
inline Vec load(const float* from) {
    return each([=](int i) PITH_KERNEL_INLINE { return vld1q_f32(from + i * 4); });
}
inline Vec load(const uint16_t* halves) {
    const uint16x8_t low = vld1q_u16(halves), high = vld1q_u16(halves + 8);
    const float16x8_t a = vreinterpretq_f16_u16(low), b = vreinterpretq_f16_u16(high);
    return {{vcvt_f32_f16(vget_low_f16(a)), vcvt_high_f32_f16(a), vcvt_f32_f16(vget_low_f16(b)), vcvt_high_f32_f16(b)}};
}
inline Vec load_bf16(const uint16_t* from) {
    return each([=](int i) PITH_KERNEL_INLINE { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(from + i * 4), 16)); });
}
// The first n lanes; the others are zero.
inline Vec load_n(const float* from, uint32_t n) {
    if (n == 16) return load(from);
    float lanes[16] = {};
    memcpy(lanes, from, n * sizeof(float));
    return load(lanes);
}
inline Vec gather_n(const float* from, const uint32_t* index, uint32_t n) {
    float lanes[16] = {};
    for (uint32_t i = 0; i < n; i++) lanes[i] = from[index[i]];
    return load(lanes);
}
inline void store(float* to, Vec x) {
    unroll<4>([&](int i) PITH_KERNEL_INLINE { vst1q_f32(to + i * 4, x.v[i]); });
}
inline void store_n(float* to, Vec x, uint32_t n) {
    if (n == 16) return store(to, x);
    float lanes[16];
    store(lanes, x);
    memcpy(to, lanes, n * sizeof(float));
}
inline void store_half(uint16_t* to, Vec x) {
    unroll<4>([&](int i) PITH_KERNEL_INLINE { vst1_u16(to + i * 4, vreinterpret_u16_f16(vcvt_f16_f32(x.v[i]))); });
}

inline Vec add(Vec x, Vec y) {
    return each([&](int i) PITH_KERNEL_INLINE { return vaddq_f32(x.v[i], y.v[i]); });
}
inline Vec sub(Vec x, Vec y) {
    return each([&](int i) PITH_KERNEL_INLINE { return vsubq_f32(x.v[i], y.v[i]); });
}
inline Vec mul(Vec x, Vec y) {
    return each([&](int i) PITH_KERNEL_INLINE { return vmulq_f32(x.v[i], y.v[i]); });
}
inline Vec div(Vec x, Vec y) {
    return each([&](int i) PITH_KERNEL_INLINE { return vdivq_f32(x.v[i], y.v[i]); });
}
inline Vec fma(Vec x, Vec y, Vec z) {
    return each([&](int i) PITH_KERNEL_INLINE { return vfmaq_f32(z.v[i], x.v[i], y.v[i]); });
}
// x > y ? x : y, so y where either is NaN, as on the other tiers (vmaxq_f32 would return NaN).
inline float32x4_t max_4(float32x4_t x, float32x4_t y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }
inline Vec max(Vec x, Vec y) {
    return each([&](int i) PITH_KERNEL_INLINE { return max_4(x.v[i], y.v[i]); });
}
// Lanes [begin, end) of x, the others of y.
inline Vec keep(Vec x, int begin, int end, Vec y) {
    static constexpr int32_t kLanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return each([&](int i) PITH_KERNEL_INLINE {
        const int32x4_t lane = vld1q_s32(kLanes + i * 4);
        const uint32x4_t inside = vandq_u32(vcgeq_s32(lane, vdupq_n_s32(begin)), vcltq_s32(lane, vdupq_n_s32(end)));
        return vbslq_f32(inside, x.v[i], y.v[i]);
    });
}
inline float first_lane(Vec x) { return vgetq_lane_f32(x.v[0], 0); }
inline float reduce_add(Vec x) { return vaddvq_f32(vaddq_f32(vaddq_f32(x.v[0], x.v[1]), vaddq_f32(x.v[2], x.v[3]))); }
inline float reduce_max(Vec x) {
    float32x4_t four = max_4(max_4(x.v[0], x.v[1]), max_4(x.v[2], x.v[3]));
    four = max_4(four, vextq_f32(four, four, 2));
    return vgetq_lane_f32(max_4(four, vextq_f32(four, four, 1)), 0);
}

// NaN stays NaN (these minima and maxima return it); below 2^-126 is zero, from 2^128 on infinity.
inline float32x4_t exp2_4(float32x4_t x) {
    const float32x4_t least = vdupq_n_f32(-126.0f);
    const float32x4_t clamped = vminq_f32(vmaxq_f32(x, least), vdupq_n_f32(128.0f));
    const float32x4_t whole = vrndnq_f32(clamped);
    const float32x4_t f = vsubq_f32(clamped, whole);
    float32x4_t p = vdupq_n_f32(kExp2[5]);
    for (int i = 4; i >= 0; i--) p = vfmaq_f32(vdupq_n_f32(kExp2[i]), p, f);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, f);
    const int32x4_t exponent = vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(whole), vdupq_n_s32(127)), 23);
    const float32x4_t result = vmulq_f32(p, vreinterpretq_f32_s32(exponent));
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(result), vcltq_f32(x, least)));
}
inline Vec exp2(Vec x) {
    return each([&](int i) PITH_KERNEL_INLINE { return exp2_4(x.v[i]); });
}

inline Ints set1_int(int32_t value) {
    return each_int([=](int) PITH_KERNEL_INLINE { return vdupq_n_s32(value); });
}
inline Ints load_ints(const uint8_t* from) {
    return each_int([=](int i) PITH_KERNEL_INLINE { return vreinterpretq_s32_u8(vld1q_u8(from + i * 16)); });
}
inline Ints load_bytes(const uint8_t* from) {
    const uint8x16_t bytes = vld1q_u8(from);
    const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_high_u8(bytes);
    return {{vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))), vreinterpretq_s32_u32(vmovl_high_u16(low)),
             vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))), vreinterpretq_s32_u32(vmovl_high_u16(high))}};
}
template <int kShift>
inline Ints nibble(Ints x) {
    return each_int([&](int i) PITH_KERNEL_INLINE {
        uint32x4_t bits = vreinterpretq_u32_s32(x.v[i]);
        if constexpr (kShift > 0) bits = vshrq_n_u32(bits, kShift);
        return vreinterpretq_s32_u32(vandq_u32(bits, vdupq_n_u32(15)));
    });
}
inline Vec to_float(Ints x) {
    return each([&](int i) PITH_KERNEL_INLINE { return vcvtq_f32_s32(x.v[i]); });
}
inline Ints add(Ints x, Ints y) {
    return each_int([&](int i) PITH_KERNEL_INLINE { return vaddq_s32(x.v[i], y.v[i]); });
}
// x in 0..16, y in int16
inline Ints times(Ints x, int32_t y) {
    return each_int([&](int i) PITH_KERNEL_INLINE { return vmulq_n_s32(x.v[i], y); });
}
inline int32_t reduce_add(Ints x) { return vaddvq_s32(vaddq_s32(vaddq_s32(x.v[0], x.v[1]), vaddq_s32(x.v[2], x.v[3]))); }
// The larger by lane of m and the bits of |x|.
inline Ints max_magnitude(Ints m, Vec x) {
    return each_int(
        [&](int i) PITH_KERNEL_INLINE { return vmaxq_s32(m.v[i], vandq_s32(vreinterpretq_s32_f32(x.v[i]), vdupq_n_s32(0x7FFFFFFF))); });
}
inline uint32_t reduce_max(Ints x) {
    return static_cast<uint32_t>(vmaxvq_s32(vmaxq_s32(vmaxq_s32(x.v[0], x.v[1]), vmaxq_s32(x.v[2], x.v[3]))));
}
inline Ints round(Vec x) {  // ties to even
    return each_int([&](int i) PITH_KERNEL_INLINE { return vcvtnq_s32_f32(x.v[i]); });
}
inline void store_int8(int8_t* to, Ints x, uint32_t n) {
    const int16x8_t low = vcombine_s16(vmovn_s32(x.v[0]), vmovn_s32(x.v[1]));
    const int16x8_t high = vcombine_s16(vmovn_s32(x.v[2]), vmovn_s32(x.v[3]));
    int8_t lanes[16];
    vst1q_s8(lanes, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
    n == 16 ? memcpy(to, lanes, 16) : memcpy(to, lanes, n);
}

// The codes of four rows, four columns each: the low nibbles are one quad of an octet, the high ones the other.
struct Codes {
    int8x16_t low, high;
};
inline Codes load_codes(const uint8_t* from) {
    const uint8x16_t both = vld1q_u8(from);
    return {vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15))), vreinterpretq_s8_u8(vshrq_n_u8(both, 4))};
}

// Where octet o of token t lies: in rows of their own, or interleaved by eight tokens.
template <int kTokens>
PITH_KERNEL_INLINE inline const int8_t* octet_at(const int8_t* const (&q)[kTokens], int t, uint32_t o) {
    return q[t] + o * 8;
}
PITH_KERNEL_INLINE inline const int8_t* octet_at(const int8_t* q, int t, uint32_t o) { return q + o * 64 + t * 8; }

// Four rows of 8-bit codes, four columns each.
inline constexpr int kQ8Offset = 0;
inline int8x16_t load_q8(const uint8_t* from) { return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(from), vdupq_n_u8(0x80))); }

}  // namespace
}  // namespace pith::kernels
