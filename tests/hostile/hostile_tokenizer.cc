// Malformed tokenizer folders.
#include "hostile.h"

using namespace hostile;

namespace {

const std::string kFile = "tokenizer.json: ";

Folder text(const Bytes& bytes) { return {{"tokenizer.json", bytes}}; }

Members model_members() { return {{"type", "\"BPE\""}, {"vocab", "{\"a\":0,\"b\":1,\"ab\":2}"}, {"merges", "[\"a b\"]"}}; }

Folder top(const char* key, const std::string& value) {
    Members members = {{"version", "\"1.0\""}, {"model", object(model_members())}};
    members[key] = value;
    return text(object(members));
}

Folder model(const char* key, const std::string& value) {
    Members members = model_members();
    members[key] = value;
    return top("model", object(members));
}

Folder vocab(const std::string& value) { return model("vocab", value); }
Folder merges(const std::string& value) { return model("merges", value); }
Folder added(const std::string& value) { return top("added_tokens", value); }
Folder normalizer(const std::string& value) { return top("normalizer", value); }
Folder pre(const std::string& value) { return top("pre_tokenizer", value); }
Folder decoder(const std::string& value) { return top("decoder", value); }
Folder post(const std::string& value) { return top("post_processor", value); }
Folder regex(const std::string& pattern) {
    return pre("{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":\"" + pattern + "\"}}");
}

// A good tokenizer with this file beside it.
Folder beside(const char* name, const Bytes& contents) {
    Folder folder = top("added_tokens", "[]");
    folder[name] = contents;
    return folder;
}

std::string repeat(const std::string& unit, size_t times) {
    std::string all;
    for (size_t i = 0; i < times; i++) all += unit;
    return all;
}

}  // namespace

