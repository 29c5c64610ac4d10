/** @file cuda.h
 *  @brief Options of the CUDA backend; includes no CUDA header. */
#ifndef PITH_CUDA_H
#define PITH_CUDA_H
#include <pith/base.h>

/** @defgroup cuda CUDA options
 *  For models and sessions on a GPU; ignored on the CPU.
 *  @{ */

/** Flags of ::pith_cuda_options. */
enum {
    PITH_CUDA_SMALL_SHARED = 1 /**< Kernels of at most 48 KiB of shared memory, to overlap rendering. */
};

/** How to share a GPU with the caller. */
typedef struct pith_cuda_options {
    size_t   struct_size; /**< sizeof(pith_cuda_options). */
    void*    context;     /**< A CUcontext of the caller's (a graphics-interop one, say); NULL: the primary one. */
    void*    stream;      /**< A CUstream of the caller's; NULL: the library makes one. */
    int32_t  priority;    /**< Of the stream the library makes; 0: the default. */
    uint32_t flags;       /**< PITH_CUDA_*. */
} pith_cuda_options;

/** @} */
#endif
