// All of pith.hpp, on the demo model: once on the shared library, once on the static one.
#include <pith/pith.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "catch.h"

namespace {

const std::string kModel = PITH_DEMO_MODEL;

template <class T>
constexpr bool kMoveOnly =
    std::is_nothrow_move_constructible_v<T>&& std::is_nothrow_move_assignable_v<T> && !std::is_copy_constructible_v<T>;
static_assert(kMoveOnly<pith::Env> && kMoveOnly<pith::Model> && kMoveOnly<pith::Tokenizer> && kMoveOnly<pith::Sampler> &&
              kMoveOnly<pith::Session>);

template <class Call>
pith_status status_of(Call call) {
    try {
        call();
    } catch (const pith::Error& error) {
        CHECK(std::string(error.what()) != "");
        return error.status();
    }
    return PITH_OK;
}

pith::Model load_demo(const pith::Env& env) {
    pith::Model model(env, kModel);
    while (model.load(4 << 20) > 0) {
    }
    return model;
}

std::string greedy(const pith::Model& model, const pith::Tokenizer& tokenizer, pith::Sampler& sampler, int count) {
    auto options = pith::make<pith_session_options>();
    options.context_length = 64;
    pith::Session session(model, &options);
    session.forward(tokenizer.encode("Once upon a time", PITH_ENCODE_BOS));
    pith_stream stream{};
    std::string text;
    for (int i = 0; i < count; i++) {
        const pith_token token = session.sample(sampler);
        text += tokenizer.stream(stream, token);
        session.forward(token);
    }
    return text + tokenizer.stream(stream, PITH_NO_TOKEN);
}

}  // namespace

TEST_CASE("env and devices") {
    pith::Env env;
    REQUIRE(env.device_count() >= 1);
    CHECK(env.device_info(0).kind == PITH_DEVICE_CPU);
    CHECK(status_of([&] { env.device_info(1000); }) == PITH_E_ARGUMENT);
    CHECK(status_of([&] { env.load_backend("/no/such/backend"); }) < 0);
    auto runner = pith::make<pith_runner>();
    runner.width = 2;
    runner.run = [](void*, pith_task_fn fn, void* task, uint32_t count) {
        for (uint32_t i = 0; i < count; i++) fn(task, i);
    };
    env.check_runner(runner);
    runner.run = [](void*, pith_task_fn fn, void* task, uint32_t) {
        fn(task, 0);
        fn(task, 0);
    };
    CHECK(status_of([&] { env.check_runner(runner); }) == PITH_E_RUNNER);
    const auto options = pith::make<pith_env_options>();
    CHECK(pith::Env(&options).get() != nullptr);
}

TEST_CASE("errors carry status, system's code and message") {
    const pith::Env env;
    try {
        pith::Model model(env, "/no/such/folder");
        FAIL("opened");
    } catch (const pith::Error& error) {
        CHECK(error.status() == PITH_E_IO);
        CHECK(error.system() != 0);
        CHECK(std::string(error.what()).find("/no/such/folder") != std::string::npos);
    }
    CHECK(status_of([&] { pith::Tokenizer tokenizer(env, "/no/such/folder"); }) == PITH_E_IO);
    auto options = pith::make<pith_sampler_options>();
    options.flags = ~0u;
    CHECK(status_of([&] { pith::Sampler sampler(env, &options); }) == PITH_E_UNSUPPORTED);
}

TEST_CASE("tokenizer") {
    const pith::Env env;
    const pith::Tokenizer tokenizer(env, kModel);
    CHECK(tokenizer.vocab_size() == 8192);
    CHECK(tokenizer.special(PITH_TOKEN_BOS) == 0);
    CHECK(tokenizer.is_end(tokenizer.special(PITH_TOKEN_EOS)));
    CHECK_FALSE(tokenizer.is_end(tokenizer.special(PITH_TOKEN_BOS)));
    CHECK_FALSE(tokenizer.chat_template().empty());
    CHECK(tokenizer.encode("").empty());
    CHECK(tokenizer.decode({}).empty());
    const std::string text = "A na\xc3\xafve \xe2\x82\xac, \xf0\x9f\x99\x82 and so on; " + std::string(500, 'x');
    const std::vector<pith_token> tokens = tokenizer.encode(text);
    CHECK(tokenizer.decode(tokens) == text);
    std::string pieces, streamed;
    pith_stream stream{};
    for (pith_token token : tokens) {
        pieces += tokenizer.piece(token);
        streamed += tokenizer.stream(stream, token);
    }
    streamed += tokenizer.stream(stream, PITH_NO_TOKEN);
    CHECK(streamed == text);
    CHECK_FALSE(pieces.empty());
    CHECK(tokenizer.encode(text, PITH_ENCODE_BOS).front() == 0);
    CHECK(tokenizer.decode({0}, PITH_DECODE_SPECIAL) == "<|bos|>");
    CHECK(status_of([&] { tokenizer.piece(100000); }) == PITH_E_ARGUMENT);
}

