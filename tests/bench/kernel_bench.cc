// Rates of the CPU kernels on one thread, beside the machine's limits: kernel_bench [tier] [name filter]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include <functional>
#include <string>
#include <vector>

#include "bandwidth.h"
#include "kernels/kernels.h"

using namespace pith::kernels;

namespace {

// Of this thread's CPU time, so that other processes count less.
double seconds() {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// The shortest of several runs: other processes only ever add time.
double best_of(const std::function<void()>& f, double budget = 0.8) {
    double best = 1e30;
    const double end = seconds() + budget;
    for (int i = 0; i < 3 || seconds() < end; i++) {
        const double start = seconds();
        f();
        best = std::min(best, seconds() - start);
    }
    return best;
}

struct Buffer {
    explicit Buffer(size_t size) : data(static_cast<uint8_t*>(aligned_alloc(4096, (size + 4095) / 4096 * 4096))) {
        uint64_t x = 1;
        for (size_t i = 0; i + 8 <= size; i += 8) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            memcpy(data + i, &x, 8);
        }
    }
    ~Buffer() { free(data); }
    Buffer(const Buffer&) = delete;
    uint8_t* data;
};

volatile uint64_t sink;

// Reads in order as fast as one thread can: the yardstick, taken anew beside every figure, since a shared machine's memory changes its
// speed from second to second.
class Memory {
public:
    double rate() {  // bytes a second, of one pass
        const double start = seconds();
        reader_.read(0, reader_.bytes());
        return static_cast<double>(reader_.bytes()) / (seconds() - start);
    }

private:
    bench::Bandwidth reader_{size_t{128} << 20};
};

// What the int8 products can reach at best on this thread, in products a second: VNNI on registers alone. 0: this CPU has none.
#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx512f,avx512vnni"))) double vnni_peak() {
    if (!__builtin_cpu_supports("avx512vnni")) return 0;
    constexpr int kTurns = 1 << 18;  // of 16 products that do not wait for each other
    __m512i sum[16] = {}, codes = _mm512_set1_epi32(0x01010101), x = _mm512_set1_epi32(0x02020202);
    double best = 1e30;
    for (int turn = 0; turn < 8; turn++) {
        const double start = seconds();
        for (int i = 0; i < kTurns; i++) {
#    define PITH_DOT(n) asm volatile("vpdpbusd %2, %1, %0" : "+v"(sum[n]) : "v"(codes), "v"(x))
            PITH_DOT(0);
            PITH_DOT(1);
            PITH_DOT(2);
            PITH_DOT(3);
            PITH_DOT(4);
            PITH_DOT(5);
            PITH_DOT(6);
            PITH_DOT(7);
            PITH_DOT(8);
            PITH_DOT(9);
            PITH_DOT(10);
            PITH_DOT(11);
            PITH_DOT(12);
            PITH_DOT(13);
            PITH_DOT(14);
            PITH_DOT(15);
#    undef PITH_DOT
        }
        best = std::min(best, seconds() - start);
    }
    return 16.0 * 64 * kTurns / best;
}
#else
double vnni_peak() { return 0; }
#endif

struct Rate {
    double seconds, share;  // of the fastest turn; its bytes a second over the memory's fastest pass in the same second
    double median;          // of the turns' shares, each over the faster pass just before and after
};
Rate beside_memory(Memory& memory, double bytes, const std::function<void()>& f, double budget = 0.8) {
    std::vector<double> shares;
    f();
    double before = memory.rate(), fastest = before, best = 1e30;
    for (const double end = seconds() + budget; shares.size() < 5 || seconds() < end;) {
        const double start = seconds();
        f();
        const double time = seconds() - start, after = memory.rate();
        best = std::min(best, time);
        fastest = std::max(fastest, after);
        shares.push_back(bytes / time / std::max(before, after));
        before = after;
    }
    std::sort(shares.begin(), shares.end());
    return {best, bytes / best / fastest, shares[shares.size() / 2]};
}

struct Weights {
    Matrix w;
    Buffer buffer;
    Weights(Type type, uint32_t rows, uint32_t cols, uint32_t group) : w(shape(type, rows, cols, group)), buffer(w.tile_bytes * w.tiles()) {
        w.data = buffer.data;
        if (type != Type::Q4) memset(buffer.data, 0x11, w.tile_bytes * w.tiles());
    }
    static Matrix shape(Type type, uint32_t rows, uint32_t cols, uint32_t group) {
        Matrix m;
        m.type = type;
        m.rows = rows;
        m.cols = cols;
        m.group = group;
        m.tile_bytes = tile_bytes(m);
        return m;
    }
};

