// config.json, then after a zero byte quantize_config.json and the index, beside a good shard.
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const fuzz::Bytes shard = fuzz::safetensors(fuzz::tiny_tensors());
    const fuzz::Bytes all(reinterpret_cast<const char*>(data), size);
    fuzz::Folder folder{{"model.safetensors", shard}};
    size_t at = 0;
    for (const char* name : {"config.json", "quantize_config.json", "model.safetensors.index.json"}) {
        const size_t end = all.find('\0', at);
        folder[name] = all.substr(at, end == fuzz::Bytes::npos ? end : end - at);
        if (end == fuzz::Bytes::npos) break;
        at = end + 1;
    }
    fuzz::run_model(folder);
    return 0;
}
