// Counting what a penalty looks at.
#include "sample/penalties.h"

#include <bit>

namespace pith {

bool Tally::allocate(uint32_t window) {
    const size_t slots = std::bit_ceil(size_t{2} * window + 2);
    shift_ = static_cast<uint32_t>(64 - std::countr_zero(slots));
    return entries_.reserve(window) && slots_.resize(slots);
}

size_t Tally::slot_of(int32_t token) const {
    size_t slot = static_cast<size_t>(static_cast<uint32_t>(token) * 0x9E3779B97F4A7C15u >> shift_);
    while (slots_[slot] && entries_[slots_[slot] - 1].token != token) slot = (slot + 1) & (slots_.size() - 1);
    return slot;
}

void Tally::fill(const History& history, const Penalty& penalty) {
    memset(slots_.data(), 0, slots_.size() * sizeof(uint32_t));
    entries_.clear();
    const uint64_t reach = penalty.window ? uint64_t{penalty.window} + penalty.decay : history.size();
    for (size_t age = 0; age < history.size() && age < reach; age++) {
        const bool fading = penalty.window && age > penalty.window;
        const double strength = fading ? 1 - static_cast<double>(age - penalty.window) / penalty.decay : 1;
        const size_t slot = slot_of(history[age]);
        if (!slots_[slot]) {
            (void)entries_.push({history[age], strength, 0});  // reserved for
            slots_[slot] = static_cast<uint32_t>(entries_.size());
        }
        entries_[slots_[slot] - 1].total += strength;
    }
}

const Tally::Entry* Tally::find(int32_t token) const {
    const uint32_t place = slots_[slot_of(token)];
    return place ? &entries_[place - 1] : nullptr;
}

}  // namespace pith
