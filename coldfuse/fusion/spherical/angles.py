"""Angles, sines and cosines with the same bits on every machine; a library's differ in the last bit between processors.

Only +, −, ×, ÷ and √ are used, which IEEE 754 rounds in one way. Exact to a few units in the last place.
"""

from __future__ import annotations

import math
from typing import Any

from coldfuse.fusion.compiling import compiled

_SINE = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(13))
_ARC_TANGENT = tuple((-1) ** k / (2 * k + 1) for k in range(13))


@compiled
def sine(x: Any) -> Any:
    """Return sin x, from its series around the nearest multiple of π."""
    turns = math.floor(x / math.pi + 0.5)
    rest = x - turns * math.pi
    value = rest * _series(_SINE, rest * rest)
    return value if turns % 2 == 0 else -value


@compiled
def cosine(x: Any) -> Any:
    """Return cos x."""
    return sine(x + math.pi / 2)


@compiled
def angle(cosine: Any) -> Any:
    """Return the angle between 0 and π that has this cosine.

    With x = tan(angle / 2), halved twice by tan(φ/2) = tan φ / (1 + √(1 + tan² φ)) for the series of the arc tangent.
    """
    sharp = min(1.0, abs(cosine))
    x = math.sqrt((1.0 - sharp) / (1.0 + sharp))
    for _ in range(2):
        x = x / (1.0 + math.sqrt(1.0 + x * x))
    acute = 8.0 * x * _series(_ARC_TANGENT, x * x)
    return acute if cosine >= 0 else math.pi - acute


@compiled
def arc(cosine: Any, a: Any, b: Any) -> Any:
    """Return sin(a ω) / sin ω and sin(b ω) / sin ω, the parts of an arc's two ends, where ω is the arc's angle."""
    omega = angle(cosine)
    whole = sine(omega)
    return sine(a * omega) / whole, sine(b * omega) / whole


@compiled
def _series(coefficients: Any, x: Any) -> Any:
    """Return Σ_k c_k x^k."""
    value = 0.0
    for k in range(12, -1, -1):
        value = coefficients[k] + x * value
    return value
