// What the account and a trace cost a decode: the same decode by two builds of the library, one with the account and one compiled without it
// (PITH_UNCOUNTED), a token of the one, then the same token of the other, thousands of times. Each pair gives a ratio of times, and the median
// of some hundreds of pairs is one reading, since other programs disturb single tokens and not their order. For each reading the models are
// loaded anew, in turn first and second, and all read the same copy of the weights, since where memory lies makes more of a difference than
// the account. The median of the readings is the cost. The second build loaded twice shows what the method can tell apart.
// usage_bench LIBPITH LIBPITH_UNCOUNTED MODEL|SHAPE [READINGS] [THREADS]; a shape as pith_bench has them, such as 1b, of random weights
#include <dlfcn.h>
#include <pith/pith.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "random_model.h"
#include "runners/pthread.h"

namespace {

constexpr uint32_t kTokens = 48, kRounds = 3;

#define PITH_BENCH_FUNCTIONS(F) \
    F(env_create) \
    F(env_destroy) \
    F(env_get_usage) \
    F(env_trace) \
    F(model_open) \
    F(model_load) \
    F(model_destroy) \
    F(session_create) \
    F(session_forward) \
    F(session_sample) \
    F(session_truncate) \
    F(session_destroy) \
    F(sampler_create) \
    F(sampler_destroy)

// The functions of one build; two of them are here at once, so nothing is linked.
struct Library {
#define PITH_BENCH_FUNCTION(name) decltype(&pith_##name) name = nullptr;
    PITH_BENCH_FUNCTIONS(PITH_BENCH_FUNCTION)
#undef PITH_BENCH_FUNCTION

    explicit Library(const char* path) {
        void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!handle) {
            std::fprintf(stderr, "usage_bench: %s\n", dlerror());
            std::exit(1);
        }
#define PITH_BENCH_FUNCTION(name) load(handle, "pith_" #name, &name);
        PITH_BENCH_FUNCTIONS(PITH_BENCH_FUNCTION)
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

// The weights of a reading: every load of the same model asks for a block of this size and fills it with the same bytes.
struct Weights {
    static constexpr size_t kLeast = 12 << 20;
    void* block = nullptr;
    size_t size = 0;
    ~Weights() { std::free(block); }

    static void* alloc(void* user, size_t size, size_t alignment) {
        Weights* w = static_cast<Weights*>(user);
        if (size < kLeast) return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
        if (!w->block) {
            constexpr size_t kHuge = 2 << 20;
            w->size = size;
            w->block = std::aligned_alloc(kHuge, (size + kHuge - 1) / kHuge * kHuge);
        }
        return size == w->size ? w->block : nullptr;
    }
    static void release(void* user, void* memory, size_t, size_t) {
        if (memory != static_cast<Weights*>(user)->block) std::free(memory);
    }
};

// One build with the model loaded.
class Side {
public:
    Side(const Library& library, const char* folder, const pith_files* files, const pith_runner* runner, Weights* weights) : l_(library) {
        const pith_allocator allocator{sizeof allocator, weights, Weights::alloc, Weights::release};
        pith_env_options options{};
        options.struct_size = sizeof options;
        options.runner = runner;
        options.allocator = &allocator;
        options.files = files;
        need(l_.env_create(&options, &env_, &error_), error_);
        need(l_.model_open(env_, folder, nullptr, &model_, &error_), error_);
        need(l_.model_load(model_, 0, nullptr, &error_), error_);
        pith_session_options session{};
        session.struct_size = sizeof session;
        session.context_length = kTokens;
        need(l_.session_create(model_, &session, &session_, &error_), error_);
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
    void begin() {
        need(l_.session_truncate(session_, 0, &error_), error_);
        token_ = 5;
    }
    double token() {  // seconds
        const auto begin = std::chrono::steady_clock::now();
        need(l_.session_forward(session_, &token_, 1, 1, &error_), error_);
        need(l_.session_sample(session_, 0, sampler_, &token_, &error_), error_);
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
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
    pith_token token_ = 5;
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
                    at(std::floor(n / 2 - half)), at(std::ceil(n / 2 + half)), all.size(), kTokens * kRounds);
    }
};

}  // namespace

int main(int argc, char** argv) {
    if (argc < 4) return 2;
    const Library with(argv[1]), without(argv[2]);
    const int readings = argc > 4 ? std::max(1, std::atoi(argv[4])) : 100;
    const uint32_t threads = argc > 5 ? static_cast<uint32_t>(std::max(1, std::atoi(argv[5]))) : 1;
    thread_pool* pool = thread_pool_create(threads);
    const pith_runner runner = thread_pool_runner(pool);
    const pith_runner* lent = threads > 1 ? &runner : nullptr;
    const bench::Shape* shape = bench::find_shape(argv[3]);
    std::unique_ptr<bench::RandomModel> made_up;
    if (shape) made_up = std::make_unique<bench::RandomModel>(*shape, kTokens, bench::Recipe{});
    const pith_files made_up_files = shape ? made_up->files() : pith_files{};
    const pith_files* files = shape ? &made_up_files : nullptr;
    std::vector<char> memory(512 << 10);
    Ratios account, trace, nothing;
    std::vector<double> times;
    for (int made = 0; made < readings; made++) {
        Weights weights;
        Side first(made % 2 ? without : with, argv[3], files, lent, &weights), second(made % 2 ? with : without, argv[3], files, lent, &weights),
            again(without, argv[3], files, lent, &weights);
        Side &counted = made % 2 ? second : first, &plain = made % 2 ? first : second;
        std::vector<double> account_of, trace_of, nothing_of;
        const auto round = [&](std::vector<double>* ratios, std::vector<double>* none) {
            Side* sides[] = {&counted, &plain, &again};
            for (Side* side : sides) side->begin();
            for (uint32_t i = 0; i < kTokens; i++) {
                double seconds[3];
                for (uint32_t k = 0; k < 3; k++) {  // each first, second and third in turn, and after each other one as often
                    const uint32_t at = ((i % 2 ? k : 2 - k) + i / 2) % 3;
                    seconds[at] = sides[at]->token();
                }
                if (!ratios) continue;
                ratios->push_back(seconds[0] / seconds[1]);
                if (none) none->push_back(seconds[2] / seconds[1]);
                times.push_back(seconds[1]);
            }
        };
        round(nullptr, nullptr);
        if (!counted.counted() || plain.counted()) {
            std::fprintf(stderr, "usage_bench: the first library has to count, the second not to\n");
            return 1;
        }
        for (uint32_t i = 0; i < kRounds; i++) {
            round(&account_of, &nothing_of);
            counted.trace(&memory);
            round(&trace_of, nullptr);
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
