"""Changing a federation's settings: one switch, a history, and no change unseen."""

from __future__ import annotations

import pytest
from federations import make_federation

from coldfuse.core.federation import ChangeableSettings, FederationSettings, RoundRules
from coldfuse.errors import FederationError, StorageError, UserInputError
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.settings import list_changes, read_settings, write_change
from coldfuse.storage import MemoryStore


@pytest.fixture
def federation() -> Federation:
    return make_federation(MemoryStore(), rules=RoundRules(quorum=2, deadline_s=900.0))


def change(store: MemoryStore, *, by: str = "ann", **wanted: object) -> FederationSettings:
    settings, etag = read_settings(store)
    return write_change(store, settings, etag, ChangeableSettings.model_construct(**wanted), by=by, after_release=0)


def told(store: MemoryStore) -> list[tuple[int, str, str]]:
    return [(made.number, made.by, str(made)) for made in open_federation(store).changes()]


def test_a_change_is_read_by_everybody_and_leaves_the_rest(federation: Federation) -> None:
    change(federation.store, quorum=4)
    now = federation.reopened().settings
    assert now.rules == RoundRules(quorum=4, deadline_s=900.0)
    assert now.model_copy(update={"rules": federation.settings.rules, "change": None}) == federation.settings


def test_the_history_says_who_changed_what_newest_first(federation: Federation) -> None:
    change(federation.store, quorum=4)
    change(federation.store, deadline_s=7200.0, method="ties", by="ben")
    change(federation.store, name="other", quorum=4)
    assert told(federation.store) == [
        (3, "ann", "name tiny → other"),
        (2, "ben", "deadline 15m → 2h, method mean → ties"),
        (1, "ann", "quorum 2 → 4"),
    ]


def test_what_is_so_already_is_no_change(federation: Federation) -> None:
    before = federation.store.get_with_etag("federation.json")
    assert change(federation.store, quorum=2, name="tiny", method="mean") == federation.settings
    assert federation.store.get_with_etag("federation.json") == before


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"quorum": 0}, "quorum 0"),
        ({"deadline_s": float("inf")}, "deadline_s inf"),
        ({"deadline_s": -1.0}, "deadline_s -1"),
        ({"name": "No!"}, "name 'No!'"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(federation: Federation, wanted: dict, said: str) -> None:
    before = federation.store.list("").keys
    with pytest.raises(UserInputError, match=said):
        change(federation.store, **wanted)
    assert federation.store.list("").keys == before
    assert federation.reopened().settings == federation.settings


def test_of_two_operators_at_once_one_wins_and_the_other_is_told(federation: Federation) -> None:
    settings, etag = read_settings(federation.store)
    change(federation.store, quorum=5, by="ben")
    with pytest.raises(FederationError, match=r"ben has changed quorum 2 → 5; your change \(quorum 2 → 3\) was not"):
        write_change(federation.store, settings, etag, ChangeableSettings(quorum=3), by="ann", after_release=0)
    assert federation.reopened().settings.rules.quorum == 5
    assert told(federation.store) == [(1, "ben", "quorum 2 → 5")]


class Failing(MemoryStore):
    """A store one of whose writes does not come back, whether or not it was made."""

    def __init__(self, *, is_made: bool) -> None:
        super().__init__()
        self.is_made = is_made
        self.num_left: int | None = None
        self.fired = 0

    def _write(self, write, *arguments, **options):
        if self.num_left is not None:
            self.num_left -= 1
        if self.num_left != -1:
            return write(*arguments, **options)
        self.fired += 1
        if self.is_made:
            write(*arguments, **options)
        raise StorageError("injected")

    def put_if_absent(self, *arguments, **options):
        return self._write(super().put_if_absent, *arguments, **options)

    def compare_and_swap(self, *arguments, **options):
        return self._write(super().compare_and_swap, *arguments, **options)


@pytest.mark.parametrize("is_made", [False, True])
@pytest.mark.parametrize("number", [0, 1])
def test_a_change_that_ends_at_a_write_is_made_or_not_and_the_history_is_whole(number: int, is_made: bool) -> None:
    store = Failing(is_made=is_made)
    make_federation(store)
    change(store, quorum=3)
    store.num_left = number
    with pytest.raises(StorageError, match="injected"):
        change(store, quorum=4)
    assert store.fired == 1
    is_switched = number == 1 and is_made
    assert open_federation(store).settings.rules.quorum == (4 if is_switched else 3)
    change(store, quorum=6)
    expected = ["quorum 4 → 6", "quorum 3 → 4", "quorum 2 → 3"] if is_switched else ["quorum 3 → 6", "quorum 2 → 3"]
    assert [line for _, _, line in told(store)] == expected


def changed_twice(federation: Federation) -> None:
    for number, quorum in ((1, 3), (2, 4), (3, 5)):
        settings, etag = read_settings(federation.store)
        by = ("ann", "ben", "cleo")[number - 1]
        write_change(federation.store, settings, etag, ChangeableSettings(quorum=quorum), by=by, after_release=0)


def test_a_history_that_miscounts_ends_with_a_word(federation: Federation) -> None:
    changed_twice(federation)
    data, etag = federation.store.get_with_etag("settings/00002.json")
    federation.store.compare_and_swap("settings/00002.json", data.replace(b'"number":2', b'"number":3'), etag=etag)
    with pytest.raises(FederationError, match=r"change 2 of the settings cannot be read .*its seal"):
        list(list_changes(federation.store))


def test_a_history_with_a_gap_says_which_change_is_missing(federation: Federation) -> None:
    changed_twice(federation)
    _, etag = federation.store.get_with_etag("settings/00001.json")
    federation.store.compare_and_swap("settings/00001.json", b"{", etag=etag)
    with pytest.raises(FederationError, match=r"change 1 of the settings cannot be read"):
        list(list_changes(federation.store))


def test_a_change_after_an_older_file_was_restored_overwrites_nobodys_history(federation: Federation) -> None:
    settings, etag = read_settings(federation.store)
    write_change(federation.store, settings, etag, ChangeableSettings(quorum=3), by="ann", after_release=0)
    older, _ = federation.store.get_with_etag("federation.json")
    for quorum in (4, 5):
        settings, etag = read_settings(federation.store)
        write_change(federation.store, settings, etag, ChangeableSettings(quorum=quorum), by="ben", after_release=0)
    _, etag = federation.store.get_with_etag("federation.json")
    federation.store.compare_and_swap("federation.json", older, etag=etag)
    settings, etag = read_settings(federation.store)
    write_change(federation.store, settings, etag, ChangeableSettings(quorum=6), by="cleo", after_release=0)
    settings, etag = read_settings(federation.store)
    with pytest.raises(FederationError, match=r"00002\.json holds another .* an older federation\.json was restored"):
        write_change(federation.store, settings, etag, ChangeableSettings(quorum=7), by="dan", after_release=0)
