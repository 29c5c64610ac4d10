"""What the demo model makes of prose.txt, by transformers in float64 with the weights that its 4-bit tensors stand for.

    pip install numpy safetensors tokenizers torch transformers==5.17.0
    python make_prose.py

prose.safetensors: ids I32 [n] (<|bos|> first); nll F64 [1], summed over the windows of 1024 tokens, the first token of each not predicted;
logits F32 [16, vocab] of the positions in rows I32 [16] of the first window; top I32 [1023], margin F32 [1023] of its other positions"""
import json
import os
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(HERE, '..', '..', '..', 'examples', 'demo-model')


def dequantised():
    tensors = {}
    for shard in ('model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'):
        tensors.update(load_file(os.path.join(MODEL, shard)))
    dense = {}
    for name, value in tensors.items():
        if name.endswith('.qweight'):
            module = name[:-len('.qweight')]
            words = value.numpy().view(np.uint32)
            q = np.stack([(words >> (4 * i)) & 15 for i in range(8)], 1).reshape(-1, words.shape[1]).astype(np.int64)
            zeros = tensors[module + '.qzeros'].numpy().view(np.uint32)
            z = np.stack([(zeros >> (4 * i)) & 15 for i in range(8)], 2).reshape(zeros.shape[0], -1).astype(np.int64) + 1
            s = tensors[module + '.scales'].numpy().astype(np.float64)
            g = np.arange(q.shape[0]) // 128
            dense[module + '.weight'] = torch.from_numpy((s[g] * (q - z[g])).T.copy()).float()
        elif name.rsplit('.', 1)[1] in ('weight',):
            dense[name] = value.float()
    return {k: v.contiguous() for k, v in dense.items()}


def main():
    config = json.load(open(os.path.join(MODEL, 'config.json')))
    config.pop('quantization_config')
    config['torch_dtype'] = 'float32'
    with tempfile.TemporaryDirectory() as folder:
        json.dump(config, open(os.path.join(folder, 'config.json'), 'w'))
        save_file(dequantised(), os.path.join(folder, 'model.safetensors'), metadata={'format': 'pt'})
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation='eager').double().eval()
    text = open(os.path.join(HERE, 'prose.txt'), encoding='utf-8').read()
    ids = [0] + Tokenizer.from_file(os.path.join(MODEL, 'tokenizer.json')).encode(text, add_special_tokens=False).ids
    total, out = 0.0, {}
    with torch.no_grad():
        for at in range(0, len(ids), 1024):
            window = torch.tensor(ids[at:at + 1024])
            if len(window) < 2:
                continue
            logits = model(window[None]).logits[0]
            total -= float(torch.log_softmax(logits[:-1], -1).gather(1, window[1:, None]).sum())
            if at == 0:
                rows = torch.arange(16) * 64 + 63
                top = logits.topk(2, -1)
                out = dict(rows=rows.int(), logits=logits[rows].float().contiguous(), top=top.indices[:, 0].int().contiguous(),
                           margin=(top.values[:, 0] - top.values[:, 1]).float().contiguous())
    predicted = len(ids) - -(-len(ids) // 1024)
    save_file(dict(out, ids=torch.tensor(ids, dtype=torch.int32), nll=torch.tensor([total], dtype=torch.float64)),
              os.path.join(HERE, 'prose.safetensors'))
    print('%d tokens, perplexity %.4f' % (len(ids), np.exp(total / predicted)))


if __name__ == '__main__':
    main()
