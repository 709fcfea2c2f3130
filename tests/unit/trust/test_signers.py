"""Where private keys come from: files, OpenSSH's, systemd's credentials and signer URIs."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from coldfuse.errors import UserInputError
from coldfuse.trust.envelope import detached, verify_detached
from coldfuse.trust.home import write_private_key
from coldfuse.trust.keys import PrivateKey, Signer
from coldfuse.trust.signers import (
    ReferredSigner,
    find_signer,
    has_signer,
    keep_reference,
    open_key,
    read_public_key,
)

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
OPENSSH = serialization.PrivateFormat.OpenSSH


LOCKED = """-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABDZHHJo23
o5phVuu8VqBLqlAAAAEAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIHBbZXoEetEQBh9+
ldLLHHKyLsoAGLNo4tOfoEOo6pccAAAAkDWmrCyFk+G/66Q/0jWdqx4qtYtGpHCZueWdHE
U4w/qsXYxq/VHuctJ80F4qtFAfHL+fzP6RRMcpVBmm2aOIjC2lDPEGGl7QkdBsWLAOMsV7
DIDFyqKH6o36Qj/hq9a3dA3g5j6CnQqHDz/i9PWTQiFDqTnLb/Axanz4zwxnZco5s+r7El
l0lbG4Tr9xTVZyRQ==
-----END OPENSSH PRIVATE KEY-----
"""
"""A key that ssh-keygen has locked with `secret words`; it signs nothing anywhere."""


def written(path: Path, key: object, form: object = PKCS8, lock: bytes | None = None) -> Path:
    encryption = serialization.BestAvailableEncryption(lock) if lock else serialization.NoEncryption()
    path.write_bytes(key.private_bytes(PEM, form, encryption))  # type: ignore[attr-defined]
    path.chmod(0o600)
    return path


def assert_signs(signer: Signer) -> None:
    signature = detached(b"payload", "members", signer)
    verify_detached(b"payload", "members", [signature], keys=[signer.public], what="it")


KEYS = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_signer_uri_signs(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path / "key.pem", KEYS[kind]())
    signer = open_key(f"file2:{path}")
    assert isinstance(signer, ReferredSigner)
    assert_signs(signer)
    keep_reference(tmp_path / "keys" / "operator.json", signer.reference)
    again = find_signer("operator", tmp_path / "keys")
    assert again.public == signer.public
    assert_signs(again)


@pytest.mark.parametrize("form", [PKCS8, OPENSSH], ids=["pkcs8", "openssh"])
def test_a_key_file_signs_in_both_forms(form: object, tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    path = written(tmp_path / "id_ed25519", key, form)
    signer = open_key(str(path))
    assert_signs(signer)
    public = tmp_path / "id_ed25519.pub"
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    )
    assert read_public_key(str(public)) == signer.public == read_public_key(str(path))


def test_what_is_given_comes_before_the_credential_and_that_before_the_folder(tmp_path: Path) -> None:
    keys = {name: PrivateKey.generate() for name in ("given", "credential", "folder")}
    credentials = tmp_path / "credentials"
    write_private_key(tmp_path / "given.pem", keys["given"])
    write_private_key(credentials / "coldfuse-operator", keys["credential"])
    write_private_key(tmp_path / "keys" / "operator.pem", keys["folder"])
    os.chmod(credentials / "coldfuse-operator", 0o440)  # as systemd has it for who is not root
    places = {"keys": tmp_path / "keys", "credentials": credentials}
    assert find_signer("operator", **places, given=str(tmp_path / "given.pem")).public == keys["given"].public
    assert find_signer("operator", **places).public == keys["credential"].public
    assert find_signer("operator", tmp_path / "keys").public == keys["folder"].public
    assert has_signer("operator", **places)
    assert not has_signer("aggregator", **places)


def test_a_locked_key_is_opened_by_who_is_asked(tmp_path: Path) -> None:
    path = written(tmp_path / "key", ed25519.Ed25519PrivateKey.generate(), PKCS8, b"secret words")
    with pytest.raises(UserInputError, match="locked with a passphrase, and nobody is at a terminal"):
        open_key(str(path))
    assert_signs(open_key(str(path), ask=lambda what: "secret words" if str(path) in what else ""))
    with pytest.raises(UserInputError, match="the passphrase is not this key's"):
        open_key(str(path), ask=lambda _: "other words")


def test_a_locked_key_of_openssh_is_opened_or_says_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "id_ed25519"
    path.write_text(LOCKED)
    path.chmod(0o600)
    if find_spec("bcrypt") is not None:
        assert_signs(open_key(str(path), ask=lambda _: "secret words"))
        return
    with pytest.raises(UserInputError, match="pip install bcrypt"):
        open_key(str(path), ask=lambda _: "secret words")


WRONG = {
    "nothing there": ("nowhere.pem", "cannot be read"),
    "no key": ("text", "expected a private key as PEM"),
    "for all to read": ("open.pem", "chmod 600"),
    "for all to read, by URI": ("file2:open.pem", "chmod 600"),
    "another kind": ("p384.pem", "another kind of key"),
    "locked, by URI": ("file2:locked.pem", "locked with a passphrase"),
    "nothing there, by URI": ("file2:nowhere.pem", "cannot be used"),
    "unknown scheme": ("ftp:key", "no kind of key that is known"),
    "no HSM's library": ("hsm:2?label=x", r"pip install 'securesystemslib\[hsm\]'"),
    "no Google's library": ("gcpkms:projects/x", r"pip install 'securesystemslib\[gcpkms\]'"),
    "no Azure's library": (
        "azurekms://v.vault.azure.net/keys/a/b",
        r"pip install 'securesystemslib\[azurekms\]'",
    ),
    "no Vault's library": ("hv:key/1", r"pip install 'securesystemslib\[vault\]'"),
    "too long": ("hsm:" + "x" * 3000, "at most 2000"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_key_that_cannot_be_used_is_one_line(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "open.pem", ed25519.Ed25519PrivateKey.generate()).chmod(0o644)
    written(tmp_path / "p384.pem", KEYS["p384"]())
    written(tmp_path / "locked.pem", KEYS["p256"](), PKCS8, b"words")
    written(tmp_path / "text", ed25519.Ed25519PrivateKey.generate()).write_text("not a key")
    given, expected = WRONG[case]
    with pytest.raises(UserInputError, match=expected) as raised:
        open_key(given)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600


def test_a_role_without_a_key_is_told_where_one_would_be(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"operator.pem, or systemd's credential coldfuse-operator"):
        find_signer("operator", tmp_path)


def test_a_key_is_written_once_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    path, key = tmp_path / "keys" / "operator.pem", PrivateKey.generate()
    write_private_key(path, key)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    with pytest.raises(UserInputError, match="never overwritten"):
        write_private_key(path, PrivateKey.generate())
    assert find_signer("operator", path.parent).public == key.public
    assert [each.name for each in path.parent.iterdir()] == ["operator.pem"]
