// What a token may become only once the next ones are known is held in the state; all the rest is written at once.
#include "text/decoder.h"

#include "base/utf8.h"
#include "text/bytes.h"

namespace pith {
namespace {

enum class Run { Whole, Partial, Malformed };

// Whether the bytes are UTF-8; *whole: how many belong to whole code points.
Run examine(const uint8_t* bytes, uint32_t count, uint32_t* whole) {
    const char* at = reinterpret_cast<const char*>(bytes);
    const char* end = at + count;
    for (*whole = 0; at < end;) {
        const Utf8Char c = utf8_decode(at, end);
        if (c.value == kUtf8Malformed) return Run::Malformed;
        if (c.value == kUtf8Partial) return Run::Partial;
        at += c.size;
        *whole += c.size;
    }
    return Run::Whole;
}

std::string_view held_text(const DecodeState& state, uint32_t count) { return {reinterpret_cast<const char*>(state.held), count}; }

void set_token(DecodeState* state, uint32_t token) {
    memcpy(state->held, &token, sizeof token);
    state->count = sizeof token;
}
uint32_t get_token(const DecodeState& state) {
    uint32_t token = 0;
    memcpy(&token, state.held, sizeof token);
    return token;
}

// The two counters in the state's upper half: characters stripped from the start, characters waiting at the end.
uint32_t counter(uint32_t state, int shift) { return state >> shift & 0xFF; }

}  // namespace

bool Decoder::is_state(const DecodeState& state) const {
    if (state.count > sizeof state.held || state.state >> 24 || (state.state & 0xFF) > 7) return false;
    if (counter(state.state, 8) > start_ || counter(state.state, 16) > stop_) return false;
    switch (join_) {
        case Join::Utf8:
            return state.count < 4;
        case Join::ByteFallback:
            return true;
        default:
            return differs_ == Differs::Last ? state.count == 0 || (state.count == 4 && get_token(state) < pieces_.size())
                                             : state.count == 0;
    }
}

std::string_view Decoder::piece(uint32_t token) const { return pieces_[token].text; }

void Decoder::emit_character(std::string_view character, DecodeState* state, TextWriter* out) const {
    if (strip_.empty()) return out->put(character);
    if (character != strip_) {
        for (uint32_t i = counter(state->state, 16); i > 0; i--) out->put(strip_);
        state->state = (state->state & ~0xFF0000u) | kPastStart;
        return out->put(character);
    }
    if (!(state->state & kPastStart) && counter(state->state, 8) < start_) {
        state->state += 1u << 8;
        return;
    }
    state->state |= kPastStart;
    if (counter(state->state, 16) < stop_)
        state->state += 1u << 16;
    else
        out->put(character);
}

void Decoder::emit(std::string_view text, DecodeState* state, TextWriter* out) const {
    if (strip_.empty() && replacements_.empty()) return out->put(text);
    for (size_t at = 0; at < text.size();) {
        const Utf8Char c = utf8_next(text.data() + at);
        std::string_view character = slice(text, at, c.size);
        at += c.size;
        uint32_t point = c.value;
        for (const Replacement& replacement : replacements_) {
            if (replacement.point != point) continue;
            character = replacement.text;
            point = character.size() > 0 && utf8_next(character.data()).size == character.size() ? utf8_next(character.data()).value
                                                                                                 : kUtf8Malformed;
        }
        for (size_t i = 0; i < character.size();) {
            const uint32_t size = utf8_next(character.data() + i).size;
            emit_character(slice(character, i, size), state, out);
            i += size;
        }
    }
}

// A byte token. A run of them is text if all of it is UTF-8, else one U+FFFD a byte: known at its end, or when it can't be held any longer.
void Decoder::add_byte(uint8_t byte, DecodeState* state, TextWriter* out) const {
    uint32_t whole = 0;
    if (state->state & kBroken) return emit(kReplacementMark, state, out);
    if (state->count == sizeof state->held) {
        examine(state->held, state->count, &whole);
        emit(held_text(*state, whole), state, out);
        state->count -= whole;
        memmove(state->held, state->held + whole, state->count);
    }
    state->held[state->count++] = byte;
    if (examine(state->held, state->count, &whole) != Run::Malformed) return;
    for (; state->count > 0; state->count--) emit(kReplacementMark, state, out);
    state->state |= kBroken;
}

void Decoder::end_run(DecodeState* state, TextWriter* out) const {
    uint32_t whole = 0;
    if (examine(state->held, state->count, &whole) == Run::Whole) {
        emit(held_text(*state, whole), state, out);
    } else {
        for (uint32_t i = 0; i < state->count; i++) emit(kReplacementMark, state, out);
    }
    state->count = 0;
    state->state &= ~uint32_t{kBroken};
}

// Bytes of any kind, which are UTF-8 only when joined: the tail that may still become a code point is held.
void Decoder::add_utf8(std::string_view bytes, DecodeState* state, TextWriter* out) const {
    const auto take = [&](const char* at, const char* end) {
        const Utf8Char c = utf8_decode(at, end);
        if (c.value == kUtf8Partial) return uint32_t{0};
        emit(c.value == kUtf8Malformed ? kReplacementMark : std::string_view(at, c.size), state, out);
        return c.size;
    };
    size_t at = 0;
    while (state->count > 0 && at < bytes.size()) {
        state->held[state->count++] = static_cast<uint8_t>(bytes[at++]);
        const char* held = reinterpret_cast<const char*>(state->held);
        const uint32_t taken = take(held, held + state->count);
        if (taken == 0) continue;
        at -= state->count - taken;  // a byte that isn't part of the malformed piece before it begins anew
        state->count = 0;
    }
    const char* const end = bytes.data() + bytes.size();
    for (const char* next = bytes.data() + at; next < end;) {
        const uint32_t taken = take(next, end);
        if (taken == 0) {
            state->count = static_cast<uint32_t>(end - next);
            memcpy(state->held, next, state->count);
            break;
        }
        next += taken;
    }
}

void Decoder::step(uint32_t token, DecodeState* state, TextWriter* out) const {
    const Decoded& decoded = pieces_[token];
    const bool first = !(state->state & kStarted);
    state->state |= kStarted;
    const std::string_view text = first && differs_ == Differs::First ? decoded.other : decoded.text;
    switch (join_) {
        case Join::Utf8:
            return add_utf8(text, state, out);
        case Join::ByteFallback:
            if (decoded.byte >= 0) return add_byte(static_cast<uint8_t>(decoded.byte), state, out);
            end_run(state, out);
            return emit(text, state, out);
        case Join::Spaces:
            if (!first) emit(" ", state, out);
            break;
        case Join::Plain:
            break;
    }
    if (differs_ != Differs::Last) return emit(text, state, out);
    if (state->count) emit(pieces_[get_token(*state)].text, state, out);
    set_token(state, token);
}

void Decoder::flush(DecodeState* state, TextWriter* out) const {
    if (join_ == Join::ByteFallback)
        end_run(state, out);
    else if (join_ == Join::Utf8 && state->count)
        emit(kReplacementMark, state, out);
    else if (differs_ == Differs::Last && state->count)
        emit(pieces_[get_token(*state)].other, state, out);
    *state = {};
}

}  // namespace pith
