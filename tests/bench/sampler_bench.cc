// Microseconds a draw, one thread: lists of steps and vocabularies, with one row that stays in the cache and with 32 rows in turn, as
// ratios to a pass that only finds the largest logit, beside other programs' ways. Then a batch of 32 rows on the caller's threads.
#include <pith/pith.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/kernels.h"
#include "sample/sampler.h"

extern "C" {
#include "runners/pthread.h"
}

#if defined(__x86_64__)
#    include <immintrin.h>
#endif

namespace {

using Row = std::vector<float>;
using Steps = std::vector<pith_sampler_step>;

pith_sampler_step step(uint32_t kind, float value, uint32_t count = 0) { return {kind, 0, {value}, {count}, nullptr, nullptr, 0}; }

// A normal bulk with a few tokens that stand out; `peak` 0 leaves the bulk alone.
Row make_row(size_t vocab, float spread, float peak, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, spread);
    Row row(vocab);
    for (float& x : row) x = normal(random);
    for (int i = 0; i < 30; i++) row[random() % vocab] = 4 * spread + peak * (1 - static_cast<float>(i) / 30);
    return row;
}

// What was said before: mostly the likely tokens of the rows, which a penalty meets again.
std::vector<pith_token> make_history(const std::vector<Row>& rows, size_t count) {
    std::mt19937 random(5);
    std::vector<pith_token> tokens;
    for (const Row& row : rows) {
        std::vector<pith_token> order(row.size());
        std::iota(order.begin(), order.end(), 0);
        std::partial_sort(order.begin(), order.begin() + 20, order.end(),
                          [&](pith_token a, pith_token b) { return row[static_cast<size_t>(a)] > row[static_cast<size_t>(b)]; });
        tokens.insert(tokens.end(), order.begin(), order.begin() + 20);
    }
    while (tokens.size() < count) tokens.push_back(static_cast<pith_token>(random() % rows[0].size()));
    std::shuffle(tokens.begin(), tokens.end(), random);
    tokens.resize(count);
    return tokens;
}

// The median of many calls, in microseconds. `between` is not measured.
double median_us(int calls, const std::function<void(int)>& call) {
    std::vector<double> times;
    for (int i = 0; i < calls + 20; i++) {
        const auto start = std::chrono::steady_clock::now();
        call(i);
        times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
    }
    times.erase(times.begin(), times.begin() + 20);
    std::nth_element(times.begin(), times.begin() + calls / 2, times.end());
    return times[static_cast<size_t>(calls) / 2];
}

volatile float g_sink;

// ---------------------------------------------------------------- the yardstick
#if defined(__x86_64__)
__attribute__((target("avx512f"))) float max_512(const float* x, size_t n) {
    __m512 m[8];
    for (__m512& v : m) v = _mm512_set1_ps(-INFINITY);
    size_t i = 0;
    for (; i + 128 <= n; i += 128)
        for (size_t j = 0; j < 8; j++) m[j] = _mm512_max_ps(_mm512_loadu_ps(x + i + 16 * j), m[j]);
    for (size_t j = 1; j < 8; j++) m[0] = _mm512_max_ps(m[0], m[j]);
    float most = _mm512_reduce_max_ps(m[0]);
    for (; i < n; i++) most = std::max(most, x[i]);
    return most;
}
__attribute__((target("avx2"))) float max_256(const float* x, size_t n) {
    __m256 m[8];
    for (__m256& v : m) v = _mm256_set1_ps(-INFINITY);
    size_t i = 0;
    for (; i + 64 <= n; i += 64)
        for (size_t j = 0; j < 8; j++) m[j] = _mm256_max_ps(_mm256_loadu_ps(x + i + 8 * j), m[j]);
    for (size_t j = 1; j < 8; j++) m[0] = _mm256_max_ps(m[0], m[j]);
    float lanes[8], most = -INFINITY;
    _mm256_storeu_ps(lanes, m[0]);
    for (const float lane : lanes) most = std::max(most, lane);
    for (; i < n; i++) most = std::max(most, x[i]);
    return most;
}
#endif

float max_pass(pith::ScanTier tier, const float* x, size_t n) {
#if defined(__x86_64__)
    if (tier == pith::ScanTier::Avx512) return max_512(x, n);
    if (tier == pith::ScanTier::Avx2) return max_256(x, n);
#endif
    (void)tier;
    float m[16];
    std::fill(m, m + 16, -INFINITY);
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t j = 0; j < 16; j++) m[j] = x[i + j] > m[j] ? x[i + j] : m[j];
    float most = *std::max_element(m, m + 16);
    for (; i < n; i++) most = std::max(most, x[i]);
    return most;
}

// ---------------------------------------------------------------- other programs' ways, restated
struct Other {
    std::vector<float> logits, p;
    std::vector<int> index;
    std::vector<bool> seen;
    std::mt19937 random{1};

