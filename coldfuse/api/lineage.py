"""Where a release comes from: release by release, back to the first base, and who has signed each.

What a gateway says of a release is held against what was signed of it; each release's statement names its parent by
the SHA-256 of its manifest, so the releases of a history that is signed hang together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Protocol

from coldfuse.api.values import when
from coldfuse.core.words import plural, printable
from coldfuse.errors import CodecError, FederationError
from coldfuse.gateway import ContributionSummary, ReleaseSummary
from coldfuse.trust.lineage import Signed, SigningKeys, read_signed_release
from coldfuse.trust.provenance import Statement, statement_key

NAMED = 8
"""Number of contributions that are listed of a release, where not all are."""


class History(Protocol):
    """Where releases and their signatures can be read: a gateway, say."""

    def releases(self, *, before: int | None = None) -> Iterator[ReleaseSummary]:
        """List the releases with a lower number, newest first; what is not asked for is not read."""

    def read_signed(self, key: str) -> bytes | None:
        """Return what is signed and lies under a key; None where there is nothing."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One release of a lineage."""

    summary: ReleaseSummary
    """What it was made from, as its source says."""
    signed: Signed
    """Who has signed that."""

    @property
    def number(self) -> int:
        """Number of the release."""
        return self.summary.name.number


def trace(
    history: History, keys: SigningKeys, *, release: int | None = None, named: str | None = None
) -> Iterator[Step]:
    """Follow a release back to the first base; each is read when it is asked for.

    Args:
        history: Where it lies.
        keys: The aggregators' keys.
        release: Number of the release; None: the latest.
        named: SHA-256 of its manifest, as a signed channel names it; None where none does.

    Raises:
        FederationError: There is no such release, or one on the way is missing.
        CodecError: A release is said to come from a later one.
    """
    expected = ("the signed channel names", named) if named else None
    for summary in _summaries(history, release):
        key = statement_key(summary.name.number)
        signed = read_signed_release(history.read_signed(key), keys, what=key)
        problem = signed.statement and disagreement(signed.statement, summary)
        if expected and expected[1] != summary.name.manifest_digest:
            problem = f"{expected[0]} another manifest, {expected[1][:12]}"
        step = Step(summary=summary, signed=Signed(problem=problem) if problem else signed)
        parent = step.signed.statement.parent if step.signed.statement else None
        expected = (f"release {summary.name.number} was made from", parent) if parent else None
        yield step


def disagreement(statement: Statement, summary: ReleaseSummary) -> str | None:
    """Return in what a release is another than the one that was signed; None where it is that one."""
    said, names = statement.parameters, tuple(each.contribution for each in summary.contributions)
    is_named = bool(names) or not summary.num_contributions  # a gateway of an older version counts them alone
    for name, found, signed in (
        ("manifest", summary.name.manifest_digest, statement.manifest),
        ("model", summary.name.model_digest, statement.model_digest),
        ("number", summary.name.number, said.release),
        ("round", summary.round, said.round),
        ("method", summary.method, said.method),
        ("number of parents", 0 if summary.parent is None else 1, statement.num_parents),
        ("list of contributions", names if is_named else statement.contributions, statement.contributions),
    ):
        if found != signed:
            return f"its {name} is not what was signed"
    return None


def _summaries(history: History, release: int | None) -> Iterator[ReleaseSummary]:
    """Yield a release and those that it comes from, newest first; one listing serves as long as none is left out."""
    wanted, child = release, None
    listing = history.releases(before=None if release is None else release + 1)
    while True:
        summary = next(listing, None)
        if summary is None or wanted not in (None, summary.name.number):
            latest = f"; the latest is {summary.name.number}" if summary and child is None else ""
            raise FederationError(f"there is no release {wanted}{latest or ('' if child is None else _made(child))}")
        yield summary
        child, wanted = summary.name.number, summary.parent
        if wanted is None:
            return
        if wanted >= child:
            raise CodecError(f"release {child}: is said to be made from {wanted}, which came later")
        if wanted != child - 1:
            listing = history.releases(before=wanted + 1)


def _made(child: int) -> str:
    return f", from which release {child} was made; ask the federation's store, or its operator"


def describe_step(step: Step, *, most: int = NAMED) -> str:
    """Say in some lines what a release is, who has signed it, and what went into it."""
    summary = step.summary
    head = f"release {step.number}  {when(summary.created_at_s)}  model {summary.name.model_digest[:16]}"
    made = "the base" if summary.parent is None else f"on release {summary.parent}, round {summary.round}"
    if summary.replaces is not None:
        made += f", for release {summary.replaces} without {plural(summary.num_left_out, 'retracted contribution')}"
    lines = [head, f"│ {made}: {printable(summary.method)}", f"│ {printable(step.signed.in_words)}"]
    rows = [contribution_words(each) for each in islice(summary.contributions, most)]
    left = summary.num_contributions - len(rows)
    if left > 0:
        rows.append(f"{plural(left, 'contribution')}{' more' if rows else ''}")
    return "\n".join([*lines, *(f"├─ {row}" for row in rows)])


def contribution_words(fused: ContributionSummary) -> str:
    """Say in a line what a contribution is."""
    late = f", made on {fused.base_release}" if fused.base_release is not None else ""
    edit = "" if fused.edit is None else f"edit {printable(fused.edit)}, "
    counts = f"{edit}{plural(fused.num_examples, 'example')}, weight {fused.weight:g}{_by_score(fused)}{late}"
    return f"{printable(fused.who)}: {counts}, {fused.contribution[:12]}"


def _by_score(fused: ContributionSummary) -> str:
    return "" if fused.score_weight is None else f" (×{fused.score_weight:.3g} by score)"


def step_document(step: Step) -> Mapping[str, object]:
    """Return a release of a lineage as JSON has it."""
    summary, signed = step.summary, step.signed
    replaced = {"replaces": summary.replaces, "num_left_out": summary.num_left_out}
    return {
        **(replaced if summary.replaces is not None else {}),
        "release": step.number,
        "parent": summary.parent,
        "round": summary.round,
        "method": summary.method,
        "model_digest": summary.name.model_digest,
        "manifest_digest": summary.name.manifest_digest,
        "created_at_s": summary.created_at_s,
        "signed_by": signed.keyid,
        "signed_by_current_key": signed.is_current if signed.keyid else None,
        "problem": signed.problem,
        "journal_head": signed.statement.journal_head if signed.statement else None,
        "contributions": [asdict(fused) for fused in summary.contributions],
        "num_contributions": summary.num_contributions,
    }
