// Tokenizer files that are small, and ask for much memory or time.
#include "hostile.h"

using namespace hostile;

namespace {

const std::string kFile = "tokenizer.json: ";

std::string repeat(const std::string& unit, size_t times) {
    std::string all;
    for (size_t i = 0; i < times; i++) all += unit;
    return all;
}

std::string list_of(const std::string& unit, size_t times) { return "[" + repeat(unit + ",", times - 1) + unit + "]"; }

// Of `count` tokens in the vocabulary and as many added ones.
Folder tokenizer(size_t count, Members more) {
    std::string vocab = "{\"a\":0,\"b\":1,\"ab\":2", added;
    for (size_t i = 3; i < count; i++) vocab += ",\"" + std::to_string(i) + "\":" + std::to_string(i);
    for (size_t i = 0; i < count; i++) added += ",{\"id\":9,\"content\":\"<" + std::to_string(i) + ">\"}";
    more["model"] = "{\"vocab\":" + vocab + "},\"merges\":[]}";
    more["added_tokens"] = "[" + (count ? added.substr(1) : "") + "]";
    return {{"tokenizer.json", object(more)}};
}

std::string replace(const char* kind, const std::string& pattern, const std::string& content) {
    return object({{"type", "\"Replace\""}, {"pattern", object({{kind, "\"" + pattern + "\""}})}, {"content", "\"" + content + "\""}});
}

std::string sequence(const char* list, const std::string& steps) { return object({{"type", "\"Sequence\""}, {list, steps}}); }

}  // namespace

TEST_CASE("the regular expressions of a file have a budget together") {
    const std::string pattern = "(?:ab|c){900}";  // 5400 instructions
    const std::string split =
        object({{"type", "\"Split\""}, {"behavior", "\"Isolated\""}, {"pattern", object({{"Regex", "\"" + pattern + "\""}})}});
    const std::string one = replace("Regex", pattern, "");
    const std::string large = "pattern.Regex: the regular expression is too large, with those before it";
    check_tokenizers({
        {"64 in the pre-tokenizer", kLimit, kFile + "pre_tokenizer.pretokenizers[3]." + large,
         tokenizer(0, {{"pre_tokenizer", sequence("pretokenizers", list_of(split, 64))}})},
        {"64 in the normalizer", kLimit, kFile + "normalizer.normalizers[3]." + large,
         tokenizer(0, {{"normalizer", sequence("normalizers", list_of(one, 64))}})},
        {"some in every part", kLimit, kFile + "decoder." + large,
         tokenizer(0, {{"normalizer", one}, {"pre_tokenizer", sequence("pretokenizers", list_of(split, 2))}, {"decoder", one}})},
    });
}

TEST_CASE("what a file's tokens become has a budget in bytes and in steps") {
    const std::string grow = replace("String", "", repeat("y", 40));  // "ab" becomes 122 bytes
    const std::string made = kFile + "what its tokens become when normalized and decoded takes more than";
    const auto decoder = [](const std::string& steps) { return Members{{"decoder", sequence("decoders", "[" + steps + "]")}}; };
    check_tokenizers({
        {"tokens that decode to long texts", kLimit, made, tokenizer(20000, decoder(grow))},
        {"added tokens with long normal forms", kLimit, made,
         tokenizer(4000, {{"normalizer", object({{"type", "\"Prepend\""}, {"prepend", "\"" + repeat("x", 900) + "\""}})}})},
        {"a regular expression that takes forever", kLimit, "a regular expression of the tokenizer takes too many steps",
         tokenizer(4, decoder(grow + "," + replace("Regex", "(?:y|y|yy)+(?!.)x", "")))},
        {"replacements that take forever", kLimit, "the tokenizer's replacements take too many steps",
         tokenizer(10000, decoder(grow + repeat("," + replace("String", "z", ""), 63)))},
    });
}

TEST_CASE("a list of merges takes what its merges take") {
    Host host;
    Members model = {{"vocab", "{\"a\":0,\"b\":1,\"ab\":2}"}, {"merges", list_of("\"a b\"", 300000)}};
    const std::string file = object({{"model", object(model)}});
    host.disk.put("m", {{"tokenizer.json", file}});
    const uint64_t live = host.heap.live;
    host.heap.peak = live;
    pith_tokenizer* loaded = nullptr;
    REQUIRE(pith_tokenizer_load(host.env(), "m", &loaded, nullptr) == PITH_OK);
    CHECK(host.heap.live - live < 65536);
    CHECK(host.heap.peak - live < (1 << 20) + 16 * file.size());  // six bytes of text a merge
    pith_tokenizer_destroy(loaded);
}
