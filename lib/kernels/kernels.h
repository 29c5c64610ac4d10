// CPU kernels: pure functions from pointers to pointers, one table of them an ISA tier. No allocation, no state, no threads.
//
// Every result element is computed in an order of operations that depends on the tier and the layer's shape only, never on how many
// tokens, rows or heads a call covers: that is what makes logits bit-equal for every runner width and every cutting of a prompt.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace pith::kernels {

// Rising within an instruction set.
enum class Tier : uint32_t { Scalar, Avx2, Avx512, Neon, NeonDotprod, NeonI8mm, Count };

// ---------------------------------------------------------------- weights
enum class Type : uint32_t { F32, F16, BF16, Q4, Q8 };

inline constexpr uint32_t kTileRows = 16;  // rows of a tile: one weight row a lane; the last tile is padded with zero rows
inline constexpr size_t kWeightAlignment = 64;
inline constexpr uint32_t kTokenLanes = 8;  // tokens of an interleaved group
inline constexpr uint32_t kQ8Group = 128;   // columns that share a scale of a Q8 row

// A matrix [rows, cols] (outputs, inputs) repacked into tiles of 16 rows, the same layout on every tier.
//   float types: element (k, lane) of tile t at data + t * tile_bytes + (k * 16 + lane) * size of type
//   Q4: scales of all groups, zero points of all groups, then the codes in octets of columns; Q8: scales, then codes; see layout.h
struct Matrix {
    const uint8_t* data = nullptr;
    size_t tile_bytes = 0;
    Type type = Type::F32;
    uint32_t rows = 0, cols = 0;
    uint32_t group = 0;        // Q4: columns that share a scale, a multiple of 32 (one for all: cols rounded up to one); the last
                               // group may be shorter; cols is a multiple of 8. Q8: kQ8Group, cols a multiple of 8
    bool asymmetric = false;   // Q4: zero points stored a group; else all are 8
    bool wide_scales = false;  // Q4: scales are float, not half (files with BF16 or F32 scales)
    uint32_t tiles() const { return (rows + kTileRows - 1) / kTileRows; }
    uint32_t groups() const { return group ? (cols + group - 1) / group : 0; }
};

// Bytes of one tile, a multiple of kWeightAlignment; reads type, rows, cols, group and the flags.
size_t tile_bytes(const Matrix& shape);

// Where a GPTQ matrix lies in memory, as in the file (formats.md section 3); all ranges were checked by the caller.
struct GptqSource {
    const uint32_t* qweight;  // [cols / 8, rows]
    const uint32_t* qzeros;   // [groups, rows / 8]
    const void* scales;       // [groups, rows], of scale_type
    Type scale_type;          // F16; BF16 and F32 need a matrix of wide_scales
    uint32_t zero_offset;     // 1 for v1 (stored + 1, no wrap), 0 for v2
    const uint32_t* perm;     // sorted position -> original column, or NULL: the identity. Position p belongs to group p / matrix.group
};
void pack_gptq(const Matrix& to, uint8_t* data, const GptqSource& from, uint32_t tile_begin, uint32_t tile_end);
// from: row-major [rows, cols] of to.type; `data` is the tiles' first byte.
void pack_dense(const Matrix& to, uint8_t* data, const void* from, uint32_t tile_begin, uint32_t tile_end);
// The same to a Q8 matrix from float rows of another type. A group with a NaN or Inf becomes NaN.
void pack_q8(const Matrix& to, uint8_t* data, const void* from, Type from_type, uint32_t tile_begin, uint32_t tile_end);

// ---------------------------------------------------------------- activations
// Rows of activations, one a token. Float matrices read x; Q4 and Q8 read q/scale/sum if q is set (fast), else x (exact).
// Columns are in the matrix's order: for act-order the caller has gathered them (see gather / quantise).
//
// With `lanes` = kTokenLanes the int8 form is interleaved: a group of eight tokens takes the room of its eight rows, as
//   q [octet of columns][8 tokens][8 bytes], scale and sum [block][8 tokens]
// so that many tokens are one stream of memory. All eight lanes of a group must hold numbers; ranges begin at whole groups.
struct Activations {
    const float* x = nullptr;
    size_t x_stride = 0;        // floats from token to token
    const int8_t* q = nullptr;  // [token][q_stride], in -127..127
    size_t q_stride = 0;
    const float* scale = nullptr;  // [token][block_stride]: x ~ q * scale of its block
    const int32_t* sum = nullptr;  // [token][block_stride]: minus the sum of q over the block
    size_t block_stride = 0;
    uint32_t lanes = 1;  // or kTokenLanes
};
// Columns of one activation block for a matrix of this group size: divides it. The last block may be shorter.
uint32_t activation_block(uint32_t group);

