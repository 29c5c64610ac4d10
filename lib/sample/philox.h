// Philox-4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw (SC11): a number is a function of its key and place.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <array>

namespace pith {

using PhiloxCounter = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

constexpr PhiloxCounter philox(PhiloxCounter counter, PhiloxKey key) {
    for (int round = 0; round < 10; round++) {
        const uint64_t a = uint64_t{0xD2511F53} * counter[0];
        const uint64_t b = uint64_t{0xCD9E8D57} * counter[2];
        counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
                   static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
        key = {key[0] + 0x9E3779B9, key[1] + 0xBB67AE85};
    }
    return counter;
}

// Uniform in [0, 1), 53 bits. Stream 0 draws the token; a step that needs a number of its own has another.
constexpr double philox_uniform(uint64_t seed, uint64_t place, uint32_t stream = 0) {
    const PhiloxCounter words = philox({static_cast<uint32_t>(place), static_cast<uint32_t>(place >> 32), stream, 0},
                                       {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
    const uint64_t bits = (uint64_t{words[0]} << 32 | words[1]) >> 11;
    return static_cast<double>(bits) * 0x1p-53;
}

}  // namespace pith
