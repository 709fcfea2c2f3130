"""`coldfuse verify` as a command: its exit statuses, fetched folders, and members' words handed in."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rooted_rounds import SignedFederation, make_signed_federation
from tiny_rounds import make_model, write_model
from typer.testing import CliRunner

from coldfuse.cli.main import app
from coldfuse.cli.options.verify import VerifyOptions
from coldfuse.config import home_folder
from coldfuse.core.serialization import encode
from coldfuse.errors import ColdfuseError
from coldfuse.registry.federation import open_federation
from coldfuse.storage import LocalStore
from coldfuse.transport.server import serve_gateway
from coldfuse.trust.home import FederationFolder, Membership
from coldfuse.trust.keys import PrivateKey
from coldfuse.verification.causes import Cause, table


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SignedFederation:
    return make_signed_federation(tmp_path_factory.mktemp("federation"))


@pytest.fixture
def copy(made: SignedFederation, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.store.url, tmp_path / "copy"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLDFUSE_HOME", str(tmp_path / "home"))
    return home_folder()


def run(*arguments: object) -> tuple[int, list[str]]:
    """Run the command in this process, and return its exit status and lines."""
    found = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(found.exception, ColdfuseError):  # which `main` says in a line
        return 1, [str(found.exception)]
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, found.output.splitlines()


def fetch(made: SignedFederation, out: Path) -> Path:
    assert run("fetch", made.store.url, "--out", out, "--root", made.keys.fingerprint)[0] == 0
    return out


def test_every_cause_has_its_own_status_and_the_help_says_them_all() -> None:
    statuses = [cause.status for cause in Cause]
    assert len(set(statuses)) == len(statuses)
    assert not {0, 2} & set(statuses)
    for cause in Cause:
        assert f"{cause.status}: {cause.word}: {cause.sentence}" in table()
        assert cause.sentence in str(VerifyOptions.__doc__)


def test_a_copy_is_fine_and_json_says_what_was_looked_at(made: SignedFederation, copy: Path, home: Path) -> None:
    status, [line] = run("verify", copy, "--root", made.keys.fingerprint, "--json", "--strict")
    found = json.loads(line)
    assert (status, found["fine"], found["release"], found["findings"]) == (0, True, 2, [])
    assert found["root"] == made.keys.fingerprint
    assert not home.exists()  # whoever verifies remembers nothing


def test_what_is_known_of_a_root_only_from_the_store_is_said(copy: Path, home: Path) -> None:
    status, lines = run("verify", copy)
    assert status == 0
    assert any("is the store's own word" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["--root", "0" * 64], Cause.SIGNATURE.status),
        (["--root", "0"], 1),
        (["--at", "2100-01-01"], Cause.EXPIRED.status),
        (["--at", "soon"], 1),
        (["--release", "9"], 1),
        (["--release", "1"], 0),
        (["--sign"], 2),
        (["--only"], 2),
    ],
)
def test_the_worst_cause_decides_the_exit_status(copy: Path, home: Path, options: list[str], status: int) -> None:
    assert run("verify", copy, *options)[0] == status


def test_a_finding_is_the_status_of_the_process_and_an_error_is_one_line(copy: Path, home: Path) -> None:
    (copy / "releases/00001.json").unlink()
    for options, status in (((), Cause.GAP.status), (("--at", "soon"), 1)):
        command = [sys.executable, "-m", "coldfuse", "verify", copy, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == status, done
        assert len(done.stderr.splitlines()) == (status == 1)


def test_several_causes_are_all_listed_and_the_worst_comes_first(
    made: SignedFederation, copy: Path, home: Path
) -> None:
    (copy / "rounds/00001/head").unlink()
    (copy / "releases/00001.sig").write_bytes((copy / "releases/00002.sig").read_bytes())
    status, lines = run("verify", copy, "--root", made.keys.fingerprint)
    assert status == Cause.SIGNATURE.status
    assert lines[0].startswith("signature: releases/00001.sig")
    assert any(line.startswith("gap: rounds/00001/head") for line in lines)


def test_a_place_without_a_federation_is_no_finding_but_an_error(tmp_path: Path, home: Path) -> None:
    status, [line] = run("verify", tmp_path)
    assert status == 1
    assert "holds no federation" in line


@pytest.mark.parametrize("name", ["federation.json", "root/1.json", "channels/latest"])
def test_a_store_that_lacks_what_all_the_rest_hangs_on_is_not_fine(
    made: SignedFederation, copy: Path, home: Path, name: str
) -> None:
    (copy / name).unlink()
    for options in ((), ("--root", made.keys.fingerprint)):
        assert run("verify", copy, *options)[0] == Cause.GAP.status


def test_a_fetched_folder_is_verified_with_nothing_but_the_fingerprint(
    made: SignedFederation, tmp_path: Path, home: Path
) -> None:
    out = fetch(made, tmp_path / "model")
    shutil.rmtree(home)
    status, lines = run("verify", out, "--root", made.keys.fingerprint)
    assert status == 0, lines
    assert "1 signatures of folders" in " ".join(lines)
    assert run("verify", out, "--root", "0" * 64)[0] == Cause.SIGNATURE.status


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("model.safetensors", Cause.SIGNATURE),
        ("config.json", Cause.SIGNATURE),
        ("provenance.json", Cause.SIGNATURE),
        ("model.sig", Cause.SIGNATURE),
        (".coldfuse/root/1.json", Cause.SIGNATURE),
        ("extra.json", Cause.SIGNATURE),
    ],
)
def test_a_changed_file_of_a_fetched_folder_is_found(
    made: SignedFederation, tmp_path: Path, home: Path, name: str, cause: Cause
) -> None:
    out = fetch(made, tmp_path / "model")
    path = out / name
    data = bytearray(path.read_bytes() if path.exists() else b"{}")
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    status, lines = run("verify", out, "--root", made.keys.fingerprint)
    assert status >= Cause.DIGEST.status, lines
    assert status <= cause.status, lines


def test_a_release_is_judged_by_nothing_that_came_after_it(made: SignedFederation, copy: Path, home: Path) -> None:
    for entry in (copy / "rounds/00002/journal").iterdir():
        entry.unlink()
    assert run("verify", copy, "--release", 2)[0] != 0
    for release in (0, 1):
        status, lines = run("verify", copy, "--release", release, "--root", made.keys.fingerprint)
        assert status == 0, lines


def test_a_fetched_folder_is_not_taken_for_another_release(made: SignedFederation, tmp_path: Path, home: Path) -> None:
    out = fetch(made, tmp_path / "out")
    assert run("verify", out, "--release", 2)[0] == 0
    status, [line] = run("verify", out, "--release", 7)
    assert status == 1
    assert "holds release 2, and --release 7 was asked for" in line


def test_a_stripped_folder_is_not_taken_for_one_without_a_root(
    made: SignedFederation, tmp_path: Path, home: Path
) -> None:
    out = fetch(made, tmp_path / "model")
    for name in ("model.sig", "provenance.json"):
        (out / name).unlink()
    assert run("verify", out, "--root", made.keys.fingerprint)[0] == Cause.SIGNATURE.status
    shutil.rmtree(out / ".coldfuse/root")
    assert run("verify", out, "--root", made.keys.fingerprint)[0] == Cause.GAP.status


def test_a_members_word_is_handed_in_and_everybody_is_told(made: SignedFederation, copy: Path, home: Path) -> None:
    ada = made.identities["ada"]
    folder = FederationFolder(home, made.keys.fingerprint)
    folder.pin_root((copy / "root/1.json").read_bytes())
    assert isinstance(ada.signer, PrivateKey)
    folder.write_key("ada", ada.signer)
    folder.keep_membership(Membership(federation=made.keys.fingerprint, name="ada"))
    with serve_gateway(made.federation) as gateway:
        status, lines = run("verify", copy, "--recompute", "--sign", "--report", gateway.address)
        assert status == 0, lines
        assert [line for line in lines if "handed in: the same" in line], lines
        status, lines = run("status", gateway.address)
        assert status == 0
        assert "checked: release 2 recomputed by 1 of 3" in lines
        _, lines = run("releases", gateway.address)
        assert [line.strip() for line in lines if "recomputed" in line] == [
            "release 2 recomputed by 1 of 3", "release 1 recomputed by 1 of 3",
        ]  # fmt: skip
        _, [line] = run("status", gateway.address, "--json")
        assert json.loads(line)["recomputed"]["agree"] == ["ada"]
    status, lines = run("verify", made.store.url)
    assert status == 0
    assert any("2 members' words on releases" in line for line in lines)


@pytest.mark.parametrize(
    ("who", "why"), [("eve", "is no member of this federation"), ("ada", "is none of this member's")]
)
def test_whose_word_nobody_would_take_is_told_before_anything_is_fused(
    made: SignedFederation, copy: Path, home: Path, monkeypatch: pytest.MonkeyPatch, who: str, why: str
) -> None:
    folder = FederationFolder(home, made.keys.fingerprint)
    folder.pin_root((copy / "root/1.json").read_bytes())
    folder.write_key(who, PrivateKey.generate())
    monkeypatch.setattr("coldfuse.cli.verify.verify_store", lambda *_: pytest.fail("it is fused"))
    status, lines = run("verify", copy, "--recompute", "--sign", "--name", who)
    assert status == 1
    assert why in " ".join(lines)


def test_a_federation_is_auditable_only_where_its_operators_have_said_so(tmp_path: Path, home: Path) -> None:
    base = write_model(tmp_path / "base", make_model())
    status, lines = run("init", tmp_path / "open", "--base", base, "--auditable")
    assert status == 0, lines
    assert any(line.startswith("auditable: every member may read") for line in lines)
    assert open_federation(LocalStore(tmp_path / "open")).settings.is_auditable
    assert run("init", tmp_path / "private", "--base", base)[0] == 0
    settings = open_federation(LocalStore(tmp_path / "private")).settings
    assert settings.is_auditable is None
    assert b'"is_auditable"' not in encode(settings)
