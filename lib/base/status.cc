// Formats error messages into the caller's 512 bytes.
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

namespace pith {
namespace {

// Messages quote names from hostile files: keep them printable and whole UTF-8.
void make_presentable(char* text, size_t capacity) {
    size_t length = strnlen(text, capacity - 1);
    text[length] = 0;
    for (size_t i = 0; i < length; i++)
        if (static_cast<unsigned char>(text[i]) < 0x20 || text[i] == 0x7f) text[i] = '?';
    size_t i = 0;
    while (i < length) {
        const unsigned char c = static_cast<unsigned char>(text[i]);
        const size_t need = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
        bool good = need != 0 && i + need <= length;
        for (size_t j = 1; good && j < need; j++) good = (static_cast<unsigned char>(text[i + j]) & 0xc0) == 0x80;
        // Overlong forms, surrogates and values past U+10FFFF show in the second byte.
        if (good && need > 2) {
            const unsigned char d = static_cast<unsigned char>(text[i + 1]);
            good = !(c == 0xe0 && d < 0xa0) && !(c == 0xed && d >= 0xa0) && !(c == 0xf0 && d < 0x90) && !(c == 0xf4 && d >= 0x90);
        }
        if (good) {
            i += need;
        } else {
            text[i++] = '?';
        }
    }
}

void write(pith_error* error, pith_status status, int32_t system, const char* format, va_list args) {
    error->status = status;
    error->system = system;
    vsnprintf(error->message, sizeof error->message, format, args);
    make_presentable(error->message, sizeof error->message);
}

}  // namespace

pith_status fail(pith_error* error, pith_status status, const char* format, ...) {
    if (!error) return status;
    va_list args;
    va_start(args, format);
    write(error, status, 0, format, args);
    va_end(args);
    return status;
}

pith_status fail_system(pith_error* error, pith_status status, int32_t system, const char* format, ...) {
    if (!error) return status;
    va_list args;
    va_start(args, format);
    write(error, status, system, format, args);
    va_end(args);
    return status;
}

pith_status fail_memory(pith_error* error, const char* what, uint64_t bytes) {
    return fail(error, PITH_E_MEMORY, "out of memory: %s needs %llu bytes", what, static_cast<unsigned long long>(bytes));
}

}  // namespace pith
