// Where lib/parallel's task sizes come from: what a region of so many bytes takes on one thread and on two, and the demo model's decode
// with pools of 1, 2, 4 and 8 threads, whatever the cores. Interleaved rounds, since a machine's other work comes and goes.
// region_bench DEMO_MODEL [ROUNDS]
#include <pith/pith.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "parallel/crew.h"
#include "runners/pthread.h"

namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

double percentile(std::vector<double> values, double share) {
    std::sort(values.begin(), values.end());
    return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

// Streams memory as decode streams weights: no byte twice until the buffer is through.
struct Stream {
    static constexpr size_t kChunk = 16 << 10;
    std::vector<uint64_t> memory = std::vector<uint64_t>((128 << 20) / sizeof(uint64_t), 1);
    size_t at = 0;
    uint64_t sums[pith::kMaxSlots * 8] = {};

    // One region of `bytes`, on up to `slots` threads; microseconds.
    double region(pith::Crew& crew, size_t bytes, uint32_t slots) {
        if (at + bytes > memory.size() * sizeof(uint64_t)) at = 0;
        const uint64_t* from = memory.data() + at / sizeof(uint64_t);
        at += bytes;
        auto body = [&](uint32_t chunk, uint32_t slot) {
            const uint64_t* x = from + chunk * kChunk / sizeof(uint64_t);
            uint64_t sum[8] = {};
            for (size_t i = 0; i < kChunk / sizeof(uint64_t); i += 8)
                for (size_t k = 0; k < 8; k++) sum[k] += x[i + k];
            for (size_t k = 0; k < 8; k++) sums[slot * 8 + k] += sum[k];
        };
        const auto begin = Clock::now();
        crew.run(static_cast<uint32_t>(bytes / kChunk), uint64_t{slots} * pith::Crew::kBytesPerSlot, body);
        return seconds_since(begin) * 1e6;
    }
};

void sizes(int rounds) {
    thread_pool* pool = thread_pool_create(2);
    {
        pith::Crew crew(thread_pool_runner(pool));
        Stream stream;
        std::printf("us a region (median; best tenth)\n   KiB    1 thread           2 threads          gain\n");
        for (size_t kib = 32; kib <= 4096; kib *= 2) {
            std::vector<double> one, two;
            for (int i = 0; i < rounds * 20; i++) {
                one.push_back(stream.region(crew, kib << 10, 1));
                two.push_back(stream.region(crew, kib << 10, 2));
            }
            std::printf("%6zu %8.1f %8.1f  %8.1f %8.1f  %8.2f %5.2f\n", kib, percentile(one, 0.5), percentile(one, 0.1), percentile(two, 0.5),
                        percentile(two, 0.1), percentile(one, 0.5) / percentile(two, 0.5), percentile(one, 0.1) / percentile(two, 0.1));
        }
    }
    thread_pool_destroy(pool);
}

void need(pith_status status, const pith_error& error) {
    if (status >= 0) return;
    std::fprintf(stderr, "region_bench: %s: %s\n", pith_status_name(status), error.message);
    std::exit(1);
}

pith_usage usage_of(const pith_session* session) {
    pith_error error{};
    pith_usage usage{};
    usage.struct_size = sizeof usage;
    need(pith_session_get_usage(session, &usage, &error), error);
    return usage;
}

void widths(const char* folder, int rounds) {
    constexpr uint32_t kWidths[] = {1, 2, 4, 8};
    constexpr int kTokens = 64;
    pith_error error{};
    pith_env* env = nullptr;
    pith_model* model = nullptr;
    need(pith_env_create(nullptr, &env, &error), error);
    need(pith_model_open(env, folder, nullptr, &model, &error), error);
    need(pith_model_load(model, 0, nullptr, &error), error);
    thread_pool* pools[4];
    pith_session* sessions[4];
    std::vector<double> rates[4];
    for (int w = 0; w < 4; w++) {
        pools[w] = thread_pool_create(kWidths[w]);
        const pith_runner runner = thread_pool_runner(pools[w]);
        pith_session_options options{};
        options.struct_size = sizeof options;
        options.runner = &runner;
        need(pith_session_create(model, &options, &sessions[w], &error), error);
    }
    for (int round = 0; round < rounds; round++)
        for (int w = 0; w < 4; w++) {
            const pith_token token = 5;
            need(pith_session_truncate(sessions[w], 0, &error), error);
            need(pith_session_forward(sessions[w], &token, 1, 1, &error), error);
            const auto begin = Clock::now();
            for (int i = 1; i < kTokens; i++) need(pith_session_forward(sessions[w], &token, 1, 1, &error), error);
            rates[w].push_back((kTokens - 1) / seconds_since(begin));
        }
    std::printf("demo model, one token at a time\n threads  tokens/s (median; best tenth)  helpers a region: asked  found work  CPU ms a token\n");
    for (int w = 0; w < 4; w++) {
        const pith_usage u = usage_of(sessions[w]);
        const double regions = u.regions_lent ? static_cast<double>(u.regions_lent) : 1;
        std::printf("%8u %10.1f %10.1f %29.2f %11.2f %15.3f\n", kWidths[w], percentile(rates[w], 0.5), percentile(rates[w], 0.9),
                    static_cast<double>(u.helpers_asked) / regions, static_cast<double>(u.helpers_worked) / regions,
                    static_cast<double>(u.cpu_caller_ns + u.cpu_lent_ns) * 1e-6 / static_cast<double>(u.tokens_decoded));
    }
    for (int w = 2; w < 4; w++)
        std::printf("width %u at %.2f of width 2 (0.90 is the least wanted)\n", kWidths[w], percentile(rates[w], 0.9) / percentile(rates[1], 0.9));
    for (int w = 0; w < 4; w++) {
        pith_session_destroy(sessions[w]);
        thread_pool_destroy(pools[w]);
    }
    pith_model_destroy(model);
    pith_env_destroy(env);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    const int rounds = argc > 2 ? std::max(1, std::atoi(argv[2])) : 20;
    sizes(rounds);
    widths(argv[1], rounds);
    return 0;
}
