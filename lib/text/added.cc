// A search narrows the range of sorted patterns byte by byte; what it keeps last is the longest.
#include "text/added.h"

#include <algorithm>

#include "base/utf8.h"
#include "text/unicode.h"

namespace pith {
namespace {

// \w of Rust's regex.
bool is_word(uint32_t point) { return unicode::is_word(point) || point == 0x200C || point == 0x200D; }

bool is_single_word(std::string_view text, size_t begin, size_t end) {
    const bool left = begin > 0 && is_word(utf8_next(utf8_previous(text.data() + begin)).value);
    const bool right = end < text.size() && is_word(utf8_next(text.data() + end).value);
    return !left && !right;
}

size_t skip_spaces(std::string_view text, size_t at) {
    while (at < text.size()) {
        const Utf8Char c = utf8_next(text.data() + at);
        if (!unicode::is_space(c.value)) break;
        at += c.size;
    }
    return at;
}

size_t skip_spaces_back(std::string_view text, size_t low, size_t at) {
    while (at > low) {
        const char* previous = utf8_previous(text.data() + at);
        if (!unicode::is_space(utf8_next(previous).value)) break;
        at = static_cast<size_t>(previous - text.data());
    }
    return at;
}

}  // namespace

pith_status AddedMatcher::add(std::string_view text, uint32_t token, pith_error* error) {
    if (text.empty()) return PITH_OK;
    return patterns_.push({text.data(), static_cast<uint32_t>(text.size()), token}) ? PITH_OK
                                                                                    : fail_memory(error, "added tokens", sizeof(Pattern));
}

void AddedMatcher::finish() {
    // By bytes; of equal ones the lowest token first, which then wins.
    std::sort(patterns_.begin(), patterns_.end(), [](const Pattern& a, const Pattern& b) {
        const int order = memcmp(a.text, b.text, std::min(a.size, b.size));
        if (order != 0) return order < 0;
        return a.size != b.size ? a.size < b.size : a.token < b.token;
    });
    for (uint32_t byte = 0, at = 0; byte <= 256; byte++) {
        while (at < patterns_.size() && static_cast<unsigned char>(patterns_[at].text[0]) < byte) at++;
        first_[byte] = at;
    }
}

const AddedMatcher::Pattern* AddedMatcher::longest_at(std::string_view text, size_t at) const {
    const auto byte_at = [&text](size_t i) { return static_cast<unsigned char>(text[i]); };
    const Pattern* low = patterns_.data() + first_[byte_at(at)];
    const Pattern* high = patterns_.data() + first_[byte_at(at) + 1u];
    const Pattern* found = nullptr;
    for (uint32_t depth = 1; low < high; depth++) {
        if (low->size == depth) {
            found = low;
            while (low < high && low->size == depth) low++;
        }
        if (at + depth == text.size()) break;
        const unsigned char byte = byte_at(at + depth);
        low = std::partition_point(low, high, [&](const Pattern& p) { return static_cast<unsigned char>(p.text[depth]) < byte; });
        high = std::partition_point(low, high, [&](const Pattern& p) { return static_cast<unsigned char>(p.text[depth]) == byte; });
    }
    return found;
}

pith_status AddedMatcher::split(std::string_view text, const Vocabulary& vocabulary, bool special, Array<Part>* parts,
                                pith_error* error) const {
    const auto put = [parts](size_t begin, size_t end, uint32_t token) {
        return parts->push({static_cast<uint32_t>(begin), static_cast<uint32_t>(end), token});
    };
    parts->clear();
    size_t done = 0;                       // all before is in a part
    size_t spaces_end = 0, spaces_at = 0;  // the last run of spaces that a token took from its right, so that none is measured twice
    bool ok = true;
    for (size_t at = 0; at < text.size() && ok && !patterns_.empty();) {
        const Pattern* pattern = longest_at(text, at);
        if (!pattern) {
            at++;
            continue;
        }
        const uint8_t flags = vocabulary[pattern->token].flags;
        size_t begin = at, end = at + pattern->size;
        at = end;
        if (flags & Token::kSpecial && !special) continue;
        if (flags & Token::kSingleWord && !is_single_word(text, begin, end)) continue;
        if (flags & Token::kLstrip) begin = std::max(skip_spaces_back(text, std::min(done, begin), begin), done);
        if (flags & Token::kRstrip) {
            if (end < spaces_at || end > spaces_end) {
                spaces_at = end;
                spaces_end = skip_spaces(text, end);
            }
            end = spaces_end;
        }
        if (done < begin) ok = put(done, begin, kNoToken);
        if (begin < end) ok = ok && put(begin, end, pattern->token);  // else a token before took all of it as its spaces
        done = end;
    }
    if (done != text.size()) ok = ok && put(done, text.size(), kNoToken);
    return ok ? PITH_OK : fail_memory(error, "the parts of a text", parts->size() * sizeof(Part));
}

}  // namespace pith
