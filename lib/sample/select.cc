// The likeliest of a long list, without moving it about.
#include "sample/select.h"

namespace pith {
namespace {

constexpr size_t kBuckets = 512;
constexpr size_t kFew = 512;

// What the candidates whose logits lie in [from, to] weigh, by their distance to the highest.
struct Histogram {
    double mass[kBuckets] = {};
    uint32_t count[kBuckets] = {};
    float from, to, scale;

    Histogram(float low, float high) : from(low), to(high), scale(static_cast<float>(kBuckets) / (high - low)) {}
    bool holds(float logit) const { return (logit >= from) & (logit <= to); }
    size_t place(float logit) const { return std::min(static_cast<size_t>(static_cast<int32_t>((to - logit) * scale)), kBuckets - 1); }
    void fill(const Candidate* list, size_t size, Weigher weigher) {
        for (size_t i = 0; i < size; i += 4) {
            float logits[4], weights[4];
            uint32_t inside = 0;
            for (size_t j = 0; j < 4; j++) {
                logits[j] = i + j < size ? list[i + j].logit : -std::numeric_limits<float>::infinity();
                inside |= static_cast<uint32_t>(holds(logits[j])) << j;
            }
            if (!inside) continue;
            weigh(weigher, Four::load(logits)).store(weights);
            for (size_t j = 0; j < 4; j++) {
                if (!(inside >> j & 1)) continue;
                const size_t at = place(logits[j]);
                mass[at] += static_cast<double>(weights[j]);
                count[at]++;
            }
        }
    }
};

// The last that is kept, of those in [low, high], where `before` is what all above weigh; few, or all equal and so in their order already.
Candidate last_of(const Candidate* list, size_t size, float low, float high, double before, double target, Weigher weigher) {
    Candidate few[kFew], last{low, std::numeric_limits<int32_t>::max()};
    size_t count = 0;
    for (size_t i = 0; i < size; i++) {
        if (list[i].logit < low || list[i].logit > high) continue;
        if (low == high) {
            before += static_cast<double>(weigh(weigher, low));
            if (before >= target) return list[i];
        } else {
            few[count++] = list[i];
        }
    }
    std::sort(few, few + count, ranks_before);
    for (size_t i = 0; i < count; i++) {
        before += static_cast<double>(weigh(weigher, few[i].logit));
        if (before >= target) return few[i];
    }
    return last;
}

}  // namespace

bool keep_mass_in_order(Candidate* list, size_t* size, double target, Weigher weigher) {
    float low = list[0].logit, high = low;
    for (size_t i = 1; i < *size; i++) {
        low = std::min(low, list[i].logit);
        high = std::max(high, list[i].logit);
    }
    double before = 0;
    for (size_t count = *size; count > kFew && low < high;) {
        const float range = high - low;
        if (!(range > 1e-30f && range < 1e30f)) return false;
        Histogram histogram(low, high);
        histogram.fill(list, *size, weigher);
        size_t at = 0;
        while (at + 1 < kBuckets && before + histogram.mass[at] < target) before += histogram.mass[at++];
        while (at > 0 && histogram.count[at] == 0) before -= histogram.mass[--at];  // what rounding leaves over
        float least = high, most = low;                                             // of that bucket
        for (size_t i = 0; i < *size; i++) {
            const float logit = list[i].logit;
            if (!histogram.holds(logit) || histogram.place(logit) != at) continue;
            least = std::min(least, logit);
            most = std::max(most, logit);
        }
        low = least;
        high = most;
        count = histogram.count[at];  // less than it was: the ends are in different buckets
    }
    const Candidate last = last_of(list, *size, low, high, before, target, weigher);
    size_t kept = 0;
    for (size_t i = 0; i < *size; i++) {
        list[kept] = list[i];
        kept += !ranks_before(last, list[i]);
    }
    *size = kept;
    return true;
}

}  // namespace pith
