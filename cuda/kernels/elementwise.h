// What a forward pass of several tokens does between matrices: embedding, norms, rope with the cache's writes, SiLU. Parameters and launch
// shapes; included by the host and by nvcc. Every kernel runs blocks of kElementThreads and may be launched with programmatic dependence.
#pragma once
#include <stdint.h>

namespace pith::cuda {

inline constexpr uint32_t kElementThreads = 256;
inline constexpr uint32_t kNormVectors = 8;  // of four floats a thread, that a norm keeps in registers

enum class ElementType : uint32_t { F16, F32 };

struct LaunchShape {
    uint32_t grid_x, grid_y, threads, shared;
};

// embed_rows: x[t] = rows[ids[t]] (times row_scale[ids[t]]).
struct EmbedParams {
    const int32_t* ids;      // [tokens], device memory; below the number of rows
    const uint16_t* rows;    // F16 [vocab][hidden]: device memory, or mapped host memory
    const float* row_scale;  // [vocab]; NULL: 1
    float* x;                // [tokens][hidden]
    const uint32_t* count;   // device memory: how many of `tokens` there are; NULL: all
    uint32_t hidden, tokens;
};
inline LaunchShape embed_shape(const EmbedParams& p) { return {p.tokens, 1, kElementThreads, 0}; }

// rms_norm_rows: out[r] = x[from + r] / rms * weight as F16, where `from` is `first_row`, or what leaves the last `rows` of all tokens.
struct NormParams {
    const float* x;           // [tokens][hidden]
    const float* weight;      // [hidden]; constant, as inverse: read before kernels before end; both 16-byte aligned
    const uint32_t* inverse;  // element i is written at inverse[i]; NULL: i
    uint16_t* out;            // F16 [rows][stride]; columns from hidden on become 0
    const uint32_t* count;    // device memory: how many of `tokens` there are; NULL: all
    uint32_t hidden, stride;  // stride a multiple of 8
    uint32_t tokens, rows;
    uint32_t first_row;
    uint32_t last;  // nonzero: the last `rows` tokens, first_row is ignored
    float eps;
    uint32_t reserved;
};
// A row is put together in shared memory where it fits, so that a permuted one leaves in whole sectors.
inline constexpr uint32_t kStagedBytes = 40 << 10;
inline uint32_t staged_bytes(uint32_t stride) { return stride * 2 <= kStagedBytes ? stride * 2 : 0; }

// rms_norm_integers: the same row as what matmul_few_int.h says, for products in integers. Tokens from `rows` to `integer_tokens` are zeros.
struct NormIntegerParams {
    NormParams norm;   // out is not used
    uint8_t* integers;
    uint32_t integer_tokens, block, pairs;
    uint32_t reserved;
};
inline uint32_t norm_integer_bytes(const NormIntegerParams& p) { return p.pairs * 256; }
inline bool norm_integers_serves(const NormIntegerParams& p) {
    return p.norm.hidden % 4 == 0 && p.norm.hidden <= kNormVectors * 4 * kElementThreads && norm_integer_bytes(p) <= kStagedBytes;
}
inline LaunchShape norm_integer_shape(const NormIntegerParams& p) { return {p.integer_tokens, 1, kElementThreads, norm_integer_bytes(p)}; }

inline LaunchShape norm_shape(const NormParams& p) { return {p.rows, 1, kElementThreads, p.inverse ? staged_bytes(p.stride) : 0}; }

// rope_store: turns q and k by their positions, writes q for attention and k, v into the cache. Token t is at position *first + t.
struct RopeParams {
    const void *q, *k, *v;                  // [tokens] rows of `type`, each its first head; aligned to 4 elements, strides too
    const double* inverse_frequency;        // [head_dim / 2]
    uint16_t* q_out;                        // F16 [tokens][q_out_stride]
    uint16_t *k_cache, *v_cache;            // F16, this layer's: [kv_head][capacity][head_dim]
    const uint32_t* first;                  // device memory
    const uint32_t* count;                  // device memory: how many of `tokens` there are; NULL: all
    uint64_t q_stride, k_stride, v_stride;  // elements between tokens
    ElementType type;
    uint32_t heads, kv_heads, head_dim;  // head_dim a multiple of 8
    uint32_t capacity;                   // positions of the cache
    uint32_t tokens, q_out_stride;
    float rope_scale;  // what cos and sin are multiplied by
};
inline constexpr uint32_t kRopeHeads = 16;  // of one token, a block
inline LaunchShape rope_shape(const RopeParams& p) {
    return {p.tokens, (p.heads + 2 * p.kv_heads + kRopeHeads - 1) / kRopeHeads, kElementThreads, p.head_dim * 4};
}

// silu_mul_rows: out[t][inverse[i]] = silu(gate[t][i]) * up[t][i] as F16, for gate and up that are not fused.
struct SiluParams {
    const void *gate, *up;            // [tokens] rows of `type`
    const uint32_t* inverse;          // NULL: the identity
    uint16_t* out;                    // F16 [tokens][stride]; columns from `width` on become 0
    const uint32_t* count;            // device memory: how many of `tokens` there are; NULL: all
    uint64_t gate_stride, up_stride;  // elements between tokens
    ElementType type;
    uint32_t width, stride, tokens;  // stride a multiple of 8
};
inline LaunchShape silu_shape(const SiluParams& p) { return {p.tokens, 1, kElementThreads, p.inverse ? staged_bytes(p.stride) : 0}; }

}  // namespace pith::cuda
