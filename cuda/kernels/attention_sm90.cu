// Attention of long prompts on sm_90a: wgmma, keys and values by TMA. One warpgroup fetches tiles; two compute 64 rows each and take turns,
// so that the products of one run under the exponentials of the other, and within one the next scores under these.
#include "attention.cuh"
#include "sm90.cuh"

namespace pith::cuda {
namespace {

inline constexpr uint32_t kKeys = kWideKeys, kStages = kWideStages, kConsumerWarps = 8;

// ---- copies and turns
// -----------------------------------------------------------------------------------------------------------------

// 64 columns of kKeys rows from (column, row) of the map on.
__device__ __forceinline__ void fetch_panel(uint32_t shared, const TensorMap* map, uint32_t column, uint32_t row, uint32_t barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(shared),
                 "l"(map), "r"(column), "r"(row), "r"(barrier)
                 : "memory");
}
__device__ __forceinline__ void turn_wait(uint32_t id) { asm volatile("bar.sync %0, 256;" ::"r"(id) : "memory"); }
__device__ __forceinline__ void turn_pass(uint32_t id) { asm volatile("bar.arrive %0, 256;" ::"r"(id) : "memory"); }

// ---- wgmma
// -------------------------------------------------------------------------------------------------------------------------------

// Panels of 64 halves a row (128 bytes, swizzled), 1024 bytes each eight rows; `panel`: bytes from one panel to the next.
__device__ __forceinline__ uint64_t descriptor(uint32_t shared, uint32_t panel) {
    return static_cast<uint64_t>(shared >> 4 & 0x3fff) | static_cast<uint64_t>(panel >> 4) << 16 | static_cast<uint64_t>(1024 >> 4) << 32 |
           uint64_t{1} << 62;
}

// d (64 rows, 64 columns of a warpgroup) = a b, or += with `add`. a: registers; b: 16 rows in shared memory.
template <bool kTransposed>
__device__ __forceinline__ void wgmma_n64(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b, bool add) {
    asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %37, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
        "%24, %25, %26, %27, %28, %29, %30, %31"
        "}, {%32, %33, %34, %35}, %36, p, 1, 1, %38; }"
        : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]), "+f"(d[1][1]), "+f"(d[1][2]), "+f"(d[1][3]),
          "+f"(d[2][0]), "+f"(d[2][1]), "+f"(d[2][2]), "+f"(d[2][3]), "+f"(d[3][0]), "+f"(d[3][1]), "+f"(d[3][2]), "+f"(d[3][3]),
          "+f"(d[4][0]), "+f"(d[4][1]), "+f"(d[4][2]), "+f"(d[4][3]), "+f"(d[5][0]), "+f"(d[5][1]), "+f"(d[5][2]), "+f"(d[5][3]),
          "+f"(d[6][0]), "+f"(d[6][1]), "+f"(d[6][2]), "+f"(d[6][3]), "+f"(d[7][0]), "+f"(d[7][1]), "+f"(d[7][2]), "+f"(d[7][3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)), "n"(kTransposed ? 1 : 0));
}

// d (64 rows, 128 columns of a warpgroup) = a b, or += with `add`. a: registers; b: 16 rows in shared memory.
template <bool kTransposed>
__device__ __forceinline__ void wgmma_n128(float (&d)[16][4], const uint32_t (&a)[4], uint64_t b, bool add) {
    asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %69, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
        "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, "
        "%46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
        "}, {%64, %65, %66, %67}, %68, p, 1, 1, %70; }"
        : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]), "+f"(d[1][1]), "+f"(d[1][2]), "+f"(d[1][3]),
          "+f"(d[2][0]), "+f"(d[2][1]), "+f"(d[2][2]), "+f"(d[2][3]), "+f"(d[3][0]), "+f"(d[3][1]), "+f"(d[3][2]), "+f"(d[3][3]),
          "+f"(d[4][0]), "+f"(d[4][1]), "+f"(d[4][2]), "+f"(d[4][3]), "+f"(d[5][0]), "+f"(d[5][1]), "+f"(d[5][2]), "+f"(d[5][3]),
          "+f"(d[6][0]), "+f"(d[6][1]), "+f"(d[6][2]), "+f"(d[6][3]), "+f"(d[7][0]), "+f"(d[7][1]), "+f"(d[7][2]), "+f"(d[7][3]),
          "+f"(d[8][0]), "+f"(d[8][1]), "+f"(d[8][2]), "+f"(d[8][3]), "+f"(d[9][0]), "+f"(d[9][1]), "+f"(d[9][2]), "+f"(d[9][3]),
          "+f"(d[10][0]), "+f"(d[10][1]), "+f"(d[10][2]), "+f"(d[10][3]), "+f"(d[11][0]), "+f"(d[11][1]), "+f"(d[11][2]), "+f"(d[11][3]),
          "+f"(d[12][0]), "+f"(d[12][1]), "+f"(d[12][2]), "+f"(d[12][3]), "+f"(d[13][0]), "+f"(d[13][1]), "+f"(d[13][2]), "+f"(d[13][3]),
          "+f"(d[14][0]), "+f"(d[14][1]), "+f"(d[14][2]), "+f"(d[14][3]), "+f"(d[15][0]), "+f"(d[15][1]), "+f"(d[15][2]), "+f"(d[15][3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)), "n"(kTransposed ? 1 : 0));
}

