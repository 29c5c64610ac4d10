"""Writes sampling.json: what lists of sampler steps leave of a row of logits, for tests/unit/sample_golden.cc.

Temperature, top-k, top-p, min-p, typical and the repetition penalty are transformers'; the rest is written here from the papers and the
descriptions in sampler.h, in float64, without a look at lib/sample.

Usage: python make_sampling.py   (needs numpy, torch and transformers 5)
"""
import json
import math
import os

import numpy as np
import torch
from transformers.generation import logits_process as hf

KINDS = ["", "temperature", "top_k", "top_p", "min_p", "penalties", "dynamic_temperature", "top_a", "typical", "tail_free", "top_n_sigma",
         "xtc", "dry", "mirostat_1", "mirostat_2", "smoothing", "skew", "logit_bias", "banned", "allowed"]
INF = float("inf")


def make_row(n, spread, seed):
    """Float32 logits that JSON holds exactly: multiples of 1/256."""
    random = np.random.default_rng(seed)
    return np.round(random.normal(0, spread, n) * 256) / 256


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def drop(x, keep):
    return np.where(keep, x, -INF)


def order_of(x):
    """Kept tokens, the likeliest first; equals by id."""
    order = np.argsort(-x, kind="stable")
    return order[: int(np.isfinite(x).sum())]


def transformers_step(processor, x, history):
    ids = torch.tensor([history], dtype=torch.long)
    return processor(ids, torch.tensor(x[None], dtype=torch.float64))[0].numpy()


def dry(x, history, multiplier, base, allowed, limit, breakers):
    text = history[-limit:] if limit else history
    for token in range(len(x)):
        best = 0
        for i in range(len(text)):
            if text[i] != token or token in breakers:
                continue
            n = 0
            while n < i and text[i - 1 - n] == text[-1 - n] and text[-1 - n] not in breakers:
                n += 1
            best = max(best, n)
        if best >= allowed:
            x[token] -= multiplier * base ** (best - allowed)
    return x


def mirostat_1(x, tau, m):
    mu, order, p = 2 * tau, order_of(x), softmax(x)
    q = p[order][:m]
    t = np.array([math.log((i + 2) / (i + 1)) for i in range(len(q) - 1)])
    b = np.log(q[:-1] / q[1:])
    s = (t * b).sum() / (t * t).sum()
    e = s - 1
    k = int(((e * 2**mu) / (1 - len(x) ** -e)) ** (1 / s))
    keep = np.zeros(len(x), bool)
    keep[order[: max(k, 1)]] = True
    return drop(x, keep)


def tail_free(x, z):
    order = order_of(x)
    if len(order) <= 2:
        return x
    p = softmax(x)[order]
    second = np.abs(np.diff(np.diff(p)))
    reached = np.cumsum(second / second.sum())
    beyond = np.nonzero(reached > z)[0]
    size = max(int(beyond[0]), 1) if len(beyond) else len(order)
    keep = np.zeros(len(x), bool)
    keep[order[:size]] = True
    return drop(x, keep)


def xtc(x, threshold, exempt):
    p, order = softmax(x), order_of(x)
    tops = [t for t in order if p[t] >= threshold and t not in exempt]
    for t in tops[:-1]:
        x[t] = -INF
    return x


def apply(step, x, history):
    kind, v, c = step["kind"], step.get("value", []) + [0] * 4, step.get("count", []) + [0] * 4
    tokens = step.get("tokens", [])
    x = x.copy()
    if kind == "temperature":
        return transformers_step(hf.TemperatureLogitsWarper(v[0]), x, history)
    if kind == "top_k":
        return transformers_step(hf.TopKLogitsWarper(c[0]), x, history)
    if kind == "top_p":
        return transformers_step(hf.TopPLogitsWarper(v[0]), x, history)
    if kind == "min_p":
        return transformers_step(hf.MinPLogitsWarper(v[0]), x, history)
    if kind == "typical":
        return transformers_step(hf.TypicalLogitsWarper(v[0]), x, history)
    if kind == "penalties":
        if v[0]:
            x = transformers_step(hf.RepetitionPenaltyLogitsProcessor(v[0]), x, history)
        for t in range(len(x)):
            x[t] -= v[1] * history.count(t) + v[2] * (t in history)
        return x
    if kind == "dynamic_temperature":
        p = softmax(x)
        p = p[p > 0]
        h = -(p * np.log(p)).sum() / math.log(np.isfinite(x).sum())
        return x / (v[0] + (v[1] - v[0]) * h ** (v[2] or 1))
    if kind == "top_a":
        p = softmax(x)
        return drop(x, p >= v[0] * p.max() ** 2)
    if kind == "tail_free":
        return tail_free(x, v[0])
    if kind == "top_n_sigma":
        return drop(x, x >= x.max() - v[0] * x[np.isfinite(x)].std())
    if kind == "xtc":  # with probability 1
        return xtc(x, v[1], tokens)
    if kind == "dry":
        return dry(x, history, v[0], v[1] or 1.75, c[0] or 2, c[1], tokens)
    if kind == "mirostat_1":
        return mirostat_1(x, v[0], c[0] or 100)
    if kind == "mirostat_2":
        return drop(x, (-np.log2(np.maximum(softmax(x), 1e-300)) <= 2 * v[0]) | (np.arange(len(x)) == x.argmax()))
    if kind == "smoothing":
        return x.max() - v[0] * (x - x.max()) ** 2
    if kind == "logit_bias":
        for t, w in zip(tokens, step["weights"]):
            x[t] += w
        return x
    keep = np.isin(np.arange(len(x)), tokens)
    return drop(x, keep if kind == "allowed" else ~keep)


