// Each alternative of a pattern is tried in its order, as a backtracking matcher would; every run is looked at a bounded number of times.
#include "text/scanners.h"

#include "base/array.h"
#include "base/utf8.h"
#include "text/unicode.h"

namespace pith {
namespace {

using unicode::Sort;

struct At {
    Sort sort;
    uint32_t size, point;
};
At look(const char* at) {
    const Utf8Char c = utf8_next(at);
    return {unicode::sort(c.value), c.size, c.value};
}

const char* skip(const char* at, const char* end, Sort sort) {
    while (at < end) {
        const At c = look(at);
        if (c.sort != sort) break;
        at += c.size;
    }
    return at;
}

// 's 't 're 've 'm 'll 'd after an apostrophe at `at`; `at` itself if there is none.
const char* contraction(const char* at, const char* end, bool any_case) {
    const auto letter = [&](int i) -> char {
        if (end - at <= i) return 0;
        const char c = at[i];
        return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    };
    switch (letter(1)) {
        case 's':
        case 't':
        case 'm':
        case 'd':
            return at + 2;
        case 'r':
        case 'v':
            return letter(2) == 'e' ? at + 3 : at;
        case 'l':
            return letter(2) == 'l' ? at + 3 : at;
        case '\xC5':
            return any_case && letter(2) == '\xBF' ? at + 3 : at;  // U+017F, the long s, folds to s
        default:
            return at;
    }
}

bool is_white(Sort sort) { return sort == Sort::Space || sort == Sort::Newline; }

// \s+(?!\S)|\s+ on the run of white space [at, run_end): all of it at the end of the text, else all but its last, at least one.
const char* white_run(const char* at, const char* run_end, const char* last, const char* end) {
    return run_end == end || last == at ? run_end : last;
}

const char* scan_gpt2(const char* at, const char* end) {
    const At c = look(at);
    if (c.point == '\'') {
        const char* stop = contraction(at, end, false);
        if (stop != at) return stop;
    }
    const char* word = c.point == ' ' ? at + 1 : at;
    if (word < end) {
        const At first = look(word);
        if (!is_white(first.sort)) return skip(word + first.size, end, first.sort);
    }
    const char* last = at;
    const char* run = at;
    for (At next = c; is_white(next.sort);) {
        last = run;
        run += next.size;
        if (run == end) break;
        next = look(run);
    }
    return white_run(at, run, last, end);
}

const char* scan_llama3(const char* at, const char* end, int digits) {
    const At c = look(at);
    if (c.point == '\'') {
        const char* stop = contraction(at, end, true);
        if (stop != at) return stop;
    }
    if (c.sort == Sort::Letter) return skip(at + c.size, end, Sort::Letter);
    if (c.sort == Sort::Number) {
        at += c.size;
        for (int i = 1; i < digits && at < end; i++) {
            const At next = look(at);
            if (next.sort != Sort::Number) break;
            at += next.size;
        }
        return at;
    }
    if (c.sort != Sort::Newline && at + c.size < end && look(at + c.size).sort == Sort::Letter) return skip(at + c.size, end, Sort::Letter);
    const char* mark = c.point == ' ' ? at + 1 : at;
    if (mark < end && look(mark).sort == Sort::Other) return skip(skip(mark, end, Sort::Other), end, Sort::Newline);
    const char* last = at;
    const char* run = at;
    const char* newline = nullptr;  // after the run's last \r or \n
    for (At next = c; is_white(next.sort);) {
        last = run;
        run += next.size;
        if (next.sort == Sort::Newline) newline = run;
        if (run == end) break;
        next = look(run);
    }
    return newline ? newline : white_run(at, run, last, end);
}

#define PITH_LLAMA3(digits)                                              \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"                     \
    "\\s+(?!\\S)|\\s+"

}  // namespace

Scanner find_scanner(std::string_view regex) {
    if (regex == "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+") return Scanner::Gpt2;
    if (regex == PITH_LLAMA3("\\p{N}{1,3}")) return Scanner::Llama3;
    if (regex == PITH_LLAMA3("\\p{N}")) return Scanner::Qwen2;
    return Scanner::None;
}

size_t scan(Scanner scanner, std::string_view text, size_t at) {
    const char* from = text.data() + at;
    const char* end = text.data() + text.size();
    const char* stop = scanner == Scanner::Gpt2 ? scan_gpt2(from, end) : scan_llama3(from, end, scanner == Scanner::Llama3 ? 3 : 1);
    return static_cast<size_t>(stop - text.data());
}

}  // namespace pith
