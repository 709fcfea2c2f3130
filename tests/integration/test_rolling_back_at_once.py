"""Two operators go back at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from commands import wait_until
from dying_store import DyingStore
from tiny_nodes import MODEL, aggregating
from tiny_rounds import contribute, lead, make_changes, make_federation

from coldfuse.doctor.examine import Examination
from coldfuse.errors import UserInputError
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.moving import roll_back
from coldfuse.storage import LocalStore


class Meeting(DyingStore):
    """A store in which somebody else acts right before the channel `latest` is moved for the first time."""

    def __init__(self, url: str, other: Callable[[], object]) -> None:
        super().__init__(url)
        self._other, self.has_met = other, False

    def _begin(self, operation: str, key: str) -> None:
        if (operation, key) == ("compare_and_swap", "channels/latest") and not self.has_met:
            self.has_met = True
            self._other()
        super()._begin(operation, key)


def three_releases(folder: Path) -> Federation:
    federation = make_federation(folder, MODEL)
    for number in (1, 2, 3):
        lead(federation, number)
        for seed, name in enumerate(("ada", "ben")):
            contribute(federation, name, make_changes(MODEL, 10 * number + seed))
        lead(federation, number)
    return federation


def back(federation: Federation, number: int, by: str) -> None:
    roll_back(federation, number, reason=f"{by} says so", by=by, signer=None)


def test_two_operators_at_the_same_moment_make_two_steps_one_after_the_other(tmp_path: Path) -> None:
    federation = three_releases(tmp_path)
    store = Meeting(federation.store.url, lambda: back(federation, 1, "ben"))
    back(open_federation(store), 2, "ada")
    assert store.has_met
    last = federation.channel("latest").rollback
    assert last is not None
    assert (last.number, last.left, last.release, last.newest, last.by) == (2, 1, 2, 3, "ada")
    assert len(federation.store.list("rollbacks/").keys) == 2
    with aggregating(federation):
        wait_until(lambda: is_open_on(federation, 2), "a round on it")
        for seed, name in enumerate(("ada", "ben")):
            contribute(federation, name, make_changes(MODEL, 50 + seed))
        wait_until(lambda: federation.channel("latest").release == 4, "the release")
    assert federation.latest().parent == 2
    assert Examination(federation).run().is_sound


def is_open_on(federation: Federation, number: int) -> bool:
    state = federation.journal(federation.current_round()).state()
    return state.opened is not None and state.is_open and state.opened.base_release == number


def test_of_two_operators_who_want_the_same_one_is_told_that_it_is_done(tmp_path: Path) -> None:
    federation = three_releases(tmp_path)
    barrier, said = threading.Barrier(2), list[str]()

    def go_back(by: str) -> None:
        own = open_federation(LocalStore(federation.store.url))
        barrier.wait()
        try:
            back(own, 1, by)
            said.append("done")
        except UserInputError as error:
            said.append(str(error))

    threads = [threading.Thread(target=go_back, args=(by,)) for by in ("ada", "ben")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == ["done", "release 1 is the latest already; nothing was changed"]
    last = federation.channel("latest").rollback
    assert last is not None
    assert (last.number, last.left, last.release) == (1, 3, 1)
