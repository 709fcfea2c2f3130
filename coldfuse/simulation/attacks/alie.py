"""A little is enough: hide inside the benign deltas' spread, element by element.

    δ = μ + z σ        μ, σ: mean and standard deviation over the benign deltas
    z = Φ⁻¹((n − f − s) / (n − f)),    s = ⌊n/2 + 1⌋ − f

arXiv 1902.06156, algorithm 3: z is the largest shift that leaves s benign contributors further out, who then vote with
the hostile ones. For few contributors z is 0 (n = 8, f = 2; n = 5, f = 1): there the attack sends the mean. The
paper's experiments take z = 1.5.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from coldfuse.simulation.attacks.attack import Knowledge, Rows

_BLOCK = 1 << 20
"""Elements that are worked on at a time, in float64."""


def largest_shift(num_contributors: int, num_hostile: int) -> float:
    """Return z, which is 0 where the formula gives less.

    >>> round(largest_shift(50, 12), 3), largest_shift(8, 2), largest_shift(5, 1)
    (0.336, 0.0, 0.0)
    """
    benign = num_contributors - num_hostile
    supporters = math.floor(num_contributors / 2 + 1) - num_hostile
    share = (benign - supporters) / benign
    return max(NormalDist().inv_cdf(share), 0.0) if 0 < share < 1 else 0.0


def alie(known: Knowledge, *, z: float | None = None) -> Rows:
    """Return the shifted mean, for everybody; `z` is that of n and f if not given."""
    shift = largest_shift(known.num_contributors, known.num_hostile) if z is None else z
    sent_N = np.empty(known.benign_CN.shape[1], np.float32)
    for first in range(0, len(sent_N), _BLOCK):
        block_CN = known.benign_CN[:, first : first + _BLOCK].astype(np.float64)
        sent_N[first : first + _BLOCK] = block_CN.mean(axis=0) + shift * block_CN.std(axis=0)
    return known.all_send(sent_N)
