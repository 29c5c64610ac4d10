// The matcher: an explicit stack of choices, runs of one character class as a single entry, fuel for every step.
#include "text/regex.h"

#include <algorithm>

#include "base/utf8.h"

namespace pith {
namespace {

constexpr uint32_t kPlain = 0xFFFFFFFF;
// Choices left open: a few for each byte of the text, and at most 12 MiB.
constexpr size_t kMinStack = 1u << 12, kMaxStack = 1u << 20;

}  // namespace

bool Regex::evaluate(const Class& set, uint32_t point) const {
    bool all = true, any = false;
    for (uint32_t i = set.first; i < set.first + set.count; i++) {
        const Item& item = items_[i];
        bool in = false;
        switch (item.kind) {
            case Item::Range:
                in = point >= item.low && point <= item.high;
                break;
            case Item::Categories:
                in = unicode::is(point, item.low);
                break;
            case Item::Space:
                in = unicode::is_space(point);
                break;
            // Oniguruma counts these Latin-1 numbers as word characters.
            case Item::Word:
                in = unicode::is_word(point) || point == 0xB2 || point == 0xB3 || point == 0xB9 || (point >= 0xBC && point <= 0xBE);
                break;
            case Item::Nested:
                in = has(classes_[item.low], point);
                break;
        }
        in = in != item.negated;
        all = all && in;
        any = any || in;
    }
    return set.intersection ? all : any;
}

bool Regex::has(const Class& set, uint32_t point) const {
    if (point < 128 && set.ready) return set.ascii[point >> 6] >> (point & 63) & 1;
    bool in = evaluate(set, point);
    if (!in && set.any_case) {
        const uint32_t folded = unicode::fold(point);
        in = evaluate(set, folded) || evaluate(set, unicode::upper(folded)) || evaluate(set, unicode::lower(point));
    }
    return in != set.negated;
}

class RegexMatcher {
public:
    // False: not enough fuel.
    bool spend(uint32_t cost) {
        const bool enough = scratch_.fuel >= cost;
        scratch_.fuel -= enough ? cost : scratch_.fuel;
        return enough;
    }

    RegexMatcher(const Regex& regex, std::string_view text, RegexScratch* scratch)
        : regex_(regex),
          begin_(text.data()),
          end_(text.data() + text.size()),
          limit_(std::min(kMinStack + 4 * text.size(), kMaxStack)),
          scratch_(*scratch) {}

    enum class Outcome { Matched, Failed, Fuel, Depth, Memory };
    // Runs from `pc` at `at` until Match; *to is then where it ended.
    Outcome run(uint32_t pc, const char* at, const char** to);

private:
    bool holds(Regex::Where where, const char* at) const;
    bool step(const Regex::Op& op, const char** at) const;
    Outcome loop(const Regex::Op& op, uint32_t next, const char** at);
    Outcome look(const Regex::Op& op, uint32_t pc, const char** at);
    Outcome push(uint32_t pc, const char* at, uint32_t low);
    bool pop(size_t base, uint32_t* pc, const char** at);

