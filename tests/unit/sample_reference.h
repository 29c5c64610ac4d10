// What a list of steps means, written the slow way: double precision, everything sorted. And helpers to build samplers.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
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

inline bool listed(const pith_sampler_step& step, int token) {
    return std::find(step.tokens, step.tokens + step.token_count, token) != step.tokens + step.token_count;
}

// The longest end of the text, not beyond a breaker, that occurred before and was followed by the token.
inline size_t repeated(const pith_sampler_step& step, const std::vector<pith_token>& text, int token) {
    size_t longest = 0;
    for (size_t place = 0; place < text.size(); place++) {
        if (text[place] != token) continue;
        size_t n = 0;
        while (n < place && text[place - 1 - n] == text[text.size() - 1 - n] && !listed(step, text[text.size() - 1 - n])) n++;
        longest = std::max(longest, n);
    }
    return longest;
}

inline void dry(std::vector<Item>& items, const pith_sampler_step& step, std::vector<pith_token> text) {
    const double base = step.value[1] == 0 ? 1.75 : static_cast<double>(step.value[1]);
    const size_t allowed = step.count[0] ? step.count[0] : 2;
    if (step.count[1] && text.size() > step.count[1]) text.erase(text.begin(), text.end() - step.count[1]);
    for (Item& item : items) {
        const size_t n = listed(step, item.token) ? 0 : repeated(step, text, item.token);
        if (n >= allowed) item.logit -= static_cast<double>(step.value[0]) * std::pow(base, static_cast<double>(n - allowed));
    }
}

// How many of the sorted items mirostat 1 keeps.
inline size_t estimate(const std::vector<Item>& items, const std::vector<double>& p, double mu, size_t m, size_t vocabulary) {
    double products = 0, squares = 0;
    for (size_t i = 0; i + 1 < std::min(m, items.size()); i++) {
        const double t = std::log(double(i + 2) / double(i + 1)), b = std::log(p[i] / p[i + 1]);
        products += t * b;
        squares += t * t;
    }
    const double s = products / squares, e = s - 1;
    return std::max<size_t>(static_cast<size_t>(std::pow(e * std::exp2(mu) / (1 - std::pow(double(vocabulary), -e)), 1 / s)), 1);
}

inline size_t tail_free(const std::vector<double>& p, double z) {
    if (p.size() <= 2) return p.size();
    std::vector<double> second;
    double sum = 0, reached = 0;
    for (size_t i = 0; i + 2 < p.size(); i++) sum += second.emplace_back(std::abs((p[i] - p[i + 1]) - (p[i + 1] - p[i + 2])));
    for (size_t i = 0; i < second.size(); i++) {
        reached += sum > 1e-6 ? second[i] / sum : 1.0 / double(second.size());
        if (reached > z) return std::max<size_t>(i, 1);
    }
    return p.size();
}

// Keeps the items whose surprise is nearest to the mean.
inline void typical(std::vector<Item>& items, const std::vector<double>& p, double mass) {
    double entropy = 0, sum = 0;
    for (const double x : p) entropy -= x > 0 ? x * std::log(x) : 0;
    std::vector<size_t> order;
    for (size_t i = 0; i < p.size(); i++) order.push_back(i);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return std::abs(-std::log(p[a]) - entropy) < std::abs(-std::log(p[b]) - entropy); });
    std::vector<Item> kept;
    for (size_t i = 0; i < order.size() && sum <= mass; i++) {
        kept.push_back(items[order[i]]);
        sum += p[order[i]];
    }
    items = kept;
}

struct Given {
    std::vector<pith_token> history;
    double mu = 10;  // mirostat's; 10 is where the default begins
};

