"""What is asked of the counts of a candidate, and how the answers change without some of the members.

There is a question for each of the operator's suites, one for all of these together, one for each suite that members
have, and one for everything. Half of alpha is for the first two kinds, whatever members say, and what members say of a
suite that is called like the operator's is another question: so nobody hides what the operator's own examples show.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from coldfuse.core.binomial import weighted_holm
from coldfuse.core.gate_counts import Pool, Voice, p_worse, pool, visible_loss
from coldfuse.core.gate_rules import GateRules

_TRIED = 16
"""Number of members, those who have lost the most, without whom a loss is looked at: it stands without any other."""


@dataclass(frozen=True)
class Question:
    """Whether the candidate is worse on one suite, or over several."""

    name: str
    """What people call it."""
    suite: str | None
    """Name of the suite; None: over several."""
    voices: Sequence[Voice]
    """What is said of it."""
    level: float
    """Level at which it is looked at, at least."""

    @cached_property
    def members(self) -> frozenset[str]:
        """Return who says something of it, but for the operator."""
        return frozenset(each.counts.evaluator for each in self.voices if each.counts.evaluator is not None)


@dataclass(frozen=True)
class Answer:
    """What is said to a question."""

    question: Question
    counts: Pool
    p: float
    """Adjusted for all questions."""

    def __str__(self) -> str:
        """Say it in a few words."""
        return f"{self.question.name}: {self.counts}, p {self.p:.2g}"


@dataclass(frozen=True)
class Hearing:
    """Counts that are believed, under rules."""

    voices: Sequence[Voice]
    rules: GateRules

    @cached_property
    def suites(self) -> list[str]:
        """Names of the suites."""
        return sorted({voice.counts.suite for voice in self.voices})

    @cached_property
    def members(self) -> list[str]:
        """Members who have answered."""
        return sorted({voice.counts.evaluator for voice in self.voices if voice.counts.evaluator is not None})

    @property
    def num_evaluators(self) -> int:
        """Number of those who have answered; the operator's own suites are one."""
        return len({voice.counts.evaluator for voice in self.voices})

    @cached_property
    def questions(self) -> list[Question]:
        """All questions; the one over everything comes last."""
        own = [voice for voice in self.voices if voice.counts.evaluator is None]
        others = [voice for voice in self.voices if voice.counts.evaluator is not None]
        blocks = [_asked(own, self.rules, "the operator's suites together")] if own else []
        if others:
            blocks.append(_asked(others, self.rules, "all suites together", self.voices))
        found = []
        for block in blocks:
            total = math.fsum(weight for _, weight in block)
            share = self.rules.alpha / len(blocks) / total
            found += [
                Question(name, suite, voices, level=weight * share) for (name, suite, voices), weight in block
            ]  # fmt: skip
        return found

    @cached_property
    def _known(self) -> dict[tuple[int, frozenset[str]], tuple[Pool, float]]:
        return {}

    def _answer(self, place: int, without: frozenset[str]) -> tuple[Pool, float]:
        """Return the counts of a question and their p; most questions know nothing of most members."""
        question = self.questions[place]
        key = place, without & question.members
        if key not in self._known:
            counts = pool(question.voices, over_all=question.suite is None, without=without)
            p = p_worse(counts, self.rules, margin=self.rules.margin, level=question.level)
            self._known[key] = counts, p
        return self._known[key]

    def answers(self, without: Collection[str] = ()) -> list[Answer]:
        """Return all answers, with p adjusted; without members the questions are the same, and some have no answer."""
        found = [self._answer(place, frozenset(without)) for place in range(len(self.questions))]
        adjusted = weighted_holm([p for _, p in found], [question.level for question in self.questions])
        return [
            Answer(question, counts, p)
            for question, (counts, _), p in zip(self.questions, found, adjusted, strict=True)
        ]  # fmt: skip

    def losses(self, without: Collection[str] = (), *, alpha: float | None = None) -> list[Answer]:
        """Return what is answered by yes, the surest first."""
        level = self.rules.alpha if alpha is None else alpha
        return sorted((each for each in self.answers(without) if each.p <= level), key=lambda each: each.p)

    def doubted(self) -> frozenset[str]:
        """Return the `to_stop` − 1 members without whom the least is lost; the surest of them first leaves."""
        gone: frozenset[str] = frozenset()
        for _ in range(min(self.rules.to_stop - 1, len(self.members))):
            losses = self.losses(gone)
            if not losses:
                break
            suspects = _losers(losses[0].question)  # unless that one is cleared, nothing is
            tried = [gone | {member} for member in suspects if member not in gone][:_TRIED]
            if not tried:
                break
            gone = max(tried, key=lambda each: (min(answer.p for answer in self.answers(each)), sorted(each)))
        return gone

    def masked(self) -> tuple[str, Answer] | None:
        """Return a member without whom there would be a loss, and which; None where there is none."""
        alpha = self.rules.alpha / (len(self.members) + 1)
        for member in self.members:
            if losses := self.losses({member}, alpha=alpha):
                return member, losses[0]
        return None

    def overall(self, without: Collection[str] = ()) -> Pool:
        """Return the counts over all suites, without those of some members."""
        return pool(self.voices, without=without)

    def said_by(self, member: str) -> Pool:
        """Return the counts of one member over all its suites."""
        return pool(voice for voice in self.voices if voice.counts.evaluator == member)

    def visible(self, *, num_doubted: int | None = None) -> float | None:
        """Return the smallest loss over all suites, or over the operator's, that could have stopped the candidate.

        Args:
            num_doubted: Number of members, those with most examples, without whom it has to be; None: all but the last
                that it takes to stop a candidate.
        """
        sizes = {member: self.said_by(member).num_examples for member in self.members}
        most = self.rules.to_stop - 1 if num_doubted is None else num_doubted
        largest = sorted(self.members, key=lambda each: (-sizes[each], each))[:most]
        found = [
            visible_loss(
                pool(question.voices, without=largest), self.rules, margin=self.rules.margin, level=question.level
            )
            for question in self.questions
            if question.suite is None or len(self.questions) == 1
        ]
        return min((loss for loss in found if loss is not None), default=None)


