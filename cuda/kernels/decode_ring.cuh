// The decode kernel's stream of weights, keys and values: one warp fills the
// stages of a ring, walking through the units that are the block's share in the
// order of their use. Of a stage's units each computing warp uses one.
#pragma once
#include "decode.h"
#include "device.cuh"

namespace pith::cuda {

#ifdef PITH_TRACE
// When block `blockIdx.x` came past: for finding out where time goes.
__device__ long long pith_trace[256 * 2048];
__device__ __forceinline__ uint32_t& trace_count() {
    __shared__ uint32_t count;
    return count;
}
__device__ __noinline__ void trace() {
    if (threadIdx.x == 0) pith_trace[blockIdx.x * 2048 + (trace_count()++ & 2047)] = clock64();
}
#else
__device__ __forceinline__ void trace() {}
#endif

// All that the kernel's functions share lies in shared memory, and little is
// passed between them: a thread's own memory on the stack would be more than
// the first-level cache holds.
__device__ __forceinline__ DecodeShared& shared() {
    extern __shared__ __align__(128) uint8_t decode_shared[];
    return *reinterpret_cast<DecodeShared*>(decode_shared);
}
__device__ __forceinline__ uint8_t* shared_bytes() { return reinterpret_cast<uint8_t*>(&shared()); }
__device__ __forceinline__ uint8_t* workspace(uint64_t offset) { return shared().params.workspace + offset; }

// Jobs by number: 0 to kDecodeJobs - 1 are those of a layer, kDecodeJobs is the
// head.
__device__ __forceinline__ const DecodeLayer& layer_of(uint32_t l) { return shared().layers[l % kDecodeLayersHeld]; }
__device__ __forceinline__ const DecodeJob& job_of(uint32_t job, uint32_t l) {
    return job == kDecodeJobs ? shared().params.head : layer_of(l).jobs[job];
}

__device__ __forceinline__ uint32_t part(uint32_t n, uint32_t i, uint32_t of) { return n * i / of; }  // where share i of n begins

__device__ __forceinline__ uint32_t groups_before(uint32_t block, uint32_t magic) { return magic ? __umulhi(block, magic) : block; }

inline constexpr float kFixedMost = 16777216.0f;  // 2^24: what all that a product adds may reach, and the residual stream before it

// o and down: blocks add to the residual stream, each for a slice of the columns.
__device__ __forceinline__ bool adds_to_residual(uint32_t job) { return job == kJobO || job == kJobDown; }

// What a block does of a job. Of o and down a block works on a slice of the
// columns, and blocks may share tiles; other tiles are whole.
__device__ __noinline__ void find_share(const DecodeJob& j, uint32_t job, DecodeShare& to) {
    const DecodeParams& p = shared().params;
    DecodeShare s;
    if (adds_to_residual(job)) {
        const uint32_t width = job == kJobO ? p.slice_o : p.slice_down, slices = max(j.per_tile / width, 1u);
        // Blocks border(i) .. border(i + 1) have slice i, as many as its part of the columns.
        auto border = [&](uint32_t i) { return i == slices ? gridDim.x : (gridDim.x * i * width + j.per_tile / 2) / j.per_tile; };
        uint32_t slice = 0;
        while (border(slice + 1) <= blockIdx.x) slice++;
        s.k0 = slice * width;
        s.kn = slice + 1 == slices ? j.per_tile - s.k0 : width;
        const uint32_t member = blockIdx.x - border(slice), members = border(slice + 1) - border(slice);
        // Whole tiles where they are whole stages: then a stage's units lie in a row.
        const uint32_t whole = s.kn % p.stage_units == 0 ? s.kn : 1;
        const uint64_t pieces = static_cast<uint64_t>(j.matrix.tiles) * s.kn / whole;
        const uint32_t begin = static_cast<uint32_t>(pieces * member / members) * whole;
        s.count = static_cast<uint32_t>(pieces * (member + 1) / members) * whole - begin;
        s.tile = begin / s.kn;
        s.k = begin - s.tile * s.kn;
    } else {
        s.k0 = s.k = 0;
        s.kn = j.per_tile;
        s.tile = part(j.matrix.tiles, blockIdx.x, gridDim.x);
        s.count = (part(j.matrix.tiles, blockIdx.x + 1, gridDim.x) - s.tile) * s.kn;
    }
    s.adders = min(s.kn, p.warps);
    s.tiles = p.partials / s.adders;
    s.stages = (s.count + p.stage_units - 1) / p.stage_units;
    s.most = kFixedMost / static_cast<float>(j.per_tile);
    s.reserved = 0;
    to = s;
}
// From the table where there is one.
__device__ __forceinline__ DecodeShare share_of(const DecodeJob& j, uint32_t job) {
    if (shared().params.alike || job == kDecodeJobs) return shared().shares[job];
    DecodeShare s;
    find_share(j, job, s);
    return s;
}

// The block that has the first position of `unit`, and the first unit of a block, where heads are shared.
__device__ __forceinline__ uint32_t kv_owner(const KvCut& c, uint32_t unit) {
    return static_cast<uint32_t>(static_cast<uint64_t>(unit) * c.blocks / c.units);
}
__device__ __forceinline__ uint32_t kv_border(const KvCut& c, uint32_t block) {
    return block >= c.blocks ? c.units : static_cast<uint32_t>((static_cast<uint64_t>(block) * c.units + c.blocks - 1) / c.blocks);
}
__device__ __noinline__ KvCut make_kv_cut(uint32_t window) {
    const DecodeParams& p = shared().params;
    const uint32_t position = shared().position, heads = p.kv_heads * p.head_blocks;
    KvCut c;
    c.first = window && position + 1 > window ? position + 1 - window : 0;
    c.per_head = 1 + (position - c.first + p.kv_unit - 1) / p.kv_unit;
    c.units = heads * c.per_head;
    if (c.per_head - 1 <= p.whole_head_units) {
        c.blocks = 0;
        c.begin = (heads < gridDim.x ? min(blockIdx.x, heads) : part(heads, blockIdx.x, gridDim.x)) * c.per_head;
        c.end = (heads < gridDim.x ? min(blockIdx.x + 1, heads) : part(heads, blockIdx.x + 1, gridDim.x)) * c.per_head;
    } else {
        c.blocks = min(gridDim.x, (c.units + p.warps - 1) / p.warps);  // a unit a warp at least
        c.begin = kv_border(c, blockIdx.x);
        c.end = kv_border(c, blockIdx.x + 1);
    }
    return c;
}

// Every unit has as many groups as there is room for, from the first on: the scales' places are the same in every stage. (At the end of
// a row there may be less than a unit.)
__device__ __forceinline__ bool is_regular(const DecodeJob& j) {
    const DecodeParams& p = shared().params;
    return j.kind != kKindF16 && !j.magic && p.unit_groups == 512 / kind_block(j.kind) && p.unit_zeros * 4 == p.unit_groups;
}

// ---- the ring
// -------------------------------------------------------------------------------------------------------------------------------
// Stage: 4 KiB of codes or halves for each of its units, scales, zero points; at its end the number of the lap that it is filled in, a
// barrier that says it is filled, then one that says it is free.

struct Ring {
    uint32_t base, stages, stage_bytes;
    bool guarded;

