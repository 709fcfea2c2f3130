"""How long what a federation has made and was given is kept, and what follows from that.

Two things are kept by number of releases. *Files*: the models themselves. *Deltas*: what contributors sent, so that a
release can be fused again, by `verify --recompute`, or without somebody, by `retract`. Whoever keeps deltas of a
release keeps the files of its parent, too: it is fused on them. Manifests, journals and signatures are always kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from coldfuse.core.contribution import Count
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.value import Digest, Value, without_unset

MAX_COLLECTED = 100_000
"""Number of releases that one record of a collection names at most."""


MAX_KEPT = 1 << 32
"""More releases than the wire can number."""


class Collected(Value):
    """What was removed by the retention rules, so that nobody takes it for lost."""

    federation: Digest
    """Name of the federation."""
    files: Annotated[tuple[Count, ...], Field(max_length=MAX_COLLECTED)] = ()
    """Numbers of the releases whose files may be gone, in order."""
    deltas: Annotated[tuple[Count, ...], Field(max_length=MAX_COLLECTED)] = ()
    """Numbers of the releases whose contributions may be gone, in order."""
    collected_at_s: float
    """Seconds since 1970, by the clock of who collected; for people."""


class RetentionRules(Value):
    """How much is kept. What a channel or an open round needs is kept, whatever they say.

    >>> str(RetentionRules()), str(RetentionRules(keep_releases=20, keep_deltas=0))
    ('all', 'files of 20 releases, contributions of 0')
    """

    keep_releases: Annotated[int, Field(ge=1, le=MAX_KEPT)] | None = None
    """Number of the newest releases whose files are kept; None: all."""
    keep_deltas: Annotated[int, Field(ge=0, le=MAX_KEPT)] | None = None
    """Number of the newest releases whose contributions are kept; None: all."""

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return without_unset(handler(self), "keep_releases", "keep_deltas")

    def __str__(self) -> str:
        """Say it in a few words."""
        if self.keep_releases is None and self.keep_deltas is None:
            return "all"
        files, deltas = ("all" if each is None else str(each) for each in (self.keep_releases, self.keep_deltas))
        return f"files of {files} releases, contributions of {deltas}"


@dataclass(frozen=True, kw_only=True)
class Because:
    """Why something of some releases is kept."""

    what: Literal["files", "contributions"]
    releases: frozenset[int]
    """Numbers of the releases."""
    reason: str
    """The rule that keeps it, for people."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is kept, by numbers of releases."""

    files: frozenset[int]
    deltas: frozenset[int]
    why: tuple[Because, ...] = ()
    """Why, each release once for each of the two, by the first rule that keeps it."""


def decide_kept(
    rules: RetentionRules,
    releases: Iterable[ReleaseManifest],
    *,
    targets: Collection[int],
    collected: Kept,
    bases: Collection[int] = (),
) -> Kept:
    """Decide which releases' files and contributions are kept, and by which rule.

    Args:
        rules: How much is kept.
        releases: All releases, in any order.
        targets: Numbers of the releases that a channel points to; it may move on to any later one.
        collected: What an earlier collection has removed: it is not there to be kept.
        bases: Numbers of the releases that a round stands on which is not over.

    >>> from coldfuse.core.release import ReleaseManifest
    >>> def release(number, parent):
    ...     return ReleaseManifest(federation="0" * 64, release=number, parent=parent, round=number, method="mean",
    ...                            model_digest="0" * 64, files={}, created_at_s=0.0)
    >>> chain = [release(0, None), *(release(n, n - 1) for n in range(1, 7))]
    >>> none = Kept(files=frozenset(), deltas=frozenset())
    >>> kept = decide_kept(RetentionRules(keep_releases=2, keep_deltas=3), chain, targets=[6], collected=none)
    >>> sorted(kept.files), sorted(kept.deltas)
    ([3, 4, 5, 6], [4, 5, 6])
    >>> [(because.what, sorted(because.releases)) for because in kept.why]
    [('files', [5, 6]), ('files', [3, 4]), ('contributions', [4, 5, 6])]
    """
    known = {release.release: release for release in releases}
    newest = sorted(known, reverse=True)
    fused = [number for number in newest if known[number].parent is not None and number not in collected.deltas]
    deltas = set(fused if rules.keep_deltas is None else fused[: rules.keep_deltas])
    there = known.keys() - collected.files
    by_deltas = _of_rule("contributions", rules.keep_deltas)
    by_rule = [
        (set(newest if rules.keep_releases is None else newest[: rules.keep_releases]),
         _of_rule("files", rules.keep_releases)),
        ({number for number in newest if targets and number >= min(targets)}, "a channel points to it, or may yet"),
        (set(bases), "a round that is not over stands on it"),
        ({number for one in deltas for number in _needed_for(known[one])},
         f"releases are fused on it again, whose contributions are kept by {by_deltas}"),
    ]  # fmt: skip
    files, why = set[int](), list[Because]()
    for numbers, reason in by_rule:
        new = frozenset((numbers & there) - files)
        files |= new
        why += [Because(what="files", releases=new, reason=reason)] if new else []
    why += [Because(what="contributions", releases=frozenset(deltas), reason=by_deltas)] if deltas else []
    return Kept(files=frozenset(files), deltas=frozenset(deltas), why=tuple(why))


def _of_rule(what: Literal["files", "contributions"], number: int | None) -> str:
    option = "--keep-releases" if what == "files" else "--keep-deltas"
    return f"{option} all" if number is None else f"{option} {number}"


def _needed_for(release: ReleaseManifest) -> list[int]:
    """Return the releases that are read where one is fused again.

    What a module's deltas change was measured against the very releases that they were made on, which were replaced.
    """
    steps = release.retraction.steps if release.retraction and release.module else ()
    replaced = [step.release for step in steps]
    return [number for number in (release.parent, *replaced) if number is not None]
