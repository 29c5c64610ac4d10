// The host of hostile.h, and what each case must show besides its status: nothing leaks, memory stays in proportion to the files, no
// file outside of the folder is asked for, and a good folder opens with the same env afterwards.
#include "hostile.h"

namespace hostile {
namespace {

constexpr const char* kTokenizer =
    "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}}";

void* take(void* user, size_t size, size_t alignment) {
    Heap& heap = *static_cast<Heap*>(user);
    void* memory = nullptr;
    if (posix_memalign(&memory, alignment < sizeof(void*) ? sizeof(void*) : alignment, size)) return nullptr;
    heap.live += size;
    if (heap.live > heap.peak) heap.peak = heap.live;
    return memory;
}

void give(void* user, void* memory, size_t size, size_t) {
    static_cast<Heap*>(user)->live -= size;
    free(memory);
}

struct Handle {
    std::string name;
    const Bytes* bytes;
};

int32_t open_file(void* user, const char* name, void** file, uint64_t* size) {
    Disk& disk = *static_cast<Disk*>(user);
    const std::string path = name;
    const bool inside = path.rfind("m/", 0) == 0 || path.rfind("good/", 0) == 0 || path == "m";
    if (!inside || path.find('/') != path.rfind('/') || path.find('\\') != path.npos || path.find("..") != path.npos) disk.escapes++;
    const auto found = disk.files.find(path);
    if (found == disk.files.end()) return 2;
    *file = new Handle{path, &found->second};
    *size = found->second.size();
    disk.open_files++;
    return 0;
}

int32_t read_bytes(void* user, void* file, uint64_t offset, void* to, size_t size) {
    const Handle& handle = *static_cast<Handle*>(file);
    if (handle.name == static_cast<Disk*>(user)->broken) return 5;
    if (offset > handle.bytes->size() || size > handle.bytes->size() - offset) return 6;  // shorter than when it was opened
    memcpy(to, handle.bytes->data() + offset, size);
    return 0;
}

void close_file(void* user, void* file) {
    static_cast<Disk*>(user)->open_files--;
    delete static_cast<Handle*>(file);
}

// What opening may hold at its worst: JSON of single digits takes the most, being two bytes a value.
uint64_t allowed(const Folder& folder) {
    uint64_t bytes = 0;
    for (const auto& [name, contents] : folder) bytes += contents.size();
    return (1 << 20) + 32 * bytes;
}

void check_after(Host& host, const Case& c, uint64_t live) {
    CHECK(host.heap.live == live);
    CHECK(host.heap.peak - live <= allowed(c.folder));
    CHECK(host.disk.open_files == 0);
    CHECK(host.disk.escapes == 0);
}

void check_good_model(Host& host) {
    pith_model* model = nullptr;
    pith_error error{};
    uint64_t left = 1;
    REQUIRE(pith_model_open(host.env(), "good", nullptr, &model, &error) == PITH_OK);
    CHECK(pith_model_load(model, 0, &left, &error) == PITH_OK);
    CHECK(left == 0);
    pith_model_destroy(model);
}

void check_good_tokenizer(Host& host) {
    pith_tokenizer* tokenizer = nullptr;
    pith_token tokens[4];
    size_t count = 0;
    REQUIRE(pith_tokenizer_load(host.env(), "good", &tokenizer, nullptr) == PITH_OK);
    CHECK(pith_tokenizer_encode(tokenizer, "ab", 2, 0, tokens, 4, &count, nullptr) == PITH_OK);
    CHECK((count == 1 && tokens[0] == 2));
    pith_tokenizer_destroy(tokenizer);
}

template <class Object, class Open, class Destroy, class CheckGood>
void check_cases(const Cases& cases, Open open, Destroy destroy, CheckGood check_good) {
    for (const Case& c : cases) {
        INFO(c.name);
        Host host;
        host.disk.put("m", c.folder);
        host.disk.put("good", good_model());
        host.disk.put("good", {{"tokenizer.json", kTokenizer}});
        const uint64_t live = host.heap.live;
        host.heap.peak = live;
        pith_error error{};
        Object* made = nullptr;
        const pith_status status = open(host.env(), &made, &error);
        CHECK(made == nullptr);
        CHECK(std::string(pith_status_name(status)) == pith_status_name(c.status));
        if (status != PITH_OK) check_message(error, status, c.culprit);
        if (made) destroy(made);
        check_after(host, c, live);
        CHECK(open(host.env(), &made, nullptr) == status);
        if (made) destroy(made);
        CHECK(host.heap.live == live);
        check_good(host);
        CHECK(host.heap.live == live);
    }
}

}  // namespace

Host::Host() {
    const pith_allocator allocator{sizeof allocator, &heap, take, give};
    const pith_files files{sizeof files, &disk, open_file, read_bytes, close_file};
    pith_env_options options{};
    options.struct_size = sizeof options;
    options.allocator = &allocator;
    options.files = &files;
    REQUIRE(pith_env_create(&options, &env_, nullptr) == PITH_OK);
}

Host::~Host() {
    pith_env_destroy(env_);
    CHECK(heap.live == 0);
    CHECK(disk.open_files == 0);
}

std::string object(const Members& members) {
    std::string text = "{";
    for (const auto& [key, value] : members) text += (text.size() > 1 ? ",\"" : "\"") + key + "\":" + value;
    return text + "}";
}

Members config_members() {
    return {{"architectures", "[\"LlamaForCausalLM\"]"},
            {"hidden_size", "32"},
            {"intermediate_size", "64"},
            {"num_attention_heads", "2"},
            {"num_key_value_heads", "1"},
            {"num_hidden_layers", "1"},
            {"vocab_size", "40"},
            {"max_position_embeddings", "64"},
            {"tie_word_embeddings", "true"}};
}

Folder model_of(const Tensors& tensors) {
    return {{"config.json", object(config_members())}, {"model.safetensors", fuzz::safetensors(tensors)}};
}

Folder good_model() { return model_of(fuzz::tiny_tensors()); }

Folder config(const Members& changes) {
    Members members = config_members();
    for (const auto& [key, value] : changes) members[key] = value;
    Folder folder = good_model();
    folder["config.json"] = object(members);
    return folder;
}

Folder config(const char* key, const char* value) {
    if (value) return config({{key, value}});
    Members members = config_members();
    members.erase(key);
    Folder folder = good_model();
    folder["config.json"] = object(members);
    return folder;
}

Bytes raw_file(const std::string& header, const Bytes& data) {
    Bytes file(8, '\0');
    const uint64_t size = header.size();
    memcpy(file.data(), &size, 8);
    return file + header + data;
}

void check_message(const pith_error& error, pith_status status, const std::string& culprit) {
    CHECK(error.status == status);
    REQUIRE(memchr(error.message, 0, sizeof error.message));
    const std::string message = error.message;
    INFO(message);
    CHECK(message.find(culprit) != message.npos);
    for (const char c : message) CHECK(static_cast<unsigned char>(c) >= 0x20);
}

void check_models(const Cases& cases) {
    check_cases<pith_model>(
        cases, [](pith_env* env, pith_model** m, pith_error* e) { return pith_model_open(env, "m", nullptr, m, e); }, pith_model_destroy,
        check_good_model);
}

void check_tokenizers(const Cases& cases) {
    check_cases<pith_tokenizer>(
        cases, [](pith_env* env, pith_tokenizer** t, pith_error* e) { return pith_tokenizer_load(env, "m", t, e); }, pith_tokenizer_destroy,
        check_good_tokenizer);
}

}  // namespace hostile
