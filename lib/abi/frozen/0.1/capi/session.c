/* <pith/session.h>. argv[1]: the demo model. */
#include "capi.h"

static const char* folder;
static const pith_token prompt[] = {0, 48, 1293, 685, 260, 581}; /* <|bos|>Once upon a time */
enum { PROMPT = 6, VOCAB = 8192 };

static pith_model* load(pith_env* env) {
    pith_error error;
    pith_model* model = NULL;
    WORKS(pith_model_open(env, folder, NULL, &model, &error));
    WORKS(pith_model_load(model, 0, NULL, &error));
    return model;
}

static pith_session_options defaults(void) {
    pith_session_options options = {0};
    options.struct_size = sizeof options;
    return options;
}

/* plan() is what create takes, to the byte, for many shapes; forward, sample and truncate take nothing. */
static void test_memory(void) {
    static const uint32_t shapes[][5] = {/* context, batch, rows, kv, flags */
                                         {0, 0, 0, 0, 0},      {1, 1, 1, 0, 0},         {100, 7, 3, PITH_KV_F32, 0}, {1024, 512, 64, PITH_KV_F16, 1},
                                         {257, 0, 0, 0, 1},    {4096, 100, 1, 0, 2},    {300, 1000, 300, 0, 3}};
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_model* model = load(env);
    pith_sampler* sampler = NULL;
    size_t i;
    WORKS(pith_sampler_create(env, NULL, &sampler, &error));
    for (i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        pith_session_options options = defaults();
        pith_session_info plan = {0}, info = {0};
        pith_session* session = NULL;
        const size_t before = heap.live, calls = heap.calls;
        pith_token token = -1;
        options.context_length = shapes[i][0];
        options.batch_length = shapes[i][1];
        options.logit_rows = shapes[i][2];
        options.k_type = options.v_type = shapes[i][3];
        options.flags = shapes[i][4];
        plan.struct_size = info.struct_size = sizeof plan;
        WORKS(pith_session_plan(model, &options, &plan, &error));
        CHECK(heap.calls == calls);
        WORKS(pith_session_create(model, &options, &session, &error));
        CHECK(heap.live - before == plan.host_bytes);
        WORKS(pith_session_get_info(session, &info, &error));
        CHECK(info.host_bytes == plan.host_bytes && info.device_bytes == 0);
        CHECK(info.context_length == (shapes[i][0] ? shapes[i][0] : 1024) && info.batch_length == plan.batch_length);
        {
            const size_t at = heap.calls;
            WORKS(pith_session_forward(session, prompt, 1, 1, &error));
            WORKS(pith_session_sample(session, 0, sampler, &token, &error));
            CHECK(token >= 0 && token < VOCAB);
            WORKS(pith_session_truncate(session, 0, &error));
            CHECK(heap.calls == at);
        }
        pith_session_destroy(session);
        CHECK(heap.live == before);
    }
    pith_sampler_destroy(sampler);
    pith_model_destroy(model);
    pith_env_destroy(env);
    CHECK(heap.live == 0 && heap.blocks == 0);
}

