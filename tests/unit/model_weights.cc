// Opening models: dense and mixed, and every kind of folder that must be refused.
#include "model/weights.h"

#include <stdio.h>
#include <stdlib.h>

#include <functional>
#include <string>

#include "catch.h"
#include "model_opened.h"

using namespace pith;
using std::string;

namespace {

const string kQ = "model.layers.0.self_attn.q_proj";

}  // namespace

TEST_CASE("weights: a dense model") {
    for (const char* dtype : {"F16", "BF16", "F32"}) {
        TinyModel tiny;
        tiny.fill(dtype);
        tiny.add("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", {8});  // old files have it: ignored
        OpenedModel o(tiny);
        INFO(o.message());
        REQUIRE(o.status == PITH_OK);
        const ModelFile& m = o.model;
        CHECK_FALSE(m.tied);
        CHECK(m.layers.size() == 2);
        CHECK(string(m.layers[1].down.name) == "model.layers.1.mlp.down_proj");
        CHECK(m.layers[1].down.kind == Linear::Dense);
        CHECK(m.layers[1].down.rows == 64);
        CHECK(m.layers[1].down.cols == 96);
        CHECK(m.layers[0].k.rows == 32);
        CHECK_FALSE(m.layers[0].q.bias.exists());
        const TensorView& view = m.layers[1].gate.weight;
        CHECK(string(view.name) == "model.layers.1.mlp.gate_proj.weight");
        CHECK(view.shape[0] == 96);
        CHECK(view.shape[1] == 64);
        CHECK(view.rank == 2);
        CHECK(string(dtype_name(view.dtype)) == dtype);
        const auto bytes = o.values<char>(view);
        CHECK(string(bytes.data(), bytes.size()) == tiny.tensors[view.name].data);
        const uint64_t per_layer = 64 * 64 * 2 + 32 * 64 * 2 + 96 * 64 * 3 + 64 * 2, all = 40 * 64 * 2 + 64 + 2 * per_layer;
        CHECK(m.parameters == all);
        CHECK(m.weight_bytes == all * (dtype[0] == 'F' && dtype[1] == '3' ? 4 : 2));
        CHECK(mapped_tensor(m, view) == nullptr);
        char byte;
        CHECK(read_tensor(m, view, view.bytes, &byte, 1, &o.error) == PITH_E_ARGUMENT);
        CHECK(read_tensor(m, view, ~uint64_t{0}, &byte, 2, &o.error) == PITH_E_ARGUMENT);
        CHECK(read_tensor(m, TensorView{}, 0, &byte, 1, &o.error) == PITH_E_ARGUMENT);
    }
}

TEST_CASE("weights: tied and untied heads") {
    TinyModel tiny;
    tiny.members = "\"tie_word_embeddings\":true";
    tiny.fill();
    {
        OpenedModel o(tiny);  // a head that is there is used
        REQUIRE(o.status == PITH_OK);
        CHECK_FALSE(o.model.tied);
        CHECK(string(o.model.head.weight.name) == "lm_head.weight");
    }
    tiny.tensors.erase("lm_head.weight");
    {
        OpenedModel o(tiny);
        REQUIRE(o.status == PITH_OK);
        CHECK(o.model.tied);
        CHECK(o.model.head.weight.offset == o.model.embed.weight.offset);
        CHECK(string(o.model.head.name) == "model.embed_tokens");
    }
    {
        TinyModel quantised = tiny;
        quantised.gptq("lm_head", 40, 64);
        OpenedModel o(quantised);
        INFO(o.message());
        REQUIRE(o.status == PITH_OK);
        CHECK(o.model.head.kind == Linear::Gptq);
        CHECK(o.model.head.rows == 40);
    }
    tiny.members = "";
    OpenedModel o(tiny);
    CHECK(o.status == PITH_E_FORMAT);
    CHECK(o.message().find("tensor lm_head.weight is missing") != string::npos);
}

