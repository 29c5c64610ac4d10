// A backtracking matcher for the pre-tokenizer patterns without a scanner. Oniguruma's syntax, as far as such patterns use it;
// what isn't supported is refused when it is compiled, and every search is bounded in steps and in memory.
#pragma once
#include <string_view>

#include "base/array.h"
#include "base/status.h"
#include "text/unicode.h"

namespace pith {

// What a search needs besides the pattern, so that one compiled Regex serves many threads.
struct RegexScratch {
    struct Frame {
        uint32_t pc, at, low;  // low: a run of a character class may give back until here; kPlain: only one way to go
    };
    explicit RegexScratch(const Allocator& allocator) : stack(allocator) {}
    Array<Frame> stack;
    uint64_t fuel = 0;      // steps left; PITH_E_LIMIT at 0
    size_t text_limit = 0;  // what a text may grow to under replacements; the same
};

// What the regular expressions of one file may take, all together: a file can hold dozens.
struct RegexBudget {
    static constexpr uint32_t kPattern = 1u << 14, kCode = 1u << 14;
    uint32_t pattern = kPattern;  // bytes
    uint32_t code = kCode;        // instructions
    uint32_t visits = 1u << 18;   // nodes of the trees that become them
};

class Regex {
public:
    explicit Regex(const Allocator& allocator) : allocator_(&allocator), code_(allocator), classes_(allocator), items_(allocator) {}

    // `where` names the pattern in messages. PITH_E_UNSUPPORTED: a construct we lack; PITH_E_FORMAT: malformed; PITH_E_LIMIT: too large,
    // alone or for what the budget has left.
    pith_status compile(std::string_view pattern, const char* where, RegexBudget* budget, pith_error* error);

    struct Match {
        size_t begin, end;
        bool found;
    };
    // The leftmost match that begins at `from` or after. `text` is valid UTF-8, shorter than 4 GiB.
    pith_status find(std::string_view text, size_t from, RegexScratch* scratch, Match* match, pith_error* error) const;

private:
    friend class RegexParser;
    friend class RegexMatcher;

    enum class Code : uint8_t { Char, Class, Loop, Split, Jump, Assert, Look, Atomic, Match };
    enum class Where : uint8_t { LineBegin, LineEnd, TextBegin, TextEnd, TextEndOrNewline, WordEdge, NotWordEdge };
    enum : uint8_t { kAnyCase = 1, kPossessive = 2, kNegative = 4, kBehind = 8 };
    struct Op {
        Code code;
        uint8_t flags;
        Where where;  // Assert
        uint32_t x;   // Char: code point; Class, Loop: class; Split: first choice; Jump, Look, Atomic: where to go on
        uint32_t y;   // Split: second choice; Loop: least count; Look behind: code points to step back
        uint32_t z;   // Loop: greatest count
    };
    // A set of code points: the union (or intersection) of its items.
    struct Class {
        uint64_t ascii[2];  // the answer for ASCII, everything considered
        uint32_t first, count;
        uint32_t cost;                                // in steps
        bool negated, intersection, any_case, ready;  // ready: `ascii` is filled in
    };
    struct Item {
        enum Kind : uint8_t { Range, Categories, Space, Word, Nested } kind;
        bool negated;
        uint32_t low, high;  // Categories: low is the mask; Nested: low is the class
    };
    bool has(const Class& set, uint32_t point) const;
    bool evaluate(const Class& set, uint32_t point) const;

    const Allocator* allocator_;
    Array<Op> code_;
    Array<Class> classes_;
    Array<Item> items_;
};

}  // namespace pith