    __device__ __forceinline__ Ring() {
        const DecodeParams& p = shared().params;
        stages = p.stages;
        stage_bytes = p.stage_bytes;
        guarded = p.guarded;
        base = shared_address(shared_bytes()) + p.shared_ring;
    }
    __device__ __forceinline__ uint32_t at(uint32_t stage) const { return base + stage * stage_bytes; }
    __device__ __forceinline__ uint32_t filled(uint32_t stage) const { return at(stage) + stage_bytes - 16; }
    __device__ __forceinline__ uint32_t lap(uint32_t stage) const {
        uint32_t v;
        asm volatile("ld.volatile.shared.u32 %0, [%1];" : "=r"(v) : "r"(at(stage) + stage_bytes - 32) : "memory");
        return v;
    }
    __device__ __forceinline__ void set_lap(uint32_t stage, uint32_t v) const {
        asm volatile("st.volatile.shared.u32 [%0], %1;" ::"r"(at(stage) + stage_bytes - 32), "r"(v) : "memory");
    }
    __device__ __forceinline__ uint32_t free(uint32_t stage) const { return at(stage) + stage_bytes - 8; }
};

// Which group of warps this one is in, and its place there.
__device__ __forceinline__ uint32_t turn_of(uint32_t warp) { return warp * shared().params.turn_magic >> 16; }

// Where one side of the ring is.
struct RingPlace {
    uint32_t stage, lap;

