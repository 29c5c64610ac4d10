/* What is told of a GPU, on a real one: usage_test PLUGIN MODEL. Every submission measured (as while a trace is recorded) and one in sixteen
   give the same busy time; no engine is busy longer than time passed; what was held is given back. */
#include <pith/pith.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 400, PROMPT = 512 };

static int failures;
static void check(int good, const char* what) {
    if (!good) failures++;
    printf("%-4s %s\n", good ? "ok" : "FAIL", what);
}
static void need(pith_status status, const pith_error* error) {
    if (status >= 0) return;
    printf("%s: %s\n", pith_status_name(status), error->message);
    exit(1);
}

static pith_error error;

static pith_usage read(const pith_session* session) {
    pith_usage usage;
    usage.struct_size = sizeof usage;
    need(pith_session_get_usage(session, &usage, &error), &error);
    return usage;
}

/* A prompt and tokens after it, from the beginning. Returns what they used. */
static pith_usage turn(pith_session* session, pith_sampler* sampler, uint64_t* elapsed) {
    static pith_token prompt[PROMPT];
    const pith_usage before = read(session);
    pith_usage after;
    pith_token token = 0;
    int i;
    for (i = 0; i < PROMPT; i++) prompt[i] = (i * 7 + 1) % 4000;
    need(pith_session_truncate(session, 0, &error), &error);
    need(pith_session_forward(session, prompt, PROMPT, 1, &error), &error);
    for (i = 0; i < TOKENS; i++) {
        need(pith_session_sample(session, 0, sampler, &token, &error), &error);
        need(pith_session_forward(session, &token, 1, 1, &error), &error);
    }
    need(pith_session_sample(session, 0, sampler, &token, &error), &error); /* waits, so that all is counted */
    after = read(session);
    *elapsed = after.time_ns - before.time_ns;
    after.gpu_compute_ns -= before.gpu_compute_ns;
    after.gpu_to_device_ns -= before.gpu_to_device_ns;
    after.gpu_submissions -= before.gpu_submissions;
    after.cpu_caller_ns -= before.cpu_caller_ns;
    after.wait_ns -= before.wait_ns;
    return after;
}

int main(int argc, char** argv) {
    pith_env* env;
    pith_model* model;
    pith_session* session;
    pith_sampler* sampler;
    pith_model_options where = {0};
    pith_session_options options = {0};
    pith_usage sampled, all, u;
    const size_t size = 64 << 20;
    void* memory = malloc(size);
    uint64_t elapsed = 0, best[2] = {~(uint64_t)0, ~(uint64_t)0};
    double ratio;
    int round;
    if (argc < 3 || !memory) return 2;
    need(pith_env_create(NULL, &env, &error), &error);
    need(pith_env_load_backend(env, argv[1], &error), &error);
    if (pith_env_device_count(env) < 2) {
        printf("there is no GPU: skipped\n");
        return 77;
    }
    where.struct_size = sizeof where;
    where.device = 1;
    options.struct_size = sizeof options;
    need(pith_model_open(env, argv[2], &where, &model, &error), &error);
    need(pith_model_load(model, 0, NULL, &error), &error);
    u.struct_size = sizeof u;
    need(pith_env_get_usage(env, &u, &error), &error);
    check(u.gpu_to_device_ns > 0 && u.gpu_compute_ns > 0 && u.bytes_to_device > 1 << 20, "loading copies and repacks");
    check(u.device_weights > 0 && u.host_staging == 0 && u.device_staging == 0, "weights are held, staging is not");
    need(pith_session_create(model, &options, &session, &error), &error);
    need(pith_sampler_create(env, NULL, &sampler, &error), &error);
    turn(session, sampler, &elapsed);
    for (round = 0; round < 3; round++) {
        sampled = turn(session, sampler, &elapsed);
        if (elapsed < best[0]) best[0] = elapsed;
        check(sampled.gpu_compute_ns <= elapsed, "the GPU is not busy longer than time passes");
        need(pith_env_trace(env, memory, size, &error), &error);
        all = turn(session, sampler, &elapsed);
        need(pith_env_trace(env, NULL, 0, &error), &error);
        if (elapsed < best[1]) best[1] = elapsed;
        ratio = (double)sampled.gpu_compute_ns / (double)all.gpu_compute_ns;
        printf("     busy %.3f ms sampled, %.3f ms all measured, of %.3f ms; ratio %.4f; caller's CPU %.3f ms, waited %.3f ms, %llu submissions\n",
               (double)sampled.gpu_compute_ns * 1e-6, (double)all.gpu_compute_ns * 1e-6, (double)elapsed * 1e-6, ratio,
               (double)sampled.cpu_caller_ns * 1e-6, (double)sampled.wait_ns * 1e-6, (unsigned long long)sampled.gpu_submissions);
        check(sampled.gpu_submissions == all.gpu_submissions, "the same is submitted");
        check(ratio > 0.9 && ratio < 1.1, "one in sixteen tells the time of all");
    }
    printf("     %d tokens: %.3f ms with one in sixteen measured, %.3f ms with all\n", TOKENS, (double)best[0] * 1e-6, (double)best[1] * 1e-6);
    u = read(session);
    check(u.gpu_engine == PITH_ENGINE_COMPUTE && u.gpu_busy_ns == u.gpu_compute_ns, "the busiest engine is the headline");
    check(u.device == 1 && u.device_name[0] && u.device_kv > 0 && u.device_scratch > 0 && u.host_staging > 0, "what is held, where");
    printf("     %s\n", u.device_name);
    pith_session_destroy(session);
    pith_model_destroy(model);
    need(pith_env_get_usage(env, &u, &error), &error);
    check(u.device_weights + u.device_kv + u.device_scratch + u.device_staging + u.host_kv + u.host_staging + u.host_weights == 0, "all is given back");
    pith_sampler_destroy(sampler);
    pith_env_destroy(env);
    free(memory);
    return failures != 0;
}
