// GPTQ layers: the worked examples, versions of zero points, group sizes, and orders of columns.
#include <math.h>

#include <functional>
#include <string>

#include "catch.h"
#include "model_opened.h"

using namespace pith;
using std::string;

namespace {

double half_value(uint16_t half) {
    const int exponent = half >> 10 & 31, fraction = half & 1023;
    const double magnitude = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return half & 0x8000 ? -magnitude : magnitude;
}

// The weights as Linear's comments define them, by position: column perm[p] of row n.
std::vector<std::vector<double>> dequantise(OpenedModel& o, const Linear& linear) {
    const auto qweight = o.values<uint32_t>(linear.qweight), qzeros = o.values<uint32_t>(linear.qzeros);
    const auto scales = o.values<uint16_t>(linear.scales);
    std::vector<std::vector<double>> w(linear.rows, std::vector<double>(linear.cols));
    for (uint32_t n = 0; n < linear.rows; n++)
        for (uint32_t p = 0; p < linear.cols; p++) {
            const uint32_t k = linear.perm ? linear.perm[p] : p, g = p / linear.group;
            const int q = qweight[k / 8 * linear.rows + n] >> (4 * (k % 8)) & 15;
            const int zero = static_cast<int>((qzeros[g * (linear.rows / 8) + n / 8] >> (4 * (n % 8)) & 15) + linear.zero_offset);
            w[n][k] = half_value(scales[g * linear.rows + n]) * (q - zero);
        }
    return w;
}

// 8 hidden, every linear 8 x 8: the size of the worked examples.
TinyModel eight() {
    TinyModel tiny;
    tiny.hidden = tiny.inner = 8;
    tiny.heads = tiny.kv_heads = 2;
    tiny.head_dim = 4;
    tiny.layers = 1;
    tiny.fill();
    return tiny;
}

const string kQ = "model.layers.0.self_attn.q_proj";

}  // namespace

TEST_CASE("gptq: the worked examples") {
    TinyModel tiny = eight();
    TinyGptq options;
    options.group = 8;
    tiny.gptq(kQ, 8, 8, options);
    const auto set = [&](const char* suffix, std::vector<uint32_t> words) { tiny.tensors[kQ + suffix].data = bytes_of(words); };
    set(".qweight", std::vector<uint32_t>(8, 0x76543210));
    tiny.tensors[kQ + ".scales"].data = bytes_of(std::vector<uint16_t>(8, 0x3800));  // 0.5
    tiny.quantize_config = R"({"bits":4,"group_size":8,"sym":true})";
    {
        tiny.quantize_config = R"({"bits":4,"group_size":-1,"sym":true})";
        OpenedModel o(tiny);
        INFO(o.message());
        REQUIRE(o.status == PITH_OK);
        const Linear& q = o.model.layers[0].q;
        CHECK(q.groups == 1);
        CHECK(q.group == 32);  // 8 rounded up
        CHECK(q.zero_offset == 1);
        CHECK(q.symmetric);
        const auto w = dequantise(o, q);
        double sum = 0;
        for (int k = 0; k < 8; k++) {
            CHECK(w[0][k] == -4 + 0.5 * k);
            sum += w[0][k];
        }
        CHECK(sum == -18);
    }
    {  // the same bits as v2, which a symmetric config would overrule
        tiny.quantize_config = R"({"bits":4,"group_size":-1,"sym":false,"checkpoint_format":"gptq_v2"})";
        OpenedModel o(tiny);
        const Linear& q = o.model.layers[0].q;
        CHECK(q.zero_offset == 0);
        CHECK_FALSE(q.symmetric);
        const auto w = dequantise(o, q);
        double sum = 0;
        for (int k = 0; k < 8; k++) sum += w[0][k];
        CHECK(w[0][0] == -3.5);
        CHECK(w[0][7] == 0);
        CHECK(sum == -14);
    }
    for (const bool v2 : {false, true}) {  // asymmetric: column n has its own zero
        set(".qzeros", {0x87654321});
        tiny.quantize_config = string(R"({"bits":4,"group_size":-1,"sym":false,"checkpoint_format":")") + (v2 ? "gptq_v2" : "gptq") + "\"}";
        OpenedModel o(tiny);
        const auto w = dequantise(o, o.model.layers[0].q);
        for (int n = 0; n < 8; n++) CHECK(w[n][0] == -0.5 * (n + (v2 ? 1 : 2)));
    }
    {  // a stored 15 of v1 means 16
        set(".qzeros", {0xffffffff});
        tiny.quantize_config = R"({"bits":4,"group_size":-1,"sym":false})";
        OpenedModel o(tiny);
        CHECK(dequantise(o, o.model.layers[0].q)[3][0] == -8);
    }
}

