// The passes for CPUs with AVX-512 F, BW, VL and DQ.
#include "sample/scan.h"
#ifdef PITH_SCAN_X86
#    if defined(__GNUC__) && !defined(__clang__)
#        pragma GCC diagnostic push  // GCC 12's own header leaves operands undefined on purpose, and warns of it
#        pragma GCC diagnostic ignored "-Wuninitialized"
#        pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#    endif
#    include <immintrin.h>
#    include <math.h>
#    if defined(__GNUC__) && !defined(__clang__)
#        pragma GCC diagnostic pop
#    endif

namespace pith {
namespace {

struct Lanes {
    __m512 v;
    static Lanes load(const float* from) { return {_mm512_loadu_ps(from)}; }
    static Lanes load_some(const float* from, size_t n) {
        return {_mm512_mask_loadu_ps(_mm512_set1_ps(-HUGE_VALF), static_cast<__mmask16>((1u << n) - 1), from)};
    }
    static Lanes all(float value) { return {_mm512_set1_ps(value)}; }
    void store(float* to) const { _mm512_storeu_ps(to, v); }
    float total() const {  // in the order of the four parts
        const __m128 low = _mm_add_ps(_mm512_castps512_ps128(v), _mm512_extractf32x4_ps(v, 1));
        const __m128 high = _mm_add_ps(_mm512_extractf32x4_ps(v, 2), _mm512_extractf32x4_ps(v, 3));
        float lanes[4];
        _mm_storeu_ps(lanes, _mm_add_ps(low, high));
        return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
    }
};
inline Lanes operator+(Lanes a, Lanes b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Lanes operator-(Lanes a, Lanes b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Lanes operator*(Lanes a, Lanes b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Lanes larger(Lanes a, Lanes b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Lanes where_above(Lanes a, Lanes b, Lanes value) { return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ), value.v)}; }
inline uint32_t above(Lanes a, Lanes b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ); }
inline uint32_t equal(Lanes a, Lanes b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ); }
inline Lanes times_power(Lanes value, Lanes shifted) {
    const __m512i bits = _mm512_slli_epi32(_mm512_add_epi32(_mm512_castps_si512(shifted.v), _mm512_set1_epi32(127 - 0x4b400000)), 23);
    return {_mm512_mul_ps(value.v, _mm512_castsi512_ps(bits))};
}

struct SeenNan {
    __mmask16 seen = 0;
    void look(Lanes a, Lanes b) { seen = static_cast<__mmask16>(seen | _mm512_cmp_ps_mask(a.v, b.v, _CMP_UNORD_Q)); }
    bool any() const { return seen != 0; }
};

}  // namespace
}  // namespace pith
//
#    include "sample/impl/scan.h"

namespace pith {

const ScanTable kAvx512Scan = PITH_SCAN_TABLE;

}  // namespace pith
#endif
