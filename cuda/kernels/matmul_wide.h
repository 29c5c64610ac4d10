// Products of a packed matrix with many tokens on sm_90a: parameters and launch shape.
#pragma once
#include <stdint.h>

#include "attention.h"
#include "matmul.h"

namespace pith::cuda {

// Of a block: row tiles and threads (a warpgroup that fetches, two that multiply four tiles each). Two blocks are a cluster: they have the
// same tokens, and each fetches half of them for both.
inline constexpr uint32_t kWideTiles = 8, kWideMatmulThreads = 384, kWideCluster = 2;
inline constexpr uint32_t kWideRing = 192 << 10;  // bytes of tokens under way; the results pass through the same memory
inline constexpr uint32_t kWideMatmulShared = kWideRing + 2048;
inline constexpr uint32_t wide_ring_stages(uint32_t tokens) { return kWideRing / (tokens * kChunkCols * 2); }

// A __grid_constant__.
struct WideMatmulParams {
    TensorMap x;                 // wide_matmul_map()
    MatmulParams base;           // not parts, arrived
    uint32_t group_parts;        // parts of a scale's group: chunks, or halves of them where groups are fine
    uint32_t row_clusters;       // clusters that cover all rows
    uint32_t token_tiles, near;  // blocks of tokens; of them, those that are gone through before the next rows are
};

// Kernels pith_matmul_wide_<kind>_<tokens of a block>, as in matmul.h.
struct WideMatmulShape {
    uint32_t tokens;  // of a block: 128, 192 or 256
    uint32_t grid, threads, shared;
};

// What the map is made with: F16, two dimensions, 128-byte swizzle, no interleave, zeros outside, element strides of 1.
struct WideMatmulMap {
    uint64_t dims[2], stride;  // {x_stride, tokens}, bytes between rows
    uint32_t box[2];
};
inline WideMatmulMap wide_matmul_map(const MatmulParams& p, const WideMatmulShape& s) {
    return {{p.x_stride, p.tokens}, uint64_t{p.x_stride} * 2, {kChunkCols, s.tokens / kWideCluster}};
}

inline bool wide_matmul_serves(const MatmulParams& p) { return p.x_stride % 8 == 0 && p.tokens > kFewMost; }

// Fills in all but base and the map. tokens: of a block; 0: what suits best.
inline WideMatmulShape wide_matmul_shape(WideMatmulParams& p, uint32_t multiprocessors, uint32_t tokens = 0) {
    constexpr uint32_t kNear = 24 << 20;  // bytes of tokens that stay in L2 beside the weights
    const Matrix& m = p.base.matrix;
    const uint32_t part = matmul_kind(m) ? kChunkCols / 2 : kChunkCols;
    p.group_parts = m.type == WeightType::F16 ? 0 : m.groups == 1 ? m.chunks : m.group / part;
    p.row_clusters = (m.tiles + kWideTiles * kWideCluster - 1) / (kWideTiles * kWideCluster);
    WideMatmulShape s{0, 0, kWideMatmulThreads, kWideMatmulShared};
    uint64_t best = ~uint64_t{0};
    for (const uint32_t n : {256u, 192u, 128u}) {
        const uint64_t clusters = uint64_t{(p.base.tokens + n - 1) / n} * p.row_clusters, room = multiprocessors / kWideCluster;
        const uint64_t cost = (clusters + room - 1) / room * (n + 64);  // a chunk costs what decoding its weights takes, too
        if (cost < best) best = cost, s.tokens = n;
    }
    if (tokens) s.tokens = tokens;
    p.token_tiles = (p.base.tokens + s.tokens - 1) / s.tokens;
    const uint64_t bytes = uint64_t{s.tokens} * m.chunks * kChunkCols * 2, most = kNear / bytes;
    p.near = most < 1 ? 1 : most < p.token_tiles ? static_cast<uint32_t>(most) : p.token_tiles;
    p.near = (p.token_tiles + (p.token_tiles + p.near - 1) / p.near - 1) / ((p.token_tiles + p.near - 1) / p.near);  // evenly
    s.grid = p.token_tiles * p.row_clusters * kWideCluster;
    return s;
}

}  // namespace pith::cuda
