// The demo model, and its reference: eight prompts with their greedy continuations and last logits.
#pragma once
#include <fstream>
#include <iterator>

#include "base/json.h"
#include "golden.h"

namespace golden {

inline const std::string kModel = PITH_SOURCE_DIR "/examples/demo-model";
inline const std::string kDemo = PITH_SOURCE_DIR "/tests/golden/demo/";
inline constexpr size_t kVocab = 8192;

inline std::string read_text(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    REQUIRE(in);
    return {std::istreambuf_iterator<char>(in), {}};
}

inline std::vector<double> numbers(const pith::Json& list) {
    std::vector<double> all;
    for (size_t i = 0; i < list.size; i++) all.push_back(list.items[i].as_double());
    return all;
}

struct Prompt {
    std::vector<pith_token> ids, greedy;
    std::vector<float> margins, logits;  // of the last position
};

inline std::vector<Prompt> prompts() {
    pith::Arena arena(kHeap);
    const pith::Json* root = nullptr;
    REQUIRE(pith::json_parse(read_text(kDemo + "refs.json"), "refs.json", arena, &root, nullptr) == PITH_OK);
    const pith::Json* gptq = root->find("models")->find("gptq");
    const std::vector<float> logits = Tensors(kDemo + "refs.safetensors").get<float>("gptq.last_logits");
    std::vector<Prompt> all(root->find("prompt_ids")->size);
    for (size_t i = 0; i < all.size(); i++) {
        for (double id : numbers(root->find("prompt_ids")->items[i])) all[i].ids.push_back(static_cast<pith_token>(id));
        for (double id : numbers(gptq->find("greedy_ids")->items[i])) all[i].greedy.push_back(static_cast<pith_token>(id));
        for (double m : numbers(gptq->find("greedy_margins")->items[i])) all[i].margins.push_back(static_cast<float>(m));
        all[i].logits.assign(logits.begin() + static_cast<long>(i * kVocab), logits.begin() + static_cast<long>((i + 1) * kVocab));
    }
    return all;
}

}  // namespace golden
