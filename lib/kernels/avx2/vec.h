// Sixteen lanes in two ymm registers.
#pragma once
#include <immintrin.h>

#include "kernels/impl/exp2.h"
#include "kernels/layout.h"

namespace pith::kernels {
namespace {

struct Vec {
    __m256 a, b;  // lanes 0..7 and 8..15
};
struct Ints {
    __m256i a, b;
};

struct Tune {
    using DenseShape = RegisterShape<4, 1, 6>;
    using ExactShape = RegisterShape<2, 1, 4>;
    using FastShape = RegisterShape<4, 1, 8>;
    static constexpr int kWideTiles = 1;
    // Of attention: registers of scores and of output.
    static constexpr int kScoreVecs = 4, kMixVecs = 4;
};

// All ones in the first n of 16 lanes.
inline Ints first(uint32_t n) {
    alignas(64) static constexpr int32_t kOnes[32] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
    const int32_t* at = kOnes + 16 - n;
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + 8))};
}
inline __m256i load_256(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline __m128i load_128(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }
inline __m128 low_half(__m256 x) { return _mm256_castps256_ps128(x); }
inline __m128 high_half(__m256 x) { return _mm256_extractf128_ps(x, 1); }

// Forced inline: GCC takes a function that only prefetches for one without effect, and drops the call.
PITH_KERNEL_INLINE inline void prefetch(const uint8_t* at, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) _mm_prefetch(reinterpret_cast<const char*>(at + i), _MM_HINT_T0);
}
PITH_KERNEL_INLINE inline void prefetch_far(const uint8_t* at, size_t bytes) {  // to the second level: the first is full
    for (size_t i = 0; i < bytes; i += 64) _mm_prefetch(reinterpret_cast<const char*>(at + i), _MM_HINT_T1);
}
inline Vec set1(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
inline Vec zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Vec load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
inline Vec load(const uint16_t* halves) { return {_mm256_cvtph_ps(load_128(halves)), _mm256_cvtph_ps(load_128(halves + 8))}; }
inline __m256 bf16_8(const uint16_t* from) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_128(from)), 16)); }
inline Vec load_bf16(const uint16_t* from) { return {bf16_8(from), bf16_8(from + 8)}; }
// The first n lanes; the others are zero.
inline Vec load_n(const float* from, uint32_t n) {
    if (n == 16) return load(from);
    const Ints mask = first(n);
    return {_mm256_maskload_ps(from, mask.a), n > 8 ? _mm256_maskload_ps(from + 8, mask.b) : _mm256_setzero_ps()};
}
inline Vec gather_n(const float* from, const uint32_t* index, uint32_t n) {
    alignas(32) float lanes[16] = {};
    for (uint32_t i = 0; i < n; i++) lanes[i] = from[index[i]];
    return load(lanes);
}
inline void store(float* to, Vec x) {
    _mm256_storeu_ps(to, x.a);
    _mm256_storeu_ps(to + 8, x.b);
}
inline void store_n(float* to, Vec x, uint32_t n) {
    if (n == 16) return store(to, x);
    const Ints mask = first(n);
    _mm256_maskstore_ps(to, mask.a, x.a);
    if (n > 8) _mm256_maskstore_ps(to + 8, mask.b, x.b);
}
inline void store_half(uint16_t* to, Vec x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 8), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}

