#!/usr/bin/env python3
"""Golden vectors for the tokenizer: small tokenizers of every family, and what the `tokenizers` package (PyPI) makes of a corpus.
   make_vectors.py            writes <family>/tokenizer.json (and the files beside it) and vectors.json into this folder
   make_vectors.py --demo REF writes demo_cases.json from the demo model's reference cases, as far as their texts are this project's own
All text here was written for this project. vectors.json holds:
   texts     [{"text": …}] or [{"hex": …}] for bytes that need not be UTF-8
   families  {name: {"bos": ids, "cases": [[ids, ids with special tokens or null, decoded or null, decoded with special tokens or null]],
              "long": [[text, times, count of ids, FNV-1a 64 of the ids as little-endian 32-bit numbers]],
              "decodes": [[ids, decoded, decoded with special tokens]]}}
A null means: the same as the ids (or the text) before it; a decoded text that equals the case's text is null too."""
import argparse, collections, json, os, random, sys
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r'\p{N}{1,3}', r'\p{N}')
CASES = ("[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
POSSESSIVE = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
MIXED = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

TRAINING = '''The kettle sang on the stove while the rain walked up and down the roof, and nobody in the house was in a hurry.
A small library does one thing, does it well, and then gets out of the way of the program that called it.
"Where did you put the lantern?" she asked. "I haven't seen it since Tuesday," he said, "and I'd rather we didn't look for it now."
They're sure that we'll find what you've lost; it's only that I'm slow, and he'd said they'd wait. The children's kites weren't there.
In 1987 there were 365 boats, 12 of them red; by 2024 only 48 were left, worth 3.14 million or 1,000,000 more or less.
def add(left, right):\n    return left + right  # the sum\n\nfor index in range(10):\n\tprint(index, add(index, 2 ** index))
int main(void) { const char* name = "world"; printf("hello, %s\\n", name); return 0; }
Les élèves ont mangé des crêpes à la plage, où l'été paraît déjà fini; la forêt, elle, est restée verte.
Die Größe der Straße überraschte die Fußgänger, und über den Häusern lag ein süßer Geruch von Äpfeln.
El niño pequeño corrió hacia la montaña; la señora le dio una piña y un vaso de agua fría.
Старый мост через реку скрипел от ветра, и каждое утро рыбаки проходили по нему к своим лодкам.
Η θάλασσα ήταν ήρεμη και ο ήλιος έλαμπε πάνω από τα μικρά άσπρα σπίτια του νησιού.
海边的小镇很安静，早晨只有渔船的声音。孩子们在沙滩上写自己的名字。
静かな港町の朝は、船の音だけが聞こえる。こどもたちは砂浜に名前を書いた。カタカナもある。
조용한 항구 마을의 아침에는 배 소리만 들린다. 아이들은 모래밭에 이름을 썼다.
كانت المدينة الصغيرة هادئة في الصباح، ولم يسمع أحد إلا صوت القوارب.
העיר הקטנה הייתה שקטה בבוקר, ורק קול הסירות נשמע.
सुबह का छोटा शहर शांत था और केवल नावों की आवाज़ सुनाई देती थी।
เมืองเล็กริมทะเลเงียบสงบในตอนเช้า มีเพียงเสียงเรือ
The the the and and of of to to in in that that it it was was for for on on with with as as be be at at by by
hello world hello there hello again    four spaces    and  two\n\n\nthree newlines\t\ttwo tabs
HTTPServer parseXMLFile camelCaseName snake_case_name SCREAMING_CASE kebab-case-name x86_64 utf8 v2.0.1 README.md
'''

TEXTS = ['', ' ', '  ', '   ', '\n', '\n\n', ' \n', '\n ', '\r\n', '\r\n\r\n', '\t', '\t\t\n', ' \t \n \r\n  x', 'a', 'ab', ' a', 'a ', '  a  b   c    ',
         'Hello, world!', 'hello world hello there', "don't I'LL we've O'CLOCK they'D it'S 'tis 'twas ''s 's 'x", "I\u2019m you\u2019re", "'\u017f it'\u017f x'\u017f'",
         'The kettle sang; nobody was in a hurry.', 'x' * 40, ' ' * 37, '\n' * 9, '!' * 21, '=' * 16 + '>', '-' * 5 + '\n' + '-' * 5, '1234567890', '3.14159 1,000,000 0x1F',
         '1 22 333 4444 55555', '٠١٢٣٤٥ ١٢', '½ ⅓ ² Ⅷ ①②', 'v2.0.1-rc.3+build.7', 'x86_64', 'def f(x):\n    return x+1\n\n\n\tpass  # done\n', 'if (a<b && c>=d) { e[0] = -f; }',
         'HTTPServer parseXMLFile camelCaseName ALLCAPS ÀÉÎ Ünïcödé', 'a/b//c ///\n/', 'http://example.org/a?b=c&d=%20#e', 'user@example.org', '$5.00 £3 €4 ¥5 50% #1 @x *y* _z_ `w`',
         'naïve café — déjà vu… “quoted” ‘single’ «guillemets»', 'e\u0301 a\u030a\u0323 o\u0302\u0301 \u0301 x\u0327\u0301\u0328', 'é è ö ñ ç Å ﬁ ﬂ ﬀ', '\u1e9b\u0323 \u0344 \u0958 \u2126 \u212b \u00b5',
         'İstanbul ıssız ΑΣΣ Straße ǅ', 'Старый мост', 'Η θάλασσα', '海边的小镇很安静。', '静かな港町、カタカナとひらがな', '조용한 항구 마을', '\u1112\u1161\u11ab\u1100\u1173\u11af', 'كانت المدينة', 'עיר קטנה',
         'छोटा शहर की आवाज़', 'เมืองเล็ก', 'ქართული ენა', 'Հայերեն', 'አማርኛ', 'தமிழ் మలయాళం ಕನ್ನಡ', 'မြန်မာ', 'ខ្មែរ', '𝒳𝓎𝓏 𝔸𝔹 𐍈𐍉 𓀀𓀁', '漢字かな交じり文 mixed with English 123', '㍿ ㈱ ﷽ ｆｕｌｌｗｉｄｔｈ １２３ ｶﾀｶﾅ',
         '🙂', '🙂🙂🙂', '👍🏽 ok', '👩‍👩‍👧‍👦 family', '🏳️‍🌈🇩🇪🇯🇵', '❤️ ☃️ ⌨ ♞', 'a🙂b c🙂 🙂d', '1️⃣2️⃣', '\u00a0nbsp\u00a0here', '\u2003em\u2009thin\u200bzero\u200c\u200djoin', '\u3000全角', 'line\u2028sep\u2029par\u0085nel',
         '\ufeffbom', '\u202eoverride\u202c', '\ufffd\ufffe\uffff', '\x00', 'a\x00b', '\x01\x02\x07\x08\x0b\x0c\x1b[0m\x7f\x80\x9f', '\U0010ffff\U000e0001', '▁', '▁▁a▁b', ' ▁ x', 'Ġ Ċ ġ', '<0x41> <0xFF> <0x0A>',
         '<s> </s> <unk>', '<|begin|>hi<|end|>', 'x<|end|><|end|>y', ' <|begin|> a <|end|> ', '<|begin', '<|BEGIN|>', 'plain <tool> and </tool>', '  <tool>  x', 'a<mask>b', 'a <mask> b', 'a\t<mask>\n b', 'day today Day days', '[DAY] [day]x',
         'word wordy sword word.word', 'left  LEFT  right', 'ab  RIGHT  cd', 'x BOTH y  BOTH BOTH', 'éLEFTé', 'SINGLE SINGLES aSINGLE é́SINGLE SINGLE', 'x\n\nSTOP\n\ny', 'Ünit ünit UNIT', 'sp ace sp  ace', '\n\n\n\n\n\n\n', 'a\n\n\nb\n\nc\nd',
         'MiXeD CaSe', 'foo-bar--baz---', '--- a -- b - c', 'a,b,,c,,,d', '12ab34cd', 'aaa bbb aaa', 'The end']
BYTES = [b'\xff', b'\xc3', b'abc\xc3', b'\xc3\x28', b'\xe2\x82', b'\xe2\x82\xac\xe2\x82', b'\xf0\x9f\x99', b'\xf0\x9f\x99\x82\xf0\x9f', b'\xed\xa0\x80\xed\xb0\x80', b'\xc0\x80 \xe0\x80\x80 \xf0\x80\x80\x80', b'\xf4\x90\x80\x80',
         b'\xf8\x88\x80\x80\x80', b'a\x80b\xbfc', b'\xe4\xb8\x96\xe7\x95x', b'\xf1\x80\x80x\xf1\x80x\xf1x', b'ok \xe2\x28\xa1 ok', b'\xef\xbf\xbd\xef\xbb\xbf']
LONG = [['a', 1000000], [' ', 1000000], ['\n', 300000], ['é', 300000], ['1', 300000], ['🙂', 100000], ['ab', 200000], ['the ', 100000], ['!', 300000], ['e\u0301', 100000], ['<|end|>', 20000], ['\u0301', 200000]]
SHORT_LONG = [['a', 50000], [' ', 50000], ['é', 20000]]


def special(text, **flags):
    return AddedToken(text, special=True, **{'normalized': False, **flags})


def plain(text, **flags):
    return AddedToken(text, special=False, **flags)


def common_characters(tok, lines, limit):
    """The `limit` commonest characters of the words. (The trainer's own choice between equally common ones changes from run to run.)"""
    count = collections.Counter()
    for line in lines:
        for word, _ in tok.pre_tokenizer.pre_tokenize_str(tok.normalizer.normalize_str(line) if tok.normalizer else line):
            count.update(word)
    return sorted(sorted(count, key=lambda c: (-count[c], c))[:limit])


def train(tok, size=700, limit=None, specials=(), **options):
    """With `limit`: of an alphabet of so many characters; else of the byte alphabet."""
    lines = TRAINING.split('\n') + [TRAINING]
    alphabet = common_characters(tok, lines, limit) if limit else sorted(pre_tokenizers.ByteLevel.alphabet())
    if limit: options['limit_alphabet'] = len(alphabet)
    # Characters with affixes are numbered as they are met in a hash table: named here, they have a fixed place.
    prefix, suffix = options.get('continuing_subword_prefix', ''), options.get('end_of_word_suffix', '')
    affixed = [prefix + c + suffix for c in alphabet] if prefix or suffix else []
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(specials) + affixed, show_progress=False, initial_alphabet=alphabet, **options)
    tok.train_from_iterator(lines, trainer)
    names = [t if isinstance(t, str) else t.content for t in specials]
    return edit(tok, lambda data: data.update(added_tokens=[t for t in data['added_tokens'] if t['content'] in names]))


