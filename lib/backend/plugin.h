// Backends from shared libraries. They export one function:
//   extern "C" const pith::Backend* pith_backend_entry(void);
#pragma once
#include "backend/backend.h"

namespace pith {

// Loads exactly `path` (UTF-8); a name without a folder means beside this library. PITH_E_IO: it can't be loaded; PITH_E_UNSUPPORTED: it is
// no plug-in; PITH_E_VERSION: another release's. The library stays loaded for ever.
pith_status load_plugin(const char* path, const Backend** backend, pith_error* error);

}  // namespace pith
