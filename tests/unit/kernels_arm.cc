// The choice of a tier on Arm, from what Linux says of the CPU.
#include "kernels/tables.h"
#include "kernels_common.h"

using namespace kernel_test;

TEST_CASE("a tier of Arm is chosen only with everything that it uses", "[kernels]") {
    constexpr uint64_t kDotprod = 1u << 20, kI8mm = 1u << 13, kAll = ~uint64_t{0};
    CHECK(tier_of_arm64(0, 0) == Tier::Neon);
    CHECK(tier_of_arm64(kDotprod, 0) == Tier::NeonDotprod);
    CHECK(tier_of_arm64(kDotprod, kI8mm) == Tier::NeonI8mm);
    CHECK(tier_of_arm64(kAll & ~kDotprod, kAll) == Tier::Neon);  // one token takes sdot on the highest tier too
    CHECK(tier_of_arm64(kAll, kAll & ~kI8mm) == Tier::NeonDotprod);
}