TEST_CASE("weights: shards") {
    TinyModel tiny;
    tiny.fill();
    tiny.quantise();
    OpenedModel o;
    tiny.install(o.files);
    o.files["m/a.safetensors"] = tiny.safetensors("", "model.layers.1");
    o.files["m/b.safetensors"] = tiny.safetensors("model.layers.1");
    string map;
    for (const auto& [name, tensor] : tiny.tensors)
        map += (map.empty() ? "\"" : ",\"") + name + "\":\"" + (name < "model.layers.1" ? "a" : "b") + ".safetensors\"";
    o.files["m/model.safetensors.index.json"] = "{\"weight_map\":{" + map + "}}";
    REQUIRE(o.open() == PITH_OK);
    CHECK(o.files.open_files == 2);
    const TensorView& a = o.model.layers[0].o.qweight;
    const TensorView& b = o.model.layers[1].o.qweight;
    CHECK(a.shard != b.shard);
    for (const TensorView* view : {&a, &b}) {
        const auto bytes = o.values<char>(*view);
        CHECK(string(bytes.data(), bytes.size()) == tiny.tensors[view->name].data);
    }
}

TEST_CASE("weights: biases") {
    TinyModel tiny;
    tiny.members = R"("attention_bias":true,"mlp_bias":true)";
    tiny.fill();
    for (uint32_t i = 0; i < 2; i++)
        for (const auto& part : tiny.parts()) tiny.add(TinyModel::layer(i) + part.name + ".bias", "F16", {part.rows});
    {
        OpenedModel o(tiny);
        INFO(o.message());
        REQUIRE(o.status == PITH_OK);
        CHECK(o.model.layers[1].o.bias.exists());
        CHECK(o.model.layers[0].up.bias.shape[0] == 96);
    }
    {
        TinyModel broken = tiny;
        broken.tensors.erase("model.layers.1.mlp.up_proj.bias");
        OpenedModel o(broken);
        CHECK(o.status == PITH_E_FORMAT);
        CHECK(o.message().find("tensor model.layers.1.mlp.up_proj.bias is missing") != string::npos);
        broken.add("model.layers.1.mlp.up_proj.bias", "F16", {95});
        OpenedModel p(broken);
        CHECK(p.status == PITH_E_FORMAT);
        CHECK(p.message().find("up_proj.bias: expected shape [96], found [95]") != string::npos);
    }
    tiny.members = "";
    {
        OpenedModel o(tiny);
        CHECK(o.status == PITH_E_FORMAT);
        CHECK(o.message().find("q_proj.bias is not zero") != string::npos);
    }
    for (const char* dtype : {"F16", "BF16", "F32"}) {
        for (auto& [name, tensor] : tiny.tensors) {
            if (name.find(".bias") == string::npos) continue;
            tensor = {dtype, tensor.shape, string(tensor.shape[0] * TinyModel::dtype_size(dtype), '\0')};
            tensor.data.back() = static_cast<char>(0x80);  // minus zero
        }
        OpenedModel o(tiny);
        INFO(o.message());
        CHECK(o.status == PITH_OK);
        CHECK_FALSE(o.model.layers[0].q.bias.exists());
        tiny.tensors["model.layers.0.self_attn.k_proj.bias"].data[0] = 1;
        OpenedModel p(tiny);
        CHECK(p.status == PITH_E_FORMAT);
        CHECK(p.message().find("k_proj.bias is not zero") != string::npos);
    }
}

