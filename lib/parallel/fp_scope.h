// The floating-point mode our results are defined in (round to nearest, no flush to zero, all exceptions masked), for one scope:
// a host may have set another one, and gets it back.
#pragma once
#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64)
#  include <xmmintrin.h>
#endif

namespace pith {

class FpScope {
public:
#if defined(__x86_64__) || defined(_M_X64)
    FpScope() : saved_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
    ~FpScope() { _mm_setcsr(saved_); }

private:
    uint32_t saved_;
#elif defined(__aarch64__)
    FpScope() {
        __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
        const uint64_t plain = 0;
        __asm__ volatile("msr fpcr, %0" : : "r"(plain));
    }
    ~FpScope() { __asm__ volatile("msr fpcr, %0" : : "r"(saved_)); }

private:
    uint64_t saved_;
#else
    FpScope() {}
    ~FpScope() {}

private:
#endif
public:
    FpScope(const FpScope&) = delete;
    FpScope& operator=(const FpScope&) = delete;
};

}  // namespace pith
