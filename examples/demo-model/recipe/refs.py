#!/usr/bin/env python3
"""Reference outputs for both folders (bf16, gptq), computed in float32 from the (de-quantised) weights with plain attention.
   refs.py --root DIR (holding bf16/ and gptq/) --work DIR --out DIR
refs.json        prompts, their ids (<|bos|> first), 48 greedy ids with the margin of each choice, perplexities, definitions
refs.safetensors {bf16,gptq}.last_logits F32 [8, vocab]; {bf16,gptq}.hidden F32 [layers+2, dim] (prompt 0, last position: embedding, after each
                 layer, after the final norm); val_tokens I32 [20000]
tokenizer_cases.json   texts with their ids, without special tokens"""
import argparse, json, math, os, time
import numpy as np
import torch
import common
from common import *
from tok import load_tokenizer

ap = argparse.ArgumentParser()
ap.add_argument('--root', default='demo_out'); ap.add_argument('--work', default='demo_work'); ap.add_argument('--out', default='demo_out/refs')
ap.add_argument('--new', type=int, default=48); ap.add_argument('--ppl-tokens', type=int, default=20000)
a = ap.parse_args()
t0 = time.time()
os.makedirs(a.out, exist_ok=True)
dev = 'cuda' if torch.cuda.is_available() else 'cpu'
torch.backends.cuda.matmul.allow_tf32 = False
torch.set_float32_matmul_precision('highest')


def plain(q, k, v):
    n = q.shape[-2]
    s = (q @ k.transpose(-1, -2)) / math.sqrt(q.shape[-1])
    return torch.softmax(s.masked_fill(torch.ones(n, n, dtype=torch.bool, device=q.device).triu(1), float('-inf')), -1) @ v


common.attend = plain
PROMPTS = ['Once upon a time', 'The old man looked at the sea and', 'It was a dark and stormy night;', '"Where are you going?" asked the',
           'There was once a king who had three daughters, and the youngest', 'In the morning the children went down to the', 'My dear friend,',
           'The detective opened the door of the room and saw that the window was open. On the table lay a letter, and beside it']
enc, dec = load_tokenizer(a.work)
val = load_tokens(a.work, 'val')[:a.ppl_tokens].astype(np.int32)
T = {'val_tokens': torch.from_numpy(val.copy())}
J = {'prompts': PROMPTS, 'prompt_ids': [[BOS] + enc(p) for p in PROMPTS], 'new_tokens': a.new, 'models': {},
     'definitions': {'greedy': 'argmax of float32 logits, %d tokens, not stopped at <|eos|>; margins = best minus second-best logit' % a.new,
                     'perplexity': 'val_tokens cut into consecutive windows of 1024 (the last one shorter); in each window tokens 1.. are predicted from '
                                   'the ones before them in that window; exp(sum of negative log-likelihoods / number of predicted tokens)'}}
models = {}
for name in ('bf16', 'gptq'):
    f = os.path.join(a.root, name)
    if not os.path.isdir(f):
        continue
    hf = json.load(open(os.path.join(f, 'config.json')))
    if name == 'bf16':
        w = {k: v.float() for k, v in load_folder(f).items()}
    else:
        from gptq import dequantise_folder
        w = dequantise_folder(f, hf['quantization_config']['bits'])
    m = Llama(Cfg.from_hf(hf)).load(w).to(dev).eval()
    models[name] = m
    with torch.no_grad():
        last = [m(torch.tensor([p], device=dev))[0, -1].cpu() for p in J['prompt_ids']]
        T[name + '.last_logits'] = torch.stack(last)
        x = m.model.embed_tokens(torch.tensor([J['prompt_ids'][0]], device=dev))
        hs = [x[0, -1].cpu()]
        for b in m.model.layers:
            x = b(x, m.cos[:x.shape[1]], m.sin[:x.shape[1]])
            hs.append(x[0, -1].cpu())
        hs.append(m.model.norm(x)[0, -1].cpu())
        T[name + '.hidden'] = torch.stack(hs)
        g = generate(m, J['prompt_ids'], a.new)
        tot, cnt = 0.0, 0
        W = min(1024, m.c.ctx)
        for i in range(0, len(val), W):
            w_ = torch.from_numpy(val[i:i + W].astype(np.int64)).to(dev)[None]
            if w_.shape[1] < 2:
                continue
            tot += float(m(w_[:, :-1], w_[:, 1:], 'sum')); cnt += w_.shape[1] - 1
    J['models'][name] = {'greedy_ids': [r[0] for r in g], 'greedy_margins': [[round(y, 5) for y in r[1]] for r in g], 'greedy_text': [dec(r[0]) for r in g],
                         'argmax_last': [int(l.argmax()) for l in last], 'min_margin': min(min(r[1]) for r in g),
                         'ppl': math.exp(tot / cnt), 'nll_sum': tot, 'ppl_predicted_tokens': cnt}
    print('%s: perplexity %.4f over %d tokens, smallest greedy margin %.5f' % (name, math.exp(tot / cnt), cnt, J['models'][name]['min_margin']), flush=True)
