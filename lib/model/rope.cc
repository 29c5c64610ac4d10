// Rotary frequencies, in double: what float makes of a position's angle is the kernels' matter.
#include "model/rope.h"

#include <math.h>

namespace pith {
namespace {

constexpr double kPi = 3.14159265358979323846;

void llama3(const RopeConfig& rope, uint32_t half, double* inverse) {
    const double context = rope.original_context, low = rope.low_frequency_factor, high = rope.high_frequency_factor;
    for (uint32_t i = 0; i < half; i++) {
        const double turns = context * inverse[i] / (2 * kPi);  // within the original context
        if (turns > high) continue;
        if (turns < low) {
            inverse[i] /= rope.factor;
        } else {
            const double smooth = (turns - low) / (high - low);
            inverse[i] = (1 - smooth) * inverse[i] / rope.factor + smooth * inverse[i];
        }
    }
}

// The (fractional) pair that makes `turns` turns within the original context.
double yarn_pair(const RopeConfig& rope, double dim, double turns) {
    return dim * log(rope.original_context / (turns * 2 * kPi)) / (2 * log(rope.theta));
}

double yarn_scale(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1; }

double yarn(const RopeConfig& rope, uint32_t half, double* inverse) {
    const double dim = 2.0 * half;
    double low = yarn_pair(rope, dim, rope.beta_fast), high = yarn_pair(rope, dim, rope.beta_slow);
    if (rope.truncate) {
        low = floor(low);
        high = ceil(high);
    }
    if (low < 0) low = 0;
    if (high > dim - 1) high = dim - 1;
    if (low == high) high += 0.001;
    for (uint32_t i = 0; i < half; i++) {
        double ramp = (i - low) / (high - low);
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        inverse[i] = inverse[i] / rope.factor * ramp + inverse[i] * (1 - ramp);
    }
    if (rope.attention_factor > 0) return rope.attention_factor;
    // The pair counts only where both are given; files that set both to 1 mean "no scaling".
    if (rope.mscale > 0 && rope.mscale_all_dim > 0)
        return yarn_scale(rope.factor, rope.mscale) / yarn_scale(rope.factor, rope.mscale_all_dim);
    return yarn_scale(rope.factor, 1);
}

}  // namespace

double rope_frequencies(const Config& config, uint32_t context_length, double* inverse) {
    const RopeConfig& rope = config.rope;
    const uint32_t half = config.head_dim / 2;
    const double dim = config.head_dim;
    double base = rope.theta;
    if (rope.kind == RopeKind::Dynamic && context_length > config.context_length && config.head_dim > 2) {
        const double stretch = rope.factor * context_length / config.context_length - (rope.factor - 1);
        base *= pow(stretch, dim / (dim - 2));
    }
    for (uint32_t i = 0; i < half; i++) inverse[i] = pow(base, -2.0 * i / dim);
    switch (rope.kind) {
        case RopeKind::Default:
        case RopeKind::Dynamic:
            return 1;
        case RopeKind::Linear:
            for (uint32_t i = 0; i < half; i++) inverse[i] /= rope.factor;
            return 1;
        case RopeKind::Llama3:
            llama3(rope, half, inverse);
            return 1;
        case RopeKind::Yarn:
            return yarn(rope, half, inverse);
    }
    return 1;
}

}  // namespace pith
