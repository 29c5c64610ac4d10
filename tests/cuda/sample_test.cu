// The sampling kernel against the CPU sampler: same steps, same seed, same token; and draws against float64 probabilities.
//   sample_test [--time | --quick | --few]    --few: for a sanitizer; exit code 77: no GPU
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "../../cuda/kernels/sample.cu"
#include "check.h"
#include "sample/sampler.h"

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
const float kNan = std::numeric_limits<float>::quiet_NaN();
using pith::cuda::SampleArgs;
using pith::cuda::SampleChain;
using pith::cuda::SampleHistory;
using pith::cuda::SampleResult;
using pith::cuda::SampleStatus;
using Steps = std::vector<pith_sampler_step>;

int failures = 0;

void report(const std::string& name, bool ok, const char* what) {
    printf("%s %s: %s\n", ok ? "ok" : "FAIL", name.c_str(), what);
    failures += !ok;
}

pith_sampler_step step(uint32_t kind, float a, float b = 0, float c = 0, uint32_t count = 0, uint32_t decay = 0) {
    return {kind, 0, {a, b, c, 0}, {count, decay, 0, 0}, nullptr, nullptr, 0};
}
pith_sampler_step temperature(float t) { return step(PITH_STEP_TEMPERATURE, t); }
pith_sampler_step top_k(uint32_t k) { return step(PITH_STEP_TOP_K, 0, 0, 0, k); }
pith_sampler_step top_p(float p) { return step(PITH_STEP_TOP_P, p); }
pith_sampler_step min_p(float p) { return step(PITH_STEP_MIN_P, p); }
pith_sampler_step penalties(float r, float f, float p, uint32_t window = 0, uint32_t decay = 0) {
    return step(PITH_STEP_PENALTIES, r, f, p, window, decay);
}

std::string describe(const Steps& steps) {
    std::string text;
    for (const pith_sampler_step& s : steps) {
        char part[80];
        static const char* names[] = {"", "temp", "top-k", "top-p", "min-p"};
        if (s.kind == PITH_STEP_PENALTIES)
            snprintf(part, sizeof part, "pen %g/%g/%g/%u/%u", static_cast<double>(s.value[0]), static_cast<double>(s.value[1]),
                     static_cast<double>(s.value[2]), s.count[0], s.count[1]);
        else if (s.kind == PITH_STEP_TOP_K)
            snprintf(part, sizeof part, "top-k %u", s.count[0]);
        else
            snprintf(part, sizeof part, "%s %g", names[s.kind], static_cast<double>(s.value[0]));
        text += (text.empty() ? "" : ", ") + std::string(part);
    }
    return text.empty() ? "greedy" : text;
}

struct Memory {
    static void* alloc(void*, size_t size, size_t alignment) {
        return aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    }
    static void free(void*, void* memory, size_t, size_t) { ::free(memory); }
    pith::Allocator allocator{sizeof(pith::Allocator), nullptr, alloc, free};
};

// A CPU sampler, and the same on the device.
struct Pair {
    Memory memory;
    pith::Sampler sampler{memory.allocator};
    SampleArgs args{};
    SampleResult* result = nullptr;
    float* logits = nullptr;
    uint32_t vocab;
    bool supported;

