// The strict JSON reader: no recursion (open containers stand on an explicit stack), and no time or memory beyond a small
// multiple of the document's size, whatever is in it.
#include "base/json.h"

#include <stdio.h>

#include <algorithm>

namespace pith {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// The end of the number that starts at `at`, or `at` if there is none. *integer: neither fraction nor exponent.
size_t scan_number(std::string_view text, size_t at, bool* integer) {
    const size_t size = text.size(), start = at;
    const auto digits = [&] {
        const size_t from = at;
        while (at < size && is_digit(text[at])) at++;
        return at > from;
    };
    *integer = true;
    if (at < size && text[at] == '-') at++;
    if (at < size && text[at] == '0') {
        at++;
    } else if (!digits()) {
        return start;
    }
    if (at < size && text[at] == '.') {
        *integer = false;
        at++;
        if (!digits()) return start;
    }
    if (at < size && (text[at] == 'e' || text[at] == 'E')) {
        *integer = false;
        at++;
        if (at < size && (text[at] == '+' || text[at] == '-')) at++;
        if (!digits()) return start;
    }
    return at;
}

bool parse_integer(std::string_view text, int64_t* value) {
    const bool negative = text[0] == '-';
    const uint64_t limit = static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) + (negative ? 1 : 0);
    uint64_t magnitude = 0;
    for (size_t i = negative ? 1 : 0; i < text.size(); i++) {
        const uint64_t digit = static_cast<uint64_t>(text[i] - '0');
        if (magnitude > (limit - digit) / 10) return false;
        magnitude = magnitude * 10 + digit;
    }
    *value = static_cast<int64_t>(negative ? 0 - magnitude : magnitude);
    return true;
}