void bench_matmul(const Table& table, Type type, bool fast, uint32_t rows, uint32_t cols, uint32_t tokens, Memory& memory) {
    const Weights weights(type, rows, cols, type == Type::Q4 || type == Type::Q8 ? 128 : 0);
    const Matrix& w = weights.w;
    // As the backend does: few tokens in rows of their own, many interleaved.
    const uint32_t lanes = tokens > 4 ? table.lanes : 1, whole = (tokens + lanes - 1) / lanes * lanes;
    const size_t stride = cols, blocks = cols / 32 + 1;
    std::vector<float> x(stride * tokens, 0.5f), y(size_t{rows} * tokens), scale(blocks * whole, 0.01f);
    std::vector<int8_t> q(stride * whole, 3);
    std::vector<int32_t> sum(blocks * whole, -100);
    Activations a;
    a.x = x.data();
    a.x_stride = stride;
    a.q = fast ? q.data() : nullptr;
    a.q_stride = stride;
    a.scale = scale.data();
    a.sum = sum.data();
    a.block_stride = blocks;
    a.lanes = fast ? lanes : 1;
    // As the backend cuts: tiles of 64 tokens with a run of weight tiles.
    const double bytes = static_cast<double>(w.tile_bytes) * w.tiles();
    const Rate rate = beside_memory(memory, bytes, [&] {
        for (uint32_t tile = 0; tile < w.tiles(); tile += 32) {
            for (uint32_t t = 0; t < tokens; t += 64) {
                table.matmul(w, a, t, std::min(t + 64, tokens), tile, std::min(tile + 32, w.tiles()), y.data(), rows);
            }
        }
    });
    const char* names[] = {"f32", "f16", "bf16", "q4", "q8"};
    printf("  %-4s %-5s %6u x %5u, %3u tokens: %7.1f GMAC/s, %6.2f GB/s (%3.0f %% of memory, median %3.0f %%)\n",
           names[static_cast<int>(type)],
           type != Type::Q4 && type != Type::Q8 ? ""
           : fast           ? "int8"
                            : "exact",
           rows, cols, tokens, static_cast<double>(rows) * cols * tokens / rate.seconds * 1e-9, bytes / rate.seconds * 1e-9,
           100.0 * rate.share, 100.0 * rate.median);
}

void bench_attention(const Table& table, Type type, uint32_t heads, uint32_t kv_heads, uint32_t dim, uint32_t first, uint32_t tokens,
                     Memory& memory) {
    constexpr uint32_t kPage = 256;
    const uint32_t pages = (first + tokens + kPage - 1) / kPage;
    const size_t page_bytes = size_t{kPage} * kv_heads * dim * (type == Type::F16 ? 2 : 4);
    // Several layers' caches in turn, so that decode reads memory as it does in a model.
    const uint32_t layers = tokens > 4 ? 1 : static_cast<uint32_t>((size_t{128} << 20) / (page_bytes * pages * 2) + 1);
    Buffer buffer(page_bytes * pages * 2 * layers);
    memset(buffer.data, 0x21, page_bytes * pages * 2 * layers);
    std::vector<void*> k, v;
    for (uint32_t p = 0; p < pages * layers; p++) {
        k.push_back(buffer.data + page_bytes * (2 * p));
        v.push_back(buffer.data + page_bytes * (2 * p + 1));
    }
    const size_t stride = size_t{heads} * dim;
    std::vector<float> q(stride * tokens, 0.1f), out(stride * tokens);
    const Buffer scratch(attention_scratch(heads / kv_heads, dim));
    const double bytes = 2.0 * (first + tokens) * kv_heads * dim * (type == Type::F16 ? 2 : 4) * layers;
    const Rate rate = beside_memory(memory, bytes, [&] {
        for (uint32_t layer = 0; layer < layers; layer++) {
            const Attention a{{k.data() + layer * pages, v.data() + layer * pages, kPage, kv_heads, dim, type, type},
                              q.data(),
                              out.data(),
                              stride,
                              stride,
                              heads,
                              first,
                              0,
                              0.125f};
            for (uint32_t h = 0; h < kv_heads; h++) table.attention(a, h, 0, tokens, scratch.data);
        }
    });
    const double time = rate.seconds / layers, keys = tokens * (first + 0.5 * (tokens + 1));
    printf(
        "  attention %s %2u/%u heads of %3u, %4u tokens after %4u: %9.1f us, %6.1f GMAC/s, %6.2f GB/s (%3.0f %% of memory, median %3.0f "
        "%%)\n",
        type == Type::F16 ? "f16" : "f32", heads, kv_heads, dim, tokens, first, time * 1e6, 2.0 * keys * heads * dim / time * 1e-9,
        bytes / rate.seconds * 1e-9, 100.0 * rate.share, 100.0 * rate.median);
}

