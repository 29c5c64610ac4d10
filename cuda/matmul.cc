// Which kernel multiplies.
#include "matmul.h"

#include <stdio.h>

#include "base/check.h"
#include "kernels/matmul_few_int.h"
#include "kernels/matmul_wide.h"
#include "session.h"

namespace pith::cuda {
namespace {

constexpr uint32_t kSmallShared = 48 << 10;

uint32_t shared_limit(const Device& device, bool small) { return small ? kSmallShared : device.facts().shared_block; }
uint64_t counter_bytes(uint32_t row_blocks) { return align_up(uint64_t{row_blocks} * 4, uint64_t{256}); }
uint64_t input_bytes(const IntShape& shape) { return align_up(shape.input_bytes, uint64_t{256}); }
IntShape integers_for(const Device& device, const Matrix& m, uint32_t tokens, bool small) {
    return int_shape(m, tokens, device.facts().multiprocessors, shared_limit(device, small));
}

pith_status enqueue_few(Session& s, MatmulParams& p, const FewShape& shape, pith_error* error) {
    p.arrived = reinterpret_cast<uint32_t*>(s.at.matmul);
    p.parts = reinterpret_cast<float*>(s.at.matmul + s.matmul_counters);
    char name[48];
    snprintf(name, sizeof name, "pith_matmul_few_%s_%u", p.matrix.type == WeightType::Q4 ? "q4" : "f16", shape.tokens);
    return session_launch(s, name, {shape.grid, 1, kFewThreads, shape.shared}, &p, error);
}

// Workspace: counters, the input as integers, parts.
pith_status enqueue_int(Session& s, const MatmulParams& base, const IntShape& shape, bool made, pith_error* error) {
    uint8_t* const input = s.at.matmul + s.matmul_counters;
    if (!made) {
        const QuantiseParams q{base.x, input, base.x_stride, base.matrix.cols, base.tokens, shape.tokens, shape.block, int_pairs(base.matrix.cols)};
        PITH_TRY(session_launch(s, "quantise_rows", {quantise_grid(q), 1, kQuantiseThreads, 0}, &q, error));
    }
    IntMatmulParams p{base, input, shape.pairs, shape.stages};
    p.base.arrived = reinterpret_cast<uint32_t*>(s.at.matmul);
    p.base.parts = reinterpret_cast<float*>(input + input_bytes(shape));
    char name[48];
    snprintf(name, sizeof name, "pith_matmul_int_%u_%u", shape.tokens, shape.block);
    return session_launch(s, name, {shape.grid, 1, kIntThreads, shape.shared}, &p, error);
}

pith_status enqueue_wide(Session& s, const MatmulParams& base, pith_error* error) {
    const Driver& d = s.device.driver();
    WideMatmulParams p{};
    p.base = base;
    const WideMatmulShape shape = wide_matmul_shape(p, s.device.facts().multiprocessors);
    const WideMatmulMap m = wide_matmul_map(base, shape);
    const cuuint64_t dims[] = {m.dims[0], m.dims[1]}, strides[] = {m.stride};
    const cuuint32_t box[] = {m.box[0], m.box[1]}, steps[] = {1, 1};
    const CUresult made = d.TensorMapEncodeTiled(
        reinterpret_cast<CUtensorMap*>(&p.x), CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2, const_cast<uint16_t*>(base.x), dims, strides, box, steps,
        CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    PITH_TRY(check(d, made, "describing a prompt", error));
    char name[48];
    snprintf(name, sizeof name, "pith_matmul_wide_%s_%u", kMatmulKinds[matmul_kind(base.matrix)], shape.tokens);
    return session_launch(s, name, {shape.grid, 1, shape.threads, shape.shared}, &p, error);
}

pith_status enqueue_matmul(Session& s, MatmulParams& p, bool made, pith_error* error) {
    if (p.tokens <= kFewMost) {
        const IntShape integers = integers_for(s.device, p.matrix, p.tokens, s.small);
        if (integers.stages && s.device.kernels_wait()) return enqueue_int(s, p, integers, made, error);
        const FewShape few = few_shape(p.matrix, p.tokens, s.device.facts().multiprocessors, shared_limit(s.device, s.small));
        if (few.stages >= 2) return enqueue_few(s, p, few, error);
    }
    if (s.wide_matmul && wide_matmul_serves(p)) return enqueue_wide(s, p, error);
    const MatmulShape shape = matmul_shape(p, s.device.facts().multiprocessors);
    char name[48];
    snprintf(name, sizeof name, "pith_matmul_%s_%u", kMatmulKinds[matmul_kind(p.matrix)], shape.tokens);
    return session_launch(s, name, {shape.grid_x, shape.grid_y, kMatmulThreads, 0}, &p, error);
}

}  // namespace

bool has_wide_matmul(const Device& device, bool small) {
    const DeviceFacts& f = device.facts();
    return f.capability == 90 && f.multiprocessors >= kWideCluster && f.shared_block >= kWideMatmulShared && !small &&
           device.driver().TensorMapEncodeTiled && device.has_kernel("pith_matmul_wide_q4_256");
}

MatmulBytes matmul_bytes(const Device& device, const Matrix& matrix, uint32_t tokens, bool small) {
    MatmulBytes most{};
    const auto need = [&](uint32_t row_blocks, uint64_t parts) {
        if (counter_bytes(row_blocks) > most.counters) most.counters = counter_bytes(row_blocks);
        if (parts > most.parts) most.parts = parts;
    };
    for (const uint32_t n : {4u, 8u, 16u, 32u, 64u}) {
        const uint32_t count = n < tokens ? n : tokens;
        const IntShape integers = integers_for(device, matrix, count, small);
        const FewShape shape = few_shape(matrix, count, device.facts().multiprocessors, shared_limit(device, small));
        // Which of them it will be is known once the device is open.
        if (integers.stages) need(integers.row_blocks, input_bytes(integers) + integers.parts_bytes);
        if (shape.stages >= 2) need(shape.row_blocks, few_parts_bytes(shape));
    }
    return most;
}

IntegerInput integer_input(const Session& s, const Matrix& matrix, uint32_t tokens) {
    const IntShape shape = s.device.kernels_wait() ? integers_for(s.device, matrix, tokens, s.small) : IntShape{};
    if (!shape.stages) return {};
    return {s.at.matmul + s.matmul_counters, shape.tokens, shape.block, int_pairs(matrix.cols)};
}

bool reorders_after(const Session& s, const ReorderParams& p) {
    return p.inverse && p.tokens > kFewMost && reorder_serves(p, shared_limit(s.device, s.small));
}

pith_status enqueue_reorder(Session& s, ReorderParams& p, pith_error* error) {
    const ReorderShape shape = reorder_shape(p, shared_limit(s.device, s.small));
    return session_launch(s, "pith_reorder_rows", {shape.grid, 1, shape.threads, shape.shared}, &p, error);
}

pith_status enqueue_product(Session& s, const Product& product, pith_error* error) {
    MatmulParams p{};
    p.matrix = *product.matrix;
    p.x = product.x;
    p.y = product.y;
    p.inverse = product.inverse;
    p.y_stride = product.y_stride;
    p.x_stride = product.x_stride;
    p.tokens = product.tokens;
    p.width = product.width;
    p.store = static_cast<MatmulStore>(product.store);
    return enqueue_matmul(s, p, product.made, error);
}

}  // namespace pith::cuda
