// UTF-8 decoding with the bounds of Unicode's table 3-7 (well-formed byte sequences), encoding and repair.
#include "base/utf8.h"

namespace pith {
namespace {

// How many bytes follow this lead byte, and the bounds of the first of them; length 0: no lead byte.
struct Lead {
    uint8_t length, low, high;
};
constexpr Lead lead_of(uint32_t byte) {
    if (byte < 0xC2) return {0, 0, 0};
    if (byte < 0xE0) return {1, 0x80, 0xBF};
    if (byte == 0xE0) return {2, 0xA0, 0xBF};
    if (byte == 0xED) return {2, 0x80, 0x9F};
    if (byte < 0xF0) return {2, 0x80, 0xBF};
    if (byte == 0xF0) return {3, 0x90, 0xBF};
    if (byte < 0xF4) return {3, 0x80, 0xBF};
    if (byte == 0xF4) return {3, 0x80, 0x8F};
    return {0, 0, 0};
}

}  // namespace

Utf8Char utf8_decode(const char* at, const char* end) {
    const uint32_t first = static_cast<unsigned char>(*at);
    if (first < 0x80) return {first, 1};
    const Lead lead = lead_of(first);
    if (lead.length == 0) return {kUtf8Malformed, 1};
    uint32_t value = first & (0x3Fu >> lead.length);
    for (uint32_t i = 1; i <= lead.length; i++) {
        if (at + i == end) return {kUtf8Partial, i};
        const uint32_t byte = static_cast<unsigned char>(at[i]);
        if (byte < (i == 1 ? lead.low : 0x80u) || byte > (i == 1 ? lead.high : 0xBFu)) return {kUtf8Malformed, i};
        value = value << 6 | (byte & 0x3F);
    }
    return {value, lead.length + 1u};
}

uint32_t utf8_encode(uint32_t value, char* to) {
    const auto tail = [value](int shift) { return static_cast<char>(0x80 | (value >> shift & 0x3F)); };
    if (value < 0x80) {
        to[0] = static_cast<char>(value);
        return 1;
    }
    if (value < 0x800) {
        to[0] = static_cast<char>(0xC0 | value >> 6);
        to[1] = tail(0);
        return 2;
    }
    if (value < 0x10000) {
        to[0] = static_cast<char>(0xE0 | value >> 12);
        to[1] = tail(6);
        to[2] = tail(0);
        return 3;
    }
    to[0] = static_cast<char>(0xF0 | value >> 18);
    to[1] = tail(12);
    to[2] = tail(6);
    to[3] = tail(0);
    return 4;
}

bool utf8_append(uint32_t value, Array<char>* to) {
    char bytes[4];
    return to->append(bytes, utf8_encode(value, bytes));
}

bool utf8_is_valid(std::string_view text) {
    const char* at = text.data();
    const char* end = at + text.size();
    while (at < end) {
        const Utf8Char c = utf8_decode(at, end);
        if (c.value >= kUtf8Partial) return false;
        at += c.size;
    }
    return true;
}

bool utf8_repair(std::string_view text, Array<char>* to) {
    const char* at = text.data();
    const char* end = at + text.size();
    const char* good = at;  // valid text not yet copied starts here
    while (at < end) {
        const Utf8Char c = utf8_decode(at, end);
        if (c.value >= kUtf8Partial) {
            if (!to->append(good, static_cast<size_t>(at - good))) return false;
            if (!to->append(kReplacementMark.data(), kReplacementMark.size())) return false;
            good = at + c.size;
        }
        at += c.size;
    }
    return to->append(good, static_cast<size_t>(at - good));
}

}  // namespace pith
