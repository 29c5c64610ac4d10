// Every kind of step against the slow reference: what is kept and how likely each token is, exactly, as the log-probabilities after the
// steps say it; alone, in random order, on every tier.
#include "sample_reference.h"

using namespace reference;

namespace {

using Steps = std::vector<pith_sampler_step>;
using Tokens = std::vector<pith_token>;

void check_against(const std::map<int, double>& expected, const pith_logprob* items, size_t count) {
    INFO(count << " tokens, expected " << expected.size());
    double missing = 0;  // a token that rounding may or may not have made impossible weighs nothing
    std::map<int, double> found;
    for (size_t i = 0; i < count; i++) {
        found[items[i].token] = std::exp(static_cast<double>(items[i].logprob));
        if (i) REQUIRE(items[i].logprob <= items[i - 1].logprob);
    }
    REQUIRE(found.size() == count);
    for (const auto& [token, p] : expected) {
        if (!found.count(token)) missing = std::max(missing, p);
        if (found.count(token) && std::abs(found[token] - p) > 2e-5 * p + 1e-9) {
            INFO("token " << token << ": " << found[token] << ", expected " << p);
            CHECK(false);
        }
        found.erase(token);
    }
    for (const auto& [token, p] : found) missing = std::max(missing, p);
    CHECK(missing < 1e-12);
}

// Log-probabilities after the steps, for the steps whose distribution does not depend on chance.
void check_exact(const std::vector<float>& logits, const Steps& steps, const Given& given = {}, uint32_t history = 0) {
    const std::map<int, double> expected = distribution(logits, steps, given);
    const uint32_t n = static_cast<uint32_t>(logits.size());
    for (const pith::ScanTier tier : tiers()) {
        Made made(steps, 7, n, history, n, PITH_SAMPLER_LOGPROBS_FILTERED, tier);
        std::string kinds;
        for (const pith_sampler_step& step : steps) kinds += std::to_string(step.kind) + " ";
        INFO("kinds " << kinds << made.error.message);
        REQUIRE(made.status == PITH_OK);
        REQUIRE(made.sampler.accept(given.history.data(), given.history.size(), nullptr) == PITH_OK);
        const pith_token token = made.draw(logits);
        if (expected.empty()) {
            CHECK(made.status == PITH_E_NUMERIC);
            continue;
        }
        REQUIRE(expected.count(token) == 1);
        const pith_logprob* items = nullptr;
        size_t count = 0;
        REQUIRE(made.sampler.logprobs(&items, &count, nullptr) == PITH_OK);
        CHECK(items[0].token == token);
        check_against(expected, items + 1, count - 1);
    }
}

void check_draws(const std::vector<float>& logits, const Steps& steps, size_t draws, const Given& given = {}) {
    Made made(steps, 42, static_cast<uint32_t>(logits.size()));
    REQUIRE(made.status == PITH_OK);
    std::map<int, size_t> counts;
    for (size_t i = 0; i < draws; i++) {
        // Each draw from another place of the seed's sequence, with the same history.
        made.sampler.restart(i);
        REQUIRE(made.sampler.accept(given.history.data(), given.history.size(), nullptr) == PITH_OK);
        counts[made.draw(logits)]++;
    }
    check_counts(distribution(logits, steps, given), counts, draws);
}

// Steps point at their lists.
const Tokens kNone, kThree{3}, kSevenEight{7, 8}, kThreeFour{3, 4}, kFourThree{4, 3}, kBeyond{900}, kSome{9, 11, 12};
const std::vector<float> kNoWeights;
const Tokens kText{5, 9, 1, 7, 3, 8, 1, 7, 3, 2, 4, 1, 7, 3, 8, 6, 1, 7, 3};

// One step of every kind, with the values in the middle of their ranges.
Steps one_of_each(std::mt19937& random, const Tokens& few, const Tokens& many, const std::vector<float>& weights) {
    const auto in = [&](double a, double b) { return static_cast<float>(a + (b - a) * random() * 0x1p-32); };
    pith_sampler_step fading = penalties(in(0.7, 1.5), in(-0.2, 0.6), in(-0.2, 0.6), 6, 9);
    return {temperature(in(0.5, 1.5)),
            top_k(20 + static_cast<uint32_t>(random() % 100)),
            top_p(in(0.6, 0.99)),
            min_p(in(0.001, 0.1)),
            penalties(in(1, 1.5), in(0, 0.6), in(0, 0.6)),
            fading,
            plain(PITH_STEP_DYNAMIC_TEMPERATURE, in(0.3, 0.9), in(1, 2), in(0.5, 2)),
            plain(PITH_STEP_TOP_A, in(0.01, 0.3)),
            plain(PITH_STEP_TYPICAL, in(0.3, 0.95)),
            plain(PITH_STEP_TAIL_FREE, in(0.7, 0.99)),
            plain(PITH_STEP_TOP_N_SIGMA, in(1, 3)),
            with_list(plain(PITH_STEP_XTC, 1, in(0.005, 0.1)), few),
            with_list(dry(in(0.3, 1), in(1.1, 2), 2), kNone),
            plain(PITH_STEP_SMOOTHING, in(0.05, 0.4)),
            with_list(plain(PITH_STEP_LOGIT_BIAS, 0), few, weights),
            with_list(plain(PITH_STEP_BANNED, 0), few),
            with_list(plain(PITH_STEP_ALLOWED, 0), many)};
}

}  // namespace

