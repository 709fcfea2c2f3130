"""Whether a fused model is published: a pure rule on what evaluators have counted, with its reason.

Each suite is asked whether the candidate is worse on it than its base by more than the margin, and so are all suites
together; the exact tests of `gate_counts` are adjusted for having been made together (Holm, weighted: the question over
all counts as much as all suites). So at most a share alpha of the rounds in which nothing got worse is stopped.

What members say is a claim. Nobody decides alone: a loss has to be there without any `to_stop` − 1 members, whoever
these are, and then it is no work of theirs; that also keeps alpha, for the rest are honest. Of many members nobody
counts much more than the median, and who contradicts itself does not count. What one member alone makes or hides is
called disputed, which is as good as not enough data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from coldfuse.core.binomial import weighted_holm
from coldfuse.core.gate_counts import Pool, Voice, believe, hear, p_worse, pool, visible_loss
from coldfuse.core.gate_rules import (
    MAX_EVALUATORS,
    MAX_EXAMPLES,
    MAX_FLAGS,
    MAX_SUITES,
    Finding,
    GateDecision,
    GateRules,
    Instead,
    SuiteCounts,
    SuiteWeight,
    points,
)
from coldfuse.core.words import plural

__all__ = [
    "MAX_EVALUATORS", "MAX_EXAMPLES", "MAX_SUITES", "Finding", "GateDecision", "GateRules", "Instead", "SuiteCounts",
    "SuiteWeight", "decide",
]  # fmt: skip


_TRIED = 16
"""Number of members, those who have lost the most, without whom a loss is looked at: it stands without any other."""


@dataclass(frozen=True)
class _Question:
    """Whether the candidate is worse on one suite, or over all."""

    suite: str | None
    """None: over all."""
    counts: Pool
    p: float
    """Adjusted for all questions."""

    def __str__(self) -> str:
        return f"{self.suite or 'all suites together'}: {self.counts}, p {self.p:.2g}"


@dataclass(frozen=True)
class _Hearing:
    """Counts that are believed, under rules."""

    voices: Sequence[Voice]
    rules: GateRules

    @cached_property
    def suites(self) -> dict[str, list[Voice]]:
        """What is said of each suite."""
        found: dict[str, list[Voice]] = {}
        for voice in sorted(self.voices, key=lambda each: each.counts.suite):
            found.setdefault(voice.counts.suite, []).append(voice)
        return found

    @cached_property
    def weights(self) -> dict[str, float]:
        """Weights of the suites; those that one member alone has share one, so that their number hides no other."""
        only = {suite: said[0].counts.evaluator for suite, said in self.suites.items() if len(said) == 1}
        shares = Counter(who for who in only.values() if who is not None)
        return {suite: self.rules.weight_of(suite) / shares.get(only.get(suite), 1) for suite in self.suites}

    @cached_property
    def members(self) -> list[str]:
        return sorted({voice.counts.evaluator for voice in self.voices if voice.counts.evaluator is not None})

    @property
    def num_evaluators(self) -> int:
        return len({voice.counts.evaluator for voice in self.voices})

    @cached_property
    def asked(self) -> list[tuple[str | None, float]]:
        """Every question by its suite, with its weight; the one over all suites last, where there are several."""
        asked: list[tuple[str | None, float]] = list(self.weights.items())
        return [*asked, (None, sum(self.weights.values()))] if len(asked) > 1 else asked

    @cached_property
    def level_of_one(self) -> float:
        """Level at which a question of weight 1 is looked at, at least."""
        return self.rules.alpha / sum(weight for _, weight in self.asked)

    @cached_property
    def _answers(self) -> dict[tuple[str | None, frozenset[str]], tuple[Pool, float]]:
        return {}

    def _answer(self, suite: str | None, weight: float, without: frozenset[str]) -> tuple[Pool, float]:
        """Return the counts of a question and their p; most questions know nothing of most members."""
        voices = self.voices if suite is None else self.suites[suite]
        key = (suite, without if suite is None else without & {each.counts.evaluator for each in voices})
        if key not in self._answers:
            counts = pool(voices, over_all=suite is None, without=without)
            p = p_worse(counts, self.rules, margin=self.rules.margin, level=weight * self.level_of_one)
            self._answers[key] = counts, p
        return self._answers[key]

    def questions(self, without: Collection[str] = ()) -> list[_Question]:
        """Return all questions, with p adjusted; without members they are the same, and some have no answer."""
        answers = [self._answer(suite, weight, frozenset(without)) for suite, weight in self.asked]
        adjusted = weighted_holm([p for _, p in answers], [weight for _, weight in self.asked])
        return [
            _Question(suite, counts, p)
            for (suite, _), (counts, _), p in zip(self.asked, answers, adjusted, strict=True)
        ]

    def losses(self, without: Collection[str] = (), *, alpha: float | None = None) -> list[_Question]:
        """Return the questions that are answered by yes, the surest first."""
        level = self.rules.alpha if alpha is None else alpha
        return sorted((each for each in self.questions(without) if each.p <= level), key=lambda each: each.p)

    def doubted(self) -> frozenset[str]:
        """Return the `to_stop` − 1 members without whom the least is lost; the surest of them first leaves."""
        gone: frozenset[str] = frozenset()
        for _ in range(min(self.rules.to_stop - 1, len(self.members))):
            losses = self.losses(gone)
            if not losses:
                break
            first = losses[0].suite  # unless that one is cleared, nothing is
            tried = [gone | {member} for member in self._losers(first) if member not in gone][:_TRIED]
            if not tried:
                break
            gone = max(tried, key=lambda each: (min(q.p for q in self.questions(each)), sorted(each)))
        return gone

    def _losers(self, suite: str | None) -> list[str]:
        """Return the members who say anything of a question, those with the most losses first."""
        lost: Counter[str] = Counter()
        for voice in self.voices if suite is None else self.suites[suite]:
            counts, part = voice.counts, voice.in_all if suite is None else voice.in_suite
            if counts.evaluator is not None:
                lost[counts.evaluator] += round(part * (counts.only_before - counts.only_after))
        return sorted(lost, key=lambda each: (-lost[each], each))

    def masked(self) -> tuple[str, _Question] | None:
        """Return a member without whom there would be a loss, and which; None where there is none."""
        alpha = self.rules.alpha / (len(self.members) + 1)
        for member in self.members:
            if losses := self.losses({member}, alpha=alpha):
                return member, losses[0]
        return None

    def overall(self, without: Collection[str] = ()) -> Pool:
        return pool(self.voices, without=without)

    def visible(self) -> float | None:
        """Return the smallest loss over all suites that could have stopped the candidate."""
        sizes = {member: pool([v for v in self.voices if v.counts.evaluator == member]) for member in self.members}
        largest = sorted(self.members, key=lambda each: (-sizes[each].num_examples, each))[: self.rules.to_stop - 1]
        level = self.rules.alpha / (2 if len(self.suites) > 1 else 1)
        return visible_loss(self.overall(largest), self.rules, margin=self.rules.margin, level=level)


def decide(rules: GateRules, counts: Iterable[SuiteCounts], *, num_silent: int = 0) -> GateDecision:
    """Decide whether a candidate is published, from the counts alone; the reason is for people.

    Args:
        rules: The federation's rules, which the round was opened with.
        counts: What the operator's suites and the members say; claims, in any order.
        num_silent: Number of enrolled evaluators who have not answered, for the reason.

    >>> own = SuiteCounts(suite="sst2", num_examples=2000, only_before=130, only_after=50)
    >>> decide(GateRules(), [own]).finding, decide(GateRules(), []).publish
    ('worse', True)
    """
    if not rules.is_on:
        return GateDecision(publish=True, finding="off", reason="the federation asks no suite before it publishes")
    kept, flags = believe(counts, rules)
    hearing = _Hearing(hear(kept, rules), rules)
    flags = [*flags, *_odd(hearing)]
    decision = _decided(hearing, num_silent)
    more = f"; {len(flags) - MAX_FLAGS + 1} more" if len(flags) > MAX_FLAGS else ""
    shown = [flag[:500] for flag in flags[: MAX_FLAGS - bool(more)]] + ([more.removeprefix("; ")] if more else [])
    return decision.model_copy(update={"flags": tuple(shown)})


def _decided(hearing: _Hearing, num_silent: int) -> GateDecision:
    rules = hearing.rules
    if hearing.num_evaluators < rules.min_evaluators:
        silent = f", {plural(num_silent, 'evaluator')} did not answer" if num_silent else ""
        have = f"counts of {hearing.num_evaluators} of {plural(rules.min_evaluators, 'evaluator')}{silent}"
        return _otherwise(rules.on_silence, "silence", have, hearing)
    losses = hearing.losses()
    if losses:
        return _on_losses(hearing, losses)
    if found := hearing.masked():
        member, loss = found
        return _otherwise(rules.on_unsure, "disputed", f"only {member} hides a loss on {loss}", hearing)
    if rules.require == "better":
        return _on_better(hearing)
    return _unless_unsure(hearing, _decision(hearing, "not-worse", f"not worse: {_change(hearing)}"))


def _on_losses(hearing: _Hearing, losses: Sequence[_Question]) -> GateDecision:
    rules = hearing.rules
    doubted = hearing.doubted()
    sure = hearing.losses(doubted)
    if not sure:
        who = ", ".join(sorted(doubted)[:3])
        need = f"{rules.to_stop} members, or the operator's own suites, must see it"
        return _otherwise(rules.on_unsure, "disputed", f"only {who} sees a loss on {losses[0]}; {need}", hearing)
    suites = [each.suite for each in (*sure, *losses) if each.suite is not None]
    said = "; ".join(map(str, sure[:3])) + (f"; and {len(sure) - 3} more" if len(sure) > 3 else "")
    decision = _decision(
        hearing, "worse", f"worse by more than {points(rules.margin)} on {said}; the base is better, which is kept"
    )
    return decision.model_copy(update={"suites": tuple(dict.fromkeys(suites))[:MAX_SUITES]})


def _on_better(hearing: _Hearing) -> GateDecision:
    """Decide where the candidate has to be better, with the members farthest from the others left out on both sides."""
    rules = hearing.rules
    num = rules.to_stop - 1
    by = sorted(hearing.members, key=lambda each: (_said_by(hearing, each), each))
    gone = {*by[:num], *by[len(by) - num :]} if len(by) > 2 * num else {*by[len(by) - num :]} if num else set()
    counts = hearing.overall(gone)
    p = p_worse(counts.turned(), rules, margin=0.0, level=rules.alpha)
    left_out = f", without {', '.join(sorted(gone)[:4])}, who are farthest from the others" if gone else ""
    if p <= rules.alpha:
        return _decision(hearing, "better", f"better over all: {counts}, p {p:.2g}{left_out}")
    kept = _decision(hearing, "not-better", f"not better over all: {counts}, p {p:.2g}{left_out}; the base is kept")
    return _unless_unsure(hearing, kept)


def _said_by(hearing: _Hearing, member: str) -> float:
    return pool([each for each in hearing.voices if each.counts.evaluator == member]).difference or 0.0


def _unless_unsure(hearing: _Hearing, decision: GateDecision) -> GateDecision:
    """Return the decision, unless a loss that matters would not have been seen."""
    rules, visible = hearing.rules, hearing.visible()
    wanted = rules.margin + rules.resolution
    if visible is not None and visible <= wanted:
        return decision
    if visible is None and len(hearing.members) == hearing.num_evaluators < rules.to_stop:
        why = f"{plural(len(hearing.members), 'member')} answered, and {rules.to_stop} must see a loss (to-stop)"
    elif visible is None:
        why = "so few examples show no loss at all"
    else:
        why = f"a loss below {points(visible)} would not be seen"
    have = f"not enough data: {_change(hearing)}; {why}, one of {points(wanted)} should be"
    return _otherwise(rules.on_unsure, "unsure", have, hearing)


def _otherwise(what: Instead, finding: Finding, reason: str, hearing: _Hearing) -> GateDecision:
    then = "published all the same" if what == "publish" else "the base is kept"
    return _decision(hearing, finding, f"{reason}; {then}, as the rules say", publish=what == "publish")


def _decision(hearing: _Hearing, finding: Finding, reason: str, *, publish: bool | None = None) -> GateDecision:
    passed = finding in ("better", "not-worse") if publish is None else publish
    return GateDecision(
        publish=passed, finding=finding, reason=reason[:2000], difference=hearing.overall().difference,
        visible=hearing.visible(),
    )  # fmt: skip


def _change(hearing: _Hearing) -> str:
    counts = hearing.overall()
    change = points(counts.difference or 0.0)
    sign = "+" if (counts.difference or 0.0) > 0 else ""
    return f"{sign}{change} over {plural(len(hearing.suites), 'suite')} ({counts})"


def _odd(hearing: _Hearing) -> Iterable[str]:
    """Say what is odd in counts that are believed."""
    for voice in hearing.voices:
        counts = voice.counts
        if counts.evaluator is not None and max(counts.only_before, counts.only_after) >= counts.num_examples > 1:
            yield f"{counts.evaluator} on {counts.suite}: says all {counts.num_examples:,} examples changed one way"
    sizes = {suite: pool(said).num_examples for suite, said in hearing.suites.items()}
    if len(sizes) > 1:
        largest = max(sizes, key=lambda each: sizes[each])
        share = sizes[largest] / max(1, sum(sizes.values()))
        if share > 0.9:
            yield f"{largest} has {100 * share:.3g} % of the examples: over all suites it decides; give it less weight"