    const Regex& regex_;
    const char* begin_;
    const char* end_;
    size_t limit_;
    RegexScratch& scratch_;
};

RegexMatcher::Outcome RegexMatcher::push(uint32_t pc, const char* at, uint32_t low) {
    if (scratch_.stack.size() >= limit_) return Outcome::Depth;
    return scratch_.stack.push({pc, static_cast<uint32_t>(at - begin_), low}) ? Outcome::Matched : Outcome::Memory;
}

// Takes the newest choice; a class run gives back one code point at a time.
bool RegexMatcher::pop(size_t base, uint32_t* pc, const char** at) {
    if (scratch_.stack.size() <= base) return false;
    RegexScratch::Frame& top = scratch_.stack.back();
    *pc = top.pc;
    *at = begin_ + top.at;
    if (top.low == kPlain) {
        scratch_.stack.pop();
        return true;
    }
    *at = utf8_previous(*at);
    top.at = static_cast<uint32_t>(*at - begin_);
    if (top.at <= top.low) scratch_.stack.pop();
    return true;
}

bool RegexMatcher::holds(Regex::Where where, const char* at) const {
    const auto word_at = [this](const char* p) { return p < end_ && unicode::is_word(utf8_next(p).value); };
    switch (where) {
        case Regex::Where::LineBegin:
            return at == begin_ || (at[-1] == '\n' && at != end_);
        case Regex::Where::LineEnd:
            return at == end_ || *at == '\n';
        case Regex::Where::TextBegin:
            return at == begin_;
        case Regex::Where::TextEnd:
            return at == end_;
        case Regex::Where::TextEndOrNewline:
            return at == end_ || (*at == '\n' && at + 1 == end_);
        default:
            break;
    }
    const bool edge = (at > begin_ && word_at(utf8_previous(at))) != word_at(at);
    return edge == (where == Regex::Where::WordEdge);
}

// One character of a Char or Class at *at.
bool RegexMatcher::step(const Regex::Op& op, const char** at) const {
    if (*at == end_) return false;
    const Utf8Char c = utf8_next(*at);
    bool good;
    if (op.code == Regex::Code::Char)
        good = c.value == op.x || (op.flags & Regex::kAnyCase && unicode::fold(c.value) == unicode::fold(op.x));
    else
        good = regex_.has(regex_.classes_[op.x], c.value);
    if (good) *at += c.size;
    return good;
}

RegexMatcher::Outcome RegexMatcher::loop(const Regex::Op& op, uint32_t next, const char** at) {
    const Regex::Class& set = regex_.classes_[op.x];
    const char* low = *at;
    uint32_t count = 0;
    while (count < op.z && *at < end_) {
        const Utf8Char c = utf8_next(*at);
        if (!regex_.has(set, c.value)) break;
        if (!spend(set.cost)) return Outcome::Fuel;
        *at += c.size;
        if (++count == op.y) low = *at;
    }
    if (count < op.y) return Outcome::Failed;
    if (*at > low && !(op.flags & Regex::kPossessive)) {
        const Outcome pushed = push(next, *at, static_cast<uint32_t>(low - begin_));
        if (pushed != Outcome::Matched) return pushed;
    }
    return Outcome::Matched;
}

// A look-around or an atomic group: its body runs on its own and leaves no choices behind.
RegexMatcher::Outcome RegexMatcher::look(const Regex::Op& op, uint32_t pc, const char** at) {
    const char* from = *at;
    bool possible = true;
    if (op.flags & Regex::kBehind) {
        for (uint32_t i = 0; i < op.y && possible; i++) {
            possible = from > begin_;
            if (possible) from = utf8_previous(from);
        }
    }
    const char* to = from;
    Outcome inner = Outcome::Failed;
    if (possible) inner = run(pc + 1, from, &to);
    if (inner != Outcome::Matched && inner != Outcome::Failed) return inner;
    const bool matched = inner == Outcome::Matched;
    if (op.code == Regex::Code::Atomic) {
        *at = to;
        return inner;
    }
    return matched != ((op.flags & Regex::kNegative) != 0) ? Outcome::Matched : Outcome::Failed;
}

RegexMatcher::Outcome RegexMatcher::run(uint32_t pc, const char* at, const char** to) {
    const size_t base = scratch_.stack.size();
    for (;;) {
        const Regex::Op& op = regex_.code_[pc];
        if (!spend(op.code == Regex::Code::Class ? regex_.classes_[op.x].cost : 1)) return Outcome::Fuel;
        Outcome outcome = Outcome::Matched;
        switch (op.code) {
            case Regex::Code::Char:
            case Regex::Code::Class:
                if (!step(op, &at)) outcome = Outcome::Failed;
                pc++;
                break;
            case Regex::Code::Loop:
                outcome = loop(op, pc + 1, &at);
                pc++;
                break;
            case Regex::Code::Split:
                outcome = push(op.y, at, kPlain);
                pc = op.x;
                break;
            case Regex::Code::Jump:
                pc = op.x;
                break;
            case Regex::Code::Assert:
                if (!holds(op.where, at)) outcome = Outcome::Failed;
                pc++;
                break;
            case Regex::Code::Look:
            case Regex::Code::Atomic:
                outcome = look(op, pc, &at);
                pc = op.x;
                break;
            case Regex::Code::Match:
                scratch_.stack.shrink(base);
                *to = at;
                return Outcome::Matched;
        }
        if (outcome == Outcome::Failed) {
            if (!pop(base, &pc, &at)) return Outcome::Failed;
        } else if (outcome != Outcome::Matched) {
            return outcome;
        }
    }
}

pith_status Regex::find(std::string_view text, size_t from, RegexScratch* scratch, Match* match, pith_error* error) const {
    const char* const end = text.data() + text.size();
    RegexMatcher matcher(*this, text, scratch);
    for (const char* at = text.data() + from;; at += utf8_next(at).size) {
        const char* to = at;
        scratch->stack.clear();
        switch (matcher.run(0, at, &to)) {
            case RegexMatcher::Outcome::Matched:
                *match = {static_cast<size_t>(at - text.data()), static_cast<size_t>(to - text.data()), true};
                return PITH_OK;
            case RegexMatcher::Outcome::Failed:
                break;
            case RegexMatcher::Outcome::Fuel:
                return fail(error, PITH_E_LIMIT, "a regular expression of the tokenizer takes too many steps on this text");
            case RegexMatcher::Outcome::Depth:
                return fail(error, PITH_E_LIMIT, "a regular expression of the tokenizer backtracks too deep on this text");
            case RegexMatcher::Outcome::Memory:
                return fail_memory(error, "a regular expression's stack", scratch->stack.size() * sizeof(RegexScratch::Frame));
        }
        if (at == end) break;
    }
    *match = {text.size(), text.size(), false};
    return PITH_OK;
}

}  // namespace pith
