// Products of a 4-bit matrix with up to 16 tokens in integers: parameters, the input's form and launch shapes.
//
// Codes are integers as they are. The input becomes integers too: a block of columns of a token has one scale s, and x = s (256 hi + lo)
// with two signed bytes, |256 hi + lo| <= 32639. So one integer product of tensor cores takes codes with a mask each and nothing else, its
// sums are exact, and scale and zero point come in once a block: sum = scale s (256 sum(code hi) + sum(code lo) - zero sum(x / s)).
//
// The input, for each pair of chunks (128 columns):
//   planes  [tokens / 4][chunk of the pair][token % 4][hi, lo][t][step] words of four bytes, columns 16 step + 2 t + {0, 8, 1, 9}
//   scales  [tokens / 4][block of the pair][token % 4] of four floats 256 s, s, -kIntMagic s, -s sum(x / s)
// Tokens are the kernel's number: what is not there is zero.
#pragma once
#include "matmul.h"

namespace pith::cuda {

inline constexpr uint32_t kIntWarps = 8, kIntThreads = kIntWarps * 32 + 32;  // warps that multiply; one more that copies
inline constexpr uint32_t kIntPairCols = 128;
inline constexpr uint32_t kIntMost = 16;  // tokens: from here on the other kernel is as fast
inline constexpr float kIntMagic = 12582912.0f;  // what an integer sum begins with, as bits: then it is a float of its value more
inline constexpr uint32_t kIntMagicBits = 0x4b400000;

// A block of the input's columns lies in one group: 128 where that is so, else 32.
#ifdef __CUDACC__
__host__ __device__
#endif
    inline uint32_t
    int_block(uint32_t group) {
    return group % kIntPairCols == 0 ? kIntPairCols : 32;
}
#ifdef __CUDACC__
__host__ __device__
#endif
    inline constexpr uint32_t
    int_plane_bytes(uint32_t tokens) {
    return tokens / 4 * 1024;
}
#ifdef __CUDACC__
__host__ __device__
#endif
    inline constexpr uint32_t
    int_pair_bytes(uint32_t tokens, uint32_t block) {
    return tokens / 4 * (1024 + kIntPairCols / block * 64);
}
inline uint32_t int_pairs(uint32_t cols) { return (cols + kIntPairCols - 1) / kIntPairCols; }

// Of one row tile in a stage of `pairs` pairs: codes, scales of the groups there may be, zero points.
#ifdef __CUDACC__
__host__ __device__
#endif
    inline constexpr uint32_t
    int_tile_bytes(uint32_t pairs, uint32_t block) {
    return pairs * (1024 + kIntPairCols / block * 32) + 64;
}

// quantise_rows: F16 rows to the form above. A warp makes 128 columns of a token.
struct QuantiseParams {
    const uint16_t* x;  // F16 [rows][x_stride], 16-byte aligned
    uint8_t* out;
    uint32_t x_stride, cols;  // columns from `cols` on count as zeros
    uint32_t rows, tokens;    // there are; of the kernel
    uint32_t block, pairs;
};
inline constexpr uint32_t kQuantiseThreads = 256;
inline uint32_t quantise_grid(const QuantiseParams& p) { return (p.pairs * p.tokens + kQuantiseThreads / 32 - 1) / (kQuantiseThreads / 32); }

// pith_matmul_int_<tokens>_<block>: base.x is not read; parts and arrived are as ever.
struct IntMatmulParams {
    MatmulParams base;
    const uint8_t* input;  // quantise_rows' result
    uint32_t pairs;        // of a stage, 1 or 2
    uint32_t stages;
};

struct IntShape {
    uint32_t tokens, block, tiles;  // tiles: of a warp
    uint32_t pairs, stages, shared, grid, row_blocks;
    uint64_t input_bytes, parts_bytes;
};
inline uint32_t int_stage_bytes(uint32_t tokens, uint32_t block, uint32_t tiles, uint32_t pairs) {
    return pairs * int_pair_bytes(tokens, block) + kIntWarps * tiles * int_tile_bytes(pairs, block);
}

// stages 0: this kernel does not serve. Few tokens: two blocks a multiprocessor, of which each hides the other's pauses.
inline IntShape int_shape(const Matrix& m, uint32_t tokens, uint32_t multiprocessors, uint32_t shared_limit) {
    IntShape s{};
    s.block = m.group ? int_block(m.group) : 0;
    if (m.type != WeightType::Q4 || m.group % 32 || tokens > kIntMost) return s;
    s.tokens = tokens <= 4 ? 4 : tokens <= 8 ? 8 : 16;
    s.tiles = 1;
    const uint32_t whole = shared_limit - 1024, half = shared_limit / 2 - 1024;
    const auto fits = [&](uint32_t room, uint32_t pairs, uint32_t stages) {
        const uint32_t bytes = int_stage_bytes(s.tokens, s.block, s.tiles, pairs);
        if (room < 256 || (room - 256) / bytes < stages) return false;
        s.pairs = pairs;
        s.stages = (room - 256) / bytes < 8 ? (room - 256) / bytes : 8;
        s.shared = s.stages * bytes + 256;
        return true;
    };
    const bool two = s.tokens * (128 / s.block) <= 16 && fits(half, 2, 4);
    if (!two && !fits(whole, 2, 3)) return s;
    const uint32_t tiles = kIntWarps * s.tiles, steps = (int_pairs(m.cols) + s.pairs - 1) / s.pairs;
    s.row_blocks = (m.tiles + tiles - 1) / tiles;
    const uint64_t units = uint64_t{s.row_blocks} * steps, blocks = uint64_t{multiprocessors} * (two ? 2 : 1);
    s.grid = static_cast<uint32_t>(units < blocks ? units : blocks);
    s.input_bytes = uint64_t{int_pairs(m.cols)} * int_pair_bytes(s.tokens, s.block);
    s.parts_bytes = uint64_t{s.grid} * 2 * tiles * s.tokens * 64;
    return s;
}

}  // namespace pith::cuda
