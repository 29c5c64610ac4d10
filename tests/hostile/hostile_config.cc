// Malformed config.json, quantisation configs and indices.
#include "hostile.h"

using namespace hostile;

namespace {

const std::string kFile = "m/config.json: ", kIndexFile = "model.safetensors.index.json: ";

Folder config_text(const Bytes& text) {
    Folder folder = good_model();
    folder["config.json"] = text;
    return folder;
}

Folder rope(const char* scaling, const char* key = "rope_scaling") { return config(key, scaling); }

Folder mistral(const char* key, const char* value) { return config({{"architectures", "[\"MistralForCausalLM\"]"}, {key, value}}); }

Folder embedded(const char* quant) { return config("quantization_config", quant); }

Folder quantized(const char* text) {
    Folder folder = good_model();
    folder["quantize_config.json"] = text;
    return folder;
}

// The good model in two shards: the embedding is in one.safetensors, all else in two.safetensors.
Folder sharded() {
    Tensors one, two;
    for (const auto& [name, tensor] : fuzz::tiny_tensors()) (name == "model.embed_tokens.weight" ? one : two)[name] = tensor;
    return {{"config.json", object(config_members())},
            {"one.safetensors", fuzz::safetensors(one)},
            {"two.safetensors", fuzz::safetensors(two)}};
}

Members weight_map() {
    Members map;
    for (const auto& [name, tensor] : fuzz::tiny_tensors())
        map[name] = name == "model.embed_tokens.weight" ? "\"one.safetensors\"" : "\"two.safetensors\"";
    return map;
}

Folder index(const Bytes& text) {
    Folder folder = sharded();
    folder["model.safetensors.index.json"] = text;
    return folder;
}

Folder index(const char* tensor, const std::string& shard) {
    Members map = weight_map();
    map[tensor] = shard;
    return index(object({{"metadata", "{}"}, {"weight_map", object(map)}}));
}

Folder shard_path(const std::string& shard) { return index("model.norm.weight", "\"" + shard + "\""); }

std::string repeat(const std::string& text, size_t times) {
    std::string all;
    for (size_t i = 0; i < times; i++) all += text;
    return all;
}

}  // namespace

TEST_CASE("config.json: every size, out of range or of a wrong type") {
    Cases cases;
    for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                            "num_key_value_heads", "head_dim", "max_position_embeddings"}) {
        const std::string k = key;
        for (const char* value : {"0", "-1", "1.5", "32.0", "\"32\"", "true", "[32]", "{}", "4294967296", "4294967328", "-4294967264",
                                  "9223372036854775808", "1e3", "2147483648"})
            cases.push_back({k + " is " + value, kFormat, kFile + k + ": expected an integer from ", config(key, value)});
        if (k == "num_key_value_heads" || k == "head_dim" || k == "max_position_embeddings") continue;
        cases.push_back({k + " is missing", kFormat, kFile + k + " is missing", config(key, nullptr)});
        cases.push_back({k + " is null", kFormat, kFile + k + " is missing", config(key, "null")});
    }
    check_models(cases);
}

