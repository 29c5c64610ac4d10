// How many helpers a region asks for: by the bytes it touches, and by how many of those asked lately found anything left to do.
#pragma once
#include <stdint.h>

namespace pith {

// More slots than found work are not worth waking: a pool wider than the cores that are free to it makes each region wait for threads that
// come when all is done. So no more are asked than found work lately, and one, which finds out whether there is room for more.
class UsefulSlots {
public:
    uint32_t most() const { return most_; }
    // `worked` of the slots that a region asked for found work.
    void learn(uint32_t asked, uint32_t worked) {
        if (worked > best_) best_ = worked;
        if (worked >= asked) {
            if (asked < most_) return;
            most_ = asked + 1;
        } else if (++seen_ < kRegions) {
            return;
        } else if (best_ + 1 < most_) {
            most_ = best_ + 1;
        }
        seen_ = best_ = 0;
    }

private:
    static constexpr uint32_t kRegions = 16;  // that had come for nothing: a thread that was held up once is no reason
    uint32_t most_ = UINT32_MAX - 1, seen_ = 0, best_ = 0;
};

}  // namespace pith
