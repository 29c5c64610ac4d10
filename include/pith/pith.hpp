/** @file pith.hpp
 *  @brief The C API as C++17: header only, move-only owners, failures as exceptions. */
#ifndef PITH_HPP
#define PITH_HPP
#include <pith/pith.h>

#include <memory>

#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#    include <exception>
#    include <string>
#    include <string_view>
#    include <vector>
#    define PITH_HPP_EXCEPTIONS 1 /**< Set if exceptions are on. Without them only the handles are there, for use with the C functions. */
#endif

namespace pith {
/* A namespace of its own in the symbols: a static link also has the library's pith::Session and others. */
inline namespace cpp {

/** @defgroup cpp C++
 *  Owners of the C objects. Every member does what the C function of its name does; failures are thrown as pith::Error. A moved-from
 *  owner only fits to be assigned to or destroyed.
 *  @{ */

/** Deleter of a handle. */
template <auto destroy>
struct Destroy {
    /** Destroys the object.
     *  @param object not NULL. */
    template <class T>
    void operator()(T* object) const noexcept {
        destroy(object);
    }
};

using EnvHandle = std::unique_ptr<pith_env, Destroy<pith_env_destroy>>;                   /**< Owns a pith_env. */
using ModelHandle = std::unique_ptr<pith_model, Destroy<pith_model_destroy>>;             /**< Owns a pith_model. */
using TokenizerHandle = std::unique_ptr<pith_tokenizer, Destroy<pith_tokenizer_destroy>>; /**< Owns a pith_tokenizer. */
using SessionHandle = std::unique_ptr<pith_session, Destroy<pith_session_destroy>>;       /**< Owns a pith_session. */
using SamplerHandle = std::unique_ptr<pith_sampler, Destroy<pith_sampler_destroy>>;       /**< Owns a pith_sampler. */

/** A struct of options or infos, zero but for its size: `auto options = pith::make<pith_session_options>();`
 *  @return the struct. */
template <class T>
T make() noexcept {
    T value{};
    value.struct_size = sizeof value;
    return value;
}

#ifdef PITH_HPP_EXCEPTIONS

/** A failure. */
class Error : public std::exception {
public:
    /** Wraps the C struct.
     *  @param error as a C function left it. */
    explicit Error(const pith_error& error) noexcept : error_(error) {}
    /** The message: what was expected, what was found.
     *  @return UTF-8, terminated. */
    const char* what() const noexcept override { return error_.message; }
    /** Which failure.
     *  @return one of PITH_E_*. */
    pith_status status() const noexcept { return error_.status; }
    /** The system's reason.
     *  @return errno or the like; 0: none. */
    int32_t system() const noexcept { return error_.system; }

private:
    pith_error error_;
};

/** Calls `call` with a pith_error and throws what it reports.
 *  @param call takes a pith_error*, returns a pith_status. */
template <class Call>
void check(Call&& call) {
    pith_error error;
    if (call(&error) < 0) throw Error(error);
}

/** A pith_env. */
class Env {
public:
    /** Makes an env.
     *  @param options NULL: all defaults. */
    explicit Env(const pith_env_options* options = nullptr) {
        pith_env* env = nullptr;
        check([&](pith_error* e) { return pith_env_create(options, &env, e); });
        handle_.reset(env);
    }
    /** The C object.
     *  @return borrowed. */
    pith_env* get() const noexcept { return handle_.get(); }
    /** pith_env_load_backend().
     *  @param library_path the file. */
    void load_backend(const std::string& library_path) {
        check([&](pith_error* e) { return pith_env_load_backend(get(), library_path.c_str(), e); });
    }
    /** pith_env_device_count().
     *  @return at least 1. */
    uint32_t device_count() const noexcept { return pith_env_device_count(get()); }
    /** pith_env_device_info().
     *  @param device its index.
     *  @return what is known of it. */
    pith_device_info device_info(uint32_t device) const {
        auto info = make<pith_device_info>();
        check([&](pith_error* e) { return pith_env_device_info(get(), device, &info, e); });
        return info;
    }
    /** pith_env_get_usage().
     *  @return what was used. */
    pith_usage usage() const {
        auto usage = make<pith_usage>();
        check([&](pith_error* e) { return pith_env_get_usage(get(), &usage, e); });
        return usage;
    }
    /** pith_env_trace().
     *  @param memory the caller's; NULL: stop.
     *  @param size of it, in bytes. */
    void trace(void* memory, size_t size) {
        check([&](pith_error* e) { return pith_env_trace(get(), memory, size, e); });
    }
    /** pith_env_trace_json(), while nothing else happens.
     *  @return the text. */
    std::string trace_json() const {
        size_t size = 0;
        pith_error error;
        if (pith_env_trace_json(get(), nullptr, 0, &size, &error) != PITH_E_BUFFER) throw Error(error);
        std::string text(size, '\0');
        check([&](pith_error* e) { return pith_env_trace_json(get(), text.data(), text.size(), &size, e); });
        return text;
    }
    /** pith_runner_check().
     *  @param runner to try. */
    void check_runner(const pith_runner& runner) {
        check([&](pith_error* e) { return pith_runner_check(get(), &runner, e); });
    }

private:
    EnvHandle handle_;
};

/** A pith_model. */
class Model {
public:
    /** Opens a model's folder; load() reads the weights.
     *  @param env is kept alive.
     *  @param path the folder.
     *  @param options NULL: all defaults. */
    Model(const Env& env, const std::string& path, const pith_model_options* options = nullptr) {
        pith_model* model = nullptr;
        check([&](pith_error* e) { return pith_model_open(env.get(), path.c_str(), options, &model, e); });
        handle_.reset(model);
    }
    /** The C object.
     *  @return borrowed. */
    pith_model* get() const noexcept { return handle_.get(); }
    /** pith_model_load().
     *  @param budget bytes; 0: all.
     *  @return bytes left. */
    uint64_t load(uint64_t budget = 0) {
        uint64_t left = 0;
        check([&](pith_error* e) { return pith_model_load(get(), budget, &left, e); });
        return left;
    }
    /** pith_model_get_info().
     *  @return what it is and needs. */
    pith_model_info info() const {
        auto info = make<pith_model_info>();
        check([&](pith_error* e) { return pith_model_get_info(get(), &info, e); });
        return info;
    }

private:
    ModelHandle handle_;
};

/** A pith_tokenizer. */
class Tokenizer {
public:
    /** Loads a tokenizer.
     *  @param env is kept alive.
     *  @param path a model's folder, or a tokenizer.json. */
    Tokenizer(const Env& env, const std::string& path) {
        pith_tokenizer* tokenizer = nullptr;
        check([&](pith_error* e) { return pith_tokenizer_load(env.get(), path.c_str(), &tokenizer, e); });
        handle_.reset(tokenizer);
    }
    /** The C object.
     *  @return borrowed. */
    pith_tokenizer* get() const noexcept { return handle_.get(); }
    /** pith_tokenizer_encode().
     *  @param text UTF-8.
     *  @param flags PITH_ENCODE_*.
     *  @return ids. */
    std::vector<pith_token> encode(std::string_view text, uint32_t flags = 0) const {
        const char* data = text.empty() ? "" : text.data();
        return fill<std::vector<pith_token>>(text.size() / 2 + 16, [&](pith_token* to, size_t capacity, size_t* count, pith_error* e) {
            return pith_tokenizer_encode(get(), data, text.size(), flags, to, capacity, count, e);
        });
    }
    /** pith_tokenizer_decode().
     *  @param tokens ids.
     *  @param flags PITH_DECODE_*.
     *  @return the text. */
    std::string decode(const std::vector<pith_token>& tokens, uint32_t flags = 0) const {
        return fill<std::string>(tokens.size() * 8, [&](char* to, size_t capacity, size_t* size, pith_error* e) {
            return pith_tokenizer_decode(get(), tokens.data(), tokens.size(), flags, to, capacity, size, e);
        });
    }
    /** pith_tokenizer_stream().
     *  @param stream its state.
     *  @param token the next id; ::PITH_NO_TOKEN to flush.
     *  @param flags PITH_DECODE_*.
     *  @return whole code points, none or more. */
    std::string stream(pith_stream& stream, pith_token token, uint32_t flags = 0) const {
        return fill<std::string>(32, [&](char* to, size_t capacity, size_t* size, pith_error* e) {
            return pith_tokenizer_stream(get(), &stream, token, flags, to, capacity, size, e);
        });
    }
    /** pith_tokenizer_piece().
     *  @param token an id.
     *  @return its bytes, borrowed from the tokenizer. */
    std::string_view piece(pith_token token) const {
        return view([&](const char** bytes, size_t* size, pith_error* e) { return pith_tokenizer_piece(get(), token, bytes, size, e); });
    }
    /** pith_tokenizer_chat_template().
     *  @return Jinja, borrowed from the tokenizer; empty if there is none. */
    std::string_view chat_template() const {
        return view([&](const char** bytes, size_t* size, pith_error* e) { return pith_tokenizer_chat_template(get(), bytes, size, e); });
    }
    /** pith_tokenizer_vocab_size().
     *  @return ids. */
    uint32_t vocab_size() const noexcept { return pith_tokenizer_vocab_size(get()); }
    /** pith_tokenizer_special().
     *  @param which PITH_TOKEN_*.
     *  @return the id, or ::PITH_NO_TOKEN. */
    pith_token special(int32_t which) const noexcept { return pith_tokenizer_special(get(), which); }
    /** pith_tokenizer_is_end().
     *  @param token any value.
     *  @return whether generation ends with it. */
    bool is_end(pith_token token) const noexcept { return pith_tokenizer_is_end(get(), token) != 0; }

private:
    /* A string or vector of what `call` writes: a guess at its size first, then the size that it asked for. */
    template <class T, class Call>
    static T fill(size_t guess, Call&& call) {
        T out(guess, typename T::value_type{});
        size_t size = 0;
        check([&](pith_error* e) {
            pith_status status = call(out.data(), out.size(), &size, e);
            if (status != PITH_E_BUFFER) return status;
            out.resize(size);
            return call(out.data(), out.size(), &size, e);
        });
        out.resize(size);
        return out;
    }
    template <class Call>
    static std::string_view view(Call&& call) {
        const char* bytes = nullptr;
        size_t size = 0;
        check([&](pith_error* e) { return call(&bytes, &size, e); });
        return {bytes, size};
    }

    TokenizerHandle handle_;
};

/** A pith_sampler. */
class Sampler {
public:
    /** Makes a sampler.
     *  @param env is kept alive.
     *  @param options NULL: greedy. */
    explicit Sampler(const Env& env, const pith_sampler_options* options = nullptr) {
        pith_sampler* sampler = nullptr;
        check([&](pith_error* e) { return pith_sampler_create(env.get(), options, &sampler, e); });
        handle_.reset(sampler);
    }
    /** The C object.
     *  @return borrowed. */
    pith_sampler* get() const noexcept { return handle_.get(); }
    /** pith_sampler_sample().
     *  @param logits float32 [count].
     *  @param count of logits.
     *  @return the id drawn. */
    pith_token sample(const float* logits, size_t count) {
        pith_token token = PITH_NO_TOKEN;
        check([&](pith_error* e) { return pith_sampler_sample(get(), logits, count, &token, e); });
        return token;
    }
    /** pith_sampler_accept().
     *  @param tokens ids to record. */
    void accept(const std::vector<pith_token>& tokens) {
        check([&](pith_error* e) { return pith_sampler_accept(get(), tokens.data(), tokens.size(), e); });
    }
    /** pith_sampler_truncate().
     *  @param length tokens to keep. */
    void truncate(size_t length) {
        check([&](pith_error* e) { return pith_sampler_truncate(get(), length, e); });
    }
    /** pith_sampler_restart().
     *  @param seed of the next request. */
    void restart(uint64_t seed) {
        check([&](pith_error* e) { return pith_sampler_restart(get(), seed, e); });
    }
    /** pith_sampler_logprobs().
     *  @return a copy: the token drawn, then the likeliest. */
    std::vector<pith_logprob> logprobs() const {
        const pith_logprob* items = nullptr;
        size_t count = 0;
        check([&](pith_error* e) { return pith_sampler_logprobs(get(), &items, &count, e); });
        return {items, items + count};
    }
    /** pith_sampler_sample_batch(): a draw by each of several samplers, on the threads of a runner.
     *  @param samplers of one env, each once.
     *  @param logits a row for each, float32 [count].
     *  @param count of logits in a row.
     *  @param runner NULL: the env's.
     *  @return the ids drawn, one a sampler. */
    static std::vector<pith_token> sample_batch(const std::vector<Sampler*>& samplers, const std::vector<const float*>& logits, size_t count,
                                                const pith_runner* runner = nullptr) {
        if (logits.size() != samplers.size()) {
            pith_error error{};
            error.status = PITH_E_ARGUMENT;
            constexpr std::string_view message = "as many rows of logits as samplers";
            message.copy(error.message, message.size());
            throw Error(error);
        }
        std::vector<pith_sampler*> handles;
        for (const Sampler* sampler : samplers) handles.push_back(sampler->get());
        std::vector<pith_token> tokens(samplers.size(), PITH_NO_TOKEN);
        check([&](pith_error* e) {
            return pith_sampler_sample_batch(handles.data(), logits.data(), count, handles.size(), runner, tokens.data(), e);
        });
        return tokens;
    }
    /** pith_sampler_preset().
     *  @param preset PITH_PRESET_*.
     *  @return its steps. */
    static std::vector<pith_sampler_step> preset(uint32_t preset) {
        std::vector<pith_sampler_step> steps(32);
        size_t count = 0;
        check([&](pith_error* e) { return pith_sampler_preset(preset, steps.data(), steps.size(), &count, e); });
        steps.resize(count);
        return steps;
    }

private:
    SamplerHandle handle_;
};

/** Rows of logits, borrowed from a session until its next call. */
struct Logits {
    const float* data; /**< float32 [rows][vocab_size]. */
    size_t rows;       /**< How many. */
};

/** A pith_session. */
class Session {
public:
    /** Makes an empty sequence.
     *  @param model loaded; is kept alive.
     *  @param options NULL: all defaults. */
    explicit Session(const Model& model, const pith_session_options* options = nullptr) {
        pith_session* session = nullptr;
        check([&](pith_error* e) { return pith_session_create(model.get(), options, &session, e); });
        handle_.reset(session);
    }
    /** pith_session_plan().
     *  @param model opened.
     *  @param options NULL: all defaults.
     *  @return what such a session would take. */
    static pith_session_info plan(const Model& model, const pith_session_options* options = nullptr) {
        auto info = make<pith_session_info>();
        check([&](pith_error* e) { return pith_session_plan(model.get(), options, &info, e); });
        return info;
    }
    /** The C object.
     *  @return borrowed. */
    pith_session* get() const noexcept { return handle_.get(); }
    /** pith_session_get_usage().
     *  @return what was used. */
    pith_usage usage() const {
        auto usage = make<pith_usage>();
        check([&](pith_error* e) { return pith_session_get_usage(get(), &usage, e); });
        return usage;
    }
    /** pith_session_get_info().
     *  @return what it took. */
    pith_session_info info() const {
        auto info = make<pith_session_info>();
        check([&](pith_error* e) { return pith_session_get_info(get(), &info, e); });
        return info;
    }
    /** pith_session_forward().
     *  @param tokens ids.
     *  @param count at least 1.
     *  @param rows of logits to keep. */
    void forward(const pith_token* tokens, size_t count, uint32_t rows = 1) {
        check([&](pith_error* e) { return pith_session_forward(get(), tokens, count, rows, e); });
    }
    /** The same for a vector.
     *  @param tokens ids.
     *  @param rows of logits to keep. */
    void forward(const std::vector<pith_token>& tokens, uint32_t rows = 1) { forward(tokens.data(), tokens.size(), rows); }
    /** The same for one token.
     *  @param token an id. */
    void forward(pith_token token) { forward(&token, 1); }
    /** pith_session_sample().
     *  @param sampler records the token.
     *  @param row of the last forward's.
     *  @return the id drawn. */
    pith_token sample(Sampler& sampler, uint32_t row = 0) {
        pith_token token = PITH_NO_TOKEN;
        check([&](pith_error* e) { return pith_session_sample(get(), row, sampler.get(), &token, e); });
        return token;
    }
    /** pith_session_logits().
     *  @return the last forward's rows. */
    Logits logits() {
        Logits logits{};
        check([&](pith_error* e) { return pith_session_logits(get(), &logits.data, &logits.rows, e); });
        return logits;
    }
    /** pith_session_length().
     *  @return tokens. */
    size_t length() const noexcept { return pith_session_length(get()); }
    /** pith_session_truncate().
     *  @param length tokens to keep. */
    void truncate(size_t length) {
        check([&](pith_error* e) { return pith_session_truncate(get(), length, e); });
    }
    /** pith_session_cancel(); from any thread.
     *  @param on stop, or go on. */
    void cancel(bool on = true) noexcept { pith_session_cancel(get(), on ? 1 : 0); }

private:
    SessionHandle handle_;
};

#endif
/** @} */
}  // namespace cpp
}  // namespace pith
#endif
