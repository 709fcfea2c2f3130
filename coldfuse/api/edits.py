"""Edits of a federation: which there are, by whom, since which release, and which are out again.

What a release says of its edits is what their contributors have called them; the gate has asked the suites of these
names. An edit is in a release if that was made of it: where something was retracted, a release stands for the one that
it replaces, without what was left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice

from coldfuse.api.lineage import History
from coldfuse.core.names import shown
from coldfuse.core.release import Channel
from coldfuse.core.rollback import Line
from coldfuse.core.words import plural, printable
from coldfuse.errors import CodecError, DamagedObjectError, FederationError, ObjectNotFoundError, TrustError
from coldfuse.gateway import ReleaseSummary

MOST_SAID = 20
"""Number of edits that are said in lines; JSON has all."""

_ENOUGH = 2000
"""Contributions after which no older release is looked at where a number of releases is given: a manifest of 10,000
contributions is megabytes."""


@dataclass(frozen=True, kw_only=True)
class ListedEdit:
    """An edit that a release was made with."""

    name: str
    """Name of the edit, as its contributor calls it."""
    contributor: str
    """Id of the contributor."""
    display_name: str | None
    """Name of the contributor for people; None where the id is the name."""
    contribution: str
    """SHA-256 of the contribution's manifest."""
    release: int
    """Number of the oldest release that it was found in: of those that were looked at, the one that it came in."""
    retracted_by: int | None = None
    """Number of the release that was made without it, as it was retracted; None: it was not."""
    is_taken_back: bool = False
    """Whether the latest release was not made of the one that it came in, as the federation was rolled back."""

    def __str__(self) -> str:
        """Say it in a line."""
        line = f"{self.name} by {printable(shown(self.contributor, self.display_name))}, in release {self.release}"
        if self.retracted_by is not None:
            return f"{line}, retracted by release {self.retracted_by}"
        return f"{line}, taken back" if self.is_taken_back else line


@dataclass(frozen=True, kw_only=True)
class Edits:
    """The edits of some releases, the newest first."""

    edits: tuple[ListedEdit, ...]
    """Edits that were found."""
    unread: int
    """Number of older releases, which were not looked at."""

    def document(self) -> dict[str, object]:
        """Return them as JSON has them."""
        return {"edits": [asdict(edit) for edit in self.edits], "releases_not_looked_at": self.unread}

    def lines(self) -> Iterator[str]:
        """Say them in lines; none where none was found."""
        for edit in self.edits[:MOST_SAID]:
            yield f"edit: {edit}"
        if (more := len(self.edits) - MOST_SAID) > 0:
            yield f"edit: … and {plural(more, 'other edit')}; --json lists them"
        if self.edits and self.unread:
            yield f"edit: … {plural(self.unread, 'older release')} not looked at"


def edits_of(
    history: History, channel: Channel | None, *, latest: int, oldest: int = 0, most: int | None = None
) -> Edits:
    """Return the edits of the newest releases.

    Args:
        history: Where the releases are listed.
        channel: The channel `latest`; None where it cannot be read.
        latest: Number of the latest release, where it cannot.
        oldest: Number of the oldest release that is looked at.
        most: Number of releases that are looked at, fewer where they have very many contributions; None: all of these.
    """
    newest = latest if channel is None else channel.newest
    releases: Iterator[ReleaseSummary] = islice(history.releases(before=newest + 1), max(newest + 1 - oldest, 0))
    if most is not None:
        releases = _until_enough(islice(releases, most))
    return find_edits(releases, latest=latest if channel is None else channel.release)


def _until_enough(history: Iterable[ReleaseSummary]) -> Iterator[ReleaseSummary]:
    num = 0
    for summary in history:
        yield summary
        num += len(summary.contributions)
        if num >= _ENOUGH:
            return


def find_edits(history: Iterable[ReleaseSummary], *, latest: int) -> Edits:
    """Look for edits in a history; it ends at a release that cannot be read or believed, as at the last one.

    Args:
        history: The releases, newest first, none left out.
        latest: Number of the release that the others are on the line of, or are not.
    """
    line, retracted = Line(latest), dict[str, int]()
    found: dict[str, ListedEdit] = {}
    unread = latest + 1
    for summary in _readable(history):
        number = unread = summary.name.number
        is_retraction = summary.replaces is not None
        is_on = line.has(number, summary.replaces if is_retraction else summary.parent)
        if is_retraction and is_on:
            retracted |= dict.fromkeys(summary.left_out, number)
        for fused in summary.contributions if is_on or not is_retraction else ():
            if fused.edit is not None:
                found.pop(fused.contribution, None)  # a retraction holds what came in with an older release
                found[fused.contribution] = ListedEdit(
                    name=fused.edit, contributor=fused.contributor, display_name=fused.display_name,
                    contribution=fused.contribution, release=number, is_taken_back=not is_on,
                    retracted_by=retracted.get(fused.contribution),
                )  # fmt: skip
    return Edits(edits=tuple(found.values()), unread=unread)


def _readable(history: Iterable[ReleaseSummary]) -> Iterator[ReleaseSummary]:
    try:
        yield from history
    except (FederationError, CodecError, DamagedObjectError, ObjectNotFoundError, TrustError):
        return  # others say what is wrong with it
