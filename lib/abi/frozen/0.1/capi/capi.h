/* What the C tests share: a check that reports and counts, an allocator that counts, files with replaced contents. */
#ifndef CAPI_H
#define CAPI_H
#include <pith/pith.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int capi_checks, capi_failures;

#define CHECK(condition)                                                        \
    do {                                                                        \
        capi_checks++;                                                          \
        if (!(condition)) {                                                     \
            capi_failures++;                                                    \
            printf("%s:%d: CHECK(%s) failed\n", __FILE__, __LINE__, #condition); \
        }                                                                       \
    } while (0)

/* The call returns this status, and unless it is PITH_OK says so in `error` with a message that holds `text`. */
#define EXPECT(call, expected, text)                                                                                        \
    do {                                                                                                                    \
        pith_status capi_status;                                                                                            \
        memset(&error, 0, sizeof error);                                                                                    \
        capi_status = (call);                                                                                               \
        capi_checks++;                                                                                                      \
        if (capi_status != (expected) || (capi_status < 0 && (error.status != capi_status || !strstr(error.message, text)))) { \
            capi_failures++;                                                                                                \
            printf("%s:%d: %s\n  gave %s \"%s\", expected %s \"%s\"\n", __FILE__, __LINE__, #call,                            \
                   pith_status_name(capi_status), error.message, pith_status_name(expected), text);                          \
        }                                                                                                                   \
    } while (0)
#define WORKS(call) EXPECT(call, PITH_OK, "")

/* Ends a test program; ctest takes the exit code. */
static int capi_end(void) {
    printf("%d checks, %d failed\n", capi_checks, capi_failures);
    return capi_failures != 0;
}

/* An allocator that knows how much is out. */
typedef struct capi_heap {
    size_t live, blocks, calls, peak;
} capi_heap;

static void* capi_alloc(void* user, size_t size, size_t alignment) {
    capi_heap* heap = (capi_heap*)user;
    char* raw = (char*)malloc(size + alignment + sizeof(void*));
    char* aligned;
    if (!raw) return NULL;
    aligned = raw + sizeof(void*);
    aligned += (alignment - (size_t)aligned % alignment) % alignment;
    memcpy(aligned - sizeof(void*), &raw, sizeof(void*));
    memset(aligned, 0xA5, size); /* nobody may count on zeros */
    heap->live += size;
    heap->blocks++;
    heap->calls++;
    if (heap->live > heap->peak) heap->peak = heap->live;
    return aligned;
}

static void capi_free(void* user, void* memory, size_t size, size_t alignment) {
    capi_heap* heap = (capi_heap*)user;
    void* raw;
    (void)alignment;
    memcpy(&raw, (char*)memory - sizeof(void*), sizeof(void*));
    heap->live -= size;
    heap->blocks--;
    free(raw);
}

/* An env on that allocator. */
static pith_env* capi_env(capi_heap* heap, const pith_files* files, const pith_runner* runner) {
    pith_allocator allocator = {0};
    pith_env_options options = {0};
    pith_env* env = NULL;
    pith_error error;
    memset(heap, 0, sizeof *heap);
    allocator.struct_size = sizeof allocator;
    allocator.user = heap;
    allocator.alloc = capi_alloc;
    allocator.free = capi_free;
    options.struct_size = sizeof options;
    options.allocator = &allocator;
    options.files = files;
    options.runner = runner;
    if (pith_env_create(&options, &env, &error)) printf("pith_env_create: %s\n", error.message);
    return env;
}

/* The system's files, but one whose name ends so has other contents, or another size. */
typedef struct capi_patch {
    const char* name;     /* NULL: nothing is replaced */
    const char* content;  /* NULL: as on disk */
    uint64_t size;        /* of content; or the size that a truncated file has */
    int missing;
    long open_files;
} capi_patch;

typedef struct capi_file {
    FILE* file;
    const capi_patch* patch;
    uint64_t size;
} capi_file;

static int capi_ends_with(const char* text, const char* end) {
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static int32_t capi_open(void* user, const char* name, void** file, uint64_t* size) {
    capi_patch* patch = (capi_patch*)user;
    const int patched = patch->name && capi_ends_with(name, patch->name);
    capi_file* f;
    if (patched && patch->missing) return -1;
    f = (capi_file*)calloc(1, sizeof *f);
    if (!f) return -1;
    if (patched) f->patch = patch;
    if (patched && patch->content) {
        f->size = patch->size;
    } else {
        f->file = fopen(name, "rb");
        if (!f->file) {
            free(f);
            return -1;
        }
        fseek(f->file, 0, SEEK_END);
        f->size = (uint64_t)ftell(f->file);
        if (f->size >> 48) { /* a folder */
            fclose(f->file);
            free(f);
            return -1;
        }
        if (patched) f->size = patch->size;
    }
    patch->open_files++;
    *file = f;
    *size = f->size;
    return 0;
}

static int32_t capi_read(void* user, void* file, uint64_t offset, void* to, size_t size) {
    capi_file* f = (capi_file*)file;
    (void)user;
    if (offset > f->size || size > f->size - offset) return -1;
    if (!f->file) {
        memcpy(to, f->patch->content + offset, size);
        return 0;
    }
    fseek(f->file, (long)offset, SEEK_SET);
    return fread(to, 1, size, f->file) == size ? 0 : -1;
}

static void capi_close(void* user, void* file) {
    capi_file* f = (capi_file*)file;
    ((capi_patch*)user)->open_files--;
    if (f->file) fclose(f->file);
    free(f);
}

static pith_files capi_files(capi_patch* patch) {
    pith_files files = {0};
    files.struct_size = sizeof files;
    files.user = patch;
    files.open = capi_open;
    files.read = capi_read;
    files.close = capi_close;
    return files;
}

/* Threads of this process; 0 where that can't be told. */
static int capi_threads(void) {
    int count = 0;
    char line[256];
    FILE* f = fopen("/proc/self/status", "r");
    if (!f) return 0;
    while (fgets(line, sizeof line, f))
        if (strncmp(line, "Threads:", 8) == 0) count = atoi(line + 8);
    fclose(f);
    return count;
}

/* Used by every program or not: silences the compiler about the rest. */
static void capi_use(void) {
    (void)capi_env;
    (void)capi_files;
    (void)capi_threads;
    (void)capi_use;
}
#endif
