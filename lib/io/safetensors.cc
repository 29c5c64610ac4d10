// Parsing and checking a safetensors header.
#include "io/safetensors.h"

#include <stdio.h>

#include <algorithm>

#include "base/check.h"
#include "base/json.h"

namespace pith {
namespace {

constexpr uint64_t kMaxHeader = 100000000;  // the limit of the format's own reader
constexpr size_t kMaxRank = 16;             // the format has no limit; no model comes near

struct DtypeInfo {
    std::string_view name;
    Dtype dtype;
    uint32_t bits;
};
constexpr DtypeInfo kDtypes[] = {
    {"BOOL", Dtype::Bool, 8},     {"U8", Dtype::U8, 8},         {"I8", Dtype::I8, 8},          {"F8_E5M2", Dtype::F8, 8},
    {"F8_E4M3", Dtype::F8, 8},    {"F8_E8M0", Dtype::F8, 8},    {"F8_E4M3FNUZ", Dtype::F8, 8}, {"F8_E5M2FNUZ", Dtype::F8, 8},
    {"I16", Dtype::I16, 16},      {"U16", Dtype::U16, 16},      {"F16", Dtype::F16, 16},       {"BF16", Dtype::BF16, 16},
    {"I32", Dtype::I32, 32},      {"U32", Dtype::U32, 32},      {"F32", Dtype::F32, 32},       {"I64", Dtype::I64, 64},
    {"U64", Dtype::U64, 64},      {"F64", Dtype::F64, 64},      {"C64", Dtype::Other, 64},     {"F4", Dtype::Other, 4},
    {"F6_E2M3", Dtype::Other, 6}, {"F6_E3M2", Dtype::Other, 6},
};

const DtypeInfo* find_dtype(std::string_view name) {
    for (const DtypeInfo& info : kDtypes)
        if (info.name == name) return &info;
    return nullptr;
}

class Reader {
public:
    Reader(const File& file, const char* name, Arena& arena, pith_error* error) : file_(file), name_(name), arena_(arena), error_(error) {}

    pith_status run(TensorTable* table) {
        Array<char> header(arena_.allocator());
        PITH_TRY(read_header(&header));
        Arena scratch(arena_.allocator());
        // A tensor's entry takes about 55 bytes of text and 7 values: a header denser in values than this has no room for tensors.
        JsonLimits limits;
        limits.depth = 4;
        limits.values = header.size() / 3 + 16;
        const Json* root = nullptr;
        PITH_TRY(json_parse({header.data(), header.size()}, name_, scratch, &root, error_, limits));
        if (!root->is(Json::Object)) return malformed("the header is not an object");
        header.reset();

        Tensor* tensors = arena_.make<Tensor>(root->size);
        if (!tensors) return fail_memory(error_, "a table of tensors", root->size * sizeof(Tensor));
        size_t count = 0;
        for (size_t i = 0; i < root->size; i++) {
            const JsonMember& member = root->members[i];
            if (member.name() == "__metadata__") {
                PITH_TRY(check_metadata(member.value));
            } else {
                PITH_TRY(read_tensor(member, &tensors[count++]));
            }
        }
        PITH_TRY(check_cover(tensors, count));
        std::sort(tensors, tensors + count, [](const Tensor& a, const Tensor& b) { return a.name < b.name; });
        table->tensors = {tensors, count};
        return PITH_OK;
    }

private:
    pith_status malformed(const char* what) { return fail(error_, PITH_E_FORMAT, "%s: %s", name_, what); }
    pith_status bad_tensor(const Tensor& tensor, const char* what) {
        return fail(error_, PITH_E_FORMAT, "%s: tensor %s: %s", name_, tensor.name.data(), what);
    }

