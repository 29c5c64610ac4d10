// The demo model against its reference (demo/refs.*: the recipe's PyTorch, float32; demo/prose.*: transformers, float64), on every tier,
// and the promise of equal bits for every runner and every cutting of a prompt.
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <mutex>
#include <thread>

#include "demo.h"

namespace {

using namespace golden;

// exp of the mean negative log-likelihood, in windows of 1024 tokens whose first is not predicted.
double perplexity(const Model& model, const std::vector<pith_token>& ids, uint32_t flags) {
    double total = 0;
    size_t predicted = 0;
    for (size_t at = 0; at + 1 < ids.size(); at += 1024) {
        const size_t n = std::min<size_t>(1024, ids.size() - at);
        Session session(model, {flags, PITH_KV_DEFAULT, 0, 1024, 256});
        const std::vector<pith_token> window(ids.begin() + static_cast<long>(at), ids.begin() + static_cast<long>(at + n));
        const std::vector<float> logits = session.forward_all(window, 256);
        for (size_t i = 0; i + 1 < n; i++) {
            const float* row = &logits[i * kVocab];
            double largest = row[argmax(row, kVocab)], sum = 0;
            for (size_t v = 0; v < kVocab; v++) sum += std::exp(row[v] - largest);
            total += std::log(sum) + largest - row[window[i + 1]];
            predicted++;
        }
    }
    return std::exp(total / static_cast<double>(predicted));
}

// ---------------------------------------------------------------- runners
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

// Helpers queue, the caller works too, those that have not started when it is done are revoked.
class Pool {
public:
    explicit Pool(uint32_t helpers) {
        for (uint32_t i = 0; i < helpers; i++) threads_.emplace_back([this] { work(); });
    }
    ~Pool() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            stop_ = true;
        }
        wake_.notify_all();
        for (std::thread& t : threads_) t.join();
    }
    static void run(void* user, pith_task_fn fn, void* task, uint32_t count) {
        Pool& p = *static_cast<Pool*>(user);
        Job job{fn, task, 1, count, 0};
        {
            const std::lock_guard<std::mutex> lock(p.mutex_);
            p.jobs_.push_back(&job);
        }
        p.wake_.notify_all();
        fn(task, 0);
        std::unique_lock<std::mutex> lock(p.mutex_);
        for (auto it = p.jobs_.begin(); it != p.jobs_.end(); ++it)
            if (*it == &job) {
                p.jobs_.erase(it);
                break;
            }
        p.done_.wait(lock, [&] { return job.active == 0; });
    }

private:
    struct Job {
        pith_task_fn fn;
        void* task;
        uint32_t next, count, active;
    };
    void work() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return stop_ || !jobs_.empty(); });
            if (stop_) return;
            Job* job = jobs_.front();
            const uint32_t index = job->next++;
            if (job->next >= job->count) jobs_.pop_front();
            job->active++;
            lock.unlock();
            job->fn(job->task, index);
            lock.lock();
            if (--job->active == 0) done_.notify_all();
        }
    }
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::deque<Job*> jobs_;
    bool stop_ = false;
    std::vector<std::thread> threads_;
};

// A prompt long enough that regions are cut by tokens, then single tokens, which are cut by weights.
std::vector<float> long_run(const Model& model, const pith_runner* runner, uint32_t flags, size_t prompt) {
    const std::vector<pith_token> ids = Tensors(kDemo + "prose.safetensors").get<pith_token>("ids");
    Session session(model, {flags, PITH_KV_DEFAULT, 0, 512, 8, runner});
    std::vector<float> all = session.forward(ids.data(), prompt, 8);
    for (size_t i = prompt; i < prompt + 4; i++) {
        const std::vector<float> one = session.forward(&ids[i], 1, 1);
        all.insert(all.end(), one.begin(), one.end());
    }
    return all;
}

}  // namespace