    void penalise(const Row& row, const std::vector<pith_token>& history) {
        logits = row;
        seen.assign(row.size(), false);
        for (const pith_token t : history) {
            const size_t i = static_cast<size_t>(t);
            if (seen[i]) continue;
            seen[i] = true;
            logits[i] = logits[i] > 0 ? logits[i] / 1.1f : logits[i] * 1.1f;
        }
    }
    void softmax(float temperature) {
        const float most = *std::max_element(logits.begin(), logits.end()), scale = 1 / temperature;
        p.resize(logits.size());
        float sum = 0;
        for (size_t i = 0; i < p.size(); i++) sum += p[i] = expf((logits[i] - most) * scale);
        for (float& x : p) x /= sum;
        index.resize(p.size());
        std::iota(index.begin(), index.end(), 0);
    }
    void truncate(size_t size) {
        float sum = 0;
        for (size_t i = 0; i < size; i++) sum += p[i];
        p.resize(size);
        index.resize(size);
        for (float& x : p) x /= sum;
    }
    int draw() {
        float u = std::uniform_real_distribution<float>(0, 1)(random);
        for (size_t i = 0; i < p.size(); i++)
            if ((u -= p[i]) < 0) return index[i];
        return index.back();
    }
    // ExLlamaV2's: softmax over the whole vocabulary first, then top-k by a heap of (probability, index) over it, top-p and min-p on what
    // is left, each followed by a normalisation.
    int exllamav2(const Row& row, const std::vector<pith_token>& history) {
        penalise(row, history);
        softmax(0.8f);
        using Pair = std::pair<float, int>;
        std::vector<Pair> heap;
        for (size_t i = 0; i < p.size(); i++) {
            if (heap.size() == 50 && p[i] <= heap.front().first) continue;
            if (heap.size() == 50) {
                std::pop_heap(heap.begin(), heap.end(), std::greater<>());
                heap.pop_back();
            }
            heap.push_back({p[i], static_cast<int>(i)});
            std::push_heap(heap.begin(), heap.end(), std::greater<>());
        }
        std::sort(heap.begin(), heap.end(), std::greater<>());
        for (size_t i = 0; i < heap.size(); i++) {
            p[i] = heap[i].first;
            index[i] = heap[i].second;
        }
        truncate(heap.size());
        cut();
        return draw();
    }
    int sorted(const Row& row, const std::vector<pith_token>& history) {
        penalise(row, history);
        softmax(0.8f);
        std::sort(index.begin(), index.end(), [&](int a, int b) { return p[static_cast<size_t>(a)] > p[static_cast<size_t>(b)]; });
        std::vector<float> q(50);
        for (size_t i = 0; i < 50; i++) q[i] = p[static_cast<size_t>(index[i])];
        std::copy(q.begin(), q.end(), p.begin());
        truncate(50);
        cut();
        return draw();
    }
    void cut() {  // top-p 0.9, then min-p 0.05, of sorted probabilities
        float sum = 0;
        size_t size = 0;
        while (size < p.size() && sum < 0.9f) sum += p[size++];
        truncate(size);
        for (size = 0; size < p.size() && p[size] >= 0.05f * p[0]; size++) {
        }
        truncate(size);
    }
};

// ---------------------------------------------------------------- Pith
struct Made {
    pith::Allocator allocator{
        sizeof(pith::Allocator), nullptr,
        [](void*, size_t size, size_t alignment) { return aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment); },
        [](void*, void* memory, size_t, size_t) { std::free(memory); }};
    pith::Sampler sampler;
    Made(pith::ScanTier tier, const Steps& steps, size_t vocab, const std::vector<pith_token>& history) : sampler(allocator, tier) {
        pith_sampler_options options{};
        options.struct_size = sizeof options;
        options.seed = 1;
        options.steps = steps.data();
        options.step_count = static_cast<uint32_t>(steps.size());
        options.vocab_size = static_cast<uint32_t>(vocab);
        pith_error error;
        if (sampler.configure(options, &error) || sampler.accept(history.data(), history.size(), &error)) std::puts(error.message);
    }
    void draw(const Row& row) {
        pith_error error;
        pith_token token;
        if (sampler.sample(row.data(), row.size(), &token, &error)) std::puts(error.message);
        pith_token undo = 0;
        (void)undo;
    }
};

struct Case {
    const char* name;
    Steps steps;
};

const Steps kTypical = {step(PITH_STEP_PENALTIES, 1.1f, 1024), step(PITH_STEP_TOP_K, 0, 50), step(PITH_STEP_TOP_P, 0.9f),
                        step(PITH_STEP_MIN_P, 0.05f), step(PITH_STEP_TEMPERATURE, 0.8f)};

void line(const char* name, double hot, double hot_pass, double cold, double cold_pass) {
    std::printf("  %-44s %9.1f %7.2f x %9.1f %7.2f x\n", name, hot, hot / hot_pass, cold, cold / cold_pass);
}

