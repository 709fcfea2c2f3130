"""An honest delta, turned or stretched.

sign-flip   δ = −δ_own              Damaskinos et al., ICML 2018 (FLPoison `SignFlipping`)
scaling     δ = k δ_own,  k = 10    the scaling of arXiv 1807.00459 without its back door
"""

from __future__ import annotations

import numpy as np

from coldfuse.simulation.attacks.attack import Knowledge, Rows


def sign_flip(known: Knowledge) -> Rows:
    """Return each one's own delta, backwards."""
    return -known.own_FN


def scaling(known: Knowledge, *, factor: float = 10.0) -> Rows:
    """Return each one's own delta, so many times as long."""
    return known.own_FN * np.float32(factor)
