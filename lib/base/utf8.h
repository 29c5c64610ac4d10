// UTF-8 in and out. Malformed input is cut as Python's bytes.decode('utf-8', 'replace') cuts it: one mark for each maximal piece.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <string_view>

#include "base/array.h"

namespace pith {

inline constexpr uint32_t kUtf8Malformed = 0xFFFFFFFF;                // in place of a code point: `size` bytes that no UTF-8 has
inline constexpr uint32_t kUtf8Partial = 0xFFFFFFFE;                  // the text ends within a code point, which starts well
inline constexpr std::string_view kReplacementMark = "\xEF\xBF\xBD";  // U+FFFD

struct Utf8Char {
    uint32_t value;  // a code point, or one of the two above
    uint32_t size;   // bytes; at least 1
};

// The code point at `at` < `end`. Never a surrogate, never above U+10FFFF.
Utf8Char utf8_decode(const char* at, const char* end);

// The same for text known to be valid.
inline Utf8Char utf8_next(const char* at) {
    const auto byte = [at](int i) { return static_cast<uint32_t>(static_cast<unsigned char>(at[i])); };
    const uint32_t lead = byte(0);
    if (lead < 0x80) return {lead, 1};
    if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
    if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
    return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}
// Where the code point before `at` begins; valid text, `at` > its begin.
inline const char* utf8_previous(const char* at) {
    do at--;
    while ((static_cast<unsigned char>(*at) & 0xC0) == 0x80);
    return at;
}

// Writes up to 4 bytes, returns how many. `value` is a code point.
uint32_t utf8_encode(uint32_t value, char* to);
[[nodiscard]] bool utf8_append(uint32_t value, Array<char>* to);

bool utf8_is_valid(std::string_view text);
// `text` with U+FFFD for each malformed piece, appended. False: out of memory.
[[nodiscard]] bool utf8_repair(std::string_view text, Array<char>* to);

}  // namespace pith
