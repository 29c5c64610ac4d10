// A model's folder: single files, sharded ones, and hostile indexes.
#include "io/model_dir.h"

#include <string>

#include "base_memory.h"
#include "catch.h"
#include "io_builder.h"
#include "memory_files.h"

using namespace pith;
using std::string;

namespace {

string shard(const std::vector<string>& names) {
    SafetensorsBuilder builder;
    for (const string& name : names) builder.add(name, "U8", {1}, "x");
    return builder.build();
}

struct Folder {
    TestMemory memory;
    MemoryFiles files;
    ModelDir dir{memory.allocator};
    pith_error error{};
    pith_status open(const char* base = nullptr, bool map = false) { return dir.open(files.files, "m", base, map, &error); }
    string message() const { return error.message; }
};

const char* const kTwoShards =
    R"({"metadata":{"total_size":3},"weight_map":{"a":"s1.safetensors","c":"s2.safetensors","b":"s1.safetensors"}})";

}  // namespace

TEST_CASE("model folder: one file") {
    Folder f;
    f.files["m/model.safetensors"] = shard({"b", "a"});
    REQUIRE(f.open() == PITH_OK);
    REQUIRE(f.dir.shards().size() == 1);
    CHECK(string(f.dir.shards()[0].name) == "model.safetensors");
    CHECK(f.dir.tensors().size() == 2);
    REQUIRE(f.dir.find("a").tensor);
    CHECK(f.dir.find("a").shard == 0);
    CHECK(f.dir.find("c").tensor == nullptr);
    CHECK(f.files.open_files == 1);
    f.dir.reset();
    CHECK(f.files.open_files == 0);
    CHECK(f.memory.held == 0);
    CHECK(f.dir.find("a").tensor == nullptr);
}

TEST_CASE("model folder: shards") {
    Folder f;
    f.files["m/model.safetensors.index.json"] = kTwoShards;
    f.files["m/s1.safetensors"] = shard({"b", "a"});
    f.files["m/s2.safetensors"] = shard({"c", "not in the index"});
    REQUIRE(f.open() == PITH_OK);
    CHECK(f.dir.shards().size() == 2);
    CHECK(f.dir.tensors().size() == 4);
    CHECK(f.dir.find("a").shard == f.dir.find("b").shard);
    CHECK(string(f.dir.shards()[f.dir.find("c").shard].name) == "s2.safetensors");
    CHECK(f.files.open_files == 2);
}

TEST_CASE("model folder: the index goes before model.safetensors") {
    Folder f;
    f.files["m/model.safetensors.index.json"] = kTwoShards;
    f.files["m/s1.safetensors"] = shard({"b", "a"});
    f.files["m/s2.safetensors"] = shard({"c"});
    f.files["m/model.safetensors"] = shard({"other"});
    REQUIRE(f.open() == PITH_OK);
    CHECK(f.dir.find("other").tensor == nullptr);
}

TEST_CASE("model folder: a base name of the config's") {
    Folder f;
    f.files["m/gptq_model-4bit-128g.safetensors"] = shard({"a"});
    REQUIRE(f.open("gptq_model-4bit-128g") == PITH_OK);
    CHECK(string(f.dir.shards()[0].name) == "gptq_model-4bit-128g.safetensors");
    f.files["m/model.safetensors"] = shard({"b"});
    REQUIRE(f.open("gptq_model-4bit-128g") == PITH_OK);
    CHECK(f.dir.find("b").tensor);
    Folder g;
    g.files["m/../x.safetensors"] = shard({"a"});
    CHECK(g.open("../x") == PITH_E_IO);
}

