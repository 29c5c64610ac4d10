// The JSON reader: what RFC 8259 accepts, what it must refuse, its limits, and exact numbers.
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "base_memory.h"
#include "catch.h"

using namespace pith;
using std::string;

namespace {

struct Parsed {
    TestMemory memory;
    Arena arena{memory.allocator};
    const Json* root = nullptr;
    pith_error error{};
    pith_status status;
    explicit Parsed(std::string_view text, const JsonLimits& limits = {}) {
        status = json_parse(text, "test.json", arena, &root, &error, limits);
    }
    string message() const { return error.message; }
};

string repeat(const string& text, size_t count) {
    string result;
    for (size_t i = 0; i < count; i++) result += text;
    return result;
}

}  // namespace

TEST_CASE("json: values") {
    Parsed p(R"( {"a": [1, -2, 0, -0, 1.5, 1e3, 2E-1], "b": {"c": true, "d": false, "e": null}, "": "x", "s": ""} )");
    REQUIRE(p.status == PITH_OK);
    REQUIRE(p.root->is(Json::Object));
    CHECK(p.root->size == 4);
    const Json* a = p.root->find("a");
    REQUIRE((a && a->is(Json::Array) && a->size == 7));
    CHECK((a->items[0].is(Json::Int) && a->items[0].integer == 1));
    CHECK(a->items[1].integer == -2);
    CHECK(a->items[3].integer == 0);
    CHECK((a->items[4].is(Json::Float) && a->items[4].number == 1.5));
    CHECK((a->items[5].is(Json::Float) && a->items[5].number == 1000));
    CHECK(a->items[6].number == 0.2);
    CHECK(a->items[0].as_double() == 1.0);
    const Json* b = p.root->find("b");
    REQUIRE(b);
    CHECK(b->find("c")->boolean);
    CHECK_FALSE(b->find("d")->boolean);
    CHECK(b->find("e")->is(Json::Null));
    CHECK(b->find("f") == nullptr);
    CHECK(p.root->find("")->text() == "x");
    CHECK(p.root->find("s")->text().empty());
    CHECK(a->find("x") == nullptr);
    CHECK(p.root->members[1].name() == "b");
}

TEST_CASE("json: documents that are one value") {
    for (const char* text : {"1", "\"x\"", "null", "true", "[]", "{}", " \t\r\n[ ] ", "[[[]],{}]", "{\"a\":{}}", "[1,2]", "1.0e+5"}) {
        INFO(text);
        CHECK(Parsed(text).status == PITH_OK);
    }
}

TEST_CASE("json: integers are exact or floats") {
    Parsed p(
        "[9223372036854775807, -9223372036854775808, 9223372036854775808, -9223372036854775809, 18446744073709551616, 1.0, "
        "10000000000000000000000]");
    REQUIRE(p.status == PITH_OK);
    const Json* v = p.root->items;
    CHECK((v[0].is(Json::Int) && v[0].integer == std::numeric_limits<int64_t>::max()));
    CHECK((v[1].is(Json::Int) && v[1].integer == std::numeric_limits<int64_t>::min()));
    CHECK((v[2].is(Json::Float) && v[2].number == 9223372036854775808.0));
    CHECK((v[3].is(Json::Float) && v[3].number == -9223372036854775808.0));
    CHECK((v[4].is(Json::Float) && v[4].number == 18446744073709551616.0));
    CHECK(v[5].is(Json::Float));
    CHECK(v[6].number == 1e22);
}

TEST_CASE("json: strings") {
    struct Case {
        const char* text;
        std::string_view value;
    };
    const Case cases[] = {
        {R"("\"\\\/\b\f\n\r\t")", "\"\\/\b\f\n\r\t"},
        {R"("\u0041\u00e9\u20ac")", "A\xc3\xa9\xe2\x82\xac"},
        {R"("\uD83D\uDE00!")", "\xf0\x9f\x98\x80!"},
        {R"("\ud800\udc00")", "\xf0\x90\x80\x80"},
        {R"("\uDBFF\uDFFF")", "\xf4\x8f\xbf\xbf"},
        {R"("a\u0000b")", std::string_view("a\0b", 3)},
        {"\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\"\x7f\"", "\x7f"},
        {R"("\ud7ff\ue000")", "\xed\x9f\xbf\xee\x80\x80"},
        {R"("\uFFFF\uFEFF")", "\xef\xbf\xbf\xef\xbb\xbf"},
    };
    for (const Case& c : cases) {
        INFO(c.text);
        Parsed p(c.text);
        REQUIRE(p.status == PITH_OK);
        CHECK(p.root->text() == c.value);
        CHECK(p.root->string[p.root->size] == '\0');
    }
}

