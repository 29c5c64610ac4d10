// How many helpers a region asks for: by the bytes it touches, and by how many of those asked lately found anything left to do.
#pragma once
#include <stdint.h>

namespace pith {

// Bytes that are worth a slot. What a region takes that streams weights from memory, on one thread and on two that look around for work
// before they park (tests/bench/region_bench; two cores of a 16-core Xeon with nothing else to do, 2026-11-23):
//
//       KiB     32     64    128    256    512   1024   2048   4096
//   1  us      3.5    6.8   13.7   26.4   50.4    104    200    394
//   2  us      3.1    5.1    9.2   16.3   30.0     66    121    234
//   gain      1.13   1.35   1.50   1.62   1.68   1.58   1.66   1.69
//
// Two threads that are awake gain from 32 KiB on; one that has to be woken comes 5 to 30 us later. At 256 KiB, 26 us of work, it is worth
// the while either way. So that is the least that is shared, and a slot more is asked for each 128 KiB more.
inline constexpr uint64_t kBytesPerSlot = 128 * 1024;

constexpr uint32_t slots_for(uint64_t bytes, uint32_t chunks, uint32_t width) {
    const uint64_t worth = bytes / kBytesPerSlot, most = chunks < width ? chunks : width;
    return static_cast<uint32_t>(worth < most ? worth : most);
}

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