TEST_CASE("model folder: hostile indexes") {
    struct Case {
        const char* name;
        string index;
        pith_status status;
        const char* message;
    };
    const auto map = [](const string& entries) { return "{\"weight_map\":{" + entries + "}}"; };
    string many, dense = "0";
    for (int i = 0; i < 1000; i++) dense += ",0";
    for (int i = 0; i < 1025; i++) many += (i ? ",\"" : "\"") + std::to_string(i) + "\":\"" + std::to_string(i) + ".safetensors\"";
    const Case cases[] = {
        {"empty", "", PITH_E_FORMAT, "model.safetensors.index.json: line 1"},
        {"not an object", "[]", PITH_E_FORMAT, "weight_map: expected an object"},
        {"no map", "{}", PITH_E_FORMAT, "weight_map: expected an object"},
        {"empty map", map(""), PITH_E_FORMAT, "weight_map: expected an object"},
        {"map an array", R"({"weight_map":["a"]})", PITH_E_FORMAT, "weight_map: expected an object"},
        {"number", map("\"a\":1"), PITH_E_FORMAT, "tensor a: expected the plain name"},
        {"empty name", map("\"a\":\"\""), PITH_E_FORMAT, "plain name"},
        {"parent", map("\"a\":\"../s1.safetensors\""), PITH_E_FORMAT, "plain name"},
        {"dots", map("\"a\":\"..\""), PITH_E_FORMAT, "plain name"},
        {"dot", map("\"a\":\".\""), PITH_E_FORMAT, "plain name"},
        {"absolute", map("\"a\":\"/etc/passwd\""), PITH_E_FORMAT, "plain name"},
        {"sub-folder", map("\"a\":\"x/s1.safetensors\""), PITH_E_FORMAT, "plain name"},
        {"backslash", map("\"a\":\"..\\\\s1.safetensors\""), PITH_E_FORMAT, "plain name"},
        {"drive", map("\"a\":\"C:s1.safetensors\""), PITH_E_FORMAT, "plain name"},
        {"NUL", map("\"a\":\"s1.safetensors\\u0000.safetensors\""), PITH_E_FORMAT, "plain name"},
        {"control character", map("\"a\":\"s1\\n.safetensors\""), PITH_E_FORMAT, "plain name"},
        {"pickle", map("\"a\":\"pytorch_model-00001.bin\""), PITH_E_UNSUPPORTED, "is not a safetensors file"},
        {"duplicate", map(R"("a":"s1.safetensors","a":"s2.safetensors")"), PITH_E_FORMAT, "duplicate key 'a'"},
        {"missing shard", map(R"("a":"s1.safetensors","b":"s9.safetensors")"), PITH_E_IO, "m/s9.safetensors"},
        {"tensor not in its shard", map(R"("a":"s1.safetensors","d":"s1.safetensors")"), PITH_E_FORMAT,
         "tensor d is not in s1.safetensors"},
        {"tensor in another shard", map(R"("a":"s1.safetensors","c":"s1.safetensors","b":"s2.safetensors")"), PITH_E_FORMAT, "is not in s"},
        {"tensor in two shards", map(R"("a":"s1.safetensors","c":"s3.safetensors")"), PITH_E_FORMAT,
         "tensor a is in both s1.safetensors and s3.safetensors"},
        {"broken shard", map(R"("a":"s1.safetensors","c":"s4.safetensors")"), PITH_E_FORMAT, "m/s4.safetensors: too short"},
        {"dense values", "{\"x\":[" + dense + "]}", PITH_E_LIMIT, "too many values"},
        {"too many shards", map(many), PITH_E_LIMIT, "1025 files"},
    };
    for (const Case& c : cases) {
        INFO(c.name);
        Folder f;
        f.files["m/s1.safetensors"] = shard({"a", "b"});
        f.files["m/s2.safetensors"] = shard({"c"});
        f.files["m/s3.safetensors"] = shard({"c", "a"});
        f.files["m/s4.safetensors"] = "x";
        f.files["m/model.safetensors.index.json"] = c.index;
        CHECK(f.open() == c.status);
        INFO(f.message());
        CHECK(f.message().find(c.message) != string::npos);
        CHECK(f.files.open_files == 0);
        CHECK(f.memory.held == 0);
    }
}

TEST_CASE("model folder: nothing readable") {
    Folder f;
    CHECK(f.open() == PITH_E_IO);
    CHECK(f.message().find("m/model.safetensors") != string::npos);
    for (const char* other : {"pytorch_model.bin", "pytorch_model.bin.index.json", "model.gguf", "consolidated.safetensors"}) {
        Folder g;
        g.files[string("m/") + other] = "x";
        CHECK(g.open() == PITH_E_UNSUPPORTED);
        CHECK(g.message().find(other) != string::npos);
    }
    Folder h;
    h.files["m/model.safetensors"] = shard({"a"});
    CHECK(h.open(nullptr, true) == PITH_E_ARGUMENT);  // only the system's files are mapped
    CHECK(h.files.open_files == 0);
}

TEST_CASE("model folder: every failed call and allocation is cleaned up") {
    const auto fill = [](Folder& f) {
        f.files["m/model.safetensors.index.json"] = kTwoShards;
        f.files["m/s1.safetensors"] = shard({"b", "a"});
        f.files["m/s2.safetensors"] = shard({"c"});
    };
    for (int k = 0;; k++) {
        Folder f;
        fill(f);
        f.files.fail_call = k;
        const pith_status status = f.open();
        if (status == PITH_OK) {
            CHECK(k > 6);
            break;
        }
        CHECK(status == PITH_E_IO);
        CHECK(f.files.open_files == 0);
        CHECK(f.memory.held == 0);
        f.files.fail_call = -1;
        CHECK(f.open() == PITH_OK);  // the object is as good as new
    }
    for (long k = 0;; k++) {
        Folder f;
        fill(f);
        f.memory.fail_at = k;
        const pith_status status = f.open();
        if (status == PITH_OK) break;
        CHECK(status == PITH_E_MEMORY);
        CHECK(f.files.open_files == 0);
        CHECK(f.memory.held == 0);
    }
}
