// Passes over a whole row for steps that keep more than a list holds: the last block to arrive leads, the others help while they last.
//
// A pass is cut into slices; a slice's result doesn't depend on who computes it, so neither does the draw. Helpers wait for work only for
// a bounded time, and the leader does what nobody takes, so that no block ever depends on another's being scheduled.
#pragma once
#include "sample_state.cuh"

namespace pith::cuda::sample {

inline constexpr long long kHelpClocks = 60000;  // how long a helper waits for the next pass

__device__ __forceinline__ bool in_bin(const Work& work, uint32_t order, uint32_t* bin) {
    // Bins of 11, 11 and 10 bits from the top: shifts 21, 10 and 0.
    const uint32_t bits = work.shift ? 11 : 10;
    *bin = order >> work.shift & ((1u << bits) - 1);
    return work.shift == 21 || order >> work.shift >> bits == work.prefix;
}

__device__ inline void histogram_slice(Launch& l, const Work& work, const float (&v)[4], uint32_t first) {
    Shared& s = l.shared;
    // Two words a bin, 20 bits in the low one: 2048 of the largest weight, 2^40, fill neither.
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < kSampleBins; i += kThreads) s.halves.low[i] = s.halves.high[i] = 0;
    __syncthreads();
    for (uint32_t j = 0; j < 4; j++) {
        uint32_t bin;
        if (key_of(v[j], first + j) < work.cut || !in_bin(work, order_of(v[j]), &bin)) continue;
        const unsigned long long weight = work.pass == Pass::Count ? 1 : fixed_weight(weigh(v[j], work.largest, work.scale));
        const uint32_t low = static_cast<uint32_t>(weight) & 0xfffff, high = static_cast<uint32_t>(weight >> 20);
        if (low) atomicAdd(&s.halves.low[bin], low);
        if (high) atomicAdd(&s.halves.high[bin], high);
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < kSampleBins; i += kThreads) {
        const unsigned long long sum = (static_cast<unsigned long long>(s.halves.high[i]) << 20) + s.halves.low[i];
        if (sum) atomicAdd(&l.histogram[i], sum);
    }
}

__device__ __noinline__ void do_slice(Launch l, uint32_t slice) {
    const Work& work = l.shared.work;
    const uint32_t first = slice * kSampleSlice + 4 * threadIdx.x;
    float4 four = load_four(work.from_row ? l.row : l.args.logits, first, l.n);
    float v[4] = {four.x, four.y, four.z, four.w};
    if (work.pass == Pass::Count || work.pass == Pass::Weigh) return histogram_slice(l, work, v, first);
    if (work.pass == Pass::Equal) {
        uint32_t count = 0, total;
        for (uint32_t j = 0; j < 4; j++) count += key_of(v[j], first + j) >= work.cut && order_of(v[j]) == work.prefix;
        block_scan(count, l.shared.scan, l.turn, &total);
        if (threadIdx.x == 0) __stcg(l.histogram + slice, static_cast<unsigned long long>(total));
        return;
    }
    if (work.pass == Pass::Sum) {
        float mass = 0;
        for (uint32_t j = 0; j < 4; j++)
            if (key_of(v[j], first + j) >= work.cut) mass += weigh(v[j], work.largest, work.scale);
        mass = warp_sum(mass);
        if ((threadIdx.x & 31) == 0) __stcg(l.masses + first / 128, static_cast<double>(mass));
        return;
    }
    for (uint32_t j = 0; j < 4; j++)
        if (key_of(v[j], first + j) < work.cut) v[j] = minus_infinity();
    four = make_float4(v[0], v[1], v[2], v[3]);
    clear_tally(l.shared.tally);
    __syncthreads();
    penalise_slice(l, l.shared.chain.step[work.step], slice * kSampleSlice, four);
    __stcg(reinterpret_cast<float4*>(l.row + first), four);
    note_slice(l, slice, four);
}

__device__ inline void do_slices(Launch& l, uint32_t turn) {
    Shared& s = l.shared;
    const uint32_t set = s.serial & 1;
    for (;;) {
        __syncthreads();
        if (threadIdx.x == 0) s.flag = atomicAdd(&l.control->tasks[set][turn], 1u);
        __syncthreads();
        const uint32_t slice = s.flag;
        if (slice >= l.slice_count) return;
        do_slice(l, slice);
        __syncthreads();
        if (threadIdx.x == 0) add_acquire_release(&l.control->finished[set][turn], 1);
    }
}