    __device__ __forceinline__ void skip(const Ring& r, uint32_t n) {
        stage += n;
        while (stage >= r.stages) stage -= r.stages, lap++;
    }
    __device__ __forceinline__ void next(const Ring& r) {
        if (++stage == r.stages) stage = 0, lap++;
    }
    // Until the stage is filled. A barrier tells a lap of the ring only from the next one: where the one before it may be missing still,
    // the number that the filling warp leaves is looked at first.
    __device__ __forceinline__ void wait(const Ring& r) const {
        if (r.guarded)
            while (r.lap(stage) != lap + 1) {
            }
        wait_barrier(r.filled(stage), lap & 1);
    }
    // This warp needs the stage no more.
    __device__ __forceinline__ void done(const Ring& r) const {
        __syncwarp();
        if (lane_id() == 0) arrive(r.free(stage));
    }
};

// ---- the filling warp
// ----------------------------------------------------------------------------------------------------------------------

class Filler {
public:
    __device__ __forceinline__ Filler() : lane(lane_id()), place{0, 0}, oldest(place), under_way(0), policy(evict_first_policy()) {}

    __device__ __forceinline__ void run() {
        const DecodeParams& p = shared().params;
        bool waited = false;
        if (p.layer_count) bring_layer(0);
#pragma unroll 1
        for (uint32_t l = 0; l <= p.layer_count; l++) {
            if (l == p.layer_count) {
                filling = l * 8 + kDecodeJobs;
                fill_job(p.head, kDecodeJobs);
                break;
            }
            // The next description takes the place of one that no warp needs any
            // more.
            if (l + 1 < p.layer_count) {
                if (l + 1 >= kDecodeLayersHeld)
                    while (*static_cast<volatile uint32_t*>(&shared().at_layer) + kDecodeLayersHeld <= l + 1) pause();
                bring_layer(l + 1);
            }
            wait_barrier(shared_address(&shared().layer_come[l % kDecodeLayersHeld]), l / kDecodeLayersHeld & 1);
            const DecodeLayer& layer = layer_of(l);
#pragma unroll 1
            for (uint32_t i = 0; i < kDecodeJobs; i++) {
                if (i == kJobO) {
                    if (!waited) {  // before here only weights were read
                        griddep_wait();
                        waited = true;
                        while (!*static_cast<volatile uint32_t*>(&shared().known)) pause();
                    }
                    filling = l * 8 + kJobO - 1;
                    fill_cache(layer);
                }
                filling = l * 8 + i;
                if (layer.jobs[i].matrix.data) fill_job(layer.jobs[i], i);
            }
        }
    }

private:
    const uint32_t lane;
    const Ring ring;
    RingPlace place, oldest;  // the oldest that may still be under way
    uint32_t under_way;
    uint32_t filling = 0;  // counted like at_work
    const uint64_t policy;

    __device__ __forceinline__ void bring_layer(uint32_t l) {
        const uint32_t barrier = shared_address(&shared().layer_come[l % kDecodeLayersHeld]);
        expect(barrier, sizeof(DecodeLayer));
        copy(shared_address(&shared().layers[l % kDecodeLayersHeld]), reinterpret_cast<const uint8_t*>(shared().params.layers + l),
             sizeof(DecodeLayer), barrier, false);
        if (!kHasBulkCopy) arrive_when_copied(barrier);
    }

