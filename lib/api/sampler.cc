// <pith/sampler.h>: checks pointers and hands over to lib/sample.
#include "api/sampler.h"

#include <string.h>

#include "base/status.h"
#include "parallel/fp_scope.h"
#include "sample/presets.h"

using namespace pith;

pith_status pith_sampler_create(pith_env* env, const pith_sampler_options* options, pith_sampler** sampler, pith_error* error) {
    if (!sampler) return fail(error, PITH_E_ARGUMENT, "sampler is NULL");
    *sampler = nullptr;
    if (!env) return fail(error, PITH_E_ARGUMENT, "env is NULL");
    pith_sampler_options o;
    PITH_TRY(read_options(options, &o, "options", error));
    pith_sampler* made = create<pith_sampler>(env->allocator, env);
    if (!made) return fail_memory(error, "the sampler", sizeof(pith_sampler));
    const FpScope fp;  // a subnormal is not 0, whatever the host's DAZ says
    const pith_status status = made->sampler.configure(o, error);
    if (status < 0) {
        pith_sampler_destroy(made);
        return status;
    }
    *sampler = made;
    return PITH_OK;
}

void pith_sampler_destroy(pith_sampler* sampler) {
    if (!sampler) return;
    pith_env* env = sampler->env;
    destroy(env->allocator, sampler);
    release(env);
}

pith_status pith_sampler_sample(pith_sampler* sampler, const float* logits, size_t count, pith_token* token, pith_error* error) {
    if (!sampler) return fail(error, PITH_E_ARGUMENT, "sampler is NULL");
    if (!logits) return fail(error, PITH_E_ARGUMENT, "logits is NULL");
    if (!token) return fail(error, PITH_E_ARGUMENT, "token is NULL");
    Account& account = sampler->env->account;
    Call call(account, Used::Sample, Event::Sample, &sampler->draw);
    call.set_value(1);
    PITH_TRY(sampler->sampler.sample(logits, count, token, error));
    account.add(Used::TokensDrawn, 1);
    return PITH_OK;
}

pith_status pith_sampler_accept(pith_sampler* sampler, const pith_token* tokens, size_t count, pith_error* error) {
    if (!sampler) return fail(error, PITH_E_ARGUMENT, "sampler is NULL");
    if (!tokens && count) return fail(error, PITH_E_ARGUMENT, "tokens is NULL, count is %zu", count);
    return sampler->sampler.accept(tokens, count, error);
}

pith_status pith_sampler_truncate(pith_sampler* sampler, size_t length, pith_error* error) {
    if (!sampler) return fail(error, PITH_E_ARGUMENT, "sampler is NULL");
    return sampler->sampler.truncate(length, error);
}

pith_status pith_sampler_logprobs(const pith_sampler* sampler, const pith_logprob** items, size_t* count, pith_error* error) {
    if (!sampler) return fail(error, PITH_E_ARGUMENT, "sampler is NULL");
    if (!items) return fail(error, PITH_E_ARGUMENT, "items is NULL");
    if (!count) return fail(error, PITH_E_ARGUMENT, "count is NULL");
    return sampler->sampler.logprobs(items, count, error);
}

pith_status pith_sampler_restart(pith_sampler* sampler, uint64_t seed, pith_error* error) {
    if (!sampler) return fail(error, PITH_E_ARGUMENT, "sampler is NULL");
    sampler->sampler.restart(seed);
    return PITH_OK;
}

pith_status pith_sampler_preset(uint32_t preset, pith_sampler_step* steps, size_t capacity, size_t* count, pith_error* error) {
    if (!count) return fail(error, PITH_E_ARGUMENT, "count is NULL");
    if (!steps && capacity) return fail(error, PITH_E_ARGUMENT, "steps is NULL, capacity is %zu", capacity);
    const std::span<const pith_sampler_step> named = pith::preset(preset);
    if (named.empty()) return fail(error, PITH_E_UNSUPPORTED, "preset is %u, this library knows 1 and 2", preset);
    *count = named.size();
    if (capacity < named.size()) return fail(error, PITH_E_BUFFER, "capacity is %zu, the preset has %zu steps", capacity, named.size());
    memcpy(steps, named.data(), named.size_bytes());
    return PITH_OK;
}
