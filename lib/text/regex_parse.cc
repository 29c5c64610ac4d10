// From pattern text to a tree, from the tree to code. Everything that could surprise a pattern's author is refused by name.
#include <algorithm>

#include "base/utf8.h"
#include "text/regex.h"

namespace pith {
namespace {

constexpr uint32_t kNone = 0xFFFFFFFF, kInfinite = 0xFFFFFFFF;
constexpr uint32_t kMaxDepth = 50, kMaxRepeat = 1000, kMaxCode = 1u << 16, kMaxPattern = 1u << 14, kMaxStacked = 4, kMaxVisits = 1u << 18;

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

struct Node {
    enum Kind : uint8_t { Empty, Char, Set, Assert, Sequence, Choice, Repeat, Look, Atomic } kind;
    uint8_t flags;         // as Op's
    uint8_t where;         // Assert
    bool lazy;             // Repeat
    uint32_t a;            // Char: code point; Set: class; the rest: first child
    uint32_t next;         // sibling in a Sequence or Choice
    uint32_t least, most;  // Repeat
};

}  // namespace

class RegexParser {
public:
    RegexParser(Regex& regex, std::string_view pattern, const char* where, const Allocator& allocator, pith_error* error)
        : regex_(regex), pattern_(pattern), where_(where), error_(error), nodes_(allocator), pending_(allocator) {}
    pith_status compile();

private:
    using Item = Regex::Item;
    using Code = Regex::Code;
    struct Options {
        bool any_case, dot_all;
    };
    struct Length {
        uint64_t least;
        bool fixed;
    };

    static uint8_t case_flag(Options options) { return static_cast<uint8_t>(options.any_case ? Regex::kAnyCase : 0); }
    bool at_end() const { return at_ >= pattern_.size(); }
    bool ahead(std::string_view text) const { return starts_with(slice(pattern_, at_), text); }
    bool take(std::string_view text) {
        if (!ahead(text)) return false;
        at_ += text.size();
        return true;
    }
    uint32_t take_point() {
        const Utf8Char c = utf8_next(pattern_.data() + at_);
        at_ += c.size;
        return c.value;
    }
    pith_status unsupported(const char* what) {
        return fail(error_, PITH_E_UNSUPPORTED, "%s: the regular expression has %s at byte %zu, which isn't supported", where_, what, at_);
    }
    pith_status malformed(const char* what) {
        return fail(error_, PITH_E_FORMAT, "%s: the regular expression is malformed at byte %zu: %s", where_, at_, what);
    }
    pith_status too_large() { return fail(error_, PITH_E_LIMIT, "%s: the regular expression is too large", where_); }
    pith_status no_memory() { return fail_memory(error_, "a regular expression", pattern_.size()); }

    pith_status add(Node node, uint32_t* index);
    pith_status choice(Options options, uint32_t* node);
    pith_status sequence(Options options, uint32_t* node);
    pith_status atom(Options options, uint32_t* node, bool* ends);
    pith_status group(Options options, uint32_t* node, bool* ends);
    pith_status group_kind(Node* wrap, Options* options, bool* isolated);
    pith_status quantifiers(uint32_t* node);
    bool interval(uint32_t* least, uint32_t* most);
    pith_status escape(Options options, uint32_t* node);
    pith_status escaped_point(char c, uint32_t* point);
    pith_status hex_point(uint32_t digits, bool braces, uint32_t* point);
    bool shorthand(char c, Item* item) const;
    pith_status property(bool negated, Item* item);
    pith_status script(std::string_view name, bool negated, Item* item);
    pith_status posix(Item* item);
    pith_status set(Options options, uint32_t* index);
    pith_status set_items(size_t base);
    pith_status set_point(uint32_t* point);
    pith_status make_set(const Item* items, size_t count, bool negated, bool intersection, bool any_case, uint32_t* index);
    pith_status single(Item item, Options options, uint32_t* node);

    Length length(uint32_t node) const;
    pith_status emit(Regex::Op op);
    pith_status generate(uint32_t node);
    pith_status generate_choice(const Node& node);
    pith_status generate_repeat(const Node& node);
    pith_status generate_look(const Node& node);
    pith_status optional(uint32_t body, uint32_t* split);
    uint32_t here() const { return static_cast<uint32_t>(regex_.code_.size()); }

