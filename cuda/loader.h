// What loading needs and nothing after it: buffers, kernels and the list of what is to be moved.
#pragma once
#include "kernels/repack.h"
#include "model.h"
#include "usage.h"

namespace pith::cuda {

// One thing to bring from the file into place.
struct Item {
    enum Kind : uint32_t { Inverse, Floats, Dense, Gptq } kind;
    uint32_t cols;               // Inverse
    const TensorView* tensor;    // Floats, Dense: what is read
    const pith::Linear* source;  // Gptq
    const uint32_t* perm;        // Inverse
    const uint32_t* order;       // Floats, Gptq: row n is the source's row order[n]; NULL: n
    void* to;                    // Inverse, Floats: device memory
    Matrix matrix;               // Dense, Gptq: where to; data == NULL: rows only
    bool plain;                  // Dense: the embedding's rows, too
    RowPlace place;
};

// Two pinned buffers take turns; the device has one stripe of the source, and the scales, zero points, perm and order of rows of the matrix
// at hand.
struct Loader {
    void* staging[2] = {};
    CUevent copied[2] = {};  // staging[i] may be written again
    bool busy[2] = {};
    uint32_t turn = 0;
    CUevent done = nullptr;
    uint64_t staging_bytes = 0;
    CUdeviceptr scratch = 0;
    uint64_t perm_bytes = 0, order_bytes = 0, table_bytes = 0;  // scratch: perm, order, tables, stripe
    CUdeviceptr perm() const { return scratch; }
    CUdeviceptr order() const { return scratch + perm_bytes; }
    CUdeviceptr tables() const { return order() + order_bytes; }
    CUdeviceptr stripe() const { return tables() + table_bytes; }
    uint64_t scratch_bytes() const { return perm_bytes + order_bytes + table_bytes + staging_bytes; }
    Meter meter;
    bool counted = false;  // its memory, in the account
    CUfunction codes = nullptr, scales = nullptr, dense = nullptr, floats = nullptr;
};

// Lays the model out. Without weights it counts and lists the items; again with them it places.
void plan_model(Model& m);
uint64_t source_bytes(const Item& item);
uint64_t table_bytes(const pith::Linear& linear);  // of its zero points, unless they are all 8, and scales
// Sizes of the buffers for all items.
void plan_buffers(const Model& m, Loader* loader);

// Moves about `budget` bytes of the current item, at least one indivisible piece; *moved: how many.
pith_status move_some(Model& m, uint64_t budget, uint64_t* moved, pith_error* error);

}  // namespace pith::cuda
