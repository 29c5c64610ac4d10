// Each step reads valid UTF-8 and appends valid UTF-8 to the other of two buffers.
#include "text/normalizer.h"

#include "base/utf8.h"
#include "text/bytes.h"
#include "text/unicode.h"

namespace pith {
namespace {

std::string_view strip(std::string_view text, bool left, bool right) {
    const char* begin = text.data();
    const char* end = begin + text.size();
    while (left && begin < end) {
        const Utf8Char c = utf8_next(begin);
        if (!unicode::is_space(c.value)) break;
        begin += c.size;
    }
    while (right && begin < end && unicode::is_space(utf8_next(utf8_previous(end)).value)) end = utf8_previous(end);
    return {begin, static_cast<size_t>(end - begin)};
}

// SentencePiece's clean-up: some controls vanish, some become spaces.
bool nmt_drops(uint32_t c) { return (c >= 1 && c <= 8) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F; }
bool nmt_is_space(uint32_t c) {
    return c == 9 || c == 10 || c == 12 || c == 13 || c == 0x1680 || (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 ||
           c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
}

// Appends what each code point becomes: `map` calls put() for each code point it becomes.
template <class Map>
bool map_points(std::string_view text, bool* at_start, Array<char>* to, Map map) {
    bool ok = true;
    for (size_t at = 0; at < text.size();) {
        const Utf8Char c = utf8_next(text.data() + at);
        map(c.value, [&](uint32_t point) { ok = ok && utf8_append(point, to); });
        if (at == 0 && to->empty()) *at_start = false;
        at += c.size;
    }
    return ok;
}

}  // namespace

pith_status Normalizer::load(const Field& normalizer, Parts* parts, pith_error* error) {
    return normalizer.present() ? add(normalizer, parts, error) : PITH_OK;
}

pith_status Normalizer::add_text(const Field& normalizer, const char* key, Step* step, Parts* parts, pith_error* error) {
    std::string_view text;
    PITH_TRY(normalizer.member(key).text(&text, error));
    const char* copy = parts->arena.copy(text);
    if (!copy) return fail_memory(error, "a normalizer's text", text.size());
    step->text = {copy, text.size()};
    return PITH_OK;
}

pith_status Normalizer::add(const Field& normalizer, Parts* parts, pith_error* error) {
    PITH_TRY(normalizer.object(error));
    std::string_view type;
    PITH_TRY(normalizer.member("type").text(&type, error));
    if (type == "Sequence") {
        const Field list = normalizer.member("normalizers");
        PITH_TRY(list.array(error));
        for (size_t i = 0; i < list.count(); i++) PITH_TRY(add(list.item(i), parts, error));
        return PITH_OK;
    }
    Step step = {};
    if (starts_with(type, "NF")) {
        step.form = {ends_with(type, "C"), starts_with(type, "NFK")};
        if (type != "NFC" && type != "NFD" && type != "NFKC" && type != "NFKD") return normalizer.unsupported(type, error);
    } else if (type == "Lowercase") {
        step.kind = Kind::Lowercase;
    } else if (type == "StripAccents") {
        step.kind = Kind::StripAccents;
    } else if (type == "Nmt") {
        step.kind = Kind::Nmt;
    } else if (type == "ByteLevel") {
        step.kind = Kind::Bytes;
    } else if (type == "Strip") {
        step.kind = Kind::Strip;
        step.left = step.right = true;
        PITH_TRY(normalizer.flag("strip_left", &step.left, error));
        PITH_TRY(normalizer.flag("strip_right", &step.right, error));
    } else if (type == "Prepend") {
        step.kind = Kind::Prepend;
        PITH_TRY(add_text(normalizer, "prepend", &step, parts, error));
    } else if (type == "Replace") {
        step.kind = Kind::Replace;
        PITH_TRY(add_text(normalizer, "content", &step, parts, error));
        Matcher* matcher = parts->matcher();
        if (!matcher) return fail_memory(error, "a normalizer", sizeof(Matcher));
        PITH_TRY(matcher->load(normalizer.member("pattern"), parts, error));
        step.matcher = matcher;
    } else {
        return normalizer.unsupported(type, error);
    }
    if (steps_.size() == kMaxSteps) return normalizer.unsupported("more than 64 steps", error);
    return steps_.push(step) ? PITH_OK : fail_memory(error, "a normalizer", sizeof step);
}

pith_status Normalizer::apply(const Step& step, std::string_view text, NormalizerScratch* scratch, RegexScratch* regex, bool* at_start,
                              pith_error* error) const {
    Array<char>* to = &scratch->spare;
    bool ok = true;
    switch (step.kind) {
        case Kind::Form:
            ok = unicode::normalize(text, step.form, &scratch->points, to);
            break;
        case Kind::Bytes:
            ok = map_bytes(text, to);
            break;
        case Kind::Lowercase:
            ok = map_points(text, at_start, to, [](uint32_t c, auto put) {
                put(unicode::lower(c));
                if (c == 0x130) put(0x307);  // the one lower case of two code points
            });
            break;
        case Kind::StripAccents:
            ok = map_points(text, at_start, to, [](uint32_t c, auto put) {
                if (!unicode::is(c, unicode::kMark)) put(c);
            });
            break;
        case Kind::Nmt:
            ok = map_points(text, at_start, to, [](uint32_t c, auto put) {
                if (!nmt_drops(c)) put(nmt_is_space(c) ? uint32_t{' '} : c);
            });
            break;
        case Kind::Strip: {
            const std::string_view kept = strip(text, step.left, step.right);
            *at_start = *at_start && kept.data() == text.data();
            ok = to->append(kept.data(), kept.size());
            break;
        }
        case Kind::Prepend:
            if (!text.empty()) ok = to->append(step.text.data(), step.text.size()) && to->append(text.data(), text.size());
            break;
        case Kind::Replace: {
            bool keeps_start = true;
            PITH_TRY(replace_all(*step.matcher, step.text, text, regex, to, &keeps_start, error));
            *at_start = *at_start && keeps_start;
            break;
        }
    }
    return ok ? PITH_OK : fail_memory(error, "a normalized text", text.size());
}

pith_status Normalizer::run(std::string_view text, NormalizerScratch* scratch, RegexScratch* regex, bool* at_start,
                            pith_error* error) const {
    std::string_view now = text;
    scratch->text.clear();
    for (const Step& step : steps_) {
        scratch->spare.clear();
        PITH_TRY(apply(step, now, scratch, regex, at_start, error));
        std::swap(scratch->text, scratch->spare);
        now = {scratch->text.data(), scratch->text.size()};
        if (now.size() > regex->text_limit)
            return fail(error, PITH_E_LIMIT, "a text of %zu bytes grows too much in its normal form", text.size());
    }
    return PITH_OK;
}

}  // namespace pith