    // `bytes` will have come to the barrier, or have come already.
    __device__ __forceinline__ void expect(uint32_t barrier, uint32_t bytes) const {
        if (kHasBulkCopy && elect_lane()) expect_bulk(barrier, bytes);
    }
    // Multiples of 16 bytes; the same by all lanes.
    __device__ __forceinline__ void copy(uint32_t to, const uint8_t* from, uint32_t bytes, uint32_t barrier, bool weights) const {
        if constexpr (kHasBulkCopy) {
            if (!elect_lane()) return;
            if (weights) {
                bulk_copy(to, from, bytes, barrier, policy);
            } else {
                bulk_copy(to, from, bytes, barrier);
            }
        } else {
#pragma unroll 4
            for (uint32_t i = lane * 16; i < bytes; i += 512) cp_async_16(to + i, from + i, policy);
        }
    }
    // The next stage may be filled: it is free, and not too much is under way.
    // What is asked for and has not come yet stands in the way of every other
    // access, also of those with which blocks pass on results. So less of it while
    // no warp waits for it.
    __device__ __forceinline__ void wait_free() {
        const DecodeParams& p = shared().params;
        while (under_way >= (*static_cast<volatile uint32_t*>(&shared().at_work) >= filling ? p.under_way : p.ahead)) {
            wait_barrier(ring.filled(oldest.stage), oldest.lap & 1);
            oldest.next(ring);
            under_way--;
        }
        under_way++;
        wait_barrier(ring.free(place.stage), (place.lap & 1) ^ 1);
        if (lane == 0) ring.set_lap(place.stage, place.lap + 1);
    }
    __device__ __forceinline__ void filled() {
        arrive_when_copied(ring.filled(place.stage));
        place.next(ring);
    }

