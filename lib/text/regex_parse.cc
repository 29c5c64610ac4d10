// From pattern text to a tree. Everything that could surprise a pattern's author is refused by name.
#include <algorithm>

#include "text/regex_parser.h"

namespace pith {
namespace {

constexpr uint32_t kMaxRepeat = 1000, kMaxStacked = 4;

}  // namespace

pith_status Regex::compile(std::string_view pattern, const char* where, RegexBudget* budget, pith_error* error) {
    return RegexParser(*this, pattern, where, *allocator_, budget, error).compile();
}

pith_status RegexParser::compile() {
    if (pattern_.size() > budget_.pattern) return over_budget();
    budget_.pattern -= static_cast<uint32_t>(pattern_.size());
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

}  // namespace pith