TEST_CASE("kinds: each alone", "[sample]") {
    for (const size_t n : {60, 1500}) {
        std::vector<float> row = random_logits(n, 1.8, 17);
        row[3] = -kInf;
        row[9] = 7;
        for (const float a : {0.0f, 0.02f, 0.3f, 1.0f}) check_exact(row, {plain(PITH_STEP_TOP_A, a)});
        for (const float p : {0.0f, 0.05f, 0.3f, 0.7f, 0.95f, 1.0f}) check_exact(row, {plain(PITH_STEP_TYPICAL, p)});
        for (const float z : {0.0f, 0.3f, 0.9f, 0.97f, 0.999f, 1.0f}) check_exact(row, {plain(PITH_STEP_TAIL_FREE, z)});
        for (const float s : {0.0f, 0.5f, 1.0f, 2.0f, 9.0f}) check_exact(row, {plain(PITH_STEP_TOP_N_SIGMA, s)});
        for (const float s : {0.0f, 0.02f, 0.3f, 2.0f}) check_exact(row, {plain(PITH_STEP_SMOOTHING, s)});
        for (const float e : {0.0f, 0.5f, 1.0f, 3.0f}) check_exact(row, {plain(PITH_STEP_DYNAMIC_TEMPERATURE, 0.2f, 1.9f, e)});
        check_exact(row, {plain(PITH_STEP_DYNAMIC_TEMPERATURE, 0, 0)});
        for (const float t : {0.0f, 0.001f, 0.05f, 0.2f, 0.5f, 0.51f}) check_exact(row, {plain(PITH_STEP_XTC, 1, t)});
        check_exact(row, {with_list(plain(PITH_STEP_XTC, 1, 0.001f), kSome)});
        for (const float tau : {0.5f, 1.0f, 3.0f, 5.0f}) {
            check_exact(row, {plain(PITH_STEP_MIROSTAT_1, tau)}, {{}, 2 * double(tau)});
            check_exact(row, {temperature(0.7f), plain(PITH_STEP_MIROSTAT_2, tau)}, {{}, 2 * double(tau)});
        }
    }
}

TEST_CASE("kinds: lists of tokens", "[sample]") {
    std::vector<float> row = random_logits(600, 1.8, 3);
    row[5] = 9;
    const Tokens few{5, 7, 599, 5, 600, 1 << 30};
    const std::vector<float> weights{-3, 4.5f, -kInf, 0.25f, 1, 2};
    for (const Steps& before : {Steps{}, {top_k(40)}, {temperature(0.6f)}})
        for (const uint32_t kind : {PITH_STEP_LOGIT_BIAS, PITH_STEP_BANNED, PITH_STEP_ALLOWED})
            for (const Steps& after :
                 {Steps{}, {top_k(7)}, {min_p(0.02f)}, {temperature(0)}, {top_p(0.8f)}, {plain(PITH_STEP_TOP_N_SIGMA, 3)}}) {
                Steps steps = before;
                steps.push_back(with_list(plain(kind, 0), few, kind == PITH_STEP_LOGIT_BIAS ? weights : kNoWeights));
                steps.insert(steps.end(), after.begin(), after.end());
                check_exact(row, steps);
                check_exact(row, {steps.back(), with_list(plain(PITH_STEP_BANNED, 0), kSevenEight), steps[0]});
            }
    // A ban after the only token left leaves nothing.
    check_exact(row, {temperature(0), with_list(plain(PITH_STEP_BANNED, 0), few)});
    check_exact(row, {with_list(plain(PITH_STEP_ALLOWED, 0), kThreeFour), with_list(plain(PITH_STEP_BANNED, 0), kFourThree)});
    check_exact(row, {with_list(plain(PITH_STEP_ALLOWED, 0), kBeyond)});
    check_exact(row, {with_list(plain(PITH_STEP_BANNED, 0), kNone), with_list(plain(PITH_STEP_ALLOWED, 0), kNone),
                      plain(PITH_STEP_LOGIT_BIAS, 0), top_k(3)});
}

