"""What users type, and what they are told."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import trustme
from tiny_rounds import contribute, lead, make_changes, make_federation, make_model, write_model
from typer.testing import CliRunner

from coldfuse.cli.main import app, main
from coldfuse.cli.units import parse_duration, parse_size
from coldfuse.errors import UserInputError
from coldfuse.registry.federation import Federation
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.transport.connect import is_address
from coldfuse.transport.server import GatewaySettings, serve_gateway
from coldfuse.trust.tls import TlsFiles


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """A federation that is only read; its base lies beside its store."""
    return make_federation(tmp_path_factory.mktemp("held"), make_model())


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    files = TlsFiles(ca=folder / "ca.pem", cert=folder / "cert.pem", key=folder / "key.pem")
    authority.cert_pem.write_to_path(str(files.ca))
    leaf.cert_chain_pems[0].write_to_path(str(files.cert))
    leaf.private_key_pem.write_to_path(str(files.key))
    return files


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str]:
    monkeypatch.setattr(sys, "argv", ["coldfuse", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code, capsys.readouterr().err


def test_durations_have_units() -> None:
    assert [parse_duration(text) for text in ("0.5s", " 2 m ", "1d")] == [0.5, 120.0, 86400.0]
    for text in ("", "90", "s", "-5s", "0s", "1.5.2h", "5 weeks", "nan s", "1e3s"):
        with pytest.raises(UserInputError, match="expected a duration such as 90s, 15m or 2h"):
            parse_duration(text)


def test_sizes_are_decimal_or_binary_as_their_unit_says() -> None:
    sizes = {"2GB": 2 * 10**9, "512MB": 512 * 10**6, "1.5 GiB": 3 << 29, "7B": 7, "1TB": 10**12, "1G": 10**9}
    sizes |= {"1Gi": 1 << 30, "1gb": 10**9, "2gib": 2 << 30, "3k": 3000, "2Gb": 2 * 10**9}
    assert {text: parse_size(text) for text in sizes} == sizes
    for text in ("2X", "2", "GiB", "2GiBs", "-2GB", "0G", "2 bytes", "1e3MB"):
        with pytest.raises(UserInputError, match="expected a size such as 512MiB or 2GB"):
            parse_size(text)


def test_addresses_are_told_from_stores() -> None:
    assert all(map(is_address, ("127.0.0.1:7700", "[::1]:7700", "host:1")))
    assert not any(map(is_address, ("./store", "s3://bucket/x", "host:", "host:123456", "a/b:1")))


def test_fuse_prints_the_digest_last(tmp_path: Path) -> None:
    base, other = (write_model(tmp_path / str(seed), make_model(seed)) for seed in (0, 1))
    out = run("fuse", base, other, "--out", tmp_path / "out")
    assert out.splitlines()[-1] == f"digest {open_checkpoint(tmp_path / 'out').digest()}"


@pytest.mark.parametrize(
    "options",
    [["--weights", "1"], ["--method", "weighted-mean"], ["--method", "medium"],
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
    monkeypatch.setattr("coldfuse.cli.consumer.connect", lambda *_, **__: 1 / 0)
    code, told = fail(monkeypatch, capsys, "status", tmp_path)
    assert (code, told.count("\n")) == (1, 1)
    assert "unexpected ZeroDivisionError" in told
    assert "this is a bug" in told


def test_a_folder_is_fetched_from_and_listed(held: Federation, tmp_path: Path) -> None:
    store, out = held.store.url, tmp_path / "out"
    facts = json.loads(run("fetch", store, "--out", out, "--json"))
    assert facts["digest"] == held.latest().model_digest == open_checkpoint(out).digest()
    assert run("fetch", store, "--out", out).splitlines()[-1] == f"digest {facts['digest']}"
    assert [release["release"] for release in json.loads(run("releases", store, "--json"))] == [0]
    status = json.loads(run("status", store, "--json"))
    assert (status["name"], status["round"]["number"]) == ("tiny", 1)


def test_the_history_is_told_without_its_parts(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, make_model())
    lead(federation)
    for name in ("ada", "ben"):
        contribute(federation, name, make_changes(make_model(), len(name) + ord(name[0])))
    lead(federation)
    newest, oldest = json.loads(run("releases", federation.store.url, "--json"))
    keys = {"release", "parent", "round", "method", "model_digest", "contributions", "created_at_s", "moved"}
    keys |= {"changes_after", "cut_error", "channels", "is_taken_back"}
    assert newest.keys() == oldest.keys() == keys
    assert (newest["release"], newest["parent"], oldest["parent"]) == (1, 0, None)
    assert {c["contributor"] for c in newest["contributions"]} == {"ada", "ben"}
    assert newest["contributions"][0].keys() == {
        "contributor", "display_name", "num_examples", "weight", "contribution", "base_release", "staleness_weight",
        "statistics", "score_weight", "edit",
    }  # fmt: skip
    lines = run("releases", federation.store.url).splitlines()
    assert [line.split()[0] for line in lines] == ["1", "0"]
    with serve_gateway(federation) as gateway:
        assert json.loads(run("releases", gateway.address, "--json")) == [newest, oldest]


def test_init_lists_what_it_publishes(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", make_model())
    (base / "notes.txt").write_text("private")
    out = run("init", tmp_path / "store", "--base", base)
    assert "can have: config.json, model.safetensors\n" in out


def test_a_model_folder_is_verified_on_request(held: Federation, tmp_path: Path) -> None:
    store, out = held.store.url, tmp_path / "out"
    run("fetch", store, "--out", out)
    file = out / "model.safetensors"
    times = file.stat()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    with open(file, "r+b") as opened:
        opened.write(data)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert json.loads(run("fetch", store, "--out", out, "--verify", "--json"))["downloaded_bytes"] > 0


MISTAKES = [
    ("demo --out FILE", "give a new folder"),
    ("demo --out FILE/x", "give another folder"),
    ("fuse BASE BASE --out /proc/x/y", "/proc/x"),
    ("bench upload --sizes 0", "expected numbers of MiB, 1 or more"),
    ("bench upload --sizes 64,-1", "expected numbers of MiB, 1 or more"),
    ("bench upload --sizes 1 --folder FILE", "there is no such folder"),
    ("bench upload --sizes 1 --store NOWHERE", "expected s3://BUCKET/PREFIX or null"),
    ("bench fetch --sizes 1 --store null", "expected s3://BUCKET/PREFIX;"),
    ("bench fetch --sizes x", "expected numbers of MiB, 1 or more"),
    ("bench round --parameters 0", "expected a number such as 22M"),
    ("bench round --method no-such", "no-such"),
    ("simulate --store FILE", "expected a folder for the store, but"),
    ("simulate --attack no-such", "expected one of gaussian"),
    ("simulate --faults crash=many", "is no share"),
    ("simulate --shared-delta", "give --screening off"),
    ("simulate --data NOWHERE", "nowhere"),
    ("bench fuse --parameters 0", "expected a number such as 22M"),
    ("bench fuse --parameters -1M", "expected a number such as 22M"),
    ("bench fuse --parameters inf", "expected a number such as 22M"),
    ("bench fuse --folder NOWHERE", "there is no such folder"),
    ("init STORE --base BASE --name ../no", "it has a '/', as paths have"),
    ("contribute 127.0.0.1:1 --data NOWHERE --name ../no", "--name '../no': it has a '/'"),
    ("init FILE --base BASE", "expected a folder for the store, but"),
    ("init FILE/x --base BASE", "expected a folder for the store, but"),
    ("status FILE", "expected a folder for the store, but"),
    ("fetch HELD --out NOWHERE --channel ../x", "is no channel's name"),
    ("fetch 127.0.0.1:1 --out NOWHERE --channel ../x", "is no channel's name"),
    ("gateway HELD --listen 0.0.0.0:0", "--tls-cert and --tls-key, or allow plain text with --insecure"),
    ("serve HELD --memory much", "expected a size such as"),
    ("serve HELD --lease long", "expected a duration such as"),
]


@pytest.mark.parametrize(("command", "said"), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_a_mistake_is_not_called_a_bug(
    monkeypatch, capsys, tmp_path: Path, held: Federation, command: str, said: str
) -> None:
    (tmp_path / "file").touch()
    store = Path(held.store.url)
    places = {"FILE": tmp_path / "file", "BASE": store.parent / "base", "HELD": store}
    places |= {"NOWHERE": tmp_path / "nowhere", "STORE": tmp_path / "new"}
    for word, place in places.items():
        command = command.replace(word, str(place))
    code, told = fail(monkeypatch, capsys, *command.split())
    assert (code, told.count("\n")) == (1, 1)
    assert said in told
    assert "bug" not in told
    assert not (tmp_path / "nowhere").exists()


def test_serve_passes_its_options_on(monkeypatch, held: Federation) -> None:
    store = held.store.url
    passed: list[object] = []
    monkeypatch.setattr("coldfuse.cli.serve.run_children", lambda *arguments: passed.extend(arguments))
    files = ["--tls-cert", "c.pem", "--tls-key", "k.pem", "--tls-ca", "a.pem"]
    fusing = ["--workers", "2", "--memory", "2GB", "--lease", "30s"]
    serving = ["--max-streams", "9", "--max-uncommitted", "1GB", "--show-names"]
    run("serve", store, *files, *fusing, *serving, "--gateway-memory", "1GiB", "--listen", "127.0.0.1:7")
    assert passed[0] == ["gateway", store, *files, "--memory", "1GiB", *serving, "--listen", "127.0.0.1:7"]
    assert passed[1] == {"aggregator": ["aggregator", store, *fusing, "--unsupervised"]}


@pytest.mark.parametrize("command", ["fetch", "status", "releases"])
def test_consumers_show_their_certificate_where_they_are_asked(
    command: str, held: Federation, tls: TlsFiles, tmp_path: Path
) -> None:
    with serve_gateway(held, GatewaySettings(tls=tls)) as gateway:
        out = ["--out", tmp_path / "out"] if command == "fetch" else []
        assert run(command, gateway.address, *out, "--tls-ca", tls.ca, "--tls-cert", tls.cert, "--tls-key", tls.key)


def test_a_gateway_takes_as_many_uploads_as_it_is_told(monkeypatch, held: Federation) -> None:
    asked: list[GatewaySettings] = []

    def listen(_federation: object, settings: GatewaySettings) -> object:
        asked.append(settings)
        raise UserInputError("enough")

    monkeypatch.setattr("coldfuse.cli.gateway.serve_gateway", listen)
    with pytest.raises(UserInputError, match="enough"):
        run("gateway", held.store.url, "--max-streams", 3)
    assert asked[0].max_streams == 3
