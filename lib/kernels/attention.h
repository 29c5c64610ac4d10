// The scratch memory of attention, the same for every tier.
#pragma once
#include "kernels/layout.h"

namespace pith::kernels {
namespace {

inline constexpr uint32_t kKeyBlock = 64;   // keys of one step of the online softmax, at multiples of 64
inline constexpr uint32_t kQueryRows = 64;  // (token, head) pairs that share a converted block of keys, unless one token has more heads
inline constexpr uint32_t kRowsAtOnce = 4;  // of them in registers
inline constexpr uint32_t kPartExtra = 32;  // floats of a row of a part behind its output: sums by lane, the largest score

// Offsets in floats.
struct AttentionLayout {
    uint32_t tokens;           // of one pass
    size_t padded_dim;         // head_dim rounded up to whole vectors
    size_t k, v;               // a block of keys and values as float: [head_dim][64], [64][padded_dim]
    size_t out, sum, largest;  // a row each: unnormalised output [padded_dim], sum of weights by lane [16], largest score; of a span
    size_t total;              // the same of all spans so far, as the rows of a part
    size_t weights;            // [kRowsAtOnce][64]
    size_t size;
};

inline AttentionLayout attention_layout(uint32_t heads, uint32_t head_dim) {
    AttentionLayout l{};
    l.tokens = larger(1, kQueryRows / heads);
    l.padded_dim = (size_t{head_dim} + 15) / 16 * 16;
    const size_t rows = size_t{l.tokens} * heads;
    l.k = 0;
    l.v = l.k + kKeyBlock * size_t{head_dim};
    l.out = l.v + kKeyBlock * l.padded_dim;
    l.sum = l.out + rows * l.padded_dim;
    l.largest = l.sum + rows * 16;
    l.total = l.largest + (rows + 15) / 16 * 16;
    l.weights = l.total + rows * (l.padded_dim + kPartExtra);
    l.size = l.weights + kRowsAtOnce * kKeyBlock;
    return l;
}

}  // namespace
}  // namespace pith::kernels
