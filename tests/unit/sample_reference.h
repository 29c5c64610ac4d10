// What a list of steps means, written the slow way: double precision, everything sorted. And helpers to build samplers.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "catch.h"
#include "sample/sampler.h"

namespace reference {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Item {
    double logit;
    int token;
};

inline void sort_by_rank(std::vector<Item>& items) {
    std::sort(items.begin(), items.end(),
              [](const Item& a, const Item& b) { return a.logit != b.logit ? a.logit > b.logit : a.token < b.token; });
}

inline std::vector<double> probabilities(const std::vector<Item>& items) {
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (const Item& item : items) largest = std::max(largest, item.logit);
    std::vector<double> p;
    for (const Item& item : items) sum += p.emplace_back(std::exp(item.logit - largest));
    for (double& value : p) value /= sum;
    return p;
}

inline void penalise(std::vector<Item>& items, const pith_sampler_step& step, const std::vector<pith_token>& history) {
    const double r = step.value[0] == 0 ? 1 : static_cast<double>(step.value[0]);
    const double f = static_cast<double>(step.value[1]), q = static_cast<double>(step.value[2]);
    for (Item& item : items) {
        double newest = 0, total = 0;
        for (size_t age = 0; age < history.size(); age++) {
            if (history[history.size() - 1 - age] != item.token) continue;
            double strength = 1;
            if (step.count[0] && age >= step.count[0] + step.count[1])
                strength = 0;
            else if (step.count[0] && age > step.count[0])
                strength = 1 - double(age - step.count[0]) / step.count[1];
            if (newest == 0) newest = strength;
            total += strength;
        }
        const double factor = 1 + (r - 1) * newest;
        item.logit = (item.logit > 0 ? item.logit / factor : item.logit * factor) - f * total - q * newest;
    }
}

// Token -> probability, for tokens that can be drawn at all.
inline std::map<int, double> distribution(const std::vector<float>& logits, const std::vector<pith_sampler_step>& steps,
                                          const std::vector<pith_token>& history = {}, size_t* kept = nullptr) {
    std::vector<Item> items;
    for (size_t i = 0; i < logits.size(); i++)
        if (logits[i] != -kInf) items.push_back({static_cast<double>(logits[i]), static_cast<int>(i)});
    for (const pith_sampler_step& step : steps) {
        sort_by_rank(items);
        const std::vector<double> p = probabilities(items);
        const double value = static_cast<double>(step.value[0]);
        size_t keep = items.size();
        switch (step.kind) {
            case PITH_STEP_TEMPERATURE:
                if (value == 0)
                    keep = 1;
                else
                    for (Item& item : items) item.logit /= value;
                break;
            case PITH_STEP_TOP_K:
                if (step.count[0]) keep = std::min<size_t>(keep, step.count[0]);
                break;
            case PITH_STEP_TOP_P: {
                double mass = 0;
                for (keep = 0; keep < items.size() && mass < value; keep++) mass += p[keep];
                break;
            }
            case PITH_STEP_MIN_P:
                for (keep = 0; keep < items.size() && p[keep] >= value * p[0]; keep++) {
                }
                break;
            default:
                penalise(items, step, history);
        }
        items.resize(keep);
    }
    if (kept) *kept = items.size();
    const std::vector<double> p = probabilities(items);
    std::map<int, double> result;
    for (size_t i = 0; i < items.size(); i++)
        if (p[i] > 0) result[items[i].token] = p[i];
    return result;
}

inline pith_sampler_step temperature(float t) { return {PITH_STEP_TEMPERATURE, 0, {t}, {}, nullptr, nullptr, 0}; }
inline pith_sampler_step top_k(uint32_t k) { return {PITH_STEP_TOP_K, 0, {}, {k}, nullptr, nullptr, 0}; }
inline pith_sampler_step top_p(float p) { return {PITH_STEP_TOP_P, 0, {p}, {}, nullptr, nullptr, 0}; }
inline pith_sampler_step min_p(float p) { return {PITH_STEP_MIN_P, 0, {p}, {}, nullptr, nullptr, 0}; }
inline pith_sampler_step penalties(float repetition, float frequency, float presence, uint32_t window = 0, uint32_t decay = 0) {
    return {PITH_STEP_PENALTIES, 0, {repetition, frequency, presence}, {window, decay}, nullptr, nullptr, 0};
}

// Counts what is live, checks what is freed, and can refuse the k-th request.
struct Counting {
    size_t calls = 0, live = 0, bytes = 0, fail_at = 0;  // fail_at: from 1; 0: never
    static void* alloc(void* user, size_t size, size_t alignment) {
        Counting* self = static_cast<Counting*>(user);
        if (++self->calls == self->fail_at) return nullptr;
        self->live++;
        self->bytes += size;
        return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    }
    static void free(void* user, void* memory, size_t size, size_t) {
        Counting* self = static_cast<Counting*>(user);
        self->live--;
        self->bytes -= size;
        std::free(memory);
    }
    pith::Allocator allocator{sizeof(pith::Allocator), this, alloc, free};
};

struct Made {
    Counting counting;
    pith::Sampler sampler{counting.allocator};
    pith_error error{};
    pith_status status = 0;

    Made(const std::vector<pith_sampler_step>& steps, uint64_t seed = 0, uint32_t vocab = 0, uint32_t history = 0) {
        const pith_sampler_options options{sizeof options, seed, steps.data(), static_cast<uint32_t>(steps.size()), vocab, history, 0};
        status = sampler.configure(options, &error);
    }
    Made(const Made&) = delete;
    pith_token draw(const std::vector<float>& logits) {
        pith_token token = PITH_NO_TOKEN;
        status = sampler.sample(logits.data(), logits.size(), &token, &error);
        return status == PITH_OK ? token : PITH_NO_TOKEN;
    }
};

inline std::vector<float> random_logits(size_t n, double spread, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<float> logits(n);
    for (float& x : logits) {  // a sum of twelve uniforms: the same with every library, unlike normal_distribution
        double sum = -6;
        for (int i = 0; i < 12; i++) sum += static_cast<double>(random()) * 0x1p-32;
        x = static_cast<float>(sum * spread);
    }
    return logits;
}

// Pearson's test of `counts` against `expected`, rare tokens pooled. Seeds are fixed, so this can't flake; six deviations are far from any
// of them.
inline void check_counts(const std::map<int, double>& expected, const std::map<int, size_t>& counts, size_t draws) {
    for (const auto& [token, count] : counts) {
        INFO("token " << token << " was drawn " << count << " times");
        REQUIRE(expected.count(token) == 1);
    }
    double chi = 0, pooled_expected = 0, pooled_count = 0;
    size_t cells = 0;
    for (const auto& [token, p] : expected) {
        const double e = p * static_cast<double>(draws);
        const auto found = counts.find(token);
        const double c = found == counts.end() ? 0 : static_cast<double>(found->second);
        if (e < 8) {
            pooled_expected += e;
            pooled_count += c;
            continue;
        }
        chi += (c - e) * (c - e) / e;
        cells++;
    }
    if (pooled_expected >= 8) {
        chi += (pooled_count - pooled_expected) * (pooled_count - pooled_expected) / pooled_expected;
        cells++;
    }
    const double freedom = cells > 1 ? static_cast<double>(cells - 1) : 1;
    INFO("chi-square " << chi << " in " << cells << " cells");
    CHECK(chi < freedom + 6 * std::sqrt(2 * freedom));
}

}  // namespace reference