TEST_CASE("weights: folders that must be refused") {
    struct Case {
        const char* name;
        std::function<void(TinyModel&)> change;
        pith_status status;
        const char* message;
    };
    const string down = "model.layers.0.mlp.down_proj";
    const Case cases[] = {
        {"no embedding", [](TinyModel& t) { t.tensors.erase("model.embed_tokens.weight"); }, PITH_E_FORMAT,
         "tensor model.embed_tokens.weight is missing"},
        {"no norm", [](TinyModel& t) { t.tensors.erase("model.norm.weight"); }, PITH_E_FORMAT, "tensor model.norm.weight is missing"},
        {"no layer norm", [](TinyModel& t) { t.tensors.erase("model.layers.1.input_layernorm.weight"); }, PITH_E_FORMAT,
         "tensor model.layers.1.input_layernorm.weight is missing"},
        {"no linear", [](TinyModel& t) { t.tensors.erase("model.layers.1.mlp.down_proj.weight"); }, PITH_E_FORMAT,
         "tensor model.layers.1.mlp.down_proj.weight is missing, and so is qweight"},
        {"a layer too few", [](TinyModel& t) { t.layers = 3; }, PITH_E_FORMAT, "tensor model.layers.2.self_attn.q_proj.weight is missing"},
        {"transposed", [=](TinyModel& t) { t.dense(down, 96, 64); }, PITH_E_FORMAT,
         "down_proj.weight: expected shape [64, 96], found [96, 64]"},
        {"rank 1", [=](TinyModel& t) { t.add(down + ".weight", "F16", {64 * 96}); }, PITH_E_FORMAT, "found [6144]"},
        {"rank 3",
         [=](TinyModel& t) {
             t.add(down + ".weight", "F16", {64, 96, 1});
         },
         PITH_E_FORMAT, "found [64, 96, 1]"},
        {"another vocabulary", [](TinyModel& t) { t.vocab = 48; }, PITH_E_FORMAT,
         "model.embed_tokens.weight: expected shape [48, 64], found [40, 64]"},
        {"head of another size", [](TinyModel& t) { t.dense("lm_head", 39, 64); }, PITH_E_FORMAT,
         "lm_head.weight: expected shape [40, 64]"},
        {"norm of another size", [](TinyModel& t) { t.add("model.norm.weight", "F16", {65}); }, PITH_E_FORMAT,
         "model.norm.weight: expected shape [64], found [65]"},
        {"norm of rank 2",
         [](TinyModel& t) {
             t.add("model.norm.weight", "F16", {64, 1});
         },
         PITH_E_FORMAT, "found [64, 1]"},
        {"integer norm", [](TinyModel& t) { t.add("model.norm.weight", "I32", {64}); }, PITH_E_UNSUPPORTED,
         "model.norm.weight: dtype I32, expected F16, BF16 or F32"},
        {"8-bit weights",
         [=](TinyModel& t) {
             t.add(down + ".weight", "U8", {64, 96});
         },
         PITH_E_UNSUPPORTED, "dtype U8"},
        {"8-bit floats",
         [=](TinyModel& t) {
             t.tensors[down + ".weight"] = {"F8_E4M3", {64, 96}, string(64 * 96, 'x')};
         },
         PITH_E_UNSUPPORTED, "dtype F8_E4M3"},
        {"an unknown dtype", [=](TinyModel& t) { t.tensors[down + ".weight"].dtype = "Q7"; }, PITH_E_UNSUPPORTED, "dtype Q7"},
        {"both kinds",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.dense(down, 64, 96);
         },
         PITH_E_FORMAT, "has both weight and qweight"},
        {"no scales",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.tensors.erase(down + ".scales");
         },
         PITH_E_FORMAT, "down_proj.scales is missing beside qweight"},
        {"no zeros",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.tensors.erase(down + ".qzeros");
         },
         PITH_E_FORMAT, "qzeros is missing"},
        {"qweight too short",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.add(down + ".qweight", "I32", {11, 64});
         },
         PITH_E_FORMAT, "down_proj.qweight: expected shape [12, 64], found [11, 64]"},
        {"qweight too wide",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.add(down + ".qweight", "I32", {12, 65});
         },
         PITH_E_FORMAT, "found [12, 65]"},
        {"qweight of 64-bit words",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.add(down + ".qweight", "I64", {12, 64});
         },
         PITH_E_FORMAT, "down_proj.qweight: expected dtype I32, found I64"},
        {"8 bits",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.add(down + ".qweight", "I32", {24, 64});
         },
         PITH_E_UNSUPPORTED, "8 bits a weight, expected 4"},
        {"3 bits",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.add(down + ".qweight", "I32", {9, 64});
         },
         PITH_E_UNSUPPORTED, "3 bits a weight"},
        {"2 bits",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.add(down + ".qweight", "I32", {6, 64});
         },
         PITH_E_UNSUPPORTED, "2 bits a weight"},
        {"AWQ",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.add(down + ".qweight", "I32", {96, 8});
         },
         PITH_E_UNSUPPORTED, "AWQ"},
        {"zeros too short",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.add(down + ".qzeros", "I32", {2, 8});
         },
         PITH_E_FORMAT, "down_proj.qzeros: expected shape [3, 8], found [2, 8]"},
        {"zeros unpacked",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.add(down + ".qzeros", "I32", {3, 64});
         },
         PITH_E_FORMAT, "found [3, 64]"},
        {"zeros of floats",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.add(down + ".qzeros", "F16", {3, 64});
         },
         PITH_E_FORMAT, "expected dtype I32, found F16"},
        {"scales too narrow",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.add(down + ".scales", "F16", {3, 63});
         },
         PITH_E_FORMAT, "down_proj.scales: expected shape [3, 64], found [3, 63]"},
        {"scales of integers",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.add(down + ".scales", "I32", {3, 64});
         },
         PITH_E_UNSUPPORTED, "dtype I32"},
        {"scales of rank 1",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.add(down + ".scales", "F16", {64});
         },
         PITH_E_FORMAT, "down_proj.scales"},
        {"scales empty",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.add(down + ".scales", "F16", {0, 64});
         },
         PITH_E_FORMAT, "found [0, 64]"},
        {"too many groups",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.add(down + ".scales", "F16", {97, 64});
         },
         PITH_E_FORMAT, "found [97, 64]"},
        {"groups of 16",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.add(down + ".scales", "F16", {6, 64});
         },
         PITH_E_UNSUPPORTED, "6 groups of 96 inputs fit neither"},
        {"g_idx of 64 bits",
         [=](TinyModel& t) {
             t.gptq(down, 64, 96);
             t.add(down + ".g_idx", "I64", {96});
         },
         PITH_E_FORMAT, "found I64"},
        {"quantised embedding", [](TinyModel& t) { t.gptq("model.embed_tokens", 40, 64); }, PITH_E_UNSUPPORTED, "a quantised embedding"},
        {"odd outputs",
         [](TinyModel& t) {
             t.vocab = 44;
             t.dense("model.embed_tokens", 44, 64);
             t.gptq("lm_head", 44, 64);
         },
         PITH_E_UNSUPPORTED, "lm_head: 44 outputs of 64 inputs in 4 bits, expected multiples of 8"},
        {"EXL2",
         [=](TinyModel& t) {
             t.tensors.erase(down + ".weight");
             t.add(down + ".q_weight", "I32", {9, 64});
         },
         PITH_E_UNSUPPORTED, "EXL2"},
        {"EXL3",
         [=](TinyModel& t) {
             t.tensors.erase(down + ".weight");
             t.add(down + ".trellis", "I32", {9});
         },
         PITH_E_UNSUPPORTED, "EXL3"},
        {"compressed-tensors",
         [=](TinyModel& t) {
             t.tensors.erase(down + ".weight");
             t.add(down + ".weight_packed", "I32", {64, 12});
         },
         PITH_E_UNSUPPORTED, "compressed-tensors"},
        {"Marlin",
         [=](TinyModel& t) {
             t.tensors.erase(down + ".weight");
             t.add(down + ".B", "I32", {6, 128});
         },
         PITH_E_UNSUPPORTED, "Marlin"},
        {"scaled weights", [=](TinyModel& t) { t.add(down + ".weight_scale", "F32", {1}); }, PITH_E_UNSUPPORTED, "down_proj.weight_scale"},
        {"bitsandbytes", [=](TinyModel& t) { t.add(down + ".weight.absmax", "F32", {1}); }, PITH_E_UNSUPPORTED, "bitsandbytes"},
        {"another architecture", [](TinyModel& t) { t.architecture = "Qwen3ForCausalLM"; }, PITH_E_UNSUPPORTED, "Qwen3ForCausalLM"},
    };
    for (const Case& c : cases) {
        INFO(c.name);
        TinyModel tiny;
        tiny.fill();
        c.change(tiny);
        OpenedModel o(tiny);
        INFO(o.message());
        CHECK(o.status == c.status);
        CHECK(o.message().find(c.message) != string::npos);
        CHECK(o.files.open_files == 0);
        CHECK(o.memory.held == 0);
        CHECK(o.model.layers.empty());
        CHECK(o.model.parameters == 0);
    }
}

