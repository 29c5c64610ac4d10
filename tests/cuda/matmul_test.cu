// Products with several tokens (kernels/matmul*.cu) against a double evaluation on the CPU. --time: microseconds and the share of what reading
// the weights alone takes, in the same run.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "../../cuda/kernels/matmul.cu"
#include "../../cuda/kernels/matmul_few.cu"
#include "check.h"
#include "packed_reference.h"

namespace pith::cuda {
namespace {

std::mt19937 rng(1);
uint32_t random_word() { return rng(); }

template <class T>
T* upload(const std::vector<T>& host) {
    T* device = nullptr;
    MUST(cudaMalloc(&device, std::max<size_t>(host.size(), 1) * sizeof(T)));
    MUST(cudaMemcpy(device, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice));
    return device;
}

struct Case {
    const char* name;
    uint32_t rows, cols, tokens;
    WeightType type;
    uint32_t group;  // 0: a whole row
    bool asymmetric, extras, few;
    MatmulStore store;
};

struct Packed {
    Matrix host{}, device{};
    std::vector<uint8_t> data;
    std::vector<uint32_t> scales, zeros;
    std::vector<float> row_scale, bias;

    Packed(const Case& c) {
        Matrix& m = host;
        m.type = c.type;
        m.rows = c.rows;
        m.cols = c.cols;
        m.tiles = (c.rows + 15) / 16;
        m.chunks = (c.cols + 63) / 64;
        data.resize(size_t{m.tiles} * m.chunks * (c.type == WeightType::Q4 ? 512 : 2048));
        for (size_t i = 0; i < data.size(); i += 4) {
            uint32_t word = random_word();
            if (c.type == WeightType::F16) word = (word & 0x8fff8fff) | 0x20002000;  // halves of about a hundredth
            std::memcpy(&data[i], &word, 4);
        }
        if (c.type == WeightType::Q4) {
            m.group = c.group ? c.group : (c.cols + 31) / 32 * 32;
            m.groups = (c.cols + m.group - 1) / m.group;
            scales.resize(size_t{m.tiles} * m.groups * 8);
            for (uint32_t& s : scales) s = (random_word() & 0x03ff03ff) | 0x20002000;
            m.zero_offset = 1;
            if (c.asymmetric) zeros.resize(size_t{m.tiles} * ((m.groups + 3) / 4) * 8);
            for (uint32_t& z : zeros) z = random_word();
        }
        for (uint32_t i = 0; c.extras && i < m.tiles * 16; i++) {
            row_scale.push_back(i % 3 ? 0.5f : 2.0f);
            bias.push_back(static_cast<float>(i % 7) * 0.1f - 0.3f);
        }
        device = host;
        device.data = upload(data);
        host.data = data.data();
        if (!scales.empty()) device.scales = upload(scales), host.scales = scales.data();
        if (!zeros.empty()) device.zeros = upload(zeros), host.zeros = zeros.data();
        if (c.extras) device.row_scale = upload(row_scale), device.bias = upload(bias);
    }
    ~Packed() {
        for (const void* p : {static_cast<const void*>(device.data), static_cast<const void*>(device.scales), static_cast<const void*>(device.zeros),
                              static_cast<const void*>(device.row_scale), static_cast<const void*>(device.bias)})
            MUST(cudaFree(const_cast<void*>(p)));
    }
    double weight(uint32_t row, uint32_t column) const {
        if (host.type == WeightType::F16) return packed::half_value(packed::half(host, row, column));
        const uint32_t group = column / host.group;
        return packed::half_value(packed::scale(host, row, group)) *
               (static_cast<double>(packed::code(host, row, column)) - packed::zero(host, row, group));
    }
    double product(uint32_t row, const std::vector<uint16_t>& x, size_t at) const {
        double sum = 0;
        for (uint32_t k = 0; k < host.cols; k++) sum += weight(row, k) * packed::half_value(x[at + k]);
        return (row_scale.empty() ? sum : sum * row_scale[row]) + (bias.empty() ? 0 : bias[row]);
    }
};

int multiprocessors, shared_limit;

void launch_few(const MatmulParams& p, const FewShape& s, cudaStream_t stream) {
    using Kernel = void (*)(MatmulParams);
    static const Kernel q4[] = {pith_matmul_few_q4_8, pith_matmul_few_q4_16, pith_matmul_few_q4_32, pith_matmul_few_q4_64};
    static const Kernel f16[] = {pith_matmul_few_f16_8, pith_matmul_few_f16_16, pith_matmul_few_f16_32, pith_matmul_few_f16_64};
    const int i = s.tokens == 8 ? 0 : s.tokens == 16 ? 1 : s.tokens == 32 ? 2 : 3;
    const Kernel kernel = p.matrix.type == WeightType::Q4 ? q4[i] : f16[i];
    MUST(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(s.shared)));
    kernel<<<s.grid, kFewThreads, s.shared, stream>>>(p);
    MUST(cudaGetLastError());
}

void launch_general(const MatmulParams& p, const MatmulShape& s, cudaStream_t stream) {
    static constexpr decltype(&pith_matmul_q4_64) kKernels[3][2] = {
        {pith_matmul_q4_64, pith_matmul_q4_128}, {pith_matmul_q4_fine_64, pith_matmul_q4_fine_128}, {pith_matmul_f16_64, pith_matmul_f16_128}};
    const auto kernel = kKernels[matmul_kind(p.matrix)][s.tokens / 128];
    kernel<<<dim3(s.grid_x, s.grid_y), kMatmulThreads, 0, stream>>>(p);
    MUST(cudaGetLastError());
}

void launch(MatmulParams& p, bool few, uint32_t limit, cudaStream_t stream = nullptr) {
    if (few) {
        launch_few(p, few_shape(p.matrix, p.tokens, static_cast<uint32_t>(multiprocessors), limit), stream);
        return;
    }
    const MatmulShape s = matmul_shape(p, static_cast<uint32_t>(multiprocessors));
    launch_general(p, s, stream);
}

// Room for parts and counters of any shape here.
struct Workspace {
    float* parts;
    uint32_t* arrived;
    Workspace() {
        MUST(cudaMalloc(&parts, 64 << 20));
        MUST(cudaMalloc(&arrived, 1 << 20));
        MUST(cudaMemset(arrived, 0, 1 << 20));
    }
};

bool check(const Case& c, const Workspace& w, uint32_t limit) {
    if (c.few && few_shape(Packed(c).host, c.tokens, static_cast<uint32_t>(multiprocessors), limit).stages < 2) {
        std::printf("ok   %s: no room, the other kernel serves\n", c.name);
        return true;
    }
    const Packed made(c);
    const uint32_t x_stride = (c.cols + 63) / 64 * 64, width = made.host.tiles * 8 - 3;  // GateUp: the last few are none
    const uint32_t wanted = c.store == MatmulStore::GateUp ? width : c.rows, y_stride = (wanted + 63) / 64 * 64 + 64;
    std::vector<uint16_t> x(size_t{c.tokens} * x_stride);
    for (uint32_t t = 0; t < c.tokens; t++)
        for (uint32_t k = 0; k < c.cols; k++) x[size_t{t} * x_stride + k] = static_cast<uint16_t>((random_word() & 0x83ff) | 0x3400 | (random_word() & 0x0800));
    std::vector<uint32_t> inverse(width);
    for (uint32_t i = 0; i < width; i++) inverse[i] = i;
    std::shuffle(inverse.begin(), inverse.end(), rng);
    const bool half_out = c.store == MatmulStore::Half || c.store == MatmulStore::GateUp;
    std::vector<uint16_t> halves(size_t{c.tokens} * y_stride, 0x7e00);  // NaN: all that is to be written is checked
    std::vector<float> floats(size_t{c.tokens} * y_stride, c.store == MatmulStore::Add ? 0.25f : NAN);

    MatmulParams p{};
    p.matrix = made.device;
    p.x = upload(x);
    p.inverse = c.store == MatmulStore::GateUp ? upload(inverse) : nullptr;
    p.y_stride = y_stride;
    p.x_stride = x_stride;
    p.tokens = c.tokens;
    p.width = width;
    p.store = c.store;
    p.parts = w.parts;
    p.arrived = w.arrived;
    std::vector<std::vector<uint8_t>> runs;
    for (int run = 0; run < 3; run++) {
        p.y = half_out ? static_cast<void*>(upload(halves)) : static_cast<void*>(upload(floats));
        launch(p, c.few, limit);
        MUST(cudaDeviceSynchronize());
        std::vector<uint8_t> got(size_t{c.tokens} * y_stride * (half_out ? 2 : 4));
        MUST(cudaMemcpy(got.data(), p.y, got.size(), cudaMemcpyDeviceToHost));
        MUST(cudaFree(p.y));
        runs.push_back(got);
    }
    MUST(cudaFree(const_cast<uint16_t*>(p.x)));
    if (p.inverse) MUST(cudaFree(const_cast<uint32_t*>(p.inverse)));

    const auto value = [&](uint32_t t, uint32_t i) -> double {
        const size_t at = size_t{t} * y_stride + i;
        if (half_out) {
            uint16_t bits;
            std::memcpy(&bits, &runs[0][at * 2], 2);
            return packed::half_value(bits);
        }
        float f;
        std::memcpy(&f, &runs[0][at * 4], 4);
        return static_cast<double>(f);
    };
    double error = 0, size = 0;
    bool whole = true;
    const uint32_t step = std::max(1u, static_cast<uint32_t>(uint64_t{wanted} * c.tokens * c.cols / 1500000));
    for (uint32_t n = 0; n < wanted * c.tokens; n += step) {
        const uint32_t t = n / wanted, i = n % wanted;
        double expected, got;
        if (c.store == MatmulStore::GateUp) {
            const double gate = made.product(i / 8 * 16 + i % 8, x, size_t{t} * x_stride), up = made.product(i / 8 * 16 + i % 8 + 8, x, size_t{t} * x_stride);
            expected = gate / (1 + std::exp(-gate)) * up;
            got = value(t, inverse[i]);
        } else {
            expected = made.product(i, x, size_t{t} * x_stride) + (c.store == MatmulStore::Add ? 0.25 : 0);
            got = value(t, i);
        }
        whole = whole && std::isfinite(got);
        error += (got - expected) * (got - expected);
        size += expected * expected;
    }
    for (uint32_t t = 0; t < c.tokens; t++) {
        if (c.store == MatmulStore::GateUp)
            for (uint32_t i = width; i < y_stride; i++) whole = whole && value(t, i) == 0;
        else
            whole = whole && (c.store == MatmulStore::Add ? value(t, c.rows) == 0.25 : std::isnan(value(t, c.rows)));
    }
    const double relative = std::sqrt(error / size);
    const bool same = runs[0] == runs[1] && runs[0] == runs[2], good = whole && same && relative < 2e-3;
    std::printf("%s %s error %.2e%s%s\n", good ? "ok  " : "FAIL", c.name, relative, whole ? "" : ", elements unwritten or written beside", same ? "" : ", bits differ");
    return good;
}

bool check_all() {
    const Workspace w;
    bool good = true;
    char name[160];
    const uint32_t shapes[][2] = {{16, 64}, {24, 72}, {136, 512}, {131, 136}, {520, 1000}, {1040, 4864}, {6656, 512}};
    const MatmulStore stores[] = {MatmulStore::Half, MatmulStore::Float, MatmulStore::Add, MatmulStore::GateUp};
    uint32_t n = 0;
    for (const auto& shape : shapes)
        for (const uint32_t tokens : {1u, 2u, 7u, 8u, 9u, 16u, 31u, 33u, 64u, 65u, 129u})
            for (const uint32_t form : {0u, 1u, 2u, 3u, 4u, 5u}) {
                static const uint32_t groups[] = {128, 32, 64, 96, 0, 0};
                const bool few = tokens <= 64;
                n++;
                for (const bool other : {false, true}) {
                    if (other && (!few || n % 5)) continue;  // the general kernel on few tokens too, now and then
                    const Case c{name, shape[0], shape[1], tokens, form == 5 ? WeightType::F16 : WeightType::Q4, groups[form], n % 2 == 0, n % 3 == 0, few && !other,
                                 stores[n % 4]};
                    const uint32_t limit = n % 4 == 1 ? 48u << 10 : n % 4 == 2 ? 99u << 10 : static_cast<uint32_t>(shared_limit);
                    std::snprintf(name, sizeof name, "%ux%u, %u tokens, group %u%s%s, store %u, %s, %u KiB", c.rows, c.cols, tokens, c.group,
                                  c.type == WeightType::F16 ? " F16" : "", c.asymmetric ? " asymmetric" : "", static_cast<uint32_t>(c.store),
                                  c.few ? "few" : "general", limit >> 10);
                    good = check(c, w, limit) && good;
                }
            }
    return good;
}

// ---- time --------------------------------------------------------------------------------------------------------------------------------

__global__ void read_all(const uint4* data, size_t count, uint32_t* out) {
    uint32_t sum = 0;
    for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < count; i += size_t{gridDim.x} * blockDim.x * 4) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const size_t at = i + j * size_t{gridDim.x} * blockDim.x;
            if (at < count) {
                const uint4 v = __ldcs(data + at);
                sum ^= v.x ^ v.y ^ v.z ^ v.w;
            }
        }
    }
    if (sum == 0x12345678) *out = sum;
}

