"""Which edits a history has, and which of them are out again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from coldfuse.api import edits
from coldfuse.api.edits import MOST_SAID, Edits, edits_of, find_edits
from coldfuse.core.release import Channel
from coldfuse.core.rollback import Rollback
from coldfuse.errors import CodecError, ObjectNotFoundError, SignatureError, TransportError
from coldfuse.gateway import ContributionSummary, ReleaseName, ReleaseSummary


def release(number: int, *edits: str, parent: int | None = None, **different: object) -> ReleaseSummary:
    """Make a release with an edit of each name, by somebody of that name, and with a contribution that is none."""
    fused = [
        ContributionSummary(contributor=f"by-{name}", num_examples=1, weight=1.0, contribution=name, edit=name)
        for name in edits
    ]
    fused.append(ContributionSummary(contributor="ada", num_examples=1, weight=1.0, contribution=f"{number}"))
    parent = number - 1 if number and parent is None else parent
    made = ReleaseSummary(
        name=ReleaseName(number=number, model_digest="", manifest_digest=""), parent=parent, round=number,
        method="mean", num_contributions=len(fused), created_at_s=0.0, contributions=tuple(fused),
    )  # fmt: skip
    return replace(made, **different)  # type: ignore[arg-type]


def retraction(number: int, *left_out: str, parent: int = 0, held: Sequence[str] = ()) -> ReleaseSummary:
    return release(number, *held, parent=parent, replaces=number - 1, left_out=left_out)


def told(found: Edits) -> list[tuple[str, int, int | None, bool]]:
    return [(each.name, each.release, each.retracted_by, each.is_taken_back) for each in found.edits]


def test_edits_are_listed_the_newest_first_and_nothing_else_is() -> None:
    found = find_edits([release(2, "b"), release(1, "a", "c"), release(0)], latest=2)
    assert told(found) == [("b", 2, None, False), ("a", 1, None, False), ("c", 1, None, False)]
    assert next(iter(found.lines())) == "edit: b by by-b, in release 2"
    assert found.unread == 0
    assert list(find_edits([release(1), release(0)], latest=1).lines()) == []


def test_what_was_retracted_says_by_which_release_first_and_what_was_fused_again_stays_where_it_came_in() -> None:
    history = [
        release(5, "d"), retraction(4, "a", "b", held=["c"]), retraction(3, "a", held=["b"]), release(2, "b", "c"),
        release(1, "a"), release(0),
    ]  # fmt: skip
    history[0] = replace(history[0], parent=4)
    found = find_edits(history, latest=5)
    assert told(found) == [("d", 5, None, False), ("b", 2, 4, False), ("c", 2, None, False), ("a", 1, 3, False)]
    assert "edit: a by by-a, in release 1, retracted by release 3" in list(found.lines())


def test_what_only_a_retraction_is_seen_to_hold_is_listed_with_that() -> None:
    assert told(find_edits([retraction(4, "a", held=["b"])], latest=4)) == [("b", 4, None, False)]


def test_what_was_rolled_back_is_taken_back_and_a_retraction_that_was_rolled_back_retracts_nothing() -> None:
    back = [release(3, "c", parent=1), release(2, "b"), release(1, "a"), release(0)]
    assert told(find_edits(back, latest=3)) == [("c", 3, None, False), ("b", 2, None, True), ("a", 1, None, False)]
    assert told(find_edits(back[1:], latest=1)) == [("b", 2, None, True), ("a", 1, None, False)]
    undone = [release(4, parent=2), retraction(3, "a"), release(2, "b"), release(1, "a"), release(0)]
    assert told(find_edits(undone, latest=4)) == [("b", 2, None, False), ("a", 1, None, False)]


class History:
    """A history that counts what is read of it, and fails where it is told to."""

    def __init__(self, newest: int, *, fails_at: int = -1, error: Exception | None = None) -> None:
        self.num_read, self._newest, self._fails_at, self._error = 0, newest, fails_at, error

    def releases(self, *, before: int | None = None) -> Iterator[ReleaseSummary]:
        for number in range(self._newest if before is None else min(before - 1, self._newest), -1, -1):
            if number == self._fails_at and self._error is not None:
                raise self._error
            self.num_read += 1
            yield release(number, f"e{number}")

    def read_signed(self, key: str) -> bytes | None:
        raise NotImplementedError(key)


def channel(number: int, *, newest: int) -> Channel:
    step = Rollback(
        number=1, release=number, left=newest, left_manifest="0" * 64, newest=newest, round=newest, at_s=0.0
    )  # fmt: skip
    return Channel(release=number, round=number, manifest="0" * 64, model_digest="0" * 64, rollback=step)


def test_no_more_is_read_than_is_asked_for_and_what_was_not_is_counted() -> None:
    history = History(100)
    found = edits_of(history, None, latest=100, most=20)
    assert (len(found.edits), found.unread, history.num_read) == (20, 81, 20)
    assert list(found.lines())[-1] == "edit: … 81 older releases not looked at"
    history = History(100)
    assert (len(edits_of(history, None, latest=100, oldest=98).edits), history.num_read) == (3, 3)


def test_releases_of_very_many_contributions_are_not_all_read_for_the_newest_edits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(edits, "_ENOUGH", 6)  # three releases, of two contributions each
    history = History(100)
    found = edits_of(history, None, latest=100, most=20)
    assert (len(found.edits), found.unread, history.num_read) == (3, 98, 3)
    assert len(edits_of(History(100), None, latest=100).edits) == 101  # whoever asks for all gets all


def test_what_was_rolled_back_is_looked_at_and_what_came_since_is_not() -> None:
    found = edits_of(History(9), channel(2, newest=4), latest=2)
    assert told(found) == [
        ("e4", 4, None, True), ("e3", 3, None, True), ("e2", 2, None, False), ("e1", 1, None, False),
        ("e0", 0, None, False),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", [ObjectNotFoundError, CodecError, SignatureError])
def test_a_release_that_cannot_be_read_or_believed_ends_the_list(kind: type[Exception]) -> None:
    found = edits_of(History(4, fails_at=2, error=kind("no")), None, latest=4)
    assert ([each.release for each in found.edits], found.unread) == ([4, 3], 3)
    with pytest.raises(TransportError):
        edits_of(History(4, fails_at=2, error=TransportError("gone")), None, latest=4)


def test_many_are_said_in_few_lines_and_all_are_in_the_document() -> None:
    found = edits_of(History(99), None, latest=99)
    lines = list(found.lines())
    assert (len(lines), lines[-1]) == (MOST_SAID + 1, "edit: … and 80 other edits; --json lists them")
    assert len(found.document()["edits"]) == 100  # type: ignore[arg-type]


def test_a_contributor_s_name_does_nothing_to_a_terminal() -> None:
    bad = release(1, "a")
    bad = replace(bad, contributions=tuple(replace(one, contributor="a\x1b[2J\nb") for one in bad.contributions))
    [line] = find_edits([bad, release(0)], latest=1).lines()
    assert line.isprintable()
