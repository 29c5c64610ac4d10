// <pith/base.h>: version and status names.
#include <pith/base.h>

uint32_t pith_version(void) { return PITH_VERSION_MAJOR * 1000000u + PITH_VERSION_MINOR * 1000u + PITH_VERSION_PATCH; }

const char* pith_status_name(pith_status status) {
    switch (status) {
        case PITH_OK: return "PITH_OK";
        case PITH_PENDING: return "PITH_PENDING";
        case PITH_E_ARGUMENT: return "PITH_E_ARGUMENT";
        case PITH_E_VERSION: return "PITH_E_VERSION";
        case PITH_E_MEMORY: return "PITH_E_MEMORY";
        case PITH_E_IO: return "PITH_E_IO";
        case PITH_E_FORMAT: return "PITH_E_FORMAT";
        case PITH_E_UNSUPPORTED: return "PITH_E_UNSUPPORTED";
        case PITH_E_BUFFER: return "PITH_E_BUFFER";
        case PITH_E_CONTEXT: return "PITH_E_CONTEXT";
        case PITH_E_CANCELLED: return "PITH_E_CANCELLED";
        case PITH_E_RUNNER: return "PITH_E_RUNNER";
        case PITH_E_DEVICE: return "PITH_E_DEVICE";
        case PITH_E_STATE: return "PITH_E_STATE";
        case PITH_E_LIMIT: return "PITH_E_LIMIT";
        case PITH_E_NUMERIC: return "PITH_E_NUMERIC";
        default: return "PITH_E_?";
    }
}
