// What the GPU was used for: events around submissions, read when they are done anyway. Nothing here waits, and a failure is left to the
// work itself to report.
#pragma once
#include "device.h"
#include "usage/account.h"

namespace pith::cuda {

// What is submitted. Tokens and draws come by the thousand and each takes about as long as the one before: one in sixteen is measured (all
// of them while a trace is recorded) and the others are charged its time. The rest is always measured.
enum class Work : uint32_t { Prompt, Token, Draw, ToDevice, ToHost, Repack, Count };

// One stream's. Usable once open() has been called; a stream without an account is not measured.
class Meter {
public:
    // May fail half way; close() is for that as well.
    pith_status open(const Driver& driver, CUstream stream, Account* account, pith_error* error);
    void close();  // the stream has been waited for
    // Counts what is done by now. Cheap: for whenever something was waited for.
    void settle();
    // Bytes that go along with work that is measured as a whole.
    void add_to_device(uint64_t bytes) {
        if (account_) account_->add(Used::BytesToDevice, bytes);
    }

private:
    friend class Submission;
    static constexpr uint32_t kSpans = 16, kOneIn = 16;
    static constexpr uint32_t kWorks = static_cast<uint32_t>(Work::Count);
    struct Span {
        CUevent begin, end;
        Work work;
        uint64_t since;  // monotonic_ns() when it was submitted
        uint64_t value;
    };
    Span* begin(Work work, uint64_t value);
    void charge(Work work, uint64_t ns);

    const Driver* driver_ = nullptr;
    CUstream stream_ = nullptr;
    Account* account_ = nullptr;
    Span spans_[kSpans] = {};  // a ring: those on their way are [first_, first_ + count_)
    uint32_t first_ = 0, count_ = 0;
    uint64_t seen_[kWorks] = {}, owed_[kWorks] = {}, typical_[kWorks] = {};
    uint64_t last_end_ = 0;  // of what was traced
};

// What is enqueued while one of these lives.
class Submission {
public:
    Submission(Meter& meter, Work work, uint64_t value) : meter_(meter), span_(meter.begin(work, value)) {}
    ~Submission();
    Submission(const Submission&) = delete;
    Submission& operator=(const Submission&) = delete;

private:
    Meter& meter_;
    Meter::Span* span_;  // NULL: not measured
};

}  // namespace pith::cuda
