// What every public object hangs on: the host's services, kept alive by reference count.
#pragma once
#include <pith/env.h>

#include <atomic>

#include "backend/backend.h"
#include "base/array.h"
#include "io/files.h"
#include "kernels/kernels.h"
#include "parallel/crew.h"

namespace pith {

struct LoadedBackend {
    const Backend* backend;
    void* instance;
    uint32_t devices;
};

}  // namespace pith

struct pith_env {
    explicit pith_env(const pith::Allocator& a) : allocator(a), plugins(allocator) {}

    std::atomic<uint32_t> references{1};
    pith_allocator allocator;
    pith_files files{};
    pith_runner runner{};  // run == NULL: everything on the calling thread
    pith_log_fn log = nullptr;
    void* log_user = nullptr;
    std::atomic<bool> checking{false};  // pith_runner_check is using `check`
    pith::Crew check{pith_runner{}};    // lives here so that a late call of a bad runner finds a closed ticket
    pith::Array<pith::LoadedBackend> plugins;  // device 0 is the CPU; theirs follow in order
    pith::kernels::Tier tier{};  // best_tier(); tests set another before they open a model
};

namespace pith {

inline pith_env* retain(pith_env* env) {
    env->references.fetch_add(1, std::memory_order_relaxed);
    return env;
}
// The backend of a device and its number there; device < pith_env_device_count(env).
LoadedBackend find_device(const pith_env* env, uint32_t* device);
void release(pith_env* env);  // frees at zero; NULL is fine

// Options structs: struct_size first, append only. Copies *from (NULL: all zero) into *to, whose struct_size becomes ours.
// Smaller than `first` (the size of the first release): PITH_E_ARGUMENT; larger than ours with a nonzero tail: PITH_E_VERSION.
pith_status read_options(const void* from, void* to, size_t size, size_t first, const char* name, pith_error* error);
// Info structs: writes ours up to the caller's struct_size, and zeroes what the caller has beyond ours.
pith_status write_info(const void* from, void* to, size_t size, size_t first, const char* name, pith_error* error);
// A caller's runner, checked; NULL gives one whose run is NULL.
pith_status read_runner(const pith_runner* from, pith_runner* to, pith_error* error);

}  // namespace pith
