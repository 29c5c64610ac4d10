// The decode kernel against a float64 evaluation of random models, run-to-run
// equality, and (--time) its speed beside a pure read.
#include "../../cuda/kernels/decode.cu"

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

using namespace pith::cuda;

static void check(cudaError_t e, int line) {
    if (e == cudaSuccess) return;
    std::printf("FAIL line %d: %s\n", line, cudaGetErrorString(e));
    std::exit(1);
}
#define CHECK(x) check((x), __LINE__)

static std::mt19937 rng(7);
static float uniform(float a, float b) { return a + (b - a) * static_cast<float>(rng() % 65536) / 65535.0f; }
static float rounded(float v) { return __half2float(__float2half_rn(v)); }
static uint16_t bits(float v) { return __half_as_ushort(__float2half_rn(v)); }

static std::vector<void*> allocations;
template <typename T>
static T* upload(const std::vector<T>& v) {
    void* p = nullptr;
    CHECK(cudaMalloc(&p, (v.size() * sizeof(T) + 1023) / 1024 * 1024));
    CHECK(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
    allocations.push_back(p);
    return static_cast<T*>(p);
}
static void release() {
    for (void* p : allocations) CHECK(cudaFree(p));
    allocations.clear();
}

#include "decode_model.h"

// ---- the checks
// --------------------------------------------------------------------------------------------------------------------------

struct Variant {
    const char* name;
    uint32_t sms, shared, warps;  // 0: the device's
};

static int device_sms, device_shared;

static bool plan(DecodeParams& p, const std::vector<DecodeLayer>& layers, const Variant& v) {
    return decode_plan(&p, layers.data(), v.sms ? v.sms : device_sms, v.shared ? v.shared : device_shared, v.warps);
}

static void launch(const DecodeParams& p, cudaStream_t stream = nullptr) {
    const void* kernel = reinterpret_cast<const void*>(p.head_rows == 8 ? &pith_decode_grouped : &pith_decode);
    CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, p.shared_bytes));
    void* args[] = {const_cast<DecodeParams*>(&p)};
    CHECK(cudaLaunchCooperativeKernel(kernel, dim3(p.grid), dim3(p.threads), args, p.shared_bytes, stream));
}

static bool run_case(const Shape& shape, const Variant& variant) {
    rng.seed(11);
    auto model = make_model(shape);
    Model& m = *model;
    if (!plan(m.p, m.device_layers, variant)) {
        std::printf("FAIL %s/%s: no plan\n", shape.name, variant.name);
        release();
        return false;
    }
    m.p.workspace = upload(std::vector<uint8_t>(m.p.workspace_bytes));
    double worst = 0;
    bool equal = true;
    for (uint32_t step = 0; step < shape.steps; step++) {
        const uint32_t at[2] = {static_cast<uint32_t>(rng() % shape.vocab), shape.first + step};
        CHECK(cudaMemcpy(m.at, at, 8, cudaMemcpyHostToDevice));
        std::vector<float> a(shape.vocab), b(shape.vocab);
        for (int run = 0; run < 2; run++) {
            CHECK(cudaMemset(m.p.logits, 0xff, shape.vocab * 4));
            launch(m.p);
            CHECK(cudaDeviceSynchronize());
            CHECK(cudaMemcpy(run ? b.data() : a.data(), m.p.logits, shape.vocab * 4, cudaMemcpyDeviceToHost));
        }
        equal = equal && !std::memcmp(a.data(), b.data(), shape.vocab * 4);
        const Vector want = reference(m, at[0], at[1]);
        double error = 0, size = 0;
        for (uint32_t i = 0; i < shape.vocab; i++) error += (a[i] - want[i]) * (a[i] - want[i]), size += want[i] * want[i];
        error = std::sqrt(error / size);
        if (!(error <= worst)) worst = error;
    }
    double cache_worst = 0;
    for (uint32_t l = 0; l < shape.layers; l++) {
        const HostLayer& h = m.layers[l];
        std::vector<uint16_t> k(h.keys.size()), v(h.keys.size());
        CHECK(cudaMemcpy(k.data(), m.device_layers[l].keys, k.size() * 2, cudaMemcpyDeviceToHost));
        CHECK(cudaMemcpy(v.data(), m.device_layers[l].values, v.size() * 2, cudaMemcpyDeviceToHost));
        for (size_t i = 0; i < k.size(); i++) {
            const double a = std::abs(__half2float(__ushort_as_half(k[i])) - h.keys[i]),
                         b = std::abs(__half2float(__ushort_as_half(v[i])) - h.values[i]);
            if (!(std::max(a, b) <= cache_worst)) cache_worst = std::max(a, b);
        }
    }
    const bool ok = worst < 2e-3 && cache_worst < 0.03 && equal;
    std::printf("%s %s/%s logits %.2e cache %.1e%s (%u stages of %u)\n", ok ? "ok" : "FAIL", shape.name, variant.name, worst, cache_worst,
                equal ? "" : " NOT EQUAL twice", m.p.stages, m.p.stage_bytes);
    release();
    return ok;
}

