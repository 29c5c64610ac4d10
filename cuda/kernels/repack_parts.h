// What one thread of a repacking kernel does. Plain C++, so that a test without a GPU runs it too.
#pragma once
#include <string.h>

#include "repack.h"

#if defined(__CUDACC__)
#    define PITH_ANY __host__ __device__ inline
#else
#    define PITH_ANY inline
#endif

namespace pith::cuda {

PITH_ANY float bits_to_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
PITH_ANY uint32_t float_to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// To the nearest half, ties to even; too large becomes infinity. In integers, so that a GPU and a CPU agree to the bit.
PITH_ANY uint16_t round_to_half(float value) {
    const uint32_t bits = float_to_bits(value), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    uint32_t half;
    if (rest > 0x7f800000) {
        half = 0x7e00;
    } else if (rest >= 0x47800000) {
        half = 0x7c00;
    } else if (rest >= 0x38800000) {
        half = (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13;
    } else {  // subnormal: a multiple of 2^-24
        const uint32_t exponent = rest >> 23, shift = 126 - exponent, mantissa = (rest & 0x7fffff) | 0x800000;
        if (shift > 24) {
            half = 0;
        } else {
            half = mantissa >> shift;
            const uint32_t lost = mantissa & ((1u << shift) - 1), middle = 1u << (shift - 1);
            half += lost > middle || (lost == middle && (half & 1));
        }
    }
    return static_cast<uint16_t>(sign | half);
}

PITH_ANY float half_to_float(uint16_t half) {
    const uint32_t sign = uint32_t{half & 0x8000u} << 16, rest = half & 0x7fffu;
    if (rest >= 0x7c00) return bits_to_float(sign | 0x7f800000 | (rest & 0x3ff) << 13);
    if (rest >= 0x400) return bits_to_float(sign | ((rest << 13) + 0x38000000));
    const float value = static_cast<float>(rest) * 0x1p-24f;
    return sign ? -value : value;
}

PITH_ANY float load_element(const void* source, SourceType type, uint64_t index) {
    if (type == SourceType::F32) return static_cast<const float*>(source)[index];
    const uint16_t bits = static_cast<const uint16_t*>(source)[index];
    return type == SourceType::F16 ? half_to_float(bits) : bits_to_float(uint32_t{bits} << 16);
}

// A power of two that takes a row whose largest magnitude is `largest` into F16: its largest becomes 16 to 32, which leaves 2^18 below
// it before precision is lost. `up` undoes `down`.
struct RowScale {
    float down, up;
};
PITH_ANY RowScale row_scale_for(SourceType type, float largest) {
    if (type == SourceType::F16 || largest == 0) return {1, 1};
    int exponent = static_cast<int>(float_to_bits(largest) >> 23) - 127 - 4;
    exponent = exponent < -120 ? -120 : exponent > 120 ? 120 : exponent;
    return {bits_to_float(static_cast<uint32_t>(127 - exponent) << 23), bits_to_float(static_cast<uint32_t>(127 + exponent) << 23)};
}

PITH_ANY uint16_t scaled_half(const void* source, SourceType type, uint64_t index, RowScale scale) {
    if (type == SourceType::F16) return static_cast<const uint16_t*>(source)[index];
    return round_to_half(load_element(source, type, index) * scale.down);
}

PITH_ANY uint64_t placed_row(RowPlace place, uint32_t row) {
    if (place.rows == Rows::Whole) return uint64_t{place.first} + row;
    return uint64_t{row / 8} * kTileRows + row % 8 + (place.rows == Rows::Lower ? 8 : 0);
}

// ---- scales and zero points
// --------------------------------------------------------------------------------------------------------------

PITH_ANY float largest_scale(const RepackScalesParams& p, uint32_t row) {
    float largest = 0;
    for (uint32_t g = 0; g < p.to.groups; g++) {
        const float value = load_element(p.scales, p.type, uint64_t{g} * p.rows + row);
        const float magnitude = value < 0 ? -value : value;
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}

PITH_ANY void repack_scales_row(const RepackScalesParams& p, uint32_t row, uint32_t quad) {
    const uint32_t source = p.order ? p.order[row] : row;
    const RowScale scale = p.type == SourceType::F16 ? RowScale{1, 1} : row_scale_for(p.type, largest_scale(p, source));
    const uint64_t at = placed_row(p.place, row), tile = at / kTileRows, g = at % 8, high = at % kTileRows / 8;
    if (quad == 0 && p.to.row_scale) const_cast<float*>(p.to.row_scale)[at] = scale.up;
    uint16_t* scales = reinterpret_cast<uint16_t*>(const_cast<uint32_t*>(p.to.scales));
    uint32_t nibbles = 0, mask = 0;
    for (uint32_t i = 0; i < 4 && quad * 4 + i < p.to.groups; i++) {
        const uint64_t group = quad * 4 + i, from = group * p.rows + source;
        scales[((tile * p.to.groups + group) * 8 + g) * 2 + high] = scaled_half(p.scales, p.type, from, scale);
        if (!p.to.zeros) continue;
        const uint32_t shift = i * 8 + static_cast<uint32_t>(high) * 4;
        nibbles |= (p.qzeros[from / 8] >> (source % 8 * 4) & 15) << shift;
        mask |= 15u << shift;
    }
    if (!p.to.zeros) return;
    uint32_t* word = const_cast<uint32_t*>(p.to.zeros) + (tile * ((p.to.groups + 3) / 4) + quad) * 8 + g;
    *word = (*word & ~mask) | nibbles;
}

// `index`: tile of the part * 8 + g. Both rows of a word, which no other thread touches.
PITH_ANY void repack_scales_part(const RepackScalesParams& p, uint32_t index, uint32_t quad) {
    const uint32_t tile = index / 8, g = index % 8;
    const bool whole = p.place.rows == Rows::Whole;
    const uint32_t first = tile * (whole ? kTileRows : 8) + g;
    if (first < p.rows) repack_scales_row(p, first, quad);
    if (whole && first + 8 < p.rows) repack_scales_row(p, first + 8, quad);
}

// ---- codes
// -------------------------------------------------------------------------------------------------------------------------------

// What stands in a column past the end: the zero point, so that the product is zero. (A zero point of 16 has no code.)
PITH_ANY uint32_t padding_code(const RepackCodesParams& p, uint64_t tile, uint32_t g, uint32_t high, uint32_t column) {
    if (!p.to.zeros) return 8;
    const uint32_t last = p.to.groups - 1, group = column / p.to.group < last ? column / p.to.group : last;
    const uint32_t word = p.to.zeros[(tile * ((p.to.groups + 3) / 4) + group / 4) * 8 + g];
    const uint32_t zero = (word >> (group % 4 * 8 + high * 4) & 15) + p.to.zero_offset;
    return zero < 15 ? zero : 15;
}

// Adds the code of (the source's row, stored column) to a word, if this part of the source has it.
PITH_ANY void add_code(const RepackCodesParams& p, uint32_t row, uint64_t tile, uint32_t g, uint32_t high, uint32_t column, uint32_t shift,
                       uint32_t& word) {
    uint32_t code;
    if (column < p.to.cols) {
        const uint32_t from = p.perm ? p.perm[column] : column, octet = from / 8;
        if (octet < p.octet_begin || octet >= p.octet_end) return;
        code = p.qweight[uint64_t{octet - p.octet_begin} * p.rows + row] >> (from % 8 * 4) & 15;
    } else {
        code = padding_code(p, tile, g, high, column);
    }
    word = (word & ~(15u << shift)) | code << shift;
}

// Lane `lane` of a chunk of the part's tile `part`: four words.
PITH_ANY void repack_codes_lane(const RepackCodesParams& p, uint32_t part, uint32_t chunk, uint32_t lane) {
    const bool whole = p.place.rows == Rows::Whole;
    const uint32_t g = lane / 4, t = lane % 4;
    const uint64_t tile = whole ? uint64_t{p.place.first / kTileRows} + part : part;
    uint32_t* words =
        reinterpret_cast<uint32_t*>(const_cast<uint8_t*>(p.to.data) + (tile * p.to.chunks + chunk) * kQ4ChunkBytes) + lane * 4;
    const uint32_t from = whole || p.place.rows == Rows::Upper ? 0 : 1, to = whole || p.place.rows == Rows::Lower ? 2 : 1;
    for (uint32_t step = 0; step < 4; step++) {
        uint32_t word = words[step];
        for (uint32_t high = from; high < to; high++) {
            const uint32_t row = whole ? part * kTileRows + g + high * 8 : part * 8 + g;
            if (row >= p.rows) continue;
            const uint32_t column = chunk * kChunkCols + step * 16 + t * 2;
            const uint32_t source = p.order ? p.order[row] : row;
            add_code(p, source, tile, g, high, column, high * 4, word);
            add_code(p, source, tile, g, high, column + 1, high * 4 + 16, word);
            add_code(p, source, tile, g, high, column + 8, high * 4 + 8, word);
            add_code(p, source, tile, g, high, column + 9, high * 4 + 24, word);
        }
        words[step] = word;
    }
}

// ---- dense
// -------------------------------------------------------------------------------------------------------------------------------

// The largest finite-or-infinite magnitude among every `threads`-th element of a row.
PITH_ANY float largest_of_row(const RepackDenseParams& p, uint32_t row, uint32_t thread, uint32_t threads) {
    float largest = 0;
    for (uint32_t c = thread; c < p.cols; c += threads) {
        const float value = load_element(p.source, p.type, uint64_t{row} * p.cols + c), magnitude = value < 0 ? -value : value;
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}

// Every `threads`-th pair of columns of source row `row` (of those given). `largest`: of the whole row.
PITH_ANY void repack_dense_row(const RepackDenseParams& p, uint32_t row, float largest, uint32_t thread, uint32_t threads) {
    const RowScale scale = row_scale_for(p.type, largest);
    const uint64_t from = uint64_t{row} * p.cols, at = placed_row(p.place, p.row_begin + row), tile = at / kTileRows;
    const uint32_t g = at % 8, high = at % kTileRows / 8;
    if (thread == 0 && p.to.row_scale) const_cast<float*>(p.to.row_scale)[at] = scale.up;
    for (uint32_t c = thread * 2; c < p.cols; c += threads * 2) {
        const uint16_t first = scaled_half(p.source, p.type, from + c, scale);
        const uint16_t second = c + 1 < p.cols ? scaled_half(p.source, p.type, from + c + 1, scale) : 0;
        const uint32_t word = first | uint32_t{second} << 16;
        if (p.to.data) {
            const uint32_t step = c % kChunkCols / 16, t = c % 8 / 2, which = high + c % 16 / 8 * 2;
            uint8_t* chunk = const_cast<uint8_t*>(p.to.data) + (tile * p.to.chunks + c / kChunkCols) * kF16ChunkBytes;
            reinterpret_cast<uint32_t*>(chunk)[(step * 32 + g * 4 + t) * 4 + which] = word;
        }
        if (!p.plain) continue;
        uint16_t* plain = p.plain + uint64_t{p.row_begin + row} * p.cols + c;
        if (p.cols % 2 == 0) {
            *reinterpret_cast<uint32_t*>(plain) = word;
        } else {
            plain[0] = first;
            if (c + 1 < p.cols) plain[1] = second;
        }
    }
}

PITH_ANY void repack_float(const RepackFloatsParams& p, uint32_t i) {
    if (i < p.count) p.to[placed_row(p.place, i)] = load_element(p.source, p.type, p.order ? p.order[i] : i);
}

}  // namespace pith::cuda
