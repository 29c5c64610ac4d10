// The safetensors reader: what it accepts, and a table of files it must refuse, each with its status and message.
#include "io/safetensors.h"

#include <string>

#include "base_memory.h"
#include "catch.h"
#include "io_builder.h"
#include "memory_files.h"

using namespace pith;
using std::string;

namespace {

struct Opened {
    TestMemory memory;
    MemoryFiles files;
    Arena arena{memory.allocator};
    File file;
    TensorTable table;
    pith_error error{};
    pith_status status;
    explicit Opened(const string& content) {
        files["m"] = content;
        status = file.open(files.files, "m", &error);
        if (status == PITH_OK) status = read_safetensors(file, "m.safetensors", arena, &table, &error);
    }
    string message() const { return error.message; }
};

string shape_text(const Tensor& tensor) {
    char text[64];
    return format_shape(tensor.shape, tensor.rank, text, sizeof text);
}

}  // namespace

TEST_CASE("safetensors: a good file") {
    SafetensorsBuilder builder;
    builder.add("z", "F32", {2, 3}, string(24, 'z'));
    builder.add("a.weight", "F16", {4}, string(8, 'a'));
    builder.add("scalar", "I64", {}, string(8, 's'));
    builder.add("nothing", "BF16", {0, 5}, "");
    builder.add("new", "F5_SOMETHING", {3}, "?");
    builder.add("fp8", "F8_E4M3", {2}, "88");
    builder.add("fp4", "F4", {2, 2}, "44");
    Opened file(builder.build());
    INFO(file.message());
    REQUIRE(file.status == PITH_OK);
    REQUIRE(file.table.tensors.size() == 7);
    for (size_t i = 1; i < 7; i++) CHECK(file.table.tensors[i - 1].name < file.table.tensors[i].name);
    const Tensor* z = file.table.find("z");
    REQUIRE(z);
    CHECK(z->dtype == Dtype::F32);
    CHECK(shape_text(*z) == "[2, 3]");
    CHECK(z->bytes == 24);
    CHECK(z->offset == file.file.size() - 24 - 8 - 8 - 1 - 2 - 2);
    CHECK(file.table.find("scalar")->rank == 0);
    CHECK(shape_text(*file.table.find("scalar")) == "[]");
    CHECK(file.table.find("nothing")->bytes == 0);
    CHECK(file.table.find("new")->dtype == Dtype::Unknown);
    CHECK(file.table.find("new")->dtype_name == "F5_SOMETHING");
    CHECK(file.table.find("fp8")->dtype == Dtype::F8);
    CHECK(file.table.find("fp8")->dtype_name == "F8_E4M3");
    CHECK(file.table.find("fp4")->dtype == Dtype::Other);
    CHECK(file.table.find("a.weight")->name == "a.weight");
    CHECK(file.table.find("a") == nullptr);
    CHECK(file.table.find("") == nullptr);
    CHECK(file.table.find("zz") == nullptr);
}

TEST_CASE("safetensors: metadata, padding and order") {
    CHECK(Opened(raw_safetensors("{}", "")).status == PITH_OK);
    CHECK(Opened(raw_safetensors("{}      ", "")).status == PITH_OK);
    CHECK(Opened(raw_safetensors(R"({"__metadata__":{"format":"pt","x":""}})", "")).status == PITH_OK);
    // Entries may stand in any order; what counts is that they cover the data.
    CHECK(
        Opened(raw_safetensors(
                   R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]},"a":{"data_offsets":[0,3],"shape":[3],"dtype":"U8"}})", "aaabb"))
            .status == PITH_OK);
    // Empty tensors anywhere.
    CHECK(Opened(
              raw_safetensors(R"({"e":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                              R"("f":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})",
                              "aa"))
              .status == PITH_OK);
}

