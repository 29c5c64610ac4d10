// Products in integers (kernels/matmul_few_int.cu) against a double evaluation on the CPU. --time: microseconds and the share of what reading
// the weights alone takes, in the same run.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "../../cuda/kernels/matmul_few_int.cu"
#include "packed_reference.h"

namespace pith::cuda {
namespace {

#define MUST(call)                                                                      \
    do {                                                                                \
        const cudaError_t result = (call);                                              \
        if (result != cudaSuccess) {                                                    \
            std::printf("%s:%d: %s\n", __FILE__, __LINE__, cudaGetErrorString(result)); \
            std::exit(1);                                                               \
        }                                                                               \
    } while (0)

std::mt19937 rng(1);
uint32_t multiprocessors, shared_limit;

// Device memory that ends with its owner.
template <class T>
struct Buffer {
    T* at = nullptr;
    explicit Buffer(size_t count) { MUST(cudaMalloc(&at, std::max<size_t>(count, 1) * sizeof(T))); }
    explicit Buffer(const std::vector<T>& host) : Buffer(host.size()) {
        MUST(cudaMemcpy(at, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice));
    }
    Buffer(const Buffer&) = delete;
    ~Buffer() { MUST(cudaFree(at)); }
};

struct Case {
    uint32_t rows, cols, tokens, group;  // group 0: a whole row
    bool asymmetric, extras;
    MatmulStore store;
    uint32_t limit;  // of shared memory
};

template <class T>
std::vector<T> random_words(size_t count) {
    std::vector<T> words(count);
    for (T& w : words) w = static_cast<T>(rng());
    return words;
}

Matrix shape_of(const Case& c) {
    Matrix m{};
    m.type = WeightType::Q4;
    m.rows = c.rows, m.cols = c.cols;
    m.tiles = (c.rows + 15) / 16, m.chunks = (c.cols + 63) / 64;
    m.group = c.group ? c.group : (c.cols + 31) / 32 * 32;
    m.groups = (c.cols + m.group - 1) / m.group;
    m.zero_offset = 1;
    return m;
}

template <class Params>
void start(void (*kernel)(Params), const Params& p, uint32_t grid, uint32_t threads, uint32_t shared, cudaStream_t stream, bool overlap) {
    MUST(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)));
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t how{};
    how.gridDim = dim3(grid);
    how.blockDim = dim3(threads);
    how.dynamicSmemBytes = shared;
    how.stream = stream;
    how.attrs = &attribute;
    how.numAttrs = overlap ? 1 : 0;
    MUST(cudaLaunchKernelEx(&how, kernel, p));
}

void multiply(const IntMatmulParams& p, const IntShape& s, cudaStream_t stream, bool overlap) {
    const auto pick = [&]() -> void (*)(IntMatmulParams) {
        const bool large = s.block == 128;
        switch (s.tokens) {
            case 4: return large ? pith_matmul_int_4_128 : pith_matmul_int_4_32;
            case 8: return large ? pith_matmul_int_8_128 : pith_matmul_int_8_32;
            default: return large ? pith_matmul_int_16_128 : pith_matmul_int_16_32;
        }
    };
    start(pick(), p, s.grid, kIntThreads, s.shared, stream, overlap);
}

QuantiseParams quantise_of(const MatmulParams& p, const IntShape& s, uint8_t* out) {
    return {p.x, out, p.x_stride, p.matrix.cols, p.tokens, s.tokens, s.block, int_pairs(p.matrix.cols)};
}

