// <pith/tokenizer.h>: checks pointers and flags and hands over to lib/text.
#include <pith/tokenizer.h>

#include "api/env.h"
#include "base/status.h"
#include "parallel/fp_scope.h"
#include "text/tokenizer.h"

using namespace pith;

struct pith_tokenizer {
    explicit pith_tokenizer(pith_env* env_) : env(retain(env_)), text(env_->allocator) {}
    pith_env* env;
    Tokenizer text;
};

static_assert(sizeof(pith_stream) == sizeof(DecodeState) && sizeof(pith_stream) == 32);

namespace {

pith_status check_flags(uint32_t flags, uint32_t known, pith_error* error) {
    return flags & ~known ? fail(error, PITH_E_UNSUPPORTED, "flags: 0x%x is unknown", flags & ~known) : PITH_OK;
}

pith_status check_buffer(const char* text, size_t capacity, const size_t* size, pith_error* error) {
    if (!size) return fail(error, PITH_E_ARGUMENT, "size is NULL");
    if (!text && capacity) return fail(error, PITH_E_ARGUMENT, "text is NULL, capacity is %zu", capacity);
    return PITH_OK;
}

}  // namespace

pith_status pith_tokenizer_load(pith_env* env, const char* path, pith_tokenizer** tokenizer, pith_error* error) {
    if (!tokenizer) return fail(error, PITH_E_ARGUMENT, "tokenizer is NULL");
    *tokenizer = nullptr;
    if (!env) return fail(error, PITH_E_ARGUMENT, "env is NULL");
    if (!path) return fail(error, PITH_E_ARGUMENT, "path is NULL");
    pith_tokenizer* made = create<pith_tokenizer>(env->allocator, env);
    if (!made) return fail_memory(error, "the tokenizer", sizeof(pith_tokenizer));
    const FpScope fp;  // the files have numbers
    const pith_status status = made->text.load(env->files, path, error);
    if (status < 0) {
        pith_tokenizer_destroy(made);
        return status;
    }
    *tokenizer = made;
    return PITH_OK;
}

void pith_tokenizer_destroy(pith_tokenizer* tokenizer) {
    if (!tokenizer) return;
    pith_env* env = tokenizer->env;
    destroy(env->allocator, tokenizer);
    release(env);
}

uint32_t pith_tokenizer_vocab_size(const pith_tokenizer* tokenizer) { return tokenizer ? tokenizer->text.vocab_size() : 0; }

pith_token pith_tokenizer_special(const pith_tokenizer* tokenizer, int32_t which) {
    if (!tokenizer || which < PITH_TOKEN_BOS || which > PITH_TOKEN_UNK) return PITH_NO_TOKEN;
    return tokenizer->text.special(static_cast<SpecialToken>(which - PITH_TOKEN_BOS));
}

int32_t pith_tokenizer_is_end(const pith_tokenizer* tokenizer, pith_token token) { return tokenizer && tokenizer->text.is_end(token); }

pith_status pith_tokenizer_piece(const pith_tokenizer* tokenizer, pith_token token, const char** bytes, size_t* size, pith_error* error) {
    if (!tokenizer) return fail(error, PITH_E_ARGUMENT, "tokenizer is NULL");
    if (!bytes || !size) return fail(error, PITH_E_ARGUMENT, "%s is NULL", bytes ? "size" : "bytes");
    std::string_view piece;
    PITH_TRY(tokenizer->text.piece(token, &piece, error));
    *bytes = piece.data();
    *size = piece.size();
    return PITH_OK;
}

pith_status pith_tokenizer_encode(const pith_tokenizer* tokenizer, const char* text, size_t size, uint32_t flags, pith_token* tokens,
                                  size_t capacity, size_t* count, pith_error* error) {
    if (!tokenizer) return fail(error, PITH_E_ARGUMENT, "tokenizer is NULL");
    if (!text && size) return fail(error, PITH_E_ARGUMENT, "text is NULL");
    if (!tokens && capacity) return fail(error, PITH_E_ARGUMENT, "tokens is NULL, capacity is %zu", capacity);
    if (!count) return fail(error, PITH_E_ARGUMENT, "count is NULL");
    PITH_TRY(check_flags(flags, PITH_ENCODE_BOS | PITH_ENCODE_SPECIAL, error));
    if (size == PITH_TEXT_END) size = strlen(text);
    Array<int32_t> ids(tokenizer->env->allocator);
    const Tokenizer::EncodeOptions options = {(flags & PITH_ENCODE_BOS) != 0, (flags & PITH_ENCODE_SPECIAL) != 0};
    PITH_TRY(tokenizer->text.encode({text, size}, options, &ids, nullptr, error));
    *count = ids.size();
    if (ids.size() > capacity)
        return fail(error, PITH_E_BUFFER, "the text takes %zu tokens, the buffer has room for %zu", ids.size(), capacity);
    if (!ids.empty()) memcpy(tokens, ids.data(), ids.size() * sizeof(pith_token));
    return PITH_OK;
}

pith_status pith_tokenizer_decode(const pith_tokenizer* tokenizer, const pith_token* tokens, size_t count, uint32_t flags, char* text,
                                  size_t capacity, size_t* size, pith_error* error) {
    if (!tokenizer) return fail(error, PITH_E_ARGUMENT, "tokenizer is NULL");
    if (!tokens && count) return fail(error, PITH_E_ARGUMENT, "tokens is NULL, count is %zu", count);
    PITH_TRY(check_buffer(text, capacity, size, error));
    PITH_TRY(check_flags(flags, PITH_DECODE_SPECIAL, error));
    return tokenizer->text.decode(tokens, count, (flags & PITH_DECODE_SPECIAL) != 0, text, capacity, size, error);
}

pith_status pith_tokenizer_stream(const pith_tokenizer* tokenizer, pith_stream* stream, pith_token token, uint32_t flags, char* text,
                                  size_t capacity, size_t* size, pith_error* error) {
    if (!tokenizer) return fail(error, PITH_E_ARGUMENT, "tokenizer is NULL");
    if (!stream) return fail(error, PITH_E_ARGUMENT, "stream is NULL");
    PITH_TRY(check_buffer(text, capacity, size, error));
    PITH_TRY(check_flags(flags, PITH_DECODE_SPECIAL, error));
    DecodeState state;
    memcpy(&state, stream, sizeof state);
    PITH_TRY(tokenizer->text.stream(&state, token, (flags & PITH_DECODE_SPECIAL) != 0, text, capacity, size, error));
    memcpy(stream, &state, sizeof state);
    return PITH_OK;
}

pith_status pith_tokenizer_chat_template(const pith_tokenizer* tokenizer, const char** text, size_t* size, pith_error* error) {
    if (!tokenizer) return fail(error, PITH_E_ARGUMENT, "tokenizer is NULL");
    if (!text || !size) return fail(error, PITH_E_ARGUMENT, "%s is NULL", text ? "size" : "text");
    *text = tokenizer->text.chat_template().data();
    *size = tokenizer->text.chat_template().size();
    return PITH_OK;
}
