/* The pool of pthread.h. The caller of run() works too; helpers take what is still unclaimed when they come, and what none has claimed by
   the time the caller is through is revoked instead of waited for. Threads without work look around for a moment, then park: a region
   that follows another costs no system call, and an idle pool costs no CPU time. */
#if defined(__linux__)
#define _GNU_SOURCE /* sched_getaffinity */
#else
#define _POSIX_C_SOURCE 200809L
#endif
#include "pthread.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { kSlots = 16, kMostThreads = 256, kSpinNanoseconds = 100000, kLooksPerClock = 32 };

/* A slot's state: calls under way, next index to claim, end of the indices, and two flags. One word, so that claiming an index pins the
   slot in the same step; a claim is good for whatever region the slot holds by then. */
#define ACTIVE(state) ((uint32_t)((state)&0xffff))
#define NEXT(state) ((uint32_t)((state) >> 16 & 0xffff))
#define END(state) ((uint32_t)((state) >> 32 & 0xffff))
#define ONE_NEXT ((uint64_t)1 << 16)
#define ALL_NEXT ((uint64_t)0xffff << 16)
#define TAKEN ((uint64_t)1 << 48)
#define WAITING ((uint64_t)1 << 49) /* the caller has parked */

typedef struct slot {
    _Alignas(64) _Atomic uint64_t state;
    pith_task_fn fn;
    void* task;
} slot;

struct thread_pool {
    slot slots[kSlots];
    _Alignas(64) _Atomic uint32_t posts; /* regions begun so far: what helpers without work watch */
    _Atomic uint32_t parked;
    _Atomic int stop;
    _Alignas(64) pthread_mutex_t mutex; /* only for parking */
    pthread_cond_t work, done;
    uint32_t helpers;
    uint32_t useful; /* helpers awake at a time: one a core beside the caller's */
    int64_t spin;    /* nanoseconds */
    pthread_t threads[kMostThreads];
};

static void relax(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
    __asm__ volatile("yield");
#endif
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* One call: claim an index, make the call, let go. Returns 0 if there is nothing left to claim. */
static int help(thread_pool* pool, slot* s) {
    uint64_t state = atomic_load_explicit(&s->state, memory_order_relaxed);
    do {
        if (NEXT(state) >= END(state)) return 0;
    } while (!atomic_compare_exchange_weak_explicit(&s->state, &state, state + ONE_NEXT + 1, memory_order_acquire, memory_order_relaxed));
    s->fn(s->task, NEXT(state));
    state = atomic_fetch_sub_explicit(&s->state, 1, memory_order_acq_rel);
    if (ACTIVE(state) == 1 && (state & WAITING)) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->done);
        pthread_mutex_unlock(&pool->mutex);
    }
    return 1;
}

/* Waits until a region has begun since `seen` posts: looks for a moment, then parks. */
static void wait_for_post(thread_pool* pool, uint32_t seen) {
    const int64_t until = now() + pool->spin;
    do {
        for (int i = 0; i < kLooksPerClock; i++) {
            if (atomic_load_explicit(&pool->posts, memory_order_relaxed) != seen) return;
            relax();
        }
    } while (now() < until);
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->parked, 1); /* before posts is looked at: run() adds to posts before it looks at parked */
    while (atomic_load(&pool->posts) == seen) pthread_cond_wait(&pool->work, &pool->mutex);
    atomic_fetch_sub(&pool->parked, 1);
    pthread_mutex_unlock(&pool->mutex);
}

typedef struct helper_start {
    thread_pool* pool;
    uint32_t index;
} helper_start;

static void* helper(void* argument) {
    const helper_start start = *(helper_start*)argument;
    free(argument);
    thread_pool* pool = start.pool;
    for (;;) {
        const uint32_t seen = atomic_load(&pool->posts);
        if (atomic_load(&pool->stop)) return NULL;
        int helped = 0;
        for (uint32_t i = 0; i < kSlots; i++) { /* each from another slot on, so that regions share the helpers out */
            while (help(pool, &pool->slots[(start.index + i) % kSlots])) helped = 1;
        }
        if (!helped) wait_for_post(pool, seen);
    }
}

