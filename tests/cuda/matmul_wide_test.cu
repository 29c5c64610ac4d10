// Products with many tokens on sm_90a against double references, bit equality from run to run. --time [path of cuBLASLt]: how fast they are
// beside cuBLASLt on the same shapes, in turns; --time-blocks: with each number of tokens a block, too; --time-dequantised: beside the other
// way, the weights written out as halves for cuBLASLt.
#include <cudaTypedefs.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "../bench/ceilings.cu"
#include "check.h"
#include "kernels/matmul_sm90.cu"
#include "kernels/reorder.cu"
#include "packed_reference.h"

namespace pith::cuda {
namespace {

__host__ __device__ uint32_t mixed(uint64_t i) {
    i = (i + 0x9e3779b97f4a7c15ull) * 0xbf58476d1ce4e5b9ull;
    i = (i ^ i >> 29) * 0x94d049bb133111ebull;
    return static_cast<uint32_t>(i >> 32);
}
__global__ void random_words(uint32_t* to, uint64_t count, uint64_t seed) {
    for (uint64_t i = blockIdx.x * uint64_t{blockDim.x} + threadIdx.x; i < count; i += uint64_t{gridDim.x} * blockDim.x)
        to[i] = mixed(i + seed * 1000003);
}
// Within +-1, or with `scales` within [0.005, 0.015]; columns from `used` to the stride are zero.
__global__ void random_halves(uint16_t* to, uint64_t count, uint32_t stride, uint32_t used, uint64_t seed, bool scales) {
    for (uint64_t i = blockIdx.x * uint64_t{blockDim.x} + threadIdx.x; i < count; i += uint64_t{gridDim.x} * blockDim.x) {
        const float u = static_cast<float>(mixed(i + seed * 7777777) >> 8) / (1 << 24), v = scales ? 0.005f + 0.01f * u : 2 * u - 1;
        to[i] = i % stride < used ? __half_as_ushort(__float2half(v)) : 0;
    }
}

// Where an element is in its chunk, as layout.h has it.
struct Spot {
    uint32_t step, lane, word, second;
};
__device__ Spot spot_of(uint32_t row, uint32_t c) {
    const uint32_t r = row % 16, s = c % 16;
    return {c % 64 / 16, r % 8 * 4 + s % 8 / 2, r / 8 + s / 8 * 2, s % 2};
}
__device__ double half_weight(const Matrix& m, uint32_t row, uint32_t c) {
    const Spot at = spot_of(row, c);
    const uint16_t* chunk = reinterpret_cast<const uint16_t*>(m.data + (uint64_t{row / 16} * m.chunks + c / 64) * 2048);
    return __half2float(__ushort_as_half(chunk[((at.step * 32 + at.lane) * 4 + at.word) * 2 + at.second]));
}
__device__ double coded_weight(const Matrix& m, uint32_t row, uint32_t c) {
    const Spot at = spot_of(row, c);
    const uint32_t r = row % 16, group = c / m.group, scale = m.scales[(uint64_t{row / 16} * m.groups + group) * 8 + r % 8];
    const uint32_t* chunk = reinterpret_cast<const uint32_t*>(m.data + (uint64_t{row / 16} * m.chunks + c / 64) * 512);
    const int code = chunk[at.lane * 4 + at.step] >> ((at.word + at.second * 4) * 4) & 15;
    int zero = 8;
    if (m.zeros) {
        const uint32_t word = m.zeros[(uint64_t{row / 16} * ((m.groups + 3) / 4) + group / 4) * 8 + r % 8];
        zero = (word >> (group % 4 * 8 + r / 8 * 4) & 15) + m.zero_offset;
    }
    const float s = __half2float(__ushort_as_half(static_cast<uint16_t>(scale >> (r / 8 * 16))));
    return __half2float(__float2half((code - zero) * s));
}

// The other way: a matrix of codes as halves [tiles * 16][chunks * 64], for a library's product. A warp a chunk, through shared memory, so
// that memory is written by whole lines.
constexpr uint32_t kDequantiseThreads = 256;
__global__ void __launch_bounds__(kDequantiseThreads) dequantise(Matrix m, uint16_t* to) {
    constexpr uint32_t kPitch = 36;  // words of a row of 64 halves: those of eight rows lie in different banks
    __shared__ __align__(16) uint32_t staged[kDequantiseThreads / 32][16 * kPitch];
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const uint32_t chunk = blockIdx.x * (kDequantiseThreads / 32) + warp, tile = blockIdx.y;
    if (chunk >= m.chunks) return;
    const uint4 codes = __ldcs(reinterpret_cast<const uint4*>(m.data + (uint64_t{tile} * m.chunks + chunk) * kQ4ChunkBytes) + lane);
    const uint32_t words[4] = {codes.x, codes.y, codes.z, codes.w};
#pragma unroll
    for (uint32_t j = 0; j < 4; j++) {
        const uint32_t group = min((chunk * 64 + j * 16) / m.group, m.groups - 1);
        const uint32_t scale = __ldg(m.scales + (uint64_t{tile} * m.groups + group) * 8 + g);
        uint32_t low = kZeroLow8, high = kZeroHigh8, a[4];
        if (m.zeros) {
            const uint32_t zero = __ldg(m.zeros + (uint64_t{tile} * ((m.groups + 3) / 4) + group / 4) * 8 + g) >> group % 4 * 8;
            low = zero_low((zero & 15) + m.zero_offset), high = zero_high((zero >> 4 & 15) + m.zero_offset);
        }
        decode_q4(words[j], low, high, a);
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
            staged[warp][(g + i % 2 * 8) * kPitch + j * 8 + t + i / 2 * 4] = half2_mul(a[i], __byte_perm(scale, 0, i % 2 ? 0x3232 : 0x1010));
    }
    __syncwarp();
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t row = i * 4 + lane / 8, piece = lane % 8;
        reinterpret_cast<uint4*>(to + (uint64_t{tile * 16 + row} * m.chunks + chunk) * 64)[piece] =
            *reinterpret_cast<const uint4*>(staged[warp] + row * kPitch + piece * 4);
    }
}
__global__ void compare_dequantised(Matrix m, const uint16_t* got, unsigned long long* bad) {
    const uint32_t c = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
    if (c >= m.cols || row >= m.rows) return;
    if (__half2float(__ushort_as_half(got[uint64_t{row} * m.chunks * 64 + c])) != coded_weight(m, row, c)) atomicAdd(bad, 1ull);
}

// One thread an element: the sum in double of the products of halves, and of their magnitudes.
__global__ void reference(Matrix m, const uint16_t* x, uint32_t x_stride, uint32_t tokens, double* sums, double* sizes) {
    const uint32_t row = blockIdx.x * blockDim.x + threadIdx.x, token = blockIdx.y;
    if (row >= m.rows || token >= tokens) return;
    double sum = 0, size = 0;
    for (uint32_t c = 0; c < m.cols; c++) {
        const double w = m.type == WeightType::F16 ? half_weight(m, row, c) : coded_weight(m, row, c);
        const double v = w * __half2float(__ushort_as_half(x[uint64_t{token} * x_stride + c]));
        sum += v;
        size += fabs(v);
    }
    sums[uint64_t{token} * m.rows + row] = sum;
    sizes[uint64_t{token} * m.rows + row] = size;
}

using test::Device;

cudaStream_t g_stream;
uint32_t g_processors;

TensorMap tensor_map(const MatmulParams& p, const WideMatmulShape& s) {
    static PFN_cuTensorMapEncodeTiled_v12000 encode = nullptr;
    cudaDriverEntryPointQueryResult found;
    if (!encode)
        MUST(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", reinterpret_cast<void**>(&encode), 12000, cudaEnableDefault,
                                               &found));
    const WideMatmulMap m = wide_matmul_map(p, s);
    const uint32_t ones[2] = {1, 1};
    TensorMap map;
    const CUresult status = encode(reinterpret_cast<CUtensorMap*>(&map), CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2, const_cast<uint16_t*>(p.x),
                                   m.dims, &m.stride, m.box, ones, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                   CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (status != CUDA_SUCCESS) {
        std::printf("FAIL cuTensorMapEncodeTiled: %d\n", static_cast<int>(status));
        std::exit(1);
    }
    return map;
}

uint32_t launch(const MatmulParams& base, uint32_t tokens = 0) {
    WideMatmulParams p{};
    p.base = base;
    const WideMatmulShape s = wide_matmul_shape(p, g_processors, tokens);
    p.x = tensor_map(base, s);
    static constexpr decltype(&pith_matmul_wide_q4_128) kKernels[3][3] = {
        {pith_matmul_wide_q4_128, pith_matmul_wide_q4_192, pith_matmul_wide_q4_256},
        {pith_matmul_wide_q4_fine_128, pith_matmul_wide_q4_fine_192, pith_matmul_wide_q4_fine_256},
        {pith_matmul_wide_f16_128, pith_matmul_wide_f16_192, pith_matmul_wide_f16_256}};
    const auto run = kKernels[matmul_kind(base.matrix)][s.tokens / 64 - 2];
    MUST(
        cudaFuncSetAttribute(reinterpret_cast<const void*>(run), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(s.shared)));
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(s.grid), config.blockDim = dim3(s.threads), config.dynamicSmemBytes = s.shared, config.stream = g_stream;
    config.attrs = &attribute, config.numAttrs = 1;
    MUST(cudaLaunchKernelEx(&config, run, p));
    return s.tokens;
}

constexpr uint32_t kHalves = 1;

struct Case {
    uint32_t tokens, rows, cols, group;  // 0: the whole row; kHalves: F16
    bool zeros;
    MatmulStore store;
    bool extras = false;  // bias, row_scale, inverse, odd stride
    uint32_t block = 0;   // tokens of a block; 0: what the shape says
};

// A matrix in device memory.
struct Packed {
    Matrix m{};
    Device<uint32_t> codes, scales, zeros;
    static size_t groups_of(uint32_t cols, uint32_t group) { return group > kHalves ? (cols + group - 1) / group : 1; }
    Packed(uint32_t rows, uint32_t cols, uint32_t group, bool asymmetric, uint64_t seed)
        : codes(uint64_t{(rows + 15) / 16} * ((cols + 63) / 64) * (group == kHalves ? 512 : 128)),
          scales(uint64_t{(rows + 15) / 16} * groups_of(cols, group) * 8),
          zeros(uint64_t{(rows + 15) / 16} * ((groups_of(cols, group) + 3) / 4) * 8) {
        m.rows = rows, m.cols = cols;
        m.tiles = (rows + 15) / 16, m.chunks = (cols + 63) / 64;
        m.data = reinterpret_cast<const uint8_t*>(codes.data);
        if (group == kHalves) {
            m.type = WeightType::F16;
            random_halves<<<1024, 256>>>(reinterpret_cast<uint16_t*>(codes.data), codes.size * 2, 1, 1, seed, false);
        } else {
            m.type = WeightType::Q4;
            m.group = group ? group : (cols + 31) / 32 * 32;
            m.groups = static_cast<uint32_t>(groups_of(cols, group));
            m.zero_offset = seed % 2;
            m.scales = scales.data;
            m.zeros = asymmetric ? zeros.data : nullptr;
            random_words<<<1024, 256>>>(codes.data, codes.size, seed);
            random_words<<<1024, 256>>>(zeros.data, zeros.size, seed + 1);
            random_halves<<<1024, 256>>>(reinterpret_cast<uint16_t*>(scales.data), scales.size * 2, 1, 1, seed + 2, true);
        }
        MUST(cudaDeviceSynchronize());
    }
};

int g_failures = 0;

double half_of(uint16_t bits) { return packed::half_value(bits); }

void check(const Case& c, uint64_t seed) {
    const Packed w(c.rows, c.cols, c.group, c.zeros, seed);
    const uint32_t x_stride = w.m.chunks * 64 + (c.extras ? 64 : 0), rows = w.m.tiles * 16;
    Device<uint16_t> x(uint64_t{c.tokens} * x_stride);
    random_halves<<<1024, 256>>>(x.data, x.size, x_stride, c.cols, seed + 3, false);
    MatmulParams p{};
    p.matrix = w.m;
    std::vector<float> biases(rows), row_scales(rows);
    for (uint32_t r = 0; r < rows; r++) biases[r] = static_cast<float>(mixed(r) % 100) / 10 - 5, row_scales[r] = r % 3 ? 1.0f : 2.0f;
    const Device<float> bias(biases), row_scale(row_scales);
    if (c.extras) p.matrix.bias = bias.data, p.matrix.row_scale = row_scale.data;
    const bool gated = c.store == MatmulStore::GateUp, halves = gated || c.store == MatmulStore::Half;
    p.width = gated ? c.rows / 2 - (c.rows == 528 ? 4 : 0) : 0;  // the last tile's may be padding
    std::vector<uint32_t> order(p.width);
    std::iota(order.begin(), order.end(), 0);
    for (uint32_t i = 1; i < p.width; i++) std::swap(order[i], order[mixed(i) % (i + 1)]);
    const Device<uint32_t> inverse(order);
    if (gated && c.extras) p.inverse = inverse.data;
    const uint32_t columns = gated ? p.width : c.rows;
    p.y_stride = c.extras ? columns + 5 : (columns + 63) / 64 * 64;
    p.x = x.data, p.x_stride = x_stride, p.tokens = c.tokens, p.store = c.store;
    const uint64_t size = (uint64_t{c.tokens} + 3) * p.y_stride;
    Device<uint8_t> y(size * (halves ? 2 : 4)), again(y.size);
    const int fill = c.store == MatmulStore::Add ? 0x3f : 0x7b;
    y.fill(fill), again.fill(fill);
    MUST(cudaDeviceSynchronize());
    p.y = y.data;
    const uint32_t block = launch(p, c.block);
    p.y = again.data;
    launch(p, c.block);
    MUST(cudaStreamSynchronize(g_stream));
    Device<double> sums(uint64_t{c.tokens} * c.rows), sizes(sums.size);
    reference<<<dim3((c.rows + 127) / 128, c.tokens), 128>>>(w.m, x.data, x_stride, c.tokens, sums.data, sizes.data);
    MUST(cudaDeviceSynchronize());
    const std::vector<double> want = sums.host(), magnitude = sizes.host();
    const std::vector<uint8_t> got = y.host(), second = again.host();
    const bool same = got == second;
    // The reference itself, on the CPU.
    const std::vector<uint32_t> codes = w.codes.host(), scales = w.scales.host(), zeros = w.zeros.host();
    const std::vector<uint16_t> inputs = x.host();
    Matrix host = w.m;
    host.data = reinterpret_cast<const uint8_t*>(codes.data()), host.scales = scales.data();
    if (host.zeros) host.zeros = zeros.data();
    uint64_t bad_reference = 0;
    for (uint32_t i = 0; i < 16; i++) {
        const uint32_t token = mixed(i * 2 + seed) % c.tokens, row = mixed(i * 2 + 1 + seed) % c.rows;
        double sum = 0;
        for (uint32_t k = 0; k < c.cols; k++) {
            double v;
            if (host.type == WeightType::F16) {
                v = half_of(packed::half(host, row, k));
            } else {
                const int steps = static_cast<int>(packed::code(host, row, k)) - static_cast<int>(packed::zero(host, row, k / host.group));
                v = __half2float(
                    __float2half(static_cast<float>(steps) * static_cast<float>(half_of(packed::scale(host, row, k / host.group)))));
            }
            sum += v * half_of(inputs[uint64_t{token} * x_stride + k]);
        }
        if (std::fabs(sum - want[uint64_t{token} * c.rows + row]) > 1e-9) bad_reference++;
    }
    const auto element = [&](uint64_t at) {
        if (halves) {
            uint16_t v;
            std::memcpy(&v, got.data() + at * 2, 2);
            return half_of(v);
        }
        float v;
        std::memcpy(&v, got.data() + at * 4, 4);
        return static_cast<double>(v);
    };
    float before = 0;
    std::memset(&before, fill, 4);
    double worst = 0;
    uint64_t bad = 0, stray = 0;
    std::vector<bool> written(size);
    for (uint32_t token = 0; token < c.tokens; token++)
        for (uint32_t i = 0; i < columns; i++) {
            uint64_t at = uint64_t{token} * p.y_stride + i;
            double value, allowed;
            const auto sum = [&](uint32_t row, double& error) {
                const uint64_t n = uint64_t{token} * c.rows + row;
                const double s = c.extras ? row_scales[row] : 1, b = c.extras ? biases[row] : 0;
                error = magnitude[n] * 4e-6 * s + 1e-6;
                return want[n] * s + b;
            };
            if (gated) {
                double e0, e1;
                const double gate = sum(i / 8 * 16 + i % 8, e0), up = sum(i / 8 * 16 + 8 + i % 8, e1), silu = gate / (1 + std::exp(-gate));
                at = uint64_t{token} * p.y_stride + (p.inverse ? order[i] : i);
                value = silu * up;
                allowed = 1.2 * e0 * std::fabs(up) + e1 * std::fabs(silu) + std::fabs(value) * 1e-5;
            } else {
                value = sum(i, allowed) + (c.store == MatmulStore::Add ? before : 0);
                allowed += std::fabs(value) * 1e-6;
            }
            if (halves) allowed += std::fabs(value) / 2000 + 6e-8;
            written[at] = true;
            const double error = std::fabs(element(at) - value);
            if (!(error <= allowed)) {
                if (bad++ < 3) std::printf("  token %u column %u: %g, expected %g +- %g\n", token, i, element(at), value, allowed);
            }
            worst = std::max(worst, error / allowed);
        }
    const size_t width = halves ? 2 : 4;
    for (uint64_t at = 0; at < size; at++) {
        if (written[at]) continue;
        const bool cleared = gated && at / p.y_stride < c.tokens;
        for (size_t i = 0; i < width; i++)
            if (got[at * width + i] != (cleared ? 0 : fill)) stray++;
    }
    const bool ok = same && !bad && !stray && !bad_reference;
    if (!ok) g_failures++;
    static const char* const kStores[] = {"half", "float", "add", "gate-up"};
    std::printf("%s tokens %u (%u a block) %ux%u group %u%s %s%s: %.2f of what is allowed, %llu bad, %llu stray, %llu of the reference%s\n",
                ok ? "ok  " : "FAIL", c.tokens, block, c.rows, c.cols, c.group, c.zeros ? " zeros" : "", kStores[static_cast<int>(c.store)],
                c.extras ? " extras" : "", worst, static_cast<unsigned long long>(bad), static_cast<unsigned long long>(stray),
                static_cast<unsigned long long>(bad_reference), same ? "" : ", runs DIFFER");
}

void check_reorder(uint32_t tokens, uint32_t width, uint32_t limit) {
    const uint32_t stride = (width + 63) / 64 * 64;
    Device<uint16_t> rows(uint64_t{tokens} * stride);
    random_halves<<<1024, 256>>>(rows.data, rows.size, 1, 1, width, false);
    std::vector<uint32_t> order(width);
    std::iota(order.begin(), order.end(), 0);
    for (uint32_t i = 1; i < width; i++) std::swap(order[i], order[mixed(i) % (i + 1)]);
    const Device<uint32_t> inverse(order);
    const std::vector<uint16_t> before = rows.host();
    ReorderParams p{rows.data, inverse.data, stride, width, tokens, 0};
    const ReorderShape s = reorder_shape(p, limit);
    MUST(cudaFuncSetAttribute(reinterpret_cast<const void*>(pith_reorder_rows), cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(s.shared)));
    pith_reorder_rows<<<s.grid, s.threads, s.shared, g_stream>>>(p);
    MUST(cudaStreamSynchronize(g_stream));
    const std::vector<uint16_t> after = rows.host();
    uint64_t bad = 0;
    for (uint64_t t = 0; t < tokens; t++) {
        for (uint32_t i = 0; i < width; i++) bad += after[t * stride + order[i]] != before[t * stride + i];
        for (uint32_t i = width; i < stride; i++) bad += after[t * stride + i] != before[t * stride + i];
    }
    if (bad || !reorder_serves(p, limit)) g_failures++;
    std::printf("%s %u rows of %u reordered, %u at once: %llu bad\n", bad ? "FAIL" : "ok  ", tokens, width, p.rows_at_once,
                static_cast<unsigned long long>(bad));
}

void enqueue_dequantise(const Matrix& m, uint16_t* to) {
    constexpr uint32_t kWarps = kDequantiseThreads / 32;
    dequantise<<<dim3((m.chunks + kWarps - 1) / kWarps, m.tiles), kDequantiseThreads, 0, g_stream>>>(m, to);
}

void check_dequantised(uint32_t rows, uint32_t cols, uint32_t group, bool zeros) {
    const Packed w(rows, cols, group, zeros, rows + cols);
    Device<uint16_t> halves(uint64_t{w.m.tiles} * 16 * w.m.chunks * 64);
    Device<unsigned long long> bad(1);
    bad.fill(0);
    enqueue_dequantise(w.m, halves.data);
    MUST(cudaStreamSynchronize(g_stream));
    compare_dequantised<<<dim3((cols + 127) / 128, rows), 128>>>(w.m, halves.data, bad.data);
    const unsigned long long wrong = bad.host()[0];
    if (wrong) g_failures++;
    std::printf("%s %ux%u group %u%s dequantised: %llu bad\n", wrong ? "FAIL" : "ok  ", rows, cols, group, zeros ? " zeros" : "", wrong);
}

// TFLOP/s of launches for as long as a prompt takes: short bursts run at a clock that no prompt has.
double rate(const MatmulParams& made, const std::vector<Packed*>& weights, uint32_t block, uint32_t* used) {
    MatmulParams p = made;
    cudaEvent_t begin, end;
    MUST(cudaEventCreate(&begin));
    MUST(cudaEventCreate(&end));
    const double flops = 2.0 * p.tokens * p.matrix.rows * p.matrix.cols;
    const uint32_t runs = static_cast<uint32_t>(std::max(4.0, 7e13 / flops));
    uint32_t n = 0;
    const auto run = [&](uint32_t times) {
        for (uint32_t i = 0; i < times; i++) {
            const Matrix& m = weights[n++ % weights.size()]->m;
            p.matrix.data = m.data, p.matrix.scales = m.scales, p.matrix.zeros = m.zeros;
            *used = launch(p, block);
        }
    };
    run(runs / 4 + 1);
    MUST(cudaEventRecord(begin, g_stream));
    run(runs);
    MUST(cudaEventRecord(end, g_stream));
    MUST(cudaEventSynchronize(end));
    float ms;
    MUST(cudaEventElapsedTime(&ms, begin, end));
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    return flops * runs / ms * 1e-9;
}

struct Timed {
    const char* what;
    uint32_t rows, cols;
    MatmulStore store;
};

// Ours and cuBLASLt's (bf16, the best that its heuristics offer) in turns.
void time(const Timed& t, uint32_t tokens, bool blocks, bench::Ceilings& ceilings, uint32_t group = 128, bool zeros = false) {
    std::vector<Packed*> weights;
    for (uint64_t bytes = 0; bytes < 160u << 20 || weights.size() < 2; bytes += uint64_t{t.rows} * t.cols / 2)
        weights.push_back(new Packed(t.rows, t.cols, group, zeros, 2 * weights.size()));
    Device<uint16_t> x(uint64_t{tokens} * t.cols);
    random_halves<<<1024, 256>>>(x.data, x.size, t.cols, t.cols, 5, false);
    Device<float> y(uint64_t{tokens} * t.rows);
    y.fill(0);
    MatmulParams p{};
    p.matrix = weights[0]->m;
    p.x = x.data, p.y = y.data, p.x_stride = t.cols, p.tokens = tokens, p.store = t.store;
    p.y_stride = t.store == MatmulStore::GateUp ? t.rows / 2 : t.rows, p.width = t.rows / 2;
    MUST(cudaDeviceSynchronize());
    uint32_t used = 0;
    const double ours0 = rate(p, weights, 0, &used), theirs0 = ceilings.gemm(tokens, t.rows, t.cols);
    const double ours1 = rate(p, weights, 0, &used), theirs1 = ceilings.gemm(tokens, t.rows, t.cols);
    std::printf("%-16s %5ux%-5u %5u tokens, %3u a block: %5.0f %5.0f TFLOP/s, cuBLASLt %5.0f %5.0f, %5.1f %%", t.what, t.rows, t.cols,
                tokens, used, ours0, ours1, theirs0, theirs1, 100 * (ours0 + ours1) / (theirs0 + theirs1));
    if (blocks)
        for (const uint32_t n : {128u, 192u, 256u}) std::printf("  %u: %.0f", n, rate(p, weights, n, &used));
    std::printf("\n");
    std::fflush(stdout);
    for (Packed* w : weights) delete w;
}

// Milliseconds of a product our way, and of cuBLASLt's after its weights have been written out; ours before and after. cuBLASLt stores bf16 and
// neither adds nor applies an activation, as a session would have to: what it is given for nothing here.
void time_dequantised(const Timed& t, bench::Ceilings& ceilings) {
    std::vector<Packed*> weights;
    for (uint64_t bytes = 0; bytes < 160u << 20 || weights.size() < 2; bytes += uint64_t{t.rows} * t.cols / 2)
        weights.push_back(new Packed(t.rows, t.cols, 128, false, 2 * weights.size()));
    Device<uint16_t> halves(uint64_t{t.rows} * t.cols);
    cudaEvent_t begin, end;
    MUST(cudaEventCreate(&begin));
    MUST(cudaEventCreate(&end));
    constexpr uint32_t kRuns = 100;
    for (uint32_t i = 0; i < kRuns * 2; i++) {
        if (i == kRuns) MUST(cudaEventRecord(begin, g_stream));
        enqueue_dequantise(weights[i % weights.size()]->m, halves.data);
    }
    MUST(cudaEventRecord(end, g_stream));
    MUST(cudaEventSynchronize(end));
    float ms = 0;
    MUST(cudaEventElapsedTime(&ms, begin, end));
    const double written_out = ms / kRuns;
    std::printf("%-16s %5ux%-5u written out in %.3f ms, %.0f GB/s\n", t.what, t.rows, t.cols, written_out, t.rows * 2.5e-6 * t.cols / written_out);
    for (const uint32_t tokens : {128u, 512u, 1920u, 2048u, 4096u, 8192u}) {
        Device<uint16_t> x(uint64_t{tokens} * t.cols);
        random_halves<<<1024, 256>>>(x.data, x.size, t.cols, t.cols, 5, false);
        Device<float> y(uint64_t{tokens} * t.rows);
        y.fill(0);
        MatmulParams p{};
        p.matrix = weights[0]->m;
        p.x = x.data, p.y = y.data, p.x_stride = t.cols, p.tokens = tokens, p.store = t.store;
        p.y_stride = t.store == MatmulStore::GateUp ? t.rows / 2 : t.rows, p.width = t.rows / 2;
        MUST(cudaDeviceSynchronize());
        uint32_t used = 0;
        const double first = rate(p, weights, 0, &used), theirs = ceilings.gemm(tokens, t.rows, t.cols), second = rate(p, weights, 0, &used);
        const double gflop = 2e-9 * tokens * t.rows * t.cols, ours_ms = gflop / ((first + second) / 2), theirs_ms = gflop / theirs + written_out;
        std::printf("  %4u tokens: ours %.3f ms, cuBLASLt %.3f + %.3f = %.3f ms: ours takes %5.1f %% of it\n", tokens, ours_ms, gflop / theirs,
                    written_out, theirs_ms, 100 * ours_ms / theirs_ms);
        std::fflush(stdout);
    }
    for (Packed* w : weights) delete w;
}

void time_all(const char* what, const char* cublaslt) {
    const bool blocks = !std::strcmp(what, "--time-blocks");
    cudaDeviceProp properties;
    MUST(cudaGetDeviceProperties(&properties, 0));
    bench::Ceilings ceilings(reinterpret_cast<const uint8_t*>(&properties.uuid), cublaslt);
    if (!ceilings.problem().empty()) std::printf("%s\n", ceilings.problem().c_str());
    constexpr auto kHalf = MatmulStore::Half, kAdd = MatmulStore::Add, kGateUp = MatmulStore::GateUp;
    const Timed of_33b[] = {{"33b qkv", 19968, 6656, kHalf},
                            {"33b o", 6656, 6656, kAdd},
                            {"33b gate and up", 35840, 6656, kGateUp},
                            {"33b down", 6656, 17920, kAdd}};
    const Timed of_8b[] = {{"8b qkv", 6144, 4096, kHalf},
                           {"8b o", 4096, 4096, kAdd},
                           {"8b gate and up", 28672, 4096, kGateUp},
                           {"8b down", 4096, 14336, kAdd}};
    if (!std::strcmp(what, "--time-dequantised")) {
        for (const Timed& t : of_33b) time_dequantised(t, ceilings);
        for (const Timed& t : of_8b) time_dequantised(t, ceilings);
        return;
    }
    for (const Timed& t : {Timed{"group 32, zeros", 6656, 17920, kAdd}, Timed{"group 32, zeros", 35840, 6656, kGateUp}})
        time(t, 1920, blocks, ceilings, 32, true);
    time({"F16", 6656, 17920, kAdd}, 1920, blocks, ceilings, kHalves);
    for (const uint32_t tokens : {1920u, 512u})
        for (const Timed& t : of_33b) time(t, tokens, blocks, ceilings);
    for (const uint32_t tokens : {2048u, 512u})
        for (const Timed& t : of_8b) time(t, tokens, blocks, ceilings);
}

}  // namespace
}  // namespace pith::cuda

