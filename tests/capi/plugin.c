/* Backends from plug-ins, and devices that fail. argv[1]: the demo model, argv[2]: the folder of the fake plug-ins. */
#include "capi.h"

static const char *folder, *plugins;
static const pith_token prompt[] = {0, 48, 1293, 685, 260, 581}; /* <|bos|>Once upon a time */
enum { PROMPT = 6, VOCAB = 8192 };
enum { HEALTHY = 1, MODEL_TOO_LARGE, NO_MEMORY_AT_LOAD, NO_MEMORY_AT_SESSION, LOST_IN_FORWARD, LOST_IN_SAMPLE, LOST_IN_LOGITS, LOST_AT_OPEN, LOST_AT_LOAD, LOST_AT_CREATE, DEVICES };

static const char* fake(int kind) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/fake_backend_%d.so", plugins, kind);
    return path;
}

static pith_model* load(pith_env* env, uint32_t device) {
    pith_error error;
    pith_model_options options = {0};
    pith_model* model = NULL;
    options.struct_size = sizeof options;
    options.device = device;
    WORKS(pith_model_open(env, folder, &options, &model, &error));
    WORKS(pith_model_load(model, 0, NULL, &error));
    return model;
}

/* What is no plug-in of this release is refused by name and leaves the env as it was. */
static void test_refusals(void) {
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    EXPECT(pith_env_load_backend(env, "/no/such/backend.so", &error), PITH_E_IO, "/no/such/backend.so");
    EXPECT(pith_env_load_backend(env, "no_such_backend.so", &error), PITH_E_IO, "no_such_backend.so");
    EXPECT(pith_env_load_backend(env, "", &error), PITH_E_ARGUMENT, "library_path is empty");
    EXPECT(pith_env_load_backend(env, folder, &error), PITH_E_IO, "");
    EXPECT(pith_env_load_backend(env, fake(1), &error), PITH_E_VERSION, "another release");
    EXPECT(pith_env_load_backend(env, fake(2), &error), PITH_E_UNSUPPORTED, "pith_backend_entry");
    EXPECT(pith_env_load_backend(env, fake(3), &error), PITH_E_UNSUPPORTED, "returned NULL");
    EXPECT(pith_env_load_backend(env, fake(5), &error), PITH_E_MEMORY, "fake: no memory");
    EXPECT(pith_env_load_backend(env, fake(6), &error), PITH_E_DEVICE, "does not start");
    CHECK(pith_env_device_count(env) == 1);
    WORKS(pith_env_load_backend(env, fake(4), &error)); /* no device is no failure */
    CHECK(pith_env_device_count(env) == 1);
    WORKS(pith_env_load_backend(env, fake(0), &error));
    WORKS(pith_env_load_backend(env, fake(0), &error)); /* again: nothing new */
    CHECK(pith_env_device_count(env) == DEVICES);
    pith_env_destroy(env);
    CHECK(heap.live == 0 && heap.blocks == 0);
}

static void test_devices(pith_env* env) {
    pith_error error;
    pith_device_info info = {0};
    pith_model_options options = {0};
    pith_model* model = NULL;
    info.struct_size = sizeof info;
    WORKS(pith_env_device_info(env, 0, &info, &error));
    CHECK(info.kind == PITH_DEVICE_CPU);
    WORKS(pith_env_device_info(env, HEALTHY, &info, &error));
    CHECK(info.kind == PITH_DEVICE_CUDA && strcmp(info.name, "healthy") == 0 && info.memory_total == 1 << 30);
    WORKS(pith_env_device_info(env, LOST_IN_LOGITS, &info, &error));
    CHECK(strcmp(info.name, "lost in logits") == 0);
    EXPECT(pith_env_device_info(env, DEVICES, &info, &error), PITH_E_ARGUMENT, "device is 11");
    options.struct_size = sizeof options;
    options.device = DEVICES;
    EXPECT(pith_model_open(env, folder, &options, &model, &error), PITH_E_ARGUMENT, "options.device is 11");
    options.device = HEALTHY;
    options.flags = PITH_MODEL_HEAD_8BIT; /* the CPU's alone */
    EXPECT(pith_model_open(env, folder, &options, &model, &error), PITH_E_UNSUPPORTED, "8-bit head, options.device is");
}

