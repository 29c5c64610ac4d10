/* <pith/tokenizer.h>. argv[1]: the demo model. */
#include "capi.h"

static const char* folder;

static void test_text(void) {
    static const pith_token expected[] = {48, 1293, 685, 260, 581};
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_tokenizer* tokenizer = NULL;
    pith_token ids[64];
    pith_stream stream = {{0}, 0, 0};
    size_t count = 0, size = 0, total = 0, i;
    char text[256], streamed[256];
    const char* piece = NULL;
    WORKS(pith_tokenizer_load(env, folder, &tokenizer, &error));
    CHECK(pith_tokenizer_vocab_size(tokenizer) == 8192);
    CHECK(pith_tokenizer_special(tokenizer, PITH_TOKEN_BOS) == 0);
    CHECK(pith_tokenizer_special(tokenizer, PITH_TOKEN_EOS) == 1);
    CHECK(pith_tokenizer_special(tokenizer, PITH_TOKEN_PAD) == PITH_NO_TOKEN);
    CHECK(pith_tokenizer_special(tokenizer, 99) == PITH_NO_TOKEN);
    CHECK(pith_tokenizer_is_end(tokenizer, 1) == 1);
    CHECK(pith_tokenizer_is_end(tokenizer, 2) == 0);
    CHECK(pith_tokenizer_is_end(tokenizer, -5) == 0);
    WORKS(pith_tokenizer_encode(tokenizer, "Once upon a time", PITH_TEXT_END, 0, ids, 64, &count, &error));
    CHECK(count == 5 && memcmp(ids, expected, sizeof expected) == 0);
    WORKS(pith_tokenizer_encode(tokenizer, "Once upon a time, not this", 16, PITH_ENCODE_BOS, ids, 64, &count, &error));
    CHECK(count == 6 && ids[0] == 0 && memcmp(ids + 1, expected, sizeof expected) == 0);
    /* A special token's text is text, unless asked for. */
    WORKS(pith_tokenizer_encode(tokenizer, "<|eos|>", PITH_TEXT_END, 0, ids, 64, &count, &error));
    CHECK(count > 1);
    WORKS(pith_tokenizer_encode(tokenizer, "<|eos|>", PITH_TEXT_END, PITH_ENCODE_SPECIAL, ids, 64, &count, &error));
    CHECK(count == 1 && ids[0] == 1);
    WORKS(pith_tokenizer_encode(tokenizer, "", 0, 0, NULL, 0, &count, &error));
    EXPECT(pith_tokenizer_encode(tokenizer, "x", ((size_t)1 << 30) + 1, 0, ids, 64, &count, &error), PITH_E_LIMIT, "a text of 1073741825 bytes");
    CHECK(count == 0);
    /* Too small: nothing but the need. */
    EXPECT(pith_tokenizer_encode(tokenizer, "Once upon a time", PITH_TEXT_END, 0, ids, 3, &count, &error), PITH_E_BUFFER, "");
    CHECK(count == 5);
    WORKS(pith_tokenizer_encode(tokenizer, "na\xc3\xafve \xf0\x9f\x99\x82 caf\xc3\xa9", PITH_TEXT_END, 0, ids, 64, &count, &error));
    WORKS(pith_tokenizer_decode(tokenizer, ids, count, 0, text, sizeof text, &size, &error));
    CHECK(size == 17 && memcmp(text, "na\xc3\xafve \xf0\x9f\x99\x82 caf\xc3\xa9", 17) == 0);
    EXPECT(pith_tokenizer_decode(tokenizer, ids, count, 0, text, 4, &size, &error), PITH_E_BUFFER, "");
    CHECK(size == 17);
    for (i = 0; i <= count; i++) {
        const pith_token token = i < count ? ids[i] : PITH_NO_TOKEN;
        pith_stream before = stream;
        if (pith_tokenizer_stream(tokenizer, &stream, token, 0, NULL, 0, &size, &error) == PITH_E_BUFFER) {
            CHECK(memcmp(&before, &stream, sizeof stream) == 0);
            CHECK(size > 0 && size < sizeof streamed);
            WORKS(pith_tokenizer_stream(tokenizer, &stream, token, 0, streamed + total, sizeof streamed - total, &size, &error));
        }
        CHECK(size == 0 || ((unsigned char)streamed[total] & 0xc0) != 0x80); /* never in the middle of a code point */
        total += size;
    }
    CHECK(total == 17 && memcmp(streamed, text, 4) == 0 && memcmp(streamed, "na\xc3\xafve \xf0\x9f\x99\x82 caf\xc3\xa9", 17) == 0);
    WORKS(pith_tokenizer_piece(tokenizer, 1293, &piece, &size, &error));
    CHECK(size > 0 && piece != NULL);
    WORKS(pith_tokenizer_chat_template(tokenizer, &piece, &size, &error));
    CHECK(size > 10 && memcmp(piece, "{{ bos_token }}", 15) == 0);
    pith_env_destroy(env);
    pith_tokenizer_destroy(tokenizer);
    CHECK(heap.live == 0 && heap.blocks == 0);
}

