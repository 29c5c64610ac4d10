// Sets of tokens that a step lists, and counts of those recorded.
#pragma once
#include "base/array.h"
#include "sample/history.h"

namespace pith {

// The tokens that a step listed, each once, ascending, with what they weigh together. In the sampler's arena.
class TokenSet {
public:
    [[nodiscard]] bool build(Arena& arena, const int32_t* tokens, const float* weights, size_t count);
    size_t size() const { return size_; }
    int32_t operator[](size_t i) const { return tokens_[i]; }
    float weight(size_t i) const { return weights_[i]; }
    // Its place, or size().
    size_t find(int32_t token) const;
    bool holds(int32_t token) const { return find(token) != size_; }

private:
    int32_t* tokens_ = nullptr;
    float* weights_ = nullptr;
    uint32_t* slots_ = nullptr;  // place + 1 by hash; 0: free. A power of two, at most half full
    size_t size_ = 0, mask_ = 0;
};

// How a window of the history weighs: ages below `window` count in full (0: all that is remembered); over the next `decay` ages the
// strength falls to 0 in a line.
struct Window {
    uint32_t window, decay;
};

// A hash table from a token to a count. Kept up to date as tokens are recorded, so that a draw does not pay for a long window.
class Tally {
public:
    struct Entry {
        double strength;  // of the newest occurrence
        double total;     // of all
    };
    // For at most `most` different tokens.
    [[nodiscard]] bool allocate(Arena& arena, size_t most, bool fading);
    void clear();
    // Brings it to what the window says of the history.
    void follow(const History& history, Window window);
    void raise(int32_t token, uint32_t count);  // to at least that count

    // False: it doesn't occur.
    bool find(int32_t token, Entry* entry) const {
        const size_t slot = slot_of(token);
        if (slots_[slot].count == 0) return false;
        *entry = strengths_ ? strengths_[slot] : Entry{1, static_cast<double>(slots_[slot].count)};
        return true;
    }
    // Calls visit(token) for each that occurs.
    template <class Visit>
    void each(Visit visit) const {
        for (size_t i = 0; i <= mask_; i++)
            if (slots_[i].count) visit(slots_[i].token);
    }

private:
    struct Slot {
        int32_t token;  // -1: free
        uint32_t count;
    };
    size_t slot_of(int32_t token) const {  // where it is, or the free slot where it would be
        size_t slot = static_cast<size_t>(static_cast<uint32_t>(token) * 0x9E3779B97F4A7C15u >> 32) & mask_;
        while (slots_[slot].token != token && slots_[slot].token >= 0) slot = (slot + 1) & mask_;
        return slot;
    }
    size_t take(int32_t token);
    void add(int32_t token);
    bool slide(const History& history, uint32_t window);
    void fill(const History& history, Window window);

    Slot* slots_ = nullptr;
    Entry* strengths_ = nullptr;  // by slot; NULL: every occurrence counts 1
    size_t mask_ = 0, used_ = 0;
    uint64_t recorded_ = 0, rewinds_ = 0;  // of the history, when it was last followed
    bool follows_ = false;
};

}  // namespace pith
