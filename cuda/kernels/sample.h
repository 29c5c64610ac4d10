// Drawing a token from a row of logits in device memory: one kernel, one launch, whatever the steps.
//
// The launch never changes: what the steps are (SampleChain), what has been recorded (SampleHistory and its ring) and the logits are read
// from memory. The token goes to a slot that the next forward reads and, with a status, to a SampleResult that the host reads. Same steps,
// same seed and same place give the token that lib/sample draws; the two differ only where u times the total weight falls within the
// rounding of float sums (about 3e-7 of the total) of a boundary between tokens.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>

namespace pith::cuda {

inline constexpr uint32_t kSampleThreads = 512;
inline constexpr uint32_t kSampleSlice = 2048;       // logits to a block
inline constexpr uint32_t kSampleGroup = 128;        // logits to a group, whose largest is remembered
inline constexpr uint32_t kSampleMaxVocab = 262144;  // longer rows are drawn from on the CPU
inline constexpr uint32_t kSampleMaxSteps = 16;
inline constexpr uint32_t kSampleMaxDecay = 65535;

// What is left of a sampler's steps once temperatures have become a scale.
enum class SampleKind : uint32_t { Draw, Largest, TopK, TopP, MinP, Penalties };

struct SampleStep {
    SampleKind kind;
    uint32_t count;  // TopK
    float value;     // TopP
    uint32_t window, decay;
    uint32_t reserved;
    double repetition, frequency, presence;
    double scale;   // of all temperatures before it
    double offset;  // MinP: what is kept lies at most this (negative) below the largest
    double inverse_repetition, inverse_scale;
};

struct SampleChain {
    uint64_t seed;
    double scale;         // of all temperatures
    uint32_t vocabulary;  // ids at and above it are never drawn
    uint32_t prefix;      // penalties that come before any other step
    uint32_t steps;       // not counting the closing Draw
    uint32_t late;        // 1: there are penalties after the prefix
    SampleStep step[kSampleMaxSteps + 1];
};

// In device memory, followed by nothing: the ring lies elsewhere. As lib/sample/history.h has it: the token recorded `age` tokens ago is
// ring[(recorded - 1 - age) % ring_size], and at most `length` of them count.
struct SampleHistory {
    uint64_t recorded;
    uint32_t length;
    uint32_t ring_size;  // 0: nothing is remembered, only counted
};

enum class SampleStatus : uint32_t { Ok, Nan, Infinite, Nothing };

// Written in one piece of 16 bytes.
struct alignas(16) SampleResult {
    int32_t token;
    SampleStatus status;
    uint32_t index;   // of the first NaN or +inf
    uint32_t serial;  // launches so far with this workspace, this one included
};

struct SampleArgs {
    const float* logits;  // [vocab], only read
    const SampleChain* chain;
    SampleHistory* history;
    int32_t* ring;
    void* workspace;       // sample_workspace(vocab) bytes, 256-byte aligned, zeroed once
    SampleResult* result;  // may be mapped host memory
    int32_t* next;         // the token drawn, left alone on failure; may be NULL
    uint32_t vocab;
    uint32_t record;  // 1: the token drawn is added to history and ring
};

struct SampleGeometry {
    uint32_t grid, block, shared;
};

inline SampleGeometry sample_geometry(uint32_t vocab) { return {(vocab + kSampleSlice - 1) / kSampleSlice, kSampleThreads, 0}; }

// The parts of the workspace, as offsets in bytes.
struct SampleLayout {
    size_t row, groups, sums, slices, masses, histogram, end;
};
inline constexpr size_t kSampleControlBytes = 4096;
inline constexpr uint32_t kSampleBins = 2048;

#if defined(__CUDACC__)
__host__ __device__
#endif
    inline SampleLayout
    sample_layout(uint32_t vocab) {
    const size_t n = (size_t{vocab} + kSampleSlice - 1) / kSampleSlice * kSampleSlice;
    SampleLayout at{};
    at.row = kSampleControlBytes;            // float [n]: the row once penalties have changed it
    at.groups = at.row + n * 4;              // float [n / 128]: the largest of each group
    at.sums = at.groups + n / 128 * 4;       // float [n / 128]: weights relative to the slice's largest
    at.slices = at.sums + n / 128 * 4;       // uint64 [n / 2048]: the best of each slice
    at.masses = at.slices + n / 2048 * 8;    // double [n / 128]: weights of what is kept, relative to the row's largest
    at.histogram = at.masses + n / 128 * 8;  // uint64 [kSampleBins]
    at.end = at.histogram + kSampleBins * 8;
    return at;
}
inline size_t sample_workspace(uint32_t vocab) { return sample_layout(vocab).end; }

// Fills in a chain from the steps that a sampler keeps (lib/sample/sampler.h: kind, count, value, penalty). False: draw on the CPU.
template <class Steps>
inline bool sample_chain(const Steps& steps, uint64_t seed, uint32_t vocabulary, uint32_t vocab, SampleChain* chain) {
    if (vocab == 0 || vocab > kSampleMaxVocab) return false;
    *chain = SampleChain{};
    chain->seed = seed;
    chain->vocabulary = vocabulary;
    double scale = 1;
    bool leading = true;
    for (const auto& step : steps) {
        SampleStep to{};
        to.scale = scale;
        to.inverse_scale = 1 / scale;
        switch (step.kind) {
            case 1:  // temperature
                if (step.value > 0) {
                    scale /= static_cast<double>(step.value);
                    scale = scale < 1e-37 ? 1e-37 : scale > 1e37 ? 1e37 : scale;
                    continue;
                }
                to.kind = SampleKind::Largest;
                break;
            case 2:
                to.kind = step.count == 1 ? SampleKind::Largest : SampleKind::TopK;
                to.count = step.count;
                break;
            case 3:
                to.kind = SampleKind::TopP;
                to.value = step.value;
                break;
            case 4:
                to.kind = SampleKind::MinP;
                to.offset = log(static_cast<double>(step.value)) / scale;
                break;
            case 5:
                if (step.penalty.decay > kSampleMaxDecay) return false;
                to.kind = SampleKind::Penalties;
                to.window = step.penalty.window;
                to.decay = step.penalty.decay;
                to.repetition = step.penalty.repetition;
                to.frequency = step.penalty.frequency;
                to.presence = step.penalty.presence;
                to.inverse_repetition = 1 / step.penalty.repetition;
                break;
            default:
                return false;
        }
        if (chain->steps == kSampleMaxSteps) return false;
        leading = leading && to.kind == SampleKind::Penalties;
        if (leading) chain->prefix++;
        if (!leading && to.kind == SampleKind::Penalties) chain->late = 1;
        chain->step[chain->steps++] = to;
    }
    chain->scale = scale;
    chain->step[chain->steps].scale = scale;
    return true;
}

}  // namespace pith::cuda