// Bytes of the UTF-8 sequence at the head of `text`, 0 if it is malformed (overlong, surrogate, past U+10FFFF, cut).
size_t utf8_length(const unsigned char* s, size_t left) {
    const unsigned char c = s[0];
    if (c < 0x80) return 1;
    const size_t need = c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    if (need == 0 || need > left) return 0;
    for (size_t i = 1; i < need; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if ((c == 0xe0 && s[1] < 0xa0) || (c == 0xed && s[1] >= 0xa0) || (c == 0xf0 && s[1] < 0x90) || (c == 0xf4 && s[1] >= 0x90)) return 0;
    return need;
}

size_t put_utf8(char* to, uint32_t code) {
    const auto byte = [](uint32_t value) { return static_cast<char>(static_cast<unsigned char>(value)); };
    if (code < 0x80) return to[0] = byte(code), 1;
    if (code < 0x800) return to[0] = byte(0xc0 | code >> 6), to[1] = byte(0x80 | (code & 63)), 2;
    if (code < 0x10000) {
        to[0] = byte(0xe0 | code >> 12), to[1] = byte(0x80 | (code >> 6 & 63)), to[2] = byte(0x80 | (code & 63));
        return 3;
    }
    to[0] = byte(0xf0 | code >> 18), to[1] = byte(0x80 | (code >> 12 & 63));
    to[2] = byte(0x80 | (code >> 6 & 63)), to[3] = byte(0x80 | (code & 63));
    return 4;
}

class Parser {
public:
    Parser(std::string_view text, const char* source, Arena& arena, pith_error* error, const JsonLimits& limits)
        : text_(text),
          source_(source),
          arena_(arena),
          error_(error),
          limits_(limits),
          stack_(arena.allocator()),
          open_(arena.allocator()) {}

    pith_status run(const Json** root) {
        PITH_TRY(slot());
        PITH_TRY(value());
        while (!open_.empty()) PITH_TRY(step());
        skip_space();
        if (at_ < text_.size()) return malformed("text after the end of the document");
        Json* copy = arena_.make<Json>();
        if (!copy) return no_memory(sizeof(Json));
        *copy = stack_[0];
        *root = copy;
        return PITH_OK;
    }

private:
    // An open container; its children are on the stack from `first`, in an object as key, value, key, value, ...
    struct Open {
        size_t first;
        bool object;
        bool started;  // has had a first child or its key
    };

    pith_status malformed(const char* what) { return fail_here(PITH_E_FORMAT, what); }
    pith_status fail_here(pith_status status, const char* what) {
        size_t line = 1;
        for (size_t i = 0; i < at_ && i < text_.size(); i++) line += text_[i] == '\n';
        return fail(error_, status, "%s: line %zu: %s", source_, line, what);
    }
    pith_status no_memory(size_t bytes) { return fail_memory(error_, source_, bytes); }

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
    void skip_space() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) at_++;
    }

    // Room on the stack for one more value or key: it is filled at once or when the container closes.
    pith_status slot() { return stack_.push(Json{}) ? PITH_OK : no_memory((stack_.size() + 1) * sizeof(Json)); }

    // One step inside the innermost open container: its end, or one more child.
    pith_status step() {
        Open& open = open_.back();
        skip_space();
        if (at_ == text_.size()) return malformed(open.object ? "the document ends inside an object" : "the document ends inside an array");
        if (peek() == (open.object ? '}' : ']')) {
            at_++;
            return open.object ? close_object() : close_array();
        }
        if (open.started) {
            if (peek() != ',') return malformed(open.object ? "expected ',' or '}'" : "expected ',' or ']'");
            at_++;
            skip_space();
        }
        open.started = true;
        if (open.object) {
            if (peek() != '"') return malformed("expected a key in double quotes");
            PITH_TRY(slot());
            PITH_TRY(string());
            skip_space();
            if (peek() != ':') return malformed("expected ':' after a key");
            at_++;
        }
        PITH_TRY(slot());
        return value();
    }

    pith_status value() {
        skip_space();
        if (values_++ >= limits_.values) return fail_here(PITH_E_LIMIT, "too many values");
        Json& to = stack_.back();
        switch (peek()) {
            case '{':
            case '[':
                if (open_.size() >= limits_.depth) return fail_here(PITH_E_LIMIT, "nested too deeply");
                if (!open_.push({stack_.size(), text_[at_] == '{', false})) return no_memory(sizeof(Open) * (open_.size() + 1));
                at_++;
                return PITH_OK;
            case '"':
                return string();
            case 't':
                to.type = Json::Bool;
                to.boolean = true;
                return word("true");
            case 'f':
                to.type = Json::Bool;
                return word("false");
            case 'n':
                return word("null");
            default:
                return number();
        }
    }

    pith_status word(std::string_view expected) {
        if (slice(text_, at_, expected.size()) != expected) return malformed("expected a value");
        at_ += expected.size();
        return PITH_OK;
    }

    pith_status number() {
        bool integer;
        const size_t end = scan_number(text_, at_, &integer);
        if (end == at_) return malformed(at_ == text_.size() ? "expected a value, found the end" : "expected a value");
        const std::string_view literal = slice(text_, at_, end - at_);
        Json& to = stack_.back();
        to.type = Json::Int;
        if (!integer || !parse_integer(literal, &to.integer)) {
            to.type = Json::Float;
            parse_double(literal, &to.number);
            if (to.number > std::numeric_limits<double>::max() || to.number < std::numeric_limits<double>::lowest())
                return malformed("a number is too large");
        }
        at_ = end;
        return PITH_OK;
    }

    // The string at the opening quote, into the top of the stack.
    pith_status string() {
        const size_t from = ++at_;
        size_t escapes = 0;
        while (peek() != '"') {
            const unsigned char* s = reinterpret_cast<const unsigned char*>(text_.data()) + at_;
            if (at_ == text_.size()) return malformed("a string does not end");
            if (*s < 0x20) return malformed("a control character in a string");
            if (*s == '\\') {
                if (text_.size() - at_ < 2) return malformed("a string does not end");
                escapes++;
                at_ += 2;  // what follows is checked below
                continue;
            }
            const size_t length = utf8_length(s, text_.size() - at_);
            if (length == 0) return malformed("invalid UTF-8");
            at_ += length;
        }
        const size_t size = at_ - from;
        char* to = static_cast<char*>(arena_.bytes(size + 1, 1));
        if (!to) return no_memory(size + 1);
        Json& result = stack_.back();
        result.type = Json::String;
        result.string = to;
        result.size = size;
        if (size) memcpy(to, text_.data() + from, size);
        if (escapes) {
            const size_t end = at_;
            at_ = from;
            PITH_TRY(unescape(to, end, &result.size));
        }
        at_++;
        return PITH_OK;
    }

    // Decodes text_[at_, end) to `to`, which has room: no escape is shorter than what it stands for.
    pith_status unescape(char* to, size_t end, size_t* size) {
        size_t written = 0;
        while (at_ < end) {
            if (text_[at_] != '\\') {
                to[written++] = text_[at_++];
                continue;
            }
            at_++;
            constexpr std::string_view kNames = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
            const char name = text_[at_++];
            if (name == 'u') {
                uint32_t code = 0;
                PITH_TRY(code_point(end, &code));
                written += put_utf8(to + written, code);
                continue;
            }
            size_t i = 0;
            while (i < kNames.size() && kNames[i] != name) i++;
            if (i == kNames.size()) return malformed("an unknown escape in a string");
            to[written++] = kMeanings[i];
        }
        to[written] = 0;
        *size = written;
        return PITH_OK;
    }

    bool hex4(size_t end, uint32_t* value) {
        if (end - at_ < 4) return false;
        *value = 0;
        for (int i = 0; i < 4; i++) {
            const char c = text_[at_++];
            const int digit = is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
            if (digit < 0) return false;
            *value = *value << 4 | static_cast<uint32_t>(digit);
        }
        return true;
    }

    // After "\u": four digits, or a surrogate pair.
    pith_status code_point(size_t end, uint32_t* code) {
        if (!hex4(end, code)) return malformed("\\u needs four hexadecimal digits");
        if (*code < 0xd800 || *code > 0xdfff) return PITH_OK;
        uint32_t low = 0;
        if (*code >= 0xdc00 || end - at_ < 6 || text_[at_] != '\\' || text_[at_ + 1] != 'u') return malformed("half a surrogate pair");
        at_ += 2;
        if (!hex4(end, &low)) return malformed("\\u needs four hexadecimal digits");
        if (low < 0xdc00 || low > 0xdfff) return malformed("half a surrogate pair");
        *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
        return PITH_OK;
    }

    pith_status close_array() {
        const size_t first = open_.back().first, count = stack_.size() - first;
        Json* items = arena_.make<Json>(count);
        if (!items) return no_memory(count * sizeof(Json));
        for (size_t i = 0; i < count; i++) items[i] = stack_[first + i];
        Json& to = close(first);
        to.type = Json::Array;
        to.items = items;
        to.size = count;
        return PITH_OK;
    }

    pith_status close_object() {
        const size_t first = open_.back().first, count = (stack_.size() - first) / 2;
        JsonMember* members = arena_.make<JsonMember>(count);
        if (!members) return no_memory(count * sizeof(JsonMember));
        for (size_t i = 0; i < count; i++) {
            const Json& key = stack_[first + 2 * i];
            members[i] = {key.string, key.size, stack_[first + 2 * i + 1]};
        }
        PITH_TRY(check_unique(members, count));
        Json& to = close(first);
        to.type = Json::Object;
        to.members = members;
        to.size = count;
        return PITH_OK;
    }

    Json& close(size_t first) {
        open_.pop();
        stack_.shrink(first);
        return stack_.back();
    }

    // Sorted by hash, then by bytes: as fast as a hash table on honest keys, and keys made to collide only cost the sort.
    pith_status check_unique(const JsonMember* members, size_t count) {
        struct Entry {
            uint32_t hash, index;
        };
        if (count < 2) return PITH_OK;
        if (count > std::numeric_limits<uint32_t>::max()) return fail_here(PITH_E_LIMIT, "too many values");
        Array<Entry> entries(arena_.allocator());
        if (!entries.resize(count)) return no_memory(count * sizeof(Entry));
        for (size_t i = 0; i < count; i++) {
            uint32_t hash = 2166136261u;  // FNV-1a
            for (const char c : members[i].name()) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
            entries[i] = {hash, static_cast<uint32_t>(i)};
        }
        std::sort(entries.begin(), entries.end(), [members](const Entry& a, const Entry& b) {
            return a.hash != b.hash ? a.hash < b.hash : members[a.index].name() < members[b.index].name();
        });
        for (size_t i = 1; i < count; i++) {
            const std::string_view name = members[entries[i].index].name();
            if (entries[i].hash != entries[i - 1].hash || name != members[entries[i - 1].index].name()) continue;
            char what[96];
            snprintf(what, sizeof what, "duplicate key '%.*s'", static_cast<int>(name.size() < 64 ? name.size() : 64), name.data());
            return malformed(what);
        }
        return PITH_OK;
    }

    std::string_view text_;
    const char* source_;
    Arena& arena_;
    pith_error* error_;
    JsonLimits limits_;
    size_t at_ = 0, values_ = 0;
    Array<Json> stack_;
    Array<Open> open_;
};