    Pair(const Steps& steps, uint64_t seed, uint32_t vocab_size, uint32_t limit = 0, uint32_t history = 0, uint32_t offset = 0)
        : vocab(vocab_size) {
        const pith_sampler_options options{sizeof options, seed, steps.data(), static_cast<uint32_t>(steps.size()), limit, history, 0};
        pith_error error{};
        if (sampler.configure(options, &error) != PITH_OK) {
            printf("FAIL configure: %s\n", error.message);
            exit(1);
        }
        SampleChain chain;
        supported = pith::cuda::sample_chain(sampler.steps(), sampler.seed(), sampler.vocabulary(), vocab, &chain);
        float* base;
        MUST(cudaMalloc(reinterpret_cast<void**>(&base), (size_t{vocab} + offset) * 4));
        logits = base + offset;
        args.logits = logits;
        SampleChain* device_chain;
        MUST(cudaMalloc(reinterpret_cast<void**>(&device_chain), sizeof chain));
        MUST(cudaMemcpy(device_chain, &chain, sizeof chain, cudaMemcpyHostToDevice));
        args.chain = device_chain;
        MUST(cudaMalloc(reinterpret_cast<void**>(&args.history), sizeof(SampleHistory)));
        MUST(cudaMalloc(reinterpret_cast<void**>(&args.ring), (sampler.history().ring().size() + 1) * 4));
        MUST(cudaMalloc(&args.workspace, pith::cuda::sample_workspace(vocab)));
        MUST(cudaMemset(args.workspace, 0xff, pith::cuda::sample_workspace(vocab)));
        MUST(cudaMemset(args.workspace, 0, pith::cuda::kSampleControlBytes));
        MUST(cudaMemset(static_cast<char*>(args.workspace) + pith::cuda::sample_layout(vocab).histogram, 0, pith::cuda::kSampleBins * 8));
        MUST(cudaMalloc(reinterpret_cast<void**>(&args.next), 4));
        MUST(cudaHostAlloc(reinterpret_cast<void**>(&result), sizeof *result, cudaHostAllocMapped));
        MUST(cudaHostGetDevicePointer(reinterpret_cast<void**>(&args.result), result, 0));
        args.vocab = vocab;
        args.record = 1;
        upload();
    }
    ~Pair() {
        const uint32_t offset = (reinterpret_cast<uintptr_t>(logits) & 255) / 4;
        cudaFree(logits - offset);
        cudaFree(const_cast<SampleChain*>(args.chain));
        cudaFree(args.history);
        cudaFree(args.ring);
        cudaFree(args.workspace);
        cudaFree(args.next);
        cudaFreeHost(result);
    }
    Pair(const Pair&) = delete;
    Pair& operator=(const Pair&) = delete;

    void upload() {
        const pith::History& h = sampler.history();
        const SampleHistory to{h.recorded(), h.length(), static_cast<uint32_t>(h.ring().size())};
        MUST(cudaMemcpy(args.history, &to, sizeof to, cudaMemcpyHostToDevice));
        if (to.ring_size) MUST(cudaMemcpy(args.ring, h.ring().data(), to.ring_size * 4, cudaMemcpyHostToDevice));
    }
    void set(const std::vector<float>& row) { MUST(cudaMemcpy(logits, row.data(), row.size() * 4, cudaMemcpyHostToDevice)); }
    void launch(cudaStream_t stream = nullptr) {
        void* list[] = {&args};
        const pith::cuda::SampleGeometry g = pith::cuda::sample_geometry(vocab);
        MUST(cudaLaunchKernel(reinterpret_cast<const void*>(&pith_sample), dim3(g.grid), dim3(g.block), list, g.shared, stream));
    }
    SampleResult draw() {
        *result = {-1, SampleStatus::Nothing, ~0u, 0};
        launch();
        MUST(cudaDeviceSynchronize());
        return *result;
    }
};

enum class Shape { Normal, Flat, Peaked, Ties, Masked, Equal, Rising, Huge, Tiny, Nothing };
constexpr int kShapes = 9;
const char* const kShapeNames[] = {"normal", "flat", "peaked", "ties", "masked", "equal", "rising", "huge", "tiny", "nothing"};