    // Scales and zero points of a stage of groups of 128, 16 bytes a lane: a bulk copy costs as much for a few bytes as for many.
    __device__ __forceinline__ void copy_by_lanes(const DecodeJob& j, const DecodeShare& s, uint32_t tile, uint32_t k, uint32_t units,
                                                  uint32_t stage) const {
        const DecodeParams& p = shared().params;
        const Matrix& m = j.matrix;
        const uint32_t groups = m.groups, words = (groups + 3) / 4;
        const bool endless = s.kn > j.per_tile;
#pragma unroll 1
        for (uint32_t i = lane; i < units * 8; i += 32) {  // eight pieces of a unit's scales, two of its zero points
            uint32_t t = tile, from = k + i / 8;
            while (from >= s.kn) from -= s.kn, t++;
            from += s.k0;
            const uint32_t n = i % 8;
            if (endless || from * 4 + n / 2 < groups)
                cp_async_16(stage + p.scale_at + i * 16,
                            reinterpret_cast<const uint8_t*>(m.scales) + (static_cast<uint64_t>(t) * groups + from * 4) * 32 + n * 16,
                            policy);
            if (m.zeros && n < 2)
                cp_async_16(stage + p.zero_at + i / 8 * 32 + n * 16,
                            reinterpret_cast<const uint8_t*>(m.zeros) + (static_cast<uint64_t>(t) * words + from) * 32 + n * 16, policy);
        }
    }
    // A stage has the next units; those of one tile lie in a row.
    __device__ __forceinline__ void fill_job(const DecodeJob& j, uint32_t job) {
        const DecodeParams& p = shared().params;
        const Matrix& m = j.matrix;
        DecodeShare s = share_of(j, job);
        const bool dense = j.kind == kKindF16;
        const uint32_t block = dense ? 512 : kind_block(j.kind), per_unit = 512 / block, blocks = (m.cols + block - 1) / block;
        const uint32_t groups = m.groups, zero_words = (groups + 3) / 4, magic = j.magic, at_once = p.stage_units;
        const uint32_t unit_chunks = dense ? 2 : 8, chunk_bytes = dense ? kF16ChunkBytes : kQ4ChunkBytes;
        const uint32_t scale_at = p.scale_at, zero_at = p.zero_at, scale_room = p.unit_groups * 32, zero_room = p.unit_zeros * 32;
        // Where rows are whole units, so do tiles.
        const bool even = (dense || is_regular(j)) && m.chunks % unit_chunks == 0;
        const bool lanes_copy = is_regular(j) && per_unit == 4;
        uint32_t tile = s.tile, k = s.k;
        if (even && s.kn == j.per_tile) s.kn = 0xffffffff;
#pragma unroll 1
        for (uint32_t left = s.count; left;) {
            const uint32_t units = min(left, at_once);
            wait_free();
            const uint32_t stage = ring.at(place.stage), barrier = ring.filled(place.stage);
            if (lanes_copy) copy_by_lanes(j, s, tile, k, units, stage);
            uint32_t bytes = 0;
#pragma unroll 1
            for (uint32_t at = 0; at < units;) {
                const uint32_t n = min(units - at, s.kn - k), from = s.k0 + k;
                const uint32_t code_bytes =
                    (even ? n * unit_chunks : min(unit_chunks * (from + n), m.chunks) - unit_chunks * from) * chunk_bytes;
                copy(stage + at * kUnitBytes, m.data + (static_cast<uint64_t>(tile) * m.chunks + unit_chunks * from) * chunk_bytes,
                     code_bytes, barrier, true);
                bytes += code_bytes;
                if (!dense && !lanes_copy) {
                    const uint32_t first = groups_before(from * per_unit, magic), to = (from + n) * per_unit;
                    const uint32_t end = even ? to : groups_before(min(to, blocks) - 1, magic) + 1;
                    copy(stage + scale_at + at * scale_room,
                         reinterpret_cast<const uint8_t*>(m.scales) + (static_cast<uint64_t>(tile) * groups + first) * 32,
                         (end - first) * 32, barrier, true);
                    bytes += (end - first) * 32;
                    if (m.zeros) {
                        const uint32_t words = (end + 3) / 4 - first / 4;
                        copy(stage + zero_at + at * zero_room,
                             reinterpret_cast<const uint8_t*>(m.zeros) + (static_cast<uint64_t>(tile) * zero_words + first / 4) * 32,
                             words * 32, barrier, true);
                        bytes += words * 32;
                    }
                }
                at += n;
                k += n;
                if (k == s.kn) k = 0, tile++;
            }
            expect(barrier, bytes);
            filled();
            left -= units;
        }
    }

    // Keys and values of cached positions: keys in one stage, values in the next.
    __device__ __forceinline__ void fill_cache(const DecodeLayer& layer) {
        const DecodeParams& p = shared().params;
        const KvCut cut = make_kv_cut(layer.window);
        if (cut.per_head == 1) return;
        const uint32_t width = p.head_dim * 2, at_once = p.stage_units * p.kv_unit;
#pragma unroll 1
        for (uint32_t unit = cut.begin; unit < cut.end;) {
            const uint32_t head = unit / cut.per_head, head_unit = head * cut.per_head, stop = min(cut.end, head_unit + cut.per_head);
            const uint32_t last = min(shared().position, cut.first + (stop - head_unit - 1) * p.kv_unit);
            const uint64_t head_at = static_cast<uint64_t>(head / p.head_blocks) * p.kv_positions * width;
#pragma unroll 1
            for (uint32_t from = cut.first + (max(unit, head_unit + 1) - head_unit - 1) * p.kv_unit; from < last; from += at_once) {
                const uint32_t bytes = min(at_once, last - from) * width;
#pragma unroll 1
                for (uint32_t i = 0; i < 2; i++) {
                    const uint8_t* source =
                        reinterpret_cast<const uint8_t*>(i ? layer.values : layer.keys) + head_at + static_cast<uint64_t>(from) * width;
                    wait_free();
                    expect(ring.filled(place.stage), bytes);
                    copy(ring.at(place.stage), source, bytes, ring.filled(place.stage), false);
                    filled();
                }
            }
            unit = stop;
        }
    }
};

}  // namespace pith::cuda
