// Attention kernels against a double reference, bit equality from run to run; with --time how fast they are.
#include <cudaTypedefs.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/attention.cu"
#if PITH_TEST_SM90
#    include "kernels/attention_sm90.cu"
#endif
#include "check.h"
#include "layout.h"

namespace {

using namespace pith::cuda;
using namespace pith::cuda::test;

struct Kernel {
    uint32_t rows, width;
    bool small;
    void (*run)(AttentionParams);
};
#define WIDTH(width, suffix, small)                                                                             \
    {16, width, small, attention_rows16_##width##suffix}, {32, width, small, attention_rows32_##width##suffix}, \
        {64, width, small, attention_rows64_##width##suffix}, {                                                 \
        128, width, small, attention_rows128_##width##suffix                                                    \
    }
const Kernel kKernels[] = {WIDTH(64, , false),  WIDTH(80, , false),       WIDTH(96, , false),      WIDTH(128, , false),
                           WIDTH(256, , false), WIDTH(128, _small, true), WIDTH(256, _small, true)};

cudaStream_t g_stream;
Random random_values;

void launch(const AttentionPlan& plan, const AttentionParams& params) {
    for (const Kernel& k : kKernels) {
        if (k.rows != plan.rows || k.width != plan.width || k.small != (plan.small != 0)) continue;
        test::launch(k.run, dim3(plan.grid_x, plan.grid_y), plan.threads, plan.shared, g_stream, params);
        if (plan.splits > 1) test::launch(attention_combine, dim3(plan.combine_grid), plan.combine_threads, 0, g_stream, params);
        return;
    }
    std::printf("FAIL no kernel for rows %u width %u\n", plan.rows, plan.width);
    std::exit(1);
}

#if PITH_TEST_SM90
TensorMap tensor_map(const void* data, uint32_t head_dim, uint64_t rows) {
    static PFN_cuTensorMapEncodeTiled_v12000 encode = nullptr;
    cudaDriverEntryPointQueryResult found;
    if (!encode)
        MUST(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", reinterpret_cast<void**>(&encode), 12000, cudaEnableDefault,
                                              &found));
    const WideAttentionMap m = wide_attention_map(head_dim, rows);
    const uint32_t ones[2] = {1, 1};
    TensorMap map;
    const CUresult status = encode(reinterpret_cast<CUtensorMap*>(&map), CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2, const_cast<void*>(data),
                                   m.dims, &m.stride, m.box, ones, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                   CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (status != CUDA_SUCCESS) {
        std::printf("FAIL cuTensorMapEncodeTiled: %d\n", static_cast<int>(status));
        std::exit(1);
    }
    return map;
}

// The sm_90a kernel; p.k and p.v hold `layers` layers, of which the last is meant.
void launch_wide(const AttentionPlan& plan, const AttentionParams& params, uint32_t layers) {
    const uint64_t rows = uint64_t{layers} * params.kv_heads * params.capacity;
    WideAttentionParams p{tensor_map(params.k, params.head_dim, rows),
                          tensor_map(params.v, params.head_dim, rows),
                          params,
                          (layers - 1) * params.kv_heads * params.capacity,
                          {}};
    const auto run = plan.width == 64 ? attention_wide_64 : attention_wide_128;
    test::launch(run, dim3(plan.grid_x), plan.threads, plan.shared, g_stream, p);
}
#else
void launch_wide(const AttentionPlan&, const AttentionParams&, uint32_t) {}
#endif

struct Case {
    uint32_t tokens, first, heads, kv_heads, head_dim, window;
    bool permuted = false, small = false;
    uint32_t splits = 0;  // 0: the plan's
    uint32_t rows = 0;    // 0: the plan's
    uint32_t count = 0;   // 0: all tokens
    bool wide = false;    // sm_90a
};

int g_failures = 0;
int g_multiprocessors = 132;
bool g_wide = false;  // the device runs sm_90a code

// The plan with other rows or splits than its own choice.
AttentionPlan plan_of(const Case& c, uint32_t positions) {
    if (c.wide) return wide_attention_plan(c.tokens, c.heads, c.kv_heads, c.head_dim);
    AttentionPlan plan = attention_plan(c.tokens, c.heads, c.kv_heads, c.head_dim, positions, g_multiprocessors, c.small);
    if (c.rows) plan.rows = c.rows;
    if (c.splits || c.rows == 128) plan.splits = std::max(1u, c.splits);
    attention_finish_plan(plan, c.tokens, c.heads, c.kv_heads);
    return plan;
}

// The largest relative error of a row among some rows.
double worst_row(const Case& c, const std::vector<uint16_t>& q, const std::vector<uint16_t>& k, const std::vector<uint16_t>& v,
                 const std::vector<uint32_t>& inverse, const std::vector<uint16_t>& out, uint32_t capacity, uint32_t stride) {
    const uint32_t group = c.heads / c.kv_heads, d = c.head_dim, tokens = c.count ? c.count : c.tokens, all = tokens * c.heads;
    const uint32_t step = std::max(1u, all / 150 | 1);  // odd: other heads each time
    static std::vector<float> table;                    // of all halves
    for (uint32_t bits = static_cast<uint32_t>(table.size()); bits < 65536; bits++) table.push_back(to_float(static_cast<uint16_t>(bits)));
    double worst = 0;
    for (uint32_t at = 0; at < all; at += step) {
        const uint32_t t = at / c.heads, h = at % c.heads, position = c.first + t;
        const uint32_t begin = c.window && position + 1 > c.window ? position + 1 - c.window : 0;
        const uint16_t *head_k = &k[uint64_t{h / group} * capacity * d], *head_v = &v[uint64_t{h / group} * capacity * d];
        std::vector<double> weight(position + 1), sum(d);
        double max = -1e300, total = 0;
        for (uint32_t j = begin; j <= position; j++) {
            double dot = 0;
            for (uint32_t i = 0; i < d; i++)
                dot += static_cast<double>(table[q[(uint64_t{t} * c.heads + h) * d + i]]) * table[head_k[uint64_t{j} * d + i]];
            weight[j] = dot / std::sqrt(static_cast<double>(d));
            max = std::max(max, weight[j]);
        }
        for (uint32_t j = begin; j <= position; j++) {
            const double w = std::exp(weight[j] - max);
            total += w;
            for (uint32_t i = 0; i < d; i++) sum[i] += w * table[head_v[uint64_t{j} * d + i]];
        }
        double error = 0, size = 0;
        for (uint32_t i = 0; i < d; i++) {
            const double want = sum[i] / total, got = to_float(out[uint64_t{t} * stride + inverse[h * d + i]]);
            error += (want - got) * (want - got);
            size += want * want;
        }
        const double relative = std::sqrt(error / size);
        if (!(relative <= worst)) worst = relative;  // NaN too
    }
    return worst;
}

void test(const Case& c) {
    const uint32_t d = c.head_dim, width = c.heads * d, stride = (width + 63) / 64 * 64, length = c.first + c.tokens;
    const uint32_t capacity = (length + kKvBlock - 1) / kKvBlock * kKvBlock;
    std::vector<uint16_t> q(uint64_t{c.tokens} * width), k(uint64_t{c.kv_heads} * capacity * d), v(k.size());
    for (auto& x : q) x = to_bits(random_values.normal());
    for (size_t i = 0; i < k.size(); i++) {
        const bool written = i / d % capacity < length;  // what lies after the end is finite, no more
        k[i] = to_bits(written ? random_values.normal() : 60000.0f);
        v[i] = to_bits(written ? random_values.normal() : 60000.0f);
    }
    std::vector<uint32_t> inverse(width);
    for (uint32_t i = 0; i < width; i++) inverse[i] = i;
    if (c.permuted)
        for (uint32_t i = width; i-- > 1;) std::swap(inverse[i], inverse[random_values.next() % (i + 1)]);
    const AttentionPlan plan = plan_of(c, length);
    Device<uint16_t> dq(q), dk(k), dv(v), out(uint64_t{c.tokens} * stride);
    Device<uint32_t> di(inverse), first(std::vector<uint32_t>{c.first, c.count ? c.count : c.tokens});
    Device<float> partial(plan.partial_bytes / 4);
    AttentionParams p{};
    p.q = dq.data, p.k = dk.data, p.v = dv.data, p.out = out.data, p.inverse = c.permuted ? di.data : nullptr;
    p.first = first.data, p.count = c.count ? first.data + 1 : nullptr;
    p.partial = partial.data;
    p.q_stride = width, p.out_stride = stride, p.heads = c.heads, p.kv_heads = c.kv_heads, p.head_dim = d, p.capacity = capacity;
    p.tokens = c.tokens, p.window = c.window, p.rows = plan.rows, p.keys = plan.keys, p.width = plan.width, p.splits = plan.splits,
    p.tiles = plan.tiles;
    p.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(d)));
    std::vector<uint16_t> results[3];
    for (auto& result : results) {
        out.fill(0xff);
        partial.fill(0xff);
        if (c.wide) {
            launch_wide(plan, p, 1);
        } else {
            launch(plan, p);
        }
        MUST(cudaDeviceSynchronize());
        result = out.host();
    }
    bool padding = true, repeats = results[0] == results[1] && results[0] == results[2];
    const uint32_t tokens = c.count ? c.count : c.tokens;
    for (uint32_t t = 0; t < c.tokens; t++)
        for (uint32_t i = t < tokens ? width : 0; i < stride; i++)
            padding &= results[0][uint64_t{t} * stride + i] == (t < tokens ? 0 : 0xffff);
    const double error = worst_row(c, q, k, v, inverse, results[0], capacity, stride);
    const bool ok = error < 1.5e-3 && padding && repeats;
    g_failures += !ok;
    std::printf("%s attention d %u heads %u/%u tokens %u(%u) first %u window %u%s%s: rows %u splits %u error %.2e%s%s\n",
                ok ? "ok" : "FAIL", d, c.heads, c.kv_heads, c.tokens, tokens, c.first, c.window, c.permuted ? " permuted" : "",
                plan.small ? " small"
                : c.wide   ? " wgmma"
                           : "",
                plan.rows, plan.splits, error, padding ? "" : " PADDING", repeats ? "" : " DIFFERS");
}