TEST_CASE("logits and greedy texts of the eight prompts") {
    const std::vector<Prompt> all = prompts();
    REQUIRE(all.size() == 8);
    for (const Tier tier : tiers()) {
        const Model model(kModel, tier);
        const bool slow = tier == Tier::Scalar;
        std::vector<float> expected, exact_logits, half_logits, fast_logits;
        for (const Prompt& p : all) {
            expected.insert(expected.end(), p.logits.begin(), p.logits.end());
            Session exact(model, {PITH_SESSION_EXACT, PITH_KV_DEFAULT, 0, 128});
            const std::vector<float> logits = exact.forward(p.ids, 1);
            exact_logits.insert(exact_logits.end(), logits.begin(), logits.end());
            INFO(name(tier));
            if (!slow || &p == &all[0]) check_greedy(exact, logits, p.greedy, p.margins, kVocab);
            Session half(model, {PITH_SESSION_EXACT, PITH_KV_F16, 0, 128});
            const std::vector<float> h = half.forward(p.ids, 1);
            half_logits.insert(half_logits.end(), h.begin(), h.end());
            Session fast(model, {0, PITH_KV_DEFAULT, 0, 128});
            const std::vector<float> f = fast.forward(p.ids, 1);
            fast_logits.insert(fast_logits.end(), f.begin(), f.end());
        }
        const double exact_error = relative_error(exact_logits, expected, kVocab), half_error = relative_error(half_logits, expected, kVocab),
                     fast_error = relative_error(fast_logits, expected, kVocab);
        printf("%-7s eight prompts: exact %.1e, exact with F16 KV %.1e, int8 %.2e\n", name(tier), exact_error, half_error, fast_error);
        CHECK(exact_error <= 1e-5);  // the budget is 1e-4
        CHECK(half_error <= 5e-4);
        CHECK(fast_error <= 1e-2);
        for (const auto& [logits, least] : {std::pair(&exact_logits, 0.1), {&half_logits, 0.1}, {&fast_logits, 0.5}}) {
            const Agreement clear = agreement(*logits, expected, kVocab, least);
            CHECK(clear.same == clear.of);
        }
    }
}

TEST_CASE("perplexity, top token and logits over a text") {
    const Tensors file(kDemo + "prose.safetensors");
    const std::vector<pith_token> ids = file.get<pith_token>("ids"), top = file.get<pith_token>("top");
    const std::vector<int32_t> rows = file.get<int32_t>("rows");
    const std::vector<float> expected = file.get<float>("logits"), margins = file.get<float>("margin");
    const double reference = std::exp(file.get<double>("nll")[0] / static_cast<double>(ids.size() - 2));
    for (const Tier tier : tiers()) {
        if (tier == Tier::Scalar) continue;  // minutes of what the eight prompts have shown
        const Model model(kModel, tier);
        for (const uint32_t flags : {0u, uint32_t{PITH_SESSION_EXACT}}) {
            if (flags && tier != pith::kernels::best_tier()) continue;
            INFO(name(tier) << ", flags " << flags);
            const double ours = perplexity(model, ids, flags);
            CHECK(std::abs(ours / reference - 1) <= 5e-3);
            Session session(model, {flags, PITH_KV_DEFAULT, 0, 1024, 256});
            const std::vector<float> logits = session.forward_all({ids.begin(), ids.begin() + 1024}, 256);
            std::vector<float> chosen;
            for (const int32_t row : rows) chosen.insert(chosen.end(), &logits[row * kVocab], &logits[row * kVocab] + kVocab);
            const double error = relative_error(chosen, expected, kVocab);
            CHECK(error <= (flags ? 1e-4 : 1e-2));
            size_t same = 0, clear = 0, clear_same = 0;
            for (size_t i = 0; i < 1024; i++) {
                const bool equal = argmax(&logits[i * kVocab], kVocab) == static_cast<size_t>(top[i]);
                same += equal;
                if (margins[i] < (flags ? 0.1f : 0.5f)) continue;
                clear++;
                clear_same += equal;
            }
            CHECK(same >= 1024 * 985 / 1000);
            CHECK(clear_same == clear);
            printf("%-7s prose, %s: perplexity %.3f (reference %.3f), relative error %.2e, top token %zu of 1024\n", name(tier),
                   flags ? "exact" : "int8", ours, reference, error, same);
        }
    }
}

TEST_CASE("perplexity with a head of 8 bits") {
    const Tensors file(kDemo + "prose.safetensors");
    const std::vector<pith_token> ids = file.get<pith_token>("ids");
    const double reference = std::exp(file.get<double>("nll")[0] / static_cast<double>(ids.size() - 2));
    for (const Tier tier : tiers()) {
        if (tier == Tier::Scalar) continue;
        const Model model(kModel, tier, PITH_MODEL_HEAD_8BIT);
        for (const uint32_t flags : {0u, uint32_t{PITH_SESSION_EXACT}}) {
            if (flags && tier != pith::kernels::best_tier()) continue;
            const double ours = perplexity(model, ids, flags);
            CHECK(std::abs(ours / reference - 1) <= 5e-3);
            printf("%-7s prose, 8-bit head, %s: perplexity %.4f (reference %.4f)\n", name(tier), flags ? "exact" : "int8", ours, reference);
        }
    }
}

