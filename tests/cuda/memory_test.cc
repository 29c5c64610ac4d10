// On a real GPU whose driver refuses memory on request: every allocation of a load and of a session fails once, what was asked for comes
// back as PITH_E_MEMORY, and the same objects work afterwards. Forward and sample allocate nothing; plans are what is allocated.
// Arguments: the plug-in and a model's folder; 77 without a GPU.
#include <pith/cuda.h>
#include <pith/pith.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "failing_driver.h"

namespace {

pith_env* env;
const char* folder;
bool failed = false;

void expect(bool good, const char* what, const pith_error& error = {}) {
    if (good) return;
    std::printf("FAIL %s %s\n", what, error.message);
    failed = true;
}

pith_model* open_model() {
    pith_model* model = nullptr;
    pith_error error{};
    pith_model_options options{};
    options.struct_size = sizeof options;
    options.device = 1;
    if (pith_model_open(env, folder, &options, &model, &error) < 0) std::printf("FAIL %s\n", error.message), std::exit(1);
    return model;
}

std::vector<pith_token> generate(pith_session* session) {
    pith_error error{};
    pith_sampler* sampler = nullptr;
    pith_sampler_step step{};
    pith_sampler_options options{};
    step.kind = PITH_STEP_TEMPERATURE;
    options.struct_size = sizeof options;
    options.steps = &step;
    options.step_count = 1;
    expect(pith_sampler_create(env, &options, &sampler, &error) == PITH_OK, "sampler", error);
    std::vector<pith_token> tokens{0, 48, 1293, 685, 260, 581};
    const int before = failing_cuda()->allocations;
    expect(pith_session_forward(session, tokens.data(), tokens.size(), 1, &error) == PITH_OK, "forward", error);
    for (int i = 0; i < 8; i++) {
        pith_token token = 0;
        expect(pith_session_sample(session, 0, sampler, &token, &error) == PITH_OK, "sample", error);
        tokens.push_back(token);
        expect(pith_session_forward(session, &token, 1, 1, &error) == PITH_OK, "forward", error);
    }
    expect(failing_cuda()->allocations == before, "forward or sample allocated");
    pith_sampler_destroy(sampler);
    return tokens;
}

int fail_loads() {
    for (int n = 1;; n++) {
        pith_error error{};
        pith_model* model = open_model();
        const uint64_t before = failing_cuda()->device_bytes;
        failing_cuda()->fail = n;
        const pith_status status = pith_model_load(model, 0, nullptr, &error);
        failing_cuda()->fail = 0;
        if (status < 0) {
            expect(status == PITH_E_MEMORY && error.system == 2, "load refused", error);
            expect(failing_cuda()->device_bytes == before, "a failed load kept memory");
            expect(pith_model_load(model, 0, nullptr, &error) == PITH_OK, "load again", error);
        }
        pith_model_info info{};
        info.struct_size = sizeof info;
        pith_model_get_info(model, &info, &error);
        expect(failing_cuda()->device_bytes == before + info.device_bytes, "the model's device_bytes are not what is allocated");
        pith_model_destroy(model);
        expect(failing_cuda()->device_bytes == before, "a destroyed model kept memory");
        if (status == PITH_OK) return n - 1;
    }
}

int fail_sessions(const pith_model* model) {
    std::vector<pith_token> first;
    for (int n = 1;; n++) {
        pith_error error{};
        pith_session* session = nullptr;
        pith_session_info plan{};
        plan.struct_size = sizeof plan;
        expect(pith_session_plan(model, nullptr, &plan, &error) == PITH_OK, "plan", error);
        const uint64_t before = failing_cuda()->device_bytes;
        failing_cuda()->fail = n;
        const pith_status status = pith_session_create(model, nullptr, &session, &error);
        failing_cuda()->fail = 0;
        if (status < 0) {
            expect(status == PITH_E_MEMORY && error.system == 2, "session refused", error);
            expect(failing_cuda()->device_bytes == before, "a failed session kept memory");
            expect(pith_session_create(model, nullptr, &session, &error) == PITH_OK, "session again", error);
        }
        expect(failing_cuda()->device_bytes == before + plan.device_bytes, "the plan's device_bytes are not what is allocated");
        const std::vector<pith_token> tokens = generate(session);
        if (first.empty()) first = tokens;
        expect(tokens == first, "other tokens");
        pith_session_destroy(session);
        expect(failing_cuda()->device_bytes == before, "a destroyed session kept memory");
        if (status == PITH_OK) return n - 1;
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) return 2;
    folder = argv[2];
    pith_error error{};
    expect(pith_env_create(nullptr, &env, &error) == PITH_OK, "env", error);
    expect(pith_env_load_backend(env, argv[1], &error) == PITH_OK, "plug-in", error);
    if (pith_env_device_count(env) < 2) {
        std::printf("skipped: no GPU\n");
        return failed ? 1 : 77;
    }
    const int loads = fail_loads();
    pith_model* model = open_model();
    expect(pith_model_load(model, 0, nullptr, &error) == PITH_OK, "load", error);
    const int sessions = fail_sessions(model);
    expect(loads >= 3 && sessions >= 1, "too few allocations were seen");
    pith_model_destroy(model);
    pith_env_destroy(env);
    std::printf("%s %d allocations of a load and %d of a session failed once each\n", failed ? "FAIL" : "ok  ", loads, sessions);
    return failed;
}
