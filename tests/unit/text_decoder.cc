// Streams: what is held back, for how long, and what becomes of it.
#include <string>

#include "base/utf8.h"
#include "text_fixture.h"

using namespace pith;

namespace {

const std::string kMark = "\xEF\xBF\xBD";

// Byte tokens 0 … 255, then "a", "▁b", " ", "▁", and a special token; with this decoder.
struct Bytes : TestTokenizer {
    enum : int32_t { A = 256, B, Space, Bar, Special };
    explicit Bytes(const std::string& decoder) {
        std::string vocab;
        for (int byte = 0; byte < 256; byte++) {
            char name[16];
            snprintf(name, sizeof name, "\"<0x%02X>\":%d,", byte, byte);
            vocab += name;
        }
        vocab += R"("a":256,"▁b":257," ":258,"▁":259)";
        const pith_status status = load_json(R"({"added_tokens":[{"id":260,"content":"<s>","special":true}],"decoder":)" + decoder +
                                             R"(,"model":{"type":"BPE","byte_fallback":true,"vocab":{)" + vocab + R"(},"merges":[]}})");
        INFO(error.message);
        REQUIRE(status == PITH_OK);
    }
};

std::vector<int32_t> bytes_of(const std::string& text) {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
}
std::vector<int32_t> operator+(std::vector<int32_t> a, const std::vector<int32_t>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

const char* kLlama =
    R"({"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},
                        {"type":"Strip","content":" ","start":1,"stop":0}]})";

}  // namespace

TEST_CASE("a run of byte tokens comes out whole, at its end") {
    Bytes t(kLlama);
    const std::string smile = "\U0001F642";
    CHECK(t.stream(bytes_of(smile) + std::vector<int32_t>{Bytes::A}) == std::vector<std::string>{"", "", "", "", smile + "a", ""});
    CHECK(t.stream(bytes_of(smile)) == std::vector<std::string>{"", "", "", "", smile});
    CHECK(t.decode(bytes_of(smile) + std::vector<int32_t>{Bytes::Special} + bytes_of(smile)) == smile + smile);
}

TEST_CASE("a run that is no UTF-8 is one mark a byte, however much of it was whole") {
    Bytes t(kLlama);
    CHECK(t.decode(bytes_of("\xE4\xB8")) == kMark + kMark);
    CHECK(t.decode(bytes_of("ab\xFF")) == kMark + kMark + kMark);
    CHECK(t.stream(bytes_of("ab\xFF"
                            "c") +
                   std::vector<int32_t>{Bytes::A}) == std::vector<std::string>{"", "", kMark + kMark + kMark, kMark, "a", ""});
    CHECK(t.decode(bytes_of("\xC3") + std::vector<int32_t>{Bytes::A} + bytes_of("\xA9")) == kMark + "a" + kMark);
}

TEST_CASE("of a run longer than a stream can hold, the oldest whole code points come out") {
    Bytes t(kLlama);
    std::string text;
    for (int i = 0; i < 40; i++) text += "\u6d77";
    CHECK(join(t.stream(bytes_of(text))) == text);
    CHECK(t.decode(bytes_of(text)) == text);
    for (const std::string& piece : t.stream(bytes_of(text))) CHECK(utf8_is_valid(piece));
    const std::string broken = text + "\xFF";
    CHECK(join(t.stream(bytes_of(broken))) == t.decode(bytes_of(broken)));
}

TEST_CASE("the space that a decoder strips is the text's first, not a later one's") {
    Bytes t(kLlama);
    CHECK(t.decode({Bytes::B, Bytes::B}) == "b b");
    CHECK(t.decode({Bytes::Special, Bytes::B}) == "b");
    CHECK(t.decode({Bytes::Special, Bytes::B}, true) == "<s> b");
    CHECK(t.decode({Bytes::Bar, Bytes::B}) == " b");
    CHECK(t.decode(bytes_of(" ") + std::vector<int32_t>{Bytes::A}) == "a");
    CHECK(t.stream({Bytes::B, Bytes::B}) == std::vector<std::string>{"b", " b", ""});
}

