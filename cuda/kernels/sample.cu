// The sampling kernel. Every block takes a slice of the row: penalties, its largest logits, its weights. The last to arrive decides: the
// largest logit, or a draw from the slices' weights, or a list of what the first step keeps (sample_list.cuh), or, where that is too long,
// passes over the row that all blocks help with (sample_passes.cuh).
#include "sample_list.cuh"

namespace pith::cuda::sample {

inline constexpr uint32_t kTopFromGroups = 1024;  // a larger k takes passes over the row

__device__ __forceinline__ SampleKind first_kind(const Shared& s) { return s.chain.step[s.chain.prefix].kind; }

// Copies what the launch depends on; every block does.
__device__ __forceinline__ void load_state(Launch& l) {
    Shared& s = l.shared;
    static_assert(sizeof(SampleChain) % 8 == 0 && sizeof(SampleChain) / 8 <= kThreads);
    const unsigned long long* chain = reinterpret_cast<const unsigned long long*>(l.args.chain);
    if (threadIdx.x < sizeof(SampleChain) / 8) reinterpret_cast<unsigned long long*>(&s.chain)[threadIdx.x] = __ldcg(chain + threadIdx.x);
    if (threadIdx.x >= kThreads - 2) {
        const uint32_t i = threadIdx.x - (kThreads - 2);
        reinterpret_cast<unsigned long long*>(&s.history)[i] = __ldcg(reinterpret_cast<const unsigned long long*>(l.args.history) + i);
    }
    if (threadIdx.x == kThreads - 3) s.serial = __ldcg(&l.control->serial);
    __syncthreads();
}

// Whether more is kept than a list holds, so that helpers should wait: maybe after top-p and min-p, surely with a k that groups can't
// narrow down.
__device__ __forceinline__ bool passes_likely(const Launch& l) {
    const SampleStep& step = l.shared.chain.step[l.shared.chain.prefix];
    return step.kind == SampleKind::TopP || step.kind == SampleKind::MinP ||
           (step.kind == SampleKind::TopK && (step.count > kTopFromGroups || (3 * kSampleGroup * step.count > 2 * l.n && l.n > kListSize)));
}

// NaN and +inf are remembered by the complement of their place, so that the first is the greatest.
__device__ __forceinline__ void note_bad(Launch& l, float v, uint32_t index) {
    if (v < __uint_as_float(0x7f800000u) || index >= l.n) return;
    atomicMax(isnan(v) ? &l.control->nan : &l.control->infinite, ~index);
}

__device__ __forceinline__ void scan_slice(Launch& l, uint32_t slice, float4 v) {
    Shared& s = l.shared;
    const uint32_t first = slice * kSampleSlice + 4 * threadIdx.x;
    if (first + 4 > l.n) {  // the chain may draw from fewer than there are
        if (first >= l.n) v.x = minus_infinity();
        if (first + 1 >= l.n) v.y = minus_infinity();
        if (first + 2 >= l.n) v.z = minus_infinity();
        if (first + 3 >= l.n) v.w = minus_infinity();
    }
    const float infinity = __uint_as_float(0x7f800000u);
    if (!(v.x < infinity && v.y < infinity && v.z < infinity && v.w < infinity)) {
        note_bad(l, v.x, first);
        note_bad(l, v.y, first + 1);
        note_bad(l, v.z, first + 2);
        note_bad(l, v.w, first + 3);
    }
    for (uint32_t i = 0; i < s.chain.prefix; i++) {
        if (i) __syncthreads();
        penalise_slice(l, s.chain.step[i], slice * kSampleSlice, v);
    }
    if (s.chain.prefix) __stcg(reinterpret_cast<float4*>(l.row + first), v);
    const float largest = logit_of(note_slice(l, slice, v));
    const SampleKind kind = first_kind(s);
    if (kind != SampleKind::Draw && kind != SampleKind::TopP) return;
    const float scale = static_cast<float>(s.chain.step[s.chain.prefix].scale);
    float sum = 0;
    if (largest > minus_infinity())
        sum = (weigh(v.x, largest, scale) + weigh(v.y, largest, scale)) + (weigh(v.z, largest, scale) + weigh(v.w, largest, scale));
    sum = warp_sum(sum);
    if ((threadIdx.x & 31) == 0) __stcg(l.sums + first / 128, sum);
}

// What the leader reads at once of what the blocks left.
struct Survey {
    Key best;       // of all
    float4 groups;  // for steps that list
    float low;      // the least of the threads' largest
    float4 sums;    // four runs of 128, relative to their slice's largest
    float slice;    // that
    uint32_t nan, infinite;
};

__device__ __forceinline__ void survey(Launch& l, Survey& found) {
    Shared& s = l.shared;
    const SampleKind kind = first_kind(s);
    found.nan = __ldcg(&l.control->nan);
    found.infinite = __ldcg(&l.control->infinite);
    const Key mine = threadIdx.x < l.slice_count ? __ldcg(l.slices + threadIdx.x) : 0;
    uint32_t lowest = 0;
    found.slice = minus_infinity();
    static_assert(kSampleSlice == 4 * 4 * 128);
    if ((kind == SampleKind::Draw || kind == SampleKind::TopP) && threadIdx.x / 4 < l.slice_count) {
        found.sums = __ldcg(reinterpret_cast<const float4*>(l.sums) + threadIdx.x);
        found.slice = logit_of(__ldcg(l.slices + threadIdx.x / 4));
    }
    if (kind != SampleKind::Draw && kind != SampleKind::Largest) {
        found.groups = load_groups(l);
        const float most = fmaxf(fmaxf(found.groups.x, found.groups.y), fmaxf(found.groups.z, found.groups.w));
        lowest = warp_max_u32(most > minus_infinity() ? ~order_of(most) : 0);
    }
    if (threadIdx.x == 0) s.picks = s.size = 0;
    if ((threadIdx.x & 31) == 0) s.words[threadIdx.x / 32] = lowest;
    found.best = block_best(warp_best(mine), l);
    found.low = value_of(~warp_max_u32(s.words[threadIdx.x % kWarps]));
}
static_assert(kSampleMaxVocab / kSampleSlice <= kThreads);

// The sums relative to the largest of all.
__device__ __forceinline__ void relative_sums(const Survey& found, float largest, float scale, double (&mass)[4]) {
    const bool any = found.slice > minus_infinity();
    const double factor = any ? static_cast<double>(weigh(found.slice, largest, scale)) : 0;
    mass[0] = any ? static_cast<double>(found.sums.x) * factor : 0;
    mass[1] = any ? static_cast<double>(found.sums.y) * factor : 0;
    mass[2] = any ? static_cast<double>(found.sums.z) * factor : 0;
    mass[3] = any ? static_cast<double>(found.sums.w) * factor : 0;
}

// The first step that takes tokens away, if what it leaves fits a list.
__device__ inline uint32_t draw_by_list(Launch& l, const Row& row, const Survey& found) {
    Shared& s = l.shared;
    const uint32_t at = s.chain.prefix;
    const SampleStep& step = s.chain.step[at];
    Key cut;
    double total = 0;
    if (step.kind == SampleKind::TopK) {
        if (passes_likely(l)) return kNone;
        cut = cut_below_top(l, row, found.groups, step.count, found.low);
    } else {
        double below = step.offset;
        if (step.kind == SampleKind::TopP) {  // at most 1024 can have a 1024th of the weight; mostly these are enough
            double mass[4];
            relative_sums(found, row.largest, static_cast<float>(step.scale), mass);
            block_scan((mass[0] + mass[1]) + (mass[2] + mass[3]), s.scan, l.turn, &total);
            below = static_cast<double>(logf(static_cast<float>(total / 1024))) / step.scale;
        }
        cut = cut_above(just_below(static_cast<double>(row.largest) + below));
    }
    const uint32_t size = gather(l, row.from_row, found.groups, cut);
    return size == kNone || size == 0 ? kNone : draw_from_list(l, at, size, total);
}

__device__ inline Key best_of_row(Launch& l) {
    return block_best(warp_best(threadIdx.x < l.slice_count ? __ldcg(l.slices + threadIdx.x) : 0), l);
}

// Step by step over the whole row until a list holds what is kept.
__device__ __noinline__ uint32_t draw_by_passes(Launch l, Row row) {
    Shared& s = l.shared;
    uint32_t done = 0;
    for (uint32_t i = s.chain.prefix;; i++) {
        const SampleStep& step = s.chain.step[i];
        if (step.kind == SampleKind::Draw) return draw_kept(l, row, s.chain.scale, done);
        if (step.kind == SampleKind::Penalties) {
            set_work(l, Pass::Penalise, row, step.scale, 0, 0, i);
            run_pass(l, done);
            row = {kAnyFinite, logit_of(best_of_row(l)), 1};
            continue;
        }
        if (step.kind == SampleKind::Largest) return token_of(best_of_row(l));
        if (step.kind == SampleKind::MinP) {
            const Key cut = cut_above(just_below(static_cast<double>(row.largest) + step.offset));
            row.cut = cut > row.cut ? cut : row.cut;
        } else {
            keep_best(l, row, step, done);
        }
        __syncthreads();
        if (threadIdx.x == 0) s.picks = s.size = 0;
        __syncthreads();
        const float4 groups = load_groups(l);
        const uint32_t size = gather(l, row.from_row, groups, row.cut);
        if (size != kNone) return draw_from_list(l, i + 1, size, 0);
    }
}

__device__ inline uint32_t draw(Launch& l, const Survey& found) {
    Shared& s = l.shared;
    const Key best = found.best;
    const Row row{kAnyFinite, logit_of(best), s.chain.prefix ? 1u : 0u};
    const SampleKind kind = first_kind(s);
    if (kind == SampleKind::Largest) return token_of(best);
    if (kind == SampleKind::Draw) {
        const float scale = static_cast<float>(s.chain.scale);
        double mass[4];
        relative_sums(found, row.largest, scale, mass);
        return draw_from_runs(l, row, mass, scale);
    }
    const uint32_t token = draw_by_list(l, row, found);
    return token != kNone ? token : draw_by_passes(l, row);
}

// One thread: tells the token, and leaves the workspace as the next launch expects it.
__device__ inline void conclude(Launch& l, SampleStatus status, uint32_t token, uint32_t index) {
    const SampleArgs& args = l.args;
    Shared& s = l.shared;
    if (status == SampleStatus::Ok) {
        if (args.next) *args.next = static_cast<int32_t>(token);
        if (args.record) {
            if (s.history.ring_size) args.ring[ring_slot(s.history.recorded, s.history.ring_size)] = static_cast<int32_t>(token);
            args.history->recorded = s.history.recorded + 1;
        }
    }
    const uint32_t serial = s.serial + 1;
    __stcg(reinterpret_cast<uint4*>(args.result), make_uint4(token, static_cast<uint32_t>(status), index, serial));
    l.control->arrived = 0;
    l.control->nan = l.control->infinite = 0;
    l.control->serial = serial;
    __threadfence();
    *reinterpret_cast<volatile unsigned long long*>(&l.control->turn) = static_cast<unsigned long long>(serial) << 32;
}

__device__ inline void decide(Launch& l) {
    Shared& s = l.shared;
    Survey found;
    survey(l, found);
    SampleStatus status = SampleStatus::Ok;
    uint32_t token = 0, index = 0;
    if (found.nan || found.infinite) {
        status = found.nan ? SampleStatus::Nan : SampleStatus::Infinite;
        index = found.nan ? ~found.nan : ~found.infinite;
    } else if (found.best < kAnyFinite) {
        status = SampleStatus::Nothing;
    } else {
        token = draw(l, found);
    }
    if (threadIdx.x == 0) conclude(l, status, token, index);
    const uint32_t other = (s.serial + 1) & 1;
    for (uint32_t i = threadIdx.x; i < kMaxTurns; i += kThreads) l.control->tasks[other][i] = l.control->finished[other][i] = 0;
}

}  // namespace pith::cuda::sample

