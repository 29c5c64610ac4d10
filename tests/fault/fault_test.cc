// SQLite's way: the k-th allocation, or the k-th read, fails, for k = 1, 2, ... until the whole of create, open, load, encode, forward
// and sample passes. After each failure the same objects must succeed, and in the end nothing may be left.
#include <pith/pith.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <string>

#include "../unit/catch.h"

namespace {

const char* const kModel = PITH_SOURCE_DIR "/tests/golden/models/" PITH_FAULT_MODEL;
const char* const kTokenizer = PITH_SOURCE_DIR "/examples/demo-model/tokenizer.json";

struct Faults {
    uint64_t calls = 0, fail_at = 0;  // 0: never
    bool for_good = false;
    bool due() {
        calls++;
        return fail_at && (for_good ? calls >= fail_at : calls == fail_at);
    }
    bool hit() const { return fail_at && calls >= fail_at; }
};

struct Heap {
    Faults faults;
    uint64_t live = 0, blocks = 0;

    static void* alloc(void* user, size_t size, size_t alignment) {
        Heap& h = *static_cast<Heap*>(user);
        if (h.faults.due()) return nullptr;
        void* p = nullptr;
        if (posix_memalign(&p, alignment < sizeof(void*) ? sizeof(void*) : alignment, size)) return nullptr;
        memset(p, 0xA5, size);  // nobody may count on zeros
        h.live += size;
        h.blocks++;
        return p;
    }
    static void release(void* user, void* memory, size_t size, size_t) {
        Heap& h = *static_cast<Heap*>(user);
        h.live -= size;
        h.blocks--;
        free(memory);
    }
};

enum class Damage { Fail, Zeros, Flip };

uint32_t model_flags = 0;  // of what is opened

struct Disk {
    Faults faults;
    Damage damage = Damage::Fail;
    uint64_t open_files = 0;

    static int32_t open(void* user, const char* name, void** file, uint64_t* size) {
        FILE* f = fopen(name, "rb");
        if (!f) return -1;
        fseek(f, 0, SEEK_END);
        *size = static_cast<uint64_t>(ftell(f));
        if (*size >> 48) {  // a folder
            fclose(f);
            return -1;
        }
        *file = f;
        static_cast<Disk*>(user)->open_files++;
        return 0;
    }
    static int32_t read(void* user, void* file, uint64_t offset, void* to, size_t size) {
        Disk& d = *static_cast<Disk*>(user);
        FILE* f = static_cast<FILE*>(file);
        const bool due = d.faults.due();
        if (due && d.damage == Damage::Fail) return -1;
        fseek(f, static_cast<long>(offset), SEEK_SET);
        if (fread(to, 1, size, f) != size) return -1;
        if (due && d.damage == Damage::Zeros) memset(to, 0, size);
        if (due && d.damage == Damage::Flip)
            for (size_t i = 0; i < size; i += 97) static_cast<char*>(to)[i] = static_cast<char>(static_cast<char*>(to)[i] ^ 0x55);
        return 0;
    }
    static void close(void* user, void* file) {
        fclose(static_cast<FILE*>(file));
        static_cast<Disk*>(user)->open_files--;
    }
};

// Calls `call` until it succeeds; a failure must be `expected`, and the next try, without faults, must succeed.
template <class Call>
void survive(Faults& faults, pith_status expected, const char* what, Call call) {
    pith_error error{};
    pith_status status = call(&error);
    INFO(what << ", fault " << faults.fail_at << ": " << error.message);
    if (status == PITH_OK) return;
    REQUIRE(faults.hit());
    REQUIRE(status == expected);
    REQUIRE(error.status == expected);
    REQUIRE(error.message[0] != 0);
    faults.fail_at = 0;
    memset(&error, 0, sizeof error);
    status = call(&error);
    INFO("again: " << error.message);
    REQUIRE(status == PITH_OK);
}

// Everything once. Returns the greedy token.
pith_token everything(Heap& heap, Disk& disk, Faults& faults, pith_status expected) {
    const pith_allocator allocator{sizeof allocator, &heap, Heap::alloc, Heap::release};
    const pith_files files{sizeof files, &disk, Disk::open, Disk::read, Disk::close};
    pith_env_options options{};
    options.struct_size = sizeof options;
    options.allocator = &allocator;
    options.files = &files;
    pith_env* env = nullptr;
    pith_model* model = nullptr;
    pith_tokenizer* tokenizer = nullptr;
    pith_session* session = nullptr;
    pith_sampler* sampler = nullptr;
    pith_token ids[64], token = -1;
    size_t count = 0;
    survive(faults, expected, "env", [&](pith_error* e) { return pith_env_create(&options, &env, e); });
    survive(faults, expected, "tokenizer", [&](pith_error* e) { return pith_tokenizer_load(env, kTokenizer, &tokenizer, e); });
    survive(faults, expected, "encode",
            [&](pith_error* e) { return pith_tokenizer_encode(tokenizer, "The caf\xc3\xa9 at noon", PITH_TEXT_END, 0, ids, 64, &count, e); });
    pith_model_options model_options{};
    model_options.struct_size = sizeof model_options;
    model_options.flags = model_flags;
    survive(faults, expected, "open", [&](pith_error* e) { return pith_model_open(env, kModel, &model_options, &model, e); });
    uint64_t left = 1;
    while (left) survive(faults, expected, "load", [&](pith_error* e) { return pith_model_load(model, 20000, &left, e); });
    survive(faults, expected, "session", [&](pith_error* e) { return pith_session_create(model, nullptr, &session, e); });
    survive(faults, expected, "sampler", [&](pith_error* e) { return pith_sampler_create(env, nullptr, &sampler, e); });
    const uint64_t before = heap.faults.calls;
    for (size_t i = 0; i < 8; i++) ids[i] = static_cast<pith_token>(i * 7 % 64);
    survive(faults, expected, "forward", [&](pith_error* e) { return pith_session_forward(session, ids, 8, 1, e); });
    survive(faults, expected, "sample", [&](pith_error* e) { return pith_session_sample(session, 0, sampler, &token, e); });
    survive(faults, expected, "truncate", [&](pith_error* e) { return pith_session_truncate(session, 3, e); });
    REQUIRE(heap.faults.calls == before);  // forward, sample and truncate allocate nothing
    pith_env_destroy(env);
    pith_model_destroy(model);
    pith_tokenizer_destroy(tokenizer);
    pith_session_destroy(session);
    pith_sampler_destroy(sampler);
    REQUIRE(heap.live == 0);
    REQUIRE(heap.blocks == 0);
    REQUIRE(disk.open_files == 0);
    return token;
}

// Once cleanly, to learn the answer and how often the fault could strike.
struct Clean {
    uint64_t allocations, reads;
    pith_token token;
};
Clean clean_run() {
    Heap heap;
    Disk disk;
    Faults none;
    const pith_token token = everything(heap, disk, none, PITH_OK);
    return {heap.faults.calls, disk.faults.calls, token};
}

}  // namespace

