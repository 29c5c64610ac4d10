// Models loaded into a device, without one: the plug-in's own loading code on a driver that runs the repacking kernels on the CPU. What
// lies in device memory afterwards is compared with the files, element by element; and every allocation, read and launch fails once.
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "../unit/catch.h"
#include "fake_driver.h"
#include "kernels/decode.h"
#include "model.h"
#include "packed_reference.h"

namespace {

using namespace pith;

struct Heap {
    size_t live = 0;
    int fail = 0;  // the n-th allocation from now on; 0: none
    pith_allocator allocator{sizeof(pith_allocator), this, alloc, free};
    static void* alloc(void* user, size_t size, size_t alignment) {
        Heap& h = *static_cast<Heap*>(user);
        if (h.fail > 0 && --h.fail == 0) return nullptr;
        h.live += size;
        return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    }
    static void free(void* user, void* memory, size_t size, size_t) {
        static_cast<Heap*>(user)->live -= size;
        std::free(memory);
    }
};

// The system's files (each model here has one shard), of which the n-th read from now on fails.
struct FailingFiles {
    int fail = 0;
    uint64_t patch_at = 0;  // two bytes there become `patch`; 0: none
    uint16_t patch = 0x7e00;
    pith_files files{sizeof(pith_files), this, open, read, close};
    static int32_t open(void*, const char* name, void** file, uint64_t* size) {
        return kSystemFiles.open(kSystemFiles.user, name, file, size);
    }
    static int32_t read(void* user, void* file, uint64_t offset, void* to, size_t size) {
        FailingFiles& f = *static_cast<FailingFiles*>(user);
        if (f.fail > 0 && --f.fail == 0) return 5;
        const int32_t result = kSystemFiles.read(kSystemFiles.user, file, offset, to, size);
        if (f.patch_at && f.patch_at >= offset && f.patch_at + 2 <= offset + size)
            std::memcpy(static_cast<char*>(to) + (f.patch_at - offset), &f.patch, 2);
        return result;
    }
    static void close(void*, void* file) { kSystemFiles.close(kSystemFiles.user, file); }
};

// A model's file, an instance, and the model; all gone at the end without a trace.
struct Loading {
    Heap heap;
    FailingFiles files;
    ModelFile file{heap.allocator};
    cuda::Instance* instance = nullptr;
    void* model = nullptr;
    Account account;
    BackendBytes bytes{};
    pith_error error{};

