// A command line for completion and for turns of plain text: chat MODEL_DIR [PROMPT]. Shows the C++ layer, loading with a progress bar, a
// thread pool of the host's own, streaming text, and Ctrl-C through pith_session_cancel.
#include <pith/pith.hpp>

#include <unistd.h>
#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "runners/pthread.h"
#include "usage.hpp"

namespace {

using Clock = std::chrono::steady_clock;

struct Settings {
    std::string model, prompt, preset;
    uint32_t tokens = 128, context = 4096, threads = std::max(1u, std::thread::hardware_concurrency());
    uint32_t top_k = 0;
    float temperature = 0.8f, top_p = 0.95f, min_p = 0, repetition = 1;
    uint64_t seed = 0;
    bool exact = false, special = false, gpu = false, usage = false;
    std::string backend = "libpith_cuda.so", trace;
};

// What the signal handler needs: lock-free atomics, and pith_session_cancel, which any thread may call at any time.
std::atomic<pith_session*> g_session{nullptr};
std::atomic<bool> g_interrupted{false};

void on_interrupt(int) {
    g_interrupted = true;
    pith_session_cancel(g_session, 1);
}

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// The caller's loop around pith_model_load: a few MiB a step, a bar after each. Returns false if interrupted.
bool load(pith::Model& model) {
    constexpr uint64_t kBudget = 4 << 20;
    constexpr int kWidth = 40;
    const bool terminal = isatty(STDERR_FILENO) != 0;
    const auto begin = Clock::now();
    uint64_t left = 0, all = 0;
    do {
        if (g_interrupted) return false;
        left = model.load(kBudget);
        if (all == 0) all = left + kBudget;
        const int done = static_cast<int>(kWidth * (all - std::min(left, all)) / all);
        if (terminal) std::fprintf(stderr, "\rloading [%-*s]", kWidth, std::string(static_cast<size_t>(done), '#').c_str());
    } while (left > 0);
    if (terminal) std::fprintf(stderr, "\r\033[K");
    const pith_model_info info = model.info();
    std::fprintf(stderr, "%s, %.1f M parameters, %.1f MB, loaded in %.2f s\n", info.architecture,
                 static_cast<double>(info.parameters) / 1e6, static_cast<double>(info.host_bytes + info.device_bytes) / 1e6, seconds_since(begin));
    return true;
}

pith_sampler_step step(uint32_t kind, float value, uint32_t count = 0) {
    pith_sampler_step made{};
    made.kind = kind;
    made.value[0] = value;
    made.count[0] = count;
    return made;
}

std::vector<pith_sampler_step> sampler_steps(const Settings& s) {
    if (s.preset == "exllamav2") return pith::Sampler::preset(PITH_PRESET_EXLLAMAV2);
    if (s.preset == "llama.cpp") return pith::Sampler::preset(PITH_PRESET_LLAMA_CPP);
    std::vector<pith_sampler_step> steps;
    if (s.repetition != 1) steps.push_back(step(PITH_STEP_PENALTIES, s.repetition));
    steps.push_back(step(PITH_STEP_TEMPERATURE, s.temperature));
    if (s.top_k > 0) steps.push_back(step(PITH_STEP_TOP_K, 0, s.top_k));
    if (s.top_p < 1) steps.push_back(step(PITH_STEP_TOP_P, s.top_p));
    if (s.min_p > 0) steps.push_back(step(PITH_STEP_MIN_P, s.min_p));
    return steps;
}

pith::Sampler make_sampler(const pith::Env& env, const Settings& s, uint32_t vocab_size) {
    const std::vector<pith_sampler_step> steps = sampler_steps(s);
    auto options = pith::make<pith_sampler_options>();
    options.seed = s.seed;
    options.steps = steps.data();
    options.step_count = static_cast<uint32_t>(steps.size());
    options.vocab_size = vocab_size;
    return pith::Sampler(env, &options);
}

pith::Session make_session(const pith::Model& model, const Settings& s, const pith_runner& runner) {
    auto options = pith::make<pith_session_options>();
    options.runner = &runner;
    options.context_length = std::min(s.context, model.info().context_length);
    options.flags = (s.exact ? uint32_t{PITH_SESSION_EXACT} : 0u) | (s.gpu ? uint32_t{PITH_SESSION_RUN_AHEAD} : 0u);
    return pith::Session(model, &options);
}

// Tokens computed and the time they took.
struct Rate {
    size_t tokens = 0;
    double seconds = 0;
    void add(size_t count, Clock::time_point begin) {
        tokens += count;
        seconds += seconds_since(begin);
    }
    double per_second() const { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }
};

class Chat {
public:
    Chat(const pith::Tokenizer& tokenizer, pith::Sampler& sampler, pith::Session& session, const Settings& settings)
        : tokenizer_(tokenizer), sampler_(sampler), session_(session), settings_(settings), context_(session.info().context_length) {}

