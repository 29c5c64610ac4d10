// Steps and draw over a list in shared memory: what most chains come to after their first step.
#pragma once
#include "sample_passes.cuh"

namespace pith::cuda::sample {

// Sixteen groups a thread at most, in order.
struct Groups {
    float most[16];
    uint32_t each;  // groups to a thread, a multiple of 4
};
static_assert(kSampleMaxVocab / kSampleGroup <= 16 * kThreads);

__device__ __forceinline__ void load_groups(Launch& l, Groups& g) {
    const uint32_t count = (l.n + kSampleGroup - 1) / kSampleGroup;
    g.each = (count + 4 * kThreads - 1) / (4 * kThreads) * 4;
#pragma unroll
    for (uint32_t j = 0; j < 16; j += 4) {
        float4 four = make_float4(minus_infinity(), minus_infinity(), minus_infinity(), minus_infinity());
        if (j < g.each) four = load_four(l.groups, threadIdx.x * g.each + j, count);
        g.most[j] = four.x;
        g.most[j + 1] = four.y;
        g.most[j + 2] = four.z;
        g.most[j + 3] = four.w;
    }
}

// Which of eight groups' logits, a lane each, belong in the list.
template <class Keep>
__device__ __forceinline__ void look_at_groups(Launch& l, const float* from, uint32_t at, uint32_t end, Keep keep, float (&v)[8], uint32_t (&votes)[8]) {
    const uint32_t lane = threadIdx.x & 31;
    uint32_t first[8];
#pragma unroll
    for (uint32_t j = 0; j < 8; j++) {
        first[j] = at + j < end ? l.shared.picked.groups[at + j] * kSampleGroup + lane : kNone;
        v[j] = first[j] < l.n ? __ldcg(from + first[j]) : minus_infinity();
    }
#pragma unroll
    for (uint32_t j = 0; j < 8; j++) votes[j] = __ballot_sync(kAll, v[j] > minus_infinity() && keep(v[j], first[j]));
}

__device__ __forceinline__ void list_groups(Shared& s, uint32_t at, uint32_t end, const float (&v)[8], const uint32_t (&votes)[8], uint32_t& to) {
    const uint32_t lane = threadIdx.x & 31;
#pragma unroll
    for (uint32_t j = 0; j < 8; j++) {
        if (at + j < end && votes[j] >> lane & 1)
            s.list[to + __popc(votes[j] & ((1u << lane) - 1))] = key_of(v[j], s.picked.groups[at + j] * kSampleGroup + lane);
        to += __popc(votes[j]);
    }
}

// Lists by id what `keep` says of (logit, token), looking only into groups whose largest logit `open` agrees to; how many, or kNone if the
// list can't hold them.
template <class Open, class Keep>
__device__ __forceinline__ uint32_t gather(Launch& l, uint32_t from_row, const Groups& g, Open open, Keep keep) {
    Shared& s = l.shared;
    uint32_t mask = 0;
#pragma unroll
    for (uint32_t j = 0; j < 16; j++)
        if (g.most[j] > minus_infinity() && open(g.most[j])) mask |= 1u << j;
    uint32_t total;
    uint32_t place = block_scan(static_cast<uint32_t>(__popc(mask)), s.scan, l.turn, &total);
    if (total > kListSize) return kNone;
    for (; mask; mask &= mask - 1) s.picked.groups[place++] = threadIdx.x * g.each + __ffs(static_cast<int>(mask)) - 1;
    __syncthreads();
    // Each warp has a run of the groups: it counts, and lists once it knows what the warps before it have.
    const float* from = from_row ? l.row : l.args.logits;
    const uint32_t share = (total + kWarps - 1) / kWarps, begin = min(threadIdx.x / 32 * share, total), end = min(begin + share, total);
    float v[8];
    uint32_t votes[8], count = 0, size;
    for (uint32_t at = begin; at < end; at += 8) {
        look_at_groups(l, from, at, end, keep, v, votes);
#pragma unroll
        for (uint32_t j = 0; j < 8; j++) count += __popc(votes[j]);
    }
    uint32_t to = __shfl_sync(kAll, block_scan((threadIdx.x & 31) == 0 ? count : 0, s.scan, l.turn, &size), 0);
    if (size > kListSize) return kNone;
    for (uint32_t at = begin; at < end; at += 8) {
        if (share > 8) look_at_groups(l, from, at, end, keep, v, votes);
        list_groups(s, at, end, v, votes, to);
    }
    __syncthreads();
    return size;
}

// A superset of the k best, not much larger. As many logits as runs of logits have a largest, so the k-th largest of the runs' largest is a
// bound below which nothing is among the k best. Runs are a thread's groups, or single groups if k is large for that; they are binned by how
// far they lie below the largest of all. `low`: the least of the threads' largest; shared.counts is zero.
__device__ inline uint32_t gather_top(Launch& l, const Row& row, const Groups& g, uint32_t k, float most, float low) {
    Shared& s = l.shared;
    const float half = 0.5f * row.largest, steps = fminf((kThreads - 1) / (half - 0.5f * low), __uint_as_float(0x7f7fffffu));
    const auto bin_of = [&](float v) {  // falls as v grows; what lies below `low` shares the last
        const float bin = (half - 0.5f * v) * steps;
        return bin < static_cast<float>(kThreads - 1) ? static_cast<uint32_t>(bin) : kThreads - 1;
    };
    uint32_t mine, before, total;
    for (bool single = 4 * k * kSampleGroup * g.each > l.n;; single = true) {
        if (!single) {
            if (most > minus_infinity()) atomicAdd(&s.counts[bin_of(most)], 1u);
        } else {
#pragma unroll
            for (uint32_t j = 0; j < 16; j++)
                if (g.most[j] > minus_infinity()) atomicAdd(&s.counts[bin_of(g.most[j])], 1u);
        }
        __syncthreads();
        mine = s.counts[threadIdx.x];
        before = block_scan(mine, s.scan, l.turn, &total);
        if (total >= k || single) break;
        s.counts[threadIdx.x] = 0;  // too many runs are all -inf
        __syncthreads();
    }
    if (total < k && threadIdx.x == 0) s.flag = kThreads - 1;
    if (before < k && k <= before + mine) s.flag = threadIdx.x;
    __syncthreads();
    const uint32_t last = s.flag;
    return gather(l, row.from_row, g, [&](float v) { return bin_of(v) <= last; }, [&](float v, uint32_t) { return bin_of(v) <= last; });
}

// The list by rank.
__device__ inline void sort_list(Shared& s, uint32_t size) {
    if (size <= 256) {  // each key counts those before it, eight threads a key
        const uint32_t part = threadIdx.x & 7;
        for (uint32_t i = threadIdx.x / 8; i < (size + 3) / 4 * 4; i += kThreads / 8) {  // whole warps
            const Key key = i < size ? s.list[i] : 0;
            uint32_t rank = 0;
#pragma unroll 8
            for (uint32_t j = part; j < size; j += 8) rank += s.list[j] > key;
            for (uint32_t m = 1; m < 8; m *= 2) rank += __shfl_xor_sync(kAll, rank, m);
            if (part == 0 && i < size) s.sorted[rank] = key;
        }
        __syncthreads();
        return;
    }
    uint32_t width = 512;
    while (width < size) width *= 2;
    for (uint32_t i = threadIdx.x; i < width; i += kThreads) s.sorted[i] = i < size ? s.list[i] : 0;
    for (uint32_t run = 2; run <= width; run *= 2)
        for (uint32_t step = run / 2; step; step /= 2) {
            __syncthreads();
            for (uint32_t i = threadIdx.x; i < width / 2; i += kThreads) {
                const uint32_t a = 2 * i - (i & (step - 1)), b = a + step;
                const Key x = s.sorted[a], y = s.sorted[b];
                if ((x < y) == ((a & run) == 0)) {
                    s.sorted[a] = y;
                    s.sorted[b] = x;
                }
            }
        }
    __syncthreads();
}

__device__ inline void penalise_list(Launch& l, const SampleStep& step, uint32_t& size, uint32_t kept) {
    Shared& s = l.shared;
    const Key cut = s.sorted[kept - 1];
    Key keys[4];
    uint32_t count = 0, total;
    for (uint32_t j = 0; j < 4; j++) {
        const uint32_t i = 4 * threadIdx.x + j;
        keys[j] = i < size && s.list[i] >= cut ? s.list[i] : 0;
        count += keys[j] != 0;
    }
    uint32_t to = block_scan(count, s.scan, l.turn, &total);
    for (uint32_t j = 0; j < 4; j++)
        if (keys[j]) s.list[to++] = keys[j];
    size = total;
    __syncthreads();
    clear_tally(s.tally);
    __syncthreads();
    fill_tally(l, step, [&](uint32_t token) {
        uint32_t low = 0, high = total;  // the first whose id is not below
        while (low < high) {
            const uint32_t middle = (low + high) / 2;
            if (token_of(s.list[middle]) < token) low = middle + 1;
            else high = middle;
        }
        return low < total && token_of(s.list[low]) == token ? low : kNone;
    });
    for (uint32_t i = threadIdx.x; i < total; i += kThreads) {
        const Key key = s.list[i];
        s.list[i] = key_of(penalised(logit_of(key), step, s.tally.newest[i], s.tally.count[i], s.tally.faded[i]), token_of(key));
    }
    __syncthreads();
    sort_list(s, total);
}

__device__ __forceinline__ void release_helpers(Launch& l) {
    if (threadIdx.x == 0) *reinterpret_cast<volatile unsigned long long*>(&l.control->turn) = static_cast<unsigned long long>(l.shared.serial + 1) << 32;
}

// The same for a list of at most 128 and no penalties, within one warp: four a lane. `size` and `all` as below.
__device__ inline uint32_t draw_from_short_list(Launch& l, uint32_t first, uint32_t size, double all) {
    Shared& s = l.shared;
    const uint32_t at = 4 * (threadIdx.x & 31);
    const float largest = logit_of(s.sorted[0]);
    float v[4];
    for (uint32_t j = 0; j < 4; j++) v[j] = at + j < size ? logit_of(s.sorted[at + j]) : minus_infinity();
    uint32_t kept = size;
    double mass[4];
    const auto masses = [&](double scale) {
        for (uint32_t j = 0; j < 4; j++) mass[j] = at + j < kept ? static_cast<double>(weigh(v[j], largest, static_cast<float>(scale))) : 0;
        return warp_scan((mass[0] + mass[1]) + (mass[2] + mass[3]), 32);
    };
    const auto pick_at = [&](double sums, double target, bool strict) {
        const double up = __shfl_up_sync(kAll, sums, 1);
        return warp_pick(mass, at ? up : 0, target, strict, at);
    };
    for (uint32_t i = first; s.chain.step[i].kind != SampleKind::Draw; i++) {
        const SampleStep& step = s.chain.step[i];
        if (step.kind == SampleKind::Largest) {
            kept = 1;
        } else if (step.kind == SampleKind::TopK) {
            kept = min(kept, step.count);
        } else if (step.kind == SampleKind::TopP) {
            const double sums = masses(step.scale), total = __shfl_sync(kAll, sums, 31);
            const double target = (all > 0 ? all : total) * static_cast<double>(step.value);
            if (all > 0 && total < target) return kNone;
            all = 0;
            const Pick pick = pick_at(sums, target, false);
            if (pick.index < kept) kept = pick.index + 1;
        } else {
            const float bound = just_below(static_cast<double>(largest) + step.offset);
            uint32_t above = 0;
            for (uint32_t j = 0; j < 4; j++) above += at + j < kept && v[j] > bound;
            kept = warp_sum_u32(above);
        }
    }
    const Key cut = s.sorted[kept - 1];
    if (kept == 1) return token_of(cut);
    for (uint32_t j = 0; j < 4; j++) v[j] = at + j < size && s.list[at + j] >= cut ? logit_of(s.list[at + j]) : minus_infinity();
    kept = size;
    const double sums = masses(s.chain.scale);
    const Pick pick = pick_at(sums, s.uniform * __shfl_sync(kAll, sums, 31), true);
    return token_of(s.list[pick.index != kNone ? pick.index : pick.last]);
}

// The steps from `first` on, and the draw. all > 0: what the whole row weighs, of which the first step, a TopP, keeps a share; kNone if
// the list doesn't weigh as much.
__device__ inline uint32_t draw_from_list(Launch& l, uint32_t first, uint32_t size, double all) {
    Shared& s = l.shared;
    if (all == 0) release_helpers(l);
    sort_list(s, size);
    if (size <= 128 && !s.chain.late) {
        if (threadIdx.x < 32) {
            const uint32_t token = draw_from_short_list(l, first, size, all);
            if (threadIdx.x == 0) s.token = token;
        }
        if (all == 0) return threadIdx.x == 0 ? s.token : 0;  // nobody else asks
        __syncthreads();
        return s.token;
    }
    float largest = logit_of(s.sorted[0]);
    uint32_t kept = size;
    for (uint32_t i = first; s.chain.step[i].kind != SampleKind::Draw && kept > 0; i++) {
        const SampleStep& step = s.chain.step[i];
        if (step.kind == SampleKind::Largest) return token_of(s.sorted[0]);
        if (step.kind == SampleKind::TopK) {
            kept = min(kept, step.count);
        } else if (step.kind == SampleKind::TopP) {
            double mass[4], total;
            for (uint32_t j = 0; j < 4; j++) {
                const uint32_t at = 4 * threadIdx.x + j;
                mass[j] = at < kept ? static_cast<double>(weigh(logit_of(s.sorted[at]), largest, static_cast<float>(step.scale))) : 0;
            }
            const double before = block_scan((mass[0] + mass[1]) + (mass[2] + mass[3]), s.scan, l.turn, &total);
            const double target = (all > 0 ? all : total) * static_cast<double>(step.value);
            if (all > 0) {
                if (total < target) return kNone;
                release_helpers(l);
                all = 0;
            }
            const Pick pick = block_pick(mass, before, target, false, s.pick, l.turn);
            if (pick.index < kept) kept = pick.index + 1;
        } else if (step.kind == SampleKind::MinP) {
            const float bound = just_below(static_cast<double>(largest) + step.offset);
            uint32_t low = 1, high = kept;  // the largest always stays
            while (low < high) {
                const uint32_t middle = (low + high) / 2;
                if (logit_of(s.sorted[middle]) > bound) low = middle + 1;
                else high = middle;
            }
            kept = low;
        } else {
            penalise_list(l, step, size, kept);
            kept = size;
            largest = logit_of(s.sorted[0]);
        }
    }
    const Key cut = s.sorted[kept - 1];
    if (kept == 1) return token_of(cut);
    const float scale = static_cast<float>(s.chain.scale);
    double mass[4], total;
    for (uint32_t j = 0; j < 4; j++) {
        const uint32_t at = 4 * threadIdx.x + j;
        mass[j] = at < size && s.list[at] >= cut ? static_cast<double>(weigh(logit_of(s.list[at]), largest, scale)) : 0;
    }
    const double before = block_scan((mass[0] + mass[1]) + (mass[2] + mass[3]), s.scan, l.turn, &total);
    const Pick pick = block_pick(mass, before, s.uniform * total, true, s.pick, l.turn);
    return token_of(s.list[pick.index != kNone ? pick.index : pick.last]);
}

}  // namespace pith::cuda::sample
