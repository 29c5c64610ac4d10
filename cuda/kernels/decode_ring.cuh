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
    uint32_t sm = blockIdx.x, sms = gridDim.x;  // blocks of the grid, one an SM
    uint32_t warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32;
};

// All that the kernel's functions share lies in shared memory, and little is passed between them: a thread's own memory on the stack, of
// 512 threads a block, would be more than the first-level cache holds.
__device__ __forceinline__ DecodeShared& shared() {
    extern __shared__ __align__(128) uint8_t decode_shared[];
    return *reinterpret_cast<DecodeShared*>(decode_shared);
}
__device__ __forceinline__ uint8_t* shared_bytes() { return reinterpret_cast<uint8_t*>(&shared()); }
__device__ __forceinline__ uint32_t shared_base() { return shared_address(&shared()); }

// The kernel's speed hangs on its size: all that a layer runs must stay in the instruction cache. Hence functions that are called rather
// than inlined, and loops that are not unrolled. And on the latency of what stands between two phases: no divisions there.
__device__ __forceinline__ uint32_t divide(uint32_t a, const Divisor& b) { return static_cast<uint32_t>(a * b.magic >> b.shift); }

// Units [begin, end) of `units` that belong to block `sm`. Blocks that have none are the last ones.
__device__ __forceinline__ uint32_t share_begin(uint32_t units, uint32_t sm, const Divisor& sms) {
    if (units < sms.divisor) return min(sm, units);
    return divide(sm * units + sms.divisor - 1, sms);
}
// The block that a unit belongs to.
__device__ __forceinline__ uint32_t owner_of(uint32_t unit, const Divisor& units, uint32_t sms) {
    return divide(unit * min(units.divisor, sms), units);
}
// Of n units of a block, where the share of a warp begins.
__device__ __forceinline__ uint32_t warp_begin(uint32_t n, uint32_t warp, const Divisor& warps) { return divide(n * warp, warps); }

__device__ __forceinline__ uint32_t groups_before(const uint32_t pair, uint32_t magic) { return magic ? __umulhi(pair, magic) : pair; }

// How attention of one layer is cut: a head (a block of query heads of one kv head) has one unit for the new position and one for every
// kv_unit cached ones.
struct KvCut {
    uint32_t first;     // first position that is seen
    uint32_t per_head;  // units
    uint32_t units;
    uint32_t blocks;      // that share them all, if heads are shared
    uint32_t begin, end;  // of this SM

    __device__ __forceinline__ KvCut(const Place& at, uint32_t window) {
        const DecodeParams& p = shared().params;
        const uint32_t position = shared().position;
        first = window && position + 1 > window ? position + 1 - window : 0;
        per_head = 1 + divide(position - first + p.kv_unit - 1, p.by_kv_unit);
        const uint32_t heads = p.kv_heads * p.head_blocks;
        units = heads * per_head;
        if (per_head - 1 <= p.whole_head_units) {
            begin = share_begin(heads, at.sm, p.by_grid) * per_head;
            end = share_begin(heads, at.sm + 1, p.by_grid) * per_head;
        } else {
            blocks = min(at.sms, divide(units + at.warps - 1, p.by_warps));  // a unit a warp at least
            begin = border(at.sm);
            end = border(at.sm + 1);
        }
    }
    __device__ __forceinline__ uint32_t owner(uint32_t unit) const { return unit * blocks / units; }

private:
    __device__ __forceinline__ uint32_t border(uint32_t sm) const { return sm >= blocks ? units : (sm * units + blocks - 1) / blocks; }
};

// Finds what part of a job is a warp's.
__device__ __noinline__ void find_share(const DecodeJob& j, DecodeShare& to, uint32_t warp) {
    const DecodeParams& p = shared().params;
    DecodeShare s;
    s.begin = share_begin(j.units, blockIdx.x, p.by_grid);
    s.n = share_begin(j.units, blockIdx.x + 1, p.by_grid) - s.begin;
    s.from = s.begin + warp_begin(s.n, warp, p.by_warps);
    s.stop = s.begin + warp_begin(s.n, warp + 1, p.by_warps);
    s.tile = divide(s.from, j.by_per_tile);
    s.k = s.from - s.tile * j.per_tile;
    s.data = (static_cast<uint64_t>(s.tile) * j.matrix.chunks * (j.matrix.type == WeightType::F16 ? 4 : 1) + s.k * 4) * 512;
    to = s;
}
// The same of job number `job` (kDecodeJobs: the head), from the table where there is one.
__device__ __forceinline__ DecodeShare share_of(const DecodeJob& j, uint32_t job, uint32_t warp) {
    if (shared().params.alike || job == kDecodeJobs) return shared().shares[job][warp];
    DecodeShare s;
    find_share(j, s, warp);
    return s;
}

