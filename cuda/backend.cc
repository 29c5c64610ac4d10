// The plug-in's one export: the CUDA backend's side of the seam.
#include "backend/backend.h"

#include "device.h"
#include "model.h"

namespace pith::cuda {
namespace {

pith_status open(const pith_allocator* allocator, void** instance, uint32_t* devices, pith_error* error) {
    Instance* made = nullptr;
    PITH_TRY(open_instance(allocator, &made, error));
    *instance = made;
    *devices = static_cast<uint32_t>(made->devices.size());
    return PITH_OK;
}
void close(void* instance) { close_instance(static_cast<Instance*>(instance)); }
pith_status info(void* instance, uint32_t device, pith_device_info* to, pith_error* error) {
    return device_info(*static_cast<Instance*>(instance), device, to, error);
}

pith_status create(const BackendHost* host, const ModelFile* file, void** model, BackendBytes* bytes, pith_error* error) {
    void* made = nullptr;
    PITH_TRY(model_create(host, file, &made, bytes, error));
    const pith_status status = describe_layers(*static_cast<Model*>(made), error);
    if (status < 0)
        model_destroy(made);
    else
        *model = made;
    return status;
}

constexpr Backend kCudaBackend = {
    .abi = kBackendAbi,
    .struct_size = sizeof(Backend),
    .default_batch = kDefaultBatch,
    .reserved = 0,
    .open = open,
    .close = close,
    .device_info = info,
    .model_create = create,
    .model_load = model_load,
    .model_destroy = model_destroy,
    .session_plan = session_plan,
    .session_create = session_create,
    .session_destroy = session_destroy,
    .session_forward = session_forward,
    .session_logits = session_logits,
    .session_sample = session_sample,
};

}  // namespace
}  // namespace pith::cuda

#if defined(_WIN32)
#    define PITH_PLUGIN __declspec(dllexport)
#else
#    define PITH_PLUGIN __attribute__((visibility("default")))
#endif
extern "C" PITH_PLUGIN const pith::Backend* pith_backend_entry(void) { return &pith::cuda::kCudaBackend; }