extern "C" __global__ void __launch_bounds__(pith::cuda::kSampleThreads, 1)
    pith_sample(const __grid_constant__ pith::cuda::SampleArgs args) {
    using namespace pith::cuda;
    using namespace pith::cuda::sample;
    __shared__ Shared s;
    griddep_wait();
    const uint32_t first = blockIdx.x * kSampleSlice + 4 * threadIdx.x;
    const float4 v = load_four(args.logits, first, args.vocab);
    const SampleLayout at = sample_layout(args.vocab);
    char* base = static_cast<char*>(args.workspace);
    Launch l{args,
             s,
             reinterpret_cast<Control*>(base),
             reinterpret_cast<float*>(base + at.row),
             reinterpret_cast<float*>(base + at.groups),
             reinterpret_cast<float*>(base + at.sums),
             reinterpret_cast<Key*>(base + at.slices),
             reinterpret_cast<double*>(base + at.masses),
             reinterpret_cast<unsigned long long*>(base + at.histogram),
             args.vocab,
             gridDim.x,
             0};
    clear_tally(s.tally);
    load_state(l);
    l.n = min(args.vocab, s.chain.vocabulary);
    scan_slice(l, blockIdx.x, v);
    griddep_launch();
    __syncthreads();
    if (threadIdx.x == 0) s.flag = add_acquire_release(&l.control->arrived, 1);
    if (threadIdx.x == 32) s.uniform = philox_uniform(s.chain.seed, s.history.recorded);
    __syncthreads();
    if (s.flag == gridDim.x - 1) {
        decide(l);
    } else if (passes_likely(l)) {
        help(l);
    }
}
