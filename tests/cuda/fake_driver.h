// A driver without a GPU: what a test sets and sees.
#pragma once
#include <cstdint>

struct FakeCuda {
    int devices = 2;
    int fail_allocation = 0;  // the n-th from now on finds no memory; 0: none
    int fail_launch = 0;      // the n-th from now on is a fault that loses the context
    bool lost = false;
    uint64_t device_bytes = 0, host_bytes = 0, most_device_bytes = 0;
    int allocations = 0;  // made so far, device and pinned
    int objects = 0;      // contexts held, libraries, streams, events, allocations alive
    int mistakes = 0;     // memory that is not ours, no context, unknown handles
};
extern "C" FakeCuda* fake_cuda();
