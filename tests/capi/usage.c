/* <pith/usage.h>. argv[1]: the demo model. What is counted here does not depend on the clock; whether the account is true, tests/runner/founding_test.c tries. */
#include "capi.h"

static const char* folder;
static const pith_token prompt[] = {0, 48, 1293, 685, 260, 581};
enum { PROMPT = 6, DRAWN = 5 };

static pith_usage fresh(void) {
    pith_usage usage;
    memset(&usage, 0x5a, sizeof usage);
    usage.struct_size = sizeof usage;
    return usage;
}
static pith_usage of_session(const pith_session* session) {
    pith_error error;
    pith_usage usage = fresh();
    WORKS(pith_session_get_usage(session, &usage, &error));
    return usage;
}
static pith_usage of_env(const pith_env* env) {
    pith_error error;
    pith_usage usage = fresh();
    WORKS(pith_env_get_usage(env, &usage, &error));
    return usage;
}

/* A pool on the calling thread: index `left_out` is not called. */
typedef struct pool {
    uint32_t left_out, asked;
    uint64_t regions;
} pool;
static void lend(void* user, pith_task_fn fn, void* task, uint32_t count) {
    pool* p = (pool*)user;
    uint32_t i;
    p->asked += count;
    p->regions++;
    for (i = 0; i < count; i++)
        if (i != p->left_out) fn(task, i);
}

