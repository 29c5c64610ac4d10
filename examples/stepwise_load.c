/* Loading in steps: `stepwise_load MODEL_DIR [MIB_A_STEP]` shows what a model will need before a weight is read, then loads it a little at
   a time, as a game would between frames. The loop is the caller's: it could draw, or stop. */
#define _POSIX_C_SOURCE 200809L
#include <pith/pith.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static pith_error error;

static int failed(const char* what) {
    fprintf(stderr, "stepwise_load: %s: %s: %s\n", what, pith_status_name(error.status), error.message);
    return 1;
}

static double milliseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int load_in_steps(pith_model* model, uint64_t budget) {
    uint64_t left = 1, all = 0;
    unsigned steps = 0;
    double longest = 0, begin = milliseconds();
    while (left > 0) {
        const double before = milliseconds();
        double took;
        if (pith_model_load(model, budget, &left, &error) != PITH_OK) return failed("load");
        took = milliseconds() - before;
        if (took > longest) longest = took;
        if (steps++ == 0) all = left + budget;
        printf("\r%3.0f %%", all > 0 ? 100.0 * (double)(all - left) / (double)all : 100.0);
        fflush(stdout); /* here a frame would be drawn */
    }
    printf("\rloaded in %u steps, %.0f ms; the longest step %.1f ms\n", steps, milliseconds() - begin, longest);
    return 0;
}

int main(int argc, char** argv) {
    const long mib = argc > 2 ? strtol(argv[2], NULL, 10) : 1;
    pith_model_info info = {.struct_size = sizeof info};
    pith_session_info need = {.struct_size = sizeof need};
    pith_session_options options = {.struct_size = sizeof options};
    pith_env* env = NULL;
    pith_model* model = NULL;
    int result = 1;
    if (argc < 2 || argc > 3 || mib < 1 || mib > 1 << 20) {
        fprintf(stderr, "usage: stepwise_load MODEL_DIR [MIB_A_STEP]\n");
        return 1;
    }
    if (pith_env_create(NULL, &env, &error) != PITH_OK) {
        failed("env");
    } else if (pith_model_open(env, argv[1], NULL, &model, &error) != PITH_OK || pith_model_get_info(model, &info, &error) != PITH_OK) {
        failed(argv[1]);
    } else {
        options.context_length = info.context_length < 4096 ? info.context_length : 4096;
        if (pith_session_plan(model, &options, &need, &error) != PITH_OK) {
            failed("session");
        } else {
            printf("%s: %u layers, %.1f million parameters, context %u\n", info.architecture, (unsigned)info.layers,
                   (double)info.parameters / 1e6, (unsigned)info.context_length);
            printf("needs %llu bytes for the weights and %llu for a session of %u tokens\n", (unsigned long long)info.host_bytes,
                   (unsigned long long)need.host_bytes, (unsigned)need.context_length);
            result = load_in_steps(model, (uint64_t)mib << 20);
        }
    }
    pith_model_destroy(model);
    pith_env_destroy(env);
    return result;
}