// s = q k^T: b is the keys' tile, its rows along the product's columns.
template <int kWidth>
__device__ __forceinline__ void start_scores(const uint32_t (&q)[kWidth / 16][4], uint32_t keys, float (&s)[kKeys / 8][4]) {
    hold(s);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kWidth / 16; k++)
        wgmma_n128<false>(s, q[k], descriptor(keys + k / 4 * kKeys * 128 + k % 4 * 32, kKeys * 128), k > 0);
    wgmma_commit();
    hold(s);
}

// o += w v: b is the values' tile, its rows along the sum.
template <int kWidth>
__device__ __forceinline__ void start_mix(const uint32_t (&w)[kKeys / 16][4], uint32_t values, float (&o)[kWidth / 8][4], bool add) {
    hold(o);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kKeys / 16; k++) {
        const uint64_t b = descriptor(values + k * 2048, kKeys * 128);
        if constexpr (kWidth == 64) {
            wgmma_n64<true>(o, w[k], b, add || k > 0);
        } else {
            wgmma_n128<true>(o, w[k], b, add || k > 0);
        }
    }
    wgmma_commit();
    hold(o);
}

__device__ __forceinline__ void pack_weights(const float (&s)[kKeys / 8][4], uint32_t (&w)[kKeys / 16][4]) {
#pragma unroll
    for (int k = 0; k < static_cast<int>(kKeys / 16); k++) {
#pragma unroll
        for (int i = 0; i < 4; i++) w[k][i] = as_bits(__floats2half2_rn(s[2 * k + i / 2][i % 2 * 2], s[2 * k + i / 2][i % 2 * 2 + 1]));
    }
}

// ---- the kernel
// --------------------------------------------------------------------------------------------------------------------------

// Where things are in shared memory: for each stage the keys' panels and the values', 2 KiB of results a warp, the barriers.
template <int kWidth>
struct Stages {
    static constexpr uint32_t kTileBytes = kKeys * kWidth * 2;
    uint32_t base;
    __device__ __forceinline__ uint32_t keys(uint32_t stage) const { return base + stage * 2 * kTileBytes; }
    __device__ __forceinline__ uint32_t values(uint32_t stage) const { return keys(stage) + kTileBytes; }
    __device__ __forceinline__ uint32_t barrier(uint32_t which, uint32_t stage) const {
        return base + kStages * 2 * kTileBytes + kConsumerWarps * 2048 + (which * kStages + stage) * 8;
    }
};
enum { kKeysFull, kValuesFull, kKeysEmpty, kValuesEmpty };

// Which stage the n-th tile is in and which pass over the stages it is.
struct Step {
    uint32_t stage, parity;
    __device__ __forceinline__ explicit Step(uint32_t n) : stage(n % kStages), parity(n / kStages & 1) {}
};

template <int kWidth>
__device__ __forceinline__ void fetch(const WideAttentionParams& p, const Tile& t, const Stages<kWidth>& at) {
    const uint32_t head_row = p.cache_row + t.kv_head * p.base.capacity, tiles = t.key_end - t.key_begin;
    for (uint32_t n = 0; n < tiles; n++) {
        const Step step(n);
        const uint32_t row = head_row + (t.key_end - 1 - n) * kKeys;  // from the newest keys on
        for (uint32_t kind = 0; kind < 2; kind++) {
            const uint32_t full = at.barrier(kind ? kValuesFull : kKeysFull, step.stage),
                           to = kind ? at.values(step.stage) : at.keys(step.stage);
            barrier_wait(at.barrier(kind ? kValuesEmpty : kKeysEmpty, step.stage), step.parity ^ 1);
            barrier_expect(full, Stages<kWidth>::kTileBytes);
            for (uint32_t panel = 0; panel < kWidth / 64; panel++)
                fetch_panel(to + panel * kKeys * 128, kind ? &p.v : &p.k, panel * 64, row, full);
        }
    }
}

