// Draws against the slow reference: each kind, their order, penalties, and shapes of rows that selections stumble over.
#include "sample_reference.h"

using namespace reference;

namespace {

// How many tokens the steps leave.
size_t kept(const std::vector<float>& logits, const std::vector<pith_sampler_step>& steps) {
    const uint32_t n = static_cast<uint32_t>(logits.size());
    Made made(steps, 1, n, 0, n, PITH_SAMPLER_LOGPROBS_FILTERED);
    REQUIRE(made.draw(logits) >= 0);
    const pith_logprob* items = nullptr;
    size_t count = 0;
    REQUIRE(made.sampler.logprobs(&items, &count, nullptr) == PITH_OK);
    return count - 1;
}

void check_kept(const std::vector<float>& logits, const std::vector<pith_sampler_step>& steps) {
    size_t expected = 0;
    distribution(logits, steps, Given{}, &expected);
    CHECK(kept(logits, steps) == expected);
}

void check_draws(const std::vector<float>& logits, const std::vector<pith_sampler_step>& steps, size_t draws = 2000) {
    Made made(steps, 42, static_cast<uint32_t>(logits.size()));
    REQUIRE(made.status == PITH_OK);
    std::map<int, size_t> counts;
    for (size_t i = 0; i < draws; i++) counts[made.draw(logits)]++;
    check_counts(distribution(logits, steps), counts, draws);
}

// The same with a history before each draw.
void check_draws(const std::vector<float>& logits, const std::vector<pith_sampler_step>& steps, const std::vector<pith_token>& history,
                 size_t draws = 1500) {
    std::map<int, size_t> counts;
    for (size_t seed = 0; seed < draws; seed++) {
        Made made(steps, seed, static_cast<uint32_t>(logits.size()), 64);
        REQUIRE(made.status == PITH_OK);
        REQUIRE(made.sampler.accept(history.data(), history.size(), nullptr) == PITH_OK);
        counts[made.draw(logits)]++;
    }
    check_counts(distribution(logits, steps, history), counts, draws);
}

}  // namespace

TEST_CASE("steps: one kind at a time", "[sample]") {
    const std::vector<float> logits = random_logits(700, 2.5, 1);
    for (const float t : {0.25f, 1.0f, 1.7f}) check_draws(logits, {temperature(t)});
    for (const uint32_t k : {0u, 1u, 2u, 5u, 40u, 300u, 699u, 700u, 5000u}) check_draws(logits, {top_k(k)});
    for (const float p : {1e-30f, 0.1f, 0.5f, 0.9f, 0.99f, 0.99999f, 1.0f}) check_draws(logits, {top_p(p)});
    for (const float p : {0.0f, 1e-6f, 0.01f, 0.2f, 1.0f}) check_draws(logits, {min_p(p)});
    check_draws(logits, {penalties(1, 0, 0)});
}

TEST_CASE("steps: every order means what it says", "[sample]") {
    const std::vector<float> logits = random_logits(400, 2, 5);
    std::vector<pith_sampler_step> steps{temperature(0.6f), top_k(30), top_p(0.8f), min_p(0.06f)};
    const auto by_kind = [](const pith_sampler_step& a, const pith_sampler_step& b) { return a.kind < b.kind; };
    size_t orders = 0;
    do {
        check_draws(logits, steps, 1000);
        check_kept(logits, steps);
        orders++;
    } while (std::next_permutation(steps.begin(), steps.end(), by_kind));
    CHECK(orders == 24);
    // The order matters, or the above shows nothing.
    CHECK(distribution(logits, {temperature(0.3f), top_p(0.8f)}).size() != distribution(logits, {top_p(0.8f), temperature(0.3f)}).size());
    check_draws(logits, {top_p(0.9f), temperature(2), top_p(0.9f), temperature(0.5f), min_p(0.1f), top_k(7), top_p(0.7f)});
}

