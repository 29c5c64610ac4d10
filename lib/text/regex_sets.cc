// The part of the parser that reads escapes and sets of characters.
#include "text/regex_parser.h"

namespace pith {
namespace {

struct ScriptRange {
    uint32_t first, last;
};
constexpr ScriptRange kHan[] = {{0x2E80, 0x2E99},   {0x2E9B, 0x2EF3},   {0x2F00, 0x2FD5},   {0x3005, 0x3005},   {0x3007, 0x3007},
                                {0x3021, 0x3029},   {0x3038, 0x303B},   {0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFA6D},
                                {0xFA70, 0xFAD9},   {0x16FE2, 0x16FE3}, {0x16FF0, 0x16FF1}, {0x20000, 0x2A6DF}, {0x2A700, 0x2B739},
                                {0x2B740, 0x2B81D}, {0x2B820, 0x2CEA1}, {0x2CEB0, 0x2EBE0}, {0x2EBF0, 0x2EE5D}, {0x2F800, 0x2FA1D},
                                {0x30000, 0x3134A}, {0x31350, 0x323AF}};
constexpr ScriptRange kHiragana[] = {{0x3041, 0x3096},   {0x309D, 0x309F},   {0x1B001, 0x1B11F},
                                     {0x1B132, 0x1B132}, {0x1B150, 0x1B152}, {0x1F200, 0x1F200}};
constexpr ScriptRange kKatakana[] = {{0x30A1, 0x30FA},   {0x30FD, 0x30FF},   {0x31F0, 0x31FF},   {0x32D0, 0x32FE},   {0x3300, 0x3357},
                                     {0xFF66, 0xFF6F},   {0xFF71, 0xFF9D},   {0x1AFF0, 0x1AFF3}, {0x1AFF5, 0x1AFFB}, {0x1AFFD, 0x1AFFE},
                                     {0x1B000, 0x1B000}, {0x1B120, 0x1B122}, {0x1B155, 0x1B155}, {0x1B164, 0x1B167}};

int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

}  // namespace

pith_status RegexParser::hex_point(uint32_t digits, bool braces, uint32_t* point) {
    *point = 0;
    uint32_t count = 0;
    for (; !at_end() && count < digits && hex_value(pattern_[at_]) >= 0; at_++, count++)
        *point = *point << 4 | static_cast<uint32_t>(hex_value(pattern_[at_]));
    if (count == 0 || (braces && !take("}"))) return malformed("bad hexadecimal escape");
    if (*point > 0x10FFFF || (*point >= 0xD800 && *point < 0xE000)) return malformed("not a code point");
    return PITH_OK;
}

// A backslash escape that stands for one code point; `c` has been taken.
pith_status RegexParser::escaped_point(char c, uint32_t* point) {
    switch (c) {
        case 't':
            *point = '\t';
            return PITH_OK;
        case 'n':
            *point = '\n';
            return PITH_OK;
        case 'r':
            *point = '\r';
            return PITH_OK;
        case 'f':
            *point = '\f';
            return PITH_OK;
        case 'v':
            *point = '\v';
            return PITH_OK;
        case 'a':
            *point = '\a';
            return PITH_OK;
        case 'e':
            *point = 0x1B;
            return PITH_OK;
        case 'x': {
            const bool braces = take("{");
            return hex_point(braces ? 8 : 2, braces, point);
        }
        case 'u':
            return hex_point(4, false, point);
        default:
            break;
    }
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter) return unsupported("an escape");
    at_--;  // punctuation, or the first byte of a longer code point: itself
    *point = take_point();
    return PITH_OK;
}

bool RegexParser::shorthand(char c, Item* item) const {
    const bool negated = c >= 'A' && c <= 'Z';
    switch (c) {
        case 'd':
        case 'D':
            *item = {Item::Categories, negated, unicode::kDecimal, 0};
            return true;
        case 's':
        case 'S':
            *item = {Item::Space, negated, 0, 0};
            return true;
        case 'w':
        case 'W':
            *item = {Item::Word, negated, 0, 0};
            return true;
        default:
            return false;
    }
}