// What the steps from `at` on make of the items; token -> probability, for tokens that can be drawn at all.
inline std::map<int, double> distribute(std::vector<Item> items, size_t vocabulary, const std::vector<pith_sampler_step>& steps, size_t at,
                                        const Given& given, double skew, size_t* kept) {
    for (; at < steps.size(); at++) {
        const pith_sampler_step& step = steps[at];
        sort_by_rank(items);
        const std::vector<double> p = probabilities(items);
        const double value = static_cast<double>(step.value[0]), second = static_cast<double>(step.value[1]);
        size_t keep = items.size();
        const auto keep_from = [&](double least) {
            for (keep = 0; keep < items.size() && p[keep] >= least; keep++) {
            }
        };
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
                keep_from(value * p[0]);
                break;
            case PITH_STEP_PENALTIES:
                penalise(items, step, given.history);
                break;
            case PITH_STEP_DYNAMIC_TEMPERATURE: {
                double entropy = 0;
                for (const double x : p) entropy -= x > 0 ? x * std::log(x) : 0;
                if (second == 0 || items.size() < 2) break;
                const double exponent = step.value[2] == 0 ? 1 : static_cast<double>(step.value[2]);
                const double t = value + (second - value) * std::pow(entropy / std::log(double(items.size())), exponent);
                for (Item& item : items) item.logit /= t;
                break;
            }
            case PITH_STEP_TOP_A:
                keep_from(value * p[0] * p[0]);
                break;
            case PITH_STEP_TYPICAL:
                if (value > 0 && value < 1) typical(items, p, value);
                keep = items.size();
                break;
            case PITH_STEP_TAIL_FREE:
                if (value > 0 && value < 1) keep = tail_free(p, value);
                break;
            case PITH_STEP_TOP_N_SIGMA: {
                double mean = 0, squares = 0;
                for (const Item& item : items) mean += item.logit / double(items.size());
                for (const Item& item : items) squares += (item.logit - mean) * (item.logit - mean) / double(items.size());
                if (value > 0)
                    for (keep = 0; keep < items.size() && items[keep].logit >= items[0].logit - value * std::sqrt(squares); keep++) {
                    }
                break;
            }
            case PITH_STEP_XTC: {
                std::vector<Item> tops, rest;
                for (size_t i = 0; i < items.size(); i++)
                    (p[i] >= second && !listed(step, items[i].token) ? tops : rest).push_back(items[i]);
                if (tops.size() < 2 || second > 0.5 || value == 0) break;
                rest.push_back(tops.back());
                std::map<int, double> mixed = distribute(rest, vocabulary, steps, at + 1, given, skew, kept);
                for (auto& [token, q] : mixed) q *= value;
                if (value < 1)
                    for (const auto& [token, q] : distribute(items, vocabulary, steps, at + 1, given, skew, kept))
                        mixed[token] += (1 - value) * q;
                return mixed;
            }
            case PITH_STEP_DRY:
                dry(items, step, given.history);
                break;
            case PITH_STEP_MIROSTAT_1:
                keep = std::min(keep, estimate(items, p, given.mu, step.count[0] ? step.count[0] : 100, vocabulary));
                break;
            case PITH_STEP_MIROSTAT_2:
                for (keep = 0; keep < items.size() && -std::log2(p[keep]) <= given.mu; keep++) {
                }
                keep = std::max<size_t>(keep, 1);
                break;
            case PITH_STEP_SMOOTHING:
                if (value > 0)
                    for (size_t i = items.size(); i-- > 0;)
                        items[i].logit = items[0].logit - value * (items[i].logit - items[0].logit) * (items[i].logit - items[0].logit);
                break;
            case PITH_STEP_SKEW:
                skew += value;
                break;
            default:
                for (Item& item : items)
                    for (size_t i = 0; i < step.token_count; i++)
                        if (step.kind == PITH_STEP_LOGIT_BIAS && step.tokens[i] == item.token)
                            item.logit += static_cast<double>(step.weights[i]);
                std::erase_if(items, [&](const Item& item) {
                    return item.logit == -std::numeric_limits<double>::infinity() ||
                           (step.kind == PITH_STEP_BANNED && listed(step, item.token)) ||
                           (step.kind == PITH_STEP_ALLOWED && step.token_count && !listed(step, item.token));
                });
                keep = items.size();
        }
        items.resize(keep);
    }
    sort_by_rank(items);
    if (kept) *kept = items.size();
    const std::vector<double> p = probabilities(items);
    std::map<int, double> result;
    double sum = 0;
    for (size_t i = 0; i < items.size(); i++) {
        const double next = std::min(sum + p[i], 1.0),
                     q = skew == 0 ? p[i] : std::pow(next, std::exp(skew)) - std::pow(sum, std::exp(skew));
        if (q > 0) result[items[i].token] = q;
        sum = next;
    }
    return result;
}

