// How fast this machine reads memory right now, with a given runner: the yardstick beside every decode figure.
#pragma once
#include <pith/env.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#if defined(__x86_64__)
#    include <immintrin.h>
#endif
#if defined(__linux__)
#    include <sys/mman.h>
#endif

namespace bench {

inline uint64_t read_plain(const void* from, size_t size) {
    const uint64_t* words = static_cast<const uint64_t*>(from);
    uint64_t sum[8] = {};
    for (size_t i = 0; i + 8 <= size / 8; i += 8)
        for (size_t j = 0; j < 8; j++) sum[j] += words[i + j];
    return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) inline uint64_t read_avx2(const void* from, size_t size) {
    const __m256i* vectors = static_cast<const __m256i*>(from);
    __m256i sum[4] = {};
    for (size_t i = 0; i < size / 32; i += 4)
        for (size_t j = 0; j < 4; j++) sum[j] = _mm256_xor_si256(sum[j], _mm256_load_si256(vectors + i + j));
    const __m256i all = _mm256_xor_si256(_mm256_xor_si256(sum[0], sum[1]), _mm256_xor_si256(sum[2], sum[3]));
    return static_cast<uint64_t>(_mm256_extract_epi64(all, 0) ^ _mm256_extract_epi64(all, 3));
}
__attribute__((target("avx512f"))) inline uint64_t read_avx512(const void* from, size_t size) {
    const __m512i* vectors = static_cast<const __m512i*>(from);
    __m512i sum[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    for (size_t i = 0; i < size / 64; i += 4)
        for (size_t j = 0; j < 4; j++) sum[j] = _mm512_xor_si512(sum[j], _mm512_load_si512(vectors + i + j));
    alignas(64) uint64_t all[8];
    _mm512_store_si512(all, _mm512_xor_si512(_mm512_xor_si512(sum[0], sum[1]), _mm512_xor_si512(sum[2], sum[3])));
    return all[0] ^ all[7];
}
#endif

class Bandwidth {
public:
    explicit Bandwidth(size_t bytes) : bytes_(bytes / kChunk * kChunk), buffer_(std::aligned_alloc(kChunk, bytes_)) {
        if (!buffer_) return;
#if defined(__linux__)
        madvise(buffer_.get(), bytes_, MADV_HUGEPAGE);
#endif
        std::memset(buffer_.get(), 1, bytes_);
        read_ = read_plain;
#if defined(__x86_64__)
        if (__builtin_cpu_supports("avx512f"))
            read_ = read_avx512;
        else if (__builtin_cpu_supports("avx2"))
            read_ = read_avx2;
#endif
    }
    // GB (10^9 bytes) a second, the best of a few passes over the buffer; 0 without one.
    double measure(const pith_runner& runner, int passes = 4) {
        double best = 0;
        for (int pass = 0; pass < passes && buffer_; pass++) {
            next_ = 0;
            const auto start = std::chrono::steady_clock::now();
            runner.run(
                runner.user, [](void* task, uint32_t) { static_cast<Bandwidth*>(task)->work(); }, this, runner.width);
            work();  // a runner may come with no one
            const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
            const double rate = static_cast<double>(bytes_) / seconds * 1e-9;
            if (rate > best) best = rate;
        }
        return best;
    }
    // On this thread.
    void read(size_t at, size_t size) {
        sink_.fetch_add(read_(static_cast<const char*>(buffer_.get()) + at, size), std::memory_order_relaxed);
    }
    size_t bytes() const { return buffer_ ? bytes_ : 0; }

private:
    static constexpr size_t kChunk = 2 << 20;
    struct Free {
        void operator()(void* memory) const { std::free(memory); }
    };
    void work() {
        uint64_t sum = 0;
        for (size_t at; (at = next_.fetch_add(kChunk, std::memory_order_relaxed)) < bytes_;)
            sum += read_(static_cast<const char*>(buffer_.get()) + at, kChunk);
        sink_.fetch_add(sum, std::memory_order_relaxed);  // or the reads could be left out
    }

    size_t bytes_;
    std::unique_ptr<void, Free> buffer_;
    uint64_t (*read_)(const void*, size_t) = nullptr;
    std::atomic<size_t> next_{0};
    std::atomic<uint64_t> sink_{0};
};

}  // namespace bench
