// Reading members of config files.
#include "model/fields.h"

#include <stdio.h>

namespace pith {
namespace {

const char* describe(const Json& value, char* to, size_t size) {
    switch (value.type) {
        case Json::Null:
            return "null";
        case Json::Bool:
            return value.boolean ? "true" : "false";
        case Json::Int:
            snprintf(to, size, "%lld", static_cast<long long>(value.integer));
            return to;
        case Json::Float:
            return "a number with a fraction or out of range";
        case Json::String:
            snprintf(to, size, "\"%.*s\"", static_cast<int>(value.size < 64 ? value.size : 64), value.string);
            return to;
        case Json::Array:
            return "an array";
        case Json::Object:
            return "an object";
    }
    return "nothing";
}

}  // namespace

pith_status Fields::mismatch(pith_status status, const char* key, const char* expected, const Json& found) const {
    char text[80];
    return fail(error, status, "%s: %s%s: expected %s, found %s", source, prefix, key, expected, describe(found, text, sizeof text));
}

pith_status Fields::require(const char* key) const {
    return get(key) ? PITH_OK : fail(error, PITH_E_FORMAT, "%s: %s%s is missing", source, prefix, key);
}

pith_status Fields::integer(const char* key, uint32_t min, uint32_t max, uint32_t* value) const {
    const Json* found = get(key);
    if (!found) return PITH_OK;
    if (!found->is(Json::Int) || found->integer < min || found->integer > max) {
        char expected[64];
        snprintf(expected, sizeof expected, "an integer from %u to %u", min, max);
        return mismatch(PITH_E_FORMAT, key, expected, *found);
    }
    *value = static_cast<uint32_t>(found->integer);
    return PITH_OK;
}

pith_status Fields::number(const char* key, double min, double max, double* value) const {
    const Json* found = get(key);
    if (!found) return PITH_OK;
    if (!found->is_number()) return mismatch(PITH_E_FORMAT, key, "a number", *found);
    const double number = found->as_double();
    if (!(number >= min && number <= max))
        return fail(error, PITH_E_FORMAT, "%s: %s%s: the number is out of its range", source, prefix, key);
    *value = number;
    return PITH_OK;
}

pith_status Fields::boolean(const char* key, bool* value) const {
    const Json* found = get(key);
    if (!found) return PITH_OK;
    if (!found->is(Json::Bool)) return mismatch(PITH_E_FORMAT, key, "true or false", *found);
    *value = found->boolean;
    return PITH_OK;
}

pith_status Fields::string(const char* key, std::string_view* value) const {
    const Json* found = get(key);
    if (!found) return PITH_OK;
    if (!found->is(Json::String)) return mismatch(PITH_E_FORMAT, key, "a string", *found);
    *value = found->text();
    return PITH_OK;
}

}  // namespace pith