// ---- parse_double

// A non-negative integer of up to 4096 bits, little-endian: enough for 770 digits and 10^1093 (see exact_double).
struct Big {
    static constexpr uint32_t kCapacity = 128;
    uint32_t limb[kCapacity];
    uint32_t count = 0;

    void multiply_add(uint32_t factor, uint32_t addend) {
        uint64_t carry = addend;
        for (uint32_t i = 0; i < count; i++) {
            carry += static_cast<uint64_t>(limb[i]) * factor;
            limb[i] = static_cast<uint32_t>(carry);
            carry >>= 32;
        }
        if (carry) limb[count++] = static_cast<uint32_t>(carry);
    }
    void multiply_power_of_ten(int exponent) {
        for (; exponent >= 9; exponent -= 9) multiply_add(1000000000u, 0);
        for (; exponent > 0; exponent--) multiply_add(10, 0);
    }
    int bits() const {
        int bits = static_cast<int>(count) * 32;
        for (uint32_t top = limb[count - 1]; !(top & 0x80000000u); top <<= 1) bits--;
        return bits;
    }
    void shift_left(int by) {
        const uint32_t limbs = static_cast<uint32_t>(by) / 32, rest = static_cast<uint32_t>(by) % 32;
        limb[count] = 0;
        for (uint32_t i = count + 1; i-- > 0;) {
            const uint32_t below = i > 0 && rest ? limb[i - 1] >> (32 - rest) : 0;
            limb[i + limbs] = limb[i] << rest | below;
        }
        for (uint32_t i = 0; i < limbs; i++) limb[i] = 0;
        count += limbs + 1;
        while (count > 0 && limb[count - 1] == 0) count--;
    }
    bool less(const Big& other) const {
        if (count != other.count) return count < other.count;
        for (uint32_t i = count; i-- > 0;)
            if (limb[i] != other.limb[i]) return limb[i] < other.limb[i];
        return false;
    }
    void subtract(const Big& other) {  // other <= *this
        uint64_t borrow = 0;
        for (uint32_t i = 0; i < count; i++) {
            const uint64_t take = borrow + (i < other.count ? other.limb[i] : 0);
            borrow = limb[i] < take;
            limb[i] = static_cast<uint32_t>(limb[i] - take);
        }
        while (count > 0 && limb[count - 1] == 0) count--;
    }
};

