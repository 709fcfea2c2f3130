"""Whose contribution did it: leave-one-out and Shapley values over what subsets of a round's contributions are worth.

The value v(S) of a set S of contributions is a number such as a score of the model that is fused of S alone, v(∅) that
of the base. What one of n contributions is worth:

    leave-one-out   v(N) − v(N ∖ i)                                                 n + 1 sets
    Shapley         Σ_S |S|! (n − |S| − 1)! / n! · (v(S ∪ i) − v(S)), S without i   2ⁿ sets, up to `MAX_EXACT`
    GTG-Shapley     the mean of v(before i, and i) − v(before i) over sampled orders, cut off where the rest is worth
                    nothing (arXiv 2109.02053, algorithm 1)

Each set is valued once. The values come from an experiment: whoever gives the function says what a call costs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from coldfuse.errors import FusionError

Value = Callable[[frozenset[str]], float]
"""Worth of a set of contributions, higher is better."""

MAX_EXACT = 8
"""Number of contributions up to which Shapley values are computed from all subsets, 256 of them."""

EPSILON = 0.001
"""Worth of what is left of an order below which the rest is taken to add nothing."""

EPSILON_ROUND = 0.01
"""Worth of a whole round below which nobody's part of it is looked for."""

_MIN_ORDERS, _LAST, _CRITERION, _MOST = 30, 10, 0.05, 0.8
"""GTG-Shapley's own numbers: orders before it may end, means that are compared, how much they may differ on average,
and the largest number of orders as a share of all subsets."""

_TINY = 1e-12
_NAMED = 5


class SpentError(FusionError):
    """As many sets were valued as were allowed."""


class Valued:
    """A value function that remembers what it said, counts what it was asked, and stops at a bound.

    >>> worth = Valued(lambda names: float(len(names)), max_calls=2)
    >>> worth(["a"]), worth(["a", "a"]), worth.num_calls
    (1.0, 1.0, 1)
    """

    def __init__(self, value: Value, *, max_calls: int | None = None) -> None:
        """Remember nothing yet.

        Args:
            value: The function.
            max_calls: Number of different sets that may be valued; None: any.
        """
        self._value = value
        self._max_calls = max_calls
        self._known: dict[frozenset[str], float] = {}

    @property
    def num_calls(self) -> int:
        """Number of sets that were valued."""
        return len(self._known)

    def __call__(self, names: Collection[str]) -> float:
        """Return the worth of a set.

        Raises:
            SpentError: No further set may be valued.
            FusionError: The value is no finite number.
        """
        subset = frozenset(names)
        if subset not in self._known:
            if self._max_calls is not None and self.num_calls >= self._max_calls:
                raise SpentError(f"{self._max_calls} sets of contributions were valued; allow more, or take fewer")
            value = float(self._value(subset))
            if not math.isfinite(value):
                raise FusionError(f"the model of {_said(subset)} is worth {value}, expected a finite number")
            self._known[subset] = value
        return self._known[subset]


def _said(names: Collection[str]) -> str:
    """Return some of the names, for an error: there may be any number of them."""
    first = sorted(names)[:_NAMED]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(first)}{more}" if first else "no contribution"


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """What each contribution is worth, and how that was found."""

    worth: Mapping[str, float]
    """Part of v(N) − v(∅) by contribution, sorted by name; below 0 for what harms."""
    method: str
    """`leave-one-out`, `shapley` or `gtg-shapley`."""
    num_calls: int
    """Number of sets that were valued."""
    is_settled: bool
    """True where more samples would change little; always where none are drawn."""
    reason: str
    """How it was found, for people."""


def attribute(names: Collection[str], value: Value, *, seed: int = 0, max_calls: int | None = None) -> Attribution:
    """Return the Shapley value of each contribution, exactly for up to `MAX_EXACT`, else by GTG-Shapley.

    Args:
        names: The contributions.
        value: Worth of each set of them.
        seed: Seed of the orders that are sampled.
        max_calls: Number of sets that may be valued; None: as many as the method takes.

    Raises:
        SpentError: Fewer sets may be valued than the exact values need, or than one order.
        FusionError: A value is no finite number.
    """
    if len(set(names)) <= MAX_EXACT:
        return shapley(names, value, max_calls=max_calls)
    return gtg_shapley(names, value, seed=seed, max_calls=max_calls)


def leave_one_out(names: Collection[str], value: Value, *, max_calls: int | None = None) -> Attribution:
    """Return what is lost without each contribution; two that do the same are each worth nothing. See `attribute`.

    >>> dict(leave_one_out("ab", lambda names: float("a" in names)).worth)
    {'a': 1.0, 'b': 0.0}
    """
    worth, everybody = Valued(value, max_calls=max_calls), frozenset(names)
    parts = {name: worth(everybody) - worth(everybody - {name}) for name in sorted(everybody)}
    return Attribution(
        worth=parts, method="leave-one-out", num_calls=worth.num_calls, is_settled=True,
        reason=f"what is lost without each of {len(parts)}",
    )  # fmt: skip