template <int kWidth>
__device__ __forceinline__ void compute(const AttentionParams& p, const Tile& t, const Stages<kWidth>& at, uint16_t* out) {
    const uint32_t warp = threadIdx.x / 32 - 4, warp_row = warp * 16, lane = lane_id(), turn = 1 + warp / 4, other = 3 - turn;
    uint32_t q[kWidth / 16][4], w[kKeys / 16][4];
    load_queries<kWidth>(p, t, warp_row, q);
    float s[kKeys / 8][4], o[kWidth / 8][4], max[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, keep[2];
    const uint32_t row = min(t.row + warp_row + lane / 4, t.rows - 1), row8 = min(t.row + warp_row + lane / 4 + 8, t.rows - 1);
    const uint32_t position[2] = {t.first + row / t.group, t.first + row8 / t.group};
    const uint32_t oldest = t.first + min(t.row + warp_row, t.rows - 1) / t.group,
                   newest = t.first + min(t.row + warp_row + 15, t.rows - 1) / t.group;
    const float scale = p.scale * kLog2E;
    const uint32_t tiles = t.key_end - t.key_begin;
    const auto hide = [&](uint32_t n) {
        const uint32_t key = (t.key_end - 1 - n) * kKeys;
        if (key + kKeys - 1 > oldest || (p.window && newest >= key + p.window)) mask<kKeys>(position, p.window, key + lane % 4 * 2, s);
    };
    const auto release = [&](uint32_t which, uint32_t stage) {
        if (lane == 0) barrier_arrive(at.barrier(which, stage));
    };
    if (turn == 2) turn_pass(1);
    barrier_wait(at.barrier(kKeysFull, 0), 0);
    turn_wait(turn);
    start_scores<kWidth>(q, at.keys(0), s);
    turn_pass(other);
    wgmma_wait<0>();
    hold(s);
    release(kKeysEmpty, 0);
    hide(0);
    soften<kKeys>(scale, s, max, sum, keep);
    pack_weights(s, w);
    for (uint32_t n = 1; n < tiles; n++) {
        const Step step(n), before(n - 1);
        barrier_wait(at.barrier(kKeysFull, step.stage), step.parity);
        turn_wait(turn);
        start_scores<kWidth>(q, at.keys(step.stage), s);
        barrier_wait(at.barrier(kValuesFull, before.stage), before.parity);
        start_mix<kWidth>(w, at.values(before.stage), o, n > 1);
        turn_pass(other);
        wgmma_wait<1>();
        hold(s);
        release(kKeysEmpty, step.stage);
        hide(n);
        soften<kKeys>(scale, s, max, sum, keep);
        wgmma_wait<0>();
        hold(o);
        release(kValuesEmpty, before.stage);
        if (__any_sync(~0u, keep[0] != 1 || keep[1] != 1)) rescale<kWidth>(keep, o);
        pack_weights(s, w);
    }
    const Step final(tiles - 1);
    barrier_wait(at.barrier(kValuesFull, final.stage), final.parity);
    start_mix<kWidth>(w, at.values(final.stage), o, tiles > 1);
    if (turn == 1) turn_wait(turn);  // the other's last pass
    wgmma_wait<0>();
    hold(o);
    for (int side = 0; side < 2; side++) {
        sum[side] += __shfl_xor_sync(~0u, sum[side], 1);
        sum[side] += __shfl_xor_sync(~0u, sum[side], 2);
    }
    const float factor[2] = {1.0f / sum[0], 1.0f / sum[1]};
    write_rows<kWidth>(p, t, t.row + warp_row, o, factor, out + warp * 1024);
}

template <int kWidth>
__device__ __forceinline__ void attend_wide(const WideAttentionParams& p) {
    extern __shared__ __align__(1024) uint8_t wide_shared[];
    const Stages<kWidth> at{shared_address(wide_shared)};
    if (threadIdx.x == 0) {
        for (uint32_t stage = 0; stage < kStages; stage++) {
            barrier_init(at.barrier(kKeysFull, stage), 1);
            barrier_init(at.barrier(kValuesFull, stage), 1);
            barrier_init(at.barrier(kKeysEmpty, stage), kConsumerWarps);
            barrier_init(at.barrier(kValuesEmpty, stage), kConsumerWarps);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    griddep_wait();
    griddep_launch();
    const Tile t = find_tile(p.base, kWideRows, kKeys);
    if (!t.valid) return;
    if (threadIdx.x < 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x == 0) {
            // Other kernels wrote the cache; the copies of this one are of another kind.
            asm volatile("fence.proxy.async.global;" ::: "memory");
            fetch<kWidth>(p, t, at);
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
        compute<kWidth>(p.base, t, at, reinterpret_cast<uint16_t*>(wide_shared + kStages * 2 * Stages<kWidth>::kTileBytes));
        const uint32_t used = p.base.heads * p.base.head_dim;
        if (used < p.base.out_stride) write_padding(p.base, t, kWideRows, kWideThreads - 128, threadIdx.x - 128);
    }
}

}  // namespace

#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || !defined(__CUDA_ARCH__)
extern "C" __global__ void __launch_bounds__(kWideThreads, 1) attention_wide_64(const __grid_constant__ WideAttentionParams p) {
    attend_wide<64>(p);
}
extern "C" __global__ void __launch_bounds__(kWideThreads, 1) attention_wide_128(const __grid_constant__ WideAttentionParams p) {
    attend_wide<128>(p);
}
#endif

}  // namespace pith::cuda
