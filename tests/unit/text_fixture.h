// Tokenizers for tests: from a folder of the tree, or from JSON written in the test.
#pragma once
#include <string>
#include <vector>

#include "base_memory.h"
#include "catch.h"
#include "memory_files.h"
#include "text/tokenizer.h"

struct TestTokenizer {
    TestMemory memory;
    MemoryFiles files;
    pith::Tokenizer tokenizer{memory.allocator};
    pith_error error{};

    pith_status load(const char* path = "m") { return tokenizer.load(files.files, path, &error); }
    pith_status load_json(const std::string& json) {
        files["m/tokenizer.json"] = json;
        return load();
    }
    void open(const std::string& path) {  // of the tree
        INFO(path);
        const pith_status status = tokenizer.load(pith::kSystemFiles, path.c_str(), &error);
        INFO(error.message);
        REQUIRE(status == PITH_OK);
    }
    std::vector<int32_t> encode(const std::string& text, bool special = false, bool begin = false, uint64_t* work = nullptr) {
        pith::Array<int32_t> ids(memory.allocator);
        const pith_status status = tokenizer.encode(text, {begin, special}, &ids, work, &error);
        INFO(error.message);
        REQUIRE(status == PITH_OK);
        return {ids.begin(), ids.end()};
    }
    std::string decode(const std::vector<int32_t>& ids, bool special = false) {
        size_t size = 0;
        const pith_status status = tokenizer.decode(ids.data(), ids.size(), special, nullptr, 0, &size, &error);
        REQUIRE(status == (size ? PITH_E_BUFFER : PITH_OK));
        std::string text(size, '?');
        REQUIRE(tokenizer.decode(ids.data(), ids.size(), special, text.data(), size, &size, &error) == PITH_OK);
        REQUIRE(size == text.size());
        return text;
    }
    // The pieces of a stream, the flush's last. Each is asked for with too small a buffer first, which must not move the stream.
    std::vector<std::string> stream(std::vector<int32_t> ids, bool special = false) {
        std::vector<std::string> pieces;
        pith::DecodeState state = {};
        ids.push_back(-1);
        for (const int32_t id : ids) {
            char text[4096];
            size_t size = 0;
            const pith::DecodeState before = state;
            if (tokenizer.stream(&state, id, special, nullptr, 0, &size, &error) == PITH_E_BUFFER) {
                REQUIRE(memcmp(&state, &before, sizeof state) == 0);
                REQUIRE(size > 0);
                REQUIRE(tokenizer.stream(&state, id, special, text, size - 1, &size, &error) == PITH_E_BUFFER);
                REQUIRE(memcmp(&state, &before, sizeof state) == 0);
                REQUIRE(size <= sizeof text);
                REQUIRE(tokenizer.stream(&state, id, special, text, size, &size, &error) == PITH_OK);
            } else {
                REQUIRE(size == 0);
            }
            pieces.emplace_back(text, size);
        }
        return pieces;
    }
};

inline std::string join(const std::vector<std::string>& pieces) {
    std::string all;
    for (const std::string& piece : pieces) all += piece;
    return all;
}

// A small generator of numbers, the same everywhere.
struct Numbers {
    uint64_t state;
    uint32_t below(uint32_t limit) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return static_cast<uint32_t>((state >> 33) % limit);
    }
};
