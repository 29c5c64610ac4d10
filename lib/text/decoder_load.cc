// Reading tokenizer.json's "decoder", and what each token of the vocabulary is decoded to by the steps that see tokens one by one.
#include <algorithm>

#include "base/utf8.h"
#include "text/bytes.h"
#include "text/decoder.h"

namespace pith {
namespace {

constexpr uint32_t kMaxStrip = 255;  // what a counter of the state holds

pith_status no_memory(pith_error* error, uint64_t size) { return fail_memory(error, "a decoder", size); }

bool is_one_character(std::string_view text) { return !text.empty() && utf8_next(text.data()).size == text.size(); }

pith_status copy_text(const Field& field, Parts* parts, std::string_view* value, pith_error* error) {
    std::string_view text;
    PITH_TRY(field.text(&text, error));
    const char* copy = parts->arena.copy(text);
    if (!copy) return no_memory(error, text.size());
    *value = {copy, text.size()};
    return PITH_OK;
}

// "<0x41>" with one or two hexadecimal digits' value as Rust reads it, sign included; -1: an ordinary token.
int32_t byte_of(std::string_view token) {
    if (token.size() != 6 || !starts_with(token, "<0x") || token[5] != '>') return -1;
    const auto digit = [](char c) -> int32_t {
        if (c >= '0' && c <= '9') return c - '0';
        if (c >= 'a' && c <= 'f') return c - 'a' + 10;
        if (c >= 'A' && c <= 'F') return c - 'A' + 10;
        return -1;
    };
    const int32_t high = token[3] == '+' ? 0 : digit(token[3]), low = digit(token[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

}  // namespace

pith_status Decoder::load(const Field& decoder, Parts* parts, pith_error* error) {
    join_ = Join::Spaces;
    if (!decoder.present()) return PITH_OK;
    join_ = Join::Plain;
    Stage stage = Stage::Tokens;
    return add(decoder, &stage, parts, error);
}

pith_status Decoder::push(const Step& step, pith_error* error) {
    if (steps_.size() == kMaxSteps)
        return fail(error, PITH_E_UNSUPPORTED, "tokenizer.json: decoder: more than %zu steps aren't supported", kMaxSteps);
    return steps_.push(step) ? PITH_OK : no_memory(error, sizeof step);
}

// A step that replaces its own text.
pith_status Decoder::push_literal(Step* step, Parts* parts, pith_error* error) {
    Matcher* matcher = parts->matcher();
    if (!matcher) return no_memory(error, sizeof(Matcher));
    matcher->use_literal(step->text);
    step->matcher = matcher;
    return push(*step, error);
}

pith_status Decoder::add(const Field& field, Stage* stage, Parts* parts, pith_error* error) {
    PITH_TRY(field.object(error));
    std::string_view type;
    PITH_TRY(field.member("type").text(&type, error));
    if (type == "Sequence") {
        const Field list = field.member("decoders");
        PITH_TRY(list.array(error));
        for (size_t i = 0; i < list.count(); i++) PITH_TRY(add(list.item(i), stage, parts, error));
        return PITH_OK;
    }
    if (type == "Fuse") {
        *stage = Stage::Whole;
        return PITH_OK;
    }
    if (type == "Replace") return add_replace(field, *stage, parts, error);
    if (type == "Strip") return add_strip(field, *stage, parts, error);
    const bool early = *stage == Stage::Tokens;
    if (type == "ByteLevel" || type == "ByteFallback") {
        if (!early || differs_ == Differs::Last) return field.unsupported("a byte decoder after another, Fuse or BPEDecoder", error);
        join_ = type == "ByteLevel" ? Join::Utf8 : Join::ByteFallback;
        *stage = type == "ByteLevel" ? Stage::Whole : Stage::Runs;
        return PITH_OK;
    }
    if (type == "Metaspace" || type == "BPEDecoder") {
        if (!early || differs_ != Differs::Never)
            return field.unsupported("Metaspace or BPEDecoder after another decoder of its kind", error);
        return type == "Metaspace" ? add_metaspace(field, parts, error) : add_suffix(field, parts, error);
    }
    return field.unsupported(type, error);
}

pith_status Decoder::add_replace(const Field& field, Stage stage, Parts* parts, pith_error* error) {
    Step step = {};
    step.kind = Step::Replace;
    PITH_TRY(copy_text(field.member("content"), parts, &step.text, error));
    Matcher* matcher = parts->matcher();
    if (!matcher) return no_memory(error, sizeof(Matcher));
    PITH_TRY(matcher->load(field.member("pattern"), parts, error));
    step.matcher = matcher;
    if (stage == Stage::Tokens) return push(step, error);
    // In the joined text a match could span tokens; a single character can't.
    if (!matcher->is_literal() || !is_one_character(matcher->literal()) || !strip_.empty())
        return field.unsupported("Replace of more than one character after ByteFallback, ByteLevel or Fuse, or after Strip", error);
    const Replacement replacement = {utf8_next(matcher->literal().data()).value, step.text};
    // A later replacement sees what an earlier one wrote: one character, or none of its own.
    for (const Replacement& earlier : replacements_)
        if (!is_one_character(earlier.text) && earlier.text.find(matcher->literal()) != std::string_view::npos)
            return field.unsupported("Replace of a part of an earlier replacement", error);
    if (replacements_.size() == kMaxSteps) return field.unsupported("more than 64 steps", error);
    return replacements_.push(replacement) ? PITH_OK : no_memory(error, sizeof replacement);
}

pith_status Decoder::add_strip(const Field& field, Stage stage, Parts* parts, pith_error* error) {
    Step step = {};
    step.kind = Step::Strip;
    PITH_TRY(copy_text(field.member("content"), parts, &step.text, error));
    if (!is_one_character(step.text)) return field.member("content").expected("one character", error);
    int64_t start = 0, stop = 0;
    PITH_TRY(field.number("start", 0, kMaxStrip, &start, error));
    PITH_TRY(field.number("stop", 0, kMaxStrip, &stop, error));
    step.start = static_cast<uint32_t>(start);
    step.stop = static_cast<uint32_t>(stop);
    if (stage == Stage::Tokens) return push(step, error);
    if (stage != Stage::Whole || !strip_.empty()) return field.unsupported("Strip between ByteFallback and Fuse, or twice", error);
    strip_ = step.text;
    start_ = step.start;
    stop_ = step.stop;
    return PITH_OK;
}

pith_status Decoder::add_metaspace(const Field& field, Parts* parts, pith_error* error) {
    Step step = {};
    step.kind = Step::Metaspace;
    PITH_TRY(copy_text(field.member("replacement"), parts, &step.text, error));
    if (!is_one_character(step.text)) return field.member("replacement").expected("one character", error);
    std::string_view scheme = "always";
    bool prefix = true;
    PITH_TRY(field.text("prepend_scheme", &scheme, error));
    PITH_TRY(field.flag("add_prefix_space", &prefix, error));
    if (scheme != "never" && prefix) differs_ = Differs::First;
    return push_literal(&step, parts, error);
}

pith_status Decoder::add_suffix(const Field& field, Parts* parts, pith_error* error) {
    Step step = {};
    step.kind = Step::Suffix;
    PITH_TRY(copy_text(field.member("suffix"), parts, &step.text, error));
    if (step.text.empty()) return field.member("suffix").expected("a text", error);
    differs_ = Differs::Last;
    return push_literal(&step, parts, error);
}

pith_status Decoder::apply(const Step& step, bool differs, std::string_view text, Array<char>* to, RegexScratch* regex,
                           pith_error* error) const {
    if (step.kind == Step::Replace) return replace_all(*step.matcher, step.text, text, regex, to, nullptr, error);
    if (step.kind == Step::Strip) {
        size_t begin = 0, end = text.size();
        for (uint32_t i = 0; i < step.start && starts_with(slice(text, begin), step.text); i++) begin += step.text.size();
        for (uint32_t i = 0; i < step.stop && ends_with(slice(text, 0, end), step.text); i++) end -= step.text.size();
        const std::string_view kept = slice(text, begin, end > begin ? end - begin : 0);
        return to->append(kept.data(), kept.size()) ? PITH_OK : no_memory(error, text.size());
    }
    // Metaspace and Suffix: a space, or nothing in the first or last token.
    return replace_all(*step.matcher, differs ? "" : " ", text, regex, to, nullptr, error);
}

pith_status Decoder::decode_token(std::string_view display, bool differs, Array<char>* text, Array<char>* spare, RegexScratch* regex,
                                  pith_error* error) const {
    text->clear();
    if (!text->append(display.data(), display.size())) return no_memory(error, display.size());
    for (const Step& step : steps_) {
        spare->clear();
        PITH_TRY(apply(step, differs, {text->data(), text->size()}, spare, regex, error));
        std::swap(*text, *spare);
    }
    if (join_ != Join::Utf8) return PITH_OK;
    spare->clear();
    if (!unmap_bytes({text->data(), text->size()}, spare)) return no_memory(error, text->size());
    std::swap(*text, *spare);
    return PITH_OK;
}

pith_status Decoder::prepare(const Vocabulary& vocabulary, const Array<std::string_view>& displays, RegexScratch* regex, Parts* parts,
                             pith_error* error) {
    pieces_.clear();
    if (!pieces_.reserve(vocabulary.size())) return no_memory(error, vocabulary.size() * sizeof(Decoded));
    Array<char> text(parts->allocator), spare(parts->allocator);
    const auto keep = [&](std::string_view same, std::string_view* value) {
        const std::string_view made(text.data(), text.size());
        *value = same;
        return made == same ? PITH_OK : parts->keep(made, value, error);
    };
    for (uint32_t i = 0; i < vocabulary.size(); i++) {
        const std::string_view display = displays[i].data() ? displays[i] : vocabulary[i].view();
        Decoded decoded = {{}, {}, -1};
        regex->text_limit = 256 + 16 * display.size();
        PITH_TRY(decode_token(display, false, &text, &spare, regex, error));
        if (join_ == Join::ByteFallback) decoded.byte = byte_of({text.data(), text.size()});
        if (decoded.byte >= 0) {
            text[0] = static_cast<char>(decoded.byte);
            text.shrink(1);
        }
        PITH_TRY(keep(display, &decoded.text));
        if (differs_ != Differs::Never) {
            PITH_TRY(decode_token(display, true, &text, &spare, regex, error));
            PITH_TRY(keep(decoded.text, &decoded.other));
        }
        if (!pieces_.push(decoded)) return no_memory(error, sizeof decoded);
    }
    return PITH_OK;
}

}  // namespace pith
