/* Prints the library's version and what eight tokens greedily go on with. program.cc is the same in C++. */
#include <pith/pith.h>
#include <stdio.h>

static pith_error error;
static void check(pith_status status) {
    if (status < 0) fprintf(stderr, "%s: %s\n", pith_status_name(status), error.message);
}

int main(int argc, char** argv) {
    pith_env* env = NULL;
    pith_model* model = NULL;
    pith_tokenizer* tokenizer = NULL;
    pith_session* session = NULL;
    pith_sampler* sampler = NULL;
    pith_token ids[64];
    size_t count = 0, size = 0;
    char text[1024];
    int i;
    if (argc < 2) return 1;
    printf("%d.%d.%d\n", (int)(pith_version() / 1000000), (int)(pith_version() / 1000 % 1000), (int)(pith_version() % 1000));
    check(pith_env_create(NULL, &env, &error));
    check(pith_model_open(env, argv[1], NULL, &model, &error));
    check(pith_model_load(model, 0, NULL, &error));
    check(pith_tokenizer_load(env, argv[1], &tokenizer, &error));
    check(pith_session_create(model, NULL, &session, &error));
    check(pith_sampler_create(env, NULL, &sampler, &error));
    check(pith_tokenizer_encode(tokenizer, "Once upon a time", PITH_TEXT_END, PITH_ENCODE_BOS, ids, 56, &count, &error));
    for (i = 0; i < 8; i++) {
        check(i == 0 ? pith_session_forward(session, ids, count, 1, &error) : pith_session_forward(session, &ids[count - 1], 1, 1, &error));
        check(pith_session_sample(session, 0, sampler, &ids[count++], &error));
    }
    check(pith_tokenizer_decode(tokenizer, ids, count, 0, text, sizeof text, &size, &error));
    printf("%.*s\n", (int)size, text);
    pith_sampler_destroy(sampler);
    pith_session_destroy(session);
    pith_tokenizer_destroy(tokenizer);
    pith_model_destroy(model);
    pith_env_destroy(env);
    return error.status != 0;
}
