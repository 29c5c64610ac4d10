// Selections from a list of candidates. The order that results is the same with any standard library, which std::nth_element doesn't
// promise, and sums follow it.
#pragma once
#include <algorithm>
#include <limits>

#include "sample/four.h"

namespace pith {

// A total order: equal logits rank by token, lowest first.
inline bool ranks_before(const Candidate& a, const Candidate& b) { return a.logit != b.logit ? a.logit > b.logit : a.token < b.token; }
inline bool token_before(const Candidate& a, const Candidate& b) { return a.token < b.token; }

// Moves what comes up to a chosen candidate to the front; returns how many: neither none nor all of size >= 3.
template <class Before>
size_t split(Candidate* list, size_t size, Before comes_before) {
    Candidate &a = list[0], &b = list[size / 2], &c = list[size - 1];
    if (comes_before(b, a)) std::swap(a, b);
    if (comes_before(c, b)) std::swap(b, c);
    if (comes_before(b, a)) std::swap(a, b);
    const Candidate pivot = b;  // the middle one of three, so both walks below meet one to stop at
    size_t front = 0, back = size;
    for (;;) {
        while (comes_before(list[front], pivot)) front++;
        do {
            back--;
        } while (comes_before(pivot, list[back]));
        if (front >= back) return back + 1;
        std::swap(list[front++], list[back]);
    }
}

// What a list weighs together, always added up in the same order.
inline double mass_of(const Candidate* list, size_t size, Weigher weigher) {
    constexpr float kNothing = -std::numeric_limits<float>::infinity();
    double mass = 0;
    const auto add = [&](Four logits) {
        float lanes[4];
        weigh(weigher, logits).store(lanes);
        mass += static_cast<double>(lanes[0] + lanes[1]) + static_cast<double>(lanes[2] + lanes[3]);
    };
    size_t i = 0;
    for (; size - i >= 4; i += 4) add(Four::of(list[i].logit, list[i + 1].logit, list[i + 2].logit, list[i + 3].logit));
    for (; i < size; i++) add(Four::of(list[i].logit, kNothing, kNothing, kNothing));
    return mass;
}

// How many of the first have a `target` measure together (all, if they don't); moves them to the front, the last of them last.
template <class Before, class Measure>
size_t select(Candidate* list, size_t size, double target, Before comes_before, Measure measure) {
    size_t from = 0, to = size;
    double before = 0;
    for (int turn = 0; to - from > 16 && turn < 64; turn++) {  // bad luck ends in a sort
        const size_t middle = from + split(list + from, to - from, comes_before);
        const double front = measure(list + from, middle - from);
        if (before + front >= target) {
            to = middle;
        } else {
            before += front;
            from = middle;
        }
    }
    std::sort(list + from, list + to, comes_before);
    while (from < to && before < target) before += measure(list + from++, 1);
    return from;
}

inline size_t select_top(Candidate* list, size_t size, size_t k) {
    if (size <= k) return size;
    return select(list, size, static_cast<double>(k), ranks_before,
                  [](const Candidate*, size_t count) { return static_cast<double>(count); });
}

template <class Before>
size_t select_mass(Candidate* list, size_t size, double mass, Before comes_before, Weigher weigher) {
    return select(list, size, mass, comes_before, [=](const Candidate* part, size_t count) { return mass_of(part, count, weigher); });
}

// Keeps the fewest, first by rank, that have that mass together, in the order that they are in; equal ones must be in order of ids. False,
// and nothing changes: not for logits so far apart or so close. The list is not empty.
bool keep_mass_in_order(Candidate* list, size_t* size, double target, Weigher weigher);

}  // namespace pith
