/** @file tokenizer.h
 *  @brief Text to tokens and back, from tokenizer.json. */
#ifndef PITH_TOKENIZER_H
#define PITH_TOKENIZER_H
#include <pith/env.h>
#ifdef __cplusplus
extern "C" {
#endif

/** @defgroup tokenizer Tokenizer
 *  Byte-level and SentencePiece-style BPE as Hugging Face folders store them; ids are those of the `tokenizers` package. Text that
 *  looks like a special token is only text unless the caller asks otherwise.
 *  @{ */

/** A vocabulary and its rules. Immutable: any number of threads at once. Independent of models. Keeps its env alive. */
typedef struct pith_tokenizer pith_tokenizer;
/** A token's id: 0 or more. */
typedef int32_t pith_token;
#define PITH_NO_TOKEN (-1)           /**< Not a token. */
#define PITH_TEXT_END ((size_t)-1)   /**< As a text's length: it ends at its first NUL. */

/** Flags of decoding. */
enum {
    PITH_DECODE_SPECIAL = 1 /**< Special tokens as text; default: skipped. */
};
/** Flags of encoding. */
enum {
    PITH_ENCODE_BOS     = 1, /**< Add what the model expects before a text, such as a begin-of-text token. */
    PITH_ENCODE_SPECIAL = 2  /**< Special tokens written in the text become those tokens; default: they stay text. */
};
/** Special tokens that pith_tokenizer_special() knows. */
enum {
    PITH_TOKEN_BOS = 1, /**< Begin of text. */
    PITH_TOKEN_EOS = 2, /**< End of text. */
    PITH_TOKEN_PAD = 3, /**< Padding. */
    PITH_TOKEN_UNK = 4  /**< Unknown. */
};

/** State of pith_tokenizer_stream(): zero it to start. 32 bytes, frozen; may be copied. */
typedef struct pith_stream {
    uint8_t  held[24]; /**< Bytes of a code point that is not whole yet. */
    uint32_t count;    /**< Of held. */
    uint32_t state;    /**< What has been seen of the text. */
} pith_stream;

/** Loads a tokenizer. Any thread. @since 0.1
 *  @param env an env; kept alive.
 *  @param path a model's folder, or a tokenizer.json; UTF-8.
 *  @param[out] tokenizer the new tokenizer, or NULL on failure. The caller destroys it.
 *  @param[out] error details, naming file and field; may be NULL.
 *  @return ::PITH_OK, ::PITH_E_ARGUMENT, ::PITH_E_MEMORY, ::PITH_E_IO, ::PITH_E_FORMAT, ::PITH_E_UNSUPPORTED or ::PITH_E_LIMIT. */
PITH_API pith_status pith_tokenizer_load(pith_env* env, const char* path, pith_tokenizer** tokenizer, pith_error* error);

/** Frees a tokenizer. NULL is fine. @since 0.1
 *  @param tokenizer a tokenizer that no thread is using. */
PITH_API void pith_tokenizer_destroy(pith_tokenizer* tokenizer);

/** One more than the largest id. A model may have more rows than that. @since 0.1
 *  @param tokenizer a tokenizer; NULL gives 0.
 *  @return ids. */
PITH_API uint32_t pith_tokenizer_vocab_size(const pith_tokenizer* tokenizer);

/** The id of a special token. @since 0.1
 *  @param tokenizer a tokenizer.
 *  @param which PITH_TOKEN_*.
 *  @return the id, or ::PITH_NO_TOKEN if there is none. */
PITH_API pith_token pith_tokenizer_special(const pith_tokenizer* tokenizer, int32_t which);

/** Whether generation ends with this token: any end that the folder's configs list. @since 0.1
 *  @param tokenizer a tokenizer.
 *  @param token any value.
 *  @return 1 or 0. */
PITH_API int32_t pith_tokenizer_is_end(const pith_tokenizer* tokenizer, pith_token token);

/** The bytes that a token stands for; not always whole UTF-8. @since 0.1
 *  @param tokenizer a tokenizer.
 *  @param token an id below pith_tokenizer_vocab_size().
 *  @param[out] bytes borrowed from the tokenizer, not terminated.
 *  @param[out] size of bytes.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK or ::PITH_E_ARGUMENT. */
PITH_API pith_status pith_tokenizer_piece(const pith_tokenizer* tokenizer, pith_token token, const char** bytes, size_t* size, pith_error* error);

/** Text to tokens, in O(n log n). Invalid UTF-8 becomes U+FFFD, as Python's decode("utf-8", "replace") has it. @since 0.1
 *  @param tokenizer a tokenizer.
 *  @param text UTF-8; need not be terminated unless size is ::PITH_TEXT_END.
 *  @param size bytes, or ::PITH_TEXT_END.
 *  @param flags PITH_ENCODE_*.
 *  @param[out] tokens room for `capacity` ids; may be NULL if that is 0.
 *  @param capacity of tokens.
 *  @param[out] count ids written, or with ::PITH_E_BUFFER the capacity needed.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK, ::PITH_E_ARGUMENT, ::PITH_E_UNSUPPORTED (unknown flags), ::PITH_E_BUFFER, ::PITH_E_MEMORY, ::PITH_E_FORMAT (the text
 *  needs an unknown-token that the vocabulary lacks) or ::PITH_E_LIMIT (a pattern of the file's takes too long). */
PITH_API pith_status pith_tokenizer_encode(const pith_tokenizer* tokenizer, const char* text, size_t size, uint32_t flags, pith_token* tokens,
                                           size_t capacity, size_t* count, pith_error* error);

/** Tokens to text. @since 0.1
 *  @param tokenizer a tokenizer.
 *  @param tokens `count` ids below pith_tokenizer_vocab_size().
 *  @param count 0 or more.
 *  @param flags PITH_DECODE_*.
 *  @param[out] text room for `capacity` bytes, not terminated; may be NULL if that is 0.
 *  @param capacity of text.
 *  @param[out] size bytes written, or with ::PITH_E_BUFFER the capacity needed.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK, ::PITH_E_ARGUMENT, ::PITH_E_UNSUPPORTED (unknown flags) or ::PITH_E_BUFFER; allocates nothing. */
PITH_API pith_status pith_tokenizer_decode(const pith_tokenizer* tokenizer, const pith_token* tokens, size_t count, uint32_t flags, char* text,
                                           size_t capacity, size_t* size, pith_error* error);

/** One token at a time to text: whole code points only, what is not whole is held back. All pieces together are what
 *  pith_tokenizer_decode() gives for all tokens. @since 0.1
 *  @param tokenizer a tokenizer.
 *  @param stream state, zeroed before the first token; unchanged by a failure.
 *  @param token an id, or ::PITH_NO_TOKEN to flush.
 *  @param flags PITH_DECODE_*.
 *  @param[out] text room for `capacity` bytes, not terminated; may be NULL if that is 0.
 *  @param capacity of text.
 *  @param[out] size bytes written (0 is common), or with ::PITH_E_BUFFER the capacity needed.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK, ::PITH_E_ARGUMENT, ::PITH_E_UNSUPPORTED (unknown flags) or ::PITH_E_BUFFER. */
PITH_API pith_status pith_tokenizer_stream(const pith_tokenizer* tokenizer, pith_stream* stream, pith_token token, uint32_t flags, char* text,
                                           size_t capacity, size_t* size, pith_error* error);

/** The model's chat template, a Jinja text. @since 0.1
 *  @param tokenizer a tokenizer.
 *  @param[out] text borrowed from the tokenizer, not terminated; "" if there is none.
 *  @param[out] size bytes of text; 0: there is none.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK or ::PITH_E_ARGUMENT. */
PITH_API pith_status pith_tokenizer_chat_template(const pith_tokenizer* tokenizer, const char** text, size_t* size, pith_error* error);

/** @} */
#ifdef __cplusplus
}
#endif
#endif