TEST_CASE("steps: penalties against the reference, before and after other steps", "[sample]") {
    std::vector<float> logits = random_logits(60, 1.5, 9);
    logits[50] = 4;  // the largest, and penalised
    std::vector<pith_token> history{3, 50, 7, 3, 3, 9, 1000000, 50, 11, 3, 2, 59, 50, 8, 8, 8, 8, 0};
    const pith_sampler_step all = penalties(1.6f, 0.3f, 0.4f), window = penalties(1.6f, 0.3f, 0.4f, 6),
                            fading = penalties(2, 0.5f, 0.7f, 4, 9);
    const pith_sampler_step reward = penalties(0.7f, -0.3f, 0), one = penalties(0, 0, 3, 1), pure = penalties(0, 1, 0, 1, 12);
    for (const pith_sampler_step& step : {all, window, fading, reward, one, pure}) {
        check_draws(logits, {step}, history);
        check_draws(logits, {top_k(12), step}, history);
    }
    check_draws(logits, {temperature(0.7f), fading, top_k(20), top_p(0.9f)}, history);
    check_draws(logits, {fading, temperature(0.7f), top_p(0.9f), window, min_p(0.05f)}, history);
    check_draws(logits, {all, window, temperature(1.3f), all}, history);
    check_draws(logits, {fading, temperature(0)}, history, 50);
    check_draws(logits, {top_p(0.95f), reward, temperature(0)}, history, 50);
    check_draws(logits, {fading}, {}, 500);
}

TEST_CASE("steps: rows that selections stumble over", "[sample]") {
    const size_t n = 1200;
    std::vector<float> rising(n), falling(n), equal(n, 1.5f), pairs(n), holes(n, -kInf), steep(n);
    for (size_t i = 0; i < n; i++) {
        rising[i] = static_cast<float>(i) * 0.002f;
        falling[i] = -rising[i];
        pairs[i] = static_cast<float>(i / 2 % 7);
        steep[i] = static_cast<float>(i % 1000) * -80.0f;
        if (i % 97 == 5) holes[i] = static_cast<float>(i % 5);
    }
    for (const std::vector<float>& row : {rising, falling, equal, pairs, holes, steep}) {
        for (const pith_sampler_step& step : {top_k(2), top_k(33), top_k(1000), top_p(0.3003f), top_p(0.9001f), min_p(0.31f)}) {
            // Those p are off the multiples of 1/1200, where rounding decides whether the crossing token is in.
            check_kept(row, {step});
            check_draws(row, {step}, 300);
        }
        check_draws(row, {min_p(0.31f), temperature(0.9f)}, 300);
        check_draws(row, {temperature(1)}, 1000);
    }
}

TEST_CASE("steps: a full vocabulary", "[sample]") {
    std::vector<float> logits = random_logits(262144, 2.5, 77);
    for (size_t i = 0; i < 30; i++) logits[i * 8731 + 17] += 9;
    check_draws(logits, {temperature(0.6f)}, 60);
    for (const std::vector<pith_sampler_step>& steps : {std::vector{top_k(40)},
                                                        {top_k(5000)},
                                                        {top_p(0.3f)},
                                                        {min_p(0.02f)},
                                                        {temperature(0.7f), top_p(0.9f)},
                                                        {temperature(1.5f), top_p(0.9f)},
                                                        {temperature(0.8f), top_k(100), top_p(0.9f), min_p(0.05f)}}) {
        check_draws(logits, steps, 20);
        check_kept(logits, steps);
    }
}

TEST_CASE("steps: extreme numbers stay defined", "[sample]") {
    const float most = std::numeric_limits<float>::max(), least = std::numeric_limits<float>::denorm_min();
    const std::vector<float> huge{-most, most, 0, most, -kInf, 1}, plain{1, 2, 3, 3, -kInf, 0};
    for (const std::vector<float>& row : {huge, plain})
        for (const float t : {least, 1e-30f, 1e-3f, 1.0f, 1e30f, most})
            for (const std::vector<pith_sampler_step>& more : {std::vector<pith_sampler_step>{},
                                                               {top_p(0.5f)},
                                                               {min_p(0.5f)},
                                                               {penalties(1.5f, 1, 1)},
                                                               {penalties(most, most, most), top_k(3)},
                                                               {penalties(least, -most, -most)},
                                                               {temperature(t), temperature(t), temperature(t)}}) {
                std::vector<pith_sampler_step> steps{temperature(t)};
                steps.insert(steps.end(), more.begin(), more.end());
                Made made(steps, 5, 6);
                REQUIRE(made.sampler.accept(std::vector<pith_token>{1, 2, 2, 4}.data(), 4, nullptr) == PITH_OK);
                for (int i = 0; i < 20; i++) {
                    const pith_token token = made.draw(row);
                    REQUIRE((token >= 0 && token < 6 && token != 4));
                }
            }
    // A vanishing temperature is nearly greedy, an enormous one nearly uniform.
    check_draws(plain, {temperature(1e-30f)}, 500);
    check_draws(plain, {temperature(most)}, 2000);
}
