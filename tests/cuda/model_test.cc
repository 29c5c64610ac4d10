// Whole models on the GPU through the public API: against transformers' logits, against the CPU backend, and against themselves.
// Arguments before Catch2's own: the plug-in and the source folder; without a GPU it exits with 77.
#ifndef CATCH_CONFIG_RUNNER
#    define CATCH_CONFIG_RUNNER
#endif
#include <algorithm>
#include <cfenv>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <set>
#include <thread>

#if defined(__SSE2__)
#    include <emmintrin.h>
#endif

#include "../golden/golden.h"

namespace {

using namespace golden;

std::string plugin, source;
uint32_t cuda_flags = 0;

struct OnGpu {
    pith_cuda_options cuda{};
    pith_model_options options{};
    OnGpu() {
        cuda.struct_size = sizeof cuda;
        cuda.flags = cuda_flags;
        options.struct_size = sizeof options;
        options.device = 1;
        options.cuda = &cuda;
    }
};

std::vector<std::string> folders() {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(source + "/tests/golden/models"))
        if (entry.is_directory() && std::filesystem::exists(entry.path() / "config.json")) names.insert(entry.path().filename());
    return {names.begin(), names.end()};
}

std::string folder_of(const std::string& name) { return source + "/tests/golden/models/" + name; }
std::string demo() { return source + "/examples/demo-model"; }

uint32_t context_of(const std::string& folder) {
    std::ifstream in(folder_of(folder) + "/expected.json");
    std::string text((std::istreambuf_iterator<char>(in)), {});
    const size_t at = text.find(':');
    REQUIRE(at != std::string::npos);
    return static_cast<uint32_t>(std::stoul(text.substr(at + 1)));
}

bool bf16(const std::string& folder) {
    std::ifstream in(folder_of(folder) + "/config.json");
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    return text.find("bfloat16") != std::string::npos;
}

// Exactly what the plan says leaves the device, and comes back.
uint64_t device_free(pith_env* env) {
    pith_error error{};
    pith_device_info info{};
    info.struct_size = sizeof info;
    require_ok(pith_env_device_info(env, 1, &info, &error), error);
    return info.memory_free;
}

pith_sampler* greedy(const Model& model) {
    pith_error error{};
    pith_sampler* sampler = nullptr;
    require_ok(pith_sampler_create(model.env(), nullptr, &sampler, &error), error);
    return sampler;
}

pith_session* session_of(const Model& model, uint32_t flags, uint32_t context = 256, uint32_t wait = PITH_WAIT_BLOCK) {
    pith_error error{};
    pith_session_options options{};
    options.struct_size = sizeof options;
    options.context_length = context;
    options.flags = flags;
    options.wait = wait;
    pith_session* session = nullptr;
    require_ok(pith_session_create(model.get(), &options, &session, &error), error);
    return session;
}

// Of the tokens after the first, by the logits of those before them.
double perplexity(const std::vector<float>& logits, const std::vector<pith_token>& ids, size_t vocab) {
    double nll = 0;
    for (size_t i = 0; i + 1 < ids.size(); i++) {
        const float* row = &logits[i * vocab];
        const double largest = row[argmax(row, vocab)];
        double sum = 0;
        for (size_t v = 0; v < vocab; v++) sum += std::exp(row[v] - largest);
        nll += std::log(sum) + largest - row[ids[i + 1]];
    }
    return std::exp(nll / static_cast<double>(ids.size() - 1));
}

std::vector<pith_token> prose() { return Tensors(source + "/tests/golden/demo/prose.safetensors").get<pith_token>("ids"); }

}  // namespace

