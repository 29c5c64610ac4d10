// The decode kernel's stream of weights, keys and values: each warp fills the slots of its own ring, some slots ahead of their use, walking
// through the units that are its share in the order in which it will use them.
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

// What every thread of the kernel knows of its place.
struct Place {
    uint32_t sm, sms;      // blocks of the grid, one an SM
    uint32_t warp, warps, lane;
};

// The kernel's speed hangs on its size: all that a layer runs must stay in the instruction cache. Hence functions that are called rather
// than inlined, and loops that are not unrolled. And on the latency of what stands between two phases: no divisions there.
__device__ __forceinline__ uint32_t divide(uint32_t a, const Divisor& b) { return static_cast<uint32_t>(a * b.magic >> b.shift); }

// Units [begin, end) of `units` that belong to block `sm`. Blocks that have none are the last ones.
__device__ __forceinline__ uint32_t share_begin(uint32_t units, uint32_t sm, const Divisor& sms) {
    if (units < sms.divisor) return min(sm, units);
    return divide(sm * units + sms.divisor - 1, sms);
}
// The block that a unit belongs to.
__device__ __forceinline__ uint32_t owner_of(uint32_t unit, const Divisor& units, uint32_t sms) { return divide(unit * min(units.divisor, sms), units); }
// Of n units of a block, where the share of a warp begins.
__device__ __forceinline__ uint32_t warp_begin(uint32_t n, uint32_t warp, const Divisor& warps) { return divide(n * warp, warps); }

__device__ __forceinline__ uint32_t groups_before(const uint32_t pair, uint32_t magic) { return magic ? __umulhi(pair, magic) : pair; }

// How attention of one layer is cut: a head (a block of query heads of one kv head) has one unit for the new position and one for every
// kv_unit cached ones.
struct KvCut {
    uint32_t first;     // first position that is seen
    uint32_t per_head;  // units
    uint32_t units;
    uint32_t begin, end;  // of this SM

    __device__ __forceinline__ uint32_t owner(uint32_t unit, uint32_t sms) const { return unit * min(units, sms) / units; }

    __device__ __forceinline__ KvCut(const DecodeParams& p, const Place& at, uint32_t window, uint32_t position) {
        first = window && position + 1 > window ? position + 1 - window : 0;
        per_head = 1 + divide(position - first + p.kv_unit - 1, p.by_kv_unit);
        const uint32_t heads = p.kv_heads * p.head_blocks;
        units = heads * per_head;
        if (per_head - 1 <= p.whole_head_units) {
            begin = share_begin(heads, at.sm, p.by_grid) * per_head;
            end = share_begin(heads, at.sm + 1, p.by_grid) * per_head;
        } else {
            begin = share_begin(units, at.sm, p.by_grid);
            end = share_begin(units, at.sm + 1, p.by_grid);
        }
    }
};

// A slot: codes or halves (2048 bytes), scales, zero points, and (sm_90) a barrier in its last 16 bytes.
struct Ring {
    uint32_t base, end, slot_bytes, slots, zero_at;  // shared memory
    uint32_t put, get;                               // addresses of the next slot to fill, to use
    uint32_t parity = 0;                             // of the slot to use
    uint64_t policy;

    __device__ __forceinline__ Ring(const DecodeParams& p, const Place& at, uint32_t shared) {
        slot_bytes = p.slot_bytes;
        slots = p.slots;
        zero_at = p.zero_at;
        base = shared + p.shared_ring + at.warp * slots * slot_bytes;
        end = base + slots * slot_bytes;
        put = get = base;
        policy = evict_first_policy();
        if (kHasBulkCopy && at.lane == 0) {
            for (uint32_t i = 0; i < slots; i++) make_bulk_barrier(barrier_of(base + i * slot_bytes));
            bulk_barriers_made();
        }
        __syncwarp();
    }
    __device__ __forceinline__ uint32_t barrier_of(uint32_t slot) const { return slot + slot_bytes - 16; }
    __device__ __forceinline__ void filled() {
        put += slot_bytes;
        if (put == end) put = base;
    }
    __device__ __forceinline__ void used() {
        get += slot_bytes;
        if (get == end) get = base, parity ^= 1;
    }
    // The slot after the next one to use.
    __device__ __forceinline__ uint32_t second() const { return get + slot_bytes == end ? base : get + slot_bytes; }

    // Until the next slot to use is filled, for every lane.
    __device__ __forceinline__ void wait() const {
        if constexpr (kHasBulkCopy) {
            wait_bulk(barrier_of(get), parity);
        } else {
            wait_groups(slots - 1);
        }
    }
    // The same for two slots.
    __device__ __forceinline__ void wait_two() const {
        if constexpr (kHasBulkCopy) {
            wait_bulk(barrier_of(get), parity);
            wait_bulk(barrier_of(second()), second() == base ? parity ^ 1 : parity);
        } else {
            wait_groups(slots - 2);
        }
    }

