// The example pool keeps the runner contract: alone, from many threads at once, from inside its own regions, and after a pause.
#include <pith/pith.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "catch.h"
#include "runners/pthread.h"

namespace {

using Pool = std::unique_ptr<thread_pool, decltype(&thread_pool_destroy)>;

Pool make_pool(uint32_t threads) { return Pool(thread_pool_create(threads), thread_pool_destroy); }

// A region's shared work, as the library cuts it: slots claim pieces until none is left.
struct Region {
    static constexpr uint32_t kSlots = 256;
    explicit Region(uint32_t pieces) : left(pieces) {}

    static void enter(void* task, uint32_t index) {
        Region& r = *static_cast<Region*>(task);
        r.inside.fetch_add(1);
        if (r.closed.load()) r.late.fetch_add(1);
        if (index >= kSlots || r.calls[index].fetch_add(1) != 0) r.twice.fetch_add(1);
        while (r.left.fetch_sub(1) > 0) r.done.fetch_add(1);
        r.inside.fetch_sub(1);
    }

    std::atomic<int64_t> left;
    std::atomic<int64_t> done{0};
    std::atomic<uint32_t> inside{0}, late{0}, twice{0};
    std::atomic<bool> closed{false};
    std::atomic<uint32_t> calls[kSlots] = {};
};

// Runs one region and counts what went wrong.
int faults_of_region(const pith_runner& runner, uint32_t pieces, uint32_t count) {
    Region region(pieces);
    runner.run(runner.user, Region::enter, &region, count);
    region.closed.store(true);
    const uint32_t inside = region.inside.load();
    Region::enter(&region, Region::kSlots - 1);  // what the library does afterwards if nobody came
    uint32_t beyond = 0;
    for (uint32_t i = count; i < Region::kSlots - 1; i++) beyond += region.calls[i].load();
    return static_cast<int>(inside + beyond + region.twice.load() + (region.late.load() - 1)) + (region.done.load() != pieces);
}

int faults_of_regions(const pith_runner& runner, int regions) {
    int faults = 0;
    for (int i = 0; i < regions; i++) {
        const uint32_t count = 1 + static_cast<uint32_t>(i) % (runner.width + 2);
        faults += faults_of_region(runner, static_cast<uint32_t>(i % 37), count);
    }
    return faults;
}

}  // namespace

TEST_CASE("the library finds no breach in the example pool") {
    pith_env* env = nullptr;
    REQUIRE(pith_env_create(nullptr, &env, nullptr) == PITH_OK);
    for (uint32_t threads : {1u, 2u, 3u, 8u, 32u}) {
        const Pool pool = make_pool(threads);
        const pith_runner runner = thread_pool_runner(pool.get());
        CHECK(runner.width == threads);
        pith_error error;
        const pith_status status = pith_runner_check(env, &runner, &error);
        INFO(threads << " threads: " << (status ? error.message : ""));
        CHECK(status == PITH_OK);
    }
    pith_env_destroy(env);
}

TEST_CASE("a pool starts no thread for one, and 255 for too many") {
    CHECK(thread_pool_runner(make_pool(0).get()).width == 1);
    CHECK(thread_pool_runner(make_pool(1).get()).width == 1);
    CHECK(thread_pool_runner(make_pool(100000).get()).width <= 256);
}

TEST_CASE("regions of any size from one thread") {
    for (uint32_t threads : {1u, 2u, 5u, 16u}) {
        const Pool pool = make_pool(threads);
        CHECK(faults_of_regions(thread_pool_runner(pool.get()), 5000) == 0);
    }
}

TEST_CASE("regions after the helpers have parked") {
    const Pool pool = make_pool(4);
    int faults = 0;
    for (int i = 0; i < 50; i++) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        faults += faults_of_region(thread_pool_runner(pool.get()), 100, 4);
    }
    CHECK(faults == 0);
}

TEST_CASE("regions from more threads than the pool has slots") {
    const Pool pool = make_pool(4);
    const pith_runner runner = thread_pool_runner(pool.get());
    std::atomic<int> faults{0};
    std::vector<std::thread> hosts;
    for (int i = 0; i < 24; i++) hosts.emplace_back([&] { faults += faults_of_regions(runner, 400); });
    for (std::thread& host : hosts) host.join();
    CHECK(faults == 0);
}

TEST_CASE("regions from inside regions of the same pool") {
    struct Outer {
        pith_runner runner;
        std::atomic<int> faults{0}, calls{0};
    };
    const Pool pool = make_pool(4);
    Outer outer{thread_pool_runner(pool.get())};
    for (int i = 0; i < 100; i++) {
        outer.runner.run(
            outer.runner.user,
            [](void* task, uint32_t) {
                Outer& o = *static_cast<Outer*>(task);
                o.calls.fetch_add(1);
                o.faults += faults_of_regions(o.runner, 10);
            },
            &outer, 4);
    }
    CHECK(outer.faults == 0);
    CHECK(outer.calls >= 100);
}

TEST_CASE("what was written before a region is seen in it, and what it wrote after it") {
    struct Sum {
        std::vector<int64_t> in, out;
        std::atomic<size_t> next{0};
    };
    const Pool pool = make_pool(4);
    const pith_runner runner = thread_pool_runner(pool.get());
    Sum sum{std::vector<int64_t>(64), std::vector<int64_t>(64)};
    for (int64_t turn = 1; turn <= 1000; turn++) {
        for (int64_t& value : sum.in) value = turn;
        sum.next = 0;
        runner.run(
            runner.user,
            [](void* task, uint32_t) {
                Sum& s = *static_cast<Sum*>(task);
                for (size_t i; (i = s.next.fetch_add(1, std::memory_order_relaxed)) < s.in.size();) s.out[i] += s.in[i];
            },
            &sum, 4);
    }
    for (int64_t value : sum.out) REQUIRE(value == 1000 * 1001 / 2);
}
