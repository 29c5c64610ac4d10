// Elements of rows put into another order, in place: parameters and launch shape.
#pragma once
#include <stdint.h>

namespace pith::cuda {

struct ReorderParams {
    uint16_t* rows;           // F16 [tokens][stride], 16-byte aligned as every row is
    const uint32_t* inverse;  // where element i goes, 16-byte aligned
    uint64_t stride;
    uint32_t width, tokens;
    uint32_t rows_at_once;  // of a block: 1 or 2
};

struct ReorderShape {
    uint32_t grid, threads, shared;
};

inline constexpr uint32_t reorder_row_bytes(uint32_t width) { return (width + 7) / 8 * 16; }

inline bool reorder_serves(const ReorderParams& p, uint32_t shared_limit) {
    return p.stride % 8 == 0 && (reinterpret_cast<uintptr_t>(p.rows) | reinterpret_cast<uintptr_t>(p.inverse)) % 16 == 0 &&
           reorder_row_bytes(p.width) <= shared_limit;
}
// Fills in rows_at_once: two share what they read of the order.
inline ReorderShape reorder_shape(ReorderParams& p, uint32_t shared_limit) {
    const uint32_t row = reorder_row_bytes(p.width);
    p.rows_at_once = row * 2 <= shared_limit ? 2 : 1;
    return {(p.tokens + p.rows_at_once - 1) / p.rows_at_once, 512, row * p.rows_at_once};
}

}  // namespace pith::cuda
