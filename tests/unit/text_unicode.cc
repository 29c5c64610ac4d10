// Categories, sorts and normal forms. The forms' expected texts are Unicode's own definitions, the categories those of Unicode 16.
#include "text/unicode.h"

#include <string>

#include "base_memory.h"
#include "catch.h"

using namespace pith;
using namespace pith::unicode;

namespace {

std::string normal(const std::string& text, Form form) {
    TestMemory memory;
    Array<int32_t> points(memory.allocator);
    Array<char> to(memory.allocator);
    REQUIRE(normalize(text, form, &points, &to));
    return {to.data(), to.size()};
}
constexpr Form kNfc = {true, false}, kNfd = {false, false}, kNfkc = {true, true}, kNfkd = {false, true};

uint32_t count(Mask mask) {
    uint32_t n = 0;
    for (uint32_t point = 0; point < 0x110000; point++) n += is(point, mask);
    return n;
}

}  // namespace

TEST_CASE("categories have Unicode 16's sizes") {
    CHECK(count(kLetter) == 141028);
    CHECK(count(kNumber) == 1911);
    CHECK(count(kDecimal) == 760);
    CHECK(count(kPunctuation) == 855);
    CHECK(count(kSymbol) == 8514);
    CHECK(count(kMark) == 2501);
    CHECK(is(0x2EBF0, kLetter));  // assigned in 15.1
    CHECK(category(0x110000) == 0);
}

TEST_CASE("category names are found short and long, and nothing else is") {
    CHECK(category_mask("L") == kLetter);
    CHECK(category_mask("Uppercase_Letter") == kUppercase);
    CHECK(category_mask("uppercase letter") == kUppercase);
    CHECK(category_mask("Nd") == kDecimal);
    CHECK(category_mask("") == 0);
    CHECK(category_mask("Latin") == 0);
    CHECK(category_mask("a very long name that is no category at all") == 0);
}

TEST_CASE("sorts agree with categories, for ASCII too") {
    for (uint32_t point = 0; point < 0x3000; point++) {
        const Sort expected = point == '\n' || point == '\r' ? Sort::Newline
                              : is_space(point)              ? Sort::Space
                              : is(point, kLetter)           ? Sort::Letter
                              : is(point, kNumber)           ? Sort::Number
                                                             : Sort::Other;
        if (sort(point) != expected) FAIL(point);
    }
    CHECK(is_space(0x85));
    CHECK(is_space(0x3000));
    CHECK_FALSE(is_space(0x200B));
    CHECK(is_word('_'));
    CHECK(is_word(0x24B6));
    CHECK_FALSE(is_word('-'));
    CHECK(is_punctuation('+'));
    CHECK(is_punctuation(0x2014));
    CHECK_FALSE(is_punctuation(0x20AC));
}

TEST_CASE("case") {
    CHECK(lower(0xC9) == 0xE9);
    CHECK(lower('a') == 'a');
    CHECK(upper(0x17F) == 'S');
    CHECK(fold(0x17F) == 's');
    CHECK(fold(0xDF) == 0xDF);  // folds to two code points: left alone
}

TEST_CASE("normal forms") {
    CHECK(normal("e\u0301", kNfc) == "\u00e9");
    CHECK(normal("\u00e9", kNfd) == "e\u0301");
    CHECK(normal("\uFB01", kNfc) == "\uFB01");
    CHECK(normal("\uFB01", kNfkc) == "fi");
    CHECK(normal("\u1E9B\u0323", kNfc) == "\u1E9B\u0323");
    CHECK(normal("\u1E9B\u0323", kNfd) == "\u017F\u0323\u0307");
    CHECK(normal("\u1E9B\u0323", kNfkc) == "\u1E69");
    CHECK(normal("\u1E9B\u0323", kNfkd) == "s\u0323\u0307");
    CHECK(normal("\u1112\u1161\u11AB", kNfc) == "\uD55C");
    CHECK(normal("\uD55C", kNfd) == "\u1112\u1161\u11AB");
    CHECK(normal("\u0958", kNfc) == "\u0915\u093C");  // excluded from composition
    CHECK(normal("a\u0301\u0323", kNfd) == "a\u0323\u0301");
    CHECK(normal(std::string("\0a", 2), kNfc) == std::string("\0a", 2));
    CHECK(normal("", kNfkd).empty());
    CHECK(normal("\uFDFA", kNfkd).size() == 33);  // the longest decomposition
}

TEST_CASE("a long run of marks in the worst order is put right in one pass") {
    std::string text = "a";
    for (int i = 0; i < 200000; i++) text += "\u0301";  // class 230
    for (int i = 0; i < 200000; i++) text += "\u0323";  // class 220
    const std::string made = normal(text, kNfd);        // quadratic, this would take minutes
    REQUIRE(made.size() == text.size());
    CHECK(made.substr(0, 5) == "a\u0323\u0323");
    CHECK(made.substr(made.size() - 4) == "\u0301\u0301");
}
