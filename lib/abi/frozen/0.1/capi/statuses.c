/* Statuses that the headers promise and that need a world gone wrong: no memory, broken files, broken runners. argv[1]: the demo model. */
#include "capi.h"

#include <math.h>

static const char* folder;

/* An allocator that refuses from the `left`th call on. */
typedef struct short_heap {
    capi_heap heap;
    long left;
} short_heap;

static void* short_alloc(void* user, size_t size, size_t alignment) {
    short_heap* s = (short_heap*)user;
    return s->left-- > 0 ? capi_alloc(&s->heap, size, alignment) : NULL;
}
static void short_free(void* user, void* memory, size_t size, size_t alignment) { capi_free(&((short_heap*)user)->heap, memory, size, alignment); }

static void test_memory(void) {
    pith_error error;
    short_heap heap;
    pith_allocator allocator = {0};
    pith_env_options options = {0};
    pith_session_options session = {0};
    pith_session_info plan = {0};
    pith_env* env = NULL;
    pith_model* model = NULL;
    pith_tokenizer* tokenizer = NULL;
    pith_sampler* sampler = NULL;
    char text[4096];
    pith_token ids[4096];
    size_t size = 0;
    memset(&heap, 0, sizeof heap);
    allocator.struct_size = sizeof allocator;
    allocator.user = &heap;
    allocator.alloc = short_alloc;
    allocator.free = short_free;
    options.struct_size = sizeof options;
    options.allocator = &allocator;
    EXPECT(pith_env_create(&options, &env, &error), PITH_E_MEMORY, "the env");
    heap.left = 1L << 40;
    WORKS(pith_env_create(&options, &env, &error));
    WORKS(pith_tokenizer_load(env, folder, &tokenizer, &error));
    WORKS(pith_model_open(env, folder, NULL, &model, &error));
    memset(text, 'a', sizeof text);
    memset(ids, 0, sizeof ids);
    heap.left = 0;
    EXPECT(pith_tokenizer_encode(tokenizer, text, sizeof text, 0, ids, 4096, &size, &error), PITH_E_MEMORY, "");
    EXPECT(pith_tokenizer_decode(tokenizer, ids, 4096, 0, text, sizeof text, &size, &error), PITH_OK, "");
    EXPECT(pith_sampler_create(env, NULL, &sampler, &error), PITH_E_MEMORY, "the sampler");
    heap.left = 1L << 40;
    session.struct_size = sizeof session;
    plan.struct_size = sizeof plan;
    session.flags = 1u << 20;
    EXPECT(pith_session_plan(model, &session, &plan, &error), PITH_E_UNSUPPORTED, "options.flags");
    pith_tokenizer_destroy(tokenizer);
    pith_model_destroy(model);
    heap.left = 1;
    tokenizer = NULL;
    EXPECT(pith_tokenizer_load(env, folder, &tokenizer, &error), PITH_E_MEMORY, "");
    pith_env_destroy(env);
    CHECK(heap.heap.live == 0 && heap.heap.blocks == 0);
}

/* tokenizer.json with this content. */
static void refuse_tokenizer(const char* content, pith_status status, const char* says) {
    pith_error error;
    capi_heap heap;
    capi_patch patch = {0};
    pith_files files;
    pith_env* env;
    pith_tokenizer* tokenizer = NULL;
    pith_status given;
    patch.name = "tokenizer.json";
    patch.content = content;
    patch.size = strlen(content);
    files = capi_files(&patch);
    env = capi_env(&heap, &files, NULL);
    given = pith_tokenizer_load(env, folder, &tokenizer, &error);
    CHECK(given == status && tokenizer == NULL);
    CHECK(given >= 0 || strstr(error.message, says));
    if (given != status) printf("  %s: %s\n", pith_status_name(given), error.message);
    pith_env_destroy(env);
    CHECK(heap.live == 0 && patch.open_files == 0);
}

static void test_tokenizer_files(void) {
    static char deep[4096];
    refuse_tokenizer("{\"model\":", PITH_E_FORMAT, "tokenizer.json");                     /* pith_tokenizer_load() PITH_E_FORMAT */
    refuse_tokenizer("{\"model\": {\"type\": \"Unigram\", \"vocab\": []}}", PITH_E_UNSUPPORTED, "Unigram"); /* pith_tokenizer_load() PITH_E_UNSUPPORTED */
    memset(deep, '[', sizeof deep - 1);
    refuse_tokenizer(deep, PITH_E_LIMIT, "tokenizer.json"); /* pith_tokenizer_load() PITH_E_LIMIT */
}

