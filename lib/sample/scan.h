// Passes over a row of logits: one table of functions an instruction set, with the same bits from each.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace pith {

struct Candidate {
    float logit;
    int32_t token;
};

inline constexpr size_t kScanBlock = 512;  // logits to a block sum, and to a group of maxima
inline constexpr size_t kScanLanes = 16;   // maxima of a group: of the logits 16 apart

inline constexpr size_t kScanFolded = 512;  // maxima that fold() leaves

constexpr size_t scan_blocks(size_t n) { return (n + kScanBlock - 1) / kScanBlock; }
constexpr size_t scan_maxima(size_t n) { return scan_blocks(n) * kScanLanes; }

struct Largest {
    float value;  // -inf: every logit is (n 0 included)
    bool nan;     // some logit is NaN, and the rest is meaningless
};

// What a logit weighs in the draw relative to the largest, e^((logit - largest) * scale): 0 for -inf.
struct Weigher {
    float largest;
    float scale;  // positive, and far enough from 0 and infinity that neither a difference of 0 nor one of -inf gives NaN
};

struct Moments {  // of what is not -inf
    double count, sum, squares;
};

enum class ScanTier : uint32_t { Plain, Avx2, Avx512 };

struct ScanTable {
    // maxima: scan_maxima(n). maxima[group * 16 + lane] is the largest of x[group * 512 + i * 16 + lane]; -inf beyond the end.
    Largest (*summarise)(const float* x, size_t n, float* maxima);
    // folded[i], of kScanFolded, is the largest of maxima i, i + kScanFolded, ...; count is a multiple of kScanLanes, and not less.
    void (*fold)(const float* maxima, size_t count, float* folded);
    // How many maxima lie above the bound.
    size_t (*count_above)(const float* maxima, size_t count, float bound);
    // Appends every x[i] > bound, by ascending i, to the `size` candidates that are in the list, from *group on; stops where less than a
    // group's worth of `capacity` is left, with *group the first that was not looked at. Returns the new size.
    size_t (*list_above)(const float* x, size_t n, const float* maxima, float bound, Candidate* list, size_t size, size_t capacity,
                         size_t* group);
    size_t (*find)(const float* x, size_t n, const float* maxima, float value);  // the first that equals it; n if none does
    // Sum of the weights; `blocks`, of scan_blocks(n), receives each block's.
    double (*sum_weights)(const float* x, size_t n, Weigher weigh, double* blocks);
    // Sum of weight * ln(weight).
    double (*sum_entropy)(const float* x, size_t n, Weigher weigh);
    Moments (*moments)(const float* x, size_t n, float shift);  // of x - shift
};

extern const ScanTable kPlainScan;
#if defined(__x86_64__) || defined(_M_X64)
#    define PITH_SCAN_X86 1
extern const ScanTable kAvx2Scan;
extern const ScanTable kAvx512Scan;
#endif

inline const ScanTable& scan_table(ScanTier tier) {
#ifdef PITH_SCAN_X86
    if (tier == ScanTier::Avx512) return kAvx512Scan;
    if (tier == ScanTier::Avx2) return kAvx2Scan;
#endif
    (void)tier;
    return kPlainScan;
}

}  // namespace pith
