"""exp and tanh from additions, multiplications and divisions alone.

A library's last bit differs between versions and processors; these give the same bits everywhere. For other kernels;
without branches, so that a loop over elements can be vectorised.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from coldfuse.fusion.compiling import compiled

_LOG2E = 1.4426950408889634
_LN2_HIGH = 0.6931471803691238
_LN2_LOW = 1.9082149292705877e-10
_DEGREE = 14
_INVERSES = (0.0, *(1.0 / i for i in range(1, _DEGREE + 1)))
_LARGEST_POWER = 1020
_POWERS = np.array([2.0**n for n in range(-_LARGEST_POWER, _LARGEST_POWER + 1)])


@compiled
def exp(x: Any) -> Any:
    """Return e^x within a few units of the last place, for |x| up to 700."""
    power, rest = _split(x)
    return power + power * rest


@compiled
def tanh(x: Any) -> Any:
    """Return tanh x = (e^2|x| − 1) / (e^2|x| + 1) sgn x within a few units of the last place."""
    power, rest = _split(2.0 * min(abs(x), 20.0))
    growth = power * rest + (power - 1.0)
    size = np.divide(growth, growth + 2.0)
    return size if x > 0.0 else -size


@compiled
def _split(x: Any) -> Any:
    """Return 2^n and e^r − 1 = r (1 + r/2 (1 + r/3 (…))) for x = n ln 2 + r, |r| ≤ ln 2 / 2."""
    n = math.floor(x * _LOG2E + 0.5)
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    series = 1.0
    for i in range(_DEGREE, 1, -1):
        series = 1.0 + series * (r * _INVERSES[i])
    return _POWERS[int(n) + _LARGEST_POWER], series * r
