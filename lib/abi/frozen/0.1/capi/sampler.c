/* <pith/sampler.h> */
#include "capi.h"

enum { N = 100 };

static void test_draws(void) {
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_sampler* sampler = NULL;
    pith_sampler_step steps[4];
    pith_sampler_options options = {0};
    float logits[N];
    pith_token token = -1, again = -1, drawn[20];
    size_t calls;
    int i;
    for (i = 0; i < N; i++) logits[i] = (float)((i * 37) % N) * 0.05f;
    WORKS(pith_sampler_create(env, NULL, &sampler, &error));
    WORKS(pith_sampler_sample(sampler, logits, N, &token, &error));
    CHECK(logits[token] == 99 * 0.05f);
    pith_sampler_destroy(sampler);

    memset(steps, 0, sizeof steps);
    steps[0].kind = PITH_STEP_PENALTIES;
    steps[0].value[0] = 1.1f;
    steps[1].kind = PITH_STEP_TOP_K;
    steps[1].count[0] = 40;
    steps[2].kind = PITH_STEP_TOP_P;
    steps[2].value[0] = 0.95f;
    steps[3].kind = PITH_STEP_TEMPERATURE;
    steps[3].value[0] = 0.8f;
    options.struct_size = sizeof options;
    options.seed = 42;
    options.steps = steps;
    options.step_count = 4;
    WORKS(pith_sampler_create(env, &options, &sampler, &error));
    calls = heap.calls;
    for (i = 0; i < 20; i++) WORKS(pith_sampler_sample(sampler, logits, N, &drawn[i], &error));
    WORKS(pith_sampler_truncate(sampler, 0, &error));
    for (i = 0; i < 20; i++) {
        WORKS(pith_sampler_sample(sampler, logits, N, &again, &error));
        CHECK(again == drawn[i]); /* a draw depends on the seed and what was recorded */
    }
    WORKS(pith_sampler_truncate(sampler, 0, &error));
    WORKS(pith_sampler_accept(sampler, drawn, 19, &error));
    WORKS(pith_sampler_sample(sampler, logits, N, &again, &error));
    CHECK(again == drawn[19]);
    CHECK(heap.calls == calls);
    pith_sampler_destroy(sampler);
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

static void test_errors(void) {
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_sampler* sampler = NULL;
    pith_sampler_step step = {0};
    pith_sampler_options options = {0};
    float logits[2] = {1, 2}, nothing, nan;
    pith_token token = 7;
    memset(&nan, 0xff, sizeof nan);
    nothing = -1e30f * 1e30f;
    EXPECT(pith_sampler_create(NULL, NULL, &sampler, &error), PITH_E_ARGUMENT, "env is NULL");
    EXPECT(pith_sampler_create(env, NULL, NULL, &error), PITH_E_ARGUMENT, "sampler is NULL");
    EXPECT(pith_sampler_create(env, &options, &sampler, &error), PITH_E_ARGUMENT, "struct_size");
    options.struct_size = sizeof options;
    options.step_count = 1;
    EXPECT(pith_sampler_create(env, &options, &sampler, &error), PITH_E_ARGUMENT, "steps");
    options.steps = &step;
    EXPECT(pith_sampler_create(env, &options, &sampler, &error), PITH_E_UNSUPPORTED, "steps[0].kind is 0");
    step.kind = 1000;
    EXPECT(pith_sampler_create(env, &options, &sampler, &error), PITH_E_UNSUPPORTED, "steps[0].kind is 1000");
    step.kind = PITH_STEP_TEMPERATURE;
    step.value[0] = -1;
    EXPECT(pith_sampler_create(env, &options, &sampler, &error), PITH_E_ARGUMENT, "temperature");
    step.kind = PITH_STEP_TOP_P;
    step.value[0] = nan;
    EXPECT(pith_sampler_create(env, &options, &sampler, &error), PITH_E_ARGUMENT, "top-p");
    CHECK(sampler == NULL);
    WORKS(pith_sampler_create(env, NULL, &sampler, &error));
    EXPECT(pith_sampler_sample(NULL, logits, 2, &token, &error), PITH_E_ARGUMENT, "sampler is NULL");
    EXPECT(pith_sampler_sample(sampler, NULL, 2, &token, &error), PITH_E_ARGUMENT, "logits is NULL");
    EXPECT(pith_sampler_sample(sampler, logits, 2, NULL, &error), PITH_E_ARGUMENT, "token is NULL");
    EXPECT(pith_sampler_sample(sampler, logits, 0, &token, &error), PITH_E_ARGUMENT, "count is 0");
    logits[0] = nan;
    EXPECT(pith_sampler_sample(sampler, logits, 2, &token, &error), PITH_E_NUMERIC, "NaN");
    logits[0] = logits[1] = nothing;
    EXPECT(pith_sampler_sample(sampler, logits, 2, &token, &error), PITH_E_NUMERIC, "");
    CHECK(token == 7);
    EXPECT(pith_sampler_accept(NULL, &token, 1, &error), PITH_E_ARGUMENT, "sampler is NULL");
    EXPECT(pith_sampler_accept(sampler, NULL, 1, &error), PITH_E_ARGUMENT, "tokens is NULL");
    EXPECT(pith_sampler_truncate(NULL, 0, &error), PITH_E_ARGUMENT, "sampler is NULL");
    EXPECT(pith_sampler_truncate(sampler, 5, &error), PITH_E_ARGUMENT, "5");
    logits[0] = 1;
    WORKS(pith_sampler_sample(sampler, logits, 2, &token, &error));
    CHECK(token == 0);
    pith_sampler_destroy(sampler);
    pith_sampler_destroy(NULL);
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

int main(void) {
    capi_use();
    test_draws();
    test_errors();
    return capi_end();
}
