// What the fuzz targets share: files in memory, an allocator with a budget, and a tiny valid model to damage.
#pragma once
#include <pith/pith.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <map>
#include <string>
#include <vector>

namespace fuzz {

using Bytes = std::string;
using Folder = std::map<std::string, Bytes>;  // name without the folder -> contents

struct Disk {
    const Folder* folder;
    static int32_t open(void* user, const char* name, void** file, uint64_t* size) {
        const char* slash = strrchr(name, '/');
        const Folder& folder = *static_cast<Disk*>(user)->folder;
        const auto found = folder.find(slash ? slash + 1 : name);
        if (found == folder.end()) return -1;
        *file = const_cast<Bytes*>(&found->second);
        *size = found->second.size();
        return 0;
    }
    static int32_t read(void*, void* file, uint64_t offset, void* to, size_t size) {
        const Bytes& bytes = *static_cast<const Bytes*>(file);
        if (offset > bytes.size() || size > bytes.size() - offset) __builtin_trap();  // asked past the end: a missing check
        memcpy(to, bytes.data() + offset, size);
        return 0;
    }
    static void close(void*, void*) {}
};

// Memory out at once may be `budget` bytes: what a file can make the library allocate before it is trusted is bounded.
struct Heap {
    uint64_t live = 0, budget = 0;
    static void* alloc(void* user, size_t size, size_t alignment) {
        Heap& h = *static_cast<Heap*>(user);
        if (size > h.budget || h.live > h.budget - size) return nullptr;
        void* p = nullptr;
        if (posix_memalign(&p, alignment < sizeof(void*) ? sizeof(void*) : alignment, size)) return nullptr;
        h.live += size;
        return p;
    }
    static void release(void* user, void* memory, size_t size, size_t) {
        static_cast<Heap*>(user)->live -= size;
        free(memory);
    }
};

// An env over a folder; at the end nothing may be left.
class Env {
public:
    explicit Env(const Folder& folder, uint64_t budget = 64 << 20) : disk_{&folder} {
        heap_.budget = budget;
        const pith_allocator allocator{sizeof allocator, &heap_, Heap::alloc, Heap::release};
        const pith_files files{sizeof files, &disk_, Disk::open, Disk::read, Disk::close};
        pith_env_options options{};
        options.struct_size = sizeof options;
        options.allocator = &allocator;
        options.files = &files;
        if (pith_env_create(&options, &env_, nullptr) != PITH_OK) __builtin_trap();
    }
    ~Env() {
        pith_env_destroy(env_);
        if (heap_.live) __builtin_trap();  // a leak
    }
    Env(const Env&) = delete;
    pith_env* get() const { return env_; }
    uint64_t live() const { return heap_.live; }

private:
    Disk disk_;
    Heap heap_;
    pith_env* env_ = nullptr;
};

// A failure must say what it is, in terminated, printable UTF-8.
inline void check_error(pith_status status, const pith_error& error) {
    if (status == PITH_OK) return;
    if (error.status != status || !error.message[0] || !memchr(error.message, 0, sizeof error.message)) __builtin_trap();
}

struct Tensor {
    const char* dtype;
    std::vector<uint64_t> shape;
    Bytes data;
};

inline Bytes safetensors(const std::map<std::string, Tensor>& tensors) {
    Bytes header = "{", data;
    for (const auto& [name, t] : tensors) {
        if (header.size() > 1) header += ",";
        header += "\"" + name + "\":{\"dtype\":\"" + t.dtype + "\",\"shape\":[";
        for (size_t i = 0; i < t.shape.size(); i++) header += (i ? "," : "") + std::to_string(t.shape[i]);
        header += "],\"data_offsets\":[" + std::to_string(data.size()) + ",";
        data += t.data;
        header += std::to_string(data.size()) + "]}";
    }
    header += "}";
    Bytes file(8, '\0');
    const uint64_t size = header.size();
    memcpy(file.data(), &size, 8);
    return file + header + data;
}

inline Bytes filled(size_t bytes, unsigned char with = 0x2C) { return Bytes(bytes, static_cast<char>(with)); }

inline const char* const kConfig =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":32,\"intermediate_size\":64,\"num_attention_heads\":2,"
    "\"num_key_value_heads\":1,\"num_hidden_layers\":1,\"vocab_size\":40,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,"
    "\"hidden_act\":\"silu\",\"rope_theta\":10000.0,\"tie_word_embeddings\":true}";

// F16 everywhere: hidden 32, 2 heads of 16 over 1, inner 64, 40 tokens, one layer, tied head.
inline std::map<std::string, Tensor> tiny_tensors() {
    const auto dense = [](uint64_t rows, uint64_t cols) { return Tensor{"F16", {rows, cols}, filled(rows * cols * 2)}; };
    const std::string l = "model.layers.0.";
    return {{"model.embed_tokens.weight", dense(40, 32)},
            {"model.norm.weight", {"F16", {32}, filled(64)}},
            {l + "input_layernorm.weight", {"F16", {32}, filled(64)}},
            {l + "post_attention_layernorm.weight", {"F16", {32}, filled(64)}},
            {l + "self_attn.q_proj.weight", dense(32, 32)},
            {l + "self_attn.k_proj.weight", dense(16, 32)},
            {l + "self_attn.v_proj.weight", dense(16, 32)},
            {l + "self_attn.o_proj.weight", dense(32, 32)},
            {l + "mlp.gate_proj.weight", dense(64, 32)},
            {l + "mlp.up_proj.weight", dense(64, 32)},
            {l + "mlp.down_proj.weight", dense(32, 64)}};
}

// Opens, loads and runs whatever the folder holds; every status is fine, nothing else is.
inline void run_model(const Folder& folder) {
    uint64_t honest = 0;
    for (const auto& [name, bytes] : folder) honest += bytes.size();
    Env env(folder, (16 << 20) + honest * 8);
    pith_error error{};
    pith_model* model = nullptr;
    check_error(pith_model_open(env.get(), "m", nullptr, &model, &error), error);
    if (!model) return;
    // Nothing but tables so far.
    if (env.live() > (1 << 20) + honest * 4) __builtin_trap();
    pith_status status;
    uint64_t left = 1;
    for (int i = 0; left && i < 64; i++) {
        status = pith_model_load(model, honest / 8 + 1, &left, &error);
        check_error(status, error);
        if (status != PITH_OK) break;
    }
    pith_session_options options{};
    options.struct_size = sizeof options;
    options.context_length = 8;
    options.batch_length = 4;
    pith_session* session = nullptr;
    if (left == 0) {
        check_error(pith_session_create(model, &options, &session, &error), error);
        const pith_token ids[] = {0, 1, 2, 3, 0, 1};
        if (session) check_error(pith_session_forward(session, ids, 6, 1, &error), error);
        pith_session_destroy(session);
    }
    pith_model_destroy(model);
}

}  // namespace fuzz
