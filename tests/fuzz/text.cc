// Any text through real tokenizers: encode, decode, stream. The first byte chooses the tokenizer and the flags.
#include "fuzz.h"

namespace {

struct Loaded {
    fuzz::Folder folder;
    std::vector<pith_tokenizer*> tokenizers;
    pith_env* env = nullptr;
    Loaded() {
        pith_env_create(nullptr, &env, nullptr);
        for (const char* path : {PITH_FUZZ_TOKENIZERS}) {
            pith_tokenizer* t = nullptr;
            pith_error error{};
            if (pith_tokenizer_load(env, path, &t, &error) != PITH_OK) {
                fprintf(stderr, "%s: %s\n", path, error.message);
                abort();
            }
            tokenizers.push_back(t);
        }
    }
    ~Loaded() {
        for (pith_tokenizer* t : tokenizers) pith_tokenizer_destroy(t);
        pith_env_destroy(env);
    }
};

// Streamed piece by piece, through a buffer that is sometimes too small, the text is what decode gives at once.
void check_stream(const pith_tokenizer* t, const std::vector<pith_token>& ids, uint32_t flags) {
    pith_error error{};
    size_t size = 0;
    pith_status status = pith_tokenizer_decode(t, ids.data(), ids.size(), flags, nullptr, 0, &size, &error);
    if (status != PITH_OK && status != PITH_E_BUFFER) __builtin_trap();
    std::string whole(size, 0), pieces;
    if (pith_tokenizer_decode(t, ids.data(), ids.size(), flags, whole.data(), size, &size, &error) != PITH_OK) __builtin_trap();
    pith_stream stream{};
    for (size_t i = 0; i <= ids.size(); i++) {
        const pith_token token = i < ids.size() ? ids[i] : PITH_NO_TOKEN;
        char small[3];
        std::string room;
        status = pith_tokenizer_stream(t, &stream, token, flags, small, sizeof small, &size, &error);
        if (status == PITH_E_BUFFER) {
            room.resize(size);
            status = pith_tokenizer_stream(t, &stream, token, flags, room.data(), room.size(), &size, &error);
            pieces.append(room, 0, size);
        } else {
            pieces.append(small, size);
        }
        if (status != PITH_OK) __builtin_trap();
    }
    if (pieces != whole) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static Loaded loaded;
    if (size == 0) return 0;
    const pith_tokenizer* t = loaded.tokenizers[data[0] % loaded.tokenizers.size()];
    const uint32_t flags = data[0] >> 6;
    const char* text = reinterpret_cast<const char*>(data + 1);
    pith_error error{};
    size_t count = 0;
    std::vector<pith_token> ids(size * 4 + 16);
    const pith_status status = pith_tokenizer_encode(t, text, size - 1, flags, ids.data(), ids.size(), &count, &error);
    fuzz::check_error(status, error);
    if (status == PITH_OK) {
        ids.resize(count);
        check_stream(t, ids, 0);
        check_stream(t, ids, PITH_DECODE_SPECIAL);
    }
    // The bytes as ids: any order of tokens decodes.
    ids.clear();
    const uint32_t vocabulary = pith_tokenizer_vocab_size(t);
    for (size_t i = 1; i + 1 < size; i += 2) ids.push_back(static_cast<pith_token>((data[i] | data[i + 1] << 8) % vocabulary));
    check_stream(t, ids, flags & PITH_DECODE_SPECIAL);
    return 0;
}