template <class F>
double microseconds(int times, F&& f) {
    cudaStream_t stream;
    cudaEvent_t a, b;
    MUST(cudaStreamCreate(&stream));
    MUST(cudaEventCreate(&a));
    MUST(cudaEventCreate(&b));
    std::vector<double> all;
    for (int turn = 0; turn < 4; turn++) {
        MUST(cudaEventRecord(a, stream));
        for (int i = 0; i < times; i++) f(i, stream);
        MUST(cudaEventRecord(b, stream));
        MUST(cudaEventSynchronize(b));
        float ms;
        MUST(cudaEventElapsedTime(&ms, a, b));
        if (turn) all.push_back(ms * 1000.0 / times);
    }
    std::sort(all.begin(), all.end());
    return all[all.size() / 2];
}

void time_all() {
    const Workspace w;
    uint32_t* out;
    MUST(cudaMalloc(&out, 4));
    std::printf("%-14s %7s %10s %10s %8s %9s\n", "rows x cols", "tokens", "us", "read us", "share", "TFLOP/s");
    const uint32_t shapes[][2] = {{6656, 17920}, {35840, 6656}, {19968, 6656}, {6656, 6656}, {4096, 11008}, {22016, 4096}};
    for (const auto& shape : shapes) {
        const Case c{"", shape[0], shape[1], 1, WeightType::Q4, 128, false, false, true, MatmulStore::Half};
        Matrix m{};
        m.type = c.type, m.rows = c.rows, m.cols = c.cols, m.tiles = c.rows / 16, m.chunks = c.cols / 64, m.group = 128, m.groups = c.cols / 128;
        const size_t codes = size_t{m.tiles} * m.chunks * 512, scales = size_t{m.tiles} * m.groups * 32, one = codes + scales;
        const uint32_t copies = static_cast<uint32_t>((size_t{1} << 30) / one + 1);
        uint8_t* data;
        MUST(cudaMalloc(&data, one * copies));
        MUST(cudaMemset(data, 0x25, one * copies));
        const double read = microseconds(static_cast<int>(copies), [&](int i, cudaStream_t s) {
            read_all<<<multiprocessors * 8, 256, 0, s>>>(reinterpret_cast<const uint4*>(data + one * i), one / 16, out);
        });
        uint16_t *x, *y;
        MUST(cudaMalloc(&x, size_t{2048} * c.cols * 2));
        MUST(cudaMemset(x, 0x2c, size_t{2048} * c.cols * 2));
        MUST(cudaMalloc(&y, size_t{2048} * c.rows * 2));
        for (const uint32_t tokens : {2u, 8u, 16u, 32u, 64u, 1920u}) {
            MatmulParams p{};
            p.x = x, p.y = y, p.y_stride = c.rows, p.x_stride = c.cols, p.tokens = tokens, p.store = MatmulStore::Half, p.parts = w.parts, p.arrived = w.arrived;
            p.matrix = m;
            const double us = microseconds(tokens > 64 ? 4 : static_cast<int>(copies), [&](int i, cudaStream_t s) {
                p.matrix.data = data + one * i;
                p.matrix.scales = reinterpret_cast<const uint32_t*>(data + one * i + codes);
                launch(p, tokens <= 64, static_cast<uint32_t>(shared_limit), s);
            });
            std::printf("%6ux%-7u %7u %10.2f %10.2f %7.1f%% %9.1f\n", c.rows, c.cols, tokens, us, read, 100 * read / us, 2e-6 * c.rows * c.cols * tokens / us);
        }
        MUST(cudaFree(data));
        MUST(cudaFree(x));
        MUST(cudaFree(y));
    }
}

}  // namespace
}  // namespace pith::cuda

int main(int argc, char** argv) {
    using namespace pith::cuda;
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        std::printf("SKIPPED: no GPU\n");
        return 77;
    }
    MUST(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0));
    MUST(cudaDeviceGetAttribute(&shared_limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    if (argc > 1 && std::string(argv[1]) == "--time") {
        time_all();
        return 0;
    }
    return check_all() ? 0 : 1;
}
