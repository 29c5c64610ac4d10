// Attention against a plain softmax in double precision, in every cutting of the queries, with windows, groups of heads and pages.
#include "kernels_common.h"

using namespace kernel_test;

namespace {

struct Setup {
    uint32_t heads, kv_heads, dim, page, positions, window;
    Type k_type, v_type;
};

// The cache, filled through kv_store; pages are scattered and what was never stored is NaN.
struct Cache {
    Setup s;
    std::vector<Guarded<uint8_t>> pages;
    std::vector<void*> k_pages, v_pages;
    std::vector<double> k, v;  // [position][kv_head][dim], as stored
    KvLayer layer{};

    Cache(const Table& table, const Setup& setup, Random& random) : s(setup) {
        const size_t size = size_t{s.page} * s.kv_heads * s.dim;
        const uint32_t count = (s.positions + s.page - 1) / s.page;
        for (uint32_t p = 0; p < count; p++) {
            for (const Type type : {s.v_type, s.k_type}) pages.emplace_back(size * (type == Type::F16 ? 2 : 4), uint8_t{0xFF});
        }
        for (uint32_t p = 0; p < count; p++) {
            v_pages.push_back(pages[2 * (count - 1 - p)].data());
            k_pages.push_back(pages[2 * (count - 1 - p) + 1].data());
        }
        layer = {k_pages.data(), v_pages.data(), s.page, s.kv_heads, s.dim, s.k_type, s.v_type};
        for (uint32_t p = 0; p < s.positions; p++) {
            const std::vector<float> key = random.floats(size_t{s.kv_heads} * s.dim, 2.0f),
                                     value = random.floats(size_t{s.kv_heads} * s.dim);
            table.kv_store(layer, p, key.data(), value.data());
            for (const float x : key)
                k.push_back(s.k_type == Type::F16 ? from_half(to_half(static_cast<double>(x))) : static_cast<double>(x));
            for (const float x : value)
                v.push_back(s.v_type == Type::F16 ? from_half(to_half(static_cast<double>(x))) : static_cast<double>(x));
        }
    }
};

std::vector<double> reference(const Cache& c, const std::vector<float>& q, uint32_t first, uint32_t tokens, double scale) {
    const Setup& s = c.s;
    const size_t row = size_t{s.kv_heads} * s.dim;
    std::vector<double> out;
    for (uint32_t t = 0; t < tokens; t++) {
        const uint32_t position = first + t;
        const uint32_t oldest = s.window && position + 1 > s.window ? position + 1 - s.window : 0;
        for (uint32_t h = 0; h < s.heads; h++) {
            const size_t kv = size_t{h / (s.heads / s.kv_heads)} * s.dim;
            std::vector<double> weights;
            double total = 0.0;
            for (uint32_t p = oldest; p <= position; p++) {
                double dot = 0.0;
                const float* query = q.data() + (size_t{t} * s.heads + h) * s.dim;
                const double* key = c.k.data() + p * row + kv;
                for (uint32_t d = 0; d < s.dim; d++) dot += static_cast<double>(query[d]) * key[d];
                weights.push_back(std::exp(dot * scale));
                total += weights.back();
            }
            for (uint32_t d = 0; d < s.dim; d++) {
                double sum = 0.0;
                for (uint32_t p = oldest; p <= position; p++) sum += weights[p - oldest] * c.v[p * row + kv + d];
                out.push_back(sum / total);
            }
        }
    }
    return out;
}

// Tokens [0, tokens) of q, calls of `calls` tokens and ranges of `ranges` tokens within a call.
Guarded<float> run(const Table& table, const Cache& c, const std::vector<float>& q, uint32_t first, uint32_t tokens, float scale,
                   uint32_t calls, uint32_t ranges) {
    const Setup& s = c.s;
    const size_t stride = size_t{s.heads} * s.dim;
    Guarded<float> out(stride * tokens);
    const uint32_t group = s.heads / s.kv_heads;
    Guarded<uint8_t> scratch(attention_scratch(group, s.dim));
    for (uint32_t t = 0; t < tokens; t += calls) {
        const Attention a{c.layer, q.data() + t * stride, out.data() + t * stride, stride, stride, s.heads, first + t, s.window, scale};
        const uint32_t count = std::min(calls, tokens - t);
        for (uint32_t head = s.kv_heads; head-- > 0;) {
            for (uint32_t from = 0; from < count; from += ranges) {
                memset(scratch.data(), 0xFF, scratch.size());  // nothing is carried over
                table.attention(a, head, from, std::min(from + ranges, count), scratch.data());
            }
        }
    }
    return out;
}

// Spans one by one, the last first, and then joined, give the bits of all at once.
void check_spans(const Table& table, const Cache& c, const std::vector<float>& q, float scale, const Guarded<float>& whole) {
    const Setup& s = c.s;
    const size_t stride = size_t{s.heads} * s.dim, floats = attention_part(s.heads / s.kv_heads, s.dim);
    Guarded<float> out(stride * s.positions);
    Guarded<uint8_t> scratch(attention_scratch(s.heads / s.kv_heads, s.dim));
    const Attention a{c.layer, q.data(), out.data(), stride, stride, s.heads, 0, s.window, scale};
    for (uint32_t token = 0; token < s.positions; token += 1 + token % 37) {
        const uint32_t first = oldest_key(token, s.window) / kKeySpan, spans = token / kKeySpan - first + 1;
        Guarded<float> parts(floats * spans);
        for (uint32_t head = 0; head < s.kv_heads; head++) {
            for (uint32_t i = spans; i-- > 0;) {
                memset(scratch.data(), 0xFF, scratch.size());
                table.attention_span(a, head, token, first + i, scratch.data(), parts.data() + i * floats);
            }
            memset(scratch.data(), 0xFF, scratch.size());
            table.attention_join(a, head, token, parts.data(), scratch.data());
        }
        CHECK(same_bits(&out[token * stride], &whole[token * stride], stride));
    }
}

}  // namespace

