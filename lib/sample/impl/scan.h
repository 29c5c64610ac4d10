// The passes, once the file that includes this has defined its Lanes, sixteen floats, and SeenNan. Everything is local to that file, which may be
// compiled for a newer CPU than the rest.
#pragma once
#include <math.h>

#include <bit>

#include "sample/impl/exp.h"
#include "sample/scan.h"

namespace pith {
namespace {

constexpr float kNegative = -HUGE_VALF;

// Calls take(offset, lanes) for each sixteen of x[from, to), the last ones filled up with -inf.
template <class Take>
inline void each_sixteen(const float* x, size_t from, size_t to, Take take) {
    size_t i = from;
    for (; to - i >= kScanLanes; i += kScanLanes) take(i, Lanes::load(x + i));
    if (i < to) take(i, Lanes::load_some(x + i, to - i));
}

inline size_t block_end(size_t start, size_t n) { return n - start < kScanBlock ? n : start + kScanBlock; }

inline Lanes weigh(Lanes x, Lanes largest, Lanes scale) { return exp_negative((x - largest) * scale); }

Largest summarise(const float* x, size_t n, float* maxima) {
    Lanes most = Lanes::all(kNegative);
    SeenNan nan;
    size_t start = 0;
    for (; n - start >= kScanBlock; start += kScanBlock, maxima += kScanLanes) {
        Lanes m[4];
        for (size_t j = 0; j < 4; j++) m[j] = Lanes::load(x + start + j * kScanLanes);
        nan.look(m[0], m[1]);
        nan.look(m[2], m[3]);
        for (size_t i = start + 4 * kScanLanes; i < start + kScanBlock; i += 4 * kScanLanes)
            for (size_t j = 0; j < 4; j += 2) {
                const Lanes v = Lanes::load(x + i + j * kScanLanes), w = Lanes::load(x + i + (j + 1) * kScanLanes);
                m[j] = larger(v, m[j]);
                m[j + 1] = larger(w, m[j + 1]);
                nan.look(v, w);
            }
        m[0] = larger(larger(m[0], m[1]), larger(m[2], m[3]));
        m[0].store(maxima);
        most = larger(m[0], most);
    }
    if (start < n) {
        Lanes m = Lanes::all(kNegative);
        each_sixteen(x, start, n, [&](size_t, Lanes v) {
            m = larger(v, m);
            nan.look(v, v);
        });
        m.store(maxima);
        most = larger(m, most);
    }
    float lanes[kScanLanes];
    most.store(lanes);
    float value = kNegative;
    for (const float lane : lanes) value = lane > value ? lane : value;
    return {value, nan.any()};
}

void fold(const float* maxima, size_t count, float* folded) {
    for (size_t j = 0; j < kScanFolded; j += kScanLanes) {
        Lanes m = Lanes::load(maxima + j);
        for (size_t i = j + kScanFolded; i < count; i += kScanFolded) m = larger(Lanes::load(maxima + i), m);
        m.store(folded + j);
    }
}

size_t count_above(const float* maxima, size_t count, float bound) {
    const Lanes least = Lanes::all(bound), one = Lanes::all(1);
    Lanes found[4] = {Lanes::all(0), Lanes::all(0), Lanes::all(0), Lanes::all(0)};
    size_t i = 0;
    for (; count - i >= 4 * kScanLanes; i += 4 * kScanLanes)
        for (size_t j = 0; j < 4; j++) found[j] = found[j] + where_above(Lanes::load(maxima + i + j * kScanLanes), least, one);
    for (; i < count; i += kScanLanes) found[0] = found[0] + where_above(Lanes::load(maxima + i), least, one);
    return static_cast<size_t>(((found[0] + found[1]) + (found[2] + found[3])).total());  // exact: whole numbers
}

size_t list_above(const float* x, size_t n, const float* maxima, float bound, Candidate* list, size_t size, size_t capacity,
                  size_t* group) {
    const Lanes least = Lanes::all(bound);
    const size_t groups = scan_blocks(n);
    for (; *group < groups && capacity - size >= kScanBlock; ++*group) {
        if (!above(Lanes::load(maxima + *group * kScanLanes), least)) continue;
        const size_t start = *group * kScanBlock;
        each_sixteen(x, start, block_end(start, n), [&](size_t i, Lanes v) {
            for (uint32_t hits = above(v, least); hits; hits &= hits - 1) {
                const size_t at = i + static_cast<size_t>(std::countr_zero(hits));
                list[size].logit = x[at];
                list[size++].token = static_cast<int32_t>(at);
            }
        });
    }
    return size;
}

size_t find(const float* x, size_t n, const float* maxima, float value) {
    const Lanes wanted = Lanes::all(value);
    for (size_t start = 0; start < n; start += kScanBlock, maxima += kScanLanes) {
        if (!equal(Lanes::load(maxima), wanted)) continue;
        size_t i = start;
        for (; n - i >= kScanLanes; i += kScanLanes)
            if (const uint32_t hits = equal(Lanes::load(x + i), wanted)) return i + static_cast<size_t>(std::countr_zero(hits));
        for (; i < n; i++)
            if (x[i] == value) return i;
    }
    return n;
}

double sum_weights(const float* x, size_t n, Weigher weigher, double* blocks) {
    const Lanes largest = Lanes::all(weigher.largest), scale = Lanes::all(weigher.scale);
    double total = 0;
    for (size_t start = 0; start < n; start += kScanBlock) {
        Lanes sum = Lanes::all(0);
        each_sixteen(x, start, block_end(start, n), [&](size_t, Lanes v) { sum = sum + weigh(v, largest, scale); });
        const double block = static_cast<double>(sum.total());
        *blocks++ = block;
        total += block;
    }
    return total;
}

double sum_entropy(const float* x, size_t n, Weigher weigher) {
    const Lanes largest = Lanes::all(weigher.largest), scale = Lanes::all(weigher.scale), floor = Lanes::all(-90);  // 0 times it is 0
    double total = 0;
    for (size_t start = 0; start < n; start += kScanBlock) {
        Lanes sum = Lanes::all(0);
        each_sixteen(x, start, block_end(start, n),
                     [&](size_t, Lanes v) { sum = sum + weigh(v, largest, scale) * larger((v - largest) * scale, floor); });
        total += static_cast<double>(sum.total());
    }
    return total;
}

Moments moments(const float* x, size_t n, float shift) {
    const Lanes nothing = Lanes::all(kNegative), one = Lanes::all(1), at = Lanes::all(shift);
    Moments all{0, 0, 0};
    for (size_t start = 0; start < n; start += kScanBlock) {
        Lanes count = Lanes::all(0), sum = Lanes::all(0), squares = Lanes::all(0);
        each_sixteen(x, start, block_end(start, n), [&](size_t, Lanes v) {
            const Lanes d = where_above(v, nothing, v - at);
            count = count + where_above(v, nothing, one);
            sum = sum + d;
            squares = squares + d * d;
        });
        all.count += static_cast<double>(count.total());
        all.sum += static_cast<double>(sum.total());
        all.squares += static_cast<double>(squares.total());
    }
    return all;
}

}  // namespace
}  // namespace pith

#define PITH_SCAN_TABLE \
    { summarise, fold, count_above, list_above, find, sum_weights, sum_entropy, moments }