TEST_CASE("safetensors: malformed files") {
    struct Case {
        const char* name;
        string content;
        pith_status status;
        const char* message;
    };
    const auto one = [](const string& entry, const string& data = "abcd") { return raw_safetensors("{\"t\":" + entry + "}", data); };
    const string good = R"({"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
    const auto two = [&](const string& second, const string& data) {
        return raw_safetensors(R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"u":)" + second + "}", data);
    };
    REQUIRE(Opened(one(good)).status == PITH_OK);
    const Case cases[] = {
        {"empty file", "", PITH_E_FORMAT, "too short"},
        {"seven bytes", "1234567", PITH_E_FORMAT, "too short"},
        {"length only", le64(2), PITH_E_FORMAT, "a header of 2 bytes in a file of 8"},
        {"empty header", le64(0), PITH_E_FORMAT, "does not begin with '{'"},
        {"header past the end", le64(100) + "{}", PITH_E_FORMAT, "a header of 100 bytes in a file of 10"},
        {"huge length", le64(~uint64_t{0}) + "{}", PITH_E_LIMIT, "more than the 100000000 allowed"},
        {"length that wraps", le64(~uint64_t{0} - 7) + "{}", PITH_E_LIMIT, "more than the 100000000 allowed"},
        {"length over the cap", le64(100000001) + "{}", PITH_E_LIMIT, "more than the 100000000 allowed"},
        {"length at the cap, file shorter", le64(100000000) + "{}", PITH_E_FORMAT, "in a file of 10"},
        {"gguf", le64(0x346554747) + string(32, 'x'), PITH_E_LIMIT, "is this a safetensors file?"},
        {"leading space", raw_safetensors(" {}", ""), PITH_E_FORMAT, "does not begin with '{'"},
        {"an array", raw_safetensors("[]", ""), PITH_E_FORMAT, "does not begin with '{'"},
        {"cut JSON", raw_safetensors("{\"t\":", ""), PITH_E_FORMAT, "m.safetensors: line 1"},
        {"not UTF-8", raw_safetensors("{\"\xff\":{}}", ""), PITH_E_FORMAT, "invalid UTF-8"},
        {"data in the header", raw_safetensors("{}abcd", ""), PITH_E_FORMAT, "after the end of the document"},
        {"duplicate tensor", raw_safetensors("{\"t\":" + good + ",\"t\":" + good + "}", "abcd"), PITH_E_FORMAT, "duplicate key 't'"},
        {"duplicate member", one(R"({"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]})"), PITH_E_FORMAT,
         "duplicate key 'dtype'"},
        {"deep nesting", raw_safetensors("{\"t\":{\"a\":[[[1]]]}}", ""), PITH_E_LIMIT, "nested too deeply"},
        {"a size of 4000 digits", one("{\"shape\":[" + string(4000, '1') + "]}"), PITH_E_FORMAT, "too large"},
        {"dense values",
         raw_safetensors(
             "{\"t\":[" +
                 [] {
                     string zeros = "0";
                     for (int i = 0; i < 1000; i++) zeros += ",0";
                     return zeros;
                 }() +
                 "]}",
             ""),
         PITH_E_LIMIT, "too many values"},
        {"metadata not an object", raw_safetensors(R"({"__metadata__":[]})", ""), PITH_E_FORMAT, "__metadata__ is not an object"},
        {"metadata with a number", raw_safetensors(R"({"__metadata__":{"a":1}})", ""), PITH_E_FORMAT, "something else than strings"},
        {"entry not an object", one("[]"), PITH_E_FORMAT, "tensor t: expected dtype, shape and data_offsets"},
        {"no dtype", one(R"({"shape":[4],"data_offsets":[0,4]})"), PITH_E_FORMAT, "expected dtype, shape and data_offsets"},
        {"no shape", one(R"({"dtype":"U8","data_offsets":[0,4]})"), PITH_E_FORMAT, "expected dtype, shape and data_offsets"},
        {"no offsets", one(R"({"dtype":"U8","shape":[4]})"), PITH_E_FORMAT, "expected dtype, shape and data_offsets"},
        {"another member", one(R"({"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1})"), PITH_E_FORMAT, "data_offsets, only"},
        {"dtype a number", one(R"({"dtype":8,"shape":[4],"data_offsets":[0,4]})"), PITH_E_FORMAT, "dtype is not a string"},
        {"shape a number", one(R"({"dtype":"U8","shape":4,"data_offsets":[0,4]})"), PITH_E_FORMAT, "shape is not an array"},
        {"shape of strings", one(R"({"dtype":"U8","shape":["4"],"data_offsets":[0,4]})"), PITH_E_FORMAT, "non-negative integers"},
        {"shape negative", one(R"({"dtype":"U8","shape":[-4],"data_offsets":[0,4]})"), PITH_E_FORMAT, "non-negative integers"},
        {"shape a fraction", one(R"({"dtype":"U8","shape":[4.0],"data_offsets":[0,4]})"), PITH_E_FORMAT, "non-negative integers"},
        {"shape a boolean", one(R"({"dtype":"U8","shape":[true],"data_offsets":[0,1]})"), PITH_E_FORMAT, "non-negative integers"},
        {"shape past 64 bits", one(R"({"dtype":"U8","shape":[18446744073709551620],"data_offsets":[0,4]})"), PITH_E_FORMAT, "non-negative"},
        {"rank 17", one(R"({"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]})", "a"), PITH_E_LIMIT,
         "dimensions"},
        {"shape overflows", one(R"({"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,4]})"), PITH_E_FORMAT,
         "shape overflows"},
        {"shape times bits overflows", one(R"({"dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,4]})"), PITH_E_FORMAT,
         "shape overflows"},
        {"shape overflows to the size", one(R"({"dtype":"U8","shape":[4611686018427387905,4],"data_offsets":[0,4]})"), PITH_E_FORMAT,
         "shape overflows"},
        {"shape too small", one(R"({"dtype":"U8","shape":[3],"data_offsets":[0,4]})"), PITH_E_FORMAT, "take 3 bytes, data_offsets 4"},
        {"shape too large", one(R"({"dtype":"F16","shape":[4],"data_offsets":[0,4]})"), PITH_E_FORMAT, "take 8 bytes, data_offsets 4"},
        {"a scalar of four bytes", one(R"({"dtype":"U8","shape":[],"data_offsets":[0,4]})"), PITH_E_FORMAT, "take 1 bytes"},
        {"half a byte", one(R"({"dtype":"F4","shape":[7],"data_offsets":[0,4]})"), PITH_E_FORMAT, "last byte is not full"},
        {"offsets a string", one(R"({"dtype":"U8","shape":[4],"data_offsets":"0,4"})"), PITH_E_FORMAT, "not two non-negative integers"},
        {"one offset", one(R"({"dtype":"U8","shape":[4],"data_offsets":[4]})"), PITH_E_FORMAT, "not two non-negative integers"},
        {"three offsets", one(R"({"dtype":"U8","shape":[4],"data_offsets":[0,4,8]})"), PITH_E_FORMAT, "not two non-negative integers"},
        {"negative offset", one(R"({"dtype":"U8","shape":[4],"data_offsets":[-4,0]})"), PITH_E_FORMAT, "not two non-negative integers"},
        {"float offset", one(R"({"dtype":"U8","shape":[4],"data_offsets":[0,4e0]})"), PITH_E_FORMAT, "not two non-negative integers"},
        {"offsets reversed", one(R"({"dtype":"U8","shape":[4],"data_offsets":[4,0]})"), PITH_E_FORMAT, "end before they begin"},
        {"offsets past the end", one(R"({"dtype":"U8","shape":[5],"data_offsets":[0,5]})"), PITH_E_FORMAT, "is the file cut off?"},
        {"offsets far past the end", one(R"({"dtype":"U8","shape":[4],"data_offsets":[9223372036854775803,9223372036854775807]})"),
         PITH_E_FORMAT, "is the file cut off?"},
        {"data cut off", one(good, "abc"), PITH_E_FORMAT, "ends at byte 4 of the data, which has 3"},
        {"data missing", one(good, ""), PITH_E_FORMAT, "which has 0"},
        {"trailing bytes", one(good, "abcde"), PITH_E_FORMAT, "1 bytes after the last tensor"},
        {"data and no tensor", raw_safetensors("{}", "a"), PITH_E_FORMAT, "1 bytes after the last tensor"},
        {"hole at the start", one(R"({"dtype":"U8","shape":[3],"data_offsets":[1,4]})"), PITH_E_FORMAT, "tensor t: a hole"},
        {"hole between", two(R"({"dtype":"U8","shape":[1],"data_offsets":[5,6]})", "abcdef"), PITH_E_FORMAT, "tensor u: a hole"},
        {"overlap", two(R"({"dtype":"U8","shape":[4],"data_offsets":[3,7]})", "abcdefg"), PITH_E_FORMAT, "tensor u: its data overlap"},
        {"the same data twice", two(R"({"dtype":"U8","shape":[4],"data_offsets":[0,4]})", "abcd"), PITH_E_FORMAT, "its data overlap"},
        {"inside another", two(R"({"dtype":"U8","shape":[2],"data_offsets":[1,3]})", "abcd"), PITH_E_FORMAT, "its data overlap"},
        {"empty inside another", two(R"({"dtype":"U8","shape":[0],"data_offsets":[2,2]})", "abcd"), PITH_E_FORMAT, "its data overlap"},
        {"unknown dtype past the end", one(R"({"dtype":"Q9","shape":[4],"data_offsets":[0,9]})"), PITH_E_FORMAT, "is the file cut off?"},
        {"NUL in a name", raw_safetensors("{\"a\\u0000b\":" + good + "}", "abcd"), PITH_E_FORMAT, "its name holds a NUL"},
    };
    for (const Case& c : cases) {
        INFO(c.name);
        Opened file(c.content);
        INFO(file.message());
        CHECK(file.status == c.status);
        CHECK(file.message().find(c.message) != string::npos);
        CHECK(file.message().find("m.safetensors") == 0);
        CHECK(file.memory.peak <= 60 * c.content.size() + (1 << 14));
    }
}

