/** @file session.h
 *  @brief One sequence: its KV cache and the forward pass. */
#ifndef PITH_SESSION_H
#define PITH_SESSION_H
#include <pith/model.h>
#include <pith/sampler.h>
#include <pith/tokenizer.h>
#ifdef __cplusplus
extern "C" {
#endif

/** @defgroup session Session
 *  Tokens in, logits out. Everything is allocated at create; forward, sample and truncate allocate nothing. On one CPU tier the logits
 *  are the same, bit for bit, for every runner and every cutting of a prompt.
 *  @{ */

/** One sequence. One thread at a time, any thread; only pith_session_cancel() may come from others. Keeps its model alive. */
typedef struct pith_session pith_session;
struct pith_cuda_options;

/** Flags of ::pith_session_options. */
enum {
    PITH_SESSION_EXACT = 1,    /**< float32 activations and KV on the CPU: the reference path. */
    PITH_SESSION_RUN_AHEAD = 2 /**< On a GPU, sample also starts the next step with its token; any other call drops it. No effect on the
                                    CPU. */
};
/** How keys and values are kept. */
enum {
    PITH_KV_DEFAULT = 0, /**< F16, or F32 with ::PITH_SESSION_EXACT. */
    PITH_KV_F16     = 1, /**< 2 bytes a value. */
    PITH_KV_F32     = 2, /**< 4 bytes a value. */
    PITH_KV_Q8      = 3, /**< 8 bits with scales; ::PITH_E_UNSUPPORTED in this release. */
    PITH_KV_Q4      = 4  /**< 4 bits with scales; ::PITH_E_UNSUPPORTED in this release. */
};
/** How to wait for a GPU. */
enum {
    PITH_WAIT_BLOCK = 0, /**< Sleep. */
    PITH_WAIT_YIELD = 1, /**< Give the core away between looks. */
    PITH_WAIT_SPIN  = 2  /**< Burn the core for the least delay. */
};

/** Options of pith_session_create(). */
typedef struct pith_session_options {
    size_t                          struct_size;    /**< sizeof(pith_session_options). */
    const pith_runner*              runner;         /**< Copied. NULL: the env's. */
    const struct pith_cuda_options* cuda;           /**< NULL: the library's own stream. */
    uint32_t                        context_length; /**< Positions; 0: the model's. Length-dependent rope scaling follows it. */
    uint32_t                        batch_length;   /**< The most tokens computed at once; 0: 512 on the CPU, 2,048 on a GPU. */
    uint32_t                        logit_rows;     /**< The most rows of logits kept by one forward; 0: 1. */
    uint32_t                        k_type;         /**< PITH_KV_* of the keys. */
    uint32_t                        v_type;         /**< PITH_KV_* of the values. */
    uint32_t                        flags;          /**< PITH_SESSION_*. */
    uint32_t                        wait;           /**< PITH_WAIT_*, while a GPU works. */
    uint32_t                        reserved;       /**< 0. */
} pith_session_options;

/** What a session needs. */
typedef struct pith_session_info {
    size_t   struct_size;    /**< sizeof(pith_session_info), set by the caller. */
    uint64_t host_bytes;     /**< What create takes from the allocator, to the byte. */
    uint64_t device_bytes;   /**< The same on the device; 0 on the CPU. */
    uint32_t context_length; /**< Positions. */
    uint32_t batch_length;   /**< Tokens computed at once. */
} pith_session_info;

/** What pith_session_create() would allocate; allocates nothing. The model need not be loaded. @since 0.1
 *  @param model an opened model.
 *  @param options NULL: all defaults.
 *  @param[in,out] info filled in up to its struct_size.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK, ::PITH_E_ARGUMENT, ::PITH_E_VERSION, ::PITH_E_UNSUPPORTED or ::PITH_E_MEMORY (no machine has that much). */
PITH_API pith_status pith_session_plan(const pith_model* model, const pith_session_options* options, pith_session_info* info, pith_error* error);

/** Makes an empty sequence. Any thread. @since 0.1
 *  @param model a loaded model; kept alive.
 *  @param options NULL: all defaults.
 *  @param[out] session the new session, or NULL on failure. The caller destroys it.
 *  @param[out] error details; may be NULL.
 *  @return as pith_session_plan(), ::PITH_E_STATE if the model is not loaded, or ::PITH_E_DEVICE. */
PITH_API pith_status pith_session_create(const pith_model* model, const pith_session_options* options, pith_session** session, pith_error* error);

/** Frees a session. NULL is fine. @since 0.1
 *  @param session a session that no thread is using. */
PITH_API void pith_session_destroy(pith_session* session);

/** Describes a session: pith_session_plan() of what it was made with. @since 0.1
 *  @param session a session.
 *  @param[in,out] info filled in up to its struct_size.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK or ::PITH_E_ARGUMENT. */
PITH_API pith_status pith_session_get_info(const pith_session* session, pith_session_info* info, pith_error* error);

/** Appends tokens to the sequence and computes the logits of the last `rows` of them. All tokens are appended or none: after a failure
 *  the session is as it was, but that ::PITH_E_RUNNER loses the logits. On a GPU it may return before the work is done: its faults come with sample or logits. @since 0.1
 *  @param session a session.
 *  @param tokens `count` ids in [0, vocab_size).
 *  @param count at least 1.
 *  @param rows 0 to min(count, options.logit_rows); 1: the last position only.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK, ::PITH_E_ARGUMENT, ::PITH_E_CONTEXT, ::PITH_E_CANCELLED, ::PITH_E_RUNNER or ::PITH_E_DEVICE. */
PITH_API pith_status pith_session_forward(pith_session* session, const pith_token* tokens, size_t count, uint32_t rows, pith_error* error);

/** Draws a token from a row of logits, where they are. The token is recorded in the sampler, not appended to the session. @since 0.1
 *  @param session a session with logits.
 *  @param row below the `rows` of the last forward; 0 is the earliest position.
 *  @param sampler a sampler; any number of sessions may use it in turn.
 *  @param[out] token the id drawn.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK, ::PITH_E_ARGUMENT, ::PITH_E_STATE (no logits yet), ::PITH_E_NUMERIC or ::PITH_E_DEVICE. */
PITH_API pith_status pith_session_sample(pith_session* session, uint32_t row, pith_sampler* sampler, pith_token* token, pith_error* error);

/** The logits of the last forward. @since 0.1
 *  @param session a session.
 *  @param[out] logits float32 [rows][vocab_size], borrowed until the next call with this session.
 *  @param[out] rows how many; may be NULL.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK, ::PITH_E_ARGUMENT, ::PITH_E_STATE (the last forward kept none) or ::PITH_E_DEVICE. */
PITH_API pith_status pith_session_logits(pith_session* session, const float** logits, size_t* rows, pith_error* error);

/** How many tokens the sequence has. @since 0.1
 *  @param session a session; NULL gives 0.
 *  @return tokens. */
PITH_API size_t pith_session_length(const pith_session* session);

/** Forgets the tokens from `length` on, in no time. The logits stay those of the last forward. @since 0.1
 *  @param session a session.
 *  @param length at most pith_session_length().
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK or ::PITH_E_ARGUMENT. */
PITH_API pith_status pith_session_truncate(pith_session* session, size_t length, pith_error* error);

/** Stops a forward that runs and refuses new ones, until set back to 0. Any thread, any time while the session exists. Takes effect
 *  within one chunk of work on the CPU (the logits of one forward, once begun, are finished), one submission on a GPU. @since 0.1
 *  @param session a session; NULL is fine.
 *  @param on nonzero: stop; 0: go on. */
PITH_API void pith_session_cancel(pith_session* session, int32_t on);

/** @} */
#ifdef __cplusplus
}
#endif
#endif
