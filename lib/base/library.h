// Shared libraries opened at run time, never closed.
#pragma once
#include "base/status.h"

namespace pith {

// Exactly `path` (UTF-8); a name without a folder: the file of that name beside the binary that this code is linked into.
pith_status open_library(const char* path, void** library, pith_error* error);
// A system library by its soname (libcuda.so.1), found as the loader finds libraries. NULL: there is none.
void* open_system_library(const char* name);
// NULL: it has none of that name.
void* find_symbol(void* library, const char* name);

}  // namespace pith
