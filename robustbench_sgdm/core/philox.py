"""Philox4x32-10, the counter-based generator of Salmon et al. 2011 ("Parallel random numbers: as easy as 1, 2, 3").

A word is a function of a key and a counter, computed in integers alone: a loop on the CPU and tensor operations on
any other device give the same words, in any order.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.core.numba_utils import compiled
from robustbench_sgdm.core.transfer import to_device

_ROUNDS = 10
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_STEP_0, _STEP_1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)  # of the key, from round to round
_HALF = np.uint64(32)
_MASK = 0xFFFFFFFF
_AT_ONCE = 2**22  # blocks in tensors, of 32 MB a word


def random_words(keys: Sequence[int], draw: int, count: int, device: torch.device) -> Tensor:
    """The words of one draw under each key.

    Args:
        keys: of 64 bits, one per row.
        draw: the number of the draw, below 2^32; another one gives other words.
        count: how many words, at most 2^34.
        device: where they land.

    Returns:
        int32 (len(keys), count), every one of its 2^32 values alike. The four words of a block lie a quarter of the
        row apart, so that both forms write them side by side.
    """
    if not keys or device.type == "cpu":
        return to_device(host_words(keys, draw, count), device)
    blocks = -(-count // 4)
    rows = max(1, _AT_ONCE // max(blocks, 1))
    parts = (keys[i : i + rows] for i in range(0, len(keys), rows))
    return torch.cat([words_by_tensors(part, draw, blocks, device) for part in parts])[:, :count]


def host_words(keys: Sequence[int], draw: int, count: int) -> NDArray[np.int32]:
    """`random_words` on the host."""
    out = np.empty((len(keys), -(-count // 4) * 4), np.uint32)
    for row, key in zip(out, keys, strict=True):
        _fill(row, np.uint32(key & _MASK), np.uint32(key >> 32), np.uint32(draw))
    return out.view(np.int32)[:, :count]


@compiled
def _fill(out: NDArray[np.uint32], low: np.uint32, high: np.uint32, draw: np.uint32) -> None:
    blocks = out.size // 4
    for i in range(blocks):
        c0, c1, c2, c3 = np.uint32(i), np.uint32(0), draw, np.uint32(0)
        k0, k1 = low, high
        for _ in range(_ROUNDS):
            product_0, product_1 = _MULTIPLIER_0 * np.uint64(c0), _MULTIPLIER_1 * np.uint64(c2)
            c0 = np.uint32(product_1 >> _HALF) ^ c1 ^ k0
            c2 = np.uint32(product_0 >> _HALF) ^ c3 ^ k1
            c1, c3 = np.uint32(product_1), np.uint32(product_0)
            k0, k1 = np.uint32(k0 + _STEP_0), np.uint32(k1 + _STEP_1)
        out[i], out[blocks + i] = c0, c1
        out[2 * blocks + i], out[3 * blocks + i] = c2, c3


def words_by_tensors(keys: Sequence[int], draw: int, blocks: int, device: torch.device) -> Tensor:
    """`random_words` in tensor operations: int32 (len(keys), 4 blocks)."""
    halves = np.array([[k & _MASK, k >> 32] for k in keys], np.int64)
    low, high = to_device(halves, device).view(-1, 2, 1).unbind(1)
    c0 = torch.arange(blocks, device=device).expand(len(keys), blocks)
    c1, c2, c3 = torch.zeros_like(c0), torch.full_like(c0, draw), torch.zeros_like(c0)
    for _ in range(_ROUNDS):
        # The products wrap around in int64; their 64 bits are right all the same.
        product_0, product_1 = c0 * int(_MULTIPLIER_0), c2 * int(_MULTIPLIER_1)
        c0 = (product_1 >> 32 & _MASK) ^ c1 ^ low
        c2 = (product_0 >> 32 & _MASK) ^ c3 ^ high
        c1, c3 = product_1 & _MASK, product_0 & _MASK
        low, high = low + int(_STEP_0) & _MASK, high + int(_STEP_1) & _MASK
    words = torch.cat([c0, c1, c2, c3], 1)
    return torch.where(words < 2**31, words, words - 2**32).int()
