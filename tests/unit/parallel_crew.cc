// The runner contract on the claim loop itself: good runners give each chunk once, bad ones are reported and harm nothing.
#include <atomic>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "catch.h"
#include "parallel/crew.h"
#include "parallel/fp_scope.h"

namespace {

using pith::Crew;

void serial(void*, pith_task_fn fn, void* task, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) fn(task, i);
}
void reversed(void*, pith_task_fn fn, void* task, uint32_t count) {
    for (uint32_t i = count; i--;) fn(task, i);
}
void only_last(void*, pith_task_fn fn, void* task, uint32_t count) { fn(task, count - 1); }
void nobody(void*, pith_task_fn, void*, uint32_t) {}
void thread_each(void*, pith_task_fn fn, void* task, uint32_t count) {
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < count; i++) threads.emplace_back(fn, task, i);
    for (std::thread& t : threads) t.join();
}
void twice(void*, pith_task_fn fn, void* task, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        fn(task, i);
        fn(task, 0);
    }
}
void out_of_range(void*, pith_task_fn fn, void* task, uint32_t count) { fn(task, count); }

struct Late {
    std::vector<std::pair<pith_task_fn, void*>> calls;
    static void run(void* user, pith_task_fn fn, void* task, uint32_t count) {
        serial(nullptr, fn, task, count);
        static_cast<Late*>(user)->calls.push_back({fn, task});
    }
};

struct Early {  // returns while its call is still inside
    std::vector<std::thread> strays;
    static void run(void* user, pith_task_fn fn, void* task, uint32_t) {
        std::atomic<bool> inside{false};
        static_cast<Early*>(user)->strays.emplace_back([fn, task, &inside] {
            inside = true;
            fn(task, 0);
        });
        while (!inside) std::this_thread::yield();
        std::this_thread::sleep_for(std::chrono::milliseconds(2));  // into the slow chunk
    }
};

pith_runner runner_of(void (*run)(void*, pith_task_fn, void*, uint32_t), uint32_t width = 8, void* user = nullptr) {
    return {sizeof(pith_runner), user, run, width, 0};
}

// Runs one region and checks that each chunk was done exactly once.
void check_region(Crew& crew, uint32_t chunks) {
    std::vector<std::atomic<uint32_t>> done(chunks);
    std::atomic<uint32_t> worst_slot{0};
    auto body = [&](uint32_t chunk, uint32_t slot) {
        done[chunk]++;
        if (slot > worst_slot) worst_slot = slot;
    };
    crew.run(chunks, uint64_t{chunks} * Crew::kBytesPerSlot, body);
    for (uint32_t i = 0; i < chunks; i++) {
        INFO("chunk " << i << " of " << chunks);
        REQUIRE(done[i] == 1);
    }
    REQUIRE(worst_slot < crew.width());
}

}  // namespace

TEST_CASE("every good runner does every chunk once") {
    const pith_runner runners[] = {pith_runner{}, runner_of(serial), runner_of(reversed), runner_of(only_last), runner_of(nobody),
                                   runner_of(thread_each), runner_of(serial, 1), runner_of(serial, 256)};
    for (const pith_runner& runner : runners) {
        Crew crew(runner);
        for (const uint32_t chunks : {0u, 1u, 2u, 7u, 64u, 300u}) check_region(crew, chunks);
        for (int i = 0; i < 200; i++) check_region(crew, 9);  // more regions than tickets
        REQUIRE(crew.take_breaches() == 0);
    }
}

TEST_CASE("small regions stay on the calling thread") {
    std::atomic<uint32_t> runs{0};
    const pith_runner counted = runner_of(
        [](void* user, pith_task_fn fn, void* task, uint32_t count) {
            ++*static_cast<std::atomic<uint32_t>*>(user);
            serial(nullptr, fn, task, count);
        },
        8, &runs);
    Crew crew(counted);
    auto body = [](uint32_t, uint32_t) {};
    crew.run(64, Crew::kBytesPerSlot, body);
    CHECK(runs == 0);
    crew.run(1, Crew::kBytesPerSlot * 64, body);  // nothing to share
    CHECK(runs == 0);
    crew.run(64, Crew::kBytesPerSlot * 2, body);
    CHECK(runs == 1);
}

TEST_CASE("no more helpers are asked for than the bytes are worth") {
    uint32_t asked = 0;
    const pith_runner remembering = runner_of(
        [](void* user, pith_task_fn fn, void* task, uint32_t count) {
            *static_cast<uint32_t*>(user) = count;
            serial(nullptr, fn, task, count);
        },
        16, &asked);
    Crew crew(remembering);
    auto body = [](uint32_t, uint32_t) {};
    crew.run(100, Crew::kBytesPerSlot * 3, body);
    CHECK(asked == 3);
    crew.run(100, Crew::kBytesPerSlot * 1000, body);
    CHECK(asked == 16);
    crew.run(5, Crew::kBytesPerSlot * 1000, body);
    CHECK(asked == 5);
}

