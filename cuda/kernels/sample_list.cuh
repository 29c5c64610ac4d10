// Steps and draw over a list in shared memory: what most chains come to after their first step.
//
// Nearly all of this runs once a launch, from a cold instruction cache: what counts is how few instructions there are, not how fast they
// could be in a loop.
#pragma once
#include "sample_passes.cuh"

namespace pith::cuda::sample {

// Four groups a thread, or one if that is enough; those of every slice are there.
static_assert(kSampleMaxVocab / kSampleGroup <= 4 * kThreads);
__device__ __forceinline__ bool one_group_each(const Launch& l) { return l.slice_count * (kSampleSlice / kSampleGroup) <= kThreads; }
__device__ __forceinline__ float4 load_groups(const Launch& l) {
    const uint32_t count = l.slice_count * (kSampleSlice / kSampleGroup);
    float4 v = make_float4(minus_infinity(), minus_infinity(), minus_infinity(), minus_infinity());
    if (one_group_each(l)) {
        if (threadIdx.x < count) v.x = __ldcg(l.groups + threadIdx.x);
    } else if (4 * threadIdx.x < count) {
        v = __ldcg(reinterpret_cast<const float4*>(l.groups) + threadIdx.x);
    }
    return v;
}

// Lists, in no order, what ranks up to the cut; how many, or kNone if the list can't hold them. picks and size are zero before.
__device__ __forceinline__ uint32_t gather(Launch& l, uint32_t from_row, float4 groups, Key cut) {
    Shared& s = l.shared;
    const float least = logit_of(cut);
    const uint32_t last = token_of(cut);
    const uint32_t group = one_group_each(l) ? threadIdx.x : 4 * threadIdx.x;
    const auto pick = [&](float most, uint32_t j) {
        if (most >= least) s.picked[atomicAdd(&s.picks, 1u)] = group + j;
    };
    pick(groups.x, 0);
    pick(groups.y, 1);
    pick(groups.z, 2);
    pick(groups.w, 3);
    __syncthreads();
    const float* from = from_row ? l.row : l.args.logits;
    const uint32_t total = s.picks, lane = threadIdx.x & 31;
#pragma unroll 1
    for (uint32_t at = threadIdx.x / 32; at < total; at += 4 * kWarps) {
        float v[16];
        uint32_t first[4], mask = 0;
#pragma unroll
        for (uint32_t j = 0; j < 4; j++) {
            first[j] = at + j * kWarps < total ? s.picked[at + j * kWarps] * kSampleGroup + lane : l.n;
#pragma unroll
            for (uint32_t i = 0; i < 4; i++) v[4 * j + i] = first[j] + 32 * i < l.n ? __ldcg(from + first[j] + 32 * i) : minus_infinity();
        }
#pragma unroll
        for (uint32_t j = 0; j < 16; j++)
            if (v[j] > least || (v[j] == least && first[j / 4] + j % 4 * 32 <= last)) mask |= 1u << j;
        if (!mask) continue;
        uint32_t place = atomicAdd(&s.size, static_cast<uint32_t>(__popc(mask)));
        if (place + __popc(mask) > kListSize) break;  // more than the list holds, whatever the others find
#pragma unroll
        for (uint32_t j = 0; j < 16; j++)
            if (mask >> j & 1) s.list[place++] = key_of(v[j], first[j / 4] + j % 4 * 32);
    }
    __syncthreads();
    return s.size > kListSize ? kNone : s.size;
}

// A cut below the k best, but not much more. As many logits as runs of logits have a largest, so the k-th largest of the runs' largest is a
// bound below which nothing is among the k best; so is any that k runs reach. Runs are a thread's groups, or single groups if k is large
// for that. `low`: the least of the threads' largest.
__device__ __forceinline__ Key cut_below_top(Launch& l, const Row& row, const float4& groups, uint32_t k, float low) {
    const float most = fmaxf(fmaxf(groups.x, groups.y), fmaxf(groups.z, groups.w));
    const bool one = one_group_each(l);
    bool single = !one && 4 * k * 4 * kSampleGroup > l.n;
    const auto reaching = [&](float bound) {
        uint32_t count = __syncthreads_count((single ? groups.x : most) >= bound);
        if (single)
            count +=
                __syncthreads_count(groups.y >= bound) + __syncthreads_count(groups.z >= bound) + __syncthreads_count(groups.w >= bound);
        return count;
    };
    const float finite = -__uint_as_float(0x7f7fffffu);
    float from = low, to = row.largest;  // k runs reach `from`
    if (reaching(from) < k && !one) {    // too many runs are all -inf
        single = true;
        from = finite;
    }
    if (reaching(from) < k) return kAnyFinite;
        // Halves of the distance, then of the floats between.
#pragma unroll 1
    for (uint32_t turn = 0; from < to && turn < 64; turn++) {
        float middle = 0.5f * from + 0.5f * to;
        if (turn >= 12 || !(from < middle && middle <= to)) middle = value_of(order_of(from) + (order_of(to) - order_of(from) + 1) / 2);
        const uint32_t count = reaching(middle);
        if (count < k) {
            to = value_of(order_of(middle) - 1);
        } else {
            from = middle;
            if (count <= k + k / 8 + 2) break;
        }
    }
    return static_cast<Key>(order_of(from)) << 32;
}

// Falling order, in place; entries past `size` are overwritten up to a power of two.
__device__ __noinline__ void sort_keys(Key* keys, uint32_t size) {
    uint32_t width = 1;
    while (width < size) width *= 2;
    for (uint32_t i = size + threadIdx.x; i < width; i += kThreads) keys[i] = 0;
    for (uint32_t run = 2; run <= width; run *= 2)
        for (uint32_t step = run / 2; step; step /= 2) {
            __syncthreads();
            for (uint32_t i = threadIdx.x; i < width / 2; i += kThreads) {
                const uint32_t a = 2 * i - (i & (step - 1)), b = a + step;
                const Key x = keys[a], y = keys[b];
                if ((x < y) == ((a & run) == 0)) {
                    keys[a] = y;
                    keys[b] = x;
                }
            }
        }
    __syncthreads();
}

// The list by rank, and a short one by id too.
__device__ __forceinline__ void sort_list(Shared& s, uint32_t size) {
    if (size <= kShortList) {  // each key counts those before it, eight threads a key
        const uint32_t part = threadIdx.x & 7;
#pragma unroll 1
        for (uint32_t i = threadIdx.x / 8; i < (size + 3) / 4 * 4; i += kThreads / 8) {  // whole warps
            const Key key = i < size ? s.list[i] : 0;
            uint32_t ranks = 0;  // by rank, and by id in the upper half
#pragma unroll 4
            for (uint32_t j = part; j < size; j += 8) {
                const Key other = s.list[j];
                ranks += (other > key ? 1u : 0u) + (static_cast<uint32_t>(other) > static_cast<uint32_t>(key) ? 0x10000u : 0u);
            }
            for (uint32_t m = 1; m < 8; m *= 2) ranks += __shfl_xor_sync(kAll, ranks, m);
            if (part == 0 && i < size) {
                s.sorted[ranks & 0xffff] = key;
                s.by_id[ranks >> 16] = key;
            }
        }
        __syncthreads();
        return;
    }
    for (uint32_t i = threadIdx.x; i < size; i += kThreads) s.sorted[i] = s.list[i];
    sort_keys(s.sorted, size);
}

__device__ __forceinline__ Key halves_swapped(Key key) { return key << 32 | key >> 32; }

// The first `kept` by rank, by id: to the list.
__device__ inline void list_by_id(Shared& s, uint32_t kept) {
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < kept; i += kThreads) s.list[i] = halves_swapped(s.sorted[i]);
    sort_keys(s.list, kept);
    for (uint32_t i = threadIdx.x; i < kept; i += kThreads) s.list[i] = halves_swapped(s.list[i]);
    __syncthreads();
}

