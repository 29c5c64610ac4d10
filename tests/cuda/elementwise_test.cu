// Embedding, norms, rope with the cache's writes and SiLU against a double reference; with --time how fast they are.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "check.h"
#include "kernels/elementwise.cu"

namespace {

using namespace pith::cuda;
using namespace pith::cuda::test;

cudaStream_t g_stream;
Random random_values;

template <class Params>
void launch(void (*kernel)(Params), LaunchShape shape, const Params& params) {
    test::launch(kernel, dim3(shape.grid_x, shape.grid_y), shape.threads, shape.shared, g_stream, params);
}

int g_failures = 0;
void report(bool ok, const char* what, uint32_t a, uint32_t b, uint32_t c, double error) {
    g_failures += !ok;
    std::printf("%s %s %u %u %u error %.2e\n", ok ? "ok" : "FAIL", what, a, b, c, error);
}

std::vector<uint32_t> permutation(uint32_t n, bool shuffled) {
    std::vector<uint32_t> p(n);
    for (uint32_t i = 0; i < n; i++) p[i] = i;
    if (shuffled)
        for (uint32_t i = n; i-- > 1;) std::swap(p[i], p[random_values.next() % (i + 1)]);
    return p;
}

// Distance in units of f16 rounding (of values below 2^-14 in units of the smallest step).
double half_error(double want, float got) {
    const double size = std::max(std::fabs(want), 6.2e-5);
    return std::fabs(want - got) / size * 2048;
}

void test_embed(uint32_t hidden, uint32_t tokens, bool scaled, bool mapped) {
    const uint32_t vocab = 131;
    std::vector<uint16_t> rows(uint64_t{vocab} * hidden);
    std::vector<float> scale(vocab);
    std::vector<int32_t> ids(tokens);
    for (auto& x : rows) x = to_bits(random_values.uniform());
    for (auto& x : scale) x = random_values.uniform() + 2;
    for (auto& x : ids) x = static_cast<int32_t>(random_values.next() % vocab);
    Device<uint16_t> drows(rows);
    Device<float> dscale(scale), x(uint64_t{tokens} * hidden);
    Device<int32_t> dids(ids);
    uint16_t *pinned = nullptr, *alias = nullptr;
    MUST(cudaHostAlloc(&pinned, rows.size() * 2, cudaHostAllocMapped));
    MUST(cudaHostGetDevicePointer(&alias, pinned, 0));
    std::memcpy(pinned, rows.data(), rows.size() * 2);
    x.fill(0xff);
    const EmbedParams p{dids.data, mapped ? alias : drows.data, scaled ? dscale.data : nullptr, x.data, nullptr, hidden, tokens};
    launch(embed_rows, embed_shape(p), p);
    MUST(cudaDeviceSynchronize());
    const auto got = x.host();
    bool ok = true;
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t i = 0; i < hidden; i++)
            ok &= got[uint64_t{t} * hidden + i] == to_float(rows[uint64_t(ids[t]) * hidden + i]) * (scaled ? scale[ids[t]] : 1.0f);
    cudaFreeHost(pinned);
    report(ok, mapped ? "embed mapped" : "embed", hidden, tokens, scaled, 0);
}

void test_norm(uint32_t hidden, uint32_t tokens, uint32_t rows, bool permuted, bool last) {
    const uint32_t stride = (hidden + 63) / 64 * 64;
    std::vector<float> x(uint64_t{tokens} * hidden), weight(hidden);
    for (auto& v : x) v = random_values.uniform() * 30;
    for (auto& v : weight) v = random_values.uniform() + 1;
    const auto inverse = permutation(hidden, permuted);
    Device<float> dx(x), dw(weight);
    Device<uint32_t> di(inverse), count(std::vector<uint32_t>{tokens});
    Device<uint16_t> out(uint64_t{rows} * stride);
    out.fill(0xff);
    const uint32_t first = last ? tokens - rows : (tokens - rows) / 2;
    const NormParams p{dx.data,
                       dw.data,
                       permuted ? di.data : nullptr,
                       out.data,
                       last ? count.data : nullptr,
                       hidden,
                       stride,
                       last ? tokens + 3 : tokens,
                       rows,
                       last ? 12345 : first,
                       last,
                       1e-5f,
                       0};
    launch(rms_norm_rows, norm_shape(p), p);
    MUST(cudaDeviceSynchronize());
    const auto got = out.host();
    double worst = 0;
    bool padding = true;
    for (uint32_t r = 0; r < rows; r++) {
        const float* row = &x[uint64_t{first + r} * hidden];
        double squares = 0;
        for (uint32_t i = 0; i < hidden; i++) squares += static_cast<double>(row[i]) * row[i];
        const double scale = 1 / std::sqrt(squares / hidden + 1e-5);
        for (uint32_t i = 0; i < hidden; i++) {
            const double error = half_error(row[i] * scale * weight[i], to_float(got[uint64_t{r} * stride + inverse[i]]));
            if (!(error <= worst)) worst = error;
        }
        for (uint32_t i = hidden; i < stride; i++) padding &= got[uint64_t{r} * stride + i] == 0;
    }
    report(worst < 1.02 && padding, permuted ? "norm permuted" : "norm", hidden, tokens, rows, worst);
}

