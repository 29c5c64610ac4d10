// A value of a JSON file and where it stands there, so that every complaint names file and field.
#pragma once
#include <string_view>

#include "base/json.h"
#include "base/status.h"

namespace pith {

class Field {
public:
    Field(const Json* json, const char* file) : json_(json), file_(file) { path_[0] = 0; }

    // Absent and null look the same: not present.
    Field member(const char* key) const;
    Field item(size_t index) const;

    bool present() const { return json_ && !json_->is(Json::Null); }
    const Json* json() const { return json_; }
    size_t count() const { return json_ && (json_->is(Json::Array) || json_->is(Json::Object)) ? json_->size : 0; }
    bool is(Json::Type type) const { return json_ && json_->is(type); }
    const char* file() const { return file_; }
    const char* path() const { return path_; }  // "pre_tokenizer.pretokenizers[0]"

    pith_status expected(const char* what, pith_error* error) const;          // PITH_E_FORMAT
    pith_status unsupported(std::string_view what, pith_error* error) const;  // "file: path: what isn't supported"

    pith_status array(pith_error* error) const;
    pith_status object(pith_error* error) const;
    pith_status text(std::string_view* value, pith_error* error) const;
    // Those of a member: *value stays where the member is absent.
    pith_status text(const char* key, std::string_view* value, pith_error* error) const;
    pith_status flag(const char* key, bool* value, pith_error* error) const;
    pith_status number(const char* key, int64_t low, int64_t high, int64_t* value, pith_error* error) const;

private:
    void append(std::string_view text);

    const Json* json_;
    const char* file_;
    char path_[168];
};

}  // namespace pith
