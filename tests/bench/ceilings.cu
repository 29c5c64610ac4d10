// What a GPU can do at most: pure reads, copies, and cuBLASLt's matrix products (opened when it is there, never linked).
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "ceilings.h"
#if __has_include(<cublasLt.h>)
#    include <cublasLt.h>
#    define BENCH_CUBLASLT 1
#endif

namespace {

// Each block takes tiles of kLoads vectors a thread, all of them in flight at once. The sum goes nowhere, but the compiler can't know.
template <int kLoads>
__global__ void read_kernel(const uint4* from, size_t vectors, uint4* sink) {
    uint4 sum{};
    const size_t tile = size_t{kLoads} * blockDim.x;
    for (size_t at = blockIdx.x * tile + threadIdx.x; at < vectors; at += gridDim.x * tile) {
        uint4 part[kLoads];
#pragma unroll
        for (int i = 0; i < kLoads; i++) {
            const size_t index = at + size_t{static_cast<unsigned>(i)} * blockDim.x;
            part[i] = index < vectors ? __ldcs(from + index) : uint4{};
        }
#pragma unroll
        for (int i = 0; i < kLoads; i++) {
            sum.x ^= part[i].x;
            sum.y ^= part[i].y;
            sum.z ^= part[i].z;
            sum.w ^= part[i].w;
        }
    }
    if ((sum.x & sum.y & sum.z & sum.w) == 0x7fffffff) *sink = sum;
}

// Numbers like activations: zeros would draw less power, and so run at a higher clock than real ones.
__global__ void random_bf16(__nv_bfloat16* to, size_t count, uint32_t seed) {
    for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < count; i += size_t{gridDim.x} * blockDim.x) {
        uint32_t x = static_cast<uint32_t>(i) * 0x9e3779b9u + seed;
        x = (x ^ (x >> 16)) * 0x7feb352du;
        x = (x ^ (x >> 15)) * 0x846ca68bu;
        x ^= x >> 16;
        to[i] = __float2bfloat16(static_cast<float>(static_cast<int>((x & 0xffff) + (x >> 16)) - 0xffff) * 1e-5f);
    }
}

class DeviceBuffer {
public:
    explicit DeviceBuffer(size_t bytes) {
        if (cudaMalloc(&data_, bytes) != cudaSuccess) {
            data_ = nullptr;
            cudaGetLastError();
        }
    }
    ~DeviceBuffer() { cudaFree(data_); }
    DeviceBuffer(const DeviceBuffer&) = delete;
    explicit operator bool() const { return data_; }
    template <class T>
    T* as() const {
        return static_cast<T*>(data_);
    }

private:
    void* data_ = nullptr;
};

#ifdef BENCH_CUBLASLT
struct CublasLt {
    void* library = nullptr;
    cublasLtHandle_t handle = nullptr;
#    define BENCH_FUNCTION(name) decltype(&::name) name = nullptr
    BENCH_FUNCTION(cublasLtCreate);
    BENCH_FUNCTION(cublasLtDestroy);
    BENCH_FUNCTION(cublasLtMatmul);
    BENCH_FUNCTION(cublasLtMatmulDescCreate);
    BENCH_FUNCTION(cublasLtMatmulDescDestroy);
    BENCH_FUNCTION(cublasLtMatmulDescSetAttribute);
    BENCH_FUNCTION(cublasLtMatrixLayoutCreate);
    BENCH_FUNCTION(cublasLtMatrixLayoutDestroy);
    BENCH_FUNCTION(cublasLtMatmulPreferenceCreate);
    BENCH_FUNCTION(cublasLtMatmulPreferenceDestroy);
    BENCH_FUNCTION(cublasLtMatmulPreferenceSetAttribute);
    BENCH_FUNCTION(cublasLtMatmulAlgoGetHeuristic);
#    undef BENCH_FUNCTION

    bool open(const std::string& path, std::string* problem) {
        const std::vector<std::string> names =
            path.empty() ? std::vector<std::string>{"libcublasLt.so.13", "libcublasLt.so.12"} : std::vector{path};
        for (size_t i = 0; i < names.size() && !library; i++) library = dlopen(names[i].c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!library) {
            *problem =
                "cuBLASLt can't be opened, so there is no ceiling for prompts (--cublaslt gives its path): " + std::string(dlerror());
            return false;
        }
        bool all = true;
        const auto find = [&](auto* function, const char* name) {
            *function = reinterpret_cast<std::remove_pointer_t<decltype(function)>>(dlsym(library, name));
            all = all && *function;
        };
#    define BENCH_FIND(name) find(&name, #    name)
        BENCH_FIND(cublasLtCreate);
        BENCH_FIND(cublasLtDestroy);
        BENCH_FIND(cublasLtMatmul);
        BENCH_FIND(cublasLtMatmulDescCreate);
        BENCH_FIND(cublasLtMatmulDescDestroy);
        BENCH_FIND(cublasLtMatmulDescSetAttribute);
        BENCH_FIND(cublasLtMatrixLayoutCreate);
        BENCH_FIND(cublasLtMatrixLayoutDestroy);
        BENCH_FIND(cublasLtMatmulPreferenceCreate);
        BENCH_FIND(cublasLtMatmulPreferenceDestroy);
        BENCH_FIND(cublasLtMatmulPreferenceSetAttribute);
        BENCH_FIND(cublasLtMatmulAlgoGetHeuristic);
#    undef BENCH_FIND
        if (all && cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS) return true;
        *problem = "cuBLASLt was opened, but doesn't start: there is no ceiling for prompts";
        handle = nullptr;
        return false;
    }
    ~CublasLt() {
        if (handle) cublasLtDestroy(handle);
    }
};
#endif

}  // namespace