TEST_CASE("tokenizer.json: the file and its model") {
    check_tokenizers({
        {"no file", PITH_E_IO, "m/tokenizer.json: can't be opened", {}},
        {"an empty file", kFormat, kFile + "line 1", text("")},
        {"no JSON", kFormat, kFile + "line 1: expected a value", text("a b")},
        {"an array", kFormat, kFile + "the document: expected an object", text("[]")},
        {"bytes that are no UTF-8", kFormat, kFile + "line 1: invalid UTF-8", text("{\"\xc3\x28\":1}")},
        {"a member twice", kFormat, kFile + "line 1: duplicate key", text("{\"model\":1,\"model\":2}")},
        {"cut off", kFormat, kFile + "line 1: the document ends", text("{\"model\":{\"vocab\":{\"a\":0")},
        {"a depth bomb", kLimit, kFile + "line 1: nested too deeply", text(repeat("[", 1000000))},
        {"a depth bomb of normalizers", kLimit, kFile + "line 1: nested too deeply",
         normalizer(repeat("{\"type\":\"Sequence\",\"normalizers\":[", 1000) + repeat("]}", 1000))},
        {"no model", kFormat, kFile + "model: expected an object, found nothing", text("{\"version\":\"1.0\"}")},
        {"a model that is null", kFormat, kFile + "model: expected an object, found null", top("model", "null")},
        {"a model that is an array", kFormat, kFile + "model: expected an object, found an array", top("model", "[]")},
        {"another version", kUnsupported, kFile + "version: 2.0 isn't supported", top("version", "\"2.0\"")},
        {"a version that is a number", kFormat, kFile + "version: expected a string", top("version", "1.0")},
        {"Unigram", kUnsupported, kFile + "model: Unigram isn't supported", model("type", "\"Unigram\"")},
        {"WordPiece", kUnsupported, kFile + "model: WordPiece isn't supported", model("type", "\"WordPiece\"")},
        {"a type that is a number", kFormat, kFile + "model.type: expected a string", model("type", "1")},
        {"no vocabulary", kFormat, kFile + "model.vocab: expected an object, found nothing", top("model", "{\"merges\":[]}")},
        {"a vocabulary that is an array", kFormat, kFile + "model.vocab: expected an object, found an array", vocab("[[\"a\",0]]")},
        {"a vocabulary of many numbers", kFormat, kFile + "model.vocab: expected an object, found an array",
         vocab("[" + repeat("0,", 300000) + "0]")},
        {"a vocabulary of many arrays", kFormat, kFile + "model.vocab: expected an object, found an array",
         vocab("[" + repeat("[],", 300000) + "[]]")},
        {"merges of many numbers", kFormat, kFile + "model.merges[0]: expected a pair", merges("[" + repeat("0,", 300000) + "0]")},
        {"an id twice", kFormat, kFile + "the tokens 'ab' and 'c' share the id 2", vocab("{\"a\":0,\"b\":1,\"ab\":2,\"c\":2}")},
        {"a token twice", kFormat, kFile + "line 1: duplicate key", vocab("{\"a\":0,\"a\":1}")},
        {"a negative id", kFormat, kFile + "model.vocab: the id of 'b'", vocab("{\"a\":0,\"b\":-1,\"ab\":2}")},
        {"an id of 2^31", kFormat, kFile + "model.vocab: the id of 'b'", vocab("{\"a\":0,\"b\":2147483648,\"ab\":2}")},
        {"an id of 2^64", kFormat, kFile + "model.vocab: the id of 'b'", vocab("{\"a\":0,\"b\":18446744073709551616,\"ab\":2}")},
        {"an id with a fraction", kFormat, kFile + "model.vocab: the id of 'b'", vocab("{\"a\":0,\"b\":1.5,\"ab\":2}")},
        {"an id that is a string", kFormat, kFile + "model.vocab: the id of 'b'", vocab("{\"a\":0,\"b\":\"1\",\"ab\":2}")},
        {"an id that is null", kFormat, kFile + "model.vocab: the id of 'b'", vocab("{\"a\":0,\"b\":null,\"ab\":2}")},
        {"no merges", kFormat, kFile + "model.merges: expected an array, found nothing", top("model", "{\"vocab\":{\"a\":0}}")},
        {"merges that are an object", kFormat, kFile + "model.merges: expected an array, found an object", merges("{\"a\":\"b\"}")},
        {"a merge that is a number", kFormat, kFile + "model.merges[0]: expected a pair", merges("[1]")},
        {"a merge of one token", kFormat, kFile + "model.merges[0]: expected two tokens", merges("[\"ab\"]")},
        {"a merge of three tokens", kFormat, kFile + "model.merges[1]: expected two tokens", merges("[\"a b\",\"a b c\"]")},
        {"a merge in a list of three", kFormat, kFile + "model.merges[0]: expected a pair", merges("[[\"a\",\"b\",\"c\"]]")},
        {"a merge in a list of numbers", kFormat, kFile + "model.merges[0]: expected a pair", merges("[[0,1]]")},
        {"a merge with an unknown left", kFormat, kFile + "model.merges[0]: 'x' isn't in the vocabulary", merges("[\"x b\"]")},
        {"a merge with an unknown right", kFormat, kFile + "model.merges[0]: 'x' isn't in the vocabulary", merges("[\"a x\"]")},
        {"a merge whose result is unknown", kFormat, kFile + "model.merges[0]: 'ba' isn't in the vocabulary", merges("[\"b a\"]")},
        {"an empty merge", kFormat, kFile + "model.merges[0]: expected two tokens", merges("[\"\"]")},
        {"a flag that is a number", kFormat, kFile + "model.byte_fallback: expected a boolean", model("byte_fallback", "1")},
        {"an unknown token that is a number", kFormat, kFile + "model.unk_token: expected a string", model("unk_token", "0")},
        {"dropout that is not 0", kUnsupported, kFile + "model.dropout", model("dropout", "0.5")},
    });
}

