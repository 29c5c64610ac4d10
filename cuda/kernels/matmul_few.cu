// Products of a packed matrix with up to 64 tokens, as fast as the weights come from memory: see matmul.h.
//
// A stage is 128 columns of 128 rows: the weights of eight warps, a row tile each, and the tokens' columns that all of them share. A block
// walks through its share of all stages without a pause at the borders of row blocks, its ring of stages always some ahead.
#include "matmul.cuh"

namespace pith::cuda {
namespace {

__device__ __forceinline__ uint32_t share_begin(uint64_t units, uint32_t block, uint32_t blocks) { return static_cast<uint32_t>(units * block / blocks); }
__device__ __forceinline__ uint32_t block_of(uint64_t unit, uint64_t units, uint32_t blocks) { return static_cast<uint32_t>(((unit + 1) * blocks - 1) / units); }

// A unit, walked to without a division.
struct Place {
    uint32_t block, step;
    __device__ __forceinline__ Place(uint32_t unit, uint32_t steps) : block(unit / steps), step(unit % steps) {}
    __device__ __forceinline__ void advance(uint32_t steps) {
        if (++step == steps) step = 0, block++;
    }
};

inline constexpr uint32_t kScalesAt = 2 * kQ4ChunkBytes, kZerosAt = kScalesAt + 4 * 32;  // of a warp's weights in a stage

// kPlain: groups of a stage's columns, zero points of 8 and no half a stage, or F16: what is common, without a branch.
template <WeightType type, uint32_t kTokens, bool kPlain>
class Few {
   public:
    static constexpr uint32_t kColumns = kTokens / 8, kChains = kColumns < 4 ? 4 / kColumns : 1;  // products under way that do not wait for each other
    static constexpr uint32_t kWarpBytes = few_warp_bytes(type), kInputBytes = kTokens * kFewCols * 2;
    static constexpr uint32_t kStageBytes = kInputBytes + kFewTiles * kWarpBytes;

    __device__ __forceinline__ Few(const MatmulParams& params, uint32_t shared_base, uint32_t stage_count)
        : p(params), m(params.matrix), base(shared_base), stages(stage_count), steps((params.matrix.chunks + 1) / 2), policy(evict_first_policy()) {
        const uint32_t row_blocks = (m.tiles + kFewTiles - 1) / kFewTiles;
        units = uint64_t{row_blocks} * steps;
        begin = share_begin(units, blockIdx.x, gridDim.x);
        end = share_begin(units, blockIdx.x + 1, gridDim.x);
    }

    __device__ __forceinline__ void run() {
        const uint32_t ahead = stages - 1;
        Place next(begin, steps);
        for (uint32_t i = 0; i < ahead && begin + i < end; i++, next.advance(steps)) fetch_weights(next, i);
        griddep_wait();
        griddep_launch();
        Place input(begin, steps);
        for (uint32_t i = 0; i < ahead; i++, input.advance(steps)) {
            if (begin + i < end) fetch_input(input, i);
            cp_async_commit();
        }
        uint32_t slot = 0, refill = ahead;
        for (uint32_t unit = begin; unit < end;) {
            const uint32_t block = unit / steps, stop = min(end, (block + 1) * steps), from = unit;
            float chains[kChains][kColumns][4] = {};
            for (; unit < stop; unit++) {
                wait(ahead - 1);
                __syncthreads();
                if (unit + ahead < end) {
                    fetch_weights(next, refill);
                    fetch_input(next, refill);
                    next.advance(steps);
                }
                cp_async_commit();
                multiply(unit - block * steps, base + slot * kStageBytes, chains);
                slot = slot + 1 == stages ? 0 : slot + 1;
                refill = refill + 1 == stages ? 0 : refill + 1;
            }
#pragma unroll
            for (uint32_t c = 1; c < kChains; c++)
#pragma unroll
                for (uint32_t n = 0; n < kColumns; n++)
#pragma unroll
                    for (uint32_t i = 0; i < 4; i++) chains[0][n][i] += chains[c][n][i];
            finish(block, from, stop, chains[0]);
        }
        if (blockIdx.x == 0) clear_padding(p, 0, kTokens);
    }

   private:
    const MatmulParams& p;
    const Matrix& m;
    const uint32_t base, stages, steps;
    const uint64_t policy;
    uint64_t units;
    uint32_t begin, end;

    __device__ __forceinline__ uint32_t tile_of(uint32_t block) const { return min(block * kFewTiles + threadIdx.x / 32, m.tiles - 1); }
    // Groups of columns [128 step, 128 step + 128), as far as the matrix goes.
    __device__ __forceinline__ uint32_t first_group(uint32_t step) const { return kPlain ? step : step * kFewCols / m.group; }

