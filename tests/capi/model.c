/* <pith/model.h>. argv[1]: the demo model. */
#include "capi.h"

static const char* folder;

static void test_load(void) {
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    const size_t before = heap.live;
    pith_model* model = NULL;
    pith_model_info info = {0}, loaded = {0};
    uint64_t left = 1, last = (uint64_t)-1;
    int steps = 0;
    WORKS(pith_model_open(env, folder, NULL, &model, &error));
    EXPECT(pith_model_get_info(model, &info, &error), PITH_E_ARGUMENT, "struct_size");
    info.struct_size = loaded.struct_size = sizeof info;
    WORKS(pith_model_get_info(model, &info, &error));
    CHECK(strcmp(info.architecture, "LlamaForCausalLM") == 0);
    CHECK(info.vocab_size == 8192 && info.context_length == 1024 && info.layers == 8 && info.device == 0 && info.device_bytes == 0);
    CHECK(info.parameters > 27000000 && info.parameters < 28500000);
    CHECK(heap.live - before < 4000000); /* no weight yet */
    while (left) {
        WORKS(pith_model_load(model, 1 << 20, &left, &error));
        CHECK(left < last);
        last = left;
        if (++steps > 100) break;
    }
    CHECK(steps > 10);
    WORKS(pith_model_load(model, 0, &left, &error)); /* nothing left: fine */
    CHECK(left == 0);
    WORKS(pith_model_get_info(model, &loaded, &error));
    CHECK(loaded.host_bytes == info.host_bytes);
    CHECK(heap.live - before == info.host_bytes); /* known to the byte before a weight was read */
    pith_env_destroy(env);
    pith_model_destroy(model);
    pith_model_destroy(NULL);
    CHECK(heap.live == 0 && heap.blocks == 0);
}