inline std::map<int, double> distribution(const std::vector<float>& logits, const std::vector<pith_sampler_step>& steps, const Given& given,
                                          size_t* kept = nullptr) {
    std::vector<Item> items;
    for (size_t i = 0; i < logits.size(); i++)
        if (logits[i] != -kInf) items.push_back({static_cast<double>(logits[i]), static_cast<int>(i)});
    return distribute(items, logits.size(), steps, 0, given, 0, kept);
}
inline std::map<int, double> distribution(const std::vector<float>& logits, const std::vector<pith_sampler_step>& steps,
                                          const std::vector<pith_token>& history = {}, size_t* kept = nullptr) {
    return distribution(logits, steps, Given{history}, kept);
}

inline pith_sampler_step temperature(float t) { return {PITH_STEP_TEMPERATURE, 0, {t}, {}, nullptr, nullptr, 0}; }
inline pith_sampler_step top_k(uint32_t k) { return {PITH_STEP_TOP_K, 0, {}, {k}, nullptr, nullptr, 0}; }
inline pith_sampler_step top_p(float p) { return {PITH_STEP_TOP_P, 0, {p}, {}, nullptr, nullptr, 0}; }
inline pith_sampler_step min_p(float p) { return {PITH_STEP_MIN_P, 0, {p}, {}, nullptr, nullptr, 0}; }
inline pith_sampler_step penalties(float repetition, float frequency, float presence, uint32_t window = 0, uint32_t decay = 0) {
    return {PITH_STEP_PENALTIES, 0, {repetition, frequency, presence}, {window, decay}, nullptr, nullptr, 0};
}

inline pith_sampler_step plain(uint32_t kind, float a, float b = 0, float c = 0) { return {kind, 0, {a, b, c}, {}, nullptr, nullptr, 0}; }
inline pith_sampler_step with_list(pith_sampler_step step, const std::vector<pith_token>& tokens, const std::vector<float>& weights = {}) {
    step.tokens = tokens.data();
    step.weights = weights.empty() ? nullptr : weights.data();
    step.token_count = tokens.size();
    return step;
}
inline pith_sampler_step dry(float multiplier, float base = 0, uint32_t allowed = 0, uint32_t range = 0) {
    return {PITH_STEP_DRY, 0, {multiplier, base}, {allowed, range}, nullptr, nullptr, 0};
}

// The tiers that this machine can run.
inline std::vector<pith::ScanTier> tiers() {
    std::vector<pith::ScanTier> found{pith::ScanTier::Plain};
#ifdef PITH_SCAN_X86
    if (__builtin_cpu_supports("avx2")) found.push_back(pith::ScanTier::Avx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        found.push_back(pith::ScanTier::Avx512);
#endif
    return found;
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
    pith::Sampler sampler;
    pith_error error{};
    pith_status status = 0;

    Made(const std::vector<pith_sampler_step>& steps, uint64_t seed = 0, uint32_t vocab = 0, uint32_t history = 0, uint32_t logprobs = 0,
         uint32_t flags = 0, pith::ScanTier tier = tiers().back())
        : sampler(counting.allocator, tier) {
        const pith_sampler_options options{sizeof options, seed, steps.data(), static_cast<uint32_t>(steps.size()), vocab, history, flags,
                                           logprobs,       0};
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
