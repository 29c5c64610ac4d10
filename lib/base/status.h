// Failing: every fallible function returns a pith_status and takes a pith_error* last (NULL allowed).
#pragma once
#include <pith/base.h>

#if defined(__GNUC__) || defined(__clang__)
#  define PITH_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#  define PITH_PRINTF(text, first)
#endif

// Returns from the calling function if `call` failed; the callee has written the message.
#define PITH_TRY(call)                                  \
    do {                                                \
        const pith_status pith_try_status = (call);     \
        if (pith_try_status < 0) return pith_try_status; \
    } while (0)

namespace pith {

// Writes status and message (cut at a whole UTF-8 code point; control bytes become '?') and returns the status.
PITH_PRINTF(3, 4) pith_status fail(pith_error* error, pith_status status, const char* format, ...);
// The same with the errno (GetLastError, CUresult) behind it.
PITH_PRINTF(4, 5) pith_status fail_system(pith_error* error, pith_status status, int32_t system, const char* format, ...);
// PITH_E_MEMORY, naming what was being allocated.
pith_status fail_memory(pith_error* error, const char* what, uint64_t bytes);

}  // namespace pith