TEST_CASE("an index called twice or out of range is reported, and the work is right all the same") {
    for (auto run : {twice, out_of_range}) {
        Crew crew(runner_of(run));
        check_region(crew, 50);
        CHECK(crew.take_breaches() > 0);
        CHECK(crew.take_breaches() == 0);  // taken
    }
}

TEST_CASE("a call after run() has returned is reported and does nothing") {
    Late late;
    Crew crew(runner_of(Late::run, 8, &late));
    check_region(crew, 20);
    REQUIRE(crew.take_breaches() == 0);
    for (auto& [fn, task] : late.calls) fn(task, 1);
    CHECK(crew.take_breaches() == 1);
}

TEST_CASE("run() that returns before its calls have is waited for and reported") {
    Early early;
    Crew crew(runner_of(Early::run, 8, &early));
    std::atomic<uint32_t> done{0};
    auto slow = [&](uint32_t, uint32_t) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        done++;
    };
    crew.run(3, Crew::kBytesPerSlot * 8, slow);
    CHECK(done == 3);
    CHECK(crew.take_breaches() == 1);
    for (std::thread& t : early.strays) t.join();
}

TEST_CASE("a stop flag skips the chunks that have not started") {
    std::atomic<int32_t> stop{0};
    for (const pith_runner& runner : {pith_runner{}, runner_of(thread_each, 4)}) {
        Crew crew(runner);
        crew.set_stop(&stop);
        stop = 0;
        std::atomic<uint32_t> done{0};
        auto body = [&](uint32_t, uint32_t) {
            if (++done == 3) stop = 1;
        };
        crew.run(1000, Crew::kBytesPerSlot * 8, body);
        CHECK(done >= 3);
        CHECK(done < 1000);
        CHECK(crew.take_breaches() == 0);
    }
}

TEST_CASE("the host's floating-point mode is put back") {
#if defined(__x86_64__)
    const uint32_t before = _mm_getcsr();
    _mm_setcsr(before | 0x8040 | 0x4000);  // flush to zero, denormals are zero, round up
    const uint32_t odd = _mm_getcsr();
    uint32_t inside = 0;
    {
        const pith::FpScope scope;
        inside = _mm_getcsr();
    }
    const uint32_t after = _mm_getcsr();
    _mm_setcsr(before);
    CHECK((inside & 0xe040) == 0);
    CHECK(after == odd);
#endif
}

TEST_CASE("slots that come for nothing are not asked again, and are once there is work for them") {
    pith::UsefulSlots useful;
    const auto region = [&](uint32_t wanted, uint32_t cores) {
        const uint32_t asked = wanted < useful.most() ? wanted : useful.most();
        useful.learn(asked, asked < cores ? asked : cores);
        return asked;
    };
    for (int i = 0; i < 16; i++) CHECK(region(16, 2) == 16);
    uint32_t more = 0;
    for (int i = 0; i < 650; i++) more += region(16, 2) - 2;  // now and then it is tried whether there is room for one more
    CHECK(more == 10);
    for (int i = 0; i < 64; i++) region(16, 16);
    for (int i = 0; i < 100; i++) CHECK(region(16, 16) == 16);
    for (int i = 0; i < 100; i++) CHECK(region(2, 1) == 2);  // never fewer than two: one is no region
    CHECK(region(8, 8) <= 3);
    for (int i = 0; i < 80; i++) region(8, 8);
    CHECK(region(8, 8) == 8);
}

TEST_CASE("what a region used is counted, and lent time is the helpers' own") {
    pith::Account env, account;
    account.parent = &env;
    Crew crew(runner_of(thread_each, 4), &account);
    std::atomic<uint64_t> helpers{0};
    const void* caller = pith::this_thread();
    auto body = [&](uint32_t, uint32_t) {
        const uint64_t begin = pith::thread_cpu_ns();
        while (pith::thread_cpu_ns() - begin < 1000000) {
        }
        if (pith::this_thread() != caller) helpers += pith::thread_cpu_ns() - begin;
    };
    crew.run(3, 100, body);
    crew.run(16, Crew::kBytesPerSlot * 4, body);
    crew.run(8, Crew::kBytesPerSlot * 2, body);
    CHECK(account.get(pith::Used::RegionsLent) == 0);
    crew.settle();
    CHECK(account.get(pith::Used::RegionsInline) == 1);
    CHECK(account.get(pith::Used::RegionsLent) == 2);
    CHECK(account.get(pith::Used::HelpersAsked) == 6);
    CHECK(account.get(pith::Used::HelpersCame) == 6);
    CHECK(account.get(pith::Used::HelpersWorked) <= 6);
    CHECK(env.get(pith::Used::HelpersCame) == 6);
    const double share = static_cast<double>(account.get(pith::Used::CpuLent)) / static_cast<double>(helpers.load());
    CHECK(share > 0.8);
    CHECK(share < 1.2);
    crew.settle();
    CHECK(env.get(pith::Used::RegionsLent) == 2);
}
