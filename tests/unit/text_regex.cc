// The matcher for patterns without a scanner: syntax, semantics, refusals and bounds.
#include "text/regex.h"

#include <string>
#include <vector>

#include "base_memory.h"
#include "catch.h"
#include "text/matcher.h"
#include "text_fixture.h"

using namespace pith;

namespace {

std::string name(pith_status status) {
    switch (status) {
        case PITH_E_UNSUPPORTED:
            return "!unsupported";
        case PITH_E_FORMAT:
            return "!malformed";
        case PITH_E_LIMIT:
            return "!limit";
        default:
            return "!" + std::to_string(status);
    }
}

// The successive matches, a '|' between; a "!" where it fails.
std::string matches(const std::string& pattern, const std::string& text, uint64_t fuel = 1000000) {
    TestMemory memory;
    Matcher matcher(memory.allocator);
    pith_error error{};
    RegexBudget budget;
    pith_status status = matcher.use_regex(pattern, "p", &budget, &error);
    if (status < 0) return name(status);
    RegexScratch scratch(memory.allocator);
    scratch.fuel = fuel;
    scratch.text_limit = 1 << 20;
    MatchIterator all(matcher, text, &scratch);
    std::string result;
    for (int count = 0;; count++) {
        Regex::Match match;
        status = all.next(&match, &error);
        if (status < 0) return name(status);
        if (!match.found) return result;
        if (count > 0) result += '|';
        result += text.substr(match.begin, match.end - match.begin);
    }
}

}  // namespace

TEST_CASE("characters, classes and repetition") {
    CHECK(matches("a", "banana") == "a|a|a");
    CHECK(matches("an|na", "banana") == "an|an");
    CHECK(matches("a+?", "aaa") == "a|a|a");
    CHECK(matches("a{2}", "aaaaa") == "aa|aa");
    CHECK(matches("a{,2}b", "aaab") == "aab");
    CHECK(matches("a{1,2}+a", "aaa") == "aaa");  // not possessive: repeats the interval
    CHECK(matches("a++a", "aaa").empty());
    CHECK(matches("a{x", "a{x") == "a{x");
    CHECK(matches("[^a-c]+", "abcxyzabc") == "xyz");
    CHECK(matches("[]a]+", "a]b") == "a]");
    CHECK(matches("[a-z&&[^aeiou]]+", "hello") == "h|ll");
    CHECK(matches("[[:digit:]_]+", "a1_2b") == "1_2");
    CHECK(matches("\\x41\\x{42}\\u0043", "ABC") == "ABC");
    CHECK(matches(".+", "a\nb") == "a|b");
    CHECK(matches("(?m:.+)", "a\nb") == "a\nb");
    CHECK(matches("\\.", "a.b") == ".");
    CHECK(matches("(ab|a)(bc)?", "abc") == "ab");
    CHECK(matches("(?:a|ab)(?:c|bcd)", "abcd") == "abcd");
}

TEST_CASE("Unicode in patterns") {
    CHECK(matches("\\p{L}+", "a\u00e9\u6d77 1") == "a\u00e9\u6d77");
    CHECK(matches("\\P{L}+", "a1 b") == "1 ");
    CHECK(matches("\\p{^L}+", "a1 b") == "1 ");
    CHECK(matches("[\\p{Lu}\\p{N}]+", "aB1c") == "B1");
    CHECK(matches("\\p{Han}+", "a\u6d77\u8fb9b") == "\u6d77\u8fb9");
    CHECK(matches("\\w+", "a_1\u0301-") == "a_1\u0301");
    CHECK(matches("(?i:s)", "sS\u017f") == "s|S|\u017f");
    CHECK(matches("a(?i)b|c", "aB aC C") == "aB|aC");
    CHECK(matches("(?i:[k-m])+", "KlM") == "KlM");
    CHECK(matches("(?i)[^a]", "Ab") == "b");
}

TEST_CASE("assertions, look-around and atomic groups") {
    CHECK(matches("^a", "a\na") == "a|a");  // lines, as in Ruby
    CHECK(matches("a$", "a\na") == "a|a");
    CHECK(matches("\\Aa|a\\z", "aaa") == "a|a");
    CHECK(matches("\\bx\\b", "x xx x") == "x|x");
    CHECK(matches("\\s+(?!\\S)", "  a ") == " | ");
    CHECK(matches("(?<=a)b", "bab") == "b");
    CHECK(matches("(?<!a)b", "bab") == "b");
    CHECK(matches("(?<=\u00e9)x", "\u00e9x") == "x");
    CHECK(matches("(?>a+)a", "aaa").empty());
    CHECK(matches("(?=ab)a", "abaa") == "a");
    CHECK(matches("x*", "axb") == "|x|");  // empty matches, but none right behind another match
}

