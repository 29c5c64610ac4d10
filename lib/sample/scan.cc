// The largest logit and the sum of weights.
#include "sample/scan.h"

#include <limits>

namespace pith {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

// Sixteen lanes hide the latency of an addition. The tail of the last block is filled up with -inf, which changes nothing.
struct Tail {
    float x[16];
    Tail(const float* from, size_t n) {
        for (size_t i = 0; i < 16; i++) x[i] = i < n ? from[i] : kNothing;
    }
};

struct LargestOfBlock {
    Four most[4] = {Four::all(kNothing), Four::all(kNothing), Four::all(kNothing), Four::all(kNothing)};
    NanFour nan;
    void take(const float* x) {
        for (size_t j = 0; j < 4; j++) {
            const Four v = Four::load(x + 4 * j);
            most[j] = larger(v, most[j]);
            nan.look(v);
        }
    }
    float value() const {
        float lanes[4];
        larger(larger(most[0], most[1]), larger(most[2], most[3])).store(lanes);
        float value = lanes[0];
        for (const float lane : lanes) value = lane > value ? lane : value;
        return value;
    }
};

double sum_of_block(const float* x, size_t n, Weigher weigh) {
    Four sum[4] = {Four::all(0), Four::all(0), Four::all(0), Four::all(0)};
    const auto take = [&](const float* from) {
        for (size_t j = 0; j < 4; j++) sum[j] = sum[j] + weigh(Four::load(from + 4 * j));
    };
    size_t i = 0;
    for (; n - i >= 16; i += 16) take(x + i);
    if (i < n) take(Tail(x + i, n - i).x);
    float lanes[4];
    ((sum[0] + sum[1]) + (sum[2] + sum[3])).store(lanes);
    return static_cast<double>((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]));
}

}  // namespace

Largest find_largest(const float* x, size_t n) {
    Largest all{kNothing, 0, false};
    size_t from = 0;
    for (size_t start = 0; start < n; start += kScanBlock) {
        const size_t end = n - start < kScanBlock ? n : start + kScanBlock;
        LargestOfBlock block;
        size_t i = start;
        for (; end - i >= 16; i += 16) block.take(x + i);
        if (i < end) block.take(Tail(x + i, end - i).x);
        all.nan |= block.nan.any();
        if (const float value = block.value(); value > all.value) {
            all.value = value;
            from = start;
        }
    }
    all.index = from;
    while (all.index < n && !(x[all.index] == all.value)) all.index++;
    return all;
}

double sum_weights(const float* x, size_t n, Weigher weigh, double* blocks) {
    double total = 0;
    for (size_t i = 0; i < n; i += kScanBlock) {
        const double block = sum_of_block(x + i, n - i < kScanBlock ? n - i : kScanBlock, weigh);
        blocks[i / kScanBlock] = block;
        total += block;
    }
    return total;
}

}  // namespace pith
