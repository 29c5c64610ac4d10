// The CPU's side of the seam.
#include "backend/cpu/cpu_model.h"
#include "base/machine.h"

namespace pith {
namespace {

pith_status open(const pith_allocator*, void** instance, uint32_t* devices, pith_error*) {
    *instance = nullptr;
    *devices = 1;
    return PITH_OK;
}
void close(void*) {}

pith_status device_info(void*, uint32_t, pith_device_info* info, pith_error*) {
    info->kind = PITH_DEVICE_CPU;
    cpu_name(info->name, sizeof info->name);
    system_memory(&info->memory_total, &info->memory_free);
    return PITH_OK;
}

}  // namespace

const Backend kCpuBackend = {
    .abi = kBackendAbi,
    .struct_size = sizeof(Backend),
    .default_batch = 512,
    .reserved = 0,
    .open = open,
    .close = close,
    .device_info = device_info,
    .model_create = cpu::model_create,
    .model_load = cpu::model_load,
    .model_destroy = cpu::model_destroy,
    .session_plan = cpu::session_plan,
    .session_create = cpu::session_create,
    .session_destroy = cpu::session_destroy,
    .session_forward = cpu::session_forward,
    .session_logits = cpu::session_logits,
    .session_sample = nullptr,
};

}  // namespace pith
