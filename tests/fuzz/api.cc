// The whole API, driven by the input: each byte is a call, the next ones its arguments, on a tiny valid model.
#include "fuzz.h"

namespace {

struct Driver {
    const uint8_t* data;
    size_t size, at = 0;
    fuzz::Env& env;
    pith_model* model = nullptr;
    pith_session* sessions[3] = {};
    pith_sampler* samplers[2] = {};
    pith_error error{};

    uint32_t next() { return at < size ? data[at++] : 0; }
    void check(pith_status status) { fuzz::check_error(status, error); }

    void make_session(pith_session*& session) {
        struct {
            pith_session_options known;
            uint8_t newer[256];  // a size beyond the known one promises that many bytes
        } made{};
        pith_session_options& options = made.known;
        options.struct_size = next() ? sizeof options : next();
        options.context_length = next();
        options.batch_length = next();
        options.logit_rows = next();
        options.k_type = next() % 6;
        options.v_type = next() % 6;
        options.flags = next() % 5;
        options.wait = next() % 4;
        pith_session_destroy(session);
        check(pith_session_create(model, &options, &session, &error));
    }
    void make_sampler(pith_sampler*& sampler) {
        pith_sampler_step steps[4] = {};
        pith_sampler_options options{};
        options.struct_size = sizeof options;
        options.seed = next();
        options.steps = steps;
        options.step_count = next() % 5;
        options.vocab_size = next();
        options.history = next();
        for (uint32_t i = 0; i < options.step_count; i++) {
            static constexpr pith_token kListed[] = {3, 7, 9, 7, 100, 1 << 30};
            static constexpr float kWeights[] = {1, -2, 0.5f, 3, -1, 0};
            steps[i].kind = next() % 21;
            const uint32_t fields = next();  // most kinds take a few only
            for (uint32_t j = 0; j < fields % 4; j++) steps[i].value[j] = static_cast<float>(static_cast<int8_t>(next())) / 32.0f;
            for (uint32_t j = 0; j < fields / 4 % 3; j++) steps[i].count[j] = next() % 64;
            if (fields & 64) {
                steps[i].tokens = kListed;
                steps[i].token_count = next() % 7;
            }
            if (fields & 128) steps[i].weights = kWeights;
        }
        options.logprobs = next() % 8;
        options.flags = next() % 3;
        pith_sampler_destroy(sampler);
        check(pith_sampler_create(env.get(), &options, &sampler, &error));
    }
    void forward(pith_session* session) {
        pith_token ids[40];
        const size_t count = next() % 41;
        for (size_t i = 0; i < count; i++) ids[i] = static_cast<int8_t>(next() & 0xbf);
        check(pith_session_forward(session, ids, count, next() % 8, &error));
    }
    void step() {
        const uint32_t call = next();
        pith_session*& session = sessions[next() % 3];
        pith_sampler*& sampler = samplers[call % 2];
        pith_token token = 0;
        const float* logits = nullptr;
        size_t rows = 0;
        switch (call % 12) {
            case 0:
                return make_session(session);
            case 1:
                return make_sampler(sampler);
            case 2:
            case 3:
            case 4:
                return forward(session);
            case 5:
                return check(pith_session_sample(session, next(), sampler, &token, &error));
            case 6:
                return check(pith_session_truncate(session, next(), &error));
            case 7:
                return check(pith_session_logits(session, &logits, &rows, &error));
            case 8:
                return pith_session_cancel(session, static_cast<int32_t>(next() % 2));
            case 9:
                return check(pith_sampler_truncate(sampler, next(), &error));
            case 10: {
                const pith_token forced[] = {static_cast<pith_token>(next()), -1};
                return check(pith_sampler_accept(sampler, forced, next() % 3, &error));
            }
            default:
                pith_session_destroy(session);
                session = nullptr;
        }
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const fuzz::Folder folder{{"config.json", fuzz::kConfig}, {"model.safetensors", fuzz::safetensors(fuzz::tiny_tensors())}};
    fuzz::Env env(folder);
    Driver d{data, size, 0, env};
    d.check(pith_model_open(env.get(), "m", nullptr, &d.model, &d.error));
    d.check(pith_model_load(d.model, 0, nullptr, &d.error));
    for (int i = 0; i < 60 && d.at < size; i++) d.step();
    for (pith_session* s : d.sessions) pith_session_destroy(s);
    for (pith_sampler* s : d.samplers) pith_sampler_destroy(s);
    pith_model_destroy(d.model);
    return 0;
}
