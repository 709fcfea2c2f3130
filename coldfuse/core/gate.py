"""Whether a fused model is published: a pure rule on what evaluators have counted, with its reason.

Each suite is asked whether the candidate is worse on it than its base by more than the margin, and so are all suites
together; the exact tests of `gate_counts` are adjusted for having been made together (Holm, weighted: the question over
all counts as much as all suites). So at most a share alpha of the rounds in which nothing got worse is stopped.

What members say is a claim. Nobody decides alone: a loss has to be there without any `to_stop` − 1 members, whoever
these are, and then it is no work of theirs; that also keeps alpha, for the rest are honest. Of many members nobody
counts much more than the median, and who contradicts itself does not count. What one member alone makes or hides is
called disputed, which is as good as not enough data. Where there are fewer than `to_stop` members, as with one, none of
them can be seconded: what they find then names what is published in any case, and warns (`GateRules.on_one`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from coldfuse.core.gate_counts import believe, hear, p_worse
from coldfuse.core.gate_edits import EditVerdict, judge_edits, say_failures
from coldfuse.core.gate_hearing import Answer, Hearing
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


def decide(
    rules: GateRules, counts: Iterable[SuiteCounts], *, num_silent: int = 0, edits: Collection[str] = ()
) -> GateDecision:
    """Decide whether a candidate is published, from the counts alone; the reason is for people.

    Args:
        rules: The federation's rules, which the round was opened with.
        counts: What the operator's suites and the members say; claims, in any order.
        num_silent: Number of enrolled evaluators who have not answered, for the reason.
        edits: Names of the edits that the candidate has, each of which must succeed on its suite.

    >>> own = SuiteCounts(suite="sst2", num_examples=2000, only_before=130, only_after=50)
    >>> decide(GateRules(), [own]).finding, decide(GateRules(), []).publish
    ('worse', True)
    """
    if not rules.is_on:
        return GateDecision(publish=True, finding="off", reason="the federation asks no suite before it publishes")
    kept, flags = believe(counts, rules)
    hearing = Hearing(hear(kept, rules), rules)
    flags = [*flags, *_odd(hearing)]
    verdicts = judge_edits(rules, kept, edits)
    decision = _with_edits(_decided(hearing, num_silent), hearing, verdicts)
    more = f"; {len(flags) - MAX_FLAGS + 1} more" if len(flags) > MAX_FLAGS else ""
    shown = [flag[:500] for flag in flags[: MAX_FLAGS - bool(more)]] + ([more.removeprefix("; ")] if more else [])
    return decision.model_copy(update={"flags": tuple(shown)})


def _with_edits(decision: GateDecision, hearing: Hearing, verdicts: Sequence[EditVerdict]) -> GateDecision:
    """Return the decision with what was found of edits; where one fails nothing else has to be known first."""
    if failed := [each.name for each in verdicts if not each.succeeds]:
        why = f"{say_failures(verdicts)}; the base is kept"
        return _decision(hearing, "edit-fails", why).model_copy(update={"suites": tuple(failed)[:MAX_SUITES]})
    said = "; ".join([decision.reason, *(each.reason for each in verdicts)])
    return decision.model_copy(update={"reason": said[:2000]})


def _decided(hearing: Hearing, num_silent: int) -> GateDecision:
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


def _on_losses(hearing: Hearing, losses: Sequence[Answer]) -> GateDecision:
    rules = hearing.rules
    doubted = hearing.doubted()
    sure = hearing.losses(doubted)
    if not sure:
        who = ", ".join(sorted(doubted)[:3])
        need = f"{rules.to_stop} members, or the operator's own suites, must see it"
        warns = rules.on_one == "warn" and len(hearing.members) < rules.to_stop
        then = "; the channel stable begins to wait anew" if warns else ""
        return _otherwise(rules.on_unsure, "disputed", f"only {who} sees a loss on {losses[0]}; {need}{then}", hearing)
    suites = [each.question.suite for each in (*sure, *losses) if each.question.suite is not None]
    said = "; ".join(map(str, sure[:3])) + (f"; and {len(sure) - 3} more" if len(sure) > 3 else "")
    decision = _decision(
        hearing, "worse", f"worse by more than {points(rules.margin)} on {said}; the base is better, which is kept"
    )
    return decision.model_copy(update={"suites": tuple(dict.fromkeys(suites))[:MAX_SUITES]})


def _on_better(hearing: Hearing) -> GateDecision:
    """Decide where the candidate has to be better: so it has to be without the members who say so the most.

    Where there are enough members, those who say so the least are left out, too; else nobody can tell who lies.
    """
    rules, num = hearing.rules, min(hearing.rules.to_stop - 1, len(hearing.members))
    by = sorted(hearing.members, key=lambda each: (hearing.said_by(each).difference or 0.0, each))
    least, most = by[:num], by[len(by) - num :]
    gone = {*least, *most} if len(by) > 2 * num else {*most}
    counts = hearing.overall(gone)
    p = p_worse(counts.turned(), rules, margin=0.0, level=rules.alpha)
    left_out = f", without {', '.join(sorted(gone)[:4])}, who are farthest from the others" if gone else ""
    found = f"{counts}, p {p:.2g}{left_out}"
    if p <= rules.alpha:
        return _decision(hearing, "better", f"better over all: {found}")
    others = hearing.overall(least).turned()
    if gone and not gone >= {*least} and p_worse(others, rules, margin=0.0, level=rules.alpha) <= rules.alpha:
        return _otherwise(
            rules.on_unsure, "disputed", f"not better over all: {found}; without {least[0]} it is", hearing
        )
    return _unless_unsure(hearing, _decision(hearing, "not-better", f"not better over all: {found}; the base is kept"))


def _unless_unsure(hearing: Hearing, decision: GateDecision) -> GateDecision:
    """Return the decision, unless a loss that matters would not have been seen."""
    rules, visible = hearing.rules, hearing.visible()
    wanted = rules.margin + rules.resolution
    if visible is not None and visible <= wanted:
        return decision
    if (heard := _by_one_word(hearing, decision)) is not None:
        return heard
    if visible is None and len(hearing.members) == hearing.num_evaluators < rules.to_stop:
        why = f"{plural(len(hearing.members), 'member')} answered, and {rules.to_stop} must see a loss (to-stop)"
    elif visible is None:
        why = "so few examples show no loss at all"
    else:
        why = f"a loss below {points(visible)} would not be seen"
    have = f"not enough data: {_change(hearing)}; {why}, one of {points(wanted)} should be"
    return _otherwise(rules.on_unsure, "unsure", have, hearing)


def _by_one_word(hearing: Hearing, decision: GateDecision) -> GateDecision | None:
    """Return the decision by all counts, where members are too few to stop anything and it is published in any case.

    What they say changes what it is called, not whether it is out: so none of them stops or hides anything.
    """
    rules = hearing.rules
    if rules.on_one != "warn" or rules.on_unsure != "publish" or not 0 < len(hearing.members) < rules.to_stop:
        return None
    visible = hearing.visible(num_doubted=0)
    if visible is None or visible > rules.margin + rules.resolution:
        return None
    if decision.finding == "not-better":
        counts = hearing.overall()
        p = p_worse(counts.turned(), rules, margin=0.0, level=rules.alpha)
        if p > rules.alpha:  # that it is no better would stop it
            return None
        decision = _decision(hearing, "better", f"better over all: {counts}, p {p:.2g}")
    whose = f"; {' and '.join(hearing.members)} alone can tell, whom nobody seconds"
    return decision.model_copy(update={"reason": f"{decision.reason}{whose}"[:2000], "visible": visible})


def _otherwise(what: Instead, finding: Finding, reason: str, hearing: Hearing) -> GateDecision:
    then = "published all the same" if what == "publish" else "the base is kept"
    return _decision(hearing, finding, f"{reason}; {then}, as the rules say", publish=what == "publish")


def _decision(hearing: Hearing, finding: Finding, reason: str, *, publish: bool | None = None) -> GateDecision:
    passed = finding in ("better", "not-worse") if publish is None else publish
    return GateDecision(
        publish=passed, finding=finding, reason=reason[:2000], difference=hearing.overall().difference,
        visible=hearing.visible(),
    )  # fmt: skip


def _change(hearing: Hearing) -> str:
    counts = hearing.overall()
    change = points(counts.difference or 0.0)
    sign = "+" if (counts.difference or 0.0) > 0 else ""
    return f"{sign}{change} over {plural(len(hearing.suites), 'suite')} ({counts})"


def _odd(hearing: Hearing) -> Iterable[str]:
    """Say what is odd in counts that are believed."""
    for voice in hearing.voices:
        counts = voice.counts
        if counts.evaluator is not None and max(counts.only_before, counts.only_after) >= counts.num_examples > 1:
            yield f"{counts.evaluator} on {counts.suite}: says all {counts.num_examples:,} examples changed one way"
    sizes = Counter[str]()
    for voice in hearing.voices:
        sizes[voice.counts.suite] += round(voice.in_all * voice.counts.num_examples)
    largest, size = max(sizes.items(), key=lambda each: each[1], default=("", 0))
    if len(sizes) > 1 and size > 0.9 * sizes.total():
        share = 100 * size / sizes.total()
        yield f"{largest} has {share:.3g} % of the examples: over all suites it decides; give it less weight"