    explicit Loading(const std::string& folder) {
        *fake_cuda() = {};
        REQUIRE(open_model(files.files, heap.allocator, folder.c_str(), &file, &error) == PITH_OK);
        REQUIRE(cuda::open_instance(&heap.allocator, &instance, &error) == PITH_OK);
    }
    pith_status create(uint32_t device = 0, void* context = nullptr, bool scan = false) {
        BackendHost host{};
        host.allocator = &heap.allocator;
        host.instance = instance;
        host.device = device;
        host.cuda.context = context;
        host.scan = scan;
        host.account = &account;
        return cuda::model_create(&host, &file, &model, &bytes, &error);
    }
    const cuda::Model& get() const { return *static_cast<const cuda::Model*>(model); }
    pith_status load(uint64_t budget) {
        uint64_t left = 1;
        while (left) {
            const pith_status status = cuda::model_load(model, budget, &left, &error);
            if (status < 0) return status;
        }
        return PITH_OK;
    }
    void close() {
        cuda::model_destroy(model);
        for (const Used held : {Used::DeviceWeights, Used::DeviceStaging, Used::HostWeights, Used::HostStaging})
            CHECK(account.get(held) == 0);
        cuda::close_instance(instance);
        model = instance = nullptr;
    }
    ~Loading() {
        close();
        file.dir.reset();
        file.arena.reset();
        CHECK(heap.live == 0);
        CHECK(fake_cuda()->objects == 0);
        CHECK(fake_cuda()->mistakes == 0);
    }
};

std::string folder_of(const std::string& name) { return std::string(PITH_SOURCE_DIR "/tests/golden/models/") + name; }
std::set<std::string> folders() {
    std::set<std::string> all{PITH_SOURCE_DIR "/examples/demo-model"};
    for (const auto& entry : std::filesystem::directory_iterator(folder_of("")))
        if (entry.is_directory() && std::filesystem::exists(entry.path() / "config.json")) all.insert(entry.path());
    return all;
}

template <class T>
std::vector<T> read(const ModelFile& file, const TensorView& t) {
    std::vector<T> values(t.bytes / sizeof(T));
    pith_error error;
    REQUIRE(read_tensor(file, t, 0, values.data(), t.bytes, &error) == PITH_OK);
    return values;
}
std::vector<double> floats(const ModelFile& file, const TensorView& t) {
    std::vector<double> values;
    if (t.dtype == Dtype::F32) {
        for (float v : read<float>(file, t)) values.push_back(v);
    } else {
        for (uint16_t bits : read<uint16_t>(file, t)) {
            const uint32_t wide = uint32_t{bits} << 16;
            float v;
            std::memcpy(&v, &wide, sizeof v);
            values.push_back(t.dtype == Dtype::F16 ? packed::half_value(bits) : v);
        }
    }
    return values;
}

// How far a value may be off that was brought into F16: not at all if it was F16 or BF16 near the row's largest.
bool near(double got, double want, Dtype from) {
    return from == Dtype::F16 ? got == want : std::fabs(got - want) <= std::fabs(want) * 0x1p-11 + 1e-30;
}
double scale_of(const cuda::Matrix& w, uint32_t row) { return w.row_scale ? w.row_scale[row] : 1.0; }

// `at(n)`: the matrix's row of the part's row n.
template <class At>
int compare_gptq(const ModelFile& file, const pith::Linear& from, const cuda::Matrix& w, At at) {
    const auto q = read<uint32_t>(file, from.qweight), z = read<uint32_t>(file, from.qzeros);
    const auto s = floats(file, from.scales);
    int wrong = w.type != cuda::WeightType::Q4 || w.cols != from.cols || w.group != from.group || w.groups != from.groups;
    for (uint32_t n = 0; n < from.rows; n++) {
        const uint32_t row = at(n);
        for (uint32_t g = 0; g < from.groups; g++) {
            wrong +=
                !near(packed::half_value(packed::scale(w, row, g)) * scale_of(w, row), s[size_t{g} * from.rows + n], from.scales.dtype);
            const uint32_t zero = (z[(size_t{g} * from.rows + n) / 8] >> n % 8 * 4 & 15) + from.zero_offset;
            wrong += packed::zero(w, row, g) != zero;
        }
        for (uint32_t p = 0; p < from.cols; p++) {
            const uint32_t c = from.perm ? from.perm[p] : p;
            wrong += packed::code(w, row, p) != (q[size_t{c / 8} * from.rows + n] >> c % 8 * 4 & 15);
        }
        for (uint32_t p = from.cols; p < w.chunks * 64; p++) {
            const uint32_t zero = packed::zero(w, row, std::min(p / w.group, w.groups - 1));
            wrong += packed::code(w, row, p) != std::min(zero, 15u);
        }
    }
    return wrong;
}
template <class At>
int compare_dense(const ModelFile& file, const pith::Linear& from, const cuda::Matrix& w, At at) {
    const auto values = floats(file, from.weight);
    int wrong = w.type != cuda::WeightType::F16 || w.cols != from.cols;
    for (uint32_t n = 0; n < from.rows; n++) {
        for (uint32_t c = 0; c < from.cols; c++)
            wrong += !near(packed::half_value(packed::half(w, at(n), c)) * scale_of(w, at(n)), values[size_t{n} * from.cols + c],
                           from.weight.dtype);
        for (uint32_t c = from.cols; c < w.chunks * 64; c++) wrong += packed::half(w, at(n), c) != 0;
    }
    return wrong;
}
// `in_order`: what writes its input does so in the stored order.
template <class At>
void compare(const ModelFile& file, const pith::Linear& from, const cuda::Linear& to, At at, bool in_order = false) {
    INFO(from.name);
    CHECK((from.kind == pith::Linear::Gptq ? compare_gptq(file, from, to.matrix, at) : compare_dense(file, from, to.matrix, at)) == 0);
    CHECK(reinterpret_cast<uintptr_t>(to.matrix.data) % 1024 == 0);
    CHECK((to.inverse != nullptr) == (from.perm != nullptr && !in_order));
    int wrong = 0;
    for (uint32_t p = 0; to.inverse && p < from.cols; p++) wrong += to.inverse[from.perm[p]] != p;
    if (from.bias.exists()) {
        const auto bias = floats(file, from.bias);
        for (uint32_t n = 0; n < from.rows; n++) wrong += to.matrix.bias[at(n)] != bias[n];
    }
    CHECK(wrong == 0);
}
// Rows that belong to no part add nothing.
void compare_padding(const cuda::Matrix& w, const std::set<uint32_t>& rows) {
    int wrong = 0;
    for (uint32_t row = 0; row < w.tiles * 16; row++) {
        if (rows.count(row)) continue;
        for (uint32_t g = 0; g < w.groups; g++) wrong += packed::scale(w, row, g) != 0;
        for (uint32_t c = 0; w.type == cuda::WeightType::F16 && c < w.chunks * 64; c++) wrong += packed::half(w, row, c) != 0;
        if (w.bias) wrong += w.bias[row] != 0;
    }
    CHECK(wrong == 0);
}

void compare_layer(const ModelFile& file, const pith::Layer& from, const cuda::Layer& to) {
    const auto same = [](uint32_t n) { return n; };
    const pith::Linear* heads[] = {&from.q, &from.k, &from.v};
    std::set<uint32_t> used;
    for (int i = 0; i < 3; i++) {
        const uint32_t first = to.qkv.first_row[i];
        compare(file, *heads[i], to.qkv.parts[to.qkv.fused ? 0 : i], [=](uint32_t n) { return first + n; });
        for (uint32_t n = 0; n < heads[i]->rows; n++) used.insert(first + n);
    }
    if (to.qkv.fused) compare_padding(to.qkv.parts[0].matrix, used);
    used.clear();
    // Gate's and up's rows are in the order of down's columns, if all three have codes.
    const bool in_order = from.gate.kind == pith::Linear::Gptq && from.up.kind == pith::Linear::Gptq && from.down.perm;
    std::vector<uint32_t> place(from.gate.rows);
    for (uint32_t n = 0; n < place.size(); n++) place[in_order ? from.down.perm[n] : n] = n;
    for (int i = 0; i < 2; i++) {
        const bool fused = to.gate_up.fused;
        const pith::Linear& part = i ? from.up : from.gate;
        const auto at = [&, fused, i](uint32_t row) {
            const uint32_t n = place[row];
            return fused ? n / 8 * 16 + n % 8 + (i ? 8 : 0) : n;
        };
        compare(file, part, to.gate_up.parts[fused ? 0 : i], at);
        for (uint32_t n = 0; n < part.rows; n++) used.insert(at(n));
    }
    if (to.gate_up.fused) compare_padding(to.gate_up.parts[0].matrix, used);
    compare(file, from.o, to.o, same);
    compare(file, from.down, to.down, same, in_order);
    const auto norm = floats(file, from.input_norm), other = floats(file, from.post_attention_norm);
    int wrong = 0;
    for (size_t i = 0; i < norm.size(); i++) wrong += to.attention_norm[i] != norm[i] || to.mlp_norm[i] != other[i];
    CHECK(wrong == 0);
}

void compare_model(const Loading& l) {
    const cuda::Model& m = l.get();
    for (uint32_t i = 0; i < l.file.config.layers; i++) compare_layer(l.file, l.file.layers[i], m.layers[i]);
    compare(l.file, l.file.head, m.head, [](uint32_t n) { return n; });
    const auto rows = floats(l.file, l.file.embed.weight), norm = floats(l.file, l.file.final_norm);
    int wrong = 0;
    for (size_t i = 0; i < norm.size(); i++) wrong += m.final_norm[i] != norm[i];
    for (size_t i = 0; i < rows.size(); i++) {
        const double scale = m.embedding.row_scale ? m.embedding.row_scale[i / l.file.embed.cols] : 1.0;
        wrong += !near(packed::half_value(m.embedding.rows[i]) * scale, rows[i], l.file.embed.weight.dtype);
    }
    CHECK(wrong == 0);
}

std::vector<uint8_t> image(const cuda::Model& m) {
    const uint8_t* weights = reinterpret_cast<const uint8_t*>(m.weights);
    std::vector<uint8_t> all(weights, weights + m.weight_bytes);
    const uint8_t* rows = static_cast<const uint8_t*>(m.embedding_host);
    all.insert(all.end(), rows, rows + m.row_bytes);
    return all;
}

}  // namespace