static void test_errors(void) {
    pith_error error;
    capi_heap heap;
    pith_env* env = capi_env(&heap, NULL, NULL);
    pith_tokenizer* tokenizer = NULL;
    pith_token ids[4] = {5, 8192, 5, 5};
    pith_stream stream = {{0}, 0, 0};
    char text[64];
    const char* piece;
    size_t size;
    EXPECT(pith_tokenizer_load(NULL, folder, &tokenizer, &error), PITH_E_ARGUMENT, "env is NULL");
    EXPECT(pith_tokenizer_load(env, NULL, &tokenizer, &error), PITH_E_ARGUMENT, "path is NULL");
    EXPECT(pith_tokenizer_load(env, folder, NULL, &error), PITH_E_ARGUMENT, "tokenizer is NULL");
    EXPECT(pith_tokenizer_load(env, "/no/such/folder", &tokenizer, &error), PITH_E_IO, "tokenizer.json");
    CHECK(tokenizer == NULL);
    CHECK(pith_tokenizer_vocab_size(NULL) == 0);
    CHECK(pith_tokenizer_special(NULL, PITH_TOKEN_BOS) == PITH_NO_TOKEN);
    CHECK(pith_tokenizer_is_end(NULL, 1) == 0);
    WORKS(pith_tokenizer_load(env, folder, &tokenizer, &error));
    EXPECT(pith_tokenizer_encode(NULL, "x", 1, 0, ids, 4, &size, &error), PITH_E_ARGUMENT, "tokenizer is NULL");
    EXPECT(pith_tokenizer_encode(tokenizer, NULL, 1, 0, ids, 4, &size, &error), PITH_E_ARGUMENT, "text is NULL");
    EXPECT(pith_tokenizer_encode(tokenizer, "x", 1, 0, NULL, 4, &size, &error), PITH_E_ARGUMENT, "tokens is NULL");
    EXPECT(pith_tokenizer_encode(tokenizer, "x", 1, 0, ids, 4, NULL, &error), PITH_E_ARGUMENT, "count is NULL");
    EXPECT(pith_tokenizer_encode(tokenizer, "x", 1, 1u << 9, ids, 4, &size, &error), PITH_E_UNSUPPORTED, "flags");
    EXPECT(pith_tokenizer_decode(tokenizer, ids, 4, 0, text, sizeof text, &size, &error), PITH_E_ARGUMENT, "8192");
    EXPECT(pith_tokenizer_decode(tokenizer, NULL, 4, 0, text, sizeof text, &size, &error), PITH_E_ARGUMENT, "tokens is NULL");
    EXPECT(pith_tokenizer_decode(NULL, ids, 1, 0, text, sizeof text, &size, &error), PITH_E_ARGUMENT, "tokenizer is NULL");
    EXPECT(pith_tokenizer_decode(tokenizer, ids, 1, 1u << 9, text, sizeof text, &size, &error), PITH_E_UNSUPPORTED, "flags");
    EXPECT(pith_tokenizer_stream(tokenizer, NULL, 5, 0, text, sizeof text, &size, &error), PITH_E_ARGUMENT, "stream is NULL");
    EXPECT(pith_tokenizer_stream(tokenizer, &stream, 9999, 0, text, sizeof text, &size, &error), PITH_E_ARGUMENT, "9999");
    EXPECT(pith_tokenizer_stream(NULL, &stream, 5, 0, text, sizeof text, &size, &error), PITH_E_ARGUMENT, "tokenizer is NULL");
    EXPECT(pith_tokenizer_piece(tokenizer, -1, &piece, &size, &error), PITH_E_ARGUMENT, "-1");
    EXPECT(pith_tokenizer_piece(NULL, 1, &piece, &size, &error), PITH_E_ARGUMENT, "tokenizer is NULL");
    EXPECT(pith_tokenizer_chat_template(NULL, &piece, &size, &error), PITH_E_ARGUMENT, "tokenizer is NULL");
    pith_tokenizer_destroy(tokenizer);
    pith_tokenizer_destroy(NULL);
    pith_env_destroy(env);
    CHECK(heap.live == 0);
}

int main(int argc, char** argv) {
    capi_use();
    if (argc < 2) return 2;
    folder = argv[1];
    test_text();
    test_errors();
    return capi_end();
}