std::vector<float> make_row(Shape shape, size_t n, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> row(n);
    for (size_t i = 0; i < n; i++) {
        const float x = normal(random);
        switch (shape) {
            case Shape::Normal:
                row[i] = 3 * x;
                break;
            case Shape::Flat:
                row[i] = 0.3f * x;
                break;
            case Shape::Peaked:
                row[i] = random() % 4096 < 3 ? 8 + 4 * x : 2 * x - 4;
                break;
            case Shape::Ties:
                row[i] = std::round(1.5f * x);
                break;
            case Shape::Masked:
                row[i] = random() % 3 ? -kInf : 3 * x;
                break;
            case Shape::Equal:
                row[i] = -2.5f;
                break;
            case Shape::Rising:
                row[i] = static_cast<float>(i) * 20 / static_cast<float>(n);
                break;
            case Shape::Huge:
                row[i] = std::clamp(x, -3.0f, 3.0f) * 1e38f;
                break;
            case Shape::Tiny:
                row[i] = x * 1e-39f;
                break;
            default:
                row[i] = -kInf;
        }
    }
    if (shape == Shape::Masked) row[n / 2] = 1;
    return row;
}

size_t total_draws = 0, total_differences = 0;

// Draws from both; a difference is put right in the device's history and counted. Returns the differences.
size_t compare(Pair& pair, const std::vector<float>& row, size_t draws, std::string* note) {
    size_t differences = 0;
    for (size_t i = 0; i < draws; i++) {
        pith_token token = -1;
        pith_error error{};
        const pith_status status = pair.sampler.sample(row.data(), row.size(), &token, &error);
        const SampleResult drawn = pair.draw();
        int32_t next = -2;
        MUST(cudaMemcpy(&next, pair.args.next, 4, cudaMemcpyDeviceToHost));
        total_draws++;
        const bool same = status == PITH_OK ? drawn.status == SampleStatus::Ok && drawn.token == token && next == token
                                            : drawn.status == SampleStatus::Nothing;
        if (same) continue;
        if (!differences++) {
            char text[160];
            snprintf(text, sizeof text, "draw %zu: CPU %d (status %d), GPU %d (status %u, index %u), next %d", i, token, status,
                     drawn.token, static_cast<uint32_t>(drawn.status), drawn.index, next);
            *note = text;
        }
        pair.upload();
    }
    total_differences += differences;
    return differences;
}

void record_some(Pair& pair, uint32_t count, uint32_t vocab, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<pith_token> tokens(count);
    for (pith_token& token : tokens) token = static_cast<pith_token>(random() % (random() % 4 ? vocab : std::min(vocab, 40u)));
    pith_error error{};
    pair.sampler.accept(tokens.data(), count, &error);
    pair.upload();
}

void test_chains(const std::vector<uint32_t>& vocabs, size_t draws) {
    const Steps chains[] = {
        {},
        {temperature(0.8f)},
        {temperature(1)},
        {top_k(50), top_p(0.9f), min_p(0.05f), temperature(0.8f)},
        {penalties(1.1f, 0, 0), top_k(50), top_p(0.9f), min_p(0.05f), temperature(0.8f)},
        {penalties(1.3f, 0.2f, 0.1f, 64, 100), temperature(0.7f), top_k(40)},
        {penalties(1.3f, 0.2f, 0.1f), temperature(0.7f)},
        {penalties(1.5f, -0.2f, 0.1f), temperature(0)},
        {top_p(0.9f)},
        {top_p(0.999f), temperature(1.5f)},
        {min_p(0.05f)},
        {temperature(2), min_p(0.001f)},
        {top_k(1000), temperature(1.2f)},
        {top_k(3000), temperature(1.2f)},
        {temperature(1.5f), top_p(0.95f), penalties(1.2f, 0, 0.3f), top_p(0.9f), top_k(20)},
        {top_k(200), penalties(2, 0.5f, 0, 300, 50), min_p(0.1f), temperature(0.5f)},
        {top_k(40), temperature(0)},
        {top_p(1e-9f)},
    };
    for (const Steps& steps : chains) {
        for (const uint32_t vocab : vocabs) {
            size_t differences = 0, count = 0;
            std::string note;
            Pair pair(steps, 42 + vocab, vocab);
            record_some(pair, 700, vocab, 5);
            for (int shape = 0; shape < kShapes; shape++) {
                const std::vector<float> row = make_row(static_cast<Shape>(shape), vocab, 7 + vocab);
                pair.set(row);
                const size_t found = compare(pair, row, draws, &note);
                if (found && note.find('[') == std::string::npos) note += std::string(" [") + kShapeNames[shape] + "]";
                differences += found;
                count += draws;
                std::vector<float> after(vocab);
                MUST(cudaMemcpy(after.data(), pair.logits, size_t{vocab} * 4, cudaMemcpyDeviceToHost));
                if (memcmp(after.data(), row.data(), size_t{vocab} * 4) != 0) report(describe(steps), false, "the logits were changed");
            }
            char text[240];
            snprintf(text, sizeof text, "vocab %u: %zu of %zu draws differ. %s", vocab, differences, count, note.c_str());
            report(describe(steps), differences <= count / 2000, text);
        }
    }
}

