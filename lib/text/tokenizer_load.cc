// Reading tokenizer.json: the parts read themselves, here they are put together.
#include <algorithm>

#include "text/tokenizer.h"

namespace pith {
namespace {

constexpr uint64_t kMaxFile = uint64_t{1} << 29;
constexpr uint64_t kMadeFactor = 4;  // texts that loading makes, to the file's size
constexpr uint64_t kLoadSteps = 1 << 24, kLoadStepsPerByte = 256;
constexpr size_t kMaxAdded = 1024;  // bytes of an added token: a text is searched for them at every position

// "dir/tokenizer.json" -> "dir"
std::string_view folder_of(std::string_view path) {
    size_t size = path.size();
    while (size > 0 && path[size - 1] != '/' && path[size - 1] != '\\') size--;
    return slice(path, 0, size);
}

}  // namespace

pith_status Tokenizer::load(const Files& files, const char* path, pith_error* error) {
    Arena arena(allocator_);
    const char* file = join_path(arena, path, "tokenizer.json");
    if (!file) return fail_memory(error, "a path", strlen(path));
    std::string_view folder = path;
    if (!file_exists(files, file) && file_exists(files, path)) {
        file = path;
        folder = folder_of(path);
    }
    {
        Arena documents(allocator_);  // large; gone before the next ones come
        Array<char> bytes(allocator_);
        PITH_TRY(read_file(files, file, kMaxFile, &bytes, error));
        const char* name = file + folder_of(file).size();
        const Json* root = nullptr;
        PITH_TRY(json_parse({bytes.data(), bytes.size()}, name, documents, &root, error));
        parts_.made_limit += kMadeFactor * bytes.size();
        bytes.reset();
        PITH_TRY(load_tokenizer(Field(root, name), error));
    }
    PITH_TRY(load_companions({files, folder, arena}, error));
    return prepare_added(error);
}

pith_status Tokenizer::load_tokenizer(const Field& root, pith_error* error) {
    PITH_TRY(root.object(error));
    std::string_view version = "1.0";
    PITH_TRY(root.text("version", &version, error));
    if (version != "1.0") return root.member("version").unsupported(version, error);
    PITH_TRY(normalizer_.load(root.member("normalizer"), &parts_, error));
    PITH_TRY(pre_tokenizer_.load(root.member("pre_tokenizer"), &parts_, error));
    PITH_TRY(decoder_.load(root.member("decoder"), &parts_, error));
    PITH_TRY(bpe_.load(root.member("model"), &vocabulary_, &parts_.arena, error));
    model_size_ = next_added_ = static_cast<uint32_t>(vocabulary_.size());
    if (bpe_.takes_bytes() && pre_tokenizer_.defer_bytes()) PITH_TRY(bpe_.use_bytes(vocabulary_, error));
    PITH_TRY(load_added(root.member("added_tokens"), error));
    return load_prefix(root.member("post_processor"), &prefix_, error);
}

pith_status Tokenizer::read_added(const Field& field, AddedToken* token, pith_error* error) const {
    PITH_TRY(field.object(error));
    PITH_TRY(field.member("content").text(&token->text, error));
    int64_t id = 0;
    PITH_TRY(field.number("id", 0, kMaxTokenId, &id, error));
    if (token->text.size() > kMaxAdded)
        return fail(error, PITH_E_LIMIT, "%s: %s: an added token of %zu bytes, at most %zu are allowed", field.file(), field.path(),
                    token->text.size(), kMaxAdded);
    bool special = false;
    PITH_TRY(field.flag("special", &special, error));
    bool normalized = !special, single_word = false, lstrip = false, rstrip = false;
    PITH_TRY(field.flag("normalized", &normalized, error));
    PITH_TRY(field.flag("single_word", &single_word, error));
    PITH_TRY(field.flag("lstrip", &lstrip, error));
    PITH_TRY(field.flag("rstrip", &rstrip, error));
    token->flags =
        static_cast<uint8_t>(Token::kAdded | (special ? Token::kSpecial : 0) | (normalized ? Token::kNormalized : 0) |
                             (single_word ? Token::kSingleWord : 0) | (lstrip ? Token::kLstrip : 0) | (rstrip ? Token::kRstrip : 0));
    return PITH_OK;
}

pith_status Tokenizer::load_added(const Field& list, pith_error* error) {
    if (!list.present()) return PITH_OK;
    PITH_TRY(list.array(error));
    Array<AddedToken> tokens(allocator_);
    if (!tokens.resize(list.count())) return fail_memory(error, "added tokens", list.count() * sizeof(AddedToken));
    for (size_t i = 0; i < list.count(); i++) PITH_TRY(read_added(list.item(i), &tokens[i], error));
    return add_tokens(tokens, list.file(), error);
}

// A token that the model has keeps the model's id; the others are numbered on from the model's end, as the `tokenizers` package does:
// the id in the file is what that gave when the file was written.
pith_status Tokenizer::add_tokens(const Array<AddedToken>& tokens, const char* file, pith_error* error) {
    Vocabulary& vocabulary = vocabulary_;
    for (const AddedToken& token : tokens) {
        if (token.text.empty()) continue;
        const uint32_t known = vocabulary.find(token.text);
        if (known != kNoToken) {
            const uint8_t sticky = vocabulary[known].flags & Token::kSpecial;
            vocabulary[known].flags = token.flags | sticky;
            continue;
        }
        const char* copy = parts_.arena.copy(token.text);
        if (!copy) return fail_memory(error, "added tokens", token.text.size());
        PITH_TRY(vocabulary.add({copy, token.text.size()}, next_added_++, token.flags, file, error));
    }
    return vocabulary.finish(file, error);
}

pith_status Tokenizer::load_template(const Field& processor, Array<int32_t>* prefix, pith_error* error) const {
    const Field single = processor.member("single"), specials = processor.member("special_tokens");
    PITH_TRY(single.array(error));
    for (size_t i = 0; i < single.count(); i++) {
        const Field token = single.item(i).member("SpecialToken");
        if (!token.present()) break;  // the text: what follows isn't asked for
        std::string_view name;
        PITH_TRY(token.member("id").text(&name, error));
        const Json* entry = specials.is(Json::Object) ? specials.json()->find(name) : nullptr;
        const Json* ids = entry ? entry->find("ids") : nullptr;
        if (!ids || !ids->is(Json::Array)) return token.member("id").expected("a key of special_tokens with ids", error);
        for (size_t j = 0; j < ids->size; j++) {
            const Json& id = ids->items[j];
            if (!id.is(Json::Int) || id.integer < 0 || id.integer > kMaxTokenId ||
                vocabulary_.find_id(static_cast<uint32_t>(id.integer)) == kNoToken)
                return token.member("id").expected("ids of the vocabulary", error);
            if (!prefix->push(static_cast<int32_t>(id.integer))) return fail_memory(error, "a template", prefix->size());
        }
    }
    return PITH_OK;
}

// What "post_processor" puts before a text.
pith_status Tokenizer::load_prefix(const Field& processor, Array<int32_t>* prefix, pith_error* error) const {
    if (!processor.present()) return PITH_OK;
    std::string_view type;
    PITH_TRY(processor.object(error));
    PITH_TRY(processor.member("type").text(&type, error));
    if (type == "ByteLevel") return PITH_OK;
    if (type == "TemplateProcessing") return load_template(processor, prefix, error);
    if (type == "RobertaProcessing" || type == "BertProcessing") {
        const Field id = processor.member("cls").item(1);
        if (!id.is(Json::Int) || id.json()->integer < 0 || id.json()->integer > kMaxTokenId ||
            vocabulary_.find_id(static_cast<uint32_t>(id.json()->integer)) == kNoToken)
            return id.expected("an id of the vocabulary", error);
        return prefix->push(static_cast<int32_t>(id.json()->integer)) ? PITH_OK : fail_memory(error, "a template", prefix->size());
    }
    if (type != "Sequence") return processor.unsupported(type, error);
    const Field list = processor.member("processors");
    PITH_TRY(list.array(error));
    for (size_t i = 0; i < list.count(); i++) {
        Array<int32_t> outer(allocator_);  // a later one puts its own before what is there
        PITH_TRY(load_prefix(list.item(i), &outer, error));
        if (!outer.append(prefix->data(), prefix->size())) return fail_memory(error, "a template", prefix->size());
        std::swap(*prefix, outer);
    }
    return PITH_OK;
}

// Once all added tokens are known: what to look for in texts, and what each token decodes to.
pith_status Tokenizer::prepare_added(pith_error* error) {
    Array<std::string_view> displays(allocator_);
    if (!displays.resize(vocabulary_.size())) return fail_memory(error, "a vocabulary", vocabulary_.size() * sizeof(std::string_view));
    NormalizerScratch scratch(allocator_);
    RegexScratch regex(allocator_);
    regex.fuel = kLoadSteps;
    for (uint32_t i = 0; i < vocabulary_.size(); i++) regex.fuel += kLoadStepsPerByte * vocabulary_[i].size;
    for (uint32_t i = 0; i < vocabulary_.size(); i++) {
        const Token& token = vocabulary_[i];
        if (!(token.flags & Token::kAdded)) continue;
        if (!(token.flags & Token::kNormalized) || normalizer_.empty()) {
            PITH_TRY((token.flags & Token::kNormalized ? normalized_ : raw_).add(token.view(), i, error));
            continue;
        }
        bool at_start = true;
        regex.text_limit = 1024 + 16 * token.size;
        PITH_TRY(normalizer_.run(token.view(), &scratch, &regex, &at_start, error));
        const std::string_view made(scratch.text.data(), scratch.text.size());
        PITH_TRY(parts_.keep(made, &displays[i], error));
        PITH_TRY(normalized_.add(displays[i], i, error));
    }
    raw_.finish();
    normalized_.finish();
    return decoder_.prepare(vocabulary_, displays, &regex, &parts_, error);
}

}  // namespace pith
