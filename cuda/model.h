// A model on a GPU: every matrix in the packed layout, all of it in one allocation but the embedding's rows, which stay in host memory.
#pragma once
#include "backend/backend.h"
#include "device.h"
#include "layout.h"

namespace pith::cuda {

inline constexpr uint32_t kDefaultBatch = 2048;  // tokens of a prompt that are computed at once

// A matrix and the order of its input: NULL, or inverse[i] is where element i of the input goes.
struct Linear {
    Matrix matrix;            // data == NULL: there is none
    const uint32_t* inverse;  // device memory
};

// Matrices that share an input: fused into parts[0] if their forms agree, else each in a part of its own.
struct Fused {
    Linear parts[3];        // q, k, v; or gate, up
    uint32_t first_row[3];  // of q, k, v (gate, up: 0) in parts[0] if fused; 0 if not
    bool fused;
};

struct Layer {
    const float *attention_norm, *mlp_norm;
    Fused qkv;      // fused: rows of q, k, v stacked, each from a whole tile on
    Fused gate_up;  // fused: tile i has gate's rows 8 i .. 8 i + 7, then the same of up
    Linear o, down;
};

// Rows in pinned host memory, read by kernels across the bus: F16, times row_scale[row] unless that is NULL.
struct Embedding {
    const uint16_t* rows;    // the device's address; [vocab][hidden]
    const float* row_scale;  // device memory
};

struct Item;
struct Loader;
struct DecodeLayer;

struct Model {
    Model(const BackendHost& h, const ModelFile* f)
        : host(h), file(f), device(*static_cast<const Instance*>(h.instance), h.device), arena(*h.allocator) {}

    BackendHost host;
    const ModelFile* file;
    Device device;              // open from the first load on
    Arena arena;                // layers and items
    CUstream stream = nullptr;  // loading

    Layer* layers = nullptr;        // [file->config.layers]
    DecodeLayer* shapes = nullptr;  // [layers]: as the decode kernel is told of them, without addresses; for plans
    const float* final_norm = nullptr;
    Linear head{};
    Embedding embedding{};
    bool ready = false;  // all is in place
    bool counted = false;  // its memory, in the account
    bool lost = false;   // the GPU failed: nothing more can be done with it

    CUdeviceptr weights = 0;
    uint64_t weight_bytes = 0;
    void* embedding_host = nullptr;  // pinned; seen by kernels as
    CUdeviceptr embedding_device = 0;
    uint64_t row_bytes = 0;

    // Loading.
    Item* items = nullptr;
    size_t item_count = 0, item = 0;
    uint64_t moved = 0, left = 0;
    Loader* loader = nullptr;  // from the first load to the last
};

pith_status model_create(const BackendHost* host, const ModelFile* file, void** model, BackendBytes* bytes, pith_error* error);
pith_status model_load(void* model, uint64_t budget, uint64_t* left, pith_error* error);
void model_destroy(void* model);
// Fills in shapes; a step of model_create.
pith_status describe_layers(Model& model, pith_error* error);

pith_status session_plan(const void* model, const SessionShape* shape, BackendBytes* bytes, pith_error* error);
pith_status session_create(const void* model, const SessionShape* shape, void** session, pith_error* error);
void session_destroy(void* session);
pith_status session_forward(void* session, uint32_t length, const pith_token* tokens, uint32_t count, uint32_t rows, pith_error* error);
pith_status session_logits(void* session, const float** logits, pith_error* error);
pith_status session_sample(void* session, uint32_t row, const SampleRequest* request, pith_token* token, pith_error* error);

}  // namespace pith::cuda
