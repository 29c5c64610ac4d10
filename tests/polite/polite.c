/* The library as a guest: a whole life of every object, in a host that keeps its floating-point mode or locale in an odd state. After each
   call the host's state is what it was, and every result is the plain host's, bit for bit.
   polite MODEL_DIR [LOCALE]: LOCALE is one whose decimal point is a comma. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <fenv.h>
#include <locale.h>
#include <pith/pith.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "runners/pthread.h"

#if defined(__x86_64__)
#    include <xmmintrin.h>
#else
static unsigned _mm_getcsr(void) { return 0; }
static void _mm_setcsr(unsigned csr) { (void)csr; }
#endif

static int checks, failures;
static const char *mode, *folder;

static void check(int good, const char* what, const char* when) {
    checks++;
    if (good) return;
    failures++;
    printf("%s host: %s (%s)\n", mode, what, when);
}

/* ---- What a guest must leave alone. */
typedef struct host_state {
    unsigned csr; /* rounding, FTZ, DAZ, masks, and the flags that are up */
    int rounding, threads, files;
    char locale[512];
    sigset_t blocked;
    void (*handlers[32])(int);
} host_state;

static int entries(const char* path) {
    DIR* dir = opendir(path);
    int count = 0;
    if (!dir) return 0;
    while (readdir(dir)) count++;
    closedir(dir);
    return count;
}

static void look(host_state* state) {
    int i;
    memset(state, 0, sizeof *state);
    state->csr = _mm_getcsr();
    state->rounding = fegetround();
    strncpy(state->locale, setlocale(LC_ALL, NULL), sizeof state->locale - 1);
    state->threads = entries("/proc/self/task");
    state->files = entries("/proc/self/fd");
    sigprocmask(SIG_BLOCK, NULL, &state->blocked);
    for (i = 1; i < 32; i++) {
        struct sigaction action;
        if (sigaction(i, NULL, &action) == 0) state->handlers[i] = action.sa_handler;
    }
}

static host_state before;

static void compare(const char* call) {
    host_state now;
    const unsigned csr = _mm_getcsr();
    const int rounding = fegetround();
    check(csr == before.csr, "MXCSR changed", call);
    before.csr = csr; /* one report for each culprit */
    check(rounding == before.rounding, "the rounding mode changed", call);
    look(&now);
    check(strcmp(now.locale, before.locale) == 0, "the locale changed", call);
    check(now.threads == before.threads, "the number of threads changed", call);
    check(now.files == before.files, "a file stays open", call);
    check(memcmp(&now.blocked, &before.blocked, sizeof now.blocked) == 0, "the signal mask changed", call);
    check(memcmp(now.handlers, before.handlers, sizeof now.handlers) == 0, "a signal handler changed", call);
}

static pith_error error;

