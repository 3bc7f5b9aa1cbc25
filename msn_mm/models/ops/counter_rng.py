"""Counter-based random numbers: a pure function of (key, stream, counter).

A generator with state gives each image numbers that depend on which images
came before it, on its rank and on its device. Here every number is a hash of
the image's own key, in integer arithmetic that is the same on every device, so
a mask or a dropped residual branch follows the image wherever it is computed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MASK32 = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9  # 2^32 / golden ratio: spreads consecutive counters over the range


def _mix(x: Tensor) -> Tensor:
    """MurmurHash3's 32-bit finalizer on int64 tensors that hold values below 2^32.

    Source: https://github.com/aappleby/smhasher/wiki/MurmurHash3 (``fmix32``). The
    products wrap modulo 2^64, which leaves their low 32 bits exact.
    """
    x = x ^ (x >> 16)
    x = (x * 0x85EBCA6B) & _MASK32
    x = x ^ (x >> 13)
    x = (x * 0xC2B2AE35) & _MASK32
    return x ^ (x >> 16)


def uniform(keys: Tensor, stream: int, n: int) -> Tensor:
    """Draw ``n`` numbers a key.

    Args:
        keys: ``(B,)`` int64, one key an image; the low 32 bits count.
        stream: Which independent sequence of the key to draw from (one use, one stream).
        n: Numbers a key.

    Returns:
        ``(B, n)`` float32 in [0, 1), multiples of 2^-24.
    """
    counter = torch.arange(1, n + 1, device=keys.device, dtype=torch.int64)
    base = _mix((keys.long() & _MASK32) ^ ((stream * _GOLDEN) & _MASK32))
    bits = _mix((base[:, None] + counter * _GOLDEN) & _MASK32)
    # A second round with the key decorrelates keys whose first hashes are a
    # multiple of the counter's step apart.
    bits = _mix(bits ^ _mix((keys.long()[:, None] + stream) & _MASK32))
    return (bits >> 8).to(torch.float32) * 2.0**-24


def normal(keys: Tensor, stream: int, n: int) -> Tensor:
    """Draw ``n`` standard normal numbers a key.

    Each pair comes from two uniform numbers by the transform of Box and Muller (1958).
    The largest magnitude is 5.8.

    Args:
        keys: As for :func:`uniform`.
        stream: As for :func:`uniform`.
        n: Numbers a key.

    Returns:
        ``(B, n)`` float32.
    """
    radius, angle = uniform(keys, stream, n + n % 2).chunk(2, dim=1)
    radius = (-2.0 * torch.log1p(-radius)).sqrt()
    angle = 2.0 * math.pi * angle
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :n]