TEST_CASE("kinds: DRY", "[sample]") {
    const std::vector<float> row = random_logits(30, 0.3, 3);
    for (const pith_sampler_step& step :
         {dry(0.8f), dry(0.5f, 2, 1), dry(0.8f, 1.5f, 3), dry(0.8f, 0, 2, 8), dry(0.8f, 0, 2, 3), dry(3e38f, 3e38f)}) {
        for (const Tokens& text : {kText, Tokens{}, Tokens{1}, Tokens{1, 1, 1, 1, 1, 1, 1}, Tokens{2, 3, 2, 3, 2, 3, 2, 3, 2}}) {
            check_exact(row, {step}, {text});
            check_exact(row, {step, top_k(5)}, {text});
            check_exact(row, {top_k(25), step}, {text});
            check_exact(row, {with_list(step, kThree), temperature(0.7f)}, {text});
            check_exact(row, {with_list(step, kSevenEight), top_p(0.9f)}, {text});
        }
    }
    // By hand: after 1 7 3 came 8, 2 and 8.
    const std::map<int, double> without = distribution(row, {}, Given{kText}), with = distribution(row, {dry(1, 2)}, Given{kText});
    for (const int token : {8, 2}) CHECK(std::log(with.at(token) / without.at(token)) < std::log(with.at(0) / without.at(0)) - 1.9);
    CHECK(repeated(dry(1), kText, 8) == 3);
    // A long text, against the reference's quadratic search.
    Tokens text;
    std::mt19937 random(4);
    for (int i = 0; i < 700; i++) text.push_back(static_cast<pith_token>(random() % 3));
    check_exact(row, {dry(0.01f, 1.2f)}, {text});
    check_exact(row, {dry(0.01f, 1.2f, 2, 100)}, {text});
}

TEST_CASE("kinds: penalties and rewards on a long row, before what looks at the row", "[sample]") {
    std::vector<float> row = random_logits(20000, 2, 21);
    Tokens text;
    std::mt19937 random(6);
    for (int i = 0; i < 900; i++) text.push_back(static_cast<pith_token>(random() % 20000));
    for (int i = 0; i < 60; i++) {
        const size_t likely = random() % 20000;
        row[likely] = 8 + 0.05f * static_cast<float>(i);
        text[static_cast<size_t>(i) * 13] = static_cast<pith_token>(likely);
    }
    for (const Steps& first : {Steps{penalties(1.3f, 0, 0)},
                               {penalties(5, 1, 1), penalties(1.1f, 0, 0.2f, 300, 200)},
                               {penalties(0.6f, 0, -0.5f)},
                               {penalties(1.5f, 0, 0), temperature(0.5f), penalties(0.8f, 0, 0, 100)}})
        for (const Steps& then : {Steps{top_k(50), top_p(0.9f), min_p(0.05f), temperature(0.8f)},
                                  {min_p(0.05f)},
                                  {top_k(3000)},
                                  {temperature(0)},
                                  {temperature(0.8f)},
                                  {plain(PITH_STEP_MIROSTAT_1, 3)}}) {
            Steps steps = first;
            steps.insert(steps.end(), then.begin(), then.end());
            check_exact(row, steps, {text, 6});
        }
}

TEST_CASE("kinds: top-p that leaves many", "[sample]") {
    std::vector<float> flat = random_logits(30000, 0.5, 2), stepped(30000), few(30000), outlier = flat, odd = flat;
    for (size_t i = 0; i < stepped.size(); i++) {
        stepped[i] = static_cast<float>(i * 7 % 13) * 0.25f;
        few[i] = i % 2 ? 1.0f : 0.9f;
        odd[i] = -static_cast<float>(i % 3 == 0) * 1e35f;
    }
    outlier[77] = -1e6f;
    outlier[78] = -kInf;
    for (const std::vector<float>& row : {flat, stepped, few, outlier, odd, std::vector<float>(9000, -3.5f)})
        for (const float p : {0.2503f, 0.5001f, 0.9002f, 0.99991f}) {
            check_exact(row, {top_p(p)});
            check_exact(row, {top_p(p), temperature(0.8f), top_p(0.5001f), min_p(0.3f)});
        }
}

