#!/usr/bin/env python3
"""Tokenizer and token files.  tok.py --corpus corpus.xz --manifest manifest.json --work DIR [--train-tokenizer] [--exclude REGEX]
Byte-level BPE, 8192 entries with <|bos|> (0) and <|eos|> (1), Llama 3's pre-tokenizer split. The tokenizer.json beside this file was
made by the same trainer (tokenizers 0.23) over the same corpus and is used unless --train-tokenizer is given.
Writes train.u16, val.u16 (uint16 ids: <|bos|> document <|eos|> ...), val.txt, meta.json and the tokenizer files into DIR."""
import argparse, json, lzma, os, re, sys, time
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
SEP = '\x1e'
VOCAB = 8192
BOS, EOS = '<|bos|>', '<|eos|>'
PAT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

CHAT = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% if not loop.last %}\n\n{% endif %}{% endfor %}{% if add_generation_prompt %}\n\n{% endif %}"
TOKENIZER_CONFIG = {'add_bos_token': True, 'add_eos_token': False, 'bos_token': BOS, 'eos_token': EOS, 'clean_up_tokenization_spaces': False,
                    'model_input_names': ['input_ids', 'attention_mask'], 'model_max_length': 1024, 'tokenizer_class': 'PreTrainedTokenizerFast',
                    'added_tokens_decoder': {str(i): {'content': t, 'lstrip': False, 'normalized': False, 'rstrip': False, 'single_word': False, 'special': True}
                                             for i, t in enumerate((BOS, EOS))}, 'chat_template': CHAT}


def byte_chars():
    bs = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    cs, n = bs[:], 0
    for b in range(256):
        if b not in bs:
            bs.append(b); cs.append(256 + n); n += 1
    return {b: chr(c) for b, c in zip(bs, cs)}


def train_tokenizer(docs, path):
    from tokenizers import Tokenizer, Regex, models, pre_tokenizers, decoders, processors, trainers
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PAT), behavior='isolated', invert=False),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    tr = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=[BOS, EOS], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    t.train_from_iterator(docs, tr, length=len(docs))
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False),
                                            processors.TemplateProcessing(single=BOS + ' $A', pair=BOS + ' $A ' + BOS + ' $B:1', special_tokens=[(BOS, 0)])])
    t.save(path)


