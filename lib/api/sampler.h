// The object behind pith_sampler.
#pragma once
#include "api/env.h"
#include "sample/sampler.h"

namespace pith {

inline ScanTier scan_tier(kernels::Tier tier) {
    return tier == kernels::Tier::Avx512 ? ScanTier::Avx512 : tier == kernels::Tier::Avx2 ? ScanTier::Avx2 : ScanTier::Plain;
}

}  // namespace pith

struct pith_sampler {
    explicit pith_sampler(pith_env* owner)
        : env(pith::retain(owner)), sampler(owner->allocator, pith::scan_tier(owner->tier)), crew(pith_runner{}, &owner->account) {}

    pith_env* env;
    pith::Sampler sampler;
    pith::Typical draw;        // what one costs
    pith::Crew crew;           // for batches that begin with this sampler; lives here so that a late call finds a closed ticket
    pith_status drawn = 0;     // in a batch
    bool in_batch = false;
};