def byte_level(split, size=700, normalizer=None, specials=()):
    tok = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(s), 'isolated') for s in split] + [level])
    if normalizer: tok.normalizer = normalizer
    tok.decoder = decoders.ByteLevel()
    return train(tok, size, specials=specials)


def edit(tok, change):
    """The tokenizer after `change` of its JSON."""
    data = json.loads(tok.to_str())
    change(data)
    return Tokenizer.from_str(json.dumps(data))


def legacy_merges(data):
    data['model']['merges'] = [a + ' ' + b for a, b in data['model']['merges']]


def sentencepiece(normalizer, pre_tokenizer, decoder, size=600, specials=('<unk>', '<s>', '</s>')):
    """Trained without the bytes, which then get tokens of their own behind the special ones."""
    tok = Tokenizer(models.BPE(unk_token=specials[0], fuse_unk=True, byte_fallback=True))
    if normalizer: tok.normalizer = normalizer
    tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme='first')
    tok = train(tok, size, specials=specials, limit=90)
    data = json.loads(tok.to_str())
    model = data['model']
    words = sorted(model['vocab'], key=model['vocab'].get)
    count = len(specials)
    words = words[:count] + ['<0x%02X>' % b for b in range(256)] + words[count:]
    model['vocab'] = {w: i for i, w in enumerate(words)}
    data['pre_tokenizer'] = None
    tok = Tokenizer.from_str(json.dumps(data))
    if pre_tokenizer: tok.pre_tokenizer = pre_tokenizer
    tok.decoder = decoder
    tok.add_special_tokens([special(s) for s in specials])
    return tok


