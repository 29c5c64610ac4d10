// Checks what a shared library says before anything of it is used.
#include "backend/plugin.h"

#include "base/library.h"
#include "base/status.h"

namespace pith {

pith_status load_plugin(const char* path, const Backend** backend, pith_error* error) {
    void* library = nullptr;
    PITH_TRY(open_library(path, &library, error));
    using Entry = const Backend* (*)();
    const Entry entry = reinterpret_cast<Entry>(find_symbol(library, "pith_backend_entry"));
    if (!entry) return fail(error, PITH_E_UNSUPPORTED, "%s: no Pith backend: pith_backend_entry is not exported", path);
    const Backend* found = entry();
    if (!found) return fail(error, PITH_E_UNSUPPORTED, "%s: pith_backend_entry returned NULL", path);
    if (found->abi != kBackendAbi || found->struct_size != sizeof(Backend))
        return fail(error, PITH_E_VERSION, "%s: a backend of another release: interface %u of %u bytes, this library has %u of %u", path, found->abi,
                    found->struct_size, kBackendAbi, static_cast<uint32_t>(sizeof(Backend)));
    *backend = found;
    return PITH_OK;
}

}  // namespace pith