TEST_CASE("json: malformed documents") {
    struct Case {
        const char* name;
        string text;
        const char* message;
    };
    const Case cases[] = {
        {"empty", "", "expected a value"},
        {"space only", "  \n ", "line 2: expected a value"},
        {"a byte order mark", "\xef\xbb\xbf{}", "expected a value"},
        {"two values", "1 2", "after the end"},
        {"trailing comma in an array", "[1,]", "expected a value"},
        {"leading comma", "[,1]", "expected a value"},
        {"two commas", "[1,,2]", "expected a value"},
        {"no comma", "[1 2]", "expected ',' or ']'"},
        {"unclosed array", "[1", "ends inside an array"},
        {"unclosed array after a comma", "[1,", "expected a value, found the end"},
        {"unclosed object", "{\"a\":1", "ends inside an object"},
        {"wrong close", "[1}", "expected ',' or ']'"},
        {"wrong close of an object", "{\"a\":1]", "expected ',' or '}'"},
        {"trailing comma in an object", "{\"a\":1,}", "expected a key"},
        {"bare key", "{a:1}", "expected a key"},
        {"number as key", "{1:1}", "expected a key"},
        {"no colon", "{\"a\" 1}", "expected ':'"},
        {"no value", "{\"a\":}", "expected a value"},
        {"single quotes", "['a']", "expected a value"},
        {"comment", "[1] // x", "after the end"},
        {"stray close", "]", "expected a value"},
        {"NaN", "NaN", "expected a value"},
        {"Infinity", "-Infinity", "expected a value"},
        {"capitals", "TRUE", "expected a value"},
        {"cut word", "tru", "expected a value"},
        {"word and more", "truex", "after the end"},
        {"leading zero", "01", "after the end"},
        {"leading plus", "+1", "expected a value"},
        {"only a minus", "-", "expected a value"},
        {"no digits after the point", "1.", "expected a value"},
        {"no digits before the point", ".5", "expected a value"},
        {"no exponent", "1e", "expected a value"},
        {"no exponent digits", "1e+", "expected a value"},
        {"hexadecimal", "0x10", "after the end"},
        {"too large", "1e309", "too large"},
        {"too small", "-1e400", "too large"},
        {"huge exponent", "1e99999999999999999999", "too large"},
        {"unclosed string", "\"abc", "does not end"},
        {"unclosed string after a backslash", "\"abc\\", "does not end"},
        {"unclosed after an escape", "\"abc\\\"", "does not end"},
        {"tab in a string", "\"a\tb\"", "control character"},
        {"newline in a string", "\"a\nb\"", "control character"},
        {"NUL in a string", string("\"a\0b\"", 5), "control character"},
        {"unknown escape", "\"\\x41\"", "unknown escape"},
        {"escaped newline", "\"\\\n\"", "unknown escape"},
        {"short \\u", "\"\\u12\"", "four hexadecimal"},
        {"bad \\u", "\"\\u12g4\"", "four hexadecimal"},
        {"high half alone", "\"\\ud800\"", "half a surrogate"},
        {"high half and text", "\"\\ud800abcdef\"", "half a surrogate"},
        {"high half twice", "\"\\ud800\\ud800\"", "half a surrogate"},
        {"low half alone", "\"\\udc00\"", "half a surrogate"},
        {"the last low half alone", "\"\\udfff\"", "half a surrogate"},
        {"high half, then no low half", "\"\\ud800\\ue000\"", "half a surrogate"},
        {"the last high half alone", "\"\\udbff\"", "half a surrogate"},
        {"high half, short \\u", "\"\\ud800\\udc0\"", "half a surrogate"},
        {"lone continuation byte", "\"\x80\"", "invalid UTF-8"},
        {"overlong slash", "\"\xc0\xaf\"", "invalid UTF-8"},
        {"overlong three", "\"\xe0\x80\xaf\"", "invalid UTF-8"},
        {"overlong four", "\"\xf0\x80\x80\xaf\"", "invalid UTF-8"},
        {"surrogate in UTF-8", "\"\xed\xa0\x80\"", "invalid UTF-8"},
        {"past U+10FFFF", "\"\xf4\x90\x80\x80\"", "invalid UTF-8"},
        {"0xff", "\"\xff\"", "invalid UTF-8"},
        {"cut sequence", "\"\xe2\x82\"", "invalid UTF-8"},
        {"sequence cut by the end", "\"\xe2\x82", "invalid UTF-8"},
        {"UTF-8 outside a string", "\xc3\xa9", "expected a value"},
        {"NUL after the end", string("1\0", 2), "after the end"},
        {"duplicate key", "{\"a\":1,\"b\":2,\"a\":3}", "duplicate key 'a'"},
        {"duplicate key by escape", "{\"a\":1,\n\"\\u0061\":2}", "line 2: duplicate key 'a'"},
        {"duplicate empty key", "{\"\":1,\"\":2}", "duplicate key ''"},
        {"duplicate deep down", "[[{\"x\":{\"k\":1,\"k\":1}}]]", "duplicate key 'k'"},
    };
    for (const Case& c : cases) {
        INFO(c.name);
        Parsed p(c.text);
        CHECK(p.status == PITH_E_FORMAT);
        CHECK(p.error.status == PITH_E_FORMAT);
        CHECK(p.root == nullptr);
        INFO(p.message());
        CHECK(p.message().find(c.message) != string::npos);
        CHECK(p.message().find("test.json: line ") == 0);
    }
}