TEST_CASE("weights: every failed call and allocation is cleaned up") {
    TinyModel tiny;
    TinyGptq options;
    tiny.layers = 1;
    tiny.fill();
    for (int32_t k = 0; k < 64; k++) options.g_idx.push_back(1 - k / 32);
    tiny.gptq(kQ, 64, 64, options);
    tiny.quantize_config = R"({"bits":4,"group_size":32,"desc_act":true})";
    OpenedModel good(tiny);
    REQUIRE(good.status == PITH_OK);
    int tolerated = 0;
    for (int k = 0; k < good.files.calls; k++) {
        OpenedModel o;
        tiny.install(o.files);
        o.files.fail_call = k;
        if (o.open() == PITH_OK) {
            tolerated++;  // a file that need not be there
            continue;
        }
        CHECK((o.status == PITH_E_IO || o.status == PITH_E_FORMAT));
        CHECK(o.files.open_files == 0);
        CHECK(o.memory.held == 0);
        o.files.fail_call = -1;
        CHECK(o.open() == PITH_OK);
    }
    CHECK(tolerated <= 3);
    for (long k = 0;; k++) {
        OpenedModel o;
        tiny.install(o.files);
        o.memory.fail_at = k;
        if (o.open() == PITH_OK) {
            CHECK(k > 15);
            break;
        }
        CHECK(o.status == PITH_E_MEMORY);
        CHECK(o.files.open_files == 0);
        CHECK(o.memory.held == 0);
    }
}

