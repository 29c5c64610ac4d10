// What every public object hangs on: the host's services, kept alive by reference count.
#pragma once
#include <pith/cuda.h>
#include <pith/env.h>
#include <pith/model.h>
#include <pith/sampler.h>
#include <pith/session.h>
#include <pith/usage.h>

#include <atomic>

#include "backend/backend.h"
#include "base/array.h"
#include "base/status.h"
#include "io/files.h"
#include "kernels/kernels.h"
#include "parallel/crew.h"
#include "usage/account.h"

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
    pith::Account account;       // what everything made with this env used
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

// What a struct measured in the release that it came with: a caller of that release passes no more, and never less. Not to be changed when a
// struct grows.
template <class T>
inline constexpr size_t kFirstSize = 0;
template <>
inline constexpr size_t kFirstSize<pith_allocator> = 32;  // 0.1
template <>
inline constexpr size_t kFirstSize<pith_files> = 40;
template <>
inline constexpr size_t kFirstSize<pith_runner> = 32;
template <>
inline constexpr size_t kFirstSize<pith_env_options> = 48;
template <>
inline constexpr size_t kFirstSize<pith_device_info> = 120;
template <>
inline constexpr size_t kFirstSize<pith_model_options> = 24;
template <>
inline constexpr size_t kFirstSize<pith_model_info> = 112;
template <>
inline constexpr size_t kFirstSize<pith_session_options> = 56;
template <>
inline constexpr size_t kFirstSize<pith_session_info> = 32;
template <>
inline constexpr size_t kFirstSize<pith_sampler_options> = 40;
template <>
inline constexpr size_t kFirstSize<pith_cuda_options> = 32;
template <>
inline constexpr size_t kFirstSize<pith_usage> = 352;

pith_status read_bytes(const void* from, void* to, size_t size, size_t first, const char* name, pith_error* error);
pith_status write_bytes(const void* from, void* to, size_t size, size_t first, const char* name, pith_error* error);

// Options structs: struct_size first, append only. Copies *from (NULL: all zero) into *to, whose struct_size becomes ours.
// Smaller than in its first release: PITH_E_ARGUMENT; larger than ours with a nonzero tail: PITH_E_VERSION.
template <class T>
pith_status read_options(const T* from, T* to, const char* name, pith_error* error) {
    static_assert(kFirstSize<T> != 0 && kFirstSize<T> <= sizeof(T));
    return read_bytes(from, to, sizeof(T), kFirstSize<T>, name, error);
}
// Info structs: writes ours up to the caller's struct_size, and zeroes what the caller has beyond ours.
template <class T>
pith_status write_info(const T& from, T* to, const char* name, pith_error* error) {
    static_assert(kFirstSize<T> != 0 && kFirstSize<T> <= sizeof(T));
    return write_bytes(&from, to, sizeof(T), kFirstSize<T>, name, error);
}
// One record for the host's log, if it wants any.
PITH_PRINTF(3, 4) void log(const pith_env* env, int32_t level, const char* format, ...);
// A caller's runner, checked; NULL gives one whose run is NULL.
pith_status read_runner(const pith_runner* from, pith_runner* to, pith_error* error);

}  // namespace pith