inline Vec add(Vec x, Vec y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline Vec sub(Vec x, Vec y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline Vec mul(Vec x, Vec y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline Vec div(Vec x, Vec y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline Vec fma(Vec x, Vec y, Vec z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
inline Vec max(Vec x, Vec y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
// Lanes [begin, end) of x, the others of y.
inline __m256 keep_8(__m256 x, __m256i lane, int begin, int end, __m256 y) {
    const __m256i before = _mm256_cmpgt_epi32(_mm256_set1_epi32(begin), lane);
    const __m256i inside = _mm256_cmpgt_epi32(_mm256_set1_epi32(end), lane);
    return _mm256_blendv_ps(y, x, _mm256_castsi256_ps(_mm256_andnot_si256(before, inside)));
}
inline Vec keep(Vec x, int begin, int end, Vec y) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return {keep_8(x.a, lane, begin, end, y.a), keep_8(x.b, lane, begin - 8, end - 8, y.b)};
}
inline float first_lane(Vec x) { return _mm256_cvtss_f32(x.a); }
inline float reduce_add(Vec x) {
    const __m256 eight = _mm256_add_ps(x.a, x.b);
    __m128 four = _mm_add_ps(low_half(eight), high_half(eight));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
inline float reduce_max(Vec x) {
    const __m256 eight = _mm256_max_ps(x.a, x.b);
    __m128 four = _mm_max_ps(low_half(eight), high_half(eight));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

// NaN stays NaN (max and min return their second operand for it); below 2^-126 is zero, from 2^128 on infinity.
inline __m256 exp2_8(__m256 x) {
    const __m256 least = _mm256_set1_ps(-126.0f);
    const __m256 clamped = _mm256_min_ps(_mm256_set1_ps(128.0f), _mm256_max_ps(least, x));
    const __m256 whole = _mm256_round_ps(clamped, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256 f = _mm256_sub_ps(clamped, whole);
    __m256 p = _mm256_set1_ps(kExp2[5]);
    for (int i = 4; i >= 0; i--) p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(kExp2[i]));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0f));
    const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127)), 23);
    const __m256 result = _mm256_mul_ps(p, _mm256_castsi256_ps(exponent));
    return _mm256_andnot_ps(_mm256_cmp_ps(x, least, _CMP_LT_OQ), result);
}
inline Vec exp2(Vec x) { return {exp2_8(x.a), exp2_8(x.b)}; }

inline Ints set1_int(int32_t value) { return {_mm256_set1_epi32(value), _mm256_set1_epi32(value)}; }
inline Ints load_ints(const uint8_t* from) { return {load_256(from), load_256(from + 32)}; }
inline Ints load_bytes(const uint8_t* from) {
    const __m128i bytes = load_128(from);
    return {_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))};
}
template <int kShift>
inline Ints nibble(Ints x) {
    const __m256i mask = _mm256_set1_epi32(15);
    return {_mm256_and_si256(_mm256_srli_epi32(x.a, kShift), mask), _mm256_and_si256(_mm256_srli_epi32(x.b, kShift), mask)};
}
inline Vec to_float(Ints x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
inline Ints add(Ints x, Ints y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
// x in 0..16, y in int16: a pair of 16-bit products, the upper one zero.
inline Ints times(Ints x, int32_t y) {
    const __m256i factor = _mm256_set1_epi32(y);
    return {_mm256_madd_epi16(x.a, factor), _mm256_madd_epi16(x.b, factor)};
}
inline int32_t reduce_add(Ints x) {
    const __m256i eight = _mm256_add_epi32(x.a, x.b);
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1)));
}
// The larger by lane of m and the bits of |x|.
inline Ints max_magnitude(Ints m, Vec x) {
    const __m256i mask = _mm256_set1_epi32(0x7FFFFFFF);
    return {_mm256_max_epi32(m.a, _mm256_and_si256(_mm256_castps_si256(x.a), mask)),
            _mm256_max_epi32(m.b, _mm256_and_si256(_mm256_castps_si256(x.b), mask))};
}
inline uint32_t reduce_max(Ints x) {
    const __m256i eight = _mm256_max_epi32(x.a, x.b);
    __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_max_epi32(four, _mm_shuffle_epi32(four, 0xB1))));
}
// To nearest, ties to even: what MXCSR says on entry.
inline Ints round(Vec x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
inline void store_int8(int8_t* to, Ints x, uint32_t n) {
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xD8);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    alignas(16) int8_t lanes[16];
    _mm_store_si128(reinterpret_cast<__m128i*>(lanes), bytes);
    n == 16 ? memcpy(to, lanes, 16) : memcpy(to, lanes, n);
}

// Four activations to every lane, straight from memory.
inline __m256i quad(const int8_t* at) {
    int32_t bytes;
    memcpy(&bytes, at, sizeof bytes);
    return _mm256_set1_epi32(bytes);
}

// Where octet o of token t lies: in rows of their own, or interleaved.
template <int kTokens>
PITH_KERNEL_INLINE inline const int8_t* octet_at(const int8_t* const (&q)[kTokens], int t, uint32_t o) {
    return q[t] + o * 8;
}
PITH_KERNEL_INLINE inline const int8_t* octet_at(const int8_t* q, int t, uint32_t o) { return q + o * 64 + t * 8; }

// dot += the sums of at most four octets, for the rows of one register: a pair of products is at most 2 * 15 * 127 = 3810, so four
// octets fit 16 bits. A loop, since GCC 12 would share the broadcasts of unrolled halves and run out of registers.
template <int kTokens, class Activation>
PITH_KERNEL_INLINE inline void dots_half(__m256i (&dot)[kTokens], const uint8_t* codes, const Activation& q, uint32_t o, uint32_t octets) {
    const __m256i mask = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    __m256i sum[kTokens];
    unroll<kTokens>([&](int t) PITH_KERNEL_INLINE { sum[t] = _mm256_setzero_si256(); });
    for (const uint32_t end = o + octets; o < end; o++) {
        const __m256i both = load_256(codes + o * 64);
        const __m256i low = _mm256_and_si256(both, mask), high = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
        unroll<kTokens>([&](int t) PITH_KERNEL_INLINE {
            const int8_t* x = octet_at(q, t, o);
            const __m256i first = _mm256_maddubs_epi16(low, quad(x)), second = _mm256_maddubs_epi16(high, quad(x + 4));
            sum[t] = _mm256_add_epi16(sum[t], _mm256_add_epi16(first, second));
        });
    }
    unroll<kTokens>([&](int t) PITH_KERNEL_INLINE { dot[t] = _mm256_add_epi32(dot[t], _mm256_madd_epi16(sum[t], ones)); });
}

