// libcuda.so.1 in front of the real one: everything is passed on, but allocations are counted, and the n-th can be made to find no memory.
// A program that is linked to this has the plug-in take it for the driver.
#include <cuda.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "driver.h"
#include "failing_driver.h"

namespace {

FailingCuda state;
std::map<uint64_t, uint64_t> sizes;  // device memory
std::mutex lock;

decltype(&cuInit) real_init;
decltype(&cuMemAlloc) real_alloc;
decltype(&cuMemFree) real_free;
decltype(&cuMemHostAlloc) real_host_alloc;

// The driver as the loader would find it, but by its path: by its name it is this library.
void* open_real() {
    if (FILE* list = popen("ldconfig -p 2>/dev/null || /sbin/ldconfig -p", "r")) {
        char line[1024];
        void* library = nullptr;
        while (!library && fgets(line, sizeof line, list)) {
            char* path = std::strstr(line, "=> ");
            if (!std::strstr(line, "libcuda.so.1 ") || !std::strstr(line, "x86-64") || !path) continue;
            path[std::strcspn(path, "\n")] = 0;
            library = dlopen(path + 3, RTLD_NOW | RTLD_LOCAL);
        }
        pclose(list);
        if (library) return library;
    }
    for (const char* path : {"/usr/lib/x86_64-linux-gnu/libcuda.so.1", "/usr/lib64/libcuda.so.1", "/usr/local/cuda/compat/libcuda.so.1"})
        if (void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL)) return library;
    return nullptr;
}

bool refuse() {
    const std::lock_guard<std::mutex> hold(lock);
    state.allocations++;
    return state.fail > 0 && --state.fail == 0;
}

}  // namespace

#define TEXT_(name) #name
#define TEXT(name) TEXT_(name)
#define SLOT(name) extern "C" __attribute__((visibility("hidden"))) void* real_##name;
#define DEFINE(name) void* real_##name;
// Whatever the arguments are, they stay where they are.
#define PASS_ON(name) asm(".text\n.globl " TEXT(cu##name) "\n.type " TEXT(cu##name) ", @function\n" TEXT(cu##name) ":\n jmp *real_" #name "(%rip)\n");
#define RESOLVE(name) real_##name = dlsym(library, TEXT(cu##name));
#define PASSED_ON(X)                                                                                                                      \
    X(DriverGetVersion) X(GetErrorName) X(DeviceGetCount) X(DeviceGet) X(DeviceGetName) X(DeviceGetAttribute) X(DeviceGetUuid)            \
    X(DeviceTotalMem) X(DevicePrimaryCtxRetain) X(DevicePrimaryCtxRelease) X(DevicePrimaryCtxGetState) X(CtxPushCurrent) X(CtxPopCurrent) X(CtxGetCurrent)            \
    X(CtxSetCurrent) X(CtxGetDevice) X(CtxGetStreamPriorityRange) X(MemGetInfo) X(MemFreeHost) X(MemHostGetDevicePointer)                 \
    X(MemcpyHtoDAsync) X(MemcpyDtoHAsync) X(MemcpyDtoDAsync) X(MemsetD8Async) X(MemsetD32Async) X(StreamCreateWithPriority)               \
    X(StreamDestroy) X(StreamSynchronize) X(StreamQuery) X(StreamWaitEvent) X(StreamGetCtx) X(EventCreate) X(EventDestroy)                \
    X(EventRecord) X(EventQuery) X(EventSynchronize) X(EventElapsedTime) X(LibraryLoadData) X(LibraryUnload) X(LibraryGetKernel)          \
    X(KernelGetFunction) X(FuncGetAttribute) X(FuncSetAttribute) X(LaunchKernelEx) X(OccupancyMaxActiveBlocksPerMultiprocessor)           \
    X(StreamBeginCapture) X(StreamEndCapture) X(GraphInstantiate) X(GraphLaunch) X(GraphUpload) X(GraphExecUpdate) X(GraphExecDestroy)    \
    X(GraphDestroy) X(GraphGetNodes) X(GraphKernelNodeGetParams) X(GraphExecKernelNodeSetParams) X(TensorMapEncodeTiled)                  \
    X(OccupancyMaxActiveClusters)
PASSED_ON(SLOT)
PASSED_ON(DEFINE)
PASSED_ON(PASS_ON)

extern "C" {

FailingCuda* failing_cuda() { return &state; }

CUresult cuInit(unsigned flags) {
    if (!real_init) {
        void* library = open_real();
        if (!library) return CUDA_ERROR_NO_DEVICE;
        PASSED_ON(RESOLVE)
        real_alloc = reinterpret_cast<decltype(real_alloc)>(dlsym(library, TEXT(cuMemAlloc)));
        real_free = reinterpret_cast<decltype(real_free)>(dlsym(library, TEXT(cuMemFree)));
        real_host_alloc = reinterpret_cast<decltype(real_host_alloc)>(dlsym(library, TEXT(cuMemHostAlloc)));
        real_init = reinterpret_cast<decltype(real_init)>(dlsym(library, "cuInit"));
    }
    return real_init(flags);
}
CUresult cuMemAlloc(CUdeviceptr* memory, size_t bytes) {
    if (refuse()) return CUDA_ERROR_OUT_OF_MEMORY;
    const CUresult result = real_alloc(memory, bytes);
    const std::lock_guard<std::mutex> hold(lock);
    if (result == CUDA_SUCCESS) sizes[*memory] = bytes, state.device_bytes += bytes;
    return result;
}
CUresult cuMemFree(CUdeviceptr memory) {
    {
        const std::lock_guard<std::mutex> hold(lock);
        const auto found = sizes.find(memory);
        if (found != sizes.end()) state.device_bytes -= found->second, sizes.erase(found);
    }
    return real_free(memory);
}
CUresult cuMemHostAlloc(void** memory, size_t bytes, unsigned flags) {
    return refuse() ? CUDA_ERROR_OUT_OF_MEMORY : real_host_alloc(memory, bytes, flags);
}
}
