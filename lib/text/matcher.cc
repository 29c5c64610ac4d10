// Searching a text for what a split or a replacement looks for.
#include "text/matcher.h"

#include <stdio.h>

#include "base/utf8.h"
#include "text/unicode.h"

namespace pith {
namespace {

constexpr size_t kMaxLiteral = 256;  // a search costs at most this many comparisons a byte

size_t find_literal(std::string_view text, std::string_view literal, size_t from) {
    if (literal.empty()) return from;
    while (text.size() - from >= literal.size()) {
        const void* at = memchr(text.data() + from, literal[0], text.size() - from - literal.size() + 1);
        if (!at) break;
        from = static_cast<size_t>(static_cast<const char*>(at) - text.data());
        if (memcmp(at, literal.data(), literal.size()) == 0) return from;
        from++;
    }
    return text.size() + 1;
}

// \w of Rust's regex, which has the two joiners besides.
bool is_rust_word(uint32_t point) { return unicode::is_word(point) || point == 0x200C || point == 0x200D; }

bool in_class(Matcher::Kind kind, uint32_t point) {
    switch (kind) {
        case Matcher::Kind::Spaces:
            return unicode::is_space(point);
        case Matcher::Kind::Punctuation:
            return unicode::is_punctuation(point);
        default:
            return unicode::is(point, unicode::kNumber);
    }
}

// \w+|[^\w\s]+
Regex::Match find_words_and_marks(std::string_view text, size_t from) {
    const auto sort = [&text](size_t at, uint32_t* size) {
        const Utf8Char c = utf8_next(text.data() + at);
        *size = c.size;
        return is_rust_word(c.value) ? 1 : unicode::is_space(c.value) ? 0 : 2;
    };
    uint32_t size = 0;
    while (from < text.size() && sort(from, &size) == 0) from += size;
    if (from >= text.size()) return {text.size(), text.size(), false};
    const int first = sort(from, &size);
    size_t end = from;
    while (end < text.size() && sort(end, &size) == first) end += size;
    return {from, end, true};
}

}  // namespace

pith_status Matcher::use_regex(std::string_view regex, const char* where, RegexBudget* budget, pith_error* error) {
    scanner_ = find_scanner(regex);
    kind_ = scanner_ == Scanner::None ? Kind::Regex : Kind::Scanner;
    return kind_ == Kind::Scanner ? PITH_OK : regex_.compile(regex, where, budget, error);
}

pith_status Matcher::load(const Field& pattern, Parts* parts, pith_error* error) {
    const Field literal = pattern.member("String"), regex = pattern.member("Regex");
    if (!literal.present() && !regex.present()) return pattern.expected("an object with String or Regex", error);
    std::string_view text;
    PITH_TRY((literal.present() ? literal : regex).text(&text, error));
    if (!literal.present()) {
        char where[256];
        snprintf(where, sizeof where, "%s: %s", regex.file(), regex.path());
        return use_regex(text, where, &parts->regexes, error);
    }
    if (text.size() > kMaxLiteral)
        return fail(error, PITH_E_LIMIT, "%s: %s: %zu bytes, at most %zu are allowed", literal.file(), literal.path(), text.size(),
                    kMaxLiteral);
    const char* copy = parts->arena.copy(text);
    if (!copy) return fail_memory(error, "a tokenizer's pattern", text.size());
    use_literal({copy, text.size()});
    return PITH_OK;
}

pith_status Matcher::find(std::string_view text, size_t from, RegexScratch* scratch, Regex::Match* match, pith_error* error) const {
    *match = {text.size(), text.size(), false};
    switch (kind_) {
        case Kind::Literal: {
            const size_t at = find_literal(text, literal_, from);
            if (at <= text.size()) *match = {at, at + literal_.size(), true};
            return PITH_OK;
        }
        case Kind::Regex:
            return regex_.find(text, from, scratch, match, error);
        case Kind::Scanner:
            if (from < text.size()) *match = {from, scan(scanner_, text, from), true};
            return PITH_OK;
        case Kind::WordsAndMarks:
            *match = find_words_and_marks(text, from);
            return PITH_OK;
        default:
            break;
    }
    while (from < text.size()) {
        const Utf8Char c = utf8_next(text.data() + from);
        if (in_class(kind_, c.value)) {
            *match = {from, from + c.size, true};
            break;
        }
        from += c.size;
    }
    return PITH_OK;
}

pith_status MatchIterator::next(Regex::Match* match, pith_error* error) {
    while (!done_) {
        PITH_TRY(matcher_.find(text_, from_, scratch_, match, error));
        if (!match->found) break;
        if (match->begin != match->end || match->end != last_end_) {
            from_ = last_end_ = match->end;
            return PITH_OK;
        }
        done_ = from_ >= text_.size();
        if (!done_) from_ += utf8_next(text_.data() + from_).size;
    }
    done_ = true;
    *match = {text_.size(), text_.size(), false};
    return PITH_OK;
}

pith_status Parts::keep(std::string_view made, std::string_view* copy, pith_error* error) {
    if (made.size() > made_limit - made_size)
        return fail(error, PITH_E_LIMIT, "tokenizer.json: what its tokens become when normalized and decoded takes more than %llu bytes",
                    static_cast<unsigned long long>(made_limit));
    made_size += made.size();
    *copy = {arena.copy(made), made.size()};
    return copy->data() ? PITH_OK : fail_memory(error, "the text of a token", made.size());
}

pith_status replace_all(const Matcher& matcher, std::string_view content, std::string_view text, RegexScratch* scratch, Array<char>* to,
                        bool* keeps_start, pith_error* error) {
    // Literals cost steps as well: there may be many replacements, and many texts.
    if (scratch->fuel < text.size()) return fail(error, PITH_E_LIMIT, "the tokenizer's replacements take too many steps on this text");
    scratch->fuel -= text.size();
    MatchIterator matches(matcher, text, scratch);
    bool ok = true;
    size_t done = 0;
    for (;;) {
        Regex::Match match;
        PITH_TRY(matches.next(&match, error));
        if (!match.found) break;
        if (keeps_start && match.begin == 0 && match.end > 0) *keeps_start = match.end == utf8_next(text.data()).size && !content.empty();
        ok = ok && to->append(text.data() + done, match.begin - done) && to->append(content.data(), content.size());
        if (to->size() > scratch->text_limit)
            return fail(error, PITH_E_LIMIT, "a text of %zu bytes grows too much in replacements", text.size());
        done = match.end;
    }
    ok = ok && to->append(text.data() + done, text.size() - done);
    return ok ? PITH_OK : fail_memory(error, "a text with replacements", text.size());
}

}  // namespace pith
