// layout.h read back, element by element: what repacked matrices are checked with. Says where an element is, and nothing of how it came
// there.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "../../cuda/layout.h"

namespace packed {

using pith::cuda::Matrix;

// The word of a chunk that holds (row, column), and which of its pieces: 0..3 for a0..a3, and the first or second of the pair.
struct Piece {
    uint64_t chunk;
    uint32_t lane, step, a, second;
};
inline Piece find(const Matrix& w, uint32_t row, uint32_t column) {
    Piece p{};
    p.chunk = uint64_t{row / 16} * w.chunks + column / 64;
    const uint32_t in_tile = row % 16, in_step = column % 16;
    p.step = column % 64 / 16;
    p.a = (in_tile >= 8 ? 1 : 0) + (in_step >= 8 ? 2 : 0);
    p.lane = in_tile % 8 * 4 + in_step % 8 / 2;
    p.second = in_step % 2;
    return p;
}
inline uint32_t word_at(const uint8_t* bytes) {
    uint32_t word;
    std::memcpy(&word, bytes, sizeof word);
    return word;
}

inline uint32_t code(const Matrix& w, uint32_t row, uint32_t column) {
    const Piece p = find(w, row, column);
    const uint32_t word = word_at(w.data + p.chunk * 512 + (p.lane * 4 + p.step) * 4);
    return word >> ((p.a + p.second * 4) * 4) & 15;
}
inline uint16_t half(const Matrix& w, uint32_t row, uint32_t column) {
    const Piece p = find(w, row, column);
    const uint32_t word = word_at(w.data + p.chunk * 2048 + ((p.step * 32 + p.lane) * 4 + p.a) * 4);
    return static_cast<uint16_t>(word >> (p.second * 16));
}
inline uint16_t scale(const Matrix& w, uint32_t row, uint32_t group) {
    const uint32_t word = w.scales[(uint64_t{row / 16} * w.groups + group) * 8 + row % 8];
    return static_cast<uint16_t>(word >> (row % 16 / 8 * 16));
}
inline uint32_t zero(const Matrix& w, uint32_t row, uint32_t group) {
    if (!w.zeros) return 8;
    const uint32_t word = w.zeros[(uint64_t{row / 16} * ((w.groups + 3) / 4) + group / 4) * 8 + row % 8];
    return (word >> (group % 4 * 8 + row % 16 / 8 * 4) & 15) + w.zero_offset;
}

inline double half_value(uint16_t bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const double sign = bits >> 15 ? -1 : 1;
    if (exponent == 31) return mantissa ? NAN : sign * INFINITY;
    return sign * (exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24));
}

}  // namespace packed
