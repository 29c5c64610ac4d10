// <pith/sampler.h>: many rows at once, on the threads that the caller lends.
#include "api/sampler.h"
#include "base/status.h"

using namespace pith;

namespace {

// The bytes of logits that are worth a helper: about fifty microseconds of draws, where waking a thread takes five to ten.
constexpr uint64_t kBytesPerHelper = 2 << 20;

struct Batch {
    pith_sampler* const* samplers;
    const float* const* logits;
    size_t count, rows;
};

pith_status check(const Batch& batch, const pith_token* tokens, pith_error* error) {
    if (!batch.samplers) return fail(error, PITH_E_ARGUMENT, "samplers is NULL");
    if (!batch.logits) return fail(error, PITH_E_ARGUMENT, "logits is NULL");
    if (!tokens) return fail(error, PITH_E_ARGUMENT, "tokens is NULL");
    if (batch.rows > INT32_MAX) return fail(error, PITH_E_ARGUMENT, "rows is %zu, at most %d are taken", batch.rows, INT32_MAX);
    for (size_t i = 0; i < batch.rows; i++) {
        if (!batch.samplers[i]) return fail(error, PITH_E_ARGUMENT, "samplers[%zu] is NULL", i);
        if (!batch.logits[i]) return fail(error, PITH_E_ARGUMENT, "logits[%zu] is NULL", i);
        if (batch.samplers[i]->env != batch.samplers[0]->env)
            return fail(error, PITH_E_ARGUMENT, "samplers[%zu] was made with another env than samplers[0]", i);
    }
    size_t marked = 0;
    while (marked < batch.rows && !batch.samplers[marked]->in_batch) batch.samplers[marked++]->in_batch = true;
    for (size_t i = 0; i < marked; i++) batch.samplers[i]->in_batch = false;
    return marked == batch.rows ? PITH_OK : fail(error, PITH_E_ARGUMENT, "samplers[%zu] is there twice", marked);
}

pith_status draw(const Batch& batch, const pith_runner& runner, pith_error* error) {
    Crew& crew = batch.samplers[0]->crew;
    crew.set_runner(runner);
    crew.begin();
    auto body = [&](uint32_t row, uint32_t) {
        pith_sampler& sampler = *batch.samplers[row];
        sampler.drawn = sampler.sampler.draw(batch.logits[row], batch.count, nullptr);
    };
    const uint64_t bytes = uint64_t{batch.count} * batch.rows * sizeof(float);
    crew.run(static_cast<uint32_t>(batch.rows), bytes / (kBytesPerHelper / Crew::kBytesPerSlot), body);
    crew.settle();
    if (crew.take_breaches()) return fail(error, PITH_E_RUNNER, "the runner broke its contract while rows were sampled");
    for (size_t i = 0; i < batch.rows; i++) {
        if (batch.samplers[i]->drawn >= 0) continue;
        pith_error why{};
        const pith_status status = batch.samplers[i]->sampler.draw(batch.logits[i], batch.count, &why);
        return fail(error, status, "row %zu: %s", i, why.message);
    }
    return PITH_OK;
}

}  // namespace

pith_status pith_sampler_sample_batch(pith_sampler* const* samplers, const float* const* logits, size_t count, size_t rows,
                                      const pith_runner* runner, pith_token* tokens, pith_error* error) {
    if (rows == 0) return PITH_OK;
    const Batch batch{samplers, logits, count, rows};
    PITH_TRY(check(batch, tokens, error));
    pith_env* env = samplers[0]->env;
    pith_runner lent;
    PITH_TRY(read_runner(runner, &lent, error));
    Call call(env->account, Used::Sample, Event::Sample);
    call.set_value(rows);
    const pith_status status = draw(batch, runner ? lent : env->runner, error);
    for (size_t i = 0; i < rows; i++) {
        if (status < 0)
            samplers[i]->sampler.discard();
        else
            tokens[i] = samplers[i]->sampler.commit();
    }
    if (status == PITH_OK) env->account.add(Used::TokensDrawn, rows);
    return status;
}
