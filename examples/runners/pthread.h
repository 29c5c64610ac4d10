/* A thread pool for Pith on POSIX threads: the runner contract of docs/threading.md in one C11 file. Take it, or lend your own pool. */
#ifndef PITH_EXAMPLE_PTHREAD_RUNNER_H
#define PITH_EXAMPLE_PTHREAD_RUNNER_H
#include <pith/env.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef struct thread_pool thread_pool;

/* A pool of `threads`, the caller's own included, so that it starts threads - 1; at most 256, fewer if the system has no more to give.
   NULL: out of memory. */
thread_pool* thread_pool_create(uint32_t threads);

/* Joins the threads. No run may be under way. NULL is fine. */
void thread_pool_destroy(thread_pool* pool);

/* The runner to give to Pith; the pool outlives what uses it. Any number of threads may run regions at once, from inside a region too. */
pith_runner thread_pool_runner(thread_pool* pool);

#ifdef __cplusplus
}
#endif
#endif
