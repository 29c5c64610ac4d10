// Named lists of steps.
#pragma once
#include <pith/sampler.h>

#include <span>

namespace pith {

std::span<const pith_sampler_step> preset(uint32_t name);  // PITH_PRESET_*; empty: unknown

}  // namespace pith
