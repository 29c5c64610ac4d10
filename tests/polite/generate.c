/* What strace.sh traces: load, then 20 tokens without a runner. getppid() marks where the phases begin and end: it does nothing else.
   generate MODEL_DIR [rude]: a rude one writes while tokens come, which the trace must show. */
#define _POSIX_C_SOURCE 200809L
#include <pith/pith.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char** argv) {
    pith_error error;
    pith_env* env = NULL;
    pith_model* model = NULL;
    pith_tokenizer* tokenizer = NULL;
    pith_session* session = NULL;
    pith_sampler* sampler = NULL;
    pith_token tokens[64];
    size_t count = 0;
    void* volatile first;
    int i, failed;
    if (argc < 2) return 2;
    first = malloc(1); /* what libc does once */
    free(first);
    getppid();
    failed = pith_env_create(NULL, &env, &error) || pith_model_open(env, argv[1], NULL, &model, &error) ||
             pith_model_load(model, 0, NULL, &error) || pith_tokenizer_load(env, argv[1], &tokenizer, &error) ||
             pith_tokenizer_encode(tokenizer, "Once upon a time", PITH_TEXT_END, PITH_ENCODE_BOS, tokens, 64, &count, &error) ||
             pith_session_create(model, NULL, &session, &error) || pith_sampler_create(env, NULL, &sampler, &error);
    getppid();
    if (argc > 2 && write(1, "!\n", 2) != 2) return 3;
    for (i = 0; i < 20 && !failed; i++, count = 1)
        failed = pith_session_forward(session, tokens, count, 1, &error) || pith_session_sample(session, 0, sampler, tokens, &error);
    getppid();
    pith_session_destroy(session);
    pith_sampler_destroy(sampler);
    pith_tokenizer_destroy(tokenizer);
    pith_model_destroy(model);
    pith_env_destroy(env);
    getppid();
    if (failed) printf("%s\n", error.message);
    return failed;
}
