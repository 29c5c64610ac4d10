// Sessions on several threads share one model and one pool; some call Pith from inside the pool itself. Every logit is that of a session
// without a runner.
#include <pith/pith.hpp>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "catch.h"
#include "runners/pthread.h"

namespace {

constexpr int kSteps = 6;

struct Shared {
    const pith::Model* model;
    const pith_runner* runner;
    std::vector<float> expected;
    std::atomic<int> right{0}, calls{0};
};

// The last logits of a prompt and a few more tokens, cut into calls so that regions of all sizes occur.
std::vector<float> last_logits(const pith::Model& model, const pith_runner* runner) {
    auto options = pith::make<pith_session_options>();
    options.context_length = 64;
    options.batch_length = 16;
    options.runner = runner;
    pith::Session session(model, &options);
    std::vector<pith_token> prompt(40);
    for (size_t i = 0; i < prompt.size(); i++) prompt[i] = static_cast<pith_token>(i * 197 % 8192);
    session.forward(prompt);
    for (int i = 0; i < kSteps; i++) session.forward(static_cast<pith_token>(100 + i));
    const pith::Logits logits = session.logits();
    return {logits.data, logits.data + model.info().vocab_size};
}

void compare(Shared& shared) {
    shared.calls.fetch_add(1);
    if (last_logits(*shared.model, shared.runner) == shared.expected) shared.right.fetch_add(1);
}

}  // namespace

TEST_CASE("two threads, two sessions, one model, one pool") {
    const pith::Env env;
    pith::Model model(env, PITH_DEMO_MODEL);
    model.load();
    const std::unique_ptr<thread_pool, decltype(&thread_pool_destroy)> pool(thread_pool_create(3), thread_pool_destroy);
    const pith_runner runner = thread_pool_runner(pool.get());
    Shared shared{&model, &runner, last_logits(model, nullptr)};

    std::thread other([&] {
        for (int i = 0; i < 3; i++) compare(shared);
    });
    for (int i = 0; i < 3; i++) compare(shared);
    other.join();
    CHECK(shared.right == 6);

    // From inside the pool: calls under way hold its threads, and cannot wait for one another.
    shared.right = shared.calls = 0;
    for (int i = 0; i < 3; i++)
        runner.run(
            runner.user, [](void* task, uint32_t) { compare(*static_cast<Shared*>(task)); }, &shared, 3);
    CHECK(shared.calls >= 3);
    CHECK(shared.right == shared.calls);
}

TEST_CASE("a model is loaded through the pool") {
    const std::unique_ptr<thread_pool, decltype(&thread_pool_destroy)> pool(thread_pool_create(4), thread_pool_destroy);
    const pith_runner runner = thread_pool_runner(pool.get());
    auto options = pith::make<pith_env_options>();
    options.runner = &runner;
    const pith::Env lent(&options), plain;
    pith::Model one(lent, PITH_DEMO_MODEL), other(plain, PITH_DEMO_MODEL);
    one.load();
    other.load();
    CHECK(last_logits(one, nullptr) == last_logits(other, nullptr));
}

TEST_CASE("cancel from another thread, then go on") {
    const pith::Env env;
    pith::Model model(env, PITH_DEMO_MODEL);
    model.load();
    const std::unique_ptr<thread_pool, decltype(&thread_pool_destroy)> pool(thread_pool_create(2), thread_pool_destroy);
    const pith_runner runner = thread_pool_runner(pool.get());
    auto options = pith::make<pith_session_options>();
    options.context_length = 64;
    options.runner = &runner;
    pith::Session session(model, &options);
    std::thread stopper([&] { session.cancel(); });
    size_t done = 0;
    try {
        for (;; done++) {
            session.forward(7);
            if (session.length() == 64) session.truncate(0);
        }
    } catch (const pith::Error& error) {
        CHECK(error.status() == PITH_E_CANCELLED);
    }
    stopper.join();
    CHECK(session.length() == done % 64);
    session.cancel(false);
    session.truncate(0);
    session.forward(7);
    CHECK(session.length() == 1);
}
