// A Llama of any size with random GPTQ weights, as the files of a model's folder that exist nowhere: each read copies from a few small
// blocks of random words, as fast as memory allows, so that loading is timed and not this.
#pragma once
#include <pith/env.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

struct Shape {
    uint64_t layers, hidden, heads, kv_heads, ffn, vocab;
    bool tied;
    constexpr uint64_t kv_width() const { return hidden / heads * kv_heads; }
    constexpr uint64_t layer_weights() const { return 2 * hidden * (hidden + kv_width()) + 3 * hidden * ffn; }
};

// How the matrices are quantised.
struct Recipe {
    uint64_t group = 128;
    bool asymmetric = false;  // zero points that differ
    bool act_order = false;   // columns belong to groups in a random order, the same for q, k and v, and for gate and up, as in real files
};

// 0.5b and 72b are Qwen2's, but for its biases: that architecture is not among those read yet.
inline const std::vector<std::string>& shape_names() {
    static const std::vector<std::string> names{"tiny", "0.5b", "1b", "7b", "8b", "33b", "72b"};
    return names;
}
inline const Shape* find_shape(std::string_view name) {
    static constexpr Shape kShapes[] = {
        {12, 768, 12, 12, 2048, 32000, false},   {24, 896, 14, 2, 4864, 151936, true},    {16, 2048, 32, 8, 8192, 128256, true},
        {32, 4096, 32, 32, 11008, 32000, false}, {32, 4096, 32, 8, 14336, 128256, false}, {60, 6656, 52, 52, 17920, 32000, false},
        {80, 8192, 64, 8, 29568, 152064, false},
    };
    for (size_t i = 0; i < shape_names().size(); i++)
        if (shape_names()[i] == name) return &kShapes[i];
    return nullptr;
}

class RandomModel {
public:
    explicit RandomModel(const Shape& shape, uint64_t context, const Recipe& recipe = {}) : shape_(shape), recipe_(recipe) {
        add_tensors();
        write_header();
        write_config(context);
    }
    RandomModel(const RandomModel&) = delete;

    pith_files files() {
        return {sizeof(pith_files), this,
                [](void* user, const char* name, void** file, uint64_t* size) {
                    return static_cast<RandomModel*>(user)->open(name, file, size);
                },
                [](void* user, void* file, uint64_t offset, void* to, size_t size) {
                    return static_cast<RandomModel*>(user)->read(file, offset, static_cast<char*>(to), size);
                },
                [](void*, void*) {}};
    }
    // Bytes of the file's weights that one token needs: all but the embedding, of which it reads one row, unless that is the head too; and
    // without g_idx, which says nothing here.
    uint64_t bytes_per_token() const { return bytes_per_token_; }
    // Of those, by PITH_MODEL_HEAD_8BIT: from two bytes a weight to one, and four for each 128.
    uint64_t saved_by_head8() const { return shape_.vocab * (shape_.hidden * 2 - shape_.hidden - (shape_.hidden + 127) / 128 * 4); }
    // What a backend can't do without at an empty cache: the same without zero points that are all alike, and with one embedding row.
    uint64_t bytes_that_must_be_read() const { return bytes_per_token_ - (recipe_.asymmetric ? 0 : zero_bytes_) + shape_.hidden * 2; }
    // Of keys and values, for each position that came before.
    uint64_t cache_bytes_per_position() const { return shape_.layers * shape_.kv_width() * 2 * 2; }
    uint64_t parameters() const { return parameters_; }
    const Shape& shape() const { return shape_; }

private:
    enum class Fill { Codes, Zeros, Scales, Groups, Ones, Halves };
    // A tensor is a block over and over, from `phase` on. A prime number of words: no two rows of a matrix are alike.
    static constexpr uint64_t kBlockWords = 524287, kConstantWords = 8192;
    struct Block {
        Fill fill;
        uint64_t pattern;  // what Scales and Halves are made from; Groups: inputs
        std::vector<uint64_t> words;
    };
    struct Tensor {
        std::string name;
        const char* type;
        uint64_t rows, columns;  // rows 0: one axis
        uint64_t start, bytes;
        size_t block;
        uint64_t phase;  // in bytes
    };

    static uint64_t repeat(uint64_t half) { return half * 0x0001000100010001u; }
    static uint64_t mix(uint64_t x) {
        x += 0x9e3779b97f4a7c15u;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        return x ^ (x >> 31);
    }
    // The bits of a normal float16 near `value`, the low seven zero, so that noise can be added.
    static uint64_t half_near(double value) {
        int exponent;
        const double mantissa = std::frexp(value, &exponent);  // 0.5 .. 1
        return static_cast<uint64_t>(exponent + 14) << 10 | (static_cast<uint64_t>((2 * mantissa - 1) * 8) << 7);
    }

