// Argument checks and the length of a sequence.
#include "session/session.h"

#include "base/status.h"
#include "parallel/crew.h"

namespace pith {
namespace {

constexpr uint32_t kMostPositions = 1u << 30;  // positions stay exact in every kernel's arithmetic

pith_status complete_kv(const char* name, uint32_t given, bool exact, uint32_t* type, pith_error* error) {
    *type = given;
    if (given == PITH_KV_DEFAULT) *type = exact ? uint32_t{PITH_KV_F32} : uint32_t{PITH_KV_F16};
    if (*type == PITH_KV_F16 || *type == PITH_KV_F32) return PITH_OK;
    if (*type == PITH_KV_Q8 || *type == PITH_KV_Q4)
        return fail(error, PITH_E_UNSUPPORTED, "options.%s is %u: this release keeps keys and values as F16 or F32", name, given);
    return fail(error, PITH_E_ARGUMENT, "options.%s is %u, which is no PITH_KV_*", name, given);
}

}  // namespace

pith_status complete_shape(const pith_session_options& options, const Backend& backend, uint32_t context, SessionShape* shape, pith_error* error) {
    if (options.flags & ~uint32_t{PITH_SESSION_EXACT | PITH_SESSION_RUN_AHEAD})
        return fail(error, PITH_E_UNSUPPORTED, "options.flags is 0x%x: a flag is not known", options.flags);
    if (options.wait > PITH_WAIT_SPIN) return fail(error, PITH_E_ARGUMENT, "options.wait is %u, which is no PITH_WAIT_*", options.wait);
    if (options.reserved) return fail(error, PITH_E_ARGUMENT, "options.reserved is %u, not 0", options.reserved);
    const bool exact = options.flags & PITH_SESSION_EXACT;
    PITH_TRY(complete_kv("k_type", options.k_type, exact, &shape->k_type, error));
    PITH_TRY(complete_kv("v_type", options.v_type, exact, &shape->v_type, error));
    shape->flags = options.flags;
    shape->wait = options.wait;
    shape->context_length = options.context_length ? options.context_length : context;
    if (shape->context_length > kMostPositions)
        return fail(error, PITH_E_ARGUMENT, "options.context_length is %u, the most is %u", shape->context_length, kMostPositions);
    shape->batch_length = options.batch_length ? options.batch_length : backend.default_batch;
    if (shape->batch_length > shape->context_length) shape->batch_length = shape->context_length;
    shape->logit_rows = options.logit_rows ? options.logit_rows : 1;
    if (shape->logit_rows > shape->context_length)
        return fail(error, PITH_E_ARGUMENT, "options.logit_rows is %u, more than the context of %u positions", shape->logit_rows,
                    shape->context_length);
    return PITH_OK;
}

pith_status Session::forward(const pith_token* tokens, size_t count, uint32_t keep, pith_error* error) {
    if (count == 0) return fail(error, PITH_E_ARGUMENT, "count is 0: forward needs at least one token");
    if (!tokens) return fail(error, PITH_E_ARGUMENT, "tokens is NULL");
    if (keep > shape.logit_rows)
        return fail(error, PITH_E_ARGUMENT, "rows is %u, the session was made for %u (options.logit_rows)", keep, shape.logit_rows);
    if (keep > count) return fail(error, PITH_E_ARGUMENT, "rows is %u, more than the %llu tokens", keep, static_cast<unsigned long long>(count));
    if (count > shape.context_length - length)
        return fail(error, PITH_E_CONTEXT, "the context is full: %llu tokens on top of %u, of %u positions", static_cast<unsigned long long>(count),
                    length, shape.context_length);
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || static_cast<uint32_t>(tokens[i]) >= vocab)
            return fail(error, PITH_E_ARGUMENT, "tokens[%llu] is %d, the vocabulary has %u", static_cast<unsigned long long>(i), tokens[i], vocab);
    if (cancel.load(std::memory_order_relaxed)) return fail(error, PITH_E_CANCELLED, "the session is cancelled");
    const bool one = count == 1;
    // A GPU takes a token in microseconds; the CPU does not.
    const bool here = backend == &kCpuBackend;
    Call call(account, one ? Used::Decode : Used::Prefill, one ? Event::Decode : Event::Prefill, one && !here ? &step : nullptr,
              one && here ? &token : nullptr);
    call.set_value(count);
    const pith_status status = backend->session_forward(compute, length, tokens, static_cast<uint32_t>(count), keep, error);
    if (status == PITH_E_RUNNER) rows = 0;  // found when the work was done: the logits may be overwritten
    if (status < 0) return status;
    length += static_cast<uint32_t>(count);
    rows = keep;
    account.add(one ? Used::TokensDecoded : Used::TokensPrefilled, count);
    return PITH_OK;
}

pith_status Session::truncate(size_t to, pith_error* error) {
    if (to > length)
        return fail(error, PITH_E_ARGUMENT, "length is %llu, the session holds %u tokens", static_cast<unsigned long long>(to), length);
    length = static_cast<uint32_t>(to);
    return PITH_OK;
}

pith_status Session::check_row(uint32_t index, pith_error* error) const {
    if (rows == 0) return fail(error, PITH_E_STATE, "there are no logits yet: no forward has asked for rows");
    if (index >= rows) return fail(error, PITH_E_ARGUMENT, "row is %u, the last forward kept %u", index, rows);
    return PITH_OK;
}

pith_status Session::row(uint32_t index, const float** logits, pith_error* error) const {
    PITH_TRY(check_row(index, error));
    const float* all = nullptr;
    PITH_TRY(backend->session_logits(compute, &all, error));
    *logits = all + uint64_t{index} * vocab;
    return PITH_OK;
}

}  // namespace pith
