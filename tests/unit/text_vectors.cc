// Ids and texts equal to those of the `tokenizers` package, from tests/golden/tokenizer (see make_vectors.py there for the format).
#include <algorithm>
#include <fstream>
#include <sstream>

#include "base/json.h"
#include "base/utf8.h"
#include "text_fixture.h"

using namespace pith;

namespace {

const std::string kFolder = std::string(PITH_SOURCE_DIR) + "/tests/golden/tokenizer/";

struct Document {
    TestMemory memory;
    Arena arena{memory.allocator};
    const Json* root = nullptr;

    explicit Document(const std::string& path) {
        std::ifstream file(path, std::ios::binary);
        INFO(path);
        REQUIRE(file.good());
        std::stringstream bytes;
        bytes << file.rdbuf();
        pith_error error{};
        const pith_status status = json_parse(bytes.str(), path.c_str(), arena, &root, &error);
        INFO(error.message);
        REQUIRE(status == PITH_OK);
    }
};

std::string text_of(const Json& value) { return std::string(value.text()); }

std::vector<int32_t> ids_of(const Json& value) {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < value.size; i++) ids.push_back(static_cast<int32_t>(value.items[i].integer));
    return ids;
}

// {"text": …} or {"hex": …}
std::string bytes_of(const Json& value) {
    if (const Json* text = value.find("text")) return text_of(*text);
    const std::string hex = text_of(*value.find("hex"));
    std::string bytes;
    for (size_t i = 0; i < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    return bytes;
}

std::string repaired(const std::string& bytes) {
    TestMemory memory;
    Array<char> to(memory.allocator);
    REQUIRE(utf8_repair(bytes, &to));
    return {to.data(), to.size()};
}

std::string hash(const std::vector<int32_t>& ids) {
    uint64_t h = 0xCBF29CE484222325u;
    for (const int32_t id : ids)
        for (int shift = 0; shift < 32; shift += 8) h = (h ^ (static_cast<uint32_t>(id) >> shift & 0xFF)) * 0x100000001B3u;
    char text[17];
    snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(h));
    return text;
}

void check_decoding(TestTokenizer& t, const std::vector<int32_t>& ids, const std::string& skipped, const std::string& kept) {
    CHECK(t.decode(ids) == skipped);
    CHECK(t.decode(ids, true) == kept);
    CHECK(join(t.stream(ids, true)) == kept);
    for (const std::string& piece : t.stream(ids)) CHECK(utf8_is_valid(piece));
    CHECK(join(t.stream(ids)) == skipped);
}

void check_case(TestTokenizer& t, const std::string& bytes, const Json& expected, const std::vector<int32_t>& begin) {
    const std::vector<int32_t> plain = ids_of(expected.items[0]);
    const std::vector<int32_t> special = expected.items[1].is(Json::Null) ? plain : ids_of(expected.items[1]);
    const std::string skipped = expected.items[2].is(Json::Null) ? repaired(bytes) : text_of(expected.items[2]);
    const std::string kept = expected.items[3].is(Json::Null) ? skipped : text_of(expected.items[3]);
    INFO("text: " << repaired(bytes));
    CHECK(t.encode(bytes) == plain);
    CHECK(t.encode(bytes, true) == special);
    std::vector<int32_t> whole = begin;
    whole.insert(whole.end(), special.begin(), special.end());
    CHECK(t.encode(bytes, true, true) == whole);
    check_decoding(t, special, skipped, kept);
}

void check_long(TestTokenizer& t, const Json& entry) {
    std::string text;
    for (int64_t i = 0; i < entry.items[1].integer; i++) text += entry.items[0].text();
    INFO(text_of(entry.items[0]) << " times " << entry.items[1].integer);
    uint64_t work = 0;
    const std::vector<int32_t> ids = t.encode(text, false, false, &work);
    CHECK(ids.size() == static_cast<size_t>(entry.items[2].integer));
    CHECK(hash(ids) == text_of(entry.items[3]));
    CHECK(work <= 3 * text.size());  // candidates for merges: time is linear but for the heap's logarithm
}

}  // namespace

