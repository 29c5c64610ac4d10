// What is measured of a shape on a GPU, and the suite: all that the GPU backend is held to, in one table.
#include "device_bench.h"

#include <algorithm>
#include <chrono>
#include <map>

#include "ceilings.h"
#include "device_report.h"
#include "device_run.h"

namespace bench {
namespace {

constexpr uint64_t kReadBytes = uint64_t{1} << 30;

double mib(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

// The ceilings of this run, each measured when it is first asked for.
class Yardsticks {
public:
    Yardsticks(const pith_device_info& device, const DeviceOptions& options, Report& report)
        : ceilings_(device.uuid, options.cublaslt), report_(report) {
        if (!ceilings_.problem().empty()) report.note("%s", ceilings_.problem().c_str());
        again();
        if (read_) report.note("ceilings: read %.0f GB/s, copy %.0f GB/s", read_, ceilings_.copy());
    }
    // The highest read bandwidth seen so far is the one that counts.
    void again() { read_ = std::max(read_, ceilings_.read(kReadBytes)); }
    double read() const { return read_; }
    double read_of(uint64_t launch_bytes) { return ceilings_.read(launch_bytes); }
    double share_of_read(const Timing& t) const { return read_ ? t.gb_per_s() / read_ : 0; }

    // cuBLASLt over the four products of a layer, weighted by their work.
    double gemm(const Shape& shape, uint64_t m) {
        const uint64_t shapes[4][2] = {{shape.hidden + 2 * shape.kv_width(), shape.hidden},
                                       {shape.hidden, shape.hidden},
                                       {2 * shape.ffn, shape.hidden},
                                       {shape.hidden, shape.ffn}};
        double work = 0, time = 0;
        std::string each;
        for (const auto& [n, k] : shapes) {
            double& rate = gemms_[{m, n, k}];
            if (rate == 0) rate = ceilings_.gemm(m, n, k);
            if (rate == 0) return 0;
            work += static_cast<double>(n * k);
            time += static_cast<double>(n * k) / rate;
            each += (each.empty() ? "" : ", ") + std::to_string(n) + "x" + std::to_string(k) + " " + std::to_string(std::lround(rate));
        }
        report_.note("ceiling: cuBLASLt bf16 at %llu rows %.0f TFLOP/s (%s)", static_cast<unsigned long long>(m), work / time,
                     each.c_str());
        return work / time;
    }

private:
    Ceilings ceilings_;
    Report& report_;
    double read_ = 0;
    std::map<std::vector<uint64_t>, double> gemms_;
};

class Bench {
public:
    Bench(const DeviceOptions& options, const pith_device_info& device, Report& report)
        : o_(options), report_(report), yardsticks_(device, options, report) {}

    // One model, as the options say.
    void one() {
        const ModelSpec spec = spec_of(o_.shape, o_.recipe);
        Loaded model = load(label(o_.shape), spec);
        if (wanted("decode", true)) decode(model);
        if (wanted("greedy", true)) {
            Way greedy = way();
            greedy.greedy = true;
            decode(model, "decode, greedy", greedy, 0);
        }
        if (wanted("position", true)) decode(model, "decode at " + std::to_string(o_.position), way(), o_.position);
        for (const uint32_t rows : o_.rows)
            if (wanted("rows", true)) step(model, rows);
        if (wanted("prefill", true)) prefill(model, o_.prompt);
        note_memory(model);
        if (!wanted("overhead", false)) return;
        const Timing whole = decode(model);
        model.reset();
        overhead(o_.shape, spec, whole);
    }

    void suite() {
        const auto start = std::chrono::steady_clock::now();
        const struct {
            const char* name;
            void (Bench::*run)();
        } parts[] = {{"33b", &Bench::suite_33b},
                     {"act-order", &Bench::suite_act_order},
                     {"g32", &Bench::suite_g32},
                     {"overhead", &Bench::suite_overhead},
                     {"7b", &Bench::suite_7b},
                     {"8b", &Bench::suite_8b},
                     {"0.5b", &Bench::suite_05b},
                     {"72b", &Bench::suite_72b},
                     {"small-shared", &Bench::suite_small},
                     {"generic", &Bench::suite_generic}};
        for (const auto& part : parts) {
            if (!wanted(part.name, true)) continue;
            try {
                yardsticks_.again();
                (this->*part.run)();
            } catch (const std::runtime_error& failure) {
                report_.failure(part.name, failure.what());
            }
        }
        if (yardsticks_.read()) report_.note("ceiling: read %.0f GB/s, the highest of the run", yardsticks_.read());
        report_.note("the suite took %.0f s", std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }

private:
    struct Loaded {
        std::string name;
        std::unique_ptr<DeviceModel> model;
        DeviceModel* operator->() const { return model.get(); }
        const Shape& shape() const { return model->files().shape(); }
        void reset() { model.reset(); }
    };

    bool wanted(const char* part, bool usual) const {
        return o_.measure.empty() ? usual : std::find(o_.measure.begin(), o_.measure.end(), part) != o_.measure.end();
    }
    std::string label(const std::string& shape) const {
        return shape + (o_.recipe.group != 128 ? " g" + std::to_string(o_.recipe.group) : "") + (o_.recipe.asymmetric ? " asym" : "") +
               (o_.recipe.act_order ? " act" : "") + (o_.small_shared ? " small" : "");
    }
    Way way() const { return {o_.wait, o_.run_ahead, false, o_.batch}; }

    // Rehearsing, everything is small and fast: only the program is tried.
    ModelSpec spec_of(const std::string& name, const Recipe& recipe = {}) const {
        ModelSpec spec;
        spec.shape = *find_shape(name);
        if (o_.rehearse) spec.shape = {2, 256, 4, spec.shape.heads == spec.shape.kv_heads ? 4u : 2u, 512, 8192, spec.shape.tied};
        if (o_.layers) spec.shape.layers = o_.layers;
        if (o_.vocab) spec.shape.vocab = o_.vocab;
        spec.recipe = recipe;
        spec.plugin = o_.plugin;
        spec.small_shared = o_.small_shared;
        spec.context = std::max(o_.prompt, 8192u);
        return spec;
    }
    uint32_t prompt_of(uint32_t tokens) const { return o_.rehearse ? 32 : tokens; }

    Loaded load(const std::string& name, const ModelSpec& spec) {
        Loaded made{name, std::make_unique<DeviceModel>(spec)};
        const double file = static_cast<double>(made->files().bytes_per_token()) * 1e-9;
        report_.note("\n%s: %llu layers, %.0f M parameters, %.4f GB that must be read a token; loaded in %.1f s (%.1f GB/s)", name.c_str(),
                     static_cast<unsigned long long>(spec.shape.layers), static_cast<double>(made->files().parameters()) * 1e-6,
                     static_cast<double>(made->files().bytes_that_must_be_read()) * 1e-9, made->load_seconds(),
                     file / made->load_seconds());
        return made;
    }
    static std::string known(uint64_t bytes) { return bytes ? std::to_string(std::lround(mib(bytes))) + " MiB" : "unknown"; }
    void note_memory(const Loaded& model) {
        report_.note(
            "%s: device memory by plan %.0f MiB (model %.0f, session %.0f); taken since before the model %s, in use on the device %s; "
            "host %.0f MiB",
            model.name.c_str(), mib(model->info().device_bytes + model->session_bytes()), mib(model->info().device_bytes),
            mib(model->session_bytes()), known(model->taken()).c_str(), known(model->used()).c_str(), mib(model->info().host_bytes));
    }

    Timing decode(Loaded& model, const std::string& what, const Way& way, uint32_t position) {
        // Inside a context of 2,048, where that goes.
        const uint32_t room = position + 2 < 2048 ? 2048 - position - 1 : o_.decode;
        const Timing t = model->decode(way, position, std::min(o_.decode, room), o_.repeat);
        report_.timing(model.name, what, t, yardsticks_.share_of_read(t));
        return t;
    }
    Timing decode(Loaded& model) { return decode(model, "decode", way(), 0); }
    Timing step(Loaded& model, uint32_t rows) {
        const Timing t = model->step(way(), 0, rows, 8 * o_.repeat);
        report_.timing(model.name, "step of " + std::to_string(rows) + " rows", t, yardsticks_.share_of_read(t));
        return t;
    }
    struct Prefill {
        double ms = 0, share = 0;  // of cuBLASLt's rate
    };
    Prefill prefill(Loaded& model, uint32_t tokens) {
        const Timing t = model->prefill(way(), tokens, o_.repeat);
        const double ceiling = yardsticks_.gemm(model.shape(), tokens);
        const double share = ceiling ? t.tflop_per_s() / ceiling : 0;
        report_.timing(model.name, "prompt of " + std::to_string(tokens), t, share);
        return {t.ms, share};
    }
    // What a layer takes beyond reading its bytes, from a model of one layer and a `whole` one.
    double overhead(const std::string& name, ModelSpec spec, const Timing& whole) {
        const uint64_t layers = spec.shape.layers;
        if (layers < 2) throw std::runtime_error("overhead: a model of at least 2 layers is needed");
        spec.shape.layers = 1;
        Loaded model = load(name + ", 1 layer", spec);
        const Timing one = decode(model);
        const double more = static_cast<double>(layers - 1);
        const double time = (whole.ms - one.ms) / more * 1e3, bytes = (whole.bytes - one.bytes) / more;
        const double reading = yardsticks_.read() ? bytes / yardsticks_.read() * 1e-3 : 0;
        report_.note("%s: %.1f us a layer (of %llu and 1), %.1f of them to read its %.1f MB", name.c_str(), time,
                     static_cast<unsigned long long>(layers), reading, bytes * 1e-6);
        return reading ? time - reading : 0;
    }

    // Decode in every way of waiting; returns the one that the options ask for.
    Timing decode_all(Loaded& model) {
        const Timing headline = decode(model);
        Way other = way();
        other.greedy = true;
        decode(model, "decode, greedy", other, 0);
        const struct {
            const char* what;
            uint32_t wait;
        } ways[] = {{"decode, block, no run-ahead", PITH_WAIT_BLOCK},
                    {"decode, yield, no run-ahead", PITH_WAIT_YIELD},
                    {"decode, spin, no run-ahead", PITH_WAIT_SPIN}};
        for (const auto& w : ways) decode(model, w.what, {w.wait, false, false, o_.batch}, 0);
        return headline;
    }
    void target_decode(const std::string& name, const Timing& t, double must, double goal) {
        report_.target("decode, batch 1, " + name + ", empty cache: share of read bandwidth", "%", 100 * yardsticks_.share_of_read(t), must,
                       goal);
    }
    void target_cpu(const std::string& name, const Timing& t) {
        report_.target("CPU during decode, " + name + ": share of a core", "%", 100 * t.core_share(), 8, 5, true);
    }

    void suite_33b() {
        const ModelSpec spec = spec_of("33b");
        Loaded model = load("33b", spec);
        whole_33b_ = decode_all(model);
        target_decode("33b", whole_33b_, 88, 92);
        target_cpu("33b", whole_33b_);
        report_.target("own device memory, 33b, 2,048 tokens", "MiB", mib(model->info().device_bytes + model->session_bytes()), 19800,
                       19800, true);
        note_memory(model);
        const uint32_t position = prompt_of(1920);
        const Timing late = decode(model, "decode at " + std::to_string(position), way(), position);
        report_.target("decode at position 1,920, 33b: share of read bandwidth", "%", 100 * yardsticks_.share_of_read(late), 86, 90);
        std::map<uint32_t, double> shares;
        for (const uint32_t rows : {2u, 4u, 8u, 16u, 32u, 64u}) shares[rows] = yardsticks_.share_of_read(step(model, rows));
        report_.target("step of 8 rows, 33b, logits of each: share of the floor", "%", 100 * shares[8], 78, 85);
        report_.target("step of 16 rows", "%", 100 * shares[16], 72, 80);
        report_.target("step of 32 rows", "%", 100 * shares[32], 65, 73);
        prefill_33b_ = prefill(model, prompt_of(1920));
        report_.target("prompt of 1,920, 33b: share of cuBLASLt", "%", 100 * prefill_33b_.share, 80, 88);
        const Shape& s = model.shape();
        const uint64_t matrix = s.hidden * s.ffn / 2 + s.hidden * s.ffn / 128 * 2;
        const double alone = yardsticks_.read_of(matrix);
        if (alone)
            report_.note("ceiling: read %.0f GB/s in launches of %.1f MB, one matrix of the MLP", alone,
                         static_cast<double>(matrix) * 1e-6);
        model.reset();
        report_.target("fixed overhead a layer, 33b (60 layers and 1)", "us", overhead("33b", spec, whole_33b_), 10, 6, true);
    }
    // The suite's parts that compare with the plain 33b, when that was left out.
    void need_33b() {
        if (whole_33b_.ms) return;
        Loaded model = load("33b", spec_of("33b"));
        whole_33b_ = decode(model);
        prefill_33b_ = prefill(model, prompt_of(1920));
    }
    void suite_act_order() {
        need_33b();
        Loaded model = load("33b act-order", spec_of("33b", {128, false, true}));
        const Timing t = decode(model);
        report_.target("act-order against none, 33b", "%", 100 * whole_33b_.ms / t.ms, 95, 97);
        prefill(model, prompt_of(1920));
    }
    void suite_g32() {
        Loaded model = load("33b g32 asym", spec_of("33b", {32, true, false}));
        report_.target("g32 asymmetric, 33b: share of read bandwidth, its own bytes", "%", 100 * yardsticks_.share_of_read(decode(model)),
                       85, 88);
        prefill(model, prompt_of(1920));
    }
    void suite_overhead() {
        ModelSpec spec = spec_of("7b");
        if (!o_.rehearse) spec.shape.layers = 61;
        Loaded model = load("7b, 61 layers", spec);
        const Timing whole = decode(model);
        model.reset();
        report_.target("fixed overhead a layer, 7b (61 layers and 1)", "us", overhead("7b", spec, whole), 10, 6, true);
    }
    void suite_7b() {
        Loaded model = load("7b", spec_of("7b"));
        const Timing t = decode_all(model);
        target_decode("7b", t, 75, 85);
        target_cpu("7b", t);
        note_memory(model);
    }
    void suite_8b() {
        Loaded model = load("8b", spec_of("8b"));
        const Timing t = decode_all(model);
        target_decode("8b", t, 80, 85);
        target_cpu("8b", t);
        report_.target("prompt of 8,192, 8b: share of cuBLASLt", "%", 100 * prefill(model, prompt_of(8192)).share, 70, 80);
        note_memory(model);
    }
    void suite_05b() {
        Loaded model = load("0.5b", spec_of("0.5b"));
        decode(model);
        prefill(model, prompt_of(1920));
    }
    void suite_72b() {
        Loaded model = load("72b", spec_of("72b"));
        decode(model);
        prefill(model, prompt_of(1920));
        note_memory(model);
    }
    void suite_small() {
        need_33b();
        ModelSpec spec = spec_of("33b");
        spec.small_shared = true;
        Loaded model = load("33b small", spec);
        const Timing t = decode(model);
        report_.target("small shared memory, 33b: decode against normal", "%", 100 * whole_33b_.ms / t.ms, 80, 80);
        report_.target("small shared memory, 33b: prompt against normal", "%", 100 * prefill_33b_.ms / prefill(model, prompt_of(1920)).ms,
                       50, 50);
    }
    void suite_generic() {
        if (o_.generic_plugin.empty()) return report_.note("\ngeneric path: not measured, --generic-plugin names no plug-in");
        ModelSpec spec = spec_of("33b");
        spec.plugin = o_.generic_plugin;
        Loaded model = load("33b generic", spec);
        report_.target("generic path, 33b: decode, share of read bandwidth", "%", 100 * yardsticks_.share_of_read(decode(model)), 80, 80);
        report_.target("generic path, 33b: prompt of 1,920, share of cuBLASLt", "%", 100 * prefill(model, prompt_of(1920)).share, 50, 50);
    }

    const DeviceOptions& o_;
    Report& report_;
    Yardsticks yardsticks_;
    Timing whole_33b_;
    Prefill prefill_33b_;
};

}  // namespace

const std::vector<std::string>& shape_parts() {
    static const std::vector<std::string> parts{"decode", "greedy", "position", "rows", "prefill", "overhead"};
    return parts;
}
const std::vector<std::string>& suite_parts() {
    static const std::vector<std::string> parts{"33b", "act-order", "g32", "overhead",     "7b",
                                                "8b",  "0.5b",      "72b", "small-shared", "generic"};
    return parts;
}

int run_device_bench(const DeviceOptions& options) {
    constexpr int kSkipped = 77;
    Report report(options.json);
    try {
        pith_device_info device{};
        if (!find_device(options.plugin, &device)) {
            std::fprintf(stderr, "pith_bench: SKIPPED: %s finds no GPU here, so nothing was measured\n", options.plugin.c_str());
            return kSkipped;
        }
        report.note("%s, %.0f MiB", device.name, mib(device.memory_total));
        Bench bench(options, device, report);
        options.suite ? bench.suite() : bench.one();
    } catch (const std::runtime_error& failure) {
        std::fprintf(stderr, "pith_bench: %s\n", failure.what());
        return 1;
    }
    report.finish();
    return report.failures() ? 1 : 0;
}

}  // namespace bench
