// One token's integer products by sdot, which sums four products to every 32-bit lane; and what the tiers that have it share.
#pragma once
#include "kernels/neon/vec.h"

namespace pith::kernels {
namespace {

struct Tune {
    using DenseShape = RegisterShape<4, 1, 6>;
    using ExactShape = RegisterShape<2, 1, 4>;
    using FastShape = RegisterShape<4, 1, 8>;
    static constexpr int kWideTiles = 1;
    // Of attention: registers of scores and of output.
    static constexpr int kScoreVecs = 4, kMixVecs = 4;
};

// dot[i][0] += codes of tile i times the int8 activations: whole octets, so that memory is read in order.
template <int kTiles>
PITH_KERNEL_INLINE inline void dots(Ints (&dot)[kTiles][1], const uint8_t* const (&codes)[kTiles], const int8_t* const (&q)[1],
                                    uint32_t octets) {
    for (uint32_t o = 0; o < octets; o++) {
        const int8x8_t x = vld1_s8(q[0] + o * 8);
        unroll<kTiles>([&](int i) PITH_KERNEL_INLINE {
            unroll<4>([&](int r) PITH_KERNEL_INLINE {
                const Codes c = load_codes(codes[i] + o * 64 + r * 16);
                dot[i][0].v[r] = vdotq_lane_s32(vdotq_lane_s32(dot[i][0].v[r], c.low, x, 0), c.high, x, 1);
            });
        });
    }
}

// dot[i][t] += 8-bit codes of tile i times the int8 activations of token t, kStep bytes an octet.
template <uint32_t kStep, int kTiles, int kTokens>
PITH_KERNEL_INLINE inline void dots_q8(Ints (&dot)[kTiles][kTokens], const uint8_t* const (&codes)[kTiles], const int8_t* const (&q)[kTokens],
                                       uint32_t octets) {
    for (uint32_t o = 0; o < octets; o++) {
        unroll<kTiles>([&](int i) PITH_KERNEL_INLINE {
            unroll<4>([&](int r) PITH_KERNEL_INLINE {
                const int8x16_t first = load_q8(codes[i] + o * 128 + r * 16), second = load_q8(codes[i] + o * 128 + 64 + r * 16);
                unroll<kTokens>([&](int t) PITH_KERNEL_INLINE {
                    const int8x8_t x = vld1_s8(q[t] + o * kStep);
                    dot[i][t].v[r] = vdotq_lane_s32(vdotq_lane_s32(dot[i][t].v[r], first, x, 0), second, x, 1);
                });
            });
        });
    }
}

}  // namespace
}  // namespace pith::kernels
