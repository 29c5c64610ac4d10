// Products of a packed matrix with several tokens, on any architecture: parameters and launch shape.
#pragma once
#include <stdint.h>

#include "../layout.h"

namespace pith::cuda {

enum class MatmulStore : uint32_t { Half, Float, Add, GateUp };  // see ../matmul.h

struct MatmulParams {
    Matrix matrix;
    const uint16_t* x;        // F16 [tokens][x_stride], 16-byte aligned, zero from the matrix's columns to its last chunk's end
    void* y;
    const uint32_t* inverse;  // GateUp: where element i goes; NULL: i
    uint64_t y_stride;
    uint32_t x_stride, tokens;
    uint32_t width;           // GateUp: elements of the result
    MatmulStore store;
    // Few tokens only:
    float* parts;             // matmul_few_parts() bytes
    uint32_t* arrived;        // [row blocks], zero before and after
};

inline constexpr uint32_t kMatmulThreads = 128, kMatmulTokens = 64, kMatmulTiles = 8;  // of a block: threads, tokens, row tiles

inline void matmul_grid(const MatmulParams& p, uint32_t* x, uint32_t* y) {
    *x = (p.tokens + kMatmulTokens - 1) / kMatmulTokens;
    *y = (p.matrix.tiles + kMatmulTiles - 1) / kMatmulTiles;
}

// Few tokens, up to 64: kernels pith_matmul_few_<q4|f16>_<8|16|32|64>, a fixed number of blocks that share all (row block, stage) units
// evenly. Row blocks that several blocks share are added by the last of them to arrive, in the blocks' order.
inline constexpr uint32_t kFewThreads = 256, kFewTiles = 8, kFewCols = 128;  // of a row block: threads, row tiles; columns of a stage
inline constexpr uint32_t kFewMost = 64;

struct FewShape {
    uint32_t tokens;         // of the kernel: 8, 16, 32 or 64
    uint32_t stages, shared;
    uint32_t grid;
    uint32_t row_blocks;
};

// Of one warp's weights in a stage: two chunks, then for Q4 scales of up to four groups and zero points of up to eight.
inline constexpr uint32_t few_warp_bytes(WeightType type) { return type == WeightType::Q4 ? 2 * kQ4ChunkBytes + 4 * 32 + 2 * 32 : 2 * kF16ChunkBytes; }
inline constexpr uint32_t few_stage_bytes(WeightType type, uint32_t tokens) { return tokens * kFewCols * 2 + kFewTiles * few_warp_bytes(type); }

// stages below 2: no room for it.
inline FewShape few_shape(const Matrix& m, uint32_t tokens, uint32_t multiprocessors, uint32_t shared_limit) {
    FewShape s{};
    s.tokens = tokens <= 8 ? 8 : tokens <= 16 ? 16 : tokens <= 32 ? 32 : 64;
    const uint32_t stage = few_stage_bytes(m.type, s.tokens), whole = shared_limit - 1024, half = shared_limit / 2 - 1024;
    // Two blocks a multiprocessor if each can have three stages; they hide each other's barriers.
    const uint32_t blocks = half / stage >= 3 ? 2 : 1, room = blocks == 2 ? half : whole;
    s.stages = room / stage < 8 ? room / stage : 8;
    s.shared = s.stages * stage;
    s.row_blocks = (m.tiles + kFewTiles - 1) / kFewTiles;
    const uint64_t units = uint64_t{s.row_blocks} * ((m.chunks + 1) / 2);
    s.grid = multiprocessors * blocks;
    if (s.grid > units) s.grid = static_cast<uint32_t>(units);
    return s;
}
inline uint64_t few_parts_bytes(const FewShape& s) { return uint64_t{s.grid} * 2 * kFewTiles * (s.tokens / 8) * 32 * 16; }

}  // namespace pith::cuda
