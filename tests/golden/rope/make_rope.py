"""Writes rope.json: rotary frequencies as transformers computes them (float32), for tests/unit/model_rope.cc.

Usage: python make_rope.py   (needs torch and transformers 5)
"""
import json
import os

import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}

# name, the members of config.json that matter, the session's context length (0: the model's)
CASES = [
    ("default", {"rope_theta": 10000.0, "max_position_embeddings": 2048}, 0),
    ("default, transformers 5", {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}, "max_position_embeddings": 8192}, 0),
    ("default, theta missing", {"max_position_embeddings": 2048}, 0),
    ("linear", {"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 4.0}, "max_position_embeddings": 8192}, 0),
    ("linear, transformers 5", {"rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 1e6}}, 0),
    ("dynamic within", {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 2048}, 1024),
    ("dynamic at", {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 2048}, 2048),
    ("dynamic beyond", {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 2048}, 6000),
    ("dynamic beyond, factor 4", {"rope_theta": 5e5, "rope_scaling": {"rope_type": "dynamic", "factor": 4.0}, "max_position_embeddings": 512}, 4096),
    ("llama3", {"rope_theta": 500000.0, "rope_scaling": LLAMA3, "max_position_embeddings": 131072}, 0),
    ("llama3, factor 32", {"rope_theta": 500000.0, "rope_scaling": {**LLAMA3, "factor": 32.0}, "max_position_embeddings": 131072}, 0),
    ("llama3, short", {"rope_theta": 10000.0, "rope_scaling": {**LLAMA3, "original_max_position_embeddings": 64}, "max_position_embeddings": 512}, 0),
    ("llama3, original beside", {"rope_theta": 500000.0, "original_max_position_embeddings": 1024, "rope_scaling": LLAMA3}, 0),
    ("yarn", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}, "max_position_embeddings": 16384}, 0),
    ("yarn, context not raised", {"rope_theta": 1e6, "max_position_embeddings": 32768,
                                  "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}}, 0),
    ("yarn, original missing", {"rope_scaling": {"type": "yarn", "factor": 2.0}, "max_position_embeddings": 4096}, 0),
    ("yarn, factor null", {"rope_scaling": {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 1024},
                           "max_position_embeddings": 8192}, 0),
    ("yarn, not truncated", {"rope_scaling": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 4096, "truncate": False},
                             "max_position_embeddings": 32768}, 0),
    ("yarn, betas", {"rope_scaling": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 2048, "beta_fast": 16, "beta_slow": 2},
                     "max_position_embeddings": 16384}, 0),
    ("yarn, equal betas", {"rope_scaling": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 2048, "beta_fast": 8,
                                            "beta_slow": 8, "truncate": False}, "max_position_embeddings": 16384}, 0),
    ("yarn, attention factor", {"rope_scaling": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 2048,
                                                 "attention_factor": 0.75}, "max_position_embeddings": 16384}, 0),
    ("yarn, both mscales 1", {"rope_parameters": {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 16384, "mscale": 1.0,
                                                  "mscale_all_dim": 1.0, "rope_theta": 1e9}, "max_position_embeddings": 262144}, 0),
    ("yarn, two mscales", {"rope_scaling": {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "mscale": 0.707,
                                            "mscale_all_dim": 0.5}, "max_position_embeddings": 163840}, 0),
    ("yarn, one mscale", {"rope_scaling": {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "mscale": 0.707},
                          "max_position_embeddings": 163840}, 0),
    ("yarn, tiny original", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4},
                             "max_position_embeddings": 16}, 0),
]


def main():
    out = []
    for name, members, context in CASES:
        sizes = {"hidden_size": 64, "num_attention_heads": 2, "head_dim": 32, "max_position_embeddings": 2048}
        config = transformers.LlamaConfig(**{**sizes, **json.loads(json.dumps(members))})
        kind = config.rope_parameters["rope_type"]
        if kind == "default":
            frequencies, scale = LlamaRotaryEmbedding.compute_default_rope_parameters(config)
        else:
            frequencies, scale = ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=context or None)
        text = {"architectures": ["LlamaForCausalLM"], "vocab_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, **sizes, **members}
        out.append({"name": name, "config": json.dumps(text), "context": context or config.max_position_embeddings,
                    "scale": scale, "inverse": [float(f"{x:.9g}") for x in frequencies.tolist()]})
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rope.json")
    with open(path, "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(case) for case in out) + "\n]\n")


if __name__ == "__main__":
    main()
