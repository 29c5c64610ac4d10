// A trace: what happened when, in memory of the caller's, written by any number of threads without waiting for each other.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <atomic>

namespace pith {

enum class Event : uint32_t {
    None,
    Open,
    Load,
    Create,
    Prefill,
    Decode,
    Sample,
    SampleBatch,
    Logits,
    Region,
    Inline,
    Help,
    GpuCompute,
    GpuToDevice,
    GpuToHost,
    Count
};

struct Record {
    uint64_t begin, end;  // monotonic_ns()
    uint64_t value;       // tokens of a call, bytes of a region
    Event event;
    uint32_t track;    // 0: the calling thread; i + 1: slot i of a region; from kGpuTrack on: an engine
    uint32_t session;  // Account::number
};
inline constexpr uint32_t kGpuTrack = 1000;

// At the beginning of the caller's memory. What does not fit is counted and left out.
struct Trace {
    struct Place {
        std::atomic<uint32_t> event;  // Event; None until the rest is there
        uint32_t track, session, reserved;
        uint64_t begin, end, value;
    };

    uint64_t origin, capacity;
    std::atomic<uint64_t> next;

    Place* places() { return reinterpret_cast<Place*>(this + 1); }
    void add(const Record& record) {
        const uint64_t at = next.fetch_add(1, std::memory_order_relaxed);
        if (at >= capacity) return;
        Place& place = places()[at];
        place.track = record.track;
        place.session = record.session;
        place.begin = record.begin;
        place.end = record.end;
        place.value = record.value;
        place.event.store(static_cast<uint32_t>(record.event), std::memory_order_release);
    }
};

inline constexpr size_t kLeastTrace = sizeof(Trace) + sizeof(Trace::Place) + alignof(Trace);

Trace* make_trace(void* memory, size_t size);  // size at least kLeastTrace
// Chrome's trace format. Returns the bytes it takes, and writes as many of them as fit.
size_t write_trace(Trace& trace, char* text, size_t capacity);

}  // namespace pith
