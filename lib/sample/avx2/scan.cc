// The passes for CPUs with AVX2.
#include "sample/scan.h"
#ifdef PITH_SCAN_X86
#    include <immintrin.h>
#    include <math.h>

namespace pith {
namespace {

struct Lanes {
    __m256 a, b;
    static Lanes load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
    static Lanes load_some(const float* from, size_t n) {
        float x[16];
        for (size_t i = 0; i < 16; i++) x[i] = i < n ? from[i] : -HUGE_VALF;
        return load(x);
    }
    static Lanes all(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
    void store(float* to) const {
        _mm256_storeu_ps(to, a);
        _mm256_storeu_ps(to + 8, b);
    }
    float total() const {  // in the order of the four parts
        const __m128 low = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        const __m128 high = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
        float lanes[4];
        _mm_storeu_ps(lanes, _mm_add_ps(low, high));
        return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
    }
};
inline Lanes operator+(Lanes x, Lanes y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline Lanes operator-(Lanes x, Lanes y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline Lanes operator*(Lanes x, Lanes y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline Lanes larger(Lanes x, Lanes y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline Lanes where_above(Lanes x, Lanes y, Lanes value) {
    return {_mm256_and_ps(_mm256_cmp_ps(x.a, y.a, _CMP_GT_OQ), value.a), _mm256_and_ps(_mm256_cmp_ps(x.b, y.b, _CMP_GT_OQ), value.b)};
}
inline uint32_t above(Lanes x, Lanes y) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(x.a, y.a, _CMP_GT_OQ))) |
           static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(x.b, y.b, _CMP_GT_OQ))) << 8;
}
inline uint32_t equal(Lanes x, Lanes y) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(x.a, y.a, _CMP_EQ_OQ))) |
           static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(x.b, y.b, _CMP_EQ_OQ))) << 8;
}
inline __m256 times_power(__m256 value, __m256 shifted) {
    const __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(127 - 0x4b400000)), 23);
    return _mm256_mul_ps(value, _mm256_castsi256_ps(bits));
}
inline Lanes times_power(Lanes value, Lanes shifted) { return {times_power(value.a, shifted.a), times_power(value.b, shifted.b)}; }

struct SeenNan {
    __m256 seen = _mm256_setzero_ps();
    void look(Lanes x, Lanes y) {
        seen = _mm256_or_ps(seen, _mm256_or_ps(_mm256_cmp_ps(x.a, x.b, _CMP_UNORD_Q), _mm256_cmp_ps(y.a, y.b, _CMP_UNORD_Q)));
    }
    bool any() const { return _mm256_movemask_ps(seen) != 0; }
};

}  // namespace
}  // namespace pith
//
#    include "sample/impl/scan.h"

namespace pith {

const ScanTable kAvx2Scan = PITH_SCAN_TABLE;

}  // namespace pith
#endif
