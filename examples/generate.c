/* The first program: `generate MODEL_DIR PROMPT [N]` prints the prompt and the N tokens that the model finds most likely. */
#include <pith/pith.h>
#include <stdio.h>
#include <stdlib.h>

static pith_error error; /* the caller's storage: the library writes it on failure only */

static void check(pith_status status) {
    if (status == PITH_OK) return;
    fprintf(stderr, "generate: %s: %s\n", pith_status_name(status), error.message);
    exit(1);
}

int main(int argc, char** argv) {
    const long n = argc > 3 ? strtol(argv[3], NULL, 10) : 64;
    if (argc < 3 || argc > 4 || n < 1 || n > 1000000) return fprintf(stderr, "usage: generate MODEL_DIR PROMPT [N]\n"), 1;

    /* An env holds what the host lends: memory, threads, files, a log. NULL: the defaults, and all work on this thread. */
    pith_env* env;
    pith_model* model;
    pith_tokenizer* tokenizer;
    check(pith_env_create(NULL, &env, &error));
    check(pith_model_open(env, argv[1], NULL, &model, &error)); /* reads headers only */
    check(pith_model_load(model, 0, NULL, &error));             /* 0: all at once; stepwise_load.c shows the other way */
    check(pith_tokenizer_load(env, argv[1], &tokenizer, &error));

    /* Asked without room, encode says how much it needs. */
    size_t count = 0, size;
    pith_tokenizer_encode(tokenizer, argv[2], PITH_TEXT_END, PITH_ENCODE_BOS, NULL, 0, &count, NULL);
    pith_token* tokens = malloc((count + 1) * sizeof *tokens);
    if (!tokens) return 1;
    check(pith_tokenizer_encode(tokenizer, argv[2], PITH_TEXT_END, PITH_ENCODE_BOS, tokens, count, &count, &error));

    /* A session is one sequence with its KV cache; a sampler without steps is greedy. */
    pith_session_options options = {.struct_size = sizeof options, .context_length = (uint32_t)(count + (size_t)n)};
    pith_session* session;
    pith_sampler* sampler;
    check(pith_session_create(model, &options, &session, &error));
    check(pith_sampler_create(env, NULL, &sampler, &error));

    /* The stream makes whole characters of tokens. It sees the prompt too: a token's text may depend on what came before. */
    pith_stream stream = {.count = 0};
    char text[1024];
    for (size_t i = 0; i < count; i++) check(pith_tokenizer_stream(tokenizer, &stream, tokens[i], 0, text, sizeof text, &size, &error));
    printf("%s", argv[2]);
    for (long i = 0; i < n; i++, count = 1) {
        check(pith_session_forward(session, tokens, count, 1, &error)); /* first the prompt, then a token at a time */
        check(pith_session_sample(session, 0, sampler, tokens, &error));
        if (pith_tokenizer_is_end(tokenizer, tokens[0])) break;
        check(pith_tokenizer_stream(tokenizer, &stream, tokens[0], 0, text, sizeof text, &size, &error));
        fwrite(text, 1, size, stdout);
        fflush(stdout);
    }
    /* In any order: each object keeps alive what it needs. */
    pith_env_destroy(env), pith_model_destroy(model), pith_tokenizer_destroy(tokenizer);
    pith_sampler_destroy(sampler), pith_session_destroy(session), free(tokens);
    return 0;
}
