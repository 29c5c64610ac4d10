// Messages for JSON values that are not what a tokenizer's files may hold.
#include "text/field.h"

#include <string.h>

namespace pith {

void Field::append(std::string_view text) {
    const size_t size = strlen(path_);
    const size_t room = sizeof path_ - 1 - size;  // a path that is longer than that is cut
    const size_t count = text.size() < room ? text.size() : room;
    memcpy(path_ + size, text.data(), count);
    path_[size + count] = 0;
}

Field Field::member(const char* key) const {
    Field field = *this;
    field.json_ = json_ && json_->is(Json::Object) ? json_->find(key) : nullptr;
    if (path_[0]) field.append(".");
    field.append(key);
    return field;
}

Field Field::item(size_t index) const {
    Field field = *this;
    field.json_ = json_ && json_->is(Json::Array) && index < json_->size ? json_->items + index : nullptr;
    char digits[24];
    char* at = digits + sizeof digits;
    *--at = ']';
    do *--at = static_cast<char>('0' + index % 10);
    while (index /= 10);
    *--at = '[';
    field.append({at, static_cast<size_t>(digits + sizeof digits - at)});
    return field;
}

pith_status Field::expected(const char* what, pith_error* error) const {
    static constexpr const char* kNames[] = {"null", "a boolean", "an integer", "a number", "a string", "an array", "an object"};
    const char* found = json_ ? kNames[json_->type] : "nothing";
    return fail(error, PITH_E_FORMAT, "%s: %s: expected %s, found %s", file_, path_[0] ? path_ : "the document", what, found);
}

pith_status Field::unsupported(std::string_view what, pith_error* error) const {
    const int size = static_cast<int>(what.size() < 80 ? what.size() : 80);
    return fail(error, PITH_E_UNSUPPORTED, "%s: %s: %.*s isn't supported", file_, path_, size, what.data());
}

pith_status Field::array(pith_error* error) const { return is(Json::Array) ? PITH_OK : expected("an array", error); }
pith_status Field::object(pith_error* error) const { return is(Json::Object) ? PITH_OK : expected("an object", error); }

pith_status Field::text(std::string_view* value, pith_error* error) const {
    if (!is(Json::String)) return expected("a string", error);
    *value = json_->text();
    return PITH_OK;
}

pith_status Field::text(const char* key, std::string_view* value, pith_error* error) const {
    const Field field = member(key);
    return field.present() ? field.text(value, error) : PITH_OK;
}

pith_status Field::flag(const char* key, bool* value, pith_error* error) const {
    const Field field = member(key);
    if (!field.present()) return PITH_OK;
    if (!field.is(Json::Bool)) return field.expected("a boolean", error);
    *value = field.json()->boolean;
    return PITH_OK;
}

pith_status Field::number(const char* key, int64_t low, int64_t high, int64_t* value, pith_error* error) const {
    const Field field = member(key);
    if (!field.present()) return PITH_OK;
    if (!field.is(Json::Int)) return field.expected("an integer", error);
    if (field.json()->integer < low || field.json()->integer > high)
        return fail(error, PITH_E_FORMAT, "%s: %s: expected %lld to %lld, found %lld", file_, field.path(), static_cast<long long>(low),
                    static_cast<long long>(high), static_cast<long long>(field.json()->integer));
    *value = field.json()->integer;
    return PITH_OK;
}

}  // namespace pith
