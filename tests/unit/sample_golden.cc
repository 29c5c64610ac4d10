// Lists of steps against other implementations' results (tests/golden/sampling/make_sampling.py).
#include <fstream>
#include <iterator>

#include "base/json.h"

#include "sample_reference.h"

using namespace reference;

namespace {

struct Lists {
    std::vector<pith_token> tokens;
    std::vector<float> weights;
};

pith_sampler_step read_step(const pith::Json& from, Lists& lists) {
    pith_sampler_step step{};
    step.kind = static_cast<uint32_t>(from.find("kind")->integer);
    const pith::Json *value = from.find("value"), *count = from.find("count"), *tokens = from.find("tokens"),
                     *weights = from.find("weights");
    for (size_t i = 0; i < value->size; i++) step.value[i] = static_cast<float>(value->items[i].as_double());
    for (size_t i = 0; i < count->size; i++) step.count[i] = static_cast<uint32_t>(count->items[i].integer);
    for (size_t i = 0; tokens && i < tokens->size; i++) lists.tokens.push_back(static_cast<pith_token>(tokens->items[i].integer));
    for (size_t i = 0; weights && i < weights->size; i++) lists.weights.push_back(static_cast<float>(weights->items[i].as_double()));
    return with_list(step, lists.tokens, lists.weights);
}

}  // namespace

TEST_CASE("golden: what is kept, and how likely it is", "[sample]") {
    Counting counting;
    pith::Arena arena(counting.allocator);
    std::ifstream file(PITH_SOURCE_DIR "/tests/golden/sampling/sampling.json");
    const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const pith::Json* all = nullptr;
    pith_error error{};
    REQUIRE(pith::json_parse(text, "sampling.json", arena, &all, &error) == PITH_OK);
    std::vector<pith_token> history;
    for (size_t i = 0; i < all->find("history")->size; i++)
        history.push_back(static_cast<pith_token>(all->find("history")->items[i].integer));
    const pith::Json& cases = *all->find("cases");
    REQUIRE(cases.size > 40);
    for (size_t i = 0; i < cases.size; i++) {
        const pith::Json &c = cases.items[i], &given = *c.find("steps"), &tokens = *c.find("tokens"), &logprobs = *c.find("logprobs");
        std::vector<Lists> lists(given.size);
        std::vector<pith_sampler_step> steps;
        for (size_t j = 0; j < given.size; j++) steps.push_back(read_step(given.items[j], lists[j]));
        std::vector<float> row;
        for (size_t j = 0; j < c.find("logits")->size; j++) row.push_back(static_cast<float>(c.find("logits")->items[j].integer) / 256);
        const uint32_t n = static_cast<uint32_t>(row.size());
        Made made(steps, 1, n, 0, n, PITH_SAMPLER_LOGPROBS_FILTERED);
        INFO("case " << i << ", first kind " << steps[0].kind << made.error.message);
        REQUIRE(made.status == PITH_OK);
        REQUIRE(made.sampler.accept(history.data(), history.size(), nullptr) == PITH_OK);
        REQUIRE(made.draw(row) >= 0);
        const pith_logprob* items = nullptr;
        size_t count = 0;
        REQUIRE(made.sampler.logprobs(&items, &count, nullptr) == PITH_OK);
        std::map<int, double> expected;
        for (size_t j = 0; j < tokens.size; j++) expected[static_cast<int>(tokens.items[j].integer)] = logprobs.items[j].as_double();
        REQUIRE(count - 1 == expected.size());
        for (size_t j = 0; j < count; j++) {
            INFO("token " << items[j].token);
            REQUIRE(expected.count(items[j].token) == 1);
            CHECK(std::abs(static_cast<double>(items[j].logprob) - expected[items[j].token]) <
                  1e-5 + 1e-6 * std::abs(expected[items[j].token]));
        }
    }
}
