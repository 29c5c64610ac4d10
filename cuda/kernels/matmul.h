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
};

inline constexpr uint32_t kMatmulThreads = 128, kMatmulTokens = 64, kMatmulTiles = 8;  // of a block: threads, tokens, row tiles

inline void matmul_grid(const MatmulParams& p, uint32_t* x, uint32_t* y) {
    *x = (p.tokens + kMatmulTokens - 1) / kMatmulTokens;
    *y = (p.matrix.tiles + kMatmulTiles - 1) / kMatmulTiles;
}

}  // namespace pith::cuda
