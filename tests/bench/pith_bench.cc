// Prefill and decode of random models of known shapes, through the public API, beside the memory bandwidth of the same minute. The CPU is
// measured here, GPUs by device_bench.h.
#include <pith/pith.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <thread>

#include "bandwidth.h"
#include "device_bench.h"
#include "random_model.h"
#include "runners/pthread.h"

namespace {

using Clock = std::chrono::steady_clock;
using bench::Bandwidth;
using bench::RandomModel;

struct Options {
    std::string shape = "tiny";
    uint32_t threads = std::max(1u, std::thread::hardware_concurrency());
    uint32_t prompt = 512, decode = 64, context = 0, repeat = 3;
    uint64_t layers = 0, vocab = 0, buffer_mib = 0;
    bool json = false, exact = false, head8 = false;
    bench::Recipe recipe;
};

struct Turn {
    double prefill, decode;  // tokens a second
    double before, after;    // GB a second around the decode
    double bandwidth() const { return std::max(before, after); }
};

void require(pith_status status, const pith_error& error) {
    if (status >= 0) return;
    std::fprintf(stderr, "pith_bench: %s: %s\n", pith_status_name(status), error.message);
    std::exit(1);
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const size_t half = values.size() / 2;
    return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// One model, session and sampler, and the pool that outlives them.
class Run {
public:
    explicit Run(const Options& options)
        : options_(options), pool_(thread_pool_create(options.threads)), model_files_(shape(options), context(options), options.recipe) {
        const pith_files files = model_files_.files();
        if (pool_) runner_ = thread_pool_runner(pool_);
        if (runner_.width != options.threads) {
            std::fprintf(stderr, "pith_bench: the system gives no %u threads\n", options.threads);
            std::exit(1);
        }
        pith_env_options env{};
        env.struct_size = sizeof env;
        env.files = &files;
        env.runner = options.threads > 1 ? &runner_ : nullptr;
        require(pith_env_create(&env, &env_, &error_), error_);
        const auto start = Clock::now();
        pith_model_options model{};
        model.struct_size = sizeof model;
        model.flags = options.head8 ? PITH_MODEL_HEAD_8BIT : 0;
        require(pith_model_open(env_, "random", &model, &model_, &error_), error_);
        uint64_t left = 0;
        do require(pith_model_load(model_, 64 << 20, &left, &error_), error_);
        while (left);
        load_seconds_ = seconds_since(start);
        info_.struct_size = sizeof info_;
        require(pith_model_get_info(model_, &info_, &error_), error_);
        device_.struct_size = sizeof device_;
        require(pith_env_device_info(env_, 0, &device_, &error_), error_);
        create_session();
    }
    ~Run() {
        pith_sampler_destroy(sampler_);
        pith_session_destroy(session_);
        pith_model_destroy(model_);
        pith_env_destroy(env_);
        thread_pool_destroy(pool_);
    }
    Run(const Run&) = delete;

    std::vector<Turn> measure() {
        uint64_t mib = options_.buffer_mib;
        if (!mib) mib = free_memory() < uint64_t{2} << 30 ? 256 : 1024;
        Bandwidth bandwidth(mib << 20);
        buffer_bytes_ = bandwidth.bytes();
        turn(bandwidth);  // warms up
        std::vector<Turn> turns;
        for (uint32_t i = 0; i < options_.repeat; i++) turns.push_back(turn(bandwidth));
        return turns;
    }

    const RandomModel& files() const { return model_files_; }
    uint64_t bytes_per_token() const { return model_files_.bytes_per_token() - (options_.head8 ? model_files_.saved_by_head8() : 0); }
    const pith_model_info& info() const { return info_; }
    const char* device() const { return device_.name; }
    double load_seconds() const { return load_seconds_; }
    uint64_t buffer_bytes() const { return buffer_bytes_; }

private:
    static bench::Shape shape(const Options& options) {
        bench::Shape shape = *bench::find_shape(options.shape);
        if (options.layers) shape.layers = options.layers;
        if (options.vocab) shape.vocab = options.vocab;
        return shape;
    }
    // After the model was loaded.
    uint64_t free_memory() {
        pith_device_info now{};
        now.struct_size = sizeof now;
        require(pith_env_device_info(env_, 0, &now, &error_), error_);
        return now.memory_free;
    }
    static uint32_t context(const Options& options) { return std::max(options.context, options.prompt + options.decode); }

    void create_session() {
        pith_session_options session{};
        session.struct_size = sizeof session;
        session.context_length = context(options_);
        session.flags = options_.exact ? PITH_SESSION_EXACT : 0;
        require(pith_session_create(model_, &session, &session_, &error_), error_);
        pith_sampler_step steps[3]{};
        steps[0].kind = PITH_STEP_TEMPERATURE;
        steps[0].value[0] = 0.8f;
        steps[1].kind = PITH_STEP_TOP_K;
        steps[1].count[0] = 40;
        steps[2].kind = PITH_STEP_TOP_P;
        steps[2].value[0] = 0.95f;
        pith_sampler_options sampler{};
        sampler.struct_size = sizeof sampler;
        sampler.seed = 1;
        sampler.steps = steps;
        sampler.step_count = 3;
        sampler.vocab_size = info_.vocab_size;
        require(pith_sampler_create(env_, &sampler, &sampler_, &error_), error_);
    }
    Turn turn(Bandwidth& bandwidth) {
        std::vector<pith_token> prompt(options_.prompt);
        for (size_t i = 0; i < prompt.size(); i++) prompt[i] = static_cast<pith_token>((i * 7919 + 13) % info_.vocab_size);
        require(pith_session_truncate(session_, 0, &error_), error_);
        Turn turn{};
        auto start = Clock::now();
        require(pith_session_forward(session_, prompt.data(), prompt.size(), 1, &error_), error_);
        turn.prefill = options_.prompt / seconds_since(start);
        pith_token token;
        require(pith_session_sample(session_, 0, sampler_, &token, &error_), error_);
        turn.before = bandwidth.measure(runner_);
        start = Clock::now();
        for (uint32_t i = 0; i < options_.decode; i++) {
            require(pith_session_forward(session_, &token, 1, 1, &error_), error_);
            require(pith_session_sample(session_, 0, sampler_, &token, &error_), error_);
        }
        turn.decode = options_.decode / seconds_since(start);
        turn.after = bandwidth.measure(runner_);
        return turn;
    }

    const Options& options_;
    thread_pool* pool_;
    pith_runner runner_{};
    RandomModel model_files_;
    pith_error error_{};
    pith_env* env_ = nullptr;
    pith_model* model_ = nullptr;
    pith_session* session_ = nullptr;
    pith_sampler* sampler_ = nullptr;
    pith_model_info info_{};
    pith_device_info device_{};
    double load_seconds_ = 0;
    uint64_t buffer_bytes_ = 0;
};

struct Summary {
    double prefill_best, prefill_median, decode_best, decode_median, bandwidth, ratio, ratio_median;
};

// The headline is the best decode with the higher of the readings around it.
Summary summarise(const std::vector<Turn>& turns, double bytes) {
    std::vector<double> prefill, decode, ratio;
    const Turn* best = &turns[0];
    for (const Turn& turn : turns) {
        prefill.push_back(turn.prefill);
        decode.push_back(turn.decode);
        ratio.push_back(turn.decode * bytes * 1e-9 / turn.bandwidth());
        if (turn.decode > best->decode) best = &turn;
    }
    return {*std::max_element(prefill.begin(), prefill.end()), median(prefill), best->decode, median(decode), best->bandwidth(),
            best->decode * bytes * 1e-9 / best->bandwidth(),   median(ratio)};
}

void print_json(const Options& o, const Run& run, const std::vector<Turn>& turns, const Summary& s) {
    std::printf("{\n  \"shape\": \"%s\", \"threads\": %u, \"prompt\": %u, \"decode\": %u, \"repeat\": %u, \"exact\": %s,\n",
                o.shape.c_str(), o.threads, o.prompt, o.decode, o.repeat, o.exact ? "true" : "false");
    std::printf("  \"parameters\": %llu, \"weight_bytes_per_token\": %llu, \"host_bytes\": %llu, \"load_seconds\": %.3f,\n",
                static_cast<unsigned long long>(run.files().parameters()), static_cast<unsigned long long>(run.bytes_per_token()),
                static_cast<unsigned long long>(run.info().host_bytes), run.load_seconds());
    std::printf("  \"prefill_tokens_per_s\": %.3f, \"prefill_tokens_per_s_median\": %.3f,\n", s.prefill_best, s.prefill_median);
    std::printf("  \"decode_tokens_per_s\": %.3f, \"decode_tokens_per_s_median\": %.3f,\n", s.decode_best, s.decode_median);
    std::printf("  \"read_bandwidth_gb_s\": %.3f, \"bandwidth_ratio\": %.4f, \"bandwidth_ratio_median\": %.4f,\n", s.bandwidth, s.ratio,
                s.ratio_median);
    std::printf("  \"bandwidth_buffer_bytes\": %llu, \"turns\": [", static_cast<unsigned long long>(run.buffer_bytes()));
    for (size_t i = 0; i < turns.size(); i++)
        std::printf("%s\n    {\"prefill_tokens_per_s\": %.3f, \"decode_tokens_per_s\": %.3f, \"read_bandwidth_gb_s\": [%.3f, %.3f]}",
                    i ? "," : "", turns[i].prefill, turns[i].decode, turns[i].before, turns[i].after);
    std::printf("\n  ]\n}\n");
}

void print_table(const Options& o, const Run& run, const std::vector<Turn>& turns, const Summary& s) {
    std::printf("%s, %u threads, %s; %.1f M parameters, %.4f GB of weights a token; loaded in %.2f s\n", o.shape.c_str(), o.threads,
                run.device(), static_cast<double>(run.files().parameters()) * 1e-6,
                static_cast<double>(run.bytes_per_token()) * 1e-9, run.load_seconds());
    std::printf("%-8s %14s %14s %18s %8s\n", "", "prefill t/s", "decode t/s", "read GB/s", "ratio");
    const double gb = static_cast<double>(run.bytes_per_token()) * 1e-9;
    for (size_t i = 0; i < turns.size(); i++)
        std::printf("turn %-3zu %14.1f %14.2f %9.1f %8.1f %8.3f\n", i + 1, turns[i].prefill, turns[i].decode, turns[i].before,
                    turns[i].after, turns[i].decode * gb / turns[i].bandwidth());
    std::printf("%-8s %14.1f %14.2f %18.1f %8.3f\n", "best", s.prefill_best, s.decode_best, s.bandwidth, s.ratio);
    std::printf("%-8s %14.1f %14.2f %18s %8.3f\n", "median", s.prefill_median, s.decode_median, "", s.ratio_median);
}

// Options that only mean something with --device cuda.
void add_device_options(CLI::App& app, bench::DeviceOptions& o) {
    const std::map<std::string, uint32_t> waits{{"block", PITH_WAIT_BLOCK}, {"yield", PITH_WAIT_YIELD}, {"spin", PITH_WAIT_SPIN}};
    const auto add = [&](const char* name, auto& value, const char* help) {
        return app.add_option(name, value, help)->group("With --device cuda");
    };
    const auto flag = [&](const char* name, bool& value, const char* help) {
        app.add_flag(name, value, help)->group("With --device cuda");
    };
    add("--plugin", o.plugin, "the backend's plug-in; without a folder: beside libpith")->capture_default_str();
    add("--cublaslt", o.cublaslt,
        "cuBLASLt's library, the ceiling of prompts; default: libcublasLt.so.13 or .12, wherever the loader finds it");
    add("--wait", o.wait, "block, yield or spin")->transform(CLI::CheckedTransformer(waits));
    flag("--run-ahead,!--no-run-ahead", o.run_ahead, "PITH_SESSION_RUN_AHEAD, the default here");
    flag("--small-shared", o.small_shared, "PITH_CUDA_SMALL_SHARED for model and sessions");
    add("--position", o.position, "where decode is measured besides the empty cache")->capture_default_str();
    add("--rows", o.rows, "rows of the steps, as in 2,4,8")->delimiter(',')->capture_default_str();
    add("--batch", o.batch, "tokens computed at once; default: the backend's");
    add("--measure", o.measure,
        "decode, greedy, position, rows, prefill and overhead (of a layer, loads a model of one too); or the suite's parts")
        ->delimiter(',');
    flag("--suite", o.suite, "all shapes, beside what is to be reached");
    add("--generic-plugin", o.generic_plugin, "of the suite: a plug-in built without this GPU's own code");
    flag("--rehearse", o.rehearse, "of the suite: tiny models, to try the program out");
}

// Checks what CLI11 can't, and lets the device's defaults stand where an option was not given.
int run_device(const CLI::App& app, const Options& options, bench::DeviceOptions& device) {
    const std::vector<std::string>& parts = device.suite ? bench::suite_parts() : bench::shape_parts();
    for (const std::string& part : device.measure) {
        if (std::find(parts.begin(), parts.end(), part) != parts.end()) continue;
        std::fprintf(stderr, "pith_bench: --measure: there is no part '%s'\n", part.c_str());
        return 2;
    }
    const auto given = [&](const char* name) { return app.count(name) != 0; };
    if (given("--shape")) device.shape = options.shape;
    if (given("--prompt")) device.prompt = options.prompt;
    if (given("--decode")) device.decode = options.decode;
    device.layers = options.layers;
    device.vocab = options.vocab;
    device.recipe = options.recipe;
    device.repeat = options.repeat;
    device.json = options.json;
    return bench::run_device_bench(device);
}

}  // namespace

int main(int argc, char** argv) {
    Options options;
    CLI::App app{"Speed of random models: prefill and decode tokens a second, and the share of memory bandwidth that decode reaches"};
    std::string device = "cpu";
    app.add_option("--device", device, "cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}))->capture_default_str();
    app.add_option("--shape", options.shape, "of the model; default: tiny on the CPU, 7b on a GPU")
        ->check(CLI::IsMember(bench::shape_names()));
    app.add_option("--threads", options.threads, "threads, the caller's included")->check(CLI::Range(1, 256))->capture_default_str();
    app.add_option("--prompt", options.prompt, "tokens of the prompt; default: 512, on a GPU 1920")->check(CLI::Range(1, 1 << 20));
    app.add_option("--decode", options.decode, "tokens generated; default: 64, on a GPU 128")->check(CLI::Range(1, 1 << 20));
    app.add_option("--context", options.context, "the session's context, at least prompt + decode (the default)");
    app.add_option("--repeat", options.repeat, "measured turns, after one to warm up")->check(CLI::Range(1, 1000))->capture_default_str();
    app.add_option("--layers", options.layers, "other than the shape's");
    app.add_option("--vocab", options.vocab, "other than the shape's");
    app.add_option("--buffer", options.buffer_mib, "MiB that the bandwidth is read from; default 1024, or 256 where memory is short");
    app.add_flag("--exact", options.exact, "the reference path: float activations and cache");
    app.add_flag("--head8", options.head8, "the head held as 8 bits a weight");
    app.add_flag("--json", options.json, "one JSON object instead of a table");
    app.add_option("--group", options.recipe.group, "inputs that share a scale")
        ->check(CLI::IsMember({32, 64, 128}))
        ->capture_default_str();
    app.add_flag("--asymmetric", options.recipe.asymmetric, "zero points that differ");
    app.add_flag("--act-order", options.recipe.act_order, "inputs assigned to groups in a random order");
    bench::DeviceOptions on_device;
    add_device_options(app, on_device);
    CLI11_PARSE(app, argc, argv);
    if (device == "cuda") return run_device(app, options, on_device);

    Run run(options);
    const std::vector<Turn> turns = run.measure();
    const Summary summary = summarise(turns, static_cast<double>(run.bytes_per_token()));
    (options.json ? print_json : print_table)(options, run, turns, summary);
    return 0;
}
