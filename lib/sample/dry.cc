// How long the end of the text is that occurred before, at each place, in linear time.
#include "sample/dry.h"

#include <algorithm>

namespace pith {

void find_repeats(const Step& step, const History& history) {
    Tally& tally = *step.tally;
    tally.clear();
    const size_t size = std::min<size_t>(history.size(), step.range);
    if (size < 2) return;
    const auto breaks = [&](int32_t token) { return step.tokens && step.tokens->holds(token); };
    // The text backwards, newest first: an end that occurred before is a beginning that occurs again.
    uint32_t *lengths = step.lengths, *text = step.lengths + step.range + 1;
    for (size_t i = 0; i < size; i++) text[i] = static_cast<uint32_t>(history[i]);
    size_t limit = 0;  // no repetition goes beyond the newest breaker
    while (limit < size && !breaks(history[limit])) limit++;
    if (limit < step.count) return;
    // Gusfield's Z: lengths[i] is how much of the beginning stands at i; [left, right) is the match that reaches furthest.
    size_t left = 0, right = 0;
    for (size_t i = 1; i < size; i++) {
        size_t length = i < right ? std::min<size_t>(lengths[i - left], right - i) : 0;
        while (i + length < size && text[length] == text[i + length]) length++;
        lengths[i] = static_cast<uint32_t>(length);
        if (i + length > right) {
            left = i;
            right = i + length;
        }
        const size_t repeated = std::min(length, limit);
        const int32_t next = static_cast<int32_t>(text[i - 1]);
        if (repeated >= step.count && !breaks(next)) tally.raise(next, static_cast<uint32_t>(repeated));
    }
}

}  // namespace pith
