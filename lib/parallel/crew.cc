// The claim loop and the breach checks.
#include "parallel/crew.h"

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
        ticket.drain(index);
    } else {
        ticket.breaches.fetch_add(1, std::memory_order_relaxed);
    }
    ticket.live.fetch_sub(1);
}

}  // namespace

void Crew::dispatch(uint32_t chunks, uint64_t bytes, Ticket::Body body, void* context) {
    uint64_t count = bytes / kBytesPerSlot;
    if (count > chunks) count = chunks;
    if (count > width()) count = width();
    if (count < 2) {
        for (uint32_t chunk = 0; chunk < chunks; chunk++) {
            if (stop_ && stop_->load(std::memory_order_relaxed)) return;
            body(context, chunk, 0);
        }
        return;
    }
    Ticket& ticket = tickets_[turn_++ % kTickets];
    for (std::atomic<uint64_t>& bits : ticket.started) bits.store(0, std::memory_order_relaxed);
    ticket.next.store(0, std::memory_order_relaxed);
    ticket.chunks = chunks;
    ticket.count = static_cast<uint32_t>(count);
    ticket.body = body;
    ticket.context = context;
    ticket.stop = stop_;
    ticket.open.store(true);
    runner_.run(runner_.user, enter, &ticket, ticket.count);
    ticket.open.store(false);  // calls that start from here on are late, and see it
    if (ticket.live.load()) {
        // run() came back before its calls had: wait for them, since they use the caller's memory.
        ticket.breaches.fetch_add(1, std::memory_order_relaxed);
        while (ticket.live.load()) yield();
    }
    ticket.drain(0);
}

uint32_t Crew::take_breaches() {
    uint32_t sum = 0;
    for (Ticket& ticket : tickets_) sum += ticket.breaches.exchange(0, std::memory_order_relaxed);
    return sum;
}

}  // namespace pith
