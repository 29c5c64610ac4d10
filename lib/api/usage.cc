// <pith/usage.h>: the account read, the trace started and written.
#include <pith/usage.h>

#include <string.h>

#include "api/session.h"
#include "base/status.h"

using namespace pith;

namespace {

void read_account(const Account& a, pith_usage* u) {
    u->time_ns = monotonic_ns();
    const struct {
        uint64_t* to;
        Used what;
    } figures[] = {
        {&u->wall_ns, Used::Wall},
        {&u->cpu_caller_ns, Used::CpuCaller},
        {&u->cpu_lent_ns, Used::CpuLent},
        {&u->wait_ns, Used::Waited},
        {&u->load_ns, Used::Load},
        {&u->prefill_ns, Used::Prefill},
        {&u->decode_ns, Used::Decode},
        {&u->sample_ns, Used::Sample},
        {&u->tokens_prefilled, Used::TokensPrefilled},
        {&u->tokens_decoded, Used::TokensDecoded},
        {&u->tokens_drawn, Used::TokensDrawn},
        {&u->regions_inline, Used::RegionsInline},
        {&u->regions_lent, Used::RegionsLent},
        {&u->helpers_asked, Used::HelpersAsked},
        {&u->helpers_came, Used::HelpersCame},
        {&u->helpers_worked, Used::HelpersWorked},
        {&u->gpu_compute_ns, Used::GpuCompute},
        {&u->gpu_to_device_ns, Used::GpuToDevice},
        {&u->gpu_to_host_ns, Used::GpuToHost},
        {&u->gpu_submissions, Used::GpuSubmissions},
        {&u->bytes_to_device, Used::BytesToDevice},
        {&u->bytes_to_host, Used::BytesToHost},
        {&u->host_weights, Used::HostWeights},
        {&u->host_kv, Used::HostKv},
        {&u->host_scratch, Used::HostScratch},
        {&u->host_staging, Used::HostStaging},
        {&u->device_weights, Used::DeviceWeights},
        {&u->device_kv, Used::DeviceKv},
        {&u->device_scratch, Used::DeviceScratch},
        {&u->device_staging, Used::DeviceStaging},
    };
    static_assert(sizeof figures / sizeof *figures == static_cast<size_t>(Used::Count));
    for (const auto& figure : figures) *figure.to = a.get(figure.what);
    const uint64_t engines[] = {0, u->gpu_compute_ns, u->gpu_to_device_ns, u->gpu_to_host_ns};
    for (uint32_t engine = PITH_ENGINE_COMPUTE; engine <= PITH_ENGINE_TO_HOST; engine++)
        if (engines[engine] > u->gpu_busy_ns) {
            u->gpu_busy_ns = engines[engine];
            u->gpu_engine = engine;
        }
}

void name_device(const pith_env* env, uint32_t device, pith_usage* u) {
    u->device = device;
    const char* kernels = kernels::table(env->tier)->name;
    memcpy(u->cpu_kernels, kernels, strnlen(kernels, sizeof u->cpu_kernels - 1));
    pith_device_info info{};
    info.struct_size = sizeof info;
    if (pith_env_device_info(env, device, &info, nullptr) >= 0) memcpy(u->device_name, info.name, sizeof u->device_name);
}

}  // namespace

pith_status pith_session_get_usage(const pith_session* session, pith_usage* usage, pith_error* error) {
    if (!session) return fail(error, PITH_E_ARGUMENT, "session is NULL");
    pith_usage ours{};
    read_account(session->sequence.account, &ours);
    ours.host_weights = session->model->host_bytes;
    ours.device_weights = session->model->device_bytes;
    name_device(session->model->env, session->model->device, &ours);
    return write_info(ours, usage, "usage", error);
}

pith_status pith_env_get_usage(const pith_env* env, pith_usage* usage, pith_error* error) {
    if (!env) return fail(error, PITH_E_ARGUMENT, "env is NULL");
    pith_usage ours{};
    read_account(env->account, &ours);
    name_device(env, 0, &ours);
    return write_info(ours, usage, "usage", error);
}

pith_status pith_env_trace(pith_env* env, void* memory, size_t size, pith_error* error) {
    if (!env) return fail(error, PITH_E_ARGUMENT, "env is NULL");
    if (memory && size < kLeastTrace)
        return fail(error, PITH_E_ARGUMENT, "size is %zu bytes, a trace takes at least %zu", size, kLeastTrace);
    env->account.recording.store(memory ? make_trace(memory, size) : nullptr, std::memory_order_release);
    return PITH_OK;
}

pith_status pith_env_trace_json(const pith_env* env, char* text, size_t capacity, size_t* size, pith_error* error) {
    if (!env) return fail(error, PITH_E_ARGUMENT, "env is NULL");
    if (!text && capacity) return fail(error, PITH_E_ARGUMENT, "text is NULL, capacity is %zu", capacity);
    if (!size) return fail(error, PITH_E_ARGUMENT, "size is NULL");
    Trace* trace = env->account.trace();
    if (!trace) return fail(error, PITH_E_STATE, "no trace is being recorded: pith_env_trace starts one");
    *size = write_trace(*trace, text, capacity);
    if (*size > capacity) return fail(error, PITH_E_BUFFER, "text has %zu bytes, the trace takes %zu", capacity, *size);
    return PITH_OK;
}