TEST_CASE("kinds: any order", "[sample]") {
    std::mt19937 random(99);
    const Tokens few{2, 30, 77, 100}, many = [] {
        Tokens tokens;
        for (int i = 0; i < 300; i += 2) tokens.push_back(i);
        return tokens;
    }();
    const std::vector<float> weights{1.5f, -2, 0.5f, -kInf};
    Tokens text;
    for (int i = 0; i < 40; i++) text.push_back(static_cast<pith_token>(random() % 30));
    text.insert(text.end(), {2, 4, 6, 1, 2, 4, 6});
    for (int turn = 0; turn < 400; turn++) {
        Steps all = one_of_each(random, few, many, weights), steps;
        for (size_t i = 0, count = 1 + random() % 6; i < count; i++) steps.push_back(all[random() % all.size()]);
        INFO("turn " << turn);
        check_exact(random_logits(300, 1.7, static_cast<uint32_t>(turn)), steps, {text});
    }
}

TEST_CASE("kinds: draws by chance", "[sample]") {
    const std::vector<float> row = random_logits(200, 1.8, 8);
    check_draws(row, {plain(PITH_STEP_XTC, 0.4f, 0.02f)}, 4000);
    check_draws(row, {top_k(30), plain(PITH_STEP_XTC, 0.5f, 0.05f), temperature(0.8f)}, 4000);
    for (const float s : {-1.0f, -0.2f, 0.3f, 1.0f}) {
        check_draws(row, {plain(PITH_STEP_SKEW, s)}, 4000);
        check_draws(row, {top_k(30), plain(PITH_STEP_SKEW, s)}, 4000);
    }
    check_draws(row, {plain(PITH_STEP_TYPICAL, 0.6f)}, 3000);
    check_draws(row, {plain(PITH_STEP_MIROSTAT_2, 3)}, 3000, {{}, 6});
    check_draws(row, {dry(0.8f), penalties(1.2f, 0.1f, 0), plain(PITH_STEP_TOP_N_SIGMA, 2)}, 3000, {kText});
}

TEST_CASE("kinds: log-probabilities before the steps", "[sample]") {
    std::vector<float> row = random_logits(3000, 2, 5);
    row[8] = -kInf;
    const std::map<int, double> expected = distribution(row, {});
    for (const pith::ScanTier tier : tiers()) {
        Made made({penalties(1.5f, 0, 1), temperature(0.6f), top_k(50)}, 1, 3000, 0, 20, 0, tier);
        for (int i = 0; i < 5; i++) {
            const pith_token token = made.draw(row);
            const pith_logprob* items = nullptr;
            size_t count = 0;
            REQUIRE(made.sampler.logprobs(&items, &count, nullptr) == PITH_OK);
            REQUIRE(count == 21);
            CHECK(items[0].token == token);
            for (size_t j = 0; j < count; j++)
                CHECK(std::abs(static_cast<double>(items[j].logprob) - std::log(expected.at(items[j].token))) < 1e-5);
            for (size_t j = 2; j < count; j++) CHECK(items[j].logprob <= items[j - 1].logprob);
        }
    }
}

TEST_CASE("kinds: mirostat's bound follows what was drawn, and a rewind finds it again", "[sample]") {
    const std::vector<float> row = random_logits(800, 1.5, 12);
    for (const uint32_t kind : {PITH_STEP_MIROSTAT_1, PITH_STEP_MIROSTAT_2}) {
        const Steps steps{plain(kind, 3, 0.2f)};
        Made made(steps, 4, 800, 50, 800, PITH_SAMPLER_LOGPROBS_FILTERED);
        Tokens text;
        double mu = 6;
        const auto draw = [&] {
            const pith_token token = made.draw(row);
            const pith_logprob* items = nullptr;
            size_t count = 0;
            REQUIRE(made.sampler.logprobs(&items, &count, nullptr) == PITH_OK);
            check_against(distribution(row, steps, Given{{}, mu}), items + 1, count - 1);
            mu -= 0.2 * (-static_cast<double>(items[0].logprob) / std::log(2.0) - 3);
            return token;
        };
        for (int i = 0; i < 60; i++) text.push_back(draw());
        double sum = 0;
        for (int i = 0; i < 60; i++) sum += static_cast<double>(i);
        // Forced tokens leave it alone.
        REQUIRE(made.sampler.accept(text.data(), 3, nullptr) == PITH_OK);
        const double there = mu;
        const pith_token next = draw();
        REQUIRE(made.sampler.truncate(63, nullptr) == PITH_OK);
        mu = there;
        CHECK(draw() == next);
        REQUIRE(made.sampler.truncate(40, nullptr) == PITH_OK);
        for (size_t i = 40; i < 60; i++) REQUIRE(made.draw(row) == text[i]);
        made.sampler.restart(4);
        for (size_t i = 0; i < 60; i++) REQUIRE(made.draw(row) == text[i]);
    }
    CHECK(Made({plain(PITH_STEP_MIROSTAT_2, 3), temperature(1)}).status == PITH_E_ARGUMENT);
}