void bench(size_t vocab, const char* shape, float spread, float peak, const std::vector<std::pair<const char*, pith::ScanTier>>& tiers) {
    std::vector<Row> rows;
    for (uint32_t i = 0; i < 32; i++) rows.push_back(make_row(vocab, spread, peak, i));
    const std::vector<pith_token> history = make_history(rows, 1024);
    std::printf("%zu entries, %s rows                      one row, us   ratio   32 rows, us   ratio\n", vocab, shape);
    double hot_pass = 0, cold_pass = 0;
    for (const auto& [name, tier] : tiers) {
        const auto pass = [&, t = tier](const Row& row) { g_sink = max_pass(t, row.data(), row.size()); };
        hot_pass = median_us(400, [&](int) { pass(rows[0]); });
        cold_pass = median_us(400, [&](int i) { pass(rows[static_cast<size_t>(i) % 32]); });
        std::printf(" %s\n", name);
        line("max pass, eight accumulators", hot_pass, hot_pass, cold_pass, cold_pass);
        const Case cases[] = {{"greedy", {}},
                              {"typical: penalties, k 50, p 0.9, m 0.05, T", kTypical},
                              {"top-k 40", {step(PITH_STEP_TOP_K, 0, 40)}},
                              {"min-p 0.05", {step(PITH_STEP_MIN_P, 0.05f)}},
                              {"penalties, min-p 0.05", {step(PITH_STEP_PENALTIES, 1.1f, 1024), step(PITH_STEP_MIN_P, 0.05f)}},
                              {"top-p 0.95", {step(PITH_STEP_TOP_P, 0.95f)}},
                              {"temperature", {step(PITH_STEP_TEMPERATURE, 0.8f)}}};
        for (const Case& c : cases) {
            Made made(tier, c.steps, vocab, history);
            const double hot = median_us(400, [&](int) { made.draw(rows[0]); });
            Made other(tier, c.steps, vocab, history);
            const double cold = median_us(400, [&](int i) { other.draw(rows[static_cast<size_t>(i) % 32]); });
            line(c.name, hot, hot_pass, cold, cold_pass);
        }
    }
    Other other;
    std::printf(" other ways to the typical chain, as ratios to the last max pass\n");
    line("ExLlamaV2's algorithm, restated", median_us(32, [&](int) { other.exllamav2(rows[0], history); }), hot_pass,
         median_us(32, [&](int i) { other.exllamav2(rows[static_cast<size_t>(i) % 32], history); }), cold_pass);
    line("softmax and sort", median_us(8, [&](int) { other.sorted(rows[0], history); }), hot_pass,
         median_us(8, [&](int i) { other.sorted(rows[static_cast<size_t>(i) % 32], history); }), cold_pass);
}

// 32 sequences through the public API, with pools of several widths.
void bench_batch(size_t vocab) {
    constexpr size_t kRows = 32;
    std::vector<Row> rows;
    for (uint32_t i = 0; i < kRows; i++) rows.push_back(make_row(vocab, 2.5f, 8, i));
    const std::vector<pith_token> history = make_history(rows, 1024);
    pith_error error;
    pith_env* env = nullptr;
    if (pith_env_create(nullptr, &env, &error)) return;
    std::vector<pith_sampler*> samplers(kRows);
    pith_sampler_options options{};
    options.struct_size = sizeof options;
    options.steps = kTypical.data();
    options.step_count = static_cast<uint32_t>(kTypical.size());
    options.vocab_size = static_cast<uint32_t>(vocab);
    std::vector<const float*> logits;
    for (size_t i = 0; i < kRows; i++) {
        options.seed = i;
        if (pith_sampler_create(env, &options, &samplers[i], &error) ||
            pith_sampler_accept(samplers[i], history.data(), history.size(), &error))
            std::puts(error.message);
        logits.push_back(rows[i].data());
    }
    std::printf("a batch of %zu rows x %zu entries, typical chain\n", kRows, vocab);
    for (const unsigned threads : {1u, 2u, 4u, 16u}) {
        thread_pool* pool = thread_pool_create(threads);
        const pith_runner runner = thread_pool_runner(pool);
        pith_token tokens[kRows];
        const double us = median_us(100, [&](int) {
            if (pith_sampler_sample_batch(samplers.data(), logits.data(), vocab, kRows, &runner, tokens, &error)) std::puts(error.message);
        });
        std::printf("  %2u threads: %8.1f us, %6.2f us a row\n", threads, us, us / kRows);
        thread_pool_destroy(pool);
    }
    for (pith_sampler* sampler : samplers) pith_sampler_destroy(sampler);
    pith_env_destroy(env);
}

}  // namespace

int main(int argc, char** argv) {
    const bool all = argc > 1 && !std::strcmp(argv[1], "--all");
    const pith::kernels::Tier best = pith::kernels::best_tier();
    std::vector<std::pair<const char*, pith::ScanTier>> tiers;
    if (best == pith::kernels::Tier::Avx512) tiers.push_back({"avx512", pith::ScanTier::Avx512});
    if (best == pith::kernels::Tier::Avx2 || (all && best == pith::kernels::Tier::Avx512)) tiers.push_back({"avx2", pith::ScanTier::Avx2});
    if (all || tiers.empty()) tiers.push_back({"plain", pith::ScanTier::Plain});
    for (const size_t vocab : {152064, 262144}) {
        bench(vocab, "peaked", 2.5f, 8, tiers);
        bench(vocab, "flat", 1, 0, {tiers[0]});
    }
    bench_batch(152064);
    return 0;
}
