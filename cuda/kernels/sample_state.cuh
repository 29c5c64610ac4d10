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
    uint32_t serial;          // launches that have ended
    uint32_t nan, infinite;   // ~index of the first
    unsigned long long turn;  // serial << 32 | the pass to help with, from 1; another serial: the launch is over
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
    Key list[kListSize];  // in no order
    union {
        Key sorted[kListSize];  // by rank
        unsigned long long bins[2];
        struct {
            uint32_t low[kSampleBins], high[kSampleBins];
        } halves;
        uint32_t picked[kSampleMaxVocab / kSampleGroup];
        Tally tally;
    };
    Key by_id[kShortList];
    uint32_t picks, size;  // entries of picked and list
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
    uint32_t n;  // ids that can be drawn
    uint32_t slice_count;
    uint32_t turn;  // of the block's scans
};

// Four logits from `first` on, -inf past the end.
__device__ __noinline__ float4 load_four_singly(const float* from, uint32_t first, uint32_t n) {
    const float none = minus_infinity();
    float4 v;
    v.x = first < n ? __ldcg(from + first) : none;
    v.y = first + 1 < n ? __ldcg(from + first + 1) : none;
    v.z = first + 2 < n ? __ldcg(from + first + 2) : none;
    v.w = first + 3 < n ? __ldcg(from + first + 3) : none;
    return v;
}
__device__ __forceinline__ float4 load_four(const float* from, uint32_t first, uint32_t n) {
    if (first + 4 <= n && (reinterpret_cast<uintptr_t>(from) & 15) == 0) return __ldcg(reinterpret_cast<const float4*>(from + first));
    if (first >= n) return make_float4(minus_infinity(), minus_infinity(), minus_infinity(), minus_infinity());
    return load_four_singly(from, first, n);
}

// The best key of the block, known to every thread, from each warp's.
__device__ __forceinline__ Key block_best(Key best, Launch& l) {
    Key* bests = l.shared.best[l.turn];
    l.turn ^= 1;
    if ((threadIdx.x & 31) == 0) bests[threadIdx.x / 32] = best;
    __syncthreads();
    return warp_best(bests[threadIdx.x % kWarps]);
}

// ---- penalties
// ---------------------------------------------------------------------------------------------------------------------------

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
#pragma unroll 2
    for (uint32_t age = threadIdx.x; age < reach; age += kThreads) {
        const uint32_t token =
            static_cast<uint32_t>(__ldcg(l.args.ring + (newest >= age ? newest - age : newest + s.history.ring_size - age)));
        const uint32_t at = place(token);
        if (at == kNone) continue;
        atomicMin(&tally.newest[at], age);
        atomicAdd(&tally.count[at], 1u);
        if (step.window && age > step.window) atomicAdd(&tally.faded[at], age - step.window);
    }
    __syncthreads();
}

// Called, not inlined: it is rare, and long.
__device__ __noinline__ float penalised(float logit, const SampleStep* step, uint32_t newest, uint32_t count, uint32_t faded) {
    if (logit == minus_infinity()) return logit;
    double strength = 1, total = static_cast<double>(count), divisor = step->repetition, inverse = step->inverse_repetition;
    if (step->window && newest > step->window) {
        strength = 1 - static_cast<double>(newest - step->window) / step->decay;
        divisor = 1 + (step->repetition - 1) * strength;
        inverse = 1 / divisor;
    }
    if (faded) total -= static_cast<double>(faded) / step->decay;
    const double x = static_cast<double>(logit) * step->scale;
    const double result = ((x > 0 ? x * inverse : x * divisor) - step->presence * strength - step->frequency * total) * step->inverse_scale;
    const double most = static_cast<double>(__uint_as_float(0x7f7fffffu));
    return __double2float_rn(fmin(fmax(result, -most), most));
}

// The tally is clear before and after. Whoever counts next does so behind a barrier: note_slice has one, and so has the loop over
// penalties.
__device__ __forceinline__ void penalise_slice(Launch& l, const SampleStep& step, uint32_t low, float4& v) {
    Shared& s = l.shared;
    float* logits = reinterpret_cast<float*>(s.list);
    reinterpret_cast<float4*>(logits)[threadIdx.x] = v;
    fill_tally(l, step, [&](uint32_t token) { return token - low < kSampleSlice ? token - low : kNone; });
    // Frequent tokens are neighbours: a warp takes every 512th, so that no thread has many of them.
#pragma unroll 1
    for (uint32_t at = threadIdx.x; at < kSampleSlice; at += kThreads) {
        const uint32_t newest = s.tally.newest[at];
        if (newest != kNone) logits[at] = penalised(logits[at], &step, newest, s.tally.count[at], s.tally.faded[at]);
    }
    __syncthreads();
    v = reinterpret_cast<const float4*>(logits)[threadIdx.x];
    clear_tally(s.tally);
}

// Remembers a slice's groups, a warp each, and its best key; returns the best, known to every thread.
__device__ __forceinline__ Key note_slice(Launch& l, uint32_t slice, const float4& v) {
    const uint32_t first = slice * kSampleSlice + 4 * threadIdx.x;
    static_assert(kSampleGroup == 128);
    const float most = fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w));
    const Key best = warp_best(key_of(most, first + (v.x == most ? 0 : v.y == most ? 1 : v.z == most ? 2 : 3)));
    if ((threadIdx.x & 31) == 0) __stcg(l.groups + first / kSampleGroup, logit_of(best));
    const Key all = block_best(best, l);
    if (threadIdx.x == 0) __stcg(l.slices + slice, all);
    return all;
}

}  // namespace pith::cuda::sample
