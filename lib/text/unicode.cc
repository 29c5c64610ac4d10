// Unicode through utf8proc's static tables: nothing here calls an allocating function of it, or keeps state.
#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>

#include "base/utf8.h"

namespace pith::unicode {
namespace {

// Code points that Unicode 15.1 and 16 assigned, for a utf8proc that doesn't know them.
struct Range {
    uint32_t first, last;
    uint8_t category;
};
enum : uint8_t { Lu = 1, Ll = 2, Lm = 4, Lo = 5, Mn = 6, Mc = 7, Nd = 9, Pd = 13, Po = 18, Sm = 19, So = 22 };
constexpr Range kNew[] = {
    {0x897, 0x897, Mn},     {0x1B4E, 0x1B4F, Po},   {0x1B7F, 0x1B7F, Po},   {0x1C89, 0x1C89, Lu},   {0x1C8A, 0x1C8A, Ll},
    {0x2427, 0x2429, So},   {0x2FFC, 0x2FFF, So},   {0x31E4, 0x31E5, So},   {0x31EF, 0x31EF, So},   {0xA7CB, 0xA7CC, Lu},
    {0xA7CD, 0xA7CD, Ll},   {0xA7DA, 0xA7DA, Lu},   {0xA7DB, 0xA7DB, Ll},   {0xA7DC, 0xA7DC, Lu},   {0x105C0, 0x105F3, Lo},
    {0x10D40, 0x10D49, Nd}, {0x10D4A, 0x10D4D, Lo}, {0x10D4E, 0x10D4E, Lm}, {0x10D4F, 0x10D4F, Lo}, {0x10D50, 0x10D65, Lu},
    {0x10D69, 0x10D6D, Mn}, {0x10D6E, 0x10D6E, Pd}, {0x10D6F, 0x10D6F, Lm}, {0x10D70, 0x10D85, Ll}, {0x10D8E, 0x10D8F, Sm},
    {0x10EC2, 0x10EC4, Lo}, {0x10EFC, 0x10EFC, Mn}, {0x11380, 0x11389, Lo}, {0x1138B, 0x1138B, Lo}, {0x1138E, 0x1138E, Lo},
    {0x11390, 0x113B5, Lo}, {0x113B7, 0x113B7, Lo}, {0x113B8, 0x113BA, Mc}, {0x113BB, 0x113C0, Mn}, {0x113C2, 0x113C2, Mc},
    {0x113C5, 0x113C5, Mc}, {0x113C7, 0x113CA, Mc}, {0x113CC, 0x113CD, Mc}, {0x113CE, 0x113CE, Mn}, {0x113CF, 0x113CF, Mc},
    {0x113D0, 0x113D0, Mn}, {0x113D1, 0x113D1, Lo}, {0x113D2, 0x113D2, Mn}, {0x113D3, 0x113D3, Lo}, {0x113D4, 0x113D5, Po},
    {0x113D7, 0x113D8, Po}, {0x113E1, 0x113E2, Mn}, {0x116D0, 0x116E3, Nd}, {0x11BC0, 0x11BE0, Lo}, {0x11BE1, 0x11BE1, Po},
    {0x11BF0, 0x11BF9, Nd}, {0x11F5A, 0x11F5A, Mn}, {0x13460, 0x143FA, Lo}, {0x16100, 0x1611D, Lo}, {0x1611E, 0x16129, Mn},
    {0x1612A, 0x1612C, Mc}, {0x1612D, 0x1612F, Mn}, {0x16130, 0x16139, Nd}, {0x16D40, 0x16D42, Lm}, {0x16D43, 0x16D6A, Lo},
    {0x16D6B, 0x16D6C, Lm}, {0x16D6D, 0x16D6F, Po}, {0x16D70, 0x16D79, Nd}, {0x18CFF, 0x18CFF, Lo}, {0x1CC00, 0x1CCEF, So},
    {0x1CCF0, 0x1CCF9, Nd}, {0x1CD00, 0x1CEB3, So}, {0x1E5D0, 0x1E5ED, Lo}, {0x1E5EE, 0x1E5EF, Mn}, {0x1E5F0, 0x1E5F0, Lo},
    {0x1E5F1, 0x1E5FA, Nd}, {0x1E5FF, 0x1E5FF, Po}, {0x1F8B2, 0x1F8BB, So}, {0x1F8C0, 0x1F8C1, So}, {0x1FA89, 0x1FA89, So},
    {0x1FA8F, 0x1FA8F, So}, {0x1FABE, 0x1FABE, So}, {0x1FAC6, 0x1FAC6, So}, {0x1FADC, 0x1FADC, So}, {0x1FADF, 0x1FADF, So},
    {0x1FAE9, 0x1FAE9, So}, {0x1FBCB, 0x1FBEF, So}, {0x2EBF0, 0x2EE5D, Lo},
};

uint32_t category_of_new(uint32_t point) {
    const Range* found = std::lower_bound(std::begin(kNew), std::end(kNew), point, [](const Range& r, uint32_t p) { return r.last < p; });
    return found != std::end(kNew) && found->first <= point ? found->category : 0;
}

// Short and long names; a long name may also be a group's.
struct Name {
    const char* brief;
    const char* full;
    Mask mask;
};
constexpr Name kNames[] = {
    {"l", "letter", kLetter},
    {"lu", "uppercaseletter", kUppercase},
    {"ll", "lowercaseletter", kLowercase},
    {"lt", "titlecaseletter", kTitlecase},
    {"lm", "modifierletter", 1u << 4},
    {"lo", "otherletter", 1u << 5},
    {"m", "mark", kMark},
    {"mn", "nonspacingmark", 1u << 6},
    {"mc", "spacingmark", 1u << 7},
    {"me", "enclosingmark", 1u << 8},
    {"n", "number", kNumber},
    {"nd", "decimalnumber", kDecimal},
    {"nl", "letternumber", 1u << 10},
    {"no", "othernumber", 1u << 11},
    {"p", "punctuation", kPunctuation},
    {"pc", "connectorpunctuation", 1u << 12},
    {"pd", "dashpunctuation", 1u << 13},
    {"ps", "openpunctuation", 1u << 14},
    {"pe", "closepunctuation", 1u << 15},
    {"pi", "initialpunctuation", 1u << 16},
    {"pf", "finalpunctuation", 1u << 17},
    {"po", "otherpunctuation", 1u << 18},
    {"s", "symbol", kSymbol},
    {"sm", "mathsymbol", 1u << 19},
    {"sc", "currencysymbol", 1u << 20},
    {"sk", "modifiersymbol", 1u << 21},
    {"so", "othersymbol", 1u << 22},
    {"z", "separator", kSeparator},
    {"zs", "spaceseparator", 1u << 23},
    {"zl", "lineseparator", 1u << 24},
    {"zp", "paragraphseparator", 1u << 25},
    {"c", "other", kOther},
    {"cn", "unassigned", 1u},
    {"cc", "control", kControl},
    {"cf", "format", 1u << 27},
    {"co", "privateuse", 1u << 29},
};

// Puts each run of combining marks into the order of their classes: stable, and linear in the run however long it is.
bool order_marks(Array<int32_t>* points) {
    const auto class_of = [](int32_t point) {
        const utf8proc_propval_t value = utf8proc_get_property(point)->combining_class;
        return static_cast<uint32_t>(value) & 0xFF;
    };
    Array<int32_t>& all = *points;
    const size_t size = all.size();
    for (size_t i = 0; i < size;) {
        if (class_of(all[i]) == 0) {
            i++;
            continue;
        }
        size_t end = i;
        bool ordered = true;
        for (uint32_t last = 0; end < size; end++) {
            const uint32_t now = class_of(all[end]);
            if (now == 0) break;
            ordered = ordered && last <= now;
            last = now;
        }
        if (!ordered) {
            uint32_t start[257] = {};
            for (size_t j = i; j < end; j++) start[class_of(all[j]) + 1]++;
            for (size_t j = 1; j < 257; j++) start[j] += start[j - 1];
            if (!all.reserve(size * 2)) return false;
            for (size_t j = i; j < end; j++) all.data()[size + start[class_of(all[j])]++] = all[j];
            memcpy(all.data() + i, all.data() + size, (end - i) * sizeof(int32_t));
        }
        i = end;
    }
    return true;
}

}  // namespace

uint32_t category(uint32_t point) {
    const auto known = static_cast<uint32_t>(utf8proc_get_property(static_cast<utf8proc_int32_t>(point))->category);
    return known ? known : category_of_new(point);
}

Mask category_mask(std::string_view name) {
    char key[32];
    size_t size = 0;
    for (const char c : name) {
        if (c == '_' || c == '-' || c == ' ') continue;
        if (size == sizeof key) return 0;
        key[size++] = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    }
    for (const Name& entry : kNames)
        if (std::string_view(key, size) == entry.brief || std::string_view(key, size) == entry.full) return entry.mask;
    return 0;
}

Sort sort_slow(uint32_t point) {
    if (is_space(point)) return point == '\n' || point == '\r' ? Sort::Newline : Sort::Space;
    const Mask bit = 1u << category(point);
    return bit & kLetter ? Sort::Letter : bit & kNumber ? Sort::Number : Sort::Other;
}

bool is_space(uint32_t point) {
    if (point < 0x85) return point == ' ' || (point >= 9 && point <= 13);
    if (point < 0x1680) return point == 0x85 || point == 0xA0;
    return point == 0x1680 || (point >= 0x2000 && point <= 0x200A) || point == 0x2028 || point == 0x2029 || point == 0x202F ||
           point == 0x205F || point == 0x3000;
}

bool is_word(uint32_t point) {
    if (is(point, kLetter | kMark | kDecimal | 1u << 10 | 1u << 12)) return true;
    // Other_Alphabetic that is neither letter nor mark: circled and squared Latin letters.
    return (point >= 0x24B6 && point <= 0x24E9) || (point >= 0x1F130 && point <= 0x1F149) || (point >= 0x1F150 && point <= 0x1F169) ||
           (point >= 0x1F170 && point <= 0x1F189);
}

bool is_punctuation(uint32_t point) {
    if (point < 128) return point > ' ' && point < 127 && sort(point) == Sort::Other;
    return is(point, kPunctuation);
}

uint32_t lower(uint32_t point) { return static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(point))); }
uint32_t upper(uint32_t point) { return static_cast<uint32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(point))); }