TEST_CASE("gptq: which version the zero points are") {
    struct Case {
        const char* config;  // "" : no quantize_config.json
        uint32_t zeros;
        uint32_t offset;
        bool symmetric;
    };
    const Case cases[] = {
        {R"({"bits":4,"sym":true})", 0x77777777, 1, true},
        {R"({"bits":4,"sym":true,"checkpoint_format":"gptq_v2"})", 0x88888888, 0, true},
        {R"({"bits":4,"sym":true,"checkpoint_format":"gptq"})", 0x88888888, 0, true},     // says v1, is v2
        {R"({"bits":4,"sym":true,"checkpoint_format":"gptq_v2"})", 0x77777777, 1, true},  // says v2, is v1
        {R"({"bits":4})", 0x88888888, 0, true},
        {"", 0x77777777, 1, true},
        {"", 0x88888888, 0, true},
        {R"({"bits":4,"sym":false})", 0x77777777, 1, true},
        {R"({"bits":4,"sym":false})", 0x88888888, 1, false},
        {R"({"bits":4,"sym":false,"checkpoint_format":"gptq_v2"})", 0x88888888, 0, true},
        {R"({"bits":4,"sym":false,"checkpoint_format":"gptq_v2"})", 0x77777777, 0, false},
        {R"({"bits":4,"sym":true})", 0x77777778, 1, false},
        {R"({"bits":4,"sym":true,"checkpoint_format":"gptq_v2"})", 0x88888878, 0, false},
        {R"({"bits":4,"sym":true})", 0xffffffff, 1, false},
        {R"({"bits":4,"sym":true,"checkpoint_format":"gptq_v2"})", 0, 0, false},
    };
    for (const Case& c : cases) {
        TinyModel tiny;
        TinyGptq options;
        options.zeros = c.zeros;
        tiny.fill();
        tiny.quantise(options);
        tiny.quantize_config = c.config;
        OpenedModel o(tiny);
        INFO(c.config << " " << std::hex << c.zeros << " " << o.message());
        REQUIRE(o.status == PITH_OK);
        CHECK(o.model.layers[1].up.zero_offset == c.offset);
        CHECK(o.model.layers[1].up.symmetric == c.symmetric);
    }
    TinyModel tiny;  // one zero that differs, the last, is enough
    tiny.fill();
    tiny.quantise();
    string& data = tiny.tensors[kQ + ".qzeros"].data;
    data.back() = 0x78;
    OpenedModel o(tiny);
    REQUIRE(o.status == PITH_OK);
    CHECK_FALSE(o.model.layers[0].q.symmetric);
    CHECK(o.model.layers[0].k.symmetric);
}

TEST_CASE("gptq: zero points larger than the read buffer") {
    TinyModel tiny;
    tiny.layers = 1;
    tiny.vocab = 131072 + 8;
    tiny.hidden = 320;
    tiny.heads = tiny.kv_heads = 20;
    tiny.fill();
    tiny.gptq("lm_head", tiny.vocab, tiny.hidden);  // 10 groups x 16385 words
    {
        OpenedModel o(tiny);
        REQUIRE(o.status == PITH_OK);
        CHECK(o.model.head.symmetric);
    }
    tiny.tensors["lm_head.qzeros"].data.back() = 0x78;
    OpenedModel o(tiny);
    REQUIRE(o.status == PITH_OK);
    CHECK_FALSE(o.model.head.symmetric);
}

