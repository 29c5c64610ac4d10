// Parallel regions on threads that the caller lends (docs/threading.md): slots claim chunks from an atomic counter, so that any subset
// of the slots, on any threads, in any order, does all the work; what nobody took the caller does itself.
#pragma once
#include <pith/env.h>

#include <atomic>

namespace pith {

inline constexpr uint32_t kMaxSlots = 256;

// One region in flight. Tickets are reused in turn, never freed while their crew lives, so that a call which comes too late
// finds a closed ticket, not freed memory.
struct Ticket {
    using Body = void (*)(void* context, uint32_t chunk, uint32_t slot);

    std::atomic<uint32_t> next{0};
    std::atomic<uint32_t> live{0};
    std::atomic<uint32_t> breaches{0};
    std::atomic<bool> open{false};
    std::atomic<uint64_t> started[kMaxSlots / 64]{};
    uint32_t chunks = 0, count = 0;
    Body body = nullptr;
    void* context = nullptr;
    const std::atomic<int32_t>* stop = nullptr;

    void drain(uint32_t slot) {
        for (uint32_t chunk; (chunk = next.fetch_add(1, std::memory_order_relaxed)) < chunks;) {
            if (stop && stop->load(std::memory_order_relaxed)) return;
            body(context, chunk, slot);
        }
    }
};

class Crew {
public:
    // The most slots worth asking for, by the bytes a region touches: below one of these per slot a helper costs more than it saves.
    static constexpr uint64_t kBytesPerSlot = 128 * 1024;

    explicit Crew(const pith_runner& runner) : runner_(runner) {}
    Crew(const Crew&) = delete;
    Crew& operator=(const Crew&) = delete;

    void set_runner(const pith_runner& runner) { runner_ = runner; }  // not while a region runs
    uint32_t width() const { return runner_.run ? runner_.width : 1; }
    // While *stop is nonzero, chunks that have not started are skipped.
    void set_stop(const std::atomic<int32_t>* stop) { stop_ = stop; }

    // Calls body(chunk, slot) once for each chunk in [0, chunks); slot < width(), never shared by two calls at a time.
    template <class F>
    void run(uint32_t chunks, uint64_t bytes, F& body) {
        dispatch(chunks, bytes, [](void* context, uint32_t chunk, uint32_t slot) { (*static_cast<F*>(context))(chunk, slot); }, &body);
    }
    void dispatch(uint32_t chunks, uint64_t bytes, Ticket::Body body, void* context);

    // Breaches of the contract seen since the last call: an index called twice, out of range, too late, or run() returning too early.
    uint32_t take_breaches();

private:
    static constexpr uint32_t kTickets = 64;

    pith_runner runner_;
    const std::atomic<int32_t>* stop_ = nullptr;
    uint32_t turn_ = 0;
    Ticket tickets_[kTickets];
};

}  // namespace pith
