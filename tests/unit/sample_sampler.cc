// What the sampler refuses, remembers and allocates; and that the same place in the same text draws the same token.
#include <cstring>

#include "sample_reference.h"

using namespace reference;

namespace {

void check_refused(const pith_sampler_step& step, pith_status status, const char* named) {
    const std::vector<pith_sampler_step> steps{temperature(1), step};
    Made made(steps);
    INFO(named << ": " << made.error.message);
    CHECK(made.status == status);
    CHECK(std::strstr(made.error.message, "steps[1]."));
    CHECK(std::strstr(made.error.message, named));
}

const float kNan = std::numeric_limits<float>::quiet_NaN();

}  // namespace

TEST_CASE("sampler: no steps are greedy, and the lowest of equals wins", "[sample]") {
    for (const std::vector<pith_sampler_step>& steps : {std::vector<pith_sampler_step>{},
                                                        {temperature(0)},
                                                        {top_k(1)},
                                                        {top_p(1e-9f)},
                                                        {top_k(9), temperature(0), temperature(3)},
                                                        {min_p(0.5f), top_k(1)}}) {
        Made made(steps, 3);
        CHECK(made.draw({1, 5, 2, 5}) == 1);
        CHECK(made.draw({-3}) == 0);
        CHECK(made.draw({-kInf, -7, -kInf}) == 1);
        std::vector<float> row = random_logits(262144, 3, 4);
        row[262143] = row[99] = 100;
        CHECK(made.draw(row) == 99);
    }
}

TEST_CASE("sampler: one of two equals in min-p 1 and top-k 2", "[sample]") {
    Made made({min_p(1)}, 1), two({top_k(2)}, 1);
    std::map<int, size_t> counts;
    for (int i = 0; i < 400; i++) {
        counts[made.draw({1, 5, 2, 5})]++;
        const pith_token token = two.draw({5, 5, 5, 1});
        REQUIRE((token == 0 || token == 1));
    }
    CHECK(counts.size() == 2);
    CHECK(counts[1] > 150);
    CHECK(counts[3] > 150);
}

TEST_CASE("sampler: ids past the vocabulary are never drawn nor looked at", "[sample]") {
    Made made({temperature(1)}, 1, 3), greedy({}, 1, 3);
    for (int i = 0; i < 100; i++) REQUIRE(made.draw({0, 0, 0, 90, kNan, kInf}) < 3);
    CHECK(greedy.draw({0, 1, 0, 90, kNan}) == 1);
    CHECK(greedy.draw({2, 1}) == 0);
}

TEST_CASE("sampler: rows it can't draw from change nothing", "[sample]") {
    for (const std::vector<pith_sampler_step>& steps :
         {std::vector<pith_sampler_step>{}, {temperature(1)}, {penalties(1.1f, 0, 0), top_k(3), top_p(0.9f)}}) {
        Made made(steps, 8, 600), other(steps, 8, 600);
        std::vector<float> good = random_logits(600, 1, 2), row = good;
        row[555] = kNan;
        CHECK(made.draw(row) == PITH_NO_TOKEN);
        CHECK(made.status == PITH_E_NUMERIC);
        CHECK(std::string(made.error.message) == "the logit of token 555 is NaN");
        row[555] = kInf;
        CHECK(made.draw(row) == PITH_NO_TOKEN);
        CHECK(made.status == PITH_E_NUMERIC);
        CHECK(std::string(made.error.message) == "the logit of token 555 is infinite");
        row.assign(600, -kInf);
        CHECK(made.draw(row) == PITH_NO_TOKEN);
        CHECK(made.status == PITH_E_NUMERIC);
        CHECK(std::strstr(made.error.message, "nothing is left to sample"));
        CHECK(made.draw({}) == PITH_NO_TOKEN);
        CHECK(made.status == PITH_E_ARGUMENT);
        const pith_token negative[] = {4, 5, -1};
        CHECK(made.sampler.accept(negative, 3, &made.error) == PITH_E_ARGUMENT);
        CHECK(std::strstr(made.error.message, "tokens[2] is -1"));
        for (int i = 0; i < 50; i++) REQUIRE(made.draw(good) == other.draw(good));
    }
}

