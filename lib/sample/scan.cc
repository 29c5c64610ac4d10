// The passes for any CPU: sixteen lanes in four parts.
#include <math.h>

#include "sample/four.h"

namespace pith {
namespace {

struct Lanes {
    Four v[4];
    static Lanes load(const float* from) { return {{Four::load(from), Four::load(from + 4), Four::load(from + 8), Four::load(from + 12)}}; }
    static Lanes load_some(const float* from, size_t n) {
        float x[16];
        for (size_t i = 0; i < 16; i++) x[i] = i < n ? from[i] : -HUGE_VALF;
        return load(x);
    }
    static Lanes all(float value) {
        const Four f = Four::all(value);
        return {{f, f, f, f}};
    }
    void store(float* to) const {
        for (int i = 0; i < 4; i++) v[i].store(to + 4 * i);
    }
    float total() const {
        float lanes[4];
        ((v[0] + v[1]) + (v[2] + v[3])).store(lanes);
        return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
    }
};
inline Lanes operator+(Lanes a, Lanes b) { return {{a.v[0] + b.v[0], a.v[1] + b.v[1], a.v[2] + b.v[2], a.v[3] + b.v[3]}}; }
inline Lanes operator-(Lanes a, Lanes b) { return {{a.v[0] - b.v[0], a.v[1] - b.v[1], a.v[2] - b.v[2], a.v[3] - b.v[3]}}; }
inline Lanes operator*(Lanes a, Lanes b) { return {{a.v[0] * b.v[0], a.v[1] * b.v[1], a.v[2] * b.v[2], a.v[3] * b.v[3]}}; }
inline Lanes larger(Lanes a, Lanes b) {
    return {{larger(a.v[0], b.v[0]), larger(a.v[1], b.v[1]), larger(a.v[2], b.v[2]), larger(a.v[3], b.v[3])}};
}
inline Lanes where_above(Lanes a, Lanes b, Lanes value) {
    Lanes out;
    for (int i = 0; i < 4; i++) out.v[i] = where_above(a.v[i], b.v[i], value.v[i]);
    return out;
}
inline uint32_t above(Lanes a, Lanes b) {
    return above(a.v[0], b.v[0]) | above(a.v[1], b.v[1]) << 4 | above(a.v[2], b.v[2]) << 8 | above(a.v[3], b.v[3]) << 12;
}
inline uint32_t equal(Lanes a, Lanes b) {
    return equal(a.v[0], b.v[0]) | equal(a.v[1], b.v[1]) << 4 | equal(a.v[2], b.v[2]) << 8 | equal(a.v[3], b.v[3]) << 12;
}
inline Lanes times_power(Lanes value, Lanes shifted) {
    Lanes out;
    for (int i = 0; i < 4; i++) out.v[i] = times_power(value.v[i], shifted.v[i]);
    return out;
}

struct SeenNan {
    NanFour seen[2];
    void look(Lanes a, Lanes b) {
        for (int i = 0; i < 4; i++) seen[i & 1].look(a.v[i], b.v[i]);
    }
    bool any() const { return seen[0].any() || seen[1].any(); }
};

}  // namespace
}  // namespace pith
//
#include "sample/impl/scan.h"

namespace pith {

const ScanTable kPlainScan = PITH_SCAN_TABLE;

}  // namespace pith