// For the blocks that aren't the last to arrive. (A call, with copies: the common paths keep their registers.)
__device__ __noinline__ void help(Launch l) {
    Shared& s = l.shared;
    uint32_t done = 0;
    for (;;) {
        __syncthreads();
        if (threadIdx.x == 0) {
            const long long start = clock64();
            uint32_t turn = 0;
            for (;;) {
                const unsigned long long now = load_acquire(&l.control->turn);
                if (static_cast<uint32_t>(now >> 32) != s.serial || clock64() - start > kHelpClocks) break;
                if (static_cast<uint32_t>(now) > done) {
                    turn = static_cast<uint32_t>(now);
                    break;
                }
                __nanosleep(40);
            }
            s.token = turn;
            if (turn) {
                const uint4* from = reinterpret_cast<const uint4*>(&l.control->work);
                for (uint32_t i = 0; i < sizeof(Work) / 16; i++) reinterpret_cast<uint4*>(&s.work)[i] = __ldcg(from + i);
            }
        }
        __syncthreads();
        if (s.token == 0) return;
        done = s.token;
        do_slices(l, done);
    }
}

// The leader: one pass with whoever helps, until all of it is done. shared.work says what; `done` counts passes.
__device__ inline void run_pass(Launch& l, uint32_t& done) {
    Shared& s = l.shared;
    done++;
    __syncthreads();
    if (threadIdx.x == 0) {
        l.control->work = s.work;
        __threadfence();
        atomicExch(&l.control->turn, static_cast<unsigned long long>(s.serial) << 32 | done);
    }
    do_slices(l, done);
    if (threadIdx.x == 0) {
        volatile uint32_t* finished = &l.control->finished[s.serial & 1][done];
        while (*finished < l.slice_count) __nanosleep(20);
        __threadfence();
    }
    __syncthreads();
}

// ---- what the leader does with them
// ------------------------------------------------------------------------------------------------------

struct Row {
    Key cut;  // kept: keys from here on
    float largest;
    uint32_t from_row;
};

__device__ inline void set_work(Launch& l, Pass pass, const Row& row, double scale, uint32_t shift, uint32_t prefix, uint32_t step) {
    __syncthreads();
    if (threadIdx.x == 0) l.shared.work = {pass, shift, prefix, row.from_row, row.cut, row.largest, static_cast<float>(scale), step, {}};
    __syncthreads();
}

// Four bins a thread, the greatest orders first; the histogram is zero again afterwards.
__device__ inline void take_bins(Launch& l, unsigned long long (&bins)[4]) {
    for (uint32_t j = 0; j < 4; j++) {
        unsigned long long* bin = l.histogram + (kSampleBins - 1 - (4 * threadIdx.x + j));
        bins[j] = __ldcg(bin);
        __stcg(bin, 0ull);
    }
}

