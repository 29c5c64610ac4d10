// Integer products for CPUs that have widening multiplications only: sums of 16 bits over eight octets, then of 32.
#pragma once
#include "kernels/neon/vec.h"

namespace pith::kernels {
namespace {

struct Tune {
    using DenseShape = RegisterShape<4, 1, 6>;
    using ExactShape = RegisterShape<2, 1, 4>;
    using FastShape = RegisterShape<4, 1, 4>;
    static constexpr int kWideTiles = 1;
    // Of attention: registers of scores and of output.
    static constexpr int kScoreVecs = 4, kMixVecs = 4;
};

// Four activations to every row of a register, straight from memory.
inline int8x16_t quad(const int8_t* at) {
    int32_t bytes;
    memcpy(&bytes, at, sizeof bytes);
    return vreinterpretq_s8_s32(vdupq_n_s32(bytes));
}

// kCount tokens, rows [8 kHalf, 8 kHalf + 8) of a tile, and at most eight octets from o on: a lane gets two products of an octet, at most
// 2 * 15 * 127 = 3810, so they fit 16 bits.
template <int kHalf, int kCount, class Activation>
PITH_KERNEL_INLINE inline void dots_half(Ints* dot, const uint8_t* codes, const Activation& q, int token, uint32_t o, uint32_t octets) {
    int16x8_t sum[kCount][4];  // two rows a register, in four lanes each
    unroll<kCount>([&](int t) PITH_KERNEL_INLINE { unroll<4>([&](int i) PITH_KERNEL_INLINE { sum[t][i] = vdupq_n_s16(0); }); });
    for (const uint32_t end = o + octets; o < end; o++) {
        const Codes a = load_codes(codes + o * 64 + kHalf * 32), b = load_codes(codes + o * 64 + kHalf * 32 + 16);
        unroll<kCount>([&](int t) PITH_KERNEL_INLINE {
            const auto products = [&](int8x16_t rows, int8x16_t others, int8x16_t x) PITH_KERNEL_INLINE {
                sum[t][0] = vmlal_s8(sum[t][0], vget_low_s8(rows), vget_low_s8(x));
                sum[t][1] = vmlal_high_s8(sum[t][1], rows, x);
                sum[t][2] = vmlal_s8(sum[t][2], vget_low_s8(others), vget_low_s8(x));
                sum[t][3] = vmlal_high_s8(sum[t][3], others, x);
            };
            const int8_t* x = octet_at(q, token + t, o);
            products(a.low, b.low, quad(x));
            products(a.high, b.high, quad(x + 4));
        });
    }
    unroll<kCount>([&](int t) PITH_KERNEL_INLINE {
        int32x4_t* to = dot[token + t].v + kHalf * 2;
        to[0] = vaddq_s32(to[0], vpaddq_s32(vpaddlq_s16(sum[t][0]), vpaddlq_s16(sum[t][1])));
        to[1] = vaddq_s32(to[1], vpaddq_s32(vpaddlq_s16(sum[t][2]), vpaddlq_s16(sum[t][3])));
    });
}

// dot[i][t] += codes of tile i times the int8 activations of token t.
template <int kTiles, int kTokens, class Activation>
PITH_KERNEL_INLINE inline void dots(Ints (&dot)[kTiles][kTokens], const uint8_t* const (&codes)[kTiles], const Activation& q,
                                    uint32_t octets) {
    constexpr int kCount = kTokens < 4 ? kTokens : 4;  // that registers hold the sums of
    for (uint32_t o = 0; o < octets; o += 8) {
        const uint32_t count = smaller(8, octets - o);
        unroll<kTiles>([&](int i) PITH_KERNEL_INLINE {
            unroll<kTokens / kCount>([&](int t) PITH_KERNEL_INLINE {
                dots_half<0, kCount>(dot[i], codes[i], q, t * kCount, o, count);
                dots_half<1, kCount>(dot[i], codes[i], q, t * kCount, o, count);
            });
        });
    }
}
template <int kTiles>
PITH_KERNEL_INLINE inline void wide_dots(Ints (&dot)[kTiles][kTokenLanes], const uint8_t* const (&codes)[kTiles], const int8_t* q,
                                         uint32_t octets) {
    dots(dot, codes, q, octets);
}

// dot[i][t] += 8-bit codes of tile i times the int8 activations of token t, kStep bytes an octet. Pairs of products go to 32 bits at once.
template <uint32_t kStep, int kTiles, int kTokens>
PITH_KERNEL_INLINE inline void dots_q8(Ints (&dot)[kTiles][kTokens], const uint8_t* const (&codes)[kTiles], const int8_t* const (&q)[kTokens],
                                       uint32_t octets) {
    unroll<kTiles>([&](int i) PITH_KERNEL_INLINE {
        unroll<4>([&](int r) PITH_KERNEL_INLINE {
            int32x4_t low[kTokens], high[kTokens];  // two rows each, two lanes a row
            unroll<kTokens>([&](int t) PITH_KERNEL_INLINE { low[t] = high[t] = vdupq_n_s32(0); });
            for (uint32_t c = 0; c < octets * 2; c++) {
                const int8x16_t rows = load_q8(codes[i] + c * 64 + r * 16);
                unroll<kTokens>([&](int t) PITH_KERNEL_INLINE {
                    const int8x16_t x = quad(q[t] + c / 2 * kStep + c % 2 * 4);
                    low[t] = vpadalq_s16(low[t], vmull_s8(vget_low_s8(rows), vget_low_s8(x)));
                    high[t] = vpadalq_s16(high[t], vmull_high_s8(rows, x));
                });
            }
            unroll<kTokens>(
                [&](int t) PITH_KERNEL_INLINE { dot[i][t].v[r] = vaddq_s32(dot[i][t].v[r], vpaddq_s32(low[t], high[t])); });
        });
    });
}

}  // namespace
}  // namespace pith::kernels
