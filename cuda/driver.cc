#include "driver.h"

#include "base/library.h"

namespace pith::cuda {
namespace {

#if defined(_WIN32)
constexpr const char* kLibrary = "nvcuda.dll";
#else
constexpr const char* kLibrary = "libcuda.so.1";
#endif

pith_status too_old(const char* symbol, pith_error* error) {
    return fail(error, PITH_E_UNSUPPORTED, "%s is older than CUDA 12.0: it has no %s", kLibrary, symbol);
}

pith_status find_functions(void* library, Driver* driver, pith_error* error) {
#define PITH_CUDA_TEXT_(symbol) #symbol
#define PITH_CUDA_TEXT(symbol) PITH_CUDA_TEXT_(symbol)  // cuda.h's macros give each name its version first
#define PITH_CUDA_FIND(name) driver->name = reinterpret_cast<decltype(&cu##name)>(find_symbol(library, PITH_CUDA_TEXT(cu##name)));
#define PITH_CUDA_NEED(name) \
    PITH_CUDA_FIND(name)     \
    if (!driver->name) return too_old(PITH_CUDA_TEXT(cu##name), error);
    PITH_CUDA_FUNCTIONS(PITH_CUDA_NEED)
    PITH_CUDA_OPTIONAL_FUNCTIONS(PITH_CUDA_FIND)
#if defined(_WIN32)
    PITH_CUDA_FIND(DeviceGetLuid)
#endif
    return PITH_OK;
}

}  // namespace

pith_status open_driver(Driver* driver, bool* found, pith_error* error) {
    *driver = {};
    *found = false;
    void* library = open_system_library(kLibrary);
    if (!library) return PITH_OK;
    const auto init = reinterpret_cast<decltype(&cuInit)>(find_symbol(library, "cuInit"));
    if (!init) return too_old("cuInit", error);
    const CUresult result = init(0);
    // The library of a machine without a GPU, or the toolkit's empty one.
    if (result == CUDA_ERROR_NO_DEVICE || result == CUDA_ERROR_STUB_LIBRARY) return PITH_OK;
    PITH_TRY(find_functions(library, driver, error));
    PITH_TRY(check(*driver, result, "starting NVIDIA's driver", error));
    *found = true;
    return PITH_OK;
}

pith_status check(const Driver& driver, CUresult result, const char* what, pith_error* error) {
    if (result == CUDA_SUCCESS) return PITH_OK;
    const char* name = nullptr;
    if (driver.GetErrorName(result, &name) != CUDA_SUCCESS || !name) name = "unknown error";
    pith_status status = PITH_E_DEVICE;
    switch (result) {
        case CUDA_ERROR_OUT_OF_MEMORY:
            status = PITH_E_MEMORY;
            break;
        case CUDA_ERROR_NO_BINARY_FOR_GPU:
        case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
        case CUDA_ERROR_JIT_COMPILER_NOT_FOUND:
        case CUDA_ERROR_NOT_FOUND:
            status = PITH_E_UNSUPPORTED;
            break;
        default:
            break;
    }
    return fail_system(error, status, static_cast<int32_t>(result), "%s: %s", what, name);
}

}  // namespace pith::cuda
