// Maps what an open File reads: the same descriptor, the size taken when it was opened.
#include "io/mapping.h"

#ifdef _WIN32
#    define WIN32_LEAN_AND_MEAN
#    define NOMINMAX
#    include <windows.h>
#else
#    include <errno.h>
#    include <sys/mman.h>
#endif

namespace pith {
namespace {

#ifdef _WIN32
int32_t map_view(void* handle, size_t, void** data) {
    const HANDLE mapping = CreateFileMappingW(handle, nullptr, PAGE_READONLY, 0, 0, nullptr);
    if (!mapping) return static_cast<int32_t>(GetLastError());
    *data = MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0);
    const int32_t problem = *data ? 0 : static_cast<int32_t>(GetLastError());
    CloseHandle(mapping);  // the view keeps it alive
    return problem;
}
#else
int32_t map_view(void* handle, size_t size, void** data) {
    *data = mmap(nullptr, size, PROT_READ, MAP_SHARED, static_cast<int>(reinterpret_cast<intptr_t>(handle)), 0);
    return *data == MAP_FAILED ? errno : 0;
}
#endif

}  // namespace

pith_status Mapping::map(const File& file, pith_error* error) {
    if (!file.files_ || file.files_->open != kSystemFiles.open)
        return fail(error, PITH_E_ARGUMENT, "%s: only the operating system's files can be mapped, and this env has its own", file.name_);
    unmap();
    if (file.size_ == 0) return PITH_OK;
    if (file.size_ > std::numeric_limits<size_t>::max()) return fail_memory(error, file.name_, file.size_);
    void* data = nullptr;
    const int32_t code = map_view(file.handle_, static_cast<size_t>(file.size_), &data);
    if (code != 0) return fail_system(error, PITH_E_IO, code, "%s: can't be mapped (code %d)", file.name_, static_cast<int>(code));
    data_ = static_cast<uint8_t*>(data);
    size_ = static_cast<size_t>(file.size_);
    return PITH_OK;
}

void Mapping::unmap() {
    if (!data_) return;
#ifdef _WIN32
    UnmapViewOfFile(data_);
#else
    munmap(data_, size_);
#endif
    data_ = nullptr;
    size_ = 0;
}

}  // namespace pith
