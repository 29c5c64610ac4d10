// Products of a packed matrix with several tokens by mma.sync: see matmul.h. A warp takes two row tiles and all of its block's tokens: its
// weights go straight from memory to registers, where each is decoded once, while the tokens' chunks come through shared memory. Fragments
// of the next step are made while this one's products run.
#include "matmul.cuh"

namespace pith::cuda {
namespace {

constexpr uint32_t kStages = 3;

// The tokens' chunks. Pieces of 16 bytes lie at their number xor the token's, so that ldmatrix meets no bank twice.
template <uint32_t kWarps, uint32_t kTokens>
struct Inputs {
    static constexpr uint32_t kThreads = kWarps * 32, kStageBytes = kTokens * kChunkCols * 2;
    uint32_t base, first;  // first: token
    uint32_t lane;         // what this lane reads of 16 tokens' first 16 columns

    __device__ __forceinline__ Inputs(uint32_t shared, uint32_t first_token) : base(shared), first(first_token) {
        const uint32_t l = lane_id(), row = l % 8 + l / 16 * 8;
        lane = row * 128 + ((l / 8 & 1) ^ (row & 7)) * 16;
    }
    __device__ __forceinline__ void fetch(const MatmulParams& p, uint32_t slot, uint32_t chunk) const {
        const uint32_t row = threadIdx.x / 8, piece = threadIdx.x % 8,
                       to = base + slot * kStageBytes + row * 128 + (piece ^ (row & 7)) * 16;
        const uint16_t* x = p.x + chunk * kChunkCols + piece * 8;
#pragma unroll
        for (uint32_t i = 0; i < kTokens * 8 / kThreads; i++) {
            const uint32_t token = min(first + row + i * (kThreads / 8), p.tokens - 1);
            cp_async_16(to + i * kThreads * 16, x + static_cast<uint64_t>(token) * p.x_stride);
        }
    }
    // B fragments of step j and tokens 16 n .. 16 n + 15.
    __device__ __forceinline__ void read(uint32_t slot, uint32_t j, uint32_t n, uint32_t (&b)[4]) const {
        ldmatrix_x4(b, base + slot * kStageBytes + (lane ^ j * 32) + n * 2048);
    }
};

// The groups of a chunk's halves, chunk after chunk.
struct Groups {
    uint32_t group = 0, left, halves, last;
    __device__ __forceinline__ explicit Groups(const Matrix& m) : left(m.group / 32), halves(m.group / 32), last(m.groups - 1) {}
    __device__ __forceinline__ uint32_t next() {
        const uint32_t now = group;
        if (--left == 0) left = halves, group = min(group + 1, last);
        return now;
    }
};

// Two row tiles' weights, one step after the other.
template <WeightType type>
class Weights;

template <>
class Weights<WeightType::Q4> {
public:
    // A tile past the end repeats the last, and is not stored.
    __device__ __forceinline__ Weights(const Matrix& matrix, uint32_t first_tile) : m(matrix), groups(matrix) {
        const uint32_t lane = lane_id(), g = lane / 4;
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            const uint64_t tile = min(first_tile + i, m.tiles - 1);
            codes[i] = reinterpret_cast<const uint4*>(m.data + tile * m.chunks * kQ4ChunkBytes) + lane;
            scales[i] = m.scales + tile * m.groups * 8 + g;
            zeros[i] = m.zeros + tile * ((m.groups + 3) / 4) * 8 + g;
        }
        load();
    }
    // Step j of the chunk; that the chunk before has ended follows from j.
    __device__ __forceinline__ void take(uint32_t j, uint32_t (&a)[2][4]) {
        if (j == 0) {
#pragma unroll
            for (uint32_t i = 0; i < 2; i++) now[i] = next[i];
            load();
        }
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            const Chunk& c = now[i];
            const uint32_t word = j == 0 ? c.codes.x : j == 1 ? c.codes.y : j == 2 ? c.codes.z : c.codes.w;
            scaled_fragment(m, word, c.scale[j / 2], c.zero[j / 2], a[i]);
        }
    }

private:
    struct Chunk {
        uint4 codes;
        uint32_t scale[2], zero[2];  // of its halves
    };
    const Matrix& m;
    Groups groups;
    const uint4* codes[2];
    const uint32_t *scales[2], *zeros[2];
    Chunk now[2], next[2];
    uint32_t loaded = 0;

    __device__ __forceinline__ void load() {
        if (loaded++ >= m.chunks) return;
        const uint32_t group[2] = {groups.next(), groups.next()};
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            next[i].codes = __ldg(codes[i]);
            codes[i] += kQ4ChunkBytes / 16;
#pragma unroll
            for (uint32_t h = 0; h < 2; h++) {
                next[i].scale[h] = __ldg(scales[i] + group[h] * 8);
                if (m.zeros) next[i].zero[h] = __ldg(zeros[i] + group[h] / 4 * 8) >> group[h] % 4 * 8;
            }
        }
    }
};

