// Rotary frequencies against transformers' (tests/golden/rope/make_rope.py).
#include "model/rope.h"

#include <string>
#include <vector>

#include "base/json.h"
#include "base_memory.h"
#include "catch.h"
#include "memory_files.h"

using namespace pith;
using std::string;

TEST_CASE("rope: frequencies and scales equal transformers'") {
    TestMemory memory;
    Arena arena(memory.allocator);
    Array<char> text(memory.allocator);
    pith_error error{};
    const Json* cases = nullptr;
    REQUIRE(read_file(kSystemFiles, PITH_SOURCE_DIR "/tests/golden/rope/rope.json", 1 << 20, &text, &error) == PITH_OK);
    REQUIRE(json_parse({text.data(), text.size()}, "rope.json", arena, &cases, &error) == PITH_OK);
    REQUIRE(cases->size >= 24);
    for (size_t i = 0; i < cases->size; i++) {
        const Json& c = cases->items[i];
        INFO(c.find("name")->string);
        MemoryFiles files;
        files["m/config.json"] = c.find("config")->string;
        Config config;
        const pith_status status = read_config(files.files, memory.allocator, "m", &config, &error);
        INFO(error.message);
        REQUIRE(status == PITH_OK);
        std::vector<double> inverse(config.head_dim / 2);
        const double scale = rope_frequencies(config, static_cast<uint32_t>(c.find("context")->integer), inverse.data());
        CHECK(scale == Approx(c.find("scale")->as_double()).epsilon(1e-9));
        const Json* expected = c.find("inverse");
        REQUIRE(expected->size == inverse.size());
        for (size_t j = 0; j < inverse.size(); j++) {
            INFO(j);
            CHECK(inverse[j] == Approx(expected->items[j].as_double()).epsilon(4e-6));
        }
    }
}

TEST_CASE("rope: dynamic scaling is off up to the model's context and smooth beyond it") {
    Config config;
    config.head_dim = 64;
    config.context_length = 2048;
    double plain[32], same[32], beyond[32];
    rope_frequencies(config, 2048, plain);
    config.rope.kind = RopeKind::Dynamic;
    config.rope.factor = 4;
    rope_frequencies(config, 2048, same);
    rope_frequencies(config, 2049, beyond);
    for (int i = 0; i < 32; i++) {
        CHECK(plain[i] == same[i]);
        CHECK(beyond[i] == Approx(plain[i]).epsilon(0.01));
    }
    CHECK(beyond[31] < plain[31]);
    config.head_dim = 2;  // its exponent would divide by zero
    CHECK(rope_frequencies(config, 4096, beyond) == 1);
    CHECK(beyond[0] == 1);
}
