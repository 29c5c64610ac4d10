// The CPU's side of the seam.
#include "backend/cpu/cpu_model.h"

namespace pith {

const Backend kCpuBackend = {
    kBackendAbi,         sizeof(Backend),      cpu::model_create,    cpu::model_load,      cpu::model_destroy,
    cpu::session_plan,   cpu::session_create,  cpu::session_destroy, cpu::session_forward, cpu::session_logits,
};

}  // namespace pith
