# A Llama of random Q4_0 weights as GGUF, for a peer to run beside pith_bench: random_gguf.py 1b out.gguf [q4: the head too; default F16]
# Needs numpy and the gguf package.
import sys

import gguf
import numpy as np

SHAPES = {  # layers, hidden, heads, kv heads, ffn, vocabulary, tied head: those of random_model.h
    "tiny": (12, 768, 12, 12, 2048, 32000, False),
    "1b": (16, 2048, 32, 8, 8192, 128256, True),
    "7b": (32, 4096, 32, 32, 11008, 32000, False),
}
layers, hidden, heads, kv_heads, ffn, vocab, tied = SHAPES[sys.argv[1]]
head_q4 = len(sys.argv) > 3 and sys.argv[3] == "q4"
random = np.random.default_rng(1)

w = gguf.GGUFWriter(sys.argv[2], "llama")
w.add_context_length(4096)
w.add_embedding_length(hidden)
w.add_block_count(layers)
w.add_feed_forward_length(ffn)
w.add_head_count(heads)
w.add_head_count_kv(kv_heads)
w.add_layer_norm_rms_eps(1e-5)
w.add_rope_dimension_count(hidden // heads)
w.add_rope_freq_base(500000.0)
w.add_vocab_size(vocab)
w.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
w.add_tokenizer_model("no_vocab")


def q4(name, rows, cols):  # blocks of 32: a half, then 16 bytes of codes
    blocks = random.integers(0, 256, (rows * cols // 32, 18), dtype=np.uint8)
    blocks[:, 0:2] = np.frombuffer(np.float16(0.002).tobytes(), np.uint8)
    w.add_tensor(name, blocks.reshape(rows, cols // 32 * 18), raw_dtype=gguf.GGMLQuantizationType.Q4_0)


def f16(name, rows, cols):
    w.add_tensor(name, (random.standard_normal((rows, cols), dtype=np.float32) * 0.02).astype(np.float16))


(q4 if head_q4 else f16)("token_embd.weight", vocab, hidden)
if not tied:
    (q4 if head_q4 else f16)("output.weight", vocab, hidden)
w.add_tensor("output_norm.weight", np.ones(hidden, np.float32))
kv = hidden // heads * kv_heads
for i in range(layers):
    at = f"blk.{i}."
    w.add_tensor(at + "attn_norm.weight", np.ones(hidden, np.float32))
    w.add_tensor(at + "ffn_norm.weight", np.ones(hidden, np.float32))
    for name, rows, cols in [("attn_q", hidden, hidden), ("attn_k", kv, hidden), ("attn_v", kv, hidden), ("attn_output", hidden, hidden),
                             ("ffn_gate", ffn, hidden), ("ffn_up", ffn, hidden), ("ffn_down", hidden, ffn)]:
        q4(at + name + ".weight", rows, cols)
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
