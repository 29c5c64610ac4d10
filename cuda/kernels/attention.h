// Causal attention of two and more tokens of one sequence over a layer's cache, which holds their keys and values already (rope_store):
// parameters and launch shapes; included by the host and by nvcc. With programmatic dependence they read *first, *count and the cache's
// positions below *first before the kernel before them ends: that one must let its dependents start after its own wait only, and positions
// below *first must be of earlier forwards (where *first is not this forward's first token, launch without programmatic dependence).
//
// A row is a query: (token, head of a group of heads that share keys and values), numbered token * group + head, so that few tokens still
// fill a tensor-core tile. A block takes a tile of rows of one kv head and the keys that they see, or one of `splits` parts of those keys;
// attention_combine, a second kernel, then puts the parts together in their order, so that every run gives the same bits.
#pragma once
#include <stdint.h>

namespace pith::cuda {

struct AttentionParams {
    const uint16_t* q;  // F16 [tokens][q_stride], head h at h * head_dim; turned by rope, not scaled; 16-byte aligned, stride too
    const uint16_t* k;  // F16, this layer's: [kv_head][capacity][head_dim]
    const uint16_t* v;
    uint16_t* out;            // F16 [tokens][out_stride]; columns from heads * head_dim on become 0; 16-byte aligned, stride too
    const uint32_t* inverse;  // column c is written at inverse[c]; 16-byte aligned; NULL: c
    const uint32_t* first;    // device memory: the position of token 0
    const uint32_t* count;    // device memory: how many of `tokens` there are; NULL: all
    float* partial;           // the plan's partial_bytes; 16-byte aligned; NULL if splits is 1
    uint32_t q_stride, out_stride;
    uint32_t heads, kv_heads;  // heads a multiple of kv_heads
    uint32_t head_dim;         // a multiple of 8, at most 256
    uint32_t capacity;         // positions of the cache; a multiple of kKvBlock
    uint32_t tokens;
    uint32_t window;                            // keys that a query sees, its own included; 0: all
    uint32_t rows, keys, width, splits, tiles;  // the plan's
    float scale;                                // 1 / sqrt(head_dim)
    uint32_t reserved[2];
};

inline constexpr uint32_t kMaxAttentionHeadDim = 256;

// A kernel's name is attention_rows<rows>_<width>, and _small after it if it is one of few keys a tile, e.g. attention_rows64_128_small. If
// there are splits, attention_combine runs after it with the same parameters.
struct AttentionPlan {
    uint32_t rows;   // of a tile: 16, 32, 64 or 128
    uint32_t width;  // the head_dim it is compiled for: 64, 80, 96, 128 or 256; a smaller one is padded
    uint32_t keys;   // of a tile
    uint32_t threads, shared;
    uint32_t small;  // at most 48 KiB of shared memory (width 80 and less: always; 96: 48)
    uint32_t tiles, splits;
    uint32_t grid_x, grid_y;
    uint32_t combine_grid, combine_threads;  // 0 if splits is 1
    uint64_t partial_bytes;
};

inline uint32_t attention_width(uint32_t head_dim) {
    return head_dim <= 64 ? 64 : head_dim <= 80 ? 80 : head_dim <= 96 ? 96 : head_dim <= 128 ? 128 : 256;
}
inline constexpr uint32_t attention_keys(uint32_t width, bool small) {
    return width < 128 ? 64 : width == 128 ? (small ? 32 : 64) : small ? 16 : 32;
}
// Warps that share a tile's keys rather than its rows.
inline constexpr uint32_t attention_key_warps(uint32_t rows, uint32_t keys) {
    const uint32_t want = rows >= 64 ? 1 : 64 / rows;
    return want * 16 <= keys ? want : keys / 16;
}
// Tiles of keys in shared memory, and blocks of a multiprocessor: few rows wait for memory, many for the tensor cores.
inline constexpr uint32_t attention_stages(uint32_t rows, uint32_t width) { return rows >= 64 || width == 80 || width == 96 ? 2 : 3; }
inline constexpr uint32_t attention_blocks(uint32_t rows, uint32_t width) { return rows == 128 ? 1 : rows == 64 && width <= 128 ? 3 : 2; }

inline constexpr uint32_t kPartsOfWarp = 8;  // more splits than these are put together by four warps

inline void attention_finish_plan(AttentionPlan& p, uint32_t tokens, uint32_t heads, uint32_t kv_heads) {
    p.keys = attention_keys(p.width, p.small != 0);
    p.shared = attention_stages(p.rows, p.width) * 2 * p.keys * p.width * 2;
    p.threads = p.rows * 2 * attention_key_warps(p.rows, p.keys);
    p.tiles = (tokens * (heads / kv_heads) + p.rows - 1) / p.rows;
    p.grid_x = p.tiles * kv_heads;
    p.grid_y = p.splits;
    if (p.splits < 2) return;
    p.combine_threads = 128;
    p.combine_grid = p.splits > kPartsOfWarp ? tokens * heads : (tokens * heads + 3) / 4;
    p.partial_bytes = uint64_t{p.grid_x} * p.splits * p.rows * (p.width + 2) * 4;
}

inline constexpr uint32_t kMaxAttentionSplits = 64;

// `positions`: as many as there may be, cached ones and new ones together; only the number of splits follows from it, so that one launch
// serves every length up to it. `multiprocessors` of the device; `shared_limit`: bytes that a block may have there (0: as many as it
// wants).
inline AttentionPlan attention_plan(uint32_t tokens, uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t positions,
                                    uint32_t multiprocessors, bool small, uint32_t shared_limit = 0) {
    AttentionPlan p{};
    const uint32_t rows = tokens * (heads / kv_heads);
    p.width = attention_width(head_dim);
    p.rows = rows <= 16 ? 16 : rows <= 32 ? 32 : rows <= 1024 ? 64 : 128;
    p.splits = 1;
    p.small = (small || (shared_limit && shared_limit < 128 << 10)) && p.width >= 128;  // several blocks rather than long tiles
    attention_finish_plan(p, tokens, heads, kv_heads);
    if (p.rows == 128) return p;
    // A part costs its writing, reading and half a kernel: few of them, of three tiles at least, unless the cache is long.
    const bool busy = positions >= 8192 && (p.rows < 64 || p.tiles > 1 || p.grid_x * 8 > multiprocessors);
    const uint32_t room = multiprocessors * (busy ? attention_blocks(p.rows, p.width) : 1) / p.grid_x,
                   most = (positions + 3 * p.keys - 1) / (3 * p.keys);
    p.splits = room < most ? room : most;
    p.splits = p.splits > kMaxAttentionSplits ? kMaxAttentionSplits : p.splits < 1 ? 1 : p.splits;
    attention_finish_plan(p, tokens, heads, kv_heads);
    return p;
}

// ---- sm_90a: attention_wide_64 and attention_wide_128, for many rows
// ---------------------------------------------------------------------

inline constexpr uint32_t kWideRows = 128, kWideKeys = 128, kWideThreads = 384, kWideStages = 2;

struct alignas(64) TensorMap {  // a CUtensorMap
    uint64_t words[16];
};

// A __grid_constant__.
struct WideAttentionParams {
    TensorMap k, v;        // of all layers' keys or values: wide_attention_map()
    AttentionParams base;  // no splits; k, v and partial are not used
    uint32_t cache_row;    // layer * kv_heads * capacity
    uint32_t reserved[13];
};

// What cuTensorMapEncodeTiled is called with: F16, two dimensions, 128-byte swizzle, no interleave, zeros outside, element strides of 1.
struct WideAttentionMap {
    uint64_t dims[2], stride;  // {head_dim, rows of the cache}, bytes between rows
    uint32_t box[2];
};
inline WideAttentionMap wide_attention_map(uint32_t head_dim, uint64_t cache_rows) {
    return {{head_dim, cache_rows}, uint64_t{head_dim} * 2, {64, kWideKeys}};
}

inline AttentionPlan wide_attention_plan(uint32_t tokens, uint32_t heads, uint32_t kv_heads, uint32_t head_dim) {
    AttentionPlan p{};
    p.rows = kWideRows, p.keys = kWideKeys, p.threads = kWideThreads;
    p.width = head_dim <= 64 ? 64 : 128;
    p.shared = kWideStages * 2 * kWideKeys * p.width * 2 + 8 * 2048 + kWideStages * 4 * 8;
    p.tiles = (tokens * (heads / kv_heads) + kWideRows - 1) / kWideRows;
    p.splits = 1;
    p.grid_x = p.tiles * kv_heads, p.grid_y = 1;
    return p;
}

// Whether they serve (besides, cache_rows is below 2^31), and there are rows enough to keep the device busy without splits.
inline bool wide_attention_serves(uint32_t tokens, uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t multiprocessors) {
    return head_dim <= 128 && tokens * (heads / kv_heads) > 128 &&
           wide_attention_plan(tokens, heads, kv_heads, head_dim).grid_x * 2 >= multiprocessors;
}

}  // namespace pith::cuda
