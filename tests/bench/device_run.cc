// One random model on a device: loading it, and timing steps.
#include "device_run.h"

#include <sys/resource.h>

#include <chrono>

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kWarmSteps = 8;

double ms_since(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

// Milliseconds that all threads of the process have computed.
double cpu_ms() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto ms = [](const timeval& t) { return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_usec) * 1e-3; };
    return ms(usage.ru_utime) + ms(usage.ru_stime);
}

void require(pith_status status, const pith_error& error) {
    if (status < 0) throw std::runtime_error(std::string(pith_status_name(status)) + ": " + error.message);
}

pith_device_info device_of(const pith_env* env, uint32_t device) {
    pith_device_info info{};
    pith_error error{};
    info.struct_size = sizeof info;
    require(pith_env_device_info(env, device, &info, &error), error);
    return info;
}

pith_cuda_options cuda_options(bool small_shared) {
    pith_cuda_options options{};
    options.struct_size = sizeof options;
    options.flags = small_shared ? PITH_CUDA_SMALL_SHARED : 0;
    return options;
}

}  // namespace

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const size_t half = values.size() / 2;
    return values.empty() ? 0 : values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

bool find_device(const std::string& plugin, pith_device_info* info) {
    struct Env {
        pith_env* env = nullptr;
        ~Env() { pith_env_destroy(env); }
    } holder;
    pith_error error{};
    require(pith_env_create(nullptr, &holder.env, &error), error);
    require(pith_env_load_backend(holder.env, plugin.c_str(), &error), error);
    if (pith_env_device_count(holder.env) < 2) return false;
    *info = device_of(holder.env, 1);
    return true;
}

DeviceModel::DeviceModel(const ModelSpec& spec) : spec_(spec), files_(spec.shape, spec.context, spec.recipe) {
    pith_error error{};
    try {
        const pith_files files = files_.files();
        pith_env_options env{};
        env.struct_size = sizeof env;
        env.files = &files;
        require(pith_env_create(&env, &env_, &error), error);
        require(pith_env_load_backend(env_, spec.plugin.c_str(), &error), error);
        if (pith_env_device_count(env_) < 2) throw std::runtime_error("no GPU");
        free_before_ = device_of(env_, 1).memory_free;
        const pith_cuda_options cuda = cuda_options(spec.small_shared);
        pith_model_options options{};
        options.struct_size = sizeof options;
        options.cuda = &cuda;
        options.device = 1;
        const auto start = Clock::now();
        require(pith_model_open(env_, "random", &options, &model_, &error), error);
        uint64_t left = 0;
        do require(pith_model_load(model_, 64 << 20, &left, &error), error);
        while (left);
        load_seconds_ = ms_since(start) * 1e-3;
        info_.struct_size = sizeof info_;
        require(pith_model_get_info(model_, &info_, &error), error);
    } catch (...) {
        close();
        throw;
    }
}

DeviceModel::~DeviceModel() { close(); }

void DeviceModel::close() {
    pith_model_destroy(model_);
    pith_env_destroy(env_);
}

// A session and its sampler.
class DeviceModel::Sequence {
public:
    Sequence(DeviceModel& model, const Way& way, uint32_t context, uint32_t rows) : vocab_(model.info_.vocab_size) {
        const pith_cuda_options cuda = cuda_options(model.spec_.small_shared);
        pith_session_options options{};
        options.struct_size = sizeof options;
        options.cuda = &cuda;
        options.context_length = context;
        options.batch_length = way.batch;
        options.logit_rows = rows;
        options.flags = way.run_ahead ? PITH_SESSION_RUN_AHEAD : 0;
        options.wait = way.wait;
        require(pith_session_create(model.model_, &options, &session_, &error_), error_);
        try {
            create_sampler(model.env_, way.greedy);
            pith_session_info info{};
            info.struct_size = sizeof info;
            require(pith_session_get_info(session_, &info, &error_), error_);
            model.session_bytes_ = info.device_bytes;
            const pith_device_info device = device_of(model.env_, 1);
            model.taken_ = model.free_before_ > device.memory_free ? model.free_before_ - device.memory_free : 0;
            model.used_ = device.memory_free ? device.memory_total - device.memory_free : 0;
        } catch (...) {
            close();
            throw;
        }
    }
    ~Sequence() { close(); }
    Sequence(const Sequence&) = delete;

