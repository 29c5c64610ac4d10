// program.c in C++, and every owner of pith.hpp moved once.
#include <cstdio>
#include <pith/pith.hpp>
#include <utility>

int main(int argc, char** argv) try {
    if (argc < 2) return 1;
    std::printf("%d.%d.%d\n", PITH_VERSION_MAJOR, PITH_VERSION_MINOR, PITH_VERSION_PATCH);
    pith::Env first;
    pith::Env env = std::move(first);
    pith::Model model(env, argv[1]);
    while (model.load(4 << 20) != 0) {
    }
    pith::Tokenizer tokenizer(env, argv[1]);
    auto options = pith::make<pith_session_options>();
    options.context_length = 64;
    pith::Session opened(model, &options);
    if (opened.info().host_bytes != pith::Session::plan(model, &options).host_bytes) return 2;
    pith::Session session = std::move(opened);
    pith::Sampler sampler(env);

    auto ids = tokenizer.encode("Once upon a time", PITH_ENCODE_BOS);
    session.forward(ids);
    for (int i = 0; i < 8; i++) {
        if (i > 0) session.forward(ids.back());
        ids.push_back(session.sample(sampler));
    }
    const std::string text = tokenizer.decode(ids);
    std::printf("%s\n", text.c_str());

    // The same through the stream, and a failure that arrives as an exception.
    pith_stream state{};
    std::string streamed;
    for (pith_token id : ids) streamed += tokenizer.stream(state, id);
    streamed += tokenizer.stream(state, PITH_NO_TOKEN);
    if (streamed != text) return 3;
    if (session.length() != ids.size() - 1 || session.logits().rows != 1) return 4;
    if (model.info().vocab_size != tokenizer.vocab_size() || env.device_count() < 1 || tokenizer.piece(ids.back()).empty()) return 5;
    try {
        pith::Model missing(env, "no such folder");
        return 6;
    } catch (const pith::Error& error) {
        if (error.status() != PITH_E_IO || error.what()[0] == 0) return 7;
    }
    return 0;
} catch (const pith::Error& error) {
    std::fprintf(stderr, "%s: %s\n", pith_status_name(error.status()), error.what());
    return 1;
}
