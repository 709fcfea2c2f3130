"""Whether a delta is a copy of another's: the same, or the same scaled, turned round or covered with noise.

Deltas are not read again for it. While one is screened, its random projection to a few numbers is kept, its sketch:
projections of a delta and of its copy point the same way however the copy was scaled, and those of deltas that differ
almost never do (32 numbers of two deltas with a cosine of 0.9 have one above 0.999 once in more than 10^15 pairs). Who
makes copies cannot aim past it, because the projection's seed is a secret of the round.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.contribution import Admission
from coldfuse.core.screening_rules import ScreeningRules

SKETCH_SIZE = 32
"""Number of numbers in a sketch."""

_ALIKE = 0.9
"""Cosine above which people are told that two deltas resemble each other."""

_FEWEST_CHANGED = 2 * SKETCH_SIZE
"""Number of changed elements below which a sketch says too little: two deltas of one element always point one way."""


class Known:
    """The deltas that a round knows, among which copies are looked for."""

    def __init__(self, admissions: Iterable[Admission], *, rules: ScreeningRules) -> None:
        """Take what came before, in the order in which it came."""
        self._rules = rules
        self._digests: dict[str, str] = {}
        self._sketched: list[Admission] = []
        self._rows: NDArray[np.float32] = np.empty((64, SKETCH_SIZE), np.float32)
        for admission in admissions:
            self.add(admission)

    def add(self, admission: Admission) -> None:
        """Remember one more."""
        self._digests.setdefault(admission.delta_digest, admission.contribution)
        if (row := _direction(admission)) is None:
            return
        if len(self._sketched) == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._rows[len(self._sketched)] = row
        self._sketched.append(admission)

    def why_copy(self, admission: Admission) -> str | None:
        """Return of which contribution this one is a copy, as a sentence; None if it is none."""
        if (first := self._digests.get(admission.delta_digest)) is not None:
            return f"its delta is that of contribution {first[:12]}, which came before it{_ADVICE}"
        like, cosine = self._closest(admission)
        if abs(cosine) <= self._rules.min_cosine:
            return None
        how = "the same way as" if cosine > 0 else "exactly against"
        return (
            f"its delta points {how} that of contribution {like}, which came before it (cosine {cosine:.4f}): a copy, "
            f"whatever its length{_ADVICE}"
        )

    def why_alike(self, admission: Admission) -> str | None:
        """Return which contribution this one resembles, for people to look at: like tasks make like deltas, too."""
        like, cosine = self._closest(admission)
        return f"it resembles contribution {like} (cosine {cosine:.2f})" if abs(cosine) > _ALIKE else None

    def _closest(self, admission: Admission) -> tuple[str, float]:
        """Return the contribution whose delta points most in one's way, or against it, and the cosine; 0 for none."""
        row = _direction(admission)
        if row is None or not self._sketched:
            return "", 0.0
        cosines = self._rows[: len(self._sketched)] @ row
        best = int(np.argmax(np.abs(cosines)))
        return self._sketched[best].contribution[:12], float(cosines[best])


_ADVICE = "; what is trained counts once. If the other one copied yours, tell the operator, who can quarantine it"


def _direction(admission: Admission) -> NDArray[np.float32] | None:
    """Return a delta's sketch at length 1; None if it has none, or one that says too little."""
    measured = admission.measured
    if measured is None or measured.num_changed < _FEWEST_CHANGED or len(measured.sketch) != 2 * SKETCH_SIZE:
        return None
    row = np.frombuffer(bytes.fromhex(measured.sketch), np.int8).astype(np.float32)
    length = float(np.sqrt(row @ row))
    return row / np.float32(length) if length else None