TEST_CASE("devices are listed best first") {
    Loading l(folder_of("llama_f16"));
    REQUIRE(l.instance->devices.size() == 2);
    pith_device_info info{};
    CHECK(cuda::device_info(*l.instance, 0, &info, &l.error) == PITH_OK);
    CHECK(std::string(info.name) == "fast fake");
    CHECK(info.kind == PITH_DEVICE_CUDA);
    CHECK(info.memory_total == 1 << 30);
    CHECK(info.uuid[0] == 2);
    CHECK(info.memory_free == 0);  // the GPU has no context of ours: not known
    REQUIRE(l.create() == PITH_OK);
    REQUIRE(l.load(0) == PITH_OK);
    CHECK(cuda::device_info(*l.instance, 0, &info, &l.error) == PITH_OK);
    CHECK(info.memory_free == (1 << 30) - l.bytes.device);
}

TEST_CASE("no GPU is no failure") {
    Loading l(folder_of("llama_f16"));
    cuda::close_instance(l.instance);
    fake_cuda()->devices = 0;
    REQUIRE(cuda::open_instance(&l.heap.allocator, &l.instance, &l.error) == PITH_OK);
    CHECK(l.instance->devices.size() == 0);
}

TEST_CASE("every model lies in device memory as its files say, as planned to the byte") {
    for (const std::string& folder : folders()) {
        INFO(folder);
        Loading l(folder);
        REQUIRE(l.create() == PITH_OK);
        CHECK(fake_cuda()->objects == 0);  // planning touches no GPU
        INFO(l.error.message);
        REQUIRE(l.load(0) == PITH_OK);
        CHECK(fake_cuda()->device_bytes == l.bytes.device);
        CHECK(fake_cuda()->host_bytes == l.bytes.host);
        CHECK(l.account.get(Used::DeviceWeights) == l.bytes.device);
        CHECK(l.account.get(Used::HostWeights) == l.bytes.host);
        CHECK(l.account.get(Used::BytesToDevice) > l.file.weight_bytes / 2);
        // The fake's events are half a millisecond apart: copies and repacking are told apart, and nothing is left uncounted.
        CHECK(l.account.get(Used::GpuToDevice) + l.account.get(Used::GpuCompute) == l.account.get(Used::GpuSubmissions) * 500000);
        CHECK(l.account.get(Used::GpuToDevice) >= 500000);
        CHECK(l.account.get(Used::GpuCompute) >= 500000);
        compare_model(l);
    }
}

