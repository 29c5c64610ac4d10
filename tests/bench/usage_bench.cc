// What the account and a trace cost a decode: short turns of the same decode by two builds of the library, one with the account and one
// compiled without it (PITH_UNCOUNTED), in turn, hundreds of times. Each pair of turns gives a ratio of their times, and the median of a few
// pairs is one reading, since other programs disturb single turns and not their order. For each reading the models are loaded anew, in turn
// first and second: where their memory lies makes a difference as well. The median of the readings is the cost.
// usage_bench LIBPITH LIBPITH_UNCOUNTED MODEL [READINGS] [THREADS]
#include <dlfcn.h>
#include <pith/pith.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "runners/pthread.h"

namespace {

constexpr uint32_t kTokens = 24, kPairs = 9;

// The functions of one build; two of them are here at once, so nothing is linked.
struct Library {
#define PITH_BENCH_FUNCTION(name) decltype(&pith_##name) name = nullptr
    PITH_BENCH_FUNCTION(env_create);
    PITH_BENCH_FUNCTION(env_destroy);
    PITH_BENCH_FUNCTION(env_get_usage);
    PITH_BENCH_FUNCTION(env_trace);
    PITH_BENCH_FUNCTION(model_open);
    PITH_BENCH_FUNCTION(model_load);
    PITH_BENCH_FUNCTION(model_destroy);
    PITH_BENCH_FUNCTION(session_create);
    PITH_BENCH_FUNCTION(session_forward);
    PITH_BENCH_FUNCTION(session_sample);
    PITH_BENCH_FUNCTION(session_truncate);
    PITH_BENCH_FUNCTION(session_destroy);
    PITH_BENCH_FUNCTION(sampler_create);
    PITH_BENCH_FUNCTION(sampler_destroy);
#undef PITH_BENCH_FUNCTION

    explicit Library(const char* path) {
        void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!handle) {
            std::fprintf(stderr, "usage_bench: %s\n", dlerror());
            std::exit(1);
        }
#define PITH_BENCH_FUNCTION(name) load(handle, "pith_" #name, &name)
        PITH_BENCH_FUNCTION(env_create);
        PITH_BENCH_FUNCTION(env_destroy);
        PITH_BENCH_FUNCTION(env_get_usage);
        PITH_BENCH_FUNCTION(env_trace);
        PITH_BENCH_FUNCTION(model_open);
        PITH_BENCH_FUNCTION(model_load);
        PITH_BENCH_FUNCTION(model_destroy);
        PITH_BENCH_FUNCTION(session_create);
        PITH_BENCH_FUNCTION(session_forward);
        PITH_BENCH_FUNCTION(session_sample);
        PITH_BENCH_FUNCTION(session_truncate);
        PITH_BENCH_FUNCTION(session_destroy);
        PITH_BENCH_FUNCTION(sampler_create);
        PITH_BENCH_FUNCTION(sampler_destroy);
#undef PITH_BENCH_FUNCTION
    }

private:
    template <class F>
    static void load(void* handle, const char* name, F* to) {
        *to = reinterpret_cast<F>(dlsym(handle, name));
        if (*to) return;
        std::fprintf(stderr, "usage_bench: no %s\n", name);
        std::exit(1);
    }
};

void need(pith_status status, const pith_error& error) {
    if (status >= 0) return;
    std::fprintf(stderr, "usage_bench: %s\n", error.message);
    std::exit(1);
}

// One build with the model loaded.
class Side {
public:
    Side(const Library& library, const char* folder, const pith_runner* runner) : l_(library) {
        pith_env_options options{};
        options.struct_size = sizeof options;
        options.runner = runner;
        need(l_.env_create(&options, &env_, &error_), error_);
        need(l_.model_open(env_, folder, nullptr, &model_, &error_), error_);
        need(l_.model_load(model_, 0, nullptr, &error_), error_);
        need(l_.session_create(model_, nullptr, &session_, &error_), error_);
        need(l_.sampler_create(env_, nullptr, &sampler_, &error_), error_);
    }
    ~Side() {
        l_.sampler_destroy(sampler_);
        l_.session_destroy(session_);
        l_.model_destroy(model_);
        l_.env_destroy(env_);
    }
    Side(const Side&) = delete;