static Kind q4(uint32_t group, bool asymmetric = false, bool act_order = false, bool bias = false, uint32_t zero_offset = 0) {
    Kind k;
    k.group = group, k.asymmetric = asymmetric, k.act_order = act_order, k.bias = bias, k.zero_offset = zero_offset;
    return k;
}
static Kind dense(bool bias = false, bool row_scale = false, bool act_order = false) {
    Kind k;
    k.dense = true, k.bias = bias, k.row_scale = row_scale, k.act_order = act_order;
    return k;
}

static int test() {
    const Shape shapes[] = {
        {"tiny g32", 64, 4, 4, 16, 96, 131, 2, 0, q4(32), q4(32), q4(32), q4(32), dense(), 0, 0, 0, false, false, 4},
        {"small asym",
         64,
         4,
         2,
         16,
         96,
         131,
         2,
         0,
         q4(32, true, false, false, 1),
         q4(32, true),
         q4(32, true, true, false, 1),
         q4(32, true, true, false, 1),
         dense(),
         3,
         0,
         0,
         false,
         false,
         4},
        {"small asym g64",
         128,
         4,
         2,
         32,
         160,
         131,
         2,
         0,
         q4(64, true, false, false, 1),
         q4(64, true),
         q4(64, true),
         q4(32, true, false, false, 1),
         dense(),
         48,
         0,
         0,
         false,
         false,
         4},
        {"g64 asym act-order bias window",
         256,
         8,
         2,
         32,
         648,
         500,
         3,
         13,
         q4(64, true, true, true),
         q4(64, true, true, true, 1),
         q4(64, true, true, true),
         q4(64, true, true, true),
         q4(64, true, true, true, 1),
         40,
         1,
         0,
         false,
         true,
         3},
        {"g128 d128 split heads",
         512,
         4,
         4,
         128,
         1376,
         1000,
         2,
         0,
         q4(128),
         q4(128),
         q4(128),
         q4(128),
         q4(128),
         700,
         2,
         0,
         false,
         false,
         3},
        {"whole row, apart", 320,         5,       5,   64, 880, 300,  2,     0, q4(0, true, true), q4(0),
         q4(0, false, true), q4(0, true), dense(), 130, 1,  1,   true, false, 2},
        {"slices", 576, 16, 4, 128, 4200, 300, 2, 0, q4(128), q4(128), q4(128), q4(128), q4(128), 30, 0, 0, false, false, 2},
        {"slices g32 asym act-order", 1088,         8,  8, 256, 4160,  131,   2, 0, q4(32, true), q4(32, true, true), q4(32, true, true),
         q4(32, true, true),          q4(32, true), 30, 0, 0,   false, false, 2},
        {"slices g64 asym, dense",
         320,
         33,
         1,
         64,
         4104,
         131,
         2,
         0,
         q4(64, true),
         q4(64, true),
         q4(64, true),
         dense(),
         q4(32, true),
         30,
         0,
         0,
         false,
         false,
         2},
        {"7 heads of 80, g128 asym",
         560,
         7,
         1,
         80,
         1208,
         333,
         2,
         50,
         q4(128, true),
         q4(128, true),
         q4(128, true),
         q4(128, true),
         dense(true),
         300,
         3,
         2,
         false,
         false,
         2},
        {"d256, g96",        288,          4,  2, 256, 776,   211,   2, 0, q4(96, true), q4(96), q4(96, true),
         q4(96, true, true), q4(96, true), 90, 2, 0,   false, false, 2},
        {"20 heads on 1", 512, 20, 1, 64, 512, 100, 2, 0, q4(32, true), q4(256), q4(64), q4(512, true), q4(32), 200, 1, 0, false, false, 2},
        {"dense, row scales",
         72,
         3,
         1,
         24,
         100,
         131,
         2,
         0,
         dense(true, true),
         dense(false, true),
         dense(true, true),
         dense(false, true),
         dense(true, true),
         5,
         0,
         0,
         false,
         true,
         2},
        {"dense apart, mixed", 136,    4,  2, 40, 200,  160,   3, 7, dense(false, false, true), q4(32), dense(),
         q4(128, false, true), q4(64), 20, 1, 1,  true, false, 3},
    };
    const Variant variants[] = {{"normal", 0, 0, 15},
                                {"12 warps", 0, 0, 12},
                                {"8 warps", 0, 0, 8},
                                {"small", 0, 48 * 1024, 15},
                                {"7 blocks, 64 KB", 7, 64 * 1024, 8}};
    int failed = 0;
    for (const Shape& s : shapes)
        for (const Variant& v : variants) failed += !run_case(s, v);
    return failed ? 1 : 0;
}

#include "decode_time.h"

int main(int argc, char** argv) {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || !count) {
        std::printf("skipped: no GPU\n");
        return 77;
    }
    setvbuf(stdout, nullptr, _IOLBF, 0);
    CHECK(cudaDeviceGetAttribute(&device_sms, cudaDevAttrMultiProcessorCount, 0));
    CHECK(cudaDeviceGetAttribute(&device_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    if (argc > 1 && !std::strcmp(argv[1], "--time")) return time_models(argc - 2, argv + 2);
    return test();
}