def template(tok, bos, eos=None):
    specials = [(t, tok.token_to_id(t)) for t in (bos, eos) if t]
    single = bos + ' $A' + (' ' + eos if eos else '')
    return processors.TemplateProcessing(single=single, pair=single + ' $B', special_tokens=specials)


def families():
    begin_end = [special('<|begin|>'), special('<|end|>')]
    made = {}

    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    made['gpt2'] = train(tok, specials=begin_end)

    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tok.decoder = decoders.ByteLevel()
    tok = train(tok, 500, specials=['<s>', '</s>'])
    tok.post_processor = processors.RobertaProcessing(('</s>', 1), ('<s>', 0))
    tok.add_special_tokens([special('<mask>', lstrip=True)])
    made['roberta'] = tok

    tok = byte_level([LLAMA3])
    tok.add_special_tokens(begin_end)
    tok.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template(tok, '<|begin|>')])

    def ignore_merges(data):  # some words that merges can't reach
        data['model']['ignore_merges'] = True
        vocab = data['model']['vocab']
        for old, new in zip(sorted(vocab, key=vocab.get)[-4:], ['Ġhurryingly', 'kites', 'Ġ🙂', 'ðŁĻĤðŁĻĤ']):
            vocab[new] = vocab.pop(old)
        data['model']['merges'] = [m for m in data['model']['merges'] if all(p in vocab for p in (m[0], m[1], m[0] + m[1]))]
    made['llama3'] = edit(tok, ignore_merges)

    tok = byte_level([QWEN2], normalizer=normalizers.NFC())
    tok.add_special_tokens(begin_end)
    tok.add_tokens([plain('<tool>', normalized=False), plain('</tool>', normalized=False)])
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    made['qwen2'] = tok

    replace = decoders.Replace('▁', ' ')
    tok = sentencepiece(normalizers.Sequence([normalizers.Prepend('▁'), normalizers.Replace(' ', '▁')]), None,
                        decoders.Sequence([replace, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(' ', 1, 0)]))
    tok.post_processor = template(tok, '<s>')
    made['llama2'] = tok

    tok = sentencepiece(None, pre_tokenizers.Metaspace(prepend_scheme='first', split=False),
                        decoders.Sequence([replace, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(' ', 1, 0)]))
    tok.post_processor = template(tok, '<s>', '</s>')
    tok.add_special_tokens([special('<|begin|>'), special('<|end|>', rstrip=True)])
    made['mistral'] = tok

    tok = sentencepiece(normalizers.Replace(' ', '▁'), pre_tokenizers.Split(' ', 'merged_with_previous'),
                        decoders.Sequence([replace, decoders.ByteFallback(), decoders.Fuse()]), specials=('<unk>', '<eos>', '<bos>'))
    tok.add_tokens([plain('\n' * n, normalized=False) for n in range(2, 8)] + [plain('▁' * n, normalized=False) for n in range(2, 9)])
    tok.add_special_tokens(begin_end)
    tok.post_processor = template(tok, '<bos>')
    made['gemma'] = tok

    made['cases'] = byte_level([CASES], specials=begin_end)
    made['possessive'] = byte_level([POSSESSIVE], 500, specials=begin_end)
    made['three_splits'] = byte_level([r'\p{N}{1,3}', '[一-龥\\u3040-ゟ゠-ヿ]+', MIXED], 500, specials=begin_end)
    made['lookaround'] = byte_level([r'(?<=[a-z])(?=[A-Z])|(?<!\d)\d{2}(?!\d)|\b\w+?\b|(?>[^\w\s]+|x)|[[:space:]&&[^\n]]+|[\p{Han}--]+'.replace('--', ''),
                                     r'(?i)the|(?i:[k-m])+|\u00e9|\x{1F642}{2}|^a|b$|\Ax|y\z'], 500, specials=begin_end)

    tok = Tokenizer(models.BPE(unk_token='<unk>', end_of_word_suffix='</w>'))
    tok.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip()])
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)])
    tok.decoder = decoders.BPEDecoder(suffix='</w>')
    tok = train(tok, 500, specials=['<unk>'], limit=120, end_of_word_suffix='</w>')
    tok.add_tokens([plain('Day', normalized=True), plain('[DAY]', normalized=False), plain('Ünit', normalized=True, single_word=True)])
    made['clip'] = tok

    tok = Tokenizer(models.BPE(unk_token='[UNK]', continuing_subword_prefix='##'))
    tok.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex('[ \\t]{2,}|-+'), '-')])
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation('contiguous')])
    tok = train(tok, 450, specials=['[UNK]'], limit=100, continuing_subword_prefix='##')
    made['subword_prefix'] = tok  # and no decoder

    tok = Tokenizer(models.BPE(unk_token='<unk>', fuse_unk=True))
    tok.pre_tokenizer = pre_tokenizers.Metaspace()
    tok.decoder = decoders.Metaspace()
    made['metaspace'] = train(tok, 450, specials=['<unk>', '<|end|>'], limit=80)

    tok = Tokenizer(models.BPE(unk_token='<unk>'))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split('-', 'merged_with_next'), pre_tokenizers.Split(Regex('[,;]'), 'merged_with_previous'), pre_tokenizers.Split('  ', 'removed'),
        pre_tokenizers.Split(Regex('a+'), 'contiguous'), pre_tokenizers.Split(Regex('[A-Za-z ]+'), 'isolated', invert=True),
        pre_tokenizers.Split(Regex('b|'), 'isolated', invert=False)])
    tok.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Replace('e', ''), decoders.Strip(' ', 2, 0)])
    made['behaviors'] = train(tok, 400, specials=['<unk>', '<|end|>'], limit=100)

    tok = byte_level([LLAMA3], 450, specials=['<|begin|>'])
    names = {'LEFT': dict(lstrip=True), 'RIGHT': dict(rstrip=True), 'BOTH': dict(lstrip=True, rstrip=True), 'SINGLE': dict(single_word=True), 'word': dict(single_word=True),
             'STOP': dict(lstrip=True, rstrip=True, single_word=True), 'day': {}, 'days': {}, 'sp': dict(rstrip=True), ' ace': dict(lstrip=True)}
    tok.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace('Y', 'y')])
    tok.add_tokens([plain(n, normalized=False, **f) for n, f in names.items()])
    tok.add_tokens([plain('to' + n, normalized=True, **f) for n, f in names.items()] + [plain('e\u0301', normalized=True)])
    tok.add_special_tokens([special('<|end|>'), special('<mask>', lstrip=True), special('<tool>', rstrip=True), special('</tool>', single_word=True, lstrip=True, rstrip=True),
                            special('[DAY]', normalized=True)])
    made['added'] = tok

    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.ByteLevel()
    tok.pre_tokenizer = pre_tokenizers.Split(Regex('Ġ?[^Ġ]+'), 'isolated')
    tok.decoder = decoders.ByteLevel()
    tok = train(tok, 450)
    tok.add_tokens([plain('héllo wörld', normalized=True)])
    made['byte_normalizer'] = edit(tok, legacy_merges)
    return made


