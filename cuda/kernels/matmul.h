// Products of a packed matrix with several tokens, on any architecture: parameters and launch shape.
#pragma once
#include <stdint.h>

#include "../layout.h"

namespace pith::cuda {

enum class MatmulStore : uint32_t { Half, Float, Add, GateUp };  // see ../matmul.h

struct MatmulParams {
    Matrix matrix;
    const uint16_t* x;  // F16 [tokens][x_stride], 16-byte aligned, zero from the matrix's columns to its last chunk's end
    void* y;
    const uint32_t* inverse;  // GateUp: where element i goes; NULL: i
    uint64_t y_stride;
    uint32_t x_stride, tokens;
    uint32_t width;  // GateUp: elements of the result
    MatmulStore store;
    // Few tokens only:
    float* parts;       // matmul_few_parts() bytes
    uint32_t* arrived;  // [row blocks], zero before and after
};

// Kernels pith_matmul_<kind>_<tokens of a block>, of two row tiles a warp: large blocks read the least, small ones leave fewer processors
// idle. The kind is kMatmulKinds[matmul_kind()]: q4_fine is for groups that may begin in the middle of a chunk.
inline constexpr uint32_t kMatmulThreads = 128, kMatmulTiles = 8;  // of a block

inline constexpr const char* kMatmulKinds[] = {"q4", "q4_fine", "f16"};
inline uint32_t matmul_kind(const Matrix& m) { return m.type == WeightType::F16 ? 2 : m.groups > 1 && m.group % kChunkCols; }

struct MatmulShape {
    uint32_t tokens;          // of a block: 128 or 64
    uint32_t grid_x, grid_y;  // blocks of tokens, blocks of rows
};
inline MatmulShape matmul_shape(const MatmulParams& p, uint32_t multiprocessors) {
    const auto shape = [&](uint32_t tokens) {
        return MatmulShape{tokens, (p.tokens + tokens - 1) / tokens, (p.matrix.tiles + kMatmulTiles - 1) / kMatmulTiles};
    };
    const auto turns = [&](const MatmulShape& s) { return (uint64_t{s.grid_x} * s.grid_y + multiprocessors - 1) / multiprocessors; };
    const MatmulShape large = shape(128), small = shape(64);
    return turns(large) * 10 <= turns(small) * 6 ? large : small;  // a small one takes more than half as long
}

// Which tokens and rows a block takes: those that run at a time form a patch of both, so that they share most of what they read.
struct MatmulPlace {
    uint32_t tokens, rows;
};
#ifdef __CUDACC__
__host__ __device__
#endif
    inline MatmulPlace
    matmul_place(uint32_t x, uint32_t y, uint32_t grid_x, uint32_t grid_y) {
    constexpr uint32_t kNear = 16;  // blocks of tokens
    const uint64_t block = uint64_t{y} * grid_x + x, band = uint64_t{kNear} * grid_y;
    const uint32_t begin = static_cast<uint32_t>(block / band) * kNear, near = grid_x - begin < kNear ? grid_x - begin : kNear;
    const uint32_t in = static_cast<uint32_t>(block % band);
    return {begin + in % near, in / near};
}

// Few tokens, up to 64: kernels pith_matmul_few_<q4|f16>_<8|16|32|64>, a fixed number of blocks that share all (row block, stage) units
// evenly. Row blocks that several blocks share are added by the last of them to arrive, in the blocks' order.
inline constexpr uint32_t kFewThreads = 256, kFewTiles = 8, kFewCols = 128;  // of a row block: threads, row tiles; columns of a stage
inline constexpr uint32_t kFewMost = 64;

struct FewShape {
    uint32_t tokens;  // of the kernel: 8, 16, 32 or 64
    uint32_t stages, shared;
    uint32_t grid;
    uint32_t row_blocks;
};

// Of one warp's weights in a stage: two chunks, then for Q4 scales of up to four groups and zero points of up to eight.
inline constexpr uint32_t few_warp_bytes(WeightType type) {
    return type == WeightType::Q4 ? 2 * kQ4ChunkBytes + 4 * 32 + 2 * 32 : 2 * kF16ChunkBytes;
}
inline constexpr uint32_t few_stage_bytes(WeightType type, uint32_t tokens) {
    return tokens * kFewCols * 2 + kFewTiles * few_warp_bytes(type);
}

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
