// Reading tokenizer.json's "model": vocabulary, merges and options, each checked before it is used.
#include <algorithm>

#include "text/bpe.h"
#include "text/bytes.h"

namespace pith {
namespace {

constexpr uint32_t kMaxProbes = 1024;
constexpr size_t kMaxMerges = 1u << 24;

pith_status no_memory(pith_error* error, uint64_t size) { return fail_memory(error, "byte-pair encoding", size); }

}  // namespace

pith_status Bpe::load(const Field& model, Vocabulary* vocabulary, Arena* arena, pith_error* error) {
    PITH_TRY(model.object(error));
    std::string_view type = "BPE";  // old files don't say
    PITH_TRY(model.text("type", &type, error));
    if (type != "BPE") return model.unsupported(type, error);
    PITH_TRY(load_options(model, arena, error));
    PITH_TRY(load_vocabulary(model, vocabulary, arena, error));
    count_ = static_cast<uint32_t>(vocabulary->size());
    PITH_TRY(load_merges(model, *vocabulary, error));
    const auto id_of = [vocabulary](std::string_view text) {
        const uint32_t index = vocabulary->find(text);
        return index == kNoToken ? kNoToken : (*vocabulary)[index].id;
    };
    if (!unknown_.empty()) unknown_id_ = id_of(unknown_);
    for (uint32_t byte = 0; byte < 256; byte++) {
        const char* digits = "0123456789ABCDEF";
        const char name[] = {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
        byte_ids_[byte] = id_of({name, sizeof name});
    }
    return PITH_OK;
}

pith_status Bpe::load_options(const Field& model, Arena* arena, pith_error* error) {
    const auto keep = [&](const char* key, std::string_view* value) -> pith_status {
        std::string_view text;
        PITH_TRY(model.text(key, &text, error));
        const char* copy = arena->copy(text);
        if (!copy) return no_memory(error, text.size());
        *value = {copy, text.size()};
        return PITH_OK;
    };
    PITH_TRY(keep("unk_token", &unknown_));
    PITH_TRY(keep("continuing_subword_prefix", &prefix_));
    PITH_TRY(keep("end_of_word_suffix", &suffix_));
    const Field dropout = model.member("dropout");  // merges left out by chance: ids would differ from call to call
    if (dropout.present() && !(dropout.json()->is_number() && dropout.json()->as_double() == 0))
        return dropout.unsupported("dropout", error);
    PITH_TRY(model.flag("fuse_unk", &fuse_unknown_, error));
    PITH_TRY(model.flag("byte_fallback", &byte_fallback_, error));
    return model.flag("ignore_merges", &ignore_merges_, error);
}

pith_status Bpe::load_vocabulary(const Field& model, Vocabulary* vocabulary, Arena* arena, pith_error* error) {
    const Field field = model.member("vocab");
    PITH_TRY(field.object(error));
    const size_t count = field.count();
    if (count > kMaxTokenId)
        return fail(error, PITH_E_LIMIT, "%s: %s: %zu tokens, at most %u are allowed", field.file(), field.path(), count, kMaxTokenId);
    if (!vocabulary->reserve(count)) return no_memory(error, count * sizeof(Token));
    for (size_t i = 0; i < count; i++) {
        const JsonMember& member = field.json()->members[i];
        const int shown = static_cast<int>(member.key_size < 60 ? member.key_size : 60);
        if (!member.value.is(Json::Int) || member.value.integer < 0 || member.value.integer > kMaxTokenId)
            return fail(error, PITH_E_FORMAT, "%s: %s: the id of '%.*s' isn't an integer from 0 to %u", field.file(), field.path(), shown,
                        member.key, kMaxTokenId);
        const char* text = arena->copy(member.name());
        if (!text) return no_memory(error, member.key_size);
        PITH_TRY(vocabulary->add({text, member.key_size}, static_cast<uint32_t>(member.value.integer), 0, field.file(), error));
    }
    return vocabulary->finish(field.file(), error);
}

pith_status Bpe::load_merges(const Field& model, const Vocabulary& vocabulary, pith_error* error) {
    const Field field = model.member("merges");
    PITH_TRY(field.array(error));
    const size_t count = field.count();
    if (count > kMaxMerges)
        return fail(error, PITH_E_LIMIT, "%s: %s: %zu merges, at most %zu are allowed", field.file(), field.path(), count, kMaxMerges);
    if (!grow_merges()) return no_memory(error, sizeof(Merge));
    Array<char> joined(*allocator_);
    for (size_t i = 0, rank = 0; i < count; i++) {
        const Json& item = field.json()->items[i];
        if (item.is(Json::String) && starts_with(item.text(), "#version")) continue;  // a line of merges.txt
        PITH_TRY(add_merge(field, i, static_cast<uint32_t>(rank++), vocabulary, &joined, error));
    }
    return PITH_OK;
}

// "left right" or ["left", "right"].
pith_status Bpe::add_merge(const Field& merges, size_t at, uint32_t rank, const Vocabulary& vocabulary, Array<char>* joined,
                           pith_error* error) {
    const Json& item = merges.json()->items[at];
    std::string_view left, right;
    if (item.is(Json::String)) {
        const std::string_view text = item.text();
        const void* space = memchr(text.data(), ' ', text.size());
        const size_t cut = space ? static_cast<size_t>(static_cast<const char*>(space) - text.data()) : text.size();
        left = slice(text, 0, cut);
        right = slice(text, cut + 1);
        if (!space || memchr(right.data(), ' ', right.size())) return merges.item(at).expected("two tokens with a space between", error);
    } else if (item.is(Json::Array) && item.size == 2 && item.items[0].is(Json::String) && item.items[1].is(Json::String)) {
        left = item.items[0].text();
        right = item.items[1].text();
    } else {
        return merges.item(at).expected("a pair of tokens", error);
    }
    const auto absent = [&](std::string_view token) {
        const Field field = merges.item(at);
        return fail(error, PITH_E_FORMAT, "%s: %s: '%.*s' isn't in the vocabulary", field.file(), field.path(),
                    static_cast<int>(std::min<size_t>(token.size(), 60)), token.data());
    };
    const uint32_t a = vocabulary.find(left), b = vocabulary.find(right);
    if (a == kNoToken) return absent(left);
    if (b == kNoToken) return absent(right);
    if (right.size() < prefix_.size()) return merges.item(at).expected("a right token with continuing_subword_prefix", error);
    joined->clear();
    const std::string_view rest = slice(right, prefix_.size());
    if (!joined->append(left.data(), left.size()) || !joined->append(rest.data(), rest.size()))
        return no_memory(error, left.size() + rest.size());
    const uint32_t made = vocabulary.find({joined->data(), joined->size()});
    if (made == kNoToken) return absent({joined->data(), joined->size()});
    return put_merge({pair_of(vocabulary[a].id, vocabulary[b].id), rank, vocabulary[made].id}, merges, error);
}

Bpe::Merge* Bpe::slot_for(uint64_t pair) {
    uint64_t slot = slot_of(pair) & merge_mask_;
    for (uint32_t probes = 0; merges_[slot].pair != kFree && merges_[slot].pair != pair; slot = (slot + 1) & merge_mask_)
        if (++probes > kMaxProbes) return nullptr;
    return &merges_[slot];
}

// Twice the room. The table grows with the merges that are found good: the length of the file's list is no reason to believe in it.
bool Bpe::grow_merges() {
    Array<Merge> grown(*allocator_);
    if (!grown.resize(merges_.empty() ? 16 : merges_.size() * 2)) return false;
    for (Merge& merge : grown) merge = {kFree, 0, 0};
    std::swap(merges_, grown);
    merge_mask_ = merges_.size() - 1;
    for (const Merge& merge : grown) {
        Merge* slot = merge.pair != kFree ? slot_for(merge.pair) : nullptr;
        if (slot) *slot = merge;
    }
    return true;
}

// A pair that is there twice counts with its last rank.
pith_status Bpe::put_merge(const Merge& merge, const Field& merges, pith_error* error) {
    if (2 * merge_count_ >= merges_.size() && !grow_merges()) return no_memory(error, 2 * merges_.size() * sizeof(Merge));
    Merge* slot = slot_for(merge.pair);
    if (!slot) return fail(error, PITH_E_LIMIT, "%s: %s: too many merges share a hash value", merges.file(), merges.path());
    merge_count_ += slot->pair == kFree;
    *slot = merge;
    return PITH_OK;
}

// Spells every token in raw bytes: words arrive so from now on.
pith_status Bpe::use_bytes(const Vocabulary& vocabulary, pith_error* error) {
    bytes_ = true;
    for (uint32_t byte = 0; byte < 256; byte++) {
        char character[4];
        const uint32_t index = vocabulary.find({character, utf8_encode(kByteAlphabet.point[byte], character)});
        character_ids_[byte] = index == kNoToken ? kNoToken : vocabulary[index].id;
    }
    if (!ignore_merges_) return PITH_OK;
    const size_t count = vocabulary.size();
    if (!words_.reserve(count) || !word_at_.resize(count + 1)) return no_memory(error, count * sizeof(uint32_t));
    for (uint32_t i = 0; i < count; i++) {
        word_at_[i] = static_cast<uint32_t>(word_text_.size());
        if (!unmap_bytes(vocabulary[i].view(), &word_text_)) return no_memory(error, word_text_.size());
    }
    word_at_[count] = static_cast<uint32_t>(word_text_.size());
    for (uint32_t i = 0; i < count; i++) {
        // A token outside of the byte alphabet is no word: left as it was, it must not pass for raw bytes.
        if (!is_in_byte_alphabet(vocabulary[i].view())) continue;
        if (!words_.put(word_of(i), i)) return fail(error, PITH_E_LIMIT, "the tokenizer's vocabulary: too many tokens share a hash value");
    }
    return PITH_OK;
}

}  // namespace pith