def fnv(ids):
    h = 0xcbf29ce484222325
    for i in ids:
        for b in i.to_bytes(4, 'little'):
            h = (h ^ b) * 0x100000001b3 & 0xffffffffffffffff
    return '%016x' % h


def encode(tok, text, parse_special):
    tok.encode_special_tokens = not parse_special
    return tok.encode(text, add_special_tokens=False).ids


def decode(tok, ids, skip):
    """Special tokens are skipped by their ids. (tokenizers 0.23 compares strings, and so keeps one whose normal form isn't its text.)"""
    if skip:
        added = tok.get_added_tokens_decoder()
        ids = [i for i in ids if not (i in added and added[i].special)]
    return tok.decode(ids, skip_special_tokens=False)


def random_ids(rng, tok):
    """Lists that no text encodes to: any ids, and runs of byte tokens short enough to be held whole."""
    size = tok.get_vocab_size()
    lists = [[rng.randrange(size) for _ in range(rng.randrange(1, 14))] for _ in range(10)]
    byte = [tok.token_to_id('<0x%02X>' % b) for b in range(256)]
    if byte[0] is None:
        return lists
    for text in ['é', '海', '🙂', 'aé海🙂', 'éé\n']:
        run = [byte[b] for b in text.encode()]
        lists += [run, run[:-1], run[1:], run + [size - 3] + run[:-1] + [size - 5] + run[1:]]
    return lists


