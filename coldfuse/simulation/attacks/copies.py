"""Deltas that say nothing new: they take a place, a weight and a share of the quorum.

mimic         δ = δ_1                        arXiv 2006.09365 (bucketing), section 3; FLPoison's `choice` is 0
near-copies   δ = δ_1 + ε ‖δ_1‖ z / ‖z‖      ε = 0.001: no two are alike byte for byte
zeros         δ = 0
"""

from __future__ import annotations

import numpy as np

from coldfuse.simulation.attacks.attack import Knowledge, Rows


def mimic(known: Knowledge) -> Rows:
    """Return the first benign delta, for everybody."""
    return known.all_send(known.benign_CN[0])


def near_copies(known: Knowledge, *, noise: float = 1e-3) -> Rows:
    """Return the first benign delta with a little noise, other noise for each."""
    noise_FN = known.rng().standard_normal(known.own_FN.shape, np.float32)
    length = noise * np.linalg.norm(known.benign_CN[0])
    scale_F = (length / np.maximum(np.linalg.norm(noise_FN, axis=1), 1e-30)).astype(np.float32)
    copies_FN: Rows = known.benign_CN[0] + noise_FN * scale_F[:, None]
    return copies_FN


def zeros(known: Knowledge) -> Rows:
    """Return deltas that change nothing."""
    return np.zeros_like(known.own_FN)
