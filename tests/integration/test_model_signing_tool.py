"""A folder that was signed here, before the reference tool of OpenSSF model signing; and the other way round."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from federation_keys import TinyTrust
from signed_rounds import add_signed, sign_it
from tiny_rounds import make_model, write_model

from coldfuse.consumer import fetch
from coldfuse.core.model_files import SIGNATURE_FILE
from coldfuse.core.serialization import sha256
from coldfuse.errors import CodecError, DigestMismatchError, SignatureError
from coldfuse.gateway import StoreGateway
from coldfuse.registry.creation import create_federation
from coldfuse.storage import LocalStore
from coldfuse.trust.keys import PrivateKey, PublicKey
from coldfuse.trust.model_signature import sign_files
from coldfuse.trust.signed_folder import verify_folder

VECTORS = Path(__file__).parents[1] / "data" / "model_signing"
VECTORS_KEY = PublicKey(scheme="ecdsa-sha2-nistp384", pem=(VECTORS / "key.pem").read_text())
KEY, OTHER = PrivateKey.generate_p256(), PrivateKey.generate_p256()
FILES = {
    "model.safetensors": b"weights" * 100_000,
    "config.json": b"{}",
    "1_Pooling/config.json": b"[]",
    "empty.txt": b"",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A signed folder, with what fetching and `hf download` leave in it."""
    folder = tmp_path / "model"
    for name, data in (FILES | {".coldfuse/seen.json": b"{}", ".cache/huggingface/x.lock": b""}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    digests = {name: sha256(data) for name, data in FILES.items()}
    (folder / SIGNATURE_FILE).write_bytes(sign_files(digests, name="ward/12", signer=KEY))
    (tmp_path / "key.pem").write_bytes(KEY.public.pem.encode())
    return folder


def accepts(folder: Path) -> bool:
    """Tell whether the reference tool, as a library, accepts a folder; what it says is no error of ours otherwise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from model_signing.verifying import Config

        try:
            config = Config().use_elliptic_key_verifier(public_key=folder.parent / "key.pem")
            config.verify(folder, folder / SIGNATURE_FILE)
        except ValueError:
            return False
    return True


def accepts_here(folder: Path) -> bool:
    try:
        verify_folder(folder, [KEY.public])
    except (SignatureError, DigestMismatchError, CodecError):
        return False
    return True


def test_the_command_of_the_reference_tool_accepts_it_and_refuses_it_once_changed(folder: Path) -> None:
    command = [sys.executable, "-m", "model_signing", "verify", "key", "--public_key", folder.parent / "key.pem"]
    command += ["--signature", folder / SIGNATURE_FILE, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "succeeded" in done.stdout) == (0, True), done.stderr
    (folder / "config.json").write_bytes(b"[]")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "Hash mismatch for 'config.json'" in done.stdout + done.stderr) == (1, True)


def link(folder: Path) -> None:
    (folder / "config.json").rename(folder.parent / "config.json")
    (folder / "config.json").symlink_to(folder.parent / "config.json")


def link_folder(folder: Path) -> None:
    (folder / "1_Pooling").rename(folder.parent / "1_Pooling")
    (folder / "1_Pooling").symlink_to(folder.parent / "1_Pooling")


def flip(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)


CHANGES: dict[str, Callable[[Path], object]] = {
    "one-bit": flip,
    "longer": lambda folder: (folder / "empty.txt").write_bytes(b" "),
    "added": lambda folder: (folder / "modeling.py").write_bytes(b"import os"),
    "added-below": lambda folder: (folder / "1_Pooling" / "x.json").write_bytes(b""),
    "added-where-its-name-is-ignored-above": lambda folder: (folder / "1_Pooling" / "provenance.json").write_bytes(b""),
    "removed": lambda folder: (folder / "config.json").unlink(),
    "removed-empty": lambda folder: (folder / "empty.txt").unlink(),
    "renamed": lambda folder: (folder / "config.json").rename(folder / "Config.json"),
    "swapped": lambda folder: os.replace(folder / "config.json", folder / "1_Pooling" / "config.json"),
    "other-signature": lambda folder: (folder / SIGNATURE_FILE).write_bytes(
        sign_files({"config.json": sha256(b"{}")}, name="ward/12", signer=OTHER)
    ),
    "link": link,
    "folder-link": link_folder,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_both_refuse_what_was_changed(folder: Path, change: Callable[[Path], object]) -> None:
    assert accepts(folder)
    assert accepts_here(folder)
    change(folder)
    assert not accepts(folder)
    assert not accepts_here(folder)


UNSIGNED: dict[str, Callable[[Path], object]] = {
    "notes": lambda folder: (folder / ".coldfuse" / "seen.json").write_bytes(b"[]"),
    "more-notes": lambda folder: (folder / ".coldfuse" / "release.json").write_bytes(b"[]"),
    "provenance": lambda folder: (folder / "provenance.json").write_bytes(b"{}"),
    "renamed": lambda folder: None,
    "empty-folder": lambda folder: (folder / "runs").mkdir(),
}


@pytest.mark.parametrize("change", UNSIGNED.values(), ids=UNSIGNED)
def test_both_accept_what_nobody_has_signed_and_nobody_loads(folder: Path, change: Callable[[Path], object]) -> None:
    folder = folder.rename(folder.parent / "another name")
    change(folder)
    assert accepts(folder)
    assert accepts_here(folder)


def test_a_folder_that_the_reference_tool_has_signed_is_accepted(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in (VECTORS / "folder").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    signed = verify_folder(folder, [VECTORS_KEY])
    assert set(signed.digests) == {"signme-1", "signme-2"}
    (folder / "signme-1").write_bytes(b"another")
    with pytest.raises(DigestMismatchError, match="signme-1 is not what was signed"):
        verify_folder(folder, [VECTORS_KEY])


def test_a_pipe_in_a_folder_is_refused_and_not_read(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    with pytest.raises(SignatureError, match="is a link or a device"):
        verify_folder(folder, [KEY.public])


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path), os.mkdir])
def test_what_is_no_file_is_no_signature(folder: Path, make: Callable[[Path], object]) -> None:
    (folder / SIGNATURE_FILE).unlink()
    make(folder / SIGNATURE_FILE)
    with pytest.raises(SignatureError, match="expected the folder's signature"):
        verify_folder(folder, [KEY.public])


def test_an_endless_signature_is_not_read_to_its_end(folder: Path) -> None:
    with open(folder / SIGNATURE_FILE, "r+b") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(CodecError, match="at most"):
        verify_folder(folder, [KEY.public])


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "\u202e"])
def test_names_from_elsewhere_do_not_act_on_the_terminal(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    with pytest.raises(SignatureError) as caught:
        verify_folder(folder, [KEY.public])
    assert str(caught.value).isprintable()


def test_a_folder_without_a_signature_says_so(tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="expected the folder's signature"):
        verify_folder(tmp_path, [KEY.public])


def test_what_is_fetched_is_accepted_round_after_round_with_all_that_belongs_to_a_model(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", make_model(), num_files=2)
    for name in ("tokenizer.json", "vocab.txt", "1_Pooling/config.json", "additional_chat_templates/tools.jinja"):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text(name)
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(kinds.items())
    ]
    (base / "modules.json").write_text(json.dumps(modules))
    rules, signers = {"quorum": 2, "deadline_s": 60.0}, TinyTrust(model=KEY)
    store = LocalStore(tmp_path / "store")
    federation = create_federation(store, name="tiny", base=base, origin="base", method="mean", rules=rules)
    sign_it(federation, federation.latest(), signers)
    (tmp_path / "key.pem").write_bytes(KEY.public.pem.encode())
    out = tmp_path / "out"
    for number in range(3):
        if number:
            add_signed(federation, signers, number)
        fetched = fetch(StoreGateway(federation), out)
        assert fetched.manifest.release == number
        (out / ".cache" / "huggingface").mkdir(parents=True, exist_ok=True)  # as `hf download --local-dir` leaves it
        (out / ".cache" / "huggingface" / "CACHEDIR.TAG").write_text("")
        assert accepts(out)
        assert accepts_here(out)
    assert {"1_Pooling/config.json", "vocab.txt"} <= fetched.manifest.files.keys()
    (out / "1_Pooling" / "config.json").write_text("{}")
    assert not accepts(out)
    assert not accepts_here(out)
    fetch(StoreGateway(federation), out)
    assert accepts(out)
