"""How long a delta may be, by the lengths of others of its kind, and how much a contribution may count.

A contributor's task and its number of steps decide how long its delta is, so honest lengths differ by small factors. A
delta is too long only where it is longer than the median by a factor *and* beyond the spread of the others: so the
lengths of honest ones may lie close together (a spread of 0) or far apart. Up to half of the others may lie without
moving either bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, median_low

from coldfuse.core.contribution import Measured
from coldfuse.core.screening_rules import ScreeningRules

MAX_PAST = 20
"""Number of past rounds whose median lengths are remembered."""

MAX_KINDS = 64
"""Number of kinds of which they are remembered: what it is of, a contributor says, and every release carries them."""

_FEWEST = 3
"""Number of contributions from which a first round is judged by itself: of two nobody can tell which one is odd."""


def longest_taken(lengths: Sequence[float], rules: ScreeningRules) -> float:
    """Return the longest delta that is taken beside others of its kind: a factor and a spread beyond their median.

    >>> longest_taken([1.0, 1.0, 1.0, 1.0, 1000.0], ScreeningRules())
    3.0
    >>> longest_taken([1.0, 2.0, 3.0, 4.0, 5.0], ScreeningRules())
    9.0
    """
    middle = median(lengths)
    spread = median([abs(length - middle) for length in lengths])
    return max(rules.factor * middle, middle + rules.spread * spread)


_OTHERS = 10.0
"""How many times longer than the longest of any kind a delta of a rare kind may be: a whole model changes more than its
biases alone, but not beyond that."""


@dataclass(frozen=True)
class Bounds:
    """How long a delta of one kind may be in a round, whole and in each group of layers."""

    count: int
    """Number of deltas that they follow from."""
    whole: tuple[float, float]
    """Median length, and the longest that is taken."""
    groups: tuple[tuple[float, float], ...]
    """The same for each group of layers."""

    @classmethod
    def of(cls, kind: Sequence[Measured], rules: ScreeningRules) -> Bounds | None:
        """Return the bounds that all deltas of a kind make for each of them; None where they are too few to tell."""
        if not rules.is_on or len(kind) < rules.enough:
            return None
        columns = zip(*(each.layers for each in kind), strict=False)
        return cls(
            len(kind),
            _bound([each.norm for each in kind], rules),
            tuple(_bound(lengths, rules) for lengths in columns),
        )

    def for_others(self) -> Bounds:
        """Return what bounds deltas of kinds that are too rare to tell: what kind it is, a contributor says."""
        return Bounds(self.count, (self.whole[0], _OTHERS * self.whole[1]), ())

    def why_too_long(self, measured: Measured, names: Sequence[str] = ()) -> str | None:
        """Return why a delta is an outlier among these, or None.

        A group of layers is looked at where it alone is longer than the median of whole deltas: what is small in most
        deltas may well be larger in one, whose task has needed it.

        Args:
            measured: What was measured of the delta, which is one of these.
            names: Names of the groups of layers, for people.
        """
        if measured.norm > self.whole[1]:
            return self._reason("its delta", measured.norm, self.whole)
        for index, (length, bound) in enumerate(zip(measured.layers, self.groups, strict=False)):
            if length > max(bound[1], self.whole[0]):
                where = names[index] if index < len(names) else f"group {index} of its layers"
                return self._reason(f"its delta in {where}", length, bound)
        return None

    def _reason(self, what: str, length: float, bound: tuple[float, float]) -> str:
        return (
            f"{what} is {length:.3g} long, the median of {self.count} in this round is {bound[0]:.3g}, and at most "
            f"{bound[1]:.3g} is taken; train fewer steps or at a lower learning rate"
        )


def limit_of(lengths: Sequence[float], past: Sequence[float], rules: ScreeningRules) -> float | None:
    """Return the length to which a round's deltas of one kind are shortened; None where nobody can tell.

    Args:
        lengths: Lengths of all that are fused of this kind.
        past: Median lengths of this kind in past rounds.
        rules: The federation's rules.
    """
    if len(lengths) >= rules.enough:
        return longest_taken(lengths, rules)
    if past:
        return rules.factor * median(past)
    return rules.factor * median(lengths) if len(lengths) >= _FEWEST else None


def limits_of(
    lengths: Mapping[str, Sequence[float]], past: Mapping[str, Sequence[float]], rules: ScreeningRules
) -> dict[str, float | None]:
    """Return the length to which a round's deltas of each kind are shortened, see `limit_of`.

    A kind of which nobody can tell is bounded by what is known of others, most of all of those that are most frequent:
    else a delta of any length would count in full, by a word of its contributor's that nobody else uses.

    >>> limits_of({"full": [1.0], "unheard of": [1e9]}, {"full": (1.0, 1.0)}, ScreeningRules())
    {'full': 3.0, 'unheard of': 30.0}

    Args:
        lengths: Lengths of all that are fused, by kind.
        past: Median lengths of past rounds, by kind.
        rules: The federation's rules.
    """
    found = {kind: limit_of(own, past.get(kind, ()), rules) for kind, own in lengths.items()}
    known = [limit for kind, limit in found.items() if limit is not None for _ in lengths[kind]]
    if not known:
        known = [rules.factor * length for kind in past for length in past[kind]]
    others = _OTHERS * median(known) if known else None
    return {kind: others if limit is None else limit for kind, limit in found.items()}


def even_out(weights: Sequence[float], rules: ScreeningRules) -> tuple[float, ...]:
    """Return weights of which none is larger than a factor times their median: what they rest on is only claimed.

    >>> even_out([100.0, 300.0, 1e12], ScreeningRules()), even_out([100.0, 1e12], ScreeningRules())
    ((100.0, 300.0, 900.0), (100.0, 300.0))
    """
    counting = [weight for weight in weights if weight > 0]
    if not rules.is_on or len(counting) < 2:
        return tuple(weights)
    most = rules.factor * median_low(counting)
    return tuple(min(weight, most) for weight in weights)


def remember(
    past: Mapping[str, Sequence[float]], lengths: Mapping[str, Sequence[float]]
) -> dict[str, tuple[float, ...]]:
    """Return the median lengths of the last rounds, with this one's; of the kinds that are most frequent.

    Args:
        past: Median lengths of past rounds by kind, the newest last.
        lengths: Lengths of what this round has fused, by kind.
    """
    now = {kind: (*past.get(kind, ()), median(fused)) for kind, fused in lengths.items() if fused}
    found = {kind: tuple(now.get(kind, past.get(kind, ())))[-MAX_PAST:] for kind in {**past, **now}}
    frequent = sorted(found, key=lambda kind: (-len(lengths.get(kind, ())) - len(found[kind]), kind))[:MAX_KINDS]
    return {kind: found[kind] for kind in sorted(frequent)}


def _bound(lengths: Sequence[float], rules: ScreeningRules) -> tuple[float, float]:
    return median(lengths), longest_taken(lengths, rules)