// Chains of any steps in any order.
void test_random(size_t rounds, uint32_t largest) {
    std::mt19937 random(99);
    const auto any = [&](std::initializer_list<float> of) { return of.begin()[random() % of.size()]; };
    size_t differences = 0, draws = 0, shown = 0;
    for (size_t round = 0; round < rounds; round++) {
        Steps steps(1 + random() % 6);
        for (pith_sampler_step& s : steps) {
            switch (random() % 5) {
                case 0:
                    s = temperature(any({0.3f, 0.8f, 1.3f, 5, 1e-3f, 40}));
                    break;
                case 1:
                    s = top_k(static_cast<uint32_t>(any({2, 7, 50, 300, 1024, 2500, 20000})));
                    break;
                case 2:
                    s = top_p(any({0.1f, 0.5f, 0.9f, 0.99f, 0.9999f}));
                    break;
                case 3:
                    s = min_p(any({0.5f, 0.1f, 0.01f, 1e-4f, 1e-7f}));
                    break;
                default:
                    s = penalties(any({1, 1.1f, 2, 0.5f}), any({0, 0.3f, -1}), any({0, 1}), static_cast<uint32_t>(any({0, 20, 300})), 0);
                    if (s.count[0]) s.count[1] = static_cast<uint32_t>(any({0, 1, 200}));
            }
        }
        const uint32_t sizes[] = {1, 5, 31, 131, 1000, 2049, 8192, 32000, 128256, 152064, 262144};
        uint32_t vocab;
        do vocab = sizes[random() % 11];
        while (vocab > largest);
        const uint32_t limit = random() % 4 ? 0 : 1 + random() % vocab;
        const Shape shape = static_cast<Shape>(random() % kShapes);
        Pair pair(steps, random(), vocab, limit, 600, random() % 4 ? 0 : random() % 4);
        record_some(pair, random() % 1500, vocab, random());
        const std::vector<float> row = make_row(shape, vocab, random());
        pair.set(row);
        std::string note;
        const size_t found = compare(pair, row, 3, &note);
        differences += found;
        draws += 3;
        if (found && shown++ < 12)
            printf("   %s, vocab %u limit %u, %s: %s\n", describe(steps).c_str(), vocab, limit, kShapeNames[static_cast<int>(shape)],
                   note.c_str());
    }
    char text[100];
    snprintf(text, sizeof text, "%zu of %zu draws differ", differences, draws);
    report("random chains", differences <= draws / 400, text);  // far cuts of top-p 0.9999 may be rounded apart, and stay so
}

