// One token through the whole model in one cooperative launch: what the kernel
// is told, and how the host sizes the launch.
//
// The grid is one block an SM: warps that compute, and one that fills a ring of
// stages in shared memory with weights, keys and values in the order of their
// use, across phases and layers: while blocks wait for each other, the next
// phase's weights are on their way.
//
// Phases of a layer: norm + q/k/v, attention, o, norm + gate/up + activation,
// down. 4-bit codes are multiplied as integers (decode_matvec.cuh). The grid
// meets only at a token's end: sums of o and down go into the residual stream
// by integer additions, whose order is free and which are counted in the same
// words; what the other phases make is passed on in words that carry a tag. The
// readers look for a word until it has its count or its tag.
//
// Use: fill DecodeParams up to `workspace` and the layers (host copy), call
// decode_plan(); allocate workspace_bytes, zero them once; copy the layers to
// the device; launch kernel decode_kernel() with grid, block and shared bytes of
// the plan, cooperatively, nothing else running on the device's SMs that never
// ends. The workspace serves one launch at a time.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "../layout.h"

#ifdef __CUDACC__
#    define PITH_BOTH_SIDES __host__ __device__
#else
#    define PITH_BOTH_SIDES
#endif

namespace pith::cuda {

// A matrix whose tiles are cut into units of 4 KiB: 8 Q4 chunks (512 columns)
// or 2 F16 chunks (128).
struct DecodeJob {
    Matrix matrix;            // data == NULL: there is none
    const uint32_t* inverse;  // act-order of this matrix's input: element i lies at inverse[i] (layout.h); NULL: at i
    uint32_t per_tile;        // units of a tile
    uint32_t kind;            // which inner loop: kKind...
    uint32_t blocks, magic;   // Q4: a group's blocks of kind_block() columns; n / blocks is the high word of n * magic, or n if magic is 0
};

enum : uint32_t { kKindF16 = 0, kKindQ4 = 1 };  // Q4: 1 + 2 * (0: blocks of 32 columns, 1: 64, 2: 128) + asymmetric
// Columns that share a scale of the input, a divisor of the group; 0: F16.
PITH_BOTH_SIDES inline constexpr uint32_t kind_block(uint32_t kind) { return kind == kKindF16 ? 0 : 32u << ((kind - kKindQ4) / 2); }
PITH_BOTH_SIDES inline constexpr uint32_t kind_columns(uint32_t kind) { return kind == kKindF16 ? 128 : 512; }  // of a unit
inline constexpr uint32_t kUnitBytes = 4096;

// q, k and v may be one matrix of stacked parts (each padded to whole tiles),
// or two or three; gate and up one of interleaved tiles or two.
inline constexpr uint32_t kDecodeJobs = 7;
enum : uint32_t { kJobQkv = 0, kJobO = 3, kJobGateUp = 4, kJobDown = 6 };

struct DecodeLayer {
    DecodeJob jobs[kDecodeJobs];  // 0-2: q, k, v (those not used have data NULL);
                                  // 3: o; 4-5: gate and up; 6: down
    const float* attention_norm;  // [hidden]
    const float* mlp_norm;        // [hidden]
    uint16_t* keys;               // this layer's: F16 [kv_head][kv_positions][head_dim]
    uint16_t* values;
    uint32_t q_job, q_row;  // where q lies: the job's index (0-2) and the first
                            // row in its matrix
    uint32_t k_job, k_row;
    uint32_t v_job, v_row;
    uint32_t window;      // positions that a token sees, itself included; 0: all
    uint32_t gate_apart;  // 1: jobs 4 and 5 are gate and up; 0: job 4 is both,
                          // interleaved
    uint32_t reserved[2];
};
static_assert(sizeof(DecodeLayer) % 16 == 0);

struct alignas(16) DecodeParams {
    const DecodeLayer* layers;     // device
    const float* final_norm;       // [hidden]
    const uint16_t* embedding;     // F16 [vocab][hidden]; may be mapped host memory
    const float* embedding_scale;  // [vocab], or NULL: 1
    const uint32_t* token;         // device: read when the kernel runs; NULL: token_value
    const uint32_t* position;      // likewise
    uint32_t token_value, position_value;
    const double* inverse_frequencies;  // [head_dim / 2]
    float* logits;                      // [vocab]
    DecodeJob head;
    uint32_t layer_count, hidden, intermediate, heads, kv_heads, head_dim, vocab;
    uint32_t kv_positions;  // positions of a kv head in the cache (a multiple of
                            // kKvBlock)
    float rms_eps;
    float rope_scale;           // of cos and sin
    float attention_scale;      // of q k, usually head_dim ^ -1/2
    uint32_t whole_head_units;  // 0: default; a head of no more cache units than
                                // this is not shared between SMs

