// A model's folder: its safetensors shards, open, and one table of all their tensors.
#pragma once
#include "io/mapping.h"
#include "io/safetensors.h"

namespace pith {

struct Shard {
    const char* name;  // "model-00001-of-00002.safetensors"
    File file;
    Mapping mapping;  // data() == NULL unless asked for
    TensorTable table;
};

struct FoundTensor {
    const Tensor* tensor;  // NULL: no such tensor
    uint32_t shard;
};

class ModelDir {
public:
    explicit ModelDir(const Allocator& allocator) : arena_(allocator) {}
    ~ModelDir() { reset(); }
    ModelDir(ModelDir&&) = delete;

    // `files` must outlive this. `base_name` (or NULL): another name than "model" that the config knows the weights by. After a
    // failure this is empty. A pickled or GGUF folder is PITH_E_UNSUPPORTED.
    pith_status open(const Files& files, const char* path, const char* base_name, bool map, pith_error* error);
    void reset();

    FoundTensor find(std::string_view name) const;
    std::span<const Shard> shards() const { return {shards_, shard_count_}; }
    std::span<const FoundTensor> tensors() const { return {all_, all_count_}; }  // sorted by name

private:
    pith_status find_shards(const Files& files, const char* path, const char* base_name, pith_error* error);
    pith_status make_shards(std::span<const char* const> names, pith_error* error);
    pith_status read_index(std::string_view text, pith_error* error);
    pith_status open_shards(const Files& files, const char* path, bool map, pith_error* error);
    pith_status merge(pith_error* error);
    pith_status check_index(pith_error* error) const;

    struct Mapped {  // an entry of the index
        std::string_view tensor, shard;
    };
    Arena arena_;
    Shard* shards_ = nullptr;
    uint32_t shard_count_ = 0;
    FoundTensor* all_ = nullptr;
    size_t all_count_ = 0;
    Mapped* index_ = nullptr;
    size_t index_count_ = 0;
};

}  // namespace pith