TEST_CASE("kinds: what they refuse", "[sample]") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const auto refused = [](const pith_sampler_step& step, const char* named) {
        Made made({temperature(1), step}, 0, 0, 100);
        INFO(named << ": " << made.error.message);
        CHECK(made.status == PITH_E_ARGUMENT);
        CHECK(std::string(made.error.message).find(named) != std::string::npos);
    };
    for (const uint32_t kind : {PITH_STEP_TOP_A, PITH_STEP_TYPICAL, PITH_STEP_TAIL_FREE, PITH_STEP_XTC})
        for (const float bad : {-0.1f, 1.01f, nan, kInf}) refused(plain(kind, bad), "value[0]");
    for (const uint32_t kind : {PITH_STEP_TOP_N_SIGMA, PITH_STEP_SMOOTHING, PITH_STEP_DRY, PITH_STEP_MIROSTAT_1, PITH_STEP_MIROSTAT_2,
                                PITH_STEP_DYNAMIC_TEMPERATURE})
        for (const float bad : {-0.1f, nan, kInf}) refused(plain(kind, bad), "value[0]");
    for (const float bad : {nan, kInf, -kInf}) refused(plain(PITH_STEP_SKEW, bad), "value[0] (skew)");
    refused(plain(PITH_STEP_DYNAMIC_TEMPERATURE, 1, 0.5f), "is above value[1]");
    refused(plain(PITH_STEP_DYNAMIC_TEMPERATURE, 1, 2, -1), "value[2] (dynamic temperature exponent)");
    refused(plain(PITH_STEP_XTC, 0.5f, 2), "value[1] (XTC threshold)");
    refused(dry(1, 0.5f), "value[1] (DRY base)");
    refused(dry(1, 2, 2, 101), "reaches past the 100 tokens");
    refused(plain(PITH_STEP_MIROSTAT_1, 1, -1), "value[1] (mirostat 1 eta)");
    const Tokens negative{3, -1}, fine{3, 4};
    const std::vector<float> weights{1, kInf}, unknown{nan, 1};
    refused(with_list(plain(PITH_STEP_BANNED, 0), negative), "tokens[1] is -1");
    refused(with_list(plain(PITH_STEP_LOGIT_BIAS, 0), fine), "weights is NULL");
    refused(with_list(plain(PITH_STEP_LOGIT_BIAS, 0), fine, weights), "weights[1] is infinite");
    refused(with_list(plain(PITH_STEP_LOGIT_BIAS, 0), fine, unknown), "weights[0] is NaN");
    pith_sampler_step step = plain(PITH_STEP_ALLOWED, 0);
    step.token_count = 1;
    refused(step, "tokens is NULL");
    step.token_count = uint64_t{1} << 40;
    refused(step, "token_count");
    CHECK(Made({with_list(plain(PITH_STEP_BANNED, 0), fine, weights)}).status == PITH_E_UNSUPPORTED);
}

TEST_CASE("kinds: all is allocated at create, and any of it may fail", "[sample]") {
    const Tokens few{5, 7};
    const std::vector<float> weights{1, -1};
    const Steps steps{with_list(plain(PITH_STEP_LOGIT_BIAS, 0), few, weights),
                      penalties(1.2f, 0, 0),
                      penalties(1.1f, 0, 0, 5, 5),
                      with_list(dry(0.8f), few),
                      plain(PITH_STEP_TYPICAL, 0.9f),
                      with_list(plain(PITH_STEP_XTC, 0.5f, 0.01f), few),
                      plain(PITH_STEP_SMOOTHING, 0.1f),
                      plain(PITH_STEP_MIROSTAT_2, 3)};
    Made whole(steps, 1, 1000, 64, 10);
    REQUIRE(whole.status == PITH_OK);
    const size_t calls = whole.counting.calls;
    const std::vector<float> row = random_logits(1000, 2, 3);
    for (int i = 0; i < 300; i++) REQUIRE(whole.draw(row) >= 0);
    CHECK(whole.counting.calls == calls);
    for (size_t k = 1; k <= calls; k++) {
        Counting counting;
        counting.fail_at = k;
        {
            pith::Sampler sampler(counting.allocator);
            const pith_sampler_options options{sizeof options, 1, steps.data(), static_cast<uint32_t>(steps.size()), 1000, 64, 0, 10, 0};
            CHECK(sampler.configure(options, nullptr) == PITH_E_MEMORY);
        }
        CHECK(counting.live == 0);
    }
}