/* Tells helpers that something has changed; wakes up to `count` parked ones, but has no more awake than `most`. */
static void post(thread_pool* pool, uint32_t count, uint32_t most) {
    atomic_fetch_add(&pool->posts, 1);
    const uint32_t parked = atomic_load(&pool->parked), awake = pool->helpers - parked;
    if (parked == 0 || awake >= most) return;
    if (count > most - awake) count = most - awake;
    pthread_mutex_lock(&pool->mutex); /* whoever is about to park has parked by now */
    pthread_mutex_unlock(&pool->mutex);
    if (count >= parked) {
        pthread_cond_broadcast(&pool->work);
    } else {
        while (count--) pthread_cond_signal(&pool->work);
    }
}

/* Returns once no call is under way in a slot that nobody can claim from any more. */
static void wait_for_calls(thread_pool* pool, slot* s) {
    const int64_t until = now() + pool->spin;
    do {
        for (int i = 0; i < kLooksPerClock; i++) {
            if (ACTIVE(atomic_load_explicit(&s->state, memory_order_acquire)) == 0) return;
            relax();
        }
    } while (now() < until);
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_or(&s->state, WAITING);
    while (ACTIVE(atomic_load_explicit(&s->state, memory_order_acquire)) != 0) pthread_cond_wait(&pool->done, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}

static slot* take_slot(thread_pool* pool) {
    for (int i = 0; i < kSlots; i++) {
        uint64_t none = 0;
        if (atomic_load_explicit(&pool->slots[i].state, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong_explicit(&pool->slots[i].state, &none, TAKEN, memory_order_acquire, memory_order_relaxed))
            return &pool->slots[i];
    }
    return NULL;
}

static void run(void* user, pith_task_fn fn, void* task, uint32_t count) {
    thread_pool* pool = user;
    if (count > pool->helpers + 1) count = pool->helpers + 1; /* any index may be left out */
    slot* s = count > 1 ? take_slot(pool) : NULL;
    if (!s) { /* so many regions at once need no helpers */
        if (count > 0) fn(task, 0);
        return;
    }
    s->fn = fn;
    s->task = task;
    atomic_store_explicit(&s->state, TAKEN | (uint64_t)count << 32 | ONE_NEXT, memory_order_release);
    post(pool, count - 1, pool->useful);
    fn(task, 0);
    const uint64_t state = atomic_fetch_or_explicit(&s->state, ALL_NEXT, memory_order_acq_rel); /* revokes what nobody has claimed */
    if (ACTIVE(state) != 0) wait_for_calls(pool, s);
    atomic_store_explicit(&s->state, 0, memory_order_release);
}

/* Cores that this process may use. */
static uint32_t count_cores(void) {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return (uint32_t)CPU_COUNT(&set);
#endif
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores > 0 ? (uint32_t)cores : 1;
}

static int start_helper(thread_pool* pool) {
    helper_start* start = malloc(sizeof *start);
    if (!start) return 0;
    start->pool = pool;
    start->index = pool->helpers;
    if (pthread_create(&pool->threads[pool->helpers], NULL, helper, start) != 0) {
        free(start);
        return 0;
    }
    pool->helpers++;
    return 1;
}

thread_pool* thread_pool_create(uint32_t threads) {
    thread_pool* pool = aligned_alloc(_Alignof(thread_pool), sizeof *pool);
    if (!pool) return NULL;
    for (int i = 0; i < kSlots; i++) atomic_init(&pool->slots[i].state, 0);
    atomic_init(&pool->posts, 0);
    atomic_init(&pool->parked, 0);
    atomic_init(&pool->stop, 0);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->helpers = 0;
    if (threads > kMostThreads) threads = kMostThreads;
    /* More threads than cores are of no use at once; on one core, whoever looks around keeps another from working. */
    const uint32_t cores = count_cores();
    pool->useful = cores > 1 ? cores - 1 : 1;
    pool->spin = cores > 1 ? kSpinNanoseconds : 0;
    sigset_t all, before; /* the host's signals are for the host's threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool->helpers + 1 < threads && start_helper(pool)) {
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pool;
}

void thread_pool_destroy(thread_pool* pool) {
    if (!pool) return;
    atomic_store(&pool->stop, 1);
    post(pool, pool->helpers, pool->helpers);
    for (uint32_t i = 0; i < pool->helpers; i++) pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

pith_runner thread_pool_runner(thread_pool* pool) {
    const pith_runner runner = {sizeof runner, pool, run, pool->helpers + 1, 0};
    return runner;
}
