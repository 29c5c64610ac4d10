#!/usr/bin/env python3
"""Draws a trace that chat --trace wrote: timeline.py TRACE.json OUT.png [FIRST_MS LAST_MS]. Needs matplotlib.

Each row is a track of the trace (calls, slots of regions, engines of a GPU), each bar an event, as Perfetto shows them.
"""
import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {
    "open": "#7f7f7f", "load": "#7f7f7f", "create": "#bcbd22", "prefill": "#1f77b4", "decode": "#17becf", "sample": "#9467bd", "logits": "#c5b0d5",
    "region": "#98df8a", "inline": "#ffbb78", "help": "#2ca02c", "GPU compute": "#d62728", "copy to GPU": "#ff7f0e", "copy to host": "#8c564b",
}  # fmt: skip


def main():
    trace = json.load(open(sys.argv[1]))
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M" and e["name"] == "thread_name"}
    events = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    first = float(sys.argv[3]) * 1e3 if len(sys.argv) > 3 else 0
    last = float(sys.argv[4]) * 1e3 if len(sys.argv) > 4 else max(e["ts"] + e["dur"] for e in events)
    rows = {}
    for e in events:
        if e["ts"] + e["dur"] < first or e["ts"] > last:
            continue
        # What the calling thread does lies in two rows: its calls, and the regions within them.
        inner = e["name"] in ("region", "inline")
        rows.setdefault((e["pid"], e["tid"], inner), []).append(e)
    figure, axes = plt.subplots(figsize=(12, 0.8 + 0.5 * len(rows)), dpi=110)
    labels = []
    for row, (key, bars) in enumerate(sorted(rows.items())):
        pid, tid, inner = key
        labels.append("regions" if inner else names.get((pid, tid), f"{pid}:{tid}"))
        for e in bars:
            axes.broken_barh([((e["ts"] - first) / 1e3, e["dur"] / 1e3)], (row - 0.4, 0.8), color=COLOURS.get(e["name"], "#333333"), linewidth=0)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlim(0, (last - first) / 1e3)
    axes.set_xlabel("milliseconds")
    seen = sorted({e["name"] for bars in rows.values() for e in bars}, key=list(COLOURS).index)
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[name]) for name in seen]
    axes.legend(handles, seen, loc="upper center", bbox_to_anchor=(0.5, 1.22), ncol=len(seen), frameon=False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(sys.argv[2])


if __name__ == "__main__":
    main()
