// What the sampling kernel is made of: keys that order logits, weights, random numbers, and scans over a block of kSampleThreads.
#pragma once
#include <stdint.h>

#include "device.cuh"
#include "sample.h"

namespace pith::cuda::sample {

inline constexpr uint32_t kThreads = kSampleThreads, kWarps = kThreads / 32, kAll = 0xffffffffu;
inline constexpr uint32_t kListSize = 2048;  // four to a thread
inline constexpr uint32_t kShortList = 128;  // four to a lane
inline constexpr uint32_t kNone = 0xffffffffu;

// ---- keys
// --------------------------------------------------------------------------------------------------------------------------------

// Unsigned integers in the order of the floats; both zeros are one.
__device__ __forceinline__ uint32_t order_of(float v) {
    const uint32_t bits = __float_as_uint(__fadd_rn(v, 0.0f));
    return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}
__device__ __forceinline__ float value_of(uint32_t order) { return __uint_as_float(order >> 31 ? order ^ 0x80000000u : ~order); }

// A token with its logit: a greater key ranks before, and of equal logits the lower id.
using Key = unsigned long long;
__device__ __forceinline__ Key key_of(float logit, uint32_t token) {
    return static_cast<Key>(order_of(logit)) << 32 | static_cast<uint32_t>(~token);
}
__device__ __forceinline__ uint32_t token_of(Key key) { return ~static_cast<uint32_t>(key); }
__device__ __forceinline__ float logit_of(Key key) { return value_of(static_cast<uint32_t>(key >> 32)); }

inline constexpr Key kAnyFinite = static_cast<Key>(0x00800000u) << 32;  // above -inf whatever the token

// Where in a ring an element lies; place is below 2^32 but for texts of billions of tokens.
__device__ __forceinline__ uint32_t ring_slot(uint64_t place, uint32_t size) {
    return place >> 32 ? static_cast<uint32_t>(place % size) : static_cast<uint32_t>(place) % size;
}

__device__ __forceinline__ float minus_infinity() { return __uint_as_float(0xff800000u); }

// What has a logit above the bound, and is finite, has keys from here on.
__device__ __forceinline__ Key cut_above(float bound) {
    const Key cut = (static_cast<Key>(order_of(bound)) + 1) << 32;
    return cut > kAnyFinite ? cut : kAnyFinite;
}

// The largest float below every float >= bound.
__device__ inline float just_below(double bound) {
    const float most = __uint_as_float(0x7f7fffffu);
    if (bound > static_cast<double>(most)) return most;
    const float rounded = bound < -static_cast<double>(most) ? minus_infinity() : __double2float_rn(bound);
    if (static_cast<double>(rounded) < bound || rounded == minus_infinity()) return rounded;
    if (rounded == 0) return __uint_as_float(0x80000001u);
    return __uint_as_float(__float_as_uint(rounded) + (rounded > 0 ? -1 : 1));
}

// ---- weights
// -----------------------------------------------------------------------------------------------------------------------------

// e^y for y <= 0, 0 below -87: the steps of lib/sample/four.h, one rounding each, so with the same bits.
__device__ __forceinline__ float exp_negative(float y) {
    const float z = y > -87.0f ? y : -87.0f;
    const float shifted = __fadd_rn(__fmul_rn(z, 1.44269504f), 12582912.0f);
    const float k = __fadd_rn(shifted, -12582912.0f);
    const float r = __fadd_rn(__fadd_rn(z, -__fmul_rn(k, 0.693359375f)), __fmul_rn(k, 2.12194440e-4f));
    float p = 1.0f / 720;
    p = __fadd_rn(__fmul_rn(p, r), 1.0f / 120);
    p = __fadd_rn(__fmul_rn(p, r), 1.0f / 24);
    p = __fadd_rn(__fmul_rn(p, r), 1.0f / 6);
    p = __fadd_rn(__fmul_rn(p, r), 0.5f);
    p = __fadd_rn(__fmul_rn(p, __fmul_rn(r, r)), __fadd_rn(r, 1.0f));
    const float power = __uint_as_float((__float_as_uint(shifted) + (127u - 0x4b400000u)) << 23);
    return y > -87.0f ? __fmul_rn(p, power) : 0.0f;
}
// What a logit weighs relative to the largest, which is finite.
__device__ __forceinline__ float weigh(float logit, float largest, float scale) {
    return exp_negative(__fmul_rn(__fadd_rn(logit, -largest), scale));
}
// The same as an integer, for sums that any order leaves alone.
__device__ __forceinline__ unsigned long long fixed_weight(float weight) {
    return static_cast<unsigned long long>(__float2ull_rn(weight * 0x1p40f));
}

// Philox-4x32-10 as in lib/sample/philox.h: uniform in [0, 1), 53 bits.
__device__ inline double philox_uniform(uint64_t seed, uint64_t place) {
    uint32_t c0 = static_cast<uint32_t>(place), c1 = static_cast<uint32_t>(place >> 32), c2 = 0, c3 = 0;
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
#pragma unroll 1
    for (int round = 0; round < 10; round++) {
        const uint64_t a = uint64_t{0xD2511F53} * c0, b = uint64_t{0xCD9E8D57} * c2;
        c0 = static_cast<uint32_t>(b >> 32) ^ c1 ^ k0;
        c1 = static_cast<uint32_t>(b);
        c2 = static_cast<uint32_t>(a >> 32) ^ c3 ^ k1;
        c3 = static_cast<uint32_t>(a);
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    return static_cast<double>((uint64_t{c0} << 32 | c1) >> 11) * 0x1p-53;
}

// ---- warps and blocks
// --------------------------------------------------------------------------------------------------------------------

__device__ __forceinline__ uint32_t warp_max_u32(uint32_t v) {
#if __CUDA_ARCH__ >= 800
    return __reduce_max_sync(kAll, v);
#else
    for (int m = 16; m; m >>= 1) v = max(v, __shfl_xor_sync(kAll, v, m));
    return v;
#endif
}
__device__ __forceinline__ uint32_t warp_sum_u32(uint32_t v) {
#if __CUDA_ARCH__ >= 800
    return __reduce_add_sync(kAll, v);
#else
    for (int m = 16; m; m >>= 1) v += __shfl_xor_sync(kAll, v, m);
    return v;
#endif
}
// The largest key of a warp.
__device__ __forceinline__ Key warp_best(Key key) {
    const uint32_t high = warp_max_u32(static_cast<uint32_t>(key >> 32));
    const uint32_t low = warp_max_u32(static_cast<uint32_t>(key >> 32) == high ? static_cast<uint32_t>(key) : 0);
    return static_cast<Key>(high) << 32 | low;
}

template <class T>
__device__ __forceinline__ T warp_scan(T v, uint32_t width) {  // inclusive, over groups of `width` lanes
    const uint32_t lane = threadIdx.x & 31;
    for (uint32_t d = 1; d < width; d *= 2) {
        const T other = __shfl_up_sync(kAll, v, d);
        if ((lane & (width - 1)) >= d) v += other;
    }
    return v;
}

// Shared memory of scans: two sets in turn, so that one barrier a scan is enough.
struct ScanSpace {
    unsigned long long words[2][kWarps];
};

// Sums over the threads before this one; *total over all. Every thread of the block calls it, `turn` alternates.
template <class T>
__device__ __forceinline__ T block_scan(T v, ScanSpace& space, uint32_t& turn, T* total) {
    static_assert(sizeof(T) <= 8);
    T* sums = reinterpret_cast<T*>(space.words[turn]);
    turn ^= 1;
    const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x / 32;
    const T inclusive = warp_scan(v, 32);
    const T up = __shfl_up_sync(kAll, inclusive, 1);
    if (lane == 31) sums[warp] = inclusive;
    __syncthreads();
    const T all = warp_scan(sums[lane % kWarps], kWarps);
    *total = __shfl_sync(kAll, all, kWarps - 1);
    const T base = __shfl_sync(kAll, all, warp ? warp - 1 : 0);
    return (warp ? base : T(0)) + (lane ? up : T(0));
}

// Where a running sum over four masses a thread, in thread order, passes a target.
struct Pick {
    uint32_t index;  // kNone: nowhere
    uint32_t last;   // the last with a mass, or kNone
    double before;   // the sum before the index
};
struct PickSpace {
    double before[2][kWarps];
    uint32_t index[2][kWarps], last[2][kWarps];
};

// Within one warp. strict: the first sum above the target, else the first that is not below it.
__device__ __forceinline__ Pick warp_pick(const double (&mass)[4], double before, double target, bool strict, uint32_t first) {
    Pick mine{kNone, kNone, 0};
#pragma unroll
    for (uint32_t j = 0; j < 4; j++) {
        const double sum = before + mass[j];
        if (mine.index == kNone && (strict ? target < sum : target <= sum)) {
            mine.index = first + j;
            mine.before = before;
        }
        if (mass[j] > 0) mine.last = first + j;
        before = sum;
    }
    const uint32_t found = __ballot_sync(kAll, mine.index != kNone), some = __ballot_sync(kAll, mine.last != kNone);
    const uint32_t from = found ? __ffs(static_cast<int>(found)) - 1 : 0;
    return {__shfl_sync(kAll, mine.index, from), __shfl_sync(kAll, mine.last, some ? 31 - __clz(static_cast<int>(some)) : 0),
            __shfl_sync(kAll, mine.before, from)};
}

__device__ __forceinline__ Pick block_pick(const double (&mass)[4], double before, double target, bool strict, PickSpace& space,
                                           uint32_t& turn) {
    const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x / 32, set = turn;
    turn ^= 1;
    const Pick mine = warp_pick(mass, before, target, strict, 4 * threadIdx.x);
    if (lane == 0) {
        space.index[set][warp] = mine.index;
        space.last[set][warp] = mine.last;
        space.before[set][warp] = mine.before;
    }
    __syncthreads();
    const uint32_t at = lane % kWarps, index = space.index[set][at], last = space.last[set][at];
    const double start = space.before[set][at];
    const uint32_t found = __ballot_sync(kAll, index != kNone && lane < kWarps), some = __ballot_sync(kAll, last != kNone && lane < kWarps);
    const uint32_t from = found ? __ffs(static_cast<int>(found)) - 1 : 0;
    return {__shfl_sync(kAll, index, from), __shfl_sync(kAll, last, some ? 31 - __clz(static_cast<int>(some)) : 0),
            __shfl_sync(kAll, start, from)};
}

}  // namespace pith::cuda::sample
