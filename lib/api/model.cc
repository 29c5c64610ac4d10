// <pith/model.h>: open, load in steps, share.
#include "api/model.h"

#include <string.h>

#include "base/status.h"
#include "parallel/fp_scope.h"

using namespace pith;

namespace {

void* counted_alloc(void* user, size_t size, size_t alignment) {
    pith_model* model = static_cast<pith_model*>(user);
    void* memory = model->env->allocator.alloc(model->env->allocator.user, size, alignment);
    if (!memory) return nullptr;
    model->bytes.fetch_add(size, std::memory_order_relaxed);
    model->env->account.add(Used::HostWeights, size);
    return memory;
}

void counted_free(void* user, void* memory, size_t size, size_t alignment) {
    pith_model* model = static_cast<pith_model*>(user);
    model->bytes.fetch_sub(size, std::memory_order_relaxed);
    model->env->account.subtract(Used::HostWeights, size);
    model->env->allocator.free(model->env->allocator.user, memory, size, alignment);
}

pith_status open(pith_model* model, const char* path, const pith_model_options& options, pith_error* error) {
    BackendHost host{};
    PITH_TRY(read_options(options.cuda, &host.cuda, "options.cuda", error));
    model->device = host.device = options.device;
    const LoadedBackend at = find_device(model->env, &host.device);
    model->backend = at.backend;
    const FpScope fp;  // config.json has numbers
    PITH_TRY(open_model(model->env->files, model->allocator, path, &model->file, error, options.flags & PITH_MODEL_MMAP));
    host.allocator = &model->allocator;
    host.runner = model->env->runner;
    host.cpu_tier = static_cast<uint32_t>(model->env->tier);
    host.scan = options.flags & PITH_MODEL_SCAN;
    host.head8 = options.flags & PITH_MODEL_HEAD_8BIT;
    host.instance = at.instance;
    host.account = &model->env->account;
    BackendBytes bytes{};
    PITH_TRY(model->backend->model_create(&host, &model->file, &model->weights, &bytes, error));
    model->host_bytes = sizeof(pith_model) + model->bytes.load() + bytes.host;
    model->device_bytes = bytes.device;
    model->left = model->file.weight_bytes;
    return PITH_OK;
}

}  // namespace

pith_model::pith_model(pith_env* e)
    : env(retain(e)), allocator{sizeof(pith_allocator), this, counted_alloc, counted_free}, file(allocator) {
    env->account.add(Used::HostWeights, sizeof(pith_model));
}

pith_model::~pith_model() {
    if (weights) backend->model_destroy(weights);
    env->account.subtract(Used::HostWeights, sizeof(pith_model));
}

void pith::release(pith_model* model) {
    if (!model || model->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    pith_env* env = model->env;
    destroy(env->allocator, model);
    release(env);
}

pith_status pith_model_open(pith_env* env, const char* path, const pith_model_options* options, pith_model** model, pith_error* error) {
    if (!model) return fail(error, PITH_E_ARGUMENT, "model is NULL");
    *model = nullptr;
    if (!env) return fail(error, PITH_E_ARGUMENT, "env is NULL");
    if (!path) return fail(error, PITH_E_ARGUMENT, "path is NULL");
    pith_model_options o;
    PITH_TRY(read_options(options, &o, "options", error));
    if (o.device >= pith_env_device_count(env))
        return fail(error, PITH_E_ARGUMENT, "options.device is %u, there are %u", o.device, pith_env_device_count(env));
    if (o.flags & ~uint32_t{PITH_MODEL_MMAP | PITH_MODEL_SCAN | PITH_MODEL_HEAD_8BIT})
        return fail(error, PITH_E_UNSUPPORTED, "options.flags is 0x%x: a flag is not known", o.flags);
    if (o.flags & PITH_MODEL_HEAD_8BIT && o.device != 0)
        return fail(error, PITH_E_UNSUPPORTED, "options.flags asks for an 8-bit head, options.device is %u: only the CPU has one", o.device);
    Call call(env->account, Used::Load, Event::Open);
    pith_model* made = create<pith_model>(env->allocator, env);
    if (!made) return fail_memory(error, "the model", sizeof(pith_model));
    const pith_status status = open(made, path, o, error);
    if (status < 0) {
        release(made);
        return status;
    }
    *model = made;
    if (!env->log) return PITH_OK;
    pith_device_info where{};
    where.struct_size = sizeof where;
    if (pith_env_device_info(env, o.device, &where, nullptr) < 0) where.name[0] = 0;
    log(env, PITH_LOG_INFO, "%s: %s, %llu parameters, on device %u (%s)%s%s", path, made->file.config.architecture,
        static_cast<unsigned long long>(made->file.parameters), o.device, where.name, o.device ? "" : ", kernels ",
        o.device ? "" : kernels::table(env->tier)->name);
    return PITH_OK;
}

pith_status pith_model_load(pith_model* model, uint64_t budget, uint64_t* left, pith_error* error) {
    if (!model) return fail(error, PITH_E_ARGUMENT, "model is NULL");
    Call call(model->env->account, Used::Load, Event::Load);
    const uint64_t before = model->left;
    PITH_TRY(model->backend->model_load(model->weights, budget, &model->left, error));
    call.set_value(before - model->left);
    if (left) *left = model->left;
    return PITH_OK;
}

pith_status pith_model_get_info(const pith_model* model, pith_model_info* info, pith_error* error) {
    if (!model) return fail(error, PITH_E_ARGUMENT, "model is NULL");
    pith_model_info ours{};
    const Config& c = model->file.config;
    ours.parameters = model->file.parameters;
    ours.host_bytes = model->host_bytes;
    ours.device_bytes = model->device_bytes;
    ours.device = model->device;
    ours.vocab_size = c.vocab_size;
    ours.context_length = c.context_length;
    ours.layers = c.layers;
    memcpy(ours.architecture, c.architecture, sizeof ours.architecture);
    return write_info(ours, info, "info", error);
}

void pith_model_destroy(pith_model* model) { release(model); }
