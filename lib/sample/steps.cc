// What the fields of each kind of step may be.
#include "sample/steps.h"

#include <math.h>

#include <algorithm>
#include <iterator>

namespace pith {
namespace {

enum class Listed : uint32_t { None, Tokens, Weighted };

struct KindInfo {
    const char* name;
    uint32_t values, counts;  // how many of value[] and count[] it takes
    Listed listed;
};
constexpr KindInfo kKinds[] = {{nullptr, 0, 0, Listed::None},
                               {"temperature", 1, 0, Listed::None},
                               {"top-k", 0, 1, Listed::None},
                               {"top-p", 1, 0, Listed::None},
                               {"min-p", 1, 0, Listed::None},
                               {"penalties", 3, 2, Listed::None},
                               {"dynamic temperature", 3, 0, Listed::None},
                               {"top-a", 1, 0, Listed::None},
                               {"typical", 1, 0, Listed::None},
                               {"tail-free", 1, 0, Listed::None},
                               {"top-n-sigma", 1, 0, Listed::None},
                               {"XTC", 2, 0, Listed::Tokens},
                               {"DRY", 2, 2, Listed::Tokens},
                               {"mirostat 1", 2, 1, Listed::None},
                               {"mirostat 2", 2, 0, Listed::None},
                               {"smoothing", 1, 0, Listed::None},
                               {"skew", 1, 0, Listed::None},
                               {"logit bias", 0, 0, Listed::Weighted},
                               {"banned", 0, 0, Listed::Tokens},
                               {"allowed", 0, 0, Listed::Tokens}};

// Printing a float would follow the locale.
const char* describe(float value) {
    if (isnan(value)) return "NaN";
    if (isinf(value)) return "infinite";
    return value < 0 ? "negative" : value > 1 ? "above 1" : value == 0 ? "0" : value == 1 ? "1" : "between 0 and 1";
}

pith_status check_list(const pith_sampler_step& step, uint32_t index, const KindInfo& kind, pith_error* error) {
    if (kind.listed == Listed::None && (step.tokens || step.token_count))
        return fail(error, PITH_E_UNSUPPORTED, "steps[%u].tokens or token_count is set, a %s step takes no list", index, kind.name);
    if (kind.listed != Listed::Weighted && step.weights)
        return fail(error, PITH_E_UNSUPPORTED, "steps[%u].weights is set, a %s step takes none", index, kind.name);
    if (step.token_count > INT32_MAX)
        return fail(error, PITH_E_ARGUMENT, "steps[%u].token_count is %llu, token ids end at %d", index,
                    static_cast<unsigned long long>(step.token_count), INT32_MAX);
    if (step.token_count && (!step.tokens || (kind.listed == Listed::Weighted && !step.weights)))
        return fail(error, PITH_E_ARGUMENT, "steps[%u].%s is NULL, token_count is %llu", index, step.tokens ? "weights" : "tokens",
                    static_cast<unsigned long long>(step.token_count));
    for (uint64_t i = 0; i < step.token_count; i++) {
        if (step.tokens[i] < 0)
            return fail(error, PITH_E_ARGUMENT, "steps[%u].tokens[%llu] is %d, ids are at least 0", index,
                        static_cast<unsigned long long>(i), step.tokens[i]);
        if (kind.listed == Listed::Weighted && !(step.weights[i] <= 3.0e38f))
            return fail(error, PITH_E_ARGUMENT, "steps[%u].weights[%llu] is %s, expected finite or -infinity", index,
                        static_cast<unsigned long long>(i), describe(step.weights[i]));
    }
    return PITH_OK;
}

pith_status check_fields(const pith_sampler_step& step, uint32_t index, pith_error* error) {
    if (step.kind == 0 || step.kind >= std::size(kKinds))
        return fail(error, PITH_E_UNSUPPORTED, "steps[%u].kind is %u, this library knows 1 to %u", index, step.kind,
                    static_cast<uint32_t>(std::size(kKinds)) - 1);
    const KindInfo& kind = kKinds[step.kind];
    if (step.flags) return fail(error, PITH_E_UNSUPPORTED, "steps[%u].flags is %u, a %s step knows none", index, step.flags, kind.name);
    for (uint32_t i = kind.values; i < 4; i++)
        if (step.value[i] != 0)
            return fail(error, PITH_E_UNSUPPORTED, "steps[%u].value[%u] is not 0, a %s step takes %u values", index, i, kind.name,
                        kind.values);
    for (uint32_t i = kind.counts; i < 4; i++)
        if (step.count[i] != 0)
            return fail(error, PITH_E_UNSUPPORTED, "steps[%u].count[%u] is %u, a %s step takes %u counts", index, i, step.count[i],
                        kind.name, kind.counts);
    return check_list(step, index, kind, error);
}

// What value[i] of a kind may be, and what to call it.
struct Range {
    uint32_t kind, value;
    const char* name;
    float least, most;
    bool above;  // the least itself is not allowed
    const char* expected;
};
constexpr float kMost = 3.4028235e38f;
constexpr Range kRanges[] = {
    {PITH_STEP_TEMPERATURE, 0, "", 0, kMost, false, "finite and at least 0"},
    {PITH_STEP_TOP_P, 0, "", 0, 1, true, "above 0 and at most 1"},
    {PITH_STEP_MIN_P, 0, "", 0, 1, false, "0 to 1"},
    {PITH_STEP_PENALTIES, 0, " repetition", 0, kMost, false, "finite and above 0 (1 or 0: off)"},
    {PITH_STEP_PENALTIES, 1, " frequency", -kMost, kMost, false, "finite"},
    {PITH_STEP_PENALTIES, 2, " presence", -kMost, kMost, false, "finite"},
    {PITH_STEP_DYNAMIC_TEMPERATURE, 0, " least", 0, kMost, false, "finite and at least 0"},
    {PITH_STEP_DYNAMIC_TEMPERATURE, 1, " most", 0, kMost, false, "finite and at least 0"},
    {PITH_STEP_DYNAMIC_TEMPERATURE, 2, " exponent", 0, kMost, false, "finite and above 0 (0: 1)"},
    {PITH_STEP_TOP_A, 0, "", 0, 1, false, "0 to 1"},
    {PITH_STEP_TYPICAL, 0, "", 0, 1, false, "0 to 1"},
    {PITH_STEP_TAIL_FREE, 0, "", 0, 1, false, "0 to 1"},
    {PITH_STEP_TOP_N_SIGMA, 0, "", 0, kMost, false, "finite and at least 0"},
    {PITH_STEP_XTC, 0, " probability", 0, 1, false, "0 to 1"},
    {PITH_STEP_XTC, 1, " threshold", 0, 1, false, "0 to 1"},
    {PITH_STEP_DRY, 0, " multiplier", 0, kMost, false, "finite and at least 0"},
    {PITH_STEP_DRY, 1, " base", 0, kMost, false, "finite and at least 1 (0: 1.75)"},
    {PITH_STEP_MIROSTAT_1, 0, " tau", 0, kMost, false, "finite and above 0 (0: 5)"},
    {PITH_STEP_MIROSTAT_1, 1, " eta", 0, kMost, false, "finite and above 0 (0: 0.1)"},
    {PITH_STEP_MIROSTAT_2, 0, " tau", 0, kMost, false, "finite and above 0 (0: 5)"},
    {PITH_STEP_MIROSTAT_2, 1, " eta", 0, kMost, false, "finite and above 0 (0: 0.1)"},
    {PITH_STEP_SMOOTHING, 0, "", 0, kMost, false, "finite and at least 0"},
    {PITH_STEP_SKEW, 0, "", -kMost, kMost, false, "finite"},
};

pith_status check_values(const pith_sampler_step& step, uint32_t index, pith_error* error) {
    for (const Range& range : kRanges) {
        if (range.kind != step.kind) continue;
        const float value = step.value[range.value];
        const bool base = step.kind == PITH_STEP_DRY && range.value == 1 && value > 0 && value < 1;
        if (!base && value >= range.least && value <= range.most && !(range.above && value == range.least)) continue;
        return fail(error, PITH_E_ARGUMENT, "steps[%u].value[%u] (%s%s) is %s, expected %s", index, range.value, kKinds[step.kind].name,
                    range.name, describe(value), range.expected);
    }
    if (step.kind == PITH_STEP_DYNAMIC_TEMPERATURE && step.value[0] > step.value[1])
        return fail(error, PITH_E_ARGUMENT, "steps[%u].value[0] (dynamic temperature least) is above value[1], the most", index);
    return PITH_OK;
}

pith_status check_window(const pith_sampler_step& step, uint32_t index, uint32_t history, pith_error* error) {
    if (step.kind == PITH_STEP_DRY && step.count[1] > history)
        return fail(error, PITH_E_ARGUMENT, "steps[%u].count[1] (DRY range %u) reaches past the %u tokens of options.history", index,
                    step.count[1], history);
    if (step.kind != PITH_STEP_PENALTIES) return PITH_OK;
    if (step.count[1] && !step.count[0])
        return fail(error, PITH_E_ARGUMENT,
                    "steps[%u].count[1] (penalties decay) is %u, but the window before it, count[0], is 0 (everything)", index,
                    step.count[1]);
    if (uint64_t{step.count[0]} + step.count[1] > history)
        return fail(error, PITH_E_ARGUMENT, "steps[%u].count (penalties window %u, decay %u) reaches past the %u tokens of options.history",
                    index, step.count[0], step.count[1], history);
    return PITH_OK;
}

float or_else(float value, float standard) { return value == 0 ? standard : value; }

}  // namespace

pith_status read_step(const pith_sampler_step& given, uint32_t index, uint32_t remembered, Step* step, pith_error* error) {
    PITH_TRY(check_fields(given, index, error));
    PITH_TRY(check_values(given, index, error));
    PITH_TRY(check_window(given, index, remembered, error));
    *step = Step{};
    step->kind = given.kind;
    step->count = given.count[0];
    step->value = given.value[0];
    step->more[0] = given.value[1];
    step->more[1] = given.value[2];
    step->stream = index + 1;
    switch (given.kind) {
        case PITH_STEP_PENALTIES:
            step->penalty = {static_cast<double>(or_else(given.value[0], 1)), static_cast<double>(given.value[1]),
                             static_cast<double>(given.value[2]), given.count[0], given.count[1]};
            break;
        case PITH_STEP_DYNAMIC_TEMPERATURE:
            step->more[1] = or_else(given.value[2], 1);
            break;
        case PITH_STEP_DRY:
            step->more[0] = or_else(given.value[1], 1.75f);
            step->count = given.count[0] ? given.count[0] : 2;
            step->range = given.count[1] ? given.count[1] : remembered;
            break;
        case PITH_STEP_MIROSTAT_1:
        case PITH_STEP_MIROSTAT_2:
            step->value = or_else(given.value[0], 5);
            step->more[0] = or_else(given.value[1], 0.1f);
            step->count = given.count[0] ? given.count[0] : 100;
            break;
        default:
            break;
    }
    return PITH_OK;
}

bool is_idle(const Step& step) {
    switch (step.kind) {
        case PITH_STEP_TEMPERATURE:
            return step.value == 1;
        case PITH_STEP_TOP_K:
            return step.count == 0;
        case PITH_STEP_TOP_P:
            return step.value == 1;
        case PITH_STEP_PENALTIES:
            return step.penalty.repetition == 1 && step.penalty.frequency == 0 && step.penalty.presence == 0;
        case PITH_STEP_DYNAMIC_TEMPERATURE:
            return step.more[0] == 0;
        case PITH_STEP_TYPICAL:
        case PITH_STEP_TAIL_FREE:
            return step.value == 0 || step.value == 1;
        case PITH_STEP_XTC:
            return step.value == 0 || step.more[0] > 0.5f;
        case PITH_STEP_MIROSTAT_1:
        case PITH_STEP_MIROSTAT_2:
        case PITH_STEP_LOGIT_BIAS:
        case PITH_STEP_BANNED:
        case PITH_STEP_ALLOWED:
            return false;  // lists: the caller looks at their length
        default:
            return step.value == 0;
    }
}

uint32_t reach_of(const Step& step, uint32_t remembered) {
    if (step.kind == PITH_STEP_PENALTIES) return step.penalty.window ? step.penalty.window + step.penalty.decay : remembered;
    return step.kind == PITH_STEP_DRY ? step.range : 0;
}

pith_status prepare(const pith_sampler_step& given, uint32_t remembered, Arena& arena, Step* step, pith_error* error) {
    if (given.token_count) {
        step->tokens = arena.make<TokenSet>();
        if (!step->tokens || !step->tokens->build(arena, given.tokens, given.weights, static_cast<size_t>(given.token_count)))
            return fail_memory(error, "a step's tokens", given.token_count * 16);
    }
    const uint32_t reach = reach_of(*step, remembered);
    if (!reach) return PITH_OK;
    step->tally = arena.make<Tally>();
    if (!step->tally || !step->tally->allocate(arena, reach, step->penalty.decay != 0))
        return fail_memory(error, "a step's counts", uint64_t{reach} * 32);
    if (step->kind != PITH_STEP_DRY) return PITH_OK;
    step->lengths = arena.make<uint32_t>(size_t{2} * reach + 2);
    return step->lengths ? PITH_OK : fail_memory(error, "a step's matches", uint64_t{reach} * 8);
}

}  // namespace pith