namespace bench {

struct Ceilings::Gpu {
    cudaStream_t stream = nullptr;
    cudaEvent_t start = nullptr, end = nullptr;
    int processors = 0;
#ifdef BENCH_CUBLASLT
    CublasLt lt;
#endif

    ~Gpu() {
        if (start) cudaEventDestroy(start);
        if (end) cudaEventDestroy(end);
        if (stream) cudaStreamDestroy(stream);
    }
    bool open(const uint8_t uuid[16], std::string* problem) {
        int count = 0, device = -1;
        cudaError_t status = cudaGetDeviceCount(&count);
        for (int i = 0; i < count && status == cudaSuccess && device < 0; i++) {
            cudaDeviceProp properties;
            status = cudaGetDeviceProperties(&properties, i);
            if (status != cudaSuccess || std::memcmp(&properties.uuid, uuid, 16) != 0) continue;
            device = i;
            processors = properties.multiProcessorCount;
        }
        if (status == cudaSuccess && device < 0) {
            *problem = "no ceilings: the CUDA runtime doesn't see this device";
            return false;
        }
        if (status == cudaSuccess) status = cudaSetDevice(device);
        if (status == cudaSuccess) status = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
        if (status == cudaSuccess) status = cudaEventCreateWithFlags(&start, cudaEventBlockingSync);
        if (status == cudaSuccess) status = cudaEventCreateWithFlags(&end, cudaEventBlockingSync);
        if (status == cudaSuccess) return true;
        *problem = std::string("no ceilings: ") + cudaGetErrorString(status);
        return false;
    }
    // Milliseconds of what `work` puts on the stream; negative: it failed.
    template <class Work>
    float time(const Work& work) {
        float ms = -1;
        cudaEventRecord(start, stream);
        const bool queued = work();
        cudaEventRecord(end, stream);
        if (cudaEventSynchronize(end) != cudaSuccess || !queued || cudaEventElapsedTime(&ms, start, end) != cudaSuccess) return -1;
        return ms;
    }
    // The best of a few runs, the first for warmth.
    template <class Work>
    float best(int runs, const Work& work) {
        float least = -1;
        for (int i = 0; i <= runs; i++) {
            const float ms = time(work);
            if (ms < 0) return -1;
            if (i && (least < 0 || ms < least)) least = ms;
        }
        return least;
    }
    template <int kLoads>
    float read(const DeviceBuffer& buffer, uint64_t total, uint64_t launch, unsigned blocks, unsigned threads) {
        cudaGraph_t graph = nullptr;
        cudaGraphExec_t ready = nullptr;
        if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) return -1;
        for (uint64_t at = 0; at + launch <= total; at += launch)
            read_kernel<kLoads><<<blocks, threads, 0, stream>>>(buffer.as<uint4>() + at / 16, launch / 16, buffer.as<uint4>());
        float ms = -1;
        if (cudaStreamEndCapture(stream, &graph) == cudaSuccess && cudaGraphInstantiate(&ready, graph, 0) == cudaSuccess)
            ms = best(4, [&] { return cudaGraphLaunch(ready, stream) == cudaSuccess; });
        if (ready) cudaGraphExecDestroy(ready);
        if (graph) cudaGraphDestroy(graph);
        return ms;
    }
#ifdef BENCH_CUBLASLT
    double gemm(uint64_t m, uint64_t n, uint64_t k);
#endif
};

Ceilings::Ceilings(const uint8_t uuid[16], const std::string& cublaslt) {
    auto gpu = std::make_unique<Gpu>();
    if (!gpu->open(uuid, &problem_)) return;
    gpu_ = std::move(gpu);
#ifdef BENCH_CUBLASLT
    gpu_->lt.open(cublaslt, &problem_);
#else
    problem_ = "cuBLASLt is not in this build: there was no cublasLt.h when it was compiled";
#endif
}
Ceilings::~Ceilings() = default;

