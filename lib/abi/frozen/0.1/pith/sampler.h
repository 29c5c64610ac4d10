/** @file sampler.h
 *  @brief From a row of logits to a token. */
#ifndef PITH_SAMPLER_H
#define PITH_SAMPLER_H
#include <pith/tokenizer.h>
#ifdef __cplusplus
extern "C" {
#endif

/** @defgroup sampler Sampler
 *  An ordered list of steps, then one draw. Works on any float array; single-threaded, and a draw costs as few passes over the vocabulary
 *  as its steps allow.
 *  @{ */

/** A sampler. One thread at a time, any thread. Keeps its env alive. */
typedef struct pith_sampler pith_sampler;

/** What a step does. Unknown kinds are ::PITH_E_UNSUPPORTED, so are fields that a kind does not use and that are not zero. */
enum {
    /** value[0]: T, finite, at least 0: logits are divided by it. 0 keeps the largest logit only, 1 does nothing. */
    PITH_STEP_TEMPERATURE = 1,
    /** count[0]: k, the k largest logits are kept; 0: off. */
    PITH_STEP_TOP_K = 2,
    /** value[0]: p in (0, 1]: the fewest, most likely tokens whose probabilities sum to p or more are kept (Holtzman et al. 2019). */
    PITH_STEP_TOP_P = 3,
    /** value[0]: p in [0, 1]: tokens at least p times as likely as the most likely are kept (Nguyen et al. 2024). */
    PITH_STEP_MIN_P = 4,
    /** value[0]: repetition (positive logits are divided by it, others multiplied; 0 and 1: off; Keskar et al. 2019), value[1]: frequency
        (subtracted once for each occurrence), value[2]: presence (subtracted once). count[0]: the window, in tokens back from the last;
        0: all that is remembered. count[1]: decay, so many tokens before the window over which the penalties fade out. */
    PITH_STEP_PENALTIES = 5
};

/** One step. 64 bytes, frozen: it stands in arrays and can never grow. */
typedef struct pith_sampler_step {
    uint32_t          kind;        /**< PITH_STEP_*. */
    uint32_t          flags;       /**< 0. */
    float             value[4];    /**< As the kind says; the rest 0. */
    uint32_t          count[4];    /**< As the kind says; the rest 0. */
    const pith_token* tokens;      /**< For steps over listed tokens (none yet): token_count of them. */
    const float*      weights;     /**< One a token. */
    uint64_t          token_count; /**< Of tokens and weights. */
} pith_sampler_step;

/** Options of pith_sampler_create(). All zero: greedy. */
typedef struct pith_sampler_options {
    size_t                   struct_size; /**< sizeof(pith_sampler_options). */
    uint64_t                 seed;        /**< Draws are a function of the seed and the number of tokens recorded. */
    const pith_sampler_step* steps;       /**< Applied in this order, then one draw; copied. NULL with step_count 0: the largest logit. */
    uint32_t                 step_count;  /**< Of steps. */
    uint32_t                 vocab_size;  /**< Ids at or above it are never drawn; scratch is made for it. 0: 262144. */
    uint32_t                 history;     /**< Tokens remembered for penalties and rewinding; 0: 1024. */
    uint32_t                 flags;       /**< 0. */
} pith_sampler_options;

/** Makes a sampler; all its memory is allocated here. Any thread. @since 0.1
 *  @param env an env; kept alive.
 *  @param options NULL: greedy.
 *  @param[out] sampler the new sampler, or NULL on failure. The caller destroys it.
 *  @param[out] error details, naming step and field; may be NULL.
 *  @return ::PITH_OK, ::PITH_E_ARGUMENT, ::PITH_E_VERSION, ::PITH_E_UNSUPPORTED or ::PITH_E_MEMORY. */
PITH_API pith_status pith_sampler_create(pith_env* env, const pith_sampler_options* options, pith_sampler** sampler, pith_error* error);

/** Frees a sampler. NULL is fine. @since 0.1
 *  @param sampler a sampler that no thread is using. */
PITH_API void pith_sampler_destroy(pith_sampler* sampler);

/** Draws a token and records it. Ties go to the lowest id. On failure nothing is recorded. @since 0.1
 *  @param sampler a sampler.
 *  @param logits float32 [count]; -Inf: never drawn.
 *  @param count of logits; those at or above options.vocab_size are ignored.
 *  @param[out] token the id drawn.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK, ::PITH_E_ARGUMENT or ::PITH_E_NUMERIC (a NaN or +Inf, or nothing left to draw). */
PITH_API pith_status pith_sampler_sample(pith_sampler* sampler, const float* logits, size_t count, pith_token* token, pith_error* error);

/** Records tokens that were not drawn: a prompt's, or forced ones. @since 0.1
 *  @param sampler a sampler.
 *  @param tokens `count` ids.
 *  @param count 0 or more.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK or ::PITH_E_ARGUMENT; all are recorded or none. */
PITH_API pith_status pith_sampler_accept(pith_sampler* sampler, const pith_token* tokens, size_t count, pith_error* error);

/** Rewinds, as if only the first `length` tokens had been recorded. @since 0.1
 *  @param sampler a sampler.
 *  @param length at most the number of tokens recorded, and not further back than options.history allows.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK or ::PITH_E_ARGUMENT. */
PITH_API pith_status pith_sampler_truncate(pith_sampler* sampler, size_t length, pith_error* error);

/** @} */
#ifdef __cplusplus
}
#endif
#endif
