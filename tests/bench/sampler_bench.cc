// Microseconds a draw, by list of steps and vocabulary, one thread: median over rows shaped like a language model's logits.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "sample/sampler.h"

namespace {

using Steps = std::vector<pith_sampler_step>;

pith_sampler_step step(uint32_t kind, float value, uint32_t count = 0) { return {kind, 0, {value}, {count}, nullptr, nullptr, 0}; }

// A normal bulk with a few tokens that stand out; `peak` 0 leaves the bulk alone.
std::vector<float> make_row(size_t vocab, float spread, float peak, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, spread);
    std::vector<float> row(vocab);
    for (float& x : row) x = normal(random);
    for (int i = 0; i < 30; i++) row[random() % vocab] = 4 * spread + peak * (1 - static_cast<float>(i) / 30);
    return row;
}

double microseconds(const Steps& steps, size_t vocab, const std::vector<std::vector<float>>& rows) {
    const pith::Allocator allocator{sizeof(pith::Allocator), nullptr, [](void*, size_t size, size_t) { return std::malloc(size); },
                                    [](void*, void* memory, size_t, size_t) { std::free(memory); }};
    pith::Sampler sampler(allocator);
    const pith_sampler_options options{
        sizeof options, 1, steps.data(), static_cast<uint32_t>(steps.size()), static_cast<uint32_t>(vocab), 0, 0};
    pith_error error;
    if (sampler.configure(options, &error)) return std::nan("");
    std::vector<double> times;
    for (size_t i = 0; i < 60; i++) {
        const std::vector<float>& row = rows[i % rows.size()];
        pith_token token;
        const auto start = std::chrono::steady_clock::now();
        if (sampler.sample(row.data(), row.size(), &token, &error)) return std::nan("");
        times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
    }
    std::nth_element(times.begin(), times.begin() + 30, times.end());
    return times[30];
}

}  // namespace

int main() {
    const pith_sampler_step t = step(PITH_STEP_TEMPERATURE, 0.8f), k = step(PITH_STEP_TOP_K, 0, 40), p = step(PITH_STEP_TOP_P, 0.95f);
    const pith_sampler_step m = step(PITH_STEP_MIN_P, 0.05f);
    pith_sampler_step penalties = step(PITH_STEP_PENALTIES, 1.1f);
    penalties.count[0] = 256;
    const struct {
        const char* name;
        Steps steps;
    } lists[] = {{"greedy", {}},
                 {"temperature", {t}},
                 {"top-k 40", {k}},
                 {"top-p 0.95", {p}},
                 {"min-p 0.05", {m}},
                 {"t, k, p", {t, k, p}},
                 {"t, p, min-p", {t, p, m}},
                 {"t, min-p", {t, m}},
                 {"top-k 1000, p", {step(PITH_STEP_TOP_K, 0, 1000), p}},
                 {"penalties, t, k, p", {penalties, t, k, p}}};
    const struct {
        const char* name;
        float spread, peak;
    } shapes[] = {{"peaked", 2.5f, 8}, {"flat", 1, 0}};
    std::printf("%-20s %-7s %9s %9s %9s   (us a draw)\n", "steps", "row", "32000", "152064", "262144");
    for (const auto& shape : shapes) {
        std::vector<std::vector<float>> rows[3];
        const size_t vocabs[] = {32000, 152064, 262144};
        for (int v = 0; v < 3; v++)
            for (uint32_t i = 0; i < 4; i++) rows[v].push_back(make_row(vocabs[v], shape.spread, shape.peak, i));
        for (const auto& list : lists) {
            std::printf("%-20s %-7s", list.name, shape.name);
            for (int v = 0; v < 3; v++) std::printf(" %9.1f", microseconds(list.steps, vocabs[v], rows[v]));
            std::printf("\n");
        }
    }
    return 0;
}