double Ceilings::read(uint64_t launch_bytes) {
    if (!gpu_) return 0;
    const uint64_t launch = std::max<uint64_t>(launch_bytes / 16, 1) * 16;
    const uint64_t launches = std::max<uint64_t>(((uint64_t{2} << 30) + launch - 1) / launch, 2), total = launches * launch;
    const DeviceBuffer buffer(total);
    if (!buffer || cudaMemsetAsync(buffer.as<char>(), 1, total, gpu_->stream) != cudaSuccess) return 0;
    double best = 0;
    for (const unsigned per_processor : {1u, 2u, 4u, 8u})
        for (const unsigned threads : {256u, 512u}) {
            if (per_processor * threads > 2048) continue;
            const unsigned blocks = static_cast<unsigned>(gpu_->processors) * per_processor;
            for (const float ms :
                 {gpu_->read<4>(buffer, total, launch, blocks, threads), gpu_->read<8>(buffer, total, launch, blocks, threads)})
                if (ms > 0) best = std::max(best, static_cast<double>(total) / ms * 1e-6);
        }
    return best;
}

double Ceilings::copy() {
    if (!gpu_) return 0;
    constexpr size_t kBytes = size_t{1} << 30;
    const DeviceBuffer from(kBytes), to(kBytes);
    if (!from || !to) return 0;
    const float ms = gpu_->best(
        5, [&] { return cudaMemcpyAsync(to.as<char>(), from.as<char>(), kBytes, cudaMemcpyDeviceToDevice, gpu_->stream) == cudaSuccess; });
    return ms > 0 ? 2.0 * kBytes / ms * 1e-6 : 0;
}

#ifdef BENCH_CUBLASLT
// In column-major terms: C [n, m] = A^T [n, k] B [k, m], where A is the weights.
double Ceilings::Gpu::gemm(uint64_t m, uint64_t n, uint64_t k) {
    constexpr size_t kWorkspace = size_t{64} << 20;
    const DeviceBuffer a(n * k * 2), b(m * k * 2), c(m * n * 2), workspace(kWorkspace);
    if (!a || !b || !c || !workspace) return 0;
    random_bf16<<<1024, 256, 0, stream>>>(a.as<__nv_bfloat16>(), n * k, 1);
    random_bf16<<<1024, 256, 0, stream>>>(b.as<__nv_bfloat16>(), m * k, 2);

    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t layout_a = nullptr, layout_b = nullptr, layout_c = nullptr;
    cublasLtMatmulPreference_t preference = nullptr;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    constexpr int kAsked = 8;
    cublasLtMatmulHeuristicResult_t found[kAsked];
    int count = 0;
    bool ok = lt.cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F) == 0 &&
              lt.cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed) == 0 &&
              lt.cublasLtMatrixLayoutCreate(&layout_a, CUDA_R_16BF, k, n, static_cast<int64_t>(k)) == 0 &&
              lt.cublasLtMatrixLayoutCreate(&layout_b, CUDA_R_16BF, k, m, static_cast<int64_t>(k)) == 0 &&
              lt.cublasLtMatrixLayoutCreate(&layout_c, CUDA_R_16BF, n, m, static_cast<int64_t>(n)) == 0 &&
              lt.cublasLtMatmulPreferenceCreate(&preference) == 0 &&
              lt.cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspace,
                                                      sizeof kWorkspace) == 0 &&
              lt.cublasLtMatmulAlgoGetHeuristic(lt.handle, operation, layout_a, layout_b, layout_c, layout_c, preference, kAsked, found,
                                                &count) == 0;
    const float one = 1, zero = 0;
    const auto run = [&](int which, int times) {
        bool queued = true;
        for (int i = 0; i < times; i++)
            queued =
                lt.cublasLtMatmul(lt.handle, operation, &one, a.as<void>(), layout_a, b.as<void>(), layout_b, &zero, c.as<void>(), layout_c,
                                  c.as<void>(), layout_c, &found[which].algo, workspace.as<void>(), kWorkspace, stream) == 0 &&
                queued;
        return queued;
    };
    int chosen = -1;
    float least = 0;
    for (int i = 0; i < count && ok; i++) {
        const float ms = best(2, [&] { return run(i, 1); });
        if (ms > 0 && (chosen < 0 || ms < least)) chosen = i, least = ms;
    }
    double rate = 0;
    if (chosen >= 0) {  // as long as a prompt takes, so that the clock is what power allows under one: short bursts run 10 to 15 % faster
        const int times = std::clamp(static_cast<int>(120 / least), 4, 4000);
        const float ms = best(1, [&] { return run(chosen, times); });
        if (ms > 0) rate = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) * times / ms * 1e-9;
    }
    if (preference) lt.cublasLtMatmulPreferenceDestroy(preference);
    for (cublasLtMatrixLayout_t layout : {layout_a, layout_b, layout_c})
        if (layout) lt.cublasLtMatrixLayoutDestroy(layout);
    if (operation) lt.cublasLtMatmulDescDestroy(operation);
    return rate;
}
#endif

double Ceilings::gemm(uint64_t m, uint64_t n, uint64_t k) {
#ifdef BENCH_CUBLASLT
    if (gpu_ && gpu_->lt.handle) return gpu_->gemm(m, n, k);
#endif
    (void)m, (void)n, (void)k;
    return 0;
}

}  // namespace bench
