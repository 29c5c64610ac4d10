// Products of a packed matrix with several tokens by mma.sync: see matmul.h. A warp takes two row tiles and all of its block's tokens: its
// weights go straight from memory to registers, where each is decoded once, while the tokens' chunks come through shared memory. Fragments
// of the next step are made while this one's products run.
#include "matmul.cuh"

namespace pith::cuda {
namespace {

constexpr uint32_t kStages = 3, kWarps = kMatmulThreads / 32;
static_assert(kWarps * 2 == kMatmulTiles && kMatmulTiles * kTileRows == kResultRows);

// The tokens' chunks. Pieces of 16 bytes lie at their number xor the token's, so that ldmatrix meets no bank twice.
template <uint32_t kTokens>
struct Inputs {
    static constexpr uint32_t kThreads = kMatmulThreads, kStageBytes = kTokens * kChunkCols * 2;
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

// Two row tiles' weights, one step after the other. A tile past the end repeats the last, and is not stored.
__device__ __forceinline__ uint64_t tile_at(const Matrix& m, uint32_t tile) { return min(tile, m.tiles - 1); }

// Of chunks of kParts parts with a scale of their own. Two chunks have registers of their own, so that none is moved while it is under way.
template <uint32_t kParts>
class CodedWeights {
public:
    __device__ __forceinline__ CodedWeights(const Matrix& matrix, uint32_t first_tile)
        : m(matrix), group_parts(m.groups == 1 ? m.chunks * kParts : m.group / (kChunkCols / kParts)), left(group_parts) {
        const uint32_t lane = lane_id(), g = lane / 4;
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            const uint64_t tile = tile_at(m, first_tile + i);
            codes[i] = reinterpret_cast<const uint4*>(m.data + tile * m.chunks * kQ4ChunkBytes) + lane;
            scales[i] = m.scales + tile * m.groups * 8 + g;
            zeros[i] = reinterpret_cast<const uint8_t*>(m.zeros + tile * ((m.groups + 3) / 4) * 8 + g);
        }
        load(held[0]);
        load(held[1]);
    }
    // Step j of a chunk of number % 2 kWhich.
    template <uint32_t kWhich>
    __device__ __forceinline__ void take(uint32_t j, uint32_t (&a)[2][4]) {
        const uint32_t offset = m.zeros ? m.zero_offset : 0;
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            const Chunk& c = held[kWhich];
            const uint32_t word = j == 0 ? c.codes[i].x : j == 1 ? c.codes[i].y : j == 2 ? c.codes[i].z : c.codes[i].w;
            const uint32_t scale = c.scale[i][j * kParts / 4], zero = c.zero[i][j * kParts / 4];
            if (j * kParts % 4 == 0) low[i] = zero_low((zero & 15) + offset), high[i] = zero_high((zero >> 4) + offset);
            decode_q4(word, low[i], high[i], a[i]);
            const uint32_t sg = __byte_perm(scale, 0, 0x1010), sh = __byte_perm(scale, 0, 0x3232);
#pragma unroll
            for (uint32_t e = 0; e < 4; e++) a[i][e] = half2_mul(a[i][e], e % 2 ? sh : sg);
        }
        if (j == 3) load(held[kWhich]);
    }

private:
    struct Chunk {
        uint4 codes[2];
        uint32_t scale[2][kParts], zero[2][kParts];
    };
    const Matrix& m;
    const uint32_t group_parts;
    uint32_t left, group = 0, loaded = 0;
    const uint4* codes[2];
    const uint32_t* scales[2];
    const uint8_t* zeros[2];
    Chunk held[2] = {};
    uint32_t low[2], high[2];

    __device__ __forceinline__ void load(Chunk& to) {
        if (loaded++ >= m.chunks) return;
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) to.codes[i] = __ldg(codes[i]), codes[i] += kQ4ChunkBytes / 16;
#pragma unroll
        for (uint32_t h = 0; h < kParts; h++) {
#pragma unroll
            for (uint32_t i = 0; i < 2; i++) {
                to.scale[i][h] = __ldg(scales[i] + group * 8);
                to.zero[i][h] = m.zeros ? __ldg(zeros[i] + group / 4 * 32 + group % 4) : 0x88;
            }
            if (--left == 0) left = group_parts, group = min(group + 1, m.groups - 1);
        }
    }
};

