// A small pool that keeps the runner contract: the caller works too, helpers spin a little before they park, and those that come too late
// for a region are turned away instead of waited for.
#pragma once
#include <pith/env.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace bench {

class Pool {
public:
    explicit Pool(uint32_t threads) {
        for (uint32_t i = 1; i < threads; i++) helpers_.emplace_back([this, i] { help(i); });
    }
    ~Pool() {
        stop_ = true;
        state_.fetch_add(kTurn);
        state_.notify_all();
        for (std::thread& helper : helpers_) helper.join();
    }
    Pool(const Pool&) = delete;
    uint32_t width() const { return static_cast<uint32_t>(helpers_.size()) + 1; }
    pith_runner runner() {
        return {sizeof(pith_runner), this,
                [](void* user, pith_task_fn fn, void* task, uint32_t count) { static_cast<Pool*>(user)->run(fn, task, count); }, width(),
                0};
    }
    void run(pith_task_fn fn, void* task, uint32_t count) {
        fn_ = fn;
        task_ = task;
        count_ = count;
        state_.fetch_add(kTurn | kOpen, std::memory_order_release);
        state_.notify_all();
        fn(task, 0);
        state_.fetch_sub(kOpen, std::memory_order_relaxed);
        while (state_.load(std::memory_order_acquire) & kInside) pause();
    }

private:
    // The state: turns taken, whether the current one is open, and how many helpers are inside.
    static constexpr uint64_t kTurn = 1u << 17, kOpen = 1u << 16, kInside = kOpen - 1;

    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    void help(uint32_t index) {
        uint64_t done = 0;
        for (;;) {
            uint64_t state = state_.load(std::memory_order_acquire);
            const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(200);
            for (uint32_t spins = 1; state / kTurn == done; state = state_.load(std::memory_order_acquire)) {
                if (spins++ % 64 == 0 && std::chrono::steady_clock::now() > until) state_.wait(state, std::memory_order_acquire);
                pause();
            }
            if (stop_) return;
            done = state / kTurn;
            while ((state & kOpen) && state / kTurn == done && !state_.compare_exchange_weak(state, state + 1, std::memory_order_acquire)) {
            }
            if (!(state & kOpen) || state / kTurn != done) continue;
            if (index < count_) fn_(task_, index);
            state_.fetch_sub(1, std::memory_order_release);
        }
    }

    std::atomic<uint64_t> state_{0};
    pith_task_fn fn_ = nullptr;
    void* task_ = nullptr;
    uint32_t count_ = 0;
    std::atomic<bool> stop_{false};
    std::vector<std::thread> helpers_;
};

}  // namespace bench
