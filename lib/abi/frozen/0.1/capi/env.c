/* <pith/env.h> */
#include "capi.h"

static void serial(void* user, pith_task_fn fn, void* task, uint32_t count) {
    uint32_t i;
    (void)user;
    for (i = 0; i < count; i++) fn(task, i);
}
static void nobody(void* user, pith_task_fn fn, void* task, uint32_t count) {
    (void)user, (void)fn, (void)task, (void)count;
}
static void twice(void* user, pith_task_fn fn, void* task, uint32_t count) {
    serial(user, fn, task, count);
    fn(task, 0);
}
static void beyond(void* user, pith_task_fn fn, void* task, uint32_t count) {
    (void)user;
    fn(task, count);
}

static void test_create(void) {
    pith_error error;
    pith_env* env = (pith_env*)&error;
    pith_env_options options = {0};
    pith_allocator allocator = {0};
    pith_files files = {0};
    pith_runner runner = {0};
    struct {
        pith_env_options known;
        uint64_t tail;
    } newer;
    WORKS(pith_env_create(NULL, &env, &error));
    pith_env_destroy(env);
    CHECK(pith_env_create(NULL, NULL, NULL) == PITH_E_ARGUMENT);
    EXPECT(pith_env_create(NULL, NULL, &error), PITH_E_ARGUMENT, "env is NULL");
    EXPECT(pith_env_create(&options, &env, &error), PITH_E_ARGUMENT, "options.struct_size");
    CHECK(env == NULL);
    options.struct_size = sizeof options;
    WORKS(pith_env_create(&options, &env, &error));
    pith_env_destroy(env);
    memset(&newer, 0, sizeof newer);
    newer.known.struct_size = sizeof newer;
    WORKS(pith_env_create(&newer.known, &env, &error));
    pith_env_destroy(env);
    newer.tail = 1;
    EXPECT(pith_env_create(&newer.known, &env, &error), PITH_E_VERSION, "options");
    options.allocator = &allocator;
    EXPECT(pith_env_create(&options, &env, &error), PITH_E_ARGUMENT, "options.allocator.struct_size");
    allocator.struct_size = sizeof allocator;
    EXPECT(pith_env_create(&options, &env, &error), PITH_E_ARGUMENT, "alloc and free");
    options.allocator = NULL;
    options.files = &files;
    files.struct_size = sizeof files;
    EXPECT(pith_env_create(&options, &env, &error), PITH_E_ARGUMENT, "open, read and close");
    options.files = NULL;
    options.runner = &runner;
    runner.struct_size = sizeof runner;
    EXPECT(pith_env_create(&options, &env, &error), PITH_E_ARGUMENT, "runner.run");
    runner.run = serial;
    EXPECT(pith_env_create(&options, &env, &error), PITH_E_ARGUMENT, "runner.width");
    runner.width = 257;
    EXPECT(pith_env_create(&options, &env, &error), PITH_E_ARGUMENT, "runner.width");
    runner.width = 4;
    runner.flags = 1;
    EXPECT(pith_env_create(&options, &env, &error), PITH_E_UNSUPPORTED, "runner.flags");
    runner.flags = 0;
    WORKS(pith_env_create(&options, &env, &error));
    pith_env_destroy(env);
    pith_env_destroy(NULL);
}

static void test_devices(void) {
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_device_info info = {0};
    CHECK(pith_env_device_count(NULL) == 0);
    CHECK(pith_env_device_count(env) == 1);
    EXPECT(pith_env_device_info(env, 0, &info, &error), PITH_E_ARGUMENT, "info.struct_size");
    info.struct_size = sizeof info;
    WORKS(pith_env_device_info(env, 0, &info, &error));
    CHECK(info.kind == PITH_DEVICE_CPU);
    CHECK(info.struct_size == sizeof info);
    CHECK(info.memory_total >= info.memory_free);
    CHECK(info.name[0] != 0 && info.name[sizeof info.name - 1] == 0);
    EXPECT(pith_env_device_info(env, 1, &info, &error), PITH_E_ARGUMENT, "device is 1");
    EXPECT(pith_env_device_info(env, 0, NULL, &error), PITH_E_ARGUMENT, "info is NULL");
    EXPECT(pith_env_device_info(NULL, 0, &info, &error), PITH_E_ARGUMENT, "env is NULL");
    EXPECT(pith_env_load_backend(NULL, "x", &error), PITH_E_ARGUMENT, "env is NULL");
    EXPECT(pith_env_load_backend(env, NULL, &error), PITH_E_ARGUMENT, "library_path is NULL");
    CHECK(pith_env_device_count(env) == 1);
    pith_env_destroy(env);
    CHECK(heap.live == 0 && heap.blocks == 0);
}

static char logged[4096];
static void take_log(void* user, int32_t level, const char* text, size_t size) {
    CHECK(user == logged && level >= PITH_LOG_ERROR && level <= PITH_LOG_DEBUG);
    if (size > sizeof logged - 1) size = sizeof logged - 1;
    memcpy(logged, text, size);
    logged[size] = 0;
    CHECK(!strchr(logged, '\n'));
}

/* What was chosen is told to a log that the host gave, and to nobody else. */
static void test_log(const char* folder) {
    pith_error error;
    pith_env_options options = {0};
    pith_env* env = NULL;
    pith_model* model = NULL;
    options.struct_size = sizeof options;
    options.log = take_log;
    options.log_user = logged;
    WORKS(pith_env_create(&options, &env, &error));
    WORKS(pith_model_open(env, folder, NULL, &model, &error));
    CHECK(strstr(logged, "LlamaForCausalLM") && strstr(logged, "device 0") && strstr(logged, "kernels"));
    pith_model_destroy(model);
    pith_env_destroy(env);
}

static void test_runner_check(void) {
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_runner runner = {0};
    runner.struct_size = sizeof runner;
    runner.width = 8;
    runner.run = serial;
    WORKS(pith_runner_check(env, &runner, &error));
    runner.run = nobody;
    WORKS(pith_runner_check(env, &runner, &error));
    runner.run = twice;
    EXPECT(pith_runner_check(env, &runner, &error), PITH_E_RUNNER, "runner");
    runner.run = beyond;
    EXPECT(pith_runner_check(env, &runner, &error), PITH_E_RUNNER, "runner");
    runner.run = serial;
    WORKS(pith_runner_check(env, &runner, &error));
    EXPECT(pith_runner_check(env, NULL, &error), PITH_E_ARGUMENT, "runner is NULL");
    EXPECT(pith_runner_check(NULL, &runner, &error), PITH_E_ARGUMENT, "env is NULL");
    runner.width = 0;
    EXPECT(pith_runner_check(env, &runner, &error), PITH_E_ARGUMENT, "width");
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    capi_use();
    test_log(argv[1]);
    test_create();
    test_devices();
    test_runner_check();
    return capi_end();
}
