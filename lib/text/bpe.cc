// The merge loop is a heap of candidates in order of rank, then position; a candidate that has aged is known by its result.
#include "text/bpe.h"

#include <algorithm>

#include "text/bytes.h"

namespace pith {
namespace {

pith_status no_memory(pith_error* error, uint64_t size) { return fail_memory(error, "byte-pair encoding", size); }

// The lowest rank on top, then the leftmost.
bool is_later(const BpeScratch::Candidate& a, const BpeScratch::Candidate& b) { return a.rank != b.rank ? a.rank > b.rank : a.at > b.at; }

}  // namespace

const Bpe::Merge* Bpe::find_merge(uint32_t left, uint32_t right) const {
    const uint64_t pair = pair_of(left, right);
    for (uint64_t slot = slot_of(pair) & merge_mask_;; slot = (slot + 1) & merge_mask_) {
        const Merge& merge = merges_[slot];
        if (merge.pair == pair) return &merge;
        if (merge.pair == kFree) return nullptr;
    }
}

bool Bpe::add_symbol(uint32_t id, BpeScratch* scratch) {
    const int32_t at = static_cast<int32_t>(scratch->symbols.size());
    if (at > 0) scratch->symbols.back().next = at;
    return scratch->symbols.push({id, at - 1, -1, false});
}

// The bytes of a character as tokens "<0x..>", if all of them exist.
bool Bpe::add_bytes(std::string_view character, BpeScratch* scratch, bool* done) const {
    *done = false;
    for (const char c : character)
        if (byte_ids_[static_cast<unsigned char>(c)] == kNoToken) return true;
    *done = true;
    for (const char c : character)
        if (!add_symbol(byte_ids_[static_cast<unsigned char>(c)], scratch)) return false;
    return true;
}

// `id`: the character's token or kNoToken. An unknown one is held back until the next known one, so that neighbours can fuse;
// bytes of a fallback don't end that (as in the `tokenizers` package).
pith_status Bpe::add_character(std::string_view character, uint32_t id, bool* held, BpeScratch* scratch, pith_error* error) const {
    if (id != kNoToken) {
        if (*held && !add_symbol(unknown_id_, scratch)) return no_memory(error, scratch->symbols.size());
        *held = false;
        return add_symbol(id, scratch) ? PITH_OK : no_memory(error, scratch->symbols.size());
    }
    if (byte_fallback_) {
        bool done = false;
        if (!add_bytes(character, scratch, &done)) return no_memory(error, scratch->symbols.size());
        if (done) return PITH_OK;
    }
    if (unknown_.empty()) return PITH_OK;
    if (unknown_id_ == kNoToken)
        return fail(error, PITH_E_FORMAT, "tokenizer.json: model.unk_token '%s' isn't in the vocabulary, but this text needs it",
                    unknown_.data());
    if (*held && !fuse_unknown_ && !add_symbol(unknown_id_, scratch)) return no_memory(error, scratch->symbols.size());
    *held = true;
    return PITH_OK;
}

pith_status Bpe::split(std::string_view word, const Vocabulary& vocabulary, BpeScratch* scratch, pith_error* error) const {
    bool held = false;
    if (bytes_) {
        for (const char c : word) {
            const auto byte = static_cast<unsigned char>(c);
            char character[4];
            const uint32_t size = utf8_encode(kByteAlphabet.point[byte], character);
            PITH_TRY(add_character({character, size}, character_ids_[byte], &held, scratch, error));
        }
    } else {
        for (size_t at = 0; at < word.size();) {
            const uint32_t size = utf8_next(word.data() + at).size;
            std::string_view character = slice(word, at, size);
            const bool first = at == 0, last = at + size == word.size();
            if ((!first && !prefix_.empty()) || (last && !suffix_.empty())) {
                Array<char>& text = scratch->affixed;
                text.clear();
                bool ok = first || text.append(prefix_.data(), prefix_.size());
                ok = ok && text.append(character.data(), character.size()) && (!last || text.append(suffix_.data(), suffix_.size()));
                if (!ok) return no_memory(error, text.size());
                character = {text.data(), text.size()};
            }
            const uint32_t index = find(character, vocabulary);
            PITH_TRY(add_character(character, index == kNoToken ? kNoToken : vocabulary[index].id, &held, scratch, error));
            at += size;
        }
    }
    return !held || add_symbol(unknown_id_, scratch) ? PITH_OK : no_memory(error, scratch->symbols.size());
}

// A candidate for the pair of symbols, if it can merge.
bool Bpe::queue(int32_t left, int32_t right, BpeScratch* scratch) const {
    const Array<BpeScratch::Symbol>& symbols = scratch->symbols;
    const Merge* merge = find_merge(symbols[static_cast<size_t>(left)].id, symbols[static_cast<size_t>(right)].id);
    if (!merge) return true;
    scratch->work++;
    return scratch->heap.push({merge->rank, static_cast<uint32_t>(left), merge->id});
}

pith_status Bpe::merge(BpeScratch* scratch, pith_error* error) const {
    Array<BpeScratch::Symbol>& symbols = scratch->symbols;
    Array<BpeScratch::Candidate>& heap = scratch->heap;
    heap.clear();
    for (size_t i = 0; i + 1 < symbols.size(); i++)
        if (!queue(static_cast<int32_t>(i), static_cast<int32_t>(i + 1), scratch)) return no_memory(error, heap.size());
    std::make_heap(heap.begin(), heap.end(), is_later);
    while (!heap.empty()) {
        std::pop_heap(heap.begin(), heap.end(), is_later);
        const BpeScratch::Candidate top = heap.back();
        heap.pop();
        BpeScratch::Symbol& left = symbols[top.at];
        if (left.gone || left.next < 0) continue;
        BpeScratch::Symbol& right = symbols[static_cast<size_t>(left.next)];
        const Merge* now = find_merge(left.id, right.id);
        if (!now || now->id != top.id) continue;
        left.id = top.id;
        left.next = right.next;
        right.gone = true;
        const int32_t at = static_cast<int32_t>(top.at);
        if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = at;
        for (const auto& [from, to] : {std::pair{left.previous, at}, std::pair{at, left.next}}) {
            if (from < 0 || to < 0) continue;
            const size_t size = heap.size();
            if (!queue(from, to, scratch)) return no_memory(error, heap.size());
            if (heap.size() > size) std::push_heap(heap.begin(), heap.end(), is_later);
        }
    }
    return PITH_OK;
}

pith_status Bpe::encode(std::string_view word, const Vocabulary& vocabulary, BpeScratch* scratch, Array<int32_t>* ids,
                        pith_error* error) const {
    if (ignore_merges_) {
        const uint32_t index = bytes_ ? words_.find(word, [this](uint32_t i) { return word_of(i); }) : find(word, vocabulary);
        if (index != kNoToken) return ids->push(static_cast<int32_t>(vocabulary[index].id)) ? PITH_OK : no_memory(error, ids->size());
    }
    scratch->symbols.clear();
    PITH_TRY(split(word, vocabulary, scratch, error));
    PITH_TRY(merge(scratch, error));
    for (const BpeScratch::Symbol& symbol : scratch->symbols)
        if (!symbol.gone && !ids->push(static_cast<int32_t>(symbol.id))) return no_memory(error, ids->size());
    return PITH_OK;
}

}  // namespace pith
