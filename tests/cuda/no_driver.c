/* The plug-in on any machine, with a driver or without: it loads, and what it finds can be described. argv[1]: the plug-in. */
#include <pith/pith.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char** argv) {
    pith_env* env = NULL;
    pith_error error;
    uint32_t i, count;
    memset(&error, 0, sizeof error);
    if (argc < 2 || pith_env_create(NULL, &env, &error) < 0) return 1;
    for (i = 0; i < 2; i++) { /* the second time does nothing */
        if (pith_env_load_backend(env, argv[1], &error) < 0) {
            printf("%s\n", error.message);
            return 1;
        }
        count = pith_env_device_count(env);
        printf("%u CUDA devices\n", (unsigned)(count - 1));
    }
    if (pith_env_device_count(env) != count) return 1;
    for (i = 1; i < count; i++) {
        pith_device_info info;
        memset(&info, 0, sizeof info);
        info.struct_size = sizeof info;
        if (pith_env_device_info(env, i, &info, &error) < 0 || info.kind != PITH_DEVICE_CUDA || info.memory_total == 0 || !info.name[0]) return 1;
        printf("%s\n", info.name);
    }
    pith_env_destroy(env);
    return 0;
}
