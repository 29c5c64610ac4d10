// Matching a model's config with its tensors.
#include "model/weights.h"

#include <stdio.h>

#include "model/views.h"

namespace pith {
namespace {

// What a module holds instead of weight or qweight in formats that are not read.
constexpr struct {
    const char* suffix;
    const char* format;
} kOtherFormats[] = {
    {"q_weight", "EXL2"},
    {"trellis", "EXL3"},
    {"weight_packed", "compressed-tensors"},
    {"B", "Marlin"},
    {"weight_scale", "a scaled 8-bit format"},
    {"weight_scale_inv", "a scaled 8-bit format"},
    {"SCB", "bitsandbytes"},
    {"weight.absmax", "bitsandbytes"},
    {"weight.quant_state.bitsandbytes__nf4", "bitsandbytes"},
    {"codebooks", "AQLM"},
    {"W_q", "HQQ"},
};

class Opener {
public:
    Opener(const Allocator& allocator, ModelFile& model, pith_error* error)
        : model_(model), config_(model.config), chunk_(allocator), error_(error) {}

    pith_status run(const Files& files, const Allocator& allocator, const char* path, bool map) {
        PITH_TRY(read_config(files, allocator, path, &model_.config, error_));
        const char* base = config_.quant.base_name[0] ? config_.quant.base_name : nullptr;
        PITH_TRY(model_.dir.open(files, path, base, map, error_));
        if (!chunk_.resize(kChunkWords)) return fail_memory(error_, "a read buffer", kChunkWords * sizeof(uint32_t));
        PITH_TRY(open_ends());
        // Far too few tensors for so many layers: no reason to allocate their table. The layer that lacks one is named below otherwise.
        const size_t tensors = model_.dir.tensors().size();
        if (config_.layers > tensors / 4 + 1)
            return fail(error_, PITH_E_FORMAT, "%s/config.json: num_hidden_layers is %u, but the files hold %zu tensors only", path,
                        config_.layers, tensors);
        Layer* layers = model_.arena.make<Layer>(config_.layers);
        if (!layers) return fail_memory(error_, "a table of layers", config_.layers * sizeof(Layer));
        for (uint32_t i = 0; i < config_.layers; i++) PITH_TRY(open_layer(i, &layers[i]));
        model_.layers = {layers, config_.layers};
        return PITH_OK;
    }

private:
    pith_status open_ends() {
        PITH_TRY(open_linear("model.embed_tokens", config_.vocab_size, config_.hidden, false, {}, &model_.embed));
        if (model_.embed.kind != Linear::Dense) return fail(error_, PITH_E_UNSUPPORTED, "%s: a quantised embedding", model_.embed.name);
        PITH_TRY(open_vector("model.norm", config_.hidden, &model_.final_norm));
        if (config_.tied && !has_tensors("lm_head.")) {
            model_.head = model_.embed;
            model_.tied = true;
            return PITH_OK;
        }
        return open_linear("lm_head", config_.vocab_size, config_.hidden, false, {}, &model_.head);
    }

    pith_status open_layer(uint32_t index, Layer* layer) {
        struct Part {
            const char* name;
            Linear* linear;
            uint32_t rows, cols;
            bool bias;
            std::span<const Linear* const> peers;
        };
        const Linear* const attention[] = {&layer->q, &layer->k};
        const Linear* const mlp[] = {&layer->gate};
        const uint32_t hidden = config_.hidden, inner = config_.intermediate, q = config_.q_width(), kv = config_.kv_width();
        const Part parts[] = {
            {"self_attn.q_proj", &layer->q, q, hidden, config_.attention_bias, {}},
            {"self_attn.k_proj", &layer->k, kv, hidden, config_.attention_bias, {attention, 1}},
            {"self_attn.v_proj", &layer->v, kv, hidden, config_.attention_bias, {attention, 2}},
            {"self_attn.o_proj", &layer->o, hidden, q, config_.attention_bias, {}},
            {"mlp.gate_proj", &layer->gate, inner, hidden, config_.mlp_bias, {}},
            {"mlp.up_proj", &layer->up, inner, hidden, config_.mlp_bias, {mlp, 1}},
            {"mlp.down_proj", &layer->down, hidden, inner, config_.mlp_bias, {}},
        };
        char name[96];
        for (const Part& part : parts) {
            snprintf(name, sizeof name, "model.layers.%u.%s", index, part.name);
            PITH_TRY(open_linear(name, part.rows, part.cols, part.bias, part.peers, part.linear));
        }
        snprintf(name, sizeof name, "model.layers.%u.input_layernorm", index);
        PITH_TRY(open_vector(name, hidden, &layer->input_norm));
        snprintf(name, sizeof name, "model.layers.%u.post_attention_layernorm", index);
        return open_vector(name, hidden, &layer->post_attention_norm);
    }

