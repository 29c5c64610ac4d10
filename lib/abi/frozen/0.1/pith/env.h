/** @file env.h
 *  @brief What the host lends the library: memory, threads, files, a log. */
#ifndef PITH_ENV_H
#define PITH_ENV_H
#include <pith/base.h>
#ifdef __cplusplus
extern "C" {
#endif

/** @defgroup env Environment
 *  Host services and devices. Every struct of options starts with its size, and zero is every field's default.
 *  @{ */

/** Host services, shared by all objects made with it. Reference counted: objects keep it alive. Any thread. */
typedef struct pith_env pith_env;

/** The caller's memory. Both functions are called from the threads that call Pith, never from inside a runner's call. */
typedef struct pith_allocator {
    size_t struct_size; /**< sizeof(pith_allocator). */
    void*  user;        /**< Handed to the functions; outlives the env. */
    void* (*alloc)(void* user, size_t size, size_t alignment);              /**< Alignment is a power of two. NULL: out of memory. */
    void  (*free)(void* user, void* memory, size_t size, size_t alignment); /**< Size and alignment as given to alloc; memory is not NULL. */
} pith_allocator;

/** What a runner calls: one slot's share of a region. */
typedef void (*pith_task_fn)(void* task, uint32_t index);

/** The caller's threads, lent for the length of a call. The contract is in docs/threading.md: run() calls `fn(task, i)` at most once for
 *  each i in [0, count), on any threads in any order (the calling one too), may leave any of them out, and returns only when every call
 *  it started has returned. It is not called from inside `fn`. */
typedef struct pith_runner {
    size_t   struct_size; /**< sizeof(pith_runner). */
    void*    user;        /**< Handed to run; outlives the objects that use the runner. */
    void   (*run)(void* user, pith_task_fn fn, void* task, uint32_t count); /**< Lend up to `count` threads. */
    uint32_t width;       /**< The most indices worth asking for, 1 to 256: the pool's threads, the caller's included. */
    uint32_t flags;       /**< 0. */
} pith_runner;

/** Where bytes come from: a pak file, an APK, memory. Functions return 0, or anything else for failure. */
typedef struct pith_files {
    size_t  struct_size; /**< sizeof(pith_files). */
    void*   user;        /**< Handed to the functions; outlives the env. */
    int32_t (*open)(void* user, const char* name, void** file, uint64_t* size); /**< `name`: the path given to a load, "/" and a file's name. */
    int32_t (*read)(void* user, void* file, uint64_t offset, void* to, size_t size); /**< Exactly `size` bytes, or failure. */
    void    (*close)(void* user, void* file); /**< Once for every file opened. */
} pith_files;

/** Levels of a log record. */
enum {
    PITH_LOG_ERROR   = 1, /**< Something failed. */
    PITH_LOG_WARNING = 2, /**< Something is odd and may be wrong. */
    PITH_LOG_INFO    = 3, /**< What was chosen. */
    PITH_LOG_DEBUG   = 4  /**< For the library's developers. */
};
/** Takes one whole record, UTF-8, not NUL-terminated, without a newline. Called on threads that call Pith. */
typedef void (*pith_log_fn)(void* user, int32_t level, const char* text, size_t size);

/** Options of pith_env_create(). The structs pointed to are copied. */
typedef struct pith_env_options {
    size_t                struct_size; /**< sizeof(pith_env_options). */
    const pith_allocator* allocator;   /**< NULL: aligned malloc. */
    const pith_runner*    runner;      /**< NULL: all work on the calling thread. Sessions may bring their own. */
    const pith_files*     files;       /**< NULL: the operating system's files. */
    pith_log_fn           log;         /**< NULL: silence; there is no default sink. */
    void*                 log_user;    /**< Handed to log. */
} pith_env_options;

/** Kinds of devices. */
enum {
    PITH_DEVICE_CPU  = 1, /**< The processor that the library runs on. */
    PITH_DEVICE_CUDA = 2  /**< An NVIDIA GPU. */
};

/** What is known of a device. */
typedef struct pith_device_info {
    size_t   struct_size;  /**< sizeof(pith_device_info), set by the caller. */
    uint64_t memory_total; /**< Bytes; 0: unknown. */
    uint64_t memory_free;  /**< Bytes free now; 0: unknown. */
    int32_t  kind;         /**< PITH_DEVICE_*. */
    uint32_t reserved;     /**< 0. */
    uint8_t  uuid[16];     /**< To find the renderer's GPU; zero: unknown. */
    uint8_t  luid[8];      /**< The same on Windows; zero: unknown. */
    char     name[64];     /**< UTF-8, terminated. */
} pith_device_info;

/** Makes an env. Any thread. @since 0.1
 *  @param options NULL: all defaults.
 *  @param[out] env the new env, or NULL on failure. The caller destroys it.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK, ::PITH_E_ARGUMENT, ::PITH_E_VERSION, ::PITH_E_UNSUPPORTED (unknown flags) or ::PITH_E_MEMORY. */
PITH_API pith_status pith_env_create(const pith_env_options* options, pith_env** env, pith_error* error);

/** Gives up the caller's reference; the env goes when the last object made with it does. Any thread. NULL is fine. @since 0.1
 *  @param env an env. */
PITH_API void pith_env_destroy(pith_env* env);

/** Loads a backend plug-in (libpith_cuda), before the env is shared between threads. Its devices follow those there are; without a driver
 *  or a GPU there are none, which is no failure. Loading it again does nothing. It stays loaded until the process ends. @since 0.1
 *  @param env an env.
 *  @param library_path exactly the file to load, UTF-8; nothing is searched. A name without a folder: the file of that name beside this
 *  library.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK (also if it finds no device), ::PITH_E_ARGUMENT, ::PITH_E_IO (it can't be loaded), ::PITH_E_VERSION (another release's),
 *  ::PITH_E_UNSUPPORTED (no Pith backend, or a driver too old), ::PITH_E_DEVICE (a driver that does not start) or ::PITH_E_MEMORY. */
PITH_API pith_status pith_env_load_backend(pith_env* env, const char* library_path, pith_error* error);

/** How many devices there are, at least 1: device 0 is the CPU, the others follow best first. Any thread. @since 0.1
 *  @param env an env; NULL gives 0.
 *  @return the count. */
PITH_API uint32_t pith_env_device_count(const pith_env* env);

/** Describes a device. Any thread. @since 0.1
 *  @param env an env.
 *  @param device below pith_env_device_count().
 *  @param[in,out] info filled in up to its struct_size.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK or ::PITH_E_ARGUMENT. */
PITH_API pith_status pith_env_device_info(const pith_env* env, uint32_t device, pith_device_info* info, pith_error* error);

/** Tries a runner out: a few milliseconds of regions that look for breaches of the contract. An index called twice or out of range is
 *  always found; calls that start late or are left running, where they overlap the check. Any thread, one check an env at a time. @since 0.1
 *  @param env an env; outlives every call of the runner.
 *  @param runner the runner to try.
 *  @param[out] error details; may be NULL.
 *  @return ::PITH_OK, ::PITH_E_RUNNER, ::PITH_E_ARGUMENT, ::PITH_E_VERSION, ::PITH_E_UNSUPPORTED or ::PITH_E_STATE (another check is on). */
PITH_API pith_status pith_runner_check(pith_env* env, const pith_runner* runner, pith_error* error);

/** @} */
#ifdef __cplusplus
}
#endif
#endif
