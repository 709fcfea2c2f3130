"""Whether the edits of a candidate do what they are for: a pure rule on counts, with its reason.

An edit changes a fact and little else (MEND, arXiv 2110.11309; SERAC, arXiv 2206.06520; SLAG, arXiv 2111.13654). Its
suite has three parts: the edit's own prompts and its paraphrases must say the new fact, by shares that the rules name
(efficacy and generality); that what must stay is not lost (locality, drawdown) is the gate's paired test, as of any
suite. A round without the edit is asked for the last alone: so a fact that was once changed may not be lost again.

A contribution is an edit because it says so, by its suite's name. An edit that nobody has a suite for is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import median_low

from coldfuse.core.contribution import Admission
from coldfuse.core.gate_rules import EFFICACY, GENERALITY, EditPart, GateRules, SuiteCounts
from coldfuse.core.words import plural

PARTS: tuple[EditPart, ...] = ("edit", "paraphrase", "keep")
"""Parts of an edit's suite, in the order in which they are said."""

_ASKED = {"edit": "prompts of the edit", "paraphrase": "paraphrases", "keep": "kept answers"}


@dataclass(frozen=True)
class EditVerdict:
    """What was found of an edit."""

    name: str
    """Name of the edit and of its suite."""
    succeeds: bool
    """Whether it does what it is for."""
    reason: str
    """What was counted, or what is lacking, for people."""


def edits_of(admissions: Iterable[Admission]) -> tuple[str, ...]:
    """Return the names of the edits among contributions, each once."""
    return tuple(sorted({each.edit for each in admissions if each.edit is not None}))


def suite_of(name: str, part: EditPart) -> str:
    """Return what a part of an edit's suite is called among suites.

    >>> suite_of("capital", "keep")
    'capital.keep'
    """
    return f"{name}.{part}"


def judge_edits(rules: GateRules, counts: Iterable[SuiteCounts], edits: Collection[str]) -> list[EditVerdict]:
    """Judge each edit of a candidate by the counts of its suite, in the order of their names.

    The operator's counts decide where there are some; else of the members' shares the middle one, so that fewer than
    half of three or more decide nothing.

    Args:
        rules: What is asked of edits.
        counts: Counts that are believed.
        edits: Names of the edits that the candidate is said to have.

    >>> told = [SuiteCounts(suite="c.edit", num_examples=2, only_before=0, only_after=1, part="edit", num_right=1)]
    >>> [(each.succeeds, each.reason) for each in judge_edits(GateRules(), told, ["c"])]
    [(False, 'edit c: 1 of 2 prompts of the edit, 90 % must be right')]
    """
    heard = list(counts)
    return [_judged(rules, heard, name) for name in sorted(set(edits))]


def _judged(rules: GateRules, counts: Sequence[SuiteCounts], name: str) -> EditVerdict:
    found = {part: _of_part(counts, suite_of(name, part), part) for part in PARTS}
    if not found["edit"]:
        why = f"nobody judges it; give the aggregator, or an evaluator, --suite {name}:edit=FILE"
        return EditVerdict(name, False, f"edit {name}: {why}")
    wanted = {"edit": rules.efficacy, "paraphrase": rules.generality}
    least = {"edit": EFFICACY, "paraphrase": GENERALITY} | {
        part: share for part, share in wanted.items() if share is not None
    }
    said, succeeds = [], True
    for part, own in found.items():
        if not own:
            continue
        right, num = own
        short = f"{right:,} of {num:,} {_ASKED[part]}"
        fails = part in least and right < least[part] * num
        said.append(f"{short}, {100 * least[part]:g} % must be right" if fails else short)
        succeeds = succeeds and not fails
    return EditVerdict(name, succeeds, f"edit {name}: {', '.join(said)}")


def _of_part(counts: Sequence[SuiteCounts], suite: str, part: EditPart) -> tuple[int, int] | None:
    """Return how many answers of a part are right, and of how many; None where nobody says it."""
    own = [each for each in counts if each.suite == suite and each.part == part and each.num_right is not None]
    own = [each for each in own if each.evaluator is None] or own
    shares = {(_right(each) / each.num_examples, _right(each), each.num_examples) for each in own}
    if not shares:
        return None
    middle = median_low(sorted(shares))
    return middle[1], middle[2]


def _right(counts: SuiteCounts) -> int:
    """Return how many are right; noise may say less than none, or more than all."""
    return min(max(counts.num_right or 0, 0), counts.num_examples)


def say_failures(verdicts: Collection[EditVerdict]) -> str:
    """Say which edits fail, the first few with their counts."""
    failed = [each for each in verdicts if not each.succeeds]
    more = f"; and {plural(len(failed) - 3, 'other edit')}" if len(failed) > 3 else ""
    return "; ".join(each.reason for each in failed[:3]) + more
