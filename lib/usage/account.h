// What was used, as counters: calls add to them when they return, to their session's and to the env's, and anyone may read them at any
// time.
#pragma once
#include <atomic>

#include "usage/clock.h"
#include "usage/trace.h"

namespace pith {

// What is counted. Times in nanoseconds, memory in bytes.
enum class Used : uint32_t {
    Wall,
    CpuCaller,
    CpuLent,
    Waited,
    RegionsInline,
    RegionsLent,
    HelpersAsked,
    HelpersCame,
    HelpersWorked,
    TokensPrefilled,
    TokensDecoded,
    TokensDrawn,
    Load,
    Prefill,
    Decode,
    Sample,
    GpuCompute,
    GpuToDevice,
    GpuToHost,
    BytesToDevice,
    BytesToHost,
    GpuSubmissions,
    // Held now: these go down, too.
    HostWeights,
    HostKv,
    HostScratch,
    HostStaging,
    DeviceWeights,
    DeviceKv,
    DeviceScratch,
    DeviceStaging,
    Count
};

struct Account {
    Account* parent = nullptr;               // the env's
    uint32_t number = 0;                     // of the session, in traces; 0: the env
    std::atomic<uint32_t> sessions{0};       // the env: numbers given away
    std::atomic<Trace*> recording{nullptr};  // the env: the caller's memory, while it wants a trace
    std::atomic<uint64_t> sums[static_cast<uint32_t>(Used::Count)]{};

    void add(Used what, uint64_t amount) {
        if (!kCounted || amount == 0) return;
        for (Account* a = this; a; a = a->parent) a->sums[static_cast<uint32_t>(what)].fetch_add(amount, std::memory_order_relaxed);
    }
    void subtract(Used what, uint64_t amount) { add(what, 0 - amount); }
    uint64_t get(Used what) const { return sums[static_cast<uint32_t>(what)].load(std::memory_order_relaxed); }
    Trace* trace() const { return !kCounted ? nullptr : (parent ? parent : this)->recording.load(std::memory_order_acquire); }
};

// CPU time of a thread over a few microseconds: what reading the clock itself takes, which is much of one, is found and left out.
class CpuClock {
public:
    void start() {
        const uint64_t before = thread_cpu_ns();
        begin_ = thread_cpu_ns();
        cost_ = begin_ - before;
    }
    uint64_t ns() const {
        const uint64_t spent = thread_cpu_ns() - begin_;
        return spent > cost_ ? spent - cost_ : 0;
    }

private:
    uint64_t begin_ = 0, cost_ = 0;
};

// What a kind of short call costs, so that not each of them has to ask for the thread's CPU time.
struct Typical {
    uint32_t calls = 0;
    uint64_t cpu_ns = 0;
};

// The same for calls of about a millisecond, which wait for helpers or don't: a token. Reading the CPU clock costs half a percent of one, most of
// it afterwards, when caches and predictions are the kernel's. So one is measured for each kUnmeasuredNs, long ones hence always, and the
// others are charged what the measured ones used of late: whether a helper came or not, the mean is right. What is more than a call took is
// charged to the next ones.
class Steady {
public:
    bool due() const { return unmeasured_ns_ >= kUnmeasuredNs; }
    void measured(uint64_t cpu_ns) {
        if (count_++ == 0) return;  // the first of all has cold caches: it says nothing about others
        cpu_ns_ = count_ > 2 ? (cpu_ns_ * 3 + cpu_ns) / 4 : cpu_ns;
        unmeasured_ns_ = 0;
    }
    uint64_t charge(uint64_t wall_ns) {
        const uint64_t owed = cpu_ns_ + carried_ns_, now = owed < wall_ns ? owed : wall_ns, most = 4 * cpu_ns_;
        carried_ns_ = owed - now < most ? owed - now : most;
        unmeasured_ns_ += wall_ns;
        return now;
    }

private:
    static constexpr uint64_t kUnmeasuredNs = 5000000;
    uint64_t cpu_ns_ = 0, carried_ns_ = 0, unmeasured_ns_ = kUnmeasuredNs, count_ = 0;
};

// A public call, from its first line to its last: wall time, CPU time of the calling thread, and the difference, in which it waited.
class Call {
public:
    // typical: for calls of microseconds that resemble each other. One in sixteen is measured; another that takes no more than twice that
    // long is charged what it took, and one that was held up what the measured one used.
    Call(Account& account, Used phase, Event event, Typical* typical = nullptr, Steady* steady = nullptr)
        : account_(account), phase_(phase), event_(event), typical_(typical), steady_(steady), begin_(monotonic_ns()), thread_(this_thread()) {
        exact_ = typical ? typical->calls++ % 16 == 0 : !steady || steady->due();
        if (typical && exact_)
            clock_.start();
        else if (exact_)
            cpu_ = thread_cpu_ns();
    }
    ~Call() {
        const uint64_t end = monotonic_ns(), wall = end - begin_;
        const uint64_t cpu = used(wall);
        account_.add(Used::Wall, wall);
        account_.add(Used::CpuCaller, cpu);
        account_.add(Used::Waited, wall - cpu);
        account_.add(phase_, wall);
        if (Trace* trace = account_.trace()) trace->add({begin_, end, value_, event_, 0, account_.number});
    }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    void set_value(uint64_t value) { value_ = value; }  // for the trace: tokens, or bytes

private:
    uint64_t used(uint64_t wall) {
        uint64_t cpu = wall;
        if (!exact_ && steady_) return steady_->charge(wall);
        if (exact_ && thread_ == this_thread()) {  // a job system may have brought the call to another thread: its clock is not ours
            cpu = typical_ ? clock_.ns() : thread_cpu_ns() - cpu_;
            if (typical_) typical_->cpu_ns = cpu;
            if (steady_) steady_->measured(cpu);
        } else if (typical_ && wall / 2 > typical_->cpu_ns) {
            cpu = typical_->cpu_ns;
        }
        return cpu < wall ? cpu : wall;
    }

    Account& account_;
    const Used phase_;
    const Event event_;
    Typical* const typical_;
    Steady* const steady_;
    const uint64_t begin_;
    const void* const thread_;
    CpuClock clock_;
    uint64_t cpu_ = 0, value_ = 0;
    bool exact_;
};

}  // namespace pith
