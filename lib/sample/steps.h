// A sampler's steps: those of the caller, checked, with what they need.
#pragma once
#include <pith/sampler.h>

#include "base/status.h"
#include "sample/tokens.h"

namespace pith {

struct Penalty {
    double repetition, frequency, presence;
    uint32_t window, decay;
    // The penalised logit. `strength` of the newest occurrence, `total` over all of them.
    double apply(double logit, double strength, double total) const {
        const double divisor = 1 + (repetition - 1) * strength;
        return (logit > 0 ? logit / divisor : logit * divisor) - presence * strength - frequency * total;
    }
    bool rewards() const { return repetition < 1 || frequency < 0 || presence < 0; }
};

struct Step {
    uint32_t kind;   // PITH_STEP_*
    uint32_t count;  // count[0]: top-k, DRY's allowed length, mirostat 1's m
    float value;     // value[0]
    Penalty penalty;
    float more[2];      // value[1], value[2]
    uint32_t range;     // DRY: tokens back
    uint32_t stream;    // of random numbers, this step's own
    Tally* tally;       // penalties, DRY
    TokenSet* tokens;   // those listed
    uint32_t* lengths;  // DRY: of matches, `range` + 1
};

// What a step is, completed: no zero stands for a default. `remembered` tokens are. Checks everything.
pith_status read_step(const pith_sampler_step& given, uint32_t index, uint32_t remembered, Step* step, pith_error* error);
// It changes nothing, ever.
bool is_idle(const Step& step);
// How far back it looks; 0: not at all.
uint32_t reach_of(const Step& step, uint32_t remembered);
// Memory for what it keeps.
pith_status prepare(const pith_sampler_step& given, uint32_t remembered, Arena& arena, Step* step, pith_error* error);

}  // namespace pith
