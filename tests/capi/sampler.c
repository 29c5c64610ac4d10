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

/* A runner that calls each index in turn, or index 0 twice. */
typedef struct lender {
    int twice;
    uint32_t calls;
} lender;
static void lend(void* user, pith_task_fn fn, void* task, uint32_t count) {
    lender* l = (lender*)user;
    uint32_t i;
    l->calls++;
    for (i = 0; i < count; i++) fn(task, i);
    if (l->twice) fn(task, 0);
}

enum { ROWS = 12, WIDE = 150000 };

/* Many rows at once draw what they draw one by one; helpers are asked for only where there is work. */
static void test_batch(void) {
    pith_error error;
    capi_heap heap;
    lender l = {0, 0};
    pith_runner runner = {0};
    struct {
        pith_runner known;
        uint64_t tail;
    } newer = {{0}, 1};
    pith_env *env, *other;
    pith_sampler *batch[ROWS], *single[ROWS], *stranger = NULL, *third;
    pith_sampler_step steps[2] = {{0}};
    pith_sampler_options options = {0};
    const float* rows[ROWS];
    float* logits = (float*)malloc(sizeof(float) * WIDE * ROWS);
    pith_token tokens[ROWS], token;
    size_t i, calls;
    capi_heap others;
    runner.struct_size = sizeof runner;
    runner.user = &l;
    runner.run = lend;
    runner.width = 4;
    env = capi_env(&heap, NULL, &runner);
    other = capi_env(&others, NULL, NULL);
    for (i = 0; i < (size_t)WIDE * ROWS; i++) logits[i] = (float)((i * 7919) % 10007) * 0.002f;
    steps[0].kind = PITH_STEP_TOP_K;
    steps[0].count[0] = 50;
    steps[1].kind = PITH_STEP_TEMPERATURE;
    steps[1].value[0] = 2;
    options.struct_size = sizeof options;
    options.steps = steps;
    options.step_count = 2;
    options.vocab_size = WIDE;
    for (i = 0; i < ROWS; i++) {
        options.seed = i;
        rows[i] = logits + i * WIDE;
        WORKS(pith_sampler_create(env, &options, &batch[i], &error));
        WORKS(pith_sampler_create(env, &options, &single[i], &error));
    }
    WORKS(pith_sampler_create(other, &options, &stranger, &error));
    calls = heap.calls;
    WORKS(pith_sampler_sample_batch(batch, rows, WIDE, ROWS, NULL, tokens, &error)); /* the env's runner */
    CHECK(l.calls == 1);
    for (i = 0; i < ROWS; i++) {
        WORKS(pith_sampler_sample(single[i], rows[i], WIDE, &token, &error));
        CHECK(token == tokens[i]);
    }
    WORKS(pith_sampler_sample_batch(batch, rows, 100, ROWS, &runner, tokens, &error));
    WORKS(pith_sampler_sample_batch(batch, rows, WIDE, 1, &runner, tokens, &error));
    CHECK(l.calls == 1); /* too little for a helper */
    WORKS(pith_sampler_sample_batch(NULL, NULL, WIDE, 0, NULL, NULL, &error));
    CHECK(heap.calls == calls);

    EXPECT(pith_sampler_sample_batch(NULL, rows, WIDE, 2, NULL, tokens, &error), PITH_E_ARGUMENT, "samplers is NULL");
    EXPECT(pith_sampler_sample_batch(batch, NULL, WIDE, 2, NULL, tokens, &error), PITH_E_ARGUMENT, "logits is NULL");
    EXPECT(pith_sampler_sample_batch(batch, rows, WIDE, 2, NULL, NULL, &error), PITH_E_ARGUMENT, "tokens is NULL");
    EXPECT(pith_sampler_sample_batch(batch, rows, 0, 2, NULL, tokens, &error), PITH_E_ARGUMENT, "row 0: count is 0");
    third = batch[3];
    batch[3] = batch[1];
    EXPECT(pith_sampler_sample_batch(batch, rows, WIDE, 4, NULL, tokens, &error), PITH_E_ARGUMENT, "samplers[3] is there twice");
    batch[3] = stranger;
    EXPECT(pith_sampler_sample_batch(batch, rows, WIDE, 4, NULL, tokens, &error), PITH_E_ARGUMENT, "samplers[3] was made with another env");
    batch[3] = NULL;
    EXPECT(pith_sampler_sample_batch(batch, rows, WIDE, 4, NULL, tokens, &error), PITH_E_ARGUMENT, "samplers[3] is NULL");
    rows[2] = NULL;
    EXPECT(pith_sampler_sample_batch(batch, rows, WIDE, 3, NULL, tokens, &error), PITH_E_ARGUMENT, "logits[2] is NULL");
    runner.flags = 1;
    EXPECT(pith_sampler_sample_batch(batch, rows, WIDE, 2, &runner, tokens, &error), PITH_E_UNSUPPORTED, "flags");
    runner.flags = 0;
    newer.known = runner;
    newer.known.struct_size = sizeof newer;
    EXPECT(pith_sampler_sample_batch(batch, rows, WIDE, 2, &newer.known, tokens, &error), PITH_E_VERSION, "does not know");
    memset(logits + 17 + WIDE, 0xff, sizeof(float));
    tokens[0] = 77;
    EXPECT(pith_sampler_sample_batch(batch, rows, WIDE, 2, NULL, tokens, &error), PITH_E_NUMERIC, "row 1: the logit of token 17 is NaN");
    CHECK(tokens[0] == 77);
    l.twice = 1;
    rows[2] = logits;
    batch[3] = third;
    rows[1] = rows[3] = logits;
    for (i = 4; i < ROWS; i++) rows[i] = logits;
    EXPECT(pith_sampler_sample_batch(batch, rows, WIDE, ROWS, NULL, tokens, &error), PITH_E_RUNNER, "contract");
    EXPECT(pith_sampler_truncate(batch[0], 4, &error), PITH_E_ARGUMENT, "only 3 tokens"); /* what failed recorded nothing */
    CHECK(heap.calls == calls);
    pith_sampler_destroy(stranger);
    for (i = 0; i < ROWS; i++) {
        pith_sampler_destroy(batch[i]);
        pith_sampler_destroy(single[i]);
    }
    pith_env_destroy(env);
    pith_env_destroy(other);
    CHECK(heap.live == 0 && others.live == 0);
    free(logits);
}

