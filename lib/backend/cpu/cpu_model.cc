// Planning a model's memory, and bringing its weights from the file into tiles, a few bytes at a time.
#include "backend/cpu/cpu_model.h"

#include "base/check.h"
#include "base/status.h"
#include "parallel/fp_scope.h"

namespace pith::cpu {
namespace {

using kernels::kTileRows;
using kernels::Matrix;
using kernels::Type;

constexpr uint64_t kStripe = 4 << 20;  // source bytes of a dense matrix read and repacked at once, at least a tile
constexpr size_t kItemsPerLayer = 2 + 7 * 2;  // norms; linears and their biases

Type type_of(Dtype dtype) { return dtype == Dtype::F32 ? Type::F32 : dtype == Dtype::F16 ? Type::F16 : Type::BF16; }
uint64_t count_of(const TensorView& t) { return t.bytes / dtype_bytes(t.dtype); }

// Adds items, and gives each its place in the weights' block. Run twice: without a block it counts, with one it places.
class Planner {
public:
    Planner(Model& model, uint8_t* block) : model_(model), block_(block) { model.item_count = 0; }

    const float* floats(const TensorView& tensor) {
        if (!tensor.exists()) return nullptr;
        return reinterpret_cast<const float*>(add(Item::Floats, &tensor, nullptr, nullptr, count_of(tensor) * sizeof(float)));
    }
    void rows(const TensorView& tensor, Matrix& to) { to.data = add(Item::Rows, &tensor, nullptr, &to, tensor.bytes); }
    // head8: a float matrix as 8 bits, if its columns can be.
    void linear(const pith::Linear& from, Linear& to, bool head8 = false) {
        Matrix& w = to.matrix;
        w.rows = from.rows;
        w.cols = from.cols;
        if (from.kind == pith::Linear::Gptq) {
            w.type = Type::Q4;
            w.group = from.group;
            w.asymmetric = !from.symmetric;
            w.wide_scales = from.scales.dtype != Dtype::F16;
            to.perm = from.perm;
        } else if (head8 && from.cols % 8 == 0) {
            w.type = Type::Q8;
            w.group = kernels::kQ8Group;
        } else {
            w.type = type_of(from.weight.dtype);
        }
        w.tile_bytes = kernels::tile_bytes(w);
        const bool gptq = from.kind == pith::Linear::Gptq;
        w.data = add(gptq ? Item::Gptq : Item::Tiles, gptq ? &from.qweight : &from.weight, &from, &w, uint64_t{w.tiles()} * w.tile_bytes);
        to.bias = floats(from.bias);
        if (from.cols > model_.largest_input) model_.largest_input = from.cols;
    }
    uint64_t used() const { return used_; }

private:
    uint8_t* add(Item::Kind kind, const TensorView* tensor, const pith::Linear* source, Matrix* matrix, uint64_t bytes) {
        uint8_t* place = block_ ? block_ + used_ : nullptr;
        model_.items[model_.item_count++] = {kind, tensor, source, matrix, place};
        used_ += align_up(bytes, uint64_t{kernels::kWeightAlignment});
        return place;
    }

