// libcuda.so.1 for machines without a GPU: device memory is the host's, work waits in its stream until someone waits for it, and the
// repacking kernels run on the CPU. What is asked of it wrongly is counted.
#include "fake_driver.h"

#include <cuda.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <vector>

#include "kernels/repack_parts.h"

using namespace pith::cuda;

namespace {

struct Work {
    CUevent event;  // or NULL
    std::function<void()> run;
};

FakeCuda state;
std::vector<CUcontext> current;
std::map<uint64_t, uint64_t> memory, pinned;  // address, bytes
std::deque<Work> queue;                       // of all streams, in order
int marks[8];                                 // addresses that stand for contexts, kernels, ...

CUcontext primary(int device) { return reinterpret_cast<CUcontext>(&marks[device]); }
CUresult mistake() {
    state.mistakes++;
    return CUDA_ERROR_INVALID_VALUE;
}
CUresult ready() {
    if (current.empty() || !current.back()) {
        state.mistakes++;
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    return state.lost ? CUDA_ERROR_LAUNCH_FAILED : CUDA_SUCCESS;
}
bool inside(const std::map<uint64_t, uint64_t>& where, uint64_t address, uint64_t bytes) {
    auto after = where.upper_bound(address);
    if (after == where.begin()) return false;
    --after;
    return address + bytes <= after->first + after->second;
}
bool countdown(int* n) { return *n > 0 && --*n == 0; }

CUresult allocate(std::map<uint64_t, uint64_t>& where, uint64_t* live, size_t bytes, uint64_t* address) {
    if (CUresult r = ready()) return r;
    state.allocations++;
    if (countdown(&state.fail_allocation)) return CUDA_ERROR_OUT_OF_MEMORY;
    void* made = std::aligned_alloc(1024, (bytes + 1023) / 1024 * 1024);
    std::memset(made, 0xA5, bytes);
    *address = reinterpret_cast<uint64_t>(made);
    where[*address] = bytes;
    *live += bytes;
    state.objects++;
    if (state.device_bytes > state.most_device_bytes) state.most_device_bytes = state.device_bytes;
    return CUDA_SUCCESS;
}
CUresult release(std::map<uint64_t, uint64_t>& where, uint64_t* live, uint64_t address) {
    if (current.empty()) return mistake();
    const auto found = where.find(address);
    if (found == where.end()) return mistake();
    *live -= found->second;
    state.objects--;
    std::free(reinterpret_cast<void*>(address));
    where.erase(found);
    return CUDA_SUCCESS;
}
CUresult push(std::function<void()> run, CUevent event = nullptr) {
    if (CUresult r = ready()) return r;
    queue.push_back({event, std::move(run)});
    return CUDA_SUCCESS;
}
// Until the last work that is `event`; NULL: all.
void work_until(CUevent event) {
    size_t last = event ? 0 : queue.size();
    for (size_t i = 0; i < queue.size(); i++)
        if (event && queue[i].event == event) last = i + 1;
    for (; last > 0; last--) {
        if (queue.front().run) queue.front().run();
        queue.pop_front();
    }
}

enum Kernel { Codes = 4, Scales, Dense, Floats };
constexpr const char* kNames[] = {"repack_codes", "repack_scales", "repack_dense", "repack_floats"};

void run_kernel(int kernel, const unsigned (&grid)[2], const std::vector<char>& bytes) {
    if (kernel == Codes) {
        const auto& p = *reinterpret_cast<const RepackCodesParams*>(bytes.data());
        for (uint32_t y = 0; y < grid[1]; y++)
            for (uint32_t part = 0; part < grid[0] * kRepackTilesPerBlock && part < repack_tiles(p.place, p.rows); part++)
                for (uint32_t lane = 0; lane < 32; lane++) repack_codes_lane(p, part, p.chunk_begin + y, lane);
    } else if (kernel == Scales) {
        const auto& p = *reinterpret_cast<const RepackScalesParams*>(bytes.data());
        for (uint32_t y = 0; y < grid[1]; y++)
            for (uint32_t x = 0; x < grid[0] * kRepackThreads; x++) repack_scales_part(p, x, y);
    } else if (kernel == Dense) {
        const auto& p = *reinterpret_cast<const RepackDenseParams*>(bytes.data());
        for (uint32_t row = 0; row < grid[0]; row++)
            for (uint32_t thread = 0; thread < kRepackThreads; thread++)
                repack_dense_row(p, row, largest_of_row(p, row, 0, 1), thread, kRepackThreads);
    } else {
        const auto& p = *reinterpret_cast<const RepackFloatsParams*>(bytes.data());
        for (uint32_t x = 0; x < grid[0] * kRepackThreads; x++) repack_float(p, x);
    }
}

template <class T>
T made() {
    state.objects++;
    return reinterpret_cast<T>(std::malloc(1));
}
template <class T>
CUresult gone(T handle) {
    if (!handle) return mistake();
    state.objects--;
    std::free(handle);
    return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

FakeCuda* fake_cuda() { return &state; }

CUresult cuInit(unsigned) { return state.devices ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE; }
CUresult cuDriverGetVersion(int* version) { return *version = 13000, CUDA_SUCCESS; }
CUresult cuGetErrorName(CUresult error, const char** name) {
    *name = error == CUDA_ERROR_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_FAKE";
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetCount(int* count) { return *count = state.devices, CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice* device, int ordinal) { return *device = ordinal, CUDA_SUCCESS; }
CUresult cuDeviceGetName(char* name, int size, CUdevice device) {
    std::strncpy(name, device ? "fast fake" : "slow fake", static_cast<size_t>(size));
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute which, CUdevice device) {
    switch (which) {
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
            *value = 9;
            break;
        case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
            *value = 132;
            break;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
            *value = 227 << 10;
            break;
        case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE:
            *value = 1000000;
            break;
        case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH:
            *value = device ? 512 : 256;
            break;
        default:
            *value = 0;
            break;
    }
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) { return std::memset(uuid, device + 1, sizeof *uuid), CUDA_SUCCESS; }
CUresult cuDeviceTotalMem(size_t* bytes, CUdevice) { return *bytes = size_t{1} << 30, CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) { return *context = primary(device), state.objects++, CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxRelease(CUdevice) { return state.objects--, CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxGetState(CUdevice, unsigned* flags, int* active) { return *flags = 0, *active = state.objects > 0, CUDA_SUCCESS; }
CUresult cuCtxPushCurrent(CUcontext context) { return current.push_back(context), CUDA_SUCCESS; }
CUresult cuCtxPopCurrent(CUcontext* context) {
    if (current.empty()) return mistake();
    *context = current.back();
    current.pop_back();
    return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext* context) { return *context = current.empty() ? nullptr : current.back(), CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext context) {
    if (!current.empty()) current.pop_back();
    if (context) current.push_back(context);
    return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice* device) {
    if (CUresult r = ready()) return r;
    *device = current.back() == primary(1) ? 1 : 0;
    return CUDA_SUCCESS;
}
CUresult cuMemGetInfo(size_t* free, size_t* total) { return *total = size_t{1} << 30, *free = *total - state.device_bytes, CUDA_SUCCESS; }
CUresult cuMemAlloc(CUdeviceptr* address, size_t bytes) {
    uint64_t at = 0;
    const CUresult r = allocate(memory, &state.device_bytes, bytes, &at);
    return *address = at, r;
}
CUresult cuMemFree(CUdeviceptr address) { return release(memory, &state.device_bytes, address); }
CUresult cuMemHostAlloc(void** address, size_t bytes, unsigned) {
    uint64_t at = 0;
    const CUresult r = allocate(pinned, &state.host_bytes, bytes, &at);
    return *address = reinterpret_cast<void*>(at), r;
}
CUresult cuMemFreeHost(void* address) { return release(pinned, &state.host_bytes, reinterpret_cast<uint64_t>(address)); }
CUresult cuMemHostGetDevicePointer(CUdeviceptr* device, void* host, unsigned) {
    return *device = reinterpret_cast<uint64_t>(host), CUDA_SUCCESS;
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes, CUstream) {
    if (!inside(memory, to, bytes) || !inside(pinned, reinterpret_cast<uint64_t>(from), bytes)) return mistake();
    return push([=] { std::memcpy(reinterpret_cast<void*>(to), from, bytes); });
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream) {
    if (!inside(memory, to, bytes)) return mistake();
    return push([=] { std::memset(reinterpret_cast<void*>(to), value, bytes); });
}
CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned, int) { return *stream = made<CUstream>(), ready(); }
CUresult cuStreamDestroy(CUstream stream) { return gone(stream); }
CUresult cuStreamSynchronize(CUstream) { return work_until(nullptr), ready(); }
CUresult cuEventCreate(CUevent* event, unsigned) { return *event = made<CUevent>(), ready(); }
CUresult cuEventDestroy(CUevent event) { return gone(event); }
CUresult cuEventRecord(CUevent event, CUstream) { return push(nullptr, event); }
CUresult cuEventElapsedTime(float* milliseconds, CUevent begin, CUevent end) {
    return *milliseconds = begin && end ? 0.5f : 0, begin && end ? ready() : mistake();
}
CUresult cuEventQuery(CUevent event) { return work_until(event), ready(); }
CUresult cuEventSynchronize(CUevent event) { return work_until(event), ready(); }
CUresult cuLibraryLoadData(CUlibrary* library, const void*, CUjit_option*, void**, unsigned, CUlibraryOption*, void**, unsigned) {
    return *library = made<CUlibrary>(), CUDA_SUCCESS;
}
CUresult cuLibraryUnload(CUlibrary library) { return gone(library); }
CUresult cuLibraryGetKernel(CUkernel* kernel, CUlibrary, const char* name) {
    for (int i = 0; i < 4; i++)
        if (std::strcmp(name, kNames[i]) == 0) return *kernel = reinterpret_cast<CUkernel>(&marks[Codes + i]), CUDA_SUCCESS;
    return CUDA_ERROR_NOT_FOUND;
}
CUresult cuKernelGetFunction(CUfunction* function, CUkernel kernel) { return *function = reinterpret_cast<CUfunction>(kernel), ready(); }
CUresult cuFuncGetAttribute(int* value, CUfunction_attribute, CUfunction) { return *value = 0, CUDA_SUCCESS; }
CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) { return CUDA_SUCCESS; }
CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** parameters, void**) {
    if (config->gridDimX == 0 || config->gridDimY == 0 || config->gridDimY > 65535) return mistake();
    if (countdown(&state.fail_launch)) state.lost = true;
    const int kernel = static_cast<int>(reinterpret_cast<int*>(function) - marks);
    constexpr size_t kSizes[] = {sizeof(RepackCodesParams), sizeof(RepackScalesParams), sizeof(RepackDenseParams),
                                 sizeof(RepackFloatsParams)};
    const char* bytes = static_cast<const char*>(parameters[0]);
    const unsigned x = config->gridDimX, y = config->gridDimY;
    return push([=, copy = std::vector<char>(bytes, bytes + kSizes[kernel - Codes])] { run_kernel(kernel, {x, y}, copy); });
}
}
