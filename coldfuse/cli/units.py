"""Durations and sizes as people write them."""

from __future__ import annotations

import re

from coldfuse.errors import UserInputError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}


def parse_duration(text: str) -> float:
    """Return seconds.

    >>> parse_duration("90s"), parse_duration("15m"), parse_duration("2h")
    (90.0, 900.0, 7200.0)
    """
    return _parse(text, _SECONDS, "a duration such as 90s, 15m or 2h")


def parse_size(text: str) -> int:
    """Return bytes.

    >>> parse_size("2GiB"), parse_size("512MB")
    (2147483648, 512000000)
    """
    return int(_parse(text, _BYTES, "a size such as 512MiB or 2GB"))


def _parse(text: str, units: dict[str, int], expected: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", text.strip())
    value = float(match[1]) * units[match[2]] if match and match[2] in units else 0.0
    if value <= 0:
        raise UserInputError(f"{text!r}: expected {expected}")
    return value
