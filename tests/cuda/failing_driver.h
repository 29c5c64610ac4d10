// The driver with a fault on request: what a test sets and sees.
#pragma once
#include <cstdint>

struct FailingCuda {
    int fail = 0;               // the n-th allocation from now on, device or pinned, finds no memory; 0: none
    int allocations = 0;        // asked for so far
    uint64_t device_bytes = 0;  // alive
};
extern "C" FailingCuda* failing_cuda();