__device__ inline void penalise_list(Launch& l, const SampleStep& step, uint32_t size) {
    Shared& s = l.shared;
    list_by_id(s, size);
    clear_tally(s.tally);
    __syncthreads();
    fill_tally(l, step, [&](uint32_t token) {
        uint32_t low = 0, high = size;  // the first whose id is not below
        while (low < high) {
            const uint32_t middle = (low + high) / 2;
            if (token_of(s.list[middle]) < token)
                low = middle + 1;
            else
                high = middle;
        }
        return low < size && token_of(s.list[low]) == token ? low : kNone;
    });
    for (uint32_t i = threadIdx.x; i < size; i += kThreads) {
        const Key key = s.list[i];
        const uint32_t newest = s.tally.newest[i];
        if (newest != kNone) s.list[i] = key_of(penalised(logit_of(key), &step, newest, s.tally.count[i], s.tally.faded[i]), token_of(key));
    }
    __syncthreads();
    sort_list(s, size);
}

__device__ __forceinline__ void release_helpers(Launch& l) {
    if (threadIdx.x == 0)
        *reinterpret_cast<volatile unsigned long long*>(&l.control->turn) = static_cast<unsigned long long>(l.shared.serial + 1) << 32;
}

// How many of the first `kept` by rank have a logit above the bound; the largest always stays.
__device__ __forceinline__ uint32_t kept_above(const Shared& s, uint32_t kept, float bound) {
    uint32_t low = 1, high = kept;
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (logit_of(s.sorted[middle]) > bound)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// What four keys weigh, of those that are kept.
__device__ __forceinline__ void weigh_keys(const Key* keys, uint32_t at, uint32_t size, Key cut, float largest, float scale,
                                           double (&mass)[4]) {
#pragma unroll
    for (uint32_t j = 0; j < 4; j++) {
        const Key key = at + j < size ? keys[at + j] : 0;
        mass[j] = key >= cut ? static_cast<double>(weigh(logit_of(key), largest, scale)) : 0;
    }
}

// A short list, no penalties left, within one warp: four a lane. `size` and `all` as below.
__device__ __forceinline__ uint32_t draw_from_short_list(Launch& l, uint32_t first, uint32_t size, double all) {
    Shared& s = l.shared;
    const uint32_t at = 4 * (threadIdx.x & 31);
    const float largest = logit_of(s.sorted[0]);
    uint32_t kept = size;
#pragma unroll 1
    for (uint32_t i = first;; i++) {
        const SampleStep& step = s.chain.step[i];
        const SampleKind kind = step.kind;
        if (kind == SampleKind::Largest) {
            kept = 1;
        } else if (kind == SampleKind::TopK) {
            kept = min(kept, step.count);
        } else if (kind == SampleKind::MinP) {
            const float bound = just_below(static_cast<double>(largest) + step.offset);
            uint32_t above = 0;
#pragma unroll
            for (uint32_t j = 0; j < 4; j++) above += at + j < kept && logit_of(s.sorted[at + j]) > bound;
            kept = warp_sum_u32(above);
        } else {
            const bool draws = kind == SampleKind::Draw;
            const Key cut = s.sorted[kept - 1];
            if (draws && kept == 1) return token_of(cut);
            const Key* keys = draws ? s.by_id : s.sorted;
            double mass[4];
            weigh_keys(keys, at, size, cut, largest, static_cast<float>(step.scale), mass);
            const double sums = warp_scan((mass[0] + mass[1]) + (mass[2] + mass[3]), 32), total = __shfl_sync(kAll, sums, 31);
            const double up = __shfl_up_sync(kAll, sums, 1);
            const double target = draws ? s.uniform * total : (all > 0 ? all : total) * static_cast<double>(step.value);
            if (!draws && all > 0 && total < target) return kNone;
            const Pick pick = warp_pick(mass, at ? up : 0, target, draws, at);
            if (draws) return token_of(keys[pick.index != kNone ? pick.index : pick.last]);
            if (pick.index < kept) kept = pick.index + 1;
            all = 0;
        }
    }
}

// Any list and steps, by the whole block.
__device__ __noinline__ uint32_t draw_from_long_list(Launch l, uint32_t first, uint32_t size, double all) {
    Shared& s = l.shared;
    float largest = logit_of(s.sorted[0]);
    uint32_t kept = size;
    for (uint32_t i = first;; i++) {
        const SampleStep& step = s.chain.step[i];
        const SampleKind kind = step.kind;
        if (kind == SampleKind::Largest) {
            kept = 1;
        } else if (kind == SampleKind::TopK) {
            kept = min(kept, step.count);
        } else if (kind == SampleKind::MinP) {
            kept = kept_above(s, kept, just_below(static_cast<double>(largest) + step.offset));
        } else if (kind == SampleKind::Penalties) {
            penalise_list(l, step, kept);
            largest = logit_of(s.sorted[0]);
        } else {
            const bool draws = kind == SampleKind::Draw;
            const Key cut = s.sorted[kept - 1];
            if (draws && kept == 1) return token_of(cut);
            if (draws) list_by_id(s, kept);
            double mass[4], total;
            weigh_keys(draws ? s.list : s.sorted, 4 * threadIdx.x, kept, 0, largest, static_cast<float>(step.scale), mass);
            const double before = block_scan((mass[0] + mass[1]) + (mass[2] + mass[3]), s.scan, l.turn, &total);
            const double target = draws ? s.uniform * total : (all > 0 ? all : total) * static_cast<double>(step.value);
            if (!draws && all > 0 && total < target) return kNone;
            const Pick pick = block_pick(mass, before, target, draws, s.pick, l.turn);
            if (draws) return token_of(s.list[pick.index != kNone ? pick.index : pick.last]);
            if (pick.index < kept) kept = pick.index + 1;
            all = 0;
        }
    }
}

// The steps from `first` on, and the draw. all > 0: what the whole row weighs, of which the first step, a TopP, keeps a share; kNone if
// the list doesn't weigh as much.
__device__ __forceinline__ uint32_t draw_from_list(Launch& l, uint32_t first, uint32_t size, double all) {
    Shared& s = l.shared;
    if (all == 0) release_helpers(l);
    sort_list(s, size);
    if (size > kShortList || s.chain.late) return draw_from_long_list(l, first, size, all);
    if (threadIdx.x < 32) {
        const uint32_t token = draw_from_short_list(l, first, size, all);
        if (all == 0) return token;  // nobody else needs it
        if (threadIdx.x == 0) s.token = token;
    }
    if (all == 0) return 0;
    __syncthreads();
    return s.token;
}

}  // namespace pith::cuda::sample