TEST_CASE("every allocation may fail once, or all from some point on") {
    model_flags = GENERATE(0u, uint32_t{PITH_MODEL_HEAD_8BIT | PITH_MODEL_SCAN});
    const Clean clean = clean_run();
    for (const bool for_good : {false, true})
        for (uint64_t k = 1; k <= clean.allocations; k++) {
            Heap heap;
            Disk disk;
            heap.faults.fail_at = k;
            heap.faults.for_good = for_good;
            REQUIRE(everything(heap, disk, heap.faults, PITH_E_MEMORY) == clean.token);
        }
    printf("allocations that may fail: %llu\n", static_cast<unsigned long long>(clean.allocations));
}

TEST_CASE("every read may fail") {
    model_flags = GENERATE(0u, uint32_t{PITH_MODEL_HEAD_8BIT});
    const Clean clean = clean_run();
    for (uint64_t k = 1; k <= clean.reads; k++) {
        Heap heap;
        Disk disk;
        disk.faults.fail_at = k;
        REQUIRE(everything(heap, disk, disk.faults, PITH_E_IO) == clean.token);
    }
    printf("reads that may fail: %llu\n", static_cast<unsigned long long>(clean.reads));
}

TEST_CASE("a read that brings other bytes is an error or another model, never worse") {
    const Clean clean = clean_run();
    for (const Damage damage : {Damage::Zeros, Damage::Flip})
        for (uint64_t k = 1; k <= clean.reads; k++) {
            Heap heap;
            Disk disk;
            disk.faults.fail_at = k;
            disk.damage = damage;
            const pith_allocator allocator{sizeof allocator, &heap, Heap::alloc, Heap::release};
            const pith_files files{sizeof files, &disk, Disk::open, Disk::read, Disk::close};
            pith_env_options options{};
            options.struct_size = sizeof options;
            options.allocator = &allocator;
            options.files = &files;
            pith_env* env = nullptr;
            pith_model* model = nullptr;
            pith_tokenizer* tokenizer = nullptr;
            pith_session* session = nullptr;
            REQUIRE(pith_env_create(&options, &env, nullptr) == PITH_OK);
            pith_tokenizer_load(env, kTokenizer, &tokenizer, nullptr);
            const pith_token ids[] = {1, 2, 3};
            if (pith_model_open(env, kModel, nullptr, &model, nullptr) == PITH_OK && pith_model_load(model, 0, nullptr, nullptr) == PITH_OK &&
                pith_session_create(model, nullptr, &session, nullptr) == PITH_OK)
                pith_session_forward(session, ids, 3, 1, nullptr);
            pith_session_destroy(session);
            pith_tokenizer_destroy(tokenizer);
            pith_model_destroy(model);
            pith_env_destroy(env);
            REQUIRE(heap.live == 0);
            REQUIRE(disk.open_files == 0);
        }
}
