// Repacking of weights: see repack.h. Bound by the bus that the source comes over.
#include "repack_parts.h"

namespace pith::cuda {

// A warp takes a chunk of a tile; a block eight neighbouring tiles, whose source words lie together.
extern "C" __global__ void __launch_bounds__(kRepackThreads) repack_codes(const __grid_constant__ RepackCodesParams p) {
    const uint32_t part = blockIdx.x * kRepackTilesPerBlock + threadIdx.x / 32,
                   each = p.place.rows == Rows::Whole ? kTileRows : kTileRows / 2;
    if (uint64_t{part} * each < p.rows) repack_codes_lane(p, part, p.chunk_begin + blockIdx.y, threadIdx.x % 32);
}

extern "C" __global__ void __launch_bounds__(kRepackThreads) repack_scales(const __grid_constant__ RepackScalesParams p) {
    repack_scales_part(p, blockIdx.x * kRepackThreads + threadIdx.x, blockIdx.y);
}

// A block takes a row.
extern "C" __global__ void __launch_bounds__(kRepackThreads) repack_dense(const __grid_constant__ RepackDenseParams p) {
    __shared__ float parts[kRepackThreads / 32];
    float largest = 0;
    if (p.type != SourceType::F16) {
        largest = largest_of_row(p, blockIdx.x, threadIdx.x, kRepackThreads);
        for (int offset = 16; offset; offset /= 2) largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, offset));
        if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = largest;
        __syncthreads();
        for (uint32_t i = 0; i < kRepackThreads / 32; i++) largest = fmaxf(largest, parts[i]);
    }
    repack_dense_row(p, blockIdx.x, largest, threadIdx.x, kRepackThreads);
}

extern "C" __global__ void __launch_bounds__(kRepackThreads) repack_floats(const __grid_constant__ RepackFloatsParams p) {
    repack_float(p, blockIdx.x * kRepackThreads + threadIdx.x);
}

}  // namespace pith::cuda
