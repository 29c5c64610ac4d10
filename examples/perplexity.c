/* How well a model predicts a text: `perplexity [--head8] MODEL_DIR [FILE|-] [WINDOW]` cuts the tokens of a file (or of standard input) into
   windows and predicts each token of a window but the first from those before it. Uses all cores, through the pool of runners/pthread.c.
   --head8 holds the head as 8 bits a weight. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <pith/pith.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runners/pthread.h"

enum { kRows = 64 }; /* positions a forward: their logits are kept all at once */

static pith_error error;

static void check(pith_status status) {
    if (status == PITH_OK) return;
    fprintf(stderr, "perplexity: %s: %s\n", pith_status_name(status), error.message);
    exit(1);
}

static void fail(const char* what) {
    perror(what);
    exit(1);
}

static char* read_all(const char* path, size_t* size) {
    FILE* file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    size_t capacity = 1 << 16, got;
    char* text = malloc(capacity);
    if (!file) fail(path);
    for (*size = 0; text && (got = fread(text + *size, 1, capacity - *size, file)) > 0;) {
        *size += got;
        if (*size == capacity) text = realloc(text, capacity *= 2);
    }
    if (!text || ferror(file)) fail(path);
    if (file != stdin) fclose(file);
    return text;
}

static pith_token* encode(const pith_tokenizer* tokenizer, const char* text, size_t size, size_t* count) {
    pith_token* tokens;
    *count = 0;
    pith_tokenizer_encode(tokenizer, text, size, PITH_ENCODE_BOS, NULL, 0, count, NULL);
    tokens = malloc((*count + 1) * sizeof *tokens);
    if (!tokens) fail("tokens");
    check(pith_tokenizer_encode(tokenizer, text, size, PITH_ENCODE_BOS, tokens, *count, count, &error));
    return tokens;
}

/* Minus the log of the probability that a row of logits gives a token. */
static double surprise(const float* logits, size_t vocab, pith_token token) {
    double most = logits[0], sum = 0;
    size_t i;
    for (i = 1; i < vocab; i++)
        if (logits[i] > most) most = logits[i];
    for (i = 0; i < vocab; i++) sum += exp(logits[i] - most);
    return most + log(sum) - logits[token];
}

/* The sum over the tokens of one window but the first. */
static double surprise_of_window(pith_session* session, const pith_token* tokens, size_t count, size_t vocab) {
    double sum = 0;
    size_t at;
    check(pith_session_truncate(session, 0, &error));
    for (at = 0; at + 1 < count; at += kRows) {
        const size_t left = count - 1 - at, rows = left < kRows ? left : kRows;
        const float* logits;
        size_t i;
        check(pith_session_forward(session, tokens + at, rows, (uint32_t)rows, &error));
        check(pith_session_logits(session, &logits, NULL, &error));
        for (i = 0; i < rows; i++) sum += surprise(logits + i * vocab, vocab, tokens[at + i + 1]);
    }
    return sum;
}

static double measure(const pith_model* model, const pith_runner* runner, const pith_token* tokens, size_t count, size_t window) {
    pith_model_info info = {.struct_size = sizeof info};
    pith_session_options options = {.struct_size = sizeof options, .runner = runner, .logit_rows = kRows};
    pith_session* session;
    size_t at, predicted = 0;
    double sum = 0;
    check(pith_model_get_info(model, &info, &error));
    if (window == 0) window = info.context_length < 2048 ? info.context_length : 2048;
    options.context_length = (uint32_t)window;
    if (options.logit_rows > window) options.logit_rows = (uint32_t)window;
    check(pith_session_create(model, &options, &session, &error));
    for (at = 0; at < count; at += window) {
        const size_t length = count - at < window ? count - at : window;
        sum += surprise_of_window(session, tokens + at, length, info.vocab_size);
        predicted += length - 1;
        if (predicted > 0) fprintf(stderr, "\r%zu tokens, perplexity %.3f", predicted, exp(sum / (double)predicted));
    }
    fprintf(stderr, "\n");
    pith_session_destroy(session);
    if (predicted > 0)
        printf("perplexity %.4f over %zu predicted tokens, windows of %zu\n", exp(sum / (double)predicted), predicted, window);
    return (double)predicted;
}

int main(int argc, char** argv) {
    pith_model_options options = {.struct_size = sizeof options};
    if (argc > 1 && strcmp(argv[1], "--head8") == 0) {
        options.flags = PITH_MODEL_HEAD_8BIT;
        argc--;
        argv++;
    }
    const long window = argc > 3 ? strtol(argv[3], NULL, 10) : 0;
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (argc < 2 || argc > 4 || (argc > 3 && window < 2) || window > 1 << 24) {
        fprintf(stderr, "usage: perplexity [--head8] MODEL_DIR [FILE|-] [WINDOW]\n");
        return 1;
    }
    size_t size, count;
    char* text = read_all(argc > 2 ? argv[2] : "-", &size);
    pith_env* env;
    pith_model* model;
    pith_tokenizer* tokenizer;
    check(pith_env_create(NULL, &env, &error));
    check(pith_model_open(env, argv[1], &options, &model, &error));
    check(pith_model_load(model, 0, NULL, &error));
    check(pith_tokenizer_load(env, argv[1], &tokenizer, &error));
    pith_token* tokens = encode(tokenizer, text, size, &count);
    thread_pool* pool = thread_pool_create(cores > 0 ? (uint32_t)cores : 1);
    if (!pool) fail("threads");
    const pith_runner runner = thread_pool_runner(pool);
    const double predicted = measure(model, &runner, tokens, count, (size_t)window);
    if (predicted == 0) fprintf(stderr, "perplexity: the text has fewer than two tokens\n");
    pith_model_destroy(model);
    pith_tokenizer_destroy(tokenizer);
    pith_env_destroy(env);
    thread_pool_destroy(pool);
    free(tokens);
    free(text);
    return predicted == 0;
}
