// Byte-pair encoding: a word becomes symbols, and the pair of neighbours with the lowest rank merges until none can.
#pragma once
#include "text/field.h"
#include "text/vocabulary.h"

namespace pith {

struct BpeScratch {
    struct Symbol {
        uint32_t id;
        int32_t previous, next;  // -1: none
        bool gone;
    };
    struct Candidate {
        uint32_t rank, at, id;
    };
    explicit BpeScratch(const Allocator& allocator) : symbols(allocator), heap(allocator), affixed(allocator) {}
    Array<Symbol> symbols;
    Array<Candidate> heap;
    Array<char> affixed;
    uint64_t work = 0;  // candidates ever queued: what the running time is proportional to, but for a logarithm
};

class Bpe {
public:
    explicit Bpe(const Allocator& allocator)
        : allocator_(&allocator), merges_(allocator), words_(allocator), word_text_(allocator), word_at_(allocator) {}

    // tokenizer.json's "model": fills the vocabulary, whose strings are kept in the arena.
    pith_status load(const Field& model, Vocabulary* vocabulary, Arena* arena, pith_error* error);
    // Words may be raw bytes in place of the byte alphabet's characters: spares the mapping of every text.
    bool takes_bytes() const { return prefix_.empty() && suffix_.empty(); }
    pith_status use_bytes(const Vocabulary& vocabulary, pith_error* error);

    // Appends the ids of a word: not empty, valid UTF-8 (or raw bytes).
    pith_status encode(std::string_view word, const Vocabulary& vocabulary, BpeScratch* scratch, Array<int32_t>* ids,
                       pith_error* error) const;

    std::string_view unknown() const { return unknown_; }

private:
    struct Merge {
        uint64_t pair;  // left id << 32 | right id; kFree: an empty slot
        uint32_t rank, id;
    };
    static constexpr uint64_t kFree = ~uint64_t{0};
    static uint64_t pair_of(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }
    static uint64_t slot_of(uint64_t pair) {
        pair *= 0x9E3779B97F4A7C15u;
        pair ^= pair >> 29;
        return pair * 0xBF58476D1CE4E5B9u >> 20;
    }

    pith_status load_vocabulary(const Field& model, Vocabulary* vocabulary, Arena* arena, pith_error* error);
    pith_status load_options(const Field& model, Arena* arena, pith_error* error);
    pith_status load_merges(const Field& model, const Vocabulary& vocabulary, pith_error* error);
    pith_status add_merge(const Field& merges, size_t at, uint32_t rank, const Vocabulary& vocabulary, Array<char>* joined,
                          pith_error* error);
    pith_status put_merge(const Merge& merge, const Field& merges, pith_error* error);
    bool grow_merges();
    Merge* slot_for(uint64_t pair);  // the pair's, or a free one; NULL: too many collide
    const Merge* find_merge(uint32_t left, uint32_t right) const;

    pith_status split(std::string_view word, const Vocabulary& vocabulary, BpeScratch* scratch, pith_error* error) const;
    pith_status add_character(std::string_view character, uint32_t id, bool* held, BpeScratch* scratch, pith_error* error) const;
    bool add_bytes(std::string_view character, BpeScratch* scratch, bool* done) const;
    uint32_t find(std::string_view text, const Vocabulary& vocabulary) const {
        const uint32_t index = vocabulary.find(text);
        return index < count_ ? index : kNoToken;
    }
    static bool add_symbol(uint32_t id, BpeScratch* scratch);
    bool queue(int32_t left, int32_t right, BpeScratch* scratch) const;
    pith_status merge(BpeScratch* scratch, pith_error* error) const;
    std::string_view word_of(uint32_t index) const { return {word_text_.data() + word_at_[index], word_at_[index + 1] - word_at_[index]}; }

    const Allocator* allocator_;
    Array<Merge> merges_;
    uint64_t merge_mask_ = 0, merge_count_ = 0;
    std::string_view unknown_, prefix_, suffix_;
    uint32_t unknown_id_ = kNoToken;
    uint32_t count_ = 0;           // tokens of the model come first in the vocabulary; those added later are no words of it
    uint32_t byte_ids_[256];       // of "<0x00>" … "<0xFF>"
    uint32_t character_ids_[256];  // raw bytes: of the byte's character
    bool bytes_ = false, fuse_unknown_ = false, byte_fallback_ = false, ignore_merges_ = false;
    // Raw bytes with ignore_merges: whole words, since the vocabulary holds them spelt in the byte alphabet.
    StringIndex words_;
    Array<char> word_text_;
    Array<uint32_t> word_at_;  // where each token's bytes begin
};

}  // namespace pith