#define WORKS(call)                                              \
    do {                                                         \
        const pith_status status_ = (call);                      \
        compare(#call);                                          \
        check(status_ == PITH_OK, error.message, #call);         \
        if (status_ != PITH_OK) exit((printf("gives up\n"), 1)); \
    } while (0)
#define DOES(call)      \
    do {                \
        call;           \
        compare(#call); \
    } while (0)

/* ---- A whole life; everything that a host can see of it. */
#if defined(POLITE_BRIEF) /* a sanitizer is at work: fewer tokens, and one path */
enum { VOCAB = 8192, ROWS = 4, DRAWN = 2, PATHS = 1 };
#else
enum { VOCAB = 8192, ROWS = 4, DRAWN = 24, PATHS = 2 };
#endif
typedef struct life {
    float logits[ROWS * VOCAB], last[VOCAB];
    pith_token encoded[64], drawn[DRAWN];
    size_t encoded_count, text_size;
    char text[512];
    pith_model_info model;
    pith_session_info plan, session;
    pith_status tiny, refused;
} life;

static pith_sampler* make_sampler(pith_env* env) {
    pith_sampler_step steps[4];
    pith_sampler_options options;
    pith_sampler* sampler;
    memset(steps, 0, sizeof steps);
    memset(&options, 0, sizeof options);
    steps[0].kind = PITH_STEP_PENALTIES;
    steps[0].value[0] = 1.1f;
    steps[0].value[1] = 0.1f;
    steps[1].kind = PITH_STEP_TEMPERATURE;
    steps[1].value[0] = 0.83f;
    steps[2].kind = PITH_STEP_TOP_P;
    steps[2].value[0] = 0.93f;
    steps[3].kind = PITH_STEP_MIN_P;
    steps[3].value[0] = 0.01f;
    options.struct_size = sizeof options;
    options.seed = 7;
    options.steps = steps;
    options.step_count = 4;
    options.vocab_size = VOCAB;
    WORKS(pith_sampler_create(env, &options, &sampler, &error));
    return sampler;
}

/* A subnormal is not zero, whatever the host's DAZ says: a step that takes no second value refuses it, and as a temperature it is one. */
static void try_subnormals(pith_env* env, life* out) {
    static const uint32_t bits = 1;
    static const float logits[3] = {1, 2, 0};
    pith_sampler_step step;
    pith_sampler_options options;
    pith_sampler* sampler;
    pith_token token = PITH_NO_TOKEN;
    memset(&step, 0, sizeof step);
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.steps = &step;
    options.step_count = 1;
    options.vocab_size = 3;
    step.kind = PITH_STEP_TEMPERATURE;
    memcpy(&step.value[1], &bits, sizeof bits);
    DOES(out->refused = pith_sampler_create(env, &options, &sampler, &error));
    memcpy(&step.value[0], &bits, sizeof bits);
    memset(&step.value[1], 0, sizeof step.value[1]);
    WORKS(pith_sampler_create(env, &options, &sampler, &error));
    DOES(out->tiny = pith_sampler_sample(sampler, logits, 3, &token, &error));
    check(out->tiny != PITH_OK || token == 1, "the largest logit was not drawn", "tiny temperature");
    DOES(pith_sampler_destroy(sampler));
}

static void use_text(const pith_tokenizer* tokenizer, life* out) {
    static const char* prompt = "Once upon a time, 3.14 little foxes h\xc3\xa9ld 1,5 candles.";
    pith_stream stream;
    const char* bytes;
    size_t i, size;
    char piece[64];
    memset(&stream, 0, sizeof stream);
    WORKS(pith_tokenizer_encode(tokenizer, prompt, PITH_TEXT_END, PITH_ENCODE_BOS, out->encoded, 64, &out->encoded_count, &error));
    WORKS(pith_tokenizer_decode(tokenizer, out->encoded, out->encoded_count, 0, out->text, sizeof out->text, &out->text_size, &error));
    for (i = 0; i < out->encoded_count; i++)
        WORKS(pith_tokenizer_stream(tokenizer, &stream, out->encoded[i], 0, piece, sizeof piece, &size, &error));
    WORKS(pith_tokenizer_piece(tokenizer, 300, &bytes, &size, &error));
    WORKS(pith_tokenizer_chat_template(tokenizer, &bytes, &size, &error));
}

static void use_session(pith_env* env, const pith_model* model, const pith_runner* runner, uint32_t flags, life* out) {
    pith_sampler* sampler = make_sampler(env);
    pith_session_options options;
    pith_session* session;
    const float* logits;
    size_t rows, i;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.runner = runner;
    options.context_length = 128;
    options.batch_length = 32;
    options.logit_rows = ROWS;
    options.flags = flags;
    out->plan.struct_size = out->session.struct_size = sizeof out->plan;
    WORKS(pith_session_plan(model, &options, &out->plan, &error));
    WORKS(pith_session_create(model, &options, &session, &error));
    WORKS(pith_session_get_info(session, &out->session, &error));
    WORKS(pith_session_forward(session, out->encoded, out->encoded_count, ROWS, &error));
    WORKS(pith_session_logits(session, &logits, &rows, &error));
    memcpy(out->logits, logits, sizeof out->logits);
    WORKS(pith_sampler_accept(sampler, out->encoded, out->encoded_count, &error));
    for (i = 0; i < DRAWN; i++) {
        WORKS(pith_session_sample(session, i ? 0 : ROWS - 1, sampler, &out->drawn[i], &error));
        WORKS(pith_session_forward(session, &out->drawn[i], 1, 1, &error));
    }
    WORKS(pith_session_logits(session, &logits, &rows, &error));
    memcpy(out->last, logits, sizeof out->last);
    WORKS(pith_session_truncate(session, 3, &error));
    WORKS(pith_sampler_truncate(sampler, out->encoded_count, &error));
    DOES(pith_session_cancel(session, 1));
    DOES(pith_session_destroy(session));
    DOES(pith_sampler_destroy(sampler));
}

static void live(const pith_runner* runner, uint32_t flags, life* out) {
    pith_env* env;
    pith_model* model;
    pith_tokenizer* tokenizer;
    pith_device_info device;
    uint64_t left = 1;
    memset(out, 0, sizeof *out);
    memset(&device, 0, sizeof device);
    look(&before);
    device.struct_size = sizeof device;
    out->model.struct_size = sizeof out->model;
    WORKS(pith_env_create(NULL, &env, &error));
    WORKS(pith_env_device_info(env, 0, &device, &error));
    if (runner) WORKS(pith_runner_check(env, runner, &error));
    DOES(pith_env_load_backend(env, "libpith_none.so", &error));
    {
        const int files = before.files; /* an open model keeps its files */
        host_state now;
        const pith_status status = pith_model_open(env, folder, NULL, &model, &error);
        look(&now);
        check(status == PITH_OK, error.message, "pith_model_open");
        if (status != PITH_OK) exit(1);
        before.files = now.files;
        compare("pith_model_open");
        while (left) {
            const pith_status loaded = pith_model_load(model, 1 << 20, &left, &error);
            look(&now);
            before.files = now.files;
            compare("pith_model_load");
            check(loaded == PITH_OK, error.message, "pith_model_load");
            if (loaded != PITH_OK) exit(1);
        }
        WORKS(pith_model_get_info(model, &out->model, &error));
        WORKS(pith_tokenizer_load(env, folder, &tokenizer, &error));
        use_text(tokenizer, out);
        try_subnormals(env, out);
        use_session(env, model, runner, flags, out);
        before.files = files;
    }
    DOES(pith_model_destroy(model));
    DOES(pith_tokenizer_destroy(tokenizer));
    DOES(pith_env_destroy(env));
}

static void same(const life* a, const life* b) {
    check(memcmp(&a->model, &b->model, sizeof a->model) == 0, "the model's info differs", "from the plain host's");
    check(memcmp(a->logits, b->logits, sizeof a->logits) == 0, "logits of the prompt differ", "from the plain host's");
    check(memcmp(a->last, b->last, sizeof a->last) == 0, "logits of the last token differ", "from the plain host's");
    check(memcmp(a->drawn, b->drawn, sizeof a->drawn) == 0, "tokens drawn differ", "from the plain host's");
    check(memcmp(a->encoded, b->encoded, sizeof a->encoded) == 0, "tokens of the prompt differ", "from the plain host's");
    check(memcmp(a->text, b->text, sizeof a->text) == 0, "decoded text differs", "from the plain host's");
    check(a->tiny == b->tiny && a->refused == b->refused, "a subnormal is taken otherwise", "from the plain host's");
    check(memcmp(a, b, sizeof *a) == 0, "something differs", "from the plain host's");
}

/* ---- Odd hosts. Each must show that it is odd, or the test would prove nothing. */
static float divide(float a, float b) {
    volatile float x = a, y = b;
    volatile float z = x / y;
    return z;
}

static life plain_lives[PATHS], odd;

/* No exception flag is up at first: one inexact operation of a call that keeps no mode of its own raises one, and is found. */
enum { USUAL = 0x1f80, FTZ_DAZ = 0x8040, FLAGS = 0x3f };

static void odd_host(const char* name, unsigned csr, int rounding) {
    uint32_t flags;
    for (flags = 0; flags < PATHS; flags++) { /* PITH_SESSION_EXACT or not */
        const life* plain = &plain_lives[flags];
        thread_pool* pool;
        pith_runner runner;
        mode = name;
        fesetround(rounding);
        _mm_setcsr((_mm_getcsr() & 0x6000) | csr);
        live(NULL, flags, &odd);
        same(&odd, plain);
        pool = thread_pool_create(3); /* its threads take over this thread's mode */
        runner = thread_pool_runner(pool);
        live(&runner, flags, &odd);
        thread_pool_destroy(pool);
        fesetround(FE_TONEAREST);
        _mm_setcsr(USUAL);
        odd.session = plain->session, odd.plan = plain->plan; /* a runner has scratch of its own */
        same(&odd, plain);
    }
}

/* The modes are what they claim to be, or the test would prove nothing. */
static void try_modes(void) {
    const float third = divide(1, 3), minus = divide(-1, 3);
    mode = "test";
    fesetround(FE_UPWARD);
    check(divide(-1, 3) != minus, "round-up rounds to nearest", "1/3");
    fesetround(FE_TOWARDZERO);
    check(divide(1, 3) != third, "round-to-zero rounds to nearest", "1/3");
    fesetround(FE_TONEAREST);
#if defined(__x86_64__)
    check(divide(1e-38f, 100) != 0, "subnormals are flushed", "1e-40");
    _mm_setcsr(USUAL | FTZ_DAZ);
    check(divide(1e-38f, 100) == 0, "subnormals are not flushed", "1e-40");
    _mm_setcsr(USUAL);
    divide(1, 3);
    check(_mm_getcsr() != USUAL, "an inexact operation raises no flag", "1/3");
#endif
}

static void odd_hosts(void) {
    try_modes();
#if defined(__x86_64__)
    odd_host("FTZ and DAZ", USUAL | FTZ_DAZ, FE_TONEAREST);
    odd_host("all exceptions trap", 0, FE_TONEAREST);
    odd_host("all exception flags up", USUAL | FLAGS, FE_TONEAREST);
#endif
    odd_host("round-up", USUAL, FE_UPWARD);
    odd_host("round-down", USUAL, FE_DOWNWARD);
    odd_host("round-to-zero and FTZ", USUAL | FTZ_DAZ, FE_TOWARDZERO);
}

static void odd_locale(const char* name) {
    char text[32];
    const life* plain = &plain_lives[0];
    mode = name;
    check(setlocale(LC_ALL, name) != NULL, "setlocale failed", name);
    snprintf(text, sizeof text, "%.1f", 1.5);
    check(strcmp(text, "1,5") == 0, "the decimal point is no comma", text);
    _mm_setcsr(USUAL);
    live(NULL, 0, &odd);
    same(&odd, plain);
    setlocale(LC_ALL, "C");
}

/* ---- Between calls nothing runs: a pool that parks takes no processor time, since nobody keeps it busy. */
static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + 1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void idle(void) {
    const struct timespec pause = {0, 300000000};
    thread_pool* pool = thread_pool_create(4);
    pith_runner runner = thread_pool_runner(pool);
    double used;
    mode = "idle";
    _mm_setcsr(USUAL);
    live(&runner, 0, &odd);
    check(entries("/proc/self/task") >= 2 + 4, "the pool has no threads", "test");
    used = cpu_seconds();
    nanosleep(&pause, NULL);
    used = cpu_seconds() - used;
    printf("idle: %.1f ms of processor time in 300 ms with 4 threads\n", used * 1e3);
    check(used < 0.03, "threads are busy though nothing is asked of them", "300 ms"); /* three that spin take 600 ms of two cores */
    thread_pool_destroy(pool);
}

int main(int argc, char** argv) {
    uint32_t flags;
    if (argc < 2) return 2;
    folder = argv[1];
    mode = "plain";
    for (flags = 0; flags < PATHS; flags++) {
        _mm_setcsr(USUAL);
        live(NULL, flags, &plain_lives[flags]);
    }
    if (argc > 2) {
        odd_locale(argv[2]);
    } else {
        odd_hosts();
        idle();
    }
    printf("%d checks, %d failed\n", checks, failures);
    return failures != 0;
}
