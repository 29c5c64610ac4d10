// Products of a 4-bit matrix with up to 16 tokens in integers: see matmul_few_int.h.
//
// A block's shares are units of (row block, stage); it walks through them without a pause at the borders of row blocks. One warp fills a
// ring of stages, the weights of the first ones before the kernel that makes the input has ended; eight multiply.
#include "matmul.cuh"
#include "matmul_few_int.cuh"

namespace pith::cuda {
namespace {

__device__ __forceinline__ uint32_t share_of(uint64_t units, uint32_t block, uint32_t blocks) { return static_cast<uint32_t>(units * block / blocks); }
__device__ __forceinline__ uint32_t sharer_of(uint64_t unit, uint64_t units, uint32_t blocks) {
    return static_cast<uint32_t>(((unit + 1) * blocks - 1) / units);
}

template <uint32_t kTokens, uint32_t kBlock>
class Ints {
    static constexpr uint32_t kQuads = kTokens / 4;                 // fours of tokens, each a product's eight columns
    static constexpr uint32_t kTiles = kTokens > 16 ? 2 : 1;        // row tiles of a warp
    static constexpr uint32_t kBlockTiles = kIntWarps * kTiles;
    static constexpr uint32_t kPairBytes = int_pair_bytes(kTokens, kBlock);
    static constexpr uint32_t kParts = kIntPairCols / kBlock;       // blocks of a pair
    static constexpr uint32_t kProducts = 4 / kParts;               // of 32 columns, in a block

    const IntMatmulParams& p;
    const Matrix& m;
    const uint32_t base, stages, pairs, steps, tile_bytes, stage_bytes;
    uint64_t units;
    uint32_t begin, end;

   public:
    __device__ __forceinline__ Ints(const IntMatmulParams& params, uint32_t shared)
        : p(params),
          m(params.base.matrix),
          base(shared),
          stages(params.stages),
          pairs(params.pairs),
          steps(((m.chunks + 1) / 2 + pairs - 1) / pairs),
          tile_bytes(int_tile_bytes(pairs, kBlock)),
          stage_bytes(pairs * kPairBytes + kBlockTiles * tile_bytes) {
        units = uint64_t{(m.tiles + kBlockTiles - 1) / kBlockTiles} * steps;
        begin = share_of(units, blockIdx.x, gridDim.x);
        end = share_of(units, blockIdx.x + 1, gridDim.x);
    }

    __device__ __forceinline__ void run() {
        if (threadIdx.x == 0) {
            for (uint32_t i = 0; i < stages; i++) make_slot_barrier(full(i), 33), make_slot_barrier(empty(i), kIntWarps);
            bulk_barriers_made();
        }
        __syncthreads();
        griddep_launch();
        if (threadIdx.x >= kIntWarps * 32) {
            fill();
        } else {
            multiply_all();
            clear_rest();
        }
    }

   private:
    __device__ __forceinline__ uint32_t full(uint32_t slot) const { return base + slot * 16; }
    __device__ __forceinline__ uint32_t empty(uint32_t slot) const { return base + slot * 16 + 8; }
    __device__ __forceinline__ uint32_t stage_at(uint32_t slot) const { return base + 256 + slot * stage_bytes; }

    __device__ __forceinline__ uint32_t first_group(uint32_t step) const { return step * pairs * kIntPairCols / m.group; }
    __device__ __forceinline__ uint32_t last_group(uint32_t step) const {
        return min(((step + 1) * pairs * kIntPairCols - 1) / m.group, m.groups - 1);
    }
    __device__ __forceinline__ uint32_t zeros_at() const { return pairs * (1024 + kParts * 32); }

