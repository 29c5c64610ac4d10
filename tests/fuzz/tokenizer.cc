// Any bytes as tokenizer.json; what loads must encode and decode.
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const fuzz::Folder folder{{"tokenizer.json", fuzz::Bytes(reinterpret_cast<const char*>(data), size)}};
    fuzz::Env env(folder, (4 << 20) + size * 32);
    pith_error error{};
    pith_tokenizer* tokenizer = nullptr;
    const pith_status loaded = pith_tokenizer_load(env.get(), "m", &tokenizer, &error);
    fuzz::check_error(loaded, error);
    if (loaded == PITH_E_MEMORY) __builtin_trap();  // more than a small multiple of the file
    if (!tokenizer) return 0;
    static const char text[] = "Once upon a time, <s>it's 12345 \xc3\xa9\xe2\x96\x81 \n\t\xf0\x9f\x99\x82!</s>  ab";
    pith_token ids[512];
    size_t count = 0, bytes = 0;
    char out[4096];
    for (uint32_t flags = 0; flags < 4; flags++) {
        const pith_status status = pith_tokenizer_encode(tokenizer, text, PITH_TEXT_END, flags, ids, 512, &count, &error);
        fuzz::check_error(status, error);
        if (status != PITH_OK) continue;
        fuzz::check_error(pith_tokenizer_decode(tokenizer, ids, count, flags & 1, out, sizeof out, &bytes, &error), error);
    }
    const uint32_t vocabulary = pith_tokenizer_vocab_size(tokenizer);
    for (uint32_t i = 0; i < vocabulary && i < 300; i++) {
        const char* piece;
        fuzz::check_error(pith_tokenizer_piece(tokenizer, static_cast<pith_token>(i), &piece, &bytes, &error), error);
    }
    pith_tokenizer_destroy(tokenizer);
    return 0;
}
