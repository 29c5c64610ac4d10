// How many helpers a region asks for: by the bytes it touches, and by how many of those asked lately found anything left to do.
#pragma once
#include <stdint.h>

namespace pith {

// More slots than find work are not worth waking: a pool wider than the cores that are free to it makes each region wait for threads that
// come when all is done. So no more are asked than found work lately; now and then one more, which finds out whether there is room for it.
class UsefulSlots {
public:
    uint32_t most() const { return quiet_ < kProbe ? limit_ : limit_ + 1; }
    // `worked` of the slots that a region asked for found work.
    void learn(uint32_t asked, uint32_t worked) {
        const bool probe = asked > limit_;
        if (worked > best_) best_ = worked;
        quiet_ = probe ? 0 : quiet_ + 1;
        if (worked >= asked) {
            if (!probe) return;
            limit_ = asked;
            quiet_ = kProbe;  // perhaps there is room for more
            seen_ = best_ = 0;
        } else if (!probe && ++seen_ == kWasteful) {
            const uint32_t useful = best_ < 2 ? 2 : best_;
            if (useful < limit_) limit_ = useful;
            seen_ = best_ = 0;
        }
    }

private:
    static constexpr uint32_t kWasteful = 16;  // regions: a thread that was held up once is no reason
    static constexpr uint32_t kProbe = 64;     // regions, each a few times as long as it takes to wake a thread
    uint32_t limit_ = UINT32_MAX - 1, quiet_ = 0, seen_ = 0, best_ = 0;
};

}  // namespace pith
