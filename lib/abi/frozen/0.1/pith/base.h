/** @file base.h
 *  @brief Status codes, errors and the version. */
#ifndef PITH_BASE_H
#define PITH_BASE_H
#include <stddef.h>
#include <stdint.h>

/** @defgroup base Status and version
 *  Every call that can fail returns a ::pith_status and takes a ::pith_error pointer last.
 *  @{ */

#define PITH_VERSION_MAJOR 0 /**< Changes when the ABI does (from 1.0 on). */
#define PITH_VERSION_MINOR 1 /**< Changes when something is added. */
#define PITH_VERSION_PATCH 0 /**< Changes when something is mended. */

/** @def PITH_API
 *  Marks a function that the shared library exports. */
#if defined(PITH_STATIC)
#  define PITH_API
#elif defined(_WIN32)
#  ifdef PITH_BUILDING
#    define PITH_API __declspec(dllexport)
#  else
#    define PITH_API __declspec(dllimport)
#  endif
#else
#  define PITH_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** 0 (::PITH_OK), ::PITH_PENDING, or a negative `PITH_E_*`. The values never change. */
typedef int32_t pith_status;

/** Values of ::pith_status. */
enum {
    PITH_OK            = 0,   /**< It worked. */
    PITH_PENDING       = 1,   /**< Only where a function says so: not finished, nothing wrong. */
    PITH_E_ARGUMENT    = -1,  /**< The caller's mistake: NULL, a bad size, a token id out of range. */
    PITH_E_VERSION     = -2,  /**< A struct or plug-in is newer than this library. */
    PITH_E_MEMORY      = -3,  /**< Host or device memory ran out; nothing changed. */
    PITH_E_IO          = -4,  /**< A file could not be opened or read; pith_error::system says why. */
    PITH_E_FORMAT      = -5,  /**< A model or tokenizer file is malformed. */
    PITH_E_UNSUPPORTED = -6,  /**< Well formed, but not an architecture, layout or option that this release runs. */
    PITH_E_BUFFER      = -7,  /**< The output buffer is too small; the needed size was written. */
    PITH_E_CONTEXT     = -8,  /**< The session's context is full. */
    PITH_E_CANCELLED   = -9,  /**< pith_session_cancel() stopped it. */
    PITH_E_RUNNER      = -10, /**< A runner called an index twice or late, or returned early; found as far as it can be. */
    PITH_E_DEVICE      = -11, /**< A GPU fault; the session and its model are lost. */
    PITH_E_STATE       = -12, /**< Called out of order, or while the object is busy. */
    PITH_E_LIMIT       = -13, /**< A cap on work, depth or size of untrusted input. */
    PITH_E_NUMERIC     = -14  /**< Logits are NaN, or no token is left to draw. */
};

/** Details of a failure: 512 bytes of the caller's storage, never allocated, written on failure only. Frozen. */
typedef struct pith_error {
    pith_status status;       /**< What the call returned. */
    int32_t     system;       /**< errno, GetLastError or CUresult behind it; 0: none. */
    char        message[504]; /**< UTF-8, always terminated: the file, tensor or argument, what was expected and what was found. */
} pith_error;

/** The library's version at run time. Any thread. @since 0.1
 *  @return major * 1000000 + minor * 1000 + patch. */
PITH_API uint32_t pith_version(void);

/** The name of a status, such as "PITH_E_MEMORY". Any thread. @since 0.1
 *  @param status any value.
 *  @return a constant string, never NULL; "PITH_E_?" for values that are none. */
PITH_API const char* pith_status_name(pith_status status);

#ifdef __cplusplus
}
#endif
/** @} */
#endif
