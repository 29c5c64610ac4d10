// The operating system's files, and File over whichever files are used.
#include "io/files.h"

#ifdef _WIN32
#    define WIN32_LEAN_AND_MEAN
#    define NOMINMAX
#    include <windows.h>
#else
#    include <errno.h>
#    include <fcntl.h>
#    include <sys/stat.h>
#    include <unistd.h>
#endif

namespace pith {
namespace {

// The callbacks return 0 or the system's error code. A handle is a file descriptor (HANDLE) carried in the pointer.
#ifdef _WIN32
int32_t system_open(void*, const char* name, void** file, uint64_t* size) {
    wchar_t wide[1024];
    if (!MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, name, -1, wide, 1024)) return static_cast<int32_t>(GetLastError());
    const HANDLE handle = CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ, nullptr, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr);
    if (handle == INVALID_HANDLE_VALUE) return static_cast<int32_t>(GetLastError());
    LARGE_INTEGER bytes;
    if (GetFileType(handle) != FILE_TYPE_DISK || !GetFileSizeEx(handle, &bytes)) {
        CloseHandle(handle);
        return ERROR_BAD_FILE_TYPE;
    }
    *file = handle;
    *size = static_cast<uint64_t>(bytes.QuadPart);
    return 0;
}

int32_t system_read(void*, void* file, uint64_t offset, void* to, size_t size) {
    while (size > 0) {
        OVERLAPPED at{};
        at.Offset = static_cast<DWORD>(offset);
        at.OffsetHigh = static_cast<DWORD>(offset >> 32);
        const DWORD want = static_cast<DWORD>(size < (1u << 30) ? size : 1u << 30);
        DWORD got = 0;
        if (!ReadFile(file, to, want, &got, &at)) return static_cast<int32_t>(GetLastError());
        if (got == 0) return ERROR_HANDLE_EOF;
        to = static_cast<char*>(to) + got;
        offset += got;
        size -= got;
    }
    return 0;
}

void system_close(void*, void* file) { CloseHandle(file); }
#else
void* to_handle(int descriptor) { return reinterpret_cast<void*>(static_cast<intptr_t>(descriptor)); }
int to_descriptor(void* file) { return static_cast<int>(reinterpret_cast<intptr_t>(file)); }

int32_t system_open(void*, const char* name, void** file, uint64_t* size) {
    int descriptor;
    do {
        // Without O_NONBLOCK the open of a named pipe would wait for its writer.
        descriptor = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    } while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0) return errno;
    struct stat status;
    int problem = fstat(descriptor, &status) != 0 ? errno : 0;
    if (!problem && !S_ISREG(status.st_mode)) problem = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
    if (problem) {
        close(descriptor);
        return problem;
    }
    *file = to_handle(descriptor);
    *size = static_cast<uint64_t>(status.st_size);
    return 0;
}

int32_t system_read(void*, void* file, uint64_t offset, void* to, size_t size) {
    while (size > 0) {
        const size_t want = size < (size_t{1} << 30) ? size : size_t{1} << 30;
        const ssize_t got = pread(to_descriptor(file), to, want, static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno;
        if (got == 0) return EIO;  // shorter than it was when opened
        to = static_cast<char*>(to) + got;
        offset += static_cast<uint64_t>(got);
        size -= static_cast<size_t>(got);
    }
    return 0;
}

void system_close(void*, void* file) { close(to_descriptor(file)); }
#endif

}  // namespace

const Files kSystemFiles = {sizeof(pith_files), nullptr, system_open, system_read, system_close};

File::File(File&& other) noexcept
    : files_(std::exchange(other.files_, nullptr)),
      handle_(std::exchange(other.handle_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      name_(std::exchange(other.name_, "")) {}

File& File::operator=(File&& other) noexcept {
    if (this != &other) {
        close();
        files_ = std::exchange(other.files_, nullptr);
        handle_ = std::exchange(other.handle_, nullptr);
        size_ = std::exchange(other.size_, 0);
        name_ = std::exchange(other.name_, "");
    }
    return *this;
}

pith_status File::open(const Files& files, const char* name, pith_error* error) {
    void* handle = nullptr;
    uint64_t size = 0;
    const int32_t code = files.open(files.user, name, &handle, &size);
    if (code != 0) return fail_system(error, PITH_E_IO, code, "%s: can't be opened (code %d)", name, static_cast<int>(code));
    close();
    files_ = &files;
    handle_ = handle;
    size_ = size;
    name_ = name;
    return PITH_OK;
}

pith_status File::read(uint64_t offset, void* to, size_t size, const char* what, pith_error* error) const {
    if (offset > size_ || size > size_ - offset)
        return fail(error, PITH_E_FORMAT, "%s: %s ends past the end of the file (%llu bytes)", name_, what,
                    static_cast<unsigned long long>(size_));
    if (size == 0) return PITH_OK;
    const int32_t code = files_->read(files_->user, handle_, offset, to, size);
    if (code != 0) return fail_system(error, PITH_E_IO, code, "%s: can't read %s (code %d)", name_, what, static_cast<int>(code));
    return PITH_OK;
}

void File::close() {
    if (files_) files_->close(files_->user, handle_);
    files_ = nullptr;
    handle_ = nullptr;
    size_ = 0;
}

namespace {

pith_status read_all(const File& file, const char* path, uint64_t limit, Array<char>* bytes, pith_error* error) {
    if (file.size() > limit)
        return fail(error, PITH_E_LIMIT, "%s: %llu bytes, more than the %llu allowed", path, static_cast<unsigned long long>(file.size()),
                    static_cast<unsigned long long>(limit));
    bytes->clear();
    if (file.size() > std::numeric_limits<size_t>::max() || !bytes->resize(static_cast<size_t>(file.size())))
        return fail_memory(error, path, file.size());
    return file.read(0, bytes->data(), bytes->size(), "its content", error);
}

}  // namespace

pith_status read_file(const Files& files, const char* path, uint64_t limit, Array<char>* bytes, pith_error* error) {
    File file;
    PITH_TRY(file.open(files, path, error));
    return read_all(file, path, limit, bytes, error);
}

pith_status read_optional_file(const Files& files, const char* path, uint64_t limit, Array<char>* bytes, bool* found, pith_error* error) {
    constexpr int32_t kNoSuchFile = 2;  // ENOENT, and ERROR_FILE_NOT_FOUND too
    File file;
    pith_error problem{};
    const pith_status status = file.open(files, path, &problem);
    *found = status == PITH_OK;
    if (*found) return read_all(file, path, limit, bytes, error);
    if (files.open != kSystemFiles.open || problem.system == kNoSuchFile) return PITH_OK;
    if (error) *error = problem;
    return status;
}

bool file_exists(const Files& files, const char* path) {
    File file;
    return file.open(files, path, nullptr) == PITH_OK;
}

char* join_path(Arena& arena, std::string_view directory, std::string_view name) {
    const bool separator = !directory.empty() && !ends_with(directory, "/")
#ifdef _WIN32
                           && !ends_with(directory, "\\")
#endif
        ;
    char* path = static_cast<char*>(arena.bytes(directory.size() + separator + name.size() + 1, 1));
    if (!path) return nullptr;
    char* at = path;
    if (!directory.empty()) memcpy(at, directory.data(), directory.size());
    at += directory.size();
    if (separator) *at++ = '/';
    if (!name.empty()) memcpy(at, name.data(), name.size());
    return path;
}

}  // namespace pith
