// Checks the steps once, then runs them for every token.
#include "sample/sampler.h"

#include <math.h>

#include <algorithm>

#include "parallel/fp_scope.h"
#include "sample/dry.h"
#include "sample/philox.h"

namespace pith {
namespace {

constexpr uint32_t kDefaultVocabulary = 262144;
constexpr uint32_t kDefaultHistory = 1024;
constexpr uint32_t kMaxHistory = 1u << 30;
constexpr double kLn2 = 0.69314718055994530942;

bool is_mirostat(uint32_t kind) { return kind == PITH_STEP_MIROSTAT_1 || kind == PITH_STEP_MIROSTAT_2; }
bool is_list(uint32_t kind) { return kind == PITH_STEP_LOGIT_BIAS || kind == PITH_STEP_BANNED || kind == PITH_STEP_ALLOWED; }
bool is_edit(uint32_t kind) {
    return kind == PITH_STEP_PENALTIES || kind == PITH_STEP_DRY || kind == PITH_STEP_LOGIT_BIAS || kind == PITH_STEP_BANNED;
}

}  // namespace

pith_status Sampler::add_step(const pith_sampler_step& given, uint32_t index, uint32_t count, pith_error* error) {
    Step step;
    PITH_TRY(read_step(given, index, remembered_, &step, error));
    if (is_mirostat(step.kind) && index + 1 != count)
        return fail(error, PITH_E_ARGUMENT, "steps[%u].kind is mirostat, which must be the last of the %u steps", index, count);
    if (is_idle(step) || (is_list(step.kind) && !given.token_count)) return PITH_OK;
    if (decided_ && !is_list(step.kind)) return PITH_OK;
    decided_ |= (step.kind == PITH_STEP_TEMPERATURE && step.value == 0) || (step.kind == PITH_STEP_TOP_K && step.count == 1);
    PITH_TRY(prepare(given, remembered_, memory_, &step, error));
    return steps_.push(step) ? PITH_OK : fail_memory(error, "the sampler's steps", (steps_.size() + 1) * sizeof(Step));
}

// The first step that lists the row decides: the others only shorten.
size_t Sampler::list_length() const {
    size_t length = Candidates::list_for_top(std::max(wanted_, 1u), vocabulary_);
    for (const Step& step : steps_) {
        switch (step.kind) {
            case PITH_STEP_TEMPERATURE:
                if (step.value == 0) return length;
                continue;
            case PITH_STEP_TOP_K:
                return std::max(length, Candidates::list_for_top(step.count, vocabulary_));
            case PITH_STEP_ALLOWED:
                return std::max(length, std::min<size_t>(step.tokens->size(), vocabulary_));
            case PITH_STEP_DYNAMIC_TEMPERATURE:
            case PITH_STEP_SMOOTHING:
                continue;
            default:
                if (!is_edit(step.kind)) return Candidates::list_for_all(vocabulary_);
        }
    }
    return length;
}

pith_status Sampler::allocate(pith_error* error) {
    bool copies = false, mirostat = false;
    uint32_t reach = 0;
    for (const Step& step : steps_) {
        reach = std::max(reach, reach_of(step, remembered_));
        copies |= is_edit(step.kind) || step.kind == PITH_STEP_SMOOTHING;
        mirostat |= is_mirostat(step.kind);
    }
    const size_t list = list_length(), blocks = scan_blocks(vocabulary_);
    if (!scratch_.list.resize(list)) return fail_memory(error, "the sampler's candidates", list * sizeof(Candidate));
    if (!scratch_.blocks.resize(blocks)) return fail_memory(error, "the sampler's sums", blocks * sizeof(double));
    if (!scratch_.maxima.resize(scan_maxima(vocabulary_))) return fail_memory(error, "the sampler's maxima", scan_maxima(vocabulary_) * 4);
    if (!scratch_.edits.reserve(steps_.size())) return fail_memory(error, "the sampler's edits", steps_.size() * sizeof(Edit));
    if (!history_.allocate(reach || mirostat ? remembered_ : 0))
        return fail_memory(error, "the sampler's history", uint64_t{remembered_} * 8);
    if (mirostat && !mu_.resize(size_t{2} * remembered_ + 1)) return fail_memory(error, "mirostat's history", uint64_t{remembered_} * 8);
    if (copies && !scratch_.logits.resize(vocabulary_)) return fail_memory(error, "the sampler's logits", uint64_t{vocabulary_} * 4);
    if (wanted_ && !logprobs_.resize(size_t{wanted_} + 1)) return fail_memory(error, "log-probabilities", uint64_t{wanted_} * 8);
    return PITH_OK;
}

pith_status Sampler::configure(const pith_sampler_options& options, pith_error* error) {
    if (options.flags & ~uint32_t{PITH_SAMPLER_LOGPROBS_FILTERED})
        return fail(error, PITH_E_UNSUPPORTED, "options.flags is %u, this library knows 1", options.flags);
    if (options.reserved) return fail(error, PITH_E_UNSUPPORTED, "options.reserved is %u, expected 0", options.reserved);
    if (options.step_count && !options.steps)
        return fail(error, PITH_E_ARGUMENT, "options.steps is NULL, step_count is %u", options.step_count);
    if (options.vocab_size > INT32_MAX)
        return fail(error, PITH_E_ARGUMENT, "options.vocab_size is %u, token ids end at %d", options.vocab_size, INT32_MAX);
    if (options.history > kMaxHistory)
        return fail(error, PITH_E_ARGUMENT, "options.history is %u, at most %u are remembered", options.history, kMaxHistory);
    seed_ = options.seed;
    vocabulary_ = options.vocab_size ? options.vocab_size : kDefaultVocabulary;
    remembered_ = options.history ? options.history : kDefaultHistory;
    wanted_ = options.logprobs;
    if (wanted_ > vocabulary_)
        return fail(error, PITH_E_ARGUMENT, "options.logprobs is %u, there are %u tokens (options.vocab_size)", wanted_, vocabulary_);
    filtered_ = options.flags & PITH_SAMPLER_LOGPROBS_FILTERED;
    for (uint32_t i = 0; i < options.step_count; i++) PITH_TRY(add_step(options.steps[i], i, options.step_count, error));
    if (options.step_count == 0) {
        pith_sampler_step greedy{};
        greedy.kind = PITH_STEP_TEMPERATURE;
        PITH_TRY(add_step(greedy, 0, 1, error));
    }
    return allocate(error);
}

void Sampler::apply(const Step& step, Candidates& c) {
    switch (step.kind) {
        case PITH_STEP_TEMPERATURE:
            return step.value > 0 ? c.heat(static_cast<double>(step.value)) : c.keep_largest();
        case PITH_STEP_TOP_K:
            return c.keep_top(step.count);
        case PITH_STEP_TOP_P:
            return c.keep_mass(step.value);
        case PITH_STEP_MIN_P:
            return c.keep_relative(step.value);
        case PITH_STEP_PENALTIES:
            step.tally->follow(history_, {step.penalty.window, step.penalty.decay});
            return c.edit(step);
        case PITH_STEP_DRY:
            find_repeats(step, history_);
            return c.edit(step);
        case PITH_STEP_LOGIT_BIAS:
        case PITH_STEP_BANNED:
            return c.edit(step);
        case PITH_STEP_ALLOWED:
            return c.allow(*step.tokens);
        case PITH_STEP_DYNAMIC_TEMPERATURE:
            return c.heat_by_entropy(step.value, step.more[0], step.more[1]);
        case PITH_STEP_TOP_A:
            return c.keep_above_square(step.value);
        case PITH_STEP_TYPICAL:
            return c.keep_typical(step.value);
        case PITH_STEP_TAIL_FREE:
            return c.keep_head(step.value);
        case PITH_STEP_TOP_N_SIGMA:
            return c.keep_sigmas(step.value);
        case PITH_STEP_XTC:
            if (philox_uniform(seed_, history_.recorded(), step.stream) < static_cast<double>(step.value))
                c.exclude_top(step.more[0], step.tokens);
            return;
        case PITH_STEP_MIROSTAT_1:
            return c.keep_estimate(mu(), step.count, vocabulary_);
        case PITH_STEP_MIROSTAT_2:
            return c.keep_surprise(mu());
        case PITH_STEP_SMOOTHING:
            return c.smooth(step.value);
        default:
            return c.skew(step.value);
    }
}

pith_status Sampler::draw(const float* logits, size_t count, pith_error* error) {
    const FpScope fp;
    const size_t n = std::min(count, size_t{vocabulary_});
    if (n == 0) return fail(error, PITH_E_ARGUMENT, "count is 0: no logits to sample from");
    const Largest largest = scan_.summarise(logits, n, scratch_.maxima.data());
    if (largest.nan) {
        size_t i = 0;
        while (!isnan(logits[i])) i++;
        return fail(error, PITH_E_NUMERIC, "the logit of token %zu is NaN", i);
    }
    if (!isfinite(largest.value))
        return largest.value > 0 ? fail(error, PITH_E_NUMERIC, "the logit of token %zu is infinite",
                                        scan_.find(logits, n, scratch_.maxima.data(), largest.value))
                                 : fail(error, PITH_E_NUMERIC, "nothing is left to sample: all %zu logits are -infinity", n);
    scratch_.edits.clear();
    double raw_mass = 0;
    if (wanted_ && !filtered_) {
        Candidates raw(scratch_, scan_, logits, n, largest.value);
        logprob_count_ = 1 + raw.best(wanted_, &raw_mass, logprobs_.data() + 1);
    }
    Candidates candidates(scratch_, scan_, logits, n, largest.value);
    for (const Step& step : steps_) {
        apply(step, candidates);
        if (candidates.empty()) break;
    }
    if (!candidates.settle()) {
        logprob_count_ = 0;
        return fail(error, PITH_E_NUMERIC, "nothing is left to sample: the steps took all %zu tokens away", n);
    }
    drawn_ = candidates.draw(philox_uniform(seed_, history_.recorded()));
    if (!wanted_) return PITH_OK;
    double mass = 0;
    if (filtered_) logprob_count_ = 1 + candidates.best(wanted_, &mass, logprobs_.data() + 1);
    const double raw = static_cast<double>(logits[drawn_.token]) - static_cast<double>(largest.value) - log(raw_mass);
    logprobs_[0] = {drawn_.token, static_cast<float>(filtered_ ? drawn_.log_probability : raw)};
    return PITH_OK;
}

pith_token Sampler::commit() {
    const FpScope fp;
    record(drawn_.token, -drawn_.log_probability / kLn2);
    return drawn_.token;
}

pith_status Sampler::sample(const float* logits, size_t count, pith_token* token, pith_error* error) {
    PITH_TRY(draw(logits, count, error));
    *token = commit();
    return PITH_OK;
}

// Mirostat's state now: a function of what was recorded, so that a rewind finds it again.
double Sampler::mu() const {
    const uint64_t recorded = history_.recorded();
    if (recorded == 0) return 2 * static_cast<double>(steps_[steps_.size() - 1].value);
    return static_cast<double>(mu_[recorded % mu_.size()]);
}

// A token that wasn't drawn here surprises nobody: `surprise` below 0.
void Sampler::record(int32_t token, double surprise) {
    if (!mu_.empty()) {
        const Step& step = steps_[steps_.size() - 1];
        const double change = surprise < 0 ? 0 : static_cast<double>(step.more[0]) * (surprise - static_cast<double>(step.value));
        mu_[(history_.recorded() + 1) % mu_.size()] = static_cast<float>(mu() - change);
    }
    history_.record(token);
}

pith_status Sampler::accept(const pith_token* tokens, size_t count, pith_error* error) {
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0) return fail(error, PITH_E_ARGUMENT, "tokens[%zu] is %d, ids are at least 0", i, tokens[i]);
    const FpScope fp;
    for (size_t i = 0; i < count; i++) record(tokens[i], -1);
    if (count) logprob_count_ = 0;
    return PITH_OK;
}

pith_status Sampler::truncate(size_t length, pith_error* error) {
    const uint64_t recorded = history_.recorded();
    if (length > recorded)
        return fail(error, PITH_E_ARGUMENT, "length is %zu, only %llu tokens are recorded", length,
                    static_cast<unsigned long long>(recorded));
    if (!history_.rewind(length))
        return fail(error, PITH_E_ARGUMENT,
                    "length is %zu of %llu: steps look at the %u tokens before it, and some are forgotten; raise options.history", length,
                    static_cast<unsigned long long>(recorded), history_.length());
    logprob_count_ = 0;
    return PITH_OK;
}

void Sampler::restart(uint64_t seed) {
    (void)history_.rewind(0);  // always known
    seed_ = seed;
    logprob_count_ = 0;
}

pith_status Sampler::logprobs(const pith_logprob** items, size_t* count, pith_error* error) const {
    if (!wanted_) return fail(error, PITH_E_STATE, "the sampler was made without options.logprobs");
    if (!logprob_count_)
        return fail(error, PITH_E_STATE,
                    "no log-probabilities: nothing was drawn since the sampler was made, rewound or told of other tokens");
    *items = logprobs_.data();
    *count = logprob_count_;
    return PITH_OK;
}

}  // namespace pith
