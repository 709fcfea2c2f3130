"""The paper's protocol as pure functions of the seed: folds, the contributors of a round, who trains on what.

folds       section 4.1: data sets are dealt at random to k folds; each is the unseen one once
sampling    section 3: each round draws 8 data sets without repetition, one contributor each; balanced: kinds of task
            take turns in a random order, so that a kind with many data sets has no more contributors than another
examples    a data set's examples lie in one random order; a share of it is a run of that order, round and round
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from coldfuse.errors import UserInputError
from coldfuse.experiments.paper.values import Arriving, Dealt, Sampled
from coldfuse.training.schedule import derive_seed

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Which data sets contributors have, and which they have not."""

    seen: tuple[str, ...]
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Share:
    """Examples of a data set: a run of its random order, which begins anew where it ends."""

    set: str
    first: int
    count: int


def folds(sets: Sequence[str], num: int) -> list[Fold]:
    """Deal data sets to folds, and return what is seen and unseen of each; every seed has the same ones.

    >>> [len(fold.unseen) for fold in folds("abcdefg", 3)], folds("ab", 1)
    ([3, 2, 2], [Fold(seen=('a', 'b'), unseen=())])
    """
    if num == 1:
        return [Fold(seen=tuple(sorted(sets)))]
    if not 1 < num <= len(sets):
        raise UserInputError(f"{len(sets)} data sets cannot be dealt to {num} folds; name more of them")
    order = _shuffled(sorted(sets), "folds", num)
    parts = [set(order[number::num]) for number in range(num)]
    return [Fold(seen=tuple(s for s in sorted(sets) if s not in part), unseen=tuple(sorted(part))) for part in parts]


def held_out(sets: Sequence[str], unseen: Sequence[str]) -> Fold:
    """Return the one fold whose unseen data sets are named. Raises `UserInputError` where that leaves none seen.

    >>> held_out("abc", ["c"])
    Fold(seen=('a', 'b'), unseen=('c',))
    """
    seen = tuple(sorted(set(sets) - set(unseen)))
    if not seen:
        raise UserInputError("every data set is named as unseen, so that nobody is left to contribute")
    return Fold(seen=seen, unseen=tuple(sorted(unseen)))


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How many take part, for how long, and with how much."""

    rounds: int
    examples: int
    """Examples of a contributor in a round."""
    seed: int
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Kind of task of each data set; one that is not named is a kind of its own."""


def schedule(
    who: Sampled | Dealt | Arriving, sets: Sequence[str], plan: Schedule, *, lengths: dict[str, int]
) -> list[list[Share]]:
    """Return the examples of each contributor of each round.

    Args:
        who: How contributors come to be.
        sets: The data sets that they have.
        plan: How long, with how much, by which seed.
        lengths: Number of training examples of each data set.

    Raises:
        UserInputError: There are too few data sets or examples.
    """
    if isinstance(who, Sampled):
        return _sampled(who, sets, plan, lengths)
    if isinstance(who, Arriving):
        order = _shuffled(sorted(sets), "arriving", plan.seed)
        most = [order[first : first + who.num] for first in range(0, len(order), who.num)][: plan.rounds]
        return [[_share(name, 0, plan.examples, lengths) for name in names] for names in most]
    return _dealt(who, sets, plan, lengths)


def _sampled(who: Sampled, sets: Sequence[str], plan: Schedule, lengths: dict[str, int]) -> list[list[Share]]:
    rounds: list[list[Share]] = []
    times = dict.fromkeys(sets, 0)
    examples = max(1, round(who.share * plan.examples))
    for number in range(1, plan.rounds + 1):
        order = _shuffled(sorted(sets), "sampled", plan.seed, number)
        chosen = (_in_turns(order, plan.kinds) if who.is_balanced else order)[: who.num]
        rounds.append([])
        for name in chosen:
            first = 0 if who.is_fixed else times[name] * min(examples, lengths[name])
            rounds[-1].append(_share(name, first, examples, lengths))
            times[name] += 1
    return rounds


def _in_turns(order: Sequence[str], kinds: Mapping[str, str]) -> list[str]:
    """Return data sets so that each kind comes once before any comes twice; else the order stays.

    >>> _in_turns(["a1", "a2", "b1", "a3", "b2"], {"a1": "a", "a2": "a", "a3": "a", "b1": "b", "b2": "b"})
    ['a1', 'b1', 'a2', 'b2', 'a3']
    """
    times, turns = Counter[str](), dict[str, int]()
    for name in order:
        kind = kinds.get(name, name)
        turns[name] = times[kind]
        times[kind] += 1
    return sorted(order, key=turns.__getitem__)


def _dealt(who: Dealt, sets: Sequence[str], plan: Schedule, lengths: dict[str, int]) -> list[list[Share]]:
    if len(sets) != 1:
        raise UserInputError(f"one data set is dealt out here, and {len(sets)} are named; name one with --sets")
    [name] = sets
    each = round(who.share * plan.examples)
    needed = each * who.num * (plan.rounds if who.is_new else 1)
    if each < 1 or needed > lengths[name]:
        raise UserInputError(
            f"{name}: {who.num} contributors of {each} examples need {needed}{' over all rounds' * who.is_new}, and it "
            f"has {lengths[name]}; take another data set, or other --examples or --rounds"
        )
    return [
        [
            Share(set=name, first=((number * who.num if who.is_new else 0) + place) * each, count=each)
            for place in range(who.num)
        ]
        for number in range(plan.rounds)
    ]


def _share(name: str, first: int, count: int, lengths: dict[str, int]) -> Share:
    return Share(set=name, first=first % lengths[name], count=min(count, lengths[name]))


def indices(share: Share, length: int, *, seed: int) -> list[int]:
    """Return which examples a share holds, in the file's order.

    >>> indices(Share(set="a", first=0, count=3), 3, seed=1)
    [0, 1, 2]
    """
    order = _shuffled(range(length), "examples", share.set, seed)
    return sorted(order[(share.first + place) % length] for place in range(share.count))


def scored_rounds(rounds: int, every: int) -> list[int]:
    """Return the rounds that are scored: the start, every so many, and the last.

    >>> scored_rounds(5, 2)
    [0, 2, 4, 5]
    """
    return sorted({*range(0, rounds + 1, every), rounds})


def _shuffled(items: Sequence[T], *counters: int | str) -> list[T]:
    order = list(items)
    random.Random(derive_seed(*counters)).shuffle(order)  # noqa: S311 - a sample, not a secret
    return order
