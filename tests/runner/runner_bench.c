/* What a region of the example pool costs when there is nothing to do, and what an idle pool costs.
   runner_bench [REGIONS]: a table for 1, 2 and 4 threads. */
#define _POSIX_C_SOURCE 200809L
#include <pith/env.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "runners/pthread.h"

static double seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void nothing(void* task, uint32_t index) {
    (void)task;
    (void)index;
}

static double microseconds_a_region(const pith_runner* runner, int regions) {
    double begin = seconds(CLOCK_MONOTONIC);
    int i;
    for (i = 0; i < regions; i++) runner->run(runner->user, nothing, NULL, runner->width);
    return (seconds(CLOCK_MONOTONIC) - begin) * 1e6 / regions;
}

/* 64 pieces of a microsecond or so, claimed as the library does it. */
static void work(void* task, uint32_t index) {
    int* left = task;
    (void)index;
    while (__atomic_sub_fetch(left, 1, __ATOMIC_RELAXED) >= 0) {
        volatile uint32_t x = 1;
        int i;
        for (i = 0; i < 500; i++) x = x * 1664525u + 1013904223u;
    }
}

static double microseconds_of_work(const pith_runner* runner, int regions) {
    double begin = seconds(CLOCK_MONOTONIC);
    int i;
    for (i = 0; i < regions; i++) {
        int left = 64;
        runner->run(runner->user, work, &left, runner->width);
    }
    return (seconds(CLOCK_MONOTONIC) - begin) * 1e6 / regions;
}

/* Regions with a pause before each: the helpers have parked and are woken. */
static double microseconds_after_a_pause(const pith_runner* runner, int regions) {
    const struct timespec pause = {0, 1000000};
    double spent = 0;
    int i;
    for (i = 0; i < regions; i++) {
        nanosleep(&pause, NULL);
        spent += microseconds_a_region(runner, 1);
    }
    return spent / regions;
}

static double idle_percent(void) {
    const struct timespec pause = {0, 200000000};
    double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), wall = seconds(CLOCK_MONOTONIC);
    nanosleep(&pause, NULL);
    return 100 * (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu) / (seconds(CLOCK_MONOTONIC) - wall);
}

int main(int argc, char** argv) {
    const int regions = argc > 1 ? atoi(argv[1]) : 200000;
    static const uint32_t threads[] = {1, 2, 4};
    size_t i;
    if (regions < 1) return 2;
    printf("threads  us a region  after 1 ms of rest  of some work  idle %% CPU\n");
    for (i = 0; i < sizeof threads / sizeof *threads; i++) {
        thread_pool* pool = thread_pool_create(threads[i]);
        pith_runner runner;
        double busy, rested, useful;
        if (!pool) return 1;
        runner = thread_pool_runner(pool);
        busy = microseconds_a_region(&runner, regions);
        rested = microseconds_after_a_pause(&runner, regions < 200 ? regions : 200);
        useful = microseconds_of_work(&runner, regions < 10000 ? regions : 10000);
        printf("%7u  %11.2f  %18.2f  %12.2f  %10.2f\n", (unsigned)runner.width, busy, rested, useful, idle_percent());
        thread_pool_destroy(pool);
    }
    return 0;
}
