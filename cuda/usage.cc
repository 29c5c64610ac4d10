#include "usage.h"

namespace pith::cuda {
namespace {

Used engine_of(Work work) { return work == Work::ToDevice ? Used::GpuToDevice : work == Work::ToHost ? Used::GpuToHost : Used::GpuCompute; }

}  // namespace

pith_status Meter::open(const Driver& driver, CUstream stream, Account* account, pith_error* error) {
    driver_ = &driver;
    stream_ = stream;
    if (!account) return PITH_OK;
    for (Span& span : spans_) {
        PITH_TRY(check(driver, driver.EventCreate(&span.begin, CU_EVENT_DEFAULT), "making an event", error));
        PITH_TRY(check(driver, driver.EventCreate(&span.end, CU_EVENT_DEFAULT), "making an event", error));
    }
    account_ = account;
    return PITH_OK;
}

void Meter::close() {
    if (account_) settle();
    for (Span& span : spans_) {
        if (span.begin) driver_->EventDestroy(span.begin);
        if (span.end) driver_->EventDestroy(span.end);
        span = {};
    }
    account_ = nullptr;
    first_ = count_ = 0;
}

Meter::Span* Meter::begin(Work work, uint64_t value) {
    if (!account_) return nullptr;
    const uint32_t kind = static_cast<uint32_t>(work);
    account_->add(Used::GpuSubmissions, 1);
    if (work == Work::ToDevice) account_->add(Used::BytesToDevice, value);
    if (work == Work::ToHost) account_->add(Used::BytesToHost, value);
    const bool alike = work == Work::Token || work == Work::Draw;
    if (count_ == kSpans) settle();
    if ((alike && seen_[kind]++ % kOneIn != 0 && !account_->trace()) || count_ == kSpans) {
        owed_[kind]++;
        return nullptr;
    }
    Span& span = spans_[(first_ + count_) % kSpans];
    if (driver_->EventRecord(span.begin, stream_) != CUDA_SUCCESS) return nullptr;
    span.work = work;
    span.since = monotonic_ns();
    span.value = value;
    return &span;
}

Submission::~Submission() {
    // Only one lives at a time, so that its span is still the next of the ring.
    if (span_ && meter_.driver_->EventRecord(span_->end, meter_.stream_) == CUDA_SUCCESS) meter_.count_++;
}

void Meter::charge(Work work, uint64_t ns) {
    const uint32_t kind = static_cast<uint32_t>(work);
    typical_[kind] = ns;
    account_->add(engine_of(work), ns);
}

void Meter::settle() {
    if (!account_) return;
    for (; count_; count_--, first_ = (first_ + 1) % kSpans) {
        const Span& span = spans_[first_];
        float milliseconds = 0;
        const CUresult done = driver_->EventQuery(span.end);
        if (done == CUDA_ERROR_NOT_READY) break;
        if (done != CUDA_SUCCESS || driver_->EventElapsedTime(&milliseconds, span.begin, span.end) != CUDA_SUCCESS) continue;
        const uint64_t ns = static_cast<uint64_t>(static_cast<double>(milliseconds) * 1e6);
        charge(span.work, ns);
        if (Trace* trace = account_->trace()) {
            // It began no sooner than it was submitted, nor before what came before it had ended.
            const uint64_t at = span.since > last_end_ ? span.since : last_end_;
            last_end_ = at + ns;
            const Event event = span.work == Work::ToDevice ? Event::GpuToDevice
                                : span.work == Work::ToHost ? Event::GpuToHost
                                                            : Event::GpuCompute;
            const uint32_t engine = static_cast<uint32_t>(event) - static_cast<uint32_t>(Event::GpuCompute);
            trace->add({at, last_end_, span.value, event, kGpuTrack + engine, account_->number});
        }
    }
    for (const Work work : {Work::Token, Work::Draw}) {
        const uint32_t kind = static_cast<uint32_t>(work);
        if (!typical_[kind]) continue;
        account_->add(engine_of(work), owed_[kind] * typical_[kind]);
        owed_[kind] = 0;
    }
}

}  // namespace pith::cuda
