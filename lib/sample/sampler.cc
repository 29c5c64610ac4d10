// Checks the steps once, then runs them for every token.
#include "sample/sampler.h"

#include <math.h>

#include <algorithm>

#include "parallel/fp_scope.h"
#include "sample/philox.h"

namespace pith {
namespace {

constexpr uint32_t kDefaultVocabulary = 262144;
constexpr uint32_t kDefaultHistory = 1024;
constexpr uint32_t kMaxHistory = 1u << 30;

struct KindInfo {
    const char* name;
    uint32_t values, counts;  // how many of value[] and count[] it takes
};
constexpr KindInfo kKinds[] = {
    {nullptr, 0, 0}, {"temperature", 1, 0}, {"top-k", 0, 1}, {"top-p", 1, 0}, {"min-p", 1, 0}, {"penalties", 3, 2},
};

// Printing a float would follow the locale.
const char* describe(float value) {
    if (isnan(value)) return "NaN";
    if (isinf(value)) return "infinite";
    return value < 0 ? "negative" : value > 1 ? "above 1" : value == 0 ? "0" : "in range";
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
    if (step.tokens || step.weights || step.token_count)
        return fail(error, PITH_E_UNSUPPORTED, "steps[%u].tokens, weights or token_count is set, a %s step takes no list", index,
                    kind.name);
    return PITH_OK;
}

pith_status refuse(uint32_t index, const pith_sampler_step& step, uint32_t i, const char* expected, pith_error* error) {
    static constexpr const char* kNames[] = {" repetition", " frequency", " presence"};
    return fail(error, PITH_E_ARGUMENT, "steps[%u].value[%u] (%s%s) is %s, expected %s", index, i, kKinds[step.kind].name,
                step.kind == PITH_STEP_PENALTIES ? kNames[i] : "", describe(step.value[i]), expected);
}

pith_status check_values(const pith_sampler_step& step, uint32_t index, pith_error* error) {
    const float first = step.value[0];
    switch (step.kind) {
        case PITH_STEP_TEMPERATURE:
            if (!isfinite(first) || first < 0) return refuse(index, step, 0, "finite and at least 0", error);
            break;
        case PITH_STEP_TOP_P:
            if (!(first > 0 && first <= 1)) return refuse(index, step, 0, "above 0 and at most 1", error);
            break;
        case PITH_STEP_MIN_P:
            if (!(first >= 0 && first <= 1)) return refuse(index, step, 0, "0 to 1", error);
            break;
        case PITH_STEP_PENALTIES:
            if (!isfinite(first) || first < 0) return refuse(index, step, 0, "finite and above 0 (1 or 0: off)", error);
            for (uint32_t i = 1; i < 3; i++)
                if (!isfinite(step.value[i])) return refuse(index, step, i, "finite", error);
            break;
        default:
            break;
    }
    return PITH_OK;
}

pith_status check_window(const pith_sampler_step& step, uint32_t index, uint32_t history, pith_error* error) {
    if (step.count[1] && !step.count[0])
        return fail(error, PITH_E_ARGUMENT,
                    "steps[%u].count[1] (penalties decay) is %u, but the window before it, count[0], is 0 (everything)", index,
                    step.count[1]);
    if (uint64_t{step.count[0]} + step.count[1] > history)
        return fail(error, PITH_E_ARGUMENT, "steps[%u].count (penalties window %u, decay %u) reaches past the %u tokens of options.history",
                    index, step.count[0], step.count[1], history);
    return PITH_OK;
}

}  // namespace

pith_status Sampler::add_step(const pith_sampler_step& given, uint32_t index, pith_error* error) {
    PITH_TRY(check_fields(given, index, error));
    PITH_TRY(check_values(given, index, error));
    Step step{given.kind, given.count[0], given.value[0], {}};
    bool idle = false, decides = false;
    switch (given.kind) {
        case PITH_STEP_TEMPERATURE:
            idle = step.value == 1;
            decides = step.value == 0;
            break;
        case PITH_STEP_TOP_K:
            idle = step.count == 0 || step.count >= vocabulary_;
            decides = step.count == 1;
            break;
        case PITH_STEP_TOP_P:
            idle = step.value == 1;
            break;
        case PITH_STEP_MIN_P:
            idle = step.value == 0;
            break;
        case PITH_STEP_PENALTIES:
            PITH_TRY(check_window(given, index, remembered_, error));
            step.penalty = {given.value[0] == 0 ? 1.0 : static_cast<double>(given.value[0]), static_cast<double>(given.value[1]),
                            static_cast<double>(given.value[2]), given.count[0], given.count[1]};
            idle = step.penalty.repetition == 1 && step.penalty.frequency == 0 && step.penalty.presence == 0;
            break;
        default:
            break;
    }
    if (idle || decided_) return PITH_OK;
    decided_ = decides;
    return steps_.push(step) ? PITH_OK : fail_memory(error, "the sampler's steps", (steps_.size() + 1) * sizeof(Step));
}

pith_status Sampler::allocate(pith_error* error) {
    size_t list = 1;
    bool listed = false, penalties = false;
    uint32_t window = 0;
    for (const Step& step : steps_) {
        if (step.kind == PITH_STEP_PENALTIES) {
            penalties = true;
            const uint32_t reach = step.penalty.window ? step.penalty.window + step.penalty.decay : remembered_;
            window = std::max(window, reach);
        }
        if (listed || (step.kind != PITH_STEP_TOP_K && step.kind != PITH_STEP_TOP_P && step.kind != PITH_STEP_MIN_P)) continue;
        // The first step that may list the row decides: the others only shorten.
        list = step.kind == PITH_STEP_TOP_K ? Candidates::list_for_top(step.count, vocabulary_) : vocabulary_;
        listed = true;
    }
    if (!scratch_.list.resize(list)) return fail_memory(error, "the sampler's candidates", list * sizeof(Candidate));
    const size_t blocks = (size_t{vocabulary_} + kScanBlock - 1) / kScanBlock;
    if (!scratch_.blocks.resize(blocks)) return fail_memory(error, "the sampler's sums", blocks * sizeof(double));
    if (!history_.allocate(penalties ? remembered_ : 0)) return fail_memory(error, "the sampler's history", uint64_t{remembered_} * 8);
    if (!penalties) return PITH_OK;
    if (!scratch_.logits.resize(vocabulary_)) return fail_memory(error, "the sampler's logits", uint64_t{vocabulary_} * 4);
    if (!scratch_.tally.allocate(window)) return fail_memory(error, "the sampler's tally", uint64_t{window} * sizeof(Tally::Entry));
    return PITH_OK;
}

pith_status Sampler::configure(const pith_sampler_options& options, pith_error* error) {
    if (options.flags) return fail(error, PITH_E_UNSUPPORTED, "options.flags is %u, this library knows none", options.flags);
    if (options.step_count && !options.steps)
        return fail(error, PITH_E_ARGUMENT, "options.steps is NULL, step_count is %u", options.step_count);
    if (options.vocab_size > INT32_MAX)
        return fail(error, PITH_E_ARGUMENT, "options.vocab_size is %u, token ids end at %d", options.vocab_size, INT32_MAX);
    if (options.history > kMaxHistory)
        return fail(error, PITH_E_ARGUMENT, "options.history is %u, at most %u are remembered", options.history, kMaxHistory);
    seed_ = options.seed;
    vocabulary_ = options.vocab_size ? options.vocab_size : kDefaultVocabulary;
    remembered_ = options.history ? options.history : kDefaultHistory;
    for (uint32_t i = 0; i < options.step_count; i++) PITH_TRY(add_step(options.steps[i], i, error));
    if (options.step_count == 0) {
        pith_sampler_step greedy{};
        greedy.kind = PITH_STEP_TEMPERATURE;
        PITH_TRY(add_step(greedy, 0, error));
    }
    return allocate(error);
}

pith_status Sampler::sample(const float* logits, size_t count, pith_token* token, pith_error* error) {
    const FpScope fp;
    const size_t n = std::min(count, size_t{vocabulary_});
    if (n == 0) return fail(error, PITH_E_ARGUMENT, "count is 0: no logits to sample from");
    const Largest largest = find_largest(logits, n);
    if (largest.nan) {
        size_t i = 0;
        while (!isnan(logits[i])) i++;
        return fail(error, PITH_E_NUMERIC, "the logit of token %zu is NaN", i);
    }
    if (!isfinite(largest.value))
        return largest.value > 0 ? fail(error, PITH_E_NUMERIC, "the logit of token %zu is infinite", largest.index)
                                 : fail(error, PITH_E_NUMERIC, "nothing is left to sample: all %zu logits are -infinity", n);
    Candidates candidates(scratch_, logits, n, largest);
    for (const Step& step : steps_) {
        switch (step.kind) {
            case PITH_STEP_TEMPERATURE:
                step.value > 0 ? candidates.heat(step.value) : candidates.keep_largest();
                break;
            case PITH_STEP_TOP_K:
                candidates.keep_top(step.count);
                break;
            case PITH_STEP_TOP_P:
                candidates.keep_mass(step.value);
                break;
            case PITH_STEP_MIN_P:
                candidates.keep_relative(step.value);
                break;
            default:
                candidates.penalise(step.penalty, history_);
        }
    }
    const int32_t drawn = candidates.draw(philox_uniform(seed_, history_.recorded()));
    history_.record(drawn);
    *token = drawn;
    return PITH_OK;
}

pith_status Sampler::accept(const pith_token* tokens, size_t count, pith_error* error) {
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0) return fail(error, PITH_E_ARGUMENT, "tokens[%zu] is %d, ids are at least 0", i, tokens[i]);
    for (size_t i = 0; i < count; i++) history_.record(tokens[i]);
    return PITH_OK;
}

pith_status Sampler::truncate(size_t length, pith_error* error) {
    const uint64_t recorded = history_.recorded();
    if (length > recorded)
        return fail(error, PITH_E_ARGUMENT, "length is %zu, only %llu tokens are recorded", length,
                    static_cast<unsigned long long>(recorded));
    if (!history_.rewind(length))
        return fail(error, PITH_E_ARGUMENT,
                    "length is %zu of %llu: penalties look at the %u tokens before it, and some are forgotten; raise options.history",
                    length, static_cast<unsigned long long>(recorded), history_.length());
    return PITH_OK;
}

}  // namespace pith