    // ---- by one warp. A bulk copy costs the same whether it is of 64 bytes or of 2 KiB, so that scales come by the lanes.
    __device__ __forceinline__ void fill_small(uint32_t to, const uint32_t* from, uint64_t row, uint32_t at, uint32_t bytes, uint32_t tile) const {
        const uint32_t pieces = bytes / 16;  // of a tile
        for (uint32_t i = lane_id(); i < kBlockTiles * pieces; i += 32) {
            const uint32_t k = i / pieces;
            cp_async_16(to + k * tile_bytes + i % pieces * 16,
                        reinterpret_cast<const uint8_t*>(from) + (min(tile + k, m.tiles - 1) * row + at) * 32 + i % pieces * 16);
        }
    }
    __device__ __forceinline__ uint32_t input_bytes(uint32_t step) const { return min(pairs, (m.chunks + 1) / 2 - step * pairs) * kPairBytes; }
    __device__ __forceinline__ void fill_weights(uint32_t unit, uint32_t slot, uint64_t policy) const {
        const uint32_t step = unit % steps, tile = unit / steps * kBlockTiles, to = stage_at(slot) + pairs * kPairBytes;
        const uint32_t bytes = min(pairs * 2, m.chunks - step * pairs * 2) * kQ4ChunkBytes, barrier = full(slot);
        if (elect_lane()) {
            expect_bulk(barrier, kBlockTiles * bytes + input_bytes(step));
            const uint64_t row = uint64_t{m.chunks} * kQ4ChunkBytes;
            const uint8_t* from = m.data + tile * row + step * pairs * 2 * kQ4ChunkBytes;
#pragma unroll 1
            for (uint32_t i = 0; i < kBlockTiles; i++) {
                bulk_copy(to + i * tile_bytes, from, bytes, barrier, policy);
                if (tile + i + 1 < m.tiles) from += row;
            }
        }
        __syncwarp();
        const uint32_t first = first_group(step), last = last_group(step);
        fill_small(to + pairs * 1024, m.scales, m.groups, first, (last - first + 1) * 32, tile);
        if (m.zeros) fill_small(to + zeros_at(), m.zeros, (m.groups + 3) / 4, first / 4, (last / 4 - first / 4 + 1) * 32, tile);
        arrive_after_copies(barrier);
    }
    __device__ __forceinline__ void fill_input(uint32_t unit, uint32_t slot) const {
        const uint32_t step = unit % steps;
        if (elect_lane()) bulk_copy(stage_at(slot), p.input + static_cast<uint64_t>(step) * pairs * kPairBytes, input_bytes(step), full(slot));
        __syncwarp();
    }
    __device__ __forceinline__ void fill() const {
        const uint64_t policy = evict_first_policy();
        const uint32_t early = min(stages, end - begin);
        for (uint32_t i = 0; i < early; i++) fill_weights(begin + i, i, policy);
        griddep_wait();
        for (uint32_t i = 0; i < early; i++) fill_input(begin + i, i);
        uint32_t slot = 0, parity = 0;
        for (uint32_t unit = begin + early; unit < end; unit++) {
            wait_bulk(empty(slot), parity);
            fill_weights(unit, slot, policy);
            fill_input(unit, slot);
            if (++slot == stages) slot = 0, parity ^= 1;
        }
    }

    // ---- products
    __device__ __forceinline__ void multiply_all() {
        uint32_t slot = 0, parity = 0;
        bool waited = false;
        for (uint32_t unit = begin; unit < end;) {
            const uint32_t block = unit / steps, first = block * steps, from = unit, stop = min(end, first + steps);
            float sums[kTiles][kQuads][2] = {};
            for (; unit < stop; unit++) {
                wait_bulk(full(slot), parity);
                multiply(unit - first, stage_at(slot), sums);
                __syncwarp();
                if (lane_id() == 0) free_slot(empty(slot));
                if (++slot == stages) slot = 0, parity ^= 1;
            }
            // Its data came from the kernel before, so that has ended; but what it wrote elsewhere is to be seen as well.
            if (!waited) griddep_wait(), waited = true;
            finish(block, from, stop, sums);
        }
        if (!waited) griddep_wait();
    }

