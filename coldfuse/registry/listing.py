"""For how long a list of what a round has received counts."""

from __future__ import annotations

from dataclasses import dataclass

_S_PER_PAGE = 0.5
"""Seconds for which a listing of an open round counts, for each page of it after the first. So a round of ten thousand
is listed every five seconds, and what listing costs does not grow with the square of the contributors."""

_PAGE_KEYS = 1000


@dataclass(frozen=True)
class Listing:
    """When the `received` entries were listed, and how many keys that brought."""

    began_s: float = float("-inf")
    num_leader: int = 0
    num_keys: int = 0

    @property
    def num_seconds_good(self) -> float:
        """Seconds for which it counts while the round is open."""
        return _S_PER_PAGE * (self.num_keys // _PAGE_KEYS)
