"""Random numbers that depend on where they are used, and on nothing else: not on order, threads or block sizes.

Element n of a tensor gets SplitMix64's n-th output (Steele, Lea & Flood 2014, doi 10.1145/2660193.2660195) for a key
that is hashed from round, contribution and tensor. So a mask can be made again anywhere, for any run of elements.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from coldfuse.fusion.block import Float64
from coldfuse.fusion.compiling import compiled

_STEP, _FIRST_FACTOR, _SECOND_FACTOR = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""SplitMix64's constants."""


def key(seed: str, contribution: str, tensor: str) -> np.uint64:
    """Hash what the numbers shall depend on."""
    digest = hashlib.sha256(f"{seed}\0{contribution}\0{tensor}".encode()).digest()
    return np.uint64(int.from_bytes(digest[:8], "little"))


def uniform(key: np.uint64, first: int, count: int) -> Float64:
    """Return numbers of [0, 1), 53 random bits each, for elements `first` to `first + count`."""
    out = np.empty(count)
    _uniform(np.uint64(key), np.uint64(first), out)
    return out


@compiled
def splitmix64(key: Any, n: Any) -> Any:
    """Return SplitMix64's n-th output, counted from 0, for the seed `key`. For other kernels."""
    z = np.uint64(key + (n + np.uint64(1)) * np.uint64(_STEP))
    z = np.uint64((z ^ (z >> np.uint64(30))) * np.uint64(_FIRST_FACTOR))
    z = np.uint64((z ^ (z >> np.uint64(27))) * np.uint64(_SECOND_FACTOR))
    return np.uint64(z ^ (z >> np.uint64(31)))


@compiled
def _uniform(key: Any, first: Any, out: Any) -> None:
    for i in range(out.size):
        out[i] = np.float64(splitmix64(key, np.uint64(first + np.uint64(i))) >> np.uint64(11)) * 2.0**-53