TEST_CASE("a model becomes text, in any order of destruction") {
    std::string text;
    {
        auto env = std::make_unique<pith::Env>();
        auto model = std::make_unique<pith::Model>(load_demo(*env));
        CHECK(model->info().layers == 8);
        const pith::Tokenizer tokenizer(*env, kModel);
        pith::Sampler sampler(*env);
        env.reset();
        text = greedy(*model, tokenizer, sampler, 12);
        pith::Session session(*model);
        model.reset();
        session.forward(tokenizer.encode("Still here", PITH_ENCODE_BOS));
    }
    CHECK(text.size() > 12);
}

TEST_CASE("session and sampler, call by call") {
    const pith::Env env;
    const pith::Model model = load_demo(env);
    auto options = pith::make<pith_session_options>();
    options.context_length = 16;
    options.logit_rows = 3;
    const pith_session_info plan = pith::Session::plan(model, &options);
    pith::Session session(model, &options);
    CHECK(session.info().host_bytes == plan.host_bytes);
    CHECK(plan.context_length == 16);
    pith::Sampler sampler(env);
    CHECK(status_of([&] { session.sample(sampler); }) == PITH_E_STATE);
    CHECK(status_of([&] { session.logits(); }) == PITH_E_STATE);

    session.forward({0, 5, 6, 7}, 3);
    CHECK(session.length() == 4);
    const pith::Logits logits = session.logits();
    REQUIRE(logits.rows == 3);
    const std::vector<float> last(logits.data + 2 * 8192, logits.data + 3 * 8192);
    const auto best = static_cast<pith_token>(std::max_element(last.begin(), last.end()) - last.begin());
    CHECK(session.sample(sampler, 2) == best);
    CHECK(sampler.sample(last.data(), last.size()) == best);
    sampler.accept({1, 2, 3});
    sampler.truncate(2);
    CHECK(status_of([&] { sampler.truncate(100); }) == PITH_E_ARGUMENT);
    CHECK(status_of([&] { sampler.logprobs(); }) == PITH_E_STATE);
    sampler.restart(5);
    CHECK(status_of([&] { sampler.truncate(1); }) == PITH_E_ARGUMENT);

    std::vector<pith_sampler_step> steps = pith::Sampler::preset(PITH_PRESET_LLAMA_CPP);
    CHECK(steps.size() > 8);
    CHECK(status_of([&] { pith::Sampler::preset(99); }) == PITH_E_UNSUPPORTED);
    auto with = pith::make<pith_sampler_options>();
    with.steps = steps.data();
    with.step_count = static_cast<uint32_t>(steps.size());
    with.logprobs = 4;
    pith::Sampler preset(env, &with);
    const pith_token drawn = session.sample(preset, 2);
    CHECK(preset.logprobs().size() == 5);
    pith::Sampler first(env), second(env);
    const float rows[2][3] = {{1, 3, 2}, {5, 4, 0}};
    CHECK(pith::Sampler::sample_batch({&first, &second}, {rows[0], rows[1]}, 3) == std::vector<pith_token>{1, 0});
    CHECK(pith::Sampler::sample_batch({}, {}, 3).empty());
    CHECK(status_of([&] { pith::Sampler::sample_batch({&first, &second}, {rows[0]}, 3); }) == PITH_E_ARGUMENT);
    CHECK(status_of([&] { pith::Sampler::sample_batch({&first, &first}, {rows[0], rows[1]}, 3); }) == PITH_E_ARGUMENT);
    CHECK(preset.logprobs()[0].token == drawn);
    CHECK(preset.logprobs()[1].token == best);

    const pith_token again[] = {6, 7};
    session.truncate(2);
    session.forward(again, 2);
    CHECK(std::equal(last.begin(), last.end(), session.logits().data));
    CHECK(status_of([&] { session.truncate(100); }) == PITH_E_ARGUMENT);
    CHECK(status_of([&] { session.forward(std::vector<pith_token>(13, 5)); }) == PITH_E_CONTEXT);
    session.cancel();
    CHECK(status_of([&] { session.forward(5); }) == PITH_E_CANCELLED);
    session.cancel(false);
    session.forward(5);
    CHECK(session.length() == 5);

    pith::Session moved = std::move(session);
    CHECK(session.get() == nullptr);
    CHECK(moved.length() == 5);
    moved = pith::Session(model, &options);
    CHECK(moved.length() == 0);
}
