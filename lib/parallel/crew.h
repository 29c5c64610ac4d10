// Parallel regions on threads that the caller lends (docs/threading.md): slots claim chunks from an atomic counter, so that any subset
// of the slots, on any threads, in any order, does all the work; what nobody took the caller does itself.
#pragma once
#include <pith/env.h>

#include <atomic>

#include "parallel/policy.h"
#include "usage/account.h"

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

    // What was used. A call of a helper's adds to `tally` what it did: calls that found work, and chunks done on other threads.
    static constexpr uint64_t kWorked = uint64_t{1} << 32;
    std::atomic<uint64_t> tally{0};
    std::atomic<uint32_t> clocks{0};  // calls that are to take their thread's CPU time
    std::atomic<uint64_t> clocked_ns{0}, clocked_chunks{0};
    const void* caller = nullptr;     // this_thread()
    Trace* trace = nullptr;
    uint32_t session = 0;

    uint32_t drain(uint32_t slot) {  // returns the chunks done
        uint32_t done = 0;
        for (uint32_t chunk; (chunk = next.fetch_add(1, std::memory_order_relaxed)) < chunks; done++) {
            if (stop && stop->load(std::memory_order_relaxed)) return done;
            body(context, chunk, slot);
        }
        return done;
    }
};

// What a crew's regions used since it was last asked. The CPU time of helpers is sampled: a thread's clock costs a system call, which takes
// as long as many a region's share. As many shares are measured as there are kClockedNs of work, large ones hence always, and the rest is
// charged by its bytes, at the rate of those that were measured lately.
struct CrewUsage {
    uint64_t in_line = 0, lent = 0, asked = 0, came = 0, worked = 0;
    uint64_t cpu_ns = 0;    // measured, and to be charged in full
    double uncharged = 0;   // bytes of shares that were not measured
    double rate_ns = 0, rate_bytes = 0;  // of those that were; older ones count less
    double expected(double bytes) const { return rate_bytes > 0 ? bytes * (rate_ns / rate_bytes) : 0; }
};

class Crew {
public:
    static constexpr uint64_t kBytesPerSlot = pith::kBytesPerSlot;

    // account: what is used is added there; NULL: it is not counted.
    explicit Crew(const pith_runner& runner, Account* account = nullptr) : runner_(runner), account_(account) {}
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
    // Before the regions of a call: whether they are traced. Asked once, since the account is in no cache any more when weights have passed
    // through it.
    void begin() { trace_ = account_ ? account_->trace() : nullptr; }
    // After them: adds what was used since the last time to the account. Not while a region runs.
    void settle();

private:
    static constexpr uint32_t kTickets = 64;
    static constexpr double kClockedNs = 3e6;  // of work, for which one share is measured: that takes 2 us, and as long again afterwards

    void run_inline(uint32_t chunks, uint64_t bytes, Ticket::Body body, void* context);
    void open(Ticket& ticket, uint32_t chunks, uint64_t bytes, uint32_t count);
    void count(Ticket& ticket, uint64_t bytes);

    pith_runner runner_;
    Account* account_;
    Trace* trace_ = nullptr;
    CrewUsage used_;
    UsefulSlots useful_;
    double unclocked_ns_ = kClockedNs;  // of work since a share was last measured: the first is
    const std::atomic<int32_t>* stop_ = nullptr;
    uint32_t turn_ = 0;
    Ticket tickets_[kTickets];
};

}  // namespace pith
