// The claim loop and the breach checks.
#include "parallel/crew.h"

#include <bit>

#include "parallel/fp_scope.h"

#if defined(_WIN32)
#  define WIN32_LEAN_AND_MEAN
#  include <windows.h>
#else
#  include <sched.h>
#endif

namespace pith {
namespace {

void yield() {
#if defined(_WIN32)
    SwitchToThread();
#else
    sched_yield();
#endif
}

// One of the calls that are to be measured; false when there are none left.
bool take_clock(Ticket& ticket) {
    uint32_t left = ticket.clocks.load(std::memory_order_relaxed);
    while (left && !ticket.clocks.compare_exchange_weak(left, left - 1, std::memory_order_relaxed)) {
    }
    return left != 0;
}

// A slot's share, with what it used. The calling thread's CPU time is counted by its call into the library.
void help(Ticket& ticket, uint32_t slot) {
    const bool lent = this_thread() != ticket.caller, clocked = lent && take_clock(ticket);
    CpuClock clock;
    if (clocked) clock.start();
    const uint64_t begin = ticket.trace ? monotonic_ns() : 0;
    const uint32_t done = ticket.drain(slot);
    if (ticket.trace) ticket.trace->add({begin, monotonic_ns(), done, Event::Help, slot + 1, ticket.session});
    if (done) ticket.tally.fetch_add(Ticket::kWorked + (lent ? done : 0), std::memory_order_relaxed);
    if (clocked) {
        ticket.clocked_ns.fetch_add(clock.ns(), std::memory_order_relaxed);
        ticket.clocked_chunks.fetch_add(done, std::memory_order_relaxed);
    }
}

// What the runner is asked to call, on whatever thread it likes.
void enter(void* task, uint32_t index) {
    Ticket& ticket = *static_cast<Ticket*>(task);
    ticket.live.fetch_add(1);
    bool good = ticket.open.load() && index < ticket.count;
    if (good) {
        const uint64_t bit = uint64_t{1} << (index % 64);
        good = !(ticket.started[index / 64].fetch_or(bit) & bit);
    }
    if (good) {
        const FpScope fp;
        help(ticket, index);
    } else {
        ticket.breaches.fetch_add(1, std::memory_order_relaxed);
    }
    ticket.live.fetch_sub(1);
}

}  // namespace

void Crew::run_inline(uint32_t chunks, uint64_t bytes, Ticket::Body body, void* context) {
    const uint64_t begin = trace_ ? monotonic_ns() : 0;
    used_.in_line++;
    for (uint32_t chunk = 0; chunk < chunks; chunk++) {
        if (stop_ && stop_->load(std::memory_order_relaxed)) return;
        body(context, chunk, 0);
    }
    if (trace_) trace_->add({begin, monotonic_ns(), bytes, Event::Inline, 0, account_->number});
}

void Crew::open(Ticket& ticket, uint32_t chunks, uint64_t bytes, uint32_t count) {
    for (std::atomic<uint64_t>& bits : ticket.started) bits.store(0, std::memory_order_relaxed);
    ticket.next.store(0, std::memory_order_relaxed);
    ticket.chunks = chunks;
    ticket.count = count;
    ticket.stop = stop_;
    ticket.tally.store(0, std::memory_order_relaxed);
    ticket.clocked_ns.store(0, std::memory_order_relaxed);
    ticket.clocked_chunks.store(0, std::memory_order_relaxed);
    ticket.caller = this_thread();
    ticket.trace = trace_;
    ticket.session = trace_ ? account_->number : 0;
    if (!kCounted || !account_) return;
    unclocked_ns_ += used_.expected(static_cast<double>(bytes));
    if (unclocked_ns_ > kClockedNs * count) unclocked_ns_ = kClockedNs * count;
    ticket.clocks.store(static_cast<uint32_t>(unclocked_ns_ / kClockedNs), std::memory_order_relaxed);
}

// After a region. All its calls have returned.
void Crew::count(Ticket& ticket, uint64_t bytes) {
    used_.lent++;
    used_.asked += ticket.count;
    for (const std::atomic<uint64_t>& bits : ticket.started) used_.came += static_cast<uint32_t>(std::popcount(bits.load(std::memory_order_relaxed)));
    const uint64_t tally = ticket.tally.load(std::memory_order_relaxed), ns = ticket.clocked_ns.load(std::memory_order_relaxed);
    const uint32_t worked = static_cast<uint32_t>(tally / Ticket::kWorked);
    used_.worked += worked;
    if (account_) useful_.learn(ticket.count, worked);
    const double each = static_cast<double>(bytes) / ticket.chunks;
    const double lent = each * static_cast<double>(tally % Ticket::kWorked);
    const double clocked = each * static_cast<double>(ticket.clocked_chunks.load(std::memory_order_relaxed));
    used_.cpu_ns += ns;
    if (lent > clocked) used_.uncharged += lent - clocked;
    if (clocked <= 0) return;
    unclocked_ns_ = 0;
    constexpr double kKept = 15.0 / 16;
    used_.rate_ns = used_.rate_ns * kKept + static_cast<double>(ns);
    used_.rate_bytes = used_.rate_bytes * kKept + clocked;
}

void Crew::dispatch(uint32_t chunks, uint64_t bytes, Ticket::Body body, void* context) {
    const uint32_t wanted = slots_for(bytes, chunks, width());
    if (wanted < 2) return run_inline(chunks, bytes, body, context);
    const uint32_t count = wanted < useful_.most() ? wanted : useful_.most();
    Ticket& ticket = tickets_[turn_++ % kTickets];
    open(ticket, chunks, bytes, count);
    ticket.body = body;
    ticket.context = context;
    const uint64_t begin = ticket.trace ? monotonic_ns() : 0;
    ticket.open.store(true);
    runner_.run(runner_.user, enter, &ticket, ticket.count);
    ticket.open.store(false);  // calls that start from here on are late, and see it
    if (ticket.live.load()) {
        // run() came back before its calls had: wait for them, since they use the caller's memory.
        ticket.breaches.fetch_add(1, std::memory_order_relaxed);
        while (ticket.live.load()) yield();
    }
    ticket.drain(0);
    if (ticket.trace) ticket.trace->add({begin, monotonic_ns(), bytes, Event::Region, 0, ticket.session});
    this->count(ticket, bytes);
}

void Crew::settle() {
    if (!account_) return;
    CrewUsage& u = used_;
    if (u.rate_bytes > 0) {
        u.cpu_ns += static_cast<uint64_t>(u.expected(u.uncharged));
        u.uncharged = 0;
    }
    account_->add(Used::RegionsInline, u.in_line);
    account_->add(Used::RegionsLent, u.lent);
    account_->add(Used::HelpersAsked, u.asked);
    account_->add(Used::HelpersCame, u.came);
    account_->add(Used::HelpersWorked, u.worked);
    account_->add(Used::CpuLent, u.cpu_ns);
    u.in_line = u.lent = u.asked = u.came = u.worked = u.cpu_ns = 0;
}

uint32_t Crew::take_breaches() {
    uint32_t sum = 0;
    for (Ticket& ticket : tickets_) sum += ticket.breaches.exchange(0, std::memory_order_relaxed);
    return sum;
}

}  // namespace pith
