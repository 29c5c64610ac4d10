// The sampler: an ordered list of steps over a row of logits, then one draw.
#pragma once
#include <pith/sampler.h>

#include "base/status.h"
#include "sample/candidates.h"
#include "sample/history.h"
#include "sample/penalties.h"

namespace pith {

// One thread at a time. Everything is allocated by configure(); the allocator must outlive it.
class Sampler {
public:
    explicit Sampler(const Allocator& allocator) : steps_(allocator), history_(allocator), scratch_(allocator) {}

    // Once. `options` has been through read_options.
    pith_status configure(const pith_sampler_options& options, pith_error* error);
    // Draws from the ids below min(count, vocabulary) and records the token. On failure nothing changes.
    pith_status sample(const float* logits, size_t count, pith_token* token, pith_error* error);
    // Records all or none.
    pith_status accept(const pith_token* tokens, size_t count, pith_error* error);
    // As if only the first `length` tokens had been recorded, or PITH_E_ARGUMENT if that can't be known any more.
    pith_status truncate(size_t length, pith_error* error);

    // For who draws elsewhere: the steps that do something, what they look at, and how to record what was drawn.
    struct Step {
        uint32_t kind;  // PITH_STEP_*
        uint32_t count;
        float value;
        Penalty penalty;
    };
    const Array<Step>& steps() const { return steps_; }
    const History& history() const { return history_; }
    uint64_t seed() const { return seed_; }
    uint32_t vocabulary() const { return vocabulary_; }
    void record(pith_token token) { history_.record(token); }

private:
    pith_status add_step(const pith_sampler_step& given, uint32_t index, pith_error* error);
    pith_status allocate(pith_error* error);

    Array<Step> steps_;  // those that do something, up to the first that leaves one token
    History history_;
    Scratch scratch_;
    uint64_t seed_ = 0;
    uint32_t vocabulary_ = 0, remembered_ = 0;
    bool decided_ = false;  // the last step leaves one token
};

}  // namespace pith
