// The seam between the core and what computes: C structs of function pointers at the height of a forward pass, so that a backend may fuse
// a whole step. Private to one release. cpu/ implements it here; the CUDA plug-in will from outside.
// A backend computes; checks of the caller's arguments (token ids, context, rows) are done above, once for all backends.
#pragma once
#include <pith/env.h>
#include <pith/session.h>

#include <atomic>

#include "model/weights.h"

namespace pith {

inline constexpr uint32_t kBackendAbi = 1;

struct BackendHost {           // what the env lends to a backend
    const pith_allocator* allocator;  // for the model; sessions bring theirs
    pith_runner runner;        // run == NULL: the calling thread only
    uint32_t cpu_tier;         // kernels::Tier
    uint32_t scan;             // PITH_MODEL_SCAN
};

struct BackendBytes {
    uint64_t host, device;
};

struct SessionShape {          // checked and completed: no zero stands for a default
    const pith_allocator* allocator;
    pith_runner runner;
    uint32_t context_length, batch_length, logit_rows;
    uint32_t k_type, v_type;   // PITH_KV_F16 or PITH_KV_F32
    uint32_t flags;
    const std::atomic<int32_t>* cancel;
};

struct Backend {
    uint32_t abi, struct_size;

    // Plans the weights without reading one; `file` stays open and alive until the model is destroyed.
    pith_status (*model_create)(const BackendHost* host, const ModelFile* file, void** model, BackendBytes* bytes, pith_error* error);
    // Moves about `budget` bytes (0: all) into place; *left: source bytes not moved yet. A failed call can be repeated.
    pith_status (*model_load)(void* model, uint64_t budget, uint64_t* left, pith_error* error);
    void (*model_destroy)(void* model);

    pith_status (*session_plan)(const void* model, const SessionShape* shape, BackendBytes* bytes, pith_error* error);
    pith_status (*session_create)(const void* model, const SessionShape* shape, void** session, pith_error* error);
    void (*session_destroy)(void* session);
    // Computes `count` tokens at positions [length, length + count), and the logits of the last `rows` of them.
    pith_status (*session_forward)(void* session, uint32_t length, const pith_token* tokens, uint32_t count, uint32_t rows, pith_error* error);
    // [rows][vocab] of the last forward that succeeded; a cancelled one leaves them as they were.
    const float* (*session_logits)(void* session);
};

extern const Backend kCpuBackend;

}  // namespace pith
