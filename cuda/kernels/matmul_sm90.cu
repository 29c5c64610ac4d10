// Products of a packed matrix with many tokens on sm_90a: wgmma with the weights from registers, tokens by TMA. In a block one
// warpgroup fetches tokens into a ring that two others read; those decode the weights of the next chunk while this one's are multiplied.
#include "matmul.cuh"
#include "matmul_wide.h"
#include "sm90.cuh"

namespace pith::cuda {
namespace {

static_assert(kWideTiles * kTileRows == kResultRows);
constexpr uint32_t kConsumers = 256, kConsumerWarps = kConsumers / 32;

// ---- barriers and copies ----------------------------------------------------------------------------------------------------------------

// At the same place in block `rank` of the cluster. What it tells of are reads, so that it needs no fence for the whole GPU's memory, which
// would wait for the weights under way.
__device__ __forceinline__ void barrier_arrive_at(uint32_t barrier, uint32_t rank) {
    asm volatile(
        "{ .reg .b32 there; mapa.shared::cluster.u32 there, %0, %1; mbarrier.arrive.shared::cluster.b64 _, [there]; }" ::"r"(barrier),
        "r"(rank)
        : "memory");
}
// The map's box at (column, row), to the same place in every block of the cluster.
__device__ __forceinline__ void fetch_box(uint32_t shared, const TensorMap* map, uint32_t column, uint32_t row, uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::
            "r"(shared),
        "l"(map), "r"(column), "r"(row), "r"(barrier), "h"(static_cast<uint16_t>((1 << kWideCluster) - 1))
        : "memory");
}
__device__ __forceinline__ uint32_t cluster_rank() {
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
__device__ __forceinline__ void cluster_arrive() { asm volatile("barrier.cluster.arrive.release;" ::: "memory"); }
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); }
__device__ __forceinline__ void consumers_sync() { asm volatile("bar.sync 1, 256;" ::: "memory"); }

// ---- wgmma ------------------------------------------------------------------------------------------------------------------------------

// Sums stay where they are while a product runs.
template <uint32_t kColumns>
__device__ __forceinline__ void keep(float (&d)[kColumns][4]) {
#pragma unroll
    for (uint32_t n = 0; n < kColumns; n++) {
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) asm volatile("" : "+f"(d[n][i]));
    }
}
// Tokens of 64 halves (128 bytes, swizzled), eight tokens each 1024 bytes.
__device__ __forceinline__ uint64_t token_descriptor(uint32_t shared) {
    return static_cast<uint64_t>(shared >> 4 & 0x3fff) | uint64_t{1} << 16 | static_cast<uint64_t>(1024 >> 4) << 32 | uint64_t{1} << 62;
}

