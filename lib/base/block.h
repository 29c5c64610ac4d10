// Pieces of one block of memory, laid out once: run without a block the layout only counts, so that a plan is exact by construction.
#pragma once
#include "base/array.h"
#include "base/check.h"

namespace pith {

class Block {
public:
    explicit Block(uint8_t* base, uint64_t alignment = kCacheLine) : base_(base), alignment_(alignment) {}

    // `count` times `each` elements; `to` is left alone while counting.
    template <class T>
    void take(T*& to, uint64_t count, uint64_t each = 1) {
        uint64_t bytes = 0;
        if (!checked_mul(count, each, &bytes) || !checked_mul(bytes, uint64_t{sizeof(T)}, &bytes) || bytes > kMost - used_) {
            overflow_ = true;
            return;
        }
        if (base_) to = reinterpret_cast<T*>(base_ + used_);
        used_ = align_up(used_ + bytes, alignment_);
    }
    // Goes back to `mark`, so that what follows shares the memory of what came after it.
    void rewind(uint64_t mark) { used_ = mark; }
    uint64_t used() const { return used_; }
    bool overflow() const { return overflow_; }

private:
    static constexpr uint64_t kMost = uint64_t{1} << 56;  // no machine has more, and align_up can't wrap
    uint8_t* base_;
    uint64_t alignment_, used_ = 0;
    bool overflow_ = false;
};

}  // namespace pith
