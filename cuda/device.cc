#include "device.h"

#include <pith/session.h>
#include <string.h>

#if defined(_WIN32)
#    define WIN32_LEAN_AND_MEAN
#    include <windows.h>
#else
#    include <sched.h>
#endif

namespace pith::cuda {
namespace {

constexpr uint32_t kOldestCapability = 75;

void yield() {
#if defined(_WIN32)
    SwitchToThread();
#else
    sched_yield();
#endif
}

uint32_t attribute(const Driver& driver, CUdevice device, CUdevice_attribute which) {
    int value = 0;
    return driver.DeviceGetAttribute(&value, which, device) == CUDA_SUCCESS && value > 0 ? static_cast<uint32_t>(value) : 0;
}

// False: not one to compute on.
bool describe(const Driver& driver, int ordinal, DeviceFacts* f) {
    *f = {};
    if (driver.DeviceGet(&f->handle, ordinal) != CUDA_SUCCESS) return false;
    const auto get = [&](CUdevice_attribute which) { return attribute(driver, f->handle, which); };
    f->capability = get(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) * 10 + get(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    if (f->capability < kOldestCapability || get(CU_DEVICE_ATTRIBUTE_COMPUTE_MODE) == CU_COMPUTEMODE_PROHIBITED) return false;
    f->multiprocessors = get(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    f->shared_block = get(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
    f->shared_multiprocessor = get(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR);
    f->l2_bytes = get(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
    f->bandwidth = uint64_t{get(CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)} * 2 * get(CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH) / 8;
    size_t memory = 0;
    if (driver.DeviceTotalMem(&memory, f->handle) != CUDA_SUCCESS) return false;
    f->memory = memory;
    if (driver.DeviceGetName(f->name, sizeof f->name, f->handle) != CUDA_SUCCESS) f->name[0] = 0;
    f->name[sizeof f->name - 1] = 0;
    CUuuid uuid;
    if (driver.DeviceGetUuid(&uuid, f->handle) == CUDA_SUCCESS) memcpy(f->uuid, uuid.bytes, sizeof f->uuid);
#if defined(_WIN32)
    unsigned nodes = 0;
    if (driver.DeviceGetLuid) driver.DeviceGetLuid(reinterpret_cast<char*>(f->luid), &nodes, f->handle);
#endif
    return true;
}

bool better(const DeviceFacts& a, const DeviceFacts& b) {
    return a.bandwidth != b.bandwidth ? a.bandwidth > b.bandwidth : a.memory > b.memory;
}

pith_status enumerate(Instance& instance, pith_error* error) {
    bool found = false;
    PITH_TRY(open_driver(&instance.driver, &found, error));
    int count = 0;
    if (found) PITH_TRY(check(instance.driver, instance.driver.DeviceGetCount(&count), "counting GPUs", error));
    for (int i = 0; i < count; i++) {
        DeviceFacts facts;
        if (!describe(instance.driver, i, &facts)) continue;
        if (!instance.devices.push(facts)) return fail_memory(error, "the list of GPUs", sizeof facts);
        for (size_t at = instance.devices.size() - 1; at > 0 && better(instance.devices[at], instance.devices[at - 1]); at--)
            std::swap(instance.devices[at], instance.devices[at - 1]);
    }
    return PITH_OK;
}

// Only told inside a context: 0 if the GPU has none of this process yet. None is made for the question, it would take memory and time.
uint64_t free_memory(const Driver& driver, CUdevice device) {
    unsigned flags = 0;
    int active = 0;
    CUcontext primary = nullptr;
    if (driver.DevicePrimaryCtxGetState(device, &flags, &active) != CUDA_SUCCESS || !active) return 0;
    if (driver.DevicePrimaryCtxRetain(&primary, device) != CUDA_SUCCESS) return 0;
    size_t free = 0, total = 0;
    {
        const ContextScope scope(driver, primary, nullptr);
        if (scope.status() < 0 || driver.MemGetInfo(&free, &total) != CUDA_SUCCESS) free = 0;
    }
    driver.DevicePrimaryCtxRelease(device);
    return free;
}

unsigned long long mebibytes(uint64_t bytes) { return static_cast<unsigned long long>(bytes >> 20); }

}  // namespace

pith_status open_instance(const pith_allocator* allocator, Instance** instance, pith_error* error) {
    Instance* made = create<Instance>(*allocator, *allocator);
    if (!made) return fail_memory(error, "the CUDA backend", sizeof(Instance));
    const pith_status status = enumerate(*made, error);
    if (status < 0) {
        close_instance(made);
        return status;
    }
    *instance = made;
    return PITH_OK;
}

void close_instance(Instance* instance) {
    if (instance) destroy(instance->allocator, instance);
}

pith_status device_info(const Instance& instance, uint32_t device, pith_device_info* info, pith_error*) {
    const DeviceFacts& f = instance.devices[device];
    info->kind = PITH_DEVICE_CUDA;
    info->memory_total = f.memory;
    memcpy(info->uuid, f.uuid, sizeof f.uuid);
    memcpy(info->luid, f.luid, sizeof f.luid);
    memcpy(info->name, f.name, sizeof f.name);
    info->memory_free = free_memory(instance.driver, f.handle);
    return PITH_OK;
}

ContextScope::ContextScope(const Driver& driver, CUcontext context, pith_error* error) : driver_(driver) {
    if (driver.CtxGetCurrent(&before_) != CUDA_SUCCESS) before_ = nullptr;
    status_ = check(driver, driver.CtxPushCurrent(context), "making the context current", error);
}

ContextScope::~ContextScope() {
    CUcontext popped = nullptr, now = nullptr;
    if (status_ < 0) return;
    driver_.CtxPopCurrent(&popped);
    // A context lost to a fault may refuse.
    if (driver_.CtxGetCurrent(&now) != CUDA_SUCCESS || now != before_) driver_.CtxSetCurrent(before_);
}

pith_status Device::open_context(const pith_cuda_options& options, pith_error* error) {
    if (!options.context) {
        CUcontext primary = nullptr;
        PITH_TRY(check(driver_, driver_.DevicePrimaryCtxRetain(&primary, facts_.handle), "opening the GPU's primary context", error));
        context_ = primary;
        primary_ = true;
        return PITH_OK;
    }
    const CUcontext given = static_cast<CUcontext>(options.context);
    const ContextScope scope(driver_, given, error);
    if (scope.status() < 0) return fail(error, PITH_E_ARGUMENT, "options.cuda.context is no context of this process");
    CUdevice of = 0;
    PITH_TRY(check(driver_, driver_.CtxGetDevice(&of), "asking for the context's device", error));
    if (of != facts_.handle) return fail(error, PITH_E_ARGUMENT, "options.cuda.context is of another device than options.device");
    context_ = given;
    return PITH_OK;
}

pith_status Device::load_kernels(pith_error* error) {
    const ContextScope scope(driver_, context_, error);
    PITH_TRY(scope.status());
    if (kEmbeddedKernelCount > kMostLibraries) return fail(error, PITH_E_UNSUPPORTED, "the plug-in holds too many files of kernels");
    for (size_t i = 0; i < kEmbeddedKernelCount; i++) {
        const CUresult result = driver_.LibraryLoadData(&libraries_[i], kEmbeddedKernels[i].data, nullptr, nullptr, 0, nullptr, nullptr, 0);
        if (result == CUDA_SUCCESS) continue;
        libraries_[i] = nullptr;
        if (result != CUDA_ERROR_NO_BINARY_FOR_GPU) return check(driver_, result, "loading the GPU's kernels", error);
    }
    CUfunction any = nullptr;
    int written_for = 0;
    PITH_TRY(find_kernel("repack_codes", &any, error));
    PITH_TRY(
        check(driver_, driver_.FuncGetAttribute(&written_for, CU_FUNC_ATTRIBUTE_PTX_VERSION, any), "loading the GPU's kernels", error));
    waits_ = written_for >= 90;
    return PITH_OK;
}

pith_status Device::open(const pith_cuda_options& options, pith_error* error) {
    if (context_) return PITH_OK;
    PITH_TRY(open_context(options, error));
    const pith_status status = load_kernels(error);
    if (status < 0) close();
    return status;
}

void Device::close() {
    if (!context_) return;
    {
        const ContextScope scope(driver_, context_, nullptr);
        for (CUlibrary& library : libraries_) {
            if (library) driver_.LibraryUnload(library);
            library = nullptr;
        }
    }
    if (primary_) driver_.DevicePrimaryCtxRelease(facts_.handle);
    context_ = nullptr;
    primary_ = false;
}

bool Device::has_kernel(const char* name) const {
    CUkernel kernel = nullptr;
    for (const CUlibrary library : libraries_)
        if (library && driver_.LibraryGetKernel(&kernel, library, name) == CUDA_SUCCESS) return true;
    return false;
}

pith_status Device::find_kernel(const char* name, CUfunction* function, pith_error* error) const {
    CUkernel kernel = nullptr;
    for (const CUlibrary library : libraries_) {
        if (!library) continue;
        const CUresult result = driver_.LibraryGetKernel(&kernel, library, name);
        if (result == CUDA_SUCCESS) break;
        kernel = nullptr;
        // A library whose one architecture is another than this GPU's says so here, if it is loaded when first used.
        if (result != CUDA_ERROR_NOT_FOUND && result != CUDA_ERROR_NO_BINARY_FOR_GPU) return check(driver_, result, name, error);
    }
    if (!kernel)
        return fail(error, PITH_E_UNSUPPORTED, "this build has no kernel %s for %s (compute capability %u.%u)", name, facts_.name,
                    facts_.capability / 10, facts_.capability % 10);
    PITH_TRY(check(driver_, driver_.KernelGetFunction(function, kernel), name, error));
    int fixed = 0;
    PITH_TRY(check(driver_, driver_.FuncGetAttribute(&fixed, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, *function), name, error));
    const int dynamic = static_cast<int>(facts_.shared_block) - fixed;
    return check(driver_, driver_.FuncSetAttribute(*function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, dynamic > 0 ? dynamic : 0),
                 name, error);
}

pith_status Device::allocate(uint64_t bytes, const char* what, CUdeviceptr* memory, pith_error* error) const {
    *memory = 0;
    if (bytes == 0) return PITH_OK;
    const CUresult result = driver_.MemAlloc(memory, static_cast<size_t>(bytes));
    if (result == CUDA_SUCCESS) return PITH_OK;
    *memory = 0;
    if (result != CUDA_ERROR_OUT_OF_MEMORY) return check(driver_, result, what, error);
    size_t free = 0, total = 0;
    if (driver_.MemGetInfo(&free, &total) != CUDA_SUCCESS) free = total = 0;
    return fail_system(error, PITH_E_MEMORY, static_cast<int32_t>(result),
                       "%s: %llu MiB of device memory are needed, %s has %llu of %llu free", what, mebibytes(bytes + (1 << 20) - 1),
                       facts_.name, mebibytes(free), mebibytes(total));
}

void Device::free(CUdeviceptr memory) const {
    if (memory) driver_.MemFree(memory);
}

pith_status Device::allocate_host(uint64_t bytes, const char* what, void** memory, CUdeviceptr* device, pith_error* error) const {
    *memory = nullptr;
    *device = 0;
    if (bytes == 0) return PITH_OK;
    const CUresult result = driver_.MemHostAlloc(memory, static_cast<size_t>(bytes), CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
    if (result != CUDA_SUCCESS) {
        *memory = nullptr;
        if (result != CUDA_ERROR_OUT_OF_MEMORY) return check(driver_, result, what, error);
        return fail_system(error, PITH_E_MEMORY, static_cast<int32_t>(result), "%s: %llu MiB of pinned host memory are not to be had", what,
                           mebibytes(bytes + (1 << 20) - 1));
    }
    const pith_status status = check(driver_, driver_.MemHostGetDevicePointer(device, *memory, 0), what, error);
    if (status < 0) {
        free_host(*memory);
        *memory = nullptr;
    }
    return status;
}

void Device::free_host(void* memory) const {
    if (memory) driver_.MemFreeHost(memory);
}

pith_status launch(const Device& device, CUstream stream, const Launch& how, const void* params, const char* what, pith_error* error) {
    CUlaunchAttribute attributes[3] = {};
    unsigned count = 0;
    if (how.overlap && device.kernels_wait()) {
        attributes[count].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        attributes[count++].value.programmaticStreamSerializationAllowed = 1;
    }
    if (how.cluster > 1) {
        attributes[count].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
        attributes[count].value.clusterDim.x = how.cluster;
        attributes[count].value.clusterDim.y = attributes[count].value.clusterDim.z = 1;
        count++;
    }
    if (how.cooperative) {
        attributes[count].id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
        attributes[count++].value.cooperative = 1;
    }
    CUlaunchConfig config{};
    config.gridDimX = how.grid[0];
    config.gridDimY = how.grid[1];
    config.gridDimZ = how.grid[2];
    config.blockDimX = how.block[0];
    config.blockDimY = how.block[1];
    config.blockDimZ = how.block[2];
    config.sharedMemBytes = how.shared;
    config.hStream = stream;
    config.attrs = attributes;
    config.numAttrs = count;
    void* arguments[] = {const_cast<void*>(params)};
    return check(device.driver(), device.driver().LaunchKernelEx(&config, how.kernel, arguments, nullptr), what, error);
}

pith_status make_event(const Driver& driver, uint32_t wait, CUevent* event, pith_error* error) {
    unsigned flags = CU_EVENT_DISABLE_TIMING;
    if (wait == PITH_WAIT_BLOCK) flags |= CU_EVENT_BLOCKING_SYNC;
    return check(driver, driver.EventCreate(event, flags), "making an event", error);
}

pith_status wait_for(const Driver& driver, CUevent event, uint32_t wait, const char* what, pith_error* error) {
    if (wait == PITH_WAIT_BLOCK) return check(driver, driver.EventSynchronize(event), what, error);
    for (;;) {
        const CUresult result = driver.EventQuery(event);
        if (result != CUDA_ERROR_NOT_READY) return check(driver, result, what, error);
        if (wait == PITH_WAIT_YIELD) yield();
    }
}

}  // namespace pith::cuda
