from __future__ import annotations

import json
from pathlib import Path

import pytest
from federations import BASE_DIGEST, make_federation
from tiny_rounds import integers, make_model, read_release, write_model

from coldfuse.core.names import id_of
from coldfuse.core.round import Abandoned, Opened
from coldfuse.core.serialization import sha256
from coldfuse.errors import (
    ConflictError,
    DamagedObjectError,
    FederationError,
    UserInputError,
)
from coldfuse.gateway import StoreGateway
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.settings import SETTINGS_KEY
from coldfuse.storage import MemoryStore

RULES = {"quorum": 2, "deadline_s": 60.0}


@pytest.fixture
def federation() -> Federation:
    return make_federation(MemoryStore())


def next_release(federation: Federation, **changes: object):
    parent = federation.latest()
    values = {"release": parent.release + 1, "parent": parent.release, "round": parent.round + 1, "method": "mean"}
    return parent.model_copy(update=values | changes)


def create(store: MemoryStore, base: Path, **changes: object) -> Federation:
    options = {"name": "tiny", "base": base, "origin": "base", "method": "mean", "rules": RULES}
    return create_federation(store, **(options | changes))  # type: ignore[arg-type]


def swap_settings(store: MemoryStore, **changes: object) -> None:
    data, etag = store.get_with_etag(SETTINGS_KEY)
    store.compare_and_swap(SETTINGS_KEY, json.dumps(json.loads(data) | changes).encode(), etag=etag)


def test_a_federation_holds_its_base(tmp_path: Path) -> None:
    model = make_model()
    created = create(MemoryStore(), write_model(tmp_path / "m", model, num_files=2))
    opened = open_federation(created.store)
    assert opened.settings == created.settings
    assert read_release(opened) == model
    assert (opened.latest().release, opened.latest().parent, opened.current_round()) == (0, None, 1)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "my/federation"}, "name 'my/federation': it has a '/', as paths have"),
        ({"rules": {"quorum": 0}}, "quorum 0"),
        ({"rules": {"deadline_s": float("inf")}}, "deadline_s inf"),
    ],
)
def test_what_cannot_be_a_federation_writes_nothing(tmp_path: Path, changes, says: str) -> None:
    store = MemoryStore()
    with pytest.raises(UserInputError, match=says):
        create(store, write_model(tmp_path / "m", make_model()), **changes)
    assert store.list("").keys == ()


def test_a_model_without_floats_is_no_base(tmp_path: Path) -> None:
    store = MemoryStore()
    with pytest.raises(UserInputError, match="no tensor of this model can be fused"):
        create(store, write_model(tmp_path / "m", {"ids": integers([1, 2])}))
    assert store.list("").keys == ()


def test_a_second_federation_in_one_store_is_refused(tmp_path: Path, federation: Federation) -> None:
    with pytest.raises(FederationError, match="holds a federation already"):
        create(federation.store, write_model(tmp_path / "m", make_model()))  # type: ignore[arg-type]


def test_a_creation_that_died_half_way_is_told_apart(tmp_path: Path, federation: Federation) -> None:
    federation.store.delete(SETTINGS_KEY)
    with pytest.raises(FederationError, match="or one died while it did"):
        create(federation.store, write_model(tmp_path / "m", make_model()))  # type: ignore[arg-type]