    Model& model_;
    uint8_t* block_;
    uint64_t used_ = 0;
};

// Source bytes of one item, all its tensors.
uint64_t source_bytes(const Item& item) {
    return item.kind == Item::Gptq ? item.source->qweight.bytes + item.source->qzeros.bytes + item.source->scales.bytes : item.weight->bytes;
}

// Of the rows of one tile of a float matrix, as the file has them.
uint64_t tile_source_bytes(const Item& item) { return kTileRows * uint64_t{item.matrix->cols} * dtype_bytes(item.weight->dtype); }

uint64_t stripe_bytes(const Item& item) {
    const uint64_t tile = tile_source_bytes(item);
    return tile * (tile < kStripe ? kStripe / tile : 1);
}

uint64_t staging_for(const Item& item) {
    switch (item.kind) {
        case Item::Gptq: return source_bytes(item);
        case Item::Tiles: return stripe_bytes(item) < item.weight->bytes ? stripe_bytes(item) : item.weight->bytes;
        case Item::Floats: return item.weight->bytes;
        default: return 0;
    }
}

void plan(Model& m, uint8_t* block) {
    const ModelFile& file = *m.file;
    Planner planner(m, block);
    if (!file.tied) {
        m.embedding.type = type_of(file.embed.weight.dtype);
        m.embedding.rows = file.embed.rows;
        m.embedding.cols = file.embed.cols;
        planner.rows(file.embed.weight, m.embedding);
    }
    for (uint32_t i = 0; i < file.config.layers; i++) {
        const pith::Layer& from = file.layers[i];
        Layer& to = m.layers[i];
        to.attention_norm = planner.floats(from.input_norm);
        planner.linear(from.q, to.q);
        planner.linear(from.k, to.k);
        planner.linear(from.v, to.v);
        planner.linear(from.o, to.o);
        to.mlp_norm = planner.floats(from.post_attention_norm);
        planner.linear(from.gate, to.gate);
        planner.linear(from.up, to.up);
        planner.linear(from.down, to.down);
    }
    m.final_norm = planner.floats(file.final_norm);
    planner.linear(file.head, m.head, m.host.head8);
    if (file.tied) m.embedding = m.head.matrix;  // one copy: rows are gathered from the tiles
    m.weight_bytes = planner.used();
}

// The model's allocator has counted it as weights.
void count_staging(Model& m, uint64_t bytes) {
    if (!m.host.account) return;
    m.host.account->add(Used::HostStaging, bytes);
    m.host.account->subtract(Used::HostWeights, bytes);
}

pith_status allocate(Model& m, pith_error* error) {
    const pith_allocator& a = *m.host.allocator;
    if (m.weight_bytes > SIZE_MAX / 2 || m.staging_bytes > SIZE_MAX / 2) return fail_memory(error, "the weights", m.weight_bytes);
    if (!m.staging && m.staging_bytes) {
        m.staging = static_cast<uint8_t*>(a.alloc(a.user, static_cast<size_t>(m.staging_bytes), kCacheLine));
        if (!m.staging) return fail_memory(error, "staging for the weights", m.staging_bytes);
        count_staging(m, m.staging_bytes);
    }
    if (!m.weights) {
        m.weights = static_cast<uint8_t*>(a.alloc(a.user, static_cast<size_t>(m.weight_bytes), kernels::kWeightAlignment));
        if (!m.weights) return fail_memory(error, "the weights", m.weight_bytes);
        plan(m, m.weights);
    }
    return PITH_OK;
}

void free_staging(Model& m) {
    const pith_allocator& a = *m.host.allocator;
    if (!m.staging) return;
    count_staging(m, 0 - m.staging_bytes);
    a.free(a.user, m.staging, static_cast<size_t>(m.staging_bytes), kCacheLine);
    m.staging = nullptr;
}

// ---------------------------------------------------------------- loading
// Fills staging with source bytes [from, from + size) of a Gptq item: its three tensors one after another.
pith_status read_gptq(Model& m, const Item& item, uint64_t from, uint64_t size, pith_error* error) {
    uint64_t first = 0;  // of the tensor, in the item
    for (const TensorView* t : {&item.source->qweight, &item.source->qzeros, &item.source->scales}) {
        const uint64_t begin = from > first ? from - first : 0, end = from + size > first ? from + size - first : 0;
        const uint64_t stop = end < t->bytes ? end : t->bytes;
        if (begin < stop) PITH_TRY(read_tensor(*m.file, *t, begin, m.staging + first + begin, static_cast<size_t>(stop - begin), error));
        first += t->bytes;
    }
    return PITH_OK;
}

pith_status check_scales(const TensorView& scales, const void* values, pith_error* error) {
    const size_t count = static_cast<size_t>(count_of(scales)), bad = scan_finite(scales.dtype, values, count);
    if (bad == count) return PITH_OK;
    return fail(error, PITH_E_FORMAT, "%s: value %llu of %llu is NaN or infinite", scales.name, static_cast<unsigned long long>(bad),
                static_cast<unsigned long long>(count));
}

template <class Pack>
void pack_tiles(Model& m, const Matrix& w, uint32_t tile_begin, uint32_t tile_end, Pack pack) {
    const uint32_t step = 1 + static_cast<uint32_t>(Crew::kBytesPerSlot / (w.tile_bytes + 1));
    auto body = [&](uint32_t chunk, uint32_t) {
        const uint32_t at = tile_begin + chunk * step;
        pack(at, at + step < tile_end ? at + step : tile_end);
    };
    const uint32_t tiles = tile_end - tile_begin;
    m.crew.run(ceil_div(tiles, step), uint64_t{tiles} * w.tile_bytes, body);
}

pith_status finish_gptq(Model& m, const Item& item, pith_error* error) {
    const pith::Linear& from = *item.source;
    const uint8_t* scales = m.staging + from.qweight.bytes + from.qzeros.bytes;
    PITH_TRY(check_scales(from.scales, scales, error));
    const kernels::GptqSource source{reinterpret_cast<const uint32_t*>(m.staging), reinterpret_cast<const uint32_t*>(m.staging + from.qweight.bytes),
                                     scales, type_of(from.scales.dtype), from.zero_offset, from.perm};
    const Matrix& w = *item.matrix;
    pack_tiles(m, w, 0, w.tiles(), [&](uint32_t begin, uint32_t end) { kernels::pack_gptq(w, item.to, source, begin, end); });
    return PITH_OK;
}

// A dense matrix's rows [first_row, …) that staging holds, whole tiles but for the last.
void pack_stripe(Model& m, const Item& item, uint64_t from, uint64_t size) {
    const Matrix& w = *item.matrix;
    const uint64_t tile_source = tile_source_bytes(item), first_tile = from / tile_source;
    Matrix stripe = w;  // the rows of this stripe as a matrix of their own
    stripe.rows = static_cast<uint32_t>(size / (tile_source / kTileRows));
    uint8_t* to = item.to + first_tile * w.tile_bytes;
    pack_tiles(m, stripe, 0, stripe.tiles(),
               [&](uint32_t begin, uint32_t end) {
                   if (w.type == Type::Q8) return kernels::pack_q8(stripe, to, m.staging, type_of(item.weight->dtype), begin, end);
                   kernels::pack_dense(stripe, to, m.staging, begin, end);
               });
}

// PITH_MODEL_SCAN: `size` bytes of a float tensor, from byte `from` on.
pith_status scan(const Model& m, const TensorView& tensor, uint64_t from, const void* values, uint64_t size, pith_error* error) {
    if (!m.host.scan) return PITH_OK;
    const size_t each = dtype_bytes(tensor.dtype), count = static_cast<size_t>(size / each), bad = scan_finite(tensor.dtype, values, count);
    if (bad == count) return PITH_OK;
    return fail(error, PITH_E_FORMAT, "%s: value %llu is NaN or infinite", tensor.name, static_cast<unsigned long long>(from / each + bad));
}

// Moves up to `budget` bytes of the current item (at least one indivisible piece) and says how many.
pith_status step(Model& m, uint64_t budget, uint64_t* moved, pith_error* error) {
    const Item& item = m.items[m.item];
    const TensorView& tensor = *item.weight;
    const uint64_t left = source_bytes(item) - m.moved;
    uint64_t size = budget < left ? budget : left;
    if (item.kind == Item::Gptq) {
        PITH_TRY(read_gptq(m, item, m.moved, size, error));
        if (size == left) PITH_TRY(finish_gptq(m, item, error));
    } else if (item.kind == Item::Tiles) {
        const uint64_t tile = tile_source_bytes(item), most = stripe_bytes(item);
        size = budget < tile ? tile : budget < most ? budget - budget % tile : most;
        size = size < left ? size : left;
        PITH_TRY(read_tensor(*m.file, tensor, m.moved, m.staging, static_cast<size_t>(size), error));
        PITH_TRY(scan(m, tensor, m.moved, m.staging, size, error));
        pack_stripe(m, item, m.moved, size);
    } else if (item.kind == Item::Rows) {
        size = size < left ? align_up(size, uint64_t{4}) : left;  // whole values
        PITH_TRY(read_tensor(*m.file, tensor, m.moved, item.to + m.moved, static_cast<size_t>(size), error));
        PITH_TRY(scan(m, tensor, m.moved, item.to + m.moved, size, error));
    } else {
        size = left;  // a few kilobytes
        PITH_TRY(read_tensor(*m.file, tensor, 0, m.staging, static_cast<size_t>(size), error));
        PITH_TRY(scan(m, tensor, 0, m.staging, size, error));
        m.kernels->to_float(type_of(tensor.dtype), m.staging, static_cast<size_t>(count_of(tensor)), reinterpret_cast<float*>(item.to));
    }
    *moved = size;
    return PITH_OK;
}

}  // namespace

pith_status model_create(const BackendHost* host, const ModelFile* file, void** model, BackendBytes* bytes, pith_error* error) {
    const kernels::Table* table = kernels::table(static_cast<kernels::Tier>(host->cpu_tier));
    if (!table) return fail(error, PITH_E_UNSUPPORTED, "CPU kernels of tier %u are not in this build", host->cpu_tier);
    Model* m = create<Model>(*host->allocator, *host, file);
    if (!m) return fail_memory(error, "the model", sizeof(Model));
    m->kernels = table;
    const size_t layers = file->config.layers, most_items = layers * kItemsPerLayer + 4;
    m->layers = m->arena.make<Layer>(layers);
    m->items = m->arena.make<Item>(most_items);
    if (!m->layers || !m->items) {
        destroy(*host->allocator, m);
        return fail_memory(error, "the model's tables", most_items * sizeof(Item));
    }
    plan(*m, nullptr);
    for (size_t i = 0; i < m->item_count; i++) {
        const uint64_t staging = staging_for(m->items[i]);
        if (staging > m->staging_bytes) m->staging_bytes = staging;
        m->left += source_bytes(m->items[i]);
    }
    bytes->host = m->weight_bytes;
    *model = m;
    return PITH_OK;
}

pith_status model_load(void* model, uint64_t budget, uint64_t* left, pith_error* error) {
    Model& m = *static_cast<Model*>(model);
    const FpScope fp;
    m.crew.begin();
    if (m.item < m.item_count) PITH_TRY(allocate(m, error));
    uint64_t spent = 0;
    while (m.item < m.item_count && (budget == 0 || spent < budget)) {
        uint64_t moved = 0;
        PITH_TRY(step(m, budget ? budget - spent : UINT64_MAX, &moved, error));
        spent += moved;
        m.moved += moved;
        m.left -= moved;
        if (m.moved == source_bytes(m.items[m.item])) {
            m.item++;
            m.moved = 0;
        }
    }
    m.crew.settle();
    if (m.crew.take_breaches()) return fail(error, PITH_E_RUNNER, "the runner broke its contract while weights were repacked");
    if (m.item == m.item_count) free_staging(m);
    *left = m.left;
    return PITH_OK;
}

void model_destroy(void* model) {
    Model* m = static_cast<Model*>(model);
    if (!m) return;
    const pith_allocator allocator = *m->host.allocator;
    free_staging(*m);
    if (m->weights) allocator.free(allocator.user, m->weights, static_cast<size_t>(m->weight_bytes), kernels::kWeightAlignment);
    destroy(allocator, m);
}

}  // namespace pith::cpu
