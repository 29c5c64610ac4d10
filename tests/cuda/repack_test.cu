// The repacking kernels on random matrices of odd sizes: what they leave in device memory, read back element by element as layout.h says.
// --time: how fast they are beside a copy of the same bytes.
#include "../../cuda/kernels/repack.cu"

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "check.h"
#include "packed_reference.h"

using namespace pith::cuda;
using namespace pith::cuda::test;

static std::mt19937 rng(11);
static bool failed = false;

// Zero, and what a kernel left in it.
struct Target : Device<uint8_t> {
    std::vector<uint8_t> left;
    explicit Target(size_t bytes) : Device(bytes) { fill(0); }
    void fetch() { left = host(); }
};
static void report(const char* name, long long wrong) {
    std::printf("%s %s %lld wrong\n", wrong ? "FAIL" : "ok  ", name, wrong);
    failed |= wrong != 0;
}
static float as_float(uint32_t bits) {
    float v;
    std::memcpy(&v, &bits, 4);
    return v;
}

// Values of a type, and what they are in float64.
struct Values {
    std::vector<uint8_t> bytes;
    std::vector<double> exact;
    Values(SourceType type, size_t count, float low, float high) {
        for (size_t i = 0; i < count; i++) {
            const float v = low + (high - low) * static_cast<float>(rng() % 65536) / 65535.0f;
            uint32_t word;
            std::memcpy(&word, &v, 4);
            const uint16_t narrow = type == SourceType::F16 ? __half_as_ushort(__float2half_rn(v)) : static_cast<uint16_t>(word >> 16);
            const size_t size = type == SourceType::F32 ? 4 : 2;
            bytes.resize((i + 1) * size);
            std::memcpy(bytes.data() + i * size, size == 4 ? static_cast<const void*>(&word) : &narrow, size);
            exact.push_back(type == SourceType::F32   ? v
                            : type == SourceType::F16 ? packed::half_value(narrow)
                                                      : as_float(uint32_t{narrow} << 16));
        }
    }
};
static bool near(double got, double want, SourceType type) {
    return type == SourceType::F16 ? got == want : std::fabs(got - want) <= std::fabs(want) * 0x1p-11 + 1e-30;
}

static std::vector<uint32_t> random_order(uint32_t count) {
    std::vector<uint32_t> order(count);
    std::iota(order.begin(), order.end(), 0u);
    std::shuffle(order.begin(), order.end(), rng);
    return order;
}

struct Q4Case {
    uint32_t rows, cols, group;
    bool asymmetric, permuted;
    SourceType scales;
    Rows place;
    uint32_t cut;  // octets of a stripe
    bool ordered = false;  // rows, too
};

