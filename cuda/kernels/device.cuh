// Small device functions that every kernel shares: asynchronous copies,
// tensor-core products, 4-bit codes to halves, memory accesses of a given kind.
// Each compiles for sm_75 and newer; what an architecture lacks is done another
// way with the same result.
#pragma once
#include <cuda_fp16.h>
#include <stdint.h>

namespace pith::cuda {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
inline constexpr bool kHasCpAsync = false;
#else
inline constexpr bool kHasCpAsync = true;
#endif

__device__ __forceinline__ uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ uint32_t lane_id() { return threadIdx.x & 31; }

// ---- asynchronous copies to shared memory
// ------------------------------------------------------------------------------------------------
// Without cp.async the copy is made at once, and commit and wait do nothing.

// An L2 policy for data that is read once (weights): it leaves before anything
// else does.
__device__ __forceinline__ uint64_t evict_first_policy() {
#if __CUDA_ARCH__ >= 800
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
#else
    return 0;
#endif
}

// 16 bytes; both addresses are multiples of 16. `shared` is from
// shared_address().
__device__ __forceinline__ void cp_async_16(uint32_t shared, const void* global) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
#else
    const uint4 v = *static_cast<const uint4*>(global);
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(shared), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
#endif
}

__device__ __forceinline__ void cp_async_16(uint32_t shared, const void* global, uint64_t policy) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "l"(policy) : "memory");
#else
    (void)policy;
    cp_async_16(shared, global);
#endif
}

// 16 bytes, of which the first `bytes` (0..16) are copied and the rest become
// zero. `global` is not read if bytes is 0.
__device__ __forceinline__ void cp_async_16_zero_fill(uint32_t shared, const void* global, uint32_t bytes) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(bytes) : "memory");
#else
    uint32_t w[4] = {0, 0, 0, 0};
    for (uint32_t i = 0; i < bytes; i++) w[i / 4] |= static_cast<uint32_t>(static_cast<const uint8_t*>(global)[i]) << (i % 4 * 8);
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(shared), "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]) : "memory");
#endif
}

__device__ __forceinline__ void cp_async_commit() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Until at most `pending` of this thread's newest groups are unfinished.
template <int pending>
__device__ __forceinline__ void cp_async_wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

// ---- bulk copies (sm_90 and newer)
// -------------------------------------------------------------------------------------------------------
// One thread copies many bytes; a barrier in shared memory counts them as they
// arrive. Elsewhere these are never called.

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
inline constexpr bool kHasBulkCopy = true;
#else
inline constexpr bool kHasBulkCopy = false;
#endif

// Once all barriers that copies arrive at are made (make_barrier).
__device__ __forceinline__ void bulk_barriers_made() {
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
// True in one lane of a warp whose lanes are all here.
__device__ __forceinline__ bool elect_lane() {
#if __CUDA_ARCH__ >= 900
    uint32_t yes;
    asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.u32 %0, 1, 0, p;\n}" : "=r"(yes));
    return yes != 0;
#else
    return lane_id() == 0;
#endif
}
// The barrier's next phase ends when `bytes` have come.
__device__ __forceinline__ void expect_bulk(uint32_t barrier, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
#endif
}
// bytes: a multiple of 16, as both addresses are.
__device__ __forceinline__ void bulk_copy(uint32_t shared, const void* global, uint32_t bytes, uint32_t barrier) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::"
        "bytes [%0], [%1], %2, [%3];" ::"r"(shared),
        "l"(global), "r"(bytes), "r"(barrier)
        : "memory");
#endif
}
__device__ __forceinline__ void bulk_copy(uint32_t shared, const void* global, uint32_t bytes, uint32_t barrier, uint64_t policy) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::"
        "bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(shared),
        "l"(global), "r"(bytes), "r"(barrier), "l"(policy)
        : "memory");
#endif
}
// Until the phase of that parity has ended.
__device__ __forceinline__ void wait_bulk(uint32_t barrier, uint32_t parity) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n"
        "}" ::"r"(barrier),
        "r"(parity)
        : "memory");
#endif
}

// ---- barriers in shared memory
// ----------------------------------------------------------------------------------------------------
// 8 bytes each. A barrier's phase ends when those it counts have arrived;
// waiting names the parity of the phase (the phase before the first counts as
// ended). sm_75 has none in hardware: a counter of arrivals stands for it.

