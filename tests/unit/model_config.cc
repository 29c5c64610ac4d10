// config.json and its quantisation config: spellings, defaults, ranges, and everything that must be refused by name.
#include "model/config.h"

#include <string>

#include "base_memory.h"
#include "catch.h"
#include "memory_files.h"

using namespace pith;
using std::string;

namespace {

struct Read {
    TestMemory memory;
    MemoryFiles files;
    Config config;
    pith_error error{};
    pith_status run() { return read_config(files.files, memory.allocator, "m", &config, &error); }
    string message() const { return error.message; }
};

// A Llama's config with these members added or (by name) replaced.
string llama(const string& members = "", const string& without = "") {
    struct Member {
        const char *key, *value;
    };
    const Member base[] = {{"architectures", "[\"LlamaForCausalLM\"]"},
                           {"vocab_size", "320"},
                           {"hidden_size", "64"},
                           {"intermediate_size", "160"},
                           {"num_hidden_layers", "2"},
                           {"num_attention_heads", "4"},
                           {"num_key_value_heads", "2"},
                           {"rms_norm_eps", "1e-05"},
                           {"max_position_embeddings", "512"},
                           {"hidden_act", "\"silu\""},
                           {"torch_dtype", "\"float16\""}};
    string text = "{";
    for (const Member& member : base) {
        const string key = string("\"") + member.key + "\":";
        if (members.find(key) != string::npos || without == member.key) continue;
        text += key + member.value + ",";
    }
    text += "\"model_type\":\"llama\"" + (members.empty() ? "" : "," + members) + "}";
    return text;
}

string mistral(const string& members = "") {
    return llama("\"architectures\":[\"MistralForCausalLM\"]" + (members.empty() ? "" : "," + members));
}

pith_status status_of(const string& text, Config* config = nullptr) {
    Read read;
    read.files["m/config.json"] = text;
    const pith_status status = read.run();
    INFO(text);
    INFO(read.message());
    CHECK(read.memory.held == 0);
    CHECK(read.files.open_files == 0);
    if (config) {
        REQUIRE(status == PITH_OK);
        *config = read.config;
    }
    return status;
}

Config config_of(const string& text) {
    Config config;
    status_of(text, &config);
    return config;
}

}  // namespace

TEST_CASE("config: a plain Llama") {
    const Config c = config_of(llama());
    CHECK(string(c.architecture) == "LlamaForCausalLM");
    CHECK(c.vocab_size == 320);
    CHECK(c.hidden == 64);
    CHECK(c.intermediate == 160);
    CHECK(c.layers == 2);
    CHECK(c.heads == 4);
    CHECK(c.kv_heads == 2);
    CHECK(c.head_dim == 16);
    CHECK(c.q_width() == 64);
    CHECK(c.kv_width() == 32);
    CHECK(c.context_length == 512);
    CHECK(c.sliding_window == 0);
    CHECK(c.rms_eps == 1e-5f);
    CHECK_FALSE(c.tied);
    CHECK_FALSE(c.attention_bias);
    CHECK_FALSE(c.mlp_bias);
    CHECK(c.rope.kind == RopeKind::Default);
    CHECK(c.rope.theta == 10000);
    CHECK_FALSE(c.quant.present);
}

