// A strict JSON reader for untrusted files: RFC 8259, UTF-8 checked, no duplicate keys, bounded depth, exact integers.
#pragma once
#include <string_view>

#include "base/array.h"
#include "base/status.h"

namespace pith {

struct JsonMember;

// A value in an arena; strings point into it, unescaped, and may hold NUL.
struct Json {
    enum Type : uint8_t { Null, Bool, Int, Float, String, Array, Object };
    Type type;
    union {
        bool boolean;
        int64_t integer;       // Int: a literal without fraction or exponent that fits
        double number;         // Float: any other number
        const char* string;
        const Json* items;     // Array
        const JsonMember* members;  // Object, in file order
    };
    size_t size;  // bytes of a string, items of an array, members of an object

    std::string_view text() const { return {string, size}; }  // String only
    const Json* find(std::string_view key) const;             // NULL: not an object, or no such member
    bool is(Type t) const { return type == t; }
    bool is_number() const { return type == Int || type == Float; }
    double as_double() const { return type == Int ? static_cast<double>(integer) : number; }  // numbers only
};
struct JsonMember {
    const char* key;
    size_t key_size;
    Json value;
    std::string_view name() const { return {key, key_size}; }
};

struct JsonLimits {
    uint32_t depth = 64;
    size_t values = 1u << 26;  // values of the whole document
};

// `source` names the file in messages ("config.json: line 3: duplicate key 'a'"). Malformed: PITH_E_FORMAT; past a limit: PITH_E_LIMIT.
// The document stays valid as long as the arena; `text` need not.
pith_status json_parse(std::string_view text, const char* source, Arena& arena, const Json** root, pith_error* error,
                       const JsonLimits& limits = {});

// Decimal to double, correctly rounded, in no locale. False: not a number of JSON's grammar, or nothing but one.
bool parse_double(std::string_view text, double* value);

}  // namespace pith