TEST_CASE("json: every prefix of a document is malformed") {
    const string text = R"({"a":[1,2.5e3,"x\u00e9\ud83d\ude00"],"b":{"c":true,"d":null}})";
    REQUIRE(Parsed(text).status == PITH_OK);
    for (size_t i = 0; i < text.size(); i++) CHECK(Parsed(std::string_view(text.data(), i)).status == PITH_E_FORMAT);
}

TEST_CASE("json: equal keys in different objects") { CHECK(Parsed(R"({"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]})").status == PITH_OK); }

TEST_CASE("json: limits") {
    JsonLimits limits;
    limits.depth = 3;
    CHECK(Parsed("[[[1]]]", limits).status == PITH_OK);
    Parsed deep("[[[[1]]]]", limits);
    CHECK(deep.status == PITH_E_LIMIT);
    CHECK(deep.message().find("nested too deeply") != string::npos);
    CHECK(Parsed(repeat("[", 64) + repeat("]", 64)).status == PITH_OK);
    CHECK(Parsed(repeat("[", 65) + repeat("]", 65)).status == PITH_E_LIMIT);
    CHECK(Parsed(repeat("{\"a\":", 2000000)).status == PITH_E_LIMIT);
    limits.values = 4;
    CHECK(Parsed("{\"a\":1,\"b\":[2]}", limits).status == PITH_OK);  // keys are no values
    CHECK(Parsed("[1,2,3,4]", limits).status == PITH_E_LIMIT);
}

TEST_CASE("json: many keys, colliding or not, take memory and time in proportion") {
    string text = "{";
    for (int i = 0; i < 200000; i++) text += (i ? ",\"" : "\"") + std::to_string(i) + "\":0";
    Parsed p(text + "}");
    REQUIRE(p.status == PITH_OK);
    CHECK(p.root->size == 200000);
    CHECK(p.memory.peak < 100 * text.size());
    CHECK(Parsed(text + ",\"77777\":1}").message().find("duplicate key '77777'") != string::npos);
    // FNV-1a of 32 bits multiplies after each byte: these pairs of keys collide.
    CHECK(Parsed(R"({"costarring":1,"liquid":2,"declinate":3,"macallums":4})").status == PITH_OK);
    CHECK(Parsed(R"({"costarring":1,"liquid":2,"costarring":3})").status == PITH_E_FORMAT);
}

TEST_CASE("json: a failed allocation is PITH_E_MEMORY and leaks nothing") {
    string text = "{\"list\":[";
    for (int i = 0; i < 300; i++) text += std::to_string(i) + ",";
    text += "0],\"text\":\"" + repeat("x", 9000) + "\"}";
    long k = 0;
    for (;; k++) {
        TestMemory memory;
        memory.fail_at = k;
        pith_error error{};
        const Json* root = nullptr;
        pith_status status;
        {
            Arena arena(memory.allocator);
            status = json_parse(text, "test.json", arena, &root, &error);
        }
        CHECK(memory.held == 0);
        CHECK(memory.sizes_match);
        if (status == PITH_OK) break;
        CHECK(status == PITH_E_MEMORY);
        CHECK(string(error.message).find("test.json") != string::npos);
        CHECK(root == nullptr);
    }
    CHECK(k > 5);
}

TEST_CASE("json: a NULL error is fine") {
    TestMemory memory;
    Arena arena(memory.allocator);
    const Json* root = nullptr;
    CHECK(json_parse("[", "x", arena, &root, nullptr) == PITH_E_FORMAT);
}