// dot[i][t] += codes of tile i times the int8 activations of token t.
template <int kTiles, int kTokens, class Activation>
PITH_KERNEL_INLINE inline void dots(Ints (&dot)[kTiles][kTokens], const uint8_t* const (&codes)[kTiles], const Activation& q,
                                    uint32_t octets) {
    unroll<kTiles>([&](int i) PITH_KERNEL_INLINE {
        __m256i a[kTokens], b[kTokens];
        unroll<kTokens>([&](int t) PITH_KERNEL_INLINE { a[t] = dot[i][t].a; });
        for (uint32_t o = 0; o < octets; o += 4) dots_half(a, codes[i], q, o, smaller(4, octets - o));
        unroll<kTokens>([&](int t) PITH_KERNEL_INLINE { b[t] = dot[i][t].b; });
        for (uint32_t o = 0; o < octets; o += 4) dots_half(b, codes[i] + 32, q, o, smaller(4, octets - o));
        unroll<kTokens>([&](int t) PITH_KERNEL_INLINE { dot[i][t] = Ints{a[t], b[t]}; });
    });
}

template <int kTiles>
PITH_KERNEL_INLINE inline void wide_dots(Ints (&dot)[kTiles][kTokenLanes], const uint8_t* const (&codes)[kTiles], const int8_t* q,
                                         uint32_t octets) {
    dots(dot, codes, q, octets);
}

// One token: both registers of an octet at once, so that memory is read in order.
template <int kOctets>
PITH_KERNEL_INLINE inline void dots_single(Ints& dot, const uint8_t* codes, const int8_t* q) {
    const __m256i mask = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    Ints sum = set1_int(0);
    unroll<kOctets>([&](int o) PITH_KERNEL_INLINE {
        const __m256i first = quad(q + o * 8), second = quad(q + o * 8 + 4);
        const auto pairs = [&](__m256i both) PITH_KERNEL_INLINE {
            const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
            return _mm256_add_epi16(_mm256_maddubs_epi16(_mm256_and_si256(both, mask), first), _mm256_maddubs_epi16(high, second));
        };
        sum.a = _mm256_add_epi16(sum.a, pairs(load_256(codes + o * 64)));
        sum.b = _mm256_add_epi16(sum.b, pairs(load_256(codes + o * 64 + 32)));
    });
    dot = add(dot, Ints{_mm256_madd_epi16(sum.a, ones), _mm256_madd_epi16(sum.b, ones)});
}
template <int kTiles>
PITH_KERNEL_INLINE inline void dots(Ints (&dot)[kTiles][1], const uint8_t* const (&codes)[kTiles], const int8_t* const (&q)[1],
                                    uint32_t octets) {
    uint32_t o = 0;
    for (; octets - o >= 4; o += 4) {
        unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { dots_single<4>(dot[i][0], codes[i] + o * 64, q[0] + o * 8); });
    }
    for (; o < octets; o++) {
        unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { dots_single<1>(dot[i][0], codes[i] + o * 64, q[0] + o * 8); });
    }
}

// dot[i][t] += 8-bit codes of tile i times the int8 activations of token t, kStep bytes an octet. The sign goes to the activations: a pair
// of products is then at most 2 * 127 * 127, which fits 16 bits.
inline constexpr int kQ8Offset = 0;
template <uint32_t kStep, int kTokens>
PITH_KERNEL_INLINE inline void dots_q8_half(__m256i (&dot)[kTokens], const uint8_t* codes, const int8_t* const (&q)[kTokens], uint32_t octets) {
    const __m256i offset = _mm256_set1_epi8(static_cast<char>(0x80)), ones = _mm256_set1_epi16(1);
    for (uint32_t c = 0; c < octets * 2; c++) {
        const __m256i rows = _mm256_xor_si256(load_256(codes + c * 64), offset), size = _mm256_abs_epi8(rows);
        unroll<kTokens>([&](int t) PITH_KERNEL_INLINE {
            const __m256i x = _mm256_sign_epi8(quad(q[t] + c / 2 * kStep + c % 2 * 4), rows);
            dot[t] = _mm256_add_epi32(dot[t], _mm256_madd_epi16(_mm256_maddubs_epi16(size, x), ones));
        });
    }
}
template <uint32_t kStep, int kTiles, int kTokens>
PITH_KERNEL_INLINE inline void dots_q8(Ints (&dot)[kTiles][kTokens], const uint8_t* const (&codes)[kTiles], const int8_t* const (&q)[kTokens],
                                       uint32_t octets) {
    unroll<kTiles>([&](int i) PITH_KERNEL_INLINE {
        __m256i a[kTokens], b[kTokens];
        unroll<kTokens>([&](int t) PITH_KERNEL_INLINE {
            a[t] = dot[i][t].a;
            b[t] = dot[i][t].b;
        });
        dots_q8_half<kStep>(a, codes[i], q, octets);
        dots_q8_half<kStep>(b, codes[i] + 32, q, octets);
        unroll<kTokens>([&](int t) PITH_KERNEL_INLINE { dot[i][t] = Ints{a[t], b[t]}; });
    });
}

}  // namespace
}  // namespace pith::kernels