TEST_CASE("perplexity of the validation text") {
    const std::string path = PITH_DEMO_VALIDATION;
    if (path.empty()) {
        printf("SKIPPED: the validation text is not in the tree (third-party); configure with -DPITH_DEMO_VALIDATION=<refs.safetensors>\n");
        return;
    }
    const std::vector<pith_token> ids = Tensors(path).get<pith_token>("val_tokens");
    for (const Tier tier : tiers()) {
        if (tier == Tier::Scalar) continue;
        const Model model(kModel, tier);
        for (const uint32_t flags : {0u, uint32_t{PITH_SESSION_EXACT}}) {
            const double ours = perplexity(model, ids, flags);
            printf("%-7s validation, %s: perplexity %.4f (reference 31.650)\n", name(tier), flags ? "exact" : "int8", ours);
            CHECK(std::abs(ours / 31.650 - 1) <= 5e-3);
        }
    }
}

TEST_CASE("every runner and width gives the same bits") {
    struct {
        const char* name;
        void (*run)(void*, pith_task_fn, void*, uint32_t);
        uint32_t width;
    } const runners[] = {{"serial", serial, 8},       {"reversed", reversed, 3},     {"only the last", only_last, 16}, {"nobody", nobody, 256},
                         {"a thread each", thread_each, 5}, {"serial of width 1", serial, 1}, {"a thread each of 2", thread_each, 2}};
    for (const Tier tier : tiers()) {
        const size_t prompt = tier == Tier::Scalar ? 8 : 140;
        const Model model(kModel, tier);
        for (const uint32_t flags : {0u, uint32_t{PITH_SESSION_EXACT}}) {
            const std::vector<float> expected = long_run(model, nullptr, flags, prompt);
            const auto check = [&](const char* what, const pith_runner& runner) {
                INFO(name(tier) << ", flags " << flags << ", " << what);
                const std::vector<float> got = long_run(model, &runner, flags, prompt);
                REQUIRE(memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0);
            };
            for (const auto& r : runners) check(r.name, {sizeof(pith_runner), nullptr, r.run, r.width, 0});
            for (const uint32_t width : {2u, 4u, 16u}) {
                Pool pool(width - 1);
                check("a pool", {sizeof(pith_runner), &pool, Pool::run, width, 0});
            }
        }
    }
}

TEST_CASE("one token over a long cache gives the same bits for every width, and those of a whole prompt") {
    const std::vector<pith_token> prose = Tensors(kDemo + "prose.safetensors").get<pith_token>("ids");
    const std::vector<pith_token> ids(prose.begin(), prose.begin() + 603);
    constexpr size_t kRows = 3;
    for (const Tier tier : tiers()) {
        if (tier == Tier::Scalar) continue;
        const Model model(kModel, tier);
        for (const uint32_t flags : {0u, uint32_t{PITH_SESSION_EXACT}}) {
            const std::vector<float> expected = Session(model, {flags, PITH_KV_DEFAULT, 0, 1024, kRows}).forward(ids, kRows);
            for (const uint32_t width : {1u, 2u, 16u}) {
                INFO(name(tier) << ", flags " << flags << ", width " << width);
                Pool pool(width - 1);
                const pith_runner runner{sizeof(pith_runner), &pool, Pool::run, width, 0};
                Session session(model, {flags, PITH_KV_DEFAULT, 0, 1024, 1, &runner});
                session.forward(ids.data(), ids.size() - kRows, 1);
                for (size_t i = 0; i < kRows; i++) {
                    const std::vector<float> one = session.forward(&ids[ids.size() - kRows + i], 1, 1);
                    CHECK(memcmp(one.data(), &expected[i * kVocab], kVocab * sizeof(float)) == 0);
                }
            }
        }
    }
}

TEST_CASE("the cutting of a prompt changes no bit") {
    const std::vector<pith_token> prose = Tensors(kDemo + "prose.safetensors").get<pith_token>("ids");
    for (const Tier tier : tiers()) {
        const size_t n = tier == Tier::Scalar ? 20 : 150;
        const std::vector<pith_token> ids(prose.begin(), prose.begin() + static_cast<long>(n));
        const Model model(kModel, tier);
        for (const uint32_t flags : {0u, uint32_t{PITH_SESSION_EXACT}}) {
            Session whole(model, {flags, PITH_KV_DEFAULT, 0, 256, 256});
            const std::vector<float> expected = whole.forward(ids, n);
            for (const size_t at_once : {1, 7, 64}) {
                Session cut(model, {flags, PITH_KV_DEFAULT, at_once == 7 ? 5u : 0u, 256, 256});
                const std::vector<float> got = cut.forward_all(ids, at_once);
                INFO(name(tier) << ", flags " << flags << ", " << at_once << " at once");
                REQUIRE(memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0);
            }
        }
    }
}