// One case of each kind: for sanitizers, under which the rest takes too long.
void test_few() {
    test({2, 77, 4, 2, 40, 0, true});
    test({9, 200, 8, 2, 128, 37, false, true});
    test({33, 100, 8, 2, 80, 0, true});
    test({70, 33, 4, 1, 128, 50, false, false, 1, 128});
    test({5, 100, 4, 4, 256, 0});
    if (!g_wide) return;
    for (const uint32_t d : {64u, 96u}) test({70, 133, 4, 2, d, 100, true, false, 0, 0, 0, true});
}

void test_all() {
    for (const uint32_t d : {16u, 24u, 40u, 64u, 80u, 96u, 128u, 256u}) {
        for (const bool small : {false, true}) {
            if (small && d < 100) continue;
            test({1, 0, 4, 4, d, 0, false, small});
            test({2, 77, 4, 2, d, 0, true, small});
            test({5, 1000, 7, 1, d, 0, false, small});
            test({17, 300, 4, 4, d, 100, false, small});
            test({33, 500, 8, 2, d, 0, true, small});
            test({64, 129, 8, 2, d, 37, false, small});
            test({300, 0, 4, 4, d, 0, false, small, 0, 64});
            test({300, 0, 4, 4, d, 0, true, small, 0, 128});
            test({299, 411, 14, 2, d, 0, false, small, 1, 128});
            test({131, 33, 4, 1, d, 50, false, small, 1, 128});
            test({131, 200, 4, 1, d, 0, false, small, 3, 64});
            test({9, 200, 8, 8, d, 0, false, small, 5, 16, 7});
            test({40, 200, 4, 4, d, 0, false, small, 4, 64, 1});
        }
    }
    for (const uint32_t d : {16u, 40u, 64u, 80u, 96u, 128u}) {
        if (!g_wide || d > 128) continue;
        const auto wide = [&](Case c) {
            c.wide = true;
            test(c);
        };
        wide({1, 0, 4, 4, d, 0});
        wide({2, 777, 4, 2, d, 0, true});
        wide({130, 0, 4, 4, d, 0});
        wide({300, 0, 7, 1, d, 0});
        wide({300, 133, 8, 2, d, 0, true});
        wide({299, 711, 14, 2, d, 100, true});
        wide({131, 33, 4, 1, d, 50});
        wide({600, 1000, 4, 4, d, 300, false, false, 0, 0, 555});
    }
    if (g_wide) test({1500, 0, 52, 52, 128, 0, false, false, 0, 0, 0, true});
    test({2, 16000, 32, 8, 128, 0});
    test({16, 16000, 32, 8, 128, 4096});
    test({64, 16000, 32, 8, 128, 0});
    test({1024, 1000, 8, 2, 128, 0});
    test({300, 3, 52, 52, 128, 0});
}

