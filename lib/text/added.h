// Added tokens: strings that become one token wherever they stand in a text, before the model sees it.
#pragma once
#include "text/vocabulary.h"

namespace pith {

// A part of a text: an added token, or what lies between two.
struct Part {
    uint32_t begin, end;
    uint32_t token;  // index in the vocabulary; kNoToken: text
};

class AddedMatcher {
public:
    explicit AddedMatcher(const Allocator& allocator) : patterns_(allocator) {}

    // `text` must outlive this; an empty one never matches.
    pith_status add(std::string_view text, uint32_t token, pith_error* error);
    void finish();  // after the last add
    bool empty() const { return patterns_.empty(); }

    // Cuts `text` at the leftmost, longest occurrences, as the tokens' flags say. Special tokens stay text unless `special`.
    pith_status split(std::string_view text, const Vocabulary& vocabulary, bool special, Array<Part>* parts, pith_error* error) const;

private:
    struct Pattern {
        const char* text;
        uint32_t size, token;
        std::string_view view() const { return {text, size}; }
    };
    const Pattern* longest_at(std::string_view text, size_t at) const;

    Array<Pattern> patterns_;   // sorted
    uint32_t first_[257] = {};  // where the patterns of each first byte begin
};

}  // namespace pith
