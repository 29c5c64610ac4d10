// What a GPU can do at most, measured in this process: the yardsticks beside every figure of the GPU bench. ceilings.cu where there is a
// CUDA compiler, else ceilings_none.cc.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

namespace bench {

class Ceilings {
public:
    // The GPU of this uuid. `cublaslt`: the library to open; empty: by its usual names.
    Ceilings(const uint8_t uuid[16], const std::string& cublaslt);
    ~Ceilings();
    Ceilings(const Ceilings&) = delete;

    // Why some are missing, a sentence; empty: all are there.
    const std::string& problem() const { return problem_; }

    // All give 0 where they can't be measured. A fraction of a second each.
    // GB (10^9 bytes) a second, reading 1 GiB and more in launches of so many bytes, none of which finds its bytes in a cache.
    double read(uint64_t launch_bytes);
    // GB a second, bytes read and bytes written together.
    double copy();
    // TFLOP/s of cuBLASLt: bf16 [m, k] times the transpose of bf16 [n, k], float accumulators, bf16 out; the best of what its heuristics
    // offer.
    double gemm(uint64_t m, uint64_t n, uint64_t k);

private:
    struct Gpu;
    std::unique_ptr<Gpu> gpu_;
    std::string problem_;
};

}  // namespace bench