// ---- times
// -------------------------------------------------------------------------------------------------------------------------------

struct Shape {
    const char* name;
    uint32_t tokens, first, heads, kv_heads, head_dim;
};

void time_one(const Shape& s, bool small, uint32_t splits, uint32_t rows, bool wide = false) {
    const uint32_t d = s.head_dim, width = s.heads * d, length = s.first + s.tokens, capacity = (length + 63) / 64 * 64;
    // A step's launch serves every length of a bucket.
    Case c{s.tokens, s.first, s.heads, s.kv_heads, d, 0, false, small, splits, rows, 0, wide};
    const AttentionPlan plan = plan_of(c, std::max(length, 2048u));
    const uint64_t kv = uint64_t{s.kv_heads} * capacity * d, bytes = kv * 4 + uint64_t{s.tokens} * width * 4;
    const uint32_t copies = static_cast<uint32_t>(std::min<uint64_t>(200000000 / bytes + 1, 64));
    std::vector<uint16_t> noise(1 << 20);
    for (auto& x : noise) x = to_bits(random_values.normal());
    Device<uint16_t> q(uint64_t{s.tokens} * width * copies), k(kv * copies), v(kv * copies), out(q.size);
    for (auto* at : {&q, &k, &v})
        for (uint64_t i = 0; i < at->size; i += noise.size())
            MUST(cudaMemcpy(at->data + i, noise.data(), std::min<uint64_t>(noise.size(), at->size - i) * 2, cudaMemcpyHostToDevice));
    Device<uint32_t> first(std::vector<uint32_t>{s.first});
    Device<float> partial(plan.partial_bytes / 4);
    AttentionParams p{};
    p.first = first.data, p.partial = partial.data, p.q_stride = p.out_stride = width;
    p.heads = s.heads, p.kv_heads = s.kv_heads, p.head_dim = d, p.capacity = capacity, p.tokens = s.tokens, p.rows = plan.rows,
    p.keys = plan.keys, p.width = plan.width, p.splits = plan.splits, p.tiles = plan.tiles;
    p.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(d)));
    const double flops = 4.0 * width * (static_cast<double>(s.tokens) * s.first + static_cast<double>(s.tokens) * (s.tokens + 1) / 2);
    const uint32_t launches = static_cast<uint32_t>(std::max(2.0, std::min(64.0, 3e12 / flops * 0.4)));
    const double seconds = 1e-6 * graph_time(g_stream, launches, 7, [&](uint32_t i) {
                               const uint64_t copy = i % copies;
                               p.q = q.data + copy * s.tokens * width, p.out = out.data + copy * s.tokens * width, p.k = k.data + copy * kv,
                               p.v = v.data + copy * kv;
                               if (wide) {
                                   launch_wide(plan, p, 1);
                               } else {
                                   launch(plan, p);
                               }
                           });
    const double read = static_cast<double>(s.kv_heads) * length * d * 4;
    std::printf("%-4s tokens %5u after %5u heads %u/%u d %u%s rows %3u splits %2u: %9.2f us %6.1f TFLOP/s %7.1f GB/s\n", s.name, s.tokens,
                s.first, s.heads, s.kv_heads, d,
                plan.small ? " small"
                : wide     ? " wgmma"
                           : "",
                plan.rows, plan.splits, seconds * 1e6, flops / seconds / 1e12, read / seconds / 1e9);
}