static void test_arguments(void) {
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_model *model = NULL, *fresh = NULL;
    pith_session* session = NULL;
    pith_session_info info = {0};
    pith_session_options options = defaults();
    info.struct_size = sizeof info;
    model = load(env);
    EXPECT(pith_session_create(NULL, NULL, &session, &error), PITH_E_ARGUMENT, "model is NULL");
    EXPECT(pith_session_create(model, NULL, NULL, &error), PITH_E_ARGUMENT, "session is NULL");
    EXPECT(pith_session_plan(NULL, NULL, &info, &error), PITH_E_ARGUMENT, "model is NULL");
    EXPECT(pith_session_plan(model, NULL, NULL, &error), PITH_E_ARGUMENT, "info is NULL");
    WORKS(pith_model_open(env, folder, NULL, &fresh, &error));
    WORKS(pith_session_plan(fresh, NULL, &info, &error));
    EXPECT(pith_session_create(fresh, NULL, &session, &error), PITH_E_STATE, "not loaded");
    pith_model_destroy(fresh);
    options.struct_size = 8;
    EXPECT(pith_session_create(model, &options, &session, &error), PITH_E_ARGUMENT, "options.struct_size");
    options = defaults();
    options.flags = 1u << 20;
    EXPECT(pith_session_create(model, &options, &session, &error), PITH_E_UNSUPPORTED, "options.flags");
    options = defaults();
    options.k_type = PITH_KV_Q8;
    EXPECT(pith_session_create(model, &options, &session, &error), PITH_E_UNSUPPORTED, "k_type");
    options = defaults();
    options.v_type = 77;
    EXPECT(pith_session_create(model, &options, &session, &error), PITH_E_ARGUMENT, "v_type");
    options = defaults();
    options.wait = 9;
    EXPECT(pith_session_create(model, &options, &session, &error), PITH_E_ARGUMENT, "wait");
    options = defaults();
    options.reserved = 1;
    EXPECT(pith_session_create(model, &options, &session, &error), PITH_E_ARGUMENT, "reserved");
    options = defaults();
    options.context_length = 0xffffffffu;
    EXPECT(pith_session_create(model, &options, &session, &error), PITH_E_ARGUMENT, "context_length");
    options = defaults();
    options.context_length = 16;
    options.logit_rows = 17;
    EXPECT(pith_session_create(model, &options, &session, &error), PITH_E_ARGUMENT, "logit_rows");
    options = defaults();
    options.context_length = 1u << 30; /* half a terabyte of keys: plan says how much, create may fail */
    WORKS(pith_session_plan(model, &options, &info, &error));
    CHECK(info.host_bytes > (uint64_t)1 << 40);
    CHECK(session == NULL);
    EXPECT(pith_session_get_info(NULL, &info, &error), PITH_E_ARGUMENT, "session is NULL");
    CHECK(pith_session_length(NULL) == 0);
    pith_session_cancel(NULL, 1);
    pith_session_destroy(NULL);
    pith_model_destroy(model);
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

static void test_forward(void) {
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_model* model = load(env);
    pith_session* session = NULL;
    pith_sampler* sampler = NULL;
    pith_session_options options = defaults();
    const float* logits = NULL;
    float* kept = (float*)malloc(VOCAB * sizeof(float));
    size_t rows = 99;
    pith_token bad[3] = {5, VOCAB, 5}, token = -1;
    options.context_length = 8;
    options.logit_rows = 4;
    WORKS(pith_session_create(model, &options, &session, &error));
    WORKS(pith_sampler_create(env, NULL, &sampler, &error));
    EXPECT(pith_session_logits(session, &logits, &rows, &error), PITH_E_STATE, "no logits");
    EXPECT(pith_session_sample(session, 0, sampler, &token, &error), PITH_E_STATE, "no logits");
    EXPECT(pith_session_forward(NULL, prompt, 1, 1, &error), PITH_E_ARGUMENT, "session is NULL");
    EXPECT(pith_session_forward(session, prompt, 0, 0, &error), PITH_E_ARGUMENT, "count is 0");
    EXPECT(pith_session_forward(session, NULL, 1, 1, &error), PITH_E_ARGUMENT, "tokens is NULL");
    EXPECT(pith_session_forward(session, prompt, 6, 5, &error), PITH_E_ARGUMENT, "rows is 5");
    EXPECT(pith_session_forward(session, prompt, 2, 3, &error), PITH_E_ARGUMENT, "rows is 3");
    EXPECT(pith_session_forward(session, bad, 3, 1, &error), PITH_E_ARGUMENT, "tokens[1] is 8192");
    bad[1] = -1;
    EXPECT(pith_session_forward(session, bad, 3, 1, &error), PITH_E_ARGUMENT, "tokens[1] is -1");
    CHECK(pith_session_length(session) == 0);
    WORKS(pith_session_forward(session, prompt, PROMPT, 3, &error));
    CHECK(pith_session_length(session) == PROMPT);
    WORKS(pith_session_logits(session, &logits, &rows, &error));
    CHECK(rows == 3);
    memcpy(kept, logits + 2 * VOCAB, VOCAB * sizeof(float));
    EXPECT(pith_session_logits(NULL, &logits, &rows, &error), PITH_E_ARGUMENT, "session is NULL");
    EXPECT(pith_session_logits(session, NULL, &rows, &error), PITH_E_ARGUMENT, "logits is NULL");
    EXPECT(pith_session_sample(session, 3, sampler, &token, &error), PITH_E_ARGUMENT, "row is 3");
    EXPECT(pith_session_sample(session, 0, NULL, &token, &error), PITH_E_ARGUMENT, "sampler is NULL");
    EXPECT(pith_session_sample(session, 0, sampler, NULL, &error), PITH_E_ARGUMENT, "token is NULL");
    EXPECT(pith_session_sample(NULL, 0, sampler, &token, &error), PITH_E_ARGUMENT, "session is NULL");
    WORKS(pith_session_sample(session, 2, sampler, &token, &error));
    CHECK(token == 13);
    /* The context is full: all or none, and the logits stay. */
    EXPECT(pith_session_forward(session, prompt, 3, 1, &error), PITH_E_CONTEXT, "context is full");
    CHECK(pith_session_length(session) == PROMPT);
    WORKS(pith_session_logits(session, &logits, &rows, &error));
    CHECK(rows == 3 && memcmp(kept, logits + 2 * VOCAB, VOCAB * sizeof(float)) == 0);
    WORKS(pith_session_forward(session, prompt, 2, 0, &error));
    CHECK(pith_session_length(session) == 8);
    EXPECT(pith_session_logits(session, &logits, &rows, &error), PITH_E_STATE, "no logits");
    EXPECT(pith_session_truncate(session, 9, &error), PITH_E_ARGUMENT, "length is 9");
    EXPECT(pith_session_truncate(NULL, 0, &error), PITH_E_ARGUMENT, "session is NULL");
    /* Rewound and fed again in pieces, the same bits come out. */
    WORKS(pith_session_truncate(session, 2, &error));
    WORKS(pith_session_forward(session, prompt + 2, 1, 0, &error));
    WORKS(pith_session_forward(session, prompt + 3, 3, 1, &error));
    WORKS(pith_session_logits(session, &logits, &rows, &error));
    CHECK(rows == 1 && memcmp(kept, logits, VOCAB * sizeof(float)) == 0);
    free(kept);
    pith_session_destroy(session);
    pith_sampler_destroy(sampler);
    pith_model_destroy(model);
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

/* Cancels from inside the work, through the runner. */
typedef struct canceller {
    pith_session* session;
    int regions, after;
} canceller;
static void cancelling(void* user, pith_task_fn fn, void* task, uint32_t count) {
    canceller* c = (canceller*)user;
    uint32_t i;
    if (++c->regions == c->after) pith_session_cancel(c->session, 1);
    for (i = 0; i < count; i++) fn(task, i);
}

static void test_cancel(void) {
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_model* model = load(env);
    canceller c = {NULL, 0, 0};
    pith_runner runner = {0};
    pith_session_options options = defaults();
    const float* logits = NULL;
    float first;
    int after;
    runner.struct_size = sizeof runner;
    runner.user = &c;
    runner.run = cancelling;
    runner.width = 2;
    options.runner = &runner;
    WORKS(pith_session_create(model, &options, &c.session, &error));
    WORKS(pith_session_forward(c.session, prompt, PROMPT, 1, &error));
    WORKS(pith_session_logits(c.session, &logits, NULL, &error));
    first = logits[7];
    CHECK(c.regions > 8);
    for (after = 1; after < 12; after += 5) {
        c.regions = 0;
        c.after = after;
        EXPECT(pith_session_forward(c.session, prompt, PROMPT, 1, &error), PITH_E_CANCELLED, "cancelled");
        CHECK(pith_session_length(c.session) == PROMPT);
        EXPECT(pith_session_forward(c.session, prompt, 1, 1, &error), PITH_E_CANCELLED, "cancelled");
        WORKS(pith_session_logits(c.session, &logits, NULL, &error));
        CHECK(logits[7] == first);
        pith_session_cancel(c.session, 0);
    }
    c.after = 0;
    WORKS(pith_session_truncate(c.session, 0, &error));
    WORKS(pith_session_forward(c.session, prompt, PROMPT, 1, &error));
    WORKS(pith_session_logits(c.session, &logits, NULL, &error));
    CHECK(logits[7] == first);
    pith_session_destroy(c.session);
    pith_model_destroy(model);
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

static void twice(void* user, pith_task_fn fn, void* task, uint32_t count) {
    uint32_t i;
    (void)user;
    for (i = 0; i < count; i++) fn(task, i);
    fn(task, 0);
}

/* A runner that breaks its contract is reported; the session works again with nothing lost. */
static void test_bad_runner(void) {
    pith_error error;
    capi_heap heap;
    pith_runner runner = {0};
    pith_env* env = NULL;
    pith_model* model = NULL;
    pith_session* session = NULL;
    pith_session_options options = defaults();
    env = capi_env(&heap, NULL, NULL);
    model = load(env);
    runner.struct_size = sizeof runner;
    runner.run = twice;
    runner.width = 4;
    options.runner = &runner;
    WORKS(pith_session_create(model, &options, &session, &error));
    EXPECT(pith_session_forward(session, prompt, PROMPT, 1, &error), PITH_E_RUNNER, "runner");
    CHECK(pith_session_length(session) == 0);
    pith_session_destroy(session);
    pith_model_destroy(model);
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

/* Any order of destruction, two sessions on one model, and no thread made. */
static void test_lifetimes(void) {
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_model* model = load(env);
    pith_session *a = NULL, *b = NULL;
    pith_sampler* sampler = NULL;
    pith_token ta = prompt[0], tb = -1;
    const int threads = capi_threads();
    int i;
    WORKS(pith_session_create(model, NULL, &a, &error));
    WORKS(pith_session_create(model, NULL, &b, &error));
    WORKS(pith_sampler_create(env, NULL, &sampler, &error));
    pith_env_destroy(env);
    pith_model_destroy(model);
    WORKS(pith_session_forward(a, prompt, PROMPT, 1, &error));
    WORKS(pith_session_forward(b, prompt, PROMPT, 1, &error));
    for (i = 0; i < 8; i++) {
        WORKS(pith_session_sample(a, 0, sampler, &ta, &error));
        WORKS(pith_session_sample(b, 0, sampler, &tb, &error));
        CHECK(ta == tb);
        WORKS(pith_session_forward(a, &ta, 1, 1, &error));
        WORKS(pith_session_forward(b, &tb, 1, 1, &error));
    }
    CHECK(capi_threads() == threads);
    pith_session_destroy(a);
    pith_sampler_destroy(sampler);
    pith_session_destroy(b);
    CHECK(heap.live == 0 && heap.blocks == 0);
}

int main(int argc, char** argv) {
    capi_use();
    if (argc < 2) return 2;
    folder = argv[1];
    test_memory();
    test_arguments();
    test_forward();
    test_cancel();
    test_bad_runner();
    test_lifetimes();
    return capi_end();
}
