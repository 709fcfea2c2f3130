"""Random noise instead of a delta.

    gaussian        δ = z,  z ~ N(0, σ² I)                      σ = 1
    matched-noise   δ = ‖δ_own‖ z / ‖z‖                         as long as an honest delta: only its direction is wrong

arXiv 1703.02757 (Krum), section 2.2: the arbitrary vector. FLPoison's `noise_std` is 1, whatever the model's scale: a
thousand times a fine-tuned model's usual change. The second has no counterpart there; it is what norms do not tell.
"""

from __future__ import annotations

import numpy as np

from coldfuse.simulation.attacks.attack import Knowledge, Rows


def gaussian(known: Knowledge, *, deviation: float = 1.0) -> Rows:
    """Return noise of this standard deviation."""
    return known.rng().standard_normal(known.own_FN.shape, np.float32) * np.float32(deviation)


def matched_noise(known: Knowledge) -> Rows:
    """Return noise that is as long as each one's own delta."""
    noise_FN = gaussian(known)
    lengths_F = np.linalg.norm(known.own_FN, axis=1) / np.maximum(np.linalg.norm(noise_FN, axis=1), 1e-30)
    matched_FN: Rows = noise_FN * lengths_F[:, None].astype(np.float32)
    return matched_FN
