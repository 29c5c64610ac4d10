// e^y on any width of vector, with the same bits on each: V has all(), +, -, *, larger(), where_above() and times_power().
#pragma once

namespace pith {
namespace {

// e^y for y <= 0, relative error below 3e-7; 0 below -87.
template <class V>
inline V exp_negative(V y) {
    const V floor = V::all(-87.0f), magic = V::all(12582912.0f);
    const V z = larger(y, floor);
    const V shifted = z * V::all(1.44269504f) + magic;  // adding 1.5 * 2^23 rounds to an integer, kept in the low bits
    const V k = shifted - magic;
    // ln 2 in two parts, the first of few bits, so that k times it is exact.
    const V r = (z - k * V::all(0.693359375f)) + k * V::all(2.12194440e-4f);
    V p = V::all(1.0f / 720);
    p = p * r + V::all(1.0f / 120);
    p = p * r + V::all(1.0f / 24);
    p = p * r + V::all(1.0f / 6);
    p = p * r + V::all(0.5f);
    p = p * (r * r) + (r + V::all(1.0f));
    return where_above(y, floor, times_power(p, shifted));
}

}  // namespace
}  // namespace pith