TEST_CASE("parse_double: grammar") {
    double value = 7;
    for (const char* text : {"", " 1", "1 ", "+1", "01", ".5", "1.", "1e", "0x1", "nan", "inf", "1,5", "1e5x", "--1", "-"}) {
        INFO(text);
        CHECK_FALSE(parse_double(text, &value));
        CHECK(value == 7);
    }
    CHECK((parse_double("-0", &value) && value == 0 && std::signbit(value)));
    CHECK((parse_double("1e400", &value) && value == std::numeric_limits<double>::infinity()));
    CHECK((parse_double("-1e999999999999999999999999", &value) && value == -std::numeric_limits<double>::infinity()));
    CHECK((parse_double("1e-999999999999999999999999", &value) && value == 0));
    CHECK((parse_double("0e999999999999999999999999", &value) && value == 0));
}

TEST_CASE("parse_double: correctly rounded where it is hard") {
    const string zeros = repeat("0", 400), nines = repeat("9", 800);
    const string cases[] = {
        "0.1",
        "0.2",
        "0.3",
        "1.7976931348623157e308",
        "1.7976931348623158e308",
        "1.7976931348623159e308",
        "2.2250738585072014e-308",
        "2.2250738585072011e-308",
        "2.225073858507201136057409796709131975934819546351645648023426109724822222021076945516529523908135e-308",
        "4.9406564584124654e-324",
        "2.4703282292062327e-324",
        "2.4703282292062328e-324",
        "2.5e-324",
        "3e-324",
        "1e-323",
        "1e-325",
        "1e23",
        "8.5e23",
        "9007199254740993",
        "9007199254740992.9999",
        "9007199254740993.00000000000000000000000000000001",
        "9007199254740995",
        "18446744073709551615",
        "18446744073709551616",
        "123456789012345678901234567890",
        "6.02214076e23",
        "1.0000000000000002220446049250313",
        "1.00000000000000011102230246251565404236316680908203125",
        "1.00000000000000011102230246251565404236316680908203124",
        "1.00000000000000011102230246251565404236316680908203126",
        "1.0000000000000003330669073875469621270895004272460937500000001",
        "0.500000000000000166533453693773481063544750213623046875",
        "3.518437208883201171875e13",
        "62.5364939768271845828",
        "8.10109172351e-10",
        "1.50000000000000011102230246251565",
        "104308485241983990666713401708072175773165034278682682111762292935811264",
        "1" + zeros + "e-400",
        "0." + zeros + "1e401",
        "0." + zeros + "123456789e300",
        nines + "e-500",
        "0." + nines,
        nines,
        "1.00000000000000011102230246251565404236316680908203125" + zeros + zeros + "1",
        "1.00000000000000011102230246251565404236316680908203125" + zeros + zeros,
        "2.4703282292062327208299993770135480" + zeros + "e-324",
        "-1.5e-10",
        "4.35",
        "1e22",
        "1e-22",
        "9007199254740991e22",
        "9007199254740991e-22",
    };
    for (const string& text : cases) {
        INFO(text);
        double value = -1;
        REQUIRE(parse_double(text, &value));
        CHECK(value == strtod(text.c_str(), nullptr));
    }
}

TEST_CASE("parse_double: as strtod on random numbers") {
    std::mt19937_64 random(1);
    char text[2100];
    for (int i = 0; i < 60000; i++) {
        double exact;
        const uint64_t bits = random() & ~(uint64_t{1} << 63);
        memcpy(&exact, &bits, sizeof exact);
        if (!(exact <= std::numeric_limits<double>::max())) continue;
        switch (i % 4) {
            case 0:
                snprintf(text, sizeof text, "%.17g", exact);
                break;
            case 1:
                snprintf(text, sizeof text, "%.*e", static_cast<int>(random() % 40), exact);
                break;
            case 2:
                snprintf(text, sizeof text, "%llue%d", static_cast<unsigned long long>(random()), static_cast<int>(random() % 700) - 350);
                break;
            default: {  // the exact middle between two doubles, and a digit beyond it
                double next = std::nextafter(exact, 2 * exact);
                if (exact < 1e-290 || exact > 1e290) continue;
                const long double middle = (static_cast<long double>(exact) + next) / 2;
                snprintf(text, sizeof text, "%.*Le", 800, middle);
                if (i % 8 == 3) text[790] = '1';
            }
        }
        double value = -1;
        INFO(text);
        REQUIRE(parse_double(text, &value));
        const double expected = strtod(text, nullptr);
        if (value != expected) FAIL("wrong rounding");
    }
}