TEST_CASE("gptq: group sizes") {
    struct Case {
        const char* config;
        uint32_t made, group, groups;  // of a layer with 320 columns
    };
    const Case cases[] = {
        {R"({"bits":4,"group_size":32})", 32, 32, 10},
        {R"({"bits":4,"group_size":64})", 64, 64, 5},
        {R"({"bits":4,"group_size":128})", 128, 128, 3},  // a short last group of 64
        {R"({"bits":4,"group_size":96})", 96, 96, 4},     // no power of two, a short last group of 32
        {R"({"bits":4,"group_size":-1})", 0, 320, 1},
        {R"({"bits":4,"group_size":512})", 512, 320, 1},
        {R"({"bits":4,"group_size":128})", 32, 32, 10},  // `dynamic` gave this layer another size
        {R"({"bits":4,"group_size":128})", 0, 320, 1},
        {R"({"bits":4,"group_size":-1})", 64, 64, 5},
        {R"({"bits":4})", 256, 256, 2},
        {"", 128, 128, 3},
    };
    for (const Case& c : cases) {
        TinyModel tiny;
        tiny.inner = 320;
        tiny.quantize_config = c.config;
        tiny.fill();
        TinyGptq options;
        options.group = c.made;
        tiny.gptq("model.layers.0.mlp.down_proj", 64, 320, options);
        OpenedModel o(tiny);
        INFO(c.config << " " << c.made << " " << o.message());
        REQUIRE(o.status == PITH_OK);
        const Linear& down = o.model.layers[0].down;
        CHECK(down.kind == Linear::Gptq);
        CHECK(down.group == c.group);
        CHECK(down.groups == c.groups);
        CHECK(down.perm == nullptr);
        CHECK(o.model.layers[1].down.kind == Linear::Dense);  // mixed with what is not quantised
    }
}

TEST_CASE("gptq: scales of every float type") {
    for (const char* dtype : {"F16", "BF16", "F32"}) {
        TinyModel tiny;
        TinyGptq options;
        options.scale_dtype = dtype;
        tiny.fill();
        tiny.quantise(options);
        OpenedModel o(tiny);
        REQUIRE(o.status == PITH_OK);
        CHECK(string(dtype_name(o.model.layers[0].q.scales.dtype)) == dtype);
    }
}

TEST_CASE("gptq: act-order") {
    const int32_t pattern[8] = {1, 0, 1, 0, 0, 1, 0, 1};  // the worked example's, eight times over: groups of 32
    TinyGptq options;
    for (uint32_t k = 0; k < 64; k++) options.g_idx.push_back(pattern[k % 8]);
    TinyModel tiny;
    tiny.fill();
    tiny.gptq(kQ, 64, 64, options);
    tiny.gptq("model.layers.0.self_attn.k_proj", 32, 64, options);
    TinyGptq other = options;
    std::swap(other.g_idx[0], other.g_idx[1]);
    tiny.gptq("model.layers.0.self_attn.v_proj", 32, 64, other);
    tiny.gptq("model.layers.0.mlp.gate_proj", 96, 64, other);
    tiny.gptq("model.layers.0.mlp.up_proj", 96, 64, other);
    tiny.quantize_config = R"({"bits":4,"group_size":32,"desc_act":true,"sym":true})";
    OpenedModel o(tiny);
    INFO(o.message());
    REQUIRE(o.status == PITH_OK);
    const Layer& layer = o.model.layers[0];
    REQUIRE(layer.q.perm);
    const uint32_t first[8] = {1, 3, 4, 6, 9, 11, 12, 14}, second[8] = {0, 2, 5, 7, 8, 10, 13, 15};
    for (int i = 0; i < 8; i++) {
        CHECK(layer.q.perm[i] == first[i]);
        CHECK(layer.q.perm[32 + i] == second[i]);
    }
    CHECK(layer.k.perm == layer.q.perm);  // equal: shared
    CHECK(layer.v.perm != layer.q.perm);
    CHECK(layer.up.perm == layer.gate.perm);
    CHECK(layer.v.perm[0] == 0);

    const auto w = dequantise(o, layer.q);
    const auto qweight = o.values<uint32_t>(layer.q.qweight);
    const auto scales = o.values<uint16_t>(layer.q.scales);
    for (uint32_t n = 0; n < 64; n++)
        for (uint32_t k = 0; k < 64; k++) {
            const int q = qweight[k / 8 * 64 + n] >> (4 * (k % 8)) & 15;
            REQUIRE(w[n][k] == half_value(scales[static_cast<uint32_t>(pattern[k % 8]) * 64 + n]) * (q - 8));
        }
}