uint32_t fold(uint32_t point) {
    utf8proc_int32_t folded[8];
    int ignored = 0;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(point), folded, 8, UTF8PROC_CASEFOLD, &ignored);
    return count == 1 ? static_cast<uint32_t>(folded[0]) : point;
}

bool normalize(std::string_view text, Form form, Array<int32_t>* points, Array<char>* to) {
    constexpr size_t kLongest = 32;  // no code point decomposes into more than 18
    points->clear();
    int ignored = 0;
    const auto options = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (form.compatible ? UTF8PROC_COMPAT : 0));
    const char* const end = text.data() + text.size();
    for (const char* at = text.data(); at < end;) {
        const Utf8Char c = utf8_next(at);
        at += c.size;
        int32_t parts[kLongest];
        auto count = utf8proc_decompose_char(static_cast<int32_t>(c.value), parts, kLongest, options, &ignored);
        if (count <= 0 || count > static_cast<utf8proc_ssize_t>(kLongest)) {
            parts[0] = static_cast<int32_t>(c.value);
            count = 1;
        }
        if (!points->append(parts, static_cast<size_t>(count))) return false;
    }
    if (!order_marks(points)) return false;
    size_t count = points->size();
    if (form.compose) {
        const auto composed = utf8proc_normalize_utf32(points->data(), static_cast<utf8proc_ssize_t>(count),
                                                       static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
        if (composed >= 0) count = static_cast<size_t>(composed);
    }
    for (size_t i = 0; i < count; i++)
        if (!utf8_append(static_cast<uint32_t>((*points)[i]), to)) return false;
    return true;
}

}  // namespace pith::unicode
