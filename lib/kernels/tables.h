// The tiers' tables, and what a CPU must say of itself to get one.
#pragma once
#include "kernels/kernels.h"

namespace pith::kernels {

extern const Table kScalarTable;
#if defined(__x86_64__) || defined(_M_X64)
#    define PITH_KERNELS_X86 1
extern const Table kAvx2Table;
extern const Table kAvx512Table;
#endif
#ifdef __aarch64__
#    define PITH_KERNELS_ARM64 1
extern const Table kNeonTable;
extern const Table kNeonDotprodTable;
extern const Table kNeonI8mmTable;
#endif

struct CpuBits {
    uint32_t leaf1_ecx, leaf7_ebx, leaf7_ecx;
    uint64_t xcr0;  // register states that the OS saves; 0 without OSXSAVE
};
Tier tier_of(const CpuBits& bits);
Tier tier_of_arm64(uint64_t hwcap, uint64_t hwcap2);  // AT_HWCAP and AT_HWCAP2 as Linux gives them

}  // namespace pith::kernels