template <class T>
T make(float v);
template <>
float make<float>(float v) {
    return v;
}
template <>
uint16_t make<uint16_t>(float v) {
    return to_bits(v);
}
float as_float(float v) { return v; }
float as_float(uint16_t v) { return to_float(v); }

template <class T>
void test_rope(uint32_t tokens, uint32_t first, uint32_t heads, uint32_t kv_heads, uint32_t d, float rope_scale) {
    const uint32_t width = (heads + 2 * kv_heads) * d + 16, capacity = (first + tokens + 63) / 64 * 64,
                   q_stride = (heads * d + 63) / 64 * 64;
    std::vector<T> in(uint64_t{tokens} * width);
    for (auto& v : in) v = make<T>(random_values.uniform() * 4);
    in[0] = make<T>(60000.0f);
    std::vector<double> frequency(d / 2);
    for (uint32_t i = 0; i < d / 2; i++) frequency[i] = std::pow(500000.0, -2.0 * i / d);
    Device<T> din(in);
    Device<double> df(frequency);
    Device<uint32_t> dfirst(std::vector<uint32_t>{first, tokens - 1});
    Device<uint16_t> q(uint64_t{tokens} * q_stride), k(uint64_t{kv_heads} * capacity * d), v(k.size);
    for (auto* at : {&q, &k, &v}) at->fill(0xff);
    RopeParams p{};
    p.q = din.data, p.k = din.data + heads * d, p.v = din.data + (heads + kv_heads) * d, p.inverse_frequency = df.data;
    p.q_out = q.data, p.k_cache = k.data, p.v_cache = v.data, p.first = dfirst.data, p.count = tokens > 4 ? dfirst.data + 1 : nullptr;
    p.q_stride = p.k_stride = p.v_stride = width, p.type = sizeof(T) == 2 ? ElementType::F16 : ElementType::F32;
    p.heads = heads, p.kv_heads = kv_heads, p.head_dim = d, p.capacity = capacity, p.tokens = tokens, p.q_out_stride = q_stride,
    p.rope_scale = rope_scale;
    launch(rope_store, rope_shape(p), p);
    MUST(cudaDeviceSynchronize());
    const auto gq = q.host(), gk = k.host(), gv = v.host();
    const uint32_t done = tokens > 4 ? tokens - 1 : tokens;
    double worst = 0;
    bool untouched = true;
    for (uint32_t t = 0; t < done; t++) {
        for (uint32_t h = 0; h < heads + 2 * kv_heads; h++) {
            for (uint32_t i = 0; i < d; i++) {
                const T* row = &in[uint64_t{t} * width + h * d];
                const uint32_t j = i % (d / 2);
                const double angle = (static_cast<double>(first) + t) * frequency[j], a = as_float(row[j]), b = as_float(row[j + d / 2]);
                double want = i < d / 2 ? a * std::cos(angle) - b * std::sin(angle) : b * std::cos(angle) + a * std::sin(angle);
                want = h < heads + kv_heads ? want * rope_scale : as_float(row[i]);
                want = std::min(65504.0, std::max(-65504.0, want));
                const uint32_t kv = (h - heads) % kv_heads;
                const uint16_t got = h < heads ? gq[uint64_t{t} * q_stride + h * d + i]
                                               : (h < heads + kv_heads ? gk : gv)[(uint64_t{kv} * capacity + first + t) * d + i];
                // Cancellation of a cos and b sin leaves the rounding of the larger.
                const double error = std::fabs(want - to_float(got)) /
                                     std::max(1e-3 * (std::fabs(a) + std::fabs(b)), std::max(std::fabs(want), 6.2e-5)) * 2048;
                if (!(error <= worst)) worst = error;
            }
        }
    }
    for (uint64_t i = 0; i < gk.size(); i++) {
        const uint64_t position = i / d % capacity;
        if (position < first || position >= first + done) untouched &= gk[i] == 0xffff && gv[i] == 0xffff;
    }
    report(worst < 1.2 && untouched, sizeof(T) == 2 ? "rope f16" : "rope f32", tokens, first, d, worst);
}

