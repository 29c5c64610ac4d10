// The sampler: an ordered list of steps over a row of logits, then one draw.
#pragma once
#include <pith/sampler.h>

#include "base/status.h"
#include "sample/candidates.h"

namespace pith {

// One thread at a time. Everything is allocated by configure(); the allocator must outlive it.
class Sampler {
public:
    using Step = pith::Step;

    // Any tier draws the same.
    explicit Sampler(const Allocator& allocator, ScanTier tier = ScanTier::Plain)
        : scan_(scan_table(tier)),
          memory_(allocator),
          steps_(allocator),
          history_(allocator),
          scratch_(allocator),
          mu_(allocator),
          logprobs_(allocator) {}

    // Once. `options` has been through read_options.
    pith_status configure(const pith_sampler_options& options, pith_error* error);
    // Draws from the ids below min(count, vocabulary) and records the token. On failure nothing changes.
    pith_status sample(const float* logits, size_t count, pith_token* token, pith_error* error);
    // The same in two parts: a draw that keeps the token in mind, and the record of it.
    pith_status draw(const float* logits, size_t count, pith_error* error);
    pith_token commit();
    void discard() { logprob_count_ = 0; }
    // Records all or none.
    pith_status accept(const pith_token* tokens, size_t count, pith_error* error);
    // As if only the first `length` tokens had been recorded, or PITH_E_ARGUMENT if that can't be known any more.
    pith_status truncate(size_t length, pith_error* error);
    // As if nothing had been recorded, with another seed.
    void restart(uint64_t seed);
    // Of the last draw: the token drawn, then the likeliest. PITH_E_STATE if there is none.
    pith_status logprobs(const pith_logprob** items, size_t* count, pith_error* error) const;

    // For who draws elsewhere: the steps that do something, what they look at, and how to record what was drawn.
    const Array<Step>& steps() const { return steps_; }
    const History& history() const { return history_; }
    uint64_t seed() const { return seed_; }
    uint32_t vocabulary() const { return vocabulary_; }
    bool wants_logprobs() const { return wanted_ != 0; }
    void record(pith_token token) { record(token, 0); }

private:
    pith_status add_step(const pith_sampler_step& given, uint32_t index, uint32_t count, pith_error* error);
    pith_status allocate(pith_error* error);
    size_t list_length() const;
    void apply(const Step& step, Candidates& candidates);
    void record(int32_t token, double surprise);
    double mu() const;

    const ScanTable& scan_;
    Arena memory_;       // what steps keep
    Array<Step> steps_;  // those that do something
    History history_;
    Scratch scratch_;
    Array<float> mu_;  // mirostat's state after so many tokens; a ring, longer than the history's
    Array<pith_logprob> logprobs_;
    uint64_t seed_ = 0;
    uint32_t vocabulary_ = 0, remembered_ = 0, wanted_ = 0;
    size_t logprob_count_ = 0;
    bool filtered_ = false;  // log-probabilities after the steps
    bool decided_ = false;   // a step left one token: after it only those count that may take it away
    Draw drawn_{};
};

}  // namespace pith
