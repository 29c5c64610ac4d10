// A model of quantised matrices whose shapes, group, zero points, g_idx and scales the input chooses, mostly close to right.
#include "fuzz.h"

namespace {

class Input {
public:
    Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
    uint8_t byte() { return at_ < size_ ? data_[at_++] : 0; }
    // `good` most of the time.
    uint64_t near(uint64_t good) {
        const uint8_t b = byte();
        return b < 230 ? good : b < 240 ? good + 1 : b < 248 ? good * 8 : b < 252 ? 0 : uint64_t{b} << 56;
    }
    fuzz::Bytes bytes(size_t count) {
        fuzz::Bytes out(count, 0x34);
        const size_t have = byte() < 128 ? 0 : (size_ - at_ < count ? size_ - at_ : count);
        if (have) memcpy(out.data(), data_ + at_, have);
        at_ += have;
        return out;
    }

private:
    const uint8_t* data_;
    size_t size_, at_ = 0;
};

void add(std::map<std::string, fuzz::Tensor>& to, Input& in, const std::string& name, uint64_t rows, uint64_t cols, uint64_t group) {
    to.erase(name + ".weight");
    const uint64_t groups = (cols + group - 1) / group;
    const auto tensor = [&](const char* dtype, std::vector<uint64_t> shape, uint64_t each) {
        uint64_t count = 1;
        for (uint64_t n : shape) count *= n;
        return fuzz::Tensor{dtype, shape, in.bytes(count * each > 1 << 16 ? 64 : count * each)};
    };
    to[name + ".qweight"] = tensor("I32", {in.near(cols / 8), in.near(rows)}, 4);
    to[name + ".qzeros"] = tensor("I32", {in.near(groups), in.near(rows / 8)}, 4);
    to[name + ".scales"] = tensor(in.byte() < 200 ? "F16" : "F32", {in.near(groups), in.near(rows)}, in.byte() < 200 ? 2 : 4);
    if (in.byte() < 128) return;
    fuzz::Tensor g_idx{"I32", {in.near(cols)}, {}};
    for (uint64_t k = 0; k < cols; k++) {
        const uint8_t b = in.byte();
        const int32_t g = b < 250 ? static_cast<int32_t>(b % groups) : (int32_t{b} - 253) << 20;
        g_idx.data.append(reinterpret_cast<const char*>(&g), 4);
    }
    to[name + ".g_idx"] = g_idx;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input in(data, size);
    std::map<std::string, fuzz::Tensor> tensors = fuzz::tiny_tensors();
    const uint64_t group = in.near(32);
    if (group == 0 || group > 1024) return 0;
    const std::string l = "model.layers.0.";
    add(tensors, in, l + "self_attn.q_proj", 32, 32, group);
    add(tensors, in, l + "self_attn.k_proj", 16, 32, group);
    add(tensors, in, l + "mlp.gate_proj", 64, 32, group);
    add(tensors, in, l + "mlp.down_proj", 32, 64, group);
    const fuzz::Bytes quant = "{\"bits\":4,\"quant_method\":\"gptq\",\"group_size\":" + std::to_string(group) +
                              ",\"desc_act\":" + (in.byte() < 128 ? "true" : "false") + ",\"sym\":" + (in.byte() < 128 ? "true" : "false") +
                              ",\"checkpoint_format\":\"" + (in.byte() < 128 ? "gptq" : "gptq_v2") + "\"}";
    fuzz::run_model({{"config.json", fuzz::kConfig}, {"quantize_config.json", quant}, {"model.safetensors", fuzz::safetensors(tensors)}});
    return 0;
}
