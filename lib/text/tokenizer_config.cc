// The files beside tokenizer.json, each optional: special tokens, ends of text, chat template.
#include "base/utf8.h"
#include "text/tokenizer.h"

namespace pith {
namespace {

constexpr uint64_t kMaxFile = 1 << 26;

pith_status no_memory(pith_error* error, uint64_t size) { return fail_memory(error, "a tokenizer's configuration", size); }

struct SpecialName {
    const char* text;  // in tokenizer_config.json and special_tokens_map.json
    const char* id;    // in config.json and generation_config.json; NULL: not there
};
constexpr SpecialName kNames[kSpecialTokens] = {
    {"bos_token", "bos_token_id"}, {"eos_token", "eos_token_id"}, {"pad_token", "pad_token_id"}, {"unk_token", nullptr}};

}  // namespace

// *root stays NULL where the file is absent.
pith_status Tokenizer::read_json(const Folder& folder, const char* name, const Json** root, pith_error* error) const {
    const char* path = join_path(folder.arena, folder.path, name);
    if (!path) return no_memory(error, folder.path.size());
    Array<char> bytes(allocator_);
    bool found = false;
    PITH_TRY(read_optional_file(folder.files, path, kMaxFile, &bytes, &found, error));
    if (!found) return PITH_OK;
    PITH_TRY(json_parse({bytes.data(), bytes.size()}, name, folder.arena, root, error));
    return Field(*root, name).object(error);
}

pith_status Tokenizer::load_companions(const Folder& folder, pith_error* error) {
    const Json *config = nullptr, *map = nullptr, *model = nullptr, *generation = nullptr;
    PITH_TRY(read_json(folder, "tokenizer_config.json", &config, error));
    PITH_TRY(read_json(folder, "special_tokens_map.json", &map, error));
    PITH_TRY(read_json(folder, "config.json", &model, error));
    PITH_TRY(read_json(folder, "generation_config.json", &generation, error));
    const Field root(config, "tokenizer_config.json");
    PITH_TRY(load_config_added(root, error));
    PITH_TRY(find_specials(config, map, model, generation, error));
    bool add_bos = false;
    PITH_TRY(root.flag("add_bos_token", &add_bos, error));
    const int32_t bos = special(SpecialToken::Bos);
    if (prefix_.empty() && add_bos && bos >= 0 && !prefix_.push(bos)) return no_memory(error, sizeof bos);
    return load_chat_template(folder, root, error);
}

// added_tokens_decoder: tokens by id that tokenizer.json may lack.
pith_status Tokenizer::load_config_added(const Field& config, pith_error* error) {
    const Field list = config.member("added_tokens_decoder");
    if (!list.present()) return PITH_OK;
    PITH_TRY(list.object(error));
    Array<AddedToken> tokens(allocator_);
    for (size_t i = 0; i < list.count(); i++) {
        const JsonMember& member = list.json()->members[i];
        AddedToken token = {};
        PITH_TRY(read_added(list.member(member.key), &token, error));
        const uint32_t known = vocabulary_.find(token.text);
        if (known != kNoToken && vocabulary_[known].flags & Token::kAdded) continue;
        if (!tokens.push(token)) return no_memory(error, tokens.size() * sizeof token);
    }
    return add_tokens(tokens, config.file(), error);
}

// A string or {"content": …}. *none: it is there and null, so nobody else is asked.
pith_status Tokenizer::special_text(const Field& file, const char* key, std::string_view* text, bool* none, pith_error* error) const {
    const Field field = file.member(key);
    if (field.is(Json::Object)) return field.member("content").text(text, error);
    *none = field.is(Json::Null);
    return field.present() ? field.text(text, error) : PITH_OK;
}

// An id, a list of ids, or null. Negative ones mean none.
pith_status Tokenizer::special_ids(const Field& field, Array<int32_t>* ids, pith_error* error) const {
    if (!field.present()) return PITH_OK;
    const size_t count = field.is(Json::Array) ? field.count() : 1;
    for (size_t i = 0; i < count; i++) {
        const Field item = field.is(Json::Array) ? field.item(i) : field;
        if (!item.is(Json::Int)) return item.expected("a token id", error);
        const int64_t id = item.json()->integer;
        if (id < 0 || id >= vocab_size()) continue;  // a model's head may be wider than the vocabulary
        if (!ids->push(static_cast<int32_t>(id))) return no_memory(error, ids->size());
    }
    return PITH_OK;
}

pith_status Tokenizer::find_specials(const Json* config, const Json* map, const Json* model, const Json* generation, pith_error* error) {
    const Field texts[] = {Field(config, "tokenizer_config.json"), Field(map, "special_tokens_map.json")};
    const Field numbers[] = {Field(model, "config.json"), Field(generation, "generation_config.json")};
    for (size_t which = 0; which < kSpecialTokens; which++) {
        bool none = false;
        for (const Field& file : texts) {
            std::string_view text;
            if (none || special_[which] >= 0) break;
            PITH_TRY(special_text(file, kNames[which].text, &text, &none, error));
            const uint32_t token = text.empty() ? kNoToken : vocabulary_.find(text);
            if (token != kNoToken) special_[which] = static_cast<int32_t>(vocabulary_[token].id);
        }
        for (const Field& file : numbers) {
            if (!kNames[which].id) break;
            Array<int32_t> ids(allocator_);
            PITH_TRY(special_ids(file.member(kNames[which].id), &ids, error));
            if (special_[which] < 0 && !none && !ids.empty()) special_[which] = ids[0];
            if (which == static_cast<size_t>(SpecialToken::Eos) && !ends_.append(ids.data(), ids.size()))
                return no_memory(error, ids.size());
        }
    }
    int32_t& unknown = special_[static_cast<size_t>(SpecialToken::Unk)];
    const uint32_t token = bpe_.unknown().empty() ? kNoToken : vocabulary_.find(bpe_.unknown());
    if (unknown < 0 && token != kNoToken) unknown = static_cast<int32_t>(vocabulary_[token].id);
    const int32_t end = special(SpecialToken::Eos);
    return end < 0 || is_end(end) || ends_.push(end) ? PITH_OK : no_memory(error, sizeof end);
}

// chat_template.jinja, else tokenizer_config.json's chat_template: a string, or the "default" one of a list.
pith_status Tokenizer::load_chat_template(const Folder& folder, const Field& config, pith_error* error) {
    const char* path = join_path(folder.arena, folder.path, "chat_template.jinja");
    if (!path) return no_memory(error, folder.path.size());
    Array<char> bytes(allocator_);
    bool found = false;
    PITH_TRY(read_optional_file(folder.files, path, kMaxFile, &bytes, &found, error));
    std::string_view text(bytes.data(), bytes.size());
    if (found && !utf8_is_valid(text)) return fail(error, PITH_E_FORMAT, "chat_template.jinja: the text isn't UTF-8");
    const Field field = config.member("chat_template");
    if (!found && field.is(Json::Array)) {
        for (size_t i = 0; i < field.count(); i++) {
            std::string_view name;
            PITH_TRY(field.item(i).member("name").text(&name, error));
            if (name == "default") PITH_TRY(field.item(i).member("template").text(&text, error));
        }
    } else if (!found && field.present()) {
        PITH_TRY(field.text(&text, error));
    }
    const char* copy = parts_.arena.copy(text);
    if (!copy) return no_memory(error, text.size());
    chat_template_ = {copy, text.size()};
    return PITH_OK;
}

}  // namespace pith
