/* Tokens are measured one in some milliseconds and the others charged: together they are what the calling thread used, within 5 %, alone and
   with a helper. The best of a few tries counts, since other programs disturb one measured token more than the rest. */
#define _POSIX_C_SOURCE 200809L
#include <pith/pith.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "runners/pthread.h"

enum { TOKENS = 200, TRIES = 8 };

static pith_error error;
static void need(pith_status status) {
    if (status >= 0) return;
    printf("%s: %s\n", pith_status_name(status), error.message);
    exit(1);
}

static double cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* How far the account of one decode is off. */
static double off(pith_session* session, pith_sampler* sampler) {
    pith_usage before = {0}, after = {0};
    pith_token token = 5;
    double begin, spent, account;
    int i;
    before.struct_size = after.struct_size = sizeof before;
    need(pith_session_truncate(session, 0, &error));
    need(pith_session_get_usage(session, &before, &error));
    begin = cpu_ns();
    for (i = 0; i < TOKENS; i++) {
        need(pith_session_forward(session, &token, 1, 1, &error));
        need(pith_session_sample(session, 0, sampler, &token, &error));
    }
    spent = cpu_ns() - begin;
    need(pith_session_get_usage(session, &after, &error));
    account = (double)(after.cpu_caller_ns - before.cpu_caller_ns);
    printf("  the thread %.2f ms, the account %.3f of it\n", spent * 1e-6, account / spent);
    return account > spent ? account / spent - 1 : spent / account - 1;
}

int main(int argc, char** argv) {
    int threads, failed = 0;
    if (argc < 2) return 2;
    for (threads = 1; threads <= 2; threads++) {
        thread_pool* pool = thread_pool_create((uint32_t)threads);
        const pith_runner runner = thread_pool_runner(pool);
        pith_env_options options = {0};
        pith_env* env;
        pith_model* model;
        pith_session* session;
        pith_sampler* sampler;
        double best = 1;
        int try;
        options.struct_size = sizeof options;
        if (threads > 1) options.runner = &runner;
        need(pith_env_create(&options, &env, &error));
        need(pith_model_open(env, argv[1], NULL, &model, &error));
        need(pith_model_load(model, 0, NULL, &error));
        need(pith_session_create(model, NULL, &session, &error));
        need(pith_sampler_create(env, NULL, &sampler, &error));
        printf("%d threads\n", threads);
        for (try = 0; try < TRIES && best > 0.05; try++) {
            const double now = off(session, sampler);
            if (now < best) best = now;
        }
        failed |= best > 0.05;
        pith_sampler_destroy(sampler);
        pith_session_destroy(session);
        pith_model_destroy(model);
        pith_env_destroy(env);
        thread_pool_destroy(pool);
    }
    return failed;
}
