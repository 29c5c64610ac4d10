// Tiny random models, one a feature, against transformers in float64 (models/make_models.py), on every tier of this CPU.
#include <cstdio>
#include <fstream>
#include <set>

#include "golden.h"

namespace {

using namespace golden;

const std::string kModels = PITH_SOURCE_DIR "/tests/golden/models/";

std::vector<std::string> folders() {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(kModels))
        if (entry.is_directory() && std::filesystem::exists(entry.path() / "config.json")) names.insert(entry.path().filename());
    return {names.begin(), names.end()};
}

uint32_t context_of(const std::string& folder) {
    std::ifstream in(kModels + folder + "/expected.json");
    std::string text((std::istreambuf_iterator<char>(in)), {});
    const size_t at = text.find(':');
    REQUIRE(at != std::string::npos);
    return static_cast<uint32_t>(std::stoul(text.substr(at + 1)));
}

struct Reference {
    std::vector<pith_token> ids, greedy;
    std::vector<float> logits, margins;
    uint32_t context;
    explicit Reference(const std::string& folder) : context(context_of(folder)) {
        const Tensors file(kModels + folder + "/expected.safetensors");
        ids = file.get<pith_token>("ids");
        greedy = file.get<pith_token>("greedy");
        logits = file.get<float>("logits");
        margins = file.get<float>("margins");
    }
};

}  // namespace

TEST_CASE("every model gives transformers' logits and greedy text on every tier") {
    const std::vector<std::string> all = folders();
    REQUIRE(all.size() >= 40);
    for (const Tier tier : tiers()) {
        double worst_exact = 0, worst_half = 0, worst_float = 0, worst_int8 = 0;
        for (const std::string& folder : all) {
            INFO(folder << " on " << name(tier));
            const Reference ref(folder);
            const Model model(kModels + folder, tier);
            const size_t vocab = model.info.vocab_size;
            const bool gptq = folder.rfind("gptq", 0) == 0;

            Session exact(model, {PITH_SESSION_EXACT, PITH_KV_DEFAULT, 0, ref.context});
            const std::vector<float> logits = exact.forward(ref.ids, ref.ids.size());
            const double error = relative_error(logits, ref.logits, vocab);
            CHECK(error <= 2e-5);  // the budget is 1e-4
            const Agreement agreed = agreement(logits, ref.logits, vocab, 2e-3);
            CHECK(agreed.same == agreed.of);
            check_greedy(exact, logits, ref.greedy, ref.margins, vocab);

            Session half(model, {PITH_SESSION_EXACT, PITH_KV_F16, 0, ref.context});
            const double half_error = relative_error(half.forward(ref.ids, ref.ids.size()), ref.logits, vocab);
            CHECK(half_error <= 1e-3);  // see below; a trained model stays within the budget's 5e-4 (demo_test.cc)

            Session fast(model, {0, PITH_KV_DEFAULT, 0, ref.context});
            const std::vector<float> fast_logits = fast.forward(ref.ids, ref.ids.size());
            const double fast_error = relative_error(fast_logits, ref.logits, vocab);
            // Two random layers of width 64 hardly average rounding errors out: more than a trained model's 1e-2.
            CHECK(fast_error <= (gptq ? 5e-2 : 1e-3));
            const Agreement clear = agreement(fast_logits, ref.logits, vocab, gptq ? 0.5 : 0.1);
            CHECK(clear.same == clear.of);

            worst_exact = std::max(worst_exact, error);
            worst_half = std::max(worst_half, half_error);
            double& worst = gptq ? worst_int8 : worst_float;
            worst = std::max(worst, fast_error);
        }
        printf("%-7s largest relative error over %zu models: exact %.1e, exact with F16 KV %.1e, default %.1e, int8 %.1e\n", name(tier),
               all.size(), worst_exact, worst_half, worst_float, worst_int8);
    }
}

TEST_CASE("a head of 8 bits stays near, whatever it was, and changes nothing where it was quantised") {
    for (const Tier tier : tiers()) {
        double worst_exact = 0, worst_fast = 0;
        std::vector<std::string> as_they_were;
        for (const std::string& folder : folders()) {
            INFO(folder << " on " << name(tier));
            const Reference ref(folder);
            const Model plain(kModels + folder, tier), model(kModels + folder, tier, PITH_MODEL_HEAD_8BIT);
            const size_t vocab = model.info.vocab_size;
            for (const uint32_t flags : {0u, uint32_t{PITH_SESSION_EXACT}}) {
                Session as_it_was(plain, {flags, PITH_KV_DEFAULT, 0, ref.context}), held(model, {flags, PITH_KV_DEFAULT, 0, ref.context});
                const std::vector<float> expected = as_it_was.forward(ref.ids, ref.ids.size()), got = held.forward(ref.ids, ref.ids.size());
                const double error = relative_error(got, expected, vocab);
                CHECK(model.info.host_bytes <= plain.info.host_bytes);
                if (model.info.host_bytes == plain.info.host_bytes) {
                    if (!flags) as_they_were.push_back(folder);
                    CHECK(error == 0);
                    continue;
                }
                CHECK(error > 0);
                CHECK(error <= 6e-2);  // random layers of width 64, and a tied embedding is their input
                double& worst = flags ? worst_exact : worst_fast;
                worst = std::max(worst, error);
                for (const size_t at_once : {1, 7, 17}) {
                    Session cut(model, {flags, PITH_KV_DEFAULT, 5, ref.context});
                    const std::vector<float> again = cut.forward_all(ref.ids, at_once);
                    REQUIRE(memcmp(again.data(), got.data(), got.size() * sizeof(float)) == 0);
                }
            }
        }
        CHECK(as_they_were == std::vector<std::string>{"gptq_head", "gptq_odd_rows"});
        printf("%-7s 8-bit heads: largest relative error beside the file's head %.1e exact, %.1e int8\n", name(tier), worst_exact, worst_fast);
    }
}

TEST_CASE("the cutting of a prompt and the batch length change no bit") {
    for (const Tier tier : tiers())
        for (const char* folder : {"llama_f16", "gptq_act_order_asym", "mistral_window", "dynamic_long", "head_dim", "gptq_tied_mistral"})
            for (const uint32_t flags : {0u, uint32_t{PITH_SESSION_EXACT}}) {
                INFO(folder << " on " << name(tier) << ", flags " << flags);
                const Reference ref(folder);
                const Model model(kModels + folder, tier);
                Session whole(model, {flags, PITH_KV_DEFAULT, 0, ref.context});
                const std::vector<float> expected = whole.forward(ref.ids, ref.ids.size());
                for (const size_t at_once : {1, 7, 17, 31})
                    for (const uint32_t batch : {1u, 5u, 16u}) {
                        Session cut(model, {flags, PITH_KV_DEFAULT, batch, ref.context});
                        const std::vector<float> got = cut.forward_all(ref.ids, at_once);
                        INFO(at_once << " at once, batches of " << batch);
                        REQUIRE(got.size() == expected.size());
                        REQUIRE(memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0);
                    }
            }
}
