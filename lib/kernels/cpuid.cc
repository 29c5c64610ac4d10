// The choice of a tier: own cpuid and xgetbv, since the compilers' helpers bring static constructors; on Arm what Linux tells a process.
#include "kernels/tables.h"

#ifdef PITH_KERNELS_X86
#    ifdef _MSC_VER
#        include <immintrin.h>
#        include <intrin.h>
#    else
#        include <cpuid.h>
#    endif
#elif defined(PITH_KERNELS_ARM64) && defined(__linux__)
#    include <sys/auxv.h>
#endif

namespace pith::kernels {
namespace {

constexpr bool all(uint64_t bits, uint64_t wanted) { return (bits & wanted) == wanted; }
constexpr uint32_t bit(int n) { return uint32_t{1} << n; }

#ifdef PITH_KERNELS_X86
struct Leaf {
    uint32_t eax, ebx, ecx, edx;
};

Leaf cpuid(uint32_t leaf) {
    Leaf out{};
#    ifdef _MSC_VER
    int values[4];
    __cpuidex(values, static_cast<int>(leaf), 0);
    out = {static_cast<uint32_t>(values[0]), static_cast<uint32_t>(values[1]), static_cast<uint32_t>(values[2]),
           static_cast<uint32_t>(values[3])};
#    else
    __cpuid_count(leaf, 0, out.eax, out.ebx, out.ecx, out.edx);
#    endif
    return out;
}

uint64_t xgetbv() {
#    ifdef _MSC_VER
    return _xgetbv(0);
#    else
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return uint64_t{high} << 32 | low;
#    endif
}
#endif

}  // namespace

Tier tier_of(const CpuBits& bits) {
    constexpr uint32_t kFma = bit(12), kOsxsave = bit(27), kF16c = bit(29);
    constexpr uint32_t kAvx2 = bit(5), kAvx512F = bit(16), kAvx512Dq = bit(17), kAvx512Bw = bit(30), kAvx512Vl = bit(31);
    constexpr uint32_t kVnni = bit(11);
    constexpr uint64_t kYmmState = 0x6, kZmmState = 0xE6;
    if (!all(bits.leaf1_ecx, kFma | kOsxsave | kF16c) || !all(bits.leaf7_ebx, kAvx2) || !all(bits.xcr0, kYmmState)) return Tier::Scalar;
    const bool avx512 = all(bits.leaf7_ebx, kAvx512F | kAvx512Dq | kAvx512Bw | kAvx512Vl) && all(bits.leaf7_ecx, kVnni);
    return avx512 && all(bits.xcr0, kZmmState) ? Tier::Avx512 : Tier::Avx2;
}

// Where a system has cores of several kinds, its kernel names what all of them have.
Tier tier_of_arm64(uint64_t hwcap, uint64_t hwcap2) {
    constexpr uint32_t kAsimdDp = bit(20), kI8mm = bit(13);
    if (!all(hwcap, kAsimdDp)) return Tier::Neon;
    return all(hwcap2, kI8mm) ? Tier::NeonI8mm : Tier::NeonDotprod;
}

Tier best_tier() {
#ifdef PITH_KERNELS_X86
    if (cpuid(0).eax < 7) return Tier::Scalar;
    const Leaf leaf1 = cpuid(1), leaf7 = cpuid(7);
    constexpr uint32_t kOsxsave = bit(27);
    return tier_of({leaf1.ecx, leaf7.ebx, leaf7.ecx, leaf1.ecx & kOsxsave ? xgetbv() : 0});
#elif defined(PITH_KERNELS_ARM64) && defined(__linux__)
    return tier_of_arm64(getauxval(AT_HWCAP), getauxval(AT_HWCAP2));
#elif defined(PITH_KERNELS_ARM64)  // elsewhere: what the compiler may take for granted
#    if defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_MATMUL_INT8)
    return Tier::NeonI8mm;
#    elif defined(__ARM_FEATURE_DOTPROD)
    return Tier::NeonDotprod;
#    else
    return Tier::Neon;
#    endif
#else
    return Tier::Scalar;
#endif
}

const Table* table(Tier tier) {
    switch (tier) {
        case Tier::Scalar:
            return &kScalarTable;
#ifdef PITH_KERNELS_X86
        case Tier::Avx2:
            return &kAvx2Table;
        case Tier::Avx512:
            return &kAvx512Table;
#endif
#ifdef PITH_KERNELS_ARM64
        case Tier::Neon:
            return &kNeonTable;
        case Tier::NeonDotprod:
            return &kNeonDotprodTable;
        case Tier::NeonI8mm:
            return &kNeonI8mmTable;
#endif
        default:
            return nullptr;
    }
}

}  // namespace pith::kernels
