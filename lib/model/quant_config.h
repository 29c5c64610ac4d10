// What a folder says about its quantisation.
#pragma once
#include "model/config.h"
#include "model/fields.h"

namespace pith {

// quantize_config.json, else quant_config.json, else config.json's quantization_config. `config` is config.json.
pith_status read_quant_config(const Files& files, Arena& scratch, const char* path, const Fields& config, QuantConfig* quant);

}  // namespace pith