// Where a warp is in its stream: of the slots of its ring, and of the units that are to fill them. The same in all lanes; kept in shared
// memory between phases.
struct StreamState {
    uint32_t put, get, parity;  // addresses of the next slot to fill and to use; the barrier's parity of the latter
    uint32_t layer, step;       // what is being read
    uint32_t unit, end;         // of this step (of a head, for the cache)
    uint32_t tile, k, per_tile, chunks, groups, magic, pairs;
    uint32_t dense, values_next;
    uint32_t kv_at, kv_end, kv_per_head, kv_first, kv_head_unit;
    uint32_t reserved;
    const uint8_t* data;    // where the next unit begins; keys
    const uint8_t* scales;  // values
    const uint8_t* zeros;
};
static_assert(sizeof(StreamState) <= sizeof(DecodeShared::streams[0]));

class Stream {
public:
    StreamState s;

    __device__ __forceinline__ Stream() {
        const DecodeParams& p = shared().params;
        slot_bytes = p.slot_bytes;
        slots = p.slots;
        zero_at = p.zero_at;
        base = shared_base() + p.shared_ring + at.warp * slots * slot_bytes;
        end = base + slots * slot_bytes;
        policy = evict_first_policy();
        s = home();
        __syncwarp();
    }
    __device__ __forceinline__ void save() {
        __syncwarp();
        home() = s;
        __syncwarp();
    }
    // Once, before anything else.
    static __device__ __forceinline__ void begin() {
        Stream stream;
        if (kHasBulkCopy && stream.at.lane == 0) {
            for (uint32_t i = 0; i < stream.slots; i++) make_bulk_barrier(stream.barrier_of(stream.base + i * stream.slot_bytes));
            bulk_barriers_made();
        }
        stream.s = {};
        stream.s.put = stream.s.get = stream.base;
        stream.s.step = 0xffffffffu;
        stream.save();
    }

    // ---- the using side ----
    __device__ __forceinline__ uint32_t zero_offset() const { return zero_at; }
    __device__ __forceinline__ void used() {
        s.get += slot_bytes;
        if (s.get == end) s.get = base, s.parity ^= 1;
    }
    // The slot after the next one to use.
    __device__ __forceinline__ uint32_t second() const { return s.get + slot_bytes == end ? base : s.get + slot_bytes; }
    // Until the next slot to use is filled, for every lane.
    __device__ __forceinline__ void wait() const {
        if constexpr (kHasBulkCopy) {
            wait_bulk(barrier_of(s.get), s.parity);
        } else {
            wait_groups(slots - 1);
        }
    }
    // The same for two slots.
    __device__ __forceinline__ void wait_two() const {
        if constexpr (kHasBulkCopy) {
            wait_bulk(barrier_of(s.get), s.parity);
            wait_bulk(barrier_of(second()), second() == base ? s.parity ^ 1 : s.parity);
        } else {
            wait_groups(slots - 2);
        }
    }

    // ---- the filling side ----
    // Fills the next slot, or leaves it as it is once nothing is left to read.
    // cache: this is where the cache is being read.
    template <bool cache = false>
    __device__ __forceinline__ void issue();
    __device__ __forceinline__ void issue_any() {
        if (s.unit == s.end) next();
        if (s.unit != s.end) {
            if (s.step == kKvStep) {
                issue_kv();
            } else {
                issue_matrix();
            }
        }
        filled();
    }

private:
    static constexpr uint32_t kKvStep = 3, kSteps = kDecodeJobs + 1;  // a layer's steps: q, k, v, cache, o, gate, up, down

    Place at;
    uint32_t base, end, slot_bytes, slots, zero_at;
    uint64_t policy;