// count: threads that arrive; kCopies: what arrives are the copies of one warp
// (arrive_when_copied), or bulk copies.
inline constexpr uint32_t kCopies = kHasBulkCopy ? 1 : 32;
__device__ __forceinline__ void make_barrier(uint32_t shared, uint32_t count) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared), "r"(count) : "memory");
#else
    asm volatile("st.volatile.shared.v2.u32 [%0], {%1, %2};" ::"r"(shared), "r"(0), "r"(count == kCopies ? 1 : count) : "memory");
#endif
}
__device__ __forceinline__ void wait_barrier(uint32_t shared, uint32_t parity) {
#if __CUDA_ARCH__ >= 900
    wait_bulk(shared, parity);
#elif __CUDA_ARCH__ >= 800
    // Looks cost the warps that work their turns, so there are naps between them.
    for (;;) {
        uint32_t done;
        asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                     : "=r"(done)
                     : "r"(shared), "r"(parity)
                     : "memory");
        if (done) break;
        __nanosleep(200);
    }
#else
    uint32_t arrivals, count;
    do {
        asm volatile("ld.volatile.shared.v2.u32 {%0, %1}, [%2];" : "=r"(arrivals), "=r"(count) : "r"(shared) : "memory");
    } while ((arrivals / count & 1) == parity);
    __threadfence_block();
#endif
}
__device__ __forceinline__ void arrive(uint32_t shared) {
#if __CUDA_ARCH__ >= 800
    asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared.b64 state, [%0];\n}" ::"r"(shared) : "memory");
#else
    __threadfence_block();
    asm volatile("red.shared.add.u32 [%0], 1;" ::"r"(shared) : "memory");
#endif
}
// By all lanes of a warp: the barrier's phase ends when all their cp_async_16
// so far have come.
__device__ __forceinline__ void arrive_when_copied(uint32_t shared) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared) : "memory");
#else
    __syncwarp();
    if (lane_id() == 0) arrive(shared);
#endif
}
// Of a loop that looks for something again and again.
__device__ __forceinline__ void pause() { __nanosleep(20); }

// ---- tensor cores
// ------------------------------------------------------------------------------------------------------------------------

// c += a b; a is 16x16 (row major fragments, as in layout.h), b 16x8: b0 holds
// rows 2 t, 2 t + 1 of column g, b1 rows 2 t + 8, 2 t + 9.
__device__ __forceinline__ void mma_m16n8k16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, "
        "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#else
    // Two products of 8 columns: a0, a1 are the first eight columns' fragment,
    // a2, a3 the last eight's.
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, "
        "{%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(b0));
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, "
        "{%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a2), "r"(a3), "r"(b1));
#endif
}

// c += a b in integers; a is 16x32 of unsigned bytes, b 32x8 of signed ones: a0
// holds row g, columns 4 t .. 4 t + 3, a1 the same of row g + 8, a2 and a3 the
// columns 16 further; b0 rows 4 t .. 4 t + 3 of column g, b1 those 16 further.
// c as for halves.
__device__ __forceinline__ void mma_m16n8k32(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, "
        "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#else
#    define PITH_MMA(c0, c1, a, b)                                                 \
        asm("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0,%1}, {%2}, {%3}, " \
            "{%0,%1};"                                                             \
            : "+r"(c0), "+r"(c1)                                                   \
            : "r"(a), "r"(b))
    PITH_MMA(c[0], c[1], a0, b0);
    PITH_MMA(c[2], c[3], a1, b0);
    PITH_MMA(c[0], c[1], a2, b1);
    PITH_MMA(c[2], c[3], a3, b1);
#    undef PITH_MMA
#endif
}

// The transpose of an 8x8 matrix of halves, of which lane (g, t) has row g, columns 2 t and 2 t + 1.
__device__ __forceinline__ uint32_t transpose(uint32_t v) {
    uint32_t r;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(v));
    return r;
}
// Four 8x8 matrices of halves; lane i gives the address of row i % 8 of matrix
// i / 8.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], uint32_t shared) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared));
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t shared) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared));
}