// A session is planned before the model's weights are anywhere: what is asked for must not depend on their addresses.
TEST_CASE("the single-token kernel is planned without addresses") {
    const auto plan = [](bool loaded, uint32_t group) {
        static const uint8_t kByte = 0;
        const auto job = [&](uint32_t rows, uint32_t cols) {
            cuda::Matrix m{};
            m.data = &kByte;
            m.type = cuda::WeightType::Q4;
            m.rows = rows, m.cols = cols, m.tiles = (rows + 15) / 16, m.chunks = (cols + 63) / 64;
            m.group = group, m.groups = (cols + group - 1) / group;
            if (loaded) m.zeros = m.scales = reinterpret_cast<const uint32_t*>(&kByte);
            return cuda::make_decode_job(m, nullptr);
        };
        cuda::DecodeLayer layer{};
        layer.jobs[cuda::kJobQkv] = job(1536, 1024);
        layer.jobs[cuda::kJobO] = job(1024, 1024);
        layer.jobs[cuda::kJobGateUp] = job(5632, 1024);
        layer.jobs[cuda::kJobDown] = job(1024, 2816);
        cuda::DecodeParams p{};
        p.head = job(1000, 1024);
        p.layer_count = 1, p.hidden = 1024, p.intermediate = 2816, p.heads = 8, p.kv_heads = 2, p.head_dim = 128, p.vocab = 1000;
        REQUIRE(cuda::decode_plan(&p, &layer, 132, 227 << 10, cuda::kDecodeMaxWarps));
        // Blocks without a row of the residual stream would not be waited for.
        cuda::DecodeParams small = p;
        small.hidden = 64;
        REQUIRE(cuda::decode_plan(&small, &layer, 132, 227 << 10, cuda::kDecodeMaxWarps));
        CHECK(small.grid == 64);
        // Elements are read in pairs: a lone one would be waited for forever.
        small.hidden = 63;
        CHECK_FALSE(cuda::decode_plan(&small, &layer, 132, 227 << 10, cuda::kDecodeMaxWarps));
        small.hidden = 64, small.intermediate = 2815;
        CHECK_FALSE(cuda::decode_plan(&small, &layer, 132, 227 << 10, cuda::kDecodeMaxWarps));
        return p;
    };
    for (const uint32_t group : {32u, 64u, 128u, 1024u}) {
        const cuda::DecodeParams before = plan(false, group), after = plan(true, group);
        CHECK(before.workspace_bytes == after.workspace_bytes);
        CHECK(before.stage_bytes == after.stage_bytes);
        CHECK(before.stages == after.stages);
        // room for the zero points of every warp's unit
        CHECK(after.unit_zeros * 4 >= cuda::decode_unit_groups(after.head));
    }
}

