// Runners good and bad, of every width, through the public API on the demo model: a good one never changes a bit of the logits, a bad one
// never does either unless the call says PITH_E_RUNNER, and nothing deadlocks when the callers stand on the pool's own threads.
#include <pith/pith.hpp>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "catch.h"

#if defined(__SANITIZE_THREAD__)
#    define PITH_SLOW 1
#elif defined(__has_feature)
#    if __has_feature(thread_sanitizer)
#        define PITH_SLOW 1
#    endif
#endif
#ifndef PITH_SLOW
#    define PITH_SLOW 0
#endif

namespace {

using Logits = std::vector<float>;

struct Call {
    pith_task_fn fn;
    void* task;
};

// What the runners below leave behind for later, and what they were asked for.
struct Host {
    std::vector<std::thread> strays;
    std::vector<Call> late;
    std::atomic<uint32_t> regions{0}, most{0};
    void asked(uint32_t count) {
        regions++;
        uint32_t seen = most;
        while (seen < count && !most.compare_exchange_weak(seen, count)) {
        }
    }
    void join() {
        for (std::thread& stray : strays) stray.join();
        strays.clear();
    }
};

Host& host_of(void* user, uint32_t count) {
    Host& host = *static_cast<Host*>(user);
    host.asked(count);
    return host;
}

void serial(void* user, pith_task_fn fn, void* task, uint32_t count) {
    host_of(user, count);
    for (uint32_t i = 0; i < count; i++) fn(task, i);
}
void reversed(void* user, pith_task_fn fn, void* task, uint32_t count) {
    host_of(user, count);
    for (uint32_t i = count; i--;) fn(task, i);
}
void only_first(void* user, pith_task_fn fn, void* task, uint32_t count) {
    host_of(user, count);
    fn(task, 0);
}
void only_last(void* user, pith_task_fn fn, void* task, uint32_t count) {
    host_of(user, count);
    fn(task, count - 1);
}
void every_other(void* user, pith_task_fn fn, void* task, uint32_t count) {
    host_of(user, count);
    for (uint32_t i = 1; i < count; i += 2) fn(task, i);
}
void nobody(void* user, pith_task_fn, void*, uint32_t count) { host_of(user, count); }
void thread_per_index(void* user, pith_task_fn fn, void* task, uint32_t count) {
    host_of(user, count);
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < count; i++) threads.emplace_back(fn, task, i);
    for (std::thread& thread : threads) thread.join();
}
void elsewhere(void* user, pith_task_fn fn, void* task, uint32_t count) { std::thread(serial, user, fn, task, count).join(); }

void twice(void* user, pith_task_fn fn, void* task, uint32_t count) {
    serial(user, fn, task, count);
    fn(task, 0);
}
void twice_at_once(void* user, pith_task_fn fn, void* task, uint32_t count) {
    host_of(user, count);
    std::thread other(fn, task, count - 1);
    fn(task, count - 1);
    other.join();
}
void one_too_many(void* user, pith_task_fn fn, void* task, uint32_t count) {
    host_of(user, count);
    fn(task, count);
}
void far_too_many(void* user, pith_task_fn fn, void* task, uint32_t count) {
    serial(user, fn, task, count);
    fn(task, 0xffffffffu);
}
// Comes back before its call has.
void early(void* user, pith_task_fn fn, void* task, uint32_t count) {
    Host& host = host_of(user, count);
    std::atomic<bool> up{false};
    host.strays.emplace_back([fn, task, &up] {
        up = true;
        fn(task, 0);
    });
    while (!up) std::this_thread::yield();
}
// Calls each region once more while the next one runs.
void late(void* user, pith_task_fn fn, void* task, uint32_t count) {
    Host& host = host_of(user, count);
    for (const Call& call : host.late) call.fn(call.task, 0);
    host.late.assign(1, {fn, task});
    for (uint32_t i = 0; i < count; i++) fn(task, i);
}

// Helpers are queued, the caller works too, and calls that have not started when it is done are taken back.
class Pool {
public:
    explicit Pool(int threads) {
        for (int i = 0; i < threads; i++) threads_.emplace_back([this] { work(); });
    }
    ~Pool() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            stop_ = true;
        }
        wake_.notify_all();
        for (std::thread& thread : threads_) thread.join();
    }
    void post(std::function<void()> job) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            outer_.push_back(std::move(job));
        }
        wake_.notify_one();
    }
    static void run(void* user, pith_task_fn fn, void* task, uint32_t count) { static_cast<Pool*>(user)->region(fn, task, count); }
    pith_runner runner(uint32_t width) { return {sizeof(pith_runner), this, run, width, 0}; }

