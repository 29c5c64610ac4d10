// A tiny Llama's folder in memory, tensor by tensor, for tests to build and to break.
#pragma once
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "io_builder.h"
#include "memory_files.h"

struct TinyTensor {
    std::string dtype;
    std::vector<uint64_t> shape;
    std::string data;
};

struct TinyGptq {
    uint32_t group = 32;          // what the scales are made for; 0: one group
    uint32_t zeros = 0x77777777;  // every word of qzeros
    std::vector<int32_t> g_idx;   // empty: no tensor
    bool natural_g_idx = true;    // g_idx[k] = k / group, unless g_idx is given
    std::string scale_dtype = "F16";
};

struct TinyModel {
    uint32_t vocab = 40, hidden = 64, inner = 96, layers = 2, heads = 4, kv_heads = 2, head_dim = 16;
    std::string architecture = "LlamaForCausalLM";
    std::string members;          // more of config.json: "\"tie_word_embeddings\":true"
    std::string quantize_config;  // a file of its own; empty: none
    std::map<std::string, TinyTensor> tensors;
    uint32_t random = 1;

    uint32_t next() { return random = random * 1664525u + 1013904223u; }
    static size_t dtype_size(const std::string& dtype) {
        return dtype == "F32" || dtype == "I32" ? 4 : dtype == "I64" ? 8 : dtype == "U8" ? 1 : 2;
    }

    // Finite in every float dtype: bytes below 0x40.
    void add(const std::string& name, const std::string& dtype, const std::vector<uint64_t>& shape) {
        size_t size = dtype_size(dtype);
        for (const uint64_t n : shape) size *= static_cast<size_t>(n);
        std::string data(size, '\0');
        for (char& byte : data) byte = static_cast<char>(next() >> 26);
        tensors[name] = {dtype, shape, data};
    }
    void dense(const std::string& name, uint32_t rows, uint32_t cols, const std::string& dtype = "F16") {
        add(name + ".weight", dtype, {rows, cols});
    }
    void gptq(const std::string& name, uint32_t rows, uint32_t cols, const TinyGptq& options = {}) {
        const uint32_t group = options.group ? options.group : cols, groups = (cols + group - 1) / group;
        tensors.erase(name + ".weight");
        add(name + ".qweight", "I32", {cols / 8, rows});
        tensors[name + ".qzeros"] = {"I32", {groups, rows / 8}, bytes_of(std::vector<uint32_t>(groups * (rows / 8), options.zeros))};
        add(name + ".scales", options.scale_dtype, {groups, rows});
        std::vector<int32_t> order = options.g_idx;
        if (order.empty() && options.natural_g_idx)
            for (uint32_t k = 0; k < cols; k++) order.push_back(static_cast<int32_t>(k / group));
        if (!order.empty()) tensors[name + ".g_idx"] = {"I32", {order.size()}, bytes_of(order)};
    }

    static std::string layer(uint32_t index) { return "model.layers." + std::to_string(index) + "."; }
    struct Part {
        const char* name;
        uint32_t rows, cols;
    };
    std::vector<Part> parts() const {
        const uint32_t q = heads * head_dim, kv = kv_heads * head_dim;
        return {{"self_attn.q_proj", q, hidden}, {"self_attn.k_proj", kv, hidden}, {"self_attn.v_proj", kv, hidden},
                {"self_attn.o_proj", hidden, q}, {"mlp.gate_proj", inner, hidden}, {"mlp.up_proj", inner, hidden},
                {"mlp.down_proj", hidden, inner}};
    }
    // Everything dense in this dtype.
    TinyModel& fill(const std::string& dtype = "F16") {
        dense("model.embed_tokens", vocab, hidden, dtype);
        dense("lm_head", vocab, hidden, dtype);
        add("model.norm.weight", dtype, {hidden});
        for (uint32_t i = 0; i < layers; i++) {
            for (const Part& part : parts()) dense(layer(i) + part.name, part.rows, part.cols, dtype);
            add(layer(i) + "input_layernorm.weight", dtype, {hidden});
            add(layer(i) + "post_attention_layernorm.weight", dtype, {hidden});
        }
        return *this;
    }
    // Every layer's linears in 4 bits.
    TinyModel& quantise(const TinyGptq& options = {}) {
        for (uint32_t i = 0; i < layers; i++)
            for (const Part& part : parts()) gptq(layer(i) + part.name, part.rows, part.cols, options);
        return *this;
    }

    std::string config() const {
        const auto number = [](const char* key, uint32_t value) { return std::string("\"") + key + "\":" + std::to_string(value) + ","; };
        return "{" + number("vocab_size", vocab) + number("hidden_size", hidden) + number("intermediate_size", inner) +
               number("num_hidden_layers", layers) + number("num_attention_heads", heads) + number("num_key_value_heads", kv_heads) +
               number("head_dim", head_dim) + number("max_position_embeddings", 128) + (members.empty() ? "" : members + ",") +
               "\"architectures\":[\"" + architecture + "\"]}";
    }
    std::string safetensors(const std::string& from = "", const std::string& to = "\x7f") const {
        SafetensorsBuilder builder;
        for (const auto& [name, tensor] : tensors)
            if (name >= from && name < to) builder.add(name, tensor.dtype, tensor.shape, tensor.data);
        return builder.build();
    }
    void install(MemoryFiles& files, const std::string& folder = "m") const {
        files[folder + "/config.json"] = config();
        if (!quantize_config.empty()) files[folder + "/quantize_config.json"] = quantize_config;
        files[folder + "/model.safetensors"] = safetensors();
    }
};
