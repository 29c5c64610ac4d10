// Reading GPTQ's config under its several names and spellings.
#include "model/quant_config.h"

namespace pith {
namespace {

const Json* either(const Fields& fields, const char* first, const char* second, const char* third, const char** key) {
    for (const char* name : {first, second, third}) {
        *key = name;
        if (const Json* value = fields.get(name)) return value;
    }
    return nullptr;
}

pith_status check_method(const Fields& fields) {
    std::string_view method = "gptq";  // files of this name were GPTQ's before there was this member
    PITH_TRY(fields.string("quant_method", &method));
    if (method != "gptq") return fields.mismatch(PITH_E_UNSUPPORTED, "quant_method", "\"gptq\"", *fields.get("quant_method"));
    if (!fields.get("quant_method") && fields.get("zero_point"))
        return fail(fields.error, PITH_E_UNSUPPORTED, "%s: %szero_point: the member of an AWQ model, expected GPTQ", fields.source,
                    fields.prefix);
    return PITH_OK;
}

pith_status read_format(const Fields& fields, QuantConfig* quant) {
    std::string_view format = "gptq";
    // The newer of the two names comes last.
    for (const char* key : {"format", "checkpoint_format"}) {
        PITH_TRY(fields.string(key, &format));
        if (format != "gptq" && format != "gptq_v2")
            return fields.mismatch(PITH_E_UNSUPPORTED, key, "\"gptq\" or \"gptq_v2\"", *fields.get(key));
    }
    quant->v2 = format == "gptq_v2";
    bool marlin = false;
    PITH_TRY(fields.boolean("is_marlin_format", &marlin));
    if (marlin)
        return fail(fields.error, PITH_E_UNSUPPORTED, "%s: %sis_marlin_format: that layout is not read", fields.source, fields.prefix);
    std::string_view pack = "int32";
    PITH_TRY(fields.string("pack_dtype", &pack));
    if (pack != "int32") return fields.mismatch(PITH_E_UNSUPPORTED, "pack_dtype", "\"int32\"", *fields.get("pack_dtype"));
    return PITH_OK;
}

pith_status read_numbers(const Fields& fields, QuantConfig* quant) {
    const char* key = nullptr;
    if (const Json* bits = either(fields, "bits", "w_bit", "wbits", &key)) {
        if (!bits->is(Json::Int)) return fields.mismatch(PITH_E_FORMAT, key, "4", *bits);
        if (bits->integer != 4) return fields.mismatch(PITH_E_UNSUPPORTED, key, "4", *bits);
    }
    if (const Json* group = either(fields, "group_size", "q_group_size", "groupsize", &key)) {
        if (!group->is(Json::Int) || group->integer == 0 || group->integer < -1 || group->integer > kMaxWidth)
            return fields.mismatch(PITH_E_FORMAT, key, "-1 or a multiple of 32", *group);
        if (group->integer > 0 && group->integer % 32 != 0)
            return fields.mismatch(PITH_E_UNSUPPORTED, key, "-1 or a multiple of 32", *group);
        quant->group = group->integer < 0 ? 0 : static_cast<uint32_t>(group->integer);
    }
    PITH_TRY(fields.boolean("sym", &quant->symmetric));
    PITH_TRY(fields.boolean("desc_act", &quant->act_order));
    std::string_view base;
    PITH_TRY(fields.string("model_file_base_name", &base));
    if (base.size() < sizeof quant->base_name && !base.empty() && base != "model") memcpy(quant->base_name, base.data(), base.size());
    return PITH_OK;
}

pith_status read(const Fields& fields, QuantConfig* quant) {
    PITH_TRY(check_method(fields));
    PITH_TRY(read_format(fields, quant));
    PITH_TRY(read_numbers(fields, quant));
    quant->present = true;
    return PITH_OK;
}

}  // namespace

pith_status read_quant_config(const Files& files, Arena& scratch, const char* path, const Fields& config, QuantConfig* quant) {
    const Json* embedded = config.get("quantization_config");
    if (embedded) {
        if (!embedded->is(Json::Object)) return config.mismatch(PITH_E_FORMAT, "quantization_config", "an object", *embedded);
        // Also where another file goes before it: a folder that says it is something else is not to be guessed at.
        PITH_TRY(check_method({embedded, config.source, "quantization_config.", config.error}));
    }
    for (const char* file : {"quantize_config.json", "quant_config.json"}) {
        const char* name = join_path(scratch, path, file);
        if (!name) return fail_memory(config.error, "a path", 0);
        Array<char> text(scratch.allocator());
        bool found = false;
        PITH_TRY(read_optional_file(files, name, kMaxConfigBytes, &text, &found, config.error));
        if (!found) continue;
        const Json* root = nullptr;
        PITH_TRY(json_parse({text.data(), text.size()}, name, scratch, &root, config.error, kConfigLimits));
        if (!root->is(Json::Object)) return fail(config.error, PITH_E_FORMAT, "%s: expected an object", name);
        return read({root, name, "", config.error}, quant);
    }
    return embedded ? read({embedded, config.source, "quantization_config.", config.error}, quant) : PITH_OK;
}

}  // namespace pith