static void test_arguments(void) {
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_usage usage = fresh();
    char memory[256], text[16];
    size_t size = 0;
    EXPECT(pith_session_get_usage(NULL, &usage, &error), PITH_E_ARGUMENT, "session is NULL");
    EXPECT(pith_env_get_usage(NULL, &usage, &error), PITH_E_ARGUMENT, "env is NULL");
    EXPECT(pith_env_get_usage(env, NULL, &error), PITH_E_ARGUMENT, "usage is NULL");
    usage.struct_size = 16;
    EXPECT(pith_env_get_usage(env, &usage, &error), PITH_E_ARGUMENT, "usage.struct_size");
    EXPECT(pith_env_trace(NULL, memory, sizeof memory, &error), PITH_E_ARGUMENT, "env is NULL");
    EXPECT(pith_env_trace(env, memory, 8, &error), PITH_E_ARGUMENT, "size is 8");
    EXPECT(pith_env_trace_json(NULL, text, sizeof text, &size, &error), PITH_E_ARGUMENT, "env is NULL");
    EXPECT(pith_env_trace_json(env, NULL, 5, &size, &error), PITH_E_ARGUMENT, "text is NULL");
    EXPECT(pith_env_trace_json(env, text, sizeof text, NULL, &error), PITH_E_ARGUMENT, "size is NULL");
    EXPECT(pith_env_trace_json(env, text, sizeof text, &size, &error), PITH_E_STATE, "no trace");
    WORKS(pith_env_trace(env, memory, 128, &error));
    EXPECT(pith_env_trace_json(env, text, sizeof text, &size, &error), PITH_E_BUFFER, "the trace takes");
    CHECK(size > sizeof text);
    WORKS(pith_env_trace(env, NULL, 0, &error));
    EXPECT(pith_env_trace_json(env, text, sizeof text, &size, &error), PITH_E_STATE, "no trace");
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

/* What a session did, to the count; the env has it too, also when the session is gone. */
static void test_counts(void) {
    pith_error error;
    capi_heap heap;
    pool lender = {1000, 0, 0};
    pith_runner runner = {0};
    pith_env* env;
    pith_model* model = NULL;
    pith_session* session = NULL;
    pith_sampler* sampler = NULL;
    pith_session_info info = {0};
    pith_model_info weights = {0};
    pith_usage u, all, before;
    pith_token token = 0;
    int i;
    runner.struct_size = sizeof runner;
    runner.user = &lender;
    runner.run = lend;
    runner.width = 4;
    info.struct_size = sizeof info;
    weights.struct_size = sizeof weights;
    env = capi_env(&heap, NULL, &runner);
    all = of_env(env);
    CHECK(all.wall_ns == 0 && all.host_weights == 0 && all.device == 0 && all.cpu_kernels[0] && all.device_name[0]);
    WORKS(pith_model_open(env, folder, NULL, &model, &error));
    WORKS(pith_model_load(model, 1 << 20, NULL, &error));
    CHECK(of_env(env).host_staging > 0);
    WORKS(pith_model_load(model, 0, NULL, &error));
    WORKS(pith_model_get_info(model, &weights, &error));
    all = of_env(env);
    CHECK(all.host_weights == weights.host_bytes && all.host_staging == 0 && all.load_ns > 0 && all.load_ns == all.wall_ns);
    CHECK(all.helpers_asked == lender.asked && all.regions_lent == lender.regions);
    WORKS(pith_session_create(model, NULL, &session, &error));
    WORKS(pith_sampler_create(env, NULL, &sampler, &error));
    u = of_session(session);
    CHECK(u.wall_ns == 0 && u.regions_lent == 0 && u.host_weights == weights.host_bytes && u.device == 0);
    WORKS(pith_session_get_info(session, &info, &error));
    CHECK(u.host_kv > 0 && u.host_scratch > 0 && u.host_kv + u.host_scratch + u.host_staging == info.host_bytes);
    CHECK(u.device_weights + u.device_kv + u.device_scratch + u.device_staging == 0);
    /* The demo model: 1,024 positions, 8 layers of 4 heads of 64, keys and values, 2 bytes each. */
    CHECK(u.host_kv == (uint64_t)1024 * 8 * 4 * 64 * 2 * 2);
    all = of_env(env);
    CHECK(all.host_kv == u.host_kv && all.host_scratch == u.host_scratch && all.host_weights == weights.host_bytes);
    lender.asked = 0;
    lender.regions = 0;
    WORKS(pith_session_forward(session, prompt, PROMPT, 1, &error));
    u = of_session(session);
    CHECK(u.tokens_prefilled == PROMPT && u.tokens_decoded == 0 && u.prefill_ns > 0 && u.decode_ns == 0);
    for (i = 0; i < DRAWN; i++) {
        WORKS(pith_session_sample(session, 0, sampler, &token, &error));
        WORKS(pith_session_forward(session, &token, 1, 1, &error));
    }
    EXPECT(pith_session_forward(session, &token, 0, 0, &error), PITH_E_ARGUMENT, "count is 0");
    u = of_session(session);
    CHECK(u.tokens_prefilled == PROMPT && u.tokens_decoded == DRAWN && u.tokens_drawn == DRAWN);
    CHECK(u.helpers_asked == lender.asked && u.helpers_came == lender.asked && u.regions_lent == lender.regions);
    CHECK(u.helpers_worked >= u.regions_lent && u.helpers_worked <= u.helpers_came);
    CHECK(u.regions_inline + u.regions_lent <= (uint64_t)(DRAWN + 1) * (8 * 5 + 2)); /* five a layer, the embedding, the head */
    CHECK(u.wall_ns == u.prefill_ns + u.decode_ns + u.sample_ns && u.load_ns == 0);
    CHECK(u.cpu_caller_ns > 0 && u.cpu_caller_ns + u.wait_ns == u.wall_ns);
    CHECK(u.cpu_lent_ns == 0); /* the pool is the calling thread */
    CHECK(u.gpu_busy_ns == 0 && u.gpu_engine == PITH_ENGINE_NONE);
    before = u;
    lender.left_out = 1;
    WORKS(pith_session_forward(session, &token, 1, 1, &error));
    u = of_session(session);
    CHECK(u.time_ns > before.time_ns);
    CHECK(u.helpers_came - before.helpers_came == u.helpers_asked - before.helpers_asked - (u.regions_lent - before.regions_lent));
    all = of_env(env);
    CHECK(all.tokens_decoded == u.tokens_decoded && all.tokens_drawn == DRAWN && all.wall_ns == u.wall_ns + all.load_ns);
    {
        /* A draw that no session makes is the env's. */
        float logits[64] = {0};
        logits[9] = 3;
        WORKS(pith_sampler_sample(sampler, logits, 64, &token, &error));
        CHECK(token == 9 && of_env(env).tokens_drawn == DRAWN + 1 && of_session(session).tokens_drawn == DRAWN);
    }
    pith_session_destroy(session);
    u = of_env(env);
    CHECK(u.tokens_decoded == all.tokens_decoded && u.host_kv == 0 && u.host_scratch == 0 && u.wall_ns >= all.wall_ns);
    pith_model_destroy(model);
    CHECK(of_env(env).host_weights == 0);
    pith_sampler_destroy(sampler);
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

/* An older program's struct, and a newer one's. */
static void test_sizes(void) {
    struct {
        pith_usage known;
        uint64_t tail;
    } newer;
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    memset(&newer, 0x5a, sizeof newer);
    newer.known.struct_size = sizeof newer;
    WORKS(pith_env_get_usage(env, &newer.known, &error));
    CHECK(newer.tail == 0 && newer.known.wall_ns == 0 && newer.known.struct_size == sizeof newer);
    pith_env_destroy(env);
}

static int count_of(const char* text, const char* what) {
    int n = 0;
    for (text = strstr(text, what); text; text = strstr(text + 1, what)) n++;
    return n;
}

static void test_trace(void) {
    pith_error error;
    capi_heap heap;
    pool lender = {1000, 0, 0};
    pith_runner runner = {0};
    pith_env* env;
    pith_model* model = NULL;
    pith_session* session = NULL;
    pith_sampler* sampler = NULL;
    pith_token token = 0;
    const size_t memory_size = 1 << 20;
    char *memory = (char*)malloc(memory_size), *text = NULL;
    size_t size = 0, calls;
    runner.struct_size = sizeof runner;
    runner.user = &lender;
    runner.run = lend;
    runner.width = 4;
    env = capi_env(&heap, NULL, &runner);
    WORKS(pith_model_open(env, folder, NULL, &model, &error));
    WORKS(pith_model_load(model, 0, NULL, &error));
    WORKS(pith_session_create(model, NULL, &session, &error));
    WORKS(pith_sampler_create(env, NULL, &sampler, &error));
    lender.asked = 0;
    lender.regions = 0;
    WORKS(pith_env_trace(env, memory + 1, memory_size - 1, &error)); /* any alignment */
    calls = heap.calls;
    WORKS(pith_session_forward(session, prompt, PROMPT, 1, &error));
    WORKS(pith_session_sample(session, 0, sampler, &token, &error));
    WORKS(pith_session_forward(session, &token, 1, 1, &error));
    EXPECT(pith_env_trace_json(env, NULL, 0, &size, &error), PITH_E_BUFFER, "the trace takes");
    text = (char*)malloc(size + 1);
    WORKS(pith_env_trace_json(env, text, size, &size, &error));
    CHECK(heap.calls == calls);
    text[size] = 0;
    CHECK(strlen(text) == size && text[0] == '{' && strcmp(text + size - 4, "\n]}\n") == 0);
    CHECK(count_of(text, "\"name\":\"prefill\"") == 1 && count_of(text, "\"name\":\"decode\"") == 1 && count_of(text, "\"name\":\"sample\"") == 1);
    CHECK(strstr(text, "\"args\":{\"tokens\":6}") && strstr(text, "\"name\":\"session 1\"") && strstr(text, "\"dropped\":0"));
    CHECK(count_of(text, "\"name\":\"help\"") == (int)lender.asked && count_of(text, "\"name\":\"region\"") == (int)lender.regions);
    EXPECT(pith_env_trace_json(env, text, size - 1, &size, &error), PITH_E_BUFFER, "the trace takes");
    free(text);
    /* One that is full says what it lacks. */
    WORKS(pith_env_trace(env, memory, 128, &error));
    WORKS(pith_session_forward(session, &token, 1, 1, &error));
    EXPECT(pith_env_trace_json(env, NULL, 0, &size, &error), PITH_E_BUFFER, "");
    text = (char*)malloc(size + 1);
    WORKS(pith_env_trace_json(env, text, size, &size, &error));
    text[size] = 0;
    CHECK(strstr(text, "\"events\":2,") && !strstr(text, "\"dropped\":0"));
    free(text);
    WORKS(pith_env_trace(env, NULL, 0, &error));
    memset(memory, 0, memory_size);
    WORKS(pith_session_forward(session, &token, 1, 1, &error));
    CHECK(memory[0] == 0 && memcmp(memory, memory + 1, memory_size - 1) == 0); /* untouched once it is stopped */
    free(memory);
    pith_session_destroy(session);
    pith_sampler_destroy(sampler);
    pith_model_destroy(model);
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

int main(int argc, char** argv) {
    capi_use();
    if (argc < 2) return 2;
    folder = argv[1];
    test_arguments();
    test_counts();
    test_sizes();
    test_trace();
    return capi_end();
}
