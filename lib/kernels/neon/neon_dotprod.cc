// The tier of Arm CPUs with the dot product instructions (FEAT_DotProd).
#include "kernels/tables.h"
#ifdef PITH_KERNELS_ARM64
#    include "kernels/neon/dots_sdot.h"
//
#    include "kernels/impl/table.h"

namespace pith::kernels {

const Table kNeonDotprodTable = PITH_KERNELS_TABLE(Tier::NeonDotprod, "neon_dotprod");

}  // namespace pith::kernels
#endif
