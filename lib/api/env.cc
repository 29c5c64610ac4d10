// <pith/env.h>: host services, devices, and the runner check.
#include "api/env.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/plugin.h"
#include "base/check.h"
#include "base/status.h"

#if defined(_WIN32)
#  include <malloc.h>
#else
#  include <sys/mman.h>
#endif

namespace pith {
namespace {

[[maybe_unused]] constexpr size_t kHugePage = 2 << 20;

void* system_alloc(void*, size_t size, size_t alignment) {
#if defined(_WIN32)
    return _aligned_malloc(size ? size : 1, alignment);
#else
    // Weights are streamed once a token: with 4 KiB pages the walks through the page table cost a good part of the bandwidth.
    const bool huge = size >= 2 * kHugePage;
    if (huge && alignment < kHugePage) alignment = kHugePage;
    void* memory = nullptr;
    if (posix_memalign(&memory, alignment < sizeof(void*) ? sizeof(void*) : alignment, size)) return nullptr;
#  if defined(MADV_HUGEPAGE)
    if (huge) madvise(memory, size, MADV_HUGEPAGE);  // a wish: whether it is granted makes no difference to us
#  endif
    return memory;
#endif
}

void system_free(void*, void* memory, size_t, size_t) {
#if defined(_WIN32)
    _aligned_free(memory);
#else
    free(memory);
#endif
}

pith_status check_callbacks(const pith_env_options& options, pith_error* error) {
    if (options.allocator && (!options.allocator->alloc || !options.allocator->free))
        return fail(error, PITH_E_ARGUMENT, "options.allocator: alloc and free must both be set");
    if (options.files && (!options.files->open || !options.files->read || !options.files->close))
        return fail(error, PITH_E_ARGUMENT, "options.files: open, read and close must all be set");
    return PITH_OK;
}

// Each chunk of the check counts its visits; the caller compares.
struct Visits {
    static constexpr uint32_t kChunks = 512;
    std::atomic<uint32_t> count[kChunks]{};
    std::atomic<uint32_t> sink{0};

    void operator()(uint32_t chunk, uint32_t) {
        // A little work, so that a runner that returns early leaves somebody inside.
        uint32_t x = chunk;
        for (int i = 0; i < 400; i++) x = x * 1664525u + 1013904223u;
        sink.fetch_add(x, std::memory_order_relaxed);
        count[chunk].fetch_add(1, std::memory_order_relaxed);
    }
};

pith_status check_runner(Crew& crew, pith_error* error) {
    for (uint32_t round = 0; round < 64; round++) {
        Visits visits;
        const uint32_t chunks = round == 0 ? 2 : 2 + (round * 37) % (Visits::kChunks - 1);
        crew.run(chunks, uint64_t{chunks} * Crew::kBytesPerSlot, visits);
        const uint32_t breaches = crew.take_breaches();
        if (breaches)
            return fail(error, PITH_E_RUNNER, "runner: %u breaches of the contract in round %u: an index was called twice, out of range or late, "
                        "or run() returned before its calls had", breaches, round);
        for (uint32_t i = 0; i < chunks; i++)
            if (visits.count[i].load() != 1) return fail(error, PITH_E_RUNNER, "runner: chunk %u was done %u times", i, visits.count[i].load());
    }
    return PITH_OK;
}

}  // namespace

void release(pith_env* env) {
    if (env && env->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        const pith_allocator allocator = env->allocator;
        for (const LoadedBackend& plugin : env->plugins) plugin.backend->close(plugin.instance);
        destroy(allocator, env);
    }
}

LoadedBackend find_device(const pith_env* env, uint32_t* device) {
    if (*device == 0) return {&kCpuBackend, nullptr, 1};
    --*device;
    const LoadedBackend* at = env->plugins.begin();
    for (; *device >= at->devices; at++) *device -= at->devices;
    return *at;
}

pith_status read_bytes(const void* from, void* to, size_t size, size_t first, const char* name, pith_error* error) {
    memset(to, 0, size);
    if (from) {
        size_t given;
        memcpy(&given, from, sizeof given);
        if (given < first)
            return fail(error, PITH_E_ARGUMENT, "%s.struct_size is %llu, the first release's is %llu; was it set?", name,
                        static_cast<unsigned long long>(given), static_cast<unsigned long long>(first));
        if (given > 1 << 16)
            return fail(error, PITH_E_ARGUMENT, "%s.struct_size is %llu: not a plausible size", name, static_cast<unsigned long long>(given));
        const unsigned char* bytes = static_cast<const unsigned char*>(from);
        for (size_t i = size; i < given; i++)
            if (bytes[i])
                return fail(error, PITH_E_VERSION, "%s sets a field at offset %llu that this library does not know", name,
                            static_cast<unsigned long long>(i));
        memcpy(to, from, given < size ? given : size);
    }
    memcpy(to, &size, sizeof size);
    return PITH_OK;
}

pith_status write_bytes(const void* from, void* to, size_t size, size_t first, const char* name, pith_error* error) {
    if (!to) return fail(error, PITH_E_ARGUMENT, "%s is NULL", name);
    size_t given;
    memcpy(&given, to, sizeof given);
    if (given < first || given > 1 << 16)
        return fail(error, PITH_E_ARGUMENT, "%s.struct_size is %llu, the first release's is %llu; was it set?", name,
                    static_cast<unsigned long long>(given), static_cast<unsigned long long>(first));
    memset(to, 0, given);
    memcpy(to, from, given < size ? given : size);
    memcpy(to, &given, sizeof given);
    return PITH_OK;
}

void log(const pith_env* env, int32_t level, const char* format, ...) {
    if (!env->log) return;
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (size < 0) return;
    if (size >= static_cast<int>(sizeof text)) size = sizeof text - 1;
    env->log(env->log_user, level, text, static_cast<size_t>(size));
}

pith_status read_runner(const pith_runner* from, pith_runner* to, pith_error* error) {
    PITH_TRY(read_options(from, to, "runner", error));
    if (!from) return PITH_OK;
    if (!to->run) return fail(error, PITH_E_ARGUMENT, "runner.run is NULL");
    if (to->width < 1 || to->width > kMaxSlots) return fail(error, PITH_E_ARGUMENT, "runner.width is %u, expected 1 to %u", to->width, kMaxSlots);
    if (to->flags) return fail(error, PITH_E_UNSUPPORTED, "runner.flags is %u: no flag is known", to->flags);
    return PITH_OK;
}

}  // namespace pith

