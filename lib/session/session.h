// A sequence above the backends: what the caller may do with it, checked once for all of them.
#pragma once
#include <pith/session.h>

#include <atomic>

#include "backend/backend.h"

namespace pith {

// Fills in every default and refuses what no backend does; `context` is the model's context length.
pith_status complete_shape(const pith_session_options& options, const Backend& backend, uint32_t context, SessionShape* shape, pith_error* error);

struct Session {
    const Backend* backend = nullptr;
    void* compute = nullptr;       // the backend's part
    SessionShape shape{};
    uint32_t vocab = 0;
    uint32_t length = 0;           // tokens in the cache
    uint32_t rows = 0;             // rows of logits of the last forward
    std::atomic<int32_t> cancel{0};
    Account account;               // what this sequence used
    Typical step, draw, fetch;     // what a token elsewhere costs the caller, a draw, a look at the logits
    Steady token;                  // what a token here costs it

    // All tokens or none; on failure everything is as it was.
    pith_status forward(const pith_token* tokens, size_t count, uint32_t keep, pith_error* error);
    pith_status truncate(size_t to, pith_error* error);
    // Whether the last forward kept that row.
    pith_status check_row(uint32_t index, pith_error* error) const;
    pith_status row(uint32_t index, const float** logits, pith_error* error) const;
};

}  // namespace pith