bool check(const Case& c) {
    char name[160];
    std::snprintf(name, sizeof name, "%ux%u, %u tokens, group %u%s%s, store %u, %u KiB", c.rows, c.cols, c.tokens, c.group,
                  c.asymmetric ? " asymmetric" : "", c.extras ? " extras" : "", static_cast<uint32_t>(c.store), c.limit >> 10);
    Matrix m = shape_of(c);
    const IntShape s = int_shape(m, c.tokens, multiprocessors, c.limit);
    if (!s.stages) {
        std::printf("ok   %s: no room, another kernel serves\n", name);
        return true;
    }
    const std::vector<uint8_t> data = random_words<uint8_t>(size_t{m.tiles} * m.chunks * 512);
    std::vector<uint32_t> scales = random_words<uint32_t>(size_t{m.tiles} * m.groups * 8);
    for (uint32_t& v : scales) v = (v & 0x03ff03ff) | 0x20002000;
    const std::vector<uint32_t> zeros = random_words<uint32_t>(size_t{m.tiles} * ((m.groups + 3) / 4) * 8);
    std::vector<float> row_scale, bias;
    for (uint32_t i = 0; i < m.tiles * 16; i++) row_scale.push_back(i % 3 ? 0.5f : 2.0f), bias.push_back(static_cast<float>(i % 7) * 0.1f - 0.3f);
    const uint32_t x_stride = m.chunks * 64, width = m.tiles * 8 - 3;  // GateUp: the last few are none
    const uint32_t wanted = c.store == MatmulStore::GateUp ? width : c.rows, y_stride = (wanted + 63) / 64 * 64 + 64;
    std::vector<uint16_t> x(size_t{c.tokens} * x_stride);
    for (uint32_t t = 0; t < c.tokens; t++)
        for (uint32_t k = 0; k < c.cols; k++) x[size_t{t} * x_stride + k] = static_cast<uint16_t>((rng() & 0x83ff) | 0x3400 | (rng() & 0x0800));
    std::vector<uint32_t> inverse(width);
    for (uint32_t i = 0; i < width; i++) inverse[i] = i;
    std::shuffle(inverse.begin(), inverse.end(), rng);
    const bool half_out = c.store == MatmulStore::Half || c.store == MatmulStore::GateUp;
    const std::vector<uint16_t> halves(size_t{c.tokens} * y_stride, 0x7e00);  // NaN: all that is to be written is checked
    const std::vector<float> floats(size_t{c.tokens} * y_stride, c.store == MatmulStore::Add ? 0.25f : NAN);

    const Buffer<uint8_t> d_data(data), input(s.input_bytes), parts(s.parts_bytes);
    const Buffer<uint32_t> d_scales(scales), d_zeros(zeros), d_inverse(inverse), arrived(s.row_blocks);
    const Buffer<float> d_row_scale(row_scale), d_bias(bias);
    const Buffer<uint16_t> d_x(x);
    MUST(cudaMemset(arrived.at, 0, s.row_blocks * 4));
    MUST(cudaMemset(input.at, 0xff, s.input_bytes));
    IntMatmulParams p{};
    p.base.matrix = m;
    p.base.matrix.data = d_data.at, p.base.matrix.scales = d_scales.at;
    m.data = data.data(), m.scales = scales.data();
    if (c.asymmetric) p.base.matrix.zeros = d_zeros.at, m.zeros = zeros.data();
    if (c.extras) p.base.matrix.row_scale = d_row_scale.at, p.base.matrix.bias = d_bias.at;
    p.base.x = d_x.at, p.base.x_stride = x_stride, p.base.y_stride = y_stride;
    p.base.inverse = c.store == MatmulStore::GateUp ? d_inverse.at : nullptr;
    p.base.tokens = c.tokens, p.base.width = width, p.base.store = c.store;
    p.base.parts = reinterpret_cast<float*>(parts.at), p.base.arrived = arrived.at;
    p.input = input.at, p.pairs = s.pairs, p.stages = s.stages;

    std::vector<std::vector<uint8_t>> runs;
    for (int run = 0; run < 3; run++) {
        const Buffer<uint16_t> y16(halves);
        const Buffer<float> y32(floats);
        p.base.y = half_out ? static_cast<void*>(y16.at) : static_cast<void*>(y32.at);
        const QuantiseParams q = quantise_of(p.base, s, input.at);
        start(quantise_rows, q, quantise_grid(q), kQuantiseThreads, 0, nullptr, run > 0);
        multiply(p, s, nullptr, run > 0);
        MUST(cudaDeviceSynchronize());
        std::vector<uint8_t> got(size_t{c.tokens} * y_stride * (half_out ? 2 : 4));
        MUST(cudaMemcpy(got.data(), p.base.y, got.size(), cudaMemcpyDeviceToHost));
        runs.push_back(got);
    }
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
    const auto product = [&](uint32_t row, uint32_t t) {
        double sum = 0;
        for (uint32_t k = 0; k < c.cols; k++)
            sum += packed::half_value(packed::scale(m, row, k / m.group)) *
                   (static_cast<double>(packed::code(m, row, k)) - packed::zero(m, row, k / m.group)) * packed::half_value(x[size_t{t} * x_stride + k]);
        return c.extras ? sum * row_scale[row] + bias[row] : sum;
    };
    double error = 0, size = 0;
    bool whole = true;
    const uint32_t step = std::max(1u, static_cast<uint32_t>(uint64_t{wanted} * c.tokens * c.cols / 700000));
    for (uint32_t n = 0; n < wanted * c.tokens; n += step) {
        const uint32_t t = n / wanted, i = n % wanted;
        double expected, got;
        if (c.store == MatmulStore::GateUp) {
            const double gate = product(i / 8 * 16 + i % 8, t), up = product(i / 8 * 16 + i % 8 + 8, t);
            expected = gate / (1 + std::exp(-gate)) * up;
            got = value(t, inverse[i]);
        } else {
            expected = product(i, t) + (c.store == MatmulStore::Add ? 0.25 : 0);
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
    const bool same = runs[0] == runs[1] && runs[0] == runs[2], good = whole && same && relative < (half_out ? 4e-4 : 1e-4);
    std::printf("%s %s error %.2e%s%s\n", good ? "ok  " : "FAIL", name, relative, whole ? "" : ", elements unwritten or written beside",
                same ? "" : ", bits differ");
    return good;
}

bool check_all() {
    bool good = true;
    const uint32_t shapes[][2] = {{16, 64}, {24, 72}, {136, 512}, {131, 136}, {520, 1000}, {1040, 4864}, {6656, 576}};
    const MatmulStore stores[] = {MatmulStore::Half, MatmulStore::Float, MatmulStore::Add, MatmulStore::GateUp};
    uint32_t n = 0;
    for (const auto& shape : shapes)
        for (const uint32_t tokens : {1u, 2u, 3u, 4u, 5u, 7u, 8u, 9u, 15u, 16u})
            for (const uint32_t group : {128u, 32u, 64u, 96u, 384u, 0u}) {
                n++;
                const uint32_t limit = n % 4 == 1 ? 48u << 10 : n % 4 == 2 ? 99u << 10 : shared_limit;
                good = check({shape[0], shape[1], tokens, group, n % 2 == 0, n % 3 == 0, stores[n / 2 % 4], limit}) && good;
            }
    return good;
}

// ---- time

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
    for (int turn = 0; turn < 6; turn++) {
        MUST(cudaEventRecord(a, stream));
        for (int i = 0; i < times; i++) f(i, stream);
        MUST(cudaEventRecord(b, stream));
        MUST(cudaEventSynchronize(b));
        float ms;
        MUST(cudaEventElapsedTime(&ms, a, b));
        if (turn) all.push_back(ms * 1000.0 / times);
    }
    std::sort(all.begin(), all.end());
    MUST(cudaStreamDestroy(stream));
    return all[all.size() / 2];
}

void time_shape(uint32_t rows, uint32_t cols, uint32_t group) {
    const Case c{rows, cols, 1, group, false, false, MatmulStore::Half, shared_limit};
    Matrix m = shape_of(c);
    const size_t codes = size_t{m.tiles} * m.chunks * 512, one = (codes + size_t{m.tiles} * m.groups * 32 + 1023) / 1024 * 1024;
    const int copies = static_cast<int>((size_t{1} << 30) / one + 1);
    const Buffer<uint8_t> data(one * static_cast<size_t>(copies)), input(8 << 20), parts(64 << 20);
    const Buffer<uint32_t> arrived(4096), out(1);
    const Buffer<uint16_t> x(size_t{64} * cols), y(size_t{64} * rows);
    MUST(cudaMemset(data.at, 0x25, one * static_cast<size_t>(copies)));
    MUST(cudaMemset(x.at, 0x2c, size_t{64} * cols * 2));
    MUST(cudaMemset(arrived.at, 0, 4096 * 4));
    const double read = microseconds(copies, [&](int i, cudaStream_t s) {
        read_all<<<multiprocessors * 8, 256, 0, s>>>(reinterpret_cast<const uint4*>(data.at + one * static_cast<size_t>(i)), one / 16, out.at);
    });
    for (const uint32_t tokens : {2u, 8u, 16u})
        for (const uint32_t limit : {shared_limit, 99u << 10}) {
            const IntShape s = int_shape(m, tokens, multiprocessors, limit);
            if (!s.stages) continue;
            IntMatmulParams p{};
            p.base.matrix = m;
            p.base.x = x.at, p.base.x_stride = cols, p.base.y = y.at, p.base.y_stride = rows, p.base.tokens = tokens;
            p.base.parts = reinterpret_cast<float*>(parts.at), p.base.arrived = arrived.at;
            p.input = input.at, p.pairs = s.pairs, p.stages = s.stages;
            const QuantiseParams q = quantise_of(p.base, s, input.at);
            double us[3];
            for (int mode = 0; mode < 3; mode++)  // one after the other; the next one's weights beforehand; with its input made
                us[mode] = microseconds(copies, [&](int i, cudaStream_t stream) {
                    p.base.matrix.data = data.at + one * static_cast<size_t>(i);
                    p.base.matrix.scales = reinterpret_cast<const uint32_t*>(data.at + one * static_cast<size_t>(i) + codes);
                    if (mode == 2) start(quantise_rows, q, quantise_grid(q), kQuantiseThreads, 0, stream, true);
                    multiply(p, s, stream, mode > 0);
                });
            std::printf("%6ux%-7u %4u tokens %u x %3u cols, %3u KiB read %6.2f us: alone %6.2f (%4.1f%%) overlapped %6.2f (%4.1f%%) with input %6.2f (%4.1f%%)\n",
                        rows, cols, tokens, s.stages, s.pairs * 128, s.shared >> 10, read, us[0], 100 * read / us[0], us[1], 100 * read / us[1],
                        us[2], 100 * read / us[2]);
        }
}

}  // namespace
}  // namespace pith::cuda

int main(int argc, char** argv) {
    using namespace pith::cuda;
    int devices = 0, value = 0;
#if defined(PITH_TEST_SM90) && !PITH_TEST_SM90
    std::printf("SKIPPED: built for another GPU than these kernels\n");
    return 77;
#endif
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        std::printf("SKIPPED: no GPU\n");
        return 77;
    }
    MUST(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0));
    multiprocessors = static_cast<uint32_t>(value);
    MUST(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    shared_limit = static_cast<uint32_t>(value);
    if (argc > 1 && std::string(argv[1]) == "--time") {
        time_shape(6656, 17920, 128);
        time_shape(35840, 6656, 128);
        time_shape(19968, 6656, 128);
        time_shape(6656, 6656, 128);
        time_shape(6656, 17920, 32);
        return 0;
    }
    return check_all() ? 0 : 1;
}
