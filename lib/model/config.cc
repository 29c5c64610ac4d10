// Reading config.json: architecture, sizes and rope.
#include "model/config.h"

#include "model/fields.h"
#include "model/quant_config.h"

namespace pith {
namespace {

// What differs between the architectures when config.json is silent: the defaults of their first implementations.
struct Architecture {
    std::string_view name, model_type;
    uint32_t context_length;
    uint32_t kv_heads;        // 0: as many as heads
    uint32_t sliding_window;  // 0: none, and the key means nothing
    bool biases;              // attention_bias and mlp_bias mean something
};
constexpr Architecture kArchitectures[] = {
    {"LlamaForCausalLM", "llama", 2048, 0, 0, true},
    {"MistralForCausalLM", "mistral", 131072, 8, 4096, false},
};

pith_status find_architecture(const Fields& fields, const Architecture** found) {
    const Json* list = fields.get("architectures");
    const char* key = list ? "architectures" : "model_type";
    const Json* name = fields.get(key);
    if (list) {
        if (!list->is(Json::Array) || list->size == 0) return fields.mismatch(PITH_E_FORMAT, key, "an array of names", *list);
        if (list->size > 1)
            return fail(fields.error, PITH_E_UNSUPPORTED, "%s: architectures: expected one, found %zu", fields.source, list->size);
        name = &list->items[0];
    }
    if (!name) return fields.require("architectures");
    if (!name->is(Json::String)) return fields.mismatch(PITH_E_FORMAT, key, "a name", *name);
    for (const Architecture& architecture : kArchitectures) {
        if (name->text() != (list ? architecture.name : architecture.model_type)) continue;
        *found = &architecture;
        return PITH_OK;
    }
    return fields.mismatch(PITH_E_UNSUPPORTED, key, "LlamaForCausalLM or MistralForCausalLM", *name);
}

pith_status read_sizes(const Fields& fields, const Architecture& architecture, Config* config) {
    for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"})
        PITH_TRY(fields.require(key));
    PITH_TRY(fields.integer("vocab_size", 1, kMaxVocab, &config->vocab_size));
    PITH_TRY(fields.integer("hidden_size", 1, kMaxWidth, &config->hidden));
    PITH_TRY(fields.integer("intermediate_size", 1, kMaxWidth, &config->intermediate));
    PITH_TRY(fields.integer("num_hidden_layers", 1, kMaxLayers, &config->layers));
    PITH_TRY(fields.integer("num_attention_heads", 1, kMaxWidth, &config->heads));
    config->kv_heads = config->heads;
    if (architecture.kv_heads && !fields.object->find("num_key_value_heads")) config->kv_heads = architecture.kv_heads;
    PITH_TRY(fields.integer("num_key_value_heads", 1, kMaxWidth, &config->kv_heads));
    config->head_dim = config->hidden / config->heads;
    if (!fields.get("head_dim") && config->hidden % config->heads != 0)
        return fail(fields.error, PITH_E_FORMAT, "%s: hidden_size %u is not a multiple of num_attention_heads %u, and head_dim is missing",
                    fields.source, config->hidden, config->heads);
    PITH_TRY(fields.integer("head_dim", 2, kMaxHeadDim, &config->head_dim));
    if (config->head_dim < 2 || config->head_dim > kMaxHeadDim || config->head_dim % 2 != 0)
        return fail(fields.error, PITH_E_FORMAT, "%s: head_dim: expected an even number from 2 to %u, found %u", fields.source, kMaxHeadDim,
                    config->head_dim);
    if (config->heads % config->kv_heads != 0)
        return fail(fields.error, PITH_E_FORMAT, "%s: num_attention_heads %u is not a multiple of num_key_value_heads %u", fields.source,
                    config->heads, config->kv_heads);
    if (uint64_t{config->heads} * config->head_dim > kMaxWidth)
        return fail(fields.error, PITH_E_FORMAT, "%s: num_attention_heads %u of head_dim %u are wider than %u", fields.source,
                    config->heads, config->head_dim, kMaxWidth);
    config->context_length = architecture.context_length;
    return fields.integer("max_position_embeddings", 1, kMaxContext, &config->context_length);
}

pith_status read_block(const Fields& fields, const Architecture& architecture, Config* config) {
    std::string_view activation = "silu";
    PITH_TRY(fields.string("hidden_act", &activation));
    if (activation != "silu" && activation != "swish")
        return fields.mismatch(PITH_E_UNSUPPORTED, "hidden_act", "\"silu\"", *fields.get("hidden_act"));
    double eps = 1e-6;
    PITH_TRY(fields.number("rms_norm_eps", 1e-30, 1, &eps));
    config->rms_eps = static_cast<float>(eps);
    PITH_TRY(fields.boolean("tie_word_embeddings", &config->tied));
    if (architecture.biases) {
        PITH_TRY(fields.boolean("attention_bias", &config->attention_bias));
        PITH_TRY(fields.boolean("mlp_bias", &config->mlp_bias));
    }
    if (architecture.sliding_window) {
        if (!fields.object->find("sliding_window")) config->sliding_window = architecture.sliding_window;
        PITH_TRY(fields.integer("sliding_window", 1, 0x7fffffff, &config->sliding_window));
    }
    return PITH_OK;
}

pith_status check_rope_keys(const Fields& rope) {
    constexpr std::string_view kKnown[] = {
        "type",
        "rope_type",
        "rope_theta",
        "factor",
        "original_max_position_embeddings",
        "low_freq_factor",
        "high_freq_factor",
        "beta_fast",
        "beta_slow",
        "attention_factor",
        "mscale",
        "mscale_all_dim",
        "truncate",
        "partial_rotary_factor",
        "finetuned",  // a remark in some yarn files
    };
    for (size_t i = 0; i < rope.object->size; i++) {
        const JsonMember& member = rope.object->members[i];
        bool known = false;
        for (const std::string_view key : kKnown) known = known || member.name() == key;
        if (member.value.is(Json::Object))
            return fail(rope.error, PITH_E_UNSUPPORTED, "%s: %s%s: a rope of its own for some layers", rope.source, rope.prefix,
                        member.key);
        if (!known && !member.value.is(Json::Null))
            return fail(rope.error, PITH_E_UNSUPPORTED, "%s: %s%s: an unknown member", rope.source, rope.prefix, member.key);
    }
    return PITH_OK;
}

pith_status read_rope_kind(const Fields& rope, RopeKind* kind) {
    constexpr struct {
        std::string_view name;
        RopeKind kind;
    } kKinds[] = {{"default", RopeKind::Default},
                  {"linear", RopeKind::Linear},
                  {"dynamic", RopeKind::Dynamic},
                  {"llama3", RopeKind::Llama3},
                  {"yarn", RopeKind::Yarn}};
    const char* key = rope.get("rope_type") ? "rope_type" : "type";
    std::string_view name = "default";
    PITH_TRY(rope.string(key, &name));
    for (const auto& known : kKinds) {
        if (known.name != name) continue;
        *kind = known.kind;
        return PITH_OK;
    }
    return rope.mismatch(PITH_E_UNSUPPORTED, key, "default, linear, dynamic, llama3 or yarn", *rope.get(key));
}

// Members of `rope` that its kind reads. A zero where the files mean "as if it were not there" stays the default.
pith_status read_rope_scaling(const Fields& fields, const Fields& rope, const Config& config, RopeConfig* out) {
    if (out->kind == RopeKind::Default) return PITH_OK;
    // The member beside rope_scaling comes first, as in the original implementation.
    out->original_context = config.context_length;
    PITH_TRY(rope.integer("original_max_position_embeddings", 1, kMaxContext, &out->original_context));
    if (out->kind == RopeKind::Llama3 || out->kind == RopeKind::Yarn)
        PITH_TRY(fields.integer("original_max_position_embeddings", 1, kMaxContext, &out->original_context));
    if (out->kind == RopeKind::Yarn && !rope.get("factor")) {
        out->factor = static_cast<double>(config.context_length) / out->original_context;
    } else {
        PITH_TRY(rope.require("factor"));
    }
    PITH_TRY(rope.number("factor", 1, 1e6, &out->factor));
    if (out->kind == RopeKind::Llama3) {
        for (const char* key : {"low_freq_factor", "high_freq_factor"}) PITH_TRY(rope.require(key));
        PITH_TRY(rope.number("low_freq_factor", 1e-6, 1e6, &out->low_frequency_factor));
        PITH_TRY(rope.number("high_freq_factor", 1e-6, 1e6, &out->high_frequency_factor));
        if (!(out->high_frequency_factor > out->low_frequency_factor))
            return fail(rope.error, PITH_E_FORMAT, "%s: %shigh_freq_factor is not above low_freq_factor", rope.source, rope.prefix);
    }
    if (out->kind == RopeKind::Yarn) {
        if (out->factor < 1) return fail(rope.error, PITH_E_FORMAT, "%s: %sfactor is below 1", rope.source, rope.prefix);
        PITH_TRY(rope.number("attention_factor", 1e-6, 1e6, &out->attention_factor));
        PITH_TRY(rope.number("mscale", 0, 1e6, &out->mscale));
        PITH_TRY(rope.number("mscale_all_dim", 0, 1e6, &out->mscale_all_dim));
        PITH_TRY(rope.boolean("truncate", &out->truncate));
        double fast = 0, slow = 0;
        PITH_TRY(rope.number("beta_fast", 0, 1e9, &fast));
        PITH_TRY(rope.number("beta_slow", 0, 1e9, &slow));
        if (fast > 0) out->beta_fast = fast;
        if (slow > 0) out->beta_slow = slow;
    }
    return PITH_OK;
}

pith_status read_rope(const Fields& fields, Config* config) {
    RopeConfig* out = &config->rope;
    constexpr double kMinTheta = 1.001, kMaxTheta = 1e18;
    double partial = 1;
    PITH_TRY(fields.number("rope_theta", kMinTheta, kMaxTheta, &out->theta));
    PITH_TRY(fields.number("partial_rotary_factor", 0, 1, &partial));
    const char* key = "rope_scaling";  // transformers 4; an empty one counts as none
    const Json* object = fields.get(key);
    if (!object || (object->is(Json::Object) && object->size == 0)) {
        key = "rope_parameters";  // transformers 5
        object = fields.get(key);
    }
    if (object) {
        if (!object->is(Json::Object)) return fields.mismatch(PITH_E_FORMAT, key, "an object", *object);
        const Fields rope{object, fields.source, key[5] == 's' ? "rope_scaling." : "rope_parameters.", fields.error};
        PITH_TRY(check_rope_keys(rope));
        PITH_TRY(read_rope_kind(rope, &out->kind));
        PITH_TRY(rope.number("rope_theta", kMinTheta, kMaxTheta, &out->theta));
        PITH_TRY(rope.number("partial_rotary_factor", 0, 1, &partial));
        PITH_TRY(read_rope_scaling(fields, rope, *config, out));
    }
    if (partial != 1) return fail(fields.error, PITH_E_UNSUPPORTED, "%s: partial_rotary_factor: only 1 is supported", fields.source);
    return PITH_OK;
}

}  // namespace

pith_status read_config(const Files& files, const Allocator& allocator, const char* path, Config* config, pith_error* error) {
    Arena scratch(allocator);
    Array<char> text(allocator);
    const char* name = join_path(scratch, path, "config.json");
    if (!name) return fail_memory(error, "a path", 0);
    const pith_status status = read_file(files, name, kMaxConfigBytes, &text, error);
    if (status == PITH_E_IO && file_exists(files, path))
        return fail(error, PITH_E_UNSUPPORTED, "%s: a file, expected a folder with config.json and model.safetensors", path);
    PITH_TRY(status);
    const Json* root = nullptr;
    PITH_TRY(json_parse({text.data(), text.size()}, name, scratch, &root, error, kConfigLimits));
    if (!root->is(Json::Object)) return fail(error, PITH_E_FORMAT, "%s: expected an object", name);
    text.reset();

    const Fields fields{root, name, "", error};
    const Architecture* architecture = nullptr;
    Config result;
    PITH_TRY(find_architecture(fields, &architecture));
    memcpy(result.architecture, architecture->name.data(), architecture->name.size());
    PITH_TRY(read_sizes(fields, *architecture, &result));
    PITH_TRY(read_block(fields, *architecture, &result));
    PITH_TRY(read_rope(fields, &result));
    PITH_TRY(read_quant_config(files, scratch, path, fields, &result.quant));
    *config = result;
    return PITH_OK;
}

}  // namespace pith