TEST_CASE("config.json: the file, the architecture, and sizes that don't go together") {
    check_models({
        {"no config.json", PITH_E_IO, "m/config.json: can't be opened",
         [] {
             Folder folder = good_model();
             folder.erase("config.json");
             return folder;
         }()},
        {"an empty config", kFormat, kFile + "line 1", config_text("")},
        {"a config that is an array", kFormat, kFile + "expected an object", config_text("[]")},
        {"a config that is a string", kFormat, kFile + "expected an object", config_text("\"{}\"")},
        {"an empty object", kFormat, kFile + "architectures is missing", config_text("{}")},
        {"a comment", kFormat, kFile + "line 2: expected a key", config_text("{\n// a comment\n}")},
        {"a comma too many", kFormat, kFile + "line 1: expected a key", config_text("{\"a\":1,}")},
        {"NaN", kFormat, kFile + "line 1: expected a value", config("rms_norm_eps", "NaN")},
        {"a number too large", kFormat, kFile + "line 1: a number is too large", config("rms_norm_eps", "1e999")},
        {"a leading zero", kFormat, kFile + "line 1: expected ',' or '}'", config("vocab_size", "040")},
        {"a byte order mark", kFormat, kFile + "line 1: expected a value", config_text("\xEF\xBB\xBF{}")},
        {"UTF-16", kFormat, kFile + "line 1: expected a key", config_text(Bytes("{\0\"\0", 4))},
        {"bytes that are no UTF-8", kFormat, kFile + "line 1: invalid UTF-8", config("model_type", "\"\xff\"")},
        {"a member twice", kFormat, kFile + "line 1: duplicate key", config_text("{\"vocab_size\":40,\"vocab_size\":80}")},
        {"a depth bomb in arrays", kLimit, kFile + "line 1: nested too deeply", config_text(repeat("[", 1000000))},
        {"a depth bomb in objects", kLimit, kFile + "line 1: nested too deeply", config_text(repeat("{\"a\":", 100000))},
        {"a bomb of values", kLimit, kFile + "line 1: too many values", config_text("[" + repeat("0,", 1100000) + "0]")},
        {"a config of 16 MB", kLimit, "m/config.json: 16777217 bytes", config_text(Bytes((16 << 20) + 1, ' '))},
        {"architectures is a string", kFormat, kFile + "architectures: expected an array", config("architectures", "\"LlamaForCausalLM\"")},
        {"no architecture", kFormat, kFile + "architectures: expected an array", config("architectures", "[]")},
        {"an architecture that is a number", kFormat, kFile + "architectures: expected a name", config("architectures", "[1]")},
        {"an unknown architecture", kUnsupported, kFile + "architectures: expected LlamaForCausalLM",
         config("architectures", "[\"GrokForCausalLM\"]")},
        {"two architectures", kUnsupported, kFile + "architectures: expected one",
         config("architectures", "[\"LlamaForCausalLM\",\"MistralForCausalLM\"]")},
        {"an unknown model_type", kUnsupported, kFile + "model_type: expected",
         config({{"architectures", "null"}, {"model_type", "\"mamba\""}})},
        {"heads that the KV heads don't divide", kFormat, kFile + "num_attention_heads 2 is not a multiple of num_key_value_heads 3",
         config("num_key_value_heads", "3")},
        {"more KV heads than heads", kFormat, kFile + "num_attention_heads 2 is not a multiple of num_key_value_heads 4",
         config("num_key_value_heads", "4")},
        {"heads that don't divide the width", kFormat, kFile + "hidden_size 32 is not a multiple", config("num_attention_heads", "3")},
        {"an odd head_dim", kFormat, kFile + "head_dim: expected an even number", config("head_dim", "15")},
        {"an odd head_dim by division", kFormat, kFile + "head_dim: expected an even number", config("hidden_size", "30")},
        {"more heads than width", kFormat, kFile + "hidden_size 32 is not a multiple", config("num_attention_heads", "64")},
        {"heads wider than any model", kFormat, kFile + "num_attention_heads 1048576 of head_dim 1024",
         config({{"num_attention_heads", "1048576"}, {"head_dim", "1024"}})},
        {"more layers than the files hold", kFormat, "num_hidden_layers", config("num_hidden_layers", "1024")},
        {"one layer more than the files hold", kFormat, "tensor model.layers.1.self_attn.q_proj.weight is missing",
         config("num_hidden_layers", "2")},
    });
}