TEST_CASE("sampler: steps it refuses are named", "[sample]") {
    for (const float t : {-1.0f, kInf, kNan}) check_refused(temperature(t), PITH_E_ARGUMENT, "value[0] (temperature)");
    for (const float p : {0.0f, -0.1f, 1.01f, kNan, kInf}) check_refused(top_p(p), PITH_E_ARGUMENT, "value[0] (top-p)");
    for (const float p : {-0.1f, 1.01f, kNan}) check_refused(min_p(p), PITH_E_ARGUMENT, "value[0] (min-p)");
    for (const float r : {-1.0f, kInf, kNan}) {
        check_refused(penalties(r, 0, 0), PITH_E_ARGUMENT, "value[0] (penalties repetition)");
        if (r == -1) continue;
        check_refused(penalties(1, r, 0), PITH_E_ARGUMENT, "value[1] (penalties frequency)");
        check_refused(penalties(1, 0, r), PITH_E_ARGUMENT, "value[2] (penalties presence)");
    }
    check_refused(penalties(1.1f, 0, 0, 1000, 25), PITH_E_ARGUMENT, "count (penalties window 1000, decay 25)");
    check_refused(penalties(1.1f, 0, 0, ~0u, ~0u), PITH_E_ARGUMENT, "options.history");
    check_refused(penalties(1.1f, 0, 0, 0, 5), PITH_E_ARGUMENT, "count[1] (penalties decay)");
    CHECK(Made({penalties(1.1f, 0, 0, 1000, 24)}).status == PITH_OK);

    pith_sampler_step step = top_k(3);
    step.kind = 0;
    check_refused(step, PITH_E_UNSUPPORTED, "kind is 0");
    step.kind = 20;
    check_refused(step, PITH_E_UNSUPPORTED, "kind is 20");
    step = top_k(3);
    step.flags = 1;
    check_refused(step, PITH_E_UNSUPPORTED, "flags is 1");
    for (const pith_sampler_step& plain : {temperature(1), top_k(3), top_p(0.5f), min_p(0.5f), penalties(1, 0, 0)}) {
        step = plain;
        step.value[3] = 1;
        check_refused(step, PITH_E_UNSUPPORTED, "value[3]");
        step = plain;
        step.count[3] = 1;
        check_refused(step, PITH_E_UNSUPPORTED, "count[3] is 1");
        step = plain;
        step.token_count = 1;
        check_refused(step, PITH_E_UNSUPPORTED, "token_count");
        const pith_token token = 0;
        const float weight = 0;
        step = plain;
        step.tokens = &token;
        check_refused(step, PITH_E_UNSUPPORTED, "tokens");
        step = plain;
        step.weights = &weight;
        check_refused(step, PITH_E_UNSUPPORTED, "weights");
    }
    // Steps after one that leaves a single token do nothing, but are checked all the same.
    CHECK(Made({temperature(0), top_p(2)}).status == PITH_E_ARGUMENT);
}

TEST_CASE("sampler: options it refuses", "[sample]") {
    const auto configure = [](pith_sampler_options options) {
        Counting counting;
        pith::Sampler sampler(counting.allocator);
        return sampler.configure(options, nullptr);
    };
    pith_sampler_options options{};
    CHECK(configure(options) == PITH_OK);
    options.flags = 2;
    CHECK(configure(options) == PITH_E_UNSUPPORTED);
    options = {};
    options.reserved = 1;
    CHECK(configure(options) == PITH_E_UNSUPPORTED);
    options = {};
    options.vocab_size = 100;
    options.logprobs = 101;
    CHECK(configure(options) == PITH_E_ARGUMENT);
    options = {};
    options.step_count = 1;
    CHECK(configure(options) == PITH_E_ARGUMENT);
    options = {};
    options.vocab_size = 0x80000000u;
    CHECK(configure(options) == PITH_E_ARGUMENT);
    options = {};
    options.history = ~0u;
    CHECK(configure(options) == PITH_E_ARGUMENT);
}

TEST_CASE("sampler: draws are keyed by seed and place", "[sample]") {
    const std::vector<float> row = random_logits(500, 0.5, 6);
    Made a({temperature(1)}, 11), b({temperature(1)}, 11), c({temperature(1)}, 12);
    std::vector<pith_token> from_a, from_c;
    for (int i = 0; i < 40; i++) {
        from_a.push_back(a.draw(row));
        from_c.push_back(c.draw(row));
    }
    CHECK(from_a != from_c);
    // Recorded by accept or by sampling: only their number counts.
    const std::vector<pith_token> forced(30, 499);
    REQUIRE(b.sampler.accept(forced.data(), forced.size(), nullptr) == PITH_OK);
    for (size_t i = 30; i < 40; i++) REQUIRE(b.draw(row) == from_a[i]);
    REQUIRE(b.sampler.truncate(0, nullptr) == PITH_OK);
    for (size_t i = 0; i < 40; i++) REQUIRE(b.draw(row) == from_a[i]);
    CHECK(b.sampler.truncate(41, &b.error) == PITH_E_ARGUMENT);
    CHECK(std::strstr(b.error.message, "length is 41, only 40"));
}