void bench_elementwise(const Table& table) {
    constexpr uint32_t kN = 8192;
    std::vector<float> x(kN, 1.0f), w(kN, 0.5f), y(kN);
    std::vector<int8_t> q(kN);
    std::vector<int32_t> sum(kN / 32);
    std::vector<float> scale(kN / 32);
    const auto report = [](const char* name, const std::function<void()>& f) {
        const double time = best_of(
                                [&] {
                                    for (int i = 0; i < 100; i++) f();
                                },
                                0.2) /
                            100;
        printf("  %-10s of %u: %7.3f us\n", name, kN, time * 1e6);
    };
    report("rms_norm", [&] { table.rms_norm(x.data(), w.data(), kN, 1e-5f, y.data()); });
    report("silu_mul", [&] { table.silu_mul(x.data(), w.data(), kN, y.data()); });
    report("add", [&] { table.add(x.data(), kN, y.data()); });
    report("quantise", [&] { table.quantise(x.data(), kN, 128, nullptr, 1, q.data(), scale.data(), sum.data()); });
}

void run_all(const Table& table, const std::string& filter) {
    const auto wanted = [&](const char* name) { return filter.empty() || filter == name; };
    Memory memory;
    printf("%s; one thread reads %.1f GB/s, and multiplies at most %.1f GMAC/s by VNNI\n", table.name, memory.rate() * 1e-9,
           vnni_peak() * 1e-9);
    if (wanted("decode")) {
        for (const uint32_t tokens : {1u, 2u, 4u}) bench_matmul(table, Type::Q4, true, 65536, 2048, tokens, memory);
        bench_matmul(table, Type::Q4, true, 16384, 8192, 1, memory);
        bench_matmul(table, Type::Q4, false, 65536, 2048, 1, memory);
        for (const uint32_t tokens : {1u, 2u, 4u, 64u}) bench_matmul(table, Type::Q8, true, 32064, 2048, tokens, memory);
        for (const Type type : {Type::F32, Type::F16, Type::BF16}) bench_matmul(table, type, false, 32064, 2048, 1, memory);
    }
    if (wanted("prefill")) {
        for (const uint32_t tokens : {8u, 16u, 32u, 64u, 512u}) bench_matmul(table, Type::Q4, true, 8192, 2048, tokens, memory);
        bench_matmul(table, Type::Q4, true, 2048, 8192, 512, memory);
        bench_matmul(table, Type::Q4, false, 2048, 2048, 64, memory);
        for (const Type type : {Type::F32, Type::F16, Type::BF16}) bench_matmul(table, type, false, 2048, 2048, 64, memory);
    }
    if (wanted("attention")) {
        for (const Type type : {Type::F16, Type::F32}) {
            bench_attention(table, type, 32, 8, 64, 512, 1, memory);
            bench_attention(table, type, 32, 8, 64, 4095, 1, memory);
            bench_attention(table, type, 32, 32, 128, 4095, 1, memory);
            bench_attention(table, type, 32, 8, 64, 0, 512, memory);
            bench_attention(table, type, 32, 8, 64, 3584, 512, memory);
            bench_attention(table, type, 32, 32, 128, 0, 512, memory);
        }
    }
    if (wanted("elementwise")) bench_elementwise(table);
}

}  // namespace

int main(int argc, char** argv) {
    for (uint32_t t = 0; t <= static_cast<uint32_t>(best_tier()); t++) {
        const Table* kernels = table(static_cast<Tier>(t));
        if (kernels && (argc < 2 || strcmp(argv[1], kernels->name) == 0)) run_all(*kernels, argc > 2 ? argv[2] : "");
    }
    return 0;
}
