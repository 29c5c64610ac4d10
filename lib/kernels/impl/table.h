// The functions of a tier, once its vec.h is there.
#pragma once
#include "kernels/impl/attention.h"
#include "kernels/impl/elementwise.h"
#include "kernels/impl/matmul.h"
#include "kernels/tables.h"

#define PITH_KERNELS_TABLE(tier, name) \
    { tier, name, wide_lanes<Tune>(), matmul, quantise, rms_norm, silu_mul, add_to, rope, tile_row, to_float, kv_store, attention, attention_span, \
      attention_join }
