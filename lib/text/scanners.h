// The pre-tokenizer patterns that nearly every model uses, as linear scanners instead of a regular expression.
#pragma once
#include <stddef.h>

#include <string_view>

namespace pith {

enum class Scanner : uint8_t { None, Gpt2, Llama3, Qwen2 };

// Which scanner does what the regular expression with exactly this text does; None: no scanner.
Scanner find_scanner(std::string_view regex);

// Where the match that starts at `at` ends: these patterns match at every position, so a text is cut without gaps.
// `text` is valid UTF-8, at < text.size().
size_t scan(Scanner scanner, std::string_view text, size_t at);

}  // namespace pith