TEST_CASE("config.json: members of a block and rope") {
    check_models({
        {"another activation", kUnsupported, kFile + "hidden_act: expected \"silu\", found \"gelu\"", config("hidden_act", "\"gelu\"")},
        {"an activation that is a number", kFormat, kFile + "hidden_act: expected a string", config("hidden_act", "1")},
        {"an epsilon of 0", kFormat, kFile + "rms_norm_eps", config("rms_norm_eps", "0")},
        {"a negative epsilon", kFormat, kFile + "rms_norm_eps", config("rms_norm_eps", "-1e-5")},
        {"an epsilon that is a string", kFormat, kFile + "rms_norm_eps: expected a number", config("rms_norm_eps", "\"1e-5\"")},
        {"a flag that is a number", kFormat, kFile + "tie_word_embeddings: expected true", config("tie_word_embeddings", "1")},
        {"a bias flag that is a string", kFormat, kFile + "attention_bias: expected true", config("attention_bias", "\"no\"")},
        {"a bias that no file holds", kFormat, "tensor model.layers.0.self_attn.q_proj.bias is missing", config("attention_bias", "true")},
        {"a negative sliding window", kFormat, kFile + "sliding_window: expected an integer", mistral("sliding_window", "-1")},
        {"a sliding window of 0", kFormat, kFile + "sliding_window: expected an integer", mistral("sliding_window", "0")},
        {"a sliding window of 2^32", kFormat, kFile + "sliding_window: expected an integer", mistral("sliding_window", "4294967296")},
        {"a theta of 0", kFormat, kFile + "rope_theta", config("rope_theta", "0")},
        {"a theta of 1", kFormat, kFile + "rope_theta", config("rope_theta", "1")},
        {"a theta that is a string", kFormat, kFile + "rope_theta: expected a number", config("rope_theta", "\"1e4\"")},
        {"half of the dimensions turned", kUnsupported, kFile + "partial_rotary_factor", config("partial_rotary_factor", "0.5")},
        {"scaling that is a string", kFormat, kFile + "rope_scaling: expected an object", rope("\"linear\"")},
        {"an unknown kind", kUnsupported, kFile + "rope_scaling.rope_type: expected default", rope("{\"rope_type\":\"su\",\"factor\":2}")},
        {"an unknown kind by its old name", kUnsupported, kFile + "rope_scaling.type: expected default", rope("{\"type\":\"longrope\"}")},
        {"a kind that is a number", kFormat, kFile + "rope_scaling.type: expected a string", rope("{\"type\":1}")},
        {"no factor", kFormat, kFile + "rope_scaling.factor is missing", rope("{\"type\":\"linear\"}")},
        {"a factor of 0", kFormat, kFile + "rope_scaling.factor", rope("{\"type\":\"linear\",\"factor\":0}")},
        {"a negative factor", kFormat, kFile + "rope_scaling.factor", rope("{\"type\":\"dynamic\",\"factor\":-2}")},
        {"a factor that is a string", kFormat, kFile + "rope_scaling.factor: expected a number",
         rope("{\"type\":\"linear\",\"factor\":\"2\"}")},
        {"a list of factors", kFormat, kFile + "rope_scaling.factor: expected a number", rope("{\"type\":\"linear\",\"factor\":[2]}")},
        {"an unknown member", kUnsupported, kFile + "rope_scaling.short_factor",
         rope("{\"type\":\"linear\",\"factor\":2,\"short_factor\":[1]}")},
        {"a rope for some layers", kUnsupported, kFile + "rope_scaling.full_attention", rope("{\"full_attention\":{}}")},
        {"llama3 without its frequencies", kFormat, kFile + "rope_scaling.low_freq_factor is missing",
         rope("{\"rope_type\":\"llama3\",\"factor\":8}")},
        {"llama3 with equal frequencies", kFormat, kFile + "rope_scaling.high_freq_factor",
         rope("{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4}")},
        {"llama3 with a frequency of 0", kFormat, kFile + "rope_scaling.low_freq_factor",
         rope("{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":0,\"high_freq_factor\":4}")},
        {"an original context of 0", kFormat, kFile + "rope_scaling.original_max_position_embeddings",
         rope("{\"type\":\"yarn\",\"factor\":2,\"original_max_position_embeddings\":0}")},
        {"yarn with negative betas", kFormat, kFile + "rope_scaling.beta_fast", rope("{\"type\":\"yarn\",\"factor\":2,\"beta_fast\":-1}")},
        {"yarn longer than the context", kFormat, kFile + "rope_scaling.factor is below 1",
         rope("{\"type\":\"yarn\",\"original_max_position_embeddings\":128}")},
        {"yarn with a flag that is a number", kFormat, kFile + "rope_scaling.truncate: expected true",
         rope("{\"type\":\"yarn\",\"factor\":2,\"truncate\":1}")},
        {"the newer name, an array", kFormat, kFile + "rope_parameters: expected an object", rope("[]", "rope_parameters")},
        {"the newer name, an unknown kind", kUnsupported, kFile + "rope_parameters.rope_type: expected",
         rope("{\"rope_type\":\"mrope\"}", "rope_parameters")},
    });
}

