// <pith/session.h>: one sequence.
#include "api/session.h"

#include "api/sampler.h"
#include "base/status.h"
#include "parallel/fp_scope.h"

using namespace pith;

namespace {

pith_status read_shape(const pith_model* model, const pith_session_options* options, SessionShape* shape, pith_error* error) {
    if (!model) return fail(error, PITH_E_ARGUMENT, "model is NULL");
    pith_session_options o;
    PITH_TRY(read_options(options, &o, "options", error));
    PITH_TRY(read_runner(o.runner, &shape->runner, error));
    if (!o.runner) shape->runner = model->env->runner;
    shape->allocator = &model->env->allocator;
    PITH_TRY(read_options(o.cuda, &shape->cuda, "options.cuda", error));
    return complete_shape(o, *model->backend, model->file.config.context_length, shape, error);
}

pith_status plan(const pith_model* model, const SessionShape& shape, pith_session_info* info, pith_error* error) {
    BackendBytes bytes{};
    PITH_TRY(model->backend->session_plan(model->weights, &shape, &bytes, error));
    *info = pith_session_info{};
    info->host_bytes = sizeof(pith_session) + bytes.host;
    info->device_bytes = bytes.device;
    info->context_length = shape.context_length;
    info->batch_length = shape.batch_length;
    return PITH_OK;
}

// Draws where the logits are. PITH_PENDING: the backend can't.
pith_status draw_there(const Session& session, uint32_t row, Sampler& sampler, pith_token* token, pith_error* error) {
    constexpr size_t kMostSteps = 32;
    const FpScope fp;  // a backend turns the steps into bounds and scales
    const size_t count = sampler.steps().size();
    if (!session.backend->session_sample || count > kMostSteps || sampler.wants_logprobs()) return PITH_PENDING;
    SampleStep steps[kMostSteps]{};
    for (size_t i = 0; i < count; i++) {
        const Sampler::Step& from = sampler.steps()[i];
        steps[i] = {from.kind, from.count, from.value, from.penalty.window, from.penalty.decay, 0,
                    from.penalty.repetition, from.penalty.frequency, from.penalty.presence};
    }
    const History& history = sampler.history();
    const SampleRequest request{sampler.seed(),         history.recorded(), steps, static_cast<uint32_t>(count), sampler.vocabulary(),
                                history.ring().data(), history.ring().size(), history.length(), 0};
    const pith_status status = session.backend->session_sample(session.compute, row, &request, token, error);
    if (status == PITH_OK) sampler.record(*token);
    return status;
}

// What a session holds, added to the account or taken off it again (sign -1).
void count_bytes(pith_session* session, uint64_t sign) {
    Account& account = session->sequence.account;
    const BackendBytes& b = session->bytes;
    account.add(Used::HostKv, sign * b.host_kv);
    account.add(Used::HostStaging, sign * b.host_staging);
    account.add(Used::HostScratch, sign * (b.host - b.host_kv - b.host_staging + sizeof(pith_session)));
    account.add(Used::DeviceKv, sign * b.device_kv);
    account.add(Used::DeviceStaging, sign * b.device_staging);
    account.add(Used::DeviceScratch, sign * (b.device - b.device_kv - b.device_staging));
}

}  // namespace

pith_status pith_session_plan(const pith_model* model, const pith_session_options* options, pith_session_info* info, pith_error* error) {
    SessionShape shape{};
    PITH_TRY(read_shape(model, options, &shape, error));
    pith_session_info ours;
    PITH_TRY(plan(model, shape, &ours, error));
    return write_info(ours, info, "info", error);
}

