// What a tokenizer asks of Unicode: categories, white space, lower case and the four normal forms.
// Categories follow Unicode 16 (as the Oniguruma of the `tokenizers` package), forms and case utf8proc's version (15.0 in Debian 12).
#pragma once
#include <stdint.h>

#include <string_view>

#include "base/array.h"

namespace pith::unicode {

// A set of categories is a mask of these bits; bit number = utf8proc's category number.
using Mask = uint32_t;
inline constexpr Mask kUppercase = 1u << 1, kLowercase = 1u << 2, kTitlecase = 1u << 3;
inline constexpr Mask kLetter = 0x3Eu;     // Lu Ll Lt Lm Lo
inline constexpr Mask kMark = 7u << 6;     // Mn Mc Me
inline constexpr Mask kNumber = 7u << 9;   // Nd Nl No
inline constexpr Mask kDecimal = 1u << 9;  // Nd
inline constexpr Mask kPunctuation = 0x7Fu << 12;
inline constexpr Mask kSymbol = 15u << 19;
inline constexpr Mask kSeparator = 7u << 23;
inline constexpr Mask kControl = 1u << 26;      // Cc
inline constexpr Mask kOther = 1u | 15u << 26;  // Cn Cc Cf Cs Co
inline constexpr Mask kEverything = (1u << 30) - 1;

uint32_t category(uint32_t point);
inline bool is(uint32_t point, Mask mask) { return mask >> category(point) & 1; }
// The mask of "L", "Lu", "Letter", "Uppercase_Letter", …; 0: no such name. Case, '_', '-' and ' ' don't matter.
Mask category_mask(std::string_view name);

// The sorts of code point that the known pre-tokenizer patterns tell apart.
enum class Sort : uint8_t { Other, Letter, Number, Space, Newline };  // Newline: \r \n; Space: the rest of White_Space
Sort sort_slow(uint32_t point);
inline constexpr uint8_t kAsciiSort[129] =
    "\0\0\0\0\0\0\0\0\0\3\4\3\3\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    "\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2\2\2\2\2\2\2\2\2\2\0\0\0\0\0\0"
    "\0\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\0\0\0\0\0"
    "\0\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\0\0\0\0\0";
inline Sort sort(uint32_t point) { return point < 128 ? static_cast<Sort>(kAsciiSort[point]) : sort_slow(point); }

bool is_space(uint32_t point);        // White_Space
bool is_word(uint32_t point);         // Alphabetic, M, Nd, Pc: \w without joiners
bool is_punctuation(uint32_t point);  // ASCII punctuation, or P

uint32_t lower(uint32_t point);  // simple mappings
uint32_t upper(uint32_t point);
uint32_t fold(uint32_t point);  // simple case folding; itself where the folding has several code points

// Appends the normal form of valid `text`; `points` is scratch. False: out of memory.
struct Form {
    bool compose, compatible;  // NFC: {true, false}, NFKD: {false, true}
};
[[nodiscard]] bool normalize(std::string_view text, Form form, Array<int32_t>* points, Array<char>* to);

}  // namespace pith::unicode
