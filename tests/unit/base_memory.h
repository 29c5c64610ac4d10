// A counting allocator for tests: it can fail the k-th allocation, checks sizes on free, and knows what is still held.
#pragma once
#include <pith/env.h>
#include <stdlib.h>

#include <map>

struct TestMemory {
    long fail_at = -1;  // this allocation (counted from 0) fails
    long allocations = 0;
    size_t held = 0, peak = 0;
    bool sizes_match = true;
    std::map<void*, size_t> live;
    pith_allocator allocator{sizeof(pith_allocator), this, alloc, free};

    TestMemory() = default;
    TestMemory(const TestMemory&) = delete;  // `allocator` points here

    static void* alloc(void* user, size_t size, size_t alignment) {
        TestMemory& self = *static_cast<TestMemory*>(user);
        if (self.allocations++ == self.fail_at) return nullptr;
        void* memory = aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
        if (!memory) return nullptr;
        self.live[memory] = size;
        self.held += size;
        if (self.held > self.peak) self.peak = self.held;
        return memory;
    }
    static void free(void* user, void* memory, size_t size, size_t) {
        TestMemory& self = *static_cast<TestMemory*>(user);
        const auto found = self.live.find(memory);
        if (found == self.live.end() || found->second != size) self.sizes_match = false;
        if (found != self.live.end()) self.live.erase(found);
        self.held -= size;
        ::free(memory);
    }
};