void time_all() {
    if (g_wide) {
        time_one({"33b", 1920, 0, 52, 52, 128}, false, 0, 0, true);
        time_one({"8b", 8192, 0, 32, 8, 128}, false, 0, 0, true);
        time_one({"0.5b", 4096, 0, 14, 2, 64}, false, 0, 0, true);
        time_one({"", 4096, 0, 16, 8, 96}, false, 0, 0, true);
    }
    time_one({"", 4096, 0, 16, 8, 96}, false, 0, 0);
    for (const bool small : {false, true}) {
        for (const uint32_t rows : {64u, 128u}) {
            time_one({"33b", 1920, 0, 52, 52, 128}, small, 0, rows);
            time_one({"8b", 8192, 0, 32, 8, 128}, small, 0, rows);
        }
    }
    time_one({"0.5b", 4096, 0, 14, 2, 64}, false, 0, 0);
    time_one({"", 2048, 0, 16, 8, 256}, false, 0, 0);
    for (const uint32_t tokens : {2u, 4u, 8u, 16u, 32u, 64u}) {
        for (const uint32_t cached : {0u, 1920u, 16384u}) {
            time_one({"8b", tokens, cached, 32, 8, 128}, false, 0, 0);
            time_one({"33b", tokens, cached, 52, 52, 128}, false, 0, 0);
        }
    }
}

