// Where everything of a model goes on a device.
#include "base/block.h"
#include "base/check.h"
#include "loader.h"

namespace pith::cuda {
namespace {

constexpr uint64_t kStaging = 8 << 20, kAlignment = 1024;

bool is_gptq(const pith::Linear& l) { return l.kind == pith::Linear::Gptq; }
bool is_wide(const pith::Linear& l) { return (is_gptq(l) ? l.scales.dtype : l.weight.dtype) != Dtype::F16; }

bool alike(const pith::Linear& a, const pith::Linear& b) {
    if (a.kind != b.kind || a.perm != b.perm) return false;
    return !is_gptq(a) ||
           (a.group == b.group && a.groups == b.groups && a.symmetric == b.symmetric && (a.symmetric || a.zero_offset == b.zero_offset));
}

class Planner {
public:
    explicit Planner(Model& m)
        : m_(m),
          device_(reinterpret_cast<uint8_t*>(m.weights), kAlignment),
          host_(reinterpret_cast<uint8_t*>(m.embedding_device), kAlignment) {
        m.item_count = 0;
    }

    const float* floats(const TensorView& tensor) {
        float* to = take<float>(device_, tensor.bytes / dtype_bytes(tensor.dtype));
        add_floats(tensor, to, {Rows::Whole, 0});
        return to;
    }
    Linear linear(const pith::Linear& from) {
        const pith::Linear* parts[] = {&from};
        const RowPlace places[] = {{Rows::Whole, 0}};
        Linear to = stack(parts, places, from.rows);
        to.inverse = inverse(from);
        return to;
    }
    void qkv(const pith::Layer& from, Fused* to) {
        const pith::Linear* parts[] = {&from.q, &from.k, &from.v};
        to->fused = alike(from.q, from.k) && alike(from.q, from.v);
        if (!to->fused) return apart(parts, to);
        RowPlace places[3] = {};
        uint32_t rows = 0;
        for (int i = 0; i < 3; i++) {
            places[i].first = to->first_row[i] = align_up(rows, kTileRows);
            rows = places[i].first + parts[i]->rows;
        }
        to->parts[0] = stack(parts, places, rows);
        to->parts[0].inverse = inverse(from.q);
    }
    void gate_up(const pith::Layer& from, Fused* to) {
        const pith::Linear* parts[] = {&from.gate, &from.up};
        to->fused = alike(from.gate, from.up);
        order_ = row_order(from);
        if (!to->fused) {
            apart(parts, to);
        } else {
            const RowPlace places[] = {{Rows::Upper, 0}, {Rows::Lower, 0}};
            to->parts[0] = stack(parts, places, ceil_div(from.gate.rows, kTileRows / 2) * kTileRows);
            to->parts[0].inverse = inverse(from.gate);
        }
        order_ = nullptr;
    }
    Linear down(const pith::Layer& from) {
        const pith::Linear* parts[] = {&from.down};
        const RowPlace places[] = {{Rows::Whole, 0}};
        Linear to = stack(parts, places, from.down.rows);
        if (!row_order(from)) to.inverse = inverse(from.down);
        return to;
    }
    void embedding(const pith::Linear& from) {
        const uint64_t values = uint64_t{from.rows} * from.cols;
        m_.embedding.rows = take<uint16_t>(host_, values);
        if (m_.file->tied) return;  // with the head's tiles, from one reading
        Matrix none{};
        none.row_scale = is_wide(from) ? take<float>(device_, from.rows) : nullptr;
        m_.embedding.row_scale = none.row_scale;
        add({.kind = Item::Dense,
             .cols = from.cols,
             .tensor = &from.weight,
             .source = &from,
             .perm = nullptr,
             .order = nullptr,
             .to = nullptr,
             .matrix = none,
             .plain = true,
             .place = {}});
    }
    void head(const pith::Linear& from) {
        m_.head = linear(from);
        if (!m_.file->tied) return;
        m_.embedding.row_scale = m_.head.matrix.row_scale;
        for (size_t i = m_.item_count; i-- > 0;)
            if (m_.items[i].kind == Item::Dense && m_.items[i].source == &from) m_.items[i].plain = true;
    }
    void next_layer() { known_ = 0; }
    uint64_t used() const { return device_.overflow() ? UINT64_MAX : device_.used(); }
    uint64_t host_used() const { return host_.overflow() ? UINT64_MAX : host_.used(); }

private:
    // The order that down wants its input in, where gate's and up's rows can have it from loading on: then nothing is put into order later.
    static const uint32_t* row_order(const pith::Layer& from) { return is_gptq(from.gate) && is_gptq(from.up) ? from.down.perm : nullptr; }
    // NULL while counting.
    template <class T>
    static T* take(Block& from, uint64_t count) {
        T* place = nullptr;
        from.take(place, count);
        return place;
    }
    void apart(std::span<const pith::Linear*> parts, Fused* to) {
        for (size_t i = 0; i < parts.size(); i++) to->parts[i] = linear(*parts[i]);
    }