static void test_logprobs(void) {
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_sampler *sampler = NULL, *plain = NULL;
    pith_sampler_step step = {0};
    pith_sampler_options options = {0};
    const pith_logprob* items = NULL;
    const float logits[4] = {0, 0, 0, -1e30f};
    size_t count = 0;
    pith_token token;
    options.struct_size = sizeof options;
    options.steps = &step;
    options.step_count = 1;
    options.logprobs = 3;
    step.kind = PITH_STEP_TOP_K;
    step.count[0] = 1;
    WORKS(pith_sampler_create(env, NULL, &plain, &error));
    WORKS(pith_sampler_create(env, &options, &sampler, &error));
    EXPECT(pith_sampler_logprobs(NULL, &items, &count, &error), PITH_E_ARGUMENT, "sampler is NULL");
    EXPECT(pith_sampler_logprobs(sampler, NULL, &count, &error), PITH_E_ARGUMENT, "items is NULL");
    EXPECT(pith_sampler_logprobs(sampler, &items, NULL, &error), PITH_E_ARGUMENT, "count is NULL");
    EXPECT(pith_sampler_logprobs(plain, &items, &count, &error), PITH_E_STATE, "options.logprobs");
    EXPECT(pith_sampler_logprobs(sampler, &items, &count, &error), PITH_E_STATE, "nothing was drawn");
    WORKS(pith_sampler_sample(sampler, logits, 4, &token, &error));
    WORKS(pith_sampler_logprobs(sampler, &items, &count, &error));
    CHECK(count == 4);
    CHECK(items[0].token == token && items[1].token == 0 && items[2].token == 1 && items[3].token == 2);
    CHECK(items[0].logprob > -1.0987f && items[0].logprob < -1.0986f); /* of three, before the filter */
    WORKS(pith_sampler_truncate(sampler, 0, &error));
    EXPECT(pith_sampler_logprobs(sampler, &items, &count, &error), PITH_E_STATE, "nothing was drawn");
    pith_sampler_destroy(sampler);
    options.flags = PITH_SAMPLER_LOGPROBS_FILTERED;
    WORKS(pith_sampler_create(env, &options, &sampler, &error));
    WORKS(pith_sampler_sample(sampler, logits, 4, &token, &error));
    WORKS(pith_sampler_logprobs(sampler, &items, &count, &error));
    CHECK(count == 2 && items[0].logprob == 0 && items[1].logprob == 0);
    pith_sampler_destroy(sampler);
    pith_sampler_destroy(plain);
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

/* The presets can be used as they are; a sampler started again draws what a new one draws. */
static void test_presets(void) {
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_sampler *sampler = NULL, *fresh = NULL;
    pith_sampler_step steps[32];
    pith_sampler_options options = {0};
    float logits[N];
    uint32_t preset;
    size_t count = 0;
    int i;
    for (i = 0; i < N; i++) logits[i] = (float)((i * 37) % N) * 0.01f;
    EXPECT(pith_sampler_preset(0, steps, 32, &count, &error), PITH_E_UNSUPPORTED, "preset is 0");
    EXPECT(pith_sampler_preset(1, NULL, 32, &count, &error), PITH_E_ARGUMENT, "steps is NULL");
    EXPECT(pith_sampler_preset(1, steps, 32, NULL, &error), PITH_E_ARGUMENT, "count is NULL");
    EXPECT(pith_sampler_preset(1, NULL, 0, &count, &error), PITH_E_BUFFER, "capacity is 0");
    EXPECT(pith_sampler_restart(NULL, 1, &error), PITH_E_ARGUMENT, "sampler is NULL");
    for (preset = PITH_PRESET_EXLLAMAV2; preset <= PITH_PRESET_LLAMA_CPP; preset++) {
        WORKS(pith_sampler_preset(preset, steps, 32, &count, &error));
        CHECK(count > 8 && count <= 32);
        options.struct_size = sizeof options;
        options.steps = steps;
        options.step_count = (uint32_t)count;
        options.seed = 3;
        WORKS(pith_sampler_create(env, &options, &sampler, &error));
        options.seed = 9;
        WORKS(pith_sampler_create(env, &options, &fresh, &error));
        for (i = 0; i < 30; i++) {
            pith_token a = -1;
            WORKS(pith_sampler_sample(sampler, logits, N, &a, &error));
        }
        WORKS(pith_sampler_restart(sampler, 9, &error));
        for (i = 0; i < 30; i++) {
            pith_token a = -1, b = -2;
            WORKS(pith_sampler_sample(sampler, logits, N, &a, &error));
            WORKS(pith_sampler_sample(fresh, logits, N, &b, &error));
            CHECK(a == b);
        }
        pith_sampler_destroy(sampler);
        pith_sampler_destroy(fresh);
    }
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

int main(void) {
    capi_use();
    test_draws();
    test_errors();
    test_batch();
    test_logprobs();
    test_presets();
    return capi_end();
}