    __device__ __forceinline__ StreamState& home() const { return *reinterpret_cast<StreamState*>(shared().streams[at.warp]); }
    __device__ __forceinline__ uint32_t barrier_of(uint32_t slot) const { return slot + slot_bytes - 16; }
    __device__ __forceinline__ void filled() {
        if constexpr (!kHasBulkCopy) cp_async_commit();
        s.put += slot_bytes;
        if (s.put == end) s.put = base;
    }
    static __device__ __forceinline__ void wait_groups(uint32_t pending) {
        switch (pending) {
            case 0:
                cp_async_wait<0>();
                break;
            case 1:
                cp_async_wait<1>();
                break;
            case 2:
                cp_async_wait<2>();
                break;
            case 3:
                cp_async_wait<3>();
                break;
            case 4:
                cp_async_wait<4>();
                break;
            case 5:
                cp_async_wait<5>();
                break;
            case 6:
                cp_async_wait<6>();
                break;
            case 7:
                cp_async_wait<7>();
                break;
            case 8:
                cp_async_wait<8>();
                break;
            case 9:
                cp_async_wait<9>();
                break;
            case 10:
                cp_async_wait<10>();
                break;
            case 11:
                cp_async_wait<11>();
                break;
            case 12:
                cp_async_wait<12>();
                break;
            default:
                cp_async_wait<13>();
                break;
        }
        __syncwarp();
    }

    __device__ __forceinline__ void issue_matrix() {
        const uint32_t n = s.dense ? 4 : min(4u, s.chunks - 4 * s.k);
        const uint32_t first = groups_before(8 * s.k, s.magic), last = groups_before(min(8 * s.k + 8, s.pairs) - 1, s.magic),
                       many = last + 1 - first;
        const uint8_t* scale = s.scales + (static_cast<uint64_t>(s.tile) * s.groups + first) * 32;
        if constexpr (kHasBulkCopy) {
            if (elect_lane()) {
                const uint32_t barrier = barrier_of(s.put), words = s.zeros ? last / 4 - first / 4 + 1 : 0;
                expect_bulk(barrier, n * 512 + (s.dense ? 0 : (many + words) * 32));
                bulk_copy(s.put, s.data, n * 512, barrier, policy);
                if (!s.dense) bulk_copy(s.put + 2048, scale, many * 32, barrier, policy);
                if (words)
                    bulk_copy(s.put + zero_at, s.zeros + (static_cast<uint64_t>(s.tile) * ((s.groups + 3) / 4) + first / 4) * 32,
                              words * 32, barrier, policy);
            }
        } else {
#pragma unroll
            for (uint32_t i = 0; i < 4; i++)
                if (i < n) cp_async_16(s.put + i * 512 + at.lane * 16, s.data + i * 512 + at.lane * 16, policy);
            if (!s.dense && at.lane < many * 2) cp_async_16(s.put + 2048 + at.lane * 16, scale + at.lane * 16, policy);
            if (!s.dense && s.zeros && at.lane >= 16 && at.lane - 16 < (last / 4 - first / 4 + 1) * 2)
                cp_async_16(s.put + zero_at + (at.lane - 16) * 16,
                            s.zeros + (static_cast<uint64_t>(s.tile) * ((s.groups + 3) / 4) + first / 4) * 32 + (at.lane - 16) * 16,
                            policy);
        }
        s.data += n * 512;
        s.unit++;
        if (++s.k == s.per_tile) s.k = 0, s.tile++;
    }

    __device__ __forceinline__ void issue_kv() {
        const DecodeParams& p = shared().params;
        const uint32_t from = s.kv_first + (s.unit - s.kv_head_unit - 1) * p.kv_unit, n = min(p.kv_unit, shared().position - from);
        const uint8_t* src = (s.values_next ? s.scales : s.data) + static_cast<uint64_t>(from) * p.head_dim * 2;
        if constexpr (kHasBulkCopy) {
            if (elect_lane()) {
                const uint32_t barrier = barrier_of(s.put);
                expect_bulk(barrier, n * p.head_dim * 2);
                bulk_copy(s.put, src, n * p.head_dim * 2, barrier);
            }
        } else {
            const uint32_t pieces = n * p.head_dim / 8;
#pragma unroll
            for (uint32_t i = 0; i < 4; i++)
                if (at.lane + 32 * i < pieces) cp_async_16(s.put + (at.lane + 32 * i) * 16, src + (at.lane + 32 * i) * 16);
        }
        s.unit += s.values_next;
        s.values_next ^= 1;
    }

