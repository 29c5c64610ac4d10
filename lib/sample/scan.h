// Passes over a row of logits, in fixed lanes, so that a sum has the same bits everywhere.
#pragma once
#include <stddef.h>

#include "sample/four.h"

namespace pith {

inline constexpr size_t kScanBlock = 512;  // logits to a block sum

struct Largest {
    float value;   // -inf: every logit is (n 0 included)
    size_t index;  // the first of equals
    bool nan;      // some logit is NaN, and the rest is meaningless
};
Largest find_largest(const float* x, size_t n);

// What a logit weighs in the draw relative to the largest, e^((logit - largest) * scale): 0 for -inf.
struct Weigher {
    float largest;
    float scale;  // positive, and far enough from 0 and infinity that neither a difference of 0 nor one of -inf gives NaN
    Four operator()(Four logits) const { return exp_negative((logits - Four::all(largest)) * Four::all(scale)); }
    float operator()(float logit) const {
        float lanes[4];
        (*this)(Four::all(logit)).store(lanes);
        return lanes[0];
    }
};

// Sum of the weights of n logits; `blocks`, of ceil(n / kScanBlock), receives each block's.
double sum_weights(const float* x, size_t n, Weigher weigh, double* blocks);

// Calls visit(i) for each x[i] > *bound in order; visit may raise *bound.
template <class Visit>
void for_each_above(const float* x, size_t n, const float* bound, Visit visit) {
    size_t i = 0;
    for (; n - i >= 32; i += 32) {
        Four most = larger(Four::load(x + i), Four::load(x + i + 4));
        for (size_t j = 8; j < 32; j += 4) most = larger(most, Four::load(x + i + j));
        if (!any_above(most, Four::all(*bound))) continue;
        for (size_t j = i; j < i + 32; j++)
            if (x[j] > *bound) visit(j);
    }
    for (; i < n; i++)
        if (x[i] > *bound) visit(i);
}

}  // namespace pith