using namespace pith;

pith_status pith_env_create(const pith_env_options* options, pith_env** env, pith_error* error) {
    if (!env) return fail(error, PITH_E_ARGUMENT, "env is NULL");
    *env = nullptr;
    pith_env_options o;
    PITH_TRY(read_options(options, &o, "options", error));
    pith_allocator allocator;
    PITH_TRY(read_options(o.allocator, &allocator, "options.allocator", error));
    pith_files files;
    PITH_TRY(read_options(o.files, &files, "options.files", error));
    pith_runner runner;
    PITH_TRY(read_runner(o.runner, &runner, error));
    PITH_TRY(check_callbacks(o, error));
    if (!o.allocator) {
        allocator.alloc = system_alloc;
        allocator.free = system_free;
    }
    pith_env* made = create<pith_env>(allocator, allocator);
    if (!made) return fail_memory(error, "the env", sizeof(pith_env));
    made->files = o.files ? files : kSystemFiles;
    made->runner = runner;
    made->log = o.log;
    made->log_user = o.log_user;
    made->tier = kernels::best_tier();
    *env = made;
    return PITH_OK;
}

void pith_env_destroy(pith_env* env) { release(env); }

pith_status pith_env_load_backend(pith_env* env, const char* library_path, pith_error* error) {
    if (!env) return fail(error, PITH_E_ARGUMENT, "env is NULL");
    if (!library_path) return fail(error, PITH_E_ARGUMENT, "library_path is NULL");
    LoadedBackend made{};
    PITH_TRY(load_plugin(library_path, &made.backend, error));
    for (const LoadedBackend& plugin : env->plugins)
        if (plugin.backend == made.backend) return PITH_OK;  // its devices are listed already
    PITH_TRY(made.backend->open(&env->allocator, &made.instance, &made.devices, error));
    if (env->plugins.push(made)) {
        log(env, PITH_LOG_INFO, "%s: %u devices", library_path, made.devices);
        return PITH_OK;
    }
    made.backend->close(made.instance);
    return fail_memory(error, "the list of backends", sizeof made);
}

uint32_t pith_env_device_count(const pith_env* env) {
    if (!env) return 0;
    uint32_t count = 1;
    for (const LoadedBackend& plugin : env->plugins) count += plugin.devices;
    return count;
}

pith_status pith_env_device_info(const pith_env* env, uint32_t device, pith_device_info* info, pith_error* error) {
    if (!env) return fail(error, PITH_E_ARGUMENT, "env is NULL");
    if (device >= pith_env_device_count(env))
        return fail(error, PITH_E_ARGUMENT, "device is %u, there are %u", device, pith_env_device_count(env));
    pith_device_info ours{};
    const LoadedBackend at = find_device(env, &device);
    PITH_TRY(at.backend->device_info(at.instance, device, &ours, error));
    return write_info(ours, info, "info", error);
}

pith_status pith_runner_check(pith_env* env, const pith_runner* runner, pith_error* error) {
    if (!env) return fail(error, PITH_E_ARGUMENT, "env is NULL");
    if (!runner) return fail(error, PITH_E_ARGUMENT, "runner is NULL");
    pith_runner checked;
    PITH_TRY(read_runner(runner, &checked, error));
    if (env->checking.exchange(true)) return fail(error, PITH_E_STATE, "another thread is in pith_runner_check with this env");
    env->check.set_runner(checked);
    env->check.take_breaches();  // late calls since the last check are not this runner's
    const pith_status status = check_runner(env->check, error);
    env->checking.store(false);
    return status;
}