    size_t block(Fill fill, uint64_t pattern) {
        for (size_t i = 0; i < blocks_.size(); i++)
            if (blocks_[i].fill == fill && blocks_[i].pattern == pattern) return i;
        Block made{fill, pattern, {}};
        if (fill == Fill::Groups) {
            make_groups(pattern, made.words);
        } else {
            const bool constant = fill == Fill::Ones || (fill == Fill::Zeros && !recipe_.asymmetric);
            made.words.resize(constant ? kConstantWords : kBlockWords);
            for (size_t i = 0; i < made.words.size(); i++) made.words[i] = word(made, mix((blocks_.size() << 32) + i));
        }
        blocks_.push_back(std::move(made));
        return blocks_.size() - 1;
    }
    uint64_t word(const Block& of, uint64_t random) const {
        switch (of.fill) {
            case Fill::Codes:
                return random;
            case Fill::Zeros:  // one less than meant, as the format stores them: 8, or 7 to 10
                return recipe_.asymmetric ? (random & 0x3333333333333333u) + 0x6666666666666666u : 0x7777777777777777u;
            case Fill::Scales:
                return repeat(of.pattern) + (random & repeat(0x7f));
            case Fill::Ones:
                return repeat(0x3c00);
            default:
                return (random & repeat(0x83ff)) | repeat(of.pattern << 10);
        }
    }
    void make_groups(uint64_t inputs, std::vector<uint64_t>& words) const {
        std::vector<uint32_t> group_of(inputs);
        for (uint64_t i = 0; i < inputs; i++) group_of[i] = static_cast<uint32_t>(i / recipe_.group);
        for (uint64_t i = inputs - 1; recipe_.act_order && i; i--) std::swap(group_of[i], group_of[mix(i) % (i + 1)]);
        words.resize((inputs * 4 + 7) / 8);
        std::memcpy(words.data(), group_of.data(), inputs * 4);
    }

    void add(const std::string& name, const char* type, uint64_t rows, uint64_t columns, Fill fill, uint64_t pattern = 0,
             uint64_t turned = 0) {
        const uint64_t elements = (rows ? rows : 1) * columns, bytes = elements * (std::string_view(type) == "F16" ? 2 : 4);
        const size_t from = block(fill, pattern);
        const uint64_t phase = (fill == Fill::Groups ? turned : mix(data_bytes_)) % blocks_[from].words.size() * 8;
        tensors_.push_back({name, type, rows, columns, data_bytes_, bytes, from, phase});
        data_bytes_ += (bytes + 7) & ~uint64_t{7};
        if (name != "model.embed_tokens.weight" && fill != Fill::Groups) bytes_per_token_ += bytes;
        if (fill == Fill::Zeros) zero_bytes_ += bytes;
        parameters_ += fill == Fill::Codes ? elements * 8 : fill == Fill::Ones || fill == Fill::Halves ? elements : 0;
    }
    // `order`: matrices of the same input have the same order of columns.
    void add_linear(const std::string& name, uint64_t inputs, uint64_t outputs, uint64_t order) {
        const uint64_t groups = (inputs + recipe_.group - 1) / recipe_.group;
        // Codes less 8 spread by 4.6, so that this keeps the spread of the activations.
        const double scale = 1 / (4.6 * std::sqrt(static_cast<double>(inputs)));
        add(name + ".qweight", "I32", inputs / 8, outputs, Fill::Codes);
        add(name + ".qzeros", "I32", groups, outputs / 8, Fill::Zeros);
        add(name + ".scales", "F16", groups, outputs, Fill::Scales, half_near(scale));
        add(name + ".g_idx", "I32", 0, inputs, Fill::Groups, inputs, recipe_.act_order ? order * 61 : 0);
    }
    void add_tensors() {
        const uint64_t kv = shape_.kv_width();
        add("model.embed_tokens.weight", "F16", shape_.vocab, shape_.hidden, Fill::Halves, 9);  // 2^-6 to 2^-5
        for (uint64_t i = 0; i < shape_.layers; i++) {
            const std::string layer = "model.layers." + std::to_string(i) + ".";
            add(layer + "input_layernorm.weight", "F16", 0, shape_.hidden, Fill::Ones);
            add_linear(layer + "self_attn.q_proj", shape_.hidden, shape_.hidden, 4 * i);
            add_linear(layer + "self_attn.k_proj", shape_.hidden, kv, 4 * i);
            add_linear(layer + "self_attn.v_proj", shape_.hidden, kv, 4 * i);
            add_linear(layer + "self_attn.o_proj", shape_.hidden, shape_.hidden, 4 * i + 1);
            add(layer + "post_attention_layernorm.weight", "F16", 0, shape_.hidden, Fill::Ones);
            add_linear(layer + "mlp.gate_proj", shape_.hidden, shape_.ffn, 4 * i + 2);
            add_linear(layer + "mlp.up_proj", shape_.hidden, shape_.ffn, 4 * i + 2);
            add_linear(layer + "mlp.down_proj", shape_.ffn, shape_.hidden, 4 * i + 3);
        }
        add("model.norm.weight", "F16", 0, shape_.hidden, Fill::Ones);
        if (shape_.tied)
            bytes_per_token_ += tensors_[0].bytes;
        else
            add("lm_head.weight", "F16", shape_.vocab, shape_.hidden, Fill::Halves, 9);
    }
    void write_header() {
        std::string json = "{";
        for (const Tensor& t : tensors_) {
            const std::string shape = t.rows ? std::to_string(t.rows) + "," + std::to_string(t.columns) : std::to_string(t.columns);
            json += (json.size() > 1 ? ",\"" : "\"") + t.name + "\":{\"dtype\":\"" + t.type + "\",\"shape\":[" + shape +
                    "],\"data_offsets\":[" + std::to_string(t.start) + "," + std::to_string(t.start + t.bytes) + "]}";
        }
        json += "}";
        json.append((8 - json.size() % 8) % 8, ' ');
        for (int i = 0; i < 8; i++) header_.push_back(static_cast<char>(json.size() >> (8 * i) & 255));
        header_ += json;
    }
    void write_config(uint64_t context) {
        const auto field = [&](const char* name, uint64_t value) {
            config_.append("\"").append(name).append("\":").append(std::to_string(value)).append(",");
        };
        config_ = "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_act\":\"silu\",";
        field("hidden_size", shape_.hidden);
        field("intermediate_size", shape_.ffn);
        field("num_hidden_layers", shape_.layers);
        field("num_attention_heads", shape_.heads);
        field("num_key_value_heads", shape_.kv_heads);
        field("vocab_size", shape_.vocab);
        field("max_position_embeddings", std::max<uint64_t>(context, 4096));
        config_ += "\"rms_norm_eps\":1e-05,\"rope_theta\":10000.0,\"torch_dtype\":\"float16\",\"tie_word_embeddings\":";
        config_ += shape_.tied ? "true" : "false";
        config_ += ",\"quantization_config\":{";
        field("bits", 4);
        field("group_size", recipe_.group);
        config_ += std::string("\"desc_act\":") + (recipe_.act_order ? "true" : "false");
        config_ += std::string(",\"sym\":") + (recipe_.asymmetric ? "false" : "true");
        config_ += ",\"lm_head\":false,\"quant_method\":\"gptq\",\"checkpoint_format\":\"gptq\"}}";
    }

