// Sixteen lanes in one zmm register. VNNI is required of this tier; BF16 instructions are not used: they would round activations to
// eight bits, and a BF16 matrix is bound by memory anyway.
#pragma once
#if defined(__GNUC__) && !defined(__clang__)
#    pragma GCC diagnostic push  // GCC 12's own header leaves operands undefined on purpose, and warns of it
#    pragma GCC diagnostic ignored "-Wuninitialized"
#    pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#    pragma GCC diagnostic pop
#endif

#include "kernels/impl/exp2.h"
#include "kernels/layout.h"

namespace pith::kernels {
namespace {

struct Vec {
    __m512 v;
};
struct Ints {
    __m512i v;
};

struct Tune {
    using DenseShape = RegisterShape<4, 2, 8, 4>;
    using ExactShape = RegisterShape<4, 2, 8, 4>;
    using FastShape = RegisterShape<4, 2, 8, 4>;
    static constexpr int kWideTiles = 2;
    // Of attention: registers of scores and of output.
    static constexpr int kScoreVecs = 16, kMixVecs = 16;

    // By a table, which looks at the low four bits only.
    template <int kShift, int kZero>
    PITH_KERNEL_INLINE static Vec code_float(Ints codes) {
        const __m512 table = _mm512_setr_ps(0 - kZero, 1 - kZero, 2 - kZero, 3 - kZero, 4 - kZero, 5 - kZero, 6 - kZero, 7 - kZero,
                                            8 - kZero, 9 - kZero, 10 - kZero, 11 - kZero, 12 - kZero, 13 - kZero, 14 - kZero, 15 - kZero);
        return {_mm512_permutexvar_ps(_mm512_srli_epi32(codes.v, kShift), table)};
    }
};

inline __mmask16 first(uint32_t n) { return static_cast<__mmask16>((1u << n) - 1); }

// Forced inline: GCC takes a function that only prefetches for one without effect, and drops the call.
PITH_KERNEL_INLINE inline void prefetch(const uint8_t* at, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) _mm_prefetch(reinterpret_cast<const char*>(at + i), _MM_HINT_T0);
}
PITH_KERNEL_INLINE inline void prefetch_far(const uint8_t* at, size_t bytes) {  // to the second level: the first is full
    for (size_t i = 0; i < bytes; i += 64) _mm_prefetch(reinterpret_cast<const char*>(at + i), _MM_HINT_T1);
}
inline Vec set1(float value) { return {_mm512_set1_ps(value)}; }
inline Vec zero() { return {_mm512_setzero_ps()}; }
inline Vec load(const float* from) { return {_mm512_loadu_ps(from)}; }
inline Vec load(const uint16_t* halves) { return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(halves)))}; }
inline Vec load_bf16(const uint16_t* from) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
// The first n lanes; the others are zero.
inline Vec load_n(const float* from, uint32_t n) { return {_mm512_maskz_loadu_ps(first(n), from)}; }
inline Vec gather_n(const float* from, const uint32_t* index, uint32_t n) {
    const __m512i at = _mm512_maskz_loadu_epi32(first(n), index);
    return {_mm512_mask_i32gather_ps(_mm512_setzero_ps(), first(n), at, from, 4)};
}
inline void store(float* to, Vec a) { _mm512_storeu_ps(to, a.v); }
inline void store_n(float* to, Vec a, uint32_t n) { _mm512_mask_storeu_ps(to, first(n), a.v); }
inline void store_half(uint16_t* to, Vec a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

inline Vec add(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec sub(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec mul(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec div(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
// Lanes [begin, end) of a, the others of b.
inline Vec keep(Vec a, int begin, int end, Vec b) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __mmask16 from = _mm512_cmpge_epi32_mask(lane, _mm512_set1_epi32(begin));
    return {_mm512_mask_mov_ps(b.v, _mm512_mask_cmplt_epi32_mask(from, lane, _mm512_set1_epi32(end)), a.v)};
}
inline float first_lane(Vec a) { return _mm512_cvtss_f32(a.v); }
inline float reduce_add(Vec a) { return _mm512_reduce_add_ps(a.v); }
inline float reduce_max(Vec a) { return _mm512_reduce_max_ps(a.v); }

// NaN stays NaN (max and min return their second operand for it); below 2^-126 is zero, from 2^128 on infinity.
inline Vec exp2(Vec x) {
    const __m512 least = _mm512_set1_ps(-126.0f);
    const __m512 clamped = _mm512_min_ps(_mm512_set1_ps(128.0f), _mm512_max_ps(least, x.v));
    const __m512 whole = _mm512_roundscale_ps(clamped, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 f = _mm512_sub_ps(clamped, whole);
    __m512 p = _mm512_set1_ps(kExp2[5]);
    for (int i = 4; i >= 0; i--) p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kExp2[i]));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    return {_mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x.v, least, _CMP_NLT_UQ), p, whole)};
}

inline Ints set1_int(int32_t value) { return {_mm512_set1_epi32(value)}; }
inline Ints load_ints(const uint8_t* from) { return {_mm512_loadu_si512(from)}; }
inline Ints load_bytes(const uint8_t* from) { return {_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)))}; }
template <int kShift>
inline Ints nibble(Ints a) {
    return {_mm512_and_si512(_mm512_srli_epi32(a.v, kShift), _mm512_set1_epi32(15))};
}
inline Vec to_float(Ints a) { return {_mm512_cvtepi32_ps(a.v)}; }
inline Ints add(Ints a, Ints b) { return {_mm512_add_epi32(a.v, b.v)}; }
// a in 0..128, b in int16: a pair of 16-bit products, the upper one zero.
inline Ints times(Ints a, int32_t b) { return {_mm512_madd_epi16(a.v, _mm512_set1_epi32(b))}; }
inline int32_t reduce_add(Ints a) { return _mm512_reduce_add_epi32(a.v); }
// The larger by lane of m and the bits of |x|.
inline Ints max_magnitude(Ints m, Vec x) {
    return {_mm512_max_epu32(m.v, _mm512_and_si512(_mm512_castps_si512(x.v), _mm512_set1_epi32(0x7FFFFFFF)))};
}
inline uint32_t reduce_max(Ints a) { return _mm512_reduce_max_epu32(a.v); }
inline Ints round(Vec x) { return {_mm512_cvt_roundps_epi32(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline void store_int8(int8_t* to, Ints a, uint32_t n) { _mm512_mask_cvtepi32_storeu_epi8(to, first(n), a.v); }

// Four activations to every lane, straight from memory.
inline __m512i quad(const int8_t* at) {
    int32_t bytes;
    memcpy(&bytes, at, sizeof bytes);
    return _mm512_set1_epi32(bytes);
}

template <int kTiles, int kTokens>
PITH_KERNEL_INLINE inline void dots_octet(Ints (&dot)[kTiles][kTokens], const uint8_t* const (&codes)[kTiles],
                                          const int8_t* const (&q)[kTokens], uint32_t o) {
    const __m512i mask = _mm512_set1_epi8(15);
    __m512i low[kTiles], high[kTiles];
    unroll<kTiles>([&](int i) PITH_KERNEL_INLINE {
        const __m512i both = _mm512_load_si512(codes[i] + o * 64);
        low[i] = _mm512_and_si512(both, mask);
        high[i] = _mm512_and_si512(_mm512_srli_epi16(both, 4), mask);
    });
    unroll<kTokens>([&](int t) PITH_KERNEL_INLINE {
        const __m512i first = quad(q[t] + o * 8);
        unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { dot[i][t].v = _mm512_dpbusd_epi32(dot[i][t].v, low[i], first); });
    });
    unroll<kTokens>([&](int t) PITH_KERNEL_INLINE {
        const __m512i second = quad(q[t] + o * 8 + 4);
        unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { dot[i][t].v = _mm512_dpbusd_epi32(dot[i][t].v, high[i], second); });
    });
}

// dot[i][t] += codes of tile i times the int8 activations of token t.
template <int kTiles, int kTokens>
PITH_KERNEL_INLINE inline void dots(Ints (&dot)[kTiles][kTokens], const uint8_t* const (&codes)[kTiles], const int8_t* const (&q)[kTokens],
                                    uint32_t octets) {
    uint32_t o = 0;
    if (octets == 8) {
        unroll<8>([&](int i) PITH_KERNEL_INLINE { dots_octet(dot, codes, q, static_cast<uint32_t>(i)); });
    } else {
        for (; o < octets; o++) dots_octet(dot, codes, q, o);
    }
}

// The same for a group of interleaved tokens.
template <int kTiles>
PITH_KERNEL_INLINE inline void wide_octet(Ints (&dot)[kTiles][kTokenLanes], const uint8_t* const (&codes)[kTiles], const int8_t* q,
                                          uint32_t o) {
    const __m512i mask = _mm512_set1_epi8(15);
    __m512i low[kTiles], high[kTiles];
    unroll<kTiles>([&](int i) PITH_KERNEL_INLINE {
        const __m512i both = _mm512_load_si512(codes[i] + o * 64);
        low[i] = _mm512_and_si512(both, mask);
        high[i] = _mm512_and_si512(_mm512_srli_epi16(both, 4), mask);
    });
    unroll<kTokenLanes>([&](int t) PITH_KERNEL_INLINE {
        const __m512i first = quad(q + o * 64 + t * 8);
        unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { dot[i][t].v = _mm512_dpbusd_epi32(dot[i][t].v, low[i], first); });
    });
    unroll<kTokenLanes>([&](int t) PITH_KERNEL_INLINE {
        const __m512i second = quad(q + o * 64 + t * 8 + 4);
        unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { dot[i][t].v = _mm512_dpbusd_epi32(dot[i][t].v, high[i], second); });
    });
}
template <int kTiles>
PITH_KERNEL_INLINE inline void wide_dots(Ints (&dot)[kTiles][kTokenLanes], const uint8_t* const (&codes)[kTiles], const int8_t* q,
                                         uint32_t octets) {
    uint32_t o = 0;
    for (; octets - o >= 4; o += 4) unroll<4>([&](int i) PITH_KERNEL_INLINE { wide_octet(dot, codes, q, o + static_cast<uint32_t>(i)); });
    for (; o < octets; o++) wide_octet(dot, codes, q, o);
}

