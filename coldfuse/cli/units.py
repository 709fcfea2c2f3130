"""Durations and sizes as people write them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from coldfuse.errors import UserInputError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"b": 1} | {
    f"{letter}{ending}": factor**power
    for power, letter in enumerate("kmgt", start=1)
    for ending, factor in {"": 1000, "b": 1000, "i": 1024, "ib": 1024}.items()
}
"""By units in lower case: 2GB or 2G is decimal, 2GiB or 2Gi binary, however the letters are written."""


def parse_duration(text: str, *, may_be_zero: bool = False) -> float:
    """Return seconds.

    >>> parse_duration("90s"), parse_duration("15m"), parse_duration("2h")
    (90.0, 900.0, 7200.0)

    Args:
        text: What somebody wrote.
        may_be_zero: True where no time at all is a duration, too.
    """
    if may_be_zero and re.fullmatch(r"0+(\.0+)?\s*[smhd]", text.strip()):
        return 0.0
    return _parse(text, _SECONDS, "a duration such as 90s, 15m or 2h", given=text)


def parse_size(text: str) -> int:
    """Return bytes.

    >>> parse_size("2GiB"), parse_size("512MB"), parse_size("1gb"), parse_size("1Gi")
    (2147483648, 512000000, 1000000000, 1073741824)
    """
    return int(_parse(text.lower(), _BYTES, "a size such as 512MiB or 2GB", given=text))


def _parse(text: str, units: Mapping[str, int], expected: str, *, given: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", text.strip())
    value = float(match[1]) * units[match[2]] if match and match[2] in units else 0.0
    if not 0 < value < math.inf:
        raise UserInputError(f"{given!r}: expected {expected}")
    return value