static void test_q4(const Q4Case& c) {
    const RowPlace place{c.place, c.place == Rows::Whole ? 32u : 0u};
    const uint32_t groups = (c.cols + c.group - 1) / c.group;
    Matrix w{};
    w.type = WeightType::Q4;
    w.rows = place.rows == Rows::Whole ? place.first + c.rows : (c.rows + 7) / 8 * 16;
    w.cols = c.cols, w.tiles = (w.rows + 15) / 16, w.chunks = (c.cols + 63) / 64, w.group = c.group, w.groups = groups, w.zero_offset = 1;
    std::vector<uint32_t> q(size_t{c.cols / 8} * c.rows), z(size_t{groups} * c.rows / 8), perm(c.cols);
    for (auto& v : q) v = rng();
    for (auto& v : z) v = rng();
    std::iota(perm.begin(), perm.end(), 0u);
    if (c.permuted) std::shuffle(perm.begin(), perm.end(), rng);
    const std::vector<uint32_t> order = random_order(c.rows);
    const auto source = [&](uint32_t n) { return c.ordered ? order[n] : n; };
    const Values s(c.scales, size_t{groups} * c.rows, c.scales == SourceType::F16 ? 0.001f : 1e-12f,
                   c.scales == SourceType::F16 ? 0.1f : 3e-9f);
    const size_t words = (groups + 3) / 4;
    Target data(size_t{w.tiles} * w.chunks * kQ4ChunkBytes), scales(size_t{w.tiles} * groups * 32), zeros(w.tiles * words * 32),
        row_scale(w.tiles * 64);
    w.data = data.data;
    w.scales = reinterpret_cast<uint32_t*>(scales.data);
    if (c.asymmetric) w.zeros = reinterpret_cast<uint32_t*>(zeros.data);
    if (c.scales != SourceType::F16) w.row_scale = reinterpret_cast<float*>(row_scale.data);
    const Device<uint32_t> dq(q), dz(z), dp(perm), rows(order);
    const uint32_t* const of_rows = c.ordered ? rows.data : nullptr;
    const Device<uint8_t> ds(s.bytes);
    const RepackScalesParams sp{w, place, c.asymmetric ? dz.data : nullptr, ds.data, c.scales, c.rows, of_rows};
    const RepackGrid sg = repack_scales_grid(sp);
    repack_scales<<<dim3(sg.x, sg.y), kRepackThreads>>>(sp);
    for (uint32_t at = 0; at < c.cols / 8; at += c.cut) {
        RepackCodesParams p{w,
                            place,
                            dq.data + size_t{at} * c.rows,
                            c.permuted ? dp.data : nullptr,
                            c.rows,
                            at,
                            std::min(at + c.cut, c.cols / 8),
                            0,
                            0,
                            0,
                            of_rows};
        repack_chunks(p);
        const RepackGrid g = repack_codes_grid(p);
        repack_codes<<<dim3(g.x, g.y), kRepackThreads>>>(p);
    }
    MUST(cudaDeviceSynchronize());
    for (Target* t : {&data, &scales, &zeros, &row_scale}) t->fetch();
    long long wrong = 0;
    w.data = data.left.data();
    w.scales = reinterpret_cast<uint32_t*>(scales.left.data());
    if (w.zeros) w.zeros = reinterpret_cast<uint32_t*>(zeros.left.data());
    if (w.row_scale) w.row_scale = reinterpret_cast<float*>(row_scale.left.data());
    std::vector<bool> used(w.tiles * 16);
    for (uint32_t n = 0; n < c.rows; n++) {
        const uint32_t row = place.rows == Rows::Whole ? place.first + n : n / 8 * 16 + n % 8 + (place.rows == Rows::Lower ? 8 : 0);
        used[row] = true;
        for (uint32_t g = 0; g < groups; g++) {
            const double up = w.row_scale ? w.row_scale[row] : 1;
            wrong += !near(packed::half_value(packed::scale(w, row, g)) * up, s.exact[size_t{g} * c.rows + source(n)], c.scales);
            if (w.zeros) wrong += packed::zero(w, row, g) != (z[(size_t{g} * c.rows + source(n)) / 8] >> source(n) % 8 * 4 & 15) + 1;
        }
        for (uint32_t k = 0; k < c.cols; k++)
            wrong += packed::code(w, row, k) != (q[size_t{perm[k] / 8} * c.rows + source(n)] >> perm[k] % 8 * 4 & 15);
        for (uint32_t k = c.cols; k < w.chunks * 64; k++)
            wrong += packed::code(w, row, k) != std::min(15u, packed::zero(w, row, std::min(k / c.group, groups - 1)));
    }
    for (uint32_t row = 0; row < w.tiles * 16; row++)
        for (uint32_t g = 0; g < groups && !used[row]; g++) wrong += packed::scale(w, row, g) != 0;
    char name[128];
    std::snprintf(name, sizeof name, "q4 %ux%u group %u%s%s%s scales %u place %u cut %u", c.rows, c.cols, c.group,
                  c.asymmetric ? " asymmetric" : "", c.permuted ? " permuted" : "", c.ordered ? " ordered" : "", static_cast<unsigned>(c.scales),
                  static_cast<unsigned>(c.place), c.cut);
    report(name, wrong);
}

