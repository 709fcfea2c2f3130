"""A federation as its users run it: operator's, contributors' and consumer's commands, and what they say."""

import json
import os
import re
import shutil
import socket
import sys
from pathlib import Path

import pytest
from commands import Process, coldfuse, run_coldfuse
from reviews import write_reviews
from tiny_model import write_tiny_model

from coldfuse.cli.founding import OPEN
from coldfuse.core.usual_method import USUAL_METHOD
from coldfuse.storage import open_store

TRAINING = ("--send-anyway", "--threads", 1, "--device", "cpu", "--epochs", 1, "--learning-rate", 1e-3)
LISTENING = "listening on "


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path):
    if request.param == "folder":
        return str(tmp_path / "federation")
    return request.getfixturevalue("s3_url")


def address_of(gateway: Process) -> str:
    return gateway.wait_for(lambda line: line.startswith(LISTENING)).removeprefix(LISTENING)


def succeed(*arguments: object) -> list[str]:
    """Run a command that must go well, and return what it says."""
    return run_coldfuse(*arguments).succeed().lines


def digest_of(lines: list[str]) -> str:
    assert lines[-1].startswith("digest ")
    return lines[-1].removeprefix("digest ")


def test_three_terminals(base, store, tmp_path):
    base_digest = digest_of(succeed("init", store, "--base", base, "--open", "--quorum", 2, "--name", "reviews"))
    parts = [("serve", store)] if "://" not in store else [("gateway", store), ("aggregator", store, "--workers", 1)]
    servers = [coldfuse(*arguments) for arguments in parts]
    try:
        address = address_of(servers[0])
        contribute_together(address, tmp_path)
        release = digest_of(succeed("fetch", address, "--out", tmp_path / "model"))
        assert_history(address, store, base_digest, release)
        assert_fetches_agree(address, store, tmp_path, release)
    finally:
        statuses = [end(server) for server in servers]
    assert statuses == [0] * len(servers), "\n".join(map(str, servers))
    assert [line for server in servers for line in server.errors] == [f"coldfuse: {OPEN}"] * 2  # gateway, aggregator
    assert any(line.startswith("leading as ") for line in servers[-1].lines)
    assert_loads(tmp_path / "model")
    assert_fusing_here_gives(release, base, tmp_path)


def end(server: Process) -> int:
    server.send(15)
    with server:
        return server.wait()


def contribute_together(address: str, folder: Path) -> None:
    films = write_reviews(folder / "films.csv", num=40, subject="film")
    meals = write_reviews(folder / "meals.parquet", num=80, subject="meal")
    nodes = [
        coldfuse(
            "contribute",
            address,
            "--name",
            data.stem,
            "--data",
            data,
            "--work",
            folder / data.stem,
            "--rounds",
            1,
            *TRAINING,
        )
        for data in (films, meals)
    ]
    for node in nodes:
        with node:
            node.succeed()
        assert node.lines[-1] == "release 0: released: release 1 is out"


def test_a_dry_run_shows_what_would_leave_and_sends_nothing(base, tmp_path):
    store, data = str(tmp_path / "federation"), write_reviews(tmp_path / "films.csv", num=40)
    succeed("init", store, "--base", base, "--open")
    before = keys_of(store)
    with coldfuse("gateway", store) as gateway:
        node = ("--name", "films", "--data", data, "--work", tmp_path / "node", *TRAINING)
        said = "\n".join(succeed("contribute", address_of(gateway), *node, "--dry-run"))
    assert keys_of(store) == before
    assert '"contributor": "films"' in said
    assert "embeddings.word_embeddings.weight  F32  " in said
    assert "stays here: the data" in said
    assert "head.weight  2×32" in said
    assert re.search(r"embeddings.word_embeddings.weight  \d\.\d\de-\d\d; \d+ of \d+ rows moved", said)


def keys_of(store: str) -> list[str]:
    return list(open_store(store).list("", limit=10**6).keys)


def assert_history(address: str, store: str, base_digest: str, release: str) -> None:
    for source in (address, store):
        status = json.loads(succeed("status", source, "--json")[-1])
        assert (status["name"], status["latest"]["number"]) == ("reviews", 1)
        newest, oldest = json.loads(succeed("releases", source, "--json")[-1])
        assert (newest["model_digest"], oldest["model_digest"]) == (release, base_digest)
        assert sorted((c["contributor"], c["num_examples"]) for c in newest["contributions"]) == [
            ("films", 36),
            ("meals", 72),
        ]
    assert re.search(
        r": (films, meals|meals, films), \d.*% of the elements moved  \[latest\]$", succeed("releases", address)[0]
    )
    assert f"latest release 1, model {release}" in succeed("status", store)