private:
    struct Region {
        pith_task_fn fn;
        void* task;
        uint32_t next, count, active;
        std::condition_variable done;
    };

    void region(pith_task_fn fn, void* task, uint32_t count) {
        Region region{fn, task, 1, count, 0, {}};
        if (count > 1) {
            const std::lock_guard<std::mutex> lock(mutex_);
            queue_.push_back(&region);
        }
        wake_.notify_all();
        fn(task, 0);
        std::unique_lock<std::mutex> lock(mutex_);
        queue_.erase(std::remove(queue_.begin(), queue_.end(), &region), queue_.end());
        region.done.wait(lock, [&] { return region.active == 0; });
    }
    void work() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return stop_ || !queue_.empty() || !outer_.empty(); });
            if (!queue_.empty()) {
                Region& region = *queue_.front();
                const uint32_t index = region.next++;
                if (region.next >= region.count) queue_.pop_front();
                region.active++;
                lock.unlock();
                region.fn(region.task, index);
                lock.lock();
                if (--region.active == 0) region.done.notify_all();
            } else if (!outer_.empty()) {
                const std::function<void()> job = std::move(outer_.front());
                outer_.pop_front();
                lock.unlock();
                job();
                lock.lock();
            } else {
                return;
            }
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Region*> queue_;
    std::deque<std::function<void()>> outer_;
    std::vector<std::thread> threads_;
    bool stop_ = false;
};

constexpr uint32_t kWidths[] = {1, 2, 3, 5, 8, 16, 64, 256};
constexpr struct {
    const char* name;
    void (*run)(void*, pith_task_fn, void*, uint32_t);
} kGood[] =
    {{"serial", serial},           {"reversed", reversed}, {"only the first index", only_first},     {"only the last index", only_last},
     {"every other", every_other}, {"nobody", nobody},     {"a thread per index", thread_per_index}, {"one other thread", elsewhere}},
  kAlwaysFound[] = {
      {"twice", twice}, {"twice at once", twice_at_once}, {"one too many", one_too_many}, {"far too many", far_too_many}, {"late", late}};

pith_runner make_runner(Host& host, void (*run)(void*, pith_task_fn, void*, uint32_t), uint32_t width) {
    return {sizeof(pith_runner), &host, run, width, 0};
}

class Demo {
public:
    Demo() : model_(env, PITH_DEMO_MODEL) { model_.load(); }

    pith::Session session(const pith_runner* runner, uint32_t context = 32) const {
        auto options = pith::make<pith_session_options>();
        options.context_length = context;
        options.batch_length = 8;
        options.runner = runner;
        return pith::Session(model_, &options);
    }
    Logits logits(pith::Session& session) const {
        const pith::Logits found = session.logits();
        return {found.data, found.data + model_.info().vocab_size};
    }
    // A prompt in two batches, then two tokens one by one.
    Logits run(pith::Session& session) const {
        session.truncate(0);
        std::vector<pith_token> prompt;
        for (int i = 0; i < 13; i++) prompt.push_back(i * 597 % 8192);
        session.forward(prompt);
        for (const pith_token token : {77, 4000}) session.forward(token);
        return logits(session);
    }
    Logits run(const pith_runner* runner) const {
        pith::Session made = session(runner);
        return run(made);
    }

    pith::Env env;

private:
    pith::Model model_;
};

}  // namespace

TEST_CASE("torture: good runners of every width give equal bits") {
    const Demo demo;
    const Logits expected = demo.run(nullptr);
    for (const uint32_t width : kWidths) {
        for (const auto& good : kGood) {
            INFO(good.name << ", width " << width);
            Host host;
            const pith_runner runner = make_runner(host, good.run, width);
            CHECK(demo.run(&runner) == expected);
            CHECK(host.most <= width);
            CHECK((width == 1) == (host.regions == 0));
        }
        INFO("a pool, width " << width);
        Pool pool(3);
        const pith_runner runner = pool.runner(width);
        CHECK(demo.run(&runner) == expected);
    }
}