class KilledError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("n", range(9))
def test_a_creation_that_was_killed_is_finished_by_another(tmp_path: Path, monkeypatch, n: int) -> None:
    store, base, left = MemoryStore(), write_model(tmp_path / "m", make_model(), num_files=2), n

    def dying(write):
        def call(*arguments: object, **options: object) -> object:
            nonlocal left
            if left == 0:
                raise KilledError
            left -= 1
            return write(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for name in ("put_if_absent", "compare_and_swap"):
            patch.setattr(store, name, dying(getattr(store, name)))
        with pytest.raises(KilledError):
            create(store, base)
    created = create(store, base, name="other")
    assert open_federation(store).settings == created.settings
    assert created.settings.federation == created.latest().federation
    assert created.settings.release_zero == sha256(created.release_bytes(0))
    assert read_release(created) == make_model()


def test_a_name_of_any_script_is_shown_beside_the_id_that_it_has(tmp_path: Path) -> None:
    store = MemoryStore()
    create(store, write_model(tmp_path / "m", make_model()), name="Région Süd")
    status = StoreGateway(open_federation(store)).status()
    assert (status.name, status.display_name) == (id_of("Région Süd"), "Région Süd")
    assert str(status).startswith(f"federation Région Süd ({status.name}), ")


def test_an_empty_store_is_no_federation() -> None:
    with pytest.raises(FederationError, match=r"holds no federation .*coldfuse init"):
        open_federation(MemoryStore())


@pytest.mark.parametrize("unreadable", [{}, {"rules": "of another kind", "method": None}])
def test_a_newer_layout_is_refused_in_a_sentence(federation: Federation, unreadable: dict[str, object]) -> None:
    swap_settings(federation.store, version=3, **unreadable)  # type: ignore[arg-type]
    with pytest.raises(FederationError, match="has layout version 3, this coldfuse knows 2; upgrade coldfuse"):
        open_federation(federation.store)


def test_settings_that_make_no_sense_are_refused(federation: Federation) -> None:
    swap_settings(federation.store, name="../x")  # type: ignore[arg-type]
    federation.store.delete("settings/copy.json")  # which would be taken instead
    with pytest.raises(FederationError, match=r"federation.json: name: "):
        open_federation(federation.store)


def test_publishing_twice_is_publishing_once(federation: Federation) -> None:
    release = next_release(federation)
    federation.publish(release)
    federation.publish(release)
    assert federation.latest() == release
    assert list(federation.store.list("releases/").keys) == ["releases/00000.json", "releases/00001.json"]


def test_a_publication_that_died_before_the_pointer_is_finished(federation: Federation) -> None:
    release = next_release(federation)
    before, _etag = federation.store.get_with_etag("channels/latest")
    federation.publish(release)
    now = federation.store.get_with_etag("channels/latest")[1]
    federation.store.compare_and_swap("channels/latest", before, etag=now)  # as if it had not moved
    federation.publish(release)
    assert federation.latest() == release


def test_another_release_of_the_same_number_is_a_conflict(federation: Federation) -> None:
    release = next_release(federation)
    federation.publish(release)
    with pytest.raises(ConflictError, match="release 1 was published by another aggregator"):
        federation.publish(release.model_copy(update={"created_at_s": 2.0}))
    assert federation.latest() == release


def test_a_release_of_an_older_parent_is_a_conflict(federation: Federation) -> None:
    federation.publish(next_release(federation))
    with pytest.raises(ConflictError, match="release 2 continues 0, but 1 is the latest"):
        federation.publish(next_release(federation, parent=0))
    assert federation.latest().release == 1


def test_the_latest_manifest_is_checked_against_the_pointer(federation: Federation) -> None:
    latest = federation.latest()
    federation.store.delete("releases/00000.json")
    federation.store.put_if_absent("releases/00000.json", b"{}")
    assert federation.latest() == latest  # from the object that the pointer names
    federation.store.delete(f"objects/{federation.channel('latest').manifest}")
    with pytest.raises(DamagedObjectError, match="it is missing"):
        federation.latest()


def test_what_is_not_there_is_told_with_what_is(federation: Federation) -> None:
    with pytest.raises(FederationError, match="there is no release 5; the latest is 0"):
        federation.release(5)
    with pytest.raises(FederationError, match="there is no channel 'stable'; every federation has 'latest'"):
        federation.channel("stable")


def test_the_current_round_follows_the_abandoned_ones(federation: Federation) -> None:
    for number in (1, 2):
        assert federation.current_round() == number
        journal = federation.journal(number)
        journal.append(Opened(base_release=0, base_digest=BASE_DIGEST, opened_at_s=0.0))
        assert federation.current_round() == number
        journal.append(Abandoned(reason="too few"))
    assert federation.current_round() == federation.current_round(at_least=2) == 3


def test_the_current_round_follows_the_release(federation: Federation) -> None:
    federation.publish(next_release(federation, round=4))
    assert federation.current_round() == 5


def test_an_object_is_checked_when_it_is_read(federation: Federation) -> None:
    digest = sha256(b"{}")
    federation.store.put_if_absent(f"objects/{digest}", b"{ }")
    with pytest.raises(DamagedObjectError):
        federation.objects.get_value(Abandoned, digest)
    assert federation.objects.has(digest, 3)
    assert not federation.objects.has(digest, 2)
    assert not federation.objects.has(sha256(b"other"), 0)


def test_garbage_in_a_channel_is_told_or_made_anew_from_the_releases(federation: Federation) -> None:
    _data, etag = federation.store.get_with_etag("channels/latest")
    federation.store.compare_and_swap("channels/latest", b"?", etag=etag)
    assert federation.latest().release == 0  # the newest that is there
    federation.store.compare_and_swap("channels/stable", b"?", etag=None)
    with pytest.raises(DamagedObjectError, match=r"channels/stable is damaged: .*Invalid JSON"):
        federation.channel("stable")
