// Where bytes come from: the caller's pith_files, or the operating system's.
#pragma once
#include <string_view>

#include "base/array.h"
#include "base/status.h"

namespace pith {

using Files = pith_files;  // a copy of the caller's, or the system's

// Reads with pread, opens with O_CLOEXEC, regular files only; no state.
extern const Files kSystemFiles;

// One open file. Messages name it. Move-only.
class File {
public:
    File() = default;
    ~File() { close(); }
    File(File&& other) noexcept;
    File& operator=(File&& other) noexcept;

    pith_status open(const Files& files, const char* name, pith_error* error);  // PITH_E_IO; `files` must outlive it
    // Exactly `size` bytes or PITH_E_IO / PITH_E_FORMAT (past the end). `what` is named in the message (a tensor).
    pith_status read(uint64_t offset, void* to, size_t size, const char* what, pith_error* error) const;
    void close();
    uint64_t size() const { return size_; }
    bool is_open() const { return files_ != nullptr; }

private:
    friend class Mapping;
    const Files* files_ = nullptr;
    void* handle_ = nullptr;
    uint64_t size_ = 0;
    const char* name_ = "";  // the caller keeps it alive
};

// The whole file, at most `limit` bytes (PITH_E_LIMIT); messages name the path.
pith_status read_file(const Files& files, const char* path, uint64_t limit, Array<char>* bytes, pith_error* error);
// The same for a file that need not be there: *found says whether it is. With the system's files any failure but "no such file" is
// one; a caller's files have no code for that, so whatever they can't open is not there.
pith_status read_optional_file(const Files& files, const char* path, uint64_t limit, Array<char>* bytes, bool* found, pith_error* error);
// False if it can't be opened; no message.
bool file_exists(const Files& files, const char* path);
// "directory/name" in the arena, or NULL when out of memory.
char* join_path(Arena& arena, std::string_view directory, std::string_view name);

}  // namespace pith
