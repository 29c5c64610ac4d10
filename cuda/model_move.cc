// A model's weights from the file into place: read into a pinned buffer, copied to the device, repacked there.
#include <string.h>

#include "base/check.h"
#include "loader.h"

namespace pith::cuda {
namespace {

SourceType type_of(Dtype dtype) { return dtype == Dtype::F32 ? SourceType::F32 : dtype == Dtype::F16 ? SourceType::F16 : SourceType::BF16; }

// The buffer whose turn it is, once its last copy is done.
pith_status take_staging(Model& m, uint8_t** staging, pith_error* error) {
    Loader& l = *m.loader;
    l.turn ^= 1;
    if (l.busy[l.turn]) PITH_TRY(wait_for(m.device.driver(), l.copied[l.turn], PITH_WAIT_BLOCK, "copying weights to the GPU", error));
    l.busy[l.turn] = false;
    *staging = static_cast<uint8_t*>(l.staging[l.turn]);
    return PITH_OK;
}

pith_status send_staging(Model& m, CUdeviceptr to, uint64_t size, pith_error* error) {
    Loader& l = *m.loader;
    const Driver& driver = m.device.driver();
    {
        const Submission copy(l.meter, Work::ToDevice, size);
        PITH_TRY(check(driver, driver.MemcpyHtoDAsync(to, l.staging[l.turn], static_cast<size_t>(size), m.stream), "copying weights to the GPU",
                       error));
    }
    PITH_TRY(check(driver, driver.EventRecord(l.copied[l.turn], m.stream), "copying weights to the GPU", error));
    l.busy[l.turn] = true;
    return PITH_OK;
}

template <class P>
pith_status run(Model& m, CUfunction kernel, RepackGrid grid, const P& params, pith_error* error) {
    const Submission work(m.loader->meter, Work::Repack, 1);
    return launch(m.device, m.stream, {.kernel = kernel, .grid = {grid.x, grid.y, 1}, .block = {kRepackThreads, 1, 1}, .shared = 0},
                  &params, "repacking weights on the GPU", error);
}

pith_status check_finite(const TensorView& tensor, uint64_t from, const void* values, uint64_t size, pith_error* error) {
    const size_t each = dtype_bytes(tensor.dtype), count = static_cast<size_t>(size / each), bad = scan_finite(tensor.dtype, values, count);
    if (bad == count) return PITH_OK;
    return fail(error, PITH_E_FORMAT, "%s: value %llu of %llu is NaN or infinite", tensor.name,
                static_cast<unsigned long long>(from / each + bad), static_cast<unsigned long long>(tensor.bytes / each));
}

// Reads `size` bytes of a tensor and puts them into device memory.
pith_status send(Model& m, const TensorView& tensor, uint64_t from, uint64_t size, bool finite, CUdeviceptr to, pith_error* error) {
    uint8_t* staging = nullptr;
    PITH_TRY(take_staging(m, &staging, error));
    PITH_TRY(read_tensor(*m.file, tensor, from, staging, static_cast<size_t>(size), error));
    if (finite) PITH_TRY(check_finite(tensor, from, staging, size, error));
    return send_staging(m, to, size, error);
}

pith_status move_inverse(Model& m, const Item& item, pith_error* error) {
    uint8_t* staging = nullptr;
    PITH_TRY(take_staging(m, &staging, error));
    uint32_t* inverse = reinterpret_cast<uint32_t*>(staging);
    for (uint32_t p = 0; p < item.cols; p++) inverse[item.perm[p]] = p;
    return send_staging(m, address(item.to), uint64_t{item.cols} * sizeof(uint32_t), error);
}

// Brings a table of `count` places to `to`.
pith_status send_table(Model& m, const uint32_t* table, uint32_t count, CUdeviceptr to, pith_error* error) {
    uint8_t* staging = nullptr;
    PITH_TRY(take_staging(m, &staging, error));
    memcpy(staging, table, count * sizeof(uint32_t));
    return send_staging(m, to, count * sizeof(uint32_t), error);
}
const uint32_t* order_of(const Model& m, const Item& item) {
    return item.order ? reinterpret_cast<const uint32_t*>(m.loader->order()) : nullptr;
}

pith_status move_floats(Model& m, const Item& item, pith_error* error) {
    const TensorView& t = *item.tensor;
    const uint32_t count = static_cast<uint32_t>(t.bytes / dtype_bytes(t.dtype));
    if (item.order) PITH_TRY(send_table(m, item.order, count, m.loader->order(), error));
    PITH_TRY(send(m, t, 0, t.bytes, m.host.scan, m.loader->stripe(), error));
    const RepackFloatsParams params{.to = static_cast<float*>(item.to),
                                    .source = reinterpret_cast<const void*>(m.loader->stripe()),
                                    .place = item.place,
                                    .type = type_of(t.dtype),
                                    .count = count,
                                    .order = order_of(m, item)};
    return run(m, m.loader->floats, repack_floats_grid(params), params, error);
}

pith_status move_dense(Model& m, const Item& item, uint64_t budget, uint64_t* moved, pith_error* error) {
    const TensorView& t = *item.tensor;
    const uint64_t row = uint64_t{item.cols} * dtype_bytes(t.dtype), most = m.loader->staging_bytes, left = t.bytes - m.moved;
    uint64_t size = budget < most ? budget : most;
    size = size < row ? row : size - size % row;
    size = size < left ? size : left;
    PITH_TRY(send(m, t, m.moved, size, m.host.scan, m.loader->stripe(), error));
    const RepackDenseParams params{.to = item.matrix,
                                   .place = item.place,
                                   .plain = item.plain ? const_cast<uint16_t*>(m.embedding.rows) : nullptr,
                                   .source = reinterpret_cast<const void*>(m.loader->stripe()),
                                   .type = type_of(t.dtype),
                                   .row_begin = static_cast<uint32_t>(m.moved / row),
                                   .row_count = static_cast<uint32_t>(size / row),
                                   .cols = item.cols};
    *moved = size;
    return run(m, m.loader->dense, repack_dense_grid(params), params, error);
}

// The matrix's zero points and scales are all on the device: they go into place, and its perm comes.
pith_status finish_tables(Model& m, const Item& item, pith_error* error) {
    const pith::Linear& from = *item.source;
    const uint64_t zeros = from.symmetric ? 0 : from.qzeros.bytes;
    if (item.order) PITH_TRY(send_table(m, item.order, from.rows, m.loader->order(), error));
    const RepackScalesParams params{.to = item.matrix,
                                    .place = item.place,
                                    .qzeros = zeros ? reinterpret_cast<const uint32_t*>(m.loader->tables()) : nullptr,
                                    .scales = reinterpret_cast<const void*>(m.loader->tables() + zeros),
                                    .type = type_of(from.scales.dtype),
                                    .rows = from.rows,
                                    .order = order_of(m, item)};
    PITH_TRY(run(m, m.loader->scales, repack_scales_grid(params), params, error));
    return from.perm ? send_table(m, from.perm, from.cols, m.loader->perm(), error) : PITH_OK;
}

pith_status move_tables(Model& m, const Item& item, uint64_t budget, uint64_t* moved, pith_error* error) {
    const pith::Linear& from = *item.source;
    const uint64_t zeros = from.symmetric ? 0 : from.qzeros.bytes, end = table_bytes(from);
    const bool in_zeros = m.moved < zeros;
    const TensorView& t = in_zeros ? from.qzeros : from.scales;
    const uint64_t at = in_zeros ? m.moved : m.moved - zeros, left = t.bytes - at, most = m.loader->staging_bytes;
    uint64_t size = budget < most ? align_up(budget, uint64_t{4}) : most;
    size = size < left ? size : left;
    PITH_TRY(send(m, t, at, size, !in_zeros, m.loader->tables() + m.moved, error));
    if (m.moved + size == end) PITH_TRY(finish_tables(m, item, error));
    *moved = size;
    return PITH_OK;
}

pith_status move_codes(Model& m, const Item& item, uint64_t budget, uint64_t* moved, pith_error* error) {
    const pith::Linear& from = *item.source;
    const uint64_t octet = uint64_t{from.rows} * sizeof(uint32_t), chunk = octet * (kChunkCols / 8), at = m.moved - table_bytes(from);
    const uint64_t most = m.loader->staging_bytes, left = from.qweight.bytes - at;
    uint64_t size = budget < most ? budget : most;
    size = size < octet ? octet : size < chunk ? size - size % octet : size - size % chunk;
    size = size < left ? size : left;
    PITH_TRY(send(m, from.qweight, at, size, false, m.loader->stripe(), error));
    RepackCodesParams params{.to = item.matrix,
                             .place = item.place,
                             .qweight = reinterpret_cast<const uint32_t*>(m.loader->stripe()),
                             .perm = from.perm ? reinterpret_cast<const uint32_t*>(m.loader->perm()) : nullptr,
                             .rows = from.rows,
                             .octet_begin = static_cast<uint32_t>(at / octet),
                             .octet_end = static_cast<uint32_t>((at + size) / octet),
                             .chunk_begin = 0,
                             .chunk_end = 0,
                             .reserved = 0,
                             .order = order_of(m, item)};
    repack_chunks(params);
    *moved = size;
    return run(m, m.loader->codes, repack_codes_grid(params), params, error);
}

}  // namespace

pith_status move_some(Model& m, uint64_t budget, uint64_t* moved, pith_error* error) {
    const Item& item = m.items[m.item];
    switch (item.kind) {
        case Item::Inverse:
            *moved = 0;
            return move_inverse(m, item, error);
        case Item::Floats:
            *moved = item.tensor->bytes;
            return move_floats(m, item, error);
        case Item::Dense:
            return move_dense(m, item, budget, moved, error);
        default:
            break;
    }
    if (m.moved < table_bytes(*item.source)) return move_tables(m, item, budget, moved, error);
    return move_codes(m, item, budget, moved, error);
}

}  // namespace pith::cuda
