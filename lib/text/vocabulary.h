// The tokens of a tokenizer: strings with ids, found either way.
#pragma once
#include <string_view>

#include "base/array.h"
#include "base/status.h"

namespace pith {

inline constexpr uint32_t kNoToken = 0xFFFFFFFF;
inline constexpr uint32_t kMaxTokenId = 1u << 24;

// An index from strings to numbers below 2^32 - 1: open addressing, bounded probes (a file can't make it slow).
class StringIndex {
public:
    explicit StringIndex(const Allocator& allocator) : slots_(allocator) {}
    [[nodiscard]] bool reserve(size_t count);  // room for `count` strings; what was there is forgotten
    size_t room() const { return slots_.size() / 2; }
    static uint64_t hash(std::string_view text);

    // `text_of(number)` gives the string that a number was put under.
    template <class TextOf>
    uint32_t find(std::string_view text, TextOf text_of) const {
        if (slots_.empty()) return kNoToken;
        const uint64_t h = hash(text);
        for (uint64_t i = h & mask_;; i = (i + 1) & mask_) {
            const Slot& slot = slots_[i];
            if (slot.number == kNoToken) return kNoToken;
            if (slot.tag == static_cast<uint32_t>(h >> 32) && text_of(slot.number) == text) return slot.number;
        }
    }
    // Of a string that isn't there yet, and while there is room. False: too many strings collide.
    [[nodiscard]] bool put(std::string_view text, uint32_t number);

private:
    struct Slot {
        uint32_t tag, number;
    };
    Array<Slot> slots_;
    uint64_t mask_ = 0;
};

struct Token {
    enum : uint8_t { kAdded = 1, kSpecial = 2, kSingleWord = 4, kLstrip = 8, kRstrip = 16, kNormalized = 32 };
    uint32_t id;
    uint8_t flags;
    const char* text;  // in the arena of the tokenizer
    uint32_t size;
    std::string_view view() const { return {text, size}; }
};

class Vocabulary {
public:
    explicit Vocabulary(const Allocator& allocator) : tokens_(allocator), by_id_(allocator), index_(allocator) {}

    [[nodiscard]] bool reserve(size_t count);  // and any number after these
    // PITH_E_FORMAT if the string or, once finish() was called, the id is taken. `text` must outlive this.
    pith_status add(std::string_view text, uint32_t id, uint8_t flags, const char* where, pith_error* error);
    // After the last token of the model, and again after later ones: makes ids findable. PITH_E_FORMAT if two tokens have one id.
    pith_status finish(const char* where, pith_error* error);

    size_t size() const { return tokens_.size(); }
    uint32_t end_id() const { return end_id_; }  // largest id + 1
    Token& operator[](uint32_t index) { return tokens_[index]; }
    const Token& operator[](uint32_t index) const { return tokens_[index]; }
    // Indices, or kNoToken.
    uint32_t find(std::string_view text) const {
        return index_.find(text, [this](uint32_t index) { return tokens_[index].view(); });
    }
    uint32_t find_id(uint32_t id) const;

private:
    pith_status put(uint32_t index, const char* where, pith_error* error);

    Array<Token> tokens_;
    Array<uint32_t> by_id_;  // indices in the order of their ids
    StringIndex index_;
    uint32_t end_id_ = 0;
};

}  // namespace pith