_Named = tuple[str, str | None, Sequence[Voice]]


def _asked(
    voices: Sequence[Voice], rules: GateRules, together: str, everything: Sequence[Voice] | None = None
) -> list[tuple[_Named, float]]:
    """Return what is asked of some counts, each with its weight; together they weigh as much as each for itself.

    Suites that one member alone has share one weight, so that their number hides no other.
    """
    suites: dict[str, list[Voice]] = {}
    for voice in sorted(voices, key=lambda each: each.counts.suite):
        suites.setdefault(voice.counts.suite, []).append(voice)
    only = {suite: said[0].counts.evaluator for suite, said in suites.items() if len(said) == 1}
    shares = Counter(only.values())
    weights = {
        suite: rules.weight_of(suite) / (shares[only[suite]] if only.get(suite) is not None else 1) for suite in suites
    }
    asked: list[tuple[_Named, float]] = [((suite, suite, said), weights[suite]) for suite, said in suites.items()]
    whole = voices if everything is None else everything
    if len(asked) > 1 or len(whole) > len(voices):
        asked.append(((together, None, whole), math.fsum(weights.values())))
    return asked


def _losers(question: Question) -> Iterable[str]:
    """Return the members who say anything to a question, those with the most losses first."""
    lost: Counter[str] = Counter()
    for voice in question.voices:
        counts, part = voice.counts, voice.in_all if question.suite is None else voice.in_suite
        if counts.evaluator is not None:
            lost[counts.evaluator] += round(part * (counts.only_before - counts.only_after))
    return sorted(lost, key=lambda each: (-lost[each], each))
