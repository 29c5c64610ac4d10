// An account as a person reads it: what was used between two readings.
#pragma once
#include <pith/usage.h>

#include <cstdio>

inline void print_usage(std::FILE* to, const pith_usage& from, const pith_usage& now) {
    const auto seconds = [](uint64_t a, uint64_t b) { return static_cast<double>(b - a) * 1e-9; };
    const auto megabytes = [](uint64_t bytes) { return static_cast<double>(bytes) / 1e6; };
    const auto count = [](uint64_t a, uint64_t b) { return static_cast<unsigned long long>(b - a); };
    const double passed = seconds(from.time_ns, now.time_ns);
    const auto share = [&](double part) { return passed > 0 ? 100 * part / passed : 0; };
    const double caller = seconds(from.cpu_caller_ns, now.cpu_caller_ns), lent = seconds(from.cpu_lent_ns, now.cpu_lent_ns);
    std::fprintf(to, "usage: %.3f s, of which in Pith %.3f s (prefill %.3f, decode %.3f, sampling %.3f)\n", passed,
                 seconds(from.wall_ns, now.wall_ns), seconds(from.prefill_ns, now.prefill_ns), seconds(from.decode_ns, now.decode_ns),
                 seconds(from.sample_ns, now.sample_ns));
    std::fprintf(to, "  tokens: %llu in prompts, %llu alone, %llu drawn\n", count(from.tokens_prefilled, now.tokens_prefilled),
                 count(from.tokens_decoded, now.tokens_decoded), count(from.tokens_drawn, now.tokens_drawn));
    std::fprintf(to, "  CPU (%s): %.3f s on the calling thread, %.3f s on lent threads (%.2f cores); waited %.3f s\n", now.cpu_kernels,
                 caller, lent, share(caller + lent) / 100, seconds(from.wait_ns, now.wait_ns));
    std::fprintf(to, "  regions: %llu done alone, %llu with helpers: %llu asked, %llu came, %llu found work\n",
                 count(from.regions_inline, now.regions_inline), count(from.regions_lent, now.regions_lent),
                 count(from.helpers_asked, now.helpers_asked), count(from.helpers_came, now.helpers_came),
                 count(from.helpers_worked, now.helpers_worked));
    if (now.gpu_submissions) {
        const double compute = seconds(from.gpu_compute_ns, now.gpu_compute_ns), in = seconds(from.gpu_to_device_ns, now.gpu_to_device_ns),
                     out = seconds(from.gpu_to_host_ns, now.gpu_to_host_ns),
                     busiest = compute > in ? (compute > out ? compute : out) : (in > out ? in : out);
        std::fprintf(to, "  GPU (%s): busy %.1f %%: computing %.3f s, copying in %.3f s, copying out %.3f s; %llu submissions\n",
                     now.device_name, share(busiest), compute, in, out, count(from.gpu_submissions, now.gpu_submissions));
    }
    std::fprintf(to, "  memory: weights %.1f MB, KV %.1f, scratch %.1f, staging %.1f", megabytes(now.host_weights), megabytes(now.host_kv),
                 megabytes(now.host_scratch), megabytes(now.host_staging));
    if (now.device_weights)
        std::fprintf(to, "; on the GPU weights %.1f, KV %.1f, scratch %.1f", megabytes(now.device_weights), megabytes(now.device_kv),
                     megabytes(now.device_scratch));
    std::fprintf(to, "\n");
}