    __device__ __forceinline__ void multiply(uint32_t step, uint32_t stage, float (&sums)[kTiles][kQuads][2]) const {
        const uint32_t lane = lane_id(), g = lane / 4, t = lane % 4, first = first_group(step);
        const uint32_t weights = stage + pairs * kPairBytes + threadIdx.x / 32 * kTiles * tile_bytes;
        const uint32_t here = min(pairs, (m.chunks + 1) / 2 - step * pairs);
#pragma unroll 1
        for (uint32_t pair = 0; pair < here; pair++) {
            const uint32_t input = stage + pair * kPairBytes, column = (step * pairs + pair) * kIntPairCols;
            uint32_t a[kTiles][4][4];
            float scale[kTiles][kParts][2], zero[kTiles][kParts][2];
#pragma unroll
            for (uint32_t i = 0; i < kTiles; i++) {
                const uint32_t at = weights + i * tile_bytes;
                const uint4 low = load_shared_16(at + pair * 1024 + lane * 16), high = load_shared_16<512>(at + pair * 1024 + lane * 16);
                const uint32_t words[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
                for (uint32_t q = 0; q < 4; q++) {
                    a[i][q][0] = words[2 * q] & 0x0f0f0f0f;
                    a[i][q][1] = words[2 * q] & 0xf0f0f0f0;
                    a[i][q][2] = words[2 * q + 1] & 0x0f0f0f0f;
                    a[i][q][3] = words[2 * q + 1] & 0xf0f0f0f0;
                }
#pragma unroll
                for (uint32_t b = 0; b < kParts; b++) {
                    const uint32_t group = min((column + b * kBlock) / m.group, m.groups - 1);
                    const half2 s = as_half2(load_shared_4(at + pairs * 1024 + (group - first) * 32 + g * 4));
                    scale[i][b][0] = __low2float(s);
                    scale[i][b][1] = __high2float(s) * 0.0625f;
                    uint32_t z = 0x88;
                    uint32_t more = 0;
                    if (m.zeros) {
                        z = load_shared_4(at + zeros_at() + (group / 4 - first / 4) * 32 + g * 4) >> (group % 4 * 8);
                        more = m.zero_offset;
                    }
                    zero[i][b][0] = static_cast<float>((z & 15) + more);
                    zero[i][b][1] = static_cast<float>(((z >> 4 & 15) + more) * 16);
                }
            }
#pragma unroll
            for (uint32_t n = 0; n < kQuads; n++) {
                const uint4 low = load_shared_16(input + n * 1024 + lane * 16), high = load_shared_16<512>(input + n * 1024 + lane * 16);
                const uint32_t words[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
                for (uint32_t b = 0; b < kParts; b++) {
                    const uint4 k = load_shared_16(input + int_plane_bytes(kTokens) + ((n * kParts + b) * 4 + t) * 16);
                    const float high_scale = __uint_as_float(k.x), low_scale = __uint_as_float(k.y), magic = __uint_as_float(k.z),
                                sum = __uint_as_float(k.w);
#pragma unroll
                    for (uint32_t i = 0; i < kTiles; i++) {
                        uint32_t c[4] = {kIntMagicBits, kIntMagicBits, kIntMagicBits, kIntMagicBits};
#pragma unroll
                        for (uint32_t q = b * kProducts; q < (b + 1) * kProducts; q++) mma_codes(c, a[i][q], words[2 * q], words[2 * q + 1]);
#pragma unroll
                        for (uint32_t r = 0; r < 2; r++) {
                            const float rest = fmaf(__uint_as_float(c[2 * r + 1]), low_scale, fmaf(zero[i][b][r], sum, magic));
                            const float all = fmaf(__uint_as_float(c[2 * r]) - kIntMagic, high_scale, rest);
                            sums[i][n][r] = fmaf(all, scale[i][b][r], sums[i][n][r]);
                        }
                    }
                }
            }
        }
    }

    // ---- sums
    __device__ __forceinline__ float2* part_of(uint32_t block, uint32_t which) const {
        return reinterpret_cast<float2*>(p.base.parts) +
               (static_cast<uint64_t>(block) * 2 + which) * (kBlockTiles * kQuads * 32) + threadIdx.x / 32 * (kTiles * kQuads * 32) + lane_id();
    }

    // Units [from, stop) of a row block are summed: stored if they are all, else left for the last block that has a share of it.
    __device__ __forceinline__ void finish(uint32_t block, uint32_t from, uint32_t stop, float (&sums)[kTiles][kQuads][2]) const {
        const uint32_t first = block * steps;
        if (from != first || stop != first + steps) {
            float2* mine = part_of(blockIdx.x, from == begin ? 0 : 1);
#pragma unroll
            for (uint32_t i = 0; i < kTiles; i++)
#pragma unroll
                for (uint32_t n = 0; n < kQuads; n++) __stcg(mine + (i * kQuads + n) * 32, make_float2(sums[i][n][0], sums[i][n][1]));
            const uint32_t head = sharer_of(first, units, gridDim.x), tail = sharer_of(first + steps - 1, units, gridDim.x);
            __shared__ uint32_t last;
            __threadfence();
            meet_multipliers();
            if (threadIdx.x == 0) {
                last = add_acquire_release(p.base.arrived + block, 1) == tail - head;
                if (last) p.base.arrived[block] = 0;
            }
            meet_multipliers();
            const bool adds = last;
            meet_multipliers();  // before `last` is written again
            if (!adds) return;
            __threadfence();
#pragma unroll
            for (uint32_t i = 0; i < kTiles; i++)
#pragma unroll
                for (uint32_t n = 0; n < kQuads; n++) sums[i][n][0] = sums[i][n][1] = 0;
            for (uint32_t b = head; b <= tail; b++) {
                // What a block begins with is in its slot 0, what it ends with in slot 1.
                const float2* theirs = part_of(b, share_of(units, b, gridDim.x) < first ? 1 : 0);
#pragma unroll
                for (uint32_t i = 0; i < kTiles; i++)
#pragma unroll
                    for (uint32_t n = 0; n < kQuads; n++) {
                        const float2 v = __ldcg(theirs + (i * kQuads + n) * 32);
                        sums[i][n][0] += v.x, sums[i][n][1] += v.y;
                    }
            }
        }
#pragma unroll
        for (uint32_t i = 0; i < kTiles; i++) {
            const uint32_t tile = block * kBlockTiles + threadIdx.x / 32 * kTiles + i;
            if (tile < m.tiles) store(tile, sums[i]);
        }
    }

    __device__ __forceinline__ void store(uint32_t tile, const float (&sums)[kQuads][2]) const {
        const MatmulParams& to = p.base;
        const uint32_t g = lane_id() / 4, t = lane_id() % 4, row = tile * kTileRows + g;
        const float s0 = m.row_scale ? m.row_scale[row] : 1.0f, s1 = m.row_scale ? m.row_scale[row + 8] : 1.0f;
        const float b0 = m.bias ? m.bias[row] : 0.0f, b1 = m.bias ? m.bias[row + 8] : 0.0f;
        const uint32_t e = tile * 8 + g, element = to.store == MatmulStore::GateUp && to.inverse && e < to.width ? to.inverse[e] : e;
#pragma unroll
        for (uint32_t n = 0; n < kQuads; n++) {
            const uint32_t token = n * 4 + t;
            if (token >= to.tokens) continue;
            const float low = sums[n][0] * s0 + b0, high = sums[n][1] * s1 + b1;
            if (to.store == MatmulStore::GateUp) {
                if (e < to.width) static_cast<half*>(to.y)[token * to.y_stride + element] = to_half(low / (1.0f + __expf(-low)) * high);
            } else {
                if (row < m.rows) put(to, token, row, low);
                if (row + 8 < m.rows) put(to, token, row + 8, high);
            }
        }
    }

    // GateUp: zeros from the result's width to its stride.
    __device__ __forceinline__ void clear_rest() const {
        const MatmulParams& to = p.base;
        if (to.store != MatmulStore::GateUp || blockIdx.x != 0) return;
        for (uint64_t n = threadIdx.x, pad = to.y_stride - to.width; n < to.tokens * pad; n += kIntWarps * 32)
            static_cast<half*>(to.y)[n / pad * to.y_stride + to.width + n % pad] = __ushort_as_half(0);
    }
};

template <uint32_t kTokens, uint32_t kBlock>
__device__ __forceinline__ void multiply_int(const IntMatmulParams& p) {
    extern __shared__ __align__(128) uint8_t shared[];
    Ints<kTokens, kBlock>(p, shared_address(shared)).run();
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kQuantiseThreads) quantise_rows(const __grid_constant__ QuantiseParams p) {
    griddep_launch();
    griddep_wait();
    const uint32_t work = blockIdx.x * (kQuantiseThreads / 32) + threadIdx.x / 32, pair = work / p.tokens, token = work % p.tokens;
    if (pair >= p.pairs) return;
    const uint32_t lane = lane_id(), column = pair * kIntPairCols + lane / 16 * 64 + lane % 4 * 16 + lane / 4 % 4 * 2;
    uint32_t first = 0, second = 0;
    if (token < p.rows) {
        const uint16_t* row = p.x + static_cast<uint64_t>(token) * p.x_stride;
        if (column < p.cols) first = *reinterpret_cast<const uint32_t*>(row + column);
        if (column + 8 < p.cols) second = *reinterpret_cast<const uint32_t*>(row + column + 8);
    }
    uint8_t* to = p.out + static_cast<uint64_t>(pair) * int_pair_bytes(p.tokens, p.block);
    put_integers(to, reinterpret_cast<float4*>(to + int_plane_bytes(p.tokens)), token, p.block, first, second);
}

#define PITH_INT(tokens, block, blocks)                                                                                                    \
    extern "C" __global__ void __launch_bounds__(kIntThreads, blocks) pith_matmul_int_##tokens##_##block(const __grid_constant__ IntMatmulParams p) { \
        multiply_int<tokens, block>(p);                                                                                                    \
    }
PITH_INT(4, 128, 2)
PITH_INT(8, 128, 2)
PITH_INT(16, 128, 2)
PITH_INT(4, 32, 2)
PITH_INT(8, 32, 1)
PITH_INT(16, 32, 1)

}  // namespace pith::cuda
