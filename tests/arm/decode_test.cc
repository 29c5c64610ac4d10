// The demo model on the kernels of the emulated CPU: that its tier is the one named in PITH_TEST_TIER, the reference's logits and the first
// tokens of its greedy text, and equal bits for any runner and any cutting of the prompt. Short, since an emulator is slow.
#include <cstdio>
#include <cstdlib>

#include "../golden/demo.h"

namespace {

using namespace golden;

void reversed(void*, pith_task_fn fn, void* task, uint32_t count) {
    for (uint32_t i = count; i--;) fn(task, i);
}

}  // namespace

TEST_CASE("the tier is that of the CPU") {
    const char* expected = std::getenv("PITH_TEST_TIER");
    REQUIRE(expected);
    CHECK(std::string(name(pith::kernels::best_tier())) == expected);
}

TEST_CASE("the demo model decodes as its reference") {
    const Prompt p = prompts()[0];
    const auto first = [](auto list, size_t n) { return decltype(list)(list.begin(), list.begin() + static_cast<long>(n)); };
    const Model model(kModel, pith::kernels::best_tier());
    Session exact(model, {PITH_SESSION_EXACT, PITH_KV_DEFAULT, 0, 128});
    const std::vector<float> logits = exact.forward(p.ids, 1);
    Session fast(model, {0, PITH_KV_DEFAULT, 0, 128});
    const std::vector<float> rounded = fast.forward(p.ids, 1);
    const double error = relative_error(logits, p.logits, kVocab), rounded_error = relative_error(rounded, p.logits, kVocab);
    printf("%-12s exact %.1e, int8 %.2e\n", name(pith::kernels::best_tier()), error, rounded_error);
    CHECK(error <= 5e-4);  // the default cache is of halves
    CHECK(rounded_error <= 1.5e-2);  // of one position; the budget, 1e-2, is for a mean over many
    check_greedy(exact, logits, first(p.greedy, 4), first(p.margins, 4), kVocab);
    check_greedy(fast, rounded, first(p.greedy, 8), first(p.margins, 8), kVocab, 0.05f);
}

TEST_CASE("the same bits for any runner and any cutting") {
    const std::vector<pith_token> prose = Tensors(kDemo + "prose.safetensors").get<pith_token>("ids");
    const pith_runner runner{sizeof(pith_runner), nullptr, reversed, 3, 0};
    const Model model(kModel, pith::kernels::best_tier());
    for (const uint32_t flags : {0u, uint32_t{PITH_SESSION_EXACT}}) {
        const std::vector<pith_token> ids(prose.begin(), prose.begin() + (flags ? 3 : 12));
        Session whole(model, {flags, PITH_KV_DEFAULT, 0, 256, 64});
        const std::vector<float> expected = whole.forward(ids, ids.size());
        for (const size_t at_once : {1, 9}) {
            Session cut(model, {flags, PITH_KV_DEFAULT, 0, 256, 64, &runner});
            const std::vector<float> got = cut.forward_all(ids, at_once);
            INFO("flags " << flags << ", " << at_once << " at once");
            REQUIRE(memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0);
        }
    }
}