if len(models) == 2:
    d = (T['bf16.last_logits'] - T['gptq.last_logits']).abs()
    J['logit_difference'] = {'mean': float(d.mean()), 'max': float(d.max())}

cases = PROMPTS + ['', ' ', '\n', '\n\n', '  two  spaces', 'tabs\tand\nlines\r\n', "don't I'LL we've o'clock", 'naïve café — déjà vu…', '12345 3.14 1,000', 'ALL CAPS and MixedCase',
                   'emoji 🙂👍🏽 and 漢字 ελληνικά кириллица', 'a_b{c}[d] <x/> x==y != z; // code', 'trailing space ', '   leading', '"Quote," he said--"and dash."',
                   'supercalifragilisticexpialidocious', '\u00a0nbsp', 'e\u0301 combining', '\ufffd\u200b', 'line one\n  indented\n\n\n', "'tis 'Twas", '$5.00 £3 50%', 'http://example.com/a?b=c&d=e']
vt = open(os.path.join(a.work, 'val.txt'), encoding='utf-8').read().split('\x1e')
cases += [d[:300] for d in vt[:60:3]]
json.dump([{'text': c, 'ids': enc(c), 'decoded': dec(enc(c))} for c in cases], open(os.path.join(a.out, 'tokenizer_cases.json'), 'w', encoding='utf-8'), ensure_ascii=False, indent=0)
json.dump(J, open(os.path.join(a.out, 'refs.json'), 'w', encoding='utf-8'), ensure_ascii=False, indent=0)
save_file(T, os.path.join(a.out, 'refs.safetensors'))
print('references written, %.1f s' % (time.time() - t0), flush=True)

# the same folder through transformers, where it is installed
try:
    os.environ['HF_HUB_OFFLINE'] = '1'
    from transformers import AutoModelForCausalLM, AutoTokenizer
    f = os.path.join(a.root, 'bf16')
    h = AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32, attn_implementation='eager').to(dev).eval()
    with torch.no_grad():
        e = max(float((h(torch.tensor([p], device=dev)).logits[0, -1].cpu() - T['bf16.last_logits'][i]).abs().max()) for i, p in enumerate(J['prompt_ids']))
    tk = AutoTokenizer.from_pretrained(f)
    same = all(tk(p)['input_ids'] == J['prompt_ids'][i] for i, p in enumerate(PROMPTS))
    gi = h.generate(torch.tensor([J['prompt_ids'][0]], device=dev), max_new_tokens=24, do_sample=False, pad_token_id=EOS)[0].tolist()[len(J['prompt_ids'][0]):]
    J['transformers_check'] = {'max_abs_logit_difference': e, 'tokenizer_same': same, 'greedy_same': gi == J['models']['bf16']['greedy_ids'][0][:len(gi)],
                               'chat_template': tk.apply_chat_template([{'role': 'user', 'content': 'Once upon a time'}], tokenize=False)}
    import transformers
    J['transformers_check']['version'] = transformers.__version__
except Exception as ex:
    J['transformers_check'] = {'error': repr(ex)[:300]}
print('transformers:', J['transformers_check'], flush=True)

json.dump(J, open(os.path.join(a.out, 'refs.json'), 'w', encoding='utf-8'), ensure_ascii=False, indent=0)
