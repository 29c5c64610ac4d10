// Repetition, frequency and presence penalties over the recorded tokens.
#pragma once
#include "base/array.h"
#include "sample/history.h"

namespace pith {

// Ages below `window` count in full (0: all that is remembered); over the next `decay` ages the strength falls to 0 in a line.
struct Penalty {
    double repetition, frequency, presence;
    uint32_t window, decay;
    // The penalised logit. `strength` of the newest occurrence, `total` over all of them.
    double apply(double logit, double strength, double total) const {
        const double divisor = 1 + (repetition - 1) * strength;
        return (logit > 0 ? logit / divisor : logit * divisor) - presence * strength - frequency * total;
    }
};

// The distinct tokens of a window with what they weigh: a hash table filled anew for each use, so that only the window's length costs.
class Tally {
public:
    struct Entry {
        int32_t token;
        double strength;  // of the newest occurrence
        double total;     // of all
    };
    explicit Tally(const Allocator& allocator) : entries_(allocator), slots_(allocator) {}
    [[nodiscard]] bool allocate(uint32_t window);
    void fill(const History& history, const Penalty& penalty);
    const Entry* find(int32_t token) const;
    const Array<Entry>& entries() const { return entries_; }

private:
    size_t slot_of(int32_t token) const;  // where it is, or the free slot where it would be
    Array<Entry> entries_;
    Array<uint32_t> slots_;  // 1 + place in entries_; 0: free. A power of two, at most half full
    uint32_t shift_ = 0;
};

}  // namespace pith