pith_status pith_session_create(const pith_model* model, const pith_session_options* options, pith_session** session, pith_error* error) {
    if (!session) return fail(error, PITH_E_ARGUMENT, "session is NULL");
    *session = nullptr;
    SessionShape shape{};
    PITH_TRY(read_shape(model, options, &shape, error));
    if (model->left) return fail(error, PITH_E_STATE, "the model is not loaded: pith_model_load has bytes left");
    pith_env* env = model->env;
    Call call(env->account, Used::Load, Event::Create);
    pith_session* made = create<pith_session>(env->allocator, model);
    if (!made) return fail_memory(error, "the session", sizeof(pith_session));
    Session& s = made->sequence;
    s.account.parent = &env->account;
    s.account.number = env->account.sessions.fetch_add(1, std::memory_order_relaxed) + 1;
    shape.cancel = &s.cancel;
    shape.account = &s.account;
    s.backend = model->backend;
    s.shape = shape;
    s.vocab = model->file.config.vocab_size;
    const FpScope fp;  // rope's frequencies
    pith_status status = s.backend->session_plan(model->weights, &shape, &made->bytes, error);
    if (status >= 0) status = s.backend->session_create(model->weights, &shape, &s.compute, error);
    if (status < 0) {
        pith_session_destroy(made);
        return status;
    }
    count_bytes(made, 1);
    call.set_value(made->bytes.host + made->bytes.device);
    *session = made;
    return PITH_OK;
}

void pith_session_destroy(pith_session* session) {
    if (!session) return;
    pith_model* model = session->model;
    if (session->sequence.compute) {
        count_bytes(session, ~uint64_t{0});
        model->backend->session_destroy(session->sequence.compute);
    }
    destroy(model->env->allocator, session);
    release(model);
}

pith_status pith_session_get_info(const pith_session* session, pith_session_info* info, pith_error* error) {
    if (!session) return fail(error, PITH_E_ARGUMENT, "session is NULL");
    pith_session_info ours;
    PITH_TRY(plan(session->model, session->sequence.shape, &ours, error));
    return write_info(ours, info, "info", error);
}

pith_status pith_session_forward(pith_session* session, const pith_token* tokens, size_t count, uint32_t rows, pith_error* error) {
    if (!session) return fail(error, PITH_E_ARGUMENT, "session is NULL");
    return session->sequence.forward(tokens, count, rows, error);
}

pith_status pith_session_sample(pith_session* session, uint32_t row, pith_sampler* sampler, pith_token* token, pith_error* error) {
    if (!session) return fail(error, PITH_E_ARGUMENT, "session is NULL");
    PITH_TRY(session->sequence.check_row(row, error));
    if (!sampler) return fail(error, PITH_E_ARGUMENT, "sampler is NULL");
    if (!token) return fail(error, PITH_E_ARGUMENT, "token is NULL");
    Session& s = session->sequence;
    Call call(s.account, Used::Sample, Event::Sample, &s.draw);
    call.set_value(1);
    pith_status status = draw_there(s, row, sampler->sampler, token, error);
    if (status == PITH_PENDING) {
        const float* logits = nullptr;
        PITH_TRY(s.row(row, &logits, error));
        status = sampler->sampler.sample(logits, s.vocab, token, error);
    }
    if (status == PITH_OK) s.account.add(Used::TokensDrawn, 1);
    return status;
}

pith_status pith_session_logits(pith_session* session, const float** logits, size_t* rows, pith_error* error) {
    if (!session) return fail(error, PITH_E_ARGUMENT, "session is NULL");
    if (!logits) return fail(error, PITH_E_ARGUMENT, "logits is NULL");
    Call call(session->sequence.account, Used::Sample, Event::Logits, &session->sequence.fetch);
    PITH_TRY(session->sequence.row(0, logits, error));
    if (rows) *rows = session->sequence.rows;
    return PITH_OK;
}

size_t pith_session_length(const pith_session* session) { return session ? session->sequence.length : 0; }

pith_status pith_session_truncate(pith_session* session, size_t length, pith_error* error) {
    if (!session) return fail(error, PITH_E_ARGUMENT, "session is NULL");
    return session->sequence.truncate(length, error);
}

void pith_session_cancel(pith_session* session, int32_t on) {
    if (session) session->sequence.cancel.store(on, std::memory_order_relaxed);
}
