"""The card beside a fetched release: written, kept right, and never over what somebody else has written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from federation_keys import TinyTrust
from signed_rounds import add_signed, make_signed

from coldfuse.consumer import card, fetch, read_fetched
from coldfuse.consumer.folder import OWN
from coldfuse.core.model_files import CARD_FILE, SIGNATURE_FILE
from coldfuse.errors import TransportError
from coldfuse.gateway import StoreGateway
from coldfuse.registry.federation import Federation
from coldfuse.trust import model_signature
from coldfuse.trust.signed_folder import verify_folder

SIGNERS = TinyTrust()


@pytest.fixture
def signed(tmp_path: Path) -> Federation:
    return make_signed(tmp_path, SIGNERS, rounds=1)


@pytest.fixture
def out(tmp_path: Path, signed: Federation) -> Path:
    fetch(StoreGateway(signed), tmp_path / "out")
    return tmp_path / "out"


def test_a_fetch_writes_it_and_the_folder_still_verifies(out: Path) -> None:
    assert "release: 1, made from release 0" in (out / CARD_FILE).read_text()
    assert CARD_FILE not in verify_folder(out, [SIGNERS.model.public]).digests


def test_it_follows_the_release_and_comes_back(out: Path, signed: Federation) -> None:
    add_signed(signed, SIGNERS, 2)
    fetch(StoreGateway(signed), out)
    assert "release: 2, made from release 1" in (out / CARD_FILE).read_text()
    (out / CARD_FILE).unlink()
    assert fetch(StoreGateway(signed), out).downloaded_bytes == 0
    assert "release: 2" in (out / CARD_FILE).read_text()


def test_what_has_not_changed_is_not_written_again(out: Path, signed: Federation) -> None:
    before = (out / CARD_FILE).stat()
    fetch(StoreGateway(signed), out)
    assert (out / CARD_FILE).stat().st_mtime_ns == before.st_mtime_ns


OWN_CARDS: dict[str, Callable[[Path], object]] = {
    "edited": lambda path: path.write_text(path.read_text() + "\nnotes of mine\n"),
    "own": lambda path: path.write_text("# mine"),
    "link": lambda path: (path.unlink(), path.symlink_to("/nowhere")),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "empty": lambda path: path.write_bytes(b""),
    "no-utf-8": lambda path: path.write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("change", OWN_CARDS.values(), ids=OWN_CARDS)
def test_what_a_user_has_made_of_it_stays(out: Path, signed: Federation, change: Callable[[Path], object]) -> None:
    change(out / CARD_FILE)
    before = os.lstat(out / CARD_FILE)
    for number in (2, 3):
        add_signed(signed, SIGNERS, number)
        assert fetch(StoreGateway(signed), out).manifest.release == number
    after = os.lstat(out / CARD_FILE)
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


def test_where_an_older_signature_does_not_leave_it_out_it_lies_in_the_fetch_s_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_signature, "IGNORED", tuple(n for n in model_signature.IGNORED if n != CARD_FILE))
    old, out = make_signed(tmp_path, SIGNERS, rounds=0), tmp_path / "out"
    fetch(StoreGateway(old), out)
    assert not (out / CARD_FILE).exists()
    assert "release: 0" in (out / OWN / CARD_FILE).read_text()
    assert verify_folder(out, [SIGNERS.model.public])
    assert card.own_card(out) == out / OWN / CARD_FILE


def test_one_from_a_newer_signature_goes_where_an_older_one_forbids_it(
    out: Path, signed: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_signature, "IGNORED", tuple(n for n in model_signature.IGNORED if n != CARD_FILE))
    add_signed(signed, SIGNERS, 2)
    fetch(StoreGateway(signed), out)
    assert not (out / CARD_FILE).exists()
    assert verify_folder(out, [SIGNERS.model.public])


def test_a_signature_that_is_none_does_not_stop_a_fetch(out: Path, signed: Federation) -> None:
    key = model_signature.model_signature_key(1)
    signed.store.delete(key)
    signed.store.put_if_absent(key, b"junk")
    assert fetch(StoreGateway(signed), out).signed == (SIGNATURE_FILE, "provenance.json")


def test_a_source_that_does_not_say_its_settings_still_gives_a_card(out: Path, signed: Federation) -> None:
    class Silent(StoreGateway):
        def read_signed(self, key: str) -> bytes | None:
            if key == "federation.json":
                raise TransportError("away")
            return super().read_signed(key)

    (out / CARD_FILE).unlink()
    fetch(Silent(signed), out)
    assert "# A federation's model, release 1" in (out / CARD_FILE).read_text()


@pytest.mark.parametrize("at", [1, 2, 3])
def test_killed_at_any_write_it_is_known_whose_it_is(
    out: Path, signed: Federation, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    add_signed(signed, SIGNERS, 2)
    written, write = [], card.write_whole

    def killed(path: Path, data: bytes) -> None:
        written.append(path)
        if len(written) == at:
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(card, "write_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        fetch(StoreGateway(signed), out)
    assert len(written) == at
    monkeypatch.undo()
    fetch(StoreGateway(signed), out)
    assert "release: 2" in (out / CARD_FILE).read_text()
    assert read_fetched(out) is not None