class HalfWeights {
public:
    __device__ __forceinline__ HalfWeights(const Matrix& m, uint32_t first_tile) : left(m.chunks) {
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            data[i] = reinterpret_cast<const uint4*>(m.data + tile_at(m, first_tile + i) * m.chunks * kF16ChunkBytes) + lane_id();
#pragma unroll
            for (uint32_t j = 0; j < 4; j++) steps[i][j] = __ldg(data[i] + j * 32);
        }
    }
    // The same step of the next chunk takes its place.
    template <uint32_t>
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

// Through shared memory, half the tokens at a time.
template <uint32_t kTokens>
__device__ __forceinline__ void store(const MatmulParams& p, float* results, uint32_t first_tile, uint32_t first,
                                      const float (&sums)[2][kTokens / 8][4]) {
    constexpr uint32_t kHalf = kTokens / 2;
    const uint32_t lane = lane_id();
    float* mine = results + threadIdx.x / 32 * 2 * kTileRows + lane / 4 + lane % 4 * 2 * kResultPitch;
#pragma unroll
    for (uint32_t half = 0; half < 2; half++) {
        __syncthreads();
#pragma unroll
        for (uint32_t n = 0; n < kHalf / 8; n++)
#pragma unroll
            for (uint32_t i = 0; i < 2; i++)
#pragma unroll
                for (uint32_t e = 0; e < 4; e++)
                    mine[(n * 8 + e % 2) * kResultPitch + i * kTileRows + e / 2 * 8] = sums[i][half * (kHalf / 8) + n][e];
        __syncthreads();
        if (first + half * kHalf < p.tokens) store_results<kHalf, kWarps>(p, results, first_tile, first + half * kHalf, threadIdx.x);
    }
}

template <class Weights, uint32_t kTokens>
__device__ __forceinline__ void multiply(const MatmulParams& p) {
    using Block = Inputs<kTokens>;
    constexpr uint32_t kPairs = kTokens / 16;
    static_assert(kPairs % 2 == 0 && kTokens / 2 * kResultPitch * 4 <= kStages * Block::kStageBytes);
    __shared__ __align__(128) uint8_t stages[kStages * Block::kStageBytes];
    const MatmulPlace place = matmul_place(blockIdx.x, blockIdx.y, gridDim.x, gridDim.y);
    const uint32_t chunks = p.matrix.chunks, first = place.tokens * kTokens, tile = place.rows * kMatmulTiles;
    const Block inputs(shared_address(stages), first);
    Weights weights(p.matrix, tile + threadIdx.x / 32 * 2);  // weights do not wait for the kernel before
    griddep_wait();
    griddep_launch();
    inputs.fetch(p, 0, 0);
    cp_async_commit();
    if (chunks > 1) inputs.fetch(p, 1, 1);
    cp_async_commit();
    float sums[2][kTokens / 8][4] = {};
    uint32_t a[2][2][4], b[2][4], slot = 0;
    weights.template take<0>(0, a[0]);
    cp_async_wait<1>();
    __syncthreads();
    inputs.read(0, 0, 0, b[0]);
    const auto chunk = [&](auto which, uint32_t k) {
        constexpr uint32_t kThis = decltype(which)::value;
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
            if (j < 3)
                weights.template take<kThis>(j + 1, a[(j + 1) % 2]);
            else
                weights.template take<kThis ^ 1>(0, a[0]);
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
    };
    for (uint32_t k = 0; k < chunks; k += 2) {
        chunk(Index<0>{}, k);
        if (k + 1 == chunks) break;
        chunk(Index<1>{}, k + 1);
    }
    cp_async_wait<0>();
    store<kTokens>(p, reinterpret_cast<float*>(stages), tile, first, sums);
    if (place.rows == 0) clear_padding(p, first, kTokens);
}

}  // namespace

#define PITH_MATMUL(name, weights, tokens, blocks)                              \
    extern "C" __global__ void __launch_bounds__(kMatmulThreads, blocks)        \
        pith_matmul_##name##_##tokens(const __grid_constant__ MatmulParams p) { \
        multiply<weights, tokens>(p);                                           \
    }
PITH_MATMUL(q4, CodedWeights<1>, 128, 2)
PITH_MATMUL(q4, CodedWeights<1>, 64, 3)
PITH_MATMUL(q4_fine, CodedWeights<2>, 128, 2)
PITH_MATMUL(q4_fine, CodedWeights<2>, 64, 3)
PITH_MATMUL(f16, HalfWeights, 128, 2)
PITH_MATMUL(f16, HalfWeights, 64, 2)
#undef PITH_MATMUL

}  // namespace pith::cuda