TEST_CASE("tokenizer.json: added tokens and what stands around texts") {
    const std::string big = "\"" + Bytes(1025, 'x') + "\"";
    check_tokenizers({
        {"added tokens that are an object", kFormat, kFile + "added_tokens: expected an array", added("{}")},
        {"an added token that is a string", kFormat, kFile + "added_tokens[0]: expected an object", added("[\"<s>\"]")},
        {"an added token without text", kFormat, kFile + "added_tokens[0].content: expected a string", added("[{\"id\":3}]")},
        {"an added token with a negative id", kFormat, kFile + "added_tokens[0].id: expected 0 to",
         added("[{\"id\":-3,\"content\":\"<s>\"}]")},
        {"an added token with an id of 2^40", kFormat, kFile + "added_tokens[0].id: expected 0 to",
         added("[{\"id\":1099511627776,\"content\":\"<s>\"}]")},
        {"an added token with a name as its id", kFormat, kFile + "added_tokens[0].id: expected an integer",
         added("[{\"id\":\"3\",\"content\":\"<s>\"}]")},
        {"an added token with a flag of 1", kFormat, kFile + "added_tokens[0].special: expected a boolean",
         added("[{\"id\":3,\"content\":\"<s>\",\"special\":1}]")},
        {"an added token of 1025 bytes", kLimit, kFile + "added_tokens[0]: an added token of 1025 bytes",
         added("[{\"id\":3,\"content\":" + big + "}]")},
        {"a processor that is an array", kFormat, kFile + "post_processor: expected an object", post("[]")},
        {"a processor without a type", kFormat, kFile + "post_processor.type: expected a string", post("{}")},
        {"an unknown processor", kUnsupported, kFile + "post_processor: Magic isn't supported", post("{\"type\":\"Magic\"}")},
        {"a template without single", kFormat, kFile + "post_processor.single: expected an array",
         post("{\"type\":\"TemplateProcessing\"}")},
        {"a template of an unknown token", kFormat, kFile + "post_processor.single[0].SpecialToken.id: expected a key",
         post("{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}}],\"special_tokens\":{}}")},
        {"a template of a negative id", kFormat, kFile + "post_processor.single[0].SpecialToken.id: expected ids",
         post(
             "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"a\"}}],\"special_tokens\":{\"a\":{\"ids\":[-1]}}}")},
        {"a template of an id that is none", kFormat, kFile + "post_processor.single[0].SpecialToken.id: expected ids",
         post(
             "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"a\"}}],\"special_tokens\":{\"a\":{\"ids\":[99]}}}")},
        {"a Roberta processor without cls", kFormat, kFile + "post_processor.cls[1]: expected an id",
         post("{\"type\":\"RobertaProcessing\"}")},
        {"a Bert processor of an id that is none", kFormat, kFile + "post_processor.cls[1]: expected an id",
         post("{\"type\":\"BertProcessing\",\"cls\":[\"x\",99]}")},
    });
}

