// cpuid's brand string and the operating system's memory figures.
#include "base/machine.h"

#include <string.h>

#if defined(_WIN32)
#  define WIN32_LEAN_AND_MEAN
#  include <windows.h>
#else
#  include <unistd.h>
#endif
#if defined(_MSC_VER) && defined(_M_X64)
#  include <intrin.h>
#elif defined(__x86_64__)
#  include <cpuid.h>
#endif

namespace pith {

void cpu_name(char* name, size_t capacity) {
    char brand[49] = {};
#if defined(_MSC_VER) && defined(_M_X64)
    int r[4];
    __cpuid(r, static_cast<int>(0x80000000u));
    if (static_cast<unsigned>(r[0]) >= 0x80000004u)
        for (int i = 0; i < 3; i++) {
            __cpuid(r, static_cast<int>(0x80000002u) + i);
            memcpy(brand + 16 * i, r, 16);
        }
#elif defined(__x86_64__)
    unsigned r[4];
    for (unsigned i = 0; i < 3; i++)
        if (__get_cpuid(0x80000002u + i, &r[0], &r[1], &r[2], &r[3])) memcpy(brand + 16 * i, r, 16);
#endif
    const char* text = brand;
    while (*text == ' ') text++;
    if (!*text) text = "CPU";
    size_t size = strlen(text);
    while (size && text[size - 1] == ' ') size--;
    if (size > capacity - 1) size = capacity - 1;
    memcpy(name, text, size);
    name[size] = 0;
}

void system_memory(uint64_t* total, uint64_t* available) {
    *total = *available = 0;
#if defined(_WIN32)
    MEMORYSTATUSEX status;
    status.dwLength = sizeof status;
    if (GlobalMemoryStatusEx(&status)) {
        *total = status.ullTotalPhys;
        *available = status.ullAvailPhys;
    }
#elif defined(_SC_PHYS_PAGES)
    const long page = sysconf(_SC_PAGESIZE), pages = sysconf(_SC_PHYS_PAGES);
    if (page > 0 && pages > 0) *total = static_cast<uint64_t>(page) * static_cast<uint64_t>(pages);
#  if defined(_SC_AVPHYS_PAGES)
    const long free_pages = sysconf(_SC_AVPHYS_PAGES);
    if (page > 0 && free_pages > 0) *available = static_cast<uint64_t>(page) * static_cast<uint64_t>(free_pages);
#  endif
#endif
}

}  // namespace pith
