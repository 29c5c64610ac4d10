// A model as the CPU computes it: every matrix repacked into the kernels' tiles, in one block of memory.
#pragma once
#include "backend/backend.h"
#include "kernels/kernels.h"
#include "parallel/crew.h"

namespace pith::cpu {

// How a matrix wants its input. Matrices that share an input and a form share the prepared copy.
struct InputForm {
    bool quantised = false;          // int8 blocks; else float
    uint32_t block = 0;              // columns of an int8 block
    const uint32_t* perm = nullptr;  // act-order: column p of the matrix reads input perm[p]
    bool operator==(const InputForm&) const = default;
};

struct Linear {
    kernels::Matrix matrix;
    const uint32_t* perm = nullptr;
    const float* bias = nullptr;
};

struct Layer {
    const float *attention_norm, *mlp_norm;
    Linear q, k, v, o, gate, up, down;
};

// One thing to bring from the file into `weights`.
struct Item {
    enum Kind : uint32_t { Floats, Rows, Tiles, Gptq } kind;  // converted to float; as in the file; repacked
    const TensorView* weight;                                 // qweight for Gptq
    const pith::Linear* source;                               // Gptq
    kernels::Matrix* matrix;                                  // Tiles, Gptq
    uint8_t* to;
};

struct Model {
    explicit Model(const BackendHost& h, const ModelFile* f) : host(h), crew(h.runner, h.account), file(f), arena(*h.allocator) {}

    BackendHost host;
    Crew crew;                       // repacking
    const ModelFile* file;
    const kernels::Table* kernels = nullptr;
    Arena arena;                     // layers and items

    Layer* layers = nullptr;
    const float* final_norm = nullptr;
    Linear head;
    kernels::Matrix embedding;       // tiles, shared with a tied head; or rows as in the file (tile_bytes == 0)
    uint64_t largest_input = 0;      // columns, over all matrices

    uint8_t* weights = nullptr;      // made by the first load
    uint64_t weight_bytes = 0;
    Item* items = nullptr;
    size_t item_count = 0;

    // Progress: items before `item` are in place; `moved` bytes of the current one are.
    size_t item = 0;
    uint64_t moved = 0, left = 0;
    uint8_t* staging = nullptr;
    uint64_t staging_bytes = 0;
};

pith_status model_create(const BackendHost* host, const ModelFile* file, void** model, BackendBytes* bytes, pith_error* error);
pith_status model_load(void* model, uint64_t budget, uint64_t* left, pith_error* error);
void model_destroy(void* model);

pith_status session_plan(const void* model, const SessionShape* shape, BackendBytes* bytes, pith_error* error);
pith_status session_create(const void* model, const SessionShape* shape, void** session, pith_error* error);
void session_destroy(void* session);
pith_status session_forward(void* session, uint32_t length, const pith_token* tokens, uint32_t count, uint32_t rows, pith_error* error);
pith_status session_logits(void* session, const float** logits, pith_error* error);

}  // namespace pith::cpu