static void test_dense(uint32_t rows, uint32_t cols, SourceType type, Rows where, bool plain, float size) {
    const RowPlace place{where, where == Rows::Whole ? 16u : 0u};
    Matrix w{};
    w.type = WeightType::F16;
    w.rows = where == Rows::Whole ? place.first + rows : (rows + 7) / 8 * 16;
    w.cols = cols, w.tiles = (w.rows + 15) / 16, w.chunks = (cols + 63) / 64;
    const Values v(type, size_t{rows} * cols, -size, size);
    Target data(size_t{w.tiles} * w.chunks * kF16ChunkBytes), row_scale(w.tiles * 64), out(size_t{rows} * cols * 2);
    w.data = data.data;
    if (type != SourceType::F16) w.row_scale = reinterpret_cast<float*>(row_scale.data);
    const Device<uint8_t> source(v.bytes);
    const size_t row_bytes = cols * (type == SourceType::F32 ? 4 : 2);
    for (uint32_t at = 0; at < rows; at += 7) {  // stripes that keep to no tile
        const RepackDenseParams p{w,
                                  place,
                                  plain ? reinterpret_cast<uint16_t*>(out.data) : nullptr,
                                  source.data + at * row_bytes,
                                  type,
                                  at,
                                  std::min(7u, rows - at),
                                  cols};
        repack_dense<<<repack_dense_grid(p).x, kRepackThreads>>>(p);
    }
    MUST(cudaDeviceSynchronize());
    for (Target* t : {&data, &row_scale, &out}) t->fetch();
    long long wrong = 0;
    w.data = data.left.data();
    if (w.row_scale) w.row_scale = reinterpret_cast<float*>(row_scale.left.data());
    for (uint32_t n = 0; n < rows; n++) {
        const uint32_t row = where == Rows::Whole ? place.first + n : n / 8 * 16 + n % 8 + (where == Rows::Lower ? 8 : 0);
        const double up = w.row_scale ? w.row_scale[row] : 1;
        for (uint32_t k = 0; k < w.chunks * 64; k++) {
            const uint16_t half = packed::half(w, row, k);
            wrong += k < cols ? !near(packed::half_value(half) * up, v.exact[size_t{n} * cols + k], type) : half != 0;
            if (plain && k < cols) wrong += reinterpret_cast<uint16_t*>(out.left.data())[size_t{n} * cols + k] != half;
        }
    }
    char name[128];
    std::snprintf(name, sizeof name, "dense %ux%u type %u place %u%s to %g", rows, cols, static_cast<unsigned>(type),
                  static_cast<unsigned>(where), plain ? " and rows" : "", size);
    report(name, wrong);
}

static void test_floats(uint32_t count, SourceType type, Rows where, bool ordered) {
    const std::vector<uint32_t> order = random_order(count);
    const Device<uint32_t> of_rows(order);
    const Values v(type, count, -3, 3);
    const RowPlace place{where, where == Rows::Whole ? 48u : 0u};
    const size_t rows = where == Rows::Whole ? 48 + count : (count + 7) / 8 * 16;
    Target out(rows * 4);
    const Device<uint8_t> source(v.bytes);
    const RepackFloatsParams p{reinterpret_cast<float*>(out.data), source.data, place, type, count, ordered ? of_rows.data : nullptr};
    repack_floats<<<repack_floats_grid(p).x, kRepackThreads>>>(p);
    MUST(cudaDeviceSynchronize());
    out.fetch();
    long long wrong = 0;
    for (uint32_t n = 0; n < count; n++) {
        const size_t row = where == Rows::Whole ? 48 + n : n / 8 * 16 + n % 8 + (where == Rows::Lower ? 8 : 0);
        wrong += reinterpret_cast<float*>(out.left.data())[row] != v.exact[ordered ? order[n] : n];
    }
    char name[64];
    std::snprintf(name, sizeof name, "floats %u type %u place %u%s", count, static_cast<unsigned>(type), static_cast<unsigned>(where),
                  ordered ? " ordered" : "");
    report(name, wrong);
}