pith_status RegexParser::script(std::string_view name, bool negated, Item* item) {
    std::span<const ScriptRange> ranges;
    if (name == "Han")
        ranges = kHan;
    else if (name == "Hiragana")
        ranges = kHiragana;
    else if (name == "Katakana")
        ranges = kKatakana;
    else
        return unsupported("a property that we have no table for");
    Item items[sizeof kHan / sizeof kHan[0]];
    size_t count = 0;
    for (const ScriptRange& range : ranges) items[count++] = {Item::Range, false, range.first, range.last};
    uint32_t index = kNone;
    PITH_TRY(make_set(items, count, false, false, false, &index));
    *item = {Item::Nested, negated, index, 0};
    return PITH_OK;
}

// After \p or \P: {Name}, {^Name}.
pith_status RegexParser::property(bool negated, Item* item) {
    if (!take("{")) return malformed("\\p without '{'");
    if (take("^")) negated = !negated;
    const size_t start = at_;
    while (!at_end() && pattern_[at_] != '}') at_++;
    const std::string_view name = slice(pattern_, start, at_ - start);
    if (!take("}")) return malformed("\\p without '}'");
    const unicode::Mask mask = unicode::category_mask(name);
    if (mask == 0) return script(name, negated, item);
    *item = {Item::Categories, negated, mask, 0};
    return PITH_OK;
}

pith_status RegexParser::single(Item item, Options options, uint32_t* node) {
    uint32_t index = kNone;
    PITH_TRY(make_set(&item, 1, false, false, options.any_case && item.kind == Item::Range && !item.negated, &index));
    return add({Node::Set, 0, 0, false, index, kNone, 0, 0}, node);
}

pith_status RegexParser::escape(Options options, uint32_t* node) {
    at_++;
    if (at_end()) return malformed("a backslash at the end");
    const char c = pattern_[at_++];
    const auto assertion = [&](Regex::Where where) {
        return add({Node::Assert, 0, static_cast<uint8_t>(where), false, 0, kNone, 0, 0}, node);
    };
    Item item;
    if (shorthand(c, &item)) return single(item, options, node);
    switch (c) {
        case 'p':
        case 'P':
            PITH_TRY(property(c == 'P', &item));
            return single(item, options, node);
        case 'A':
            return assertion(Regex::Where::TextBegin);
        case 'z':
            return assertion(Regex::Where::TextEnd);
        case 'Z':
            return assertion(Regex::Where::TextEndOrNewline);
        case 'b':
            return assertion(Regex::Where::WordEdge);
        case 'B':
            return assertion(Regex::Where::NotWordEdge);
        default:
            break;
    }
    if (c >= '1' && c <= '9') return unsupported("a back-reference");
    uint32_t point = 0;
    PITH_TRY(escaped_point(c, &point));
    return add({Node::Char, case_flag(options), 0, false, point, kNone, 0, 0}, node);
}

pith_status RegexParser::make_set(const Item* items, size_t count, bool negated, bool intersection, bool any_case, uint32_t* index) {
    Regex::Class made = {
        {0, 0}, static_cast<uint32_t>(regex_.items_.size()), static_cast<uint32_t>(count), 0, negated, intersection, any_case, false};
    if (!regex_.items_.append(items, count)) return no_memory();
    uint32_t looks = 0;
    for (size_t i = 0; i < count; i++) looks += items[i].kind == Item::Nested ? regex_.classes_[items[i].low].cost : 1;
    made.cost = 1 + looks / 8 * (any_case ? 4 : 1);
    for (uint32_t point = 0; point < 128; point++)
        if (regex_.has(made, point)) made.ascii[point >> 6] |= uint64_t{1} << (point & 63);
    made.ready = true;
    *index = static_cast<uint32_t>(regex_.classes_.size());
    return regex_.classes_.push(made) ? PITH_OK : no_memory();
}

