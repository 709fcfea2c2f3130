"""A source that goes back, or is another one, is said to be so."""

from pathlib import Path

import pytest
from tiny_rounds import contribute, lead, make_changes, make_federation, make_model

from coldfuse.consumer import fetch
from coldfuse.consumer.changes import find_change
from coldfuse.core.release import ReleaseManifest
from coldfuse.errors import UserInputError
from coldfuse.gateway import StoreGateway


def manifest(**changes: object) -> ReleaseManifest:
    values = {
        "federation": "a" * 64, "release": 3, "parent": 2, "round": 3, "method": "mean", "model_digest": "b" * 64,
        "files": {}, "created_at_s": 0.0,
    }  # fmt: skip
    return ReleaseManifest.model_validate(values | changes)


@pytest.mark.parametrize("offered", [manifest(), manifest(release=4, model_digest="c" * 64)])
def test_the_same_and_a_newer_release_are_no_surprise(offered: ReleaseManifest) -> None:
    assert find_change(manifest(), offered, by_number=False) is None
    assert find_change(None, offered, by_number=False) is None


def test_an_older_release_is_one_unless_it_was_asked_for() -> None:
    change = find_change(manifest(), manifest(release=1), by_number=False)
    assert change is not None
    assert change.is_back
    assert "is at release 1, and was at 3 before" in change.text
    assert find_change(manifest(), manifest(release=1), by_number=True) is None


def test_another_model_under_the_same_number_is_one_however_it_was_asked_for() -> None:
    for by_number in (False, True):
        change = find_change(manifest(), manifest(model_digest="c" * 64), by_number=by_number)
        assert change is not None
        assert change.is_back


def test_another_federation_is_one() -> None:
    change = find_change(manifest(), manifest(federation="f" * 64, release=0), by_number=False)
    assert change is not None
    assert (change.is_back, change.text[:31]) == (False, "another federation: ffffffffffff"[:31])


def test_a_fetch_follows_a_channel_back_only_if_it_may(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, make_model())
    out = tmp_path / "out"
    lead(federation)
    for name in ("ada", "ben"):
        contribute(federation, name, make_changes(make_model(), ord(name[0])))
    lead(federation)
    gateway = StoreGateway(federation)
    assert fetch(gateway, out).manifest.release == 1
    older = GoneBack(gateway)

    with pytest.raises(UserInputError, match=r"is at release 0, and was at 1 before: .*nothing was changed"):
        fetch(older, out)
    assert fetch(gateway, out).downloaded_bytes == 0  # nothing was

    assert fetch(older, out, which=0).changed is None
    assert fetch(gateway, out).changed is None
    fetched = fetch(older, out, allow_older=True)
    assert fetched.manifest.release == 0
    assert fetched.changed is not None


class GoneBack:
    """The same federation after an older store was put in its place."""

    def __init__(self, gateway: StoreGateway) -> None:
        self.read_into, self.read_signed = gateway.read_into, gateway.read_signed
        self._gateway = gateway

    def release(self, which: int | str = "latest") -> ReleaseManifest:
        return self._gateway.release(0)