TEST_CASE("tokenizer.json: normalizers, pre-tokenizers, decoders") {
    const std::string unit = "{\"type\":\"Lowercase\"}";
    const std::string split = "{\"type\":\"Split\",\"pattern\":{\"String\":\"x\"},\"behavior\":";
    check_tokenizers({
        {"a normalizer that is a string", kFormat, kFile + "normalizer: expected an object", normalizer("\"NFC\"")},
        {"a normalizer without a type", kFormat, kFile + "normalizer.type: expected a string", normalizer("{}")},
        {"an unknown normalizer", kUnsupported, kFile + "normalizer: BertNormalizer isn't supported",
         normalizer("{\"type\":\"BertNormalizer\"}")},
        {"an unknown normal form", kUnsupported, kFile + "normalizer: NFX isn't supported", normalizer("{\"type\":\"NFX\"}")},
        {"a precompiled normalizer", kUnsupported, kFile + "normalizer: Precompiled isn't supported",
         normalizer("{\"type\":\"Precompiled\"}")},
        {"a sequence without normalizers", kFormat, kFile + "normalizer.normalizers: expected an array",
         normalizer("{\"type\":\"Sequence\"}")},
        {"65 normalizers", kUnsupported, kFile + "normalizer.normalizers[64]: more than 64 steps",
         normalizer("{\"type\":\"Sequence\",\"normalizers\":[" + repeat(unit + ",", 64) + unit + "]}")},
        {"a replacement without a pattern", kFormat, kFile + "normalizer.pattern: expected an object with String or Regex",
         normalizer("{\"type\":\"Replace\",\"content\":\"x\"}")},
        {"a replacement of a number", kFormat, kFile + "normalizer.pattern.String: expected a string",
         normalizer("{\"type\":\"Replace\",\"content\":\"x\",\"pattern\":{\"String\":1}}")},
        {"a replacement without content", kFormat, kFile + "normalizer.content: expected a string",
         normalizer("{\"type\":\"Replace\",\"pattern\":{\"String\":\"x\"}}")},
        {"a strip flag that is a string", kFormat, kFile + "normalizer.strip_left: expected a boolean",
         normalizer("{\"type\":\"Strip\",\"strip_left\":\"yes\"}")},
        {"an unknown pre-tokenizer", kUnsupported, kFile + "pre_tokenizer: UnicodeScripts isn't supported",
         pre("{\"type\":\"UnicodeScripts\"}")},
        {"a pre-tokenizer that is a number", kFormat, kFile + "pre_tokenizer: expected an object", pre("1")},
        {"a pre-tokenizer of many steps", kUnsupported, kFile + "pre_tokenizer",
         pre("{\"type\":\"Sequence\",\"pretokenizers\":[" + repeat("{\"type\":\"Whitespace\"},", 65) + "{\"type\":\"Whitespace\"}]}")},
        {"a split without behaviour", kFormat, kFile + "pre_tokenizer.behavior: expected a string",
         pre("{\"type\":\"Split\",\"pattern\":{\"String\":\"x\"}}")},
        {"an unknown behaviour", kUnsupported, kFile + "pre_tokenizer.behavior: Exploded isn't supported", pre(split + "\"Exploded\"}")},
        {"a behaviour that is a number", kFormat, kFile + "pre_tokenizer.behavior: expected a string", pre(split + "1}")},
        {"a Metaspace of two characters", kFormat, kFile + "pre_tokenizer.replacement: expected one character",
         pre("{\"type\":\"Metaspace\",\"replacement\":\"__\"}")},
        {"an unknown prepend scheme", kUnsupported, kFile + "pre_tokenizer.prepend_scheme: sometimes isn't supported",
         pre("{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"sometimes\"}")},
        {"an unknown decoder", kUnsupported, kFile + "decoder: CTC isn't supported", decoder("{\"type\":\"CTC\"}")},
        {"a decoder that is a string", kFormat, kFile + "decoder: expected an object", decoder("\"ByteLevel\"")},
        {"a decoder without a type", kFormat, kFile + "decoder.type: expected a string", decoder("{\"decoders\":[]}")},
        {"a strip of two characters", kFormat, kFile + "decoder.content: expected one character",
         decoder("{\"type\":\"Strip\",\"content\":\"ab\",\"start\":1,\"stop\":0}")},
        {"a strip of 2^32", kFormat, kFile + "decoder.start: expected 0 to 255",
         decoder("{\"type\":\"Strip\",\"content\":\"a\",\"start\":4294967296,\"stop\":0}")},
        {"a strip of -1", kFormat, kFile + "decoder.stop: expected 0 to 255",
         decoder("{\"type\":\"Strip\",\"content\":\"a\",\"start\":0,\"stop\":-1}")},
        {"an empty suffix", kFormat, kFile + "decoder.suffix: expected a text", decoder("{\"type\":\"BPEDecoder\",\"suffix\":\"\"}")},
        {"two byte decoders", kUnsupported, kFile + "decoder.decoders[1]: a byte decoder after another",
         decoder("{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteLevel\"},{\"type\":\"ByteFallback\"}]}")},
    });
}

TEST_CASE("tokenizer.json: regular expressions") {
    const std::string where = kFile + "pre_tokenizer.pattern.Regex: the regular expression ", bad = where + "is malformed";
    check_tokenizers({
        {"no closing parenthesis", kFormat, bad, regex("(a")},
        {"no opening parenthesis", kFormat, bad, regex("a)")},
        {"no closing bracket", kFormat, bad, regex("[a")},
        {"nothing to repeat", kFormat, bad, regex("*a")},
        {"an interval that runs backwards", kFormat, bad, regex("a{3,2}")},
        {"a class that runs backwards", kFormat, bad, regex("[z-a]")},
        {"a backslash at the end", kFormat, bad, regex("a\\\\")},
        {"a code point past the last", kFormat, bad, regex("\\\\x{110000}")},
        {"a pattern that is a number", kFormat, kFile + "pre_tokenizer.pattern.Regex: expected a string",
         pre("{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":1}}")},
        {"a back reference", kUnsupported, where + "has", regex("(a)\\\\1")},
        {"a named group", kUnsupported, where + "has a named group", regex("(?<name>a)")},
        {"a conditional", kUnsupported, where + "has a group of an unknown kind", regex("(?(1)a|b)")},
        {"an unknown property", kUnsupported, where + "has", regex("\\\\p{Nonsense}")},
        {"a repeated group that matches nothing", kUnsupported, where + "has a repetition of what may match nothing", regex("(a*)*")},
        {"groups nested deep", kLimit, where + "is too large", regex(repeat("(", 1000) + "a" + repeat(")", 1000))},
        {"repeats of repeats", kLimit, where + "is too large", regex("((((a{1000}){1000}){1000}){1000})")},
        {"a repeat of 2^31", kLimit, where + "is too large", regex("a{2147483648}")},
        {"a very long pattern", kLimit, where + "is too large", regex(repeat("ab|", 1000000) + "c")},
    });
}

