// Encoding and decoding: text -> added tokens and what lies between -> normal form -> words -> ids, and back.
#include "text/tokenizer.h"

#include <algorithm>

#include "base/utf8.h"

namespace pith {
namespace {

constexpr size_t kMaxText = size_t{1} << 30, kMaxGrown = size_t{1} << 31;  // positions are 32 bits wide
constexpr size_t kGrowth = 64;                                             // a normal form is at most 11 times as long as a text
constexpr uint64_t kFuel = 10000000, kFuelPerByte = 256;

}  // namespace

struct Tokenizer::Scratch {
    explicit Scratch(const Allocator& allocator)
        : repaired(allocator),
          parts(allocator),
          inner(allocator),
          normalizer(allocator),
          pieces(allocator),
          regex(allocator),
          bpe(allocator) {}
    Array<char> repaired;
    Array<Part> parts, inner;
    NormalizerScratch normalizer;
    PieceScratch pieces;
    RegexScratch regex;
    BpeScratch bpe;
};

Tokenizer::Tokenizer(const Allocator& allocator)
    : allocator_(allocator),
      parts_(allocator),
      vocabulary_(allocator),
      normalizer_(allocator),
      raw_(allocator),
      normalized_(allocator),
      pre_tokenizer_(allocator),
      bpe_(allocator),
      decoder_(allocator),
      prefix_(allocator),
      ends_(allocator) {}

pith_status Tokenizer::encode(std::string_view text, EncodeOptions options, Array<int32_t>* ids, uint64_t* work, pith_error* error) const {
    Scratch scratch(allocator_);
    if (text.size() > kMaxText) return fail(error, PITH_E_LIMIT, "a text of %zu bytes, at most %zu are allowed", text.size(), kMaxText);
    if (!utf8_is_valid(text)) {
        if (!utf8_repair(text, &scratch.repaired)) return fail_memory(error, "a text", text.size());
        text = {scratch.repaired.data(), scratch.repaired.size()};
    }
    scratch.regex.fuel = kFuel + kFuelPerByte * text.size();
    scratch.regex.text_limit = std::min(65536 + kGrowth * text.size(), kMaxGrown);
    if (options.begin && !ids->append(prefix_.data(), prefix_.size())) return fail_memory(error, "token ids", prefix_.size());
    PITH_TRY(raw_.split(text, vocabulary_, options.special, &scratch.parts, error));
    for (const Part& part : scratch.parts) {
        if (part.token == kNoToken) {
            PITH_TRY(encode_text(slice(text, part.begin, part.end - part.begin), part.begin == 0, options.special, &scratch, ids, error));
        } else if (!ids->push(static_cast<int32_t>(vocabulary_[part.token].id))) {
            return fail_memory(error, "token ids", ids->size());
        }
    }
    if (work) *work = scratch.bpe.work;
    return PITH_OK;
}

pith_status Tokenizer::encode_text(std::string_view text, bool first, bool special, Scratch* scratch, Array<int32_t>* ids,
                                   pith_error* error) const {
    if (!normalizer_.empty()) {
        PITH_TRY(normalizer_.run(text, &scratch->normalizer, &scratch->regex, &first, error));
        text = {scratch->normalizer.text.data(), scratch->normalizer.text.size()};
    }
    if (normalized_.empty()) return encode_words(text, first, scratch, ids, error);
    PITH_TRY(normalized_.split(text, vocabulary_, special, &scratch->inner, error));
    for (const Part& part : scratch->inner) {
        if (part.token == kNoToken) {
            PITH_TRY(encode_words(slice(text, part.begin, part.end - part.begin), first && part.begin == 0, scratch, ids, error));
        } else if (!ids->push(static_cast<int32_t>(vocabulary_[part.token].id))) {
            return fail_memory(error, "token ids", ids->size());
        }
    }
    return PITH_OK;
}

pith_status Tokenizer::encode_words(std::string_view text, bool first, Scratch* scratch, Array<int32_t>* ids, pith_error* error) const {
    PITH_TRY(pre_tokenizer_.run(text, first, &scratch->pieces, &scratch->regex, error));
    for (const Piece& piece : scratch->pieces.pieces) {
        const std::string_view word(scratch->pieces.base + piece.begin, piece.end - piece.begin);
        PITH_TRY(bpe_.encode(word, vocabulary_, &scratch->bpe, ids, error));
    }
    return PITH_OK;
}

pith_status Tokenizer::check_id(int32_t id, pith_error* error) const {
    if (id >= 0 && static_cast<uint32_t>(id) < vocab_size()) return PITH_OK;
    return fail(error, PITH_E_ARGUMENT, "token id %d is out of range, the vocabulary ends at %u", static_cast<int>(id), vocab_size());
}

pith_status Tokenizer::decode(const int32_t* ids, size_t count, bool special, char* text, size_t capacity, size_t* size,
                              pith_error* error) const {
    for (size_t i = 0; i < count; i++)
        if (check_id(ids[i], nullptr) < 0)
            return fail(error, PITH_E_ARGUMENT, "tokens[%zu]: token id %d is out of range, the vocabulary ends at %u", i,
                        static_cast<int>(ids[i]), vocab_size());
    DecodeState state = {};
    TextWriter out(text, capacity);
    for (size_t i = 0; i < count; i++) {
        const uint32_t token = vocabulary_.find_id(static_cast<uint32_t>(ids[i]));
        if (token != kNoToken && !is_skipped(token, special)) decoder_.step(token, &state, &out);
    }
    decoder_.flush(&state, &out);
    *size = out.size();
    return out.fits() ? PITH_OK : fail(error, PITH_E_BUFFER, "the text takes %zu bytes, the buffer has %zu", out.size(), capacity);
}

pith_status Tokenizer::stream(DecodeState* state, int32_t id, bool special, char* text, size_t capacity, size_t* size,
                              pith_error* error) const {
    if (!decoder_.is_state(*state)) return fail(error, PITH_E_ARGUMENT, "stream wasn't zeroed at its start, or is another tokenizer's");
    DecodeState next = *state;
    TextWriter out(text, capacity);
    if (id == -1) {
        decoder_.flush(&next, &out);
    } else {
        PITH_TRY(check_id(id, error));
        const uint32_t token = vocabulary_.find_id(static_cast<uint32_t>(id));
        if (token != kNoToken && !is_skipped(token, special)) decoder_.step(token, &next, &out);
    }
    *size = out.size();
    if (!out.fits()) return fail(error, PITH_E_BUFFER, "the text takes %zu bytes, the buffer has %zu", out.size(), capacity);
    *state = next;
    return PITH_OK;
}

bool Tokenizer::is_end(int32_t id) const {
    for (const int32_t end : ends_)
        if (end == id) return true;
    return false;
}

pith_status Tokenizer::piece(int32_t id, std::string_view* bytes, pith_error* error) const {
    PITH_TRY(check_id(id, error));
    const uint32_t token = vocabulary_.find_id(static_cast<uint32_t>(id));
    *bytes = token == kNoToken ? std::string_view("") : decoder_.piece(token);
    return PITH_OK;
}

}  // namespace pith