    // Adds a text to the sequence and streams what the model makes of it.
    void turn(const std::string& text) {
        const bool first = session_.length() == 0 && pending_.empty();
        const uint32_t flags = (first ? uint32_t{PITH_ENCODE_BOS} : 0u) | (settings_.special ? uint32_t{PITH_ENCODE_SPECIAL} : 0u);
        const std::vector<pith_token> tokens = tokenizer_.encode(text, flags);
        const pith_usage before = session_.usage();
        pending_.insert(pending_.end(), tokens.begin(), tokens.end());
        sampler_.accept(tokens);
        for (pith_token token : tokens) tokenizer_.stream(stream_, token);
        try {
            generate();
        } catch (const pith::Error& error) {
            if (error.status() != PITH_E_CANCELLED) throw;
        }
        print(tokenizer_.stream(stream_, PITH_NO_TOKEN));
        stream_ = {};
        if (!settings_.usage) return;
        std::printf("\n");
        std::fflush(stdout);
        print_usage(stderr, before, session_.usage());
    }

    // Whether a text of so many bytes may not fit any more, since the sequence has filled its context.
    bool full() const { return session_.length() + pending_.size() >= context_; }

    void restart() {
        session_.truncate(0);
        sampler_.truncate(0);
        pending_.clear();
    }

    void print_rates() const {
        std::fprintf(stderr, "prefill: %zu tokens, %.1f tokens/s\ndecode: %zu tokens, %.1f tokens/s\n", prefill_.tokens,
                     prefill_.per_second(), decode_.tokens, decode_.per_second());
    }

private:
    // Prefill is the prompt up to the first token drawn; decode is every later token, its forward and its draw.
    void generate() {
        Rate* rate = &prefill_;
        for (uint32_t i = 0; i < settings_.tokens; i++) {
            const auto begin = Clock::now();
            const size_t count = pending_.size();
            session_.forward(pending_);
            pending_.clear();
            const pith_token token = session_.sample(sampler_);
            rate->add(count, begin);
            rate = &decode_;
            if (tokenizer_.is_end(token)) return;
            pending_.push_back(token);
            print(tokenizer_.stream(stream_, token));
            if (full()) return;
        }
    }

    static void print(const std::string& text) {
        std::fwrite(text.data(), 1, text.size(), stdout);
        std::fflush(stdout);
    }

