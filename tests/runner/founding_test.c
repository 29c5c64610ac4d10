/* The story that this library began with: 32 sequences draw from a vocabulary of 152,064, the host has a pool of 16 helpers, and the machine
   two cores. Elsewhere every core was then busy for the sake of one token. Here the account of what was used must be the operating system's
   own, and a token may not cost much more CPU time than it does on one thread. The best of a few tries counts: the rows, 19 MB, come from
   memory where other programs have the caches, and then two threads that share it wait longer, which is CPU time as well (twice the time
   a byte, where two threads read no faster than one). founding_test [BATCHES] */
#define _GNU_SOURCE
#include <pith/pith.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/time.h>

enum { ROWS = 32, VOCAB = 152064, HELPERS = 16, TRIES = 20 };

/* The pool of the story: helpers sleep, and as many as are asked for are woken, whether there are cores for them or not. */
typedef struct crowd {
    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    pthread_t threads[HELPERS];
    pith_task_fn fn;
    void* task;
    uint32_t next, end, busy;
    int stop;
} crowd;

static void* crowd_helper(void* argument) {
    crowd* c = argument;
    pthread_mutex_lock(&c->mutex);
    for (;;) {
        uint32_t index;
        while (!c->stop && c->next == c->end) pthread_cond_wait(&c->work, &c->mutex);
        if (c->stop) break;
        index = c->next++;
        c->busy++;
        pthread_mutex_unlock(&c->mutex);
        c->fn(c->task, index);
        pthread_mutex_lock(&c->mutex);
        if (--c->busy == 0 && c->next == c->end) pthread_cond_signal(&c->done);
    }
    pthread_mutex_unlock(&c->mutex);
    return NULL;
}

static void crowd_run(void* user, pith_task_fn fn, void* task, uint32_t count) {
    crowd* c = user;
    uint32_t i;
    pthread_mutex_lock(&c->mutex);
    c->fn = fn;
    c->task = task;
    c->next = 1;
    c->end = count;
    for (i = 1; i < count; i++) pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->mutex);
    fn(task, 0);
    pthread_mutex_lock(&c->mutex);
    while (c->busy || c->next != c->end) pthread_cond_wait(&c->done, &c->mutex);
    pthread_mutex_unlock(&c->mutex);
}

static int crowd_start(crowd* c) {
    int i;
    pthread_mutex_init(&c->mutex, NULL);
    pthread_cond_init(&c->work, NULL);
    pthread_cond_init(&c->done, NULL);
    for (i = 0; i < HELPERS; i++)
        if (pthread_create(&c->threads[i], NULL, crowd_helper, c)) return 0;
    return 1;
}

static void crowd_stop(crowd* c) {
    int i;
    pthread_mutex_lock(&c->mutex);
    c->stop = 1;
    pthread_cond_broadcast(&c->work);
    pthread_mutex_unlock(&c->mutex);
    for (i = 0; i < HELPERS; i++) pthread_join(c->threads[i], NULL);
}

static pith_error error;
static void need(pith_status status) {
    if (status >= 0) return;
    printf("%s: %s\n", pith_status_name(status), error.message);
    exit(1);
}

