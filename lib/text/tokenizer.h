// A tokenizer as Hugging Face folders have it: tokenizer.json and what the files beside it say of special tokens.
// Immutable once loaded: every call works in buffers of its own, so that any number of threads may share one.
#pragma once
#include "io/files.h"
#include "text/added.h"
#include "text/bpe.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"

namespace pith {

enum class SpecialToken : uint8_t { Bos, Eos, Pad, Unk };
inline constexpr size_t kSpecialTokens = 4;

class Tokenizer {
public:
    explicit Tokenizer(const Allocator& allocator);

    // A folder with tokenizer.json, or such a file itself; the files beside it are optional.
    pith_status load(const Files& files, const char* path, pith_error* error);

    struct EncodeOptions {
        bool begin;    // first what the post-processor puts before a text
        bool special;  // special tokens in the text are tokens, not text
    };
    // Appends the ids. `text` may be any bytes. *work (NULL allowed): merges considered, to see that the time stays linear.
    pith_status encode(std::string_view text, EncodeOptions options, Array<int32_t>* ids, uint64_t* work, pith_error* error) const;

    // *size: the bytes of the text, written if they fit (PITH_E_BUFFER if not).
    pith_status decode(const int32_t* ids, size_t count, bool special, char* text, size_t capacity, size_t* size, pith_error* error) const;
    // One token (-1: the end of the text). *state changes only if the result is PITH_OK.
    pith_status stream(DecodeState* state, int32_t id, bool special, char* text, size_t capacity, size_t* size, pith_error* error) const;

    uint32_t vocab_size() const { return vocabulary_.end_id(); }
    int32_t special(SpecialToken which) const { return special_[static_cast<size_t>(which)]; }
    bool is_end(int32_t id) const;
    // Empty for an id that no token has.
    pith_status piece(int32_t id, std::string_view* bytes, pith_error* error) const;
    std::string_view chat_template() const { return chat_template_; }

private:
    struct Scratch;
    struct AddedToken {  // as a file has it
        std::string_view text;
        uint8_t flags;
    };

    pith_status check_id(int32_t id, pith_error* error) const;
    bool is_skipped(uint32_t token, bool special) const { return !special && vocabulary_[token].flags & Token::kSpecial; }

    pith_status encode_text(std::string_view text, bool first, bool special, Scratch* scratch, Array<int32_t>* ids,
                            pith_error* error) const;
    pith_status encode_words(std::string_view text, bool first, Scratch* scratch, Array<int32_t>* ids, pith_error* error) const;

    pith_status load_tokenizer(const Field& root, pith_error* error);
    pith_status load_added(const Field& list, pith_error* error);
    pith_status read_added(const Field& field, AddedToken* token, pith_error* error) const;
    pith_status add_tokens(const Array<AddedToken>& tokens, const char* file, pith_error* error);
    pith_status load_prefix(const Field& processor, Array<int32_t>* prefix, pith_error* error) const;
    pith_status load_template(const Field& processor, Array<int32_t>* prefix, pith_error* error) const;
    pith_status prepare_added(pith_error* error);

    struct Folder {
        const Files& files;
        std::string_view path;
        Arena& arena;  // of paths and documents, until the load ends
    };
    pith_status read_json(const Folder& folder, const char* name, const Json** root, pith_error* error) const;
    pith_status load_companions(const Folder& folder, pith_error* error);
    pith_status load_config_added(const Field& config, pith_error* error);
    pith_status find_specials(const Json* config, const Json* map, const Json* model, const Json* generation, pith_error* error);
    pith_status special_text(const Field& file, const char* key, std::string_view* text, bool* none, pith_error* error) const;
    pith_status special_ids(const Field& field, Array<int32_t>* ids, pith_error* error) const;
    pith_status load_chat_template(const Folder& folder, const Field& config, pith_error* error);

    const Allocator& allocator_;
    Parts parts_;
    Vocabulary vocabulary_;
    uint32_t model_size_ = 0;  // tokens of the model; added ones follow
    uint32_t next_added_ = 0;  // the id of the next added token that the model doesn't have
    Normalizer normalizer_;
    AddedMatcher raw_, normalized_;  // added tokens sought before and after the normalizer
    PreTokenizer pre_tokenizer_;
    Bpe bpe_;
    Decoder decoder_;
    Array<int32_t> prefix_;
    Array<int32_t> ends_;
    int32_t special_[kSpecialTokens] = {-1, -1, -1, -1};
    std::string_view chat_template_;
};

}  // namespace pith
