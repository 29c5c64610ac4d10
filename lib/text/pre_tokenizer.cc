// Steps either cut the pieces further or write their text anew; empty pieces vanish after every step.
#include "text/pre_tokenizer.h"

#include "base/utf8.h"
#include "text/bytes.h"

namespace pith {
namespace {

constexpr const char* kGpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

pith_status no_memory(pith_error* error, size_t size) { return fail_memory(error, "a pre-tokenizer", size); }

}  // namespace

pith_status PreTokenizer::load(const Field& pre_tokenizer, Parts* parts, pith_error* error) {
    return pre_tokenizer.present() ? add(pre_tokenizer, parts, error) : PITH_OK;
}

bool PreTokenizer::defer_bytes() {
    if (steps_.empty() || steps_.back().kind != Kind::Bytes) return false;
    steps_.pop();
    return true;
}

pith_status PreTokenizer::push(const Step& step, pith_error* error) {
    if (steps_.size() == kMaxSteps)
        return fail(error, PITH_E_UNSUPPORTED, "tokenizer.json: pre_tokenizer: more than %zu steps aren't supported", kMaxSteps);
    return steps_.push(step) ? PITH_OK : no_memory(error, sizeof step);
}

pith_status PreTokenizer::behavior(const Field& field, Behavior* value, pith_error* error) {
    std::string_view name;
    PITH_TRY(field.text("behavior", &name, error));
    if (name.empty()) return PITH_OK;
    static constexpr std::string_view kNames[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    for (size_t i = 0; i < 5; i++) {
        if (name != kNames[i]) continue;
        *value = static_cast<Behavior>(i);
        return PITH_OK;
    }
    return field.member("behavior").unsupported(name, error);
}

pith_status PreTokenizer::add_class(Matcher::Kind kind, Behavior behavior, bool invert, Parts* parts, pith_error* error) {
    const Matcher* matcher = parts->matcher(kind);
    if (!matcher) return no_memory(error, sizeof(Matcher));
    return push({Kind::Split, behavior, invert, {}, matcher, {}}, error);
}

pith_status PreTokenizer::add_split(const Field& field, Parts* parts, pith_error* error) {
    Step step = {Kind::Split, Behavior::Isolated, false, {}, nullptr, {}};
    Matcher* matcher = parts->matcher();
    if (!matcher) return no_memory(error, sizeof(Matcher));
    PITH_TRY(matcher->load(field.member("pattern"), parts, error));
    step.matcher = matcher;
    PITH_TRY(field.member("behavior").present() ? PITH_OK : field.member("behavior").expected("a string", error));
    PITH_TRY(behavior(field, &step.behavior, error));
    PITH_TRY(field.flag("invert", &step.invert, error));
    return push(step, error);
}

pith_status PreTokenizer::add_byte_level(const Field& field, Parts* parts, pith_error* error) {
    bool prefix = true, regex = true;
    PITH_TRY(field.flag("add_prefix_space", &prefix, error));
    PITH_TRY(field.flag("use_regex", &regex, error));
    if (prefix) PITH_TRY(push({Kind::Prefix, {}, false, Scheme::Always, nullptr, " "}, error));
    if (regex) {
        Matcher* matcher = parts->matcher();
        if (!matcher) return no_memory(error, sizeof(Matcher));
        PITH_TRY(matcher->use_regex(kGpt2, field.path(), &parts->regexes, error));
        PITH_TRY(push({Kind::Split, Behavior::Isolated, false, {}, matcher, {}}, error));
    }
    return push({Kind::Bytes, {}, false, {}, nullptr, {}}, error);
}

pith_status PreTokenizer::add_metaspace(const Field& field, Parts* parts, pith_error* error) {
    std::string_view replacement, scheme = "always";
    PITH_TRY(field.member("replacement").text(&replacement, error));
    if (replacement.empty() || utf8_next(replacement.data()).size != replacement.size())
        return field.member("replacement").expected("one character", error);
    bool prefix = true, split = true;
    PITH_TRY(field.flag("add_prefix_space", &prefix, error));
    PITH_TRY(field.flag("split", &split, error));
    PITH_TRY(field.text("prepend_scheme", &scheme, error));
    if (!prefix) scheme = "never";
    Step step = {Kind::Spaces, {}, false, Scheme::Always, nullptr, {}};
    if (scheme == "first")
        step.scheme = Scheme::First;
    else if (scheme == "never")
        step.scheme = Scheme::Never;
    else if (scheme != "always")
        return field.member("prepend_scheme").unsupported(scheme, error);
    const char* copy = parts->arena.copy(replacement);
    Matcher* matcher = parts->matcher();
    if (!copy || !matcher) return no_memory(error, sizeof(Matcher));
    step.text = {copy, replacement.size()};
    PITH_TRY(push(step, error));
    if (step.scheme != Scheme::Never) {
        step.kind = Kind::Prefix;
        PITH_TRY(push(step, error));
    }
    if (!split) return PITH_OK;
    matcher->use_literal(step.text);
    return push({Kind::Split, Behavior::MergedWithNext, false, {}, matcher, {}}, error);
}

pith_status PreTokenizer::add(const Field& field, Parts* parts, pith_error* error) {
    PITH_TRY(field.object(error));
    std::string_view type;
    PITH_TRY(field.member("type").text(&type, error));
    if (type == "Sequence") {
        const Field list = field.member("pretokenizers");
        PITH_TRY(list.array(error));
        for (size_t i = 0; i < list.count(); i++) PITH_TRY(add(list.item(i), parts, error));
        return PITH_OK;
    }
    if (type == "Split") return add_split(field, parts, error);
    if (type == "ByteLevel") return add_byte_level(field, parts, error);
    if (type == "Metaspace") return add_metaspace(field, parts, error);
    if (type == "Whitespace") return add_class(Matcher::Kind::WordsAndMarks, Behavior::Removed, true, parts, error);
    if (type == "WhitespaceSplit") return add_class(Matcher::Kind::Spaces, Behavior::Removed, false, parts, error);
    if (type == "BertPreTokenizer") {
        PITH_TRY(add_class(Matcher::Kind::Spaces, Behavior::Removed, false, parts, error));
        return add_class(Matcher::Kind::Punctuation, Behavior::Isolated, false, parts, error);
    }
    if (type == "Punctuation") {
        Behavior value = Behavior::Isolated;
        PITH_TRY(behavior(field, &value, error));
        return add_class(Matcher::Kind::Punctuation, value, false, parts, error);
    }
    if (type == "Digits") {
        bool individual = false;
        PITH_TRY(field.flag("individual_digits", &individual, error));
        return add_class(Matcher::Kind::Number, individual ? Behavior::Isolated : Behavior::Contiguous, false, parts, error);
    }
    return field.unsupported(type, error);
}

// The gap before a match, then the match.
bool PreTokenizer::find_spans(const Regex::Match& match, size_t done, bool invert, PieceScratch* scratch) {
    const auto at = [](size_t n) { return static_cast<uint32_t>(n); };
    if (match.begin > done && !scratch->spans.push({at(done), at(match.begin), invert})) return false;
    return !match.found || scratch->spans.push({at(match.begin), at(match.end), !invert});
}

// The spans of one piece, joined as the behaviour says and pushed as pieces of their own.
bool PreTokenizer::join(Behavior behavior, const Piece& whole, PieceScratch* scratch) {
    Array<PieceScratch::Span>& spans = scratch->spans;
    const auto put = [&](uint32_t begin, uint32_t end) {
        return begin == end || scratch->spare_pieces.push({whole.begin + begin, whole.begin + end, whole.first && begin == 0});
    };
    const size_t count = spans.size();
    if (behavior == Behavior::MergedWithNext) {
        // From the right: a match joins what follows it, unless that is a match which has been joined already.
        size_t kept = count;
        bool previous = false;
        for (size_t i = count; i-- > 0;) {
            const PieceScratch::Span span = spans[i];
            if (span.match && !previous && kept < count)
                spans[kept].begin = span.begin;
            else
                spans[--kept] = span;
            previous = span.match;
        }
        for (size_t i = kept; i < count; i++)
            if (!put(spans[i].begin, spans[i].end)) return false;
        return true;
    }
    bool previous = false, open = false;
    uint32_t begin = 0, end = 0;
    for (const PieceScratch::Span& span : spans) {
        if (behavior == Behavior::Removed && span.match) continue;
        const bool merges = (behavior == Behavior::Contiguous && span.match == previous) ||
                            (behavior == Behavior::MergedWithPrevious && span.match && !previous);
        if (!(merges && open)) {
            if (open && !put(begin, end)) return false;
            begin = span.begin;
            open = true;
        }
        end = span.end;
        previous = span.match;
    }
    return !open || put(begin, end);
}

pith_status PreTokenizer::split(const Step& step, PieceScratch* scratch, RegexScratch* regex, pith_error* error) const {
    scratch->spare_pieces.clear();
    for (const Piece& piece : scratch->pieces) {
        const std::string_view text(scratch->base + piece.begin, piece.end - piece.begin);
        scratch->spans.clear();
        MatchIterator matches(*step.matcher, text, regex);
        size_t done = 0;
        for (Regex::Match match = {0, 0, true}; match.found;) {
            PITH_TRY(matches.next(&match, error));
            if (!find_spans(match, done, step.invert, scratch)) return no_memory(error, scratch->spans.size());
            done = match.end;
        }
        if (!join(step.behavior, piece, scratch)) return no_memory(error, scratch->spare_pieces.size());
    }
    std::swap(scratch->pieces, scratch->spare_pieces);
    return PITH_OK;
}

bool PreTokenizer::rewrite_piece(const Step& step, std::string_view piece, bool first, Array<char>* to) {
    if (step.kind == Kind::Bytes) return map_bytes(piece, to);
    if (step.kind == Kind::Prefix) {
        const bool prefix = (step.scheme == Scheme::Always || first) && !starts_with(piece, step.text);
        return (!prefix || to->append(step.text.data(), step.text.size())) && to->append(piece.data(), piece.size());
    }
    for (const char c : piece)
        if (!(c == ' ' ? to->append(step.text.data(), step.text.size()) : to->push(c))) return false;
    return true;
}

pith_status PreTokenizer::rewrite(const Step& step, size_t limit, PieceScratch* scratch, pith_error* error) const {
    scratch->spare_text.clear();
    for (Piece& piece : scratch->pieces) {
        const std::string_view text(scratch->base + piece.begin, piece.end - piece.begin);
        piece.begin = static_cast<uint32_t>(scratch->spare_text.size());
        if (!rewrite_piece(step, text, piece.first, &scratch->spare_text)) return no_memory(error, text.size());
        if (scratch->spare_text.size() > limit) return fail(error, PITH_E_LIMIT, "a text grows too much in the pre-tokenizer");
        piece.end = static_cast<uint32_t>(scratch->spare_text.size());
    }
    std::swap(scratch->text, scratch->spare_text);
    scratch->base = scratch->text.data();
    return PITH_OK;
}

pith_status PreTokenizer::run(std::string_view text, bool first, PieceScratch* scratch, RegexScratch* regex, pith_error* error) const {
    scratch->base = text.data();
    scratch->pieces.clear();
    if (text.empty()) return PITH_OK;
    if (!scratch->pieces.push({0, static_cast<uint32_t>(text.size()), first})) return no_memory(error, sizeof(Piece));
    for (const Step& step : steps_)
        PITH_TRY(step.kind == Kind::Split ? split(step, scratch, regex, error) : rewrite(step, regex->text_limit, scratch, error));
    return PITH_OK;
}

}  // namespace pith
