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

// Lists by id what `keep` says of (logit, token), looking only into groups whose largest logit `open` agrees to; how many, or kNone if the
// list can't hold them.
template <class Open, class Keep>
__device__ __forceinline__ uint32_t gather(Launch& l, uint32_t from_row, const Groups& g, Open open, Keep keep) {
    Shared& s = l.shared;
    const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x / 32;
    uint32_t mask = 0;
#pragma unroll
    for (uint32_t j = 0; j < 16; j++)
        if (g.most[j] > minus_infinity() && open(g.most[j])) mask |= 1u << j;
    uint32_t total;
    uint32_t at = block_scan(static_cast<uint32_t>(__popc(mask)), s.scan, l.turn, &total);
    if (total > kListSize) return kNone;
    for (; mask; mask &= mask - 1) s.picked.groups[at++] = threadIdx.x * g.each + __ffs(static_cast<int>(mask)) - 1;
    __syncthreads();
    const float* from = from_row ? l.row : l.args.logits;
    uint32_t size = 0;
    for (uint32_t start = 0; start < total; start += 4 * kWarps) {
        float v[4];
        uint32_t first[4], votes[4], count = 0;
        for (uint32_t j = 0; j < 4; j++) {
            const uint32_t i = start + 4 * warp + j;
            first[j] = i < total ? s.picked.groups[i] * kSampleGroup + lane : kNone;
            v[j] = first[j] < l.n ? __ldcg(from + first[j]) : minus_infinity();
        }
        for (uint32_t j = 0; j < 4; j++) {
            votes[j] = __ballot_sync(kAll, v[j] > minus_infinity() && keep(v[j], first[j]));
            count += __popc(votes[j]);
        }
        uint32_t here;
        const uint32_t before = block_scan(lane == 0 ? count : 0, s.scan, l.turn, &here);
        uint32_t to = size + __shfl_sync(kAll, before, 0);
        for (uint32_t j = 0; j < 4; j++) {
            const uint32_t place = to + __popc(votes[j] & ((1u << lane) - 1));
            if (votes[j] >> lane & 1 && place < kListSize) s.list[place] = key_of(v[j], first[j]);
            to += __popc(votes[j]);
        }
        size += here;
    }
    __syncthreads();
    return size > kListSize ? kNone : size;
}

// A superset of the k best, not much larger: groups are binned by how far they lie below the largest, and k groups have k candidates.
__device__ inline uint32_t gather_top(Launch& l, const Row& row, const Groups& g, uint32_t k) {
    Shared& s = l.shared;
    float most = minus_infinity();
#pragma unroll
    for (uint32_t j = 0; j < 16; j++) most = fmaxf(most, g.most[j]);
    const uint32_t lowest = ~warp_max_u32(most > minus_infinity() ? ~order_of(most) : 0);
    if ((threadIdx.x & 31) == 0) s.words[threadIdx.x / 32] = lowest;
    s.counts[threadIdx.x] = 0;
    __syncthreads();
    const float low = value_of(~warp_max_u32(~s.words[threadIdx.x % kWarps])), half = 0.5f * row.largest;
    const float steps = fminf((kThreads - 1) / (half - 0.5f * low), __uint_as_float(0x7f7fffffu));
    const auto bin_of = [&](float v) {  // falls as v grows; what lies below `low` shares the last
        const float bin = (half - 0.5f * v) * steps;
        return bin < static_cast<float>(kThreads - 1) ? static_cast<uint32_t>(bin) : kThreads - 1;
    };
#pragma unroll
    for (uint32_t j = 0; j < 16; j++)
        if (g.most[j] > minus_infinity()) atomicAdd(&s.counts[bin_of(g.most[j])], 1u);
    __syncthreads();
    const uint32_t mine = s.counts[threadIdx.x];
    uint32_t total;
    const uint32_t before = block_scan(mine, s.scan, l.turn, &total);
    if (total < k && threadIdx.x == 0) s.flag = kThreads - 1;
    if (before < k && k <= before + mine) s.flag = threadIdx.x;
    __syncthreads();
    const uint32_t last = s.flag;
    return gather(l, row.from_row, g, [&](float v) { return bin_of(v) <= last; }, [&](float v, uint32_t) { return bin_of(v) <= last; });
}

// The list by rank.
__device__ inline void sort_list(Shared& s, uint32_t size) {
    const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x / 32;
    __syncthreads();
    if (size <= 256) {  // each key counts those before it
        for (uint32_t i = warp; i < size; i += kWarps) {
            const Key key = s.list[i];
            uint32_t rank = 0;
            for (uint32_t j = lane; j < size; j += 32) rank += s.list[j] > key;
            rank = warp_sum_u32(rank);
            if (lane == 0) s.sorted[rank] = key;
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
    sort_list(s, total);
}

__device__ __forceinline__ void release_helpers(Launch& l) {
    if (threadIdx.x == 0) *reinterpret_cast<volatile unsigned long long*>(&l.control->turn) = static_cast<unsigned long long>(l.shared.serial + 1) << 32;
}

// The steps from `first` on, and the draw. all > 0: what the whole row weighs, of which the first step, a TopP, keeps a share; kNone if
// the list doesn't weigh as much.
__device__ inline uint32_t draw_from_list(Launch& l, uint32_t first, uint32_t size, double all) {
    Shared& s = l.shared;
    sort_list(s, size);
    if (all == 0) release_helpers(l);
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
