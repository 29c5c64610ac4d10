// One sequence on the CPU: its KV pages and the scratch of a forward pass, all in one block made at create.
#pragma once
#include "backend/cpu/cpu_model.h"

namespace pith::cpu {

inline constexpr uint32_t kPage = 256;   // positions of a KV page
inline constexpr uint32_t kMaxForms = 3;  // q, k and v may each want another

// An input prepared in one form, for up to batch_length tokens. Floats are found by the token's place in the batch, int8 by its place
// among those that still matter.
struct Prepared {
    float* x = nullptr;        // gathered floats
    int8_t* q = nullptr;       // int8 blocks with their scales and sums
    float* scale = nullptr;
    int32_t* sum = nullptr;
};

struct Session {
    Session(const Model* m, const SessionShape& s) : model(m), shape(s), crew(s.runner, s.account) {}

    const Model* model;
    SessionShape shape;
    Crew crew;
    uint64_t bytes = 0;        // of the block that this struct begins

    double* inverse_frequencies = nullptr;  // [head_dim / 2]
    double rope_scale = 1.0;

    // Scratch, rows of batch_length tokens.
    float* x = nullptr;         // [hidden] the residual stream
    float* normed = nullptr;    // [hidden] a norm's output, or a projection on its way into the residual
    float *q = nullptr, *k = nullptr, *v = nullptr, *attended = nullptr;
    float *gate = nullptr, *up = nullptr;
    float *cos = nullptr, *sin = nullptr;  // [head_dim / 2]
    Prepared prepared[kMaxForms];
    uint64_t x_stride = 0, q_stride = 0, block_stride = 0;  // of Prepared
    uint8_t* attention_scratch = nullptr;  // one a slot
    uint64_t attention_scratch_bytes = 0;
    float* attention_parts = nullptr;      // [kv_heads][spans] of one token's attention; NULL: never cut by spans
    float* last = nullptr;      // [logit_rows][hidden] after the final norm
    float* logits = nullptr;    // [logit_rows][vocab]

    void **k_pages = nullptr, **v_pages = nullptr;  // [layers][pages]
    uint32_t pages = 0;
};

// Distinct forms that `linears` want their shared input in; index[i] is linear i's.
struct Forms {
    InputForm form[kMaxForms];
    uint32_t index[kMaxForms];
    uint32_t count = 0;
};
Forms collect_forms(const Linear* const* linears, uint32_t count, bool exact);

}  // namespace pith::cpu