TEST_CASE("every golden model gives transformers' logits, cut in any way") {
    const OnGpu gpu;
    double worst = 0, worst_bf16 = 0;
    const std::vector<std::string> all = folders();
    REQUIRE(all.size() >= 40);
    for (const std::string& folder : all) {
        INFO(folder);
        const Tensors file(folder_of(folder) + "/expected.safetensors");
        const std::vector<pith_token> ids = file.get<pith_token>("ids"), text = file.get<pith_token>("greedy");
        const std::vector<float> expected = file.get<float>("logits"), margins = file.get<float>("margins");
        const Model model(folder_of(folder), plugin, gpu.options);
        const size_t vocab = model.info.vocab_size;
        for (const size_t at_once : {ids.size(), size_t{1}, size_t{5}}) {
            INFO(at_once << " at once");
            Session session(model, {0, PITH_KV_DEFAULT, 0, context_of(folder)});
            const std::vector<float> logits = session.forward_all(ids, at_once);
            const double error = relative_error(logits, expected, vocab);
            // Two random layers of width 64 hardly average rounding errors out; a trained model stays within the budget (below).
            CHECK(error <= 3e-3);
            if (error > 2e-3) printf("  %s, %zu at once: relative error %.2e\n", folder.c_str(), at_once, error);
            const Agreement clear = agreement(logits, expected, vocab, 0.1);
            CHECK(clear.same == clear.of);
            double& largest = bf16(folder) ? worst_bf16 : worst;
            largest = std::max(largest, error);
            if (at_once == ids.size()) check_greedy(session, logits, text, margins, vocab, 0.05f);
        }
    }
    for (const std::string& folder : all) {
        INFO(folder);
        const Tensors file(folder_of(folder) + "/expected.safetensors");
        const std::vector<pith_token> ids = file.get<pith_token>("ids");
        const std::vector<float> logits = file.get<float>("logits");
        const Model model(folder_of(folder), plugin, gpu.options);
        const size_t vocab = model.info.vocab_size, n = ids.size();
        const std::vector<float> last(logits.end() - static_cast<long>(vocab), logits.end());
        for (const size_t tail : {n, size_t{1}, size_t{2}, size_t{9}}) {  // a prompt, then the last few, of which one leaves logits
            INFO("the last " << tail);
            Session session(model, {0, PITH_KV_DEFAULT, 0, context_of(folder)});
            if (tail < n) session.forward(ids.data(), n - tail, 0);
            const double error = relative_error(session.forward(ids.data() + n - tail, tail, 1), last, vocab);
            CHECK(error <= 1e-2);  // one row: less averaging still
        }
    }
    printf("%zu models: largest relative error %.2e (bfloat16 ones %.2e)\n", all.size(), worst, worst_bf16);
}

TEST_CASE("the demo model's text: logits, top tokens and perplexity") {
    const OnGpu gpu;
    constexpr size_t kVocab = 8192;
    const Tensors file(source + "/tests/golden/demo/prose.safetensors");
    const std::vector<pith_token> all = file.get<pith_token>("ids"), ids(all.begin(), all.begin() + 1024),
                                  top = file.get<pith_token>("top");
    const std::vector<int32_t> rows = file.get<int32_t>("rows");
    const std::vector<float> expected = file.get<float>("logits"), margins = file.get<float>("margin");
    const Model model(demo(), plugin, gpu.options), on_cpu(demo(), pith::kernels::best_tier());
    const std::vector<float> cpu = Session(on_cpu, {0, PITH_KV_DEFAULT, 0, 1024, 256}).forward_all(ids, 256);
    const double cpu_perplexity = perplexity(cpu, ids, kVocab);
    for (const size_t at_once : {256, 33, 4, 1}) {
        INFO(at_once << " at once");
        Session session(model, {0, PITH_KV_DEFAULT, 0, 1024, 256});
        const std::vector<float> logits = session.forward_all(ids, at_once);
        std::vector<float> chosen;
        for (const int32_t row : rows) chosen.insert(chosen.end(), &logits[row * kVocab], &logits[row * kVocab] + kVocab);
        const double error = relative_error(chosen, expected, kVocab);
        CHECK(error <= 1e-3);
        size_t same = 0, as_cpu = 0, clear = 0, clear_same = 0;
        for (size_t i = 0; i < 1024; i++) {
            const float* row = &logits[i * kVocab];
            const bool equal = argmax(row, kVocab) == static_cast<size_t>(top[i]);
            same += equal;
            as_cpu += argmax(row, kVocab) == argmax(&cpu[i * kVocab], kVocab);
            if (margins[i] >= 0.1f) clear++, clear_same += equal;
        }
        const double ours = perplexity(logits, ids, kVocab);
        CHECK(std::fabs(ours / cpu_perplexity - 1) <= 5e-3);
        CHECK(as_cpu >= 1024 * 98 / 100);
        CHECK(same >= 1024 * 995 / 1000);
        CHECK(clear_same == clear);
        printf(
            "demo model, %zu at once: relative error %.2e, top token transformers' %zu, the CPU's %zu of 1024, perplexity %.3f (CPU "
            "%.3f)\n",
            at_once, error, same, as_cpu, ours, cpu_perplexity);
    }
}