TEST_CASE("torture: bad runners are found or harmless, and a session survives them") {
    const Demo demo;
    const Logits expected = demo.run(nullptr);
    for (const uint32_t width : kWidths) {
        if (width == 1) continue;  // never called
        for (const auto& bad : kAlwaysFound) {
            INFO(bad.name << ", width " << width);
            Host host;
            const pith_runner runner = make_runner(host, bad.run, width);
            pith::Session session = demo.session(&runner);
            const std::vector<pith_token> prompt(13, 5);
            pith_error error{};
            CHECK(pith_session_forward(session.get(), prompt.data(), prompt.size(), 1, &error) == PITH_E_RUNNER);
            CHECK(std::string(error.message).find("runner") != std::string::npos);
            CHECK(session.length() == 0);
        }
        INFO("early, width " << width);
        Host host;
        const pith_runner runner = make_runner(host, early, width);
        pith::Session session = demo.session(&runner);
        for (int i = 0; i < 5; i++) {
            pith_status status = PITH_OK;
            Logits found = expected;
            try {
                found = demo.run(session);
            } catch (const pith::Error& error) {
                status = error.status();
            }
            CHECK((status == PITH_OK || status == PITH_E_RUNNER));
            CHECK(found == expected);
            host.join();
        }
    }
}

TEST_CASE("torture: a session goes on once its runner behaves") {
    const Demo demo;
    const Logits expected = demo.run(nullptr);
    struct Moody {
        std::atomic<bool> bad{true};
        static void run(void* user, pith_task_fn fn, void* task, uint32_t count) {
            if (static_cast<Moody*>(user)->bad) fn(task, 0);
            for (uint32_t i = 0; i < count; i++) fn(task, i);
        }
    } moody;
    const pith_runner runner{sizeof runner, &moody, Moody::run, 8, 0};
    pith::Session session = demo.session(&runner);
    CHECK_THROWS_AS(demo.run(session), pith::Error);
    CHECK(session.length() == 0);
    moody.bad = false;
    CHECK(demo.run(session) == expected);
}

TEST_CASE("torture: 16 callers inside of the pool that they use") {
    constexpr int kCallers = 16, kCalls = PITH_SLOW ? 8 : 200;
    const Demo demo;
    std::vector<Logits> expected;
    {
        pith::Session session = demo.session(nullptr, kCalls);
        for (int i = 0; i < kCalls; i++) {
            session.forward(static_cast<pith_token>(i * 31 % 8192));
            expected.push_back(demo.logits(session));
        }
    }
    std::atomic<int> right{0}, done{0};
    {
        Pool pool(4);
        const pith_runner runner = pool.runner(5);
        for (int caller = 0; caller < kCallers; caller++)
            pool.post([&] {
                pith::Session session = demo.session(&runner, kCalls);
                for (int i = 0; i < kCalls; i++) {
                    session.forward(static_cast<pith_token>(i * 31 % 8192));
                    if (demo.logits(session) == expected[static_cast<size_t>(i)]) right++;
                }
                done++;
            });
    }  // the pool's end waits for all jobs
    CHECK(done == kCallers);
    CHECK(right == kCallers * kCalls);
}

TEST_CASE("torture: two threads, two sessions each, one model") {
    const Demo demo;
    const Logits expected = demo.run(nullptr);
    Pool pool(2);
    Host host;
    const pith_runner pooled = pool.runner(3), spawned = make_runner(host, thread_per_index, 4);
    std::atomic<int> right{0};
    const auto work = [&] {
        pith::Session one = demo.session(&pooled), two = demo.session(&spawned);
        for (int i = 0; i < (PITH_SLOW ? 2 : 5); i++)
            for (pith::Session* session : {&one, &two})
                if (demo.run(*session) == expected) right++;
    };
    std::thread other(work);
    work();
    other.join();
    CHECK(right == (PITH_SLOW ? 8 : 20));
}

TEST_CASE("torture: pith_runner_check") {
    const pith::Env env;
    const auto check = [&](const pith_runner& runner) { return pith_runner_check(env.get(), &runner, nullptr); };
    for (const uint32_t width : kWidths) {
        for (const auto& good : kGood) {
            INFO(good.name << ", width " << width);
            Host host;
            CHECK(check(make_runner(host, good.run, width)) == PITH_OK);
        }
        Pool pool(3);
        CHECK(check(pool.runner(width)) == PITH_OK);
        if (width == 1) continue;  // never called
        for (const auto& bad : kAlwaysFound)
            for (int i = 0; i < 20; i++) {
                INFO(bad.name << ", width " << width);
                Host host;
                CHECK(check(make_runner(host, bad.run, width)) == PITH_E_RUNNER);
                // A call after the check finds its ticket closed, and is not held against the next runner.
                for (const Call& call : host.late) call.fn(call.task, 0);
            }
        for (int i = 0; i < 20; i++) {
            INFO("early, width " << width);
            Host host;
            const pith_status status = check(make_runner(host, early, width));
            CHECK((status == PITH_OK || status == PITH_E_RUNNER));
            host.join();
        }
        Host host;
        CHECK(check(make_runner(host, serial, width)) == PITH_OK);
    }
}
