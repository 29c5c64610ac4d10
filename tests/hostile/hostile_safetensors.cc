// Malformed safetensors files: the length, the header's JSON, each tensor's entry, and how the tensors lie in the data.
#include "hostile.h"

using namespace hostile;

namespace {

Folder file(const Bytes& bytes) {
    Folder folder = good_model();
    folder["model.safetensors"] = bytes;
    return folder;
}

Folder length(uint64_t size, const Bytes& rest) {
    Bytes bytes(8, '\0');
    memcpy(bytes.data(), &size, 8);
    return file(bytes + rest);
}

Folder header(const std::string& text, const Bytes& data = {}) { return file(raw_file(text, data)); }

// A file of one tensor "t" that has this entry, with 4 bytes of data.
Folder entry(const std::string& members) { return header("{\"t\":{" + members + "}}", "1234"); }

Folder entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return entry("\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets);
}

// Two tensors of 4 bytes at these offsets.
Folder two(const std::string& a, const std::string& b, size_t data = 8) {
    const std::string kind = "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":";
    return header("{\"a\":" + kind + a + "},\"b\":" + kind + b + "}}", Bytes(data, 'x'));
}

std::string repeat(const std::string& text, size_t times) {
    std::string all;
    for (size_t i = 0; i < times; i++) all += text;
    return all;
}

Folder norm(const char* dtype, std::vector<uint64_t> shape, size_t bytes) {
    return tensors([&](Tensors& t) { t["model.norm.weight"] = {dtype, std::move(shape), fuzz::filled(bytes)}; });
}

const std::string kFile = "m/model.safetensors: ", kTensor = kFile + "tensor t: ";

}  // namespace

TEST_CASE("safetensors: the length and the header's JSON") {
    check_models({
        {"an empty file", kFormat, kFile + "too short", file("")},
        {"seven bytes", kFormat, kFile + "too short", file("1234567")},
        {"a length and nothing else", kFormat, kFile + "a header of 2 bytes in a file of 8", length(2, "")},
        {"a length of 0", kFormat, kFile + "the header does not begin", length(0, "{}")},
        {"a length past the end", kFormat, kFile + "a header of 100 bytes in a file of 10", length(100, "{}")},
        {"a length of 100 MB in a small file", kFormat, kFile + "a header of 100000000 bytes in a file", length(100000000, "{}")},
        {"a length over 100 MB", kLimit, kFile + "a header of 100000001 bytes", length(100000001, "{}")},
        {"a length of 2^63", kLimit, kFile + "a header of 9223372036854775808 bytes", length(uint64_t{1} << 63, "{}")},
        {"a length of 2^64 - 1", kLimit, kFile + "a header of 18446744073709551615 bytes", length(~uint64_t{0}, "{}")},
        {"a GGUF file", kLimit, kFile + "a header of", file("GGUF\3abc and so on")},
        {"an array", kFormat, kFile + "the header does not begin", header("[]")},
        {"a space before the header", kFormat, kFile + "the header does not begin", header(" {}")},
        {"a BOM before the header", kFormat, kFile + "the header does not begin", header("\xEF\xBB\xBF{}")},
        {"garbage after the header", kFormat, kFile + "line 1: text after", header("{}x")},
        {"a NUL after the header", kFormat, kFile + "line 1: text after", header(std::string("{}\0", 3))},
        {"two objects", kFormat, kFile + "line 1: text after", header("{}{}")},
        {"a header that does not end", kFormat, kFile + "line 1: ", header("{\"t\":{")},
        {"a string that does not end", kFormat, kFile + "line 1: a string does not end", header("{\"t")},
        {"a name that is not UTF-8", kFormat, kFile + "line 1: invalid UTF-8", header("{\"\xff\":{}}")},
        {"an overlong name", kFormat, kFile + "line 1: invalid UTF-8", header("{\"\xc0\x80\":{}}")},
        {"half a surrogate pair", kFormat, kFile + "line 1: half a surrogate pair", header("{\"\\ud800\":{}}")},
        {"a raw control character", kFormat, kFile + "line 1: a control character", header("{\"\n\":{}}")},
        {"a tensor twice", kFormat, kFile + "line 1: duplicate key", header("{\"t\":{},\"t\":{}}")},
        {"a tensor twice, once escaped", kFormat, kFile + "line 1: duplicate key", header("{\"t\":{},\"\\u0074\":{}}")},
        {"a depth bomb", kLimit, kFile + "line 1: nested too deeply", header("{\"t\":" + repeat("[", 100000))},
        {"a bomb of values", kLimit, kFile + "line 1: too many values", header("{\"t\":[" + repeat("0,", 100000) + "0]}")},
        {"a bomb of empty arrays", kFormat, kTensor + "expected dtype", header("{\"t\":[" + repeat("[],", 100000) + "[]]}")},
        {"metadata that is no object", kFormat, kFile + "__metadata__ is not an object", header("{\"__metadata__\":1}")},
        {"metadata of numbers", kFormat, kFile + "__metadata__ holds", header("{\"__metadata__\":{\"a\":1}}")},
    });
}

