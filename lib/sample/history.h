// The tokens a sampler has recorded: how many, and the last of them.
#pragma once
#include "base/array.h"

namespace pith {

// Remembers twice its length: any rewind of up to `length` tokens leaves the last `length` before it known.
class History {
public:
    explicit History(const Allocator& allocator) : ring_(allocator) {}

    // Length 0 only counts.
    [[nodiscard]] bool allocate(uint32_t length) {
        length_ = length;
        return ring_.resize(size_t{2} * length);
    }
    void record(int32_t token) {
        if (!ring_.empty()) ring_[recorded_ % ring_.size()] = token;
        recorded_++;
        if (held_ < ring_.size()) held_++;
    }
    // False, and nothing changes, if not all of the last `length` tokens before that point are known any more.
    bool rewind(uint64_t recorded) {
        const uint64_t dropped = recorded_ - recorded;
        const uint64_t held = held_ > dropped ? held_ - dropped : 0;
        if (held < (recorded < length_ ? recorded : length_)) return false;
        recorded_ = recorded;
        held_ = static_cast<size_t>(held);
        rewinds_++;
        return true;
    }
    // The token recorded `age` tokens ago, 0 the newest; age < held(), of which size() are to count.
    int32_t operator[](size_t age) const { return ring_[(recorded_ - 1 - age) % ring_.size()]; }
    size_t size() const { return recorded_ < length_ ? static_cast<size_t>(recorded_) : length_; }
    size_t held() const { return held_; }
    uint64_t recorded() const { return recorded_; }
    uint64_t rewinds() const { return rewinds_; }
    uint32_t length() const { return length_; }
    const Array<int32_t>& ring() const { return ring_; }

private:
    Array<int32_t> ring_;
    uint64_t recorded_ = 0, rewinds_ = 0;
    size_t held_ = 0;
    uint32_t length_ = 0;
};

}  // namespace pith
