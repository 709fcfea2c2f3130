"""Private keys and tokens are where they belong, and in nothing that is said, logged, listed, inherited or stored."""

from __future__ import annotations

import base64
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import Process
from cryptography.hazmat.primitives import serialization
from operators import Person, Place

from coldfuse.cli.aggregator import aggregator_arguments
from coldfuse.cli.options.channels import Telling
from coldfuse.cli.options.operator import Fusing, Holding
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.tokens import PREFIX, Token


def spellings(secret: bytes) -> list[bytes]:
    """Return a secret as it would be seen: raw, in hex and in base64, wherever that begins."""
    begun = [base64.b64encode(b"x" * shift + secret)[4:-4] for shift in range(3)]
    return [secret, secret.hex().encode(), *begun, repr(secret)[2:-1].encode()]


def secrets_of(key: PrivateKey) -> list[bytes]:
    pem = key.pem()
    der = serialization.load_pem_private_key(pem, None).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return [*pem.splitlines()[1:-1], *spellings(der[-32:])]


@contextmanager
def environment(person: Person) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLDFUSE_HOME", str(person.home))
        yield


def words_of(pid: int) -> bytes:
    """Return what everybody on the machine sees of a process, and what its children inherit."""
    place = Path(f"/proc/{pid}")
    return (place / "cmdline").read_bytes() + (place / "environ").read_bytes()


def test_no_secret_is_said_logged_listed_or_stored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    place = Place(tmp_path)
    ada, alice, said = place.init(), Person(tmp_path / "alice"), b""
    with environment(ada):
        invited = run("-v", "enroll", place.store, "alice")
        gateway = Process(sys.executable, "-m", "coldfuse", "-v", "gateway", place.store)
    token = Token.parse("\n".join(invited.lines))
    assert invited.lines == [token.text]
    with gateway:
        address = gateway.wait_for(lambda line: line.startswith("listening on ")).removeprefix("listening on ")
        (tmp_path / "token").write_text(token.text)
        with environment(alice):
            joined = Process(sys.executable, "-m", "coldfuse", "-v", "join", tmp_path / "token", "--address", address)
            said += words_of(joined.pid)
            joined.succeed()
            before = secrets_of(alice.folder(place.fingerprint()).read_key("alice"))
            rotated = run("-v", "rotate", address)
            wrong = run("-v", "--debug", "join", tmp_path / "token", "--address", address, "--root", "0" * 64, status=1)
        said += words_of(gateway.pid)
    for process in (joined, rotated, wrong, gateway):
        said += "\n".join([*process.lines, *process.errors]).encode()
    said += "\n".join(invited.errors).encode() + caplog.text.encode() + stored(place.store)
    keys = [*ada.home.glob("*/keys/*.pem"), *alice.home.glob("*/keys/*.pem")]
    assert len(keys) == 4
    hidden = [*before, *spellings(bytes.fromhex(token._invitation.seed)), token.text.encode()]
    for path in keys:
        hidden += secrets_of(PrivateKey.from_pem(path.read_bytes(), what="it"))
    for secret in hidden:
        assert secret not in said
    assert place.fingerprint().encode() in said  # what is no secret is found


def run(*words: object, status: int = 0) -> Process:
    with Process(sys.executable, "-m", "coldfuse", *words) as process:
        assert process.wait() == status, str(process)
    return process


def stored(folder: Path) -> bytes:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    return b"\n".join(path.read_bytes() + str(path).encode() for path in files)


def test_what_holds_a_secret_does_not_show_it(tmp_path: Path) -> None:
    place = Place(tmp_path)
    ada = place.init()
    token = Token.parse(ada.succeed("enroll", place.store, "alice").stdout)
    key = ada.folder(place.fingerprint()).read_key("operator")
    shown = f"{token!r} {token} {key!r} {key} {vars(token)!r} {[key]} {key.public!r}".encode()
    for secret in [*spellings(bytes.fromhex(token._invitation.seed)), *secrets_of(key), token.text.encode()]:
        assert secret not in shown
    assert PREFIX.encode() not in shown


def test_children_are_told_where_keys_are_and_not_which(tmp_path: Path) -> None:
    words = aggregator_arguments("store", Fusing(), Holding(keys=tmp_path, root="0" * 64), Telling())
    assert words[words.index("--keys") + 1] == str(tmp_path)
    assert "--key" not in words


def test_an_aggregators_child_without_its_key_ends_with_one_line(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.init()
    with environment(Person(tmp_path / "stranger")):
        process = run("aggregator", place.store, status=1)
    [line] = process.errors
    assert "there is no private key of 'aggregator' here" in line
