#!/usr/bin/env python3
"""Trains the demo model. Time-boxed: the learning rate follows the share of the time that is used up, so that it always ends annealed.
   train.py --work DIR --out DIR (--seconds N | --deadline UNIXTIME) [--resume] ..."""
import argparse, contextlib, json, math, os, sys, time
T00 = time.time()
import numpy as np
import torch
import torch.nn.functional as F
from common import *

ap = argparse.ArgumentParser()
A = ap.add_argument
A('--work', default='demo_work'); A('--out', default='demo_out/bf16')
A('--seconds', type=float, default=430, help='wall time for everything this program does, its final evaluation left out')
A('--deadline', type=float, default=0, help='absolute Unix time instead of --seconds')
A('--layers', type=int, default=8); A('--dim', type=int, default=512); A('--heads', type=int, default=8); A('--kv', type=int, default=4)
A('--inter', type=int, default=1408); A('--ctx', type=int, default=1024); A('--vocab', type=int, default=8192)
A('--untied', action='store_true')
A('--batch', type=int, default=128, help='sequences a step'); A('--micro', type=int, default=64, help='sequences a forward pass')
A('--lr', type=float, default=2e-3); A('--wd', type=float, default=0.4); A('--drop', type=float, default=0.1)
A('--warmup', type=float, default=0.03, help='share of the time'); A('--sched', default='cosine', choices=['cosine', 'wsd'])
A('--decay', type=float, default=0.35, help='wsd: share of the time in which the rate falls'); A('--min-lr', type=float, default=0.01)
A('--snap', type=float, default=0.5, help='share of sequences that start at a paragraph, behind <|bos|>')
A('--max-epochs', type=float, default=0, help='no limit at 0'); A('--eval-every', type=float, default=45)
A('--ckpt', default='demo_ckpt.pt'); A('--resume', action='store_true'); A('--resume-lr', type=float, default=0.6, help='peak rate of a resumed run, times --lr')
A('--compile', type=int, default=1); A('--seed', type=int, default=1234); A('--max-steps', type=int, default=0)
a = ap.parse_args()
deadline = a.deadline or T00 + a.seconds
torch.manual_seed(a.seed)
dev = 'cuda' if torch.cuda.is_available() else 'cpu'
cuda = dev == 'cuda'
torch.set_float32_matmul_precision('high')
amp = (lambda: torch.autocast('cuda', dtype=torch.bfloat16)) if cuda else contextlib.nullcontext
os.makedirs(a.out, exist_ok=True)
log = open(os.path.join(a.work, 'train.log'), 'a')


def say(*x):
    s = ' '.join(str(y) for y in x)
    print(s, flush=True)
    log.write(s + '\n'); log.flush()


def sync():
    if cuda:
        torch.cuda.synchronize()


cfg = Cfg(a.vocab, a.dim, a.layers, a.heads, a.kv, a.inter, a.ctx, tied=not a.untied, drop=a.drop)
tr, va = load_tokens(a.work, 'train'), load_tokens(a.work, 'val')
meta = json.load(open(os.path.join(a.work, 'meta.json')))
N, C = len(tr), a.ctx
data = torch.from_numpy(tr.astype(np.int32)).to(dev)
nl = torch.tensor(np.asarray(meta['newline_ids'], dtype=np.int64), device=dev)      # tokens whose text ends in a newline
isnl = torch.zeros(a.vocab, dtype=torch.bool, device=dev); isnl[nl] = True; isnl[BOS] = True
pstart = (torch.nonzero(isnl[data.long()[:-1]])[:, 0] + 1)                              # positions where a paragraph begins
pstart = pstart[pstart < N - C - 2].contiguous()
ar = torch.arange(C + 1, device=dev)
say('device', torch.cuda.get_device_name() if cuda else 'cpu', 'torch', torch.__version__, 'train tokens', N, 'val tokens', len(va), 'paragraphs', len(pstart))


