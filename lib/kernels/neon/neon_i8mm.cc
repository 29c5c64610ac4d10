// The tier of Arm CPUs with the dot product and the 8-bit matrix instructions (FEAT_DotProd, FEAT_I8MM).
#include "kernels/tables.h"
#ifdef PITH_KERNELS_ARM64
#    include "kernels/neon/dots_smmla.h"
//
#    include "kernels/impl/table.h"

namespace pith::kernels {

const Table kNeonI8mmTable = PITH_KERNELS_TABLE(Tier::NeonI8mm, "neon_i8mm");

}  // namespace pith::kernels
#endif