def shapley(names: Collection[str], value: Value, *, max_calls: int | None = None) -> Attribution:
    """Return exact Shapley values from all subsets. See `attribute`.

    >>> dict(shapley("ab", lambda names: float(bool(names))).worth)
    {'a': 0.5, 'b': 0.5}
    """
    worth, everybody = Valued(value, max_calls=max_calls), sorted(set(names))
    num = len(everybody)
    parts = {}
    for name in everybody:
        others = [each for each in everybody if each != name]
        parts[name] = math.fsum(
            (worth((*subset, name)) - worth(subset)) / (num * math.comb(num - 1, size))
            for size in range(num)
            for subset in combinations(others, size)
        )
    return Attribution(
        worth=parts, method="shapley", num_calls=worth.num_calls, is_settled=True,
        reason=f"exact, from all {2**num} sets of {num}",
    )  # fmt: skip


def gtg_shapley(
    names: Collection[str], value: Value, *, seed: int = 0, max_calls: int | None = None, epsilon: float = EPSILON
) -> Attribution:
    """Return sampled Shapley values (arXiv 2109.02053): guided, truncated, reproducible. See `attribute`.

    Orders begin with each contribution in turn; in one the rest counts nothing once the set is worth v(N) up to
    `epsilon`. They end when ten means in a row agree, or at a bound: `is_settled` says which. Where a whole round is
    worth next to nothing, everybody's part is 0, though what helps may make up for what harms: that `who_harms` tells.
    """
    worth, everybody = Valued(value, max_calls=max_calls), sorted(set(names))
    num, whole = len(everybody), worth(names) - worth(())
    if num == 0 or abs(whole) <= EPSILON_ROUND:
        reason = f"the whole round is worth {whole:.2g}, at most {EPSILON_ROUND:g}: nobody's part of it is looked for"
        return _sampled(dict.fromkeys(everybody, 0.0), worth, is_settled=True, reason=reason)
    orders: list[list[float]] = []
    is_settled, most = False, _MOST * 2.0 ** min(num, 64)  # of more nobody comes to an end
    try:
        while not is_settled and len(orders) < most:
            marginal = _along(_order(everybody, len(orders), seed), worth, everybody, epsilon)
            orders.append([marginal.get(name, 0.0) for name in everybody])
            is_settled = len(orders) % num == 0 and _agree(orders)  # everybody has led equally often
    except SpentError:
        if not orders:
            raise
        orders = orders[: len(orders) // num * num] or orders
    parts = {
        name: math.fsum(column) / len(orders) for name, column in zip(everybody, zip(*orders, strict=True), strict=True)
    }
    ended = "" if is_settled else ", not settled yet"
    return _sampled(parts, worth, is_settled=is_settled, reason=f"the mean over {len(orders)} orders of {num}{ended}")


def _sampled(parts: Mapping[str, float], worth: Valued, *, is_settled: bool, reason: str) -> Attribution:
    return Attribution(
        worth=parts, method="gtg-shapley", num_calls=worth.num_calls, is_settled=is_settled, reason=reason
    )  # fmt: skip


def _order(names: Sequence[str], index: int, seed: int) -> list[str]:
    """Return an order that begins with the contribution whose turn it is, the others by a digest: no random state."""
    first = names[index % len(names)]
    rest = (name for name in names if name != first)
    return [first, *sorted(rest, key=lambda name: hashlib.sha256(f"{seed}\n{index}\n{name}".encode()).digest())]


def _along(order: Sequence[str], worth: Valued, everybody: Sequence[str], epsilon: float) -> dict[str, float]:
    """Return what each contribution adds along an order; those after the cut are left out."""
    whole, before, marginal = worth(everybody), worth(()), {}
    for place, name in enumerate(order):
        if abs(whole - before) < epsilon:
            break
        now = worth(order[: place + 1])
        marginal[name], before = now - before, now
    return marginal


def _agree(orders: Sequence[Sequence[float]]) -> bool:
    """Tell whether the last means differ little from the newest, relative to it and on average over contributions."""
    if len(orders) <= max(_MIN_ORDERS, len(orders[0])):
        return False
    counts = range(len(orders) - _LAST + 1, len(orders) + 1)
    means = [[math.fsum(column[:count]) / count for column in zip(*orders, strict=True)] for count in counts]
    newest = means[-1]
    return all(
        math.fsum(abs(a - b) / (abs(b) + _TINY) for a, b in zip(mean, newest, strict=True)) / len(newest) <= _CRITERION
        for mean in means
    )