/* A vocabulary that lacks what the text needs. */
static void test_unknown(void) {
    static const char content[] = "{\"model\": {\"type\": \"BPE\", \"unk_token\": \"?\", \"vocab\": {\"a\": 0}, \"merges\": []}}";
    pith_error error;
    capi_heap heap;
    capi_patch patch = {0};
    pith_files files;
    pith_env* env;
    pith_tokenizer* tokenizer = NULL;
    pith_token ids[8];
    size_t size = 0;
    patch.name = "tokenizer.json";
    patch.content = content;
    patch.size = sizeof content - 1;
    files = capi_files(&patch);
    env = capi_env(&heap, &files, NULL);
    WORKS(pith_tokenizer_load(env, folder, &tokenizer, &error));
    EXPECT(pith_tokenizer_encode(tokenizer, "ab", 2, 0, ids, 8, &size, &error), PITH_E_FORMAT, "");
    pith_tokenizer_destroy(tokenizer);
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

static void test_tokenizer_calls(void) {
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_tokenizer* tokenizer = NULL;
    pith_stream stream = {0};
    char text[64];
    size_t size = 0;
    WORKS(pith_tokenizer_load(env, folder, &tokenizer, &error));
    EXPECT(pith_tokenizer_stream(tokenizer, &stream, 1, 1u << 9, text, sizeof text, &size, &error), PITH_E_UNSUPPORTED, "flags");
    pith_tokenizer_destroy(tokenizer);
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

/* Runs every index twice, which no runner may. */
static void run_twice(void* user, pith_task_fn fn, void* task, uint32_t count) {
    uint32_t i;
    (void)user;
    for (i = 0; i < count; i++) fn(task, i);
    for (i = 0; i < count; i++) fn(task, i);
}

/* A check within a check. */
static void run_nested(void* user, pith_task_fn fn, void* task, uint32_t count) {
    pith_runner again = {0};
    pith_error error;
    uint32_t i;
    again.struct_size = sizeof again;
    again.run = run_nested;
    again.width = 2;
    EXPECT(pith_runner_check((pith_env*)user, &again, &error), PITH_E_STATE, "another thread");
    for (i = 0; i < count; i++) fn(task, i);
}

/* Loaded without the bad runner; a forward with it fails, and takes the logits. */
static void test_lost_logits(void) {
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_runner runner = {0};
    pith_session_options options = {0};
    pith_model* model = NULL;
    pith_session* session = NULL;
    const float* logits = NULL;
    pith_token token = 5;
    runner.struct_size = sizeof runner;
    runner.run = run_twice;
    runner.width = 4;
    options.struct_size = sizeof options;
    WORKS(pith_model_open(env, folder, NULL, &model, &error));
    WORKS(pith_model_load(model, 0, NULL, &error));
    options.runner = &runner;
    WORKS(pith_session_create(model, &options, &session, &error));
    EXPECT(pith_session_forward(session, &token, 1, 1, &error), PITH_E_RUNNER, "contract");
    CHECK(pith_session_length(session) == 0);
    EXPECT(pith_session_logits(session, &logits, NULL, &error), PITH_E_STATE, "no logits");
    pith_session_destroy(session);
    pith_model_destroy(model);
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

static void test_runners(void) {
    pith_error error;
    capi_heap heap;
    pith_runner runner = {0};
    pith_env* env;
    pith_model* model = NULL;
    runner.struct_size = sizeof runner;
    runner.run = run_twice;
    runner.width = 4;
    env = capi_env(&heap, NULL, &runner);
    WORKS(pith_model_open(env, folder, NULL, &model, &error));
    EXPECT(pith_model_load(model, 0, NULL, &error), PITH_E_RUNNER, "repacked");
    pith_model_destroy(model);
    test_lost_logits();
    runner.run = run_nested;
    runner.user = env;
    WORKS(pith_runner_check(env, &runner, &error));
    runner.flags = 1;
    EXPECT(pith_runner_check(env, &runner, &error), PITH_E_UNSUPPORTED, "flags");
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

/* Options of a newer release: a field set that this library does not know. */
static void test_newer(void) {
    struct {
        pith_model_options known;
        uint64_t tail;
    } open = {{0}, 0};
    struct {
        pith_session_options known;
        uint64_t tail;
    } make = {{0}, 0};
    struct {
        pith_sampler_options known;
        uint64_t later[8], tail; /* a later library knows more */
    } draw = {{0}, {0}, 0};
    struct {
        pith_runner known;
        uint64_t tail;
    } lend = {{0}, 0};
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_model* model = NULL;
    pith_sampler* sampler = NULL;
    pith_session_info plan = {0};
    open.known.struct_size = sizeof open;
    make.known.struct_size = sizeof make;
    draw.known.struct_size = sizeof draw;
    lend.known.struct_size = sizeof lend;
    plan.struct_size = sizeof plan;
    WORKS(pith_model_open(env, folder, &open.known, &model, &error)); /* a zero tail is fine */
    WORKS(pith_session_plan(model, &make.known, &plan, &error));
    pith_model_destroy(model);
    open.tail = make.tail = draw.tail = lend.tail = 1;
    EXPECT(pith_model_open(env, folder, &open.known, &model, &error), PITH_E_VERSION, "does not know");
    EXPECT(pith_sampler_create(env, &draw.known, &sampler, &error), PITH_E_VERSION, "does not know");
    EXPECT(pith_runner_check(env, &lend.known, &error), PITH_E_VERSION, "does not know");
    WORKS(pith_model_open(env, folder, NULL, &model, &error));
    EXPECT(pith_session_plan(model, &make.known, &plan, &error), PITH_E_VERSION, "does not know");
    pith_model_destroy(model);
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

/* config.json deeper than anyone needs. */
static void test_depth(void) {
    static char deep[4096];
    pith_error error;
    capi_heap heap;
    capi_patch patch = {0};
    pith_files files;
    pith_env* env;
    pith_model* model = NULL;
    memset(deep, '[', sizeof deep - 1);
    patch.name = "config.json";
    patch.content = deep;
    patch.size = sizeof deep - 1;
    files = capi_files(&patch);
    env = capi_env(&heap, &files, NULL);
    EXPECT(pith_model_open(env, folder, NULL, &model, &error), PITH_E_LIMIT, "config.json");
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

/* A whole file in memory. */
static char* slurp(const char* name, uint64_t* size) {
    char path[4096];
    FILE* f;
    char* bytes;
    long end;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END)) exit(2);
    end = ftell(f);
    rewind(f);
    bytes = (char*)malloc((size_t)end);
    if (!bytes || fread(bytes, 1, (size_t)end, f) != (size_t)end) exit(2);
    fclose(f);
    *size = (uint64_t)end;
    return bytes;
}

/* Where a tensor's data lies in a safetensors file. */
static char* find_tensor(char* file, const char* name, uint64_t* bytes) {
    uint64_t header = 0;
    unsigned long long begin, end;
    char *at, key[256], last;
    int i;
    for (i = 7; i >= 0; i--) header = header << 8 | (unsigned char)file[i];
    snprintf(key, sizeof key, "\"%s\"", name);
    last = file[7 + header];
    file[7 + header] = 0; /* strstr stops here */
    at = strstr(file + 8, key);
    if (!at || !(at = strstr(at, "data_offsets")) || sscanf(at, "data_offsets\":[%llu,%llu", &begin, &end) != 2) return NULL;
    file[7 + header] = last;
    *bytes = end - begin;
    return file + 8 + header + begin;
}

/* Weights that are NaN: scales are always found at load, floats make logits that can't be drawn from. */
static void test_nan(const char* shard, const char* tensor, int found_at_load) {
    pith_error error;
    capi_heap heap;
    capi_patch patch = {0};
    pith_files files;
    pith_env* env;
    pith_model* model = NULL;
    uint64_t bytes = 0, size = 0, i;
    char *content = slurp(shard, &size), *data = find_tensor(content, tensor, &bytes);
    CHECK(data != NULL);
    if (!data) return;
    for (i = 0; i + 1 < bytes; i += 2) {
        data[i] = (char)0xff;
        data[i + 1] = 0x7e;
    }
    patch.name = shard;
    patch.content = content;
    patch.size = size;
    files = capi_files(&patch);
    env = capi_env(&heap, &files, NULL);
    WORKS(pith_model_open(env, folder, NULL, &model, &error));
    if (found_at_load) {
        EXPECT(pith_model_load(model, 0, NULL, &error), PITH_E_FORMAT, tensor);
    } else {
        const pith_token token = 5;
        pith_token drawn;
        pith_session* session = NULL;
        pith_sampler* sampler = NULL;
        WORKS(pith_model_load(model, 0, NULL, &error));
        WORKS(pith_session_create(model, NULL, &session, &error));
        WORKS(pith_sampler_create(env, NULL, &sampler, &error));
        WORKS(pith_session_forward(session, &token, 1, 1, &error));
        EXPECT(pith_session_sample(session, 0, sampler, &drawn, &error), PITH_E_NUMERIC, "NaN");
        pith_session_destroy(session);
        pith_sampler_destroy(sampler);
    }
    pith_model_destroy(model);
    pith_env_destroy(env);
    CHECK(heap.live == 0 && patch.open_files == 0);
    free(content);
}

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    folder = argv[1];
    capi_use();
    test_memory();
    test_tokenizer_files();
    test_tokenizer_calls();
    test_unknown();
    test_runners();
    test_newer();
    test_depth();
    test_nan("model-00001-of-00002.safetensors", "model.layers.0.mlp.gate_proj.scales", 1);
    test_nan("model-00002-of-00002.safetensors", "model.norm.weight", 0);
    return capi_end();
}