def assert_fetches_agree(address: str, store: str, folder: Path, release: str) -> None:
    again = json.loads(succeed("fetch", address, "--out", folder / "model", "--json")[-1])
    assert (again["release"], again["digest"], again["downloaded_bytes"]) == (1, release, 0)
    assert digest_of(succeed("fetch", store, "--out", folder / "by-store")) == release
    first = json.loads(succeed("fetch", store, "--out", folder / "by-store", "--release", 0, "--json")[-1])
    assert first["release"] == 0
    assert 0 < first["downloaded_bytes"] < first["downloaded_bytes"] + first["reused_bytes"]


def assert_loads(folder: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)("the film was good", return_tensors="pt")
    assert AutoModel.from_pretrained(folder)(**tokens).last_hidden_state.isfinite().all()


def assert_fusing_here_gives(release: str, base: Path, folder: Path) -> None:
    deltas = [folder / name / "release-00000" / "delta.safetensors" for name in ("films", "meals")]
    models = [folder / "model", write_tiny_model(folder / "other", seed=1)]
    for inputs, name in ((deltas, "deltas"), (models, "models")):
        words = ("--method", USUAL_METHOD)
        one = digest_of(succeed("fuse", base, *inputs, *words, "--out", folder / f"{name}-1"))
        other = digest_of(
            succeed("fuse", base, *reversed(inputs), *words, "--workers", 2, "--out", folder / f"{name}-2")
        )
        assert one == other
        assert (one == release) == (name == "deltas")


@pytest.fixture(scope="module")
def workplace(base, tmp_path_factory):
    """A folder with a federation, a model, data, somebody else's file, and a port that is taken."""
    folder = tmp_path_factory.mktemp("workplace")
    succeed("init", folder / "federation", "--base", base, "--open")
    shutil.copytree(base, folder / "model")
    write_reviews(folder / "data.csv", num=40)
    (folder / "mine").mkdir()
    (folder / "mine" / "letter.txt").write_text("do not touch")
    (folder / "empty.csv").write_text("text,label\n")
    (folder / "notes.docx").write_text("no table")
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as gone:
        ports = {"TAKEN": taken.getsockname()[1], "GONE": gone.getsockname()[1]}
        gone.close()
        yield folder, ports


IMPOSSIBLE = [
    ("init NEW --base nowhere/at/all", "no such folder"),
    ("init NEW --base ./nowhere", "no such folder"),
    ("init NEW --base mine", "no config.json"),
    ("init federation --base model", "holds a federation already"),
    ("init NEW --base model --deadline soon", "expected a duration such as"),
    ("init NEW --base model --method magic", "known are mean"),
    ("init NEW --base model --name ../no", "'../no': it has a '/', as paths have"),
    ("gateway nowhere", "holds no federation"),
    ("gateway federation --listen 127.0.0.1:TAKEN", "cannot listen here"),
    ("gateway federation --listen nonsense", "expected HOST:PORT"),
    ("gateway federation --listen 0.0.0.0:0", "needs TLS"),
    ("aggregator nowhere", "holds no federation"),
    ("aggregator federation --lease never", "expected a duration such as"),
    ("serve nowhere", "holds no federation"),
    ("contribute 127.0.0.1:GONE --data nothing.csv", "no such file"),
    ("contribute 127.0.0.1:GONE --data empty.csv", "empty.csv"),
    ("contribute 127.0.0.1:GONE --data notes.docx", "a document, not a table"),
    ("contribute 127.0.0.1:GONE --data data.csv --text-column body", "no column 'body'"),
    ("contribute 127.0.0.1:GONE --data data.csv --learning-rate 0", "expected 1e-12 to 1.0"),
    ("contribute somewhere --data data.csv", "is not an address: expected HOST:PORT"),
    ("fetch nowhere --out NEW", "holds no federation"),
    ("fetch federation --out mine", "not empty, and not written by `coldfuse fetch`"),
    ("fetch federation --out federation", "not empty, and not written by `coldfuse fetch`"),
    ("fetch federation --out NEW --release 7", "there is no release 7; the latest is 0"),
    ("fetch federation --out NEW --channel beta", "there is no channel 'beta'"),
    ("fetch 127.0.0.1:GONE --out NEW --patience 0.5s", "cannot be reached"),
    ("status nowhere", "holds no federation"),
    ("status 127.0.0.1:GONE --patience 0.5s", "cannot be reached"),
    ("releases nowhere", "holds no federation"),
    ("fuse model nowhere --out NEW", "no such folder"),
    ("fuse nowhere model --out NEW", "no such folder"),
    ("fuse model model --out mine", "exists already"),
    ("fuse model model --as adapter --rank 2 --with-code --out NEW", "--with-code is for models"),
    ("fuse model model --method weighted-mean --out NEW", "give --weights"),
    ("fuse model model --method magic --out NEW", "known are mean"),
    ("bench fuse --parameters many", "expected a number such as 22M"),
    ("demo --out mine", "not empty"),
    ("demo --out NEW --base ./nowhere", "no such folder"),
]