// clang-format off
#define PITH_SUMS(n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
// d += a b: 64 rows of weights in a warpgroup's registers, 16 columns of the tokens at b.
__device__ __forceinline__ void wgmma(float (&d)[16][4], const uint32_t (&a)[4], uint64_t b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
        "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 0;"
        : PITH_SUMS(0), PITH_SUMS(1), PITH_SUMS(2), PITH_SUMS(3), PITH_SUMS(4), PITH_SUMS(5), PITH_SUMS(6), PITH_SUMS(7),
          PITH_SUMS(8), PITH_SUMS(9), PITH_SUMS(10), PITH_SUMS(11), PITH_SUMS(12), PITH_SUMS(13), PITH_SUMS(14), PITH_SUMS(15)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ __forceinline__ void wgmma(float (&d)[24][4], const uint32_t (&a)[4], uint64_t b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n192k16.f32.f16.f16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
        "}, {%96, %97, %98, %99}, %100, 1, 1, 1, 0;"
        : PITH_SUMS(0), PITH_SUMS(1), PITH_SUMS(2), PITH_SUMS(3), PITH_SUMS(4), PITH_SUMS(5), PITH_SUMS(6), PITH_SUMS(7),
          PITH_SUMS(8), PITH_SUMS(9), PITH_SUMS(10), PITH_SUMS(11), PITH_SUMS(12), PITH_SUMS(13), PITH_SUMS(14), PITH_SUMS(15),
          PITH_SUMS(16), PITH_SUMS(17), PITH_SUMS(18), PITH_SUMS(19), PITH_SUMS(20), PITH_SUMS(21), PITH_SUMS(22), PITH_SUMS(23)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ __forceinline__ void wgmma(float (&d)[32][4], const uint32_t (&a)[4], uint64_t b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
        "}, {%128, %129, %130, %131}, %132, 1, 1, 1, 0;"
        : PITH_SUMS(0), PITH_SUMS(1), PITH_SUMS(2), PITH_SUMS(3), PITH_SUMS(4), PITH_SUMS(5), PITH_SUMS(6), PITH_SUMS(7),
          PITH_SUMS(8), PITH_SUMS(9), PITH_SUMS(10), PITH_SUMS(11), PITH_SUMS(12), PITH_SUMS(13), PITH_SUMS(14), PITH_SUMS(15),
          PITH_SUMS(16), PITH_SUMS(17), PITH_SUMS(18), PITH_SUMS(19), PITH_SUMS(20), PITH_SUMS(21), PITH_SUMS(22), PITH_SUMS(23),
          PITH_SUMS(24), PITH_SUMS(25), PITH_SUMS(26), PITH_SUMS(27), PITH_SUMS(28), PITH_SUMS(29), PITH_SUMS(30), PITH_SUMS(31)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
#undef PITH_SUMS
// clang-format on

// ---- weights ----------------------------------------------------------------------------------------------------------------------------

// A row tile's chunks, one after the other, each of kParts parts with a scale of its own.
template <uint32_t kParts>
class CodedWeights {
public:
    // A tile past the end repeats the last, and is not stored.
    __device__ __forceinline__ CodedWeights(const WideMatmulParams& p, uint32_t tile) : m(p.base.matrix), group_parts(p.group_parts) {
        const uint32_t lane = lane_id(), g = lane / 4;
        codes = reinterpret_cast<const uint4*>(m.data + static_cast<uint64_t>(tile) * m.chunks * kQ4ChunkBytes) + lane;
        scales = m.scales + static_cast<uint64_t>(tile) * m.groups * 8 + g;
        zeros = reinterpret_cast<const uint8_t*>(m.zeros + static_cast<uint64_t>(tile) * ((m.groups + 3) / 4) * 8 + g);
        left = group_parts;
        load(next[0]);
        load(next[1]);
    }
    // The fragments of the next chunk, of number % 2 kWhich.
    template <uint32_t kWhich>
    __device__ __forceinline__ void take(uint32_t (&a)[4][4]) {
        decode(next[kWhich], a);
        load(next[kWhich]);
    }

private:
    struct Chunk {
        uint4 codes;
        uint32_t scale[kParts], zero[kParts];
    };
    const Matrix& m;
    const uint4* codes;      // this lane's of the next chunk
    const uint32_t* scales;  // of the next part's group
    const uint8_t* zeros;    // of the tile
    uint32_t group_parts, left, group = 0, loaded = 0;
    Chunk next[2] = {};

    __device__ __forceinline__ void load(Chunk& to) {
        constexpr uint32_t kAhead = 6;  // from memory to L2, which is near enough to load from two chunks ahead
        if (loaded + kAhead < m.chunks) asm volatile("prefetch.global.L2 [%0];" ::"l"(codes + kAhead * kQ4ChunkBytes / 16));
        if (loaded++ >= m.chunks) return;
        to.codes = __ldg(codes);
        codes += kQ4ChunkBytes / 16;
#pragma unroll
        for (uint32_t i = 0; i < kParts; i++) {
            to.scale[i] = __ldg(scales);
            if (m.zeros) to.zero[i] = __ldg(zeros + group / 4 * 32 + group % 4);
            if (--left) continue;
            left = group_parts;
            if (group + 1 < m.groups) scales += 8, group++;
        }
    }
    __device__ __forceinline__ void decode(const Chunk& from, uint32_t (&a)[4][4]) const {
        const uint32_t words[4] = {from.codes.x, from.codes.y, from.codes.z, from.codes.w};
#pragma unroll
        for (uint32_t j = 0; j < 4; j++) {
            const uint32_t scale = from.scale[j * kParts / 4], zero = from.zero[j * kParts / 4];
            uint32_t low = kZeroLow8, high = kZeroHigh8;
            if (m.zeros) low = zero_low((zero & 15) + m.zero_offset), high = zero_high((zero >> 4) + m.zero_offset);
            const uint32_t sg = __byte_perm(scale, 0, 0x1010), sh = __byte_perm(scale, 0, 0x3232);
            decode_q4(words[j], low, high, a[j]);
#pragma unroll
            for (uint32_t i = 0; i < 4; i++) a[j][i] = half2_mul(a[j][i], i % 2 ? sh : sg);
        }
    }
};

// The same of halves, which are fragments as they come.
class HalfWeights {
public:
    __device__ __forceinline__ HalfWeights(const WideMatmulParams& p, uint32_t tile) : chunks(p.base.matrix.chunks) {
        data = reinterpret_cast<const uint4*>(p.base.matrix.data + static_cast<uint64_t>(tile) * chunks * kF16ChunkBytes) + lane_id();
    }
    template <uint32_t>
    __device__ __forceinline__ void take(uint32_t (&a)[4][4]) {
        constexpr uint32_t kAhead = 4;
        if (loaded + kAhead < chunks) {
#pragma unroll
            for (uint32_t j = 0; j < 4; j++) asm volatile("prefetch.global.L2 [%0];" ::"l"(data + kAhead * kF16ChunkBytes / 16 + j * 32));
        }
        if (loaded++ >= chunks) return;
#pragma unroll
        for (uint32_t j = 0; j < 4; j++) {
            const uint4 v = __ldg(data + j * 32);
            a[j][0] = v.x, a[j][1] = v.y, a[j][2] = v.z, a[j][3] = v.w;
        }
        data += kF16ChunkBytes / 16;
    }

private:
    const uint4* data;
    uint32_t chunks, loaded = 0;
};

// ---- the kernel -------------------------------------------------------------------------------------------------------------------------

// The ring, then its barriers.
template <uint32_t kTokens>
struct Ring {
    static constexpr uint32_t kStages = wide_ring_stages(kTokens), kStageBytes = kTokens * kChunkCols * 2;
    static_assert(kTokens * kResultPitch * 4 <= kWideRing);
    uint32_t base;
    __device__ __forceinline__ uint32_t full(uint32_t stage) const { return base + kWideRing + stage * 8; }
    __device__ __forceinline__ uint32_t empty(uint32_t stage) const { return base + kWideRing + (kStages + stage) * 8; }
    __device__ __forceinline__ uint32_t tokens(uint32_t stage) const { return base + stage * kStageBytes; }
    __device__ __forceinline__ static void advance(uint32_t& stage, uint32_t& parity) {
        if (++stage == kStages) stage = 0, parity ^= 1;
    }
};

template <uint32_t kTokens>
__device__ __forceinline__ void produce(const WideMatmulParams& p, const Ring<kTokens>& ring, uint32_t first_token, uint32_t rank) {
    constexpr uint32_t kMine = kTokens / kWideCluster;
    uint32_t stage = 0, parity = 1;
    for (uint32_t k = 0; k < p.base.matrix.chunks; k++) {
        barrier_wait(ring.empty(stage), parity);
        barrier_expect(ring.full(stage), Ring<kTokens>::kStageBytes);
        fetch_box(ring.tokens(stage) + rank * kMine * kChunkCols * 2, &p.x, k * kChunkCols, first_token + rank * kMine, ring.full(stage));
        ring.advance(stage, parity);
    }
}

template <class Weights, uint32_t kTokens>
__device__ __forceinline__ void consume(const WideMatmulParams& p, const Ring<kTokens>& ring, uint32_t first_tile, uint32_t first_token,
                                        float* results) {
    const Matrix& m = p.base.matrix;
    const uint32_t warp = threadIdx.x / 32 - 4, lane = lane_id(), chunks = m.chunks;
    Weights weights(p, min(first_tile + warp, m.tiles - 1));  // weights do not wait for the kernel before
    uint32_t a[2][4][4] = {};
    float d[kTokens / 8][4];
#pragma unroll
    for (uint32_t n = 0; n < kTokens / 8; n++) d[n][0] = d[n][1] = d[n][2] = d[n][3] = 0;
    weights.template take<0>(a[0]);
    uint32_t stage = 0, parity = 0, before = 0;
    const auto step = [&](auto which, uint32_t k) {
        constexpr uint32_t kThis = decltype(which)::value, kOther = kThis ^ 1;
        barrier_wait(ring.full(stage), parity);
        keep(d);
        wgmma_fence();
#pragma unroll
        for (uint32_t j = 0; j < 4; j++) wgmma(d, a[kThis][j], token_descriptor(ring.tokens(stage) + j * 32));
        wgmma_commit();
        keep(d);
        wgmma_wait<1>();  // the chunk before: its weights' registers and its stage are free
        if (k > 0 && lane < kWideCluster) barrier_arrive_at(ring.empty(before), lane);
        before = stage;
        ring.advance(stage, parity);
        weights.template take<kOther>(a[kOther]);
    };
    for (uint32_t k = 0; k < chunks; k += 2) {
        step(Index<0>{}, k);
        if (k + 1 == chunks) break;
        step(Index<1>{}, k + 1);
    }
    wgmma_wait<0>();
    keep(d);
    // From here on nobody writes to another block's memory; where the ring was, the results pass through.
    cluster_arrive();
    consumers_sync();
    const uint32_t g = lane / 4, t = lane % 4;
    float* mine = results + warp * kTileRows + g + t * 2 * kResultPitch;
#pragma unroll
    for (uint32_t n = 0; n < kTokens / 8; n++) {
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) mine[(n * 8 + i % 2) * kResultPitch + i / 2 * 8] = d[n][i];
    }
    consumers_sync();
    griddep_wait();
    store_results<kTokens, kConsumerWarps>(p.base, results, first_tile, first_token, threadIdx.x - 128);
    if (first_tile == 0 && p.base.store == MatmulStore::GateUp) {
        const uint64_t pad = p.base.y_stride - p.base.width;
        const uint32_t tokens = min(kTokens, p.base.tokens - first_token);
        for (uint64_t n = threadIdx.x - 128; n < tokens * pad; n += kConsumers)
            static_cast<half*>(p.base.y)[(first_token + n / pad) * p.base.y_stride + p.base.width + n % pad] = __ushort_as_half(0);
    }
    cluster_wait();
}

template <class Weights, uint32_t kTokens>
__device__ __forceinline__ void multiply_wide(const WideMatmulParams& p) {
    extern __shared__ uint8_t wide_matmul_shared[];
    const uint32_t raw = shared_address(wide_matmul_shared), pad = (1024 - raw % 1024) % 1024;
    const Ring<kTokens> ring{raw + pad};
    if (threadIdx.x == 0) {
        for (uint32_t stage = 0; stage < ring.kStages; stage++) {
            barrier_init(ring.full(stage), 1);
            barrier_init(ring.empty(stage), kConsumerWarps * kWideCluster);
        }
        bulk_barriers_made();
    }
    // Clusters near each other in time share tokens in L2, and the rows of one share them with each other.
    const uint32_t rank = cluster_rank(), cluster = blockIdx.x / kWideCluster, band = p.near * p.row_clusters;
    const uint32_t begin = cluster / band * p.near, near = min(p.near, p.token_tiles - begin), in = cluster % band;
    const uint32_t first_tile = (in / near * kWideCluster + rank) * kWideTiles, first_token = (begin + in % near) * kTokens;
    cluster_arrive();
    cluster_wait();
    if (threadIdx.x < 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x == 0) {
            griddep_wait();
            griddep_launch();
            // Other kernels wrote the tokens; the copies of this one are of another kind.
            asm volatile("fence.proxy.async.global;" ::: "memory");
            produce<kTokens>(p, ring, first_token, rank);
        }
        __syncwarp();
        cluster_arrive();
        cluster_wait();
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
        consume<Weights, kTokens>(p, ring, first_tile, first_token, reinterpret_cast<float*>(wide_matmul_shared + pad));
    }
}

}  // namespace

#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || !defined(__CUDA_ARCH__)
#    define PITH_WIDE(name, weights, tokens)                                                                     \
        extern "C" __global__ void __cluster_dims__(kWideCluster, 1, 1) __launch_bounds__(kWideMatmulThreads, 1) \
            pith_matmul_wide_##name##_##tokens(const __grid_constant__ WideMatmulParams p) {                     \
            multiply_wide<weights, tokens>(p);                                                                   \
        }
#    define PITH_WIDES(name, weights) PITH_WIDE(name, weights, 128) PITH_WIDE(name, weights, 192) PITH_WIDE(name, weights, 256)
PITH_WIDES(q4, CodedWeights<1>)
PITH_WIDES(q4_fine, CodedWeights<2>)
PITH_WIDES(f16, HalfWeights)
#    undef PITH_WIDES
#    undef PITH_WIDE
#endif

}  // namespace pith::cuda
