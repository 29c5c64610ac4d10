// One token through the whole model in one cooperative launch: what the kernel is told, and how the host sizes the launch.
//
// The grid is one block an SM. Every phase (q/k/v, attention, o, gate/up, down, head) is cut into units of 2 KiB of weights, shared
// evenly by all warps of the grid; every warp streams its own units through its own ring in shared memory, in the order in which it will
// use them, across phases and layers: while the grid meets at a barrier the next phase's weights are on their way.
//
// Use: fill DecodeParams up to `workspace` and the layers (host copy), call decode_plan(); allocate workspace_bytes, zero them once; copy
// the layers to the device; launch kernel `pith_decode` (or `pith_decode_small`) with grid, block and shared bytes of the plan,
// cooperatively, nothing else running on the device's SMs that never ends. The workspace serves one launch at a time.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "../layout.h"

namespace pith::cuda {

// Division of numbers below 2^31 by a constant, as a product.
struct Divisor {
    uint64_t magic;  // ceil(2^shift / divisor), below 2^33
    uint32_t shift;
    uint32_t divisor;
};
inline Divisor make_divisor(uint32_t divisor) {
    uint32_t log = 0;
    while (log < 31 && (uint32_t{1} << log) < divisor) log++;
    // 2^(32 + log) / divisor; 2^63 / divisor is exact enough to start from, as long as log is below 32
    const uint64_t two = uint64_t{1} << (32 + log > 63 ? 63 : 32 + log);
    return {divisor ? (two - 1) / divisor + 1 : 0, 32 + log, divisor};
}

// A matrix, and how the grid shares it. make_decode_job() fills in all after `inverse`.
struct DecodeJob {
    Matrix matrix;             // data == NULL: there is none
    const uint32_t* inverse;   // act-order of this matrix's input: element i lies at inverse[i] (layout.h); NULL: at i
    uint32_t units, per_tile;  // units of 4 Q4 chunks or 1 F16 chunk: of all, of a tile
    uint32_t pairs;            // Q4: columns of a group / 32
    uint32_t magic;            // n / pairs is the high word of n * magic, or n itself if magic is 0
    uint32_t kind;             // which inner loop
    uint32_t reserved;
    Divisor by_units, by_per_tile;
};

// q, k and v may be one matrix of stacked parts (each padded to whole tiles), or two or three; gate and up one of interleaved tiles or two.
inline constexpr uint32_t kDecodeJobs = 7;
enum : uint32_t { kJobQkv = 0, kJobO = 3, kJobGateUp = 4, kJobDown = 6 };

struct DecodeLayer {
    DecodeJob jobs[kDecodeJobs];  // 0-2: q, k, v (those not used have data NULL); 3: o; 4-5: gate and up; 6: down
    const float* attention_norm;  // [hidden]
    const float* mlp_norm;        // [hidden]
    uint16_t* keys;               // this layer's: F16 [kv_head][kv_positions][head_dim]
    uint16_t* values;
    uint32_t q_job, q_row;  // where q lies: the job's index (0-2) and the first row in its matrix
    uint32_t k_job, k_row;
    uint32_t v_job, v_row;
    uint32_t window;      // positions that a token sees, itself included; 0: all
    uint32_t gate_apart;  // 1: jobs 4 and 5 are gate and up; 0: job 4 is both, interleaved
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
    uint32_t kv_positions;  // positions of a kv head in the cache (a multiple of kKvBlock)
    float rms_eps;
    float rope_scale;           // of cos and sin
    float attention_scale;      // of q k, usually head_dim ^ -1/2
    uint32_t whole_head_units;  // 0: default; a head of no more cache units than this is not shared between SMs

