// The seam between the core and what computes: C structs of function pointers at the height of a forward pass, so that a backend may fuse
// a whole step. cpu/ implements it here, plug-ins from outside. Private to one release: both sides are built from the same sources, and a
// plug-in built from others is refused.
// A backend computes; checks of the caller's arguments (token ids, context, rows) are done above, once for all backends.
#pragma once
#include <pith/cuda.h>
#include <pith/env.h>
#include <pith/session.h>

#include <atomic>

#include "model/weights.h"
#include "usage/account.h"

namespace pith {

struct BackendHost {           // what the env lends to a backend's model
    const pith_allocator* allocator;  // for the model; sessions bring theirs
    pith_runner runner;        // run == NULL: the calling thread only
    uint32_t cpu_tier;         // kernels::Tier
    uint32_t scan;             // PITH_MODEL_SCAN
    void* instance;            // of the backend
    uint32_t device;           // below what open() counted
    uint32_t head8;            // PITH_MODEL_HEAD_8BIT; the CPU's only
    pith_cuda_options cuda;    // zero: defaults
    Account* account;          // where what loading uses is added; NULL: nowhere
};

struct BackendBytes {
    uint64_t host, device;     // in all, and of it
    uint64_t host_kv, device_kv, host_staging, device_staging;
};

struct SessionShape {          // checked and completed: no zero stands for a default
    const pith_allocator* allocator;
    pith_runner runner;
    uint32_t context_length, batch_length, logit_rows;
    uint32_t k_type, v_type;   // PITH_KV_F16 or PITH_KV_F32
    uint32_t flags, wait;      // PITH_SESSION_*, PITH_WAIT_*
    uint32_t reserved;
    const std::atomic<int32_t>* cancel;
    pith_cuda_options cuda;    // zero: defaults
    Account* account;          // where what is used is added; NULL: nowhere. Outlives the session
};

// A sampler as plain data, for backends that draw where the logits are.
struct SampleStep {
    uint32_t kind;             // PITH_STEP_*
    uint32_t count;            // top-k
    float value;               // temperature, top-p, min-p
    uint32_t window, decay;    // penalties; window 0: all that is remembered
    uint32_t reserved;
    double repetition, frequency, presence;
};
struct SampleRequest {
    uint64_t seed, recorded;   // the draw is philox_uniform(seed, recorded)
    const SampleStep* steps;   // those that do something
    uint32_t step_count;
    uint32_t vocabulary;       // ids at or above it are never drawn
    const int32_t* ring;       // the token recorded `age` ago is ring[(recorded - 1 - age) % ring_size]
    uint64_t ring_size;
    uint32_t remembered;       // the most ages that count
    uint32_t reserved;
};

struct Backend {
    uint32_t abi, struct_size; // kBackendAbi; first in every release
    uint32_t default_batch;    // tokens, when the caller names no batch_length
    uint32_t reserved;

    // Once an env, before any other call. *devices: how many there are, 0 if there is no driver. The allocator outlives the instance.
    pith_status (*open)(const pith_allocator* allocator, void** instance, uint32_t* devices, pith_error* error);
    void (*close)(void* instance);
    pith_status (*device_info)(void* instance, uint32_t device, pith_device_info* info, pith_error* error);

    // Plans the weights without reading one; `file` stays open and alive until the model is destroyed.
    pith_status (*model_create)(const BackendHost* host, const ModelFile* file, void** model, BackendBytes* bytes, pith_error* error);
    // Moves about `budget` bytes (0: all) into place; *left: source bytes not moved yet. A failed call can be repeated.
    pith_status (*model_load)(void* model, uint64_t budget, uint64_t* left, pith_error* error);
    void (*model_destroy)(void* model);

    pith_status (*session_plan)(const void* model, const SessionShape* shape, BackendBytes* bytes, pith_error* error);
    pith_status (*session_create)(const void* model, const SessionShape* shape, void** session, pith_error* error);
    void (*session_destroy)(void* session);
    // Computes `count` tokens at positions [length, length + count), and the logits of the last `rows` of them. May return before the work
    // is done; sample and logits wait for it.
    pith_status (*session_forward)(void* session, uint32_t length, const pith_token* tokens, uint32_t count, uint32_t rows, pith_error* error);
    // [rows][vocab] of the last forward that succeeded; a cancelled one leaves them as they were.
    pith_status (*session_logits)(void* session, const float** logits, pith_error* error);
    // Draws from a row of the same. PITH_PENDING: not a chain that this backend runs; the core samples from the logits. NULL: never.
    pith_status (*session_sample)(void* session, uint32_t row, const SampleRequest* request, pith_token* token, pith_error* error);
};

// Changes whenever what crosses the seam does, as far as sizes tell; a release changes it anyway.
inline constexpr uint32_t kBackendAbi = PITH_VERSION_MAJOR * 100000000u + PITH_VERSION_MINOR * 1000000u + PITH_VERSION_PATCH * 100000u +
                                        static_cast<uint32_t>(sizeof(Account) * 11 + sizeof(Trace) * 13 + sizeof(BackendBytes) * 17 + sizeof(ModelFile) * 7 + sizeof(Layer) * 5 + sizeof(BackendHost) * 3 +
                                                              sizeof(SessionShape) * 2 + sizeof(SampleRequest) + sizeof(Backend));

extern const Backend kCpuBackend;

}  // namespace pith