TEST_CASE("the golden families") {
    const Document vectors(kFolder + "vectors.json");
    const Json& texts = *vectors.root->find("texts");
    const Json& families = *vectors.root->find("families");
    REQUIRE(families.size >= 17);
    for (size_t f = 0; f < families.size; f++) {
        const std::string name(families.members[f].name());
        const Json& family = families.members[f].value;
        INFO("family " << name);
        TestTokenizer t;
        t.open(kFolder + name);
        const std::vector<int32_t> begin = ids_of(*family.find("bos"));
        const Json& cases = *family.find("cases");
        REQUIRE(cases.size == texts.size);
        for (size_t i = 0; i < cases.size; i++) check_case(t, bytes_of(texts.items[i]), cases.items[i], begin);
        const Json& decodes = *family.find("decodes");
        for (size_t i = 0; i < decodes.size; i++) {
            const Json& entry = decodes.items[i];
            INFO("ids " << i);
            check_decoding(t, ids_of(entry.items[0]), text_of(entry.items[1]), text_of(entry.items[2]));
        }
        for (size_t i = 0; i < family.find("long")->size; i++) check_long(t, family.find("long")->items[i]);
    }
}

TEST_CASE("the demo model's tokenizer") {
    const Document cases(kFolder + "demo_cases.json");
    TestTokenizer t;
    t.open(std::string(PITH_SOURCE_DIR) + "/examples/demo-model");
    REQUIRE(cases.root->size == 31);
    for (size_t i = 0; i < cases.root->size; i++) {
        const Json& entry = cases.root->items[i];
        const std::string text = text_of(*entry.find("text"));
        INFO("text: " << text);
        const std::vector<int32_t> ids = ids_of(*entry.find("ids"));
        CHECK(t.encode(text) == ids);
        check_decoding(t, ids, text_of(*entry.find("decoded")), text_of(*entry.find("decoded")));
    }
    CHECK(t.tokenizer.vocab_size() == 8192);
    CHECK(t.tokenizer.special(SpecialToken::Bos) == 0);
    CHECK(t.tokenizer.special(SpecialToken::Eos) == 1);
    CHECK(t.tokenizer.is_end(1));
    CHECK_FALSE(t.tokenizer.is_end(0));
    CHECK(t.encode("hi", false, true).front() == 0);
    CHECK(starts_with(t.tokenizer.chat_template(), "{{ bos_token }}"));
}

TEST_CASE("random bytes encode to ids in range, and what byte-level tokenizers encode comes back") {
    Numbers numbers{3};
    const char* pieces[] = {"a", "the", " ",  "  ",      "\n",  "\u00e9", "\u6d77", "\U0001F642", "\xFF", "\xC3", "\xE2\x82",
                            "1", "22",  "'s", "<|end|>", "<s>", "<0x41>", "\u2581", "\u0301",     "!",    "-"};
    for (const char* name : {"gpt2", "llama3", "cases", "possessive", "llama2", "mistral", "gemma", "added", "clip", "behaviors"}) {
        INFO(name);
        TestTokenizer t;
        t.open(kFolder + name);
        for (int round = 0; round < 300; round++) {
            std::string text;
            for (uint32_t i = numbers.below(20); i > 0; i--)
                text += numbers.below(4) ? pieces[numbers.below(21)] : std::string(1, static_cast<char>(numbers.below(256)));
            for (const bool special : {false, true}) {
                const std::vector<int32_t> ids = t.encode(text, special);
                for (const int32_t id : ids) REQUIRE((id >= 0 && static_cast<uint32_t>(id) < t.tokenizer.vocab_size()));
                REQUIRE(join(t.stream(ids, true)) == t.decode(ids, true));
                const std::string family = name;
                if (family == "gpt2" || family == "llama3" || family == "cases" || family == "possessive")
                    REQUIRE(t.decode(ids, true) == repaired(text));
            }
        }
        for (int round = 0; round < 300; round++) {
            std::vector<int32_t> ids;
            for (uint32_t i = numbers.below(40); i > 0; i--)
                ids.push_back(static_cast<int32_t>(numbers.below(std::min(numbers.below(2) ? 300 : 1u << 24, t.tokenizer.vocab_size()))));
            REQUIRE(join(t.stream(ids)) == t.decode(ids));
        }
    }
}