// What the plan's choices rest on.
void time_choices() {
    for (const uint32_t tokens : {2u, 8u, 16u, 32u, 64u})
        for (const uint32_t splits : {4u, 8u, 12u, 16u, 24u, 32u}) time_one({"8b", tokens, 1920, 32, 8, 128}, false, splits, 0);
    for (const uint32_t tokens : {8u, 32u, 64u})
        for (const uint32_t splits : {1u, 2u, 3u, 5u, 7u}) time_one({"33b", tokens, 1920, 52, 52, 128}, false, splits, 0);
    for (const uint32_t tokens : {2u, 8u, 16u, 32u, 64u})
        for (const uint32_t splits : {4u, 8u, 12u, 16u, 24u, 33u}) time_one({"8b", tokens, 16384, 32, 8, 128}, false, splits, 0);
}

}  // namespace

int main(int argc, char** argv) {
    if (!has_gpu()) return 77;
    MUST(cudaDeviceGetAttribute(&g_multiprocessors, cudaDevAttrMultiProcessorCount, 0));
    MUST(cudaStreamCreate(&g_stream));
#if PITH_TEST_SM90
    int major = 0;
    MUST(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
    g_wide = major == 9;
#endif
    if (argc > 1 && std::strcmp(argv[1], "--time") == 0) {
        time_all();
        return 0;
    }
    if (argc > 1 && std::strcmp(argv[1], "--choices") == 0) {
        time_choices();
        return 0;
    }
    if (argc > 1 && std::strcmp(argv[1], "--few") == 0) {
        test_few();
    } else {
        test_all();
    }
    std::printf("%d failed\n", g_failures + g_frames_broken);
    return g_failures + g_frames_broken != 0;
}