static double seconds(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec * 1e-6; }
static double cpu_seconds(void) { /* of the process, all threads */
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

typedef struct figures {
    double system, account, tokens; /* CPU seconds as the system has them, and as the library has */
    pith_usage used;
} figures;

static pith_usage read_usage(const pith_env* env) {
    pith_usage usage;
    usage.struct_size = sizeof usage;
    need(pith_env_get_usage(env, &usage, &error));
    return usage;
}

static figures draw(pith_env* env, pith_sampler** samplers, const float** logits, const pith_runner* runner, int batches) {
    static pith_token tokens[ROWS];
    figures f;
    const double begin = cpu_seconds();
    const pith_usage before = read_usage(env);
    int i;
    for (i = 0; i < batches; i++) need(pith_sampler_sample_batch(samplers, logits, VOCAB, ROWS, runner, tokens, &error));
    f.used = read_usage(env);
    f.system = cpu_seconds() - begin;
    f.used.cpu_caller_ns -= before.cpu_caller_ns;
    f.used.cpu_lent_ns -= before.cpu_lent_ns;
    f.used.regions_lent -= before.regions_lent;
    f.used.helpers_asked -= before.helpers_asked;
    f.used.helpers_came -= before.helpers_came;
    f.used.helpers_worked -= before.helpers_worked;
    f.account = (double)(f.used.cpu_caller_ns + f.used.cpu_lent_ns) * 1e-9;
    f.tokens = (double)batches * ROWS;
    return f;
}

static void one_thread(void* user, pith_task_fn fn, void* task, uint32_t count) {
    (void)user;
    (void)count;
    fn(task, 0);
}

int main(int argc, char** argv) {
    const int batches = argc > 1 ? atoi(argv[1]) : 50;
    static crowd pool;
    const pith_runner many = {sizeof many, &pool, crowd_run, HELPERS + 1, 0}; /* the calling thread works, too */
    const pith_runner one = {sizeof one, NULL, one_thread, 1, 0};
    pith_sampler_step steps[5] = {{0}};
    pith_sampler_options options = {0};
    pith_env* env;
    pith_sampler* samplers[ROWS];
    const float* logits[ROWS];
    float* all = malloc(sizeof(float) * ROWS * VOCAB);
    double agreement = 1, ratio = 100;
    uint64_t state = 1;
    size_t i;
    int try;
    if (!all || batches < 1 || !crowd_start(&pool)) return 1;
    for (i = 0; i < (size_t)ROWS * VOCAB; i++) { /* about a normal distribution, as logits are */
        float sum = 0;
        int k;
        for (k = 0; k < 4; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            sum += (float)(state >> 40) * (1.0f / (1 << 24)) - 0.5f;
        }
        all[i] = sum * 6;
    }
    steps[0].kind = PITH_STEP_PENALTIES;
    steps[0].value[0] = 1.1f;
    steps[1].kind = PITH_STEP_TOP_K;
    steps[1].count[0] = 50;
    steps[2].kind = PITH_STEP_TOP_P;
    steps[2].value[0] = 0.9f;
    steps[3].kind = PITH_STEP_MIN_P;
    steps[3].value[0] = 0.05f;
    steps[4].kind = PITH_STEP_TEMPERATURE;
    steps[4].value[0] = 0.8f;
    options.struct_size = sizeof options;
    options.steps = steps;
    options.step_count = 5;
    options.vocab_size = VOCAB;
    need(pith_env_create(NULL, &env, &error));
    for (i = 0; i < ROWS; i++) {
        options.seed = i + 1;
        need(pith_sampler_create(env, &options, &samplers[i], &error));
        logits[i] = all + i * VOCAB;
    }
    draw(env, samplers, logits, &one, 8);
    printf("     us of CPU a token   account / system   helpers asked  came  found work (a batch)\n");
    for (try = 0; try < TRIES && (try == 0 || agreement > 0.05 || ratio > 1.3); try++) {
        const figures a = draw(env, samplers, logits, &one, batches), b = draw(env, samplers, logits, &many, batches);
        const double regions = b.used.regions_lent ? (double)b.used.regions_lent : 1;
        const double off = b.account > b.system ? b.account / b.system - 1 : b.system / b.account - 1;
        if (b.system / a.system < ratio) ratio = b.system / a.system;
        if (off < agreement) agreement = off;
        printf("one  %17.2f   %16.3f\n", a.system * 1e6 / a.tokens, a.account / a.system);
        printf("%-4d %17.2f   %16.3f   %13.1f %5.1f %11.1f\n", HELPERS + 1, b.system * 1e6 / b.tokens, b.account / b.system,
               (double)b.used.helpers_asked / regions, (double)b.used.helpers_came / regions, (double)b.used.helpers_worked / regions);
    }
    printf("a token costs %.2f times what it costs on one thread (at most 1.3); the account is %.1f %% off (at most 5)\n", ratio, agreement * 100);
    for (i = 0; i < ROWS; i++) pith_sampler_destroy(samplers[i]);
    pith_env_destroy(env);
    crowd_stop(&pool);
    free(all);
    return agreement > 0.05 || ratio > 1.3;
}
