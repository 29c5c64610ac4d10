// Products of a packed matrix with several tokens by mma.sync: see matmul.h. A block takes 128 rows and 64 tokens; each of its warps two
// row tiles, whose weights go straight from memory to registers while the tokens' chunk comes through shared memory.
#include "matmul.cuh"

namespace pith::cuda {
namespace {

constexpr uint32_t kStages = 4, kWarpTiles = 2, kColumns = kMatmulTokens / 8;
constexpr uint32_t kStageBytes = kMatmulTokens * kChunkCols * 2;

template <WeightType type>
struct Weights {  // of one row tile's chunk
    static constexpr uint32_t kLoads = type == WeightType::Q4 ? 1 : 4;
    uint4 v[kLoads];
    uint32_t scale[2], zero[2];  // of the two halves of a chunk
};

template <WeightType type>
__device__ __forceinline__ void load(const Matrix& m, uint32_t tile, uint32_t chunk, Weights<type>& w) {
    const uint32_t lane = lane_id(), g = lane / 4;
    const uint8_t* data = m.data + (static_cast<uint64_t>(tile) * m.chunks + chunk) * (type == WeightType::Q4 ? kQ4ChunkBytes : kF16ChunkBytes);
#pragma unroll
    for (uint32_t i = 0; i < Weights<type>::kLoads; i++) w.v[i] = __ldg(reinterpret_cast<const uint4*>(data + i * 512 + lane * 16));
    if constexpr (type == WeightType::Q4) {
#pragma unroll
        for (uint32_t h = 0; h < 2; h++) {
            const uint32_t group = min((chunk * kChunkCols + h * 32) / m.group, m.groups - 1);
            w.scale[h] = __ldg(m.scales + (static_cast<uint64_t>(tile) * m.groups + group) * 8 + g);
            w.zero[h] = m.zeros ? __ldg(m.zeros + (static_cast<uint64_t>(tile) * ((m.groups + 3) / 4) + group / 4) * 8 + g) >> (group % 4 * 8) : 0;
        }
    }
}

// The A fragment of step j, scaled.
template <WeightType type>
__device__ __forceinline__ void fragment(const Matrix& m, const Weights<type>& w, uint32_t j, uint32_t (&a)[4]) {
    if constexpr (type == WeightType::F16) {
        a[0] = w.v[j].x, a[1] = w.v[j].y, a[2] = w.v[j].z, a[3] = w.v[j].w;
    } else {
        const uint32_t word = j == 0 ? w.v[0].x : j == 1 ? w.v[0].y : j == 2 ? w.v[0].z : w.v[0].w, h = j / 2;
        scaled_fragment(m, word, w.scale[h], w.zero[h], a);
    }
}

// The tokens' columns of one chunk. Pieces of 16 bytes lie at their number xor the token's, so that ldmatrix meets no bank twice.
__device__ __forceinline__ void fetch(const MatmulParams& p, uint32_t shared, uint32_t first, uint32_t chunk) {
#pragma unroll
    for (uint32_t i = 0; i < kMatmulTokens * 8 / kMatmulThreads; i++) {
        const uint32_t at = threadIdx.x + i * kMatmulThreads, row = at / 8, piece = at % 8, token = min(first + row, p.tokens - 1);
        cp_async_16(shared + row * 128 + (piece ^ (row & 7)) * 16, p.x + static_cast<uint64_t>(token) * p.x_stride + chunk * kChunkCols + piece * 8);
    }
}

template <WeightType type>
__device__ __forceinline__ void multiply(const MatmulParams& p) {
    __shared__ __align__(128) uint8_t stages[kStages * kStageBytes];
    const uint32_t shared = shared_address(stages), lane = lane_id(), chunks = p.matrix.chunks;
    const uint32_t first = blockIdx.x * kMatmulTokens, tile = blockIdx.y * kMatmulTiles + threadIdx.x / 32 * kWarpTiles;
    uint32_t mine[kWarpTiles];  // a tile past the end repeats the last, and is not stored
#pragma unroll
    for (uint32_t i = 0; i < kWarpTiles; i++) mine[i] = min(tile + i, p.matrix.tiles - 1);
    Weights<type> next[kWarpTiles];
#pragma unroll
    for (uint32_t i = 0; i < kWarpTiles; i++) load(p.matrix, mine[i], 0, next[i]);  // weights do not wait for the kernel before
    griddep_wait();
    griddep_launch();
#pragma unroll
    for (uint32_t s = 0; s < kStages - 1; s++) {
        if (s < chunks) fetch(p, shared + s * kStageBytes, first, s);
        cp_async_commit();
    }
    float sums[kWarpTiles][kColumns][4] = {};
    for (uint32_t k = 0; k < chunks; k++) {
        Weights<type> w[kWarpTiles];
#pragma unroll
        for (uint32_t i = 0; i < kWarpTiles; i++) {
            w[i] = next[i];
            if (k + 1 < chunks) load(p.matrix, mine[i], k + 1, next[i]);
        }
        cp_async_wait<kStages - 2>();
        __syncthreads();
        if (k + kStages - 1 < chunks) fetch(p, shared + (k + kStages - 1) % kStages * kStageBytes, first, k + kStages - 1);
        cp_async_commit();
        const uint32_t stage = shared + k % kStages * kStageBytes;
#pragma unroll
        for (uint32_t pair = 0; pair < 2; pair++) {
            uint32_t a[kWarpTiles][2][4];
#pragma unroll
            for (uint32_t i = 0; i < kWarpTiles; i++) {
                fragment(p.matrix, w[i], pair * 2, a[i][0]);
                fragment(p.matrix, w[i], pair * 2 + 1, a[i][1]);
            }
#pragma unroll
            for (uint32_t n = 0; n < kColumns; n++) {
                uint32_t b[4];
                const uint32_t row = n * 8 + lane % 8, piece = pair * 4 + lane / 8;
                ldmatrix_x4(b, stage + row * 128 + (piece ^ (row & 7)) * 16);
#pragma unroll
                for (uint32_t i = 0; i < kWarpTiles; i++) {
                    mma_m16n8k16(sums[i][n], a[i][0][0], a[i][0][1], a[i][0][2], a[i][0][3], b[0], b[1]);
                    mma_m16n8k16(sums[i][n], a[i][1][0], a[i][1][1], a[i][1][2], a[i][1][3], b[2], b[3]);
                }
            }
        }
    }
#pragma unroll
    for (uint32_t i = 0; i < kWarpTiles; i++)
        if (tile + i < p.matrix.tiles) store_tile(p, tile + i, first, sums[i]);
    if (blockIdx.y == 0) clear_padding(p, first, kMatmulTokens);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kMatmulThreads) pith_matmul_q4(const __grid_constant__ MatmulParams p) { multiply<WeightType::Q4>(p); }
extern "C" __global__ void __launch_bounds__(kMatmulThreads) pith_matmul_f16(const __grid_constant__ MatmulParams p) { multiply<WeightType::F16>(p); }

}  // namespace pith::cuda