    pith_status open_vector(const char* module, uint32_t size, TensorView* view) {
        *view = find_view(model_, module, "weight");
        if (!view->exists()) return fail(error_, PITH_E_FORMAT, "tensor %s.weight is missing", module);
        PITH_TRY(expect_float(model_, *view, error_));
        PITH_TRY(expect_shape(model_, *view, size, 0, error_));
        model_.parameters += size;
        model_.weight_bytes += view->bytes;
        return PITH_OK;
    }

    pith_status open_linear(const char* name, uint32_t rows, uint32_t cols, bool bias, std::span<const Linear* const> peers,
                            Linear* linear) {
        linear->name = model_.arena.copy(name);
        if (!linear->name) return fail_memory(error_, "a layer's name", strlen(name));
        linear->rows = rows;
        linear->cols = cols;
        linear->weight = find_view(model_, name, "weight");
        linear->qweight = find_view(model_, name, "qweight");
        PITH_TRY(check_format(*linear));
        if (linear->qweight.exists()) {
            PITH_TRY(open_gptq(model_, chunk_.span(), peers, linear, error_));
        } else {
            PITH_TRY(expect_float(model_, linear->weight, error_));
            PITH_TRY(expect_shape(model_, linear->weight, rows, cols, error_));
        }
        PITH_TRY(open_bias(bias, linear));
        model_.parameters += uint64_t{rows} * cols + (linear->bias.exists() ? rows : 0);
        for (const TensorView* view : {&linear->weight, &linear->qweight, &linear->qzeros, &linear->scales, &linear->bias})
            model_.weight_bytes += view->bytes;
        return PITH_OK;
    }

    // Exactly one of weight and qweight, and no other format's tensors.
    pith_status check_format(const Linear& linear) {
        for (const auto& other : kOtherFormats)
            if (find_view(model_, linear.name, other.suffix).exists())
                return fail(error_, PITH_E_UNSUPPORTED, "tensor %s.%s: the mark of %s; expected plain or GPTQ weights", linear.name,
                            other.suffix, other.format);
        if (linear.weight.exists() && linear.qweight.exists())
            return fail(error_, PITH_E_FORMAT, "%s has both weight and qweight", linear.name);
        if (!linear.weight.exists() && !linear.qweight.exists())
            return fail(error_, PITH_E_FORMAT, "tensor %s.weight is missing, and so is qweight", linear.name);
        return PITH_OK;
    }

    // Old GPTQ writers added an all-zero bias to layers that have none: such a one is dropped, any other is not to be ignored silently.
    pith_status open_bias(bool wanted, Linear* linear) {
        const TensorView bias = find_view(model_, linear->name, "bias");
        if (!bias.exists())
            return wanted ? fail(error_, PITH_E_FORMAT, "tensor %s.bias is missing, and config.json asks for it", linear->name) : PITH_OK;
        PITH_TRY(expect_float(model_, bias, error_));
        PITH_TRY(expect_shape(model_, bias, linear->rows, 0, error_));
        if (wanted) {
            linear->bias = bias;
            return PITH_OK;
        }
        const uint32_t magnitude = bias.dtype == Dtype::F32 ? 0x7fffffffu : 0x7fff7fffu;
        for (uint64_t at = 0; at < bias.bytes; at += kChunkWords * sizeof(uint32_t)) {
            const uint64_t left = bias.bytes - at;
            const size_t size = left < kChunkWords * sizeof(uint32_t) ? static_cast<size_t>(left) : kChunkWords * sizeof(uint32_t);
            chunk_[(size - 1) / sizeof(uint32_t)] = 0;  // an odd number of halves ends within a word
            PITH_TRY(read_tensor(model_, bias, at, chunk_.data(), size, error_));
            for (size_t i = 0; i < (size + 3) / sizeof(uint32_t); i++)
                if (chunk_[i] & magnitude)
                    return fail(error_, PITH_E_FORMAT, "tensor %s is not zero, and config.json knows of no bias", bias.name);
        }
        return PITH_OK;
    }

    bool has_tensors(std::string_view prefix) const {
        for (const FoundTensor& found : model_.dir.tensors())
            if (starts_with(found.tensor->name, prefix)) return true;
        return false;
    }

    ModelFile& model_;
    const Config& config_;
    Array<uint32_t> chunk_;
    pith_error* error_;
};

}  // namespace

pith_status open_model(const Files& files, const Allocator& allocator, const char* path, ModelFile* out, pith_error* error, bool map) {
    const pith_status status = Opener(allocator, *out, error).run(files, allocator, path, map);
    if (status == PITH_OK) return status;
    out->dir.reset();
    out->arena.reset();
    out->config = {};
    out->embed = out->head = {};
    out->tied = false;
    out->final_norm = {};
    out->layers = {};
    out->parameters = out->weight_bytes = 0;
    return status;
}

}  // namespace pith
