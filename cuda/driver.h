// NVIDIA's driver, opened at run time: the plug-in links nothing of CUDA, and loads where there is none.
#pragma once
#include <cuda.h>

#include "base/status.h"

namespace pith::cuda {

// What a driver of CUDA 12.0 and newer exports. A member is named as its function is, without "cu".
// clang-format off
#define PITH_CUDA_FUNCTIONS(X) \
    X(Init) X(DriverGetVersion) X(GetErrorName) X(DeviceGetCount) X(DeviceGet) X(DeviceGetName) X(DeviceGetAttribute) X(DeviceGetUuid) \
    X(DeviceTotalMem) X(DevicePrimaryCtxRetain) X(DevicePrimaryCtxRelease) X(DevicePrimaryCtxGetState) X(CtxPushCurrent) X(CtxPopCurrent) X(CtxGetCurrent) \
    X(CtxSetCurrent) X(CtxGetDevice) X(CtxGetStreamPriorityRange) X(MemGetInfo) X(MemAlloc) X(MemFree) X(MemHostAlloc) X(MemFreeHost) \
    X(MemHostGetDevicePointer) X(MemcpyHtoDAsync) X(MemcpyDtoHAsync) X(MemcpyDtoDAsync) X(MemsetD8Async) X(MemsetD32Async) \
    X(StreamCreateWithPriority) X(StreamDestroy) X(StreamSynchronize) X(StreamQuery) X(StreamWaitEvent) X(StreamGetCtx) X(EventCreate) \
    X(EventDestroy) X(EventRecord) X(EventQuery) X(EventSynchronize) X(EventElapsedTime) X(LibraryLoadData) X(LibraryUnload) \
    X(LibraryGetKernel) X(KernelGetFunction) X(FuncGetAttribute) X(FuncSetAttribute) X(LaunchKernelEx) \
    X(OccupancyMaxActiveBlocksPerMultiprocessor) X(StreamBeginCapture) X(StreamEndCapture) X(GraphInstantiate) X(GraphLaunch) \
    X(GraphUpload) X(GraphExecUpdate) X(GraphExecDestroy) X(GraphDestroy) X(GraphGetNodes) X(GraphKernelNodeGetParams) \
    X(GraphExecKernelNodeSetParams)
// clang-format on
// NULL where a driver lacks them.
#define PITH_CUDA_OPTIONAL_FUNCTIONS(X) X(TensorMapEncodeTiled) X(OccupancyMaxActiveClusters)

struct Driver {
#define PITH_CUDA_MEMBER(name) decltype(&cu##name) name;
    PITH_CUDA_FUNCTIONS(PITH_CUDA_MEMBER)
    PITH_CUDA_OPTIONAL_FUNCTIONS(PITH_CUDA_MEMBER)
#undef PITH_CUDA_MEMBER
#if defined(_WIN32)
    decltype(&cuDeviceGetLuid) DeviceGetLuid;  // optional
#endif
};

// *found: whether there are a driver and a GPU that it runs. PITH_E_UNSUPPORTED: the driver is too old; PITH_E_DEVICE: it is there and
// does not start.
pith_status open_driver(Driver* driver, bool* found, pith_error* error);

// PITH_OK, or what a failed call means: PITH_E_MEMORY, PITH_E_UNSUPPORTED (no kernel for this GPU) or PITH_E_DEVICE; `what` was being done.
pith_status check(const Driver& driver, CUresult result, const char* what, pith_error* error);

}  // namespace pith::cuda
