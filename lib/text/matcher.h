// What splits and replacements look for: a literal, a class of characters, one of the known patterns, or a regular expression.
#pragma once
#include <string_view>

#include "base/array.h"
#include "text/field.h"
#include "text/regex.h"
#include "text/scanners.h"

namespace pith {

struct Parts;

class Matcher {
public:
    enum class Kind : uint8_t { Literal, Regex, Scanner, Spaces, Punctuation, Number, WordsAndMarks };

    explicit Matcher(const Allocator& allocator) : regex_(allocator) {}
    Matcher(const Allocator& allocator, Kind kind) : kind_(kind), regex_(allocator) {}

    void use_literal(std::string_view literal) {  // it must outlive this
        kind_ = Kind::Literal;
        literal_ = literal;
    }
    // {"String": …} or {"Regex": …}. Strings are kept in the parts' arena.
    pith_status load(const Field& pattern, Parts* parts, pith_error* error);
    pith_status use_regex(std::string_view regex, const char* where, RegexBudget* budget, pith_error* error);

    // The leftmost match from `from` on. It may be empty only for literals and regular expressions.
    pith_status find(std::string_view text, size_t from, RegexScratch* scratch, Regex::Match* match, pith_error* error) const;

    bool is_literal() const { return kind_ == Kind::Literal; }
    std::string_view literal() const { return literal_; }

private:
    Kind kind_ = Kind::Literal;
    Scanner scanner_ = Scanner::None;
    std::string_view literal_;
    Regex regex_;
};

// The successive matches in a text, in Oniguruma's way: no empty match right behind another match.
class MatchIterator {
public:
    MatchIterator(const Matcher& matcher, std::string_view text, RegexScratch* scratch)
        : matcher_(matcher), text_(text), scratch_(scratch) {}
    pith_status next(Regex::Match* match, pith_error* error);  // match->found says whether there is one

private:
    const Matcher& matcher_;
    std::string_view text_;
    RegexScratch* scratch_;
    size_t from_ = 0, last_end_ = SIZE_MAX;
    bool done_ = false;
};

// Strings and matchers that the steps of a tokenizer point to; they live as long as it does.
struct Parts {
    explicit Parts(const Allocator& allocator_) : allocator(allocator_), arena(allocator_), matchers(allocator_) {}
    ~Parts() {
        for (Matcher* matcher : matchers) destroy(allocator, matcher);
    }
    Parts(const Parts&) = delete;
    Parts& operator=(const Parts&) = delete;
    // NULL: out of memory.
    Matcher* matcher(Matcher::Kind kind = Matcher::Kind::Literal) {
        Matcher* made = create<Matcher>(allocator, allocator, kind);
        if (made && !matchers.push(made)) {
            destroy(allocator, made);
            return nullptr;
        }
        return made;
    }
    // A copy of a text that no file holds, but loading made: a few bytes of a file could ask for any amount.
    pith_status keep(std::string_view made, std::string_view* copy, pith_error* error);

    const Allocator& allocator;
    Arena arena;
    RegexBudget regexes;
    uint64_t made_limit = 1 << 20, made_size = 0;  // bytes of those texts
    Array<Matcher*> matchers;
};

inline constexpr size_t kMaxSteps = 64;  // of a normalizer, pre-tokenizer or decoder: each may pass over the whole text

// "Replace" of normalizers and decoders: appends `text` with every match replaced.
// *keeps_start (NULL allowed): whether what now comes first stems from the text's first code point alone.
pith_status replace_all(const Matcher& matcher, std::string_view content, std::string_view text, RegexScratch* scratch, Array<char>* to,
                        bool* keeps_start, pith_error* error);

}  // namespace pith
