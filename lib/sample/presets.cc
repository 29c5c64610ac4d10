// Other programs' lists of steps: their order and their defaults, what is off by default included.
#include "sample/presets.h"

#include <iterator>

namespace pith {
namespace {

constexpr pith_sampler_step step(uint32_t kind, float a = 0, float b = 0, uint32_t count = 0) {
    return {kind, 0, {a, b, 0, 0}, {count, 0, 0, 0}, nullptr, nullptr, 0};
}

constexpr pith_sampler_step kExllamav2[] = {step(PITH_STEP_PENALTIES, 1.025f),
                                            step(PITH_STEP_BANNED),
                                            step(PITH_STEP_LOGIT_BIAS),
                                            step(PITH_STEP_DRY),
                                            step(PITH_STEP_ALLOWED),
                                            step(PITH_STEP_SMOOTHING),
                                            step(PITH_STEP_TEMPERATURE, 0.8f),
                                            step(PITH_STEP_TOP_K, 0, 0, 50),
                                            step(PITH_STEP_TOP_P, 0.8f),
                                            step(PITH_STEP_TOP_A),
                                            step(PITH_STEP_MIN_P),
                                            step(PITH_STEP_TAIL_FREE),
                                            step(PITH_STEP_TYPICAL),
                                            step(PITH_STEP_DYNAMIC_TEMPERATURE),
                                            step(PITH_STEP_XTC, 0, 0.1f),
                                            step(PITH_STEP_SKEW)};

constexpr pith_sampler_step kLlamaCpp[] = {
    step(PITH_STEP_LOGIT_BIAS),   step(PITH_STEP_ALLOWED),         step(PITH_STEP_PENALTIES, 1, 0, 64), step(PITH_STEP_DRY),
    step(PITH_STEP_TOP_N_SIGMA),  step(PITH_STEP_TOP_K, 0, 0, 40), step(PITH_STEP_TYPICAL, 1),          step(PITH_STEP_TOP_P, 0.95f),
    step(PITH_STEP_MIN_P, 0.05f), step(PITH_STEP_XTC, 0, 0.1f),    step(PITH_STEP_TEMPERATURE, 0.8f)};

}  // namespace

std::span<const pith_sampler_step> preset(uint32_t name) {
    switch (name) {
        case PITH_PRESET_EXLLAMAV2:
            return kExllamav2;
        case PITH_PRESET_LLAMA_CPP:
            return kLlamaCpp;
        default:
            return {};
    }
}

}  // namespace pith
