// What the tests of kernels share: calls that must succeed, memory of the device in a frame, random values, halves, launches as the plug-in
// makes them, times.
#pragma once
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace pith::cuda::test {

inline void must(cudaError_t status, const char* call, const char* file, int line) {
    if (status == cudaSuccess) return;
    std::printf("FAIL %s:%d: %s: %s\n", file, line, call, cudaGetErrorString(status));
    std::exit(1);
}
#define MUST(call) ::pith::cuda::test::must((call), #call, __FILE__, __LINE__)

// False, and said: a program then ends with 77.
inline bool has_gpu() {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0) return true;
    std::printf("skipped: no GPU\n");
    return false;
}

// The same values on every machine.
class Random {
public:
    uint32_t next() {
        state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
        return static_cast<uint32_t>(state_ >> 33);
    }
    float uniform() { return static_cast<float>(next() % 4096) / 2048.0f - 1.0f; }
    float normal() { return uniform() + uniform() + uniform(); }

private:
    uint64_t state_ = 1;
};

inline float to_float(uint16_t bits) {
    __half h;
    std::memcpy(&h, &bits, 2);
    return __half2float(h);
}
inline uint16_t to_bits(float v) {
    const __half h = __float2half(v);
    uint16_t bits;
    std::memcpy(&bits, &h, 2);
    return bits;
}

// What lies before and after device memory must stay as it is: a test that ends with it written over has failed.
inline int g_frames_broken = 0;

template <class T>
struct Device {
    static constexpr size_t kFrame = 1024;
    static constexpr uint8_t kPoison = 0x5a;
    T* data = nullptr;
    size_t size = 0;
    explicit Device(size_t n) : size(n) {
        MUST(cudaMalloc(&base_, bytes() + 2 * kFrame));
        MUST(cudaMemset(base_, kPoison, bytes() + 2 * kFrame));
        data = reinterpret_cast<T*>(base_ + kFrame);
    }
    explicit Device(const std::vector<T>& from) : Device(from.size()) {
        if (size) MUST(cudaMemcpy(data, from.data(), bytes(), cudaMemcpyHostToDevice));
    }
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;
    ~Device() {
        uint8_t frame[2 * kFrame];
        MUST(cudaMemcpy(frame, base_, kFrame, cudaMemcpyDeviceToHost));
        MUST(cudaMemcpy(frame + kFrame, base_ + kFrame + bytes(), kFrame, cudaMemcpyDeviceToHost));
        if (std::any_of(frame, frame + 2 * kFrame, [](uint8_t b) { return b != kPoison; })) {
            std::printf("FAIL written beside %zu elements\n", size);
            g_frames_broken++;
        }
        MUST(cudaFree(base_));
    }
    size_t bytes() const { return size * sizeof(T); }
    void fill(int byte) { MUST(cudaMemset(data, byte, bytes())); }
    std::vector<T> host() const {
        std::vector<T> to(size);
        if (size) MUST(cudaMemcpy(to.data(), data, bytes(), cudaMemcpyDeviceToHost));
        return to;
    }

private:
    uint8_t* base_ = nullptr;
};

// The compute capability that a kernel's code was written for: 80 where an H100 runs the code of older GPUs.
template <class Kernel>
int written_for(Kernel* kernel) {
    cudaFuncAttributes attributes;
    MUST(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel)));
    return attributes.ptxVersion;
}

// As the plug-in launches: with programmatic dependence where the code knows of it, and as much shared memory as is asked for.
template <class Params>
void launch(void (*kernel)(Params), dim3 grid, uint32_t threads, uint32_t shared, cudaStream_t stream, const Params& params) {
    if (shared > 48 << 10)
        MUST(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(shared)));
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = grid, config.blockDim = dim3(threads), config.dynamicSmemBytes = shared, config.stream = stream;
    config.attrs = &attribute, config.numAttrs = written_for(kernel) >= 90 ? 1 : 0;
    MUST(cudaLaunchKernelEx(&config, kernel, params));
}

// Microseconds one of `count` calls of `enqueue(i)` takes in a graph: the median of some launches, after one that warms up.
template <class Enqueue>
double graph_time(cudaStream_t stream, uint32_t count, int rounds, const Enqueue& enqueue) {
    cudaGraph_t graph;
    cudaGraphExec_t runs;
    cudaEvent_t begin, end;
    MUST(cudaEventCreate(&begin));
    MUST(cudaEventCreate(&end));
    MUST(cudaDeviceSynchronize());
    MUST(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (uint32_t i = 0; i < count; i++) enqueue(i);
    MUST(cudaStreamEndCapture(stream, &graph));
    MUST(cudaGraphInstantiate(&runs, graph, 0));
    std::vector<float> times;
    for (int round = 0; round <= rounds; round++) {
        MUST(cudaEventRecord(begin, stream));
        MUST(cudaGraphLaunch(runs, stream));
        MUST(cudaEventRecord(end, stream));
        MUST(cudaEventSynchronize(end));
        float ms = 0;
        MUST(cudaEventElapsedTime(&ms, begin, end));
        if (round) times.push_back(ms);
    }
    MUST(cudaGraphExecDestroy(runs));
    MUST(cudaGraphDestroy(graph));
    MUST(cudaEventDestroy(begin));
    MUST(cudaEventDestroy(end));
    std::sort(times.begin(), times.end());
    return static_cast<double>(times[times.size() / 2]) * 1e3 / count;
}

}  // namespace pith::cuda::test
