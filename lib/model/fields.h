// Typed, range-checked members of a JSON object, with messages that name file, member, what was expected and what was found.
#pragma once
#include "base/json.h"

namespace pith {

// Config files are small; a hostile one must not cost more than a small multiple of this.
inline constexpr uint64_t kMaxConfigBytes = 16 << 20;
inline constexpr JsonLimits kConfigLimits = {64, 1 << 16};

struct Fields {
    const Json* object;
    const char* source;  // the file
    const char* prefix;  // "" or, inside another object, "rope_scaling."
    pith_error* error;

    // NULL: no such member, or null, which means the same in these files.
    const Json* get(const char* key) const {
        const Json* value = object->find(key);
        return value && !value->is(Json::Null) ? value : nullptr;
    }
    // These leave *value as it is if there is no such member.
    pith_status integer(const char* key, uint32_t min, uint32_t max, uint32_t* value) const;
    pith_status number(const char* key, double min, double max, double* value) const;
    pith_status boolean(const char* key, bool* value) const;
    pith_status string(const char* key, std::string_view* value) const;

    pith_status require(const char* key) const;
    pith_status mismatch(pith_status status, const char* key, const char* expected, const Json& found) const;
};

}  // namespace pith