TEST_CASE("quantisation configs") {
    const std::string q = kFile + "quantization_config", f = "m/quantize_config.json: ";
    check_models({
        {"a number", kFormat, q + ": expected an object", embedded("4")},
        {"AWQ", kUnsupported, q + ".quant_method: expected \"gptq\"", embedded("{\"quant_method\":\"awq\"}")},
        {"bitsandbytes", kUnsupported, q + ".quant_method: expected \"gptq\"", embedded("{\"quant_method\":\"bitsandbytes\"}")},
        {"compressed-tensors", kUnsupported, q + ".quant_method: expected \"gptq\"", embedded("{\"quant_method\":\"compressed-tensors\"}")},
        {"a method that is a number", kFormat, q + ".quant_method: expected a string", embedded("{\"quant_method\":1}")},
        {"an AWQ file that does not say so", kUnsupported, q + ".zero_point", embedded("{\"zero_point\":true}")},
        {"3 bits", kUnsupported, q + ".bits: expected 4, found 3", embedded("{\"bits\":3}")},
        {"0 bits", kUnsupported, q + ".bits: expected 4, found 0", embedded("{\"bits\":0}")},
        {"bits by their old name", kUnsupported, q + ".wbits: expected 4, found 8", embedded("{\"wbits\":8}")},
        {"bits in a string", kFormat, q + ".bits: expected 4, found \"4\"", embedded("{\"bits\":\"4\"}")},
        {"bits with a fraction", kFormat, q + ".bits: expected 4", embedded("{\"bits\":4.0}")},
        {"a group of 0", kFormat, q + ".group_size: expected -1", embedded("{\"group_size\":0}")},
        {"a group of -2", kFormat, q + ".group_size: expected -1", embedded("{\"group_size\":-2}")},
        {"a group of 2^40", kFormat, q + ".group_size: expected -1", embedded("{\"group_size\":1099511627776}")},
        {"a group in a string", kFormat, q + ".group_size: expected -1", embedded("{\"group_size\":\"128\"}")},
        {"a group of 17", kUnsupported, q + ".group_size: expected -1 or a multiple of 32, found 17", embedded("{\"group_size\":17}")},
        {"marlin's format", kUnsupported, q + ".checkpoint_format: expected", embedded("{\"checkpoint_format\":\"marlin\"}")},
        {"a format that is a number", kFormat, q + ".checkpoint_format: expected a string", embedded("{\"checkpoint_format\":2}")},
        {"marlin's flag", kUnsupported, q + ".is_marlin_format", embedded("{\"is_marlin_format\":true}")},
        {"packed in bytes", kUnsupported, q + ".pack_dtype: expected \"int32\"", embedded("{\"pack_dtype\":\"int8\"}")},
        {"symmetry that is a string", kFormat, q + ".sym: expected true", embedded("{\"sym\":\"yes\"}")},
        {"an order that is a number", kFormat, q + ".desc_act: expected true", embedded("{\"desc_act\":1}")},
        {"a base name that is a number", kFormat, q + ".model_file_base_name: expected a string", embedded("{\"model_file_base_name\":1}")},
        {"a file that is no JSON", kFormat, f + "line 1", quantized("bits: 4")},
        {"a file that is an array", kFormat, f + "expected an object", quantized("[]")},
        {"a file of 8 bits", kUnsupported, f + "bits: expected 4, found 8", quantized("{\"bits\":8}")},
        {"a base name out of the folder", PITH_E_IO, "m/model.safetensors: can't be opened",
         [] {
             Folder folder = embedded("{\"model_file_base_name\":\"../other/x\"}");
             folder.erase("model.safetensors");
             return folder;
         }()},
    });
}