TEST_CASE("the same bits from run to run") {
    const OnGpu gpu;
    const Model model(demo(), plugin, gpu.options);
    const std::vector<pith_token> ids = prose();
    std::vector<std::vector<float>> first;
    for (int run = 0; run < 4; run++) {
        Session session(model, {0, PITH_KV_DEFAULT, 0, 1024, 8});
        size_t step = 0;
        for (const size_t n : {300, 1, 1, 5, 1, 8, 1, 70, 1}) {
            const std::vector<float> logits = session.forward(ids.data() + 300, n, n == 300 ? 8 : 1);
            INFO("run " << run << ", step " << step << " of " << n << " tokens");
            if (run == 0)
                first.push_back(logits);
            else
                CHECK(relative_error(logits, first[step], 8192) == 0);
            step++;
        }
    }
}

// Each kernel of a forward a few times: what a sanitizer, which takes a thousand times as long, gets through.
TEST_CASE("a short text is the same twice") {
    const OnGpu gpu;
    const Model model(demo(), plugin, gpu.options);
    const std::vector<pith_token> ids = prose();
    std::vector<std::vector<float>> first;
    for (int run = 0; run < 2; run++) {
        Session session(model, {0, PITH_KV_DEFAULT, 0, 128, 2});
        size_t step = 0;
        for (const size_t n : {70, 1, 5, 20}) {
            const std::vector<float> logits = session.forward(ids.data(), n, 1);
            if (run == 0)
                first.push_back(logits);
            else
                CHECK(relative_error(logits, first[step], 8192) == 0);
            step++;
        }
    }
}

TEST_CASE("sampling on the GPU draws the CPU sampler's tokens, with and without running ahead") {
    const OnGpu gpu;
    const Model model(demo(), plugin, gpu.options);
    pith_sampler_step steps[4]{};
    steps[0].kind = PITH_STEP_PENALTIES;
    steps[0].value[0] = 1.1f;
    steps[1].kind = PITH_STEP_TOP_K;
    steps[1].count[0] = 50;
    steps[2].kind = PITH_STEP_TOP_P;
    steps[2].value[0] = 0.9f;
    steps[3].kind = PITH_STEP_TEMPERATURE;
    steps[3].value[0] = 0.8f;
    const std::vector<pith_token> ids = prose();
    for (const uint32_t wait : {PITH_WAIT_BLOCK, PITH_WAIT_YIELD, PITH_WAIT_SPIN})
        for (const uint32_t count : {0u, 4u}) {
            pith_sampler_options options{};
            options.struct_size = sizeof options;
            options.steps = count ? steps : nullptr;
            options.step_count = count;
            options.seed = 42;
            std::vector<pith_token> first;
            for (const uint32_t flags : {0u, uint32_t{PITH_SESSION_RUN_AHEAD}}) {
                pith_error error{};
                pith_sampler *there = nullptr, *here = nullptr;
                require_ok(pith_sampler_create(model.env(), &options, &there, &error), error);
                require_ok(pith_sampler_create(model.env(), &options, &here, &error), error);
                require_ok(pith_sampler_accept(there, ids.data(), 20, &error), error);
                require_ok(pith_sampler_accept(here, ids.data(), 20, &error), error);
                pith_session* session = session_of(model, flags, 256, wait);
                require_ok(pith_session_forward(session, ids.data(), 20, 1, &error), error);
                std::vector<pith_token> drawn;
                for (int i = 0; i < 60; i++) {
                    pith_token token = -1, same = -2;
                    const float* logits = nullptr;
                    if (i % 3 == 0) {  // reading the logits drops what ran ahead
                        require_ok(pith_session_logits(session, &logits, nullptr, &error), error);
                        require_ok(pith_sampler_sample(here, logits, 8192, &same, &error), error);
                    }
                    require_ok(pith_session_sample(session, 0, there, &token, &error), error);
                    if (i % 3)
                        require_ok(pith_sampler_accept(here, &token, 1, &error), error);
                    else
                        CHECK(token == same);
                    drawn.push_back(token);
                    if (i == 30) {  // another token than the one drawn, and a step back
                        token = 77;
                        require_ok(pith_session_truncate(session, pith_session_length(session) - 1, &error), error);
                    }
                    require_ok(pith_session_forward(session, &token, 1, 1, &error), error);
                }
                if (first.empty()) first = drawn;
                CHECK(first == drawn);
                pith_session_destroy(session);
                pith_sampler_destroy(there);
                pith_sampler_destroy(here);
            }
        }
}