template <class T>
void test_silu(uint32_t width, uint32_t tokens, bool permuted) {
    const uint32_t stride = (width + 63) / 64 * 64;
    std::vector<T> gate(uint64_t{tokens} * width), up(gate.size());
    for (auto& v : gate) v = make<T>(random_values.uniform() * 12);
    for (auto& v : up) v = make<T>(random_values.uniform() * 3);
    gate[0] = make<T>(50000.0f), gate[1] = make<T>(-50000.0f);
    const auto inverse = permutation(width, permuted);
    Device<T> dg(gate), du(up);
    Device<uint32_t> di(inverse);
    Device<uint16_t> out(uint64_t{tokens} * stride);
    out.fill(0xff);
    SiluParams p{};
    p.gate = dg.data, p.up = du.data, p.inverse = permuted ? di.data : nullptr, p.out = out.data, p.gate_stride = p.up_stride = width;
    p.type = sizeof(T) == 2 ? ElementType::F16 : ElementType::F32, p.width = width, p.stride = stride, p.tokens = tokens;
    launch(silu_mul_rows, silu_shape(p), p);
    MUST(cudaDeviceSynchronize());
    const auto got = out.host();
    double worst = 0;
    bool padding = true;
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t i = 0; i < width; i++) {
            const double g = as_float(gate[uint64_t{t} * width + i]), u = as_float(up[uint64_t{t} * width + i]);
            const double want = std::min(65504.0, std::max(-65504.0, g / (1 + std::exp(-g)) * u));
            const double error = half_error(want, to_float(got[uint64_t{t} * stride + inverse[i]]));
            if (!(error <= worst)) worst = error;
        }
        for (uint32_t i = width; i < stride; i++) padding &= got[uint64_t{t} * stride + i] == 0;
    }
    report(worst < 1.05 && padding, sizeof(T) == 2 ? "silu f16" : "silu f32", width, tokens, permuted, worst);
}

// ---- times
// -------------------------------------------------------------------------------------------------------------------------------

template <class Launch>
void time_one(const char* what, uint32_t tokens, double bytes, const Launch& run) {
    const double us = graph_time(g_stream, 40, 7, run);
    std::printf("%-16s tokens %4u: %8.2f us %7.1f GB/s\n", what, tokens, us, bytes / us / 1e3);
}

void time_all() {
    const uint32_t hidden = 6656, heads = 52, d = 128, copies = 8;
    for (const uint32_t tokens : {2u, 16u, 64u, 1920u}) {
        const uint32_t used = tokens < 1920 ? 1 : copies;  // few tokens are in L2 in a real forward too
        Device<float> x(uint64_t{tokens} * hidden * used), weight(hidden);
        Device<uint16_t> out(uint64_t{tokens} * hidden * used), qkv(uint64_t{tokens} * 3 * hidden * used), q(out.size),
            k(uint64_t{2048} * hidden), v(k.size);
        Device<uint32_t> first(std::vector<uint32_t>{0}), inverse(permutation(hidden, true));
        Device<double> frequency(std::vector<double>(64, 0.01));
        x.fill(0), weight.fill(0), qkv.fill(0);
        for (const bool permuted : {false, true}) {
            time_one(permuted ? "norm permuted" : "norm", tokens, uint64_t{tokens} * hidden * 6.0, [&](uint32_t i) {
                const uint64_t at = i % used * uint64_t{tokens} * hidden;
                const NormParams p{x.data + at,
                                   weight.data,
                                   permuted ? inverse.data : nullptr,
                                   out.data + at,
                                   nullptr,
                                   hidden,
                                   hidden,
                                   tokens,
                                   tokens,
                                   0,
                                   0,
                                   1e-5f,
                                   0};
                launch(rms_norm_rows, norm_shape(p), p);
            });
        }
        time_one("rope", tokens, uint64_t{tokens} * hidden * 12.0, [&](uint32_t i) {
            const uint64_t at = i % used * uint64_t{tokens} * hidden;
            RopeParams p{};
            p.q = qkv.data + 3 * at, p.k = qkv.data + 3 * at + hidden, p.v = qkv.data + 3 * at + 2 * hidden,
            p.inverse_frequency = frequency.data;
            p.q_out = q.data + at, p.k_cache = k.data, p.v_cache = v.data, p.first = first.data,
            p.q_stride = p.k_stride = p.v_stride = 3 * hidden;
            p.heads = p.kv_heads = heads, p.head_dim = d, p.capacity = 2048, p.tokens = tokens, p.q_out_stride = hidden, p.rope_scale = 1;
            launch(rope_store, rope_shape(p), p);
        });
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (!has_gpu()) return 77;
    MUST(cudaStreamCreate(&g_stream));
    if (argc > 1 && std::strcmp(argv[1], "--time") == 0) {
        time_all();
        return 0;
    }
    for (const uint32_t hidden : {64u, 72u, 131u, 896u, 4096u, 6656u}) {
        test_embed(hidden, 5, false, hidden % 16 != 0);
        test_embed(hidden, 33, true, hidden % 16 == 0);
        for (const bool permuted : {false, true}) {
            test_norm(hidden, 17, 17, permuted, false);
            test_norm(hidden, 17, 5, permuted, true);
            test_norm(hidden, 9, 3, permuted, false);
        }
    }
    test_norm(28672, 3, 3, true, false);
    for (const uint32_t d : {16u, 24u, 40u, 64u, 80u, 96u, 128u, 256u}) {
        test_rope<uint16_t>(7, 3, 4, 2, d, 1);
        test_rope<float>(3, 131071, 7, 1, d, 1.25f);
    }
    test_rope<uint16_t>(130, 1000, 52, 52, 128, 1);
    for (const uint32_t width : {64u, 72u, 131u, 11008u, 28672u}) {
        for (const bool permuted : {false, true}) {
            test_silu<uint16_t>(width, 3, permuted);
            test_silu<float>(width, 2, permuted);
        }
    }
    std::printf("%d failed\n", g_failures + g_frames_broken);
    return g_failures + g_frames_broken != 0;
}