    int32_t open(std::string_view name, void** file, uint64_t* size) {
        const size_t slash = name.rfind('/');
        if (slash != name.npos) name = name.substr(slash + 1);
        if (name != "config.json" && name != "model.safetensors") return 2;
        *file = name == "config.json" ? &config_ : &header_;
        *size = name == "config.json" ? config_.size() : header_.size() + data_bytes_;
        return 0;
    }
    int32_t read(const void* file, uint64_t offset, char* to, size_t size) const {
        const std::string& text = *static_cast<const std::string*>(file);
        if (offset < text.size()) {
            const size_t part = std::min<size_t>(size, text.size() - offset);
            std::memcpy(to, text.data() + offset, part);
            offset += part;
            to += part;
            size -= part;
        }
        if (size == 0) return 0;
        if (&text == &config_ || offset - text.size() > data_bytes_ || size > data_bytes_ - (offset - text.size())) return 5;
        generate(offset - text.size(), to, size);
        return 0;
    }
    void generate(uint64_t offset, char* to, size_t size) const {
        auto t = std::upper_bound(tensors_.begin(), tensors_.end(), offset, [](uint64_t at, const Tensor& x) { return at < x.start; }) - 1;
        for (; size; t++) {
            const uint64_t end = t + 1 == tensors_.end() ? data_bytes_ : (t + 1)->start;
            const size_t part = static_cast<size_t>(std::min<uint64_t>(size, end - offset));
            fill(*t, offset - t->start, to, part);
            offset += part;
            to += part;
            size -= part;
        }
    }
    // Bytes [offset, offset + size) of a tensor.
    void fill(const Tensor& t, uint64_t offset, char* to, size_t size) const {
        const std::vector<uint64_t>& words = blocks_[t.block].words;
        const char* bytes = reinterpret_cast<const char*>(words.data());
        const uint64_t period = words.size() * 8;
        for (uint64_t at = (t.phase + offset) % period; size; at = 0) {
            const size_t part = static_cast<size_t>(std::min<uint64_t>(size, period - at));
            std::memcpy(to, bytes + at, part);
            to += part;
            size -= part;
        }
    }

    Shape shape_;
    Recipe recipe_;
    std::vector<Block> blocks_;
    std::vector<Tensor> tensors_;
    std::string header_, config_;
    uint64_t data_bytes_ = 0, bytes_per_token_ = 0, zero_bytes_ = 0, parameters_ = 0;
};

}  // namespace bench