TEST_CASE("a draw does not depend on the caller's floating-point mode, and leaves it") {
    const OnGpu gpu;
    const Model model(demo(), plugin, gpu.options);
    const std::vector<pith_token> ids = prose();
    pith_sampler_step steps[4]{};
    steps[0].kind = PITH_STEP_PENALTIES;
    steps[0].value[0] = 1.1f;
    steps[1].kind = PITH_STEP_TEMPERATURE;
    steps[1].value[0] = 0.7f;
    steps[2].kind = PITH_STEP_MIN_P;
    steps[2].value[0] = 1e-3f;
    steps[3].kind = PITH_STEP_TOP_P;
    steps[3].value[0] = 0.95f;
    const auto drawn = [&](int rounding, bool flush) {
        pith_error error{};
        pith_sampler_options options{};
        options.struct_size = sizeof options;
        options.steps = steps;
        options.step_count = 4;
        options.seed = 7;
        std::vector<pith_token> tokens;
        std::fenv_t before;
        std::fegetenv(&before);
        std::fesetround(rounding);
#if defined(__SSE2__)
        if (flush) _mm_setcsr(_mm_getcsr() | 0x8040);  // to zero, and from it
        const unsigned mode = _mm_getcsr() & ~0x3fu;
#endif
        pith_sampler* sampler = nullptr;
        pith_session* session = nullptr;
        pith_status status = pith_sampler_create(model.env(), &options, &sampler, &error);
        if (status == PITH_OK) status = pith_session_create(model.get(), nullptr, &session, &error);
        if (status == PITH_OK) status = pith_session_forward(session, ids.data(), 50, 1, &error);
        for (int i = 0; i < 60 && status == PITH_OK; i++) {
            pith_token token = 0;
            status = pith_session_sample(session, 0, sampler, &token, &error);
            tokens.push_back(token);
            if (status == PITH_OK) status = pith_session_forward(session, &token, 1, 1, &error);
        }
        pith_session_destroy(session);
        pith_sampler_destroy(sampler);
        const bool kept = std::fegetround() == rounding;
#if defined(__SSE2__)
        const bool same_mode = (_mm_getcsr() & ~0x3fu) == mode;
#else
        const bool same_mode = !flush || kept;
#endif
        std::fesetenv(&before);
        require_ok(status, error);
        CHECK(kept);
        CHECK(same_mode);
        return tokens;
    };
    const std::vector<pith_token> usual = drawn(FE_TONEAREST, false);
    CHECK(usual.size() == 60);
    CHECK(drawn(FE_TONEAREST, true) == usual);
    for (const int rounding : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
        CHECK(drawn(rounding, false) == usual);
        CHECK(drawn(rounding, true) == usual);
    }
}

TEST_CASE("a cancelled prompt leaves length and logits, and the session goes on") {
    const OnGpu gpu;
    const Model model(demo(), plugin, gpu.options);
    const std::vector<pith_token> ids = prose();
    pith_error error{};
    pith_session* session = session_of(model, 0, 2048);
    require_ok(pith_session_forward(session, ids.data(), 10, 1, &error), error);
    const float* logits = nullptr;
    require_ok(pith_session_logits(session, &logits, nullptr, &error), error);
    const std::vector<float> before(logits, logits + 8192);
    for (int i = 0; i < 20; i++) {
        std::thread canceller([&] {
            std::this_thread::sleep_for(std::chrono::microseconds(i * 40));
            pith_session_cancel(session, 1);
        });
        const pith_status status = pith_session_forward(session, ids.data(), 1000, 1, &error);
        canceller.join();
        CHECK(pith_session_forward(session, ids.data(), 1, 1, &error) == PITH_E_CANCELLED);
        pith_session_cancel(session, 0);
        REQUIRE((status == PITH_OK || status == PITH_E_CANCELLED));
        if (status == PITH_OK) {
            CHECK(pith_session_length(session) == 1010);
            require_ok(pith_session_truncate(session, 10, &error), error);
        } else {
            CHECK(pith_session_length(session) == 10);
            require_ok(pith_session_logits(session, &logits, nullptr, &error), error);
            CHECK(memcmp(before.data(), logits, before.size() * sizeof(float)) == 0);
        }
        require_ok(pith_session_truncate(session, 9, &error), error);
        require_ok(pith_session_forward(session, ids.data() + 9, 1, 1, &error), error);
        require_ok(pith_session_logits(session, &logits, nullptr, &error), error);
        CHECK(relative_error(std::vector<float>(logits, logits + 8192), before, 8192) < 2e-3);
        require_ok(pith_session_truncate(session, 0, &error), error);
        require_ok(pith_session_forward(session, ids.data(), 10, 1, &error), error);
    }
    pith_session_destroy(session);
}

