// GPUs: what there are, a model's hold on one (context, kernels), its memory, and waiting for it.
#pragma once
#include <pith/cuda.h>
#include <pith/env.h>

#include "base/array.h"
#include "driver.h"

namespace pith::cuda {

struct DeviceFacts {
    CUdevice handle;
    char name[64];
    uint8_t uuid[16], luid[8];  // zero: unknown
    uint64_t memory;
    uint32_t capability;  // major * 10 + minor: 75, 80, 86, 89, 90, 100, 120
    uint32_t multiprocessors;
    uint32_t shared_block;  // dynamic and static shared bytes that a block may have, opted in
    uint32_t shared_multiprocessor;
    uint32_t l2_bytes;
    uint32_t reserved;
    uint64_t bandwidth;  // kilobytes a second by its clock and width; to compare with
};

// One an env.
struct Instance {
    explicit Instance(const pith_allocator& a) : allocator(a), devices(allocator) {}
    pith_allocator allocator;
    Driver driver{};
    Array<DeviceFacts> devices;  // best first: the fastest memory, then the most of it
};

// PITH_OK without a device if there is no driver or no GPU of compute capability 7.5 and newer.
pith_status open_instance(const pith_allocator* allocator, Instance** instance, pith_error* error);
void close_instance(Instance* instance);
pith_status device_info(const Instance& instance, uint32_t device, pith_device_info* info, pith_error* error);

// A kernel as nvcc made it: one fatbin a file of kernels/, embedded in the plug-in.
struct EmbeddedKernels {
    const char* name;  // "repack"
    const void* data;
};
extern const EmbeddedKernels kEmbeddedKernels[];
extern const size_t kEmbeddedKernelCount;

// Makes a context the thread's current one, and the caller's again when it goes. A failed push is in status().
class ContextScope {
public:
    ContextScope(const Driver& driver, CUcontext context, pith_error* error);
    ~ContextScope();
    ContextScope(const ContextScope&) = delete;
    ContextScope& operator=(const ContextScope&) = delete;
    pith_status status() const { return status_; }

private:
    const Driver& driver_;
    CUcontext before_ = nullptr;
    pith_status status_;
};

// A context held, and the kernels loaded into it. Immutable once open, so that sessions on any threads share it.
class Device {
public:
    Device(const Instance& instance, uint32_t device) : driver_(instance.driver), facts_(instance.devices[device]) {}
    ~Device() { close(); }
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    // The caller's context, or the primary one. PITH_E_ARGUMENT: the context is another device's. Again after a failure: fine.
    pith_status open(const pith_cuda_options& options, pith_error* error);
    void close();
    bool is_open() const { return context_ != nullptr; }

    const Driver& driver() const { return driver_; }
    const DeviceFacts& facts() const { return facts_; }
    CUcontext context() const { return context_; }

    // What follows wants the context current.

    // By name, allowed as much dynamic shared memory as the device has. PITH_E_UNSUPPORTED: none of that name runs here.
    pith_status find_kernel(const char* name, CUfunction* kernel, pith_error* error) const;
    bool has_kernel(const char* name) const;
    // Whether the kernels wait for what precedes them (griddepcontrol): those written for sm_90 and newer, not older ones' on such a GPU.
    bool kernels_wait() const { return waits_; }
    // cuMemAlloc; 0 bytes gives 0. PITH_E_MEMORY names `what`, its size and what is free.
    pith_status allocate(uint64_t bytes, const char* what, CUdeviceptr* memory, pith_error* error) const;
    void free(CUdeviceptr memory) const;
    // Pinned, and mapped at *device for kernels.
    pith_status allocate_host(uint64_t bytes, const char* what, void** memory, CUdeviceptr* device, pith_error* error) const;
    void free_host(void* memory) const;

private:
    static constexpr size_t kMostLibraries = 32;
    pith_status open_context(const pith_cuda_options& options, pith_error* error);
    pith_status load_kernels(pith_error* error);

    const Driver& driver_;
    const DeviceFacts facts_;
    CUcontext context_ = nullptr;
    bool primary_ = false, waits_ = false;
    CUlibrary libraries_[kMostLibraries] = {};  // NULL: has nothing for this GPU
};

// The device's address of a pointer that kernels take.
inline CUdeviceptr address(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

struct Launch {
    CUfunction kernel;
    uint32_t grid[3], block[3];
    uint32_t shared;       // dynamic
    bool overlap = false;  // starts while what precedes it in the stream ends (griddepcontrol); ignored where kernels don't wait for that
    uint32_t cluster = 1;  // blocks of a cluster along x
    bool cooperative = false;  // all blocks run at once
};
// `params`: the kernel's one parameter, copied.
pith_status launch(const Device& device, CUstream stream, const Launch& how, const void* params, const char* what, pith_error* error);

// An event to wait with: no timing; a blocking one if that is how it will be waited for (PITH_WAIT_BLOCK).
pith_status make_event(const Driver& driver, uint32_t wait, CUevent* event, pith_error* error);
// Until what was recorded is done. PITH_WAIT_BLOCK sleeps, YIELD gives the core away between looks, SPIN looks.
pith_status wait_for(const Driver& driver, CUevent event, uint32_t wait, const char* what, pith_error* error);

}  // namespace pith::cuda
