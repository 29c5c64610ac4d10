/* struct_size of every struct that has one: too small, implausible, a newer program's with its new fields zero or not.
   argv[1]: the demo model. */
#include "capi.h"

static const char* folder;
static pith_env* shared_env;
static pith_model* shared_model;
static pith_session* shared_session;

/* Options. Each makes what the options ask for, and frees it. */

static pith_status make_env(const pith_env_options* options, pith_error* error) {
    pith_env* env = NULL;
    const pith_status status = pith_env_create(options, &env, error);
    CHECK((status == PITH_OK) == (env != NULL));
    pith_env_destroy(env);
    return status;
}
static pith_status with_env(const void* options, pith_error* error) { return make_env((const pith_env_options*)options, error); }
static pith_status with_allocator(const void* options, pith_error* error) {
    pith_env_options env = {0};
    env.struct_size = sizeof env;
    env.allocator = (const pith_allocator*)options;
    return make_env(&env, error);
}
static pith_status with_files(const void* options, pith_error* error) {
    pith_env_options env = {0};
    env.struct_size = sizeof env;
    env.files = (const pith_files*)options;
    return make_env(&env, error);
}
static pith_status with_runner(const void* options, pith_error* error) {
    pith_env_options env = {0};
    env.struct_size = sizeof env;
    env.runner = (const pith_runner*)options;
    return make_env(&env, error);
}
static pith_status with_checked_runner(const void* options, pith_error* error) {
    return pith_runner_check(shared_env, (const pith_runner*)options, error);
}
static pith_status with_model(const void* options, pith_error* error) {
    pith_model* model = NULL;
    const pith_status status = pith_model_open(shared_env, folder, (const pith_model_options*)options, &model, error);
    CHECK((status == PITH_OK) == (model != NULL));
    pith_model_destroy(model);
    return status;
}
static pith_status with_session(const void* options, pith_error* error) {
    pith_session* session = NULL;
    const pith_status status = pith_session_create(shared_model, (const pith_session_options*)options, &session, error);
    CHECK((status == PITH_OK) == (session != NULL));
    pith_session_destroy(session);
    return status;
}
static pith_status with_plan(const void* options, pith_error* error) {
    pith_session_info plan = {0};
    plan.struct_size = sizeof plan;
    return pith_session_plan(shared_model, (const pith_session_options*)options, &plan, error);
}
static pith_status with_session_runner(const void* options, pith_error* error) {
    pith_session_options session = {0};
    session.struct_size = sizeof session;
    session.runner = (const pith_runner*)options;
    return with_session(&session, error);
}
static pith_status with_sampler(const void* options, pith_error* error) {
    pith_sampler* sampler = NULL;
    const pith_status status = pith_sampler_create(shared_env, (const pith_sampler_options*)options, &sampler, error);
    CHECK((status == PITH_OK) == (sampler != NULL));
    pith_sampler_destroy(sampler);
    return status;
}

/* `good`: options that work, of `size` bytes with struct_size first. */
static void check_options(pith_status (*call)(const void*, pith_error*), const void* good, size_t size, const char* name) {
    static const size_t too_small[] = {0, 1, 8, 65537, (size_t)-1};
    uint64_t buffer[64];
    pith_error error;
    char field[64], offset[64];
    size_t given, i;
    memset(buffer, 0, sizeof buffer);
    memcpy(buffer, good, size);
    snprintf(field, sizeof field, "%s.struct_size is", name);
    WORKS(call(buffer, &error));
    for (i = 0; i < sizeof too_small / sizeof too_small[0]; i++) {
        memcpy(buffer, &too_small[i], sizeof given);
        EXPECT(call(buffer, &error), PITH_E_ARGUMENT, field);
    }
    given = size - 1;
    memcpy(buffer, &given, sizeof given);
    EXPECT(call(buffer, &error), PITH_E_ARGUMENT, field);
    given = sizeof buffer - 16; /* more than any later library may know */
    memcpy(buffer, &given, sizeof given);
    WORKS(call(buffer, &error));
    ((unsigned char*)buffer)[given - 1] = 1;
    snprintf(offset, sizeof offset, "%s sets a field at offset %u", name, (unsigned)(given - 1));
    EXPECT(call(buffer, &error), PITH_E_VERSION, offset);
    ((unsigned char*)buffer)[given - 1] = 0;
    ((unsigned char*)buffer)[given] = 1; /* behind the struct: nobody's business */
    WORKS(call(buffer, &error));
}

/* Infos. */

