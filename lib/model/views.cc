// Views of tensors, reading them, and the checks all of them share.
#include "model/views.h"

#include <stdio.h>

namespace pith {
namespace {

// The table's entry of a view: it knows the whole shape and the dtype's spelling.
const Tensor& entry(const ModelFile& model, const TensorView& view) { return *model.dir.find(view.name).tensor; }

}  // namespace

TensorView find_view(const ModelFile& model, const char* module, const char* suffix) {
    char name[192];
    snprintf(name, sizeof name, "%s.%s", module, suffix);
    const FoundTensor found = model.dir.find(name);
    if (!found.tensor) return {};
    const Tensor& tensor = *found.tensor;
    TensorView view{};
    view.name = tensor.name.data();
    view.offset = tensor.offset;
    view.bytes = tensor.bytes;
    for (uint32_t i = 0; i < tensor.rank && i < 2; i++) view.shape[i] = tensor.shape[i];
    view.rank = tensor.rank;
    view.shard = found.shard;
    view.dtype = tensor.dtype;
    return view;
}

pith_status expect_shape(const ModelFile& model, const TensorView& view, uint64_t rows, uint64_t cols, pith_error* error) {
    const uint64_t expected[2] = {rows, cols};
    const uint32_t rank = cols ? 2 : 1;
    if (view.rank == rank && view.shape[0] == rows && (rank == 1 || view.shape[1] == cols)) return PITH_OK;
    char want[64], have[128];
    const Tensor& tensor = entry(model, view);
    return fail(error, PITH_E_FORMAT, "tensor %s: expected shape %s, found %s", view.name, format_shape(expected, rank, want, sizeof want),
                format_shape(tensor.shape, tensor.rank, have, sizeof have));
}

pith_status expect_int32(const TensorView& view, pith_error* error) {
    if (view.dtype == Dtype::I32) return PITH_OK;
    return fail(error, PITH_E_FORMAT, "tensor %s: expected dtype I32, found %s", view.name, dtype_name(view.dtype));
}

pith_status expect_float(const ModelFile& model, const TensorView& view, pith_error* error) {
    if (is_float(view.dtype)) return PITH_OK;
    return fail(error, PITH_E_UNSUPPORTED, "tensor %s: dtype %s, expected F16, BF16 or F32", view.name,
                entry(model, view).dtype_name.data());
}

pith_status read_tensor(const ModelFile& model, const TensorView& tensor, uint64_t offset, void* to, size_t size, pith_error* error) {
    if (!tensor.exists() || offset > tensor.bytes || size > tensor.bytes - offset)
        return fail(error, PITH_E_ARGUMENT, "tensor %s: %zu bytes from %llu on end past its end", tensor.exists() ? tensor.name : "(none)",
                    size, static_cast<unsigned long long>(offset));
    return model.dir.shards()[tensor.shard].file.read(tensor.offset + offset, to, size, tensor.name, error);
}

const uint8_t* mapped_tensor(const ModelFile& model, const TensorView& tensor) {
    const uint8_t* data = tensor.exists() ? model.dir.shards()[tensor.shard].mapping.data() : nullptr;
    return data ? data + tensor.offset : nullptr;
}

namespace {

template <class Word>
size_t scan(const void* values, size_t count, Word exponent) {
    constexpr size_t kBlock = 1024;  // without a way out inside it the compiler makes vectors of it
    const char* bytes = static_cast<const char*>(values);
    for (size_t from = 0; from < count; from += kBlock) {
        Word block[kBlock];
        const size_t size = count - from < kBlock ? count - from : kBlock;
        memcpy(block, bytes + from * sizeof(Word), size * sizeof(Word));
        unsigned bad = 0;
        for (size_t i = 0; i < size; i++) bad |= (block[i] & exponent) == exponent;
        for (size_t i = 0; bad && i < size; i++)
            if ((block[i] & exponent) == exponent) return from + i;
    }
    return count;
}

}  // namespace

size_t scan_finite(Dtype dtype, const void* values, size_t count) {
    switch (dtype) {
        case Dtype::F16:
            return scan<uint16_t>(values, count, 0x7c00);
        case Dtype::BF16:
            return scan<uint16_t>(values, count, 0x7f80);
        case Dtype::F32:
            return scan<uint32_t>(values, count, 0x7f800000);
        default:
            return count;
    }
}

}  // namespace pith