TEST_CASE("what may be stripped from the end is held until more comes") {
    Bytes t(
        R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"Strip","content":" ","start":0,"stop":2}]})");
    CHECK(t.stream({Bytes::Space, Bytes::A, Bytes::Space, Bytes::Bar, Bytes::Space}) ==
          std::vector<std::string>{"", " a", "", "", " ", ""});
    CHECK(t.stream({Bytes::A, Bytes::Space, Bytes::A}) == std::vector<std::string>{"a", "", " a", ""});
    CHECK(t.decode({Bytes::Space}).empty());
}

TEST_CASE("Metaspace drops its marks in the first token only") {
    Bytes t(R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true})");
    CHECK(t.stream({Bytes::Special, Bytes::B, Bytes::B, Bytes::Bar}) == std::vector<std::string>{"", "b", " b", " ", ""});
    Bytes never(R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"never"})");
    CHECK(never.decode({Bytes::B}) == " b");
}

TEST_CASE("BPEDecoder: the last token's suffix is no space, so a token waits for the next") {
    Bytes t(R"({"type":"BPEDecoder","suffix":"a"})");
    CHECK(t.stream({Bytes::A, Bytes::B, Bytes::A}) == std::vector<std::string>{"", " ", "▁b", ""});
    CHECK(t.decode({Bytes::A}).empty());
}

TEST_CASE("without a decoder there are spaces between the tokens") {
    Bytes t("null");
    CHECK(t.stream({Bytes::A, Bytes::Special, Bytes::A}) == std::vector<std::string>{"a", "", " a", ""});
    CHECK(t.decode({}).empty());
}

TEST_CASE("a byte-level stream holds a code point that isn't whole, and marks one that never gets so") {
    TestTokenizer t;
    t.open(std::string(PITH_SOURCE_DIR) + "/tests/golden/tokenizer/gpt2");
    const auto byte = [&t](const char* character) { return t.encode(character).front(); };
    const std::vector<int32_t> smile = t.encode("\U0001F642");
    REQUIRE(smile.size() == 4);
    CHECK(t.stream(smile) == std::vector<std::string>{"", "", "", "\U0001F642", ""});
    CHECK(t.stream({smile[0], smile[1]}) == std::vector<std::string>{"", "", kMark});
    CHECK(t.stream({smile[0], smile[1], byte("a")}) == std::vector<std::string>{"", "", kMark + "a", ""});
    CHECK(t.stream({smile[0], smile[0], smile[3]}) == std::vector<std::string>{"", kMark, kMark + kMark, ""});
}

TEST_CASE("ids out of range and streams of another kind are refused") {
    Bytes t(kLlama);
    char text[64];
    size_t size = 0;
    const int32_t ids[] = {1, 261};
    CHECK(t.tokenizer.decode(ids, 2, false, text, sizeof text, &size, &t.error) == PITH_E_ARGUMENT);
    CHECK(std::string(t.error.message).find("tokens[1]") != std::string::npos);
    CHECK(std::string(t.error.message).find("261") != std::string::npos);
    DecodeState state = {};
    for (const int32_t id : {-2, 261, INT32_MAX, INT32_MIN})
        CHECK(t.tokenizer.stream(&state, id, false, text, sizeof text, &size, &t.error) == PITH_E_ARGUMENT);
    for (const uint32_t bad : {8u, 2u << 8, 1u << 16, 1u << 24}) {
        DecodeState wrong = {};
        wrong.state = bad;
        CHECK(t.tokenizer.stream(&wrong, 1, false, text, sizeof text, &size, &t.error) == PITH_E_ARGUMENT);
    }
    DecodeState full = {};
    full.count = 25;
    CHECK(t.tokenizer.stream(&full, 1, false, text, sizeof text, &size, &t.error) == PITH_E_ARGUMENT);
    std::string_view piece;
    CHECK(t.tokenizer.piece(-1, &piece, &t.error) == PITH_E_ARGUMENT);
    CHECK(t.tokenizer.piece(0x41, &piece, &t.error) == PITH_OK);
    CHECK(piece == "A");
    CHECK(t.tokenizer.piece(Bytes::B, &piece, &t.error) == PITH_OK);
    CHECK(piece == " b");
    CHECK(t.tokenizer.piece(Bytes::Special, &piece, &t.error) == PITH_OK);
    CHECK(piece == "<s>");
}
