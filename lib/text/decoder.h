// From token ids to text: tokenizer.json's "decoder". One token at a time, in a state of 32 bytes; a whole list is decoded the same way.
#pragma once
#include "text/matcher.h"
#include "text/vocabulary.h"

namespace pith {

// The bits of a public pith_stream. Zero: nothing decoded yet.
struct DecodeState {
    uint8_t held[24];
    uint32_t count;  // of held: bytes of a code point or a run of byte tokens not yet known to be whole; or a token (4 bytes)
    uint32_t state;  // kStarted …, then two counters of a byte each
};

// Counts what doesn't fit.
class TextWriter {
public:
    TextWriter(char* to, size_t capacity) : to_(to), capacity_(capacity) {}
    void put(std::string_view text) {
        if (text.size() <= capacity_ && size_ <= capacity_ - text.size() && !text.empty()) memcpy(to_ + size_, text.data(), text.size());
        size_ += text.size();
    }
    size_t size() const { return size_; }
    bool fits() const { return size_ <= capacity_; }

private:
    char* to_;
    size_t capacity_;
    size_t size_ = 0;
};

class Decoder {
public:
    explicit Decoder(const Allocator& allocator) : steps_(allocator), replacements_(allocator), pieces_(allocator) {}

    // `decoder` of tokenizer.json; absent: tokens with spaces between. `Unsupported` where a stream of bounded state can't do the same.
    pith_status load(const Field& decoder, Parts* parts, pith_error* error);
    // Decodes every token of the vocabulary once. `displays`: the text of each token to decode, where it differs from the vocabulary's.
    // `regex` has the fuel for all of them.
    pith_status prepare(const Vocabulary& vocabulary, const Array<std::string_view>& displays, RegexScratch* regex, Parts* parts,
                        pith_error* error);

    bool is_state(const DecodeState& state) const;  // one that step() can have left
    void step(uint32_t token, DecodeState* state, TextWriter* out) const;
    void flush(DecodeState* state, TextWriter* out) const;

    // The bytes that a token stands for within a text.
    std::string_view piece(uint32_t token) const;

private:
    enum class Join : uint8_t { Plain, Spaces, Utf8, ByteFallback };
    enum class Stage : uint8_t { Tokens, Runs, Whole };
    enum class Differs : uint8_t { Never, First, Last };  // which token of a text decodes in another way than the rest
    struct Step {
        enum Kind : uint8_t { Replace, Strip, Metaspace, Suffix } kind;
        const Matcher* matcher;  // all but Strip
        std::string_view text;   // Replace: content; Strip, Metaspace: the character; Suffix
        uint32_t start, stop;    // Strip
    };
    struct Replacement {  // of one code point in the joined text
        uint32_t point;
        std::string_view text;
    };
    struct Decoded {
        std::string_view text, other;  // other: of the first or last token, see Differs
        int32_t byte;                  // a byte token's; -1: an ordinary token
    };
    enum : uint32_t { kStarted = 1, kBroken = 2, kPastStart = 4 };

    pith_status add(const Field& field, Stage* stage, Parts* parts, pith_error* error);
    pith_status add_replace(const Field& field, Stage stage, Parts* parts, pith_error* error);
    pith_status add_strip(const Field& field, Stage stage, Parts* parts, pith_error* error);
    pith_status add_metaspace(const Field& field, Parts* parts, pith_error* error);
    pith_status add_suffix(const Field& field, Parts* parts, pith_error* error);
    pith_status push(const Step& step, pith_error* error);
    pith_status push_literal(Step* step, Parts* parts, pith_error* error);
    pith_status apply(const Step& step, bool differs, std::string_view text, Array<char>* to, RegexScratch* regex, pith_error* error) const;
    pith_status decode_token(std::string_view display, bool differs, Array<char>* text, Array<char>* spare, RegexScratch* regex,
                             pith_error* error) const;

    void add_byte(uint8_t byte, DecodeState* state, TextWriter* out) const;
    void end_run(DecodeState* state, TextWriter* out) const;
    void add_utf8(std::string_view bytes, DecodeState* state, TextWriter* out) const;
    void emit(std::string_view text, DecodeState* state, TextWriter* out) const;
    void emit_character(std::string_view character, DecodeState* state, TextWriter* out) const;

    Join join_ = Join::Plain;
    Differs differs_ = Differs::Never;
    Array<Step> steps_;  // of each token alone
    Array<Replacement> replacements_;
    // Strip of the joined text: up to `start` of this character at its beginning, up to `stop` at its end.
    std::string_view strip_;
    uint32_t start_ = 0, stop_ = 0;
    Array<Decoded> pieces_;
};

}  // namespace pith