    const pith::Tokenizer& tokenizer_;
    pith::Sampler& sampler_;
    pith::Session& session_;
    const Settings& settings_;
    const size_t context_;
    std::vector<pith_token> pending_;  // to be computed next: a prompt, or the last token drawn
    pith_stream stream_{};
    Rate prefill_, decode_;
};

// A line of input without its newline; nothing at the end of the input or on Ctrl-C.
std::optional<std::string> read_line() {
    std::string line;
    std::printf("> ");
    std::fflush(stdout);
    for (int c; (c = std::getchar()) != '\n'; line += static_cast<char>(c))
        if (c == EOF) return line.empty() || g_interrupted ? std::nullopt : std::optional(line);
    return line;
}

void converse(Chat& chat, pith::Session& session) {
    std::fprintf(stderr, "A line of text, and the model goes on; Ctrl-C stops it, Ctrl-D ends.\n");
    std::string separator;
    while (const std::optional<std::string> line = read_line()) {
        if (line->empty()) continue;
        if (chat.full()) {
            std::fprintf(stderr, "[the context is full: starting afresh]\n");
            chat.restart();
            separator.clear();
        }
        chat.turn(separator + *line);
        std::printf("\n");
        separator = "\n\n";
        g_interrupted = false;
        session.cancel(false);
    }
    std::printf("\n");
}

// Device 0 is the CPU; the plug-in's follow, the best first. On a machine without a driver there are none, and the CPU computes.
pith::Model open_model(pith::Env& env, const Settings& s) {
    auto options = pith::make<pith_model_options>();
    if (s.gpu) {
        env.load_backend(s.backend);
        if (pith_env_device_count(env.get()) > 1)
            options.device = 1;
        else
            std::fprintf(stderr, "no GPU was found: computing on the CPU\n");
    }
    return pith::Model(env, s.model, &options);
}

// What happened when, from here to the end, for https://ui.perfetto.dev.
class TraceFile {
public:
    TraceFile(pith::Env& env, const std::string& path) : env_(env), path_(path) {
        if (path.empty()) return;
        memory_.resize(size_t{16} << 20);
        env.trace(memory_.data(), memory_.size());
    }
    ~TraceFile() {
        if (memory_.empty()) return;
        std::FILE* file = std::fopen(path_.c_str(), "wb");
        const std::string text = file ? env_.trace_json() : std::string();
        env_.trace(nullptr, 0);
        if (!file || std::fwrite(text.data(), 1, text.size(), file) != text.size() || std::fclose(file)) std::perror(path_.c_str());
    }
    TraceFile(const TraceFile&) = delete;
    TraceFile& operator=(const TraceFile&) = delete;

private:
    pith::Env& env_;
    const std::string& path_;
    std::vector<char> memory_;
};

int run(const Settings& s) {
    pith::Env env;
    const TraceFile trace(env, s.trace);
    pith::Model model = open_model(env, s);
    const pith::Tokenizer tokenizer(env, s.model);
    if (!load(model)) return 130;
    const std::unique_ptr<thread_pool, decltype(&thread_pool_destroy)> pool(thread_pool_create(s.threads), thread_pool_destroy);
    if (!pool) throw std::bad_alloc();
    pith::Session session = make_session(model, s, thread_pool_runner(pool.get()));
    pith::Sampler sampler = make_sampler(env, s, model.info().vocab_size);
    Chat chat(tokenizer, sampler, session, s);
    g_session = session.get();
    if (g_interrupted) return 130;
    if (s.prompt.empty()) {
        converse(chat, session);
    } else {
        std::printf("%s", s.prompt.c_str());
        chat.turn(s.prompt);
        std::printf("\n");
        std::fflush(stdout);  // before the rates, where both go to one place
    }
    g_session = nullptr;
    chat.print_rates();
    return g_interrupted ? 130 : 0;
}

void add_options(CLI::App& app, Settings& s) {
    app.add_option("model", s.model, "Folder of the model: config.json, tokenizer.json, *.safetensors")->required();
    app.add_option("prompt,-p,--prompt", s.prompt, "Text to continue; without it, turns are read from standard input");
    app.add_option("-n,--tokens", s.tokens, "Most tokens to generate for a turn")->capture_default_str();
    app.add_option("-t,--threads", s.threads, "Threads to compute with")->check(CLI::Range(1, 256))->capture_default_str();
    app.add_option("-c,--context", s.context, "Positions, at most the model's")->check(CLI::PositiveNumber)->capture_default_str();
    app.add_option("--temperature", s.temperature, "0: always the likeliest token")->capture_default_str();
    app.add_option("--top-k", s.top_k, "Keep the k likeliest tokens; 0: all")->capture_default_str();
    app.add_option("--top-p", s.top_p, "Keep the likeliest tokens of this probability together")->capture_default_str();
    app.add_option("--min-p", s.min_p, "Keep tokens at least this likely, relative to the likeliest")->capture_default_str();
    app.add_option("--repetition", s.repetition, "Penalty on tokens that have occurred; 1: none")->capture_default_str();
    app.add_option("--preset", s.preset, "Another program's list of steps instead of those five")
        ->check(CLI::IsMember({"exllamav2", "llama.cpp"}));
    app.add_option("--seed", s.seed, "The same seed gives the same text")->capture_default_str();
    app.add_flag("--gpu", s.gpu, "Compute on the best GPU, if there is one");
    app.add_option("--backend", s.backend, "The GPU's plug-in; a name without a folder lies beside libpith")->capture_default_str();
    app.add_flag("--exact", s.exact, "Float32 activations and KV cache (CPU)");
    app.add_flag("--usage", s.usage, "Say after each answer what it used");
    app.add_option("--trace", s.trace, "Write what happened when to this file: JSON for Perfetto");
    app.add_flag("--special", s.special, "Special tokens written in the text become those tokens");
}

}  // namespace

int main(int argc, char** argv) {
    struct sigaction action {};
    action.sa_handler = on_interrupt;  // without SA_RESTART, so that it also ends the wait for a line
    sigaction(SIGINT, &action, nullptr);
    try {
        Settings settings;
        CLI::App app("Text from a language model");
        add_options(app, settings);
        CLI11_PARSE(app, argc, argv);
        return run(settings);
    } catch (const pith::Error& error) {
        std::fprintf(stderr, "chat: %s: %s\n", pith_status_name(error.status()), error.what());
    } catch (const std::exception& error) {
        std::fprintf(stderr, "chat: %s\n", error.what());
    }
    return 1;
}
