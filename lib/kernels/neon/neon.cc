// The tier of every 64-bit Arm.
#include "kernels/tables.h"
#ifdef PITH_KERNELS_ARM64
#    include "kernels/neon/dots_widening.h"
//
#    include "kernels/impl/table.h"

namespace pith::kernels {

const Table kNeonTable = PITH_KERNELS_TABLE(Tier::Neon, "neon");

}  // namespace pith::kernels
#endif