static pith_status get_device(void* info, pith_error* error) { return pith_env_device_info(shared_env, 0, (pith_device_info*)info, error); }
static pith_status get_model(void* info, pith_error* error) { return pith_model_get_info(shared_model, (pith_model_info*)info, error); }
static pith_status get_plan(void* info, pith_error* error) {
    return pith_session_plan(shared_model, NULL, (pith_session_info*)info, error);
}
static pith_status get_session(void* info, pith_error* error) {
    return pith_session_get_info(shared_session, (pith_session_info*)info, error);
}

static void check_info(pith_status (*call)(void*, pith_error*), size_t size) {
    static const size_t bad[] = {0, 1, 8, 65537, (size_t)-1};
    unsigned char zero[16] = {0};
    uint64_t buffer[64], exact[64], before[64];
    pith_error error;
    size_t given = size, i;
    memset(exact, 0xEE, sizeof exact);
    memcpy(exact, &given, sizeof given);
    WORKS(call(exact, &error));
    CHECK(((unsigned char*)exact)[size] == 0xEE);
    for (i = 0; i <= sizeof bad / sizeof bad[0]; i++) {
        given = i < sizeof bad / sizeof bad[0] ? bad[i] : size - 1;
        memset(buffer, 0xEE, sizeof buffer);
        memcpy(buffer, &given, sizeof given);
        memcpy(before, buffer, sizeof buffer);
        EXPECT(call(buffer, &error), PITH_E_ARGUMENT, "struct_size is");
        CHECK(memcmp(buffer, before, sizeof buffer) == 0);
    }
    given = size + 16;
    memset(buffer, 0xEE, sizeof buffer);
    memcpy(buffer, &given, sizeof given);
    WORKS(call(buffer, &error));
    CHECK(memcmp(buffer, &given, sizeof given) == 0);
    CHECK(memcmp((char*)buffer + sizeof given, (char*)exact + sizeof given, size - sizeof given) == 0);
    CHECK(memcmp((char*)buffer + size, zero, 16) == 0);
    CHECK(((unsigned char*)buffer)[size + 16] == 0xEE);
}

static void serial(void* user, pith_task_fn fn, void* task, uint32_t count) {
    uint32_t i;
    (void)user;
    for (i = 0; i < count; i++) fn(task, i);
}

static void test_options(void) {
    capi_heap heap;
    capi_patch patch = {0};
    pith_files files = capi_files(&patch);
    pith_allocator allocator = {0};
    pith_runner runner = {0};
    pith_env_options env = {0};
    pith_model_options model = {0};
    pith_session_options session = {0};
    pith_sampler_options sampler = {0};
    memset(&heap, 0, sizeof heap);
    allocator.struct_size = sizeof allocator;
    allocator.user = &heap;
    allocator.alloc = capi_alloc;
    allocator.free = capi_free;
    runner.struct_size = sizeof runner;
    runner.run = serial;
    runner.width = 2;
    env.struct_size = sizeof env;
    model.struct_size = sizeof model;
    session.struct_size = sizeof session;
    session.context_length = 16;
    sampler.struct_size = sizeof sampler;
    check_options(with_env, &env, sizeof env, "options");
    check_options(with_allocator, &allocator, sizeof allocator, "options.allocator");
    check_options(with_files, &files, sizeof files, "options.files");
    check_options(with_runner, &runner, sizeof runner, "runner");
    check_options(with_checked_runner, &runner, sizeof runner, "runner");
    check_options(with_session_runner, &runner, sizeof runner, "runner");
    check_options(with_model, &model, sizeof model, "options");
    check_options(with_session, &session, sizeof session, "options");
    check_options(with_plan, &session, sizeof session, "options");
    check_options(with_sampler, &sampler, sizeof sampler, "options");
    CHECK(heap.live == 0);
}

int main(int argc, char** argv) {
    capi_heap heap;
    pith_error error;
    pith_session_options small = {0};
    if (argc < 2) return 2;
    folder = argv[1];
    capi_use();
    shared_env = capi_env(&heap, NULL, NULL);
    WORKS(pith_model_open(shared_env, folder, NULL, &shared_model, &error));
    WORKS(pith_model_load(shared_model, 0, NULL, &error));
    small.struct_size = sizeof small;
    small.context_length = 16;
    WORKS(pith_session_create(shared_model, &small, &shared_session, &error));
    test_options();
    check_info(get_device, sizeof(pith_device_info));
    check_info(get_model, sizeof(pith_model_info));
    check_info(get_plan, sizeof(pith_session_info));
    check_info(get_session, sizeof(pith_session_info));
    pith_session_destroy(shared_session);
    pith_model_destroy(shared_model);
    pith_env_destroy(shared_env);
    CHECK(heap.live == 0);
    return capi_end();
}