WRONG = [
    ("init", "STORE"),
    ("init new", "--base"),
    ("init new --base model --quorum 0", "--quorum"),
    ("contribute 127.0.0.1:1", "--data"),
    ("contribute 127.0.0.1:1 --data data.csv --encoding int1", "--encoding"),
    ("contribute 127.0.0.1:1 --data data.csv --once --rounds 2", "--once"),
    ("fetch federation", "--out"),
    ("fuse model --out new", "MODELS"),
    ("fuse model model --out new --as zip", "--as"),
    ("status --colour", "--colour"),
    ("dance", "dance"),
]

RUN_ALL = """
import contextlib, io, json, sys
from coldfuse.cli.main import main

results = []
for command in json.loads(sys.argv[1]):
    sys.argv, said, status = ["coldfuse", *command.split()], io.StringIO(), 0
    with contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as end:
            status = end.code
    results.append([status, said.getvalue()])
print(json.dumps(results))
"""
"""Runs commands one after the other in one process, which is started once, and says how each ended."""


def run_all(workplace, tmp_path: Path, monkeypatch, commands: list[str]) -> dict[str, tuple[int, str]]:
    folder, ports = workplace
    monkeypatch.chdir(folder)
    given = [filled(command, ports).replace("NEW", str(tmp_path / str(n))) for n, command in enumerate(commands)]
    with Process(sys.executable, "-c", RUN_ALL, json.dumps(given)) as process:
        *_, results = process.succeed().lines  # behind what the commands say
    assert os.listdir(folder / "mine") == ["letter.txt"]
    assert (folder / "mine" / "letter.txt").read_text() == "do not touch"
    return dict(zip(commands, json.loads(results), strict=True))


def filled(command: str, ports: dict[str, int]) -> str:
    for name, port in ports.items():
        command = command.replace(name, str(port))
    return command


def test_what_cannot_be_is_said_on_one_line_with_status_1(workplace, monkeypatch, tmp_path):
    ended = run_all(workplace, tmp_path, monkeypatch, [command for command, _ in IMPOSSIBLE])
    for number, (command, said) in enumerate(IMPOSSIBLE):
        status, told = ended[command]
        assert (status, told.count("\n")) == (1, 1), (command, told)
        assert told.startswith("coldfuse: ")
        assert said in told
        assert "bug" not in told
        assert "--name" in command or not (tmp_path / str(number)).exists(), command


def test_wrong_usage_is_told_with_status_2(workplace, monkeypatch, tmp_path):
    ended = run_all(workplace, tmp_path, monkeypatch, [command for command, _ in WRONG])
    for command, said in WRONG:
        status, told = ended[command]
        assert status == 2, (command, told)
        assert said.lower() in told.lower()
        assert "Traceback" not in told


def run_in(workplace, monkeypatch, command: str) -> Process:
    folder, ports = workplace
    monkeypatch.chdir(folder)
    return run_coldfuse(*filled(command, ports).split())


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("serve federation --listen 127.0.0.1:TAKEN", "cannot listen here"),
        ("gateway nowhere", "holds no federation"),
        ("contribute 127.0.0.1:GONE --data data.csv --patience 0.5s", "cannot be reached"),
    ],
)
def test_processes_of_their_own_end_the_same_way(workplace, monkeypatch, command, said):
    process = run_in(workplace, monkeypatch, command)
    assert process.wait() == 1, str(process)
    [line] = process.errors
    assert line.startswith("coldfuse: ")
    assert said in line


def test_debug_shows_where(workplace, monkeypatch):
    process = run_in(workplace, monkeypatch, "status nowhere --debug")
    assert process.wait() == 1
    assert process.errors[0].startswith("Traceback")
    assert process.errors[-1].startswith("coldfuse: ")
