// One sequence on a GPU: its cache and scratch in one allocation made at create, its stream, and what runs ahead of the caller.
#pragma once
#include <atomic>

#include "kernels/attention.h"
#include "kernels/decode.h"
#include "kernels/elementwise.h"
#include "kernels/sample.h"
#include "matmul.h"
#include "model.h"
#include "usage.h"

namespace pith::cuda {

inline constexpr uint32_t kHistory = 16384;   // of a sampler's ring; a longer one is drawn from on the CPU
inline constexpr uint32_t kStages = 2;        // batches on their way

// Words at the front of a batch in device memory; the ids follow.
struct BatchHeader {
    uint32_t first;       // position of token 0
    uint32_t first_kept;  // of the first token whose logits are wanted
    uint32_t reserved[2];
};

// What the sampling kernel reads; uploaded when it has changed other than by the kernel itself.
struct SampleState {
    SampleChain chain;
    SampleHistory history;
    int32_t ring[kHistory];
};

// Where everything lies in the session's device memory; sizes are the plan.
struct Buffers {
    uint16_t *keys, *values;              // [layers][kv_heads][capacity][head_dim]
    double* inverse_frequencies;          // [head_dim / 2]
    DecodeLayer* layers;
    float* x;                             // [batch][hidden], the residual stream
    uint16_t* normed[3];                  // [batch][hidden_stride], one for each order that q, k and v want
    uint16_t* qkv;                        // [batch][qkv_stride]
    uint16_t* q;                          // [batch][q_stride], turned
    uint16_t* attended;                   // [batch][q_stride]
    uint16_t* gate_up;                    // [2][batch][inner_stride], where they are apart
    uint16_t* inner;                      // [batch][inner_stride]
    uint16_t* last;                       // [logit_rows][hidden_stride]
    float* logits[2];                     // [logit_rows][vocab]; the second only for running ahead
    uint32_t* batch;                      // BatchHeader, ids
    float* attention;                     // parts
    uint8_t *matmul, *decode, *sample;    // workspaces
    SampleState* state;
    int32_t* next;                        // the token drawn last
};

// In pinned host memory.
struct Pinned {
    SampleResult result;
    SampleState state;
    // uint32_t batches[kStages][4 + batch_length], float logits[logit_rows][vocab] follow
};

struct NamedKernel {
    char name[48];
    CUfunction function;
};

struct Session {
    Session(const Model* m, const SessionShape& s) : model(m), device(m->device), shape(s), allocator(*s.allocator) {}

    const Model* model;
    const Device& device;
    SessionShape shape;
    pith_allocator allocator;
    uint64_t host_bytes = 0, device_bytes = 0, pinned_bytes = 0, matmul_counters = 0;

    // Widths in elements, rounded up to what the kernels want.
    uint32_t capacity = 0, hidden_stride = 0, q_stride = 0, qkv_stride = 0, inner_stride = 0, orders = 1;
    bool apart = false, small = false, ahead_wanted = false;
    float rope_scale = 1;

    CUstream stream = nullptr;
    bool own_stream = false;
    Meter meter;
    CUevent drawn = nullptr, staged[kStages] = {}, gates[2] = {};
    CUdeviceptr block = 0;
    Pinned* pinned = nullptr;
    CUdeviceptr pinned_at = 0;
    uint32_t* batches[kStages] = {};
    float* host_logits = nullptr;
    Buffers at{};
    DecodeLayer* layers = nullptr;  // the host's copy, behind this struct
    DecodeParams decode{};
    bool decodes = false;           // the single-token kernel runs this model
    TensorMap key_map{}, value_map{};
    bool wide = false;              // the maps are made
    bool wide_matmul = false;       // products with many tokens have a kernel of their own

    NamedKernel kernels[64] = {};   // found so far
    uint32_t kernel_count = 0;

    uint32_t length = 0;      // tokens in the cache after the last forward
    uint32_t rows = 0;        // of logits
    uint32_t current = 0;     // which of at.logits holds them
    bool on_host = false;     // host_logits are they
    uint32_t stage = 0, gate = 0;
    SampleState* scratch = nullptr;  // of host memory, behind the layers: a request being translated
    bool state_valid = false; // pinned->state is what the device has
    struct {
        bool on = false;
        uint32_t length = 0;
        pith_token token = 0;
    } ahead;                  // the step that was begun with the token drawn
};

// By name, once found without a look at the libraries. Looked up at the first use, as the driver loads a kernel's code only then:
// what a build lacks is told by the call that needs it (PITH_E_UNSUPPORTED).
pith_status session_kernel(Session& s, const char* name, CUfunction* kernel, pith_error* error);
// A kernel of one parameter struct. overlap: it may begin while the one before it ends.
pith_status session_launch(Session& s, const char* name, const LaunchShape& shape, const void* params, pith_error* error, bool overlap = true);
// Enqueues one token; its logits go to at.logits[buffer]. token < 0: the one drawn last, as the device knows it.
pith_status enqueue_step(Session& s, pith_token token, uint32_t position, uint32_t buffer, pith_error* error);
// Enqueues a prompt, batch by batch, no more than about two submissions ahead of the GPU.
pith_status enqueue_prompt(Session& s, uint32_t length, const pith_token* tokens, uint32_t count, uint32_t rows, pith_error* error);
// Until all that was enqueued is done.
pith_status wait_for_all(Session& s, const char* what, pith_error* error);

}  // namespace pith::cuda