    // One matrix of all parts, which are alike.
    Linear stack(std::span<const pith::Linear* const> parts, const RowPlace* places, uint32_t rows) {
        const pith::Linear& first = *parts[0];
        Matrix w{};
        bool wide = false, bias = false;
        for (const pith::Linear* part : parts) {
            wide |= is_wide(*part);
            bias |= part->bias.exists();
        }
        w.rows = rows;
        w.cols = first.cols;
        w.tiles = ceil_div(rows, kTileRows);
        w.chunks = ceil_div(first.cols, kChunkCols);
        w.type = is_gptq(first) ? WeightType::Q4 : WeightType::F16;
        const uint64_t chunks = uint64_t{w.tiles} * w.chunks;
        w.data = take<uint8_t>(device_, chunks * (is_gptq(first) ? kQ4ChunkBytes : kF16ChunkBytes));
        if (is_gptq(first)) {
            w.group = first.group;
            w.groups = first.groups;
            w.scales = take<uint32_t>(device_, uint64_t{w.tiles} * w.groups * 8);
            if (!first.symmetric) {
                w.zeros = take<uint32_t>(device_, uint64_t{w.tiles} * ceil_div(w.groups, 4u) * 8);
                w.zero_offset = first.zero_offset;
            }
        }
        if (wide) w.row_scale = take<float>(device_, uint64_t{w.tiles} * kTileRows);
        if (bias) w.bias = take<float>(device_, uint64_t{w.tiles} * kTileRows);
        for (size_t i = 0; i < parts.size(); i++) add_part(*parts[i], w, places[i]);
        return {w, nullptr};
    }

    void add_part(const pith::Linear& from, const Matrix& to, RowPlace place) {
        const bool gptq = is_gptq(from);
        add({.kind = gptq ? Item::Gptq : Item::Dense,
             .cols = from.cols,
             .tensor = gptq ? nullptr : &from.weight,
             .source = &from,
             .perm = from.perm,
             .order = order_,
             .to = nullptr,
             .matrix = to,
             .plain = false,
             .place = place});
        if (from.bias.exists()) add_floats(from.bias, const_cast<float*>(to.bias), place, order_);
    }
    void add_floats(const TensorView& tensor, float* to, RowPlace place, const uint32_t* order = nullptr) {
        add({.kind = Item::Floats,
             .cols = 0,
             .tensor = &tensor,
             .source = nullptr,
             .perm = nullptr,
             .order = order,
             .to = to,
             .matrix = {},
             .plain = false,
             .place = place});
    }

    // The table of a perm, once a layer: what shares an input shares the pointer.
    const uint32_t* inverse(const pith::Linear& from) {
        if (!from.perm) return nullptr;
        for (size_t i = 0; i < known_; i++)
            if (perms_[i] == from.perm) return tables_[i];
        uint32_t* to = take<uint32_t>(device_, from.cols);
        add({.kind = Item::Inverse,
             .cols = from.cols,
             .tensor = nullptr,
             .source = nullptr,
             .perm = from.perm,
             .order = nullptr,
             .to = to,
             .matrix = {},
             .plain = false,
             .place = {}});
        perms_[known_] = from.perm;
        tables_[known_++] = to;
        return to;
    }
    void add(const Item& item) { m_.items[m_.item_count++] = item; }

    Model& m_;
    Block device_, host_;
    const uint32_t* perms_[7] = {};
    const uint32_t* tables_[7] = {};
    size_t known_ = 0;
    const uint32_t* order_ = nullptr;  // of the rows of what is being planned
};

uint64_t largest(uint64_t a, uint64_t b) { return a > b ? a : b; }

}  // namespace

void plan_model(Model& m) {
    const ModelFile& file = *m.file;
    Planner planner(m);
    planner.embedding(file.embed);
    for (uint32_t i = 0; i < file.config.layers; i++) {
        const pith::Layer& from = file.layers[i];
        Layer& to = m.layers[i];
        planner.next_layer();
        to.attention_norm = planner.floats(from.input_norm);
        planner.qkv(from, &to.qkv);
        to.o = planner.linear(from.o);
        to.mlp_norm = planner.floats(from.post_attention_norm);
        planner.gate_up(from, &to.gate_up);
        to.down = planner.down(from);
    }
    planner.next_layer();
    m.final_norm = planner.floats(file.final_norm);
    planner.head(file.head);
    m.weight_bytes = planner.used();
    m.row_bytes = planner.host_used();
}

uint64_t table_bytes(const pith::Linear& linear) { return (linear.symmetric ? 0 : linear.qzeros.bytes) + linear.scales.bytes; }

uint64_t source_bytes(const Item& item) {
    switch (item.kind) {
        case Item::Gptq:
            return table_bytes(*item.source) + item.source->qweight.bytes;
        case Item::Inverse:
            return 0;
        default:
            return item.tensor->bytes;
    }
}

void plan_buffers(const Model& m, Loader* loader) {
    uint64_t whole = 0, piece = 0, tables = 0, cols = 0, rows = 0;
    for (size_t i = 0; i < m.item_count; i++) {
        const Item& item = m.items[i];
        whole = largest(whole, source_bytes(item));
        if (item.kind == Item::Inverse || item.perm) cols = largest(cols, item.cols);
        if (item.kind == Item::Dense) piece = largest(piece, uint64_t{item.cols} * dtype_bytes(item.tensor->dtype));
        if (item.kind == Item::Floats) piece = largest(piece, item.tensor->bytes);
        if (item.kind != Item::Gptq) continue;
        piece = largest(piece, uint64_t{item.source->rows} * sizeof(uint32_t));
        tables = largest(tables, table_bytes(*item.source));
        if (item.order) rows = largest(rows, item.source->rows);
    }
    loader->perm_bytes = align_up(cols * sizeof(uint32_t), uint64_t{256});
    loader->order_bytes = align_up(rows * sizeof(uint32_t), uint64_t{256});
    loader->table_bytes = align_up(tables, uint64_t{256});
    // No more than there is to move, no less than an indivisible piece.
    loader->staging_bytes = align_up(largest(largest(piece, cols * sizeof(uint32_t)), whole < kStaging ? whole : kStaging), uint64_t{256});
}

}  // namespace pith::cuda