/* The same tokens as on the CPU, whether the backend draws or the core does. */
static void test_healthy(pith_env* env) {
    pith_error error;
    pith_model *model = load(env, HEALTHY), *host = load(env, 0);
    pith_model_info about = {0};
    pith_session_info plan = {0};
    pith_session *there = NULL, *here = NULL;
    pith_sampler_step step = {0};
    pith_sampler_options options = {0};
    int chain, i;
    about.struct_size = sizeof about;
    plan.struct_size = sizeof plan;
    WORKS(pith_model_get_info(model, &about, &error));
    CHECK(about.device == HEALTHY && about.device_bytes == 12345);
    WORKS(pith_session_plan(model, NULL, &plan, &error));
    CHECK(plan.device_bytes == 678 && plan.batch_length == 64);
    step.kind = PITH_STEP_TEMPERATURE;
    options.struct_size = sizeof options;
    options.steps = &step;
    options.step_count = 1;
    options.seed = 7;
    for (chain = 0; chain < 3; chain++) { /* the backend's; the core's; the core's, since log-probabilities are kept */
        pith_sampler *a = NULL, *b = NULL;
        pith_token x = 0, y = 0;
        step.value[0] = chain == 1 ? 0.8f : 0.0f;
        options.logprobs = chain == 2 ? 2 : 0;
        WORKS(pith_sampler_create(env, &options, &a, &error));
        WORKS(pith_sampler_create(env, &options, &b, &error));
        WORKS(pith_session_create(model, NULL, &there, &error));
        WORKS(pith_session_create(host, NULL, &here, &error));
        WORKS(pith_session_forward(there, prompt, PROMPT, 1, &error));
        WORKS(pith_session_forward(here, prompt, PROMPT, 1, &error));
        EXPECT(pith_session_sample(there, 0, NULL, &x, &error), PITH_E_ARGUMENT, "sampler is NULL");
        EXPECT(pith_session_sample(there, 0, a, NULL, &error), PITH_E_ARGUMENT, "token is NULL");
        for (i = 0; i < 8; i++) {
            WORKS(pith_session_sample(there, 0, a, &x, &error));
            WORKS(pith_session_sample(here, 0, b, &y, &error));
            CHECK(x == y);
            if (chain == 2) {
                const pith_logprob* items = NULL;
                size_t count = 0;
                WORKS(pith_sampler_logprobs(a, &items, &count, &error));
                CHECK(count == 3 && items[0].token == x && items[1].token == x);
            }
            WORKS(pith_session_forward(there, &x, 1, 1, &error));
            WORKS(pith_session_forward(here, &y, 1, 1, &error));
        }
        WORKS(pith_sampler_truncate(a, 8, &error)); /* what the backend drew was recorded */
        EXPECT(pith_sampler_truncate(a, 9, &error), PITH_E_ARGUMENT, "8 tokens are recorded");
        pith_session_destroy(there);
        pith_session_destroy(here);
        pith_sampler_destroy(a);
        pith_sampler_destroy(b);
    }
    pith_model_destroy(model);
    pith_model_destroy(host);
}

/* Out of memory on the device: a status, and the same object works again, or a smaller one does. */
static void test_memory(pith_env* env) {
    pith_error error;
    pith_model_options options = {0};
    pith_model* model = NULL;
    pith_session* session = NULL;
    options.struct_size = sizeof options;
    options.device = MODEL_TOO_LARGE;
    EXPECT(pith_model_open(env, folder, &options, &model, &error), PITH_E_MEMORY, "not that much memory");
    CHECK(model == NULL);
    options.device = NO_MEMORY_AT_LOAD;
    WORKS(pith_model_open(env, folder, &options, &model, &error));
    EXPECT(pith_model_load(model, 0, NULL, &error), PITH_E_MEMORY, "device memory ran out");
    CHECK(error.system == 2);
    EXPECT(pith_session_create(model, NULL, &session, &error), PITH_E_STATE, "not loaded");
    WORKS(pith_model_load(model, 0, NULL, &error));
    WORKS(pith_session_create(model, NULL, &session, &error));
    pith_session_destroy(session);
    pith_model_destroy(model);
    model = load(env, NO_MEMORY_AT_SESSION);
    {
        pith_session_options large = {0};
        pith_session_info plan = {0};
        large.struct_size = sizeof large;
        large.context_length = 1u << 30;
        plan.struct_size = sizeof plan;
        EXPECT(pith_session_plan(model, &large, &plan, &error), PITH_E_MEMORY, "no machine");
    }
    EXPECT(pith_session_create(model, NULL, &session, &error), PITH_E_MEMORY, "no device memory for the cache");
    CHECK(session == NULL);
    pith_model_destroy(model);
}

