// One random model on a device, through the public API, and the timings that can be taken of it.
#pragma once
#include <pith/cuda.h>
#include <pith/pith.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "random_model.h"

namespace bench {

struct ModelSpec {
    Shape shape{};
    Recipe recipe;
    std::string plugin;
    bool small_shared = false;
    uint64_t context = 2048;  // what config.json says
};

// How a sequence is run.
struct Way {
    uint32_t wait = PITH_WAIT_BLOCK;
    bool run_ahead = false;
    bool greedy = false;
    uint32_t batch = 0;  // 0: the backend's
};

// What one measurement gave. Milliseconds are those of one step: the median of the turns.
struct Timing {
    double ms = 0;
    double tokens = 0;  // of a step
    double bytes = 0;   // that a step must read
    double flop = 0;    // of its matrices and its attention
    double cpu_ms = 0;  // of the whole process, a step
    double tokens_per_s() const { return tokens / ms * 1e3; }
    double gb_per_s() const { return bytes / ms * 1e-6; }
    double tflop_per_s() const { return flop / ms * 1e-9; }
    double core_share() const { return cpu_ms / ms; }
};

class DeviceModel {
public:
    // Opens and loads. Failures of this and of all below are std::runtime_error.
    explicit DeviceModel(const ModelSpec& spec);
    ~DeviceModel();
    DeviceModel(const DeviceModel&) = delete;

    // `tokens` single steps from `position` on, each with its draw and the token's arrival.
    Timing decode(const Way& way, uint32_t position, uint32_t tokens, uint32_t repeat);
    // One forward of `rows` tokens, logits of each, on top of `position`; the last row's token arrives.
    Timing step(const Way& way, uint32_t position, uint32_t rows, uint32_t repeat);
    // A prompt from nothing to its first token.
    Timing prefill(const Way& way, uint32_t tokens, uint32_t repeat);

    const RandomModel& files() const { return files_; }
    const pith_model_info& info() const { return info_; }
    double load_seconds() const { return load_seconds_; }
    // Of the last session, by its plan; and what the device lost to the process while it was there.
    uint64_t session_bytes() const { return session_bytes_; }
    uint64_t taken() const { return taken_; }
    // Of the whole device, with the session there: what every process and the driver hold.
    uint64_t used() const { return used_; }

private:
    class Sequence;
    void close();

    ModelSpec spec_;
    RandomModel files_;
    pith_env* env_ = nullptr;
    pith_model* model_ = nullptr;
    pith_model_info info_{};
    double load_seconds_ = 0;
    uint64_t free_before_ = 0, session_bytes_ = 0, taken_ = 0, used_ = 0;
};

// The GPU that a plug-in offers first. False: it offers none. Throws if it can't be loaded.
bool find_device(const std::string& plugin, pith_device_info* info);

double median(std::vector<double> values);

}  // namespace bench