TEST_CASE("attention equals a plain softmax, in every cutting", "[kernels]") {
    const Setup setups[] = {{4, 4, 64, 64, 150, 0, Type::F32, Type::F32},    {8, 2, 64, 128, 200, 0, Type::F16, Type::F16},
                            {16, 4, 64, 256, 100, 0, Type::F16, Type::F16},  {6, 2, 128, 64, 100, 0, Type::F16, Type::F32},
                            {2, 1, 96, 64, 180, 50, Type::F16, Type::F16},   {3, 1, 80, 64, 200, 64, Type::F32, Type::F16},
                            {4, 2, 2, 64, 90, 0, Type::F16, Type::F16},      {5, 5, 34, 64, 130, 100, Type::F32, Type::F32},
                            {1, 1, 512, 64, 70, 1, Type::F16, Type::F16},    {80, 1, 16, 64, 140, 130, Type::F16, Type::F16},
                            {7, 1, 48, 192, 260, 128, Type::F32, Type::F32}, {2, 1, 32, 256, 1100, 0, Type::F16, Type::F16},
                            {1, 1, 16, 64, 1090, 520, Type::F32, Type::F16}};
    uint64_t seed = 0;
    for (const Setup& s : setups) {
        seed++;
        std::vector<double> expected;
        for (const Table* table : tiers()) {
            INFO(table->name << ": " << s.heads << "/" << s.kv_heads << " heads of " << s.dim << ", " << s.positions
                             << " positions, window " << s.window);
            Random random{seed};
            const Cache cache(*table, s, random);
            const float scale = 1.0f / std::sqrt(static_cast<float>(s.dim));
            const std::vector<float> q = random.floats(size_t{s.positions} * s.heads * s.dim, 2.0f);
            const Guarded<float> whole = run(*table, cache, q, 0, s.positions, scale, s.positions, s.positions);
            if (expected.empty()) expected = reference(cache, q, 0, s.positions, static_cast<double>(scale));
            double worst = 0.0;
            for (size_t i = 0; i < expected.size(); i++) {
                const double error = std::fabs(expected[i] - static_cast<double>(whole[i]));
                worst = std::isnan(error) ? HUGE_VAL : std::max(worst, error);
            }
            CHECK(worst < 3e-6);
            for (const auto& [calls, ranges] : {std::pair{1u, 1u}, {7u, 7u}, {s.positions, 33u}, {65u, 65u}}) {
                const Guarded<float> cut = run(*table, cache, q, 0, s.positions, scale, calls, ranges);
                CHECK(same_bits(whole.data(), cut.data(), cut.size()));
            }
            check_spans(*table, cache, q, scale, whole);
        }
    }
}

TEST_CASE("large scores do not overflow, and NaN stays in its own query", "[kernels]") {
    for (const Table* table : tiers()) {
        INFO(table->name);
        Random random;
        const Setup s{2, 1, 32, 64, 100, 0, Type::F32, Type::F32};
        const Cache cache(*table, s, random);
        std::vector<float> q = random.floats(size_t{s.positions} * s.heads * s.dim, 100.0f);
        const Guarded<float> large = run(*table, cache, q, 0, s.positions, 1.0f, s.positions, s.positions);
        for (size_t i = 0; i < large.size(); i++) CHECK(std::fabs(large[i]) <= 1.0f);

        q[(50 * 2 + 1) * 32 + 3] = std::nanf("");
        const Guarded<float> poisoned = run(*table, cache, q, 0, s.positions, 1.0f, s.positions, s.positions);
        for (size_t i = 0; i < large.size(); i++) {
            const bool bad = i / 32 == 50 * 2 + 1;
            if (bad ? !std::isnan(poisoned[i]) : !same_bits(&poisoned[i], &large[i], 1)) FAIL("element " << i);
        }
    }
}

TEST_CASE("a NaN or infinite value is seen by nobody before its position", "[kernels]") {
    for (const Table* table : tiers()) {
        INFO(table->name);
        Random random;
        const Setup s{4, 1, 64, 64, 150, 0, Type::F16, Type::F16};
        const Cache cache(*table, s, random);
        const std::vector<float> q = random.floats(size_t{s.positions} * s.heads * s.dim);
        const Guarded<float> before = run(*table, cache, q, 0, s.positions, 0.125f, s.positions, s.positions);
        const std::vector<float> bad(64, HUGE_VALF);
        table->kv_store(cache.layer, 100, bad.data(), bad.data());
        const Guarded<float> after = run(*table, cache, q, 0, s.positions, 0.125f, s.positions, s.positions);
        CHECK(same_bits(before.data(), after.data(), size_t{100} * s.heads * s.dim));
        for (size_t i = size_t{100} * s.heads * s.dim; i < after.size(); i++) {
            if (std::isfinite(after[i]) && same_bits(&after[i], &before[i], 1)) FAIL("element " << i);
        }
    }
}
