// Integer products of several tokens by smmla: two rows times two tokens, eight columns each. One token alone would waste half of it.
#pragma once
#include "kernels/neon/dots_one.h"

namespace pith::kernels {
namespace {

// An octet of tokens 2p and 2p + 1; the last of an odd number stands for its neighbour.
template <int kTokens>
PITH_KERNEL_INLINE inline int8x16_t pair_at(const int8_t* const (&q)[kTokens], int p, uint32_t o) {
    return vcombine_s8(vld1_s8(octet_at(q, 2 * p, o)), vld1_s8(octet_at(q, 2 * p + 1 < kTokens ? 2 * p + 1 : 2 * p, o)));
}
PITH_KERNEL_INLINE inline int8x16_t pair_at(const int8_t* q, int p, uint32_t o) { return vld1q_s8(octet_at(q, 2 * p, o)); }

// Rows [8 kHalf, 8 kHalf + 8) of a tile. A lane of a sum is (row 2i, token 2p), (2i, 2p + 1), (2i + 1, 2p), (2i + 1, 2p + 1).
template <int kHalf, int kTokens, class Activation>
PITH_KERNEL_INLINE inline void dots_half(Ints (&dot)[kTokens], const uint8_t* codes, const Activation& q, uint32_t octets) {
    constexpr int kPairs = (kTokens + 1) / 2;
    int32x4_t sum[kPairs][4];
    unroll<kPairs>([&](int p) PITH_KERNEL_INLINE { unroll<4>([&](int i) PITH_KERNEL_INLINE { sum[p][i] = vdupq_n_s32(0); }); });
    for (uint32_t o = 0; o < octets; o++) {
        int8x16_t rows[4];
        unroll<2>([&](int r) PITH_KERNEL_INLINE {
            const Codes c = load_codes(codes + o * 64 + kHalf * 32 + r * 16);
            const int32x4_t low = vreinterpretq_s32_s8(c.low), high = vreinterpretq_s32_s8(c.high);
            rows[2 * r] = vreinterpretq_s8_s32(vzip1q_s32(low, high));
            rows[2 * r + 1] = vreinterpretq_s8_s32(vzip2q_s32(low, high));
        });
        unroll<kPairs>([&](int p) PITH_KERNEL_INLINE {
            const int8x16_t x = pair_at(q, p, o);
            unroll<4>([&](int i) PITH_KERNEL_INLINE { sum[p][i] = vmmlaq_s32(sum[p][i], rows[i], x); });
        });
    }
    unroll<kPairs>([&](int p) PITH_KERNEL_INLINE {
        unroll<2>([&](int r) PITH_KERNEL_INLINE {
            int32x4_t& even = dot[2 * p].v[kHalf * 2 + r];
            even = vaddq_s32(even, vuzp1q_s32(sum[p][2 * r], sum[p][2 * r + 1]));
            if (2 * p + 1 == kTokens) return;
            int32x4_t& odd = dot[2 * p + 1].v[kHalf * 2 + r];
            odd = vaddq_s32(odd, vuzp2q_s32(sum[p][2 * r], sum[p][2 * r + 1]));
        });
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
