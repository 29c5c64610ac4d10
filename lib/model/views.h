// Finding tensors by name and checking what they are: shared by dense and quantised layers.
#pragma once
#include "model/weights.h"

namespace pith {

// Words of the buffer that small tensors are read through while a model is opened.
inline constexpr size_t kChunkWords = 16384;

// The tensor `module`.`suffix`, zeroed if there is none. A rank above 2 leaves only two sizes in shape, but its own rank.
TensorView find_view(const ModelFile& model, const char* module, const char* suffix);

// Rank 1 ([rows]) if cols is 0. PITH_E_FORMAT names both shapes.
pith_status expect_shape(const ModelFile& model, const TensorView& view, uint64_t rows, uint64_t cols, pith_error* error);
pith_status expect_int32(const TensorView& view, pith_error* error);
pith_status expect_float(const ModelFile& model, const TensorView& view, pith_error* error);  // PITH_E_UNSUPPORTED

// Fills in a GPTQ layer whose name, rows, cols and qweight are set. `peers` read the same input; `chunk` has kChunkWords words.
pith_status open_gptq(ModelFile& model, std::span<uint32_t> chunk, std::span<const Linear* const> peers, Linear* linear, pith_error* error);

}  // namespace pith
