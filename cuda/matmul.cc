// Which kernel multiplies.
#include "matmul.h"

#include <stdio.h>

#include "base/check.h"
#include "kernels/matmul_wide.h"
#include "kernels/reorder.h"
#include "session.h"

namespace pith::cuda {
namespace {

constexpr uint32_t kSmallShared = 48 << 10;

uint32_t shared_limit(const Device& device, bool small) { return small ? kSmallShared : device.facts().shared_block; }
uint64_t counter_bytes(const FewShape& shape) { return align_up(uint64_t{shape.row_blocks} * 4, uint64_t{256}); }

pith_status enqueue_few(Session& s, MatmulParams& p, const FewShape& shape, pith_error* error) {
    p.arrived = reinterpret_cast<uint32_t*>(s.at.matmul);
    p.parts = reinterpret_cast<float*>(s.at.matmul + s.matmul_counters);
    char name[48];
    snprintf(name, sizeof name, "pith_matmul_few_%s_%u", p.matrix.type == WeightType::Q4 ? "q4" : "f16", shape.tokens);
    return session_launch(s, name, {shape.grid, 1, kFewThreads, shape.shared}, &p, error);
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

pith_status enqueue_matmul(Session& s, MatmulParams& p, pith_error* error) {
    if (p.tokens <= kFewMost) {
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
    for (const uint32_t n : {8u, 16u, 32u, 64u}) {
        const FewShape shape = few_shape(matrix, n < tokens ? n : tokens, device.facts().multiprocessors, shared_limit(device, small));
        if (shape.stages < 2) continue;
        if (counter_bytes(shape) > most.counters) most.counters = counter_bytes(shape);
        if (few_parts_bytes(shape) > most.parts) most.parts = few_parts_bytes(shape);
    }
    return most;
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
    ReorderParams r{static_cast<uint16_t*>(p.y), p.inverse, p.y_stride, p.width, p.tokens, 0};
    const uint32_t room = shared_limit(s.device, s.small);
    // A product that writes each element to a place of its own touches a line of memory for each of them.
    if (p.store != MatmulStore::GateUp || !p.inverse || p.tokens <= kFewMost || !reorder_serves(r, room))
        return enqueue_matmul(s, p, error);
    p.inverse = nullptr;
    PITH_TRY(enqueue_matmul(s, p, error));
    const ReorderShape shape = reorder_shape(r, room);
    return session_launch(s, "pith_reorder_rows", {shape.grid, 1, shape.threads, shape.shared}, &r, error);
}

}  // namespace pith::cuda