// (mantissa + a fraction if `sticky`) * 2^(exponent - 63), the mantissa's top bit set, rounded to nearest even.
double round_to_double(uint64_t mantissa, int exponent, bool sticky) {
    if (exponent > 1023) return std::numeric_limits<double>::infinity();
    const int shift = exponent >= -1022 ? 11 : 11 + (-1022 - exponent);
    if (shift > 64) return 0.0;
    const uint64_t kept = shift == 64 ? 0 : mantissa >> shift;
    const uint64_t half = uint64_t{1} << (shift - 1), rest = shift == 64 ? mantissa : mantissa & ((uint64_t{1} << shift) - 1);
    const bool up = rest > half || (rest == half && (sticky || (kept & 1)));
    // The implicit bit and a carry out of the mantissa both land in the exponent as they should.
    const uint64_t bits = kept + up + (exponent >= -1022 ? static_cast<uint64_t>(exponent + 1022) << 52 : 0);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// digits * 10^exponent by exact division. The value lies between 1e-325 and 1e309; digits is not zero.
double exact_double(Big& digits, int exponent) {
    Big divisor;
    divisor.limb[0] = 1;
    divisor.count = 1;
    if (exponent >= 0) {
        digits.multiply_power_of_ten(exponent);
    } else {
        divisor.multiply_power_of_ten(-exponent);
    }
    const int difference = digits.bits() - divisor.bits();
    if (difference < 0) digits.shift_left(-difference);
    if (difference > 0) divisor.shift_left(difference);
    // Their ratio is now between 1/2 and 2: 64 bits of it, one at a time.
    uint64_t quotient = 0;
    for (int i = 0; i < 64; i++) {
        quotient <<= 1;
        if (!digits.less(divisor)) {
            digits.subtract(divisor);
            quotient |= 1;
        }
        if (digits.count) digits.shift_left(1);
    }
    const bool sticky = digits.count != 0;
    if (quotient >> 63) return round_to_double(quotient, difference, sticky);
    return round_to_double(quotient << 1, difference - 1, sticky);
}

struct Decimal {
    Big digits;         // at most kDigits significant ones; a last 1 stands for all that were cut
    uint64_t head = 0;  // the same while it has at most 19 digits
    int count = 0;      // of digits
    int64_t exponent = 0;
};
// A tie between two doubles has at most 767 digits.
constexpr int kDigits = 768;

void read_decimal(std::string_view text, Decimal* out) {
    bool fraction = false, cut = false;
    size_t i = text[0] == '-' ? 1 : 0;
    for (; i < text.size() && (is_digit(text[i]) || text[i] == '.'); i++) {
        if (text[i] == '.') {
            fraction = true;
            continue;
        }
        const uint32_t digit = static_cast<uint32_t>(text[i] - '0');
        if (out->count == 0 && digit == 0) {
            out->exponent -= fraction;
        } else if (out->count < kDigits) {
            if (out->count < 19) out->head = out->head * 10 + digit;
            out->digits.multiply_add(10, digit);
            out->count++;
            out->exponent -= fraction;
        } else {
            cut |= digit != 0;
            out->exponent += !fraction;
        }
    }
    if (cut) {
        out->digits.multiply_add(10, 1);
        out->count++;
        out->exponent--;
    }
    if (i >= text.size()) return;
    const bool negative = text[++i] == '-';
    if (negative || text[i] == '+') i++;
    int64_t exponent = 0;  // far beyond any text's length, the rest can't matter
    for (; i < text.size(); i++)
        if (exponent < (int64_t{1} << 58)) exponent = exponent * 10 + (text[i] - '0');
    out->exponent += negative ? -exponent : exponent;
}

}  // namespace

