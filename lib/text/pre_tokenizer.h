// How a tokenizer cuts normalized text into the words that its model sees: tokenizer.json's "pre_tokenizer".
#pragma once
#include "text/matcher.h"

namespace pith {

// A part of a text. `first`: it begins where the whole input began (Metaspace's scheme "first").
struct Piece {
    uint32_t begin, end;
    bool first;
};

struct PieceScratch {
    explicit PieceScratch(const Allocator& allocator)
        : pieces(allocator), spare_pieces(allocator), spans(allocator), text(allocator), spare_text(allocator) {}
    struct Span {
        uint32_t begin, end;
        bool match;
    };
    const char* base = nullptr;  // what the pieces are offsets into: the input or `text`
    Array<Piece> pieces, spare_pieces;
    Array<Span> spans;
    Array<char> text, spare_text;
};

class PreTokenizer {
public:
    explicit PreTokenizer(const Allocator& allocator) : steps_(allocator) {}

    pith_status load(const Field& pre_tokenizer, Parts* parts, pith_error* error);
    // Leaves out the byte alphabet's mapping if it is the last step: the words are then raw bytes, for a model that takes them.
    bool defer_bytes();

    // Result: scratch->pieces, none of them empty. `text` is valid UTF-8 and shorter than 2 GiB.
    pith_status run(std::string_view text, bool first, PieceScratch* scratch, RegexScratch* regex, pith_error* error) const;

private:
    enum class Kind : uint8_t { Split, Prefix, Spaces, Bytes };
    enum class Behavior : uint8_t { Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous };
    enum class Scheme : uint8_t { Always, First, Never };
    struct Step {
        Kind kind;
        Behavior behavior;  // Split
        bool invert;
        Scheme scheme;  // Prefix, Spaces
        const Matcher* matcher;
        std::string_view text;  // Prefix: what; Spaces: what stands for a space
    };
    pith_status add(const Field& field, Parts* parts, pith_error* error);
    pith_status add_split(const Field& field, Parts* parts, pith_error* error);
    pith_status add_byte_level(const Field& field, Parts* parts, pith_error* error);
    pith_status add_metaspace(const Field& field, Parts* parts, pith_error* error);
    pith_status add_class(Matcher::Kind kind, Behavior behavior, bool invert, Parts* parts, pith_error* error);
    pith_status push(const Step& step, pith_error* error);
    static pith_status behavior(const Field& field, Behavior* value, pith_error* error);

    pith_status split(const Step& step, PieceScratch* scratch, RegexScratch* regex, pith_error* error) const;
    static bool find_spans(const Regex::Match& match, size_t done, bool invert, PieceScratch* scratch);
    static bool join(Behavior behavior, const Piece& whole, PieceScratch* scratch);
    pith_status rewrite(const Step& step, size_t limit, PieceScratch* scratch, pith_error* error) const;
    static bool rewrite_piece(const Step& step, std::string_view piece, bool first, Array<char>* to);

    Array<Step> steps_;
};

}  // namespace pith