TEST_CASE("any budget gives the same bytes") {
    for (const char* name : {"gptq_act_order_asym", "gptq_mixed", "gptq_bf16_scales", "gptq_tied_mistral", "odd_sizes", "llama_bf16"}) {
        INFO(name);
        std::vector<uint8_t> whole;
        for (uint64_t budget : {0, 1, 1000, 10000}) {
            Loading l(folder_of(name));
            REQUIRE(l.create() == PITH_OK);
            REQUIRE(l.load(budget) == PITH_OK);
            if (budget == 0) whole = image(l.get());
            CHECK(image(l.get()) == whole);
        }
    }
}

TEST_CASE("each allocation fails once; the model loads all the same afterwards") {
    for (const char* name : {"gptq_act_order_asym", "tied"}) {
        for (int n = 1;; n++) {
            Loading l(folder_of(name));
            REQUIRE(l.create() == PITH_OK);
            fake_cuda()->fail_allocation = n;
            const pith_status status = l.load(0);
            if (status == PITH_OK) {
                CHECK(n == 6);  // weights, embedding, two buffers, scratch
                break;
            }
            INFO(l.error.message);
            CHECK(status == PITH_E_MEMORY);
            CHECK(l.error.system == 2);
            CHECK(std::strstr(l.error.message, "MiB") != nullptr);
            CHECK(fake_cuda()->objects == 0);
            CHECK(fake_cuda()->device_bytes == 0);
            REQUIRE(l.load(5000) == PITH_OK);
            compare_model(l);
        }
    }
}

TEST_CASE("each allocation of the host's fails once") {
    for (int n = 1;; n++) {
        Loading l(folder_of("gptq_g32"));
        l.heap.fail = n;
        pith_status status = l.create();
        if (status == PITH_OK) status = l.load(0);
        if (status == PITH_OK) {
            CHECK(n > 3);
            break;
        }
        CHECK(status == PITH_E_MEMORY);
        CHECK(fake_cuda()->objects == 0);
        if (!l.model) REQUIRE(l.create() == PITH_OK);
        REQUIRE(l.load(0) == PITH_OK);
        compare_model(l);
    }
}