static void time_codes(bool permuted, bool ordered) {
    const uint32_t rows = 17920, cols = 6656, group = 128;
    Matrix w{};
    w.type = WeightType::Q4;
    w.rows = rows, w.cols = cols, w.tiles = rows / 16, w.chunks = cols / 64, w.group = group, w.groups = cols / group;
    std::vector<uint32_t> perm(cols);
    std::iota(perm.begin(), perm.end(), 0u);
    std::shuffle(perm.begin(), perm.end(), rng);
    const size_t bytes = size_t{rows} * cols / 2;
    const Device<uint32_t> order(perm), rows_order(random_order(rows));
    Device<uint8_t> codes(bytes), packed(bytes);
    codes.fill(0x37);
    w.data = packed.data;
    const uint32_t cut = 8 << 20 >> 2, octets = cut / rows / 8 * 8;  // as staging cuts it
    cudaStream_t stream;
    MUST(cudaStreamCreate(&stream));
    const double repack = graph_time(stream, 1, 9, [&](uint32_t) {
        for (uint32_t at = 0; at < cols / 8; at += octets) {
            RepackCodesParams p{w,
                                {Rows::Whole, 0},
                                reinterpret_cast<const uint32_t*>(codes.data) + size_t{at} * rows,
                                permuted ? order.data : nullptr,
                                rows,
                                at,
                                std::min(at + octets, cols / 8),
                                0,
                                0,
                                0,
                                ordered ? rows_order.data : nullptr};
            repack_chunks(p);
            const RepackGrid g = repack_codes_grid(p);
            repack_codes<<<dim3(g.x, g.y), kRepackThreads, 0, stream>>>(p);
        }
    });
    const double copy = graph_time(
        stream, 1, 9, [&](uint32_t) { MUST(cudaMemcpyAsync(packed.data, codes.data, bytes, cudaMemcpyDeviceToDevice, stream)); });
    MUST(cudaStreamDestroy(stream));
    std::printf("codes %ux%u%s%s: %.3f ms, %.0f GB/s of source; a copy on the device %.3f ms\n", rows, cols, permuted ? " permuted" : "",
                ordered ? " ordered" : "", repack / 1e3, static_cast<double>(bytes) / repack / 1e3, copy / 1e3);
}

int main(int argc, char** argv) {
    if (!has_gpu()) return 77;
    if (argc > 1 && std::strcmp(argv[1], "--time") == 0) {
        time_codes(false, false);
        time_codes(true, false);
        time_codes(true, true);
        return 0;
    }
    for (const SourceType type : {SourceType::F16, SourceType::BF16, SourceType::F32})
        for (const Rows place : {Rows::Whole, Rows::Upper, Rows::Lower})
            for (const bool permuted : {false, true}) {
                test_q4({48, 256, 64, true, permuted, type, place, 1000});
                test_q4({40, 200, 32, !permuted, permuted, type, place, 3});
                test_q4({136, 256, 64, true, permuted, type, place, 5, true});
            }
    test_q4({8, 8, 32, true, false, SourceType::F16, Rows::Whole, 1});
    test_q4({136, 72, 96, true, true, SourceType::F16, Rows::Whole, 1});
    test_q4({1024, 2048, 128, false, false, SourceType::F16, Rows::Whole, 24});
    test_q4({1000, 4040, 4064, true, true, SourceType::BF16, Rows::Lower, 100});
    for (const SourceType type : {SourceType::F16, SourceType::BF16, SourceType::F32})
        for (const Rows place : {Rows::Whole, Rows::Upper, Rows::Lower}) {
            test_dense(131, 72, type, place, true, 1);
            test_dense(33, 67, type, place, true, type == SourceType::F16 ? 60000.0f : 3e30f);
            test_dense(20, 130, type, place, false, type == SourceType::F16 ? 1e-3f : 1e-20f);
            for (const bool ordered : {false, true}) test_floats(77, type, place, ordered);
        }
    return failed || g_frames_broken;
}
