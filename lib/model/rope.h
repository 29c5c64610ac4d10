// Rotary frequencies of every kind of scaling.
#pragma once
#include "model/config.h"

namespace pith {

// inverse[i] is the angle a position turns the pair (i, i + head_dim / 2) by; [head_dim / 2]. Returns what cos and sin are both
// multiplied by. `context_length` is the session's: Dynamic chooses its base by it, once, so that cached keys stay valid and the
// cutting of a prompt does not matter.
double rope_frequencies(const Config& config, uint32_t context_length, double* inverse);

}  // namespace pith
