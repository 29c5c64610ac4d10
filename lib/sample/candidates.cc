// The row and the list: edits, selections that take about one pass over what is left, and the draw.
#include "sample/candidates.h"

#include <math.h>

#include "sample/select.h"

namespace pith {
namespace {

constexpr float kMost = std::numeric_limits<float>::max();
constexpr float kNothing = -std::numeric_limits<float>::infinity();

// The largest float below every float >= bound.
float just_below(double bound) {
    if (bound > static_cast<double>(kMost)) return kMost;
    const float rounded = bound < -static_cast<double>(kMost) ? kNothing : static_cast<float>(bound);
    return static_cast<double>(rounded) >= bound ? nextafterf(rounded, kNothing) : rounded;
}

float clamped(double logit) { return static_cast<float>(std::clamp(logit, -static_cast<double>(kMost), static_cast<double>(kMost))); }

}  // namespace

void Candidates::heat(double temperature) {
    // The bounds keep products with differences of logits away from NaN; beyond them nothing changes but which zeros are exact.
    scale_ = std::clamp(scale_ / temperature, 1e-37, 1e37);
}

// Just below the least logit whose scaled distance to the largest is at least `power`, which is not positive.
float Candidates::bound_at(double power) const { return just_below(static_cast<double>(largest_) + power / scale_); }

// ---------------------------------------------------------------- edits

float Candidates::changed(const Edit& edit, int32_t token, float logit) const {
    const Step& step = *edit.step;
    if (logit == kNothing) return logit;
    if (step.tally) {
        Tally::Entry entry;
        if (!step.tally->find(token, &entry)) return logit;
        if (step.kind == PITH_STEP_PENALTIES)
            return clamped(step.penalty.apply(static_cast<double>(logit) * edit.scale, entry.strength, entry.total) / edit.scale);
        const double excess = entry.total - static_cast<double>(step.count);
        return clamped(static_cast<double>(logit) -
                       static_cast<double>(step.value) * pow(static_cast<double>(step.more[0]), excess) / edit.scale);
    }
    const size_t at = step.tokens->find(token);
    if (at == step.tokens->size()) return logit;
    const float weight = step.kind == PITH_STEP_BANNED ? kNothing : step.tokens->weight(at);
    return weight == kNothing ? kNothing : clamped(static_cast<double>(logit) + static_cast<double>(weight) / edit.scale);
}

float Candidates::edited(int32_t token, float logit) const {
    for (const Edit& edit : scratch_.edits) logit = changed(edit, token, logit);
    return logit;
}

// Whether one of the first `edits` may raise the token.
bool Candidates::raised_by(size_t edits, int32_t token) const {
    for (size_t i = 0; i < edits; i++) {
        const Edit& edit = scratch_.edits[i];
        if (!edit.raises) continue;
        Tally::Entry entry;
        if (edit.step->tally ? edit.step->tally->find(token, &entry) : edit.step->tokens->holds(token)) return true;
    }
    return false;
}

// Calls visit(token) for each token of the row that an edit may have raised, once.
template <class Visit>
void Candidates::each_raised(Visit visit) const {
    for (size_t i = 0; i < scratch_.edits.size(); i++) {
        const Step& step = *scratch_.edits[i].step;
        if (!scratch_.edits[i].raises) continue;
        const auto once = [&](int32_t token) {
            if (static_cast<size_t>(token) < size_ && !raised_by(i, token)) visit(token);
        };
        if (step.tally)
            step.tally->each(once);
        else
            for (size_t j = 0; j < step.tokens->size(); j++) once((*step.tokens)[j]);
    }
}

void Candidates::edit(const Step& step) {
    bool raises = step.kind == PITH_STEP_PENALTIES && step.penalty.rewards();
    if (step.kind == PITH_STEP_LOGIT_BIAS)
        for (size_t i = 0; i < step.tokens->size(); i++) raises |= step.tokens->weight(i) > 0;
    const Edit edit{&step, scale_, raises};
    if (row_) {
        (void)scratch_.edits.push(edit);  // reserved for
        return;
    }
    size_t kept = 0;
    Candidate* list = scratch_.list.data();
    for (size_t i = 0; i < size_; i++) {
        const float logit = changed(edit, list[i].token, list[i].logit);
        if (logit != kNothing) list[kept++] = {logit, list[i].token};
    }
    size_ = kept;
    find_largest_again();
}

void Candidates::allow(const TokenSet& tokens) {
    Candidate* list = scratch_.list.data();
    size_t kept = 0;
    if (row_) {
        for (size_t i = 0; i < tokens.size() && static_cast<size_t>(tokens[i]) < size_; i++)
            if (const float logit = edited(tokens[i], row_[tokens[i]]); logit != kNothing) list[kept++] = {logit, tokens[i]};
        by_id_ = true;
        row_ = nullptr;
        scratch_.edits.clear();
    } else {
        for (size_t i = 0; i < size_; i++)
            if (tokens.holds(list[i].token)) list[kept++] = list[i];
    }
    size_ = kept;
    find_largest_again();
}

// Carries out the edits, for steps that must look at every logit.
void Candidates::materialise() {
    if (!row_ || plain()) return;
    float* row = scratch_.logits.data();
    if (row != row_) memcpy(row, row_, size_ * sizeof *row);
    for (const Edit& edit : scratch_.edits) {
        const Step& step = *edit.step;
        const auto change = [&](int32_t token) {
            if (static_cast<size_t>(token) < size_) row[token] = changed(edit, token, row[token]);
        };
        if (step.tally)
            step.tally->each(change);
        else
            for (size_t i = 0; i < step.tokens->size(); i++) change((*step.tokens)[i]);
    }
    scratch_.edits.clear();
    summarise(row);
}

void Candidates::summarise(float* row) {
    row_ = row;
    largest_ = highest_ = scan_.summarise(row, size_, scratch_.maxima.data()).value;
    if (largest_ != kNothing) return;
    row_ = nullptr;
    size_ = 0;
}

// ---------------------------------------------------------------- from the row to a list

// Below at least `ranks` maxima, which are as many different logits, and not below many more; -inf if there are not that many.
float Candidates::bound_for(size_t ranks) const {
    size_t count = scan_maxima(size_);
    if (ranks > count / 2) return kNothing;
    const float* maxima = scratch_.maxima.data();
    float folded[kScanFolded];
    if (ranks <= kScanFolded / 4 && count > 2 * kScanFolded) {  // as good for few ranks, and less to look at
        scan_.fold(maxima, count, folded);
        maxima = folded;
        count = kScanFolded;
    }
    double above = static_cast<double>(highest_), below = above;
    for (double distance = 2;; distance *= 2) {
        below = static_cast<double>(highest_) - distance;
        if (below < -static_cast<double>(kMost)) return kNothing;
        if (scan_.count_above(maxima, count, static_cast<float>(below)) >= ranks) break;
        above = below;
    }
    for (int turn = 0; turn < 6; turn++) {
        const double middle = (above + below) / 2;
        const size_t found = scan_.count_above(maxima, count, static_cast<float>(middle));
        if (found >= ranks) below = middle;
        if (found >= ranks && found <= ranks + ranks / 4) break;
        if (found < ranks) above = middle;
    }
    return static_cast<float>(below);
}

// Lists what lies above the bound, with its edits, or the k best of that; returns how many. Leaves the row.
size_t Candidates::list_row(float bound, size_t k) {
    Candidate* list = scratch_.list.data();
    const size_t capacity = scratch_.list.size(), groups = scan_blocks(size_), edits = scratch_.edits.size();
    size_t size = 0, group = 0;
    by_id_ = true;
    const auto shorten = [&] {
        by_id_ = false;
        size = select_top(list, size, k);
        if (size == k)
            for (size_t i = 0; i < size; i++) bound = i ? std::min(bound, list[i].logit) : list[i].logit;  // later equals rank behind
    };
    for (;;) {
        size_t from = size;
        size = scan_.list_above(row_, size_, scratch_.maxima.data(), bound, list, size, capacity, &group);
        for (size_t i = edits ? from : size; i < size; i++) {
            if (raised_by(edits, list[i].token)) continue;  // they follow
            const float logit = edited(list[i].token, list[i].logit);
            if (logit > bound) list[from++] = {logit, list[i].token};
        }
        if (edits) size = from;
        if (group == groups) break;
        if (capacity - size < kScanBlock) shorten();
    }
    if (edits)
        each_raised([&](int32_t token) {
            const float logit = edited(token, row_[token]);
            if (!(logit > bound)) return;
            if (size == capacity) shorten();
            by_id_ = false;
            if (logit > bound) list[size++] = {logit, token};
        });
    return size;
}

void Candidates::list_top(size_t k) {
    const size_t all = list_for_all(size_);
    for (size_t ranks = plain() ? k : k + 8;; ranks *= 4) {
        const float bound = bound_for(ranks);
        const size_t found = list_row(bound, k);
        if (found < k && bound != kNothing && ranks < all) continue;  // edits took too many below the bound
        size_ = shorten(found, k);
        row_ = nullptr;
        scratch_.edits.clear();
        return find_largest_again();
    }
}

size_t Candidates::shorten(size_t size, size_t k) {
    if (size > k) by_id_ = false;
    return select_top(scratch_.list.data(), size, k);
}

void Candidates::list_all() {
    if (!row_) return;
    size_ = list_row(kNothing, size_);
    row_ = nullptr;
    scratch_.edits.clear();
    find_largest_again();
}

void Candidates::find_largest_again() {
    largest_ = kNothing;
    for (size_t i = 0; i < size_; i++) largest_ = std::max(largest_, scratch_.list[i].logit);
}

void Candidates::keep_largest() {
    if (row_ && !plain()) return list_top(1);
    Candidate* list = scratch_.list.data();
    if (row_) {
        list[0] = {largest_, static_cast<int32_t>(scan_.find(row_, size_, scratch_.maxima.data(), largest_))};
    } else {
        list[0] = *std::min_element(list, list + size_, ranks_before);
    }
    row_ = nullptr;
    by_id_ = true;
    size_ = 1;
}

void Candidates::keep_top(uint32_t k) {
    if (k >= size_) return;
    if (k == 1) return keep_largest();
    if (row_) return list_top(k);
    size_ = shorten(size_, k);
}

void Candidates::keep_mass(float p) {
    materialise();
    if (empty()) return;
    const Weigher weigher = this->weigher();
    Candidate* list = scratch_.list.data();
    double target = 0;
    if (row_) {
        // At most 1024 tokens can have a 1024th of the mass; mostly these are enough, and the rest is never listed.
        const double total = scan_.sum_weights(row_, size_, weigher, scratch_.blocks.data());
        target = total * static_cast<double>(p);
        size_t listed = 0;
        const auto list_heavier = [&](double share) {
            listed = list_row(bound_at(log(total * share)), size_);
            return mass_of(list, listed, weigher) >= target;
        };
        if (!list_heavier(1.0 / 1024) && !list_heavier(1.0 / 16384)) listed = list_row(kNothing, size_);
        size_ = listed;
        row_ = nullptr;
    } else {
        target = mass_of(list, size_, weigher) * static_cast<double>(p);
    }
    constexpr size_t kLong = 4096;
    if (by_id_ && size_ > kLong && keep_mass_in_order(list, &size_, target, weigher)) return;
    by_id_ = false;
    size_ = select_mass(list, size_, target, ranks_before, weigher);
}

void Candidates::keep_relative(float p) {
    if (row_ && !plain()) {
        // The largest first, then what is near it. Both look at a few groups only.
        const float* row = row_;
        const size_t n = size_;
        Array<Edit>& edits = scratch_.edits;
        const size_t count = edits.size();
        list_top(1);
        if (empty()) return;
        row_ = row;
        size_ = n;
        edits.shrink(count);
    }
    keep_power(log(static_cast<double>(p)));
}

// Those whose weight is at least e^power of the largest's.
void Candidates::keep_power(double power) {
    const float bound = bound_at(power);
    if (row_) {
        size_ = list_row(bound, size_);
        row_ = nullptr;
        scratch_.edits.clear();
        return;
    }
    size_t kept = 0;
    Candidate* list = scratch_.list.data();
    for (size_t i = 0; i < size_; i++)
        if (list[i].logit > bound) list[kept++] = list[i];
    size_ = kept;
}

// ---------------------------------------------------------------- the draw

Draw Candidates::drawn(const Candidate& candidate, double mass) const {
    return {candidate.token, candidate.logit, power_of(candidate.logit) - log(mass)};
}

// How many of the first have that mass together, of a list in order.
size_t Candidates::select_by_id(double mass) {
    constexpr size_t kStride = 64;
    const Weigher weigher = this->weigher();
    const Candidate* list = scratch_.list.data();
    double before = 0;
    for (size_t from = 0; from < size_; from += kStride) {
        const size_t end = std::min(size_, from + kStride);
        const double more = mass_of(list + from, end - from, weigher);
        if (before + more < mass) {
            before += more;
            continue;
        }
        while (from < end && before < mass) before += mass_of(list + from++, 1, weigher);
        return from;
    }
    return size_;
}

// The draw walks ids in ascending order, whatever the list's order: what a seed draws depends on what is kept alone.
Draw Candidates::draw_from_list(double u) {
    const Weigher weigher = this->weigher();
    Candidate* list = scratch_.list.data();
    if (size_ == 1) return {list[0].token, list[0].logit, 0};
    const double mass = mass_of(list, size_, weigher);
    const double target = nextafter(u * mass, HUGE_VAL);  // the first sum above u times all
    const bool skewed = skew_ != 0;
    const auto comes_before = [=](const Candidate& a, const Candidate& b) { return skewed ? ranks_before(a, b) : token_before(a, b); };
    size_t at = (by_id_ && !skewed ? select_by_id(target) : select_mass(list, size_, target, comes_before, weigher)) - 1;
    if (weigh(weigher, list[at].logit) == 0)  // what rounding leaves over falls to the last with weight
        for (size_t i = 0; i < size_; i++)
            if (weigh(weigher, list[i].logit) > 0 && (weigh(weigher, list[at].logit) == 0 || comes_before(list[at], list[i]))) at = i;
    return drawn(list[at], mass);
}

Draw Candidates::draw_from_row(double u) {
    const Weigher weigher = this->weigher();
    const double mass = scan_.sum_weights(row_, size_, weigher, scratch_.blocks.data());
    double rest = u * mass;
    size_t from = 0;  // the block it lies in; what rounding leaves over falls to the last with weight
    for (size_t start = 0; start < size_; start += kScanBlock) {
        const double block = scratch_.blocks[start / kScanBlock];
        if (block > 0) from = start;
        if (rest < block) break;
        rest -= block;
    }
    size_t at = from;
    for (size_t i = from; i < std::min(size_, from + kScanBlock); i++) {
        const double weight = static_cast<double>(weigh(weigher, row_[i]));
        if (weight > 0) at = i;
        if (rest < weight) break;
        rest -= weight;
    }
    return drawn({row_[at], static_cast<int32_t>(at)}, mass);
}

Draw Candidates::draw(double u) {
    if (skew_ != 0) {
        u = std::min(pow(u, exp(-skew_)), 1 - 0x1p-53);
        list_all();
    }
    return row_ ? draw_from_row(u) : draw_from_list(u);
}

size_t Candidates::best(size_t count, double* all, pith_logprob* to) {
    materialise();
    if (empty() || count == 0) return 0;
    Candidate* list = scratch_.list.data();
    const double mass = row_ ? scan_.sum_weights(row_, size_, weigher(), scratch_.blocks.data()) : mass_of(list, size_, weigher());
    *all = mass;
    if (row_) list_top(count);
    size_ = select_top(list, size_, count);
    std::sort(list, list + size_, ranks_before);
    for (size_t i = 0; i < size_; i++) to[i] = {list[i].token, static_cast<float>(power_of(list[i].logit) - log(mass))};
    return size_;
}

}  // namespace pith
