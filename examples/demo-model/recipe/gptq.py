#!/usr/bin/env python3
"""GPTQ (Frantar et al. 2022) for the demo model, written out in AutoGPTQ's on-disk format, version 1.
   gptq.py --model BF16_FOLDER --work DIR --out FOLDER [--desc-act] [--bits 4] [--group 128] [--samples 256]
Per linear layer: qweight int32 [in*bits/32, out]  (8 four-bit codes an int32, lowest bits = lowest input row)
                  qzeros  int32 [groups, out*bits/32]  (zero point MINUS ONE, packed along out the same way; sym: 8 -> 7 -> 0x77777777)
                  scales  fp16  [groups, out],   g_idx int32 [in]  (group of each input row)
   weight[o, i] = scales[g_idx[i], o] * (code[i, o] - zero[g_idx[i], o])
Embeddings, head and norms stay fp16."""
import argparse, json, math, os, time
import numpy as np
import torch
from common import *

LINEARS = ('self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'self_attn.o_proj', 'mlp.gate_proj', 'mlp.up_proj', 'mlp.down_proj')


def find_params(w, maxq, mse=True):
    """w [out, group] -> scale, zero [out, 1], symmetric. The scale is rounded to fp16, as it will be stored."""
    xmax = w.abs().amax(1, keepdim=True)
    xmax = torch.where(xmax == 0, torch.ones_like(xmax), xmax)
    zero = (maxq + 1) / 2
    fp16 = lambda s: s.half().float().clamp(min=6.2e-5)
    base = 2 * xmax / maxq
    best_s = fp16(base)
    if mse:
        err = lambda s: ((torch.clamp(torch.round(w / s) + zero, 0, maxq) - zero) * s - w).abs().pow(2.4).sum(1, keepdim=True)
        best_e = err(best_s)
        for i in range(1, 80):
            s = fp16(base * (1 - i / 100))
            e = err(s)
            k = e < best_e
            best_e = torch.where(k, e, best_e)
            best_s = torch.where(k, s, best_s)
    return best_s, torch.full_like(best_s, zero)


@torch.no_grad()
def quantise(W, H, bits=4, group=128, desc_act=False, damp=0.01, mse=True):
    """W [out, in] float32, H [in, in] -> codes [out, in], scale [out, groups], zero [out, groups], g_idx [in], dequantised [out, in]"""
    W, H = W.clone().float(), H.clone().float()
    out, n = W.shape
    maxq = 2 ** bits - 1
    dead = torch.diagonal(H) == 0
    H[dead, dead] = 1
    W[:, dead] = 0
    perm = torch.argsort(torch.diagonal(H), descending=True) if desc_act else torch.arange(n, device=W.device)
    W, H = W[:, perm], H[perm][:, perm]
    d = torch.arange(n, device=W.device)
    for k in range(8):
        Hd = H.clone()
        Hd[d, d] += damp * (4 ** k) * torch.mean(torch.diagonal(H))
        try:
            U = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(Hd.double())).contiguous(), upper=True).float()
            break
        except RuntimeError:
            if k == 7:
                raise
    Q = torch.zeros_like(W)
    D = torch.zeros_like(W)
    G = (n + group - 1) // group
    S = torch.zeros(out, G, device=W.device)
    Z = torch.zeros(out, G, device=W.device)
    for i1 in range(0, n, group):
        i2 = min(i1 + group, n)
        g = i1 // group
        w = W[:, i1:i2].clone()
        s, z = find_params(w, maxq, mse)
        S[:, g:g + 1], Z[:, g:g + 1] = s, z
        E = torch.zeros_like(w)
        u = U[i1:i2, i1:i2]
        for i in range(i2 - i1):
            c = w[:, i:i + 1]
            q = torch.clamp(torch.round(c / s) + z, 0, maxq)
            dq = s * (q - z)
            Q[:, i1 + i:i1 + i + 1] = q
            D[:, i1 + i:i1 + i + 1] = dq
            e = (c - dq) / u[i, i]
            w[:, i:] -= e @ u[i:i + 1, i:]
            E[:, i:i + 1] = e
        W[:, i2:] -= E @ U[i1:i2, i2:]
    inv = torch.argsort(perm)
    gi = (torch.arange(n, device=W.device) // group)[inv]
    return Q[:, inv], S, Z, gi, D[:, inv]


def pack_rows(codes, bits=4):
    """[rows, cols] integers -> int32 [rows*bits/32, cols]: consecutive rows from the low bits up."""
    f = 32 // bits
    c = codes.cpu().numpy().astype(np.uint32)
    r = np.zeros((c.shape[0] // f, c.shape[1]), dtype=np.uint32)
    for j in range(f):
        r |= c[j::f] << np.uint32(bits * j)
    return torch.from_numpy(r.view(np.int32).copy())


def unpack_rows(packed, bits=4):
    f = 32 // bits
    p = packed.numpy().view(np.uint32)
    r = np.zeros((p.shape[0] * f, p.shape[1]), dtype=np.int64)
    for j in range(f):
        r[j::f] = (p >> np.uint32(bits * j)) & np.uint32(2 ** bits - 1)
    return torch.from_numpy(r)


def dequantise_folder(folder, bits=4):
    """The tensors of a GPTQ folder as plain float32 weights (what every reader must arrive at)."""
    t, out = load_folder(folder), {}
    for k, v in t.items():
        if k.endswith('.qweight'):
            b = k[:-8]
            code = unpack_rows(v, bits)                                                 # [in, out]
            zero = unpack_rows(t[b + '.qzeros'].t().contiguous(), bits).t() + 1        # [groups, out]
            s, g = t[b + '.scales'].float(), t[b + '.g_idx'].long()
            out[b + '.weight'] = ((code - zero[g]).float() * s[g]).t().contiguous()
        elif not k.endswith(('.qzeros', '.scales', '.g_idx')):
            out[k] = v.float()
    return out


def pack_linear(name, Q, S, Z, gi, bits, T):
    T[name + '.qweight'] = pack_rows(Q.t().round().long(), bits)
    T[name + '.qzeros'] = pack_rows((Z - 1).round().long(), bits).t().contiguous()            # [out, groups] -> [groups, out/8]
    T[name + '.scales'] = S.t().half().contiguous().cpu()
    T[name + '.g_idx'] = gi.to(torch.int32).contiguous().cpu()


@torch.no_grad()
def run(a):
    t0 = time.time()
    dev = 'cuda' if torch.cuda.is_available() else 'cpu'
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_float32_matmul_precision('highest')
    hf = json.load(open(os.path.join(a.model, 'config.json')))
    cfg = Cfg.from_hf(hf)
    m = Llama(cfg).load(load_folder(a.model)).to(dev).eval()
    tr = load_tokens(a.work, 'train').astype(np.int64)
    C = min(cfg.ctx, a.seq)
    rng = np.random.default_rng(7)
    st = rng.integers(0, len(tr) - C - 1, a.samples)
    ids = torch.from_numpy(np.stack([np.concatenate(([BOS], tr[s:s + C - 1])) for s in st])).to(dev)
    x = m.model.embed_tokens(ids)
    cos, sin = m.cos[:C], m.sin[:C]
    B = a.chunk
    T = {'model.embed_tokens.weight': m.model.embed_tokens.weight.half().cpu()}
    worst = []

    def hess(fn, n):
        H = torch.zeros(n, n, device=dev)
        for i in range(0, len(x), B):
            z = fn(x[i:i + B]).reshape(-1, n).float()
            H += z.t() @ z
        return H * (2.0 / (len(x) * C))

    for li, b in enumerate(m.model.layers):
        at, ml = b.self_attn, b.mlp
        stages = [  # true sequential: each stage sees the earlier ones quantised
            (('q_proj', 'k_proj', 'v_proj'), at, 'self_attn', lambda y: b.input_layernorm(y)),
            (('o_proj',), at, 'self_attn', lambda y: at.mix(b.input_layernorm(y), cos, sin)),
            (('gate_proj', 'up_proj'), ml, 'mlp', lambda y: b.post_attention_layernorm(y + at(b.input_layernorm(y), cos, sin))),
            (('down_proj',), ml, 'mlp', lambda y: ml.mid(b.post_attention_layernorm(y + at(b.input_layernorm(y), cos, sin))))]
        for names, mod, part, fn in stages:
            H = hess(fn, getattr(mod, names[0]).in_features)
            for nme in names:
                lin = getattr(mod, nme)
                W = lin.weight.data
                Q, S, Z, gi, D = quantise(W, H, a.bits, a.group, a.desc_act, a.damp, not a.no_mse)
                # share of the layer's output energy that is lost, by GPTQ and by plain rounding
                e = W.float() - D
                rel = float(((e @ H) * e).sum() / ((W.float() @ H) * W.float()).sum())
                Wg = W.float().reshape(W.shape[0], -1, a.group).reshape(-1, a.group)
                s, z = find_params(Wg, 2 ** a.bits - 1, True)
                R = ((torch.clamp(torch.round(Wg / s) + z, 0, 2 ** a.bits - 1) - z) * s).reshape(W.shape)
                e = W.float() - R
                rtn = float(((e @ H) * e).sum() / ((W.float() @ H) * W.float()).sum())
                worst.append((rel, rtn, '%d.%s' % (li, nme)))
                pack_linear('model.layers.%d.%s.%s' % (li, part, nme), Q, S, Z, gi, a.bits, T)
                lin.weight.data = D.to(W.dtype)
        for i in range(0, len(x), B):
            x[i:i + B] = b(x[i:i + B], cos, sin)
        for nme in ('input_layernorm', 'post_attention_layernorm'):
            T['model.layers.%d.%s.weight' % (li, nme)] = getattr(b, nme).weight.half().cpu()
    T['model.norm.weight'] = m.model.norm.weight.half().cpu()
    if m.lm_head is not None:
        T['lm_head.weight'] = m.lm_head.weight.half().cpu()
    os.makedirs(a.out, exist_ok=True)
    save_sharded(T, a.out)
    q = {'bits': a.bits, 'group_size': a.group, 'damp_percent': a.damp, 'desc_act': a.desc_act, 'static_groups': False, 'sym': True,
         'true_sequential': True, 'lm_head': False, 'model_name_or_path': None, 'model_file_base_name': 'model', 'quant_method': 'gptq',
         'checkpoint_format': 'gptq'}
    hf['torch_dtype'] = 'float16'
    hf['quantization_config'] = q
    json.dump(hf, open(os.path.join(a.out, 'config.json'), 'w'), indent=1)
    json.dump(q, open(os.path.join(a.out, 'quantize_config.json'), 'w'), indent=1)
    for f in ('generation_config.json', 'tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json'):
        p = os.path.join(a.model, f)
        if os.path.exists(p):
            open(os.path.join(a.out, f), 'w').write(open(p).read())
    # what was written must read back as the weights the run used
    dq = dequantise_folder(a.out, a.bits)
    for k, p in m.named_parameters():
        d = float((dq[k] - p.float().cpu()).abs().max())
        assert d == 0 or (not any(l in k for l in LINEARS) and d < 1e-3), (k, d)
    worst.sort(reverse=True)
    s = 'gptq: mean relative output error %.5f (plain rounding %.5f); worst %s; %.1f s' % (
        sum(w[0] for w in worst) / len(worst), sum(w[1] for w in worst) / len(worst), ['%s %.5f' % (w[2], w[0]) for w in worst[:3]], time.time() - t0)
    print(s, flush=True)
    json.dump({'mean_rel_error': sum(w[0] for w in worst) / len(worst), 'mean_rel_error_rtn': sum(w[1] for w in worst) / len(worst),
               'layers': [{'layer': w[2], 'gptq': w[0], 'rtn': w[1]} for w in worst]}, open(os.path.join(a.work, 'gptq_result.json'), 'w'), indent=1)


if __name__ == '__main__':
    ap = argparse.ArgumentParser()
    ap.add_argument('--model', default='demo_out/bf16'); ap.add_argument('--work', default='demo_work'); ap.add_argument('--out', default='demo_out/gptq')
    ap.add_argument('--bits', type=int, default=4); ap.add_argument('--group', type=int, default=128); ap.add_argument('--desc-act', action='store_true')
    ap.add_argument('--damp', type=float, default=0.01); ap.add_argument('--samples', type=int, default=256); ap.add_argument('--seq', type=int, default=1024)
    ap.add_argument('--chunk', type=int, default=32); ap.add_argument('--no-mse', action='store_true')
    run(ap.parse_args())
