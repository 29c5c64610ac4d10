// What the blocks of the sampling kernel share: in the workspace, and within a block.
#pragma once
#include "sample_parts.cuh"

namespace pith::cuda::sample {

inline constexpr uint32_t kMaxTurns = 128;  // passes over the whole row that one draw may take, at most six a step

// A pass over the whole row that every block helps with, a slice at a time.
enum class Pass : uint32_t {
    Count,     // histogram of what is kept: one each
    Weigh,     // histogram of what is kept: weights
    Equal,     // how many of each slice are kept and have the order `prefix`
    Sum,       // masses of runs of 128
    Penalise,  // the row with a penalty applied, -inf where not kept; its groups and slices anew
};
struct alignas(16) Work {
    Pass pass;
    uint32_t shift, prefix;  // Count, Weigh: bins are order >> shift of what has order >> shift >> kBinBits (10 bits last) == prefix
    uint32_t from_row;       // 1: the workspace's row, else the logits
    Key cut;                 // kept: keys from here on
    float largest, scale;
    uint32_t step, reserved[3];
};

// The head of the workspace. All zero at first.
struct Control {
    uint32_t arrived;
    uint32_t serial;              // launches that have ended
    uint32_t nan, infinite;       // ~index of the first
    unsigned long long turn;      // serial << 32 | the pass to help with, from 1; another serial: the launch is over
    Work work;
    uint32_t tasks[2][kMaxTurns], finished[2][kMaxTurns];  // of even and odd launches: slices taken and done of each pass
};
static_assert(sizeof(Control) <= kSampleControlBytes);

// Occurrences of up to 2048 things in a window.
struct Tally {
    uint32_t newest[kSampleSlice];  // age; kNone: none
    uint32_t count[kSampleSlice];
    uint32_t faded[kSampleSlice];  // ages past the window, summed up
};

struct Shared {
    SampleChain chain;
    SampleHistory history;
    Key list[kListSize];  // by id
    union {
        Key sorted[kListSize];  // by rank
        unsigned long long bins[2];
        struct {
            uint32_t low[kSampleBins], high[kSampleBins];
        } halves;
        uint32_t counts[kThreads];
        struct {
            uint32_t groups[kListSize], votes[kListSize];
        } picked;
        Tally tally;
    };
    ScanSpace scan;
    PickSpace pick;
    Key best[2][kWarps];
    uint32_t words[kWarps];
    Work work;
    double uniform;
    uint32_t serial, flag, token;
    double number;
};

// What a block knows of the launch, in registers.
struct Launch {
    const SampleArgs& args;
    Shared& shared;
    Control* control;
    float* row;
    float* groups;
    float* sums;
    Key* slices;
    double* masses;
    unsigned long long* histogram;
    uint32_t n;          // ids that can be drawn
    uint32_t slice_count;
    uint32_t turn;       // of the block's scans
};

// Four logits from `first` on, -inf past the end.
__device__ __forceinline__ float4 load_four(const float* from, uint32_t first, uint32_t n) {
    const float none = minus_infinity();
    float4 v = make_float4(none, none, none, none);
    if (first + 4 <= n && (reinterpret_cast<uintptr_t>(from) & 15) == 0) return __ldcg(reinterpret_cast<const float4*>(from + first));
    if (first < n) v.x = __ldcg(from + first);
    if (first + 1 < n) v.y = __ldcg(from + first + 1);
    if (first + 2 < n) v.z = __ldcg(from + first + 2);
    if (first + 3 < n) v.w = __ldcg(from + first + 3);
    return v;
}

// The best key of the block, known to every thread.
__device__ __forceinline__ Key block_best(Key key, Launch& l) {
    Key* bests = l.shared.best[l.turn];
    l.turn ^= 1;
    const Key best = warp_best(key);
    if ((threadIdx.x & 31) == 0) bests[threadIdx.x / 32] = best;
    __syncthreads();
    return warp_best(bests[threadIdx.x % kWarps]);
}

// ---- penalties ---------------------------------------------------------------------------------------------------------------------------

// Each thread its own four.
__device__ __forceinline__ void clear_tally(Tally& tally) {
    static_assert(kSampleSlice == 4 * kThreads);
    reinterpret_cast<uint4*>(tally.newest)[threadIdx.x] = make_uint4(kNone, kNone, kNone, kNone);
    reinterpret_cast<uint4*>(tally.count)[threadIdx.x] = make_uint4(0, 0, 0, 0);
    reinterpret_cast<uint4*>(tally.faded)[threadIdx.x] = make_uint4(0, 0, 0, 0);
}

// Counts the window's tokens in a clear tally; place(token) says where, or kNone.
template <class Place>
__device__ __forceinline__ void fill_tally(Launch& l, const SampleStep& step, Place place) {
    Shared& s = l.shared;
    Tally& tally = s.tally;
    const uint32_t size = s.history.recorded < s.history.length ? static_cast<uint32_t>(s.history.recorded) : s.history.length;
    const uint32_t reach = step.window ? min(step.window + step.decay, size) : size;
    const uint32_t newest = reach ? ring_slot(s.history.recorded - 1, s.history.ring_size) : 0;
    for (uint32_t age = threadIdx.x; age < reach; age += kThreads) {
        const uint32_t token = static_cast<uint32_t>(__ldcg(l.args.ring + (newest >= age ? newest - age : newest + s.history.ring_size - age)));
        const uint32_t at = place(token);
        if (at == kNone) continue;
        atomicMin(&tally.newest[at], age);
        atomicAdd(&tally.count[at], 1u);
        if (step.window && age > step.window) atomicAdd(&tally.faded[at], age - step.window);
    }
    __syncthreads();
}

__device__ inline float penalised(float logit, const SampleStep& step, uint32_t newest, uint32_t count, uint32_t faded) {
    if (newest == kNone || logit == minus_infinity()) return logit;
    const double strength = step.window && newest > step.window ? 1 - static_cast<double>(newest - step.window) / step.decay : 1;
    const double total = faded ? static_cast<double>(count) - static_cast<double>(faded) / step.decay : static_cast<double>(count);
    const double divisor = __dadd_rn(1, __dmul_rn(step.repetition - 1, strength));
    const double x = step.scale == 1 ? static_cast<double>(logit) : __dmul_rn(static_cast<double>(logit), step.scale);
    const double scaled = x > 0 ? x / divisor : __dmul_rn(x, divisor);
    double result = __dadd_rn(__dadd_rn(scaled, -__dmul_rn(step.presence, strength)), -__dmul_rn(step.frequency, total));
    if (step.scale != 1) result /= step.scale;
    const double most = static_cast<double>(__uint_as_float(0x7f7fffffu));
    return __double2float_rn(fmin(fmax(result, -most), most));
}

// The tally is clear before and after.
__device__ __forceinline__ void penalise_slice(Launch& l, const SampleStep& step, uint32_t low, float4& v) {
    fill_tally(l, step, [&](uint32_t token) { return token - low < kSampleSlice ? token - low : kNone; });
    Tally& tally = l.shared.tally;
    const uint4 newest = reinterpret_cast<const uint4*>(tally.newest)[threadIdx.x];
    if ((newest.x & newest.y & newest.z & newest.w) != kNone) {
        const uint4 count = reinterpret_cast<const uint4*>(tally.count)[threadIdx.x], faded = reinterpret_cast<const uint4*>(tally.faded)[threadIdx.x];
        v.x = penalised(v.x, step, newest.x, count.x, faded.x);
        v.y = penalised(v.y, step, newest.y, count.y, faded.y);
        v.z = penalised(v.z, step, newest.z, count.z, faded.z);
        v.w = penalised(v.w, step, newest.w, count.w, faded.w);
        clear_tally(tally);
    }
    // Whoever counts next does so behind a barrier: note_slice has one, and so has the loop over penalties.
}

// Remembers a slice's groups and best key; returns the best, known to every thread.
__device__ __forceinline__ Key note_slice(Launch& l, uint32_t slice, const float4& v) {
    const uint32_t first = slice * kSampleSlice + 4 * threadIdx.x;
    float most = fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w));
    Key key = key_of(most, first + (v.x == most ? 0 : v.y == most ? 1 : v.z == most ? 2 : 3));
    for (uint32_t m = 1; m < 8; m *= 2) most = fmaxf(most, __shfl_xor_sync(kAll, most, m));
    if ((threadIdx.x & 7) == 0) __stcg(l.groups + first / kSampleGroup, most);
    key = block_best(key, l);
    if (threadIdx.x == 0) __stcg(l.slices + slice, key);
    return key;
}

}  // namespace pith::cuda::sample