static void test_loss_early(pith_env* env) {
    pith_error error;
    pith_model_options options = {0};
    pith_model* model = NULL;
    pith_session* session = NULL;
    options.struct_size = sizeof options;
    options.device = LOST_AT_OPEN;
    EXPECT(pith_model_open(env, folder, &options, &model, &error), PITH_E_DEVICE, "the device is lost");
    options.device = LOST_AT_LOAD;
    WORKS(pith_model_open(env, folder, &options, &model, &error));
    EXPECT(pith_model_load(model, 0, NULL, &error), PITH_E_DEVICE, "the device is lost");
    pith_model_destroy(model);
    model = load(env, LOST_AT_CREATE);
    EXPECT(pith_session_create(model, NULL, &session, &error), PITH_E_DEVICE, "the device is lost");
    pith_model_destroy(model);
}

/* A lost device costs the session and its model, not the process nor the other devices. */
static void test_loss(pith_env* env) {
    static const uint32_t devices[] = {LOST_IN_FORWARD, LOST_IN_SAMPLE, LOST_IN_LOGITS};
    pith_error error;
    pith_sampler* sampler = NULL;
    size_t i;
    WORKS(pith_sampler_create(env, NULL, &sampler, &error));
    for (i = 0; i < 3; i++) {
        pith_model* model = load(env, devices[i]);
        pith_session* session = NULL;
        const float* logits = NULL;
        pith_token token = -1;
        WORKS(pith_session_create(model, NULL, &session, &error));
        WORKS(pith_session_forward(session, prompt, 2, 1, &error));
        WORKS(pith_session_forward(session, prompt, 1, 1, &error));
        if (devices[i] == LOST_IN_FORWARD) {
            EXPECT(pith_session_forward(session, prompt, 1, 1, &error), PITH_E_DEVICE, "the device is lost");
            CHECK(pith_session_length(session) == 3);
        } else if (devices[i] == LOST_IN_SAMPLE) {
            EXPECT(pith_session_sample(session, 0, sampler, &token, &error), PITH_E_DEVICE, "the device is lost");
            CHECK(error.system == 700);
        } else {
            EXPECT(pith_session_logits(session, &logits, NULL, &error), PITH_E_DEVICE, "the device is lost");
        }
        EXPECT(pith_session_forward(session, prompt, 1, 0, &error), PITH_E_DEVICE, "the device is lost");
        EXPECT(pith_session_sample(session, 0, sampler, &token, &error), PITH_E_DEVICE, "the device is lost");
        EXPECT(pith_sampler_truncate(sampler, 1, &error), PITH_E_ARGUMENT, "only 0 tokens"); /* nothing was recorded */
        WORKS(pith_session_truncate(session, 0, &error));
        pith_session_destroy(session);
        pith_model_destroy(model);
    }
    pith_sampler_destroy(sampler);
    test_loss_early(env);
    test_healthy(env);
}

/* Objects keep the env, and with it the backend's instance, alive. */
static void test_order(void) {
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_model* model;
    pith_session* session = NULL;
    WORKS(pith_env_load_backend(env, fake(0), &error));
    model = load(env, HEALTHY);
    WORKS(pith_session_create(model, NULL, &session, &error));
    pith_env_destroy(env);
    pith_model_destroy(model);
    WORKS(pith_session_forward(session, prompt, PROMPT, 1, &error));
    pith_session_destroy(session);
    CHECK(heap.live == 0 && heap.blocks == 0);
}

int main(int argc, char** argv) {
    pith_error error;
    capi_heap heap;
    pith_env* env;
    if (argc < 3) return 2;
    capi_use();
    folder = argv[1];
    plugins = argv[2];
    test_refusals();
    env = capi_env(&heap, NULL, NULL);
    WORKS(pith_env_load_backend(env, fake(0), &error));
    CHECK(pith_env_device_count(env) == DEVICES);
    test_devices(env);
    test_healthy(env);
    test_memory(env);
    test_loss(env);
    pith_env_destroy(env);
    CHECK(heap.live == 0 && heap.blocks == 0);
    test_order();
    return capi_end();
}
