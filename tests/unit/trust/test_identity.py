"""As whom somebody signs: the key of a name, the one that follows it, and what is said where there is none."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from coldfuse.errors import CodecError, UserInputError
from coldfuse.trust.home import FederationFolder, Membership
from coldfuse.trust.identity import KeyFile, find_identity
from coldfuse.trust.keys import PrivateKey

FINGERPRINT = "ab" * 32


@pytest.fixture
def folder(tmp_path: Path) -> FederationFolder:
    return FederationFolder(tmp_path, FINGERPRINT)


def join(folder: FederationFolder, name: str, display_name: str | None = None) -> PrivateKey:
    key = PrivateKey.generate()
    folder.write_key(name, key)
    folder.keep_membership(Membership(federation=FINGERPRINT, name=name, display_name=display_name))
    return key


def test_one_membership_needs_no_name_and_keeps_the_one_for_people(folder):
    key = join(folder, "klinik-koln-a41d4b1e67", "Klinik Köln")
    found = find_identity(folder, None)
    assert (found.name, found.display_name, found.federation) == (
        "klinik-koln-a41d4b1e67", "Klinik Köln", FINGERPRINT,
    )  # fmt: skip
    assert found.signer.public == key.public


def test_of_several_the_name_decides_and_without_one_they_are_listed(folder):
    keys = {name: join(folder, name) for name in ("alice", "bob")}
    assert find_identity(folder, "bob").signer.public == keys["bob"].public
    with pytest.raises(UserInputError, match="alice, bob; say which: --name"):
        find_identity(folder, None)


@pytest.mark.parametrize("name", [None, "carol", "Klinik Köln"])
def test_who_is_no_member_is_told_how_to_become_one(folder, name):
    join(folder, "alice")
    join(folder, "bob")
    if name is None:
        folder = FederationFolder(folder.path.parent, "cd" * 32)
    with pytest.raises(UserInputError, match=r"no member .*coldfuse join TOKEN_FILE"):
        find_identity(folder, name)
    assert not folder.has_key(name or "alice")


def test_an_open_federation_has_a_key_made_once_for_each_name(folder):
    first = find_identity(folder, "Klinik Köln", is_open=True)
    again = find_identity(folder, "Klinik Köln", is_open=True)
    other = find_identity(folder, "bob", is_open=True)
    assert first.signer.public == again.signer.public != other.signer.public
    assert folder.key_path(first.name).stat().st_mode & 0o777 == 0o600


def test_a_key_that_others_can_read_is_refused(folder):
    join(folder, "alice")
    folder.key_path("alice").chmod(0o640)
    with pytest.raises(UserInputError, match="chmod 600"):
        find_identity(folder, "alice")


def test_a_key_that_is_replaced_is_read_again(folder):
    before = join(folder, "alice")
    identity = find_identity(folder, "alice")
    old = identity.signer
    staged = folder.stage_key("alice")
    assert identity.signer.public == before.public  # nobody has refused it yet
    folder.promote_key("alice")
    assert identity.signer.public == staged.public
    assert old.public == before.public  # what was asked for together stays together


def test_a_staged_key_is_the_same_until_it_is_in_its_place(folder):
    join(folder, "alice")
    first = folder.stage_key("alice")
    assert folder.stage_key("alice").public == first.public
    folder.promote_key("alice")
    assert folder.stage_key("alice").public != first.public


def test_a_refused_key_is_followed_by_the_staged_one_and_by_no_other(folder):
    before = join(folder, "alice")
    identity = find_identity(folder, "alice")
    assert not identity.follow(before.public.id)
    staged = folder.stage_key("alice")
    assert identity.follow(before.public.id)
    assert identity.signer.public == staged.public
    folder.promote_key("alice")
    assert identity.signer.public == staged.public
    assert not identity.follow(staged.public.id)


def test_a_key_that_is_gone_for_a_moment_still_signs(folder):
    key = join(folder, "alice")
    file = KeyFile(folder.key_path("alice"))
    os.rename(folder.key_path("alice"), folder.path / "elsewhere")
    assert file.newest().public == key.public
    assert not file.follow(key.public.id)


def test_a_key_that_is_half_written_is_read_once_it_is_whole(folder):
    before, after = join(folder, "alice"), PrivateKey.generate()
    path = folder.key_path("alice")
    file = KeyFile(path)
    path.write_bytes(after.pem()[:40])
    assert file.newest().public == before.public
    path.write_bytes(after.pem())
    assert file.newest().public == after.public


@pytest.mark.parametrize("place", ["home", "federation", "memberships", "keys"])
def test_a_file_in_the_place_of_a_folder_is_said_in_a_line(tmp_path, place):
    folder = FederationFolder(tmp_path / "home", FINGERPRINT)
    at = {"home": folder.path.parent, "federation": folder.path}.get(place, folder.path / place)
    at.parent.mkdir(parents=True, exist_ok=True)
    at.write_text("in the way")
    with pytest.raises(UserInputError, match=str(folder.path.parent)):
        find_identity(folder, "alice", is_open=True)


def test_a_damaged_note_of_a_membership_is_named(folder):
    join(folder, "alice")
    note = folder.path / "memberships" / "alice.json"
    note.write_bytes(note.read_bytes().replace(b"alice", b"malic"))
    with pytest.raises(CodecError, match=r"memberships/alice\.json"):
        find_identity(folder, None)


def test_neither_text_nor_pickle_shows_the_secret(folder):
    key = join(folder, "alice")
    identity = find_identity(folder, "alice")
    secret = key.pem().decode().splitlines()[1]
    assert secret not in repr(identity) + str(vars(identity)) + repr(vars(identity))
    assert secret not in repr(identity.signer)


def test_a_member_whose_key_is_gone_is_told_where_it_was(folder):
    join(folder, "alice")
    folder.key_path("alice").unlink()
    for name in (None, "alice"):
        with pytest.raises(
            UserInputError, match=r"alice: you have joined .*keys/alice\.pem; bring it back .*--new-key"
        ):
            find_identity(folder, name)


def test_a_damaged_note_of_a_membership_says_what_brings_it_back(folder):
    join(folder, "alice")
    (folder.path / "memberships" / "alice.json").write_text("garbage")
    with pytest.raises(CodecError, match=r"alice\.json: .*; remove it, and join again"):
        find_identity(folder, None)


@pytest.mark.parametrize("name", ["operator", "aggregator", "root", "model"])
def test_nobody_takes_a_roles_key_for_their_own(tmp_path: Path, name: str) -> None:
    folder = FederationFolder(tmp_path, "0" * 64)
    folder.write_key(name, PrivateKey.generate())
    with pytest.raises(UserInputError, match="is the name of a role"):
        find_identity(folder, name, is_open=True)


def test_all_folders_on_the_way_to_a_key_are_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    home = tmp_path / "share" / "coldfuse"
    before = os.umask(0)
    try:
        FederationFolder(home, FINGERPRINT).write_key("alice", PrivateKey.generate())
    finally:
        os.umask(before)
    made = [path for path in (tmp_path / "share").rglob("*") if path.is_dir()] + [tmp_path / "share"]
    assert len(made) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o700}