TEST_CASE("config: flags, nulls and transformers 5 spellings") {
    Config c = config_of(llama(R"("tie_word_embeddings":true,"attention_bias":true,"mlp_bias":true,"head_dim":32,"num_key_value_heads":null,
        "rope_scaling":null,"dtype":"bfloat16","hidden_act":"swish","rope_theta":500000.0,"quantization_config":null)"));
    CHECK(c.tied);
    CHECK(c.attention_bias);
    CHECK(c.mlp_bias);
    CHECK(c.head_dim == 32);
    CHECK(c.q_width() == 128);
    CHECK(c.kv_heads == 4);
    CHECK(c.rope.theta == 500000);
    c = config_of(llama(R"("head_dim":null,"rope_parameters":{"rope_type":"default","rope_theta":1000000.0})"));
    CHECK(c.head_dim == 16);
    CHECK(c.rope.kind == RopeKind::Default);
    CHECK(c.rope.theta == 1000000);
    CHECK(config_of(llama("", "architectures")).architecture == string("LlamaForCausalLM"));     // model_type alone
    c = config_of(llama(R"("rope_theta":3e4,"rope_parameters":{"type":"linear","factor":2})"));  // theta beside an old dict
    CHECK(c.rope.theta == 30000);
    CHECK(c.rope.kind == RopeKind::Linear);
    CHECK(c.rope.factor == 2);
    c = config_of(llama(R"("rope_scaling":{"type":"dynamic","factor":3},"rope_parameters":{"rope_type":"linear","factor":2})"));
    CHECK(c.rope.kind == RopeKind::Dynamic);  // as transformers 5 reads both
    c = config_of(llama(R"("rope_scaling":{},"rope_parameters":{"rope_type":"linear","factor":2})"));
    CHECK(c.rope.kind == RopeKind::Linear);
}

TEST_CASE("config: silence means the first implementation's defaults") {
    Config c = config_of(llama("", "max_position_embeddings"));
    CHECK(c.context_length == 2048);
    CHECK(config_of(llama("", "num_key_value_heads")).kv_heads == 4);
    CHECK(config_of(llama("", "rms_norm_eps")).rms_eps == 1e-6f);
    CHECK(config_of(llama("", "hidden_act")).layers == 2);
    c = config_of(llama(R"("architectures":["MistralForCausalLM"],"num_attention_heads":8)", "num_key_value_heads"));
    CHECK(c.kv_heads == 8);
}

TEST_CASE("config: sliding windows are Mistral's") {
    CHECK(config_of(mistral(R"("sliding_window":4096)")).sliding_window == 4096);
    CHECK(config_of(mistral(R"("sliding_window":null)")).sliding_window == 0);
    CHECK(config_of(mistral()).sliding_window == 4096);
    CHECK(config_of(llama(R"("sliding_window":4096)")).sliding_window == 0);
    CHECK(status_of(mistral(R"("sliding_window":0)")) == PITH_E_FORMAT);
    CHECK_FALSE(config_of(mistral(R"("attention_bias":true)")).attention_bias);
}

TEST_CASE("config: what is refused, and how it is named") {
    struct Case {
        string text;
        pith_status status;
        const char* message;
    };
    const auto rope = [](const string& members) { return llama("\"rope_scaling\":{" + members + "}"); };
    const Case cases[] = {
        {"", PITH_E_FORMAT, "m/config.json: line 1"},
        {"[]", PITH_E_FORMAT, "m/config.json: expected an object"},
        {"{}", PITH_E_FORMAT, "architectures is missing"},
        {R"({"architectures":[]})", PITH_E_FORMAT, "architectures: expected an array of names"},
        {R"({"architectures":[1]})", PITH_E_FORMAT, "architectures: expected a name, found 1"},
        {llama(R"("architectures":["Qwen2ForCausalLM"])"), PITH_E_UNSUPPORTED,
         "architectures: expected LlamaForCausalLM or MistralForCausalLM, found \"Qwen2ForCausalLM\""},
        {llama(R"("architectures":["LlamaForSequenceClassification"])"), PITH_E_UNSUPPORTED, "LlamaForSequenceClassification"},
        {R"({"model_type":"gemma3"})", PITH_E_UNSUPPORTED, "model_type: expected LlamaForCausalLM"},
        {llama("", "vocab_size"), PITH_E_FORMAT, "vocab_size is missing"},
        {llama("", "hidden_size"), PITH_E_FORMAT, "hidden_size is missing"},
        {llama("", "intermediate_size"), PITH_E_FORMAT, "intermediate_size is missing"},
        {llama("", "num_hidden_layers"), PITH_E_FORMAT, "num_hidden_layers is missing"},
        {llama("", "num_attention_heads"), PITH_E_FORMAT, "num_attention_heads is missing"},
        {llama(R"("vocab_size":null)"), PITH_E_FORMAT, "vocab_size is missing"},
        {llama(R"("vocab_size":0)"), PITH_E_FORMAT, "vocab_size: expected an integer from 1 to 16777216, found 0"},
        {llama(R"("vocab_size":16777217)"), PITH_E_FORMAT, "found 16777217"},
        {llama(R"("vocab_size":"320")"), PITH_E_FORMAT, "found \"320\""},
        {llama(R"("vocab_size":320.0)"), PITH_E_FORMAT, "found a number with a fraction"},
        {llama(R"("hidden_size":-64)"), PITH_E_FORMAT, "hidden_size: expected an integer from 1 to 1048576, found -64"},
        {llama(R"("hidden_size":4294967360)"), PITH_E_FORMAT, "hidden_size"},
        {llama(R"("hidden_size":66)"), PITH_E_FORMAT, "hidden_size 66 is not a multiple of num_attention_heads 4"},
        {llama(R"("hidden_size":12)"), PITH_E_FORMAT, "head_dim: expected an even number"},
        {llama(R"("hidden_size":8192)"), PITH_E_FORMAT, "head_dim: expected an even number from 2 to 1024, found 2048"},
        {llama(R"("head_dim":15)"), PITH_E_FORMAT, "head_dim: expected an even number"},
        {llama(R"("head_dim":0)"), PITH_E_FORMAT, "head_dim"},
        {llama(R"("head_dim":2048)"), PITH_E_FORMAT, "head_dim"},
        {llama(R"("intermediate_size":1048577)"), PITH_E_FORMAT, "intermediate_size"},
        {llama(R"("num_hidden_layers":1025)"), PITH_E_FORMAT, "num_hidden_layers"},
        {llama(R"("num_hidden_layers":true)"), PITH_E_FORMAT, "found true"},
        {llama(R"("num_attention_heads":0)"), PITH_E_FORMAT, "num_attention_heads"},
        {llama(R"("num_attention_heads":65536,"head_dim":128,"hidden_size":65536,"num_key_value_heads":65536)"), PITH_E_FORMAT,
         "are wider than"},
        {llama(R"("num_key_value_heads":3)"), PITH_E_FORMAT, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"},
        {llama(R"("num_key_value_heads":8)"), PITH_E_FORMAT, "is not a multiple"},
        {llama(R"("num_key_value_heads":0)"), PITH_E_FORMAT, "num_key_value_heads"},
        {llama(R"("max_position_embeddings":0)"), PITH_E_FORMAT, "max_position_embeddings"},
        {llama(R"("hidden_act":"gelu")"), PITH_E_UNSUPPORTED, "hidden_act: expected \"silu\", found \"gelu\""},
        {llama(R"("hidden_act":1)"), PITH_E_FORMAT, "hidden_act: expected a string"},
        {llama(R"("rms_norm_eps":0)"), PITH_E_FORMAT, "rms_norm_eps"},
        {llama(R"("rms_norm_eps":-1e-5)"), PITH_E_FORMAT, "rms_norm_eps"},
        {llama(R"("rms_norm_eps":"x")"), PITH_E_FORMAT, "rms_norm_eps: expected a number"},
        {llama(R"("tie_word_embeddings":1)"), PITH_E_FORMAT, "tie_word_embeddings: expected true or false, found 1"},
        {llama(R"("rope_theta":0)"), PITH_E_FORMAT, "rope_theta"},
        {llama(R"("rope_theta":1)"), PITH_E_FORMAT, "rope_theta"},
        {llama(R"("rope_scaling":"linear")"), PITH_E_FORMAT, "rope_scaling: expected an object"},
        {rope(R"("type":"longrope","factor":2)"), PITH_E_UNSUPPORTED,
         "rope_scaling.type: expected default, linear, dynamic, llama3 or yarn, found \"longrope\""},
        {rope(R"("rope_type":"su")"), PITH_E_UNSUPPORTED, "found \"su\""},
        {rope(R"("rope_type":"mrope")"), PITH_E_UNSUPPORTED, "rope_scaling.rope_type"},
        {rope(R"("rope_type":3)"), PITH_E_FORMAT, "rope_scaling.rope_type"},
        {rope(R"("rope_type":"linear","factor":2,"short_factor":[1])"), PITH_E_UNSUPPORTED, "rope_scaling.short_factor: an unknown member"},
        {rope(R"("rope_type":"yarn","factor":2,"llama_4_scaling_beta":0.1)"), PITH_E_UNSUPPORTED, "llama_4_scaling_beta"},
        {rope(R"("full_attention":{"rope_type":"default"})"), PITH_E_UNSUPPORTED, "rope of its own for some layers"},
        {rope(R"("rope_type":"linear")"), PITH_E_FORMAT, "rope_scaling.factor is missing"},
        {rope(R"("rope_type":"dynamic","factor":0.5)"), PITH_E_FORMAT, "rope_scaling.factor: the number is out of its range"},
        {rope(R"("rope_type":"linear","factor":"2")"), PITH_E_FORMAT, "rope_scaling.factor: expected a number"},
        {rope(R"("rope_type":"llama3","factor":8,"high_freq_factor":4)"), PITH_E_FORMAT, "low_freq_factor is missing"},
        {rope(R"("rope_type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":4)"), PITH_E_FORMAT,
         "is not above low_freq_factor"},
        {rope(R"("rope_type":"yarn","original_max_position_embeddings":1024)"), PITH_E_FORMAT, "factor is below 1"},
        {rope(R"("rope_type":"yarn","factor":2,"original_max_position_embeddings":0)"), PITH_E_FORMAT, "original_max_position_embeddings"},
        {rope(R"("rope_type":"yarn","factor":2,"truncate":1)"), PITH_E_FORMAT, "truncate: expected true or false"},
        {rope(R"("rope_type":"yarn","factor":2,"attention_factor":0)"), PITH_E_FORMAT, "attention_factor"},
        {llama(R"("rope_parameters":{"rope_type":"unheard-of","rope_theta":1e4})"), PITH_E_UNSUPPORTED, "rope_parameters.rope_type"},
        {llama(R"("partial_rotary_factor":0.5)"), PITH_E_UNSUPPORTED, "partial_rotary_factor"},
        {rope(R"("rope_type":"default","partial_rotary_factor":0.25)"), PITH_E_UNSUPPORTED, "partial_rotary_factor"},
        {llama(R"("quantization_config":"gptq")"), PITH_E_FORMAT, "quantization_config: expected an object"},
    };
    for (const Case& c : cases) {
        Read read;
        read.files["m/config.json"] = c.text;
        read.config.layers = 77;
        INFO(c.text);
        CHECK(read.run() == c.status);
        INFO(read.message());
        CHECK(read.message().find(c.message) != string::npos);
        CHECK(read.message().find("m/config.json") == 0);
        CHECK(read.config.layers == 77);  // untouched
        CHECK(read.memory.held == 0);
    }
}

TEST_CASE("quantisation config: where it is looked for") {
    const auto gptq = [](const string& members) { return "{\"bits\":4" + (members.empty() ? "" : "," + members) + "}"; };
    {
        Read r;
        r.files["m/config.json"] =
            llama(R"("quantization_config":{"bits":4,"group_size":64,"desc_act":true,"sym":false,"quant_method":"gptq"})");
        REQUIRE(r.run() == PITH_OK);
        CHECK(r.config.quant.present);
        CHECK(r.config.quant.group == 64);
        CHECK(r.config.quant.act_order);
        CHECK_FALSE(r.config.quant.symmetric);
        CHECK_FALSE(r.config.quant.v2);
        r.files["m/quant_config.json"] = gptq("\"group_size\":32");
        REQUIRE(r.run() == PITH_OK);
        CHECK(r.config.quant.group == 32);
        CHECK(r.config.quant.symmetric);
        r.files["m/quantize_config.json"] =
            gptq("\"group_size\":-1,\"checkpoint_format\":\"gptq_v2\",\"model_file_base_name\":\"gptq_model\"");
        REQUIRE(r.run() == PITH_OK);
        CHECK(r.config.quant.group == 0);
        CHECK(r.config.quant.v2);
        CHECK(string(r.config.quant.base_name) == "gptq_model");
    }
    struct Case {
        const char* members;
        pith_status status;
        const char* message;  // or NULL
    };
    const Case cases[] = {
        {R"("quant_method":"gptq","checkpoint_format":"gptq","group_size":128,"pack_dtype":"int32","is_marlin_format":false)", PITH_OK,
         nullptr},
        {R"("format":"gptq_v2")", PITH_OK, nullptr},
        {R"("checkpoint_format":null,"group_size":null,"sym":null)", PITH_OK, nullptr},
        {R"("dynamic":{"-:.*down.*":{}},"modules_in_block_to_quantize":[["self_attn.k_proj"]],"meta":{"quantizer":["x"]})", PITH_OK,
         nullptr},
        {R"("bits":8)", PITH_E_UNSUPPORTED, "bits: expected 4, found 8"},
        {R"("bits":3)", PITH_E_UNSUPPORTED, "bits: expected 4, found 3"},
        {R"("bits":"4")", PITH_E_FORMAT, "bits"},
        {R"("quant_method":"awq")", PITH_E_UNSUPPORTED, "quant_method: expected \"gptq\", found \"awq\""},
        {R"("quant_method":"exl3")", PITH_E_UNSUPPORTED, "found \"exl3\""},
        {R"("zero_point":true,"q_group_size":128,"version":"GEMM")", PITH_E_UNSUPPORTED, "AWQ"},
        {R"("checkpoint_format":"marlin")", PITH_E_UNSUPPORTED, "checkpoint_format: expected \"gptq\" or \"gptq_v2\", found \"marlin\""},
        {R"("checkpoint_format":"gptq_p")", PITH_E_UNSUPPORTED, "found \"gptq_p\""},
        {R"("format":"bitblas")", PITH_E_UNSUPPORTED, "format: expected"},
        {R"("is_marlin_format":true)", PITH_E_UNSUPPORTED, "is_marlin_format"},
        {R"("pack_dtype":"int16")", PITH_E_UNSUPPORTED, "pack_dtype: expected \"int32\", found \"int16\""},
        {R"("group_size":16)", PITH_E_UNSUPPORTED, "group_size: expected -1 or a multiple of 32, found 16"},
        {R"("group_size":100)", PITH_E_UNSUPPORTED, "found 100"},
        {R"("group_size":0)", PITH_E_FORMAT, "group_size"},
        {R"("group_size":-2)", PITH_E_FORMAT, "group_size"},
        {R"("group_size":2097152)", PITH_E_FORMAT, "group_size"},
        {R"("group_size":128.0)", PITH_E_FORMAT, "group_size"},
        {R"("sym":1)", PITH_E_FORMAT, "sym: expected true or false"},
        {R"("desc_act":"yes")", PITH_E_FORMAT, "desc_act"},
    };
    for (const Case& c : cases) {
        for (const bool embedded : {true, false}) {
            Read r;
            INFO(c.members);
            const string object = string("{") + c.members + "}";
            r.files["m/config.json"] = embedded ? llama("\"quantization_config\":" + object) : llama();
            if (!embedded) r.files["m/quantize_config.json"] = object;
            CHECK(r.run() == c.status);
            INFO(r.message());
            if (c.message) CHECK(r.message().find(c.message) != string::npos);
            if (c.message)
                CHECK(r.message().find(embedded ? "config.json: quantization_config." : "m/quantize_config.json: ") != string::npos);
        }
    }
    Read r;  // another method in config.json is believed whatever stands beside it
    r.files["m/config.json"] = llama(R"("quantization_config":{"quant_method":"compressed-tensors"})");
    r.files["m/quantize_config.json"] = gptq("");
    CHECK(r.run() == PITH_E_UNSUPPORTED);
    CHECK(r.message().find("compressed-tensors") != string::npos);
}

TEST_CASE("config: a missing folder and a file in its place") {
    Read r;
    CHECK(r.run() == PITH_E_IO);
    CHECK(r.message().find("m/config.json") != string::npos);
    r.files["m"] = "GGUF";
    CHECK(r.run() == PITH_E_UNSUPPORTED);
    CHECK(r.message().find("m: a file, expected a folder") == 0);
}

TEST_CASE("config: a hostile size costs a bounded amount of memory") {
    string zeros = "0";
    for (int i = 0; i < 1 << 20; i++) zeros += ",0";
    Read r;
    r.files["m/config.json"] = llama("\"x\":[" + zeros + "]");
    CHECK(r.run() == PITH_E_LIMIT);
    CHECK(r.memory.peak < 100u << 20);
    r.files["m/config.json"] = string((16 << 20) + 1, ' ');
    CHECK(r.run() == PITH_E_LIMIT);
}

TEST_CASE("config: failed calls and allocations") {
    for (long k = 0;; k++) {
        Read r;
        r.files["m/config.json"] = llama();
        r.files["m/quantize_config.json"] = R"({"bits":4,"group_size":64})";
        r.memory.fail_at = k;
        const pith_status status = r.run();
        CHECK(r.memory.held == 0);
        CHECK(r.files.open_files == 0);
        if (status == PITH_OK) {
            CHECK(k > 3);
            break;
        }
        CHECK(status == PITH_E_MEMORY);
    }
    for (int k : {0, 1, 3}) {  // open and read config.json, read quantize_config.json
        Read r;
        r.files["m/config.json"] = llama();
        r.files["m/quantize_config.json"] = R"({"bits":4,"group_size":64})";
        r.files.fail_call = k;
        CHECK(r.run() == PITH_E_IO);
        CHECK(r.files.open_files == 0);
    }
}
