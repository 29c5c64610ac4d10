/** @file usage.h
 *  @brief What did you use? Counters of CPU, GPU, memory and time, and a trace. */
#ifndef PITH_USAGE_H
#define PITH_USAGE_H
#include <pith/session.h>
#ifdef __cplusplus
extern "C" {
#endif

/** @defgroup usage Usage
 *  An account of what the library used, for each session and over an env. It is always on. How each figure is taken, and what it does not
 *  say, is in docs/usage.md.
 *  @{ */

/** Engines of a GPU, which work at the same time. */
enum {
    PITH_ENGINE_NONE      = 0, /**< No GPU was used. */
    PITH_ENGINE_COMPUTE   = 1, /**< Kernels. */
    PITH_ENGINE_TO_DEVICE = 2, /**< Copies from the host. */
    PITH_ENGINE_TO_HOST   = 3  /**< Copies to the host. */
};

/** What was used, up to the last call that has returned. Counters only grow, so that the difference of two readings is what was used in
 *  between; the bytes held (`*_weights` to `*_staging`) are those of now. Times are in nanoseconds. */
typedef struct pith_usage {
    size_t   struct_size; /**< sizeof(pith_usage), set by the caller. */
    uint64_t time_ns;     /**< When this was read, on a clock that never goes back: what shares of time are taken of. */

    uint64_t wall_ns;       /**< Inside calls of Pith. Calls at the same time count each. */
    uint64_t cpu_caller_ns; /**< CPU time of the calling threads, inside. */
    uint64_t cpu_lent_ns;   /**< CPU time of other threads inside a runner's `fn`. */
    uint64_t wait_ns;       /**< wall_ns less cpu_caller_ns: the calling thread waited, for helpers, the GPU, the disk or a core. */

    uint64_t load_ns;    /**< Of wall_ns: opening and loading models, making sessions. */
    uint64_t prefill_ns; /**< Of wall_ns: forwards of several tokens. On a GPU they return early; see gpu_compute_ns. */
    uint64_t decode_ns;  /**< Of wall_ns: forwards of one token. */
    uint64_t sample_ns;  /**< Of wall_ns: draws, and waiting for a GPU's logits. */

    uint64_t tokens_prefilled; /**< Computed by forwards of several tokens. */
    uint64_t tokens_decoded;   /**< Computed by forwards of one token. */
    uint64_t tokens_drawn;     /**< Drawn by a sampler. */

    uint64_t regions_inline; /**< Parallel regions too small for helpers: done by the calling thread without asking. */
    uint64_t regions_lent;   /**< Regions that a runner was asked for. */
    uint64_t helpers_asked;  /**< Indices asked of runners, over those regions. */
    uint64_t helpers_came;   /**< Indices that were called. */
    uint64_t helpers_worked; /**< Indices that found work left to do. */

    uint64_t gpu_busy_ns;      /**< The busiest engine's, never the sum: the headline. */
    uint64_t gpu_compute_ns;   /**< The GPU's kernels ran. */
    uint64_t gpu_to_device_ns; /**< The GPU copied from the host. */
    uint64_t gpu_to_host_ns;   /**< The GPU copied to the host. */
    uint64_t gpu_submissions;  /**< Batches of a prompt, single tokens, draws and copies given to the GPU. */
    uint64_t bytes_to_device;  /**< Copied to the GPU. */
    uint64_t bytes_to_host;    /**< Copied from the GPU. */

    uint64_t host_weights;   /**< Bytes held now: weights and what describes them. A session's are its model's, shared. */
    uint64_t host_kv;        /**< Keys and values. */
    uint64_t host_scratch;   /**< Scratch and logits. */
    uint64_t host_staging;   /**< On the way to a GPU, or while a model loads. */
    uint64_t device_weights; /**< The same on the GPU. */
    uint64_t device_kv;      /**< Keys and values. */
    uint64_t device_scratch; /**< Scratch and logits. */
    uint64_t device_staging; /**< While a model loads. */

    uint32_t gpu_engine;      /**< PITH_ENGINE_*: the busiest. */
    uint32_t device;          /**< Where the session computes, as pith_env_device_info() counts; 0 for an env. */
    char     cpu_kernels[16]; /**< The instruction set of the CPU's kernels, such as "avx512". */
    char     device_name[64]; /**< Of `device`, as the device calls itself; UTF-8, terminated. */
} pith_usage;

/** What a session used. Any thread, at any time while the session exists. @since 0.2
 *  @param session a session.
 *  @param[in,out] usage filled in up to its struct_size.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK or ::PITH_E_ARGUMENT. */
PITH_API pith_status pith_session_get_usage(const pith_session* session, pith_usage* usage, pith_error* error);

/** What all that was made with an env used, objects that are gone included. Any thread, at any time. @since 0.2
 *  @param env an env.
 *  @param[in,out] usage filled in up to its struct_size.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK or ::PITH_E_ARGUMENT. */
PITH_API pith_status pith_env_get_usage(const pith_env* env, pith_usage* usage, pith_error* error);

/** Records from now on what happens when: each call, each region, each helper's share, and a GPU's work. An event takes 40 bytes; what does
 *  not fit is left out and counted. Start and stop it while no other call is using the env. @since 0.2
 *  @param env an env.
 *  @param memory of the caller's, which stays valid until the trace is stopped; NULL: stop.
 *  @param size of memory, at least 128 bytes; a trace that is there begins anew.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK or ::PITH_E_ARGUMENT. */
PITH_API pith_status pith_env_trace(pith_env* env, void* memory, size_t size, pith_error* error);

/** The events recorded so far, as JSON in Chrome's trace format, which Perfetto shows: sessions as processes, slots of regions and engines
 *  of a GPU as threads. Any thread; nothing is dropped by it. @since 0.2
 *  @param env an env that records a trace.
 *  @param[out] text UTF-8, not terminated; may be NULL if capacity is 0.
 *  @param capacity of text, in bytes.
 *  @param[out] size what the whole takes.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK, ::PITH_E_ARGUMENT, ::PITH_E_STATE (no trace is being recorded) or ::PITH_E_BUFFER. */
PITH_API pith_status pith_env_trace_json(const pith_env* env, char* text, size_t capacity, size_t* size, pith_error* error);

/** @} */
#ifdef __cplusplus
}
#endif
#endif