/* An 8-bit head: known to the byte, smaller, and another model's logits. Steps of any size give the same. */
static void test_head8(void) {
    static const uint64_t budgets[] = {0, 3000, 100000, 5000000};
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_model_options options = {0};
    pith_model_info info = {0};
    const size_t before = heap.live;
    size_t plain = 0, i, k;
    float first[8192];
    options.struct_size = sizeof options;
    info.struct_size = sizeof info;
    for (i = 0; i < 5; i++) {
        const pith_token tokens[3] = {1, 77, 300};
        const float* logits = NULL;
        pith_model* model = NULL;
        pith_session* session = NULL;
        uint64_t left = 1;
        options.flags = i ? PITH_MODEL_HEAD_8BIT : 0; /* the first as the file has it */
        WORKS(pith_model_open(env, folder, &options, &model, &error));
        WORKS(pith_model_get_info(model, &info, &error));
        while (left) WORKS(pith_model_load(model, i ? budgets[i - 1] : 0, &left, &error));
        CHECK(heap.live - before == info.host_bytes);
        if (!i) plain = info.host_bytes;
        if (i) CHECK(plain - info.host_bytes == 8192 * 512 * 2 - 8192 * 512 / 128 * 132);
        WORKS(pith_session_create(model, NULL, &session, &error));
        WORKS(pith_session_forward(session, tokens, 3, 1, &error));
        WORKS(pith_session_logits(session, &logits, NULL, &error));
        if (i == 1) { /* near the file's head, and not the same */
            double off = 0, size = 0;
            for (k = 0; k < 8192; k++) {
                off += (logits[k] - first[k]) * (logits[k] - first[k]);
                size += first[k] * first[k];
            }
            CHECK(off > 0 && off < 1e-3 * size);
            printf("8-bit head: %.2e of the logits\n", off / size);
        }
        if (i > 1) CHECK(memcmp(first, logits, sizeof first) == 0);
        memcpy(first, logits, sizeof first);
        pith_session_destroy(session);
        pith_model_destroy(model);
    }
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

static void test_arguments(void) {
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_model* model = NULL;
    pith_model_options options = {0};
    pith_model_info info = {0};
    EXPECT(pith_model_open(NULL, folder, NULL, &model, &error), PITH_E_ARGUMENT, "env is NULL");
    EXPECT(pith_model_open(env, NULL, NULL, &model, &error), PITH_E_ARGUMENT, "path is NULL");
    EXPECT(pith_model_open(env, folder, NULL, NULL, &error), PITH_E_ARGUMENT, "model is NULL");
    EXPECT(pith_model_open(env, folder, &options, &model, &error), PITH_E_ARGUMENT, "struct_size");
    options.struct_size = sizeof options;
    options.device = 1;
    EXPECT(pith_model_open(env, folder, &options, &model, &error), PITH_E_ARGUMENT, "options.device is 1");
    options.device = 0;
    options.flags = 1u << 30;
    EXPECT(pith_model_open(env, folder, &options, &model, &error), PITH_E_UNSUPPORTED, "options.flags");
    EXPECT(pith_model_open(env, "/no/such/folder", NULL, &model, &error), PITH_E_IO, "config.json");
    CHECK(model == NULL);
    EXPECT(pith_model_load(NULL, 0, NULL, &error), PITH_E_ARGUMENT, "model is NULL");
    EXPECT(pith_model_get_info(NULL, &info, &error), PITH_E_ARGUMENT, "model is NULL");
    options.flags = PITH_MODEL_MMAP | PITH_MODEL_SCAN;
    WORKS(pith_model_open(env, folder, &options, &model, &error));
    WORKS(pith_model_load(model, 0, NULL, &error));
    pith_model_destroy(model);
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

/* Opens the demo model with one file replaced. */
static void expect_open(const char* name, const char* content, uint64_t size, int missing, pith_status expected, const char* text) {
    pith_error error;
    capi_heap heap;
    capi_patch patch = {0};
    pith_files files;
    pith_env* env;
    pith_model* model = NULL;
    patch.name = name;
    patch.content = content;
    patch.size = content ? strlen(content) : size;
    patch.missing = missing;
    files = capi_files(&patch);
    env = capi_env(&heap, &files, NULL);
    EXPECT(pith_model_open(env, folder, NULL, &model, &error), expected, text);
    CHECK(expected == PITH_OK || model == NULL);
    pith_model_destroy(model);
    patch.name = NULL; /* the same env then opens the real thing */
    WORKS(pith_model_open(env, folder, NULL, &model, &error));
    pith_model_destroy(model);
    pith_env_destroy(env);
    CHECK(heap.live == 0 && patch.open_files == 0);
}

#define CONFIG(architecture, hidden, rest)                                                                                  \
    "{\"architectures\": [\"" architecture "\"], \"hidden_size\": " hidden                                                  \
    ", \"intermediate_size\": 1408, \"num_attention_heads\": 8, \"num_key_value_heads\": 4, \"num_hidden_layers\": 8,"      \
    "\"head_dim\": 64, \"vocab_size\": 8192, \"max_position_embeddings\": 1024, \"rms_norm_eps\": 1e-5, \"hidden_act\": \"silu\"," \
    "\"rope_theta\": 10000.0, \"tie_word_embeddings\": true" rest "}"

static void test_bad_files(void) {
    expect_open("config.json", NULL, 0, 1, PITH_E_IO, "config.json");
    expect_open("config.json", "", 0, 0, PITH_E_FORMAT, "config.json");
    expect_open("config.json", "{\"architectures\": [", 0, 0, PITH_E_FORMAT, "config.json");
    expect_open("config.json", CONFIG("LlamaForCausalLM", "512", ""), 0, 0, PITH_OK, "");
    expect_open("config.json", CONFIG("MistralForCausalLM", "512", ", \"sliding_window\": null"), 0, 0, PITH_OK, "");
    expect_open("config.json", CONFIG("GrokForCausalLM", "512", ""), 0, 0, PITH_E_UNSUPPORTED, "GrokForCausalLM");
    expect_open("config.json", CONFIG("LlamaForCausalLM", "520", ""), 0, 0, PITH_E_FORMAT, "520");
    expect_open("config.json", CONFIG("LlamaForCausalLM", "-512", ""), 0, 0, PITH_E_FORMAT, "hidden_size");
    expect_open("config.json", CONFIG("LlamaForCausalLM", "0", ""), 0, 0, PITH_E_FORMAT, "hidden_size");
    expect_open("config.json", CONFIG("LlamaForCausalLM", "512", ", \"rope_scaling\": {\"rope_type\": \"spiral\", \"factor\": 2.0}"), 0, 0,
                PITH_E_UNSUPPORTED, "spiral");
    expect_open("config.json", CONFIG("LlamaForCausalLM", "512", ", \"quantization_config\": {\"quant_method\": \"awq\", \"bits\": 4}"), 0, 0,
                PITH_E_UNSUPPORTED, "awq");
    expect_open("quantize_config.json", "{\"bits\": 3, \"group_size\": 128, \"quant_method\": \"gptq\"}", 0, 0, PITH_E_UNSUPPORTED, "bits");
    expect_open("quantize_config.json", "{\"bits\": 4, \"group_size\": 128, \"quant_method\": \"gptq\", \"checkpoint_format\": \"marlin\"}", 0, 0,
                PITH_E_UNSUPPORTED, "marlin");
    expect_open("model-00002-of-00002.safetensors", NULL, 0, 1, PITH_E_IO, "model-00002-of-00002.safetensors");
    expect_open("model-00002-of-00002.safetensors", NULL, 5000000, 0, PITH_E_FORMAT, "model-00002-of-00002.safetensors");
    expect_open("model-00002-of-00002.safetensors", NULL, 7, 0, PITH_E_FORMAT, "model-00002-of-00002.safetensors");
    expect_open("model.safetensors.index.json", "{\"weight_map\": {\"a\": \"../x.safetensors\"}}", 0, 0, PITH_E_FORMAT, "tensor a");
    expect_open("model.safetensors.index.json", "[]", 0, 0, PITH_E_FORMAT, "model.safetensors.index.json");
}

/* Half loaded and given up; and a read that fails on the way, after which the load goes on. */
static int reads_to_fail;
static int32_t failing_read(void* user, void* file, uint64_t offset, void* to, size_t size) {
    if (reads_to_fail && --reads_to_fail == 0) return -1;
    return capi_read(user, file, offset, to, size);
}

static void test_interrupted_load(void) {
    pith_error error;
    capi_heap heap;
    capi_patch patch = {0};
    pith_files files = capi_files(&patch);
    pith_env* env;
    pith_model* model = NULL;
    uint64_t left = 0;
    files.read = failing_read;
    env = capi_env(&heap, &files, NULL);
    WORKS(pith_model_open(env, folder, NULL, &model, &error));
    WORKS(pith_model_load(model, 3 << 20, &left, &error));
    CHECK(left > 0);
    pith_model_destroy(model);
    WORKS(pith_model_open(env, folder, NULL, &model, &error));
    reads_to_fail = 20;
    EXPECT(pith_model_load(model, 0, &left, &error), PITH_E_IO, "safetensors");
    WORKS(pith_model_load(model, 0, &left, &error));
    CHECK(left == 0);
    pith_model_destroy(model);
    pith_env_destroy(env);
    CHECK(heap.live == 0 && patch.open_files == 0);
}

int main(int argc, char** argv) {
    capi_use();
    if (argc < 2) return 2;
    folder = argv[1];
    test_load();
    test_head8();
    test_arguments();
    test_bad_files();
    test_interrupted_load();
    return capi_end();
}