// [:name:] or [:^name:] inside a set.
pith_status RegexParser::posix(Item* item) {
    const bool negated = take("^");
    if (take("space:]"))
        *item = {Item::Space, negated, 0, 0};
    else if (take("digit:]"))
        *item = {Item::Categories, negated, unicode::kDecimal, 0};
    else if (take("punct:]"))
        *item = {Item::Categories, negated, unicode::kPunctuation | unicode::kSymbol, 0};
    else if (take("cntrl:]"))
        *item = {Item::Categories, negated, unicode::kControl, 0};
    else if (take("ascii:]"))
        *item = {Item::Range, negated, 0, 127};
    else
        return unsupported("a POSIX class");
    return PITH_OK;
}

// One code point of a set, as the end of a range.
pith_status RegexParser::set_point(uint32_t* point) {
    if (take("\\")) {
        if (at_end()) return malformed("a backslash at the end");
        const char c = pattern_[at_++];
        if (c == 'b') {
            *point = '\b';
            return PITH_OK;
        }
        return escaped_point(c, point);
    }
    *point = take_point();
    return PITH_OK;
}

// Up to ']' or "&&": pushes the items onto pending_, which had `base` before.
pith_status RegexParser::set_items(size_t base) {
    bool closes = false;  // a ']' right at the start is a plain character
    for (closes = pending_.size() > base; !(closes && (ahead("]") || ahead("&&"))); closes = true) {
        if (at_end()) return malformed("'[' without ']'");
        Item item;
        if (take("[:")) {
            PITH_TRY(posix(&item));
        } else if (take("[")) {
            uint32_t index = kNone;
            PITH_TRY(set({false, false}, &index));
            item = {Item::Nested, false, index, 0};
        } else if (ahead("\\") && at_ + 1 < pattern_.size() && shorthand(pattern_[at_ + 1], &item)) {
            at_ += 2;
        } else if (ahead("\\p") || ahead("\\P")) {
            at_ += 2;
            PITH_TRY(property(pattern_[at_ - 1] == 'P', &item));
        } else {
            uint32_t low = 0;
            PITH_TRY(set_point(&low));
            uint32_t high = low;
            if (ahead("-") && !starts_with(slice(pattern_, at_), "-]") && !starts_with(slice(pattern_, at_), "-[")) {
                at_++;
                if (at_end()) return malformed("'[' without ']'");
                PITH_TRY(set_point(&high));
                if (high < low) return malformed("a range runs backwards");
            }
            item = {Item::Range, false, low, high};
        }
        if (!pending_.push(item)) return no_memory();
    }
    return PITH_OK;
}

// After '[': the set up to its ']'. Case is ignored by the outermost set as a whole, before its negation (as Oniguruma does it).
pith_status RegexParser::set(Options options, uint32_t* index) {
    if (++depth_ > kMaxDepth) return too_large();
    const bool negated = take("^");
    const size_t base = pending_.size();
    PITH_TRY(set_items(base));
    if (!ahead("&&")) {
        PITH_TRY(make_set(pending_.data() + base, pending_.size() - base, negated, false, options.any_case, index));
        pending_.shrink(base);
    } else {
        for (size_t part = base;; part++) {
            uint32_t side = kNone;
            PITH_TRY(make_set(pending_.data() + part, pending_.size() - part, false, false, false, &side));
            pending_.shrink(part);
            if (!pending_.push({Item::Nested, false, side, 0})) return no_memory();
            if (!take("&&")) break;
            PITH_TRY(set_items(part + 1));
        }
        PITH_TRY(make_set(pending_.data() + base, pending_.size() - base, negated, true, options.any_case, index));
        pending_.shrink(base);
    }
    at_++;  // ']'
    depth_--;
    return PITH_OK;
}

}  // namespace pith
