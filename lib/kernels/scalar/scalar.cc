// The tier that every CPU runs.
#include "kernels/scalar/vec.h"
//
#include "kernels/impl/table.h"

namespace pith::kernels {

const Table kScalarTable = PITH_KERNELS_TABLE(Tier::Scalar, "scalar");

}  // namespace pith::kernels
