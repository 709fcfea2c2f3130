"""The signatures beside a fetched release: brought, kept right, replaced, removed; and a user's own left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from federation_keys import TinyTrust
from fetching import Source
from signed_rounds import add_signed, make_signed, sign_it

from coldfuse.consumer import fetch, read_fetched
from coldfuse.core.model_files import PROVENANCE_FILE, SIGNATURE_FILE
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import MAX_MANIFEST_BYTES
from coldfuse.errors import CodecError, TransportError, UserInputError
from coldfuse.gateway import StoreGateway
from coldfuse.registry.federation import Federation
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.trust.envelope import verified
from coldfuse.trust.model_signature import model_signature_key
from coldfuse.trust.provenance import read_statement, statement_key
from coldfuse.trust.signed_folder import verify_folder

SIGNERS = TinyTrust()
NAMES = (SIGNATURE_FILE, PROVENANCE_FILE)


@pytest.fixture
def signed(tmp_path: Path, small_parts: int) -> Federation:
    """A federation of two releases, both signed."""
    return make_signed(tmp_path, SIGNERS, rounds=1)


def strip(federation: Federation, number: int) -> None:
    """Take a release's signatures away, as if a version had made it that signed nothing."""
    for key in (model_signature_key(number), statement_key(number)):
        federation.store.delete(key)


def are_right(out: Path, federation: Federation, number: int) -> bool:
    keys = (model_signature_key(number), statement_key(number))
    return all((out / name).read_bytes() == federation.store.get(key) for name, key in zip(NAMES, keys, strict=True))


def test_a_signed_release_arrives_with_what_proves_it(signed: Federation, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fetched = fetch(StoreGateway(signed), out)
    assert are_right(out, signed, 1)
    assert verify_folder(out, [SIGNERS.model.public]).digests.keys() == fetched.manifest.files.keys()
    payload = verified((out / PROVENANCE_FILE).read_bytes(), "provenance", [SIGNERS.aggregator.public], what="x")
    assert read_statement(payload).model_digest == fetched.manifest.model_digest == open_checkpoint(out).digest()
    assert fetch(StoreGateway(signed), out).downloaded_bytes == 0


def test_the_next_release_brings_its_own_and_an_unsigned_one_none(signed: Federation, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fetch(StoreGateway(signed), out, which=0)
    assert are_right(out, signed, 0)
    fetch(StoreGateway(signed), out)
    assert are_right(out, signed, 1)
    verify_folder(out, [SIGNERS.model.public])
    strip(signed, 0)
    fetch(StoreGateway(signed), out, which=0)
    assert not any((out / name).exists() for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data", [None, b"", b"another"])
def test_a_signature_that_was_altered_or_removed_comes_again(
    signed: Federation, tmp_path: Path, name: str, data: bytes | None
) -> None:
    out = tmp_path / "out"
    fetch(StoreGateway(signed), out)
    (out / name).unlink()
    if data is not None:
        (out / name).write_bytes(data)
    assert fetch(StoreGateway(signed), out).downloaded_bytes == 0
    assert are_right(out, signed, 1)


def test_a_release_that_is_signed_later_gets_its_signatures_with_the_next_fetch(
    signed: Federation, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    strip(signed, 1)
    fetch(StoreGateway(signed), out)
    assert not any((out / name).exists() for name in NAMES)
    sign_it(signed, signed.latest(), SIGNERS)
    fetch(StoreGateway(signed), out)
    assert are_right(out, signed, 1)


def test_a_users_own_signature_is_neither_removed_nor_replaced(signed: Federation, tmp_path: Path) -> None:
    out = tmp_path / "out"
    strip(signed, 0)
    fetch(StoreGateway(signed), out, which=0)
    (out / SIGNATURE_FILE).write_bytes(b"mine")
    fetch(StoreGateway(signed), out, which=0)
    with pytest.raises(UserInputError, match=r"model\.sig: was not written by a fetch"):
        fetch(StoreGateway(signed), out)
    assert read_fetched(out) == signed.release(0)
    assert (out / SIGNATURE_FILE).read_bytes() == b"mine"
    (out / SIGNATURE_FILE).unlink()
    fetch(StoreGateway(signed), out)
    assert are_right(out, signed, 1)


class Cut(Source):
    """A source that dies when it is asked for what is signed."""

    def read_signed(self, key: str) -> bytes | None:
        raise TransportError("injected")


def test_a_source_that_dies_at_the_signatures_leaves_what_was_there(signed: Federation, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fetch(StoreGateway(signed), out, which=0)
    with pytest.raises(TransportError, match="injected"):
        fetch(Cut(signed), out)
    assert read_fetched(out) == signed.release(0)
    verify_folder(out, [SIGNERS.model.public])


class Endless(Source):
    """A source whose signatures are longer than any."""

    def read_signed(self, key: str) -> bytes | None:
        return bytes(MAX_MANIFEST_BYTES + 1)


def test_a_signature_that_is_too_long_is_not_written(signed: Federation, tmp_path: Path) -> None:
    with pytest.raises(CodecError, match="at most"):
        fetch(Endless(signed), tmp_path / "out")
    assert not any((tmp_path / "out" / name).exists() for name in NAMES)


def test_an_interrupted_fetch_leaves_the_old_release_with_its_signatures(signed: Federation, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fetch(StoreGateway(signed), out, which=0)
    with pytest.raises(TransportError, match="injected"):
        fetch(Source(signed, fails_after=1), out)
    verify_folder(out, [SIGNERS.model.public])
    fetch(StoreGateway(signed), out)
    assert are_right(out, signed, 1)
    verify_folder(out, [SIGNERS.model.public])


@pytest.mark.parametrize("note", [b"", b"{}", b"[1, null]", b'["../../etc/passwd", ".coldfuse"]', b"\xff"])
def test_a_damaged_note_removes_nothing_that_is_no_signature(signed: Federation, tmp_path: Path, note: bytes) -> None:
    out = tmp_path / "out"
    fetch(StoreGateway(signed), out, which=0)
    (out / ".coldfuse" / "signatures.json").write_bytes(note)
    fetch(StoreGateway(signed), out, which=0)
    assert are_right(out, signed, 0)
    assert json.loads((out / ".coldfuse" / "signatures.json").read_bytes()) == sorted(NAMES)


def test_a_link_in_the_place_of_a_signature_is_not_followed(signed: Federation, tmp_path: Path) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim"
    fetch(StoreGateway(signed), out)
    victim.write_bytes(b"precious")
    (out / SIGNATURE_FILE).unlink()
    (out / SIGNATURE_FILE).symlink_to(victim)
    fetch(StoreGateway(signed), out)
    assert victim.read_bytes() == b"precious"
    assert are_right(out, signed, 1)
    assert not (out / SIGNATURE_FILE).is_symlink()


@pytest.mark.parametrize("name", NAMES)
def test_a_release_whose_files_would_stand_in_their_place_is_refused(
    signed: Federation, tmp_path: Path, name: str
) -> None:
    manifest = signed.latest()
    files = {**manifest.files, name: manifest.files["config.json"]}
    with pytest.raises(CodecError, match="nothing else is taken"):
        fetch(Source(signed, changes={"files": files}), tmp_path / "out")
    assert not (tmp_path / "out" / name).exists()


def test_two_rounds_later_all_is_right(signed: Federation, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fetch(StoreGateway(signed), out)
    manifest: ReleaseManifest = add_signed(signed, SIGNERS, 2)
    fetched = fetch(StoreGateway(signed), out)
    assert fetched.manifest == manifest
    verify_folder(out, [SIGNERS.model.public])