// One token: few instructions an octet, so that many loads are in flight. The high nibbles stay where they are, sixteen times too
// large, and have their own sums, which also hides latency.
template <int kTiles>
PITH_KERNEL_INLINE inline void dots(Ints (&dot)[kTiles][1], const uint8_t* const (&codes)[kTiles], const int8_t* const (&q)[1],
                                    uint32_t octets) {
    const __m512i low = _mm512_set1_epi8(0x0F), high = _mm512_set1_epi8(static_cast<char>(0xF0));
    __m512i sum[kTiles];
    unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { sum[i] = _mm512_setzero_si512(); });
    const auto octet = [&](uint32_t o) PITH_KERNEL_INLINE {
        const __m512i first = quad(q[0] + o * 8), second = quad(q[0] + o * 8 + 4);
        unroll<kTiles>([&](int i) PITH_KERNEL_INLINE {
            const __m512i both = _mm512_load_si512(codes[i] + o * 64);
            dot[i][0].v = _mm512_dpbusd_epi32(dot[i][0].v, _mm512_and_si512(both, low), first);
            sum[i] = _mm512_dpbusd_epi32(sum[i], _mm512_and_si512(both, high), second);
        });
    };
    if (octets == 8) {
        unroll<8>([&](int o) PITH_KERNEL_INLINE { octet(static_cast<uint32_t>(o)); });
    } else {
        for (uint32_t o = 0; o < octets; o++) octet(o);
    }
    unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { dot[i][0].v = _mm512_add_epi32(dot[i][0].v, _mm512_srai_epi32(sum[i], 4)); });
}

// dot[i][t] += 8-bit codes of tile i, which this product takes as 0..255, times the int8 activations of token t, kStep bytes an octet.
inline constexpr int kQ8Offset = 128;
template <uint32_t kStep, int kTiles, int kTokens>
PITH_KERNEL_INLINE inline void dots_q8(Ints (&dot)[kTiles][kTokens], const uint8_t* const (&codes)[kTiles], const int8_t* const (&q)[kTokens],
                                       uint32_t octets) {
    const auto octet = [&](uint32_t o) PITH_KERNEL_INLINE {
        unroll<2>([&](int half) PITH_KERNEL_INLINE {
            __m512i rows[kTiles];
            unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { rows[i] = _mm512_load_si512(codes[i] + o * 128 + half * 64); });
            unroll<kTokens>([&](int t) PITH_KERNEL_INLINE {
                const __m512i x = quad(q[t] + o * kStep + half * 4);
                unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { dot[i][t].v = _mm512_dpbusd_epi32(dot[i][t].v, rows[i], x); });
            });
        });
    };
    for (uint32_t o = 0; o < octets; o++) octet(o);
}

}  // namespace
}  // namespace pith::kernels
