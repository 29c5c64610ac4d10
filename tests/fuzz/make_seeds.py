"""First inputs for the fuzz targets: valid ones, from the tiny models and tokenizers of tests/golden.

    python make_seeds.py"""
import json
import os
import random
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, '..', 'golden')


def write(target, name, data):
    folder = os.path.join(HERE, 'corpus', target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), 'wb') as f:
        f.write(data)


def read(*path):
    with open(os.path.join(GOLDEN, *path), 'rb') as f:
        return f.read()


def tiny_safetensors():
    l = 'model.layers.0.'
    shapes = {'model.embed_tokens.weight': [40, 32], 'model.norm.weight': [32], l + 'input_layernorm.weight': [32],
              l + 'post_attention_layernorm.weight': [32], l + 'self_attn.q_proj.weight': [32, 32], l + 'self_attn.k_proj.weight': [16, 32],
              l + 'self_attn.v_proj.weight': [16, 32], l + 'self_attn.o_proj.weight': [32, 32], l + 'mlp.gate_proj.weight': [64, 32],
              l + 'mlp.up_proj.weight': [64, 32], l + 'mlp.down_proj.weight': [32, 64]}
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 2
        for n in shape:
            size *= n
        header[name] = dict(dtype='F16', shape=shape, data_offsets=[at, at + size])
        at += size
    text = json.dumps(header).encode()
    return struct.pack('<Q', len(text)) + text + b'\x2c' * at


def main():
    random.seed(1)
    write('safetensors', 'tiny', tiny_safetensors())
    write('safetensors', 'header', tiny_safetensors()[:600])
    for name in ('llama_f16', 'llama3_5', 'yarn', 'yarn_mscale', 'dynamic', 'linear', 'mistral_window', 'gptq_config_inside'):
        write('config', name, read('models', name, 'config.json'))
    write('config', 'quantised', read('models', 'gptq_g32', 'config.json') + b'\0' + read('models', 'gptq_g32', 'quantize_config.json'))
    write('config', 'index', read('models', 'llama_f16', 'config.json') + b'\0{}\0{"weight_map":{"model.norm.weight":"model.safetensors"}}')
    write('gptq', 'plain', bytes(64))
    for i in range(4):
        write('gptq', 'random%d' % i, bytes(random.randrange(256) for _ in range(400)))
        write('api', 'random%d' % i, bytes(random.randrange(256) for _ in range(300)))
    write('api', 'forward', bytes([0, 0, 1, 32, 8, 4, 0, 0, 0, 0, 1, 0, 7, 1, 2, 1, 0, 1, 2, 0, 3, 5, 6, 7, 1, 5, 0, 0, 6, 0, 1, 7, 0]))
    folder = os.path.join(GOLDEN, 'tokenizer')
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name, 'tokenizer.json')
        if not os.path.exists(path):
            continue
        t = json.load(open(path, encoding='utf-8'))
        vocab = t['model']['vocab']
        small = dict(list(vocab.items())[:300])
        merges = [m for m in t['model']['merges'] if all(x in small for x in (m if isinstance(m, list) else m.split(' ', 1)))
                  and ''.join(m if isinstance(m, list) else m.split(' ', 1)) in small]
        t['model']['vocab'], t['model']['merges'] = small, merges
        write('tokenizer', name, json.dumps(t, ensure_ascii=False).encode())
    texts = ["Once upon a time, it's 1234 o'clock.", 'na\u00efve \u6f22\u5b57 \U0001F642\u200d', '<s> <|eos|></s>[INST]', '  \n\t\r\n   x', '\xff\xfe\x80'.encode('latin1')]
    for i, text in enumerate(texts):
        data = text if isinstance(text, bytes) else text.encode()
        for t in range(0, 9, 3):
            write('text', 'text%d_%d' % (i, t), bytes([t | (i % 4) << 6]) + data)


main()