// ---- numbers
// -----------------------------------------------------------------------------------------------------------------------------

__device__ __forceinline__ half2 as_half2(uint32_t bits) {
    return __halves2half2(__ushort_as_half(bits & 0xffff), __ushort_as_half(bits >> 16));
}
__device__ __forceinline__ uint32_t as_bits(half2 v) {
    return static_cast<uint32_t>(__half_as_ushort(__low2half(v))) | static_cast<uint32_t>(__half_as_ushort(__high2half(v))) << 16;
}

// Saturated to the largest finite half; NaN stays NaN.
__device__ __forceinline__ half to_half(float v) {
    const half h = __float2half_rn(v);
    const uint16_t bits = __half_as_ushort(h);
    return (bits & 0x7fff) == 0x7c00 ? __ushort_as_half(bits - 1) : h;
}
__device__ __forceinline__ uint32_t to_half2_bits(float low, float high) {
    return static_cast<uint32_t>(__half_as_ushort(to_half(low))) | static_cast<uint32_t>(__half_as_ushort(to_half(high))) << 16;
}

// (x & mask) | bits in one instruction.
template <uint32_t mask, uint32_t bits>
__device__ __forceinline__ uint32_t and_or(uint32_t x) {
    uint32_t r;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(r) : "r"(x), "n"(mask), "n"(bits));
    return r;
}

// What is subtracted from the codes of one row: its zero point in the two forms
// that Q4 decoding needs.
struct ZeroPoint {
    uint32_t low;   // half2 of -(1024 + z), for codes in the low nibbles of bytes
                    // (rows g)
    uint32_t high;  // half2 of -(64 + z), for codes in the high nibbles (rows g + 8)
};
__device__ __forceinline__ uint32_t zero_low(uint32_t z) { return (0xe400u + z) * 0x10001u; }
__device__ __forceinline__ uint32_t zero_high(uint32_t z) { return (0xd400u + 16 * z) * 0x10001u; }
inline constexpr uint32_t kZeroLow8 = 0xe408e408u, kZeroHigh8 = 0xd480d480u;

__device__ __forceinline__ uint32_t half2_add(uint32_t a, uint32_t b) {
    uint32_t r;
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
__device__ __forceinline__ uint32_t half2_fma(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t r;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
    return r;
}

// One code word of layout.h to the fragments a0..a3 of (code - zero point),
// exactly. low: zero_low of row g, high: zero_high of row g + 8.
__device__ __forceinline__ void decode_q4(uint32_t word, uint32_t low, uint32_t high, uint32_t (&a)[4]) {
    constexpr uint32_t kSixteenth = 0x2c002c00;
    const uint32_t next = word >> 8;
    a[0] = half2_add(and_or<0x000f000f, 0x64006400>(word), low);
    a[1] = half2_fma(and_or<0x00f000f0, 0x64006400>(word), kSixteenth, high);
    a[2] = half2_add(and_or<0x000f000f, 0x64006400>(next), low);
    a[3] = half2_fma(and_or<0x00f000f0, 0x64006400>(next), kSixteenth, high);
}

// ---- memory
// ------------------------------------------------------------------------------------------------------------------------------

// From shared + offset, which is part of the instruction.
template <uint32_t offset = 0>
__device__ __forceinline__ uint4 load_shared_16(uint32_t shared) {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4+%5];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(shared), "n"(offset)
                 : "memory");
    return v;
}
template <uint32_t offset = 0>
__device__ __forceinline__ uint2 load_shared_8(uint32_t shared) {
    uint2 v;
    asm volatile("ld.shared.v2.u32 {%0,%1}, [%2+%3];" : "=r"(v.x), "=r"(v.y) : "r"(shared), "n"(offset) : "memory");
    return v;
}
template <uint32_t offset = 0>
__device__ __forceinline__ uint32_t load_shared_4(uint32_t shared) {
    uint32_t v;
    asm volatile("ld.shared.u32 %0, [%1+%2];" : "=r"(v) : "r"(shared), "n"(offset) : "memory");
    return v;
}

// From L2, past this SM's L1: what other SMs may have written since the kernel
// began.
template <typename T>
__device__ __forceinline__ T load_coherent(const T* p) {
    return __ldcg(p);
}