TEST_CASE("the files beside tokenizer.json") {
    check_tokenizers({
        {"tokenizer_config.json that is no JSON", kFormat, "tokenizer_config.json: line 1", beside("tokenizer_config.json", "bos")},
        {"tokenizer_config.json that is an array", kFormat, "tokenizer_config.json: the document: expected an object",
         beside("tokenizer_config.json", "[]")},
        {"a begin token that is a number", kFormat, "tokenizer_config.json: bos_token: expected a string",
         beside("tokenizer_config.json", "{\"bos_token\":1}")},
        {"a begin token without text", kFormat, "tokenizer_config.json: bos_token.content: expected a string",
         beside("tokenizer_config.json", "{\"bos_token\":{}}")},
        {"add_bos_token that is a string", kFormat, "tokenizer_config.json: add_bos_token: expected a boolean",
         beside("tokenizer_config.json", "{\"add_bos_token\":\"yes\"}")},
        {"added tokens that are an array", kFormat, "tokenizer_config.json: added_tokens_decoder: expected an object",
         beside("tokenizer_config.json", "{\"added_tokens_decoder\":[1]}")},
        {"an added token that is a string", kFormat, "tokenizer_config.json: added_tokens_decoder.7: expected an object",
         beside("tokenizer_config.json", "{\"added_tokens_decoder\":{\"7\":\"x\"}}")},
        {"a template that is a number", kFormat, "tokenizer_config.json: chat_template: expected a string",
         beside("tokenizer_config.json", "{\"chat_template\":1}")},
        {"a template list of strings", kFormat, "tokenizer_config.json: chat_template[0].name: expected a string",
         beside("tokenizer_config.json", "{\"chat_template\":[\"x\"]}")},
        {"a template that is no UTF-8", kFormat, "chat_template.jinja: the text isn't UTF-8", beside("chat_template.jinja", "\xff")},
        {"special_tokens_map.json that is cut off", kFormat, "special_tokens_map.json: line 1",
         beside("special_tokens_map.json", "{\"bos_token\":")},
        {"generation_config.json with a text as an end", kFormat, "generation_config.json: eos_token_id",
         beside("generation_config.json", "{\"eos_token_id\":\"2\"}")},
        {"generation_config.json with a fraction in its ends", kFormat, "generation_config.json: eos_token_id[1]",
         beside("generation_config.json", "{\"eos_token_id\":[1,2.5]}")},
        {"config.json that is a depth bomb", kLimit, "config.json: line 1: nested too deeply", beside("config.json", repeat("[", 100000))},
    });
}

TEST_CASE("a regular expression that takes forever is stopped, and the tokenizer goes on") {
    Host host;
    host.disk.put("m", regex("(?:a|a|aa)+(?!.)x"));
    pith_tokenizer* tokenizer = nullptr;
    pith_error error{};
    REQUIRE(pith_tokenizer_load(host.env(), "m", &tokenizer, &error) == PITH_OK);
    const uint64_t live = host.heap.live;
    const Bytes long_text(5000, 'a');
    std::vector<pith_token> tokens(8000);
    size_t count = 0;
    const pith_status status =
        pith_tokenizer_encode(tokenizer, long_text.data(), long_text.size(), 0, tokens.data(), tokens.size(), &count, &error);
    CHECK(status == PITH_E_LIMIT);
    check_message(error, status, "a regular expression of the tokenizer");
    CHECK(host.heap.live == live);
    CHECK(pith_tokenizer_encode(tokenizer, "ab", 2, 0, tokens.data(), tokens.size(), &count, &error) == PITH_OK);
    CHECK(count == 1);
    pith_tokenizer_destroy(tokenizer);
}