TEST_CASE("sampler: rewinding restores what penalties look at, or refuses", "[sample]") {
    const std::vector<float> row = random_logits(40, 1, 6);
    const uint32_t history = 16;
    for (const std::vector<pith_sampler_step>& steps :
         {std::vector{penalties(1.5f, 0.3f, 0.2f)}, {penalties(1.5f, 0.3f, 0.2f, 5, 11)}, {top_k(30), penalties(1, 0.7f, 0)}}) {
        Made made(steps, 5, 40, history);
        std::vector<pith_token> text;
        for (int i = 0; i < 100; i++) text.push_back(made.draw(row));
        CHECK(made.sampler.truncate(83, nullptr) == PITH_E_ARGUMENT);
        for (const size_t to : {100, 99, 84}) {  // 100 - 16 is the furthest back that a history of 16 promises
            REQUIRE(made.sampler.truncate(to, nullptr) == PITH_OK);
            for (size_t i = to; i < 100; i++) REQUIRE(made.draw(row) == text[i]);
        }
        REQUIRE(made.sampler.truncate(90, nullptr) == PITH_OK);
        CHECK(made.sampler.truncate(60, &made.error) == PITH_E_ARGUMENT);
        CHECK(std::strstr(made.error.message, "length is 60 of 90"));
        for (size_t i = 90; i < 100; i++) REQUIRE(made.draw(row) == text[i]);
        // Nothing stands before the beginning, so it is always reachable.
        REQUIRE(made.sampler.truncate(0, nullptr) == PITH_OK);
        for (size_t i = 0; i < 30; i++) REQUIRE(made.draw(row) == text[i]);
        REQUIRE(made.sampler.truncate(7, nullptr) == PITH_OK);
        for (size_t i = 7; i < 30; i++) REQUIRE(made.draw(row) == text[i]);
    }
    // Without penalties nothing has to be remembered.
    Made plain({temperature(1)}, 5, 40, 1);
    for (int i = 0; i < 100; i++) plain.draw(row);
    CHECK(plain.sampler.truncate(3, nullptr) == PITH_OK);
}

TEST_CASE("sampler: penalties see no further back than the history", "[sample]") {
    const std::vector<float> row{1, 0};
    Made made({penalties(1, 0, 5), temperature(0)}, 0, 2, 4);
    const std::vector<pith_token> once{0, 7, 7, 7}, more{7};
    REQUIRE(made.sampler.accept(once.data(), 4, nullptr) == PITH_OK);
    CHECK(made.draw(row) == 1);
    REQUIRE(made.sampler.truncate(4, nullptr) == PITH_OK);
    REQUIRE(made.sampler.accept(more.data(), 1, nullptr) == PITH_OK);
    CHECK(made.draw(row) == 0);
}

TEST_CASE("sampler: a reward can make another token the largest", "[sample]") {
    const std::vector<float> row{1, 0.9f, 0};
    const pith_token token = 1;
    for (const std::vector<pith_sampler_step>& steps : {std::vector{penalties(1, -1, 0), temperature(0)},
                                                        {penalties(1, 0, -500)},
                                                        {penalties(1, 0, -500), top_p(0.5f)},
                                                        {penalties(1, 0, -500), min_p(0.5f)}}) {
        Made made(steps, 0, 3);
        REQUIRE(made.sampler.accept(&token, 1, nullptr) == PITH_OK);
        CHECK(made.draw(row) == 1);
    }
}

TEST_CASE("sampler: all is allocated at create, and any of it may fail", "[sample]") {
    const std::vector<pith_sampler_step> steps{penalties(1.2f, 0.1f, 0.1f, 32, 32), temperature(0.8f), top_p(0.95f), min_p(0.01f),
                                               top_k(20)};
    Made whole(steps, 1, 1000);
    REQUIRE(whole.status == PITH_OK);
    const size_t calls = whole.counting.calls;
    REQUIRE(calls > 3);
    const std::vector<float> row = random_logits(1000, 2, 3);
    std::vector<pith_token> text;
    for (int i = 0; i < 200; i++) text.push_back(whole.draw(row));
    REQUIRE(whole.sampler.accept(text.data(), text.size(), nullptr) == PITH_OK);
    REQUIRE(whole.sampler.truncate(300, nullptr) == PITH_OK);
    CHECK(whole.counting.calls == calls);

    for (size_t k = 1; k <= calls; k++) {
        Counting counting;
        counting.fail_at = k;
        {
            pith::Sampler sampler(counting.allocator);
            pith_error error{};
            const pith_sampler_options options{sizeof options, 1, steps.data(), 5, 1000, 0, 0, 0, 0};
            CHECK(sampler.configure(options, &error) == PITH_E_MEMORY);
            CHECK(std::strstr(error.message, "out of memory"));
        }
        CHECK(counting.live == 0);
        CHECK(counting.bytes == 0);
    }
    // What isn't needed isn't allocated: no row-sized memory without a step that lists the row.
    CHECK(Made({}).counting.bytes < 60000);
    CHECK(Made({temperature(0.7f)}).counting.bytes < 60000);
    CHECK(Made({temperature(0.7f), top_k(40), top_p(0.9f)}).counting.bytes < 60000);
}