const Json* Json::find(std::string_view key) const {
    if (type != Object) return nullptr;
    for (size_t i = 0; i < size; i++)
        if (members[i].name() == key) return &members[i].value;
    return nullptr;
}

pith_status json_parse(std::string_view text, const char* source, Arena& arena, const Json** root, pith_error* error,
                       const JsonLimits& limits) {
    return Parser(text, source, arena, error, limits).run(root);
}

bool parse_double(std::string_view text, double* value) {
    bool integer;
    if (text.empty() || scan_number(text, 0, &integer) != text.size()) return false;
    Decimal decimal;
    read_decimal(text, &decimal);
    const int64_t magnitude = decimal.exponent + decimal.count;  // 10^(magnitude-1) <= value < 10^magnitude
    double result;
    if (decimal.count == 0 || magnitude < -323) {
        result = 0.0;
    } else if (magnitude > 309) {
        result = std::numeric_limits<double>::infinity();
    } else if (decimal.count <= 19 && decimal.head <= uint64_t{1} << 53 && decimal.exponent >= -22 && decimal.exponent <= 22) {
        // Both numbers are exact doubles, so the one operation rounds correctly.
        constexpr double kPowers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                      1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
        const double head = static_cast<double>(decimal.head);
        result = decimal.exponent < 0 ? head / kPowers[-decimal.exponent] : head * kPowers[decimal.exponent];
    } else {
        result = exact_double(decimal.digits, static_cast<int>(decimal.exponent));
    }
    *value = text[0] == '-' ? -result : result;
    return true;
}

}  // namespace pith
