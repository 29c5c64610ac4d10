// The GPU half of pith_bench: random models on a GPU beside the GPU's own ceilings, all in one process.
#pragma once
#include <string>
#include <vector>

#include "random_model.h"

namespace bench {

struct DeviceOptions {
    std::string plugin = "libpith_cuda.so";  // beside libpith.so, unless it names a folder
    std::string generic_plugin;              // --suite: one without code for this GPU's architecture
    std::string cublaslt;
    std::string shape = "7b";
    uint64_t layers = 0, vocab = 0;  // 0: the shape's
    Recipe recipe;
    uint32_t wait = 0;  // PITH_WAIT_*
    bool run_ahead = true, small_shared = false;
    uint32_t prompt = 1920, decode = 128, position = 1920, repeat = 3, batch = 0;
    std::vector<uint32_t> rows{2, 4, 8, 16, 32, 64};
    std::vector<std::string> measure;  // parts of a shape's measurements, or of the suite; empty: the usual ones
    bool suite = false, rehearse = false, json = false;
};

// Parts that `measure` may name.
const std::vector<std::string>& shape_parts();
const std::vector<std::string>& suite_parts();

// Returns what main does: 0; 1 if something failed; 77 if there is no GPU.
int run_device_bench(const DeviceOptions& options);

}  // namespace bench
