"""Move the base along a fused delta."""

from __future__ import annotations

import numpy as np

from coldfuse.core.dtypes import Floats, Raw, from_floats, to_floats
from coldfuse.errors import FusionError
from coldfuse.fusion.block import Float64
from coldfuse.fusion.kernels import add

ROUNDED = 2.0**-7
"""Share of a change that its dtype may have rounded away, and more: BF16 has 8 bits."""


def move(base: Raw, delta: Float64, dtype: str, *, out: Raw | None = None) -> Raw:
    """Return θ_{t+1} = θ_t + δ as raw elements of `dtype` (in `out`, if given), added in float64 and rounded once.

    Where δ is 0 the base's own bytes stay: −0 + 0 would be +0. Raises `FusionError` where the sum leaves the
    dtype's range.
    """
    fused = np.empty_like(base) if out is None else out
    if not add(base, delta, dtype, fused):
        values, results = to_floats(base, dtype), to_floats(fused, dtype)
        if (np.isfinite(values) & ~np.isfinite(results)).any():
            raise FusionError(f"the fused values do not fit into {dtype}; a contribution is far too large")
    return fused


def surely_finite(values: Floats) -> bool:
    """Test a whole block cheaply: one NaN or infinity makes the sum one. False: look closer, float64 may overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum(dtype=np.float64)))


def is_variance_name(tensor: str) -> bool:
    """Tell by a tensor's name whether it is the running variance of a BatchNorm.

    >>> is_variance_name("bn1.running_var"), is_variance_name("bn1.running_mean")
    (True, False)
    """
    return tensor.endswith("running_var")


def lift_variance(base: Raw, fused: Raw, dtype: str) -> None:
    """Set to 0 what rounding has left below 0 of a running variance, in place.

    Raises:
        FusionError: It is negative by more than that.
    """
    values = to_floats(fused, dtype)
    if not (values < 0).any():
        return
    if (values < -2 * ROUNDED * np.abs(to_floats(base, dtype))).any():
        raise FusionError("the fused variance is negative, so the model would answer NaN; take a method that averages")
    fused[:] = from_floats(np.where(values < 0, 0.0, values), dtype)
