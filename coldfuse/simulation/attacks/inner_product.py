"""Inner product manipulation: make the fused delta point away from the benign mean.

    δ = −ε μ,  ε = 0.1        μ: mean of the benign deltas

arXiv 1903.03936. A small ε passes for a contribution that is merely small; FLPoison's `scaling_factor` is 0.1.
"""

from __future__ import annotations

import numpy as np

from coldfuse.simulation.attacks.attack import Knowledge, Rows


def ipm(known: Knowledge, *, scale: float = 0.1) -> Rows:
    """Return the benign mean, backwards and scaled, for everybody."""
    return known.all_send(known.benign_CN.mean(axis=0, dtype=np.float64) * -scale)