TEST_CASE("weights: opening reads headers, zero points and g_idx only") {
    TinyModel tiny;
    tiny.fill();
    tiny.quantise();
    OpenedModel o(tiny);
    REQUIRE(o.status == PITH_OK);
    uint64_t expected = o.files["m/config.json"].size();
    const string& file = o.files["m/model.safetensors"];
    uint64_t data = 0, small = 0;
    for (const auto& [name, tensor] : tiny.tensors) {
        data += tensor.data.size();
        if (name.find("qzeros") != string::npos || name.find("g_idx") != string::npos) small += tensor.data.size();
    }
    expected += file.size() - data + small;
    CHECK(o.files.bytes_read == expected);
}

TEST_CASE("weights: mapped files") {
    char folder[] = "/tmp/pith-model-XXXXXX";
    REQUIRE(mkdtemp(folder));
    TinyModel tiny;
    tiny.fill();
    MemoryFiles files;
    tiny.install(files);
    for (const auto& [path, content] : files.content) {
        const string name = folder + path.substr(1);
        FILE* f = fopen(name.c_str(), "wb");
        REQUIRE(f);
        fwrite(content.data(), 1, content.size(), f);
        fclose(f);
    }
    {
        TestMemory memory;
        ModelFile model(memory.allocator);
        pith_error error{};
        REQUIRE(open_model(kSystemFiles, memory.allocator, folder, &model, &error, true) == PITH_OK);
        const TensorView& view = model.layers[1].v.weight;
        const uint8_t* bytes = mapped_tensor(model, view);
        REQUIRE(bytes);
        CHECK(string(reinterpret_cast<const char*>(bytes), view.bytes) == tiny.tensors[view.name].data);
        string read(view.bytes, '\0');
        CHECK(read_tensor(model, view, 0, read.data(), read.size(), &error) == PITH_OK);
        CHECK(read == tiny.tensors[view.name].data);
        CHECK(mapped_tensor(model, TensorView{}) == nullptr);
    }
    const string command = string("rm -rf ") + folder;
    CHECK(system(command.c_str()) == 0);
    OpenedModel o;
    tiny.install(o.files);
    CHECK(open_model(o.files.files, o.memory.allocator, "m", &o.model, &o.error, true) == PITH_E_ARGUMENT);
}

TEST_CASE("weights: searching for NaN and Inf") {
    struct Case {
        Dtype dtype;
        uint32_t fine, bad[3];
    };
    const Case cases[] = {{Dtype::F16, 0xfbff, {0x7c00, 0xfc00, 0x7e01}},
                          {Dtype::BF16, 0xff7f, {0x7f80, 0xff80, 0x7fc1}},
                          {Dtype::F32, 0xff7fffff, {0x7f800000, 0xff800000, 0x7fc00001}}};
    for (const Case& c : cases) {
        const size_t width = dtype_bytes(c.dtype);
        for (const size_t count : {size_t{0}, size_t{1}, size_t{5}, size_t{1024}, size_t{2500}}) {
            string bytes;
            for (size_t i = 0; i < count; i++) bytes.append(reinterpret_cast<const char*>(&c.fine), width);
            bytes = "x" + bytes;  // unaligned
            CHECK(scan_finite(c.dtype, bytes.data() + 1, count) == count);
            for (const uint32_t bad : c.bad)
                for (const size_t at : {size_t{0}, count / 2, count - 1}) {
                    if (count == 0) continue;
                    string broken = bytes;
                    memcpy(broken.data() + 1 + at * width, &bad, width);
                    CHECK(scan_finite(c.dtype, broken.data() + 1, count) == at);
                }
        }
    }
}
