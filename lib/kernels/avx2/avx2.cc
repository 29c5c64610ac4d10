// The tier of CPUs with AVX2, FMA and F16C.
#include "kernels/tables.h"
#ifdef PITH_KERNELS_X86
#    include "kernels/avx2/vec.h"
//
#    include "kernels/impl/table.h"

namespace pith::kernels {

const Table kAvx2Table = PITH_KERNELS_TABLE(Tier::Avx2, "avx2");

}  // namespace pith::kernels
#endif