template <>
class Weights<WeightType::F16> {
public:
    __device__ __forceinline__ Weights(const Matrix& m, uint32_t first_tile) : left(m.chunks) {
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            data[i] =
                reinterpret_cast<const uint4*>(m.data + uint64_t{min(first_tile + i, m.tiles - 1)} * m.chunks * kF16ChunkBytes) + lane_id();
#pragma unroll
            for (uint32_t j = 0; j < 4; j++) steps[i][j] = __ldg(data[i] + j * 32);
        }
    }
    // The same step of the next chunk takes its place.
    __device__ __forceinline__ void take(uint32_t j, uint32_t (&a)[2][4]) {
        if (j == 0 && left) left--;
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            const uint4 v = steps[i][j];
            a[i][0] = v.x, a[i][1] = v.y, a[i][2] = v.z, a[i][3] = v.w;
            if (j == 0) data[i] += kF16ChunkBytes / 16;
            if (left) steps[i][j] = __ldg(data[i] + j * 32);
        }
    }

private:
    const uint4* data[2];
    uint4 steps[2][4];
    uint32_t left;  // chunks after this one
};

template <WeightType type, uint32_t kWarps, uint32_t kTokens>
__device__ __forceinline__ void multiply(const MatmulParams& p) {
    using Block = Inputs<kWarps, kTokens>;
    constexpr uint32_t kPairs = kTokens / 16;
    static_assert(kPairs % 2 == 0);
    __shared__ __align__(128) uint8_t stages[kStages * Block::kStageBytes];
    const MatmulPlace place = matmul_place(blockIdx.x, blockIdx.y, gridDim.x, gridDim.y);
    const uint32_t chunks = p.matrix.chunks, first = place.tokens * kTokens, tile = place.rows * kWarps * 2 + threadIdx.x / 32 * 2;
    const Block inputs(shared_address(stages), first);
    Weights<type> weights(p.matrix, tile);  // weights do not wait for the kernel before
    griddep_wait();
    griddep_launch();
    inputs.fetch(p, 0, 0);
    cp_async_commit();
    if (chunks > 1) inputs.fetch(p, 1, 1);
    cp_async_commit();
    float sums[2][kTokens / 8][4] = {};
    uint32_t a[2][2][4], b[2][4];
    weights.take(0, a[0]);
    cp_async_wait<1>();
    __syncthreads();
    inputs.read(0, 0, 0, b[0]);
    uint32_t slot = 0;
    for (uint32_t k = 0; k < chunks; k++) {
        const uint32_t after = slot + 1 == kStages ? 0 : slot + 1;
#pragma unroll
        for (uint32_t j = 0; j < 4; j++) {
            if (j == 3) {  // the next chunk is there, and nobody reads the one before this any more
                cp_async_wait<0>();
                __syncthreads();
                if (k + 2 < chunks) inputs.fetch(p, after + 1 == kStages ? 0 : after + 1, k + 2);
                cp_async_commit();
            }
            // Past the end these repeat what is there, and are not used.
            weights.take((j + 1) % 4, a[(j + 1) % 2]);
#pragma unroll
            for (uint32_t n = 0; n < kPairs; n++) {
                if (n + 1 < kPairs)
                    inputs.read(slot, j, n + 1, b[(n + 1) % 2]);
                else
                    inputs.read(j == 3 ? after : slot, (j + 1) % 4, 0, b[(n + 1) % 2]);
                const uint32_t(&now)[4] = b[n % 2];
#pragma unroll
                for (uint32_t h = 0; h < 2; h++)
#pragma unroll
                    for (uint32_t i = 0; i < 2; i++) {
                        const uint32_t(&w)[4] = a[j % 2][i];
                        mma_m16n8k16(sums[i][2 * n + h], w[0], w[1], w[2], w[3], now[2 * h], now[2 * h + 1]);
                    }
            }
        }
        slot = after;
    }
    cp_async_wait<0>();
#pragma unroll
    for (uint32_t i = 0; i < 2; i++)
        if (tile + i < p.matrix.tiles) store_tile(p, tile + i, first, sums[i]);
    if (place.rows == 0) clear_padding(p, first, kTokens);
}

}  // namespace

#define PITH_MATMUL(name, type, warps, tokens, blocks)                                                                            \
    extern "C" __global__ void __launch_bounds__(warps * 32, blocks) pith_matmul_##name(const __grid_constant__ MatmulParams p) { \
        multiply<WeightType::type, warps, tokens>(p);                                                                             \
    }
PITH_MATMUL(q4_128, Q4, 4, 128, 2)
PITH_MATMUL(q4_64, Q4, 4, 64, 3)
PITH_MATMUL(f16_128, F16, 4, 128, 2)
PITH_MATMUL(f16_64, F16, 4, 64, 3)
#undef PITH_MATMUL

}  // namespace pith::cuda
