// Logits and tokens back from the GPU.
#include <string.h>

#include "session.h"

namespace pith::cuda {
namespace {

// kernels/sample.h takes steps as lib/sample keeps them.
struct Step {
    uint32_t kind, count;
    float value;
    struct {
        double repetition, frequency, presence;
        uint32_t window, decay;
    } penalty;
};
struct Steps {
    Step at[kSampleMaxSteps * 2];
    uint32_t count;
    const Step* begin() const { return at; }
    const Step* end() const { return at + count; }
};

// The request as the kernel wants it, in `state`. False: not a chain for the GPU.
bool translate(const SampleRequest& request, uint32_t vocab, SampleState* state) {
    Steps steps{};
    if (request.step_count > sizeof steps.at / sizeof *steps.at || request.ring_size > kHistory) return false;
    for (; steps.count < request.step_count; steps.count++) {
        const pith::SampleStep& from = request.steps[steps.count];
        steps.at[steps.count] = {
            from.kind, from.count, from.value, {from.repetition, from.frequency, from.presence, from.window, from.decay}};
    }
    if (!sample_chain(steps, request.seed, request.vocabulary, vocab, &state->chain)) return false;
    state->history = {request.recorded, request.remembered, static_cast<uint32_t>(request.ring_size)};
    return true;
}

// Brings the device's copy up to date, if the sampler did anything since but record what was drawn here.
pith_status upload_state(Session& s, const SampleRequest& request, const SampleState& wanted, pith_error* error) {
    SampleState& held = s.pinned->state;
    const size_t ring = static_cast<size_t>(request.ring_size) * sizeof(int32_t);
    if (s.state_valid && memcmp(&held.chain, &wanted.chain, sizeof held.chain) == 0 && held.history.recorded == wanted.history.recorded &&
        held.history.length == wanted.history.length && held.history.ring_size == wanted.history.ring_size &&
        (ring == 0 || memcmp(held.ring, request.ring, ring) == 0))
        return PITH_OK;
    s.state_valid = false;
    PITH_TRY(wait_for_all(s, "a sampler", error));  // an upload before may still be reading
    held.chain = wanted.chain;
    held.history = wanted.history;
    if (ring) memcpy(held.ring, request.ring, ring);
    const Driver& d = s.device.driver();
    const Submission copy(s.meter, Work::ToDevice, offsetof(SampleState, ring) + ring);
    PITH_TRY(check(d, d.MemcpyHtoDAsync(address(s.at.state), &held, offsetof(SampleState, ring) + ring, s.stream), "a sampler", error));
    s.state_valid = true;
    return PITH_OK;
}

pith_status explain(const SampleResult& result, uint32_t vocab, pith_error* error) {
    switch (result.status) {
        case SampleStatus::Nan:
            return fail(error, PITH_E_NUMERIC, "the logit of token %u is NaN", result.index);
        case SampleStatus::Infinite:
            return fail(error, PITH_E_NUMERIC, "the logit of token %u is infinite", result.index);
        default:
            return fail(error, PITH_E_NUMERIC, "nothing is left to sample: all %u logits are -infinity", vocab);
    }
}

}  // namespace

pith_status session_logits(void* session, const float** logits, pith_error* error) {
    Session& s = *static_cast<Session*>(session);
    *logits = s.host_logits;
    if (s.on_host) return PITH_OK;
    const Driver& d = s.device.driver();
    const ContextScope scope(d, s.device.context(), error);
    PITH_TRY(scope.status());
    const uint64_t bytes = uint64_t{s.rows} * s.model->file->config.vocab_size * sizeof(float);
    {
        const Submission copy(s.meter, Work::ToHost, bytes);
        PITH_TRY(check(d, d.MemcpyDtoHAsync(s.host_logits, address(s.at.logits[s.current]), static_cast<size_t>(bytes), s.stream), "logits",
                       error));
    }
    PITH_TRY(wait_for_all(s, "logits", error));
    s.meter.settle();
    s.on_host = true;
    return PITH_OK;
}

pith_status session_sample(void* session, uint32_t row, const SampleRequest* request, pith_token* token, pith_error* error) {
    Session& s = *static_cast<Session*>(session);
    const uint32_t vocab = s.model->file->config.vocab_size;
    SampleState& wanted = *s.scratch;
    if (!translate(*request, vocab, &wanted)) return PITH_PENDING;
    const Driver& d = s.device.driver();
    const ContextScope scope(d, s.device.context(), error);
    PITH_TRY(scope.status());
    PITH_TRY(upload_state(s, *request, wanted, error));
    SampleArgs a{};
    a.logits = s.at.logits[s.current] + uint64_t{row} * vocab;
    a.chain = &s.at.state->chain;
    a.history = &s.at.state->history;
    a.ring = s.at.state->ring;
    a.workspace = s.at.sample;
    a.result = reinterpret_cast<SampleResult*>(s.pinned_at + offsetof(Pinned, result));
    a.next = s.at.next;
    a.vocab = vocab;
    a.record = 1;
    const SampleGeometry shape = sample_geometry(vocab);
    {
        const Submission draw(s.meter, Work::Draw, 1);
        PITH_TRY(session_launch(s, "pith_sample", {shape.grid, 1, shape.block, shape.shared}, &a, error));
    }
    PITH_TRY(check(d, d.EventRecord(s.drawn, s.stream), "a token", error));
    const bool ahead = s.ahead_wanted && s.decodes && row + 1 == s.rows && s.length < s.shape.context_length;
    s.ahead.on = false;
    if (ahead) PITH_TRY(enqueue_step(s, -1, s.length, s.current ^ 1, error));
    PITH_TRY(wait_for(d, s.drawn, s.shape.wait, "a token", error));
    s.meter.settle();
    const SampleResult result = s.pinned->result;
    if (result.status != SampleStatus::Ok) return explain(result, vocab, error);
    // What the kernel recorded, in our copy of its state.
    SampleHistory& history = s.pinned->state.history;
    if (history.ring_size) s.pinned->state.ring[history.recorded % history.ring_size] = result.token;
    history.recorded++;
    *token = result.token;
    if (ahead) {
        s.ahead.on = true;
        s.ahead.length = s.length;
        s.ahead.token = result.token;
    }
    return PITH_OK;
}

}  // namespace pith::cuda