void test_bad_rows() {
    for (const Steps& steps : {Steps{}, Steps{temperature(1)}, Steps{penalties(1.1f, 0, 0), top_k(3), top_p(0.9f)}, Steps{min_p(0.1f)}}) {
        for (const uint32_t vocab : {5u, 5000u}) {
            Pair pair(steps, 8, vocab);
            std::vector<float> row = make_row(Shape::Normal, vocab, 2);
            const auto expect = [&](SampleStatus status, uint32_t index, const char* what) {
                pair.set(row);
                const SampleResult drawn = pair.draw();
                SampleHistory history;
                MUST(cudaMemcpy(&history, pair.args.history, sizeof history, cudaMemcpyDeviceToHost));
                if (drawn.status != status || (status != SampleStatus::Nothing && drawn.index != index) || history.recorded != 0)
                    report(describe(steps), false, what);
            };
            row[vocab - 2] = kInf;
            row[vocab - 1] = kInf;
            expect(SampleStatus::Infinite, vocab - 2, "infinity");
            row[vocab - 1] = kNan;
            expect(SampleStatus::Nan, vocab - 1, "NaN behind infinity");
            row[3] = kNan;
            expect(SampleStatus::Nan, 3, "the first NaN");
            row.assign(vocab, -kInf);
            expect(SampleStatus::Nothing, 0, "nothing left");
            row = make_row(Shape::Normal, vocab, 2);
            pair.set(row);
            std::string note;
            if (compare(pair, row, 5, &note)) report(describe(steps), false, ("after bad rows " + note).c_str());
        }
    }
    report("rows that can't be drawn from", failures == 0, "NaN, infinity, nothing left");
}

// Frequencies against float64 probabilities of a chain that keeps `kept` of a row by rank.
void test_frequencies(const Steps& steps, double temperature_of, size_t kept, size_t draws) {
    const uint32_t vocab = 131;
    Pair pair(steps, 11, vocab);
    const std::vector<float> row = make_row(Shape::Normal, vocab, 3);
    pair.set(row);
    std::vector<uint32_t> order(vocab);
    for (uint32_t i = 0; i < vocab; i++) order[i] = i;
    std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return row[a] > row[b]; });
    std::vector<double> p(vocab);
    double sum = 0;
    for (size_t i = 0; i < kept; i++) sum += p[order[i]] = std::exp(static_cast<double>(row[order[i]] - row[order[0]]) / temperature_of);
    std::vector<size_t> counts(vocab);
    for (size_t i = 0; i < draws; i++) counts[static_cast<size_t>(pair.draw().token)]++;
    double chi = 0, rare = 0, rare_count = 0;
    int cells = 0;
    bool stray = false;
    for (uint32_t i = 0; i < vocab; i++) {
        const double e = p[i] / sum * static_cast<double>(draws), c = static_cast<double>(counts[i]);
        stray = stray || (e == 0 && c > 0);
        if (e < 8) {
            rare += e;
            rare_count += c;
        } else {
            chi += (c - e) * (c - e) / e;
            cells++;
        }
    }
    if (rare >= 8) chi += (rare_count - rare) * (rare_count - rare) / rare, cells++;
    const double freedom = std::max(1, cells - 1);
    char text[100];
    snprintf(text, sizeof text, "chi-square %.1f in %d cells, %zu draws", chi, cells, draws);
    report("frequencies: " + describe(steps), !stray && chi < freedom + 6 * std::sqrt(2 * freedom), text);
}

// Reads what fills the L2 cache several times over, as a forward does with weights.
__global__ void stream_past(const uint4* from, size_t count, uint32_t* to) {
    uint32_t sum = 0;
    for (size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += size_t{gridDim.x} * blockDim.x)
        sum += __ldcs(from + i).x;
    if (sum == 0x12345678) *to = sum;
}
__global__ void copy_row(const float* from, float* to, uint32_t n) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) to[i] = from[i];
}

struct Cold {
    uint4* weights;
    float* row;
    uint32_t* sink;
};
constexpr size_t kColdBytes = size_t{256} << 20;

// Microseconds of a graph of `draws` times what is asked for.
double time_graph(Pair& pair, int draws, const Cold* cold, bool draw) {
    cudaStream_t stream;
    MUST(cudaStreamCreate(&stream));
    const double us = pith::cuda::test::graph_time(stream, static_cast<uint32_t>(draws), 21, [&](uint32_t) {
        if (cold) {
            stream_past<<<528, 512, 0, stream>>>(cold->weights, kColdBytes / 16, cold->sink);
            copy_row<<<(pair.vocab + 255) / 256, 256, 0, stream>>>(cold->row, pair.logits, pair.vocab);
        }
        if (draw) pair.launch(stream);
    });
    MUST(cudaStreamDestroy(stream));
    return us;
}
double time_draws(Pair& pair) { return time_graph(pair, 40, nullptr, true); }
double time_cold(Pair& pair, const Cold& cold) { return time_graph(pair, 10, &cold, true) - time_graph(pair, 10, &cold, false); }