TEST_CASE("each read fails once; the load goes on where it was") {
    for (int n = 1;; n++) {
        Loading l(folder_of("gptq_act_order_asym"));
        REQUIRE(l.create() == PITH_OK);
        l.files.fail = n;
        const pith_status status = l.load(3000);
        if (status == PITH_OK) {
            CHECK(n > 50);
            break;
        }
        CHECK(status == PITH_E_IO);
        REQUIRE(l.load(0) == PITH_OK);
        if (n % 10 == 0) compare_model(l);
    }
}

TEST_CASE("a GPU that fails takes the model with it and nothing else") {
    for (int n : {1, 2, 7, 30}) {
        Loading l(folder_of("gptq_g32"));
        REQUIRE(l.create() == PITH_OK);
        fake_cuda()->fail_launch = n;
        CHECK(l.load(0) == PITH_E_DEVICE);
        CHECK(l.load(0) == PITH_E_DEVICE);
        CHECK(std::strstr(l.error.message, "lost") != nullptr);
    }
}

TEST_CASE("the caller's context is used, and what was current is so again") {
    Loading l(folder_of("gptq_g32"));
    const cuda::Driver driver = l.instance->driver;
    CUcontext own = nullptr, other = nullptr, now = nullptr;
    driver.DevicePrimaryCtxRetain(&own, 1);
    driver.DevicePrimaryCtxRetain(&other, 0);
    driver.CtxPushCurrent(other);
    REQUIRE(l.create(0, other) == PITH_OK);  // device 0 of the list is the driver's 1
    CHECK(l.load(0) == PITH_E_ARGUMENT);
    CHECK(std::strstr(l.error.message, "another device") != nullptr);
    cuda::model_destroy(l.model);
    l.model = nullptr;
    REQUIRE(l.create(0, own) == PITH_OK);
    REQUIRE(l.load(4000) == PITH_OK);
    compare_model(l);
    CHECK(l.get().device.context() == own);
    driver.CtxGetCurrent(&now);
    CHECK(now == other);
    l.close();
    CHECK(fake_cuda()->objects == 2);  // this test's own
    driver.CtxPopCurrent(&now);
    driver.DevicePrimaryCtxRelease(0);
    driver.DevicePrimaryCtxRelease(1);
}

TEST_CASE("more than the device has is refused before anything is read") {
    Loading l(folder_of("gptq_g32"));
    l.instance->devices[0].memory = 1000;
    CHECK(l.create() == PITH_E_MEMORY);
    CHECK(std::strstr(l.error.message, "fast fake") != nullptr);
}

TEST_CASE("scales that are no numbers are refused, and dense weights if asked") {
    for (const uint16_t bits : {0x7e00, 0xfc00}) {
        Loading l(folder_of("gptq_g32"));
        REQUIRE(l.create() == PITH_OK);
        l.files.patch_at = l.file.layers[0].gate.scales.offset + 6;
        l.files.patch = static_cast<uint16_t>(bits);
        CHECK(l.load(0) == PITH_E_FORMAT);
        CHECK(std::string(l.error.message).find("mlp.gate_proj.scales: value 3 of ") != std::string::npos);
        l.files.patch_at = 0;
        REQUIRE(l.load(0) == PITH_OK);
        compare_model(l);
    }
    for (const bool asked : {false, true}) {
        Loading l(folder_of("llama_f16"));
        REQUIRE(l.create(0, nullptr, asked) == PITH_OK);
        l.files.patch_at = l.file.layers[0].up.weight.offset + 4;
        CHECK(l.load(1000) == (asked ? PITH_E_FORMAT : PITH_OK));
        if (asked) CHECK(std::string(l.error.message).find("mlp.up_proj.weight: value 2 of ") != std::string::npos);
    }
}
