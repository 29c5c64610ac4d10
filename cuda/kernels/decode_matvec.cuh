// The decode kernel's matrix products. 4-bit codes are multiplied as integers:
// of a word of codes (layout.h), the low nibbles of its bytes are four codes of
// row g and the high nibbles sixteen times those of row g + 8, so two words and
// four AND are an operand of the integer tensor cores. The input is staged as
// integers of 16 bits, in blocks of 32, 64 or 128 columns with a scale each, as
// two planes of signed bytes: x = scale (256 high + low). The planes are
// columns 2 i and 2 i + 1 of the tensor core's other operand, i being the
// block's number in the unit (modulo 4): so a unit's blocks arrive in different
// accumulators, exactly, and lane (g, t) finishes block t.
#pragma once
#include "decode_ring.cuh"

namespace pith::cuda {

// Where the staged input's element c lies if it is staged as halves (in
// halves): of 32 columns, what lane t needs for two steps of 16 is 16 bytes in
// a row.
__device__ __forceinline__ uint32_t input_slot(uint32_t c) {
    return (c & ~31u) | (c >> 1 & 3) << 3 | (c >> 4 & 1) << 2 | (c >> 3 & 1) << 1 | (c & 1);
}
// As integers: the byte of element c's high plane, whose low plane is kPlane
// bytes further. [64 columns][plane][t][step of 16][0, 8, 1, 9].
inline constexpr uint32_t kPlane = 64, kPlaneChunk = 128;

// A block of the staged input.
struct InputBlock {
    float scale;
    int sum;  // of its integers
};

__device__ __forceinline__ uint8_t* staged_input() { return shared_bytes() + shared().params.shared_input; }
__device__ __forceinline__ InputBlock* staged_blocks() { return reinterpret_cast<InputBlock*>(staged_input() + shared().params.at_blocks); }

// The computing warps wait for each other.
__device__ __forceinline__ void meet_warps() { asm volatile("bar.sync 1, %0;" ::"r"(shared().params.warps * 32) : "memory"); }

// ---- one unit
// ----------------------------------------------------------------------------------------------------------------------------

struct Codes {
    uint4 chunk[8];  // Q4: of chunk i; F16: of step i % 4 of chunk i / 4
};
__device__ __forceinline__ void load_codes(uint32_t address, Codes& c) {
    unrolled<8>([&](auto i) { c.chunk[i] = load_shared_16<decltype(i)::value * 512>(address); });
}

__device__ __forceinline__ void multiply_words(int (&sum)[4], uint32_t a, uint32_t b, uint32_t x, uint32_t y) {
    mma_m16n8k32(sum, a & 0x0f0f0f0f, a & 0xf0f0f0f0, b & 0x0f0f0f0f, b & 0xf0f0f0f0, x, y);
}

// The products of a unit: sums[i] are of the lane's block t + 4 i, (rows g, g +
// 8: 16 times) x (high, low plane). input: of this lane, in the unit; zeros:
// what the lanes of other blocks multiply by; pair: g / 2.
template <uint32_t block>
__device__ __forceinline__ void multiply_q4(const Codes& c, uint32_t input, uint32_t zeros, uint32_t pair, int (&sums)[128 / block][4]) {
    unrolled<128 / block>([&](auto i) { sums[i][0] = sums[i][1] = sums[i][2] = sums[i][3] = 0; });
    if constexpr (block == 128) {
        int odd[4] = {};
        unrolled<4>([&](auto i) {
            const uint32_t own = pair == i ? input : zeros;
            const uint4 x = load_shared_16<decltype(i)::value * 2 * kPlaneChunk>(own),
                        y = load_shared_16<(decltype(i)::value * 2 + 1) * kPlaneChunk>(own);
            multiply_words(sums[0], c.chunk[2 * i].x, c.chunk[2 * i].y, x.x, x.y);
            multiply_words(odd, c.chunk[2 * i + 1].x, c.chunk[2 * i + 1].y, y.x, y.y);
            multiply_words(sums[0], c.chunk[2 * i].z, c.chunk[2 * i].w, x.z, x.w);
            multiply_words(odd, c.chunk[2 * i + 1].z, c.chunk[2 * i + 1].w, y.z, y.w);
        });
        unrolled<4>([&](auto e) { sums[0][e] += odd[e]; });
    } else if constexpr (block == 64) {
        unrolled<8>([&](auto i) {
            const uint4 x = load_shared_16<decltype(i)::value * kPlaneChunk>(pair == i % 4 ? input : zeros);
            multiply_words(sums[i / 4], c.chunk[i].x, c.chunk[i].y, x.x, x.y);
            multiply_words(sums[i / 4], c.chunk[i].z, c.chunk[i].w, x.z, x.w);
        });
    } else {
        unrolled<8>([&](auto i) {
            const uint32_t first = pair == i * 2 % 4 ? input : zeros, second = pair == i * 2 % 4 + 1 ? input : zeros;
            const uint2 x = load_shared_8<decltype(i)::value * kPlaneChunk>(first),
                        y = load_shared_8<decltype(i)::value * kPlaneChunk + 8>(second);
            multiply_words(sums[i / 2], c.chunk[i].x, c.chunk[i].y, x.x, x.y);
            multiply_words(sums[i / 2], c.chunk[i].z, c.chunk[i].w, y.x, y.y);
        });
    }
}

// 128 columns of halves, or the first 64 of them; the input is column 0 of B.
__device__ __forceinline__ void multiply_f16(const Codes& c, uint32_t input, uint32_t zeros, bool both, uint32_t lane, float& low,
                                             float& high) {
    float sum[4] = {};
    const uint32_t source = lane < 4 ? input : zeros;
    unrolled<2>([&](auto i) {
        if (i && !both) return;  // what lies there may be no numbers
        const uint4 x = load_shared_16<decltype(i)::value * 128>(source), y = load_shared_16<decltype(i)::value * 128 + 64>(source);
        const uint4* w = c.chunk + 4 * i;
        mma_m16n8k16(sum, w[0].x, w[0].y, w[0].z, w[0].w, x.x, x.y);
        mma_m16n8k16(sum, w[1].x, w[1].y, w[1].z, w[1].w, x.z, x.w);
        mma_m16n8k16(sum, w[2].x, w[2].y, w[2].z, w[2].w, y.x, y.y);
        mma_m16n8k16(sum, w[3].x, w[3].y, w[3].z, w[3].w, y.z, y.w);
    });
    low += sum[0] + sum[1];
    high += sum[2] + sum[3];
}

// ---- the residual stream
// ---------------------------------------------------------------------------------------------------------------------
// Fixed-point numbers of 64 bits in global memory: blocks and warps add to them
// in any order, and the sum is always the same. Their lowest ten bits count the
// additions (and what they carry into the rest is taken off again), so that a
// reader sees in the word itself that nothing is missing. There are two
// buffers: the norm of one half of a layer reads one, the half's last product
// adds to the other. A block that has read all of the first adds its rows of it
// to the second (less what those held when they were complete last), and so
// nobody has the second complete before everybody is done with the first.

inline constexpr uint32_t kCountBits = 10;
inline constexpr float kFixedOne = 268435456.0f;     // 2^28
inline constexpr long long kFixedLimit = 1ll << 52;  // kFixedMost in units of the words
__device__ __forceinline__ unsigned long long* residual(uint32_t buffer) {
    return reinterpret_cast<unsigned long long*>(workspace(shared().params.at_x[buffer]));
}
// In the workspace's first words: where blocks meet, the last launch that met a
// number that is not finite (or that no residual stream can hold): its logits
// will be NaN, as in floats; then the buffers' counts and the last tag.
enum : uint32_t { kMeeting = 0, kPoisoned = 1, kCounts = 2, kTag = 4 };
__device__ __forceinline__ volatile unsigned long long* counters() {
    return reinterpret_cast<volatile unsigned long long*>(workspace(shared().params.at_counters));
}
__device__ __forceinline__ void set_poison() { counters()[kPoisoned] = shared().launch; }

__device__ __forceinline__ long long to_fixed(float v, float most) {
    if (!(fabsf(v) < most)) {
        set_poison();
        return 0;
    }
    return __float2ll_rn(v * kFixedOne);
}
__device__ __forceinline__ long long whole_sum(unsigned long long word, unsigned long long count) {
    return static_cast<long long>(word - count) >> kCountBits;
}
// What this block's rows were when a buffer was complete last.
__device__ __forceinline__ long long* own_rows() { return reinterpret_cast<long long*>(shared_bytes() + shared().params.shared_own); }
// One more addition.
__device__ __forceinline__ void add_fixed(unsigned long long* x, long long v) {
    atomicAdd(x, (static_cast<unsigned long long>(v) << kCountBits) + 1);
}

// ---- what becomes of sums
// ----------------------------------------------------------------------------------------------------------------

// Words with the layer's tag: whoever finds the tag has the value too. A half: the tag above it. A float: the tag in a second word.
__device__ __forceinline__ uint2* sums_of(uint32_t job) { return reinterpret_cast<uint2*>(workspace(shared().params.at_y[job])); }
__device__ __forceinline__ uint32_t* attention_out() { return reinterpret_cast<uint32_t*>(workspace(shared().params.at_attention)); }
__device__ __forceinline__ uint32_t* hidden_out() { return reinterpret_cast<uint32_t*>(workspace(shared().params.at_hidden)); }

__device__ __forceinline__ void put_tagged(uint32_t* to, float v) { store_relaxed(to, shared().tag << 16 | __half_as_ushort(to_half(v))); }
__device__ __forceinline__ void put_tagged(uint2* to, float v) { store_relaxed(to, {__float_as_uint(v), shared().tag}); }

#ifdef PITH_SPIN_LIMIT
#    define PITH_SPINS(n) \
        if (++n > PITH_SPIN_LIMIT) __trap()
#else
#    define PITH_SPINS(n) (void)n
#endif
__device__ __forceinline__ float get_tagged(const uint2* from) {
    [[maybe_unused]] uint64_t spins = 0;
    for (;;) {
        const uint2 v = load_relaxed(from);
        if (v.y == shared().tag) return __uint_as_float(v.x);
        PITH_SPINS(spins);
    }
}

__device__ __forceinline__ float silu(float v) { return v / (1.0f + __expf(-v)); }

// Sums of a whole tile's rows g and g + 8 to where the job's results go.
__device__ __forceinline__ void finish_rows(uint32_t job, uint32_t l, uint32_t tile, uint32_t g, float low, float high) {
    const DecodeParams& p = shared().params;
    const Matrix& m = job_of(job, l).matrix;
    const uint32_t row = tile * 16 + g;
    if (m.row_scale) {
        low *= m.row_scale[row];
        high *= m.row_scale[row + 8];
    }
    if (m.bias) {
        low += m.bias[row];
        high += m.bias[row + 8];
    }
    if (job == kJobGateUp && !layer_of(l).gate_apart) {
        const uint32_t i = tile * 8 + g, *inverse = layer_of(l).jobs[kJobDown].inverse;
        if (i < p.intermediate) put_tagged(hidden_out() + (inverse ? inverse[i] : i), silu(low) * high);
    } else if (job != kDecodeJobs) {
        put_tagged(sums_of(job) + row, low);
        put_tagged(sums_of(job) + row + 8, high);
    } else {
        if (row < p.vocab) p.logits[row] = low;
        if (row + 8 < p.vocab) p.logits[row + 8] = high;
    }
}

// ---- a matrix
// ----------------------------------------------------------------------------------------------------------------------------

// Of the n-th tile at hand: the sums of rows that each warp made, [adders][16], and how many are there.
__device__ __forceinline__ uint32_t tile_sums(uint32_t n, uint32_t adders) {
    return shared_address(shared_bytes()) + shared().params.shared_partial + n * adders * 64;
}
__device__ __forceinline__ uint32_t tile_counter(uint32_t n) {
    const DecodeParams& p = shared().params;
    return shared_address(shared_bytes()) + p.shared_partial + p.partials * 64 + n * 4;
}

// This warp has left its sums of a whole tile: the last one to come finishes it.
__device__ __forceinline__ void finish_tile(uint32_t job, uint32_t l, uint32_t tile, uint32_t n, uint32_t adders) {
    const uint32_t lane = lane_id(), counter = tile_counter(n);
    uint32_t before = 0;
    __syncwarp();
    if (lane == 0) before = count_shared(counter);
    if (__shfl_sync(0xffffffffu, before, 0) + 1 != adders) return;
    if (lane == 0) asm volatile("st.shared.u32 [%0], %1;" ::"r"(counter), "r"(0) : "memory");
    __syncwarp();
    // Even columns of the table by the lower lanes, odd ones by the upper: always the same order.
    const uint32_t from = tile_sums(n, adders) + lane * 4;
    float sum = 0;
    unrolled<(kDecodeMaxWarps + 1) / 2>([&](auto i) {
        if (2 * i + lane / 16 < adders) sum += __uint_as_float(load_shared_4<decltype(i)::value * 128>(from));
    });
    sum += __shfl_xor_sync(0xffffffffu, sum, 16);
    const float high = __shfl_down_sync(0xffffffffu, sum, 8);
    if (lane < 8) finish_rows(job, l, tile, lane, sum, high);
}

// The block's units of a job times the staged input.
template <uint32_t kind>
__device__ __noinline__ RingPlace run_units(uint32_t job, uint32_t l, RingPlace place) {
    constexpr bool dense = kind == kKindF16, asymmetric = !dense && (kind - kKindQ4) % 2;
    constexpr uint32_t block = dense ? 512 : kind_block(kind), per_unit = 512 / block, sets = dense ? 1 : 128 / block,
                       unit_input = dense ? 256 : 1024;
    const DecodeParams& p = shared().params;
    const DecodeJob& j = job_of(job, l);
    const uint32_t lane = lane_id(), warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const Ring ring;
    const DecodeShare s = share_of(j, job);
    const uint32_t warps = p.warps, groups = p.groups, magic = j.magic;
    const uint32_t all_blocks = (j.matrix.cols + block - 1) / block, groups_room = p.unit_groups * 32, zeros_room = p.unit_zeros * 32;
    const bool regular = !dense && is_regular(j), adds = adds_to_residual(job);
    const uint32_t input = shared_address(staged_input()) + (dense ? t * 16 : g % 2 * kPlane + t * 16);  // of unit k0
    const uint32_t zeros = shared_address(shared().zeros), info = shared_address(staged_blocks()) + t * 8;
    const uint32_t turn = turn_of(warp), in_stage = warp - turn * p.stage_units;
    const uint32_t codes_at = in_stage * kUnitBytes + lane * 16, scales_at = p.scale_at + g * 4, zeros_at = p.zero_at + g * 4;
    const int zero_offset = static_cast<int>(j.matrix.zero_offset);
    // Of the residual stream, lane (g, t < 2) adds row g + 8 t.
    unsigned long long* const x = residual(job == kJobO) + g + 8 * t;

    // This warp's next unit: my_k of `tile`, whose sums have place `n`.
    uint32_t tile = s.tile, my_k = s.k + warp, n = 0;
    auto wrap = [&] {
        while (my_k >= s.kn) {
            my_k -= s.kn;
            tile++;
            if (++n == s.tiles) n = 0;
        }
    };
    wrap();
    float low = 0, high = 0;
    RingPlace end = place;
    end.skip(ring, s.stages);
    place.skip(ring, turn);
#pragma unroll 1
    for (uint32_t left = s.count; left > 0;) {
        if (warp >= left) {
            if (warp - in_stage < left) {  // the stage's other units are for its other warps
                place.wait(ring);          // else this could count for what the stage held before
                place.done(ring);
            }
            break;
        }
        const uint32_t stage = ring.at(place.stage);
        place.wait(ring);
        Codes codes;
        uint32_t scale[sets] = {}, zero[sets] = {};
        load_codes(stage + codes_at, codes);
        if constexpr (!dense) {
            const uint32_t at = (s.k0 + my_k) * per_unit + t;
            if (regular) {
                const uint32_t from = stage + scales_at + (in_stage * per_unit + t) * 32;
                unrolled<sets>([&](auto i) {
                    scale[i] = load_shared_4<decltype(i)::value * 128>(from);
                    if (at + 4 * i >= all_blocks) scale[i] = 0;  // what lies there may be no number
                    if constexpr (asymmetric) zero[i] = load_shared_4(stage + zeros_at + (in_stage * sets + i) * 32) >> (t * 8);
                });
            } else {
                // The run of units of this tile begins in the stage at:
                const uint32_t run = my_k < in_stage ? in_stage - my_k : 0, run_k = s.k0 + my_k - (in_stage - run);
                const uint32_t run_first = groups_before(run_k * per_unit, magic);
                const uint32_t from = stage + scales_at + run * groups_room, zeros_from = stage + zeros_at + run * zeros_room;
                unrolled<sets>([&](auto i) {
                    const bool counts = at + 4 * i < all_blocks;
                    const uint32_t group = groups_before(counts ? at + 4 * i : at - t, magic);
                    const uint32_t bits = load_shared_4(from + (group - run_first) * 32);
                    scale[i] = counts ? bits : 0;
                    if constexpr (asymmetric) zero[i] = load_shared_4(zeros_from + (group / 4 - run_first / 4) * 32) >> (group % 4 * 8);
                });
            }
        }
        place.done(ring);
        if constexpr (dense) {
            multiply_f16(codes, input + my_k * unit_input, zeros, 2 * (s.k0 + my_k) + 1 < j.matrix.chunks, lane, low, high);
        } else {
            int sums[sets][4];
            multiply_q4<block>(codes, input + my_k * unit_input, zeros, g / 2, sums);
            unrolled<sets>([&](auto i) {
                const uint2 b = load_shared_8<decltype(i)::value * 32>(info + my_k * per_unit * 8);
                const float x_scale = __uint_as_float(b.x);
                const int x_sum = static_cast<int>(b.y);
                int low_zero = 8, high_zero = 128;
                if constexpr (asymmetric) {
                    low_zero = static_cast<int>(zero[i] & 15) + zero_offset;
                    high_zero = static_cast<int>(zero[i] & 0xf0) + 16 * zero_offset;
                }
                const int low_sum = sums[i][0] * 256 + sums[i][1] - low_zero * x_sum,
                          high_sum = sums[i][2] * 256 + sums[i][3] - high_zero * x_sum;
                const float2 w = __half22float2(as_half2(scale[i]));
                low += static_cast<float>(low_sum) * (w.x * x_scale);
                high += static_cast<float>(high_sum) * (w.y * x_scale * 0.0625f);
            });
        }
        place.skip(ring, groups);
        const uint32_t k = my_k, of_tile = tile, place_of_tile = n;
        my_k += warps;
        left -= min(left, warps);
        wrap();
        if (!adds && tile == of_tile && warp < left) continue;  // more of the same tile
        // lanes of even t go on with the low rows, the others with the high ones
        float keep = t & 1 ? high : low;
        keep += __shfl_xor_sync(0xffffffffu, t & 1 ? low : high, 1);
        keep += __shfl_xor_sync(0xffffffffu, keep, 2);
        low = high = 0;
        if (adds) {
            const uint32_t row = of_tile * 16 + g + 8 * t;
            if (t < 2 && row < p.hidden) {
                if (j.matrix.row_scale) keep *= j.matrix.row_scale[row];
                if (j.matrix.bias && s.k0 + k == 0) keep += j.matrix.bias[row];  // sums are linear until here
                add_fixed(x + of_tile * 16, to_fixed(keep, s.most));
            }
        } else {
            const uint32_t to = tile_sums(place_of_tile, s.adders) + (s.adders == s.kn ? k : warp) * 64 + (g + 8 * t) * 4;
            if (t < 2) asm volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(keep) : "memory");
            finish_tile(job, l, of_tile, place_of_tile, s.adders);
        }
    }
    return end;
}

// Multiplies this block's units of a job with the staged input. Results:
// sums_of(job) (gate and up together: the next product's input; o, down: added
// to the residual stream; the head: the logits).
__device__ __noinline__ RingPlace run_job(uint32_t job, uint32_t l, RingPlace place) {
    if (threadIdx.x == 0) *static_cast<volatile uint32_t*>(&shared().at_work) = l * 8 + job;
    switch (job_of(job, l).kind) {
        case 1:
            place = run_units<1>(job, l, place);
            break;
        case 2:
            place = run_units<2>(job, l, place);
            break;
        case 3:
            place = run_units<3>(job, l, place);
            break;
        case 4:
            place = run_units<4>(job, l, place);
            break;
        case 5:
            place = run_units<5>(job, l, place);
            break;
        case 6:
            place = run_units<6>(job, l, place);
            break;
        default:
            place = run_units<kKindF16>(job, l, place);
            break;
    }
    trace();
    return place;
}

}  // namespace pith::cuda
