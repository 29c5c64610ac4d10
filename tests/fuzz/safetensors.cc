// Any bytes as model.safetensors, beside a config that fits the tiny model.
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    fuzz::run_model({{"config.json", fuzz::kConfig}, {"model.safetensors", fuzz::Bytes(reinterpret_cast<const char*>(data), size)}});
    return 0;
}
