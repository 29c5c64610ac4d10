// What the golden tests share: reference files, and a model driven through the public API on a chosen CPU tier.
#pragma once
#include <pith/pith.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "../unit/catch.h"
#include "api/env.h"
#include "io/files.h"
#include "io/safetensors.h"
#include "kernels/kernels.h"

namespace golden {

using pith::kernels::Tier;

inline const pith_allocator kHeap = {
    sizeof(pith_allocator), nullptr,
    [](void*, size_t size, size_t alignment) -> void* {
        void* p = nullptr;
        return posix_memalign(&p, alignment < sizeof(void*) ? sizeof(void*) : alignment, size) ? nullptr : p;
    },
    [](void*, void* memory, size_t, size_t) { free(memory); }};

inline std::vector<Tier> tiers() {
    std::vector<Tier> all;
    for (uint32_t t = 0; t <= static_cast<uint32_t>(pith::kernels::best_tier()); t++)
        if (pith::kernels::table(static_cast<Tier>(t))) all.push_back(static_cast<Tier>(t));
    return all;
}
inline const char* name(Tier tier) { return pith::kernels::table(tier)->name; }

// A safetensors file of references.
class Tensors {
public:
    explicit Tensors(const std::string& path) : arena_(kHeap), path_(path) {
        pith_error error{};
        INFO(path_);
        pith_status status = file_.open(pith::kSystemFiles, path_.c_str(), &error);
        if (status == PITH_OK) status = pith::read_safetensors(file_, path_.c_str(), arena_, &table_, &error);
        INFO(error.message);
        REQUIRE(status == PITH_OK);
    }
    template <class T>
    std::vector<T> get(const char* tensor) const {
        const pith::Tensor* t = table_.find(tensor);
        INFO(path_ << ": " << tensor);
        REQUIRE(t);
        std::vector<T> values(t->bytes / sizeof(T));
        REQUIRE(file_.read(t->offset, values.data(), t->bytes, tensor, nullptr) == PITH_OK);
        return values;
    }

private:
    pith::Arena arena_;
    std::string path_;
    pith::File file_;
    pith::TensorTable table_;
};

inline void require_ok(pith_status status, const pith_error& error) {
    INFO(error.message);
    REQUIRE(status == PITH_OK);
}

class Model {
public:
    Model(const std::string& path, Tier tier, uint32_t flags = 0) {
        pith_error error{};
        require_ok(pith_env_create(nullptr, &env_, &error), error);
        env_->tier = tier;
        pith_model_options options{};
        options.struct_size = sizeof options;
        options.flags = flags;
        load(path, &options);
    }
    // On a plug-in's device.
    Model(const std::string& path, const std::string& plugin, const pith_model_options& options) {
        pith_error error{};
        require_ok(pith_env_create(nullptr, &env_, &error), error);
        require_ok(pith_env_load_backend(env_, plugin.c_str(), &error), error);
        load(path, &options);
    }
    ~Model() {
        pith_model_destroy(model_);
        pith_env_destroy(env_);
    }
    Model(const Model&) = delete;
    const pith_model* get() const { return model_; }
    pith_env* env() const { return env_; }
    pith_model_info info{};

private:
    void load(const std::string& path, const pith_model_options* options) {
        pith_error error{};
        require_ok(pith_model_open(env_, path.c_str(), options, &model_, &error), error);
        require_ok(pith_model_load(model_, 0, nullptr, &error), error);
        info.struct_size = sizeof info;
        require_ok(pith_model_get_info(model_, &info, &error), error);
    }
    pith_env* env_ = nullptr;
    pith_model* model_ = nullptr;
};

struct Shape {
    uint32_t flags = 0, kv = PITH_KV_DEFAULT, batch = 0, context = 0, rows = 64;
    const pith_runner* runner = nullptr;
};

class Session {
public:
    Session(const Model& model, const Shape& shape) : vocab_(model.info.vocab_size) {
        pith_session_options options{};
        options.struct_size = sizeof options;
        options.flags = shape.flags;
        options.k_type = options.v_type = shape.kv;
        options.batch_length = shape.batch;
        options.context_length = shape.context;
        options.logit_rows = shape.rows;
        options.runner = shape.runner;
        pith_error error{};
        require_ok(pith_session_create(model.get(), &options, &session_, &error), error);
    }
    ~Session() { pith_session_destroy(session_); }
    Session(const Session&) = delete;

    // Logits of the last `rows` of the tokens.
    std::vector<float> forward(const pith_token* tokens, size_t count, size_t rows) {
        pith_error error{};
        require_ok(pith_session_forward(session_, tokens, count, static_cast<uint32_t>(rows), &error), error);
        if (rows == 0) return {};
        const float* logits = nullptr;
        size_t kept = 0;
        require_ok(pith_session_logits(session_, &logits, &kept, &error), error);
        REQUIRE(kept == rows);
        return {logits, logits + rows * vocab_};
    }
    std::vector<float> forward(const std::vector<pith_token>& tokens, size_t rows) { return forward(tokens.data(), tokens.size(), rows); }
    // One row a token, whatever the session's logit_rows.
    std::vector<float> forward_all(const std::vector<pith_token>& tokens, size_t at_once) {
        std::vector<float> all;
        for (size_t at = 0; at < tokens.size(); at += at_once) {
            const size_t n = std::min(at_once, tokens.size() - at);
            const std::vector<float> part = forward(tokens.data() + at, n, n);
            all.insert(all.end(), part.begin(), part.end());
        }
        return all;
    }

private:
    pith_session* session_ = nullptr;
    size_t vocab_;
};

inline size_t argmax(const float* row, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (row[i] > row[best]) best = i;
    return best;
}

// Largest minus second largest.
inline double margin(const float* row, size_t n) {
    const size_t best = argmax(row, n);
    double second = -1e30;
    for (size_t i = 0; i < n; i++)
        if (i != best && row[i] > second) second = row[i];
    return row[best] - second;
}

// Mean over rows of |a - b| / |b|.
inline double relative_error(const std::vector<float>& a, const std::vector<float>& b, size_t vocab) {
    REQUIRE(a.size() == b.size());
    double sum = 0;
    for (size_t at = 0; at < a.size(); at += vocab) {
        double difference = 0, size = 0;
        for (size_t i = at; i < at + vocab; i++) {
            difference += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
            size += double(b[i]) * b[i];
        }
        sum += std::sqrt(difference / size);
    }
    return sum / double(a.size() / vocab);
}

// Rows whose largest logit is the reference's, among those whose reference margin is at least `least`.
struct Agreement {
    size_t same = 0, of = 0;
};
inline Agreement agreement(const std::vector<float>& a, const std::vector<float>& b, size_t vocab, double least) {
    Agreement result;
    for (size_t at = 0; at < a.size(); at += vocab) {
        if (margin(&b[at], vocab) < least) continue;
        result.of++;
        result.same += argmax(&a[at], vocab) == argmax(&b[at], vocab);
    }
    return result;
}

// The greedy continuation, as far as every margin up to there is clear.
inline void check_greedy(Session& session, std::vector<float> logits, const std::vector<int32_t>& expected, const std::vector<float>& margins,
                         size_t vocab, float clear = 2e-3f) {
    for (size_t i = 0; i < expected.size() && margins[i] >= clear; i++) {
        const pith_token token = static_cast<pith_token>(argmax(&logits[logits.size() - vocab], vocab));
        INFO("greedy token " << i);
        CHECK(token == expected[i]);
        if (token != expected[i]) break;
        logits = session.forward(&token, 1, 1);
    }
}

}  // namespace golden