    __device__ __forceinline__ void fetch_weights(const Place& at, uint32_t slot) const {
        const uint32_t step = at.step, tile = tile_of(at.block), lane = lane_id();
        const uint32_t to = base + slot * kStageBytes + kInputBytes + threadIdx.x / 32 * kWarpBytes;
        constexpr uint32_t kChunk = type == WeightType::Q4 ? kQ4ChunkBytes : kF16ChunkBytes;
        const uint8_t* from = m.data + (static_cast<uint64_t>(tile) * m.chunks + step * 2) * kChunk;
        const uint32_t bytes = kPlain ? 2 * kChunk : min(2u, m.chunks - step * 2) * kChunk;
#pragma unroll
        for (uint32_t i = 0; i < 2 * kChunk / 512; i++)
            if (i * 512 < bytes) cp_async_16(to + i * 512 + lane * 16, from + i * 512 + lane * 16, policy);
        if constexpr (type == WeightType::Q4) {
            const uint32_t first = first_group(step), last = kPlain ? step : min((step * kFewCols + kFewCols - 1) / m.group, m.groups - 1);
            if (lane < (last - first + 1) * 2)
                cp_async_16(to + kScalesAt + lane * 16, reinterpret_cast<const uint8_t*>(m.scales) + (static_cast<uint64_t>(tile) * m.groups + first) * 32 + lane * 16);
            if (!kPlain && m.zeros && lane >= 16 && lane - 16 < (last / 4 - first / 4 + 1) * 2)
                cp_async_16(to + kZerosAt + (lane - 16) * 16,
                            reinterpret_cast<const uint8_t*>(m.zeros) + (static_cast<uint64_t>(tile) * ((m.groups + 3) / 4) + first / 4) * 32 + (lane - 16) * 16);
        }
    }
    // A token's 128 columns are 16 pieces of 16 bytes, each half of them exchanged by the token's number so that ldmatrix meets no bank twice.
    __device__ __forceinline__ void fetch_input(const Place& place, uint32_t slot) const {
        const uint32_t step = place.step, to = base + slot * kStageBytes, pieces = kPlain ? 16 : min(2u, m.chunks - step * 2) * 8;
#pragma unroll
        for (uint32_t i = 0; i < (kTokens * 16 + kFewThreads - 1) / kFewThreads; i++) {
            const uint32_t at = threadIdx.x + i * kFewThreads, row = at / 16, piece = at % 16;
            if (at < kTokens * 16 && piece < pieces)
                cp_async_16(to + row * 256 + (piece ^ (row & 7)) * 16, p.x + static_cast<uint64_t>(min(row, p.tokens - 1)) * p.x_stride + step * kFewCols + piece * 8);
        }
    }
    // Until at most `pending` stages are on their way.
    __device__ __forceinline__ void wait(uint32_t pending) const {
        switch (pending) {
            case 0: cp_async_wait<0>(); break;
            case 1: cp_async_wait<1>(); break;
            case 2: cp_async_wait<2>(); break;
            case 3: cp_async_wait<3>(); break;
            case 4: cp_async_wait<4>(); break;
            case 5: cp_async_wait<5>(); break;
            default: cp_async_wait<6>(); break;
        }
    }

    __device__ __forceinline__ void multiply(uint32_t step, uint32_t stage, float (&chains)[kChains][kColumns][4]) const {
        const uint32_t lane = lane_id(), g = lane / 4, weights = stage + kInputBytes + threadIdx.x / 32 * kWarpBytes;
#pragma unroll
        for (uint32_t c = 0; c < 2; c++) {
            if (!kPlain && step * 2 + c >= m.chunks) break;
            uint4 words;
            uint32_t scale[2], zero[2];
            if constexpr (type == WeightType::Q4) {
                words = load_shared_16(weights + c * kQ4ChunkBytes + lane * 16);
                const uint32_t first = first_group(step);
#pragma unroll
                for (uint32_t h = 0; h < 2; h++) {
                    const uint32_t group = kPlain ? step : min((step * kFewCols + c * 64 + h * 32) / m.group, m.groups - 1);
                    scale[h] = load_shared_4(weights + kScalesAt + (group - first) * 32 + g * 4);
                    zero[h] = !kPlain && m.zeros ? load_shared_4(weights + kZerosAt + (group / 4 - first / 4) * 32 + g * 4) >> (group % 4 * 8) : 0;
                }
            }
#pragma unroll
            for (uint32_t pair = 0; pair < 2; pair++) {
                uint32_t a[2][4];
                if constexpr (type == WeightType::Q4) {
                    scaled_fragment<!kPlain>(m, pair ? words.z : words.x, scale[pair], zero[pair], a[0]);
                    scaled_fragment<!kPlain>(m, pair ? words.w : words.y, scale[pair], zero[pair], a[1]);
                } else {
#pragma unroll
                    for (uint32_t i = 0; i < 2; i++) {
                        const uint4 w = load_shared_16(weights + c * kF16ChunkBytes + (pair * 2 + i) * 512 + lane * 16);
                        a[i][0] = w.x, a[i][1] = w.y, a[i][2] = w.z, a[i][3] = w.w;
                    }
                }
#pragma unroll
                for (uint32_t n = 0; n < kColumns; n++) {
                    uint32_t b[4];
                    const uint32_t row = n * 8 + lane % 8, piece = c * 8 + pair * 4 + lane / 8;
                    ldmatrix_x4(b, stage + row * 256 + (piece ^ (row & 7)) * 16);
                    mma_m16n8k16(chains[pair * 2 % kChains][n], a[0][0], a[0][1], a[0][2], a[0][3], b[0], b[1]);
                    mma_m16n8k16(chains[(pair * 2 + 1) % kChains][n], a[1][0], a[1][1], a[1][2], a[1][3], b[2], b[3]);
                }
            }
        }
    }