def batches():
    """Each epoch: the stream cut at a random phase into windows of C, in random order; a share of the windows is moved back to the
    start of the paragraph they begin in and given <|bos|> as first token."""
    e = 0
    while True:
        g = torch.Generator().manual_seed(a.seed + 77 * e)
        ph = int(torch.randint(0, C, (1,), generator=g))
        n = (N - 2 - ph) // C
        st = (ph + C * torch.randperm(n, generator=g)).to(dev)
        if len(pstart):
            i = torch.searchsorted(pstart, st, right=True) - 1
            sn = pstart[i.clamp(min=0)]
            ok = (torch.rand(n, generator=g).to(dev) < a.snap) & (i >= 0) & (st - sn < C // 2)
        else:
            sn, ok = st, torch.zeros(n, dtype=torch.bool, device=dev)
        # a snapped window holds <|bos|> and then the paragraph, so it is read from one token earlier
        st = torch.where(ok, sn - 1, st)
        for j in range(0, n - a.micro + 1, a.micro):
            s, k = st[j:j + a.micro], ok[j:j + a.micro]
            x = data[(s[:, None] + ar).clamp(min=0)].long()
            x[:, 0] = torch.where(k, torch.full_like(x[:, 0], BOS), x[:, 0])
            y = x[:, 1:]
            yield e + j / n, x[:, :-1], torch.where(y == BOS, torch.full_like(y, -100), y)
        e += 1


def param_groups(m):
    mats, emb, vec = [], [], []
    for n, p in m.named_parameters():
        (vec if p.dim() < 2 else emb if 'embed' in n or 'lm_head' in n else mats).append(p)
    return [{'params': mats, 'weight_decay': a.wd}, {'params': emb, 'weight_decay': min(a.wd, 0.1)}, {'params': vec, 'weight_decay': 0.0}]


model = Llama(cfg).to(dev)
opt = torch.optim.AdamW(param_groups(model), lr=a.lr, betas=(0.9, 0.95), eps=1e-8, **({'fused': True} if cuda else {}))
step0, ep0 = 0, 0.0
if a.resume and os.path.exists(a.ckpt):
    ck = torch.load(a.ckpt, map_location=dev)
    model.load_state_dict(ck['model']); opt.load_state_dict(ck['opt']); step0, ep0 = ck['step'], ck['epoch']
    a.seed += 1000 + step0
    a.lr *= a.resume_lr if ck['annealed'] else 1.0
    a.warmup = min(a.warmup, 0.02)
    say('resumed at step', step0, 'epoch %.2f' % ep0, 'annealed', ck['annealed'], 'peak lr', a.lr)
say('parameters %.3f M' % (sum(p.numel() for p in model.parameters()) / 1e6), 'args', json.dumps(vars(a)))


@torch.no_grad()
def evaluate(toks, limit=0):
    """Mean loss a token over consecutive windows of C (each sees only itself), <|bos|> not counted as a target."""
    model.eval()
    t = torch.from_numpy(toks[:limit or None].astype(np.int64)).to(dev)
    n = (len(t) - 1) // C
    tot, cnt = 0.0, 0
    for i in range(0, n, 32):
        w = torch.stack([t[j * C:j * C + C + 1] for j in range(i, min(n, i + 32))])
        y = w[:, 1:]; y = torch.where(y == BOS, torch.full_like(y, -100), y)
        with amp():
            l = model(w[:, :-1], y, 'sum')
        tot += float(l); cnt += int((y != -100).sum())
    model.train()
    return tot, cnt


def save_ckpt(step, epoch, annealed):
    torch.save({'model': model.state_dict(), 'opt': opt.state_dict(), 'step': step, 'epoch': epoch, 'annealed': annealed}, a.ckpt + '.tmp')
    os.replace(a.ckpt + '.tmp', a.ckpt)


# ------------------------------------------------------------------ compile and warm up
it = batches()
fwd = model
if a.compile and hasattr(torch, 'compile') and cuda:
    fwd = torch.compile(model)
micro = a.micro
accum = max(1, a.batch // a.micro)


def warm():
    _, x, y = next(it)
    for _ in range(2):
        with amp():
            l = fwd(x, y)
        l.backward()
    sync()
    model.zero_grad(set_to_none=True)
    return float(l)


model.train()
try:
    l0 = warm()
except Exception as ex:      # no compiler, or too little memory: go on without, in smaller pieces
    say('warm-up failed:', type(ex).__name__, str(ex)[:300])
    model.zero_grad(set_to_none=True)
    if cuda:
        torch.cuda.empty_cache()
    if 'out of memory' in str(ex).lower():
        a.micro //= 2
    else:
        fwd = model
    accum = max(1, a.batch // a.micro)
    it = batches()
    l0 = warm()
say('warm after %.1f s, first loss %.3f' % (time.time() - T00, l0))


def rate(f):
    if f < a.warmup:
        return max(f / a.warmup, 0.01)
    if a.sched == 'wsd':
        if f < 1 - a.decay:
            return 1.0
        return a.min_lr + (1 - a.min_lr) * (1 - math.sqrt(min(1.0, (f - 1 + a.decay) / a.decay)))
    return a.min_lr + (1 - a.min_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, (f - a.warmup) / (1 - a.warmup))))


t1 = time.time()
span = max(1.0, deadline - t1)
step, last_eval, stepdt, stable_saved, best = 0, t1, 0.0, False, (1e9, -1)
tok_step = accum * a.micro * C
acc_loss, acc_n, tlog, slog = torch.zeros((), device=dev), 0, t1, 0
evals = []
epoch = 0.0
while True:
    now = time.time()
    f = (now - t1) / span
    if now + stepdt > deadline or (a.max_steps and step >= a.max_steps) or (a.max_epochs and epoch >= a.max_epochs):
        break
    if a.max_steps:
        f = max(f, step / a.max_steps)
    lr = a.lr * rate(f)
    for g in opt.param_groups:
        g['lr'] = lr
    if a.sched == 'wsd' and not stable_saved and f >= 1 - a.decay:
        save_ckpt(step0 + step, ep0 + epoch, False); stable_saved = True
    loss = 0.0
    for _ in range(accum):
        epoch, x, y = next(it)
        with amp():
            l = fwd(x, y) / accum
        l.backward()
        loss = loss + l.detach()
    gn = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    opt.zero_grad(set_to_none=True)
    sync()
    step += 1
    acc_loss += loss; acc_n += 1
    t2 = time.time()
    stepdt = t2 - now if step > 3 else 0.0
    if step % 50 == 0 or step <= 2:
        say('step %5d  %5.1f s  epoch %5.2f  lr %.2e  train %.4f  gnorm %.2f  %.0f tok/s' %
            (step, t2 - t1, epoch, lr, float(acc_loss / acc_n), float(gn), (step - slog) * tok_step / max(1e-9, t2 - tlog)))
        acc_loss.zero_(); acc_n = 0; tlog, slog = t2, step
    if t2 - last_eval > a.eval_every and deadline - t2 > 10:
        tot, cnt = evaluate(va)
        ttot, tcnt = evaluate(tr, len(va))
        say('eval step %d  val loss %.4f  bpb %.4f  train (no dropout) %.4f' % (step, tot / cnt, tot / math.log(2) / (meta['val_bytes'] * ((len(va) - 1) // C * C / len(va))), ttot / tcnt))
        evals.append((step, tot / cnt))
        last_eval = tlog = time.time(); slog = step

sync()
say('stopped: %d steps, %.2f epochs, %.1f M tokens in %.1f s' % (step, epoch, step * tok_step / 1e6, time.time() - t1))
if not (a.sched == 'wsd' and stable_saved):
    save_ckpt(step0 + step, ep0 + epoch, True)

# ------------------------------------------------------------------ round to bf16, evaluate that, save
sd = {k: v.detach().to(torch.bfloat16) for k, v in model.named_parameters()}
model.load(sd)
tot, cnt = evaluate(va)
ttot, tcnt = evaluate(tr, len(va))
nwin = (len(va) - 1) // C
share = nwin * C / len(va)                                     # bytes belonging to the windows counted
bpb = tot / math.log(2) / (meta['val_bytes'] * share)
res = {'val_loss': tot / cnt, 'val_ppl': math.exp(tot / cnt), 'val_bits_per_byte': bpb, 'train_loss_no_dropout': ttot / tcnt, 'steps': step0 + step,
       'epochs': ep0 + epoch, 'tokens_seen': (step0 + step) * tok_step, 'parameters': sum(p.numel() for p in model.parameters()),
       'train_seconds': time.time() - t1, 'args': vars(a)}
say('FINAL val loss %.4f  ppl %.2f  bits/byte %.4f  train %.4f' % (res['val_loss'], res['val_ppl'], bpb, res['train_loss_no_dropout']))
json.dump(res, open(os.path.join(a.work, 'train_result.json'), 'w'), indent=1)
json.dump(cfg.hf(), open(os.path.join(a.out, 'config.json'), 'w'), indent=1)
json.dump({'_from_model_config': True, 'bos_token_id': BOS, 'eos_token_id': EOS, 'do_sample': True, 'temperature': 0.8, 'top_p': 0.95},
          open(os.path.join(a.out, 'generation_config.json'), 'w'), indent=1)
save_sharded(sd, a.out)
for f in ('tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json'):
    p = os.path.join(a.work, f)
    if os.path.exists(p):
        open(os.path.join(a.out, f), 'w').write(open(p).read())
say('saved', a.out)

# ------------------------------------------------------------------ samples
try:
    from tok import load_tokenizer
    enc, dec = load_tokenizer(a.work)
    model.eval()
    ps = ['Once upon a time, in a little house at the edge of the wood,', 'The old captain looked out over the sea and said,',
          '"Who is there?" asked the girl.', 'It was a cold night in December, and the train', 'The king had three sons.']
    n = 200 if cuda else 20
    outs = generate(model, [[BOS] + enc(p) for p in ps], n, temperature=0.8, top_p=0.95, autocast=torch.bfloat16 if cuda else None)
    txt = ''
    for p, (new, _) in zip(ps, outs):
        txt += '--- ' + p + ' ⟶ ' + dec(new).replace('\n\n', '\n') + '\n'
    say(txt)
    open(os.path.join(a.work, 'samples.txt'), 'w').write(txt)
except Exception as ex:
    say('no samples:', repr(ex))
say('train.py done after %.1f s' % (time.time() - T00))