TEST_CASE("safetensors: a tensor's entry") {
    check_models({
        {"a tensor that is a number", kFormat, kTensor + "expected dtype", header("{\"t\":1}")},
        {"a tensor that is null", kFormat, kTensor + "expected dtype", header("{\"t\":null}")},
        {"no dtype", kFormat, kTensor + "expected dtype", entry("\"shape\":[1],\"data_offsets\":[0,4]")},
        {"no shape", kFormat, kTensor + "expected dtype", entry("\"dtype\":\"F32\",\"data_offsets\":[0,4]")},
        {"no offsets", kFormat, kTensor + "expected dtype", entry("\"dtype\":\"F32\",\"shape\":[1]")},
        {"a fourth member", kFormat, kTensor + "expected dtype",
         entry("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"more\":1")},
        {"a member twice", kFormat, kFile + "line 1: duplicate key", entry("\"dtype\":\"F32\",\"dtype\":\"F16\"")},
        {"a dtype that is a number", kFormat, kTensor + "dtype is not a string", entry("32", "[1]", "[0,4]")},
        {"a shape that is an object", kFormat, kTensor + "shape is not an array", entry("\"F32\"", "{}", "[0,4]")},
        {"a negative dimension", kFormat, kTensor + "shape holds", entry("\"F32\"", "[-1]", "[0,4]")},
        {"a dimension with a fraction", kFormat, kTensor + "shape holds", entry("\"F32\"", "[1.0]", "[0,4]")},
        {"a dimension with an exponent", kFormat, kTensor + "shape holds", entry("\"F32\"", "[1e0]", "[0,4]")},
        {"a dimension of 2^64", kFormat, kTensor + "shape holds", entry("\"F32\"", "[18446744073709551616]", "[0,4]")},
        {"a dimension that is a string", kFormat, kTensor + "shape holds", entry("\"F32\"", "[\"1\"]", "[0,4]")},
        {"a shape whose product overflows", kFormat, kTensor + "its shape overflows", entry("\"F32\"", "[4294967296,4294967297]", "[0,4]")},
        {"a shape whose product wraps to 1", kFormat, kTensor + "its shape overflows",
         entry("\"F32\"", "[6148914691236517205,3]", "[0,4]")},
        {"a shape whose bits overflow", kFormat, kTensor + "its shape overflows", entry("\"F32\"", "[576460752303423489]", "[0,4]")},
        {"a shape of an unknown dtype that overflows", kFormat, kTensor + "its shape overflows",
         entry("\"Q9\"", "[4294967296,4294967296]", "[0,4]")},
        {"65 dimensions", kLimit, kTensor + "more than 16 dimensions", entry("\"F32\"", "[1" + repeat(",1", 64) + "]", "[0,4]")},
        {"one offset", kFormat, kTensor + "data_offsets are not", entry("\"F32\"", "[1]", "[0]")},
        {"three offsets", kFormat, kTensor + "data_offsets are not", entry("\"F32\"", "[1]", "[0,4,4]")},
        {"offsets in an object", kFormat, kTensor + "data_offsets are not", entry("\"F32\"", "[1]", "{\"0\":4}")},
        {"a negative offset", kFormat, kTensor + "data_offsets are not", entry("\"F32\"", "[1]", "[-4,0]")},
        {"an offset with a fraction", kFormat, kTensor + "data_offsets are not", entry("\"F32\"", "[1]", "[0,4.0]")},
        {"an offset of 2^63", kFormat, kTensor + "data_offsets are not", entry("\"F32\"", "[1]", "[0,9223372036854775808]")},
        {"an offset of 2^63 - 1", kFormat, kTensor + "ends at byte 9223372036854775807",
         entry("\"F32\"", "[1]", "[0,9223372036854775807]")},
        {"an end before its begin", kFormat, kTensor + "data_offsets end before", entry("\"F32\"", "[1]", "[4,0]")},
        {"an end past the file's", kFormat, kTensor + "ends at byte 5", entry("\"F32\"", "[1]", "[0,5]")},
        {"fewer bytes than the shape takes", kFormat, kTensor + "its shape and dtype take 8 bytes", entry("\"F32\"", "[2]", "[0,4]")},
        {"more bytes than the shape takes", kFormat, kTensor + "its shape and dtype take 2 bytes", entry("\"F16\"", "[1]", "[0,4]")},
        {"an empty shape with two values", kFormat, kTensor + "its shape and dtype take 2 bytes", entry("\"F16\"", "[]", "[0,4]")},
        {"7 values of 4 bits", kFormat, kTensor + "its last byte is not full", entry("\"F4\"", "[7]", "[0,4]")},
        {"a NUL in a name", kFormat, kFile + "tensor a: its name holds a NUL",
         header("{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "1234")},
    });
}

TEST_CASE("safetensors: how tensors lie, and kinds of them that are not run") {
    check_models({
        {"two tensors on the same bytes", kFormat, kFile + "tensor b: its data overlap", two("[0,4]", "[0,4]", 4)},
        {"tensors that overlap", kFormat, kFile + "tensor b: its data overlap", two("[0,4]", "[2,6]", 6)},
        {"a hole between tensors", kFormat, kFile + "tensor b: a hole", two("[0,4]", "[5,9]", 9)},
        {"a hole at the start", kFormat, kFile + "tensor a: a hole", two("[1,5]", "[5,9]", 9)},
        {"bytes after the last tensor", kFormat, kFile + "1 bytes after the last tensor", two("[0,4]", "[4,8]", 9)},
        {"no tensor, but data", kFormat, kFile + "4 bytes after the last tensor", header("{}", "1234")},
        {"no tensor at all", kFormat, "tensor model.embed_tokens.weight is missing", header("{}")},
        {"a file cut off", kFormat, kFile + "tensor model.norm.weight: ends at byte",
         [] {
             Folder folder = good_model();
             folder["model.safetensors"].pop_back();
             return folder;
         }()},
        {"a file cut off in its header", kFormat, kFile + "a header of",
         [] {
             Folder folder = good_model();
             folder["model.safetensors"].resize(100);
             return folder;
         }()},
        {"an unknown dtype where it is used", kUnsupported, "tensor model.norm.weight: dtype Q9", norm("Q9", {32}, 64)},
        {"8-bit floats where they are used", kUnsupported, "tensor model.norm.weight: dtype F8_E4M3", norm("F8_E4M3", {32}, 32)},
        {"4-bit floats where they are used", kUnsupported, "tensor model.norm.weight: dtype F4", norm("F4", {32}, 16)},
        {"doubles where floats are used", kUnsupported, "tensor model.norm.weight: dtype F64", norm("F64", {32}, 256)},
        {"integers where floats are used", kUnsupported, "tensor model.norm.weight: dtype I16", norm("I16", {32}, 64)},
        {"a scalar where a vector is used", kFormat, "tensor model.norm.weight: expected shape [32], found []", norm("F32", {}, 4)},
        {"a matrix where a vector is used", kFormat, "tensor model.norm.weight: expected shape [32], found [1, 32]",
         norm("F32", {1, 32}, 128)},
        {"an empty tensor where it is used", kFormat, "tensor model.norm.weight: expected shape [32], found [0]", norm("F32", {0}, 0)},
    });
}

TEST_CASE("safetensors: what is odd and harmless is not refused") {
    for (const auto& [name, dtype, shape, bytes] :
         {std::tuple<const char*, const char*, std::vector<uint64_t>, size_t>{"spare", "Q9", {3}, 7},
          {"", "F32", {1}, 4},
          {"scalar", "F64", {}, 8},
          {"empty", "F32", {0, 7}, 0},
          {"deep", "U8", {1, 1, 1, 1, 1, 1, 1, 1}, 1}}) {
        INFO(name);
        Host host;
        host.disk.put("m", tensors([&](Tensors& t) { t[name] = {dtype, shape, fuzz::filled(bytes)}; }));
        pith_model* model = nullptr;
        pith_error error{};
        CHECK(pith_model_open(host.env(), "m", nullptr, &model, &error) == PITH_OK);
        INFO(error.message);
        CHECK(pith_model_load(model, 0, nullptr, &error) == PITH_OK);
        pith_model_destroy(model);
    }
}