TEST_CASE("gptq: act-order with a short last group, and orders that are none") {
    TinyGptq options;
    options.group = 64;
    TinyModel tiny;
    tiny.fill();
    for (int32_t k = 0; k < 96; k++) options.g_idx.push_back(k % 3 == 2 ? 1 : 0);  // 64 and 32
    const string down = "model.layers.0.mlp.down_proj";
    tiny.quantize_config = R"({"bits":4,"group_size":64,"desc_act":true})";
    tiny.gptq(down, 64, 96, options);
    {
        OpenedModel o(tiny);
        INFO(o.message());
        REQUIRE(o.status == PITH_OK);
        REQUIRE(o.model.layers[0].down.perm);
        CHECK(o.model.layers[0].down.perm[2] == 3);
        CHECK(o.model.layers[0].down.perm[64] == 2);
        CHECK(o.model.layers[0].down.perm[95] == 95);
    }
    options.g_idx.assign(96, 0);  // a dummy
    tiny.gptq(down, 64, 96, options);
    {
        OpenedModel o(tiny);
        REQUIRE(o.status == PITH_OK);
        CHECK(o.model.layers[0].down.perm == nullptr);
        CHECK(o.model.layers[0].down.groups == 2);
    }
    options.g_idx.clear();
    options.natural_g_idx = false;
    tiny.tensors.erase(down + ".g_idx");
    tiny.gptq(down, 64, 96, options);
    {
        OpenedModel o(tiny);
        CHECK(o.status == PITH_E_FORMAT);
        CHECK(o.message().find(down + ".g_idx is missing, and desc_act is true") != string::npos);
    }
    tiny.quantize_config = R"({"bits":4,"group_size":64})";
    OpenedModel o(tiny);
    CHECK(o.status == PITH_OK);
}

TEST_CASE("gptq: orders that must be refused") {
    struct Case {
        const char* name;
        std::function<void(std::vector<int32_t>&)> change;
        pith_status status;
        const char* message;
    };
    const Case cases[] = {
        {"negative", [](auto& g) { g[5] = -1; }, PITH_E_FORMAT, "q_proj.g_idx: element 5 is -1, expected 0 to 1"},
        {"too large", [](auto& g) { g[63] = 2; }, PITH_E_FORMAT, "element 63 is 2, expected 0 to 1"},
        {"far too large", [](auto& g) { g[0] = 0x7fffffff; }, PITH_E_FORMAT, "element 0 is 2147483647"},
        {"unequal groups", [](auto& g) { g[0] = 1; }, PITH_E_UNSUPPORTED, "q_proj: group 0 of g_idx has 31 columns, expected 32"},
        {"an empty group", [](auto& g) { g.assign(64, 1); }, PITH_E_UNSUPPORTED, "group 0 of g_idx has 0 columns"},
        {"too short", [](auto& g) { g.pop_back(); }, PITH_E_FORMAT, "q_proj.g_idx: expected shape [64], found [63]"},
        {"too long", [](auto& g) { g.push_back(1); }, PITH_E_FORMAT, "expected shape [64], found [65]"},
    };
    for (const Case& c : cases) {
        INFO(c.name);
        TinyModel tiny;
        TinyGptq options;
        tiny.fill();
        for (int32_t k = 0; k < 64; k++) options.g_idx.push_back(k / 32);
        c.change(options.g_idx);
        tiny.gptq(kQ, 64, 64, options);
        OpenedModel o(tiny);
        INFO(o.message());
        CHECK(o.status == c.status);
        CHECK(o.message().find(c.message) != string::npos);
    }
}
