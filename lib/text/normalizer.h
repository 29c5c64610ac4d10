// What a tokenizer does to text before it cuts it: tokenizer.json's "normalizer".
#pragma once
#include "text/matcher.h"

namespace pith {

// Buffers for one call of encode; nothing of a tokenizer changes while it works.
struct NormalizerScratch {
    explicit NormalizerScratch(const Allocator& allocator) : text(allocator), spare(allocator), points(allocator) {}
    Array<char> text;  // the result
    Array<char> spare;
    Array<int32_t> points;
};

class Normalizer {
public:
    explicit Normalizer(const Allocator& allocator) : steps_(allocator) {}

    pith_status load(const Field& normalizer, Parts* parts, pith_error* error);
    bool empty() const { return steps_.empty(); }
    // Result in scratch->text. *at_start: whether the result's first code point stems from that of `text` (Metaspace asks).
    pith_status run(std::string_view text, NormalizerScratch* scratch, RegexScratch* regex, bool* at_start, pith_error* error) const;

private:
    enum class Kind : uint8_t { Form, Lowercase, StripAccents, Strip, Prepend, Replace, Nmt, Bytes };
    struct Step {
        Kind kind;
        bool left, right;  // Strip
        unicode::Form form;
        std::string_view text;  // Prepend, Replace: content
        const Matcher* matcher;
    };
    pith_status add(const Field& normalizer, Parts* parts, pith_error* error);
    pith_status add_text(const Field& normalizer, const char* key, Step* step, Parts* parts, pith_error* error);
    pith_status apply(const Step& step, std::string_view text, NormalizerScratch* scratch, RegexScratch* regex, bool* at_start,
                      pith_error* error) const;

    Array<Step> steps_;
};

}  // namespace pith
