// A model's files opened and checked: views of every tensor the forward pass reads, none of them loaded yet.
#pragma once
#include "io/model_dir.h"
#include "model/config.h"

namespace pith {

// Where a tensor lies. Zeroed (name NULL): there is none.
struct TensorView {
    const char* name;        // NUL-terminated
    uint64_t offset, bytes;  // in its shard's file
    uint64_t shape[2];
    uint32_t rank;  // 1 or 2
    uint32_t shard;
    Dtype dtype;
    bool exists() const { return name != nullptr; }
};

// y = W x + bias, W [rows, cols] (outputs, inputs).
struct Linear {
    enum Kind : uint8_t { Dense, Gptq };
    const char* name;  // "model.layers.0.self_attn.q_proj"
    uint32_t rows, cols;
    Kind kind;

    TensorView weight;  // Dense: [rows, cols], F16, BF16 or F32
    TensorView bias;    // [rows], F16, BF16 or F32; often absent

    // Gptq: 4 bits a weight, W[n][k] = scales[g][n] * (q[k][n] - (zero[g][n] + zero_offset)), both rows and cols multiples of 8
    TensorView qweight;    // I32 [cols / 8, rows]
    TensorView qzeros;     // I32 [groups, rows / 8]
    TensorView scales;     // F16, BF16 or F32 [groups, rows]; not yet searched for NaN and Inf: see scan_finite
    uint32_t group;        // a multiple of 32; position p belongs to group p / group. One group only: cols rounded up to 32
    uint32_t groups;       // ceil(cols / group); the last may be short
    uint32_t zero_offset;  // 1: v1 files store zero - 1 (a stored 15 means 16: no wrap); 0: v2
    bool symmetric;        // every zero point is 8: all were read at open
    const uint32_t* perm;  // act-order: [cols], sorted position -> original column; NULL: the identity. In the model's arena;
                           // linears that share an input and have equal perms share the pointer
};

struct Layer {
    TensorView input_norm, post_attention_norm;  // [hidden], F16, BF16 or F32
    Linear q, k, v, o, gate, up, down;
};

struct ModelFile {
    explicit ModelFile(const Allocator& allocator) : arena(allocator), dir(allocator) {}  // the allocator must outlive this

    Arena arena;
    ModelDir dir;
    Config config;
    Linear embed{};           // Dense [vocab, hidden]
    Linear head{};            // [vocab, hidden], Dense or Gptq; tied: equal to embed
    bool tied = false;        // the head is the embedding: load it once
    TensorView final_norm{};  // [hidden]
    std::span<Layer> layers;
    uint64_t parameters = 0;    // weights the file stands for, a tied embedding counted once
    uint64_t weight_bytes = 0;  // of the tensors used, as the file has them
};

// Opens the Hugging Face folder `path` and checks every tensor that config.json asks for. Reads headers, configs, g_idx and zero
// points. `files` and `allocator` must outlive *out, which is freshly constructed and stays empty if this fails. `map`: shards are
// mapped (the system's files only).
pith_status open_model(const Files& files, const Allocator& allocator, const char* path, ModelFile* out, pith_error* error,
                       bool map = false);

// `size` bytes of the tensor from `offset` on. PITH_E_ARGUMENT past its end.
pith_status read_tensor(const ModelFile& model, const TensorView& tensor, uint64_t offset, void* to, size_t size, pith_error* error);
// The tensor's bytes if its shard is mapped, else NULL. No alignment is promised.
const uint8_t* mapped_tensor(const ModelFile& model, const TensorView& tensor);

// Index of the first NaN or Inf among `count` values of F16, BF16 or F32, or `count`. `values` needs no alignment.
size_t scan_finite(Dtype dtype, const void* values, size_t count);

}  // namespace pith
