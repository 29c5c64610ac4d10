// placeholder until this tier is written
#include "kernels/scalar/vec.h"
#include "kernels/tables.h"
//
#include "kernels/impl/table.h"
#ifdef PITH_KERNELS_X86
namespace pith::kernels {
const Table kAvx2Table = PITH_KERNELS_TABLE(Tier::Avx2, "avx2");
}
#endif