    void trace(std::vector<char>* memory) {
        need(l_.env_trace(env_, memory ? memory->data() : nullptr, memory ? memory->size() : 0, &error_), error_);
    }
    // Seconds a token.
    double turn() {
        need(l_.session_truncate(session_, 0, &error_), error_);
        pith_token token = 5;
        need(l_.session_forward(session_, &token, 1, 1, &error_), error_);
        const auto begin = std::chrono::steady_clock::now();
        for (uint32_t i = 0; i < kTokens; i++) {
            need(l_.session_forward(session_, &token, 1, 1, &error_), error_);
            need(l_.session_sample(session_, 0, sampler_, &token, &error_), error_);
        }
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / kTokens;
    }
    uint64_t counted() {
        pith_usage usage{};
        usage.struct_size = sizeof usage;
        need(l_.env_get_usage(env_, &usage, &error_), error_);
        return usage.tokens_decoded;
    }

private:
    const Library& l_;
    pith_error error_{};
    pith_env* env_ = nullptr;
    pith_model* model_ = nullptr;
    pith_session* session_ = nullptr;
    pith_sampler* sampler_ = nullptr;
};

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

// The median of the readings, and the ranks between which the true one lies 95 times of 100 (the binomial's normal form).
struct Ratios {
    std::vector<double> all;
    void print(const char* what) {
        std::sort(all.begin(), all.end());
        const double n = static_cast<double>(all.size()), half = 0.98 * std::sqrt(n);
        const auto at = [&](double rank) { return (all[static_cast<size_t>(std::clamp(rank, 0.0, n - 1))] - 1) * 100; };
        std::printf("  %-40s %+6.2f %% (95 %% sure: %+.2f to %+.2f), %zu readings of %u pairs\n", what, (median(all) - 1) * 100,
                    at(std::floor(n / 2 - half)), at(std::ceil(n / 2 + half)), all.size(), kPairs);
    }
};

}  // namespace

int main(int argc, char** argv) {
    if (argc < 4) return 2;
    const Library with(argv[1]), without(argv[2]);
    const int readings = argc > 4 ? std::max(1, std::atoi(argv[4])) : 60;
    const uint32_t threads = argc > 5 ? static_cast<uint32_t>(std::max(1, std::atoi(argv[5]))) : 1;
    thread_pool* pool = thread_pool_create(threads);
    const pith_runner runner = thread_pool_runner(pool);
    const pith_runner* lent = threads > 1 ? &runner : nullptr;
    std::vector<char> memory(512 << 10);
    Ratios account, trace, nothing;
    std::vector<double> times;
    for (int made = 0; made < readings; made++) {
        Side first(made % 2 ? without : with, argv[3], lent), second(made % 2 ? with : without, argv[3], lent), again(without, argv[3], lent);
        Side &counted = made % 2 ? second : first, &plain = made % 2 ? first : second;
        counted.turn();
        plain.turn();
        again.turn();
        if (!counted.counted() || plain.counted()) {
            std::fprintf(stderr, "usage_bench: the first library has to count, the second not to\n");
            return 1;
        }
        std::vector<double> account_of, trace_of, nothing_of;
        for (uint32_t i = 0; i < kPairs; i++) {
            const double a = counted.turn(), b = plain.turn(), c = again.turn(), d = plain.turn(), e = counted.turn();
            account_of.push_back((a + e) / (b + d));
            nothing_of.push_back(2 * c / (b + d));
            times.push_back(b);
            counted.trace(&memory);
            trace_of.push_back(counted.turn() / plain.turn());
            counted.trace(nullptr);
        }
        account.all.push_back(median(account_of));
        trace.all.push_back(median(trace_of));
        nothing.all.push_back(median(nothing_of));
    }
    std::printf("%u threads, %.1f us a token without the account (median)\n", threads, median(times) * 1e6);
    account.print("the account costs");
    trace.print("the account and a trace");
    nothing.print("nothing (the same build, loaded twice)");
    thread_pool_destroy(pool);
    return 0;
}