TEST_CASE("what isn't supported or malformed is refused when compiled") {
    for (const char* pattern :
         {"(a)\\1", "(?<n>a)", "\\X", "(?x)a", "(?<=a+)b", "(a*)*", "(?:a?){2}", "()+", "\\p{Greek}", "[[:alpha:]]", "\\y"})
        CHECK(matches(pattern, "a") == "!unsupported");
    for (const char* pattern :
         {"(", "(a", ")", "[a", "a\\", "*a", "a{2,1}", "[b-a]", "\\p{L", "\\pL", "\\x{110000}", "\\x{D800}", "(?:a", "(?i", "[a-"})
        CHECK(matches(pattern, "a") == "!malformed");
    CHECK(matches(std::string(60, '(') + "a" + std::string(60, ')'), "a") == "!limit");
    CHECK(matches("a{1001}", "a") == "!limit");
    CHECK(matches("(?:(?:(?:ab){1000}){1000}){1000}", "a") == "!limit");
    CHECK(matches("a" + std::string(100, '+'), "a") == "!limit");
    CHECK(matches(std::string(100000, 'a'), "a") == "!limit");
}

TEST_CASE("the regular expressions of a file share a budget") {
    TestMemory memory;
    RegexBudget budget;
    pith_error error{};
    int compiled = 0;
    pith_status status = PITH_OK;
    for (; status == PITH_OK; compiled++) {
        Regex regex(memory.allocator);
        status = regex.compile("(?:ab|c){900}", "p", &budget, &error);  // 5400 instructions
    }
    CHECK(compiled == 4);
    CHECK(status == PITH_E_LIMIT);
    CHECK(std::string(error.message) ==
          "p: the regular expression is too large, with those before it: at most 16384 bytes and 16384 instructions");
    RegexBudget bytes;
    Regex regex(memory.allocator);
    CHECK(regex.compile(std::string(10000, 'a'), "p", &bytes, &error) == PITH_OK);
    CHECK(regex.compile("[" + std::string(10000, 'a') + "]", "p", &bytes, &error) == PITH_E_LIMIT);
}

TEST_CASE("a search is bounded in steps and depth") {
    const std::string text(40, 'a');
    CHECK(matches("(?:a+)+b", text) == "!limit");
    CHECK(matches("(?:ab|a)+c", std::string(2000000, 'a'), ~uint64_t{0}) == "!limit");  // two choices a step
    CHECK(matches("(?:ab|a)+c", std::string(400, 'a'), ~uint64_t{0}).empty());
    std::string optional = "a";
    for (int i = 0; i < 20; i++) optional = "(?:" + optional + "){0,1}";
    CHECK(matches("(?:" + optional + "a)+i", std::string(2000, 'a'), ~uint64_t{0}) == "!limit");  // many choices for a short text
    CHECK(matches("[ab]*a", std::string(2000000, 'a'), 10000000).size() == 2000000);              // one for the whole run
}

TEST_CASE("a failed allocation is a status") {
    for (long k = 0;; k++) {
        TestMemory memory;
        memory.fail_at = k;
        pith_status status = PITH_OK;
        {
            Regex regex(memory.allocator);
            pith_error error{};
            RegexBudget budget;
            status = regex.compile("(?i:a|b)+[c-f&&[^d]]{2,3}(?<!x)", "p", &budget, &error);
            RegexScratch scratch(memory.allocator);
            scratch.fuel = 1000;
            Regex::Match match;
            if (status == PITH_OK) status = regex.find("abccc", 0, &scratch, &match, &error);
        }
        REQUIRE(memory.live.empty());
        if (status == PITH_OK) break;
        REQUIRE(status == PITH_E_MEMORY);
    }
}

TEST_CASE("the scanners do what their patterns say") {
    const std::string tail = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    const std::string words = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}";
    const std::string patterns[] = {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
                                    words + "{1,3}" + tail, words + tail};
    const char* letters[] = {" ", " ", "\n", "\r", "\t", "\u00a0", "a", "B",      "s", "S", "l",      "L",      "r",
                             "e", "v", "t",  "'",  "'",  "\u017f", "1", "\u00bd", "!", "-", "\u0301", "\u6d77", "\U0001F642"};
    TestMemory memory;
    Numbers numbers{7};
    for (const std::string& pattern : patterns) {
        Regex regex(memory.allocator);
        pith_error error{};
        RegexBudget budget;
        REQUIRE(regex.compile(pattern, "p", &budget, &error) == PITH_OK);
        const Scanner scanner = find_scanner(pattern);
        REQUIRE(scanner != Scanner::None);
        RegexScratch scratch(memory.allocator);
        for (int round = 0; round < 20000; round++) {
            std::string text;
            for (uint32_t i = numbers.below(12) + 1; i > 0; i--) text += letters[numbers.below(sizeof letters / sizeof letters[0])];
            for (size_t at = 0; at < text.size();) {
                scratch.fuel = 10000;
                Regex::Match match;
                REQUIRE(regex.find(text, at, &scratch, &match, &error) == PITH_OK);
                const size_t end = scan(scanner, text, at);
                if (!match.found || match.begin != at || match.end != end)
                    FAIL(pattern << " on " << text << " at " << at << ": " << end << " and " << match.end);
                at = end;
            }
        }
    }
    CHECK(find_scanner("\\s+") == Scanner::None);
}
