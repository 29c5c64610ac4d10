// The tier of CPUs with AVX-512 F, BW, VL, DQ and VNNI.
#include "kernels/tables.h"
#ifdef PITH_KERNELS_X86
#    include "kernels/avx512/vec.h"
//
#    include "kernels/impl/table.h"

namespace pith::kernels {

const Table kAvx512Table = PITH_KERNELS_TABLE(Tier::Avx512, "avx512");

}  // namespace pith::kernels
#endif