// Narrows `row` to the best that reach the target together: `count` of them, or the share p of the weight.
__device__ inline void keep_best(Launch& l, Row& row, const SampleStep& step, uint32_t& done) {
    Shared& s = l.shared;
    const Pass pass = step.kind == SampleKind::TopK ? Pass::Count : Pass::Weigh;
    unsigned long long target = step.count, before = 0, at_order = 0;
    uint32_t prefix = 0;
    for (uint32_t level = 0; level < 3; level++) {
        const uint32_t shift = level == 0 ? 21 : level == 1 ? 10 : 0;
        set_work(l, pass, row, step.scale, shift, prefix, 0);
        run_pass(l, done);
        unsigned long long bins[4], total;
        take_bins(l, bins);
        unsigned long long sum = before + block_scan(bins[0] + bins[1] + bins[2] + bins[3], s.scan, l.turn, &total);
        if (level == 0) {
            if (pass == Pass::Weigh)
                target = static_cast<unsigned long long>(ceil(static_cast<double>(total) * static_cast<double>(step.value)));
            if (target >= total && pass == Pass::Count) return;
            if (target > total) target = total;
        }
        for (uint32_t j = 0; j < 4; j++) {  // exactly one bin of one thread has it
            if (sum < target && target <= sum + bins[j]) {
                s.flag = kSampleBins - 1 - (4 * threadIdx.x + j);
                s.bins[0] = sum;
                s.bins[1] = bins[j];
            }
            sum += bins[j];
        }
        __syncthreads();
        prefix = prefix << (shift ? 11 : 10) | s.flag;
        before = s.bins[0];
        at_order = s.bins[1];
        __syncthreads();
    }
    const unsigned long long weight =
        pass == Pass::Count ? 1 : fixed_weight(weigh(value_of(prefix), row.largest, static_cast<float>(step.scale)));
    const unsigned long long wanted = (target - before + weight - 1) / weight;
    const Key any = static_cast<Key>(prefix) << 32;
    if (wanted * weight >= at_order) {
        row.cut = any > row.cut ? any : row.cut;
        return;
    }
    // Only some of those with this very logit: the first by id.
    set_work(l, Pass::Equal, row, step.scale, 0, prefix, 0);
    run_pass(l, done);
    unsigned long long here = threadIdx.x < l.slice_count ? __ldcg(l.histogram + threadIdx.x) : 0, total;
    if (threadIdx.x < l.slice_count) __stcg(l.histogram + threadIdx.x, 0ull);
    const unsigned long long earlier = block_scan(here, s.scan, l.turn, &total);
    if (earlier < wanted && wanted <= earlier + here) {
        s.flag = threadIdx.x;
        s.bins[0] = wanted - earlier;
    }
    __syncthreads();
    const uint32_t first = s.flag * kSampleSlice + 4 * threadIdx.x, in_slice = static_cast<uint32_t>(s.bins[0]);
    const float4 four = load_four(row.from_row ? l.row : l.args.logits, first, l.n);
    const float v[4] = {four.x, four.y, four.z, four.w};
    uint32_t count = 0, all;
    for (uint32_t j = 0; j < 4; j++) count += key_of(v[j], first + j) >= row.cut && order_of(v[j]) == prefix;
    uint32_t sum = block_scan(count, s.scan, l.turn, &all);
    for (uint32_t j = 0; j < 4; j++) {
        if (!(key_of(v[j], first + j) >= row.cut && order_of(v[j]) == prefix)) continue;
        if (++sum == in_slice) s.bins[0] = key_of(v[j], first + j);
    }
    __syncthreads();
    row.cut = s.bins[0];
    __syncthreads();
}

// The token of the run of 128 at `run`, `rest` of the weight into it.
__device__ inline uint32_t draw_in_run(Launch& l, const Row& row, float scale, uint32_t run, double rest) {
    const uint32_t first = run * 128 + 4 * (threadIdx.x & 31);
    const float4 four = load_four(row.from_row ? l.row : l.args.logits, first, l.n);
    const float v[4] = {four.x, four.y, four.z, four.w};
    double mass[4];
    for (uint32_t j = 0; j < 4; j++)
        mass[j] = key_of(v[j], first + j) >= row.cut ? static_cast<double>(weigh(v[j], row.largest, scale)) : 0;
    const double sum = (mass[0] + mass[1]) + (mass[2] + mass[3]);
    const double inclusive = warp_scan(sum, 32);
    double before = __shfl_up_sync(kAll, inclusive, 1);
    if ((threadIdx.x & 31) == 0) before = 0;
    const Pick pick = warp_pick(mass, before, rest, true, first);
    return pick.index != kNone ? pick.index : pick.last;
}

// Draws from the masses of runs, four a thread.
__device__ inline uint32_t draw_from_runs(Launch& l, const Row& row, const double (&mass)[4], float scale) {
    Shared& s = l.shared;
    double total;
    const double before = block_scan((mass[0] + mass[1]) + (mass[2] + mass[3]), s.scan, l.turn, &total);
    const double target = s.uniform * total;
    const Pick pick = block_pick(mass, before, target, true, s.pick, l.turn);
    const uint32_t run = pick.index != kNone ? pick.index : pick.last;
    const double rest = pick.index != kNone ? fmax(target - pick.before, 0.0) : total;
    return draw_in_run(l, row, scale, run, rest);
}

__device__ inline uint32_t draw_kept(Launch& l, const Row& row, double scale, uint32_t& done) {
    set_work(l, Pass::Sum, row, scale, 0, 0, 0);
    run_pass(l, done);
    double mass[4];
    const uint32_t runs = (l.n + 127) / 128;
    for (uint32_t j = 0; j < 4; j++) mass[j] = 4 * threadIdx.x + j < runs ? __ldcg(l.masses + 4 * threadIdx.x + j) : 0;
    return draw_from_runs(l, row, mass, static_cast<float>(scale));
}

}  // namespace pith::cuda::sample
