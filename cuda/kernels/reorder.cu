// Elements of rows put into another order, in place: through shared memory, so that memory sees whole lines both ways.
#include "reorder.h"

#include "device.cuh"

namespace pith::cuda {

extern "C" __global__ void __launch_bounds__(512) pith_reorder_rows(const __grid_constant__ ReorderParams p) {
    extern __shared__ __align__(16) uint16_t reordered[];
    const uint32_t first = blockIdx.x * p.rows_at_once, rows = min(p.rows_at_once, p.tokens - first);
    const uint32_t pieces = (p.width + 7) / 8, pitch = pieces * 8;
    griddep_wait();
    griddep_launch();
    for (uint32_t i = threadIdx.x; i < pieces; i += blockDim.x) {
        const uint32_t there = min(8u, p.width - i * 8);
        uint32_t to[8];
        if (there == 8) {
            const uint4 low = __ldg(reinterpret_cast<const uint4*>(p.inverse + i * 8)),
                        high = __ldg(reinterpret_cast<const uint4*>(p.inverse + i * 8) + 1);
            to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w, to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
        } else {
#pragma unroll
            for (uint32_t e = 0; e < 8; e++) to[e] = e < there ? __ldg(p.inverse + i * 8 + e) : 0;
        }
        for (uint32_t r = 0; r < rows; r++) {
            const uint4 v =
                *reinterpret_cast<const uint4*>(p.rows + (first + r) * p.stride + i * 8);  // a row's memory goes on to a whole piece
            const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (uint32_t e = 0; e < 8; e++)
                if (e < there) reordered[r * pitch + to[e]] = static_cast<uint16_t>(words[e / 2] >> e % 2 * 16);
        }
    }
    __syncthreads();
    for (uint32_t r = 0; r < rows; r++) {
        uint16_t* row = p.rows + (first + r) * p.stride;
        for (uint32_t i = threadIdx.x; i < p.width / 8; i += blockDim.x)
            reinterpret_cast<uint4*>(row)[i] = reinterpret_cast<const uint4*>(reordered + r * pitch)[i];
        for (uint32_t i = p.width / 8 * 8 + threadIdx.x; i < p.width; i += blockDim.x) row[i] = reordered[r * pitch + i];
    }
}

}  // namespace pith::cuda