def step(kind, *value, count=(), **lists):
    return {"kind": kind, "value": list(value), "count": list(count), **lists}


TEXT = [3, 9, 4, 7, 3, 9, 4, 8, 1, 3, 9, 4, 7, 2, 5, 3, 9, 4]
CASES = [[step("temperature", t)] for t in (0.5, 1.75)]
CASES += [[step("top_k", count=[k])] for k in (1, 7, 40)]
CASES += [[step("top_p", p)] for p in (0.25, 0.75, 0.9375)]
CASES += [[step("min_p", p)] for p in (0.015625, 0.125, 0.5)]
CASES += [[step("penalties", 1.25)], [step("penalties", 0, 0.25, 0.5)], [step("penalties", 1.5, 0.125, 0.75)]]
CASES += [[step("dynamic_temperature", 0.25, 2, e)] for e in (0, 0.5, 2)]
CASES += [[step("top_a", a)] for a in (0.0625, 0.25, 1)]
CASES += [[step("typical", p)] for p in (0.25, 0.625, 0.9375)]
CASES += [[step("tail_free", z)] for z in (0.5, 0.875, 0.96875)]
CASES += [[step("top_n_sigma", n)] for n in (0.5, 1.25, 2.5)]
CASES += [[step("xtc", 1, t)] for t in (0.015625, 0.0625)] + [[step("xtc", 1, 0.015625, tokens=[0, 5, 11])]]
CASES += [[step("dry", 0.75)], [step("dry", 0.5, 2, count=[1])], [step("dry", 0.75, 1.5, count=[2, 8])], [step("dry", 1, tokens=[9])]]
CASES += [[step("mirostat_1", t)] for t in (1, 2, 3)] + [[step("mirostat_1", 2, count=[10])]]
CASES += [[step("mirostat_2", t)] for t in (1, 2, 3)]
CASES += [[step("smoothing", s)] for s in (0.0625, 0.25, 1)]
CASES += [[step("logit_bias", tokens=[2, 5, 9], weights=[3, -2, 0.5])], [step("banned", tokens=[1, 2, 3, 4, 5])], [step("allowed", tokens=[50, 3, 9])]]
CASES += [
    [step("penalties", 1.25), step("top_k", count=[50]), step("top_p", 0.875), step("min_p", 0.0625), step("temperature", 0.75)],
    [step("logit_bias", tokens=[3], weights=[2]), step("penalties", 1.5), step("dry", 0.75), step("top_n_sigma", 2), step("top_k", count=[40]),
     step("typical", 0.9375), step("top_p", 0.9375), step("min_p", 0.03125), step("xtc", 1, 0.125), step("temperature", 0.75)],
    [step("banned", tokens=[9]), step("smoothing", 0.125), step("temperature", 0.75), step("top_p", 0.875), step("top_a", 0.125),
     step("tail_free", 0.96875), step("dynamic_temperature", 0.5, 1.5)],
]


def main():
    out = []
    for index, steps in enumerate(CASES):
        n = 64 if index % 2 else 200
        row = make_row(n, 1.5, index)
        x = row
        for s in steps:
            x = apply(s, x, TEXT)
        p = softmax(x)
        kept = order_of(x)
        coded = [{**s, "kind": KINDS.index(s["kind"])} for s in steps]
        out.append({"steps": coded, "logits": (row * 256).astype(int).tolist(), "tokens": kept.tolist(),
                    "logprobs": [round(float(v), 7) for v in np.log(p[kept])]})
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sampling.json")
    with open(path, "w") as f:
        json.dump({"history": TEXT, "cases": out}, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