void print_times() {
    const struct {
        const char* name;
        Steps steps;
    } chains[] = {
        {"greedy", {}},
        {"typical (penalties 1024, 50, 0.9, 0.05, 0.8)", {penalties(1.1f, 0, 0), top_k(50), top_p(0.9f), min_p(0.05f), temperature(0.8f)}},
        {"the same without penalties", {top_k(50), top_p(0.9f), min_p(0.05f), temperature(0.8f)}},
        {"temperature 0.8", {temperature(0.8f)}},
        {"min-p 0.05", {min_p(0.05f)}},
        {"top-k 1000", {top_k(1000)}},
        {"top-p 0.9", {top_p(0.9f)}},
    };
    Cold cold;
    MUST(cudaMalloc(reinterpret_cast<void**>(&cold.weights), kColdBytes));
    MUST(cudaMemset(cold.weights, 0, kColdBytes));
    MUST(cudaMalloc(reinterpret_cast<void**>(&cold.row), pith::cuda::kSampleMaxVocab * 4));
    MUST(cudaMalloc(reinterpret_cast<void**>(&cold.sink), 4));
    printf("us a draw in a graph of dependent launches; cold: what it adds after 256 MB were read and the logits written\n");
    printf("%54s  32000  128256  152064  262144    cold: 32000  128256\n", "");
    for (const Shape shape : {Shape::Peaked, Shape::Flat}) {
        for (const auto& chain : chains) {
            printf("%-7s %-46s", kShapeNames[static_cast<int>(shape)], chain.name);
            for (const uint32_t vocab : {32000u, 128256u, 152064u, 262144u}) {
                Pair pair(chain.steps, 4, vocab);
                record_some(pair, 1500, vocab, 5);
                pair.set(make_row(shape, vocab, 9));
                printf("%8.2f", time_draws(pair));
            }
            for (const uint32_t vocab : {32000u, 128256u}) {
                Pair pair(chain.steps, 4, vocab);
                record_some(pair, 1500, vocab, 5);
                const std::vector<float> row = make_row(shape, vocab, 9);
                MUST(cudaMemcpy(cold.row, row.data(), row.size() * 4, cudaMemcpyHostToDevice));
                printf("%10.2f", time_cold(pair, cold));
            }
            printf("\n");
        }
    }
    cudaFree(cold.weights);
    cudaFree(cold.row);
    cudaFree(cold.sink);
}

}  // namespace

int main(int argc, char** argv) {
    if (!pith::cuda::test::has_gpu()) return 77;
    const bool quick = argc > 1 && strcmp(argv[1], "--quick") == 0, few = argc > 1 && strcmp(argv[1], "--few") == 0;
    if (argc > 1 && strcmp(argv[1], "--time") == 0) {
        print_times();
        return 0;
    }
    test_bad_rows();
    if (few) {
        test_random(40, 5000);
    } else if (quick) {
        test_chains({1, 5, 131, 5000}, 2);
        test_random(60, 8192);
    } else {
        test_chains({1, 5, 131, 8192, 32000, 128256, 152064, 262144}, 6);
        test_random(800, 262144);
        test_frequencies({temperature(0.8f)}, 0.8, 131, 20000);
        test_frequencies({top_k(20), temperature(1.5f)}, 1.5, 20, 20000);
    }
    printf("%zu of %zu draws differ from the CPU's\n", total_differences, total_draws);
    printf(failures ? "%d FAILED\n" : "all ok\n", failures);
    return failures ? 1 : 0;
}