   private:
    static __device__ __forceinline__ void wait_groups(uint32_t pending) {
        switch (pending) {
            case 0: cp_async_wait<0>(); break;
            case 1: cp_async_wait<1>(); break;
            case 2: cp_async_wait<2>(); break;
            case 3: cp_async_wait<3>(); break;
            case 4: cp_async_wait<4>(); break;
            case 5: cp_async_wait<5>(); break;
            case 6: cp_async_wait<6>(); break;
            case 7: cp_async_wait<7>(); break;
            case 8: cp_async_wait<8>(); break;
            case 9: cp_async_wait<9>(); break;
            case 10: cp_async_wait<10>(); break;
            case 11: cp_async_wait<11>(); break;
            case 12: cp_async_wait<12>(); break;
            default: cp_async_wait<13>(); break;
        }
        __syncwarp();
    }
};

// Walks ahead of the computation. All values are the same in all lanes.
class Feeder {
   public:
    __device__ __forceinline__ Feeder(const DecodeParams& params, const Place& place, uint32_t the_position) : p(params), at(place), position(the_position) {}
    __device__ __forceinline__ Feeder(const Feeder& f, const Place& place) : p(f.p), at(place), position(f.position) { take(f); }

    // In shared memory: layers `resident` - 2 and `resident` - 1, at their number modulo 2.
    const DecodeLayer* layers_here = nullptr;
    uint32_t resident = 0;

    // Fills the next slot, or leaves it as it is once nothing is left to read.
    __device__ __forceinline__ void issue(Ring& ring) {
        if (unit == end) {  // a copy, so that this one may stay in registers
            Feeder copy(*this, at);
            copy.next();
            take(copy);
        }
        if (unit != end) {
            if (step == kKvStep)
                issue_kv(ring);
            else
                issue_matrix(ring);
        }
        if constexpr (!kHasBulkCopy) cp_async_commit();
        ring.filled();
    }

    __device__ __forceinline__ void take(const Feeder& f) {
        layers_here = f.layers_here, resident = f.resident;
        layer = f.layer, step = f.step, unit = f.unit, end = f.end;
        data = f.data, scales = f.scales, zeros = f.zeros;
        chunks = f.chunks, groups = f.groups, magic = f.magic, pairs = f.pairs, per_tile = f.per_tile, tile = f.tile, k = f.k;
        dense = f.dense, values_next = f.values_next;
        kv_at = f.kv_at, kv_end = f.kv_end, kv_per_head = f.kv_per_head, kv_first = f.kv_first, kv_head_unit = f.kv_head_unit;
    }

   private:
    static constexpr uint32_t kKvStep = 3, kSteps = kDecodeJobs + 1;  // a layer's steps: q, k, v, cache, o, gate, up, down

    const DecodeParams& p;
    const Place& at;
    const uint32_t position;
    uint32_t layer = 0, step = 0xffffffffu;
    uint32_t unit = 0, end = 0;                   // of this step (of a head, for the cache)
    const uint8_t* data = nullptr;                // where the next unit begins; keys
    const uint8_t* scales = nullptr;              // values
    const uint8_t* zeros = nullptr;
    uint32_t chunks = 0, groups = 0, magic = 0, pairs = 0, per_tile = 0, tile = 0, k = 0;
    bool dense = false, values_next = false;
    uint32_t kv_at = 0, kv_end = 0, kv_per_head = 1, kv_first = 0, kv_head_unit = 0;

    __device__ __forceinline__ void issue_matrix(Ring& ring) {
        const uint32_t n = dense ? 4 : min(4u, chunks - 4 * k);
        const uint32_t first = groups_before(8 * k, magic), last = groups_before(min(8 * k + 8, pairs) - 1, magic), many = last + 1 - first;
        const uint8_t* scale = scales + (static_cast<uint64_t>(tile) * groups + first) * 32;
        const uint32_t words = last / 4 - first / 4 + 1;
        const uint8_t* zero = zeros + (static_cast<uint64_t>(tile) * ((groups + 3) / 4) + first / 4) * 32;
        if constexpr (kHasBulkCopy) {
            if (at.lane == 0) {
                const uint32_t barrier = ring.barrier_of(ring.put);
                expect_bulk(barrier, n * 512 + (dense ? 0 : many * 32 + (zeros ? words * 32 : 0)));
                bulk_copy(ring.put, data, n * 512, barrier, ring.policy);
                if (!dense) bulk_copy(ring.put + 2048, scale, many * 32, barrier, ring.policy);
                if (!dense && zeros) bulk_copy(ring.put + ring.zero_at, zero, words * 32, barrier, ring.policy);
            }
        } else {
#pragma unroll
            for (uint32_t i = 0; i < 4; i++)
                if (i < n) cp_async_16(ring.put + i * 512 + at.lane * 16, data + i * 512 + at.lane * 16, ring.policy);
            if (!dense && at.lane < many * 2) cp_async_16(ring.put + 2048 + at.lane * 16, scale + at.lane * 16, ring.policy);
            if (!dense && zeros && at.lane >= 16 && at.lane - 16 < words * 2)
                cp_async_16(ring.put + ring.zero_at + (at.lane - 16) * 16, zero + (at.lane - 16) * 16, ring.policy);
        }
        data += n * 512;
        unit++;
        if (++k == per_tile) k = 0, tile++;
    }

