// struct pith_model: a checked file and the backend's weights.
#pragma once
#include <pith/model.h>

#include <atomic>

#include "api/env.h"
#include "backend/backend.h"
#include "model/weights.h"

struct pith_model {
    explicit pith_model(pith_env* e);
    ~pith_model();

    std::atomic<uint32_t> references{1};
    pith_env* env;
    std::atomic<uint64_t> bytes{0};  // that `allocator` has handed out and not got back
    pith_allocator allocator;        // the env's, counted
    pith::ModelFile file;
    const pith::Backend* backend = nullptr;
    void* weights = nullptr;         // the backend's model
    uint64_t host_bytes = 0;         // once loaded, this struct included
    uint64_t device_bytes = 0;
    uint32_t device = 0;             // as the env numbers them
    uint64_t left = 0;               // bytes to load
};

namespace pith {

inline pith_model* retain(const pith_model* model) {
    pith_model* m = const_cast<pith_model*>(model);  // the count is no part of what is immutable
    m->references.fetch_add(1, std::memory_order_relaxed);
    return m;
}
void release(pith_model* model);

}  // namespace pith
