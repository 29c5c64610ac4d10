// Repacking of weight matrices into tiles.
#include "kernels/layout.h"

namespace pith::kernels {
namespace {

// Nibbles 0..3 of the low 16 bits become bytes.
inline uint32_t spread(uint32_t x) {
    x = (x | x << 8) & 0x00FF00FF;
    return (x | x << 4) & 0x0F0F0F0F;
}

// Eight codes in column order, as GPTQ packs them, to one row of an octet.
inline uint32_t octet_row(uint32_t word) { return spread(word & 0xFFFF) | spread(word >> 16) << 4; }

uint32_t gathered_word(const GptqSource& from, uint32_t rows, uint32_t octet, uint32_t row) {
    uint32_t word = 0;
    for (uint32_t i = 0; i < 8; i++) {
        const uint32_t column = from.perm[octet * 8 + i];
        const uint32_t code = from.qweight[size_t{column / 8} * rows + row] >> (column % 8 * 4) & 15;
        word |= code << (i * 4);
    }
    return word;
}

void pack_codes(const Matrix& to, uint8_t* codes, const GptqSource& from, uint32_t row_begin, uint32_t row_count) {
    for (uint32_t octet = 0; octet < to.cols / 8; octet++) {
        uint32_t words[kTileRows] = {};
        const uint32_t* source = from.qweight + size_t{octet} * to.rows + row_begin;
        for (uint32_t r = 0; r < row_count; r++) {
            words[r] = octet_row(from.perm ? gathered_word(from, to.rows, octet, row_begin + r) : source[r]);
        }
        uint8_t* out = codes + size_t{octet} * 64;
        for (uint32_t r = 0; r < kTileRows; r++) {
            for (uint32_t j = 0; j < 4; j++) out[r * 4 + j] = static_cast<uint8_t>(words[r] >> (8 * j));
        }
    }
}

void pack_group(const Matrix& to, const Q4Layout& layout, uint8_t* tile, const GptqSource& from, uint32_t group, uint32_t row_begin,
                uint32_t row_count) {
    const uint8_t* scales = static_cast<const uint8_t*>(from.scales);
    const size_t size = element_size(from.scale_type);
    for (uint32_t r = 0; r < row_count; r++) {
        const uint32_t row = row_begin + r;
        const uint8_t* scale_at = scales + (size_t{group} * to.rows + row) * size;
        uint8_t* out = tile + (size_t{group} * kTileRows + r) * layout.scale_size;
        if (to.wide_scales) {
            const float scale = element_float(from.scale_type, scale_at);
            memcpy(out, &scale, sizeof scale);
        } else {
            memcpy(out, scale_at, sizeof(uint16_t));
        }
        if (!to.asymmetric) continue;
        const uint32_t word = from.qzeros[(size_t{group} * to.rows + row) / 8];
        const uint32_t zero = (word >> (row % 8 * 4) & 15) + from.zero_offset;
        tile[layout.zeros + size_t{group} * kTileRows + r] = static_cast<uint8_t>(zero);
    }
}

}  // namespace

void pack_gptq(const Matrix& to, uint8_t* data, const GptqSource& from, uint32_t tile_begin, uint32_t tile_end) {
    const Q4Layout layout = q4_layout(to);
    for (uint32_t t = tile_begin; t < tile_end; t++) {
        uint8_t* tile = data + t * to.tile_bytes;
        const uint32_t row_begin = t * kTileRows;
        const uint32_t row_count = smaller(kTileRows, to.rows - row_begin);
        memset(tile, 0, layout.codes);
        for (uint32_t g = 0; g < groups_of(to); g++) pack_group(to, layout, tile, from, g, row_begin, row_count);
        pack_codes(to, tile + layout.codes, from, row_begin, row_count);
    }
}

void pack_dense(const Matrix& to, uint8_t* data, const void* from, uint32_t tile_begin, uint32_t tile_end) {
    const size_t size = element_size(to.type);
    const uint8_t* source = static_cast<const uint8_t*>(from);
    for (uint32_t t = tile_begin; t < tile_end; t++) {
        uint8_t* tile = data + t * to.tile_bytes;
        const uint32_t row_count = smaller(kTileRows, to.rows - t * kTileRows);
        memset(tile, 0, to.tile_bytes);
        for (uint32_t k = 0; k < to.cols; k++) {
            for (uint32_t r = 0; r < row_count; r++) {
                const uint8_t* element = source + ((size_t{t} * kTileRows + r) * to.cols + k) * size;
                uint8_t* out = tile + (size_t{k} * kTileRows + r) * size;
                size == 4 ? memcpy(out, element, 4) : memcpy(out, element, 2);
            }
        }
    }
}

namespace {

// A row's group of `count` columns: its scale, and codes that lie 4 to a quad. To nearest, as far as a float's product goes; a group that
// is all but zero becomes zero, since 127 / largest would overflow.
void pack_q8_group(const uint8_t* from, Type type, uint32_t count, uint8_t* scale_at, uint8_t* codes) {
    const size_t size = element_size(type);
    uint32_t largest = 0;  // bits of |x|: a NaN is above all
    for (uint32_t k = 0; k < count; k++) {
        const uint32_t bits = float_bits(element_float(type, from + k * size)) & 0x7FFFFFFF;
        largest = larger(largest, bits);
    }
    const float absmax = bits_float(largest);
    float scale = 0.0f, factor = 0.0f;
    if (largest >= 0x7F800000) {
        scale = bits_float(0x7FC00000);
    } else if (absmax >= 1.0e-30f) {
        scale = absmax / 127.0f;
        factor = 127.0f / absmax;
    }
    memcpy(scale_at, &scale, sizeof scale);
    if (factor == 0.0f) return;  // the codes stand for zero already
    for (uint32_t k = 0; k < count; k++) {
        const float value = element_float(type, from + k * size) * factor;
        codes[size_t{k / 4} * 64 + k % 4] = static_cast<uint8_t>(static_cast<int32_t>(value + 128.5f));  // above 0: cutting is rounding
    }
}

}  // namespace

void pack_q8(const Matrix& to, uint8_t* data, const void* from, Type from_type, uint32_t tile_begin, uint32_t tile_end) {
    const size_t codes = q8_codes(to), row_bytes = to.cols * element_size(from_type);
    const uint8_t* source = static_cast<const uint8_t*>(from);
    for (uint32_t t = tile_begin; t < tile_end; t++) {
        uint8_t* tile = data + t * to.tile_bytes;
        const uint32_t row_count = smaller(kTileRows, to.rows - t * kTileRows);
        memset(tile, 0, codes);
        memset(tile + codes, 128, to.tile_bytes - codes);
        for (uint32_t r = 0; r < row_count; r++) {
            const uint8_t* row = source + (size_t{t} * kTileRows + r) * row_bytes;
            for (uint32_t g = 0, column = 0; column < to.cols; g++, column += to.group)
                pack_q8_group(row + column * element_size(from_type), from_type, smaller(to.group, to.cols - column),
                              tile + (size_t{g} * kTileRows + r) * sizeof(float), tile + codes + size_t{column} * kTileRows + r * 4);
        }
    }
}

}  // namespace pith::kernels
