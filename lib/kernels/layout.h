// Inside of a tile, and half floats. Everything here has internal linkage: a file built for one ISA must not lend its code to another.
//
// A Q4 tile, with scales and zero points apart so that every 64-byte load of codes is aligned:
//   scales  [groups][16] half, or float if wide_scales, padded to 64 bytes
//   zeros   [groups][16] bytes 0..16, padded to 64 bytes; only if asymmetric
//   codes   [cols / 8][16 rows][4 bytes]: byte j of octet o, low nibble: column 8 o + j, high nibble: column 8 o + 4 + j
// A Q8 tile:
//   scales  [groups][16] float
//   codes   [cols / 4][16 rows][4 bytes]: byte j of quad c: column 4 c + j, plus 128; 1..255
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/kernels.h"

namespace pith::kernels {
namespace {

#if defined(__GNUC__) || defined(__clang__)
#    define PITH_KERNEL_INLINE __attribute__((always_inline))
#else
#    define PITH_KERNEL_INLINE
#endif

// f(0) ... f(kCount - 1), unrolled before anything else is optimised: else GCC 12 keeps arrays of registers in memory.
template <int kCount, int kFirst = 0, class F>
PITH_KERNEL_INLINE inline void unroll(const F& f) {
    if constexpr (kFirst < kCount) {
        f(kFirst);
        unroll<kCount, kFirst + 1>(f);
    }
}

// What a tier takes through registers together: tiles for one token, tiles and tokens for many, tiles for two to four tokens.
template <int kOne, int kMany, int kTogether, int kTwoToFour = kMany>
struct RegisterShape {
    static constexpr int kSingle = kOne, kTiles = kMany, kTokens = kTogether, kFew = kTwoToFour;
};

inline size_t align_64(size_t bytes) { return (bytes + 63) & ~size_t{63}; }
inline uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }
inline uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }
inline uint32_t groups_of(const Matrix& w) { return w.group ? (w.cols + w.group - 1) / w.group : 0; }
inline size_t element_size(Type type) { return type == Type::F32 ? 4 : 2; }  // of the float types

struct Q4Layout {
    size_t zeros, codes, size;  // offsets into the tile; its bytes
    size_t scale_size;          // bytes of one scale
};

inline Q4Layout q4_layout(const Matrix& w) {
    Q4Layout layout{};
    const size_t scales = size_t{groups_of(w)} * kTileRows;
    layout.scale_size = w.wide_scales ? sizeof(float) : sizeof(uint16_t);
    layout.zeros = align_64(scales * layout.scale_size);
    layout.codes = layout.zeros + (w.asymmetric ? align_64(scales) : 0);
    layout.size = layout.codes + size_t{w.cols} / 8 * 64;
    return layout;
}

inline size_t q8_codes(const Matrix& w) { return size_t{groups_of(w)} * kTileRows * sizeof(float); }  // offset into the tile

inline float bits_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
inline uint32_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// No step passes through a subnormal float, which a host may have told its CPU to flush.
inline float half_float(uint16_t half) {
    const uint32_t sign = uint32_t{half & 0x8000u} << 16;
    const uint32_t rest = half & 0x7FFFu;
    if (rest >= 0x7C00) return bits_float(sign | 0x7F800000 | (rest & 0x3FF) << 13 | (rest > 0x7C00 ? 0x400000 : 0));
    if (rest < 0x400) return bits_float(sign | float_bits(static_cast<float>(rest) * 0x1p-24f));
    return bits_float(sign | ((rest << 13) + 0x38000000));
}

// Round to nearest, ties to even; too large becomes infinity.
inline uint16_t float_half(float value) {
    const uint32_t bits = float_bits(value);
    const uint32_t sign = bits >> 16 & 0x8000;
    const uint32_t rest = bits & 0x7FFFFFFF;
    uint32_t half;
    if (rest > 0x7F800000) {
        half = 0x7E00 | (rest >> 13 & 0x3FF);
    } else if (rest >= 0x47800000) {
        half = 0x7C00;
    } else if (rest < 0x38800000) {  // subnormal: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits
        half = float_bits(bits_float(rest) + 0.5f) - 0x3F000000;
    } else {
        half = (rest - 0x38000000 + 0xFFF + (rest >> 13 & 1)) >> 13;
    }
    return static_cast<uint16_t>(sign | half);
}

inline float bf16_float(uint16_t value) { return bits_float(uint32_t{value} << 16); }

inline float element_float(Type type, const uint8_t* at) {
    if (type == Type::F32) {
        float value;
        memcpy(&value, at, sizeof value);
        return value;
    }
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return type == Type::F16 ? half_float(value) : bf16_float(value);
}

}  // namespace
}  // namespace pith::kernels