    void truncate(uint32_t length) { require(pith_session_truncate(session_, length, &error_), error_); }
    // Any tokens: `count` of them, and the logits of the last `rows`.
    void forward(uint32_t count, uint32_t rows) {
        tokens_.resize(count);
        for (uint32_t i = 0; i < count; i++) tokens_[i] = static_cast<pith_token>((i * 7919u + 13) % vocab_);
        require(pith_session_forward(session_, tokens_.data(), count, rows, &error_), error_);
    }
    void forward(pith_token token) { require(pith_session_forward(session_, &token, 1, 1, &error_), error_); }
    pith_token sample(uint32_t row = 0) {
        pith_token token;
        require(pith_session_sample(session_, row, sampler_, &token, &error_), error_);
        return token;
    }
    // To `length` tokens, their work done.
    void refill(uint32_t length) {
        const uint32_t now = static_cast<uint32_t>(pith_session_length(session_));
        if (now >= length) return truncate(length);
        forward(length - now, 1);
        sample();
    }

private:
    void create_sampler(pith_env* env, bool greedy) {
        pith_sampler_step steps[3]{};
        steps[0].kind = PITH_STEP_TEMPERATURE;
        steps[0].value[0] = 0.8f;
        steps[1].kind = PITH_STEP_TOP_K;
        steps[1].count[0] = 40;
        steps[2].kind = PITH_STEP_TOP_P;
        steps[2].value[0] = 0.95f;
        pith_sampler_options options{};
        options.struct_size = sizeof options;
        options.seed = 1;
        options.steps = greedy ? nullptr : steps;
        options.step_count = greedy ? 0 : 3;
        options.vocab_size = vocab_;
        require(pith_sampler_create(env, &options, &sampler_, &error_), error_);
    }
    void close() {
        pith_sampler_destroy(sampler_);
        pith_session_destroy(session_);
    }

    uint32_t vocab_;
    pith_session* session_ = nullptr;
    pith_sampler* sampler_ = nullptr;
    pith_error error_{};
    std::vector<pith_token> tokens_;
};

Timing DeviceModel::decode(const Way& way, uint32_t position, uint32_t tokens, uint32_t repeat) {
    // A step that runs ahead of the last token has a place too.
    const uint32_t first = std::max(position, kWarmSteps + 1);
    Sequence sequence(*this, way, std::max(2048u, first + tokens + 1), 1);
    std::vector<double> turns;
    double cpu = 0;
    for (uint32_t turn = 0; turn < repeat; turn++) {
        sequence.refill(first - kWarmSteps - 1);
        sequence.forward(1, 1);
        pith_token token = sequence.sample();
        for (uint32_t i = 0; i < kWarmSteps; i++) {
            sequence.forward(token);
            token = sequence.sample();
        }
        const double cpu_before = cpu_ms();
        const auto start = Clock::now();
        for (uint32_t i = 0; i < tokens; i++) {
            sequence.forward(token);
            token = sequence.sample();
        }
        turns.push_back(ms_since(start) / tokens);
        cpu += (cpu_ms() - cpu_before) / tokens / repeat;
    }
    const double before = first + (tokens - 1) / 2.0;
    return {median(turns), 1,
            static_cast<double>(files_.bytes_that_must_be_read()) + before * static_cast<double>(files_.cache_bytes_per_position()),
            2.0 * static_cast<double>(spec_.shape.layers * spec_.shape.layer_weights() + spec_.shape.vocab * spec_.shape.hidden), cpu};
}

Timing DeviceModel::step(const Way& way, uint32_t position, uint32_t rows, uint32_t repeat) {
    Way draw = way;
    draw.greedy = true;
    draw.run_ahead = false;
    Sequence sequence(*this, draw, std::max(2048u, position + rows), rows);
    sequence.refill(position);
    std::vector<double> turns;
    double cpu = 0;
    for (uint32_t turn = 0; turn < kWarmSteps + repeat; turn++) {
        sequence.truncate(position);
        const double cpu_before = cpu_ms();
        const auto start = Clock::now();
        sequence.forward(rows, rows);
        sequence.sample(rows - 1);
        if (turn < kWarmSteps) continue;
        turns.push_back(ms_since(start));
        cpu += (cpu_ms() - cpu_before) / repeat;
    }
    const double weights = static_cast<double>(spec_.shape.layers * spec_.shape.layer_weights() + spec_.shape.vocab * spec_.shape.hidden);
    return {median(turns), static_cast<double>(rows),
            static_cast<double>(files_.bytes_that_must_be_read() + (rows - 1) * spec_.shape.hidden * 2 +
                                position * files_.cache_bytes_per_position()),
            2.0 * rows * weights, cpu};
}

Timing DeviceModel::prefill(const Way& way, uint32_t tokens, uint32_t repeat) {
    Way draw = way;
    draw.greedy = true;
    draw.run_ahead = false;
    Sequence sequence(*this, draw, std::max(2048u, tokens), 1);
    std::vector<double> turns;
    double cpu = 0;
    for (uint32_t turn = 0; turn <= repeat; turn++) {
        sequence.truncate(0);
        const double cpu_before = cpu_ms();
        const auto start = Clock::now();
        sequence.forward(tokens, 1);
        sequence.sample();
        if (turn == 0) continue;
        turns.push_back(ms_since(start));
        cpu += (cpu_ms() - cpu_before) / repeat;
    }
    // The head computes one row: a read, not part of this. Attention is causal: each query meets the keys up to its own.
    const double n = tokens, layers = static_cast<double>(spec_.shape.layers);
    const double flop =
        layers * (2 * n * static_cast<double>(spec_.shape.layer_weights()) + 2 * n * (n + 1) * static_cast<double>(spec_.shape.hidden));
    return {median(turns), n, static_cast<double>(files_.bytes_that_must_be_read()), flop, cpu};
}

}  // namespace bench
