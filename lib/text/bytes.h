// The byte alphabet of byte-level BPE: each byte as one printable character, so that any bytes can stand in a vocabulary of strings.
#pragma once
#include <stdint.h>

#include <string_view>

#include "base/array.h"
#include "base/utf8.h"

namespace pith {

constexpr bool byte_is_itself(uint32_t byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

struct ByteAlphabet {
    uint16_t point[256];  // of a byte
    uint8_t byte[0x144];  // of a code point
    bool used[0x144];
};
constexpr ByteAlphabet make_byte_alphabet() {
    ByteAlphabet made = {};
    uint16_t next = 0x100;  // the bytes that are no printable Latin-1 character take U+0100, U+0101, … in order
    for (uint32_t byte = 0; byte < 256; byte++) {
        made.point[byte] = byte_is_itself(byte) ? static_cast<uint16_t>(byte) : next++;
        made.byte[made.point[byte]] = static_cast<uint8_t>(byte);
        made.used[made.point[byte]] = true;
    }
    return made;
}
inline constexpr ByteAlphabet kByteAlphabet = make_byte_alphabet();

// Appends the characters for `bytes`.
[[nodiscard]] inline bool map_bytes(std::string_view bytes, Array<char>* to) {
    for (const char c : bytes)
        if (!utf8_append(kByteAlphabet.point[static_cast<unsigned char>(c)], to)) return false;
    return true;
}
inline bool is_in_byte_alphabet(std::string_view text) {
    for (size_t at = 0; at < text.size();) {
        const Utf8Char c = utf8_next(text.data() + at);
        if (c.value >= sizeof kByteAlphabet.byte || !kByteAlphabet.used[c.value]) return false;
        at += c.size;
    }
    return true;
}
// Appends the bytes for the characters of valid `text`; a text with any other character is appended as it is.
[[nodiscard]] inline bool unmap_bytes(std::string_view text, Array<char>* to) {
    if (!is_in_byte_alphabet(text)) return to->append(text.data(), text.size());
    for (size_t at = 0; at < text.size();) {
        const Utf8Char c = utf8_next(text.data() + at);
        if (!to->push(static_cast<char>(kByteAlphabet.byte[c.value]))) return false;
        at += c.size;
    }
    return true;
}

}  // namespace pith
