// The layout of a GPTQ layer: its group size, its zero points' version, its order of columns.
#include "base/check.h"
#include "model/views.h"

namespace pith {
namespace {

// Shapes that other formats, or GPTQ with other widths, give a tensor of this name.
pith_status check_packing(const ModelFile& model, const Linear& linear, pith_error* error) {
    const uint64_t rows = linear.rows, cols = linear.cols;
    const TensorView& qweight = linear.qweight;
    if (qweight.rank == 2 && qweight.shape[0] == cols && qweight.shape[1] * 8 == rows)
        return fail(error, PITH_E_UNSUPPORTED, "tensor %s: packed along its outputs, as AWQ does; expected GPTQ", qweight.name);
    if (qweight.rank == 2 && qweight.shape[1] == rows && qweight.shape[0] < cols && qweight.shape[0] * 8 != cols) {
        const uint64_t bits = qweight.shape[0] * 32 / cols;
        if (bits >= 2 && bits <= 8 && bits != 4 && ceil_div(cols * bits, uint64_t{32}) == qweight.shape[0])
            return fail(error, PITH_E_UNSUPPORTED, "tensor %s: %u bits a weight, expected 4", qweight.name, static_cast<unsigned>(bits));
    }
    if (rows % 8 != 0 || cols % 8 != 0)
        return fail(error, PITH_E_UNSUPPORTED, "%s: %u outputs of %u inputs in 4 bits, expected multiples of 8", linear.name, linear.rows,
                    linear.cols);
    PITH_TRY(expect_int32(qweight, error));
    return expect_shape(model, qweight, cols / 8, rows, error);
}

pith_status require(const ModelFile& model, const Linear& linear, const char* suffix, TensorView* view, pith_error* error) {
    *view = find_view(model, linear.name, suffix);
    return view->exists() ? PITH_OK : fail(error, PITH_E_FORMAT, "tensor %s.%s is missing beside qweight", linear.name, suffix);
}

// The config's group size where it fits the scales, else the one that does: files may give some layers another one.
pith_status choose_group(const ModelFile& model, Linear* linear, pith_error* error) {
    const uint32_t cols = linear->cols, groups = linear->groups, said = model.config.quant.group;
    if (groups == 1) {
        linear->group = align_up(cols, 32u);
        return PITH_OK;
    }
    if (said && ceil_div(cols, said) == groups) {
        linear->group = said;
        return PITH_OK;
    }
    for (uint32_t group = 32; group < cols; group *= 2) {
        if (ceil_div(cols, group) != groups) continue;
        linear->group = group;
        return PITH_OK;
    }
    return fail(error, PITH_E_UNSUPPORTED, "tensor %s: %u groups of %u inputs fit neither group_size %u nor another multiple of 32",
                linear->scales.name, groups, cols, said);
}

enum class Zeros { Sevens, Eights, Mixed };

// What all stored zero points are: 7 or 8 throughout is what symmetric quantisation stores in the two versions.
pith_status scan_zeros(const ModelFile& model, const TensorView& qzeros, std::span<uint32_t> chunk, Zeros* zeros, pith_error* error) {
    bool sevens = true, eights = true;
    for (uint64_t at = 0; at < qzeros.bytes && (sevens || eights);) {
        const uint64_t left = qzeros.bytes - at;
        const size_t size = left < chunk.size_bytes() ? static_cast<size_t>(left) : chunk.size_bytes();
        PITH_TRY(read_tensor(model, qzeros, at, chunk.data(), size, error));
        uint32_t not_seven = 0, not_eight = 0;
        for (size_t i = 0; i < size / sizeof(uint32_t); i++) {
            not_seven |= chunk[i] ^ 0x77777777u;
            not_eight |= chunk[i] ^ 0x88888888u;
        }
        sevens = sevens && !not_seven;
        eights = eights && !not_eight;
        at += size;
    }
    *zeros = sevens ? Zeros::Sevens : eights ? Zeros::Eights : Zeros::Mixed;
    return PITH_OK;
}

// Files exist that say v1 and hold v2. A symmetric layer shows which it is, so the layer is believed before the config.
pith_status choose_version(const ModelFile& model, std::span<uint32_t> chunk, Linear* linear, pith_error* error) {
    const QuantConfig& quant = model.config.quant;
    Zeros zeros;
    PITH_TRY(scan_zeros(model, linear->qzeros, chunk, &zeros, error));
    bool v2 = quant.v2;
    if (quant.symmetric && zeros != Zeros::Mixed) v2 = zeros == Zeros::Eights;
    linear->zero_offset = v2 ? 0 : 1;
    linear->symmetric = zeros == (v2 ? Zeros::Eights : Zeros::Sevens);
    return PITH_OK;
}

// g_idx to perm by a stable counting sort. Only groups that are equal but for a short last one can be run: then a sorted column's
// group follows from its position.
pith_status sort_columns(const Linear& linear, const TensorView& g_idx, std::span<const uint32_t> group_of, uint32_t* perm,
                         std::span<uint32_t> next, pith_error* error) {
    for (size_t k = 0; k < group_of.size(); k++) {
        if (group_of[k] >= linear.groups)
            return fail(error, PITH_E_FORMAT, "tensor %s: element %zu is %d, expected 0 to %u", g_idx.name, k,
                        static_cast<int>(group_of[k]), linear.groups - 1);
        next[group_of[k]]++;
    }
    uint32_t from = 0;
    for (uint32_t g = 0; g < linear.groups; g++) {
        const uint32_t expected = g + 1 < linear.groups ? linear.group : linear.cols - g * linear.group;
        if (next[g] != expected)
            return fail(error, PITH_E_UNSUPPORTED, "%s: group %u of g_idx has %u columns, expected %u", linear.name, g, next[g], expected);
        next[g] = from;
        from += expected;
    }
    for (size_t k = 0; k < group_of.size(); k++) perm[next[group_of[k]]++] = static_cast<uint32_t>(k);
    return PITH_OK;
}

pith_status read_order(ModelFile& model, std::span<const Linear* const> peers, Linear* linear, pith_error* error) {
    const TensorView g_idx = find_view(model, linear->name, "g_idx");
    if (!g_idx.exists()) {
        if (!model.config.quant.act_order || linear->groups == 1) return PITH_OK;
        return fail(error, PITH_E_FORMAT, "tensor %s.g_idx is missing, and desc_act is true", linear->name);
    }
    PITH_TRY(expect_int32(g_idx, error));
    PITH_TRY(expect_shape(model, g_idx, linear->cols, 0, error));
    Array<uint32_t> group_of(model.arena.allocator()), perm(model.arena.allocator()), next(model.arena.allocator());
    if (!group_of.resize(linear->cols)) return fail_memory(error, "g_idx", g_idx.bytes);
    PITH_TRY(read_tensor(model, g_idx, 0, group_of.data(), static_cast<size_t>(g_idx.bytes), error));
    bool zero = true, natural = true;
    for (uint32_t k = 0; k < linear->cols; k++) {
        zero = zero && group_of[k] == 0;
        natural = natural && group_of[k] == k / linear->group;
    }
    if (zero || natural) return PITH_OK;  // all zero: a dummy, not "one group"
    if (!perm.resize(linear->cols) || !next.resize(linear->groups)) return fail_memory(error, "the order of columns", g_idx.bytes);
    PITH_TRY(sort_columns(*linear, g_idx, group_of.span(), perm.data(), next.span(), error));
    for (const Linear* peer : peers) {
        if (!peer->perm || memcmp(peer->perm, perm.data(), perm.size() * sizeof(uint32_t)) != 0) continue;
        linear->perm = peer->perm;
        return PITH_OK;
    }
    uint32_t* kept = model.arena.make<uint32_t>(perm.size());
    if (!kept) return fail_memory(error, "the order of columns", g_idx.bytes);
    memcpy(kept, perm.data(), perm.size() * sizeof(uint32_t));
    linear->perm = kept;
    return PITH_OK;
}

}  // namespace

pith_status open_gptq(ModelFile& model, std::span<uint32_t> chunk, std::span<const Linear* const> peers, Linear* linear,
                      pith_error* error) {
    linear->kind = Linear::Gptq;
    PITH_TRY(check_packing(model, *linear, error));
    PITH_TRY(require(model, *linear, "scales", &linear->scales, error));
    PITH_TRY(require(model, *linear, "qzeros", &linear->qzeros, error));
    PITH_TRY(expect_float(model, linear->scales, error));
    const uint64_t groups = linear->scales.shape[0];
    if (groups == 0 || groups > linear->cols) return expect_shape(model, linear->scales, ceil_div(linear->cols, 128u), linear->rows, error);
    PITH_TRY(expect_shape(model, linear->scales, groups, linear->rows, error));
    linear->groups = static_cast<uint32_t>(groups);
    PITH_TRY(choose_group(model, linear, error));
    PITH_TRY(expect_int32(linear->qzeros, error));
    PITH_TRY(expect_shape(model, linear->qzeros, groups, linear->rows / 8, error));
    PITH_TRY(choose_version(model, chunk, linear, error));
    return read_order(model, peers, linear, error);
}

}  // namespace pith