    __device__ __forceinline__ float4* part_of(uint32_t block, uint32_t which) const {
        return reinterpret_cast<float4*>(p.parts) + ((static_cast<uint64_t>(block) * 2 + which) * kFewTiles + threadIdx.x / 32) * kColumns * 32 + lane_id();
    }

    // Units [from, stop) of a row block are summed: stored if they are all, else left for the last block that has a share of it.
    __device__ __forceinline__ void finish(uint32_t block, uint32_t from, uint32_t stop, float (&sums)[kColumns][4]) const {
        const uint32_t tile = block * kFewTiles + threadIdx.x / 32, first = block * steps;
        if (from != first || stop != first + steps) {
            float4* mine = part_of(blockIdx.x, from == begin ? 0 : 1);
#pragma unroll
            for (uint32_t n = 0; n < kColumns; n++) __stcg(mine + n * 32, make_float4(sums[n][0], sums[n][1], sums[n][2], sums[n][3]));
            const uint32_t head = block_of(first, units, gridDim.x), tail = block_of(first + steps - 1, units, gridDim.x);
            __shared__ uint32_t last;
            __threadfence();
            __syncthreads();
            if (threadIdx.x == 0) {
                last = add_acquire_release(p.arrived + block, 1) == tail - head;
                if (last) p.arrived[block] = 0;
            }
            __syncthreads();
            if (!last) return;
            __threadfence();
#pragma unroll
            for (uint32_t n = 0; n < kColumns; n++) sums[n][0] = sums[n][1] = sums[n][2] = sums[n][3] = 0;
            for (uint32_t b = head; b <= tail; b++) {
                // What a block begins with is in its slot 0, what it ends with in slot 1.
                const float4* theirs = part_of(b, share_begin(units, b, gridDim.x) < first ? 1 : 0);
#pragma unroll
                for (uint32_t n = 0; n < kColumns; n++) {
                    const float4 v = __ldcg(theirs + n * 32);
                    sums[n][0] += v.x, sums[n][1] += v.y, sums[n][2] += v.z, sums[n][3] += v.w;
                }
            }
        }
        if (tile < m.tiles) store_tile<kColumns>(p, tile, 0, sums);
    }
};

template <WeightType type, uint32_t kTokens>
__device__ __forceinline__ void multiply_few(const MatmulParams& p) {
    extern __shared__ __align__(128) uint8_t shared[];
    uint32_t bytes;
    asm("mov.u32 %0, %%dynamic_smem_size;" : "=r"(bytes));
    const Matrix& m = p.matrix;
    const uint32_t stages = bytes / few_stage_bytes(type, kTokens);
    if (m.chunks % 2 == 0 && (type == WeightType::F16 || (m.group == kFewCols && !m.zeros)))
        Few<type, kTokens, true>(p, shared_address(shared), stages).run();
    else
        Few<type, kTokens, false>(p, shared_address(shared), stages).run();
}

}  // namespace

#define PITH_FEW(tokens)                                                                                                                              \
    extern "C" __global__ void __launch_bounds__(kFewThreads) pith_matmul_few_q4_##tokens(const __grid_constant__ MatmulParams p) {                   \
        multiply_few<WeightType::Q4, tokens>(p);                                                                                                      \
    }                                                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(kFewThreads) pith_matmul_few_f16_##tokens(const __grid_constant__ MatmulParams p) {                  \
        multiply_few<WeightType::F16, tokens>(p);                                                                                                     \
    }
PITH_FEW(8)
PITH_FEW(16)
PITH_FEW(32)
PITH_FEW(64)

}  // namespace pith::cuda
