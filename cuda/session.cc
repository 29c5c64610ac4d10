// Sessions on a GPU.
#include "model.h"

namespace pith::cuda {

pith_status session_plan(const void*, const SessionShape*, BackendBytes*, pith_error* error) {
    return fail(error, PITH_E_UNSUPPORTED, "no sessions on CUDA");
}
pith_status session_create(const void*, const SessionShape*, void**, pith_error* error) {
    return fail(error, PITH_E_UNSUPPORTED, "no sessions on CUDA");
}
void session_destroy(void*) {}
pith_status session_forward(void*, uint32_t, const pith_token*, uint32_t, uint32_t, pith_error* error) {
    return fail(error, PITH_E_UNSUPPORTED, "no sessions on CUDA");
}
pith_status session_logits(void*, const float**, pith_error* error) { return fail(error, PITH_E_UNSUPPORTED, "no sessions on CUDA"); }
pith_status session_sample(void*, uint32_t, const SampleRequest*, pith_token*, pith_error* error) {
    return fail(error, PITH_E_UNSUPPORTED, "no sessions on CUDA");
}

}  // namespace pith::cuda
