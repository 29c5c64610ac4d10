// From the tree to code for the matcher.
#include <algorithm>

#include "text/regex_parser.h"

namespace pith {

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
    if (budget_.code == 0) return over_budget();
    budget_.code--;
    return regex_.code_.push(op) ? PITH_OK : no_memory();
}

pith_status RegexParser::generate(uint32_t index) {
    if (budget_.visits == 0) return over_budget();
    budget_.visits--;
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
            nodes_[node.a].kind = Node::Set;  // the next time round it is there
            nodes_[node.a].a = set;
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
