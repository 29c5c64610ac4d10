// Strings to ids by hash, ids to strings by position (or by bisection where ids have gaps).
#include "text/vocabulary.h"

#include <algorithm>

namespace pith {
namespace {

constexpr uint32_t kMaxProbes = 1024;  // honest files stay below 100

}  // namespace

uint64_t StringIndex::hash(std::string_view text) {
    uint64_t h = 0x9E3779B97F4A7C15u ^ text.size();
    const char* at = text.data();
    size_t left = text.size();
    while (left > 0) {
        uint64_t word = 0;
        const size_t count = left < 8 ? left : 8;
        memcpy(&word, at, count);
        h = (h ^ word) * 0xFF51AFD7ED558CCDu;
        h ^= h >> 32;
        at += count;
        left -= count;
    }
    h *= 0xC4CEB9FE1A85EC53u;
    return h ^ h >> 33;
}

bool StringIndex::reserve(size_t count) {
    size_t size = 16;
    while (size < count * 2) size *= 2;
    slots_.clear();
    if (!slots_.resize(size)) return false;
    for (Slot& slot : slots_) slot = {0, kNoToken};
    mask_ = size - 1;
    return true;
}

bool StringIndex::put(std::string_view text, uint32_t number) {
    const uint64_t h = hash(text);
    uint64_t at = h & mask_;
    for (uint32_t probes = 0; slots_[at].number != kNoToken; at = (at + 1) & mask_)
        if (++probes > kMaxProbes) return false;
    slots_[at] = {static_cast<uint32_t>(h >> 32), number};
    return true;
}

bool Vocabulary::reserve(size_t count) { return tokens_.reserve(count) && by_id_.reserve(count) && index_.reserve(count); }

pith_status Vocabulary::add(std::string_view text, uint32_t id, uint8_t flags, const char* where, pith_error* error) {
    const int shown = static_cast<int>(text.size() < 60 ? text.size() : 60);
    if (find(text) != kNoToken) return fail(error, PITH_E_FORMAT, "%s: the token '%.*s' is there twice", where, shown, text.data());
    if (id > kMaxTokenId)
        return fail(error, PITH_E_FORMAT, "%s: the token '%.*s' has id %u, at most %u is allowed", where, shown, text.data(), id,
                    kMaxTokenId);
    const uint32_t index = static_cast<uint32_t>(tokens_.size());
    if (!tokens_.push({id, flags, text.data(), static_cast<uint32_t>(text.size())})) return fail_memory(error, "a vocabulary", text.size());
    if (index_.room() <= index) {
        if (!index_.reserve(tokens_.size() * 2)) return fail_memory(error, "a vocabulary", tokens_.size() * sizeof(Token));
        for (uint32_t i = 0; i < index; i++) PITH_TRY(put(i, where, error));
    }
    PITH_TRY(put(index, where, error));
    end_id_ = std::max(end_id_, id + 1);
    return PITH_OK;
}

pith_status Vocabulary::put(uint32_t index, const char* where, pith_error* error) {
    return index_.put(tokens_[index].view(), index) ? PITH_OK : fail(error, PITH_E_LIMIT, "%s: too many tokens share a hash value", where);
}

pith_status Vocabulary::finish(const char* where, pith_error* error) {
    by_id_.clear();
    if (!by_id_.resize(tokens_.size())) return fail_memory(error, "a vocabulary", tokens_.size() * sizeof(uint32_t));
    for (uint32_t i = 0; i < by_id_.size(); i++) by_id_[i] = i;
    std::sort(by_id_.begin(), by_id_.end(), [this](uint32_t a, uint32_t b) { return tokens_[a].id < tokens_[b].id; });
    for (uint32_t i = 1; i < by_id_.size(); i++) {
        const Token& one = tokens_[by_id_[i - 1]];
        const Token& two = tokens_[by_id_[i]];
        if (one.id != two.id) continue;
        return fail(error, PITH_E_FORMAT, "%s: the tokens '%.*s' and '%.*s' share the id %u", where,
                    static_cast<int>(std::min(one.size, 60u)), one.text, static_cast<int>(std::min(two.size, 60u)), two.text, one.id);
    }
    return PITH_OK;
}

uint32_t Vocabulary::find_id(uint32_t id) const {
    if (id < by_id_.size() && tokens_[by_id_[id]].id == id) return by_id_[id];
    const uint32_t* found =
        std::lower_bound(by_id_.begin(), by_id_.end(), id, [this](uint32_t index, uint32_t wanted) { return tokens_[index].id < wanted; });
    return found != by_id_.end() && tokens_[*found].id == id ? *found : kNoToken;
}

}  // namespace pith
