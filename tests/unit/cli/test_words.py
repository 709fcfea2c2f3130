"""What users type, and what they are told."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from tiny_rounds import make_federation, make_model, write_model
from typer.testing import CliRunner

from coldfuse.cli.contributor import _default_name
from coldfuse.cli.main import app, main
from coldfuse.cli.source import is_address
from coldfuse.cli.units import parse_duration, parse_size
from coldfuse.codec.model_folder import open_model_folder
from coldfuse.core.value import Name
from coldfuse.errors import UserInputError


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str]:
    monkeypatch.setattr(sys, "argv", ["coldfuse", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code, capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "90", "s", "-5s", "0s", "1.5.2h", "5 weeks", "nan s", "1e3s"])
def test_what_is_no_duration_is_told_what_one_is(text: str) -> None:
    with pytest.raises(UserInputError, match="expected a duration such as 90s, 15m or 2h"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "seconds"), [("0.5s", 0.5), (" 2 m ", 120.0), ("1d", 86400.0)])
def test_durations_have_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["2Gb", "2", "GiB", "2gib", "-2GB"])
def test_what_is_no_size_is_told_what_one_is(text: str) -> None:
    with pytest.raises(UserInputError, match="expected a size such as 512MiB or 2GB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "size"), [("2GB", 2 * 10**9), ("512MB", 512 * 10**6), ("1.5 GiB", 3 << 29), ("7B", 7), ("1TB", 10**12)]
)
def test_sizes_are_decimal_or_binary_as_their_unit_says(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("source", "expected"),
    [("127.0.0.1:7700", True), ("[::1]:7700", True), ("host:1", True), ("./store", False), ("s3://bucket/x", False),
     ("host:", False), ("host:123456", False), ("a/b:1", False)],
)  # fmt: skip
def test_addresses_are_told_from_stores(source: str, expected: bool) -> None:
    assert is_address(source) is expected


def test_a_node_without_a_name_has_the_same_one_at_every_start_and_does_not_tell_its_file() -> None:
    name = _default_name(Path("secret-patients.csv"))
    assert name == _default_name(Path("secret-patients.csv").absolute()) != _default_name(Path("other.csv"))
    assert TypeAdapter(Name).validate_python(name).startswith("node-")
    assert "patients" not in name


def test_fuse_prints_the_digest_last(tmp_path: Path) -> None:
    base, other = (write_model(tmp_path / str(seed), make_model(seed)) for seed in (0, 1))
    out = run("fuse", base, other, "--out", tmp_path / "out")
    assert out.splitlines()[-1] == f"digest {open_model_folder(tmp_path / 'out').digest()}"


@pytest.mark.parametrize(
    "options",
    [["--weights", "1"], ["--method", "weighted-mean"], ["--method", "median"],
     ["--method", "weighted-mean", "--weights", "1,2"], ["--method", "weighted-mean", "--weights", "x"],
     ["--method", "weighted-mean", "--weights", "-1"], ["--method", "weighted-mean", "--weights", "nan"]],
)  # fmt: skip
def test_options_that_make_no_sense_end_in_one_line(monkeypatch, capsys, tmp_path: Path, options: list[str]) -> None:
    base = write_model(tmp_path / "base", make_model())
    code, told = fail(monkeypatch, capsys, "fuse", base, base, "--out", tmp_path / "out", *options)
    assert code == 1
    assert told.startswith("coldfuse: ")
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_store_without_a_federation_is_told_in_one_line(monkeypatch, capsys, tmp_path: Path) -> None:
    code, told = fail(monkeypatch, capsys, "status", tmp_path / "nothing")
    assert code == 1
    assert "holds no federation" in told
    assert told.count("\n") == 1


def test_debug_adds_the_traceback(monkeypatch, capsys, tmp_path: Path) -> None:
    code, told = fail(monkeypatch, capsys, "status", tmp_path / "nothing", "--debug")
    assert code == 1
    assert "Traceback" in told


def test_wrong_usage_is_status_two(monkeypatch, capsys) -> None:
    assert fail(monkeypatch, capsys, "fetch")[0] == 2
    assert fail(monkeypatch, capsys, "nothing-like-this")[0] == 2


def test_a_bug_says_that_it_is_one(monkeypatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setattr("coldfuse.cli.consumer.is_address", lambda _: 1 / 0)
    code, told = fail(monkeypatch, capsys, "status", tmp_path)
    assert (code, told.count("\n")) == (1, 1)
    assert "unexpected ZeroDivisionError" in told
    assert "this is a bug" in told


def test_a_folder_is_fetched_from_and_listed(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, make_model())
    store, out = federation.store.url, tmp_path / "out"
    facts = json.loads(run("fetch", store, "--out", out, "--json"))
    assert facts["digest"] == federation.latest().model_digest == open_model_folder(out).digest()
    assert run("fetch", store, "--out", out).splitlines()[-1] == f"digest {facts['digest']}"
    assert [release["release"] for release in json.loads(run("releases", store, "--json"))] == [0]
    status = json.loads(run("status", store, "--json"))
    assert (status["name"], status["round"]["number"]) == ("tiny", 1)