class PyBPE:
    """Stand-in for smoke tests where the tokenizers package is missing: same file, same merges; \\p{L}, \\p{N} approximated."""
    def __init__(s, path):
        j = json.load(open(path, encoding='utf-8'))
        s.vocab = j['model']['vocab']; s.inv = {v: k for k, v in s.vocab.items()}
        s.rank = {tuple(m if isinstance(m, list) else m.split(' ')): i for i, m in enumerate(j['model']['merges'])}
        s.b2c = byte_chars(); s.c2b = {c: b for b, c in s.b2c.items()}; s.cache = {}
        L, N = r'[^\W\d_]', r'\d'
        s.re = re.compile(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|(?:[^\r\n\w]|_)?" + L + r"+|" + N + r"{1,3}| ?(?:[^\s\w]|_)+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

    def word(s, w):
        r = s.cache.get(w)
        if r is None:
            p = [s.b2c[b] for b in w.encode('utf-8')]
            while len(p) > 1:
                k = min(range(len(p) - 1), key=lambda i: s.rank.get((p[i], p[i + 1]), 1 << 30))
                pr = (p[k], p[k + 1])
                if pr not in s.rank: break
                q, i = [], 0
                while i < len(p):
                    if i + 1 < len(p) and (p[i], p[i + 1]) == pr: q.append(p[i] + p[i + 1]); i += 2
                    else: q.append(p[i]); i += 1
                p = q
            r = s.cache[w] = [s.vocab[x] for x in p]
        return r

    def encode(s, t):
        return [i for w in s.re.findall(t) for i in s.word(w)]

    def decode(s, ids):
        return bytes(s.c2b[c] for i in ids if i > 1 for c in s.inv[i]).decode('utf-8', 'replace')


def load_tokenizer(work):
    """(encode without special tokens, decode)"""
    p = os.path.join(work, 'tokenizer.json')
    try:
        from tokenizers import Tokenizer
        t = Tokenizer.from_file(p)
        return (lambda x: t.encode(x, add_special_tokens=False).ids), (lambda ids: t.decode(list(ids), skip_special_tokens=True))
    except ImportError:
        t = PyBPE(p)
        return t.encode, t.decode


def encode_all(work, docs):
    p = os.path.join(work, 'tokenizer.json')
    try:
        from tokenizers import Tokenizer
        t = Tokenizer.from_file(p)
        out = []
        for i in range(0, len(docs), 2048):
            out += [np.asarray([0] + e.ids + [1], dtype=np.uint16) for e in t.encode_batch(docs[i:i + 2048], add_special_tokens=False)]
    except ImportError:
        t = PyBPE(p)
        out = [np.asarray([0] + t.encode(d) + [1], dtype=np.uint16) for d in docs]
    return np.concatenate(out)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('--corpus', default=os.path.join(HERE, 'corpus.xz')); ap.add_argument('--manifest', default=os.path.join(HERE, 'manifest.json'))
    ap.add_argument('--work', default='demo_work'); ap.add_argument('--train-tokenizer', action='store_true')
    ap.add_argument('--exclude', default='', help='regular expression: sources (as in the manifest) to leave out'); ap.add_argument('--max-docs', type=int, default=0)
    a = ap.parse_args()
    os.makedirs(a.work, exist_ok=True)
    t0 = time.time()
    man = json.load(open(a.manifest))
    docs = lzma.open(a.corpus).read().decode('utf-8').split(SEP)
    train, val, i = [], [], 0
    for b in man['books']:
        d = docs[i:i + b['docs']]
        i += b['docs']
        if a.exclude and re.search(a.exclude, b['source']):
            continue
        (val if b['split'] == 'val' else train).extend(d)
    assert i == len(docs), (i, len(docs))
    if a.max_docs:
        train, val = train[:a.max_docs], val[:max(4, a.max_docs // 20)]
    print('%d train and %d validation documents, %.1f + %.2f MB, %.1f s' % (len(train), len(val), sum(map(len, train)) / 1e6, sum(map(len, val)) / 1e6, time.time() - t0), flush=True)
    tj = os.path.join(a.work, 'tokenizer.json')
    if a.train_tokenizer or not os.path.exists(os.path.join(HERE, 'tokenizer.json')):
        train_tokenizer(train, tj)
        print('tokenizer trained, %.1f s' % (time.time() - t0), flush=True)
    else:
        open(tj, 'w', encoding='utf-8').write(open(os.path.join(HERE, 'tokenizer.json'), encoding='utf-8').read())
    json.dump(TOKENIZER_CONFIG, open(os.path.join(a.work, 'tokenizer_config.json'), 'w'), indent=1)
    json.dump({'bos_token': BOS, 'eos_token': EOS}, open(os.path.join(a.work, 'special_tokens_map.json'), 'w'), indent=1)
    j = json.load(open(tj, encoding='utf-8'))
    vocab = j['model']['vocab']
    assert vocab[BOS] == 0 and vocab[EOS] == 1 and max(vocab.values()) == VOCAB - 1 and len(vocab) == VOCAB, len(vocab)
    inv = {c: b for b, c in byte_chars().items()}
    nl = [i for t, i in vocab.items() if i > 1 and inv[t[-1]] == 10]
    enc, dec = load_tokenizer(a.work)
    for d in val[:3] + train[:3]:
        assert dec(enc(d)) == d, 'round trip'
    V = encode_all(a.work, val)
    V.tofile(os.path.join(a.work, 'val.u16'))
    T = encode_all(a.work, train)
    T.tofile(os.path.join(a.work, 'train.u16'))
    open(os.path.join(a.work, 'val.txt'), 'w', encoding='utf-8').write(SEP.join(val))
    vb, tb = sum(len(d.encode('utf-8')) for d in val), sum(len(d.encode('utf-8')) for d in train)
    json.dump({'newline_ids': nl, 'val_bytes': vb, 'train_bytes': tb, 'train_tokens': len(T), 'val_tokens': len(V), 'train_docs': len(train), 'val_docs': len(val)},
              open(os.path.join(a.work, 'meta.json'), 'w'))
    print('train %d tokens (%.3f bytes a token), val %d, %.1f s' % (len(T), tb / len(T), len(V), time.time() - t0), flush=True)


if __name__ == '__main__':
    main()
