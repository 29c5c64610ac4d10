"""Round-to-nearest 4-bit quantisation into the AutoGPTQ tensor layout, and back: an independent statement of the format."""
import numpy as np


def groups_of(cols, group_size):
    return 1 if group_size == -1 else -(-cols // group_size)


def quantise(weight, group_size, sym=True, act_order=None, scale_dtype=np.float16, extreme_zeros=False):
    """weight [rows, cols] float32. Returns q [rows, cols], zero [groups, rows] (true zero points), scale [groups, rows], g_idx [cols].
    act_order: a permutation of the columns; position p of it belongs to group p // group_size."""
    rows, cols = weight.shape
    size = cols if group_size == -1 else group_size
    g_idx = np.empty(cols, np.int32)
    g_idx[np.arange(cols) if act_order is None else act_order] = np.arange(cols) // size
    n = groups_of(cols, group_size)
    q = np.empty((rows, cols), np.int64)
    zero = np.empty((n, rows), np.int64)
    scale = np.empty((n, rows), np.float32)
    for g in range(n):
        w = weight[:, g_idx == g].astype(np.float64)
        if sym:
            s = np.abs(w).max(1) / 7.5 + 1e-8
            z = np.full(rows, 8)
        else:
            low, high = np.minimum(w.min(1), 0), np.maximum(w.max(1), 0)
            s = (high - low) / 15 + 1e-8
            z = np.clip(np.round(-low / s), 0, 15).astype(np.int64)
            if extreme_zeros:  # every zero point that v1 can store, 16 (stored 15) included
                z = (np.arange(rows) + g) % 16 + 1
        s = s.astype(scale_dtype).astype(np.float32) if scale_dtype != 'bf16' else to_bf16(s.astype(np.float32))
        q[:, g_idx == g] = np.clip(np.round(w / s[:, None]) + z[:, None], 0, 15)
        zero[g], scale[g] = z, s
    return q, zero, scale, g_idx


def to_bf16(x):
    bits = x.view(np.uint32).astype(np.uint64)
    return (((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) << 16).astype(np.uint32).view(np.float32)


def dequantise(q, zero, scale, g_idx):
    return scale.T[:, g_idx].astype(np.float64) * (q - zero.T[:, g_idx])


def pack(q, zero, v2=False):
    """qweight [cols / 8, rows], qzeros [groups, rows / 8], both int32."""
    rows, cols = q.shape
    qweight = np.zeros((cols // 8, rows), np.uint64)
    for i in range(8):
        qweight |= q.T[i::8].astype(np.uint64) << np.uint64(4 * i)
    stored = (zero if v2 else zero - 1) & 15  # field by field: nothing borrows from a neighbour
    qzeros = np.zeros((zero.shape[0], rows // 8), np.uint64)
    for i in range(8):
        qzeros |= stored[:, i::8].astype(np.uint64) << np.uint64(4 * i)
    return qweight.astype(np.uint32).view(np.int32), qzeros.astype(np.uint32).view(np.int32)


def self_test():
    """The worked example of the format's description: q = 0..7, symmetric, scale 0.5."""
    q = np.arange(8)[None, :].repeat(8, 0)
    zero, scale = np.full((1, 8), 8), np.full((1, 8), 0.5, np.float32)
    words, zeros = pack(q, zero)
    assert words.view(np.uint32)[0, 0] == 0x76543210 and zeros.view(np.uint32)[0, 0] == 0x77777777
    assert pack(q, zero, v2=True)[1].view(np.uint32)[0, 0] == 0x88888888
    assert dequantise(q, zero, scale, np.zeros(8, int))[0].tolist() == [-4, -3.5, -3, -2.5, -2, -1.5, -1, -0.5]


self_test()