def vectors(tok, texts, rng, long, config):
    cases = []
    for text in texts:
        ids, with_special = encode(tok, text, False), encode(tok, text, True)
        skipped, kept = decode(tok, with_special, True), decode(tok, with_special, False)
        cases.append([ids, with_special if with_special != ids else None, skipped if skipped != text else None, kept if kept != skipped else None])
    out = {'bos': [], 'cases': cases, 'long': [], 'decodes': []}
    full, bare = tok.encode('x', add_special_tokens=True).ids, tok.encode('x', add_special_tokens=False).ids
    out['bos'] = full[:next(i for i in range(len(full)) if full[i:i + len(bare)] == bare)]
    if not out['bos'] and config.get('add_bos_token'):
        out['bos'] = [tok.token_to_id(config['bos_token'])]
    for text, times in long:
        ids = encode(tok, text * times, False)
        out['long'].append([text, times, len(ids), fnv(ids)])
    for ids in random_ids(rng, tok):
        out['decodes'].append([ids, decode(tok, ids, True), decode(tok, ids, False)])
    return out


COMPANIONS = {
    'llama3': {'tokenizer_config.json': {'bos_token': '<|begin|>', 'eos_token': {'content': '<|end|>', 'special': True}, 'pad_token': None,
                                         'chat_template': '{% for m in messages %}{{ m.content }}{% endfor %}'},
               'generation_config.json': {'eos_token_id': [701, 5], 'pad_token_id': 3}, 'config.json': {'eos_token_id': 6, 'bos_token_id': 700}},
    'qwen2': {'tokenizer_config.json': {'add_bos_token': True, 'bos_token': '<|begin|>',
                                        'chat_template': [{'name': 'tool_use', 'template': 'TOOLS'}, {'name': 'default', 'template': 'DEFAULT'}],
                                        'added_tokens_decoder': {'704': {'content': '<extra>', 'special': True, 'normalized': False}}},
              'special_tokens_map.json': {'eos_token': {'content': '<|end|>'}, 'pad_token': '<|end|>'}},
}


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w', encoding='utf-8') as f:
        json.dump(data, f, ensure_ascii=False, separators=(',', ':'))
        f.write('\n')


