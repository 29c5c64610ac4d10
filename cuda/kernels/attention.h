// Causal attention of two and more tokens of one sequence over a layer's cache, which holds their keys and values already (rope_store):
// parameters and launch shapes; included by the host and by nvcc.
//
// A row is a query: (token, head of a group of heads that share keys and values), numbered token * group + head, so that few tokens still
// fill a tensor-core tile. A block takes a tile of rows of one kv head and the keys that they see, or one of `splits` parts of those keys;
// the parts are put together by the block that comes last, in the parts' order, so that every run gives the same bits.
#pragma once
#include <stdint.h>

namespace pith::cuda {

struct AttentionParams {
    const uint16_t* q;         // F16 [tokens][q_stride], head h at h * head_dim; turned by rope, not scaled; 16-byte aligned, stride too
    const uint16_t* k;         // F16, this layer's: [kv_head][capacity][head_dim]
    const uint16_t* v;
    uint16_t* out;             // F16 [tokens][out_stride]; columns from heads * head_dim on become 0
    const uint32_t* inverse;   // column c is written at inverse[c]; NULL: c
    const uint32_t* first;     // device memory: the position of token 0
    const uint32_t* count;     // device memory: how many of `tokens` there are; NULL: all
    float* partial;            // attention_partial_bytes(); NULL if splits is 1
    uint32_t* arrived;         // [tiles * kv_heads], zero before and after; NULL if splits is 1
    uint32_t q_stride, out_stride;
    uint32_t heads, kv_heads;  // heads a multiple of kv_heads
    uint32_t head_dim;         // a multiple of 8, at most 256
    uint32_t capacity;         // positions of the cache; a multiple of kKvBlock
    uint32_t tokens;
    uint32_t window;           // keys that a query sees, its own included; 0: all
    uint32_t splits, tiles;    // of the plan
    float scale;               // 1 / sqrt(head_dim)
    uint32_t reserved;
};

inline constexpr uint32_t kMaxAttentionHeadDim = 256;

// A kernel's name is attention_<form>_<width>, e.g. attention_rows128_96 or attention_rows64_128_small: rows of a tile, the head_dim that
// it is compiled for (a smaller one is padded), and whether it stays below 48 KiB of shared memory.
struct AttentionPlan {
    uint32_t rows;     // of a tile: 16, 64 or 128
    uint32_t width;    // 64, 80, 96, 128, 256
    uint32_t keys;     // of a tile
    uint32_t threads, shared;
    uint32_t small;
    uint32_t tiles, splits;
    uint32_t grid_x, grid_y;
    uint64_t partial_bytes, arrived_bytes;  // 0 if splits is 1
};

inline uint32_t attention_width(uint32_t head_dim) {
    return head_dim <= 64 ? 64 : head_dim <= 80 ? 80 : head_dim <= 96 ? 96 : head_dim <= 128 ? 128 : 256;
}
// Keys of a tile, and warps that share them instead of sharing rows (tiles of 16 rows).
inline constexpr uint32_t attention_keys(uint32_t width, bool small) { return width < 128 ? 64 : width == 128 ? (small ? 32 : 64) : small ? 16 : 32; }
inline constexpr uint32_t attention_key_warps(uint32_t width, bool small) { return attention_keys(width, small) / 16; }
inline constexpr uint32_t kAttentionStages = 2;

// `positions`: as many as there may be, cached ones and new ones together; only the number of splits follows from it, so that one launch
// serves every length up to it. `multiprocessors` of the device; `shared_limit` what a block may have there (0: no limit).
inline AttentionPlan attention_plan(uint32_t tokens, uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t positions,
                                    uint32_t multiprocessors, bool small, uint32_t shared_limit = 0) {
    AttentionPlan p{};
    const uint32_t rows = tokens * (heads / kv_heads);
    p.width = attention_width(head_dim);
    p.rows = rows <= 16 ? 16 : rows <= 1024 ? 64 : 128;
    for (;; small = true) {
        p.small = small && p.width >= 128;
        p.keys = attention_keys(p.width, p.small);
        p.shared = kAttentionStages * 2 * p.keys * p.width * 2;
        if (p.small || p.width < 128 || !shared_limit || p.shared <= shared_limit) break;
    }
    p.threads = p.rows == 16 ? attention_key_warps(p.width, p.small) * 32 : p.rows * 2;
    p.tiles = (rows + p.rows - 1) / p.rows;
    const uint32_t blocks = p.tiles * kv_heads, room = multiprocessors * 2, most = (positions + 2 * p.keys - 1) / (2 * p.keys);
    p.splits = p.rows == 128 || blocks * 2 > room ? 1 : room / blocks;
    p.splits = p.splits > most ? most : p.splits;
    p.splits = p.splits > 64 ? 64 : p.splits < 1 ? 1 : p.splits;
    p.grid_x = blocks;
    p.grid_y = p.splits;
    if (p.splits > 1) {
        p.partial_bytes = uint64_t{blocks} * p.splits * p.rows * (p.width + 2) * 4;
        p.arrived_bytes = uint64_t{blocks} * 4;
    }
    return p;
}

}  // namespace pith::cuda