int main(int count, char** arguments) {
    using namespace pith::cuda;
    int device = 0, major = 0, processors = 0;
    if (!test::has_gpu()) return 77;
    MUST(cudaGetDevice(&device));
    MUST(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    MUST(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
    if (major != 9) return 77;
    g_processors = static_cast<uint32_t>(processors);
    MUST(cudaStreamCreateWithFlags(&g_stream, cudaStreamNonBlocking));
    if (count > 1 && !std::strncmp(arguments[1], "--time", 6)) {
        time_all(arguments[1], count > 2 ? arguments[2] : "");
        return 0;
    }
    constexpr auto kHalf = MatmulStore::Half, kFloat = MatmulStore::Float, kAdd = MatmulStore::Add, kGateUp = MatmulStore::GateUp;
    const Case cases[] = {
        {65, 136, 512, 64, false, kHalf},
        {65, 136, 512, 64, false, kFloat, false, 128},
        {127, 520, 512, 128, false, kFloat},
        {127, 520, 512, 128, true, kAdd},
        {200, 520, 72, 0, false, kFloat},
        {200, 136, 72, 0, true, kHalf, true},
        {200, 528, 512, 64, true, kGateUp},
        {200, 1040, 512, 64, true, kGateUp, true, 192},
        {1000, 520, 11008, 128, true, kFloat},
        {1000, 136, 11008, 0, false, kAdd, true},
        {1000, 6656, 512, 128, false, kHalf, true},
        {1920, 6656, 512, 128, false, kAdd},
        {1920, 6656, 512, 64, true, kGateUp},
        {1920, 6656, 512, 64, false, kGateUp, true},
        {1000, 520, 576, 192, true, kFloat, false, 128},
        {1000, 520, 576, 192, true, kFloat, false, 192},
        {1000, 520, 576, 192, true, kFloat, false, 256},
        {1920, 520, 11008, 128, false, kHalf},
        {1920, 2000, 11008, 0, true, kHalf, true},
        {200, 520, 72, 32, false, kFloat},
        {300, 520, 576, 32, true, kFloat, false, 128},
        {300, 520, 576, 32, true, kAdd, true, 192},
        {300, 520, 576, 32, true, kFloat, false, 256},
        {1000, 528, 11008, 32, true, kGateUp},
        {300, 520, 480, 96, true, kFloat},
        {65, 136, 72, kHalves, false, kFloat},
        {300, 520, 576, kHalves, false, kFloat, false, 128},
        {300, 520, 576, kHalves, false, kAdd, true, 192},
        {300, 520, 576, kHalves, false, kFloat, false, 256},
        {1000, 528, 11008, kHalves, false, kGateUp, true},
    };
    uint64_t seed = 1;
    for (const Case& c : cases) {
        check(c, seed++);
        std::fflush(stdout);
    }
    for (const bool zeros : {false, true}) {
        check_dequantised(136, 512, 64, zeros);
        check_dequantised(131, 72, 32, zeros);
        check_dequantised(520, 11008, 0, zeros);
    }
    for (const uint32_t width : {8u, 71u, 1000u, 17920u}) {
        check_reorder(65, width, 227u << 10);
        check_reorder(66, width, 48u << 10);
    }
    g_failures += test::g_frames_broken;
    std::printf(g_failures ? "%d FAILED\n" : "all passed\n", g_failures);
    return g_failures != 0;
}
