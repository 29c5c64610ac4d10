// Products of a packed matrix with several tokens: which kernel, and what it needs.
#pragma once
#include "device.h"
#include "kernels/reorder.h"
#include "layout.h"

namespace pith::cuda {

struct Session;

enum class Store : uint32_t {
    Half,    // y: F16 [tokens][stride]
    Float,   // y: float [tokens][stride]
    Add,     // y: float [tokens][stride], added to
    GateUp,  // y: F16 [tokens][stride], silu(gate) * up at inverse[i] (NULL: i); columns from the width on become 0
};

struct Product {
    const Matrix* matrix;
    const uint16_t* x;        // F16 [tokens][x_stride], zero from the matrix's columns on
    uint32_t x_stride, tokens;
    Store store;
    void* y;
    uint64_t y_stride;        // elements
    const uint32_t* inverse;  // GateUp
    uint32_t width;           // GateUp: elements of the result
    bool made = false;        // the input is where integer_input() said, x is not read
};

// Where and how who writes the input of the next product can write it as integers (kernels/matmul_few_int.h); NULL: it takes F16.
struct IntegerInput {
    uint8_t* to;
    uint32_t tokens, block, pairs;
};
IntegerInput integer_input(const Session& s, const Matrix& matrix, uint32_t tokens);

// Workspace for products of this matrix with up to `tokens`: counters that are zero between them, and parts of sums.
struct MatmulBytes {
    uint64_t counters, parts;
};
MatmulBytes matmul_bytes(const Device& device, const Matrix& matrix, uint32_t tokens, bool small);
// Whether this GPU has the kernel for many tokens.
bool has_wide_matmul(const Device& device, bool small);
pith_status enqueue_product(Session& s, const Product& product, pith_error* error);
// Whether rows had better be written in order and then put into p.inverse's by a kernel of its own: who writes each element to a place of
// its own touches a line of memory for each of them.
bool reorders_after(const Session& s, const ReorderParams& p);
pith_status enqueue_reorder(Session& s, ReorderParams& p, pith_error* error);

}  // namespace pith::cuda
