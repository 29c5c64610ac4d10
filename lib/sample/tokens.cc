// Sets and counts of tokens.
#include "sample/tokens.h"

#include <algorithm>
#include <bit>

namespace pith {
namespace {

size_t hash(int32_t token) { return static_cast<size_t>(static_cast<uint32_t>(token) * 0x9E3779B97F4A7C15u >> 32); }

}  // namespace

bool TokenSet::build(Arena& arena, const int32_t* tokens, const float* weights, size_t count) {
    struct Pair {
        int32_t token;
        float weight;
        bool operator<(const Pair& other) const { return token < other.token; }
    };
    Array<Pair> pairs(arena.allocator());
    if (!pairs.resize(count)) return false;
    for (size_t i = 0; i < count; i++) pairs[i] = {tokens[i], weights ? weights[i] : 0};
    std::sort(pairs.begin(), pairs.end());
    const size_t slots = std::bit_ceil(2 * count + 2);
    tokens_ = arena.make<int32_t>(count + 1);
    weights_ = arena.make<float>(count + 1);
    slots_ = arena.make<uint32_t>(slots);
    if (!tokens_ || !weights_ || !slots_) return false;
    mask_ = slots - 1;
    for (const Pair& pair : pairs) {
        if (size_ && tokens_[size_ - 1] == pair.token) {
            weights_[size_ - 1] += pair.weight;
            continue;
        }
        size_t slot = hash(pair.token) & mask_;
        while (slots_[slot]) slot = (slot + 1) & mask_;
        tokens_[size_] = pair.token;
        weights_[size_++] = pair.weight;
        slots_[slot] = static_cast<uint32_t>(size_);
    }
    return true;
}

size_t TokenSet::find(int32_t token) const {
    size_t slot = hash(token) & mask_;
    while (slots_[slot] && tokens_[slots_[slot] - 1] != token) slot = (slot + 1) & mask_;
    return slots_[slot] ? slots_[slot] - 1 : size_;
}

bool Tally::allocate(Arena& arena, size_t most, bool fading) {
    const size_t slots = std::bit_ceil(std::max<size_t>(4 * most, 8));
    slots_ = arena.make<Slot>(slots);
    if (fading) strengths_ = arena.make<Entry>(slots);
    if (!slots_ || (fading && !strengths_)) return false;
    mask_ = slots - 1;
    clear();
    return true;
}

void Tally::clear() {
    for (size_t i = 0; i <= mask_; i++) slots_[i] = {-1, 0};
    used_ = 0;
    follows_ = false;
}

size_t Tally::take(int32_t token) {
    const size_t slot = slot_of(token);
    if (slots_[slot].token < 0) {
        slots_[slot].token = token;
        used_++;
    }
    return slot;
}

void Tally::add(int32_t token) { slots_[take(token)].count++; }

void Tally::raise(int32_t token, uint32_t count) {
    Slot& slot = slots_[take(token)];
    slot.count = std::max(slot.count, count);
}

// Adds what was recorded since, and takes away what left the window. False if that can't be done.
bool Tally::slide(const History& history, uint32_t window) {
    if (!follows_ || history.rewinds() != rewinds_) return false;
    const uint64_t recorded = history.recorded(), more = recorded - recorded_;
    if (more + window >= history.held() && recorded > history.held()) return false;
    if (used_ + more > (mask_ + 1) / 2) return false;
    for (uint64_t age = more; age-- > 0;) {
        add(history[static_cast<size_t>(age)]);
        if (recorded - 1 - age >= window) slots_[slot_of(history[static_cast<size_t>(age + window)])].count--;
    }
    return true;
}

void Tally::fill(const History& history, Window window) {
    clear();
    const uint64_t reach = window.window ? uint64_t{window.window} + window.decay : history.size();
    for (size_t age = 0; age < history.size() && age < reach; age++) {
        const size_t slot = take(history[age]);
        slots_[slot].count++;
        if (!strengths_) continue;
        const double strength = age > window.window ? 1 - static_cast<double>(age - window.window) / window.decay : 1;
        if (slots_[slot].count == 1) strengths_[slot] = {strength, 0};
        strengths_[slot].total += strength;
    }
}

void Tally::follow(const History& history, Window window) {
    if (strengths_ || !slide(history, window.window ? window.window : history.length())) fill(history, window);
    recorded_ = history.recorded();
    rewinds_ = history.rewinds();
    follows_ = true;
}

}  // namespace pith
