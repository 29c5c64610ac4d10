// What the files of the regular expressions' compiler share: the tree, and the parser that turns a pattern into it and then into code.
#pragma once
#include "base/utf8.h"
#include "text/regex.h"

namespace pith {

struct RegexNode {
    enum Kind : uint8_t { Empty, Char, Set, Assert, Sequence, Choice, Repeat, Look, Atomic } kind;
    uint8_t flags;         // as Op's
    uint8_t where;         // Assert
    bool lazy;             // Repeat
    uint32_t a;            // Char: code point; Set: class; the rest: first child
    uint32_t next;         // sibling in a Sequence or Choice
    uint32_t least, most;  // Repeat
};

class RegexParser {
public:
    RegexParser(Regex& regex, std::string_view pattern, const char* where, const Allocator& allocator, RegexBudget* budget,
                pith_error* error)
        : regex_(regex), pattern_(pattern), where_(where), budget_(*budget), error_(error), nodes_(allocator), pending_(allocator) {}
    pith_status compile();

private:
    using Node = RegexNode;
    static constexpr uint32_t kNone = 0xFFFFFFFF, kInfinite = 0xFFFFFFFF;
    static constexpr uint32_t kMaxDepth = 50;

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
    pith_status over_budget() {
        return fail(error_, PITH_E_LIMIT,
                    "%s: the regular expression is too large, with those before it: at most %u bytes and %u instructions", where_,
                    RegexBudget::kPattern, RegexBudget::kCode);
    }
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
    RegexBudget& budget_;
    pith_error* error_;
    Array<Node> nodes_;
    Array<Item> pending_;  // items of the sets being read, innermost last
    size_t at_ = 0;
    uint32_t depth_ = 0;
};

}  // namespace pith