    // To the next step that has units for this warp; unit == end if there is none.
    __device__ __forceinline__ void next() {
        const DecodeParams& p = shared().params;
        if (s.layer > p.layer_count) return;
#pragma unroll 1
        for (;;) {
            if (s.step == kKvStep && next_head()) return;
            if (++s.step == kSteps) s.step = 0, s.layer++;
            const bool head = s.layer >= p.layer_count;
            if (head && (s.layer > p.layer_count || s.step)) {
                s.layer = p.layer_count + 1;
                s.unit = s.end = 0;
                return;
            }
            if (s.step == kKvStep) {
                const uint32_t window = of_layer().window;
                if (window) {
                    const KvCut cut(at, window);
                    s.kv_at = cut.begin;
                    s.kv_end = cut.end;
                    s.kv_per_head = cut.per_head;
                    s.kv_first = cut.first;
                } else {
                    s.kv_at = shared().kv_cut[0];
                    s.kv_end = shared().kv_cut[1];
                    s.kv_per_head = shared().kv_cut[2];
                    s.kv_first = 0;
                }
                if (s.kv_per_head == 1) s.kv_at = s.kv_end;  // nothing is in the cache
            } else if (begin_job(head ? p.head : of_layer().jobs[s.step < kKvStep ? s.step : s.step - 1], head ? kDecodeJobs
                                                                                                          : s.step < kKvStep
                                                                                                              ? s.step
                                                                                                              : s.step - 1)) {
                return;
            }
        }
    }

    __device__ __forceinline__ const DecodeLayer& of_layer() const {
        return s.layer < shared().resident ? shared().layers[s.layer & 1] : shared().params.layers[s.layer];
    }

    __device__ __forceinline__ bool begin_job(const DecodeJob& j, uint32_t job) {
        const Matrix& m = j.matrix;
        if (!m.data) return false;
        const DecodeShare share = share_of(j, job, at.warp);
        s.unit = share.from;
        s.end = share.stop;
        if (s.unit == s.end) return false;
        s.per_tile = j.per_tile;
        s.tile = share.tile;
        s.k = share.k;
        s.chunks = m.chunks;
        s.groups = m.groups;
        s.magic = j.magic;
        s.pairs = (m.cols + 31) / 32;
        s.dense = m.type == WeightType::F16;
        s.data = m.data + share.data;
        s.scales = reinterpret_cast<const uint8_t*>(m.scales);
        s.zeros = reinterpret_cast<const uint8_t*>(m.zeros);
        return true;
    }

    // The share of this warp in the next head that has some.
    __device__ __forceinline__ bool next_head() {
        const DecodeParams& p = shared().params;
#pragma unroll 1
        while (s.kv_at < s.kv_end) {
            const uint32_t head = s.kv_at / s.kv_per_head, stop = min(s.kv_end, (head + 1) * s.kv_per_head), n = stop - s.kv_at;
            s.kv_head_unit = head * s.kv_per_head;
            s.unit = s.kv_at + warp_begin(n, at.warp, p.by_warps);
            s.end = s.kv_at + warp_begin(n, at.warp + 1, p.by_warps);
            s.kv_at = stop;
            if (s.unit == s.kv_head_unit && s.unit < s.end) s.unit++;  // the new position is not in the cache
            if (s.unit == s.end) continue;
            const uint64_t offset = static_cast<uint64_t>(divide(head, p.by_head_blocks)) * p.kv_positions * p.head_dim * 2;
            s.data = reinterpret_cast<const uint8_t*>(of_layer().keys) + offset;
            s.scales = reinterpret_cast<const uint8_t*>(of_layer().values) + offset;
            s.values_next = 0;
            return true;
        }
        return false;
    }
};

// This warp has used the next `used` slots; `count` are filled.
__device__ __noinline__ void feed(uint32_t used, uint32_t count) {
    Stream stream;
#pragma unroll 1
    for (uint32_t i = 0; i < used; i++) stream.used();
#pragma unroll 1
    for (uint32_t i = 0; i < count; i++) stream.issue_any();
    stream.save();
}

template <bool cache>
__device__ __forceinline__ void Stream::issue() {
    if (s.unit != s.end && s.step != kKvStep) {
        issue_matrix();
        filled();
    } else if (cache && s.unit != s.end) {
        issue_kv();
        filled();
    } else {  // seldom, and not worth the code here
        save();
        feed(0, 1);
        s = home();
        __syncwarp();
    }
}

}  // namespace pith::cuda