    // Set by decode_plan(), but for `workspace`.
    uint8_t* workspace;  // device, zeroed once
    uint32_t grid, threads, shared_bytes;
    uint32_t slots, slot_bytes, zero_at;  // of a warp's ring; where in a slot the zero points are
    uint32_t shared_input, input_bytes;   // the staged input: offset, size (small variant: attention's scratch only)
    uint32_t shared_ring;                 // offset
    uint32_t at_sums;                     // where in the staged input the sums of every 32 elements are
    uint32_t head_rows;                   // query heads of a kv head that are computed together: 1 or 4
    uint32_t head_blocks;                 // how many times, for all query heads of a kv head
    uint32_t kv_unit;                     // positions of a unit of the cache
    uint32_t small;                       // the staged input lies in global memory
    uint32_t alike;                       // all layers' matrices have the same shapes
    uint32_t reserved[2];
    Divisor by_grid, by_warps, by_kv_unit, by_head_dim, by_half_dim, by_head_blocks, by_kv_heads;
    uint64_t workspace_bytes;
    uint64_t at_counters, at_x, at_y[kDecodeJobs], at_parts, at_attention, at_hidden, at_partials, at_input, input_stride;
};

static_assert(sizeof(DecodeParams) % 16 == 0);

inline constexpr uint32_t kDecodeMaxWarps = 16;

// A warp's part of a job.
struct DecodeShare {
    uint32_t from, stop;  // units of the warp
    uint32_t tile, k;     // of unit `from`: its tile, its number in the tile
    uint32_t begin, n;    // units of the block
    uint64_t data;        // offset of unit `from` in the matrix
};

// The first part of a block's shared memory. The staged input and the rings follow, at shared_input and shared_ring.
struct alignas(128) DecodeShared {
    float sums[32];
    uint32_t flags[30];
    uint64_t barrier;  // the counter's value at the next meeting
    DecodeParams params;
    DecodeLayer layers[2];  // layer l at l % 2
    uint32_t resident;      // layers below this one that are or were in `layers`
    uint32_t position, reserved[2];
    float partial[kDecodeMaxWarps][2][16];  // sums of tiles that warps share
    float rotation[256];                    // cos, then sin: [2][head_dim / 2]
    uint64_t streams[kDecodeMaxWarps][14];
    DecodeShare shares[kDecodeJobs + 1][kDecodeMaxWarps];  // of each job and the head, if all layers are alike
    uint32_t kv_cut[8];                                    // of layers without a window
    uint8_t zeros[512];
};

inline uint32_t decode_up(uint32_t v, uint32_t to) { return (v + to - 1) / to * to; }

enum : uint32_t { kKindF16 = 0, kKindQ4 = 1 };  // Q4: 1 + 2 * (0: group 32, 1: 64, 2: 128, 3: multiples of 256, 4: others) + asymmetric

inline DecodeJob make_decode_job(const Matrix& m, const uint32_t* inverse) {
    DecodeJob j{};
    j.matrix = m;
    j.inverse = inverse;
    if (!m.data) return j;
    if (m.type == WeightType::F16) {
        j.per_tile = m.chunks;
        j.kind = kKindF16;
        j.pairs = 1;
    } else {
        j.per_tile = (m.chunks + 3) / 4;
        j.pairs = (m.group + 31) / 32;
        j.magic = j.pairs == 1 ? 0 : static_cast<uint32_t>(((uint64_t{1} << 32) + j.pairs - 1) / j.pairs);
        const uint32_t form = j.pairs == 1 ? 0 : j.pairs == 2 ? 1 : j.pairs == 4 ? 2 : j.pairs % 8 == 0 ? 3 : 4;
        j.kind = kKindQ4 + 2 * form + (m.zeros ? 1 : 0);
    }
    j.units = j.per_tile * m.tiles;
    j.by_units = make_divisor(j.units);
    j.by_per_tile = make_divisor(j.per_tile);
    return j;
}

// Most groups, and words of zero points, that 256 columns touch.
inline uint32_t decode_unit_groups(const DecodeJob& j) {
    const uint32_t by_width = 256 / (j.pairs * 32) + (256 % (j.pairs * 32) || j.pairs > 8 ? 1 : 0) + (8 % j.pairs && j.pairs % 8 ? 1 : 0);
    const uint32_t groups = j.pairs % 8 == 0 ? 1 : by_width;
    return groups < j.matrix.groups ? groups : j.matrix.groups;
}

// True if the kernel can run this; `layers` is the host's copy. shared_limit: bytes of dynamic shared memory a block may have (the
// device's opt-in maximum, or 48 KiB); threads: at most as many as this, a multiple of 64; small: the variant `pith_decode_small`.
inline bool decode_plan(DecodeParams* p, const DecodeLayer* layers, uint32_t sms, uint32_t shared_limit, uint32_t threads, bool small) {
    const uint32_t d = p->head_dim;
    if (!d || d % 8 || d > 256 || !p->kv_heads || p->heads % p->kv_heads || threads % 32 || !threads || threads > 32 * kDecodeMaxWarps ||
        !sms)
        return false;
    p->grid = sms;
    p->by_grid = make_divisor(sms);
    p->by_kv_heads = make_divisor(p->kv_heads);
    p->by_warps = make_divisor(threads / 32);
    p->by_head_dim = make_divisor(d);
    p->by_half_dim = make_divisor(d / 2);
    p->threads = threads;
    p->small = small;
    const uint32_t warps = threads / 32, ratio = p->heads / p->kv_heads;
    p->head_rows = ratio == 1 ? 1 : 4;
    p->head_blocks = (ratio + p->head_rows - 1) / p->head_rows;
    uint32_t lanes = 1;
    while (lanes * 8 < d) lanes *= 2;
    const uint32_t at_once = 32 / lanes;  // positions that a warp reads at once
    p->kv_unit = 1024 / d / at_once * at_once;
    p->by_kv_unit = make_divisor(p->kv_unit);
    p->by_head_blocks = make_divisor(p->head_blocks);
    if (!p->whole_head_units) p->whole_head_units = 32;

    // The slots of the rings: codes, then scales, then zero points.
    uint32_t groups = 0, zero_words = 0, cols = 0;
    auto look = [&](const DecodeJob& j) {
        if (!j.matrix.data) return true;
        if (cols < j.matrix.cols) cols = j.matrix.cols;
        if (static_cast<uint64_t>(j.units) * sms >= uint64_t{1} << 31) return false;
        if (j.matrix.type == WeightType::F16) return true;
        if (j.matrix.group % 32) return false;
        const uint32_t g = decode_unit_groups(j);
        if (groups < g) groups = g;
        const uint32_t z = (g + 3 + (j.kind >= kKindQ4 + 8 ? 3 : 0)) / 4;  // also if there are no zero points yet
        if (zero_words < z) zero_words = z;
        return true;
    };
    bool fits = look(p->head);
    for (uint32_t l = 0; l < p->layer_count; l++)
        for (const DecodeJob& j : layers[l].jobs) fits = fits && look(j);
    if (!fits) return false;
    p->zero_at = 2048 + groups * 32;
    p->slot_bytes = p->zero_at + zero_words * 32 + 16;

    p->alike = 1;
    for (uint32_t l = 1; l < p->layer_count; l++) {
        for (uint32_t i = 0; i < kDecodeJobs; i++) {
            const DecodeJob &a = layers[0].jobs[i], &b = layers[l].jobs[i];
            if (a.units != b.units || a.per_tile != b.per_tile || a.matrix.chunks != b.matrix.chunks || a.matrix.type != b.matrix.type)
                p->alike = 0;
        }
    }

    // Shared memory: DecodeShared, the input (attention uses the same place), the rings.
    const uint32_t fixed = static_cast<uint32_t>(sizeof(DecodeShared));
    uint32_t attention = ((p->head_rows + 2) * d + warps * (d + 2)) * 4;
    if (attention < sms * p->head_rows * 8) attention = sms * p->head_rows * 8;  // ends of all blocks' softmax
    const uint32_t input = decode_up(cols, 256) * 2 + decode_up(cols, 256) / 8;  // and a float for every 32 of them
    p->at_sums = decode_up(cols, 256) * 2;
    p->shared_input = fixed;
    p->input_bytes = decode_up(small || input < attention ? attention : input, 128);
    p->shared_ring = fixed + p->input_bytes;
    const uint32_t tail = 256;  // a warp may look past its last slot
    p->slots = p->shared_ring + tail < shared_limit ? (shared_limit - tail - p->shared_ring) / (warps * p->slot_bytes) : 0;
    if (p->slots > 15) p->slots = 15;
    if (p->slots < 2) return threads > 64 && decode_plan(p, layers, sms, shared_limit, threads / 2, small);  // fewer warps need less
    p->shared_bytes = p->shared_ring + warps * p->slots * p->slot_bytes + tail;

    // The workspace.
    uint64_t at = 0;
    auto take = [&](uint64_t bytes) {
        const uint64_t here = at;
        at += (bytes + 255) / 256 * 256;
        return here;
    };
    const uint32_t tiles_q = (p->heads * d + 15) / 16, tiles_kv = (p->kv_heads * d + 15) / 16, tiles_x = (p->hidden + 15) / 16;
    const uint32_t tiles_i = (p->intermediate + 15) / 16;
    const uint32_t tiles[kDecodeJobs] = {tiles_q + 2 * tiles_kv, 2 * tiles_kv, tiles_kv, tiles_x, tiles_i, tiles_i, tiles_x};
    p->at_counters = take(256 + uint64_t{4} * p->kv_heads * p->head_blocks);
    p->at_x = take(uint64_t{2} * decode_up(p->hidden, 4) * 4);
    for (uint32_t i = 0; i < kDecodeJobs; i++) p->at_y[i] = take(uint64_t{tiles[i]} * 64);
    p->at_parts = take(uint64_t{kDecodeJobs + 1} * sms * 2 * 16 * 4);
    p->at_attention = take(uint64_t{decode_up(p->heads * d, 256)} * 2);
    p->at_hidden = take(uint64_t{decode_up(p->intermediate, 256)} * 2);
    p->at_partials = take(uint64_t{sms} * 2 * p->head_rows * (d + 2) * 4);
    p->input_stride = (uint64_t{input} + 512 + 255) / 256 * 256;
    p->at_input = take(small ? sms * p->input_stride : 0);
    p->workspace_bytes = at;
    return true;
}

}  // namespace pith::cuda
