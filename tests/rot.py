"""Rot: what a disk or a line does to objects of a store in a folder, and federations large enough to show it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from tiny_rounds import Model, floats, make_model

from coldfuse.registry.federation import Federation
from coldfuse.tensors.stores import federation_store, store_at

HOW = ("flipped", "cut", "empty", "missing")


def large_model(seed: int = 0) -> Model:
    """Make a model with a tensor that is verified in many pieces, and small ones."""
    values = np.random.default_rng(seed).normal(size=(30_000, 8))
    return make_model(seed) | {"embeddings.weight": floats(values)}


def rot(federation: Federation, key: str, how: str, *, at: float = 0.5) -> None:
    """Damage an object where it lies, past the store.

    Args:
        federation: The federation, in a folder.
        key: The object's key.
        how: One of `HOW`.
        at: Where in it a bit flips, as a fraction of its size.
    """
    store_at.cache_clear()  # as another process finds it: this one has files open
    federation_store.cache_clear()
    path = Path(federation.store.url) / key
    if how == "missing":
        path.unlink()
        return
    data = bytearray(path.read_bytes())
    os.chmod(path, 0o644)
    match how:
        case "flipped":
            data[int(len(data) * at)] ^= 4
        case "cut":
            data = data[: len(data) // 2]
        case "empty":
            data = bytearray()
    path.write_bytes(data)  # in place: a process that has the file open sees it, too
