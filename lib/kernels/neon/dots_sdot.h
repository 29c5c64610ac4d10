// Integer products of several tokens by sdot.
#pragma once
#include "kernels/neon/dots_one.h"

namespace pith::kernels {
namespace {

// Rows [8 kHalf, 8 kHalf + 8) of a tile: what is unpacked serves all tokens, whose sums fill the registers.
template <int kHalf, int kTokens, class Activation>
PITH_KERNEL_INLINE inline void dots_half(Ints (&dot)[kTokens], const uint8_t* codes, const Activation& q, uint32_t octets) {
    int32x4_t a[kTokens], b[kTokens];
    unroll<kTokens>([&](int t) PITH_KERNEL_INLINE {
        a[t] = dot[t].v[kHalf * 2];
        b[t] = dot[t].v[kHalf * 2 + 1];
    });
    for (uint32_t o = 0; o < octets; o++) {
        const Codes c = load_codes(codes + o * 64 + kHalf * 32), d = load_codes(codes + o * 64 + kHalf * 32 + 16);
        unroll<kTokens>([&](int t) PITH_KERNEL_INLINE {
            const int8x8_t x = vld1_s8(octet_at(q, t, o));
            a[t] = vdotq_lane_s32(vdotq_lane_s32(a[t], c.low, x, 0), c.high, x, 1);
            b[t] = vdotq_lane_s32(vdotq_lane_s32(b[t], d.low, x, 0), d.high, x, 1);
        });
    }
    unroll<kTokens>([&](int t) PITH_KERNEL_INLINE {
        dot[t].v[kHalf * 2] = a[t];
        dot[t].v[kHalf * 2 + 1] = b[t];
    });
}

// dot[i][t] += codes of tile i times the int8 activations of token t.
template <int kTiles, int kTokens, class Activation>
PITH_KERNEL_INLINE inline void dots(Ints (&dot)[kTiles][kTokens], const uint8_t* const (&codes)[kTiles], const Activation& q,
                                    uint32_t octets) {
    unroll<kTiles>([&](int i) PITH_KERNEL_INLINE {
        dots_half<0>(dot[i], codes[i], q, octets);
        dots_half<1>(dot[i], codes[i], q, octets);
    });
}
template <int kTiles>
PITH_KERNEL_INLINE inline void wide_dots(Ints (&dot)[kTiles][kTokenLanes], const uint8_t* const (&codes)[kTiles], const int8_t* q,
                                         uint32_t octets) {
    dots(dot, codes, q, octets);
}

}  // namespace
}  // namespace pith::kernels