    // Set by decode_plan(), but for `workspace`.
    uint8_t* workspace;  // device, zeroed once
    uint32_t grid, threads, shared_bytes;
    uint32_t warps;                // that compute; one more fills the ring
    uint32_t stages, stage_bytes;  // of the ring
    uint32_t stage_units;          // each for another warp; warps / stage_units groups of
                                   // warps take stages in turns
    uint32_t groups, turn_magic;   // a warp's group is the high half of warp * turn_magic
    uint32_t guarded;              // a warp may look for a stage before what the stage held last has come
    uint32_t under_way, ahead;     // stages that are asked for and have not come, at most: of what is being computed, of what is next
    uint32_t scale_at, zero_at;    // where in a stage the scales and zero points are
    uint32_t unit_groups,
        unit_zeros;     // scales and words of zero points that a unit has room for
    uint32_t partials;  // places for 16 sums each, where warps' sums of a tile are collected
    uint32_t shared_partial, shared_own, shared_input, input_bytes,
        shared_ring;               // offsets; size of the staged input
    uint32_t at_blocks;            // where in the staged input the blocks' scales and sums are
    uint32_t slice_o, slice_down;  // units of the slices of columns that o and down are cut
                                   // into (the last is larger); an SM works on one of them
    uint32_t ratio;                // query heads of a kv head
    uint32_t head_rows;            // of them are computed together: 1, 4, or 8 on tensor cores
    uint32_t head_blocks;          // how many times, for all query heads of a kv head
    uint32_t combined;             // results (of a head by a warp) that there is room for at once
    uint32_t kv_unit;              // positions of a unit of the cache
    uint32_t alike;                // all layers' matrices have the same shapes
    uint64_t workspace_bytes;
    uint64_t at_counters, at_x[2], at_y[kDecodeJobs], at_attention, at_hidden, at_partials;
};
static_assert(sizeof(DecodeParams) % 16 == 0);

inline constexpr uint32_t kDecodeMaxWarps = 15, kDecodeLayersHeld = 3, kDecodeMostUnits = 1000;

// A block's part of a job: `count` units from unit k0 + k of `tile` on, where a
// tile's units are those of its columns k0 .. k0 + kn.
struct DecodeShare {
    uint32_t count, tile, k;
    uint32_t k0, kn;
    uint32_t stages;         // of the ring
    uint32_t adders, tiles;  // if tiles are whole: warps that add to one, and how many tiles there is room for
    float most;              // else: the largest number that is added
    uint32_t reserved;
};

// How attention of one layer is cut: a head (a block of query heads of one kv
// head) has one unit for the new position and one for every kv_unit cached
// ones.
struct KvCut {
    uint32_t first;       // first position that is seen
    uint32_t per_head;    // units
    uint32_t blocks;      // that share them all; 0: heads are not shared
    uint32_t begin, end;  // of this block
    uint32_t units;
};

// The first part of a block's shared memory. Sums of tiles, the staged input
// and the ring follow.
struct alignas(128) DecodeShared {
    float sums[kDecodeMaxWarps];
    uint64_t launch;                         // what tells this launch from others
    uint64_t counts[2];                      // additions that each buffer of the residual stream has seen when it is complete next
    uint64_t layer_come[kDecodeLayersHeld];  // barriers: layer l is in layers[l %
                                             // kDecodeLayersHeld]
    uint32_t at_layer;                       // of the computing warps
    uint32_t at_work;                        // theirs: layer * 8 + job (attention: that of v)
    uint32_t tag, first_tag;                 // of what blocks pass on to each other in this layer; the first layer's
    uint32_t position, is_last, known;       // known: position is
    uint32_t cut_window;                     // of the layers that `cut` is for
    KvCut cut;
    DecodeShare shares[kDecodeJobs + 1];  // of layers that are alike, and the head
    DecodeParams params;
    DecodeLayer layers[kDecodeLayersHeld];
    float rotation[256];  // cos, then sin: [2][head_dim / 2]
    uint8_t zeros[1024];
};

inline const char* decode_kernel(const DecodeParams& p) { return p.head_rows == 8 ? "pith_decode_grouped" : "pith_decode"; }

inline uint32_t decode_up(uint32_t v, uint32_t to) { return (v + to - 1) / to * to; }

inline DecodeJob make_decode_job(const Matrix& m, const uint32_t* inverse) {
    DecodeJob j{};
    j.matrix = m;
    j.inverse = inverse;
    if (!m.data) return j;
    if (m.type == WeightType::F16) {
        j.per_tile = (m.chunks + 1) / 2;
        j.kind = kKindF16;
        j.blocks = 1;
    } else {
        const uint32_t block = m.group % 128 == 0 ? 2 : m.group % 64 == 0 ? 1 : 0;
        j.per_tile = (m.chunks + 7) / 8;
        j.kind = kKindQ4 + 2 * block + (m.zeros ? 1 : 0);
        j.blocks = (m.group + (32u << block) - 1) >> (5 + block);
        j.magic = j.blocks <= 1 ? 0 : static_cast<uint32_t>(((uint64_t{1} << 32) + j.blocks - 1) / j.blocks);
    }
    return j;
}

// Most groups that a unit touches.
inline uint32_t decode_unit_groups(const DecodeJob& j) {
    const uint32_t blocks = 512 / kind_block(j.kind),
                   groups = j.blocks >= blocks && j.blocks % blocks == 0 ? 1 : (blocks - 1) / j.blocks + 2;
    const uint32_t most = groups < blocks ? groups : blocks;
    return most < j.matrix.groups ? most : j.matrix.groups;
}

// True if the kernel can run this; `layers` is the host's copy. shared_limit:
// bytes of dynamic shared memory a block may have (the device's opt-in maximum,
// or 48 KiB); warps: that compute, at most.
inline bool decode_plan(DecodeParams* p, const DecodeLayer* layers, uint32_t sms, uint32_t shared_limit, uint32_t warps) {
    const uint32_t d = p->head_dim;
    if (!d || d % 8 || d > 256 || !p->kv_heads || p->heads % p->kv_heads || !warps || warps > kDecodeMaxWarps || !sms || !p->hidden ||
        p->hidden % 2 || p->intermediate % 2)  // elements are read in pairs
        return false;
    const uint32_t ratio = p->heads / p->kv_heads;
    if (sms > p->hidden) sms = p->hidden;  // each block has a row of the residual stream
    p->grid = sms;
    p->ratio = ratio;
    p->head_rows = ratio == 1 ? 1 : d == 128 || d == 64 ? 8 : 4;
    p->head_blocks = (ratio + p->head_rows - 1) / p->head_rows;
    uint32_t lanes = 1;
    while (lanes * 8 < d) lanes *= 2;
    const uint32_t at_once = 32 / lanes;  // positions that a warp reads at once
    p->kv_unit = kUnitBytes / 2 / d / at_once * at_once;
    if (!p->whole_head_units) p->whole_head_units = 16;

    // What a stage must hold of a unit, and the staged input.
    bool regular = true;  // every unit of Q4 has as many groups
    uint32_t groups = 0, whole_cols = 0, block = 128;
    auto look = [&](const DecodeJob& j, uint32_t which) {
        if (!j.matrix.data) return true;
        if (static_cast<uint64_t>(j.per_tile) * j.matrix.tiles >= uint64_t{1} << 24) return false;
        const uint32_t columns = kind_columns(j.kind);
        if (which != kJobO && which != kJobDown && whole_cols < j.per_tile * columns) whole_cols = j.per_tile * columns;
        if (j.kind == kKindF16) return true;
        if (j.matrix.group % 32) return false;
        if (block > kind_block(j.kind)) block = kind_block(j.kind);
        const uint32_t g = decode_unit_groups(j);
        if (groups && groups != g) regular = false;
        if (groups < g) groups = g;
        if (j.magic || g != 512 / kind_block(j.kind)) regular = false;
        // Their numbers must fit beside a sum (decode_matvec.cuh).
        return (which != kJobO && which != kJobDown) || j.per_tile < kDecodeMostUnits;
    };
    bool fits = look(p->head, kDecodeJobs);
    p->alike = 1;
    for (uint32_t l = 0; l < p->layer_count; l++)
        for (uint32_t i = 0; i < kDecodeJobs; i++) {
            const DecodeJob &a = layers[0].jobs[i], &b = layers[l].jobs[i];
            fits = fits && look(b, i);
            if (a.per_tile != b.per_tile || a.matrix.tiles != b.matrix.tiles || (a.matrix.data == nullptr) != (b.matrix.data == nullptr))
                p->alike = 0;
        }
    if (!fits) return false;
    p->unit_groups = groups;
    p->unit_zeros = regular ? groups / 4 : (groups + 6) / 4;  // whether there are any: before a model is loaded nobody knows
    // Shared memory: of these the first that fits and leaves some stages. Attention uses the input's place.
    constexpr struct {
        uint32_t warps, stage_units, stages;
    } kForms[] = {{15, 5, 4}, {12, 4, 4}, {8, 4, 4}, {8, 2, 3}, {6, 2, 3}, {4, 2, 3}, {4, 1, 3}, {2, 1, 2}, {1, 1, 2}};
    p->warps = 0;
    for (const auto& form : kForms) {
        const uint32_t c = form.warps;
        if (c > warps) continue;
        // Slices as narrow as a stage: the columns of a block's inputs are few, and a stage is of one tile.
        uint32_t cols = whole_cols;
        p->slice_o = p->slice_down = form.stage_units < 4 ? 4 : form.stage_units;
        for (uint32_t which : {kJobO, kJobDown}) {
            uint32_t& slice = which == kJobO ? p->slice_o : p->slice_down;
            for (uint32_t l = 0; l < p->layer_count; l++)
                while (layers[l].jobs[which].per_tile / slice > sms) slice *= 2;
            for (uint32_t l = 0; l < p->layer_count; l++) {
                const DecodeJob& j = layers[l].jobs[which];
                const uint32_t units = j.per_tile < 2 * slice ? j.per_tile : slice + j.per_tile % slice;
                if (j.matrix.data && cols < units * kind_columns(j.kind)) cols = units * kind_columns(j.kind);
            }
        }
        cols = decode_up(cols, 512);
        // What it stages, and at least one head's results of all warps.
        const uint32_t results = p->head_rows == 8 && shared_limit >= 96 * 1024 ? 2 : 1;
        uint32_t attention = ((p->head_rows + 2) * d + c * results * (d + 2)) * 4;
        if (attention < sms * p->head_rows * 8) attention = sms * p->head_rows * 8;  // ends of all blocks' softmax
        p->at_blocks = cols * 2;
        p->input_bytes = p->at_blocks + cols / block * 8;
        if (p->input_bytes < attention) p->input_bytes = attention;
        p->input_bytes = decode_up(p->input_bytes, 128);
        p->combined = (p->input_bytes / 4 - (p->head_rows + 2) * d) / (d + 2);
        p->stage_units = form.stage_units;
        p->groups = c / p->stage_units;
        p->turn_magic = 65536 / p->stage_units + 1;
        p->scale_at = p->stage_units * kUnitBytes;
        p->zero_at = p->scale_at + p->stage_units * p->unit_groups * 32;
        p->stage_bytes = decode_up(p->zero_at + p->stage_units * p->unit_zeros * 32 + 32, 128);
        // Behind DecodeShared: sums of tiles, a counter for each, the block's own rows of the residual stream, the input, the ring. The
        // fastest warp may be ahead of the slowest by all stages, and what warps have in hand.
        p->shared_partial = static_cast<uint32_t>(sizeof(DecodeShared));
        const uint32_t own = decode_up((p->hidden + sms - 1) / sms * 8, 16), in_hand = 4 * c + p->stage_units,
                       fixed = p->shared_partial + in_hand * 68 + own + p->input_bytes + 256;
        p->stages = fixed < shared_limit ? (shared_limit - fixed) / (p->stage_bytes + p->stage_units * 68) : 0;
        if (p->stages > 32) p->stages = 32;
        p->partials = in_hand + p->stages * p->stage_units;
        p->shared_own = decode_up(p->shared_partial + p->partials * 68, 16);
        p->shared_input = decode_up(p->shared_own + own, 128);
        p->shared_ring = p->shared_input + p->input_bytes;
        p->under_way = p->stage_units < 4 ? 8 / p->stage_units : 4;
        p->ahead = p->stage_units < 4 ? 8 / p->stage_units : 2;
        if (p->under_way >= p->stages) p->under_way = p->stages - 1;
        if (p->ahead >= p->stages) p->ahead = p->stages - 1;
        // A warp that uses stage m has used m - 2 groups + 1 (of keys and values) or a later one, and what came under_way before that is
        // there.
        p->guarded = p->stages < 2 * p->groups + p->under_way - 1;
        if (p->stages >= form.stages) {
            p->warps = c;
            p->threads = (c + 1) * 32;
            p->shared_bytes = p->shared_ring + p->stages * p->stage_bytes;
            break;
        }
    }
    if (!p->warps) return false;

    // The workspace.
    uint64_t at = 0;
    auto take = [&](uint64_t bytes) {
        const uint64_t here = at;
        at += (bytes + 255) / 256 * 256;
        return here;
    };
    const uint32_t tiles_q = (p->heads * d + 15) / 16, tiles_kv = (p->kv_heads * d + 15) / 16, tiles_i = (p->intermediate + 15) / 16;
    const uint32_t tiles[kDecodeJobs] = {tiles_q + 2 * tiles_kv, 2 * tiles_kv, tiles_kv, 0, tiles_i, tiles_i, 0};
    p->at_counters = take(256 + uint64_t{4} * p->kv_heads * p->head_blocks);
    for (uint64_t& x : p->at_x) x = take(uint64_t{decode_up(p->hidden, 512)} * 8);
    for (uint32_t i = 0; i < kDecodeJobs; i++) p->at_y[i] = take(uint64_t{tiles[i]} * 128);
    p->at_attention = take(uint64_t{decode_up(p->heads * d, 512)} * 4);
    p->at_hidden = take(uint64_t{decode_up(p->intermediate, 512)} * 4);
    p->at_partials = take(uint64_t{sms} * 2 * p->head_rows * (d + 2) * 4);
    p->workspace_bytes = at;
    return true;
}

}  // namespace pith::cuda
