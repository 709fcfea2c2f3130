"""Who harms: the smallest set of contributions without which a round's model passes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import combinations

from coldfuse.core.attribution import SpentError, Value, Valued, leave_one_out

MAX_CALLS = 64
"""Number of sets that are valued by default: fusions and forward passes."""

_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class Harm:
    """What a search for harmful contributions has found."""

    harmful: tuple[str, ...]
    """Contributions without which the model passes, sorted; empty where none were found, or none had to be."""
    is_found: bool
    """True where the model passes without these."""
    num_calls: int
    """Number of sets that were valued."""
    num_asked: int
    """Number of sets of which was asked whether they pass."""
    reason: str
    """What was found, for people."""


def who_harms(
    names: Collection[str],
    value: Value,
    *,
    passes: Callable[[frozenset[str]], bool],
    min_kept: int = 1,
    max_calls: int = MAX_CALLS,
    max_asks: int | None = None,
) -> Harm:
    """Search the smallest set of contributions without which the rest passes; of several the best.

    Sets are tried by size: valued, those first whose members are each worth least, and then asked about, best first. So
    a pair that harms only together is found, too, and one whose harm the value does not show, while the bounds last.

    >>> found = who_harms("abc", lambda kept: -float("b" in kept), passes=lambda kept: "b" not in kept)
    >>> found.harmful, found.num_calls, found.num_asked
    (('b',), 4, 2)

    Args:
        names: The contributions.
        value: Worth of each set that is kept, such as a score of its model.
        passes: Whether the model of such a set would be published. It may ask evaluators, who answer few questions, and
            raise `SpentError` when they answer no more.
        min_kept: Number of contributions that have to be left: a round's quorum, or fewer.
        max_calls: Number of sets that may be valued.
        max_asks: Number of sets that may be asked about; None: any.

    Raises:
        FusionError: A value is no finite number.
    """
    everybody, worth = frozenset(names), Valued(value, max_calls=max_calls)
    asking = _Asking(passes, max_asks)
    try:
        if asking(everybody):
            return _found(worth, asking, (), "all pass together")
        parts = leave_one_out(everybody, worth).worth
        suspects = sorted(everybody, key=lambda name: (parts[name], name))
        for size in range(1, len(suspects) - max(min_kept, 0) + 1):
            for removed in _best_first(suspects, size, worth):
                if asking(everybody - set(removed)):
                    gain = worth(everybody - set(removed)) - worth(everybody)
                    told = ", ".join(removed[:_NAMED]) + (f" and {size - _NAMED} more" if size > _NAMED else "")
                    return _found(worth, asking, removed, f"without {told} it passes, and is worth {gain:+.3g}")
    except SpentError as error:
        return _unknown(worth, asking, f"nobody found: {error}")
    return _unknown(worth, asking, f"nobody found: without any {len(everybody) - min_kept} or fewer it fails, too")


class _Asking:
    """Questions whether a set passes, counted and bounded."""

    def __init__(self, passes: Callable[[frozenset[str]], bool], max_asks: int | None) -> None:
        self._passes = passes
        self._max_asks = max_asks
        self.num_asked = 0

    def __call__(self, kept: frozenset[str]) -> bool:
        if self._max_asks is not None and self.num_asked >= self._max_asks:
            raise SpentError(f"{self._max_asks} sets of contributions were evaluated; ask more often, or keep the base")
        self.num_asked += 1
        return self._passes(kept)


def _best_first(suspects: list[str], size: int, worth: Valued) -> Iterator[tuple[str, ...]]:
    """Yield what might be left out, best first; of what is known, once no more may be valued."""
    everybody = frozenset(suspects)
    found: list[tuple[float, tuple[str, ...]]] = []
    spent: SpentError | None = None
    for removed in combinations(suspects, size):
        try:
            found.append((-worth(everybody - set(removed)), tuple(sorted(removed))))
        except SpentError as error:
            spent = error
            break
    for _, removed in sorted(found):
        yield removed
    if spent is not None:
        raise spent


def _found(worth: Valued, asking: _Asking, harmful: tuple[str, ...], reason: str) -> Harm:
    return Harm(
        harmful=harmful, is_found=True, num_calls=worth.num_calls, num_asked=asking.num_asked, reason=reason
    )  # fmt: skip


def _unknown(worth: Valued, asking: _Asking, reason: str) -> Harm:
    return Harm(
        harmful=(), is_found=False, num_calls=worth.num_calls, num_asked=asking.num_asked, reason=reason
    )  # fmt: skip
