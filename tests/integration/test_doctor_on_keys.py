"""The doctor on a store of a federation with a root: nothing sound is garbage, and what is wrong is named."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rooted import RootedFederation
from tiny_rounds import lead, make_changes, make_model

from coldfuse.core.round import Closed
from coldfuse.core.sealed import seal
from coldfuse.doctor.examine import Examination
from coldfuse.doctor.findings import Report
from coldfuse.doctor.sources import StoreSource
from coldfuse.registry.federation import open_federation
from coldfuse.storage import LocalStore
from coldfuse.trust.envelope import sign
from coldfuse.trust.keys import PrivateKey

MODEL = make_model()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RootedFederation:
    """Release 1, an open round with a contribution, two members, and a check."""
    made = RootedFederation(tmp_path_factory.mktemp("made"))
    members = [made.enroll(name) for name in ("ada", "ben")]
    lead(made.opened(), 1, now_s=time.time())
    made.send("ada", make_changes(MODEL, 0), members[0])
    lead(made.opened(), 1)
    lead(made.opened(), 2, now_s=time.time())
    made.send("ben", make_changes(MODEL, 1), members[1])
    made.store.put_if_absent("words/1/ada.json", sign(b"{}", "check", [PrivateKey.generate()]))
    return made


def examine(store: LocalStore, *sources: LocalStore, repairs: bool = False) -> Report:
    return Examination(open_federation(store), tuple(map(StoreSource, sources)), repairs=repairs).run()


def copy(made: RootedFederation, folder: Path) -> LocalStore:
    return LocalStore(shutil.copytree(made.path / "store", folder / "store"))


def test_a_sound_store_is_sound_and_nothing_in_it_is_garbage(made: RootedFederation) -> None:
    report = examine(made.store)
    assert [str(finding) for finding in report.findings] == []
    assert report.garbage.num_objects == 0, report.garbage.examples


def swap(store: LocalStore, key: str, data: bytes) -> None:
    store.compare_and_swap(key, data, etag=store.get_with_etag(key)[1])


def flip(store: LocalStore, key: str) -> None:
    data = bytearray(store.get(key))
    data[len(data) // 2] ^= 1
    swap(store, key, bytes(data))


CLOSED = "rounds/00001/journal/00000002-closed"
DAMAGES: dict[str, tuple[Callable[[LocalStore], object], str]] = {
    "a flipped channel": (lambda s: flip(s, "channels/latest"), "channels/latest"),
    "a flipped entry": (lambda s: flip(s, CLOSED), CLOSED),
    "a flipped head": (lambda s: flip(s, "rounds/00001/head"), "rounds/00001/head"),
    "a forged entry": (lambda s: swap(s, CLOSED, seal(Closed(contributions=(), reason="-"))), CLOSED),
    "an entry elsewhere": (lambda s: swap(s, CLOSED, s.get("rounds/00001/journal/00000001-admitted")), CLOSED),
    "a flipped copy": (lambda s: flip(s, "settings/copy.json"), "settings/copy.json"),
    "a cut list of members": (lambda s: swap(s, "members/2.json", b"{"), "members/2.json"),
    "a check that is none": (lambda s: swap(s, "words/1/ada.json", b"{}"), "words/1/ada.json"),
    "a missing statement": (lambda s: s.delete("releases/00001.sig"), "releases/00001.sig"),
    "a flipped model.sig": (lambda s: flip(s, "releases/00001.model.sig"), "releases/00001.model.sig"),
    "another release's": (
        lambda s: swap(s, "releases/00001.sig", s.get("releases/00000.sig")), "releases/00001.sig"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGES)
def test_what_is_wrong_is_named(made: RootedFederation, tmp_path: Path, what: str) -> None:
    damage, key = DAMAGES[what]
    store = copy(made, tmp_path)
    damage(store)
    assert key in [finding.key for finding in examine(store).findings]


def test_a_damaged_key_of_a_member_is_named(made: RootedFederation, tmp_path: Path) -> None:
    store = copy(made, tmp_path)
    flip(store, next(key for key in store.list("members/keys/").keys if key.endswith("/0.json")))
    (finding,) = examine(store).findings
    assert finding.key.startswith("members/keys/")
    assert finding.needed_by[0] in ("what ada signs", "what ben signs")


def test_entries_come_back_from_the_head_or_a_copy_as_they_were_signed(made: RootedFederation, tmp_path: Path) -> None:
    store = copy(made, tmp_path)
    last = "rounds/00001/journal/00000004-published"
    before = {key: store.get(key) for key in (last, CLOSED)}
    for key in before:
        swap(store, key, b"rot")
    assert [f.repaired for f in examine(store, made.store, repairs=True).findings if f.key in before] != []
    assert {key: store.get(key) for key in before} == before
    assert examine(store).findings == ()