// ---------------------------------------------------------------- attention
// The KV cache of one layer, in pages of `page` positions (a multiple of 64); page p holds positions [p * page, (p + 1) * page).
//   K page: [kv_head][page / 64][head_dim][64]   (positions in lanes: scores need no horizontal sum)
//   V page: [kv_head][page][head_dim]
struct KvLayer {
    void* const* k_pages;
    void* const* v_pages;
    uint32_t page;
    uint32_t heads, head_dim;  // kv heads
    Type k_type, v_type;       // F32 or F16
};

inline constexpr uint32_t kKeySpan = 512;  // keys of a span of attention: what is worth another worker

struct Attention {
    KvLayer kv;
    const float* q;  // [token][q_stride], heads consecutive, rotated
    float* out;      // [token][out_stride], same order of heads
    size_t q_stride, out_stride;
    uint32_t heads;           // query heads; head h reads kv head h / (heads / kv.heads)
    uint32_t first_position;  // of token 0 in q
    uint32_t window;          // 0: full; else keys in (position - window, position]
    float scale;
};

// ---------------------------------------------------------------- the table
struct Table {
    Tier tier;
    const char* name;  // "scalar", "avx2", "avx512", "neon", "neon_dotprod", "neon_i8mm"
    uint32_t lanes;    // of Activations when there are many tokens; 1: this tier has no interleaved form

    // y[t * y_stride + row] = sum over k of w[row, k] * x[t, k], for tokens [token_begin, token_end) and whole tiles
    // [tile_begin, tile_end); padded rows are not written. y is indexed by absolute token and row.
    void (*matmul)(const Matrix& w, const Activations& x, uint32_t token_begin, uint32_t token_end, uint32_t tile_begin, uint32_t tile_end,
                   float* y, size_t y_stride);
    // One token to int8 blocks; perm (NULL: identity) gathers: position i quantises x[perm[i]]. A NaN or Inf makes its block's scale NaN.
    // lanes: of Activations, 1 or kTokenLanes; then q, scale and sum point at this token's first byte, float and integer in its group.
    void (*quantise)(const float* x, uint32_t cols, uint32_t block, const uint32_t* perm, uint32_t lanes, int8_t* q, float* scale,
                     int32_t* sum);
    void (*rms_norm)(const float* x, const float* weight, uint32_t n, float eps, float* y);  // y may be x
    void (*silu_mul)(const float* gate, const float* up, uint32_t n, float* y);              // y may be gate or up
    void (*add)(const float* x, uint32_t n, float* y);                                       // y += x
    void (*rope)(float* x, uint32_t half, const float* cos, const float* sin);               // half-split pairs (i, i + half), in place
    // Row `row` of a float or Q8 matrix (an embedding kept as tiles, for tied heads) as float.
    void (*tile_row)(const Matrix& w, uint32_t row, float* y);
    void (*to_float)(Type type, const void* from, size_t n, float* y);
    // k, v: one token, [kv heads][head_dim]; written at `position`.
    void (*kv_store)(const KvLayer& kv, uint32_t position, const float* k, const float* v);
    // Online softmax over blocks of keys that start at fixed absolute positions, within spans of kKeySpan keys that do too; then the spans
    // are joined in their order. For one kv head and tokens [token_begin, token_end). scratch: attention_scratch() bytes, 64-aligned.
    void (*attention)(const Attention& a, uint32_t kv_head, uint32_t token_begin, uint32_t token_end, void* scratch);
    // The same in two steps for one token, so that spans may be computed side by side, bit for bit: span number `span` into
    // part[attention_part()], then all that the token sees, in order, from parts that lie one behind another.
    void (*attention_span)(const Attention& a, uint32_t kv_head, uint32_t token, uint32_t span, void* scratch, float* part);
    void (*attention_join)(const Attention& a, uint32_t kv_head, uint32_t token, const float* parts, void* scratch);
};

size_t attention_scratch(uint32_t heads_per_kv_head, uint32_t head_dim);  // bytes, the same for every tier
size_t attention_part(uint32_t heads_per_kv_head, uint32_t head_dim);     // floats, a multiple of 16
// The oldest key that a position sees.
inline uint32_t oldest_key(uint32_t position, uint32_t window) { return window && position >= window ? position + 1 - window : 0; }

Tier best_tier();               // what this CPU and its OS can run: cpuid and xgetbv, or getauxval; nothing cached
const Table* table(Tier tier);  // NULL: not built in (not this instruction set)

}  // namespace pith::kernels
