// A backend plug-in whose devices fail on request: the CPU backend behind the real seam, with faults put in. PITH_FAKE chooses what the
// library as a whole pretends to be: 0 works, 1 another release's, 2 without the entry point, 3 with an entry that refuses, 4 without a
// device, 5 whose open runs out of memory, 6 whose driver does not start.
#include <string.h>

#include "backend/backend.h"
#include "base/array.h"
#include "base/status.h"

namespace pith {
namespace {

enum Device : uint32_t { Healthy, ModelTooLarge, NoMemoryAtLoad, NoMemoryAtSession, LostInForward, LostInSample, LostInLogits, LostAtOpen, LostAtLoad, LostAtCreate, kDevices };
constexpr const char* kNames[kDevices] = {"healthy",         "model too large", "no memory at load", "no memory at session",
                                          "lost in forward", "lost in sample",  "lost in logits",
                                          "lost at open",    "lost at load",    "lost at create"};

struct FakeModel {
    void* inner;
    pith_allocator allocator;
    uint32_t device;
    bool refused;  // NoMemoryAtLoad fails once
};
struct FakeSession {
    void* inner;
    const FakeModel* model;
    pith_allocator allocator;
    uint32_t forwards;
    bool lost;
};

pith_status open(const pith_allocator* allocator, void** instance, uint32_t* devices, pith_error* error) {
    if (PITH_FAKE == 5) return fail(error, PITH_E_MEMORY, "fake: no memory for the instance");
    if (PITH_FAKE == 6) return fail_system(error, PITH_E_DEVICE, 999, "fake: the driver does not start");
    *instance = allocator->alloc(allocator->user, sizeof *allocator, alignof(pith_allocator));
    if (!*instance) return fail_memory(error, "the fake instance", sizeof *allocator);
    memcpy(*instance, allocator, sizeof *allocator);
    *devices = PITH_FAKE == 4 ? 0 : static_cast<uint32_t>(kDevices);
    return PITH_OK;
}

void close(void* instance) {
    const pith_allocator allocator = *static_cast<pith_allocator*>(instance);
    allocator.free(allocator.user, instance, sizeof allocator, alignof(pith_allocator));
}

pith_status device_info(void*, uint32_t device, pith_device_info* info, pith_error*) {
    info->kind = PITH_DEVICE_CUDA;
    info->memory_total = 1 << 30;
    memcpy(info->name, kNames[device], strlen(kNames[device]));
    return PITH_OK;
}

pith_status model_create(const BackendHost* host, const ModelFile* file, void** model, BackendBytes* bytes, pith_error* error) {
    if (host->device == ModelTooLarge) return fail(error, PITH_E_MEMORY, "fake: the device has not that much memory");
    if (host->device == LostAtOpen) return fail_system(error, PITH_E_DEVICE, 700, "fake: the device is lost");
    FakeModel* made = create<FakeModel>(*host->allocator);
    if (!made) return fail_memory(error, "the fake model", sizeof(FakeModel));
    made->allocator = *host->allocator;
    made->device = host->device;
    const pith_status status = kCpuBackend.model_create(host, file, &made->inner, bytes, error);
    if (status < 0) {
        destroy(made->allocator, made);
        return status;
    }
    bytes->device = 12345;
    *model = made;
    return PITH_OK;
}

pith_status model_load(void* model, uint64_t budget, uint64_t* left, pith_error* error) {
    FakeModel& m = *static_cast<FakeModel*>(model);
    if (m.device == NoMemoryAtLoad && !m.refused) {
        m.refused = true;
        return fail_system(error, PITH_E_MEMORY, 2, "fake: device memory ran out");
    }
    if (m.device == LostAtLoad) return fail_system(error, PITH_E_DEVICE, 700, "fake: the device is lost");
    return kCpuBackend.model_load(m.inner, budget, left, error);
}

void model_destroy(void* model) {
    FakeModel* m = static_cast<FakeModel*>(model);
    kCpuBackend.model_destroy(m->inner);
    const pith_allocator allocator = m->allocator;
    destroy(allocator, m);
}

pith_status session_plan(const void* model, const SessionShape* shape, BackendBytes* bytes, pith_error* error) {
    if (static_cast<const FakeModel*>(model)->device == NoMemoryAtSession && shape->context_length > 1 << 20)
        return fail(error, PITH_E_MEMORY, "fake: no machine has that much");
    PITH_TRY(kCpuBackend.session_plan(static_cast<const FakeModel*>(model)->inner, shape, bytes, error));
    bytes->host += sizeof(FakeSession);
    bytes->device = 678;
    return PITH_OK;
}

pith_status session_create(const void* model, const SessionShape* shape, void** session, pith_error* error) {
    const FakeModel& m = *static_cast<const FakeModel*>(model);
    if (m.device == NoMemoryAtSession) return fail_system(error, PITH_E_MEMORY, 2, "fake: no device memory for the cache");
    if (m.device == LostAtCreate) return fail_system(error, PITH_E_DEVICE, 700, "fake: the device is lost");
    FakeSession* made = create<FakeSession>(*shape->allocator);
    if (!made) return fail_memory(error, "the fake session", sizeof(FakeSession));
    made->model = &m;
    made->allocator = *shape->allocator;
    const pith_status status = kCpuBackend.session_create(m.inner, shape, &made->inner, error);
    if (status < 0) {
        destroy(made->allocator, made);
        return status;
    }
    *session = made;
    return PITH_OK;
}

void session_destroy(void* session) {
    FakeSession* s = static_cast<FakeSession*>(session);
    kCpuBackend.session_destroy(s->inner);
    const pith_allocator allocator = s->allocator;
    destroy(allocator, s);
}

pith_status lose(FakeSession& s, pith_error* error) {
    s.lost = true;
    return fail_system(error, PITH_E_DEVICE, 700, "fake: the device is lost");
}

pith_status session_forward(void* session, uint32_t length, const pith_token* tokens, uint32_t count, uint32_t rows, pith_error* error) {
    FakeSession& s = *static_cast<FakeSession*>(session);
    if (s.lost || (s.model->device == LostInForward && ++s.forwards == 3)) return lose(s, error);
    return kCpuBackend.session_forward(s.inner, length, tokens, count, rows, error);
}

pith_status session_logits(void* session, const float** logits, pith_error* error) {
    FakeSession& s = *static_cast<FakeSession*>(session);
    if (s.lost || s.model->device == LostInLogits) return lose(s, error);
    return kCpuBackend.session_logits(s.inner, logits, error);
}

// Greedy only; every other chain is the core's.
pith_status session_sample(void* session, uint32_t row, const SampleRequest* request, pith_token* token, pith_error* error) {
    FakeSession& s = *static_cast<FakeSession*>(session);
    if (s.lost || s.model->device == LostInSample) return lose(s, error);
    if (request->step_count != 1 || request->steps[0].kind != PITH_STEP_TEMPERATURE || request->steps[0].value != 0) return PITH_PENDING;
    const float* logits = nullptr;
    PITH_TRY(kCpuBackend.session_logits(s.inner, &logits, error));
    constexpr uint32_t kDemoVocabulary = 8192;
    logits += uint64_t{row} * kDemoVocabulary;
    *token = 0;
    for (uint32_t i = 1; i < kDemoVocabulary; i++)
        if (logits[i] > logits[*token]) *token = static_cast<pith_token>(i);
    return PITH_OK;
}

[[maybe_unused]] constexpr Backend kFake = {
    .abi = kBackendAbi + (PITH_FAKE == 1),
    .struct_size = sizeof(Backend),
    .default_batch = 64,
    .reserved = 0,
    .open = open,
    .close = close,
    .device_info = device_info,
    .model_create = model_create,
    .model_load = model_load,
    .model_destroy = model_destroy,
    .session_plan = session_plan,
    .session_create = session_create,
    .session_destroy = session_destroy,
    .session_forward = session_forward,
    .session_logits = session_logits,
    .session_sample = session_sample,
};

}  // namespace
}  // namespace pith

#if PITH_FAKE != 2
extern "C" __attribute__((visibility("default"))) const pith::Backend* pith_backend_entry() { return PITH_FAKE == 3 ? nullptr : &pith::kFake; }
#endif
