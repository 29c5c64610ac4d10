// The object behind pith_sampler.
#pragma once
#include "api/env.h"
#include "sample/sampler.h"

struct pith_sampler {
    explicit pith_sampler(pith_env* owner) : env(pith::retain(owner)), sampler(owner->allocator) {}

    pith_env* env;
    pith::Sampler sampler;
    pith::Typical draw;  // what one costs
};