    Regex& regex_;
    std::string_view pattern_;
    const char* where_;
    pith_error* error_;
    Array<Node> nodes_;
    Array<Item> pending_;  // items of the sets being read, innermost last
    size_t at_ = 0;
    uint32_t depth_ = 0, visits_ = 0;
};

pith_status Regex::compile(std::string_view pattern, const char* where, pith_error* error) {
    return RegexParser(*this, pattern, where, *allocator_, error).compile();
}

pith_status RegexParser::compile() {
    if (pattern_.size() > kMaxPattern) return too_large();
    uint32_t root = kNone;
    PITH_TRY(choice({false, false}, &root));
    if (!at_end()) return malformed("')' without '('");
    PITH_TRY(generate(root));
    return emit({Code::Match, 0, {}, 0, 0, 0});
}

pith_status RegexParser::add(Node node, uint32_t* index) {
    *index = static_cast<uint32_t>(nodes_.size());
    node.next = kNone;
    return nodes_.push(node) ? PITH_OK : no_memory();
}

pith_status RegexParser::choice(Options options, uint32_t* node) {
    if (++depth_ > kMaxDepth) return too_large();
    uint32_t first = kNone;
    PITH_TRY(sequence(options, &first));
    *node = first;
    if (ahead("|")) {
        PITH_TRY(add({Node::Choice, 0, 0, false, first, kNone, 0, 0}, node));
        for (uint32_t last = first; take("|");) {
            uint32_t other = kNone;
            PITH_TRY(sequence(options, &other));
            nodes_[last].next = other;
            last = other;
        }
    }
    depth_--;
    return PITH_OK;
}

pith_status RegexParser::sequence(Options options, uint32_t* node) {
    PITH_TRY(add({Node::Sequence, 0, 0, false, kNone, kNone, 0, 0}, node));
    uint32_t last = kNone;
    bool ends = false;  // an isolated (?i) takes the rest of the group with it
    while (!ends && !at_end() && !ahead("|") && !ahead(")")) {
        uint32_t part = kNone;
        PITH_TRY(atom(options, &part, &ends));
        if (!ends) PITH_TRY(quantifiers(&part));
        if (last == kNone)
            nodes_[*node].a = part;
        else
            nodes_[last].next = part;
        last = part;
    }
    return PITH_OK;
}

pith_status RegexParser::atom(Options options, uint32_t* node, bool* ends) {
    const auto assertion = [&](Regex::Where where) {
        return add({Node::Assert, 0, static_cast<uint8_t>(where), false, 0, kNone, 0, 0}, node);
    };
    if (ahead("(")) return group(options, node, ends);
    if (ahead("\\")) return escape(options, node);
    if (ahead("*") || ahead("+") || ahead("?")) return malformed("nothing to repeat");
    if (take("^")) return assertion(Regex::Where::LineBegin);
    if (take("$")) return assertion(Regex::Where::LineEnd);
    if (take(".")) {
        const Item newline = {Item::Range, !options.dot_all, '\n', '\n'};
        const Item anything = {Item::Categories, false, unicode::kEverything, 0};
        return single(options.dot_all ? anything : newline, options, node);
    }
    if (take("[")) {
        uint32_t index = kNone;
        PITH_TRY(set(options, &index));
        return add({Node::Set, 0, 0, false, index, kNone, 0, 0}, node);
    }
    return add({Node::Char, case_flag(options), 0, false, take_point(), kNone, 0, 0}, node);
}

// After "(?": what sort of group. `isolated`: "(?i)", which changes the options of what follows.
pith_status RegexParser::group_kind(Node* wrap, Options* options, bool* isolated) {
    if (take(":")) return PITH_OK;
    if (take(">")) {
        wrap->kind = Node::Atomic;
        return PITH_OK;
    }
    const bool ahead_look = take("="), ahead_not = !ahead_look && take("!");
    const bool behind = !ahead_look && !ahead_not && take("<="), behind_not = !ahead_look && !ahead_not && !behind && take("<!");
    if (ahead_look || ahead_not || behind || behind_not) {
        wrap->kind = Node::Look;
        if (ahead_not || behind_not) wrap->flags |= Regex::kNegative;
        if (behind || behind_not) wrap->flags |= Regex::kBehind;
        return PITH_OK;
    }
    if (ahead("<") || ahead("P<") || ahead("'")) return unsupported("a named group");
    for (bool on = true; !at_end();) {
        if (take(":")) return PITH_OK;
        if (take(")")) {
            *isolated = true;
            return PITH_OK;
        }
        if (take("-"))
            on = false;
        else if (take("i"))
            options->any_case = on;
        else if (take("m"))
            options->dot_all = on;
        else
            return unsupported("a group of an unknown kind");
    }
    return malformed("'(' without ')'");
}

pith_status RegexParser::group(Options options, uint32_t* node, bool* ends) {
    at_++;
    Node wrap = {Node::Empty, 0, 0, false, kNone, kNone, 0, 0};
    if (take("?")) PITH_TRY(group_kind(&wrap, &options, ends));
    uint32_t body = kNone;
    PITH_TRY(choice(options, &body));
    if (!*ends && !take(")")) return malformed("'(' without ')'");
    *node = body;
    if (wrap.kind == Node::Empty) return PITH_OK;
    wrap.a = body;
    return add(wrap, node);
}

// {n} {n,} {n,m} {,m}; anything else leaves "{" a plain character.
bool RegexParser::interval(uint32_t* least, uint32_t* most) {
    const size_t start = at_;
    const auto number = [this](uint32_t* value) {
        bool any = false;
        for (*value = 0; !at_end() && pattern_[at_] >= '0' && pattern_[at_] <= '9'; at_++, any = true)
            *value = std::min<uint32_t>(*value * 10 + static_cast<uint32_t>(pattern_[at_] - '0'), 1u << 24);
        return any;
    };
    at_++;
    const bool low = number(least);
    bool high = low;
    *most = *least;
    if (take(",")) {
        high = number(most);
        if (!high) *most = kInfinite;
    }
    if ((low || high) && take("}")) return true;
    at_ = start;
    return false;
}

pith_status RegexParser::quantifiers(uint32_t* node) {
    for (uint32_t stacked = 0;; stacked++) {
        uint32_t least = 0, most = kInfinite;
        bool lazy = false, braces = false;
        uint8_t flags = 0;
        if (take("*")) {
        } else if (take("+")) {
            least = 1;
        } else if (take("?")) {
            most = 1;
        } else if (ahead("{") && interval(&least, &most)) {
            braces = true;
        } else {
            return PITH_OK;
        }
        if (stacked == kMaxStacked) return too_large();
        if (least > most) return malformed("an interval runs backwards");
        if (least > kMaxRepeat || (most > kMaxRepeat && most != kInfinite)) return too_large();
        // Oniguruma: a{2}? is (?:a{2})?, and a{2,3}+ repeats a{2,3}.
        if (!(braces && least == most) && take("?"))
            lazy = true;
        else if (!braces && take("+"))
            flags = Regex::kPossessive;
        const uint32_t body = *node;
        if (length(body).fixed && length(body).least == 0) return unsupported("a repeated group that matches nothing");
        PITH_TRY(add({Node::Repeat, flags, 0, lazy, body, kNone, least, most}, node));
    }
}

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
    Regex::Class made = {{0, 0}, static_cast<uint32_t>(regex_.items_.size()), static_cast<uint32_t>(count), negated, intersection, any_case,
                         false};
    if (!regex_.items_.append(items, count)) return no_memory();
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

// In code points. Only parents of few levels ask: the depth of a tree is bounded by kMaxDepth.
RegexParser::Length RegexParser::length(uint32_t index) const {
    const Node& node = nodes_[index];
    switch (node.kind) {
        case Node::Char:
        case Node::Set:
            return {1, true};
        case Node::Empty:
        case Node::Assert:
        case Node::Look:
            return {0, true};
        case Node::Atomic:
            return length(node.a);
        case Node::Sequence: {
            Length sum = {0, true};
            for (uint32_t child = node.a; child != kNone; child = nodes_[child].next) {
                const Length part = length(child);
                sum = {sum.least + part.least, sum.fixed && part.fixed};
            }
            return sum;
        }
        case Node::Choice: {
            Length all = length(node.a);
            for (uint32_t child = nodes_[node.a].next; child != kNone; child = nodes_[child].next) {
                const Length part = length(child);
                all = {std::min(all.least, part.least), all.fixed && part.fixed && all.least == part.least};
            }
            return all;
        }
        case Node::Repeat: {
            const Length body = length(node.a);
            return {std::min<uint64_t>(body.least * node.least, 1u << 30), body.fixed && node.least == node.most};
        }
    }
    return {0, true};
}

pith_status RegexParser::emit(Regex::Op op) {
    if (regex_.code_.size() >= kMaxCode) return too_large();
    return regex_.code_.push(op) ? PITH_OK : no_memory();
}

pith_status RegexParser::generate(uint32_t index) {
    if (++visits_ > kMaxVisits) return too_large();
    const Node node = nodes_[index];
    switch (node.kind) {
        case Node::Empty:
            return PITH_OK;
        case Node::Char:
            return emit({Code::Char, node.flags, {}, node.a, 0, 0});
        case Node::Set:
            return emit({Code::Class, 0, {}, node.a, 0, 0});
        case Node::Assert:
            return emit({Code::Assert, 0, static_cast<Regex::Where>(node.where), 0, 0, 0});
        case Node::Sequence:
            for (uint32_t child = node.a; child != kNone; child = nodes_[child].next) PITH_TRY(generate(child));
            return PITH_OK;
        case Node::Choice:
            return generate_choice(node);
        case Node::Repeat:
            return generate_repeat(node);
        case Node::Look:
        case Node::Atomic:
            return generate_look(node);
    }
    return PITH_OK;
}

pith_status RegexParser::generate_choice(const Node& node) {
    uint32_t exits = kNone;  // the jumps to the end, chained through x
    for (uint32_t child = node.a; child != kNone; child = nodes_[child].next) {
        const bool last = nodes_[child].next == kNone;
        const uint32_t split = here();
        if (!last) PITH_TRY(emit({Code::Split, 0, {}, split + 1, 0, 0}));
        PITH_TRY(generate(child));
        if (last) break;
        const uint32_t jump = here();
        PITH_TRY(emit({Code::Jump, 0, {}, exits, 0, 0}));
        exits = jump;
        regex_.code_[split].y = here();
    }
    while (exits != kNone) {
        const uint32_t next = regex_.code_[exits].x;
        regex_.code_[exits].x = here();
        exits = next;
    }
    return PITH_OK;
}

// Split, then the body: the caller patches where the other way leads.
pith_status RegexParser::optional(uint32_t body, uint32_t* split) {
    *split = here();
    PITH_TRY(emit({Code::Split, 0, {}, *split + 1, 0, 0}));
    return generate(body);
}

pith_status RegexParser::generate_repeat(const Node& node) {
    const Node body = nodes_[node.a];
    if (!node.lazy && (body.kind == Node::Char || body.kind == Node::Set)) {
        uint32_t set = body.a;
        if (body.kind == Node::Char) {
            const Item item = {Item::Range, false, body.a, body.a};
            PITH_TRY(make_set(&item, 1, false, false, (body.flags & Regex::kAnyCase) != 0, &set));
        }
        return emit({Code::Loop, node.flags, {}, set, node.least, node.most});
    }
    // Engines differ in when they leave such a loop.
    if (node.most > 1 && length(node.a).least == 0) return unsupported("a repetition of what may match nothing");
    const uint32_t atomic = here();
    if (node.flags & Regex::kPossessive) PITH_TRY(emit({Code::Atomic, 0, {}, 0, 0, 0}));
    for (uint32_t i = 0; i < node.least; i++) PITH_TRY(generate(node.a));
    const auto patch = [&](uint32_t split, uint32_t to) {
        Regex::Op& op = regex_.code_[split];
        op.y = to;
        if (node.lazy) std::swap(op.x, op.y);
    };
    if (node.most == kInfinite) {
        uint32_t split = kNone;
        PITH_TRY(optional(node.a, &split));
        PITH_TRY(emit({Code::Jump, 0, {}, split, 0, 0}));
        patch(split, here());
    } else {
        uint32_t open = kNone;  // the splits so far, chained through y
        for (uint32_t i = node.least; i < node.most; i++) {
            uint32_t split = kNone;
            PITH_TRY(optional(node.a, &split));
            regex_.code_[split].y = open;
            open = split;
        }
        while (open != kNone) {
            const uint32_t next = regex_.code_[open].y;
            patch(open, here());
            open = next;
        }
    }
    if (node.flags & Regex::kPossessive) {
        PITH_TRY(emit({Code::Match, 0, {}, 0, 0, 0}));
        regex_.code_[atomic].x = here();
    }
    return PITH_OK;
}

pith_status RegexParser::generate_look(const Node& node) {
    const Length body = length(node.a);
    if (node.flags & Regex::kBehind && !body.fixed) return unsupported("a look-behind of varying length");
    const uint32_t op = here();
    PITH_TRY(emit({node.kind == Node::Atomic ? Code::Atomic : Code::Look, node.flags, {}, 0, static_cast<uint32_t>(body.least), 0}));
    PITH_TRY(generate(node.a));
    PITH_TRY(emit({Code::Match, 0, {}, 0, 0, 0}));
    regex_.code_[op].x = here();
    return PITH_OK;
}

}  // namespace pith