    pith_status read_header(Array<char>* header) {
        unsigned char prefix[8];
        if (file_.size() < sizeof prefix) return malformed("too short for a safetensors file");
        PITH_TRY(file_.read(0, prefix, sizeof prefix, "the header's length", error_));
        uint64_t length = 0;
        for (int i = 7; i >= 0; i--) length = length << 8 | prefix[i];
        if (length > kMaxHeader)
            return fail(error_, PITH_E_LIMIT, "%s: a header of %llu bytes, more than the %llu allowed (is this a safetensors file?)", name_,
                        static_cast<unsigned long long>(length), static_cast<unsigned long long>(kMaxHeader));
        if (length > file_.size() - sizeof prefix)
            return fail(error_, PITH_E_FORMAT, "%s: a header of %llu bytes in a file of %llu", name_,
                        static_cast<unsigned long long>(length), static_cast<unsigned long long>(file_.size()));
        if (!header->resize(static_cast<size_t>(length))) return fail_memory(error_, name_, length);
        PITH_TRY(file_.read(sizeof prefix, header->data(), header->size(), "the header", error_));
        if (length == 0 || (*header)[0] != '{') return malformed("the header does not begin with '{'");
        data_begin_ = sizeof prefix + length;
        return PITH_OK;
    }

    pith_status check_metadata(const Json& metadata) {
        if (!metadata.is(Json::Object)) return malformed("__metadata__ is not an object");
        for (size_t i = 0; i < metadata.size; i++)
            if (!metadata.members[i].value.is(Json::String)) return malformed("__metadata__ holds something else than strings");
        return PITH_OK;
    }

    pith_status read_tensor(const JsonMember& member, Tensor* tensor) {
        const char* name = arena_.copy(member.name());
        if (!name) return fail_memory(error_, "a tensor's name", member.key_size);
        tensor->name = {name, member.key_size};
        for (const char c : tensor->name)
            if (c == '\0') return bad_tensor(*tensor, "its name holds a NUL");

        const Json* dtype = member.value.find("dtype");
        const Json* shape = member.value.find("shape");
        const Json* offsets = member.value.find("data_offsets");
        if (!dtype || !shape || !offsets || member.value.size != 3)
            return bad_tensor(*tensor, "expected dtype, shape and data_offsets, only");
        if (!dtype->is(Json::String)) return bad_tensor(*tensor, "dtype is not a string");
        const DtypeInfo* info = find_dtype(dtype->text());
        tensor->dtype = info ? info->dtype : Dtype::Unknown;
        const char* spelled = info ? info->name.data() : arena_.copy(dtype->text());
        if (!spelled) return fail_memory(error_, "a dtype's name", dtype->size);
        tensor->dtype_name = {spelled, dtype->size};

        if (!shape->is(Json::Array)) return bad_tensor(*tensor, "shape is not an array");
        if (shape->size > kMaxRank) return fail(error_, PITH_E_LIMIT, "%s: tensor %s: more than %zu dimensions", name_, name, kMaxRank);
        uint64_t* sizes = arena_.make<uint64_t>(shape->size);
        if (!sizes) return fail_memory(error_, "a shape", shape->size * sizeof(uint64_t));
        tensor->shape = sizes;
        tensor->rank = static_cast<uint32_t>(shape->size);
        for (size_t i = 0; i < shape->size; i++)
            if (!to_unsigned(shape->items[i], &sizes[i]))
                return bad_tensor(*tensor, "shape holds something else than non-negative integers");
        uint64_t begin = 0, end = 0;
        if (!offsets->is(Json::Array) || offsets->size != 2 || !to_unsigned(offsets->items[0], &begin) ||
            !to_unsigned(offsets->items[1], &end))
            return bad_tensor(*tensor, "data_offsets are not two non-negative integers");
        return check_extent(tensor, info ? info->bits : 0, begin, end);
    }