    __device__ __forceinline__ void issue_kv(Ring& ring) {
        const uint32_t from = kv_first + (unit - kv_head_unit - 1) * p.kv_unit, n = min(p.kv_unit, position - from);
        const uint8_t* src = (values_next ? scales : data) + static_cast<uint64_t>(from) * p.head_dim * 2;
        if constexpr (kHasBulkCopy) {
            if (at.lane == 0) {
                const uint32_t barrier = ring.barrier_of(ring.put);
                expect_bulk(barrier, n * p.head_dim * 2);
                bulk_copy(ring.put, src, n * p.head_dim * 2, barrier);
            }
        } else {
            const uint32_t pieces = n * p.head_dim / 8;
#pragma unroll
            for (uint32_t i = 0; i < 4; i++)
                if (at.lane + 32 * i < pieces) cp_async_16(ring.put + (at.lane + 32 * i) * 16, src + (at.lane + 32 * i) * 16);
        }
        if (values_next) unit++;
        values_next = !values_next;
    }

    // To the next step that has units for this warp; unit == end if there is none.
    __device__ __noinline__ void next() {
        if (layer > p.layer_count) return;
#pragma unroll 1
        for (;;) {
            if (step == kKvStep && next_head()) return;
            if (++step == kSteps) step = 0, layer++;
            if (layer >= p.layer_count) {
                if (layer == p.layer_count && step == 0) {
                    if (begin_job(p.head)) return;
                }
                layer = p.layer_count + 1;
                unit = end = 0;
                return;
            }
            if (step == kKvStep) {
                begin_kv();
            } else if (begin_job(of_layer().jobs[step < kKvStep ? step : step - 1])) {
                return;
            }
        }
    }

    __device__ __forceinline__ const DecodeLayer& of_layer() const { return layer < resident ? layers_here[layer & 1] : p.layers[layer]; }

    __device__ __forceinline__ bool begin_job(const DecodeJob& j) {
        const Matrix& m = j.matrix;
        if (!m.data) return false;
        const uint32_t from = share_begin(j.units, at.sm, p.by_grid), n = share_begin(j.units, at.sm + 1, p.by_grid) - from;
        unit = from + warp_begin(n, at.warp, p.by_warps);
        end = from + warp_begin(n, at.warp + 1, p.by_warps);
        if (unit == end) return false;
        per_tile = j.per_tile;
        tile = divide(unit, j.by_per_tile);
        k = unit - tile * per_tile;
        chunks = m.chunks;
        groups = m.groups;
        magic = j.magic;
        pairs = (m.cols + 31) / 32;
        dense = m.type == WeightType::F16;
        data = m.data + (static_cast<uint64_t>(tile) * chunks * (dense ? 4 : 1) + k * 4) * 512;
        scales = reinterpret_cast<const uint8_t*>(m.scales);
        zeros = reinterpret_cast<const uint8_t*>(m.zeros);
        return true;
    }

    __device__ __forceinline__ void begin_kv() {
        const KvCut cut(p, at, of_layer().window, position);
        kv_at = cut.begin;
        kv_end = cut.end;
        kv_per_head = cut.per_head;
        kv_first = cut.first;
    }

    // The share of this warp in the next head that has some.
    __device__ __forceinline__ bool next_head() {
#pragma unroll 1
        while (kv_at < kv_end) {
            const uint32_t head = kv_at / kv_per_head, stop = min(kv_end, (head + 1) * kv_per_head), n = stop - kv_at;
            kv_head_unit = head * kv_per_head;
            unit = kv_at + warp_begin(n, at.warp, p.by_warps);
            end = kv_at + warp_begin(n, at.warp + 1, p.by_warps);
            kv_at = stop;
            if (unit == kv_head_unit && unit < end) unit++;  // the new position is not in the cache
            if (unit == end) continue;
            const uint64_t offset = static_cast<uint64_t>(divide(head, p.by_head_blocks)) * p.kv_positions * p.head_dim * 2;
            data = reinterpret_cast<const uint8_t*>(of_layer().keys) + offset;
            scales = reinterpret_cast<const uint8_t*>(of_layer().values) + offset;
            values_next = false;
            return true;
        }
        return false;
    }
};

// A warp's ring and what fills it.
struct Stream {
    Ring ring;
    Feeder feeder;

    __device__ __forceinline__ Stream(const DecodeParams& p, const Place& at, uint32_t position, uint32_t shared) : ring(p, at, shared), feeder(p, at, position) {}
    __device__ __forceinline__ Stream(const Stream& s, const Place& at) : ring(s.ring), feeder(s.feeder, at) {}
    __device__ __forceinline__ void take(const Stream& s) {
        ring.put = s.ring.put;
        ring.get = s.ring.get;
        ring.parity = s.ring.parity;
        feeder.take(s.feeder);
    }
};

}  // namespace pith::cuda
