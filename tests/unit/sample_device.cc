// Which lists of steps a GPU may be given: what its kernel doesn't know is drawn from the logits on the CPU.
#include "../../cuda/kernels/sample.h"
#include "sample_reference.h"

using namespace reference;

TEST_CASE("device: steps that the kernel does not know are declined", "[sample]") {
    const std::vector<pith_token> tokens{1, 2};
    const std::vector<float> weights{1, 2};
    const auto runs = [](const std::vector<pith_sampler_step>& steps) {
        Made made(steps, 1, 1000);
        INFO(made.error.message);
        REQUIRE(made.status == PITH_OK);
        pith::cuda::SampleChain chain;
        return pith::cuda::sample_chain(made.sampler.steps(), 1, 1000, 1000, &chain);
    };
    for (const pith_sampler_step& known : {temperature(0.8f), top_k(9), top_p(0.9f), min_p(0.1f), penalties(1.1f, 0, 0)})
        CHECK(runs({known}));
    for (uint32_t kind = PITH_STEP_DYNAMIC_TEMPERATURE; kind <= PITH_STEP_ALLOWED; kind++) {
        pith_sampler_step step = plain(kind, 0.4f, kind == PITH_STEP_DYNAMIC_TEMPERATURE ? 0.8f : kind == PITH_STEP_DRY ? 2.0f : 0.1f);
        if (kind >= PITH_STEP_TOP_A && kind <= PITH_STEP_TOP_N_SIGMA) step.value[1] = 0;
        if (kind == PITH_STEP_SMOOTHING || kind == PITH_STEP_SKEW) step.value[1] = 0;
        if (kind >= PITH_STEP_LOGIT_BIAS) step.value[0] = step.value[1] = 0;
        if (kind >= PITH_STEP_LOGIT_BIAS) step = with_list(step, tokens);
        if (kind == PITH_STEP_LOGIT_BIAS) step.weights = weights.data();
        INFO("kind " << kind);
        CHECK(!runs({temperature(0.8f), step}));
    }
    // Those that do nothing are not in the way.
    CHECK(runs({plain(PITH_STEP_TYPICAL, 1), plain(PITH_STEP_XTC, 0, 0.1f), plain(PITH_STEP_BANNED, 0), top_k(5)}));
}