// Release and acquire for a counter that blocks meet at.
__device__ __forceinline__ void add_release(unsigned long long* p, unsigned long long v) {
    asm volatile("red.release.gpu.global.add.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
}
__device__ __forceinline__ unsigned long long load_acquire(const unsigned long long* p) {
    unsigned long long v;
    asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
    return v;
}
__device__ __forceinline__ unsigned long long load_relaxed(const unsigned long long* p) {
    unsigned long long v;
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
    return v;
}
__device__ __forceinline__ uint32_t load_relaxed(const uint32_t* p) {
    uint32_t v;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
// Both words of one moment.
__device__ __forceinline__ uint2 load_relaxed(const uint2* p) {
    const unsigned long long v = load_relaxed(reinterpret_cast<const unsigned long long*>(p));
    return {static_cast<uint32_t>(v), static_cast<uint32_t>(v >> 32)};
}
__device__ __forceinline__ void store_relaxed(uint32_t* p, uint32_t v) {
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
// Both words are seen together.
__device__ __forceinline__ void store_relaxed(uint2* p, uint2 v) {
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(p), "l"(static_cast<unsigned long long>(v.y) << 32 | v.x) : "memory");
}
// If it is wanted (else zero), without a branch. Each 64-bit word is of one moment.
__device__ __forceinline__ ulonglong2 load_relaxed_if(const ulonglong2* p, bool wanted) {
    ulonglong2 v;
    asm volatile(
        "{\n.reg .pred wanted;\nsetp.ne.u32 wanted, %3, 0;\nmov.u64 %0, 0;\nmov.u64 %1, 0;\n"
        "@wanted ld.relaxed.gpu.global.v2.u64 {%0,%1}, [%2];\n}"
        : "=&l"(v.x), "=&l"(v.y)
        : "l"(p), "r"(static_cast<uint32_t>(wanted))
        : "memory");
    return v;
}
__device__ __forceinline__ uint2 load_relaxed_if(const uint2* p, bool wanted) {
    unsigned long long v;
    asm volatile("{\n.reg .pred wanted;\nsetp.ne.u32 wanted, %2, 0;\nmov.u64 %0, 0;\n@wanted ld.relaxed.gpu.global.u64 %0, [%1];\n}"
                 : "=&l"(v)
                 : "l"(p), "r"(static_cast<uint32_t>(wanted))
                 : "memory");
    return {static_cast<uint32_t>(v), static_cast<uint32_t>(v >> 32)};
}
// A counter in shared memory: how many of the block came before. What they wrote before is seen after.
__device__ __forceinline__ uint32_t count_shared(uint32_t shared) {
    uint32_t v;
    asm volatile("atom.acq_rel.cta.shared.add.u32 %0, [%1], 1;" : "=r"(v) : "r"(shared) : "memory");
    return v;
}
// After relaxed loads that saw what was waited for.
__device__ __forceinline__ void fence_acquire() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }
__device__ __forceinline__ uint32_t add_acquire_release(uint32_t* p, uint32_t v) {
    uint32_t r;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;" : "=r"(r) : "l"(p), "r"(v) : "memory");
    return r;
}

// ---- programmatic dependent launch (sm_90; elsewhere kernels follow each
// other as ever)
// ---------------------------------------------------

__device__ __forceinline__ void griddep_wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void griddep_launch() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// ---- loops
// -------------------------------------------------------------------------------------------------------------------------------

template <uint32_t i>
struct Index {
    static constexpr uint32_t value = i;
    __host__ __device__ constexpr operator uint32_t() const { return i; }
};
// f(Index<0>) ... f(Index<n - 1>): unrolled by the language, so that arrays
// indexed by it are registers.
template <uint32_t n, uint32_t i = 0, typename F>
__device__ __forceinline__ void unrolled(F&& f) {
    if constexpr (i < n) {
        f(Index<i>{});
        unrolled<n, i + 1>(f);
    }
}

// ---- warps
// -------------------------------------------------------------------------------------------------------------------------------

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int m = 16; m; m >>= 1) v += __shfl_xor_sync(0xffffffffu, v, m);
    return v;
}
__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
    for (int m = 16; m; m >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, m));
    return v;
}

}  // namespace pith::cuda