    // bits 0: an unknown dtype, whose size can't be checked.
    pith_status check_extent(Tensor* tensor, uint32_t bits, uint64_t begin, uint64_t end) {
        const uint64_t data_size = file_.size() - data_begin_;
        if (end < begin) return bad_tensor(*tensor, "data_offsets end before they begin");
        if (end > data_size)
            return fail(error_, PITH_E_FORMAT, "%s: tensor %s: ends at byte %llu of the data, which has %llu (is the file cut off?)", name_,
                        tensor->name.data(), static_cast<unsigned long long>(end), static_cast<unsigned long long>(data_size));
        tensor->offset = data_begin_ + begin;
        tensor->bytes = end - begin;
        uint64_t elements = 1, size = 0;
        for (uint32_t i = 0; i < tensor->rank; i++)
            if (!checked_mul(elements, tensor->shape[i], &elements)) return bad_tensor(*tensor, "its shape overflows");
        if (bits == 0) return PITH_OK;
        if (!checked_mul(elements, uint64_t{bits}, &size)) return bad_tensor(*tensor, "its shape overflows");
        if (size % 8 != 0) return bad_tensor(*tensor, "its last byte is not full");
        if (size / 8 != tensor->bytes)
            return fail(error_, PITH_E_FORMAT, "%s: tensor %s: its shape and dtype take %llu bytes, data_offsets %llu", name_,
                        tensor->name.data(), static_cast<unsigned long long>(size / 8), static_cast<unsigned long long>(tensor->bytes));
        return PITH_OK;
    }

    static bool to_unsigned(const Json& value, uint64_t* to) {
        if (!value.is(Json::Int) || value.integer < 0) return false;
        *to = static_cast<uint64_t>(value.integer);
        return true;
    }

    // The tensors must cover the data exactly: what a hole or an overlap holds would depend on the reader.
    pith_status check_cover(Tensor* tensors, size_t count) {
        std::sort(tensors, tensors + count,
                  [](const Tensor& a, const Tensor& b) { return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes; });
        uint64_t end = data_begin_;
        for (size_t i = 0; i < count; i++) {
            if (tensors[i].offset < end) return bad_tensor(tensors[i], "its data overlap another tensor's");
            if (tensors[i].offset > end) return bad_tensor(tensors[i], "a hole in the data before it");
            end += tensors[i].bytes;
        }
        if (end != file_.size())
            return fail(error_, PITH_E_FORMAT, "%s: %llu bytes after the last tensor", name_,
                        static_cast<unsigned long long>(file_.size() - end));
        return PITH_OK;
    }

    const File& file_;
    const char* name_;
    Arena& arena_;
    pith_error* error_;
    uint64_t data_begin_ = 0;
};

}  // namespace

const Tensor* TensorTable::find(std::string_view name) const {
    const auto at = std::lower_bound(tensors.begin(), tensors.end(), name, [](const Tensor& a, std::string_view b) { return a.name < b; });
    return at != tensors.end() && at->name == name ? &*at : nullptr;
}

uint32_t dtype_bytes(Dtype dtype) {
    for (const DtypeInfo& info : kDtypes)
        if (info.dtype == dtype && dtype != Dtype::Other) return info.bits / 8;
    return 0;
}

const char* dtype_name(Dtype dtype) {
    if (dtype == Dtype::F8) return "F8";
    if (dtype == Dtype::Other) return "another dtype";
    for (const DtypeInfo& info : kDtypes)
        if (info.dtype == dtype) return info.name.data();
    return "an unknown dtype";
}

pith_status read_safetensors(const File& file, const char* name, Arena& arena, TensorTable* table, pith_error* error) {
    return Reader(file, name, arena, error).run(table);
}

const char* format_shape(const uint64_t* shape, uint32_t rank, char* to, size_t size) {
    size_t at = 0;
    const auto put = [&](const char* format, unsigned long long value) {
        const int wrote = snprintf(to + at, size - at, format, value);
        at += wrote > 0 && static_cast<size_t>(wrote) < size - at ? static_cast<size_t>(wrote) : size - at - 1;
    };
    to[0] = 0;
    put("[", 0);
    for (uint32_t i = 0; i < rank; i++) put(i ? ", %llu" : "%llu", shape[i]);
    put("]", 0);
    return to;
}

}  // namespace pith
