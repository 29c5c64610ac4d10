// One safetensors file's table of tensors, every offset checked against the file's size before anyone uses it.
#pragma once
#include "base/array.h"
#include "base/status.h"
#include "io/files.h"

namespace pith {

enum class Dtype : uint8_t { Unknown, Bool, U8, I8, F8, I16, U16, F16, BF16, I32, U32, F32, I64, U64, F64, Other };  // F8: any of its kinds

struct Tensor {
    std::string_view name;        // in the table's arena, NUL-terminated
    std::string_view dtype_name;  // as the file spells it
    Dtype dtype;                  // Unknown: not of this format's list; Other: of the list, but of no use here
    uint32_t rank;
    const uint64_t* shape;   // row-major, [rank]
    uint64_t offset, bytes;  // in the file
};

struct TensorTable {
    std::span<const Tensor> tensors;  // sorted by name, no name twice
    const Tensor* find(std::string_view name) const;
};

uint32_t dtype_bytes(Dtype dtype);  // 0: Unknown, Other
const char* dtype_name(Dtype dtype);
inline bool is_float(Dtype dtype) { return dtype == Dtype::F16 || dtype == Dtype::BF16 || dtype == Dtype::F32; }

// Reads and checks the header. `name` is for messages. PITH_E_FORMAT: anything but a file that the format's own reader would take,
// whose tensors cover the data exactly; PITH_E_LIMIT: a header over 100,000,000 bytes.
pith_status read_safetensors(const File& file, const char* name, Arena& arena, TensorTable* table, pith_error* error);

// "[4096, 512]" into `to`, cut if it does not fit; returns `to`.
const char* format_shape(const uint64_t* shape, uint32_t rank, char* to, size_t size);

}  // namespace pith
