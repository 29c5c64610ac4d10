#if !defined(_WIN32) && !defined(_GNU_SOURCE)
#  define _GNU_SOURCE 1  // dladdr
#endif
#include "base/library.h"

#include <string.h>

#if defined(_WIN32)
#  define WIN32_LEAN_AND_MEAN
#  include <windows.h>
#else
#  include <dlfcn.h>
#endif

namespace pith {
namespace {

constexpr size_t kLongestPath = 4096;

bool has_folder(const char* path) {
    for (; *path; path++)
        if (*path == '/' || *path == '\\') return true;
    return false;
}

#if defined(_WIN32)
size_t own_path(wchar_t* path) {
    HMODULE self = nullptr;
    const DWORD flags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
    if (!GetModuleHandleExW(flags, reinterpret_cast<LPCWSTR>(&open_library), &self)) return 0;
    const DWORD size = GetModuleFileNameW(self, path, kLongestPath);
    return size < kLongestPath ? size : 0;
}
#endif

}  // namespace

#if defined(_WIN32)
pith_status open_library(const char* path, void** library, pith_error* error) {
    wchar_t wide[2 * kLongestPath];
    size_t folder = 0;
    if (!has_folder(path)) {
        folder = own_path(wide);
        while (folder && wide[folder - 1] != L'\\' && wide[folder - 1] != L'/') folder--;
    }
    if (!MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide + folder, kLongestPath))
        return fail_system(error, PITH_E_ARGUMENT, static_cast<int32_t>(GetLastError()), "library_path is no UTF-8, or too long");
    *library = reinterpret_cast<void*>(LoadLibraryExW(wide, nullptr, LOAD_WITH_ALTERED_SEARCH_PATH));
    if (!*library) return fail_system(error, PITH_E_IO, static_cast<int32_t>(GetLastError()), "%s: cannot be loaded", path);
    return PITH_OK;
}
void* open_system_library(const char* name) { return reinterpret_cast<void*>(LoadLibraryExA(name, nullptr, LOAD_LIBRARY_SEARCH_SYSTEM32)); }
void* find_symbol(void* library, const char* name) {
    return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
}
#else
pith_status open_library(const char* path, void** library, pith_error* error) {
    char beside[kLongestPath];
    const char* exact = path;
    if (!has_folder(path)) {
        // dlopen would search for a bare name; what is meant is the file beside ours.
        Dl_info self;
        size_t folder = 0, size = strnlen(path, kLongestPath);
        if (!dladdr(reinterpret_cast<const void*>(&open_library), &self) || !self.dli_fname)
            return fail(error, PITH_E_IO, "%s: the folder of this library is not known", path);
        for (size_t i = 0; self.dli_fname[i]; i++)
            if (self.dli_fname[i] == '/') folder = i + 1;
        if (size == 0) return fail(error, PITH_E_ARGUMENT, "library_path is empty");
        if (folder + size + 3 > sizeof beside) return fail(error, PITH_E_ARGUMENT, "library_path is too long");
        size_t at = 0;
        if (folder) {
            memcpy(beside, self.dli_fname, folder);
            at = folder;
        } else {  // started by a bare name: the current folder
            beside[at++] = '.';
            beside[at++] = '/';
        }
        memcpy(beside + at, path, size + 1);
        exact = beside;
    }
    *library = dlopen(exact, RTLD_NOW | RTLD_LOCAL);
    if (*library) return PITH_OK;
    const char* why = dlerror();
    return fail(error, PITH_E_IO, "%s: %s", path, why ? why : "cannot be loaded");
}
void* open_system_library(const char* name) { return dlopen(name, RTLD_NOW | RTLD_LOCAL); }
void* find_symbol(void* library, const char* name) { return dlsym(library, name); }
#endif

}  // namespace pith
