// A whole file mapped read-only. Only for the system's files: a file that shrinks meanwhile ends the process (SIGBUS).
#pragma once
#include "io/files.h"

namespace pith {

class Mapping {
public:
    Mapping() = default;
    ~Mapping() { unmap(); }
    Mapping(Mapping&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    Mapping& operator=(Mapping&&) = delete;

    // PITH_E_ARGUMENT if `file` is not one of kSystemFiles. An empty file maps to data() == NULL.
    pith_status map(const File& file, pith_error* error);
    void unmap();
    const uint8_t* data() const { return data_; }

private:
    uint8_t* data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace pith