TEST_CASE("model.safetensors.index.json") {
    const std::string plain = kIndexFile + "tensor model.norm.weight: expected the plain name";
    Members many;
    for (int i = 0; i < 1025; i++) many["t" + std::to_string(i)] = "\"s" + std::to_string(i) + ".safetensors\"";
    check_models({
        {"no JSON", kFormat, kIndexFile + "line 1", index("weight_map")},
        {"an array", kFormat, kIndexFile + "weight_map: expected an object", index("[]")},
        {"no map", kFormat, kIndexFile + "weight_map: expected an object", index("{}")},
        {"an empty map", kFormat, kIndexFile + "weight_map: expected an object", index("{\"weight_map\":{}}")},
        {"a map that is an array", kFormat, kIndexFile + "weight_map: expected an object", index("{\"weight_map\":[1]}")},
        {"a map twice", kFormat, kIndexFile + "line 1: duplicate key", index("{\"weight_map\":{},\"weight_map\":{}}")},
        {"a tensor twice", kFormat, kIndexFile + "line 1: duplicate key", index("{\"weight_map\":{\"a\":\"b\",\"a\":\"c\"}}")},
        {"a name that is no UTF-8", kFormat, kIndexFile + "line 1: invalid UTF-8", index("{\"weight_map\":{\"a\":\"\xed\xa0\x80\"}}")},
        {"a depth bomb", kLimit, kIndexFile + "line 1: nested too deeply", index("{\"weight_map\":" + repeat("[", 100000))},
        {"a bomb of values", kLimit, kIndexFile + "line 1: too many values", index("[" + repeat("0,", 100000) + "0]")},
        {"1025 shards", kLimit, kIndexFile + "1025 files, more than the 1024", index(object({{"weight_map", object(many)}}))},
        {"a shard that is a number", kFormat, plain, index("model.norm.weight", "1")},
        {"a shard that is null", kFormat, plain, index("model.norm.weight", "null")},
        {"the folder above", kFormat, plain, shard_path("../two.safetensors")},
        {"..", kFormat, plain, shard_path("..")},
        {"the folder itself", kFormat, plain, shard_path(".")},
        {"an empty name", kFormat, plain, shard_path("")},
        {"an absolute path", kFormat, plain, shard_path("/etc/two.safetensors")},
        {"a folder below", kFormat, plain, shard_path("sub/two.safetensors")},
        {"a slash written as an escape", kFormat, plain, shard_path("..\\u002ftwo.safetensors")},
        {"a backslash", kFormat, plain, shard_path("..\\\\two.safetensors")},
        {"a drive", kFormat, plain, shard_path("C:two.safetensors")},
        {"a NUL", kFormat, plain, shard_path("two.safetensors\\u0000.safetensors")},
        {"a newline", kFormat, plain, shard_path("two\\n.safetensors")},
        {"a pickled file", kUnsupported, kIndexFile + "tensor model.norm.weight is in pytorch_model.bin", shard_path("pytorch_model.bin")},
        {"a shard that is not there", PITH_E_IO, "m/gone.safetensors: can't be opened", shard_path("gone.safetensors")},
        {"a tensor that is in another shard", kFormat, kIndexFile + "tensor model.norm.weight is not in one.safetensors",
         shard_path("one.safetensors")},
        {"a tensor that is in none", kFormat, kIndexFile + "tensor spare is not in two.safetensors", index("spare", "\"two.safetensors\"")},
        {"a tensor that is in two", kFormat, "tensor model.norm.weight is in both one.safetensors and two.safetensors",
         [] {
             Folder folder = index("model.norm.weight", "\"two.safetensors\"");
             folder["one.safetensors"] =
                 fuzz::safetensors({{"model.embed_tokens.weight", fuzz::tiny_tensors()["model.embed_tokens.weight"]},
                                    {"model.norm.weight", fuzz::tiny_tensors()["model.norm.weight"]}});
             return folder;
         }()},
        {"a malformed shard", kFormat, "m/two.safetensors: too short",
         [] {
             Folder folder = shard_path("two.safetensors");
             folder["two.safetensors"] = "123";
             return folder;
         }()},
        {"a pickled model", kUnsupported, "found pytorch_model.bin",
         [] {
             Folder folder = good_model();
             folder.erase("model.safetensors");
             folder["pytorch_model.bin"] = "123";
             return folder;
         }()},
    });
}
