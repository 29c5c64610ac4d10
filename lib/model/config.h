// config.json as data: what a Llama-style decoder is made of, every number within the range that later arithmetic relies on.
#pragma once
#include "base/array.h"
#include "base/status.h"
#include "io/files.h"

namespace pith {

enum class RopeKind : uint8_t { Default, Linear, Dynamic, Llama3, Yarn };

struct RopeConfig {
    RopeKind kind = RopeKind::Default;
    bool truncate = true;           // Yarn: whole dimensions as the ramp's ends
    uint32_t original_context = 0;  // Llama3, Yarn: the context length of the training before
    double theta = 10000;
    double factor = 1;                                           // all but Default; >= 1
    double low_frequency_factor = 1, high_frequency_factor = 4;  // Llama3
    double beta_fast = 32, beta_slow = 1;                        // Yarn
    double attention_factor = 0;                                 // Yarn; 0: by the rule
    double mscale = 0, mscale_all_dim = 0;                       // Yarn; 0: not given
};

// What quantize_config.json says. Tensors decide which layers are quantised; this decides what their bits mean.
struct QuantConfig {
    bool present = false;
    bool symmetric = true;     // also when not said
    bool act_order = false;    // desc_act
    bool v2 = false;           // checkpoint_format "gptq_v2": zero points stored as they are
    uint32_t group = 0;        // columns that share a scale; 0: a whole row (group_size -1), or not said
    char base_name[128] = {};  // of the weight file, if it has another one than "model"; else ""
};

struct Config {
    char architecture[64] = {};  // "LlamaForCausalLM"
    uint32_t vocab_size = 0, hidden = 0, intermediate = 0, layers = 0;
    uint32_t heads = 0, kv_heads = 0, head_dim = 0;
    uint32_t context_length = 0;  // max_position_embeddings
    uint32_t sliding_window = 0;  // keys that a position sees, itself included; 0: all
    float rms_eps = 1e-6f;
    bool tied = false;            // tie_word_embeddings
    bool attention_bias = false;  // on q, k, v and o
    bool mlp_bias = false;        // on gate, up and down
    RopeConfig rope;
    QuantConfig quant;
    uint32_t q_width() const { return heads * head_dim; }
    uint32_t kv_width() const { return kv_heads * head_dim; }
};

// Range of the numbers above: far beyond every released model, and products of any three fit 64 bits.
inline constexpr uint32_t kMaxVocab = 1u << 24, kMaxWidth = 1u << 20, kMaxLayers = 1024, kMaxHeadDim = 1024, kMaxContext = 1u << 27;

// From the folder's config.json, quantize_config.json and quant_config.json. `allocator` is for the while of the call. *config is
// written on success only. PITH_E_UNSUPPORTED names the architecture, rope type, activation, ... that is not run here.
pith_status read_config(const Files& files, const Allocator& allocator, const char* path, Config* config, pith_error* error);

}  // namespace pith
