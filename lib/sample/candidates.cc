// Each step in about one pass over what is left.
#include "sample/candidates.h"

#include <math.h>

#include <algorithm>

namespace pith {
namespace {

constexpr float kMost = std::numeric_limits<float>::max();
constexpr float kNothing = -std::numeric_limits<float>::infinity();

// A total order: equal logits rank by token, lowest first.
bool ranks_before(const Candidate& a, const Candidate& b) { return a.logit != b.logit ? a.logit > b.logit : a.token < b.token; }
bool token_before(const Candidate& a, const Candidate& b) { return a.token < b.token; }

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
double mass_of(const Candidate* list, size_t size, Weigher weigh) {
    double mass = 0;
    const auto add = [&](Four logits) {
        float lanes[4];
        weigh(logits).store(lanes);
        mass += static_cast<double>(lanes[0] + lanes[1]) + static_cast<double>(lanes[2] + lanes[3]);
    };
    size_t i = 0;
    for (; size - i >= 4; i += 4) add(Four::of(list[i].logit, list[i + 1].logit, list[i + 2].logit, list[i + 3].logit));
    for (; i < size; i++) add(Four::of(list[i].logit, kNothing, kNothing, kNothing));
    return mass;
}

// How many of the first have a `target` measure together (all, if they don't); moves them to the front, the last of them last. The order
// that results is the same with any standard library, which std::nth_element doesn't promise, and sums follow it.
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

size_t select_top(Candidate* list, size_t size, size_t k) {
    if (size <= k) return size;
    return select(list, size, static_cast<double>(k), ranks_before, [](const Candidate*, size_t count) { return static_cast<double>(count); });
}

// The largest float below every float >= bound.
float just_below(double bound) {
    if (bound > static_cast<double>(kMost)) return kMost;
    const float rounded = bound < -static_cast<double>(kMost) ? kNothing : static_cast<float>(bound);
    return static_cast<double>(rounded) >= bound ? nextafterf(rounded, kNothing) : rounded;
}

}  // namespace

void Candidates::heat(float temperature) {
    // The bounds keep products with differences of logits away from NaN; beyond them nothing changes but which zeros are exact.
    scale_ = std::clamp(scale_ / static_cast<double>(temperature), 1e-37, 1e37);
}

void Candidates::keep_largest() {
    Candidate best{largest_, static_cast<int32_t>(first_)};
    if (!row_) best = *std::min_element(scratch_.list.begin(), scratch_.list.begin() + size_, ranks_before);
    scratch_.list[0] = best;
    row_ = nullptr;
    size_ = 1;
}

size_t Candidates::list_for_top(uint32_t k, size_t n) { return std::min(n, size_t{2} * k + 64); }

void Candidates::keep_top(uint32_t k) {
    if (k >= size_) return;
    if (k == 1) return keep_largest();
    Candidate* list = scratch_.list.data();
    if (!row_) {
        size_ = select_top(list, size_, k);
        return;
    }
    const size_t capacity = list_for_top(k, size_);
    size_t size = 0;
    float bound = kNothing;
    for_each_above(row_, size_, &bound, [&](size_t i) {
        list[size++] = {row_[i], static_cast<int32_t>(i)};
        if (size < capacity) return;
        size = select_top(list, size, k);
        bound = list[0].logit;  // later equals rank behind
        for (size_t j = 1; j < size; j++) bound = std::min(bound, list[j].logit);
    });
    row_ = nullptr;
    size_ = select_top(list, size, k);
}

void Candidates::list_above(float bound) {
    size_t size = 0;
    Candidate* list = scratch_.list.data();
    for_each_above(row_, size_, &bound, [&](size_t i) { list[size++] = {row_[i], static_cast<int32_t>(i)}; });
    size_ = size;
    row_ = nullptr;
}

void Candidates::keep_mass(float p) {
    const Weigher weigh = weigher();
    Candidate* list = scratch_.list.data();
    double target = 0;
    if (row_) {
        // At most 1024 tokens can have a 1024th of the mass; mostly these are enough, and the rest is never listed.
        const float* row = row_;
        const size_t n = size_;
        const double total = sum_weights(row, n, weigh, scratch_.blocks.data());
        target = total * static_cast<double>(p);
        const auto list_heavier = [&](double share) {
            row_ = row;
            size_ = n;
            list_above(just_below(static_cast<double>(largest_) + log(total * share) / scale_));
            return mass_of(list, size_, weigh) >= target;
        };
        if (!list_heavier(1.0 / 1024) && !list_heavier(1.0 / 16384)) {
            row_ = row;
            size_ = n;
            list_above(kNothing);
        }
    } else {
        target = mass_of(list, size_, weigh) * static_cast<double>(p);
    }
    size_ = select(list, size_, target, ranks_before, [&](const Candidate* part, size_t count) { return mass_of(part, count, weigh); });
}

void Candidates::keep_relative(float p) {
    const float bound = just_below(static_cast<double>(largest_) + log(static_cast<double>(p)) / scale_);
    if (row_) return list_above(bound);
    size_t kept = 0;
    Candidate* list = scratch_.list.data();
    for (size_t i = 0; i < size_; i++)
        if (list[i].logit > bound) list[kept++] = list[i];
    size_ = kept;
}

float Candidates::penalised(float logit, const Penalty& penalty, const Tally::Entry& entry) const {
    if (logit == kNothing) return logit;
    const double result = penalty.apply(static_cast<double>(logit) * scale_, entry.strength, entry.total) / scale_;
    return static_cast<float>(std::clamp(result, -static_cast<double>(kMost), static_cast<double>(kMost)));
}

void Candidates::find_largest_again() {
    if (row_) {
        const Largest largest = find_largest(row_, size_);
        largest_ = largest.value;
        first_ = largest.index;
        return;
    }
    largest_ = scratch_.list[0].logit;
    for (size_t i = 1; i < size_; i++) largest_ = std::max(largest_, scratch_.list[i].logit);
}

void Candidates::penalise(const Penalty& penalty, const History& history) {
    Tally& tally = scratch_.tally;
    tally.fill(history, penalty);
    if (!row_) {
        for (size_t i = 0; i < size_; i++) {
            Candidate& candidate = scratch_.list[i];
            if (const Tally::Entry* entry = tally.find(candidate.token)) candidate.logit = penalised(candidate.logit, penalty, *entry);
        }
        return find_largest_again();
    }
    float* row = scratch_.logits.data();
    if (row_ != row) memcpy(row, row_, size_ * sizeof *row);
    row_ = row;
    bool moved = false;
    for (const Tally::Entry& entry : tally.entries()) {
        const size_t token = static_cast<size_t>(entry.token);
        if (token >= size_) continue;
        const float logit = penalised(row[token], penalty, entry);
        moved |= token == first_ || logit >= largest_;
        row[token] = logit;
    }
    if (moved) find_largest_again();
}

// The draw walks ids in ascending order, whatever the list's order: what a seed draws depends on what is kept alone.
int32_t Candidates::draw_from_list(double u) {
    const Weigher weigh = weigher();
    Candidate* list = scratch_.list.data();
    if (size_ == 1) return list[0].token;
    const auto measure = [&](const Candidate* part, size_t count) { return mass_of(part, count, weigh); };
    const double above = nextafter(u * measure(list, size_), HUGE_VAL);  // the first sum above u times all
    size_t drawn = select(list, size_, above, token_before, measure) - 1;
    if (weigh(list[drawn].logit) == 0)  // what rounding leaves over falls to the last with weight
        for (size_t i = 0; i < size_; i++)
            if (const float logit = list[i].logit; weigh(logit) > 0 && (weigh(list[drawn].logit) == 0 || list[i].token > list[drawn].token)) drawn = i;
    return list[drawn].token;
}

int32_t Candidates::draw(double u) {
    if (!row_) return draw_from_list(u);
    const Weigher weigh = weigher();
    double rest = u * sum_weights(row_, size_, weigh, scratch_.blocks.data());
    size_t from = 0;  // the block it lies in; what rounding leaves over falls to the last with weight
    for (size_t start = 0; start < size_; start += kScanBlock) {
        const double mass = scratch_.blocks[start / kScanBlock];
        if (mass > 0) from = start;
        if (rest < mass) break;
        rest -= mass;
    }
    size_t drawn = from;
    for (size_t i = from; i < std::min(size_, from + kScanBlock); i++) {
        const double weight = static_cast<double>(weigh(row_[i]));
        if (weight > 0) drawn = i;
        if (rest < weight) break;
        rest -= weight;
    }
    return static_cast<int32_t>(drawn);
}

}  // namespace pith
