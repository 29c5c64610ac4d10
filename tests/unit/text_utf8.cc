// UTF-8: what is whole, what is cut, and where a malformed piece ends.
#include "base/utf8.h"

#include <string>

#include "base_memory.h"
#include "catch.h"

using namespace pith;

namespace {

std::string repair(const std::string& text) {
    TestMemory memory;
    std::string result;
    {
        Array<char> to(memory.allocator);
        REQUIRE(utf8_repair(text, &to));
        result.assign(to.data(), to.size());
    }
    REQUIRE(memory.live.empty());
    return result;
}

const std::string kMark = "\xEF\xBF\xBD";

}  // namespace

TEST_CASE("every code point survives encoding and decoding") {
    for (uint32_t point = 0; point <= 0x10FFFF; point++) {
        if (point == 0xD800) point = 0xE000;
        char bytes[4];
        const uint32_t size = utf8_encode(point, bytes);
        const Utf8Char c = utf8_decode(bytes, bytes + size);
        if (c.value != point || c.size != size || utf8_next(bytes).value != point || utf8_previous(bytes + size) != bytes) FAIL(point);
        for (uint32_t cut = 1; cut < size; cut++)
            if (utf8_decode(bytes, bytes + cut).value != kUtf8Partial || utf8_decode(bytes, bytes + cut).size != cut) FAIL(point);
    }
}

TEST_CASE("what is no code point is malformed") {
    for (const char* text : {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
                             "\xF5\x80\x80\x80", "\xFF"})
        CHECK(utf8_decode(text, text + strlen(text)).value == kUtf8Malformed);
    CHECK(utf8_is_valid("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82"));
    CHECK_FALSE(utf8_is_valid("a\xC3"));
    CHECK_FALSE(utf8_is_valid("\xED\xB0\x80"));
}

TEST_CASE("repair puts one mark for each maximal malformed piece, as Python does") {
    CHECK(repair("") == "");
    CHECK(repair("plain \xC3\xA9") == "plain \xC3\xA9");
    CHECK(repair("\xFF") == kMark);
    CHECK(repair("a\xC3(") == "a" + kMark + "(");
    CHECK(repair("\xE2\x82") == kMark);  // one cut piece
    CHECK(repair("\xE2\x82\xE2\x82") == kMark + kMark);
    CHECK(repair("\xF0\x9F\x99x") == kMark + "x");
    CHECK(repair("\xED\xA0\x80") == kMark + kMark + kMark);  // a surrogate: no byte goes with the next
    CHECK(repair("\xC0\x80") == kMark + kMark);
    CHECK(repair("\xF1\x80\x80x\xF1\x80x\xF1x") == kMark + "x" + kMark + "x" + kMark + "x");
    CHECK(repair(std::string("\0\xFF\0", 3)) == std::string("\0", 1) + kMark + std::string("\0", 1));
}
