/** @file model.h
 *  @brief Weights: opened, loaded in steps, shared. */
#ifndef PITH_MODEL_H
#define PITH_MODEL_H
#include <pith/env.h>
#ifdef __cplusplus
extern "C" {
#endif

/** @defgroup model Model
 *  A Hugging Face folder: config.json and safetensors. Opening reads headers, config, g_idx and zero points only, so that every size is known before
 *  a weight is read; loading is the caller's loop.
 *  @{ */

/** Weights. One thread at a time until loaded, then any number at once. Reference counted: sessions keep it alive. */
typedef struct pith_model pith_model;

struct pith_cuda_options;

/** Flags of ::pith_model_options. */
enum {
    PITH_MODEL_MMAP = 1, /**< Map the files instead of reading them (the system's files only). One that is truncated meanwhile ends the
                              process (SIGBUS), hence not the default. */
    PITH_MODEL_SCAN = 2  /**< Also search every float tensor for NaN and Inf; the scales of quantised ones always are. */
};

/** Options of pith_model_open(). */
typedef struct pith_model_options {
    size_t                          struct_size; /**< sizeof(pith_model_options). */
    const struct pith_cuda_options* cuda;        /**< NULL: defaults. Fixes the context; see cuda.h. */
    uint32_t                        device;      /**< 0: the CPU. */
    uint32_t                        flags;       /**< PITH_MODEL_*. */
} pith_model_options;

/** What a model is and needs. */
typedef struct pith_model_info {
    size_t   struct_size;      /**< sizeof(pith_model_info), set by the caller. */
    uint64_t parameters;       /**< Weights that the file stands for; a tied embedding counts once. */
    uint64_t host_bytes;       /**< What the loaded model holds of the allocator, to the byte. While it loads there is, besides, staging for
                                    its largest quantised matrix. */
    uint64_t device_bytes;     /**< The same on the device; 0 on the CPU. */
    uint32_t vocab_size;       /**< Rows of the head: token ids are below it. */
    uint32_t context_length;   /**< Positions that the model was trained for. */
    uint32_t layers;           /**< Decoder layers. */
    uint32_t device;           /**< Where it runs, as pith_env_device_info() counts; 0: the CPU. */
    char     architecture[64]; /**< As config.json names it, such as "LlamaForCausalLM". */
} pith_model_info;

/** Opens and checks a model's folder; reads no weight. Any thread. @since 0.1
 *  @param env an env; kept alive.
 *  @param path the folder, UTF-8.
 *  @param options NULL: all defaults.
 *  @param[out] model the new model, or NULL on failure. The caller destroys it.
 *  @param[out] error details, naming file and tensor; may be NULL.
 *  @return ::PITH_OK, ::PITH_E_ARGUMENT, ::PITH_E_VERSION, ::PITH_E_MEMORY, ::PITH_E_IO, ::PITH_E_FORMAT, ::PITH_E_UNSUPPORTED,
 *  ::PITH_E_LIMIT or ::PITH_E_DEVICE. */
PITH_API pith_status pith_model_open(pith_env* env, const char* path, const pith_model_options* options, pith_model** model, pith_error* error);

/** Moves about `budget` bytes of weights from the files into place. Call it until nothing is left; progress and stopping are the
 *  caller's. After a failure it can be called again and goes on where it was. @since 0.1
 *  @param model an opened model; no other thread uses it.
 *  @param budget bytes; 0: all that is left.
 *  @param[out] left bytes still to move; 0: loaded. May be NULL.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK, ::PITH_E_ARGUMENT, ::PITH_E_MEMORY, ::PITH_E_IO, ::PITH_E_FORMAT (NaN or Inf; the file was changed), ::PITH_E_RUNNER or
 *  ::PITH_E_DEVICE. */
PITH_API pith_status pith_model_load(pith_model* model, uint64_t budget, uint64_t* left, pith_error* error);

/** Describes a model, opened or loaded. @since 0.1
 *  @param model a model.
 *  @param[in,out] info filled in up to its struct_size.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK or ::PITH_E_ARGUMENT. */
PITH_API pith_status pith_model_get_info(const pith_model* model, pith_model_info* info, pith_error* error);

/** Gives up the caller's reference; the model goes with its last session. Any thread. NULL is fine. @since 0.1
 *  @param model a model. */
PITH_API void pith_model_destroy(pith_model* model);

/** @} */
#ifdef __cplusplus
}
#endif
#endif