TEST_CASE("two sessions on two threads share a model") {
    const OnGpu gpu;
    const Model model(demo(), plugin, gpu.options);
    const std::vector<pith_token> ids = prose();
    const auto generate = [&](std::vector<pith_token>* drawn) {
        pith_error error{};
        pith_session* session = nullptr;
        pith_sampler* sampler = nullptr;
        pith_session_options options{};
        options.struct_size = sizeof options;
        options.context_length = 256;
        if (pith_session_create(model.get(), &options, &session, &error) || pith_sampler_create(model.env(), nullptr, &sampler, &error))
            return;
        pith_token token = 0;
        if (pith_session_forward(session, ids.data(), 100, 1, &error) == PITH_OK)
            for (int i = 0; i < 100; i++) {
                if (pith_session_sample(session, 0, sampler, &token, &error)) break;
                drawn->push_back(token);
                if (pith_session_forward(session, &token, 1, 1, &error)) break;
            }
        pith_sampler_destroy(sampler);
        pith_session_destroy(session);
    };
    std::vector<pith_token> alone, first, second;
    generate(&alone);
    REQUIRE(alone.size() == 100);
    std::thread a(generate, &first), b(generate, &second);
    a.join();
    b.join();
    CHECK(first == alone);
    CHECK(second == alone);
}

TEST_CASE("plans are exact and nothing leaks over a thousand cycles") {
    const OnGpu gpu;
    const Model model(demo(), plugin, gpu.options);
    pith_error error{};
    CHECK(model.info.device_bytes > 0);
    pith_session* warm = session_of(model, 0);
    pith_session_destroy(warm);
    const uint64_t before = device_free(model.env());
    for (int i = 0; i < 1000; i++) pith_session_destroy(session_of(model, 0, 64));
    CHECK(device_free(model.env()) == before);
    const auto cycle = [&] { const Model again(folder_of("llama_f16"), plugin, gpu.options); };
    cycle();
    const uint64_t with_module = device_free(model.env());
    for (int i = 0; i < 50; i++) cycle();
    CHECK(device_free(model.env()) == with_module);
    // More than the device has: refused, and a smaller one works.
    pith_session_options large{};
    large.struct_size = sizeof large;
    large.context_length = 1u << 28;
    pith_session* session = nullptr;
    CHECK(pith_session_create(model.get(), &large, &session, &error) == PITH_E_MEMORY);
    CHECK(session == nullptr);
    pith_session_destroy(session_of(model, 0));
}

int main(int argc, char** argv) {
    if (argc < 3) {
        printf("usage: %s plugin source-folder [--small-shared] [Catch2 options]\n", argv[0]);
        return 2;
    }
    plugin = argv[1];
    source = argv[2];
    int skip = 2;
    if (argc > 3 && std::string(argv[3]) == "--small-shared") {
        cuda_flags = PITH_CUDA_SMALL_SHARED;
        skip = 3;
    }
    pith_env* env = nullptr;
    pith_error error{};
    if (pith_env_create(nullptr, &env, &error) || pith_env_load_backend(env, plugin.c_str(), &error)) {
        printf("%s: %s\n", plugin.c_str(), error.message);
        return 1;
    }
    const uint32_t devices = pith_env_device_count(env);
    pith_env_destroy(env);
    if (devices < 2) {
        printf("SKIPPED: no GPU\n");
        return 77;
    }
    argv[skip] = argv[0];
    return Catch::Session().run(argc - skip, argv + skip);
}
