// Traces as JSON, in the form that Perfetto and chrome://tracing read: a process a session, a thread a track.
#include "usage/trace.h"

#include <string.h>

#include <new>

#include "usage/clock.h"

namespace pith {
namespace {

// Counts everything, writes what fits.
class Writer {
public:
    Writer(char* text, size_t capacity) : text_(text), capacity_(capacity) {}
    Writer& operator<<(const char* s) {
        for (; *s; s++) put(*s);
        return *this;
    }
    Writer& operator<<(uint64_t n) {
        char digits[20];
        size_t count = 0;
        do digits[count++] = static_cast<char>('0' + n % 10);
        while (n /= 10);
        while (count) put(digits[--count]);
        return *this;
    }
    // Nanoseconds as microseconds with three places.
    Writer& microseconds(uint64_t ns) {
        *this << ns / 1000 << ".";
        for (uint64_t unit = 100; unit; unit /= 10) put(static_cast<char>('0' + ns / unit % 10));
        return *this;
    }
    size_t size() const { return size_; }

private:
    void put(char c) {
        if (size_ < capacity_) text_[size_] = c;
        size_++;
    }
    char* text_;
    size_t capacity_, size_ = 0;
};

struct Kind {
    const char *name, *value;  // what Record::value counts
};
constexpr Kind kKinds[] = {{"", ""},
                           {"open", "bytes"},
                           {"load", "bytes"},
                           {"create", "bytes"},
                           {"prefill", "tokens"},
                           {"decode", "tokens"},
                           {"sample", "tokens"},
                           {"sample batch", "tokens"},
                           {"logits", "rows"},
                           {"region", "bytes"},
                           {"inline", "bytes"},
                           {"help", "chunks"},
                           {"GPU compute", "submissions"},
                           {"copy to GPU", "bytes"},
                           {"copy to host", "bytes"}};
static_assert(sizeof kKinds / sizeof *kKinds == static_cast<size_t>(Event::Count));

void name_track(Writer& to, const char* what, uint32_t session, uint32_t track, const char* name, uint64_t number, bool numbered) {
    to << ",\n{\"ph\":\"M\",\"name\":\"" << what << "\",\"pid\":" << session << ",\"tid\":" << track << ",\"args\":{\"name\":\"" << name;
    if (numbered) to << " " << number;
    to << "\"}}";
}

// Names for what occurs: sessions and tracks are small numbers, so that a quadratic look is short and needs no memory.
void name_tracks(Writer& to, Trace& trace, uint64_t count) {
    constexpr uint32_t kNamed = 512;  // tracks and sessions named; more have their numbers
    struct {
        uint32_t session, track;
    } seen[kNamed];
    uint32_t known = 0;
    for (uint64_t i = 0; i < count && known < kNamed; i++) {
        const Trace::Place& p = trace.places()[i];
        if (!p.event.load(std::memory_order_acquire)) continue;
        uint32_t at = 0;
        bool session_known = false;
        while (at < known && !(seen[at].session == p.session && seen[at].track == p.track))
            session_known |= seen[at++].session == p.session;
        if (at < known) continue;
        seen[known++] = {p.session, p.track};
        if (!session_known) name_track(to, "process_name", p.session, 0, p.session ? "session" : "env", p.session, p.session != 0);
        constexpr const char* kEngines[] = {"GPU compute", "GPU copies in", "GPU copies out"};
        if (p.track >= kGpuTrack)
            name_track(to, "thread_name", p.session, p.track, kEngines[(p.track - kGpuTrack) % 3], 0, false);
        else
            name_track(to, "thread_name", p.session, p.track, p.track ? "slot" : "calls", uint64_t{p.track} - 1, p.track != 0);
    }
}

}  // namespace

Trace* make_trace(void* memory, size_t size) {
    const size_t skip = (alignof(Trace) - reinterpret_cast<uintptr_t>(memory) % alignof(Trace)) % alignof(Trace);
    Trace* trace = new (static_cast<char*>(memory) + skip) Trace;
    trace->origin = monotonic_ns();
    trace->capacity = (size - skip - sizeof(Trace)) / sizeof(Trace::Place);
    trace->next.store(0, std::memory_order_relaxed);
    for (uint64_t i = 0; i < trace->capacity; i++) new (trace->places() + i) Trace::Place{};
    return trace;
}

size_t write_trace(Trace& trace, char* text, size_t capacity) {
    Writer to(text, capacity);
    const uint64_t written = trace.next.load(std::memory_order_relaxed), count = written < trace.capacity ? written : trace.capacity;
    to << "{\"displayTimeUnit\":\"ns\",\"otherData\":{\"events\":" << count << ",\"dropped\":" << written - count << "},\"traceEvents\":[\n"
       << "{\"ph\":\"M\",\"name\":\"trace\",\"pid\":0,\"tid\":0,\"args\":{\"name\":\"pith\"}}";
    name_tracks(to, trace, count);
    for (uint64_t i = 0; i < count; i++) {
        const Trace::Place& p = trace.places()[i];
        const uint32_t event = p.event.load(std::memory_order_acquire);
        if (!event || event >= static_cast<uint32_t>(Event::Count)) continue;  // on its way
        const uint64_t begin = p.begin > trace.origin ? p.begin - trace.origin : 0;
        to << ",\n{\"ph\":\"X\",\"name\":\"" << kKinds[event].name << "\",\"pid\":" << p.session << ",\"tid\":" << p.track << ",\"ts\":";
        to.microseconds(begin) << ",\"dur\":";
        to.microseconds(p.end > p.begin ? p.end - p.begin : 0) << ",\"args\":{\"" << kKinds[event].value << "\":" << p.value << "}}";
    }
    to << "\n]}\n";
    return to.size();
}

}  // namespace pith
