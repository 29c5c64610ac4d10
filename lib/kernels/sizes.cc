// What a caller must know before it allocates.
#include "kernels/attention.h"
#include "kernels/layout.h"

namespace pith::kernels {

size_t tile_bytes(const Matrix& shape) {
    if (shape.type == Type::Q4) return q4_layout(shape).size;
    if (shape.type == Type::Q8) return q8_codes(shape) + size_t{shape.cols} * kTileRows;
    return align_64(size_t{shape.cols} * kTileRows * element_size(shape.type));
}

uint32_t activation_block(uint32_t group) { return group % 128 == 0 ? 128 : group % 64 == 0 ? 64 : 32; }

size_t attention_scratch(uint32_t heads_per_kv_head, uint32_t head_dim) {
    return align_64(attention_layout(heads_per_kv_head, head_dim).size * sizeof(float));
}

size_t attention_part(uint32_t heads_per_kv_head, uint32_t head_dim) {
    return heads_per_kv_head * (attention_layout(heads_per_kv_head, head_dim).padded_dim + kPartExtra);
}

}  // namespace pith::kernels
