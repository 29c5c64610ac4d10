// Finding, opening and merging the shards of a model's folder.
#include "io/model_dir.h"

#include <stdio.h>

#include <algorithm>

#include "base/json.h"

namespace pith {
namespace {

constexpr uint64_t kMaxIndex = 100000000;  // bytes; real ones have at most a few million
constexpr size_t kMaxShards = 1024;        // each is an open file
constexpr const char* kIndexName = "model.safetensors.index.json";

// A plain name of a file in the same folder. What such a name links to is the folder's owner's business: download caches keep
// every file of a model as a link out of its folder, so links are followed. Paths in an index are not: those come from strangers.
bool is_plain_name(std::string_view name) {
    if (name.empty() || name == "." || name == "..") return false;
    for (const char c : name)
        if (c == '/' || c == '\\' || c == ':' || static_cast<unsigned char>(c) < 0x20) return false;
    return true;
}

pith_status found_other_format(const Files& files, Arena& scratch, const char* path, pith_error* error) {
    struct Other {
        const char* name;
        const char* format;
    };
    constexpr Other kOthers[] = {
        {"pytorch_model.bin", "a pickled PyTorch file"},
        {"pytorch_model.bin.index.json", "pickled PyTorch files"},
        {"model.gguf", "a GGUF file"},
        {"consolidated.safetensors", "a model in Mistral's own layout"},
        {"consolidated.00.pth", "a model in Meta's own layout"},
        {"tf_model.h5", "a TensorFlow file"},
        {"flax_model.msgpack", "a Flax file"},
    };
    for (const Other& other : kOthers) {
        const char* name = join_path(scratch, path, other.name);
        if (!name) return fail_memory(error, "a path", 0);
        if (file_exists(files, name))
            return fail(error, PITH_E_UNSUPPORTED, "%s: found %s (%s), expected model.safetensors or %s", path, other.name, other.format,
                        kIndexName);
    }
    return PITH_OK;
}

}  // namespace

pith_status ModelDir::open(const Files& files, const char* path, const char* base_name, bool map, pith_error* error) {
    reset();
    pith_status status = find_shards(files, path, base_name, error);
    if (status == PITH_OK) status = open_shards(files, path, map, error);
    if (status == PITH_OK) status = merge(error);
    if (status == PITH_OK) status = check_index(error);
    if (status != PITH_OK) reset();
    return status;
}

void ModelDir::reset() {
    for (uint32_t i = 0; i < shard_count_; i++) shards_[i].~Shard();
    shards_ = nullptr;
    all_ = nullptr;
    index_ = nullptr;
    shard_count_ = 0;
    all_count_ = index_count_ = 0;
    arena_.reset();
}

FoundTensor ModelDir::find(std::string_view name) const {
    const std::span<const FoundTensor> all = tensors();
    const auto at =
        std::lower_bound(all.begin(), all.end(), name, [](const FoundTensor& a, std::string_view b) { return a.tensor->name < b; });
    return at != all.end() && at->tensor->name == name ? *at : FoundTensor{};
}

// Makes shards_ with their names; no file is open yet.
pith_status ModelDir::find_shards(const Files& files, const char* path, const char* base_name, pith_error* error) {
    const char* index_path = join_path(arena_, path, kIndexName);
    if (!index_path) return fail_memory(error, "a path", 0);
    Array<char> text(arena_.allocator());
    bool found = false;
    PITH_TRY(read_optional_file(files, index_path, kMaxIndex, &text, &found, error));
    if (found) return read_index({text.data(), text.size()}, error);

    const char* single = "model.safetensors";
    const char* single_path = join_path(arena_, path, single);
    if (!single_path) return fail_memory(error, "a path", 0);
    if (base_name && !file_exists(files, single_path)) {
        char other[160];
        snprintf(other, sizeof other, "%s.safetensors", base_name);
        const char* other_name = is_plain_name(base_name) ? arena_.copy(other) : single;
        const char* other_path = other_name ? join_path(arena_, path, other_name) : nullptr;
        if (!other_path) return fail_memory(error, "a path", 0);
        if (file_exists(files, other_path)) single = other_name;
    }
    return make_shards({&single, 1}, error);
}

pith_status ModelDir::make_shards(std::span<const char* const> names, pith_error* error) {
    shards_ = static_cast<Shard*>(arena_.bytes(names.size() * sizeof(Shard), alignof(Shard)));
    if (!shards_) return fail_memory(error, "a table of shards", names.size() * sizeof(Shard));
    for (const char* name : names) {
        Shard* shard = new (&shards_[shard_count_++]) Shard{};
        shard->name = name;
    }
    return PITH_OK;
}

pith_status ModelDir::read_index(std::string_view text, pith_error* error) {
    const Json* root = nullptr;
    JsonLimits limits;
    limits.values = text.size() / 8 + 64;                                  // an entry takes 18 bytes at least
    PITH_TRY(json_parse(text, kIndexName, arena_, &root, error, limits));  // index_ keeps pointers into it
    const Json* map = root->find("weight_map");
    if (!map || !map->is(Json::Object) || map->size == 0)
        return fail(error, PITH_E_FORMAT, "%s: weight_map: expected an object with members", kIndexName);
    index_ = arena_.make<Mapped>(map->size);
    Array<const char*> names(arena_.allocator());
    if (!index_ || !names.reserve(map->size)) return fail_memory(error, kIndexName, map->size * sizeof(Mapped));
    for (size_t i = 0; i < map->size; i++) {
        const JsonMember& member = map->members[i];
        if (!member.value.is(Json::String) || !is_plain_name(member.value.text()))
            return fail(error, PITH_E_FORMAT, "%s: tensor %s: expected the plain name of a file in the same folder", kIndexName,
                        member.key);
        const std::string_view shard = member.value.text();
        if (!ends_with(shard, ".safetensors"))
            return fail(error, PITH_E_UNSUPPORTED, "%s: tensor %s is in %s, which is not a safetensors file", kIndexName, member.key,
                        shard.data());
        index_[index_count_++] = {member.name(), shard};
        if (!names.push(shard.data())) return fail_memory(error, kIndexName, map->size * sizeof(const char*));
    }
    std::sort(names.begin(), names.end(), [](const char* a, const char* b) { return strcmp(a, b) < 0; });
    const auto end = std::unique(names.begin(), names.end(), [](const char* a, const char* b) { return strcmp(a, b) == 0; });
    names.shrink(static_cast<size_t>(end - names.begin()));
    if (names.size() > kMaxShards)
        return fail(error, PITH_E_LIMIT, "%s: %zu files, more than the %zu allowed", kIndexName, names.size(), kMaxShards);
    return make_shards(names.span(), error);
}

pith_status ModelDir::open_shards(const Files& files, const char* path, bool map, pith_error* error) {
    for (uint32_t i = 0; i < shard_count_; i++) {
        Shard& shard = shards_[i];
        const char* shard_path = join_path(arena_, path, shard.name);
        if (!shard_path) return fail_memory(error, "a path", 0);
        pith_error problem{};
        const pith_status status = shard.file.open(files, shard_path, &problem);
        if (status != PITH_OK) {
            if (index_count_ == 0) PITH_TRY(found_other_format(files, arena_, path, error));
            if (error) *error = problem;
            return status;
        }
        PITH_TRY(read_safetensors(shard.file, shard_path, arena_, &shard.table, error));
        if (map) PITH_TRY(shard.mapping.map(shard.file, error));
    }
    return PITH_OK;
}

pith_status ModelDir::merge(pith_error* error) {
    size_t total = 0;
    for (const Shard& shard : shards()) total += shard.table.tensors.size();
    all_ = arena_.make<FoundTensor>(total);
    if (!all_) return fail_memory(error, "a table of tensors", total * sizeof(FoundTensor));
    for (uint32_t i = 0; i < shard_count_; i++)
        for (const Tensor& tensor : shards_[i].table.tensors) all_[all_count_++] = {&tensor, i};
    std::sort(all_, all_ + all_count_, [](const FoundTensor& a, const FoundTensor& b) { return a.tensor->name < b.tensor->name; });
    for (size_t i = 1; i < all_count_; i++)
        if (all_[i].tensor->name == all_[i - 1].tensor->name)
            return fail(error, PITH_E_FORMAT, "tensor %s is in both %s and %s", all_[i].tensor->name.data(),
                        shards_[all_[i - 1].shard].name, shards_[all_[i].shard].name);
    return PITH_OK;
}

pith_status ModelDir::check_index(pith_error* error) const {
    for (size_t i = 0; i < index_count_; i++) {
        const FoundTensor found = find(index_[i].tensor);
        if (!found.tensor || index_[i].shard != shards_[found.shard].name)
            return fail(error, PITH_E_FORMAT, "%s: tensor %s is not in %s", kIndexName, index_[i].tensor.data(), index_[i].shard.data());
    }
    return PITH_OK;
}

}  // namespace pith