def demo_cases(reference):
    """The reference's cases before the first third-party text: the prompts and the literal list of the recipe."""
    with open(reference, encoding='utf-8') as f:
        cases = json.load(f)
    last = next(i for i, c in enumerate(cases) if c['text'].startswith('http://example.com/'))
    write(os.path.join(HERE, 'demo_cases.json'), cases[:last + 1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--demo', metavar='REF', help="the demo model's tokenizer_cases.json")
    arguments = parser.parse_args()
    if arguments.demo:
        return demo_cases(arguments.demo)
    rng = random.Random(1)
    blobs = BYTES + [bytes(rng.choice([rng.randrange(256), rng.randrange(0xC0, 0x100), rng.randrange(0x80, 0xC0), rng.randrange(32, 127)])
                           for _ in range(rng.randrange(1, 24))) for _ in range(20)]
    texts = [{'text': t} for t in TEXTS] + [{'hex': b.hex()} for b in blobs]
    strings = TEXTS + [b.decode('utf-8', 'replace') for b in blobs]
    result = {'texts': texts, 'families': {}}
    for name, tok in families().items():
        data = json.loads(tok.to_str())
        if name in ('qwen2', 'llama2'): legacy_merges(data)
        write(os.path.join(HERE, name, 'tokenizer.json'), data)
        for file, content in COMPANIONS.get(name, {}).items():
            write(os.path.join(HERE, name, file), content)
        tok = Tokenizer.from_file(os.path.join(HERE, name, 'tokenizer.json'))
        long = LONG if name in ('gpt2', 'llama3', 'qwen2', 'llama2', 'gemma') else SHORT_LONG
        config = COMPANIONS.get(name, {}).get('tokenizer_config.json', {})
        result['families'][name] = vectors(tok, strings, rng, long, config)
        print(name, tok.get_vocab_size(), sum(len(c[0]) for c in result['families'][name]['cases']), flush=True)
    write(os.path.join(HERE, 'vectors.json'), result)


if __name__ == '__main__':
    sys.exit(main())
