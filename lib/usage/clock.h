// The two clocks of the account, and which thread is running: all that is asked of the system to know what was used.
#pragma once
#include <errno.h>
#include <stdint.h>

#if defined(_WIN32)
#    define WIN32_LEAN_AND_MEAN
#    include <windows.h>
#else
#    include <time.h>
#endif

#if defined(_MSC_VER)
#    define PITH_NOINLINE __declspec(noinline)
#else
#    define PITH_NOINLINE __attribute__((noinline))
#endif

namespace pith {

#if defined(PITH_UNCOUNTED)  // tests/bench/usage_bench: the library without its account, to know what that costs
inline constexpr bool kCounted = false;
inline uint64_t monotonic_ns() { return 0; }
inline uint64_t thread_cpu_ns() { return 0; }
#elif defined(_WIN32)
inline constexpr bool kCounted = true;
inline uint64_t monotonic_ns() {
    LARGE_INTEGER now, frequency;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&frequency);
    const uint64_t n = static_cast<uint64_t>(now.QuadPart), f = static_cast<uint64_t>(frequency.QuadPart);
    return n / f * 1000000000u + n % f * 1000000000u / f;
}
inline uint64_t thread_cpu_ns() {
    FILETIME made, gone, kernel, user;
    if (!GetThreadTimes(GetCurrentThread(), &made, &gone, &kernel, &user)) return 0;
    const auto ns = [](FILETIME t) { return ((uint64_t{t.dwHighDateTime} << 32) | t.dwLowDateTime) * 100; };
    return ns(kernel) + ns(user);
}
#else
inline constexpr bool kCounted = true;
inline uint64_t read_clock(clockid_t clock) {
    timespec t{};
    clock_gettime(clock, &t);
    return static_cast<uint64_t>(t.tv_sec) * 1000000000u + static_cast<uint64_t>(t.tv_nsec);
}
inline uint64_t monotonic_ns() { return read_clock(CLOCK_MONOTONIC); }           // some 25 ns: no system call
inline uint64_t thread_cpu_ns() { return read_clock(CLOCK_THREAD_CPUTIME_ID); }  // a system call: 0.2 to 0.7 us
#endif

// Tells threads that live at the same time apart, by where each has its errno. Not inlined: a fiber that moved asks again.
PITH_NOINLINE inline const void* this_thread() { return &errno; }

}  // namespace pith
