// Which kernel multiplies.
#include "matmul.h"

#include "kernels/matmul.h"
#include "session.h"

namespace pith::cuda {

uint64_t matmul_workspace(const Device&, const Matrix&, uint32_t, bool) { return 0; }

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
    LaunchShape shape{0, 0, kMatmulThreads, 0};
    matmul_grid(p, &shape.grid_x, &shape.grid_y);
    return session_launch(s, p.matrix.type == WeightType::Q4 ? "pith_matmul_q4" : "pith_matmul_f16", shape, &p, error);
}

}  // namespace pith::cuda