TEST_CASE("safetensors: every cut of a good file is refused") {
    SafetensorsBuilder builder;
    builder.add("one", "F32", {2}, string(8, 'a'));
    builder.add("two", "I32", {1, 3}, string(12, 'b'));
    const string good = builder.build();
    REQUIRE(Opened(good).status == PITH_OK);
    for (size_t size = 0; size < good.size(); size++) CHECK(Opened(good.substr(0, size)).status == PITH_E_FORMAT);
}

TEST_CASE("safetensors: failed reads and allocations") {
    SafetensorsBuilder builder;
    for (int i = 0; i < 50; i++) builder.add("tensor." + std::to_string(i), "F32", {2}, string(8, 'a'));
    const string good = builder.build();
    for (int k = 0; k < 2; k++) {
        TestMemory memory;
        MemoryFiles files;
        files["m"] = good;
        files.fail_call = 1 + k;
        Arena arena(memory.allocator);
        File file;
        TensorTable table;
        pith_error error{};
        REQUIRE(file.open(files.files, "m", &error) == PITH_OK);
        CHECK(read_safetensors(file, "m", arena, &table, &error) == PITH_E_IO);
        CHECK(error.system == 5);
        CHECK(table.tensors.empty());
    }
    for (long k = 0;; k++) {
        TestMemory memory;
        MemoryFiles files;
        files["m"] = good;
        memory.fail_at = k;
        pith_status status;
        {
            Arena arena(memory.allocator);
            File file;
            TensorTable table;
            REQUIRE(file.open(files.files, "m", nullptr) == PITH_OK);
            status = read_safetensors(file, "m", arena, &table, nullptr);
        }
        CHECK(memory.held == 0);
        CHECK(files.open_files == 0);
        if (status == PITH_OK) {
            CHECK(k > 3);
            break;
        }
        CHECK(status == PITH_E_MEMORY);
    }
}

TEST_CASE("safetensors: shapes as text") {
    const uint64_t shape[] = {1, 22, 333, ~uint64_t{0}};
    char text[32];
    CHECK(string(format_shape(shape, 3, text, sizeof text)) == "[1, 22, 333]");
    CHECK(string(format_shape(shape, 4, text, sizeof text)).size() < sizeof text);
    char tiny[4];
    CHECK(string(format_shape(shape, 4, tiny, sizeof tiny)).size() < sizeof tiny);
}
