// A ring of stages in shared memory that one warp fills and others empty, and F16 made integers: for matmul_few_int.cu.
#pragma once
#include "device.cuh"
#include "matmul_few_int.h"

namespace pith::cuda {

// A barrier for `count` arrivals that no copy completes.
__device__ __forceinline__ void make_slot_barrier(uint32_t shared, uint32_t count) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared), "r"(count) : "memory");
#endif
}
__device__ __forceinline__ void free_slot(uint32_t shared) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared) : "memory");
#endif
}
// Once this thread's copies have come.
__device__ __forceinline__ void arrive_after_copies(uint32_t shared) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared) : "memory");
#endif
}
// Among the warps that multiply.
__device__ __forceinline__ void meet_multipliers() { asm volatile("bar.sync 1, %0;" ::"n"(kIntWarps * 32) : "memory"); }

// c = a b + c of 32 columns: a's bytes unsigned, b's signed.
__device__ __forceinline__ void mma_codes(uint32_t (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    const auto part = [](uint32_t& low, uint32_t& high, uint32_t x, uint32_t y) {
        asm("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};" : "+r"(low), "+r"(high) : "r"(x), "r"(y));
    };
    part(c[0], c[1], a[0], b0);
    part(c[0], c[1], a[2], b1);
    part(c[2], c[3], a[1], b0);
    part(c[2], c[3], a[3], b1);
#endif
}

// Lane (chunk, t, step) has the bits of columns 64 chunk + 16 step + 2 t + {0, 1} and {8, 9} of a token's pair of chunks: made integers and
// put in their place. `planes` and `scales` are the pair's.
__device__ __forceinline__ void put_integers(uint8_t* planes, float4* scales, uint32_t token, uint32_t block, uint32_t first, uint32_t second) {
    const uint32_t lane = lane_id(), chunk = lane / 16;
    const uint32_t a = first & 0x7fff7fff, b = second & 0x7fff7fff;
    uint32_t most = max(max(a & 0xffff, a >> 16), max(b & 0xffff, b >> 16));  // as integers: NaN is above all
    most = max(most, __shfl_xor_sync(0xffffffffu, most, 1));
    most = max(most, __shfl_xor_sync(0xffffffffu, most, 4));
    most = max(most, __shfl_xor_sync(0xffffffffu, most, 8));
    if (block != 32) {
        most = max(most, __shfl_xor_sync(0xffffffffu, most, 2));
        most = max(most, __shfl_xor_sync(0xffffffffu, most, 16));
    }
    const float largest = __half2float(__ushort_as_half(static_cast<uint16_t>(most)));
    const float scale = largest * (1.0f / 32639.0f), inverse = largest > 0.0f ? 32639.0f / largest : 0.0f;
    const half2 ha = as_half2(first), hb = as_half2(second);
    const float v[4] = {__low2float(ha), __low2float(hb), __high2float(ha), __high2float(hb)};
    uint32_t high = 0, low = 0;
    int sum = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int n = max(-32639, min(32639, __float2int_rn(v[i] * inverse)));
        sum += n;
        high |= (static_cast<uint32_t>(n + 128) >> 8 & 255) << (8 * i);
        low |= (static_cast<uint32_t>(n) & 255) << (8 * i);
    }
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 4);
    sum += __shfl_xor_sync(0xffffffffu, sum, 8);
    if (block != 32) {
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        sum += __shfl_xor_sync(0xffffffffu, sum, 16);
    }
    uint32_t* to = reinterpret_cast<uint32_t*>(planes + token / 4 * 1024 + chunk * 512 + token % 4 * 128) + lane % 16;
    to[0] = high;
    to[16] = low;
    const bool teller = block == 32 ? (lane & 0xd) == 0 : lane == 0;
    if (teller) {
        const uint32_t which = block == 32 ? chunk * 2 + (lane >> 1 & 1) : 0;
        scales[(token / 4 * (kIntPairCols / block) + which) * 4 + token % 4] =
            make_float4(256.0f * scale, scale, -kIntMagic * scale, -scale * static_cast<float>(sum));
    }
}

}  // namespace pith::cuda
