"""Tiny random models, one folder a feature, with what transformers makes of them in float64.

    pip install numpy safetensors torch transformers==5.17.0
    python make_models.py [name ...]

Each folder is a Hugging Face folder (config.json as written here, in the spelling that the case is about) and
  expected.safetensors  ids I32 [n]; logits F32 [n, vocab] of all positions; greedy I32 [16] after them, margins F32 [16]
  expected.json         context_length, where the session's must be a certain one
Quantised folders are evaluated with the weights that their tensors stand for, see quantise.py."""
import json
import os
import shutil
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from quantise import dequantise, pack, quantise

HERE = os.path.dirname(os.path.abspath(__file__))
DTYPES = {'float32': torch.float32, 'float16': torch.float16, 'bfloat16': torch.bfloat16}
BASE = dict(architectures=['LlamaForCausalLM'], model_type='llama', hidden_size=64, intermediate_size=96, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, vocab_size=128, max_position_embeddings=256, rms_norm_eps=1e-5,
            hidden_act='silu', rope_theta=10000.0, rope_scaling=None, tie_word_embeddings=False, attention_bias=False, mlp_bias=False,
            bos_token_id=1, eos_token_id=2, torch_dtype='float32')
MISTRAL = dict(architectures=['MistralForCausalLM'], model_type='mistral', rms_norm_eps=1e-6)
LLAMA3 = dict(rope_type='llama3', factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
YARN = dict(rope_type='yarn', factor=4.0, original_max_position_embeddings=64)


def rope5(theta=10000.0, **kw):
    """transformers 5's spelling."""
    return dict(rope_theta=None, rope_scaling=None, rope_parameters=dict(rope_theta=theta, **kw))


def case(config=None, dtype='float16', **kw):
    return dict(config=config or {}, dtype=dtype, **kw)


GPTQ = dict(hidden_size=128, intermediate_size=160, num_hidden_layers=2)
SMALL = dict(tie_word_embeddings=True)
CASES = {
    'llama_f32': case(dtype='float32'),
    'llama_f16': case(),
    'llama_bf16': case(dtype='bfloat16'),
    'sharded': case(shards=2),
    'tied': case(dict(tie_word_embeddings=True)),
    'mqa': case(dict(num_key_value_heads=1)),
    'mha': case(dict(num_key_value_heads=None)),
    'head_dim': case(dict(head_dim=40)),
    'head_dim_80': case(dict(hidden_size=96, num_attention_heads=2, num_key_value_heads=2, head_dim=80)),
    'head_dim_96': case(dict(num_attention_heads=2, num_key_value_heads=1, head_dim=96)),
    'odd_sizes': case(dict(hidden_size=72, num_attention_heads=3, num_key_value_heads=3, intermediate_size=104, vocab_size=131)),
    'attention_bias': case(dict(attention_bias=True)),
    'mlp_bias': case(dict(mlp_bias=True, attention_bias=True), dtype='bfloat16'),
    'theta': case(dict(rope_theta=500000.0)),
    'linear': case(dict(rope_scaling=dict(type='linear', factor=2.5))),
    'linear5': case(rope5(rope_type='linear', factor=2.5)),
    'dynamic': case(dict(rope_scaling=dict(rope_type='dynamic', factor=2.0), max_position_embeddings=128)),
    'dynamic_long': case(dict(rope_scaling=dict(type='dynamic', factor=2.0), max_position_embeddings=32), context_length=160),
    'llama3': case(dict(rope_scaling=LLAMA3, rope_theta=500000.0)),
    'llama3_5': case(rope5(500000.0, **LLAMA3)),
    'yarn': case(dict(rope_scaling=YARN)),
    'yarn_attention': case(dict(rope_scaling=dict(YARN, attention_factor=1.3, beta_fast=16, beta_slow=2))),
    'yarn_mscale': case(rope5(**dict(YARN, mscale=0.8, mscale_all_dim=0.4))),
    'yarn_mscale_inert': case(dict(rope_scaling=dict(YARN, mscale=1.0, mscale_all_dim=1.0))),
    'yarn_exact_ramp': case(rope5(**dict(YARN, truncate=False))),
    'default5': case(dict(rope5(25000.0, rope_type='default'), torch_dtype=None, dtype='float16')),
    'mistral_window': case(dict(MISTRAL, sliding_window=8)),
    'mistral_full': case(dict(MISTRAL, sliding_window=None, head_dim=32)),
    'gptq_g32': case(GPTQ, gptq=dict(group_size=32)),
    'gptq_g64': case(GPTQ, gptq=dict(group_size=64)),
    'gptq_g128': case(GPTQ, gptq=dict(group_size=128)),           # 160 = 128 + 32: a short last group
    'gptq_whole': case(GPTQ, gptq=dict(group_size=-1)),
    'gptq_short': case(dict(GPTQ, intermediate_size=136), gptq=dict(group_size=64)),  # 136 = 2 * 64 + 8
    'gptq_asym': case(GPTQ, gptq=dict(group_size=32, sym=False)),
    'gptq_asym_v2': case(GPTQ, gptq=dict(group_size=64, sym=False, v2=True)),
    'gptq_zero_16': case(GPTQ, gptq=dict(group_size=32, sym=False, extreme_zeros=True)),  # stored 15 means 16
    'gptq_v2': case(GPTQ, gptq=dict(group_size=32, v2=True)),
    'gptq_v2_says_v1': case(GPTQ, gptq=dict(group_size=32, v2=True, says='gptq')),
    'gptq_act_order': case(GPTQ, gptq=dict(group_size=32, act_order=True)),
    'gptq_act_order_asym': case(GPTQ, gptq=dict(group_size=64, act_order=True, sym=False)),
    'gptq_act_order_whole': case(GPTQ, gptq=dict(group_size=-1, act_order=True)),
    'gptq_zero_g_idx': case(GPTQ, gptq=dict(group_size=32, zero_g_idx=True)),
    'gptq_bf16_scales': case(GPTQ, dtype='bfloat16', gptq=dict(group_size=32, scale_dtype='bf16')),
    'gptq_f32_scales': case(GPTQ, gptq=dict(group_size=32, scale_dtype=np.float32)),
    'gptq_mixed': case(GPTQ, gptq=dict(group_size=32, skip=['model.layers.1.self_attn', 'model.layers.0.mlp.down_proj'])),
    'gptq_head': case(GPTQ, gptq=dict(group_size=32, head=True)),
    'gptq_bias': case(dict(GPTQ, attention_bias=True), gptq=dict(group_size=64)),
    'gptq_config_inside': case(GPTQ, gptq=dict(group_size=64, inside=True)),
    'linear_both_keys': case(dict(rope_scaling=dict(type='linear', rope_type='linear', factor=3.0), tie_word_embeddings=True, intermediate_size=40)),
    'gptq_no_g_idx': case(dict(SMALL, intermediate_size=72), gptq=dict(group_size=32, no_g_idx=True)),
    'gptq_zero_g_idx_whole': case(SMALL, gptq=dict(group_size=-1, zero_g_idx=True)),
    'gptq_odd_rows': case(dict(SMALL, vocab_size=136, num_attention_heads=2, num_key_value_heads=1, head_dim=40, tie_word_embeddings=False),
                          gptq=dict(group_size=32, head=True, act_order=True, sym=False, v2=True)),  # rows 40, 80, 136: tiles not full
    'gptq_tied_mistral': case(dict(GPTQ, **MISTRAL, sliding_window=8, tie_word_embeddings=True), gptq=dict(group_size=32)),
}


def random_weights(model, rng, dtype):
    state = {}
    for name, old in model.state_dict().items():
        shape = tuple(old.shape)
        if name.endswith('norm.weight'):
            value = 1 + 0.2 * rng.standard_normal(shape)
        elif len(shape) == 1:
            value = 0.3 * rng.standard_normal(shape)
        else:
            value = rng.standard_normal(shape) * (0.6 if 'embed' in name else 1.6 / shape[1] ** 0.5)
        state[name] = torch.tensor(value, dtype=torch.float32).to(dtype)
    return state


def quantised(state, rng, gptq):
    """(tensors as the file has them, weights that they stand for)"""
    tensors, dense = {}, {}
    for name, value in state.items():
        module = name[:-len('.weight')]
        linear = name.endswith('_proj.weight') or (name == 'lm_head.weight' and gptq.get('head'))
        if not linear or any(module.startswith(s) for s in gptq.get('skip', [])):
            tensors[name], dense[name] = value, value.float()
            continue
        w = value.float().numpy()
        order = rng.permutation(w.shape[1]) if gptq.get('act_order') else None
        scale_dtype = gptq.get('scale_dtype', np.float16)
        q, zero, scale, g_idx = quantise(w, gptq['group_size'], gptq.get('sym', True), order, scale_dtype, gptq.get('extreme_zeros', False))
        qweight, qzeros = pack(q, zero, gptq.get('v2', False))
        as_stored = {np.float16: torch.float16, np.float32: torch.float32, 'bf16': torch.bfloat16}[scale_dtype]
        tensors[module + '.qweight'] = torch.from_numpy(qweight.copy())
        tensors[module + '.qzeros'] = torch.from_numpy(qzeros.copy())
        tensors[module + '.scales'] = torch.from_numpy(scale).to(as_stored)
        if not gptq.get('no_g_idx'):
            tensors[module + '.g_idx'] = torch.from_numpy(np.zeros_like(g_idx) if gptq.get('zero_g_idx') else g_idx)
        dense[name] = torch.from_numpy(dequantise(q, zero, scale, g_idx)).float()
    return tensors, dense


def quantize_config(gptq):
    c = dict(bits=4, group_size=gptq['group_size'], desc_act=bool(gptq.get('act_order')), sym=gptq.get('sym', True), damp_percent=0.01,
             true_sequential=True, static_groups=False, lm_head=bool(gptq.get('head')), quant_method='gptq',
             checkpoint_format=gptq.get('says', 'gptq_v2' if gptq.get('v2') else 'gptq'))
    return c


def write(folder, config, tensors, shards=1):
    with open(os.path.join(folder, 'config.json'), 'w') as f:
        json.dump(config, f, indent=1)
        f.write('\n')
    tensors = {k: v.contiguous() for k, v in tensors.items()}
    if shards == 1:
        save_file(tensors, os.path.join(folder, 'model.safetensors'), metadata={'format': 'pt'})
        return
    names = sorted(tensors)
    parts = [names[i::shards] for i in range(shards)]
    where = {}
    for i, part in enumerate(parts):
        file = 'model-%05d-of-%05d.safetensors' % (i + 1, shards)
        save_file({n: tensors[n] for n in part}, os.path.join(folder, file), metadata={'format': 'pt'})
        where.update({n: file for n in part})
    with open(os.path.join(folder, 'model.safetensors.index.json'), 'w') as f:
        json.dump(dict(metadata=dict(total_size=sum(t.numel() * t.element_size() for t in tensors.values())), weight_map=where), f, indent=1)


def evaluate(folder, vocab, context_length, rng):
    """What transformers says of the folder, in float64."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation='eager').double().eval()
    if context_length:  # the library chooses the dynamic base once, from the session's context
        rope = model.model.rotary_emb
        inverse, scaling = ROPE_INIT_FUNCTIONS['dynamic'](model.config, 'cpu', seq_len=context_length)
        rope.inv_freq, rope.original_inv_freq, rope.attention_scaling, rope.rope_type = inverse, inverse, scaling, 'default'
    ids = rng.integers(0, vocab, 48)
    with torch.no_grad():
        logits = model(torch.tensor(ids)[None]).logits[0]
        text, greedy, margins = ids.tolist(), [], []
        for _ in range(16):
            top = model(torch.tensor(text)[None]).logits[0, -1].topk(2)
            text.append(int(top.indices[0]))
            greedy.append(text[-1])
            margins.append(float(top.values[0] - top.values[1]))
    return dict(ids=torch.tensor(ids, dtype=torch.int32), logits=logits.float().contiguous(), greedy=torch.tensor(greedy, dtype=torch.int32),
                margins=torch.tensor(margins, dtype=torch.float32))


def make(name, spec):
    rng = np.random.default_rng(sum(map(ord, name)))
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    config = dict(BASE, **spec['config'])
    if 'torch_dtype' not in spec['config']:
        config['torch_dtype'] = spec['dtype']
    if 'rope_parameters' not in config:
        config.setdefault('rope_scaling', None)
    config = {k: v for k, v in config.items() if v is not None or k in ('rope_scaling', 'sliding_window') and 'rope_parameters' not in config}
    with tempfile.TemporaryDirectory() as scratch:
        write(scratch, config, {'none': torch.zeros(1)})
        from transformers import AutoConfig
        empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(scratch))
        state = random_weights(empty, rng, DTYPES[spec['dtype']])
        if config['tie_word_embeddings']:
            del state['lm_head.weight']
        tensors, dense = state, {k: v.float() for k, v in state.items()}
        if 'gptq' in spec:
            tensors, dense = quantised(state, rng, spec['gptq'])
        write(scratch, config, dense)
        expected = evaluate(scratch, config['vocab_size'], spec.get('context_length'), rng)
    if 'gptq' in spec:
        if spec['gptq'].get('inside'):
            config['quantization_config'] = quantize_config(spec['gptq'])
        else:
            with open(os.path.join(folder, 'quantize_config.json'), 'w') as f:
                json.dump(quantize_config(spec['gptq']), f, indent=1)
                f.write('\n')
    write(folder, config, tensors, spec.get('shards', 1))
    save_file(expected, os.path.join(folder, 'expected.safetensors'))
    with open(os.path.join(folder, 'expected.json'), 'w') as f:
        json.dump(dict(context_length=spec.get('context_length', 0)), f)
        f.write('\n')
    print('%-22s smallest margin %.4f, logits of deviation %.2f' % (name, expected['margins'].min(), expected['logits'].std()))


if __name__ == '__main__':
    torch.use_deterministic_algorithms(True)
    for n in sys.argv[1:] or CASES:
        make(n, CASES[n])
